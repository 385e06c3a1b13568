import { compareVersions } from "../../shared/kinds/deb-version.ts";
import { findPackage } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgPackage, DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output } from "../../shared/kinds/kind.ts";
import type { PendingUpdate, PinnedVersion, UpdateOrder, VersionChange } from "../../shared/protocol/updates.ts";
import { diagnose, parseSimulation, parseUnknown } from "../host/apt-output.ts";
import type { Simulation } from "../host/apt-output.ts";
import { Resolver } from "../host/apt-resolve.ts";
import type { PackageStep } from "../host/host.ts";
import type { AptGet } from "./apt-get.ts";
import { asArgument } from "./cached-debs.ts";
import type { NamedVersion } from "./cached-debs.ts";
import { chooseUpdates, excluder } from "./choose.ts";
import { fail, failOutput } from "./failure.ts";
import type { UpdateFailure } from "./failure.ts";
import { installedVersions } from "./installed.ts";
import type { ArchiveVersion, Offer } from "./offers.ts";

/** From an order to one transaction, by simulations alone: nothing is changed here. */

export interface Plan {
  /** How apt-get install takes them; empty when there is nothing to do. */
  readonly args: readonly string[];
  readonly simulation: Simulation;
}

export type Planned = { readonly ok: true; readonly plan: Plan } | { readonly ok: false; readonly failure: UpdateFailure };

const NOTHING: Plan = { args: [], simulation: { installs: new Map(), removes: new Map(), configures: new Set() } };
/** Each turn names some of the packages that came along; deeper chains were not seen. */
const PIN_TURNS_MAX = 5;

/** What the order takes of what is pending. An update that cannot be without an excluded or held package is left out. */
export async function planChosen(apt: AptGet, status: DpkgStatus, pending: readonly PendingUpdate[], order: UpdateOrder, nowMs: number): Promise<Planned> {
  const { chosen } = chooseUpdates(pending, order, nowMs);
  const items = chosen.map(({ name, to }) => ({ name, version: to }));
  if (items.length === 0) return { ok: true, plan: NOTHING };
  const args = items.map(asArgument);
  const output = await apt.simulateInstall(args);
  if (output.code !== 0) return { ok: false, failure: simulateFailure(output) };
  const simulation = parseSimulation(output.stdout);
  if (simulation.removes.size > 0) return { ok: false, failure: removalFailure(simulation, output) };
  if (!touches(simulation, status, order.exclude, new Set(chosen.map(({ name }) => name)))) return { ok: true, plan: { args, simulation } };
  return planWithout(apt, asHeld(status, order.exclude, [...simulation.installs.keys()]), items);
}

/** Asks what goes together without the packages that may not be touched, which are shown to the resolver as held. */
async function planWithout(apt: AptGet, status: DpkgStatus, items: readonly NamedVersion[]): Promise<Planned> {
  const resolver = new Resolver({
    simulate: (steps) => apt.simulateInstall(steps.map(({ name, version }) => (version === undefined ? name : `${name}=${version}`))),
    refresh: async () => false,
    status,
    context: { declared: new Set() },
    lockTimeoutSeconds: apt.lockTimeoutSeconds,
  });
  const steps = items.map(({ name, version }): PackageStep => ({ resource: `packages/${name}`, why: "an update", impact: "service", do: "package", action: "install", name, version }));
  const { accepted, simulation } = await resolver.resolve(steps);
  return { ok: true, plan: { args: accepted.map(({ name, version }) => asArgument({ name, version: version ?? "" })), simulation } };
}

/** Whether the transaction changes a package that was not asked for and is held, excluded, or would go down. */
function touches(simulation: Simulation, status: DpkgStatus, exclude: readonly string[], asked: ReadonlySet<string>): boolean {
  const isExcluded = excluder(exclude);
  return [...simulation.installs].some(([name, { from, to }]) => {
    if (asked.has(name)) return false;
    return isExcluded(name) || (from !== null && (findPackage(status, name)?.selection === "hold" || compareVersions(from, to) > 0));
  });
}

/** For the resolver, an excluded package is there and held, also one that would only now come. */
function asHeld(status: DpkgStatus, exclude: readonly string[], names: readonly string[]): DpkgStatus {
  const isExcluded = excluder(exclude);
  const packages = new Map<string, readonly DpkgPackage[]>(status.packages);
  for (const name of names.filter(isExcluded)) {
    const [bare = "", architecture = status.architecture] = name.split(":");
    const others = (packages.get(bare) ?? []).filter((one) => one.architecture !== architecture && one.architecture !== "all");
    const held: DpkgPackage = { name: bare, architecture, version: "", selection: "hold", flag: "ok", state: "installed", configured: true, essential: false, provides: [] };
    packages.set(bare, [...others, held]);
  }
  return { ...status, packages };
}

export interface PinnedWorld {
  readonly status: DpkgStatus;
  readonly archive: readonly ArchiveVersion[];
  /** Paths in apt's cache, by `name version`. */
  readonly cached: ReadonlyMap<string, string>;
}

