import * as z from "zod";
import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { defineKind } from "./kind.ts";
import type { Json, Owned, Step, StepCommon } from "./kind.ts";
import { forgetStep, lookAt, lookAtAll, planFile, restoreStep } from "./managed-file.ts";
import type { At } from "./managed-file.ts";

/** 60: after the distribution's own files (10 to 50), before the owner's own 99-*.conf, which thereby win at boot. */
const FILE = "/etc/sysctl.d/60-evenkeel.conf";

/** Keys that do something when written, or that hold no setting: there is no state of theirs to keep. */
const ACTIONS = /^(vm\/drop_caches|vm\/compact_memory|vm\/stat_refresh|kernel\/(hostname|domainname)|kernel\/random\/.*|fs\/binfmt_misc\/.*|net\/.*\/route\/flush)$/;

/**
 * `net.ipv4.ip_forward` → `net/ipv4/ip_forward`. As in sysctl.d(5): the first separator decides. If it is a dot, dots
 * and slashes swap places, so that `net.ipv4.conf.eth0/100.forwarding` means the interface `eth0.100`.
 */
export function sysctlPath(key: string): string {
  const first = /[./]/.exec(key)?.[0];
  return first === "/" ? key : key.replace(/[./]/g, (separator) => (separator === "." ? "/" : "."));
}

/** The kernel separates numbers with tabs where people write spaces. */
export function sameValue(one: string, other: string): boolean {
  const words = (value: string): string => value.trim().split(/\s+/).join(" ");
  return words(one) === words(other);
}

const key = z.string().superRefine((name, check) => {
  const path = sysctlPath(name);
  const fault =
    name.length > 255
      ? "a key has at most 255 characters"
      : !/^[A-Za-z0-9_@:+./-]+$/.test(name) || !path.includes("/") || path.split("/").some((part) => part === "" || part === "." || part === "..")
        ? "a key is a name below /proc/sys with dots, like net.ipv4.ip_forward"
        : path === "kernel/hostname"
          ? "the host's name is kept by another section: write it under host: name"
          : ACTIONS.test(path)
            ? `${name} is no setting: writing it does something once, or reading it gives nothing that could be kept`
            : null;
  if (fault !== null) check.addIssue({ code: "custom", message: fault });
});

const value = z
  .union([
    z
      .string()
      .min(1)
      .max(4096)
      .refine((text) => !/[\n\0]/.test(text), "a value is one line")
      .refine((text) => text.trim() === text, "a value has no spaces at its ends")
      .describe("The value, as it is written into /proc/sys"),
    z
      .int()
      .transform(String)
      .describe("The value, a whole number"),
  ])
  .describe("A value, such as 1 or \"4096 87380 6291456\"");

const schema = z
  .record(key, value)
  .superRefine((settings, check) => {
    const seen = new Map<string, string>();
    for (const name of Object.keys(settings)) {
      const other = seen.get(sysctlPath(name));
      if (other !== undefined) check.addIssue({ code: "custom", path: [name], message: `${name} and ${other} are the same key: write one of the two` });
      seen.set(sysctlPath(name), name);
    }
  })
  .describe("Kernel settings by key, set now and at every boot");

interface Facts {
  /** Key → the value in the running kernel, or null where the kernel has no such key. */
  readonly live: ReadonlyMap<string, string | null>;
  readonly file: At;
  readonly accounts: Accounts;
}

/** Keys of the inventory are the settings, and the path of the file for the file. */
export const sysctl = defineKind({
  name: "sysctl",
  summary: "Kernel settings below /proc/sys, set now and kept for every boot",
  schema,

  async observe(want, probe, owned): Promise<Facts> {
    const keys = [...new Set([...Object.keys(want), ...[...owned.keys()].filter((name) => name !== FILE)])];
    const [accounts, file, live] = await Promise.all([
      readAccounts(probe),
      lookAt(probe, FILE, { content: fileContent(want) }),
      lookAtAll(keys, async (name) => (await probe.readText(`/proc/sys/${sysctlPath(name)}`))?.replace(/\n$/, "") ?? null),
    ]);
    return { accounts, file, live };
  },

  plan(want, facts, owned) {
    const names = Object.keys(want).toSorted();
    return [...prune(want, facts, owned), ...planFileOf(want, facts, owned), ...names.flatMap((name) => planKey(name, want[name]!, facts, owned))];
  },

  watch: () => ({ paths: [FILE] }),
});

function fileContent(want: Readonly<Record<string, string>>): Uint8Array {
  const lines = Object.keys(want)
    .toSorted()
    .map((name) => `${name} = ${want[name]}\n`);
  return new TextEncoder().encode(`# Kept by evenkeel (section sysctl). What is written here by hand is overwritten.\n${lines.join("")}`);
}

function planFileOf(want: Readonly<Record<string, string>>, facts: Facts, owned: Owned): Step[] {
  const resource = `sysctl/${FILE}` as const;
  if (Object.keys(want).length > 0) {
    return planFile({ path: FILE, content: fileContent(want), mode: 0o644, owner: "root", group: "root" }, facts.file, { resource, accounts: facts.accounts, owned });
  }
  if (!owned.has(FILE)) return [];
  return [restoreStep(resource, FILE, owned.get(FILE))];
}

function planKey(name: string, wanted: string, facts: Facts, owned: Owned): Step[] {
  const resource = `sysctl/${name}` as const;
  const live = facts.live.get(name) ?? null;
  if (live === null) {
    const message = `this kernel has no setting ${name} (/proc/sys/${sysctlPath(name)}). Is the name right, and the module that brings it declared under modules?`;
    return [{ resource, why: "does not exist in this kernel", impact: "none", do: "fail", message }];
  }
  if (sameValue(live, wanted)) return [];
  return [{ resource, why: `is ${live}, should be ${wanted}`, impact: impactOf(name), ...(owned.has(name) ? {} : { claim: { value: live } }), do: "set", path: `/proc/sys/${sysctlPath(name)}`, value: wanted }];
}

/** Settings that are no longer declared get back the value that they had before the agent changed them. */
function prune(want: Readonly<Record<string, string>>, facts: Facts, owned: Owned): Step[] {
  const wanted = new Set(Object.keys(want).map(sysctlPath));
  return [...owned.keys()]
    .filter((name) => name !== FILE && want[name] === undefined)
    .toSorted()
    .map((name): Step => {
      const resource = `sysctl/${name}` as const;
      const [live, before] = [facts.live.get(name) ?? null, claimedValue(owned.get(name))];
      if (wanted.has(sysctlPath(name))) return forgetStep(resource, "no longer declared under this spelling");
      if (live === null) return forgetStep(resource, "no longer declared, and no longer in this kernel");
      if (before === null || sameValue(live, before)) return forgetStep(resource, `no longer declared; it is ${live}, as it was before`);
      return { resource, why: `no longer declared; is ${live}, was ${before} before`, impact: impactOf(name), removes: true, release: true, do: "set", path: `/proc/sys/${sysctlPath(name)}`, value: before };
    });
}

function claimedValue(claim: Json | undefined): string | null {
  const before = typeof claim === "object" && claim !== null && "value" in claim ? claim["value"] : null;
  return typeof before === "string" ? before : null;
}

/** Settings of the network stack can disturb what runs; the others take effect unnoticed. */
function impactOf(name: string): StepCommon["impact"] {
  return sysctlPath(name).startsWith("net/") ? "service" : "none";
}
