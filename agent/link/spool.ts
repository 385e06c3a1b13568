import { randomUUID } from "node:crypto";
import { mkdir, readFile, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import type { MessageOf } from "../../shared/protocol/topics.ts";
import { writeDurably } from "../host/durable.ts";

export type AgentEvent = MessageOf<"event">["event"];
export type EventMessage = MessageOf<"event">;

/** A week of one report every ten minutes. */
export const SPOOL_EVENTS_MAX = 1_000;
/** A small part of the smallest disk that a node may have. */
export const SPOOL_SIZE_MAX_BYTES = 32 * 1024 * 1024;

const Header = z.object({ stream: z.uuid(), next: z.number().int().positive() });

/**
 * Events that the hub has not acknowledged yet, one file each, in order. They are on disk before anything is sent, and
 * leave it when the hub says that they are in its database: so each arrives once, whichever side crashes when.
 *
 * Full, it drops the oldest, and says so: the second oldest is replaced by a note of how many were dropped.
 */
export class Spool {
  readonly #directory: string;
  readonly stream: string;
  #next: number;
  /** Sequence number → size, in order. */
  readonly #waiting: Map<number, number>;
  #sizeBytes: number;
  readonly #log: (message: string) => void;
  /** `next` as it is on disk, or null when there is no header of this stream. */
  #written: number | null;
  #adding: Promise<void> = Promise.resolve();

  private constructor(directory: string, header: z.output<typeof Header>, waiting: Map<number, number>, written: number | null, log: (message: string) => void) {
    this.#directory = directory;
    this.stream = header.stream;
    this.#next = header.next;
    this.#written = written;
    this.#log = log;
    this.#waiting = waiting;
    this.#sizeBytes = [...waiting.values()].reduce((sum, size) => sum + size, 0);
  }

  /** A disk that takes nothing (full, read-only) does not keep the agent from starting: what belongs on it waits for the next event. */
  static async open(directory: string, log: (message: string) => void = (message) => console.error(message)): Promise<Spool> {
    const header = Header.safeParse(await readJson(join(directory, "stream.json")));
    const waiting = new Map<number, number>();
    const names = (await readdir(directory).catch(absentAsNone)).filter((name) => /^\d{12}\.json$/.test(name)).toSorted();
    for (const name of names) waiting.set(Number(name.slice(0, 12)), (await stat(join(directory, name))).size);
    const last = [...waiting.keys()].at(-1) ?? 0;
    // Without its header, what is left belongs to a stream that nobody can name any more: a new one starts behind it.
    const spool = header.success
      ? new Spool(directory, { stream: header.data.stream, next: Math.max(header.data.next, last + 1) }, waiting, header.data.next, log)
      : new Spool(directory, { stream: randomUUID(), next: last + 1 }, waiting, null, log);
    try {
      await spool.#writeHeader();
    } catch (error) {
      if (!isSystemError(error)) throw error;
      log(`cannot write to ${directory} (${error.message}); reports to the hub wait until that is possible, and it is tried again with the next`);
    }
    return spool;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Resolves when the event would survive a power cut. Events of several callers are taken one after the other, in order. */
  add(event: AgentEvent): Promise<void> {
    const added = this.#adding.then(() => this.#add(event));
    this.#adding = added.catch(() => {});
    return added;
  }

  async #add(event: AgentEvent): Promise<void> {
    const seq = this.#next;
    // An event whose stream is not on disk could not be told from another's after a crash.
    if (this.#written === null) {
      await this.#writeHeader();
      this.#log(`can write to ${this.#directory} again`);
    }
    await this.#write(seq, event);
    this.#next = seq + 1;
    // The header must never be behind the files by more than they can tell; an empty spool has only the header.
    await this.#writeHeader();
    await this.#shrink();
  }

  /** The oldest events after `seq`, at most `count`, ready to be sent. */
  async after(seq: number, count: number): Promise<readonly EventMessage[]> {
    const messages: EventMessage[] = [];
    for (const waiting of this.#waiting.keys()) {
      if (waiting <= seq) continue;
      if (messages.length >= count) break;
      const event = await readJson(this.#path(waiting));
      // A file that cannot be read will not become readable: it is let go.
      if (event === null) await this.#remove(waiting);
      else messages.push({ v: 1, stream: this.stream, seq: waiting, event: event as AgentEvent });
    }
    return messages;
  }

  async acknowledge(stream: string, seq: number): Promise<void> {
    if (stream !== this.stream) return;
    for (const waiting of this.#waiting.keys()) if (waiting <= seq) await this.#remove(waiting);
  }

  async #shrink(): Promise<void> {
    while (this.#waiting.size > SPOOL_EVENTS_MAX || this.#sizeBytes > SPOOL_SIZE_MAX_BYTES) {
      const [oldest, second] = this.#waiting.keys();
      if (oldest === undefined || second === undefined) return;
      const count = (await this.#dropped(oldest)) + (await this.#dropped(second));
      await this.#remove(oldest);
      await this.#write(second, { kind: "dropped", count });
    }
  }

  async #dropped(seq: number): Promise<number> {
    const event = (await readJson(this.#path(seq))) as AgentEvent | null;
    return event?.kind === "dropped" ? event.count : 1;
  }

  async #write(seq: number, event: AgentEvent): Promise<void> {
    const text = JSON.stringify(event);
    await writeDurably(this.#path(seq), text, { mode: 0o600 });
    this.#sizeBytes += Buffer.byteLength(text) - (this.#waiting.get(seq) ?? 0);
    this.#waiting.set(seq, Buffer.byteLength(text));
  }

  async #remove(seq: number): Promise<void> {
    await rm(this.#path(seq), { force: true });
    this.#sizeBytes -= this.#waiting.get(seq) ?? 0;
    this.#waiting.delete(seq);
  }

  async #writeHeader(): Promise<void> {
    if (this.#written === this.#next) return;
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurably(join(this.#directory, "stream.json"), JSON.stringify({ stream: this.stream, next: this.#next }), { mode: 0o600 });
    this.#written = this.#next;
  }

  #path(seq: number): string {
    return join(this.#directory, `${String(seq).padStart(12, "0")}.json`);
  }
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error && "syscall" in error;
}

function absentAsNone(error: NodeJS.ErrnoException): string[] {
  if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
  throw error;
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch {
    return null;
  }
}
