import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, readFile, rename, rm, statfs, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { downloadRecordPath, type DownloadRecord } from "../../shared/kinds/downloads.ts";
import type { Step } from "../../shared/kinds/kind.ts";
import { syncDirectory, writeDurably } from "../host/durable.ts";
import { done, failed, failedRun, type StepResult } from "../host/host.ts";
import { inParent } from "../host/parents.ts";
import { stampOf } from "../host/probe.ts";
import type { Run } from "../host/process.ts";
import { request, type Answer, type Source } from "./fetch.ts";

/**
 * Puts a file in place by address and sum. It grows beside its place, so that the last move is atomic; what has come stays
 * when the line breaks or the power fails, and the next try asks for the rest.
 */

export type DownloadStep = Extract<Step, { do: "download" }>;

/** Nothing for so long: the line is dead. */
const IDLE_MS = 30_000;
/** So much stays free on the disk: a full one takes more down than a program that is missing. */
const FREE_MIN_BYTES = 256 * 1024 * 1024;
const FREE_LOOK_EVERY_BYTES = 64 * 1024 * 1024;
const ASK_AGAIN_MS = 2_000;
const CHUNK_BYTES = 1024 * 1024;

export interface DownloaderParts {
  readonly run: Run;
  /** Where a copy may be nearer: the hub's cache. Asked anew each time, since the certificate is renewed. */
  readonly near: (sha256: string) => Promise<Source | null>;
  /** For tests: where records are, in place of /var/lib/evenkeel/downloads. */
  readonly recordPath?: (path: string) => string;
  readonly freeMinBytes?: number;
  readonly idleMs?: number;
  readonly askAgainMs?: number;
}

type Ids = { readonly uid: number; readonly gid: number };

export class Downloader {
  readonly #parts: DownloaderParts;

  constructor(parts: DownloaderParts) {
    this.#parts = parts;
  }

  async put(step: DownloadStep, ids: Ids): Promise<StepResult> {
    return inParent(step.path, (at) => this.#put(step, at, ids), { makeParents: true });
  }

  async #put(step: DownloadStep, at: string, ids: Ids): Promise<StepResult> {
    const standing = await lstat(at).catch(absent);
    if (standing !== null) {
      const same = step.member === undefined ? (await sumOf(at)) === step.sha256 : false;
      if (same) return this.#settle(step, at, ids);
      if (!step.replace) return failed(`${step.path} is there already, and is not what was to be fetched. The agent did not put it there and does not replace it: move it away, or take the entry out of downloads.`);
    }
    const stem = `.${basename(at).slice(0, 180)}.`;
    const part = join(dirname(at), `${stem}${step.sha256.slice(0, 12)}.evenkeel-part`);
    await clearOthers(dirname(at), stem, basename(part));
    const fetched = await this.#fetch(step, part);
    if (!fetched.ok) {
      if ((await lstat(part).catch(absent))?.size === 0) await rm(part, { force: true });
      return fetched;
    }
    const ready = step.member === undefined ? part : `${part}.member`;
    if (step.member !== undefined) {
      const unpacked = await this.#unpack(part, ready, step);
      if (!unpacked.ok) return unpacked;
    }
    await seal(ready, ids, step.mode);
    await rename(ready, at);
    await syncDirectory(dirname(at));
    await rm(part, { force: true });
    return this.#settle(step, at, ids);
  }

