import { posix } from "node:path";
import * as z from "zod";
import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { hostsBlock, withHosts, withLang, withLocaleGen, withoutHosts } from "./host-files.ts";
import { defineKind } from "./kind.ts";
import type { Json, Owned, Probe, ResourceId, Step } from "./kind.ts";
import { failStep, forgetStep, lookAt, planFile, planLink, restoreStep } from "./managed-file.ts";
import type { At, FileContext } from "./managed-file.ts";

/** hostname(7): labels of letters, digits and hyphens; HOST_NAME_MAX of Linux is 64. */
const HOST_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;
const hostName = z.string().max(253).regex(HOST_NAME, "a host's name has letters, digits, hyphens and dots, like n1 or n1.example.org");

const schema = z
  .strictObject({
    name: hostName.max(64, "Linux takes a host's name of at most 64 characters").optional().describe("The host's own name, set now and for every boot; also made known in /etc/hosts"),
    hosts: z
      .record(z.union([z.ipv4(), z.ipv6()], "an IPv4 or IPv6 address"), z.array(hostName.describe("A name")).min(1).max(100))
      .optional()
      .describe("Names by address, kept in a marked part of /etc/hosts; the rest of the file stays"),
    timeZone: z
      .string()
      .max(64)
      .regex(/^[A-Za-z0-9_+-]+(\/[A-Za-z0-9_+-]+){0,2}$/, "a time zone of the tz database, like Europe/Berlin or UTC")
      .optional()
      .describe("The time zone, such as Europe/Berlin"),
    locale: z
      .string()
      .regex(/^(C\.UTF-8|[a-z]{2,3}_[A-Z]{2}\.UTF-8(@[a-z]{1,20})?)$/, "a UTF-8 locale, like en_US.UTF-8 or C.UTF-8")
      .optional()
      .describe("The language of the system (LANG), such as en_US.UTF-8; made if it is missing"),
  })
  .describe("The host's name, known hosts, time zone and locale");

type Want = z.output<typeof schema>;

const ZONES = "/usr/share/zoneinfo";
const LOCALEDEF_TIMEOUT_MS = 120_000;

interface Facts {
  readonly accounts: Accounts;
  readonly liveName: string | null;
  /** Text of the files of which only a part is ours, or null. */
  readonly hosts: string | null;
  readonly lang: { readonly path: string; readonly text: string | null };
  readonly localeGen: string | null;
  /** Whether the wanted locale and the wanted zone are on the machine, and what could make the locale. */
  readonly locale: { readonly generated: boolean; readonly source: boolean };
  readonly zoneExists: boolean;
  /** Whether cron is on the machine. */
  readonly cron: boolean;
  readonly at: Readonly<Record<"hostname" | "hosts" | "localtime" | "timezone" | "lang" | "localeGen", At>>;
}

/** Keys of the inventory are `name`, for the name of the running kernel, and the path of each file. */
export const host = defineKind({
  name: "host",
  summary: "The host's name, known hosts, time zone and locale",
  schema,

  async observe(want, probe): Promise<Facts> {
    // Debian 13 keeps the locale where systemd does, and leaves a link at the old place.
    const lang = (await probe.readLink("/etc/default/locale")) === null ? "/etc/default/locale" : "/etc/locale.conf";
    const [hosts, langText, localeGen] = await Promise.all([probe.readText("/etc/hosts"), probe.readText(lang), probe.readText("/etc/locale.gen")]);
    const [accounts, liveName, locale, zone, cron, hostname, hostsAt, localtime, timezone, langAt, localeGenAt] = await Promise.all([
      readAccounts(probe),
      probe.readText("/proc/sys/kernel/hostname"),
      lookAtLocale(want.locale, localeGen, probe),
      want.timeZone === undefined ? null : probe.stat(`${ZONES}/${want.timeZone}`),
      want.timeZone === undefined ? null : probe.stat("/lib/systemd/system/cron.service"),
      look(probe, "/etc/hostname", want.name === undefined ? undefined : `${want.name}\n`),
      look(probe, "/etc/hosts", newHosts(want, hosts)),
      look(probe, "/etc/localtime"),
      look(probe, "/etc/timezone", want.timeZone === undefined ? undefined : `${want.timeZone}\n`),
      look(probe, lang, want.locale === undefined ? undefined : withLang(langText, want.locale)),
      look(probe, "/etc/locale.gen", want.locale === undefined ? undefined : withLocaleGen(localeGen, want.locale)),
    ]);
    return {
      accounts,
      liveName: liveName?.trim() ?? null,
      hosts,
      lang: { path: lang, text: langText },
      localeGen,
      locale,
      zoneExists: zone !== null,
      cron: cron !== null,
      at: { hostname, hosts: hostsAt, localtime, timezone, lang: langAt, localeGen: localeGenAt },
    };
  },

  plan(want, facts, owned) {
    return [...prune(want, facts, owned), ...planName(want, facts, owned), ...planHosts(want, facts, owned), ...planZone(want, facts, owned), ...planLocale(want, facts, owned)];
  },

  watch: () => ({ paths: ["/etc/hostname", "/etc/hosts", "/etc/localtime", "/etc/timezone", "/etc/default/locale"] }),
});

