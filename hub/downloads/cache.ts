import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Logger } from "pino";

/**
 * What the repository tells nodes to download, once for all of them: the first that asks makes the hub fetch it. The hub
 * is nearer, and not believed: each node checks the sum itself, and goes to the address when the hub has nothing for it.
 */

/** The path on the hub, before the sum. */
export const downloadsPath = "/downloads/";

/** What was not asked for longest goes first. */
const SIZE_MAX_BYTES = 20_000_000_000;
const FREE_MIN_BYTES = 2_000_000_000;
const FETCH_TIMEOUT_MS = 60 * 60_000;
const FETCHES_MAX = 2;
/** A failed fetch is not tried again at every node's request. */
const FAILED_PAUSE_MS = 60_000;

export interface DownloadCacheParts {
  readonly directory: string;
  /** Sum → addresses, as the main branch has them now. Nothing else is ever fetched. */
  readonly wanted: () => Promise<ReadonlyMap<string, readonly string[]>>;
  readonly nowMs: () => number;
  readonly log: Logger;
  readonly sizeMaxBytes?: number;
  readonly freeMinBytes?: number;
}

interface Fetching {
  receivedBytes: number;
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

export class DownloadCache {
  readonly #parts: DownloadCacheParts;
  readonly #fetching = new Map<string, Fetching>();
  readonly #failedAtMs = new Map<string, number>();

  constructor(parts: DownloadCacheParts) {
    this.#parts = parts;
  }

