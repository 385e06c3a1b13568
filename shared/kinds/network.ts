import { readAccounts } from "./accounts.ts";
import { defineKind } from "./kind.ts";
import type { Json, Owned, Probe, ResourceId, Step, StepCommon } from "./kind.ts";
import { failStep, lookAt, lookAtAll, nothingAt, planAbsent, planFile, planLink } from "./managed-file.ts";
import type { WantedFile } from "./managed-file.ts";
import { resolveAmong } from "./network-among.ts";
import { CONF, CONF_TEXT, filesOf } from "./network-files.ts";
import { gateReasons, observeGate } from "./network-gate.ts";
import { IP_ARGV, linkOf, parseLinks, readNetif, readRoutes } from "./network-live.ts";
import type { LiveLink, NetifState } from "./network-live.ts";
import { earlierOf, leftovers, loadStep, todoOf } from "./network-load.ts";
import type { NetworkFacts } from "./network-load.ts";
import { NETPLAN, netplanFile } from "./network-netplan.ts";
import { obstaclesOf, readIfupdown } from "./network-obstacles.ts";
import { prune } from "./network-prune.ts";
import { RESOLV_CONF, resolvConf } from "./network-resolv.ts";
import { SCRIPT, scriptText } from "./network-script.ts";
import { devicesOf, mastersOf, networkSchema } from "./network-section.ts";
import type { NetworkWant } from "./network-section.ts";

const UNIT = "systemd-networkd.service";
const ENABLED = `/etc/systemd/system/multi-user.target.wants/${UNIT}`;
/** Filled while the unit has processes: asking systemd would be one more process at every look. */
const RUNNING = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"].map((root) => `${root}/system.slice/${UNIT}/cgroup.procs`);
const IP_TIMEOUT_MS = 20_000;
const CHECK: ResourceId = "network/check";
const CHECK_TIMEOUT_MS = 30_000;

/** Keys of the inventory are the paths of the files; what is only in the kernel goes by `interfaces` and the device's name. */
export const network = defineKind({
  name: "network",
  summary: "Interfaces, bonds, VLANs, bridges, tunnels, addresses, routes and name servers, by systemd-networkd or netplan",
  schema: networkSchema,
  resolve: resolveAmong,

  async observe(want, probe, owned): Promise<NetworkFacts> {
    if (isNothing(want) && owned.size === 0) return blank;
    const [accounts, answer, routes, ifupdown, enabled, running, resolved, netplan] = await Promise.all([
      readAccounts(probe),
      probe.run(IP_ARGV, { timeoutMs: IP_TIMEOUT_MS }),
      readRoutes(probe),
      readIfupdown(probe),
      probe.readLink(ENABLED),
      isRunning(probe),
      probe.readLink("/etc/systemd/system/dbus-org.freedesktop.resolve1.service"),
      want.backend === "netplan" ? probe.stat("/usr/sbin/netplan") : null,
    ]);
    const links = answer.code === 0 ? parseLinks(answer.stdout) : null;
    const netif = await readStates(want, links ?? new Map(), probe);
    const obstacles = obstaclesOf(want, { links: links ?? new Map(), netif, ifupdown });
    const wanted = new Map(wantedFiles(want, obstacles, resolved !== null).map((file) => [file.path, file]));
    const paths = [...new Set([...wanted.keys(), ...owned.keys(), ...want.replaces].filter((path) => path.startsWith("/")))];
    const at = await lookAtAll(paths, (path) => lookAt(probe, path, wanted.has(path) ? { content: wanted.get(path)!.content } : {}));
    const differing = paths.filter((path) => path.endsWith(".network") && at.get(path)?.stat?.type === "file" && at.get(path)?.same !== true);
    const texts = await lookAtAll(differing, async (path) => (await probe.readText(path)) ?? "");
    return {
      accounts,
      at,
      texts,
      links: links ?? new Map(),
      routes,
      netif,
      ifupdown,
      obstacles,
      error: links === null ? `\`${IP_ARGV.join(" ")}\` ended with code ${answer.code}${answer.code === 127 ? ": the package iproute2 is not installed, declare it under packages" : `: ${answer.stderr.trim().slice(0, 300)}`}` : null,
      networkd: { enabled: enabled !== null, running },
      resolved: resolved !== null,
      netplan: netplan !== null,
    };
  },

  plan(want, facts, owned) {
    if (isNothing(want) && owned.size === 0) return [];
    if (facts.error !== null) return [failStep({ resource: "network/interfaces" }, "the interfaces cannot be looked at", facts.error)];
    if (isNothing(want)) return prune(want, facts, owned, new Set());
    if (want.backend === "netplan" && !facts.netplan) return [failStep({ resource: `network/${NETPLAN}` }, "netplan is not installed", "netplan is not installed on this node: declare it, `packages: {netplan.io: present}`, or take `backend: networkd`")];
    return planWanted(want, facts, owned);
  },

  watch: (want) => (isNothing(want) ? {} : { paths: wantedFiles(want, new Map(), true).map((file) => file.path), units: [UNIT] }),

  gate: { observe: observeGate, reasons: gateReasons },
});

