import { existsSync, statSync, watch } from "node:fs";
import type { FSWatcher } from "node:fs";
import { basename, dirname, join } from "node:path";

/** The kernel's default of inotify watches for one user is 8,192 on the smallest machines; ours may take a part of them. */
const DIRECTORIES_MAX = 1_000;

interface Watched {
  readonly watcher: FSWatcher;
  /** Which directory it is: a path may name another directory by and by, and inotify stays with the old one. */
  readonly identity: string | null;
}

/**
 * Says when one of some files or directories is changed, made or removed (inotify). It watches the directories they are
 * in, because a file that is replaced by rename is another file afterwards. Where a directory is missing, the nearest one
 * above it is watched for its coming.
 */
export class PathEvents {
  readonly #onChange: (path: string) => void;
  readonly #watched = new Map<string, Watched>();
  #names: ReadonlyMap<string, ReadonlySet<string>> = new Map();

  constructor(onChange: (path: string) => void) {
    this.#onChange = onChange;
  }

  /**
   * Watches exactly these paths from now on. To be called again after each change that it has told of: directories come
   * and go. Answers how many directories could not be watched: the sweep covers those.
   */
  watch(paths: Iterable<string>): number {
    const names = new Map<string, Set<string>>();
    for (const path of paths) {
      let child = path;
      while (!existsSync(dirname(child))) child = dirname(child);
      const directory = dirname(child);
      const known = names.get(directory);
      if (known === undefined) names.set(directory, new Set([basename(child)]));
      else known.add(basename(child));
    }
    this.#names = names;
    for (const [directory, { identity }] of this.#watched) {
      if (!names.has(directory) || identity === null || identity !== identityOf(directory)) this.#close(directory);
    }
    let missing = 0;
    for (const directory of names.keys()) {
      if (this.#watched.has(directory)) continue;
      if (this.#watched.size >= DIRECTORIES_MAX || !this.#open(directory)) missing += 1;
    }
    return missing;
  }

  stop(): void {
    for (const directory of this.#watched.keys()) this.#close(directory);
  }

  #open(directory: string): boolean {
    try {
      const watcher = watch(directory, { persistent: false }, (event, name) => this.#changed(directory, watcher, event, name));
      watcher.on("error", () => {
        if (this.#watched.get(directory)?.watcher === watcher) this.#close(directory);
      });
      this.#watched.set(directory, { watcher, identity: identityOf(directory) });
      return true;
    } catch {
      // It went just now, or the limit of watches is reached.
      return false;
    }
  }

  #changed(directory: string, watcher: FSWatcher, event: string, name: string | null): void {
    if (this.#watched.get(directory)?.watcher !== watcher) return;
    if (name !== null && this.#names.get(directory)?.has(name)) {
      this.#onChange(join(directory, name));
      return;
    }
    if (name === null) this.#onChange(directory);
    // That the directory itself was removed or moved comes under its own name, as if a file of that name in it were (libuv).
    if (event !== "rename" || name !== basename(directory)) return;
    this.#close(directory);
    this.#open(directory);
    this.#onChange(directory);
  }

  #close(directory: string): void {
    this.#watched.get(directory)?.watcher.close();
    this.#watched.delete(directory);
  }
}

/** The number of a directory that is gone is soon another's, so that the time of its birth counts as well. */
function identityOf(directory: string): string | null {
  const found = statSync(directory, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? null : `${found.dev}:${found.ino}:${found.birthtimeNs}`;
}
