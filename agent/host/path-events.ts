import { watch } from "node:fs";
import type { FSWatcher } from "node:fs";
import { basename, dirname } from "node:path";

/** The kernel's default of inotify watches for one user is 8,192 on the smallest machines; ours may take a part of them. */
const DIRECTORIES_MAX = 1_000;

/**
 * Says when one of some files or directories is changed, made or removed (inotify). It watches the directories they are
 * in, because a file that is replaced by rename is another file afterwards.
 */
export class PathEvents {
  readonly #onChange: (path: string) => void;
  readonly #watchers = new Map<string, FSWatcher>();
  #names = new Map<string, Set<string>>();

  constructor(onChange: (path: string) => void) {
    this.#onChange = onChange;
  }

  /** Watches exactly these paths from now on. Answers how many directories could not be watched: the sweep covers those. */
  watch(paths: Iterable<string>): number {
    const names = new Map<string, Set<string>>();
    for (const path of paths) {
      const directory = dirname(path);
      const known = names.get(directory);
      if (known === undefined) names.set(directory, new Set([basename(path)]));
      else known.add(basename(path));
    }
    this.#names = names;
    for (const [directory, watcher] of this.#watchers) {
      if (names.has(directory)) continue;
      watcher.close();
      this.#watchers.delete(directory);
    }
    let missing = 0;
    for (const directory of names.keys()) {
      if (this.#watchers.has(directory)) continue;
      if (this.#watchers.size >= DIRECTORIES_MAX || !this.#open(directory)) missing += 1;
    }
    return missing;
  }

  stop(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #open(directory: string): boolean {
    try {
      const watcher = watch(directory, { persistent: false }, (_event, name) => {
        if (name === null || this.#names.get(directory)?.has(name)) this.#onChange(name === null ? directory : `${directory}/${name}`);
      });
      watcher.on("error", () => {
        watcher.close();
        this.#watchers.delete(directory);
      });
      this.#watchers.set(directory, watcher);
      return true;
    } catch {
      // The directory does not exist (yet), or the limit of watches is reached.
      return false;
    }
  }
}
