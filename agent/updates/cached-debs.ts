import { rm } from "node:fs/promises";
import type { Probe } from "../../shared/kinds/kind.ts";
import type { AptGet } from "./apt-get.ts";

/** apt's cache of .deb files: the way back where the archive keeps only the newest, or cannot be reached. */

export const ARCHIVES = "/var/cache/apt/archives";
/** The way back of one update may take so much of the disk, and not more; the smallest packages first. */
const KEEP_MAX_BYTES = 512 * 1024 * 1024;

export interface NamedVersion {
  readonly name: string;
  readonly version: string;
}

/** `bash_5.2.15-2+b7_amd64.deb`; a colon of an epoch is written `%3a` (apt's QuoteString). */
export function parseDebName(file: string): (NamedVersion & { readonly architecture: string }) | null {
  const found = /^([a-z0-9][a-z0-9+.-]*)_([^_]+)_([a-z0-9-]+)\.deb$/.exec(file);
  return found === null ? null : { name: found[1]!, version: found[2]!.replaceAll("%3a", ":"), architecture: found[3]! };
}

/** The paths of cached files, by `name version`; of a foreign architecture, by `name:arch version`. */
export async function cachedDebs(probe: Probe, nativeArchitecture: string): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const file of (await probe.list(ARCHIVES).catch(() => null)) ?? []) {
    const deb = parseDebName(file);
    if (deb === null) continue;
    const name = deb.architecture === nativeArchitecture || deb.architecture === "all" ? deb.name : `${deb.name}:${deb.architecture}`;
    found.set(`${name} ${deb.version}`, `${ARCHIVES}/${file}`);
  }
  return found;
}

/** Lines of `apt-get download --print-uris`: `'URI' FILE SIZE HASH`. */
export function parseUris(stdout: string): readonly (NamedVersion & { readonly sizeBytes: number })[] {
  return stdout.split("\n").flatMap((line) => {
    const [, file = "", size = ""] = /^'[^']*' (\S+) (\d+)/.exec(line) ?? [];
    const deb = parseDebName(file);
    return deb === null ? [] : [{ name: deb.name, version: deb.version, sizeBytes: Number(size) }];
  });
}

/** Fetches what the archive still has of the versions that are about to go. What fails here is only a way back that is missing. */
export async function keepWayBack(apt: AptGet, wanted: readonly NamedVersion[], cached: ReadonlyMap<string, string>): Promise<void> {
  const missing = wanted.filter(({ name, version }) => !cached.has(`${name} ${version}`));
  if (missing.length === 0) return;
  const sized = parseUris((await apt.downloadUris(missing.map(asArgument))).stdout);
  const sizes = new Map(sized.map(({ name, version, sizeBytes }) => [`${name} ${version}`, sizeBytes]));
  const sizeOf = ({ name, version }: NamedVersion): number => sizes.get(`${name.split(":")[0]} ${version}`) ?? Infinity;
  let leftBytes = KEEP_MAX_BYTES;
  const chosen: string[] = [];
  for (const one of missing.toSorted((a, b) => sizeOf(a) - sizeOf(b))) {
    leftBytes -= sizeOf(one);
    if (leftBytes < 0) break;
    chosen.push(asArgument(one));
  }
  if (chosen.length > 0) await apt.downloadInto(ARCHIVES, chosen);
}

/** Of each package that has changed, the cache keeps what is installed and what was before, so that nightly updates do not fill it. */
export async function dropOlder(probe: Probe, nativeArchitecture: string, kept: ReadonlyMap<string, readonly string[]>): Promise<void> {
  for (const [key, path] of await cachedDebs(probe, nativeArchitecture)) {
    const [name = "", version = ""] = key.split(" ");
    const versions = kept.get(name);
    if (versions !== undefined && !versions.includes(version)) await rm(path, { force: true }).catch(() => {});
  }
}

export function asArgument({ name, version }: NamedVersion): string {
  return `${name}=${version}`;
}