const blank: NetworkFacts = { accounts: { users: new Map(), groups: new Map() }, at: new Map(), texts: new Map(), links: new Map(), routes: [], netif: new Map(), ifupdown: new Map(), obstacles: new Map(), error: null, networkd: { enabled: false, running: false }, resolved: false, netplan: false };

function isNothing(want: NetworkWant): boolean {
  return devicesOf(want).length === 0 && want.replaces.length === 0;
}

async function isRunning(probe: Probe): Promise<boolean> {
  const texts = await Promise.all(RUNNING.map((path) => probe.readText(path)));
  return texts.some((text) => text !== null && text.trim() !== "");
}

async function readStates(want: NetworkWant, links: ReadonlyMap<string, LiveLink>, probe: Probe): Promise<ReadonlyMap<string, NetifState>> {
  const named = new Map<string, LiveLink | undefined>([...[...mastersOf(want).keys()].map((name) => [name, links.get(name)] as const), ...devicesOf(want).map((device) => [device.name, linkOf(device, links)] as const)]);
  const states = await Promise.all([...named].map(async ([name, link]) => [name, link === undefined ? null : await readNetif(probe, link.index)] as const));
  const found = new Map(states.flatMap(([name, state]) => (state === null ? [] : [[name, state] as const])));
  const files = [...new Set([...found.values()].flatMap(({ networkFile }) => networkFile ?? []))];
  const there = await lookAtAll(files, (path) => probe.stat(path));
  // What networkd has read and has gone since does not count at its next look.
  return new Map([...found].map(([name, state]) => [name, { ...state, networkFile: state.networkFile !== null && there.get(state.networkFile) !== null ? state.networkFile : null }]));
}

type Wanted = WantedFile & { readonly sensitive?: boolean; readonly device?: string };

/** All files of the section; of devices that cannot be had, none. */
function wantedFiles(want: NetworkWant, without: ReadonlyMap<string, string>, resolved: boolean): readonly Wanted[] {
  if (isNothing(want)) return [];
  const names = new Set(without.keys());
  const script: Wanted = { path: SCRIPT, content: new TextEncoder().encode(scriptText), mode: 0o755, owner: "root", group: "root" };
  const conf: Wanted = { path: CONF, content: new TextEncoder().encode(CONF_TEXT), mode: 0o644, owner: "root", group: "root" };
  const resolv = resolved ? null : resolvConf(want);
  const own: readonly Wanted[] = want.backend === "netplan" ? [{ ...netplanFile(want, names), sensitive: true }] : filesOf(want, names);
  return [script, conf, ...own, ...(resolv === null ? [] : [resolv])];
}

function planWanted(want: NetworkWant, facts: NetworkFacts, owned: Owned): readonly Step[] {
  const without = facts.obstacles;
  const files = wantedFiles(want, without, facts.resolved);
  const every = new Set([...wantedFiles(want, new Map(), facts.resolved).map(({ path }) => path), ...maskPaths(want), ...want.replaces]);
  const fails = [...without].map(([name, message]) => failStep({ resource: `network/${name}` }, "cannot be had", message));
  const changedFiles = files.filter((file) => planFile(file, facts.at.get(file.path) ?? nothingAt, { resource: `network/${file.path}`, accounts: facts.accounts, owned }).length > 0);
  const devices = new Set(changedFiles.flatMap(({ device }) => device ?? []));
  const netdevs = new Set(changedFiles.flatMap(({ path, device }) => (device !== undefined && !path.endsWith(".network") && !path.endsWith(".link") && facts.at.get(path)?.stat != null ? [device] : [])));
  const todo = todoOf(want, facts, { devices, netdevs }, without);
  const replaced = planReplaced(want, facts, owned, todo.disruptive);
  const earlier = earlierOf([...changedFiles.map(({ path }) => path), ...want.replaces], facts);
  const left = leftovers(earlier, want, facts);
  const impact = todo.disruptive ? "disruptive" : "network";
  const written = files.flatMap((file) => planOne(file, facts, owned, impact));
  const about = written.filter(({ resource }) => resource !== `network/${SCRIPT}` && resource !== `network/${RESOLV_CONF}`);
  const why = [...new Set([...(about.length + replaced.length > 0 ? ["its files have changed"] : []), ...todo.why])];
  const needs: readonly ResourceId[] = [...new Set([...written, ...replaced].map((step) => step.resource))];
  const load = why.length === 0 && left.words.length === 0 ? [] : [loadStep({ resource: "network/interfaces", ...(needs.length === 0 ? {} : { needs }) }, why.join("; ").slice(0, 1_000) || "an earlier setting is left", [...left.words, ...todo.words], [...todo.undo, ...left.undo], todo.disruptive)];
  const isScript = (step: Step): boolean => step.resource === `network/${SCRIPT}`;
  return [...prune(want, facts, owned, every, todo.disruptive), ...written.filter(isScript), ...checkOf(want, files, written), ...written.filter((step) => !isScript(step)), ...replaced, ...planUnit(want, facts, owned), ...load, ...fails];
}

