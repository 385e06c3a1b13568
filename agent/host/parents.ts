import { constants } from "node:fs";
import { lstat, mkdir, open, readlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { posix } from "node:path";

/**
 * Where the agent, who is root, changes something below directories that belong to others. Between the look and the deed,
 * the owner of a directory can put a link in place of what was in it, and a path would lead anywhere. So the way to a path
 * is walked once, directory by directory, each opened in the one before and never through a link (openat(2), O_NOFOLLOW),
 * and everything is done in the directory that is open at the end, whatever the path means by then.
 *
 * Node has no openat; `/proc/self/fd/N/name` is the same: the kernel goes from the open directory (proc(5)).
 */

/** As many as the kernel follows itself (path_resolution(7)). */
const LINKS_MAX = 40;
const DIRECTORY_MODE = 0o755;

/** On the way to a path stands a link that not only root can have put there. */
export class LinkRefused extends Error {}

/**
 * Calls `use` with a name for `path` that stays in the directory where `path` was when it was looked up. Good only until
 * `use` has resolved. Links on the way are followed where only root can have made them, such as /bin → usr/bin.
 * @throws LinkRefused, or the system's error: ENOENT where a parent is missing and `makeParents` is not asked for.
 */
export async function inParent<T>(path: string, use: (at: string) => Promise<T>, options: { readonly makeParents?: boolean } = {}): Promise<T> {
  const way = new Way(path, await openDirectory("/"));
  try {
    const names = namesIn(posix.dirname(path));
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const target = await way.step(name, options.makeParents === true);
      if (target !== null) names.unshift(...namesIn(target));
    }
    return await use(way.at(posix.basename(path)));
  } finally {
    await way.close();
  }
}

/** `message` with the names that {@link inParent} gave as people know them. */
export function plainPaths(message: string, path: string): string {
  return message.replaceAll(/\/proc\/self\/fd\/\d+(?=\/)/g, posix.dirname(path) === "/" ? "" : posix.dirname(path));
}

class Way {
  readonly #path: string;
  #directory: FileHandle;
  /** Nobody but root can have put the directory where it is: true of all directories from the root down to it. */
  #firm = true;
  #links = 0;

  constructor(path: string, root: FileHandle) {
    this.#path = path;
    this.#directory = root;
  }

  at(name: string): string {
    return `/proc/self/fd/${this.#directory.fd}/${name}`;
  }

  /** Into a directory: null; or, where a link stands that may be followed, its target. */
  async step(name: string, make: boolean): Promise<string | null> {
    if (name === "..") {
      // Only out of a link's target, and what is above a directory that can be moved is anybody's choice.
      if (!this.#firm) throw this.#refused(name);
      await this.#enter(await openDirectory(this.at(name)));
      return null;
    }
    const next = await this.#open(name, make);
    if (next === null) return this.#follow(name);
    const [holder, found] = await Promise.all([this.#directory.stat(), next.stat()]);
    // In a sticky directory nobody can replace what is root's (chmod(1), restricted deletion).
    const sticky = (holder.mode & 0o1000) !== 0 && found.uid === 0;
    this.#firm = this.#firm && holder.uid === 0 && (!writableByOthers(holder.mode) || sticky);
    await this.#enter(next);
    return null;
  }

  async close(): Promise<void> {
    await this.#directory.close();
  }

  /** Null where something stands that is no directory. */
  async #open(name: string, make: boolean): Promise<FileHandle | null> {
    try {
      return await openDirectory(this.at(name));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOTDIR" || code === "ELOOP") return null;
      if (code !== "ENOENT" || !make) throw error;
    }
    await mkdir(this.at(name), { mode: DIRECTORY_MODE }).catch((error: NodeJS.ErrnoException) => {
      // Somebody else made it just now: what it is shows when it is opened.
      if (error.code !== "EEXIST") throw error;
    });
    return openDirectory(this.at(name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOTDIR" || error.code === "ELOOP") return null;
      throw error;
    });
  }

  async #follow(name: string): Promise<string> {
    const [link, holder] = await Promise.all([lstat(this.at(name)), this.#directory.stat()]);
    if (!link.isSymbolicLink()) throw Object.assign(new Error(`${name}, on the way to ${this.#path}, is not a directory`), { code: "ENOTDIR", syscall: "open" });
    if (!this.#firm || link.uid !== 0 || holder.uid !== 0 || writableByOthers(holder.mode)) {
      throw this.#refused(name);
    }
    this.#links += 1;
    if (this.#links > LINKS_MAX) throw Object.assign(new Error(`more than ${LINKS_MAX} links on the way to ${this.#path}`), { code: "ELOOP", syscall: "open" });
    const target = await readlink(this.at(name));
    if (target.startsWith("/")) await this.#enter(await openDirectory("/"));
    return target;
  }

  #refused(name: string): LinkRefused {
    return new LinkRefused(`on the way to ${this.#path}, "${name}" is a link, or part of one, in a directory that not only root can change. Whoever else can, could lead the agent anywhere, so it is not followed. Declare the path that it leads to, or give the directory that it is in to root.`);
  }

  async #enter(next: FileHandle): Promise<void> {
    const before = this.#directory;
    this.#directory = next;
    await before.close();
  }
}

function openDirectory(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
}

function writableByOthers(mode: number): boolean {
  return (mode & 0o022) !== 0;
}

/** `..` stays: in an open directory it is the directory's real parent. */
function namesIn(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}