  /** From near first, then from the addresses in turn. A sum that is wrong spoils what has come, not the next address. */
  async #fetch(step: DownloadStep, part: string): Promise<StepResult> {
    const near = await this.#parts.near(step.sha256).catch(() => null);
    const troubles: string[] = [];
    const deadline = AbortSignal.timeout(step.timeoutMs);
    for (const source of [...(near === null ? [] : [near]), ...step.urls.map((url) => ({ url }))]) {
      const result = await this.#fetchFrom(source, step, part, deadline);
      if (result.ok) return done;
      // That the hub has it not is how it is at first.
      if (source !== near) troubles.push(result.message);
      if (result.final === true) break;
    }
    return failed(`${troubles.join("\n")}\nNothing was changed; it is tried again by itself.`);
  }

  async #fetchFrom(source: Source, step: DownloadStep, part: string, deadline: AbortSignal): Promise<StepResult & { readonly final?: boolean }> {
    const file = await open(part, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      const hash = createHash("sha256");
      let have = await feed(file, hash);
      if (have > 0 && hash.copy().digest("hex") === step.sha256) return done;
      const line = new AbortController();
      const answer = await this.#ask(source, have, AbortSignal.any([deadline, line.signal]));
      if (!answer.ok) {
        // What is there is more than the server has: it is of something else.
        if (answer.status === 416) await file.truncate(0);
        return failed(answer.message);
      }
      const room = await this.#room(part);
      const size = answer.sizeBytes;
      if (size !== null && size > step.sizeMaxBytes) return stop(answer, failed(`${source.url} has ${size} bytes, more than the ${step.sizeMaxBytes} of sizeMaxBytes: if that is right, write a larger one`));
      if (size !== null && size - answer.fromByte > room) return stop(answer, { ...failed(`${source.url} has ${size} bytes, and only ${Math.max(0, room)} are free for it where ${step.path} is (${Math.round(this.#freeMin / 1_048_576)} MiB are kept free). Make room, or put it on another disk.`), final: true });
      let sum = hash;
      if (answer.fromByte === 0) {
        await file.truncate(0);
        have = 0;
        sum = createHash("sha256");
      }
      const trouble = await this.#pour(answer.body, file, sum, { from: have, part, step, line });
      if (trouble !== null) return failed(`${source.url}: ${trouble}`);
      const found = sum.digest("hex");
      if (found === step.sha256) return done;
      await file.truncate(0);
      return failed(`${source.url} has the sum ${found}, and ${step.sha256} is wanted. Is the address that of the version whose sum is in the repository? What came was thrown away.`);
    } finally {
      await file.sync();
      await file.close();
    }
  }

  /** The hub may still be fetching it (202): as long as that goes on, waiting is less than fetching it twice. */
  async #ask(source: Source, fromByte: number, signal: AbortSignal): Promise<Answer> {
    let received = -1;
    let idleTurns = 0;
    for (;;) {
      const answer = await request(source, fromByte, signal);
      if (answer.ok || answer.status !== 202) return answer;
      idleTurns = (answer.receivedBytes ?? 0) > received ? 0 : idleTurns + 1;
      received = answer.receivedBytes ?? 0;
      const pauseMs = this.#parts.askAgainMs ?? ASK_AGAIN_MS;
      if (idleTurns * pauseMs > (this.#parts.idleMs ?? IDLE_MS) || signal.aborted) return answer;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  /** What comes, into the file; null when it has come to its end. */
  async #pour(body: AsyncIterable<Buffer> & { destroy(): void }, file: FileHandle, hash: Hash, at: { readonly from: number; readonly part: string; readonly step: DownloadStep; readonly line: AbortController }): Promise<string | null> {
    let position = at.from;
    let lookAgain = position + FREE_LOOK_EVERY_BYTES;
    const idleMs = this.#parts.idleMs ?? IDLE_MS;
    let idle = setTimeout(() => at.line.abort(), idleMs);
    try {
      for await (const chunk of body) {
        clearTimeout(idle);
        position += chunk.length;
        if (position > at.step.sizeMaxBytes) return `more than the ${at.step.sizeMaxBytes} bytes of sizeMaxBytes came: if that is right, write a larger one`;
        if (position > lookAgain) {
          lookAgain = position + FREE_LOOK_EVERY_BYTES;
          if ((await this.#room(at.part)) <= 0) return "the disk is nearly full; make room, and it goes on where it stopped";
        }
        await writeWhole(file, chunk, position - chunk.length);
        hash.update(chunk);
        idle = setTimeout(() => at.line.abort(), idleMs);
      }
      return null;
    } catch (error) {
      if (at.line.signal.aborted) return `nothing came for ${idleMs / 1_000} s; ${position} bytes are kept, and the next try goes on there`;
      if ((error as NodeJS.ErrnoException).code === "ENOSPC") return "the disk is full; make room, and it goes on where it stopped";
      return `the line broke after ${position} bytes, which are kept; the next try goes on there (${(error as Error).message})`;
    } finally {
      clearTimeout(idle);
      body.destroy();
    }
  }

  async #unpack(archive: string, to: string, step: DownloadStep): Promise<StepResult> {
    const directory = `${to}.d`;
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { mode: 0o700 });
    try {
      // Paths go through an open directory of this process: another one has to be told whose.
      const ours = (path: string): string => path.replace(/^\/proc\/self\//, `/proc/${process.pid}/`);
      const argv = ["tar", "--extract", "--no-same-owner", "--no-same-permissions", "--file", ours(archive), "--directory", ours(directory), "--", step.member ?? ""] as const;
      const output = await this.#parts.run(argv, { timeoutMs: step.timeoutMs });
      if (output.code !== 0) return failedRun(argv, output);
      const found = join(directory, step.member ?? "");
      const stat = await lstat(found).catch(absent);
      if (stat?.isFile() !== true) return failed(`${step.member} is not a file in the archive of ${step.path}`);
      await rename(found, to);
      return done;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  async #settle(step: DownloadStep, at: string, ids: Ids): Promise<StepResult> {
    const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      await file.chown(ids.uid, ids.gid);
      await file.chmod(step.mode);
    } finally {
      await file.close();
    }
    const record: DownloadRecord = { sha256: step.sha256, member: step.member ?? null, stamp: stampOf(await lstat(at)) };
    const path = (this.#parts.recordPath ?? downloadRecordPath)(step.path);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeDurably(path, JSON.stringify(record), { mode: 0o600 });
    return done;
  }

  get #freeMin(): number {
    return this.#parts.freeMinBytes ?? FREE_MIN_BYTES;
  }

  async #room(beside: string): Promise<number> {
    const { bavail, bsize } = await statfs(dirname(beside));
    return bavail * bsize - this.#freeMin;
  }
}

/** Halves of versions that nobody wants any more. */
async function clearOthers(directory: string, stem: string, wanted: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith(stem) && name.endsWith(".evenkeel-part") && name !== wanted) await rm(join(directory, name), { force: true });
  }
}

