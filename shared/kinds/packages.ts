import * as z from "zod";
import { compareVersions } from "./deb-version.ts";
import { findPackage, mergeJournal, parseDpkgStatus } from "./dpkg-status.ts";
import type { DpkgPackage, DpkgStatus } from "./dpkg-status.ts";
import { defineKind } from "./kind.ts";
import type { Json, Owned, Probe, ResourceId, Step } from "./kind.ts";
import { failStep, forgetStep } from "./managed-file.ts";

/** Debian Policy 5.6.1, and an architecture where it is not the node's own. */
const packageName = z
  .string()
  .max(200)
  .regex(/^[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?$/, "a package's name is lower-case letters, digits and + - . (and :ARCH for another architecture), like nginx or libc6:i386");

/** deb-version(7). A number in YAML would lose its zeros: 1.10 is read as 1.1. */
const version = z
  .string('a version is written in quotes, like "1.22.1-9"')
  .max(200)
  .regex(/^([0-9]+:)?[A-Za-z0-9][A-Za-z0-9.+~-]*$/, 'an exact version as apt shows it, like "1.22.1-9"');

const entry = z
  .union([
    z.enum(["present", "absent", "purged"]).describe("present: installed, at any version; absent: removed, its configuration stays; purged: removed with its configuration"),
    z.strictObject({
      state: z.enum(["present", "absent", "purged"]).default("present").describe("As in the short form"),
      version: version.optional().describe("Exactly this version, also if that is a downgrade; without it, apt's candidate at the time of installing"),
      hold: z.boolean().optional().describe("true: apt leaves it at its version until told otherwise; false: not held; left out: as it is found"),
    }),
  ])
  .transform((value): Entry => (typeof value === "string" ? { state: value } : value))
  .superRefine(({ state, version, hold }, check) => {
    if (state !== "present" && version !== undefined) check.addIssue({ code: "custom", path: ["version"], message: `a package that is ${state} has no version: leave it out` });
    if (state !== "present" && hold === true) check.addIssue({ code: "custom", path: ["hold"], message: `a package that is ${state} cannot be held: leave it out` });
  });

interface Entry {
  readonly state: "present" | "absent" | "purged";
  readonly version?: string | undefined;
  readonly hold?: boolean | undefined;
}

const schema = z.record(packageName, entry).describe("Debian packages by name");

type Want = z.output<typeof schema>;

/** What was interrupted, and whether somebody is at work on it right now. */
interface Interrupted {
  /** Entries of dpkg's journal that are not merged yet: dpkg did not end in order. */
  readonly journal: boolean;
  /** The apt or dpkg that runs now, if there is one: then what looks interrupted may just not be finished. */
  readonly busy: string | null;
}

interface Facts {
  readonly status: DpkgStatus | null;
  readonly interrupted: Interrupted;
}

const STATUS_PATH = "/var/lib/dpkg/status";
const JOURNAL_PATH = "/var/lib/dpkg/updates";
/** A maintainer script may build an initrd or migrate a database. */
const REPAIR_TIMEOUT_MS = 30 * 60_000;
/** dpkg merges its journal after 250 entries (MAXUPDATES in its dbmodify.c). */
const JOURNAL_MAX = 500;
/** How many holders of locks are looked at, at most. */
const LOCKS_MAX = 200;

const NONINTERACTIVE = ["env", "DEBIAN_FRONTEND=noninteractive", "APT_LISTCHANGES_FRONTEND=none", "NEEDRESTART_MODE=l", "UCF_FORCE_CONFFOLD=1"] as const;
const KEEP_CONFIGURATION = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"] as const;

export const packages = defineKind({
  name: "packages",
  summary: "Debian packages: installed, removed, held, at an exact version, all in one transaction",
  schema,

  async observe(_want, probe): Promise<Facts> {
    const [database, names] = await Promise.all([probe.parsed(STATUS_PATH, parseDpkgStatus), probe.list(JOURNAL_PATH)]);
    // dpkg's journal files are named by digits alone; `tmp.i` is one that is being written (dpkg's dbmodify.c).
    const journal = (names ?? []).filter((name) => /^[0-9]+$/.test(name)).toSorted();
    const status = database === null || journal.length === 0 ? database : mergeJournal(database, await readJournal(probe, journal));
    const looksInterrupted = journal.length > 0 || (status?.unfinished.length ?? 0) > 0;
    return { status, interrupted: { journal: journal.length > 0, busy: looksInterrupted ? await findBusy(probe) : null } };
  },

  plan(want, facts, owned) {
    const { status } = facts;
    if (status === null) {
      const what = `${STATUS_PATH} does not exist: this is no Debian system, or its package database is lost (dpkg keeps copies in /var/backups)`;
      return Object.keys(want).length === 0 ? [] : [failStep({ resource: REPAIR }, "dpkg has no database", what)];
    }
    const names = Object.keys(want).toSorted();
    return [
      ...planRepair(want, status, facts.interrupted),
      ...prune(want, status, owned),
      ...names.flatMap((name) => planPackage(name, want[name]!, status, facts.interrupted.busy !== null, owned)),
    ];
  },

  watch: () => ({ paths: [STATUS_PATH, JOURNAL_PATH] }),
});

/** The names that no apt transaction may remove: what the engine gives to `agent/host/apt.ts` as the guard's list. */
export function declaredPresent(want: Want): ReadonlySet<string> {
  return new Set(Object.keys(want).filter((name) => want[name]!.state === "present"));
}

/** The repair of dpkg itself is nobody's package: the parentheses keep it apart from all names. */
const REPAIR: ResourceId = "packages/(dpkg)";
const REPAIR_DEPENDENCIES: ResourceId = "packages/(apt)";

/**
 * What an interrupted dpkg needs before anything else (seen with dpkg 1.21 and apt 2.6, killed in the middle):
 * `dpkg --configure -a` merges the journal and finishes what is unpacked; `apt-get -f install` installs dependencies
 * that are missing; a half-installed package is only mended by being installed again, which neither of the two does.
 * Unfinished packages that are declared get steps of their own, so that a script that keeps failing runs once.
 */
function planRepair(want: Want, status: DpkgStatus, { journal, busy }: Interrupted): Step[] {
  // Somebody else's apt is in its middle: what is unfinished now will be finished, or repaired next time.
  if (busy !== null) return [];
  const pending = status.unfinished.filter((found) => !isHalfInstalled(found) && (isFinished(found) || !Object.hasOwn(want, nameOf(status, found))));
  const common = { impact: "service", do: "run", timeoutMs: REPAIR_TIMEOUT_MS } as const;
  const steps: Step[] = [];
  if (journal || pending.length > 0) {
    const what = status.unfinished.length === 0 ? "its journal is not merged" : listed(status.unfinished);
    const why = journal ? `dpkg was interrupted: ${what}` : `dpkg has left work unfinished: ${what}`;
    steps.push({ ...common, resource: REPAIR, why, argv: [...NONINTERACTIVE, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"] });
  }
  if (pending.some(({ state }) => state === "unpacked")) {
    const argv = [...NONINTERACTIVE, "apt-get", "-y", "-q", "--no-remove", ...KEEP_CONFIGURATION, "-f", "install"] as const;
    steps.push({ ...common, resource: REPAIR_DEPENDENCIES, why: "packages are unpacked, whose dependencies may be missing", argv: [...argv] });
  }
  for (const found of status.unfinished.filter(isHalfInstalled)) {
    const name = nameOf(status, found);
    const argv = [...NONINTERACTIVE, "apt-get", "-y", "-q", "--no-remove", ...KEEP_CONFIGURATION, "install", "--reinstall", name] as const;
    steps.push({ ...common, resource: `packages/${name}`, why: "is half-installed: its unpacking was interrupted", argv: [...argv], ...(want[name]?.state === "present" ? firstClaim(found) : {}) });
  }
  return steps;
}

function planPackage(name: string, want: Entry, status: DpkgStatus, busy: boolean, owned: Owned): Step[] {
  const found = findPackage(status, name);
  if (want.state !== "present") return planGone(name, want.state, found, owned);
  const install = planInstall(name, want, found, status, busy);
  return [...(install === null ? [] : [install]), ...planHold(name, want.hold, found, owned)];
}

function planInstall(name: string, want: Entry, found: DpkgPackage | undefined, status: DpkgStatus, busy: boolean): Step | null {
  const exact = want.version === undefined ? {} : { version: want.version };
  const install = { resource: `packages/${name}`, do: "package", action: "install", name, ...exact } as const;
  if (found === undefined || isGone(found)) return { ...install, why: `is not installed${providers(name, status)}`, impact: "none", claim: {} };
  if (want.version !== undefined && compareVersions(found.version, want.version) !== 0) {
    const downgrade = compareVersions(found.version, want.version) > 0 ? " (a downgrade, which the exact version asks for)" : "";
    return { ...install, why: `is ${found.version}, should be ${want.version}${downgrade}`, impact: "service" };
  }
  // The half-installed are repaired above, and what another apt has in hand is that one's to finish.
  if (isFinished(found) || isHalfInstalled(found) || busy) return null;
  return { ...install, why: `is ${found.state}, should be installed`, impact: "service", ...firstClaim(found) };
}

/** A first installation that was not finished is the agent's own, most likely, and its claim was dropped when it failed. */
function firstClaim(found: DpkgPackage): { readonly claim?: Json } {
  return found.configured ? {} : { claim: {} };
}

/** Holding is a resource of its own, `packages/NAME/hold`: a package may be found installed, and be held by the agent. */
function planHold(name: string, want: boolean | undefined, found: DpkgPackage | undefined, owned: Owned): Step[] {
  const resource: ResourceId = `packages/${name}/hold`;
  const ours = owned.has(`${name}/hold`);
  const held = found?.selection === "hold";
  const common = { resource, impact: "none", do: "package", name } as const;
  if (want === true && !held) return [{ ...common, why: "is not held", action: "hold", claim: {} }];
  if (want === true || (want === undefined && !ours)) return [];
  if (held) return [{ ...common, why: want === false ? "is held, should not be" : "is no longer to be held", action: "unhold", ...(ours ? { removes: true, release: true } : {}) }];
  return ours ? [forgetStep(resource, "is held no more")] : [];
}

function planGone(name: string, state: "absent" | "purged", found: DpkgPackage | undefined, owned: Owned): Step[] {
  const resource: ResourceId = `packages/${name}`;
  const ours = owned.has(name);
  const hold = owned.has(`${name}/hold`) ? planHold(name, undefined, found, owned) : [];
  const release = ours ? ({ release: true } as const) : {};
  if (found !== undefined && !isGone(found)) {
    const action = state === "purged" ? "purge" : "remove";
    return [...hold, { resource, why: `is installed (${found.version}), should be ${state}`, impact: "service", removes: true, do: "package", action, name, ...release }];
  }
  if (state === "purged" && found?.state === "config-files") {
    return [...hold, { resource, why: "its configuration is still there, should be purged", impact: "none", removes: true, do: "package", action: "purge", name, ...release }];
  }
  return ours ? [...hold, forgetStep(resource, "is not installed any more")] : hold;
}

/** Packages that the agent installed, and holds that it set, which are no longer declared. Configuration stays. */
function prune(want: Want, status: DpkgStatus, owned: Owned): Step[] {
  return [...owned.keys()].toSorted().flatMap((key): Step[] => {
    const hold = key.endsWith("/hold");
    const name = hold ? key.slice(0, -"/hold".length) : key;
    if (Object.hasOwn(want, name)) return [];
    const found = findPackage(status, name);
    if (hold) return planHold(name, undefined, found, owned);
    const resource: ResourceId = `packages/${name}`;
    if (found === undefined || isGone(found)) return [forgetStep(resource, "is no longer declared, and not installed any more")];
    return [{ resource, why: "is no longer declared, and was installed by the agent", impact: "service", removes: true, release: true, do: "package", action: "remove", name }];
  });
}

function isGone(found: DpkgPackage): boolean {
  return found.state === "not-installed" || found.state === "config-files";
}

/** Waiting for a trigger is as good as installed: dpkg's next run deals with it. */
function isFinished(found: DpkgPackage): boolean {
  return found.state === "installed" || found.state.startsWith("triggers-");
}

function isHalfInstalled(found: DpkgPackage): boolean {
  return found.state === "half-installed" || found.flag === "reinstreq";
}

function nameOf(status: DpkgStatus, found: DpkgPackage): string {
  return found.architecture === status.architecture || found.architecture === "all" ? found.name : `${found.name}:${found.architecture}`;
}

function listed(found: readonly DpkgPackage[]): string {
  const shown = found.slice(0, 5).map(({ name, state }) => `${name} is ${state}`);
  return found.length > shown.length ? `${shown.join(", ")} and ${found.length - shown.length} more` : shown.join(", ");
}

/** A virtual package is no package: whoever declares one should read what stands for it here. */
function providers(name: string, status: DpkgStatus): string {
  for (const entries of status.packages.values()) {
    const provider = entries.find((entry) => entry.state === "installed" && entry.provides.includes(name));
    if (provider !== undefined) return ` (${provider.name} provides it, and is installed)`;
  }
  return "";
}

async function readJournal(probe: Probe, names: readonly string[]): Promise<string[]> {
  const texts = await Promise.all(names.slice(0, JOURNAL_MAX).map((name) => probe.readText(`${JOURNAL_PATH}/${name}`)));
  // A file that has just gone was merged by a dpkg that is at work.
  return texts.filter((text) => text !== null);
}

/** Who holds a lock and is called like a package manager: one read of /proc/locks, and of the command lines of those in it. */
async function findBusy(probe: Probe): Promise<string | null> {
  const locks = (await probe.readText("/proc/locks")) ?? "";
  const pids = [...locks.matchAll(/^\d+: POSIX +\S+ +WRITE +(\d+) /gm)].slice(0, LOCKS_MAX).map((match) => match[1]!);
  const lines = await Promise.all([...new Set(pids)].map((pid) => probe.readText(`/proc/${pid}/cmdline`).catch(() => null)));
  const found = lines.find((line) => line !== null && /(^|[/\0])(dpkg|apt|apt-get|aptitude|unattended-upgrade[a-z]*|packagekitd)(\0|$)/.test(line));
  return found === undefined || found === null ? null : found.replaceAll("\0", " ").trim();
}