/** What the archive offers beyond the pins: told to the owner, and not installed. */
export function movedOn(pinned: readonly PinnedVersion[], offers: readonly Offer[]): VersionChange[] {
  const offered = new Map(offers.map(({ name, to }) => [name, to]));
  return pinned.flatMap(({ name, version }) => {
    const to = offered.get(name);
    return to !== undefined && compareVersions(to, version) > 0 ? [{ name, from: version, to }] : [];
  });
}

/**
 * Exactly the pinned versions. A pin of a package that is not installed here counts only for what comes along as a
 * dependency; what is installed in that version or a newer one, is held, or excluded, is left alone. Other packages change
 * only where a pinned version cannot be without.
 */
export async function planPinned(apt: AptGet, order: UpdateOrder & { readonly pinned: readonly PinnedVersion[] }, world: PinnedWorld): Promise<Planned> {
  const installed = installedVersions(world.status);
  const isExcluded = excluder(order.exclude);
  const items = order.pinned.filter(({ name, version }) => {
    const now = installed.get(name);
    return now !== undefined && compareVersions(now, version) < 0 && !isExcluded(name) && findPackage(world.status, name)?.selection !== "hold";
  });
  if (items.length === 0) return { ok: true, plan: NOTHING };
  const spare = new Map(order.pinned.filter(({ name }) => !installed.has(name)).map((pin) => [pin.name, pin]));
  const wanted = new Map<string, PinnedVersion>(items.map((item) => [item.name, item]));
  for (let turn = 1; ; turn += 1) {
    const missing = [...wanted.values()].filter((one) => !isToBeHad(one, world));
    if (missing.length > 0) return { ok: false, failure: missingFailure(missing) };
    const args = [...wanted.values()].map((one) => argumentOf(one, world));
    const output = await apt.simulateInstall(args);
    const more = turn < PIN_TURNS_MAX ? along(output, spare, wanted) : [];
    for (const pin of more) wanted.set(pin.name, pin);
    if (more.length > 0) continue;
    if (output.code !== 0) return { ok: false, failure: parseUnknown(output).some(({ code }) => code === "unknown-version") ? missingFailure(items, output) : simulateFailure(output) };
    const simulation = parseSimulation(output.stdout);
    if (simulation.removes.size > 0) return { ok: false, failure: removalFailure(simulation, output) };
    const names = new Set(wanted.keys());
    if (touches(simulation, world.status, order.exclude, names)) return { ok: false, failure: failOutput("simulate", "the pinned versions cannot be installed without changing a package that is held or excluded on this node, or taking one back: free it (apt-mark unhold), or leave this node out", output) };
    return { ok: true, plan: { args, simulation } };
  }
}

/** Pins of packages that are new here and turn up as dependencies: in another version, or as what a pinned one lacks. */
function along({ code, stdout }: Output, spare: ReadonlyMap<string, PinnedVersion>, wanted: ReadonlyMap<string, PinnedVersion>): readonly PinnedVersion[] {
  const unused = [...spare.values()].filter(({ name }) => !wanted.has(name));
  if (code === 0) {
    const { installs } = parseSimulation(stdout);
    return unused.filter(({ name, version }) => installs.has(name) && installs.get(name)!.to !== version);
  }
  const words = new Set(stdout.split(/[\s,]+/));
  return unused.filter(({ name }) => words.has(name));
}

function isToBeHad({ name, version }: NamedVersion, { archive, cached }: PinnedWorld): boolean {
  return cached.has(`${name} ${version}`) || inArchive({ name, version }, archive);
}

export function inArchive({ name, version }: NamedVersion, archive: readonly ArchiveVersion[]): boolean {
  const bare = name.split(":")[0]!;
  return archive.some((one) => (one.name === name || one.name === bare) && one.version === version);
}

/** By name where an archive has it, for then apt checks it by the archive's signature; else the file that apt once fetched. */
export function argumentOf(one: NamedVersion, { archive, cached }: Pick<PinnedWorld, "archive" | "cached">): string {
  return inArchive(one, archive) ? asArgument(one) : (cached.get(`${one.name} ${one.version}`) ?? asArgument(one));
}

function missingFailure(missing: readonly NamedVersion[], output?: Output): UpdateFailure {
  const named = missing.slice(0, 10).map(({ name, version }) => `${name} ${version}`).join(", ");
  const message = `neither the archive nor apt's cache on this node has ${named}${missing.length > 10 ? ` and ${missing.length - 10} more` : ""} any more, which the canary got: nothing was changed; start a new rollout, so that a canary tests what there is now`;
  return output === undefined ? fail("pinned-missing", message) : failOutput("pinned-missing", message, output);
}

function removalFailure({ removes }: Simulation, output: Output): UpdateFailure {
  return failOutput("would-remove", `the update would remove ${[...removes.keys()].slice(0, 20).join(", ")}: nothing was changed; exclude what asks for that, or make the change by hand or in the section packages`, output);
}

function simulateFailure(output: Output): UpdateFailure {
  const { code, message } = diagnose(output, 0);
  return failOutput(code === "locked" ? "lock" : "simulate", `apt cannot plan the update, and nothing was changed: ${message}`, output);
}