function look(probe: Probe, path: string, text?: string): Promise<At> {
  return lookAt(probe, path, { content: text === undefined ? undefined : bytes(text) });
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/**
 * A locale is there if it has a directory of its own (localedef --no-archive, package locales-all), or if it stands in
 * locale.gen and there is an archive: the line is written only after the locale was made.
 */
async function lookAtLocale(locale: string | undefined, localeGen: string | null, probe: Probe): Promise<Facts["locale"]> {
  if (locale === undefined || locale === "C.UTF-8") return { generated: true, source: true };
  const [language, modifier] = locale.replace(".UTF-8", "").split("@");
  const suffix = modifier === undefined ? "" : `@${modifier}`;
  const [directory, archive, source] = await Promise.all([
    probe.stat(`/usr/lib/locale/${language}.utf8${suffix}`),
    probe.stat("/usr/lib/locale/locale-archive"),
    probe.stat(`/usr/share/i18n/locales/${language}${suffix}`),
  ]);
  const listed = withLocaleGen(localeGen, locale) === localeGen;
  return { generated: directory !== null || (archive !== null && listed), source: source !== null };
}

function contextOf(path: string, facts: Facts, owned: Owned, common: NonNullable<FileContext["common"]> = {}): FileContext {
  return { resource: `host/${path}`, accounts: facts.accounts, owned, common };
}

function planText(path: string, text: string, at: At, facts: Facts, owned: Owned, common?: FileContext["common"]): Step[] {
  return planFile({ path, content: bytes(text), mode: 0o644, owner: "root", group: "root" }, at, contextOf(path, facts, owned, common));
}

function planName(want: Want, facts: Facts, owned: Owned): Step[] {
  if (want.name === undefined) return [];
  const file = planText("/etc/hostname", `${want.name}\n`, facts.at.hostname, facts, owned);
  if (facts.liveName === want.name) return file;
  const claim = owned.has("name") ? {} : { claim: { name: facts.liveName } };
  return [...file, { resource: "host/name", why: `is ${facts.liveName}, should be ${want.name}`, impact: "service", ...claim, do: "set", path: "/proc/sys/kernel/hostname", value: want.name }];
}

/** /etc/hosts with our part in it; undefined where nothing of it is ours. */
function newHosts(want: Want, hosts: string | null): string | undefined {
  const block = hostsBlock(want, hosts);
  return block === null ? undefined : withHosts(hosts, block);
}

function planHosts(want: Want, facts: Facts, owned: Owned): Step[] {
  const text = newHosts(want, facts.hosts);
  return text === undefined ? [] : planText("/etc/hosts", text, facts.at.hosts, facts, owned);
}

function planZone(want: Want, facts: Facts, owned: Owned): Step[] {
  if (want.timeZone === undefined) return [];
  // cron(8) reads the time zone once, when it starts.
  const restart = facts.cron ? { impact: "service" as const, then: [{ unit: "cron.service", action: "restart" as const }] } : {};
  const context = contextOf("/etc/localtime", facts, owned, restart);
  if (!facts.zoneExists) {
    return [failStep(context, "has no such time zone", `there is no time zone ${want.timeZone} in ${ZONES}. Is the name right, and the package tzdata declared under packages?`)];
  }
  const target = facts.at.localtime.target;
  const pointsRight = target !== null && posix.resolve("/etc", target) === `${ZONES}/${want.timeZone}`;
  const link = pointsRight ? [] : planLink("/etc/localtime", `${ZONES}/${want.timeZone}`, facts.at.localtime, context);
  return [...link, ...planText("/etc/timezone", `${want.timeZone}\n`, facts.at.timezone, facts, owned)];
}

function planLocale(want: Want, facts: Facts, owned: Owned): Step[] {
  if (want.locale === undefined) return [];
  const { path, text } = facts.lang;
  const make = planLocaleMade(want.locale, facts, owned);
  const needs = make.length === 0 ? {} : { needs: ["host//etc/locale.gen" as const] };
  return [...make, ...planText(path, withLang(text, want.locale), facts.at.lang, facts, owned, needs)];
}

/** First the locale, then its line in locale.gen, so that a line always stands for a locale that is there. */
function planLocaleMade(locale: string, facts: Facts, owned: Owned): Step[] {
  if (facts.locale.generated) return [];
  const path = "/etc/locale.gen";
  const resource: ResourceId = `host/${path}`;
  if (!facts.locale.source) {
    return [failStep({ resource }, `${locale} is not on this machine`, `the locale ${locale} cannot be made: its definition is not in /usr/share/i18n/locales. Is the name right, and the package locales declared under packages?`)];
  }
  // As locale-gen(8) of Debian calls it.
  const argv = ["localedef", "-i", locale.replace(".UTF-8", ""), "-c", "-f", "UTF-8", "-A", "/usr/share/locale/locale.alias", locale] as const;
  return [
    { resource, why: `${locale} is not on this machine`, impact: "none", do: "run", argv, timeoutMs: LOCALEDEF_TIMEOUT_MS },
    ...planText(path, withLocaleGen(facts.localeGen, locale), facts.at.localeGen, facts, owned),
  ];
}

/** Files come back as they were; of /etc/hosts only our part goes, because others write there too. */
function prune(want: Want, facts: Facts, owned: Owned): Step[] {
  const wanted: Readonly<Record<string, boolean>> = {
    name: want.name !== undefined,
    "/etc/hostname": want.name !== undefined,
    "/etc/hosts": newHosts(want, facts.hosts) !== undefined,
    "/etc/localtime": want.timeZone !== undefined,
    "/etc/timezone": want.timeZone !== undefined,
    [facts.lang.path]: want.locale !== undefined,
    "/etc/locale.gen": want.locale !== undefined,
  };
  const gone = [...owned.keys()].filter((key) => wanted[key] !== true).toSorted();
  return gone.map((key): Step => {
    const resource: ResourceId = `host/${key}`;
    const common = { resource, impact: "none", removes: true, release: true } as const;
    if (key === "name") return pruneName(facts, owned.get(key), common);
    if (key !== "/etc/hosts") return restoreStep(resource, key, owned.get(key));
    const rest = withoutHosts(facts.hosts ?? "");
    if (rest === facts.hosts || facts.hosts === null) return forgetStep(resource, "no longer declared, and gone");
    return { ...common, why: "its marked part is no longer declared; the rest stays", do: "write", path: key, content: bytes(rest), mode: facts.at.hosts.stat?.mode ?? 0o644, owner: "root", group: "root" };
  });
}

function pruneName(facts: Facts, claim: Json | undefined, common: { readonly resource: ResourceId; readonly impact: "none"; readonly removes: true; readonly release: true }): Step {
  const before = typeof claim === "object" && claim !== null && "name" in claim ? claim["name"] : null;
  if (typeof before !== "string" || before === facts.liveName) return forgetStep(common.resource, "no longer declared; it is as it was before");
  return { ...common, why: `no longer declared; is ${facts.liveName}, was ${before} before`, impact: "service", do: "set", path: "/proc/sys/kernel/hostname", value: before };
}