  /**
   * Answers one node: 200 or 206 with the file, 202 with `{receivedBytes}` while it is being fetched (ask again), 404 when
   * the repository names no such sum, 503 when it cannot be had here: then the node goes to the address itself.
   */
  async serve(sha256: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    if (!/^[0-9a-f]{64}$/.test(sha256)) return answer(outgoing, 404, { message: "no such sum" });
    if (await this.#serveWhatIsThere(sha256, incoming, outgoing)) return;
    const urls = (await this.#parts.wanted()).get(sha256);
    if (urls === undefined) return answer(outgoing, 404, { message: "the repository names no such sum" });
    // Another node may have asked while the repository was read: from here to the start, nothing is waited for.
    if (this.#isThere(sha256)) {
      if (!(await this.#serveWhatIsThere(sha256, incoming, outgoing))) answer(outgoing, 503, { message: "the hub has just let go of it" });
      return;
    }
    if (this.#fetching.size >= FETCHES_MAX) return answer(outgoing, 503, { message: "the hub is busy with other downloads" });
    if (this.#parts.nowMs() - (this.#failedAtMs.get(sha256) ?? Number.NEGATIVE_INFINITY) < FAILED_PAUSE_MS) return answer(outgoing, 503, { message: "the hub could not fetch it a moment ago" });
    this.#start(sha256, urls);
    return answer(outgoing, 202, { receivedBytes: 0 });
  }

  #isThere(sha256: string): boolean {
    return this.#fetching.has(sha256) || existsSync(join(this.#parts.directory, sha256));
  }

  async #serveWhatIsThere(sha256: string, incoming: IncomingMessage, outgoing: ServerResponse): Promise<boolean> {
    const under = this.#fetching.get(sha256);
    if (under !== undefined) {
      answer(outgoing, 202, { receivedBytes: under.receivedBytes });
      return true;
    }
    const path = join(this.#parts.directory, sha256);
    const found = await stat(path).catch(() => null);
    if (found !== null) await this.#send(path, found.size, incoming, outgoing);
    return found !== null;
  }

  /** Ends what is under way, and waits for it. */
  async stop(): Promise<void> {
    const all = [...this.#fetching.values()];
    for (const { abort } of all) abort.abort();
    await Promise.all(all.map(({ ended }) => ended));
  }

  #start(sha256: string, urls: readonly string[]): void {
    const abort = new AbortController();
    const fetching: Fetching = {
      receivedBytes: 0,
      abort,
      ended: Promise.resolve().then(async () => {
        try {
          await this.#fetch(sha256, urls, fetching);
          this.#failedAtMs.delete(sha256);
        } catch (error) {
          this.#failedAtMs.set(sha256, this.#parts.nowMs());
          this.#parts.log.warn({ sha256, err: error }, "could not fetch a download for the nodes; they go to its address themselves");
        } finally {
          this.#fetching.delete(sha256);
        }
      }),
    };
    this.#fetching.set(sha256, fetching);
  }

  async #fetch(sha256: string, urls: readonly string[], fetching: Fetching): Promise<void> {
    const { directory } = this.#parts;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // What a crash has left is of no use to anybody.
    const part = join(directory, `.${sha256}.part`);
    const troubles: string[] = [];
    for (const url of urls) {
      try {
        await this.#pour(url, part, sha256, fetching);
        await rename(part, join(directory, sha256));
        await this.#keepWithinSize(sha256);
        return;
      } catch (error) {
        await rm(part, { force: true });
        if (fetching.abort.signal.aborted) throw error;
        troubles.push(`${url}: ${(error as Error).message}`);
      }
    }
    throw new Error(troubles.join("; "));
  }

  async #pour(url: string, part: string, sha256: string, fetching: Fetching): Promise<void> {
    const response = await fetch(url, { signal: AbortSignal.any([fetching.abort.signal, AbortSignal.timeout(FETCH_TIMEOUT_MS)]) });
    if (!response.ok || response.body === null) throw new Error(`it answers ${response.status}`);
    const room = await this.#room();
    if (Number(response.headers.get("content-length") ?? 0) > room) throw new Error(`there is no room for it on the hub (${room} bytes)`);
    const hash = createHash("sha256");
    const file = await open(part, "w", 0o600);
    try {
      fetching.receivedBytes = 0;
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        fetching.receivedBytes += chunk.length;
        if (fetching.receivedBytes > room) throw new Error(`there is no room for it on the hub (${room} bytes)`);
        hash.update(chunk);
        // `write` may take only a part, on a disk that is nearly full; this writes all of it, or throws.
        await file.writeFile(chunk);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    const found = hash.digest("hex");
    if (found !== sha256) throw new Error(`it has the sum ${found}`);
  }

  async #room(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#parts.directory);
    return Math.min(this.#sizeMax, bavail * bsize - (this.#parts.freeMinBytes ?? FREE_MIN_BYTES));
  }

  get #sizeMax(): number {
    return this.#parts.sizeMaxBytes ?? SIZE_MAX_BYTES;
  }

  /** Removes what was not asked for longest, and never what has just come. */
  async #keepWithinSize(newest: string): Promise<void> {
    const { directory } = this.#parts;
    const names = (await readdir(directory)).filter((name) => /^[0-9a-f]{64}$/.test(name));
    const files = await Promise.all(names.map(async (name) => ({ name, file: await stat(join(directory, name)) })));
    let sizeBytes = files.reduce((total, { file }) => total + file.size, 0);
    for (const { name, file } of files.toSorted((one, other) => one.file.mtimeMs - other.file.mtimeMs)) {
      if (sizeBytes <= this.#sizeMax) return;
      if (name === newest) continue;
      await rm(join(directory, name), { force: true });
      sizeBytes -= file.size;
    }
  }

  async #send(path: string, sizeBytes: number, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const now = this.#parts.nowMs() / 1_000;
    // Its time says when it was last asked for. Not worth failing over.
    await utimes(path, now, now).catch(() => {});
    const from = Number(/^bytes=(\d{1,15})-$/.exec(incoming.headers.range ?? "")?.[1] ?? 0);
    if (from > 0 && from >= sizeBytes) return void outgoing.writeHead(416, { "content-range": `bytes */${sizeBytes}` }).end();
    const range = from === 0 ? {} : { "content-range": `bytes ${from}-${sizeBytes - 1}/${sizeBytes}` };
    outgoing.writeHead(from === 0 ? 200 : 206, { "content-type": "application/octet-stream", "content-length": sizeBytes - from, ...range });
    // A node that goes away in the middle comes back for the rest.
    await pipeline(createReadStream(path, { start: from }), outgoing).catch(() => {});
  }
}

function answer(outgoing: ServerResponse, status: number, body: object): void {
  outgoing.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  outgoing.end(JSON.stringify(body));
}
