import { constants } from "node:fs";
import { lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Output, Probe, Stat } from "../../shared/kinds/kind.ts";
import type { Run } from "./process.ts";

/** A managed file, or one of the system's that a kind reads, is small; what is larger is a mistake, not a file to load. */
export const READ_MAX_BYTES = 16 * 1024 * 1024;

/** How many parsed files are remembered: one for each place that kinds read, with room to spare. */
const PARSED_MAX = 64;

/** The machine as it is. `root` stands in front of every path, for looking into an image or a container from outside. */
export class HostProbe implements Probe {
  readonly #run: Run;
  readonly #root: string;
  readonly #parsed = new Map<string, { readonly stamp: string; readonly parse: unknown; readonly value: unknown }>();

  constructor(run: Run, root = "/") {
    this.#run = run;
    this.#root = root;
  }

  async stat(path: string): Promise<Stat | null> {
    const found = await absentAsNull(lstat(this.#at(path)));
    if (found === null) return null;
    const type = found.isFile() ? "file" : found.isDirectory() ? "directory" : found.isSymbolicLink() ? "link" : "other";
    return { type, mode: found.mode & 0o7777, uid: found.uid, gid: found.gid, sizeBytes: found.size, ...(type === "file" && { stamp: stampOf(found) }) };
  }

  async read(path: string, sizeMaxBytes: number = READ_MAX_BYTES): Promise<Uint8Array | null> {
    // O_NONBLOCK: opening a FIFO that nobody writes to must not hang the agent.
    const file = await absentAsNull(open(this.#at(path), constants.O_RDONLY | constants.O_NONBLOCK));
    if (file === null) return null;
    try {
      const found = await file.stat();
      if (!found.isFile()) return null;
      if (found.size > sizeMaxBytes) throw new Error(`${path} has ${found.size} bytes, more than the ${sizeMaxBytes} that are read at most`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  }

  async readText(path: string): Promise<string | null> {
    const bytes = await this.read(path);
    return bytes === null ? null : Buffer.from(bytes).toString("utf8");
  }

  async parsed<T>(path: string, parse: (text: string) => T): Promise<T | null> {
    const found = await absentAsNull(stat(this.#at(path), { bigint: true }));
    if (found === null) return null;
    const stamp = `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`;
    const known = this.#parsed.get(path);
    if (known !== undefined && known.stamp === stamp && known.parse === parse) return known.value as T;
    const text = await this.readText(path);
    if (text === null) return null;
    const value = parse(text);
    this.#parsed.delete(path);
    this.#parsed.set(path, { stamp, parse, value });
    for (const oldest of this.#parsed.keys()) {
      if (this.#parsed.size <= PARSED_MAX) break;
      this.#parsed.delete(oldest);
    }
    return value;
  }

  async readLink(path: string): Promise<string | null> {
    return readlink(this.#at(path)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EINVAL" || isAbsent(error)) return null;
      throw error;
    });
  }

  async list(path: string): Promise<readonly string[] | null> {
    const names = await absentAsNull(readdir(this.#at(path)));
    return names === null ? null : names.toSorted();
  }

  run(argv: readonly [string, ...string[]], options?: { readonly timeoutMs?: number; readonly input?: string }): Promise<Output> {
    return this.#run(argv, options);
  }

  #at(path: string): string {
    return this.#root === "/" ? path : join(this.#root, path);
  }
}

/** Changes when the file is written to or replaced, and not with its mode; ctime would. */
export function stampOf(stat: { readonly ino: number; readonly size: number; readonly mtimeMs: number }): string {
  return `${stat.ino}:${stat.size}:${stat.mtimeMs}`;
}

function isAbsent(error: NodeJS.ErrnoException): boolean {
  return error.code === "ENOENT" || error.code === "ENOTDIR";
}

function absentAsNull<T>(promise: Promise<T>): Promise<T | null> {
  return promise.catch((error: NodeJS.ErrnoException) => {
    if (isAbsent(error)) return null;
    throw error;
  });
}
