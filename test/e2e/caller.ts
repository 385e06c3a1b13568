import { get } from "node:http";

/** How long one who calls waits for an answer: a browser would wait longer. */
const PATIENCE_MS = 10_000;

export interface Missed {
  /** Milliseconds since the first call. */
  readonly atMs: number;
  readonly error: string;
}

/** Calls an address again and again, each time over a new connection, as users do, and remembers what was not answered. */
export class Caller {
  readonly #url: string;
  readonly #startedMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  readonly #underway = new Set<Promise<void>>();
  readonly missed: Missed[] = [];
  answered = 0;

  constructor(url: string, callsPerSecond: number) {
    this.#url = url;
    this.#timer = setInterval(() => {
      const call = this.#call().finally(() => this.#underway.delete(call));
      this.#underway.add(call);
    }, 1_000 / callsPerSecond);
  }

  /** Ends when the last call has its answer. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underway);
  }

  #call(): Promise<void> {
    const atMs = Math.round(performance.now() - this.#startedMs);
    return new Promise((resolve) => {
      const request = get(this.#url, { agent: false, signal: AbortSignal.timeout(PATIENCE_MS) }, (response) => {
        response.resume();
        response.once("end", () => {
          this.answered += 1;
          resolve();
        });
        response.once("error", miss);
      });
      const miss = (error: NodeJS.ErrnoException): void => {
        this.missed.push({ atMs, error: `${error.code ?? error.name} after ${Math.round(performance.now() - this.#startedMs) - atMs} ms` });
        resolve();
      };
      request.once("error", miss);
    });
  }
}