/** On a disk that is nearly full, write(2) takes a part and says how much; only the next one fails. */
async function writeWhole(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, written, chunk.length - written, position + written);
    written += bytesWritten;
  }
}

/** Feeds all that a file holds to a hash, and answers how much that is. */
async function feed(file: FileHandle, hash: Hash): Promise<number> {
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) return position;
    hash.update(chunk.subarray(0, bytesRead));
    position += bytesRead;
  }
}

async function sumOf(path: string): Promise<string | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(absent);
  if (file === null) return null;
  try {
    if (!(await file.stat()).isFile()) return null;
    const hash = createHash("sha256");
    await feed(file, hash);
    return hash.digest("hex");
  } finally {
    await file.close();
  }
}

async function seal(path: string, ids: Ids, mode: number): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    await file.chown(ids.uid, ids.gid);
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
}

function stop<T>(answer: { readonly body: { destroy(): void } }, result: T): T {
  answer.body.destroy();
  return result;
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === "ENOENT" || error.code === "ELOOP") return null;
  throw error;
}

/** The hub's cache of what the repository names, for an enrolled node. */
export function hubCache(hub: string | null, paths: { readonly ca: string; readonly cert: string; readonly key: string }): DownloaderParts["near"] {
  return async (sha256) => {
    if (hub === null) return null;
    const [ca, cert, key] = await Promise.all([readFile(paths.ca), readFile(paths.cert), readFile(paths.key)]);
    return { url: new URL(`/downloads/${sha256}`, hub).href, tls: { ca, cert, key } };
  };
}
