import { findPackage } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Probe } from "../../shared/kinds/kind.ts";
import { Resolver } from "../host/apt-resolve.ts";
import type { PackageStep } from "../host/host.ts";
import type { AptGet } from "./apt-get.ts";
import { cachedDebs } from "./cached-debs.ts";
import { installedVersions, unfinishedNames } from "./installed.ts";
import { parseMadison } from "./offers.ts";
import { argumentOf, inArchive } from "./plan.ts";

/** The way back after an update that failed: the earlier versions, as far as archive and cache still have them. */

export interface WentBack {
  readonly rolledBack: readonly string[];
  readonly notRolledBack: readonly string[];
  readonly status: DpkgStatus;
}

export interface BackFrom {
  /** What was installed before, by name. */
  readonly before: ReadonlyMap<string, string>;
  /** What the transaction was about: only these, and what came along with them, go back. */
  readonly targets: ReadonlySet<string>;
  readonly status: DpkgStatus;
}

/** A package whose script fails on the way back keeps others from it, which are tried again without it. */
const ROUNDS_MAX = 3;

export async function goBack(apt: AptGet, probe: Probe, { before, targets, status }: BackFrom): Promise<WentBack> {
  const first = strayed(before, targets, status);
  let now = status;
  let left = first;
  for (let round = 1; left.length > 0 && round <= ROUNDS_MAX; round += 1) {
    if (!(await attempt(apt, probe, before, left, now))) break;
    // One that still fails is left as it is, and said.
    await apt.configureAll();
    const queried = await apt.query();
    if (!queried.ok) break;
    now = queried.status;
    const still = strayed(before, targets, now);
    if (still.length === left.length) break;
    left = still;
  }
  const notRolledBack = strayed(before, targets, now);
  return { rolledBack: first.filter((name) => !notRolledBack.includes(name)), notRolledBack, status: now };
}

/** Packages of this transaction in another version than before, or unfinished. */
function strayed(before: ReadonlyMap<string, string>, targets: ReadonlySet<string>, status: DpkgStatus): readonly string[] {
  const installed = installedVersions(status);
  const unfinished = new Set(unfinishedNames(status));
  return [...targets].filter((name) => installed.get(name) !== before.get(name) || unfinished.has(name)).toSorted();
}

/** One transaction over all that can go together; false when there is nothing to try. */
async function attempt(apt: AptGet, probe: Probe, before: ReadonlyMap<string, string>, names: readonly string[], status: DpkgStatus): Promise<boolean> {
  const [offered, cached] = await Promise.all([apt.madison(names), cachedDebs(probe, status.architecture)]);
  const archive = parseMadison(offered.stdout);
  const steps = names.flatMap((name): PackageStep[] => {
    const version = before.get(name);
    const common = { resource: `packages/${name}`, why: "the update failed", impact: "service", do: "package", name } as const;
    if (version === undefined) return findPackage(status, name) === undefined ? [] : [{ ...common, action: "remove" }];
    return inArchive({ name, version }, archive) || cached.has(`${name} ${version}`) ? [{ ...common, action: "install", version }] : [];
  });
  if (steps.length === 0) return false;
  const argument = ({ action, name, version }: PackageStep): string => (action === "install" && version !== undefined ? argumentOf({ name, version }, { archive, cached }) : `${name}-`);
  const resolver = new Resolver({
    simulate: (items) => apt.simulateInstall(items.map(argument)),
    refresh: async () => false,
    status,
    // Taking away what is new must never take along what was there before.
    context: { declared: new Set(before.keys()) },
    lockTimeoutSeconds: apt.lockTimeoutSeconds,
  });
  const { accepted } = await resolver.resolve(steps);
  if (accepted.length === 0) return false;
  const mayRemove = accepted.some(({ action }) => action !== "install");
  // A package whose newer version is broken has its earlier one unpacked over it, also where that is the version dpkg shows.
  await apt.install(accepted.map(argument), { goesBack: true, mayRemove, reinstall: true });
  return true;
}
