import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { isoTime } from "../../shared/clock.ts";
import { PendingUpdate } from "../../shared/protocol/updates.ts";
import { makeDirectory, writeDurably } from "../host/durable.ts";
import type { Offer } from "./offers.ts";

/** What the last good look found, and since when each version is on offer: on disk, or a restart would renew every deferral. */

/** A release upgrade offers some thousand; what is beyond is seen for the first time again at each look. */
const SEEN_MAX = 5_000;

const Seen = z.object({ v: z.literal(1), pending: z.array(PendingUpdate).max(SEEN_MAX), held: z.array(z.string()).max(SEEN_MAX) });
type Seen = z.output<typeof Seen>;

export class SeenUpdates {
  readonly #path: string;
  #last: Seen | undefined;
  /** One write after the other: they share a temporary file. */
  #writing: Promise<unknown> = Promise.resolve();

  constructor(stateDir: string) {
    this.#path = join(stateDir, "updates-seen.json");
  }

  /** A file that is missing or spoilt is an empty memory: every update is new then, and waits its days once more. */
  async last(): Promise<Seen> {
    this.#last ??= await readFile(this.#path, "utf8").then((text) => Seen.parse(JSON.parse(text))).catch((): Seen => ({ v: 1, pending: [], held: [] }));
    return this.#last;
  }

  /** Remembers what is on offer now and forgets what no longer is. A time in the future comes from a clock that was wrong. */
  remember(offers: readonly Offer[], held: readonly string[], nowMs: number): Promise<readonly PendingUpdate[]> {
    const remembered = this.#writing.then(() => this.#remember(offers, held, nowMs));
    this.#writing = remembered.catch(() => {});
    return remembered;
  }

  async #remember(offers: readonly Offer[], held: readonly string[], nowMs: number): Promise<readonly PendingUpdate[]> {
    const before = await this.last();
    const since = new Map(before.pending.map(({ name, to, firstSeenAt }) => [`${name} ${to}`, firstSeenAt]));
    const pending = offers.slice(0, SEEN_MAX).flatMap(({ name, from, to, security }): PendingUpdate[] => {
      if (from === null) return [];
      const known = since.get(`${name} ${to}`);
      const firstSeenAt = known !== undefined && Date.parse(known) <= nowMs ? known : isoTime(nowMs);
      return [{ name, from, to, security, firstSeenAt }];
    });
    const now: Seen = { v: 1, pending, held: held.slice(0, SEEN_MAX) };
    if (JSON.stringify(now) !== JSON.stringify(before)) {
      // On a full disk what is pending must still be told; only its times may be younger after a restart.
      await makeDirectory(dirname(this.#path), 0o700)
        .then(() => writeDurably(this.#path, `${JSON.stringify(now)}\n`, { mode: 0o600 }))
        .catch(() => {});
    }
    this.#last = now;
    return pending;
  }
}
