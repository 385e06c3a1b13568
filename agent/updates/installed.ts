import { isUnfinished } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import { updateLimits } from "../../shared/protocol/updates.ts";
import type { VersionChange } from "../../shared/protocol/updates.ts";

/** What is installed, by dpkg's own word: names without the node's architecture, as apt gives them, to versions. */
export function installedVersions(status: DpkgStatus): ReadonlyMap<string, string> {
  const versions = new Map<string, string>();
  for (const [name, entries] of status.packages) {
    for (const { architecture, version, state } of entries) {
      if (state === "not-installed" || state === "config-files") continue;
      versions.set(architecture === status.architecture || architecture === "all" ? name : `${name}:${architecture}`, version);
    }
  }
  return versions;
}

/** Packages that are neither clean nor gone, by the same names. */
export function unfinishedNames(status: DpkgStatus): readonly string[] {
  return status.unfinished
    .filter(isUnfinished)
    .map(({ name, architecture }) => (architecture === status.architecture || architecture === "all" ? name : `${name}:${architecture}`));
}

export function changesBetween(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): readonly VersionChange[] {
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names]
    .filter((name) => before.get(name) !== after.get(name))
    .toSorted()
    .map((name) => ({ name, from: before.get(name) ?? null, to: after.get(name) ?? null }))
    .slice(0, updateLimits.packagesMax);
}