function planOne(file: Wanted, facts: NetworkFacts, owned: Owned, impact: StepCommon["impact"]): readonly Step[] {
  const harmless = file.path === SCRIPT;
  const common = { impact: harmless ? ("none" as const) : impact, ...(file.sensitive === true ? { sensitive: true as const } : {}), ...(file.path === NETPLAN ? { needs: [CHECK] } : {}), ...(file.path === CONF && facts.networkd.running ? { then: [{ unit: UNIT, action: "restart" as const }] } : {}) };
  const steps = planFile(file, facts.at.get(file.path) ?? nothingAt, { resource: `network/${file.path}`, accounts: facts.accounts, owned, common });
  // A device that others had made before is not taken away when it leaves the section.
  const found = file.path.endsWith(".netdev") && file.device !== undefined && facts.links.has(file.device);
  return found ? steps.map((step) => (typeof step.claim === "object" && step.claim !== null ? { ...step, claim: { ...(step.claim as { readonly [key: string]: Json }), device: "found" } } : step)) : steps;
}

const OUR_DIRECTORY = "/etc/systemd/network/";

/** A file of the distribution's, or of a generator's, is covered by a link of the same name to nothing (systemd.network(5)). */
function maskOf(path: string): string | null {
  return /^\/(run|usr\/lib|lib)\/systemd\/network\//.test(path) ? `${OUR_DIRECTORY}${path.slice(path.lastIndexOf("/") + 1)}` : null;
}

function maskPaths(want: NetworkWant): readonly string[] {
  return want.replaces.flatMap((path) => maskOf(path) ?? []);
}

function planReplaced(want: NetworkWant, facts: NetworkFacts, owned: Owned, disruptive: boolean): readonly Step[] {
  const impact = disruptive ? "disruptive" : "network";
  return want.replaces.flatMap((path) => {
    const mask = maskOf(path);
    const target = mask ?? path;
    const context = { resource: `network/${target}` as const, accounts: facts.accounts, owned, common: { impact: impact as StepCommon["impact"] } };
    return mask === null ? planAbsent(target, facts.at.get(target) ?? nothingAt, context) : planLink(target, "/dev/null", facts.at.get(target) ?? nothingAt, context);
  });
}

/** Only what is new is checked: netplan reads all of its files at once. */
function checkOf(want: NetworkWant, files: readonly Wanted[], written: readonly Step[]): readonly Step[] {
  const file = files.find(({ path }) => path === NETPLAN);
  if (file === undefined || !written.some((step) => step.resource === `network/${NETPLAN}`)) return [];
  return [{ resource: CHECK, needs: [`network/${SCRIPT}`], why: "netplan has to accept the new file before it is put in place", impact: "none", do: "run", argv: [SCRIPT, "check-netplan", ...want.replaces.filter((path) => path.startsWith("/etc/netplan/"))], timeoutMs: CHECK_TIMEOUT_MS, input: new TextDecoder().decode(file.content), ...(Object.keys(want.wireguards).length === 0 ? {} : { sensitive: true as const }) }];
}

function planUnit(want: NetworkWant, facts: NetworkFacts, owned: Owned): readonly Step[] {
  if (want.backend === "netplan") return [];
  const resource: ResourceId = `network/${UNIT}`;
  const { enabled, running } = facts.networkd;
  const claim = owned.has(UNIT) ? {} : { claim: { enabled, running } };
  const unit = { resource, do: "unit", unit: UNIT, ...claim } as const;
  return [
    ...(enabled ? [] : [{ ...unit, why: "is not enabled, should start at boot", impact: "none", action: "enable" } as const]),
    ...(running ? [] : [{ ...unit, why: "does not run", impact: "network", action: "start", undo: { doing: "stopping systemd-networkd again", argv: ["systemctl", "stop", UNIT, "systemd-networkd.socket"], timeoutMs: 30_000 } } as const]),
  ];
}
