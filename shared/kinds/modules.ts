import * as z from "zod";
import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { defineKind } from "./kind.ts";
import type { Owned, Probe, ResourceId, Step } from "./kind.ts";
import { lookAt, lookAtAll, planFile, restoreStep } from "./managed-file.ts";
import type { At } from "./managed-file.ts";

const LOAD_FILE = "/etc/modules-load.d/evenkeel.conf";
const OPTIONS_FILE = "/etc/modprobe.d/evenkeel.conf";
const HEADER = "# Kept by evenkeel (section modules). What is written here by hand is overwritten.\n";

/** A module that waits for hardware can take a while (modprobe(8) itself has no limit). */
const MODPROBE_TIMEOUT_MS = 60_000;

const moduleName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_-]{0,54}$/, "a module's name, like br_netfilter, without .ko");
const parameterName = z.string().regex(/^[A-Za-z0-9_]{1,64}$/, "a parameter's name has letters, digits and _");
const parameterValue = z
  .union([
    z.string().regex(/^[^\s"'\\#]{1,255}$/, "a parameter's value has no spaces, quotes, # or \\"),
    z.int().transform(String),
    z.boolean().transform((on) => (on ? "1" : "0")),
  ])
  .describe("The value, as modinfo explains it");

const full = z
  .strictObject({
    parameters: z.record(parameterName, parameterValue).default({}).describe("The module's parameters; those that can be are set at once, the others at its next load"),
  })
  .transform((module) => ({ state: "loaded" as const, parameters: module.parameters }))
  .describe("Loaded, now and at every boot, with parameters");

const short = z
  .enum(["loaded", "blocked"])
  .transform((state) => ({ state, parameters: {} as Record<string, string> }))
  .describe("`loaded`: now and at every boot; `blocked`: unloaded, and nothing loads it, not even by hand with modprobe");

const schema = z
  .record(moduleName, z.union([short, full]))
  .superRefine((modules, check) => {
    const seen = new Map<string, string>();
    for (const name of Object.keys(modules)) {
      const other = seen.get(canonical(name));
      if (other !== undefined) check.addIssue({ code: "custom", path: [name], message: `${name} and ${other} are the same module: write one of the two` });
      seen.set(canonical(name), name);
    }
  })
  .describe("Kernel modules by name");

type Want = z.output<typeof schema>;

/** How the kernel stands to a module. */
interface ModuleState {
  readonly state: "absent" | "loaded" | "builtin";
  /** Parameter → its value now and whether it can be written; null where it does not show. */
  readonly parameters: ReadonlyMap<string, { readonly value: string; readonly writable: boolean } | null>;
}

interface Facts {
  /** The kernel can load modules at all; in a container, it is the host's that decides. */
  readonly loadable: boolean;
  readonly modules: ReadonlyMap<string, ModuleState>;
  readonly loadFile: At;
  readonly optionsFile: At;
  readonly accounts: Accounts;
}

/**
 * A module that is no longer declared stays loaded until the next boot: something may use it by now, and unloading
 * would break that. So the inventory has the two files only.
 */
export const modules = defineKind({
  name: "modules",
  summary: "Kernel modules: loaded with parameters, or blocked",
  schema,

  async observe(want, probe): Promise<Facts> {
    const names = Object.keys(want);
    const [accounts, loadFile, optionsFile, loaded, builtin] = await Promise.all([
      readAccounts(probe),
      lookAt(probe, LOAD_FILE, { content: loadContent(want) }),
      lookAt(probe, OPTIONS_FILE, { content: optionsContent(want) }),
      names.length === 0 ? null : readLoaded(probe),
      names.length === 0 ? new Set<string>() : readBuiltin(probe),
    ]);
    const states = await lookAtAll(names, async (name): Promise<ModuleState> => {
      const id = canonical(name);
      const state = loaded?.has(id) ? "loaded" : builtin.has(id) || (await probe.stat(`/sys/module/${id}`)) !== null ? "builtin" : "absent";
      return { state, parameters: await readParameters(probe, id, Object.keys(want[name]!.parameters)) };
    });
    return { accounts, loadFile, optionsFile, modules: states, loadable: loaded !== null };
  },

  plan(want, facts, owned) {
    return [
      ...planKept(OPTIONS_FILE, optionsContent(want), facts.optionsFile, facts, owned),
      ...planKept(LOAD_FILE, loadContent(want), facts.loadFile, facts, owned),
      ...Object.keys(want).toSorted().flatMap((name) => planModule(name, want[name]!, facts.modules.get(name)!, facts.loadable)),
    ];
  },

  watch: () => ({ paths: [LOAD_FILE, OPTIONS_FILE] }),
});

/** The kernel shows every name with underscores; modprobe takes both. */
function canonical(name: string): string {
  return name.replaceAll("-", "_");
}

/** Null where the kernel was built without modules: then /proc/modules is missing. */
async function readLoaded(probe: Probe): Promise<ReadonlySet<string> | null> {
  const text = await probe.readText("/proc/modules");
  return text === null ? null : new Set(text.split("\n").flatMap((line) => line.split(" ")[0] || []));
}

async function readBuiltin(probe: Probe): Promise<ReadonlySet<string>> {
  const release = (await probe.readText("/proc/sys/kernel/osrelease"))?.trim();
  return (release && (await probe.parsed(`/lib/modules/${release}/modules.builtin`, parseBuiltin))) || new Set();
}

/** modules.builtin has one path a line: `kernel/fs/ext4/ext4.ko`. */
function parseBuiltin(text: string): ReadonlySet<string> {
  return new Set(text.split("\n").flatMap((line) => /([^/]+)\.ko$/.exec(line)?.[1] ?? []).map(canonical));
}

async function readParameters(probe: Probe, id: string, names: readonly string[]): Promise<ModuleState["parameters"]> {
  return lookAtAll(names, async (name) => {
    const path = `/sys/module/${id}/parameters/${name}`;
    const stat = await probe.stat(path);
    if (stat === null || (stat.mode & 0o400) === 0) return null;
    return { value: ((await probe.readText(path)) ?? "").trim(), writable: (stat.mode & 0o200) !== 0 };
  });
}

function loadContent(want: Want): Uint8Array | undefined {
  const names = Object.keys(want).toSorted().filter((name) => want[name]!.state === "loaded");
  return names.length === 0 ? undefined : new TextEncoder().encode(HEADER + names.map((name) => `${name}\n`).join(""));
}

/** `install` with false besides `blacklist`, since that alone does not stop a load by name (modprobe.d(5)). */
function optionsContent(want: Want): Uint8Array | undefined {
  const lines = Object.keys(want).toSorted().flatMap((name) => {
    const { state, parameters } = want[name]!;
    if (state === "blocked") return [`blacklist ${name}`, `install ${name} /bin/false`];
    const options = Object.keys(parameters).toSorted().map((parameter) => `${parameter}=${parameters[parameter]}`);
    return options.length === 0 ? [] : [`options ${name} ${options.join(" ")}`];
  });
  return lines.length === 0 ? undefined : new TextEncoder().encode(HEADER + lines.map((line) => `${line}\n`).join(""));
}

function planKept(path: string, content: Uint8Array | undefined, at: At, facts: Facts, owned: Owned): Step[] {
  const resource: ResourceId = `modules/${path}`;
  if (content !== undefined) return planFile({ path, content, mode: 0o644, owner: "root", group: "root" }, at, { resource, accounts: facts.accounts, owned });
  if (!owned.has(path)) return [];
  return [restoreStep(resource, path, owned.get(path))];
}

function planModule(name: string, want: Want[string], now: ModuleState, loadable: boolean): Step[] {
  const resource: ResourceId = `modules/${name}`;
  const needs: ResourceId[] = [`modules/${OPTIONS_FILE}`];
  const run = (argv: [string, ...string[]], why: string): Step => ({ resource, why, impact: "service", needs, do: "run", argv, timeoutMs: MODPROBE_TIMEOUT_MS });
  if (want.state === "blocked") {
    if (now.state === "builtin") {
      const message = `${name} is built into this kernel and cannot be blocked; a kernel without it would be needed.`;
      return [{ resource, why: "is built in, should be blocked", impact: "none", do: "fail", message }];
    }
    return now.state === "loaded" ? [run(["modprobe", "-r", "--", name], "is loaded, should be blocked")] : [];
  }
  if (now.state === "absent" && !loadable) {
    const message = `this kernel cannot load modules, and ${name} is not built in: a container has to leave that to its host.`;
    return [{ resource, why: "is not in this kernel, should be", impact: "none", do: "fail", message }];
  }
  if (now.state === "absent") return [run(["modprobe", "--", name], "is not loaded, should be")];
  return Object.keys(want.parameters).toSorted().flatMap((parameter) => planParameter(resource, name, parameter, want.parameters[parameter]!, now));
}

/** What cannot be written while the module is loaded waits for its next load: unloading it could break what uses it. */
function planParameter(resource: ResourceId, name: string, parameter: string, wanted: string, now: ModuleState): Step[] {
  const live = now.parameters.get(parameter);
  if (!live?.writable || sameParameter(live.value, wanted)) return [];
  const path = `/sys/module/${canonical(name)}/parameters/${parameter}`;
  return [{ resource, why: `${parameter} is ${live.value}, should be ${wanted}`, impact: "service", do: "set", path, value: wanted }];
}

/** The kernel shows booleans as Y and N, and numbers in decimal, however they were written. */
function sameParameter(one: string, other: string): boolean {
  const plain = (value: string): string => {
    if (/^(y|yes|true|on)$/i.test(value)) return "1";
    if (/^(n|no|false|off)$/i.test(value)) return "0";
    return /^(0x[0-9a-f]+|\d+)$/i.test(value) ? String(Number(value)) : value;
  };
  return plain(one) === plain(other);
}
