import type { Read, SettingsFile } from "./settings-file.ts";

/** So much text is kept as it was read; it takes about ten times that in memory. */
const KEPT_BYTES_MAX = 256 * 1024;

interface Kept {
  readonly bytes: Uint8Array;
  readonly read: Read<SettingsFile>;
}

/**
 * What files of nodes and roles were read as, for a process that loads one commit after another: most of the files are the
 * same in both. A node reads those of all others, for their addresses and for what follows from them.
 */
export class SettingsCache {
  /** By path; what was used last stands last. */
  readonly #kept = new Map<string, Kept>();
  #keptBytes = 0;

  read(path: string, bytes: Uint8Array, parse: (bytes: Uint8Array) => Read<SettingsFile>): Read<SettingsFile> {
    const before = this.#kept.get(path);
    if (before !== undefined) this.#drop(path, before);
    const kept = before !== undefined && isSame(before.bytes, bytes) ? before : { bytes, read: parse(bytes) };
    this.#kept.set(path, kept);
    this.#keptBytes += kept.bytes.length;
    for (const [oldest, each] of this.#kept) {
      if (this.#keptBytes <= KEPT_BYTES_MAX) break;
      this.#drop(oldest, each);
    }
    return kept.read;
  }

  #drop(path: string, { bytes }: Kept): void {
    this.#kept.delete(path);
    this.#keptBytes -= bytes.length;
  }
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}
