import type { Clock, Timer } from "../../shared/clock.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { OrderMessage } from "../../shared/protocol/messages.ts";
import { valueLimits } from "../../shared/protocol/values.ts";
import type { AskEvent, MadeEvent, NotMadeEvent } from "../../shared/protocol/values.ts";

/** Questions that wait for an answer, over all nodes, and of one. */
const OPEN_MAX = 1_000;
const OPEN_PER_NODE_MAX = 50;
/** A question is kept for so long after it was last put; whoever still needs it puts it again every minute. */
const KEPT_MS = 5 * 60_000;
/** What a maker may take: a minute for the program, and what it does first. */
const MAKE_TIMEOUT_MS = 90_000;
/** When all were asked and none could, between one round and the next, doubled each time. */
const ROUND_MIN_MS = 1_500;
const ROUND_MAX_MS = 60_000;

interface Open {
  readonly node: NodeName;
  readonly asked: AskEvent;
  untilMs: number;
  /** Who comes next of `from`. */
  next: number;
  rounds: number;
  /** What those said who could not, in this round. */
  why: string[];
  attempt: { readonly id: string; readonly maker: NodeName } | null;
  timer: Timer | null;
}

/**
 * Passes on what nodes ask of each other: to one maker after the other, until one has made it, and the sealed answer back. All
 * of it in memory: what is lost is asked for again. It can read nothing, and is believed by nobody: see shared/protocol/values.ts.
 */
export class Values {
  readonly #clock: Clock;
  readonly #newId: () => string;
  readonly #isOnline: (node: NodeName) => boolean;
  readonly #send: (node: NodeName, order: OrderMessage) => void;
  readonly #warn: (about: object, message: string) => void;
  /** By asking node, section and key. */
  readonly #open = new Map<string, Open>();

  constructor(parts: { clock: Clock; newId: () => string; isOnline: (node: NodeName) => boolean; send: (node: NodeName, order: OrderMessage) => void; warn: (about: object, message: string) => void }) {
    this.#clock = parts.clock;
    this.#newId = parts.newId;
    this.#isOnline = parts.isOnline;
    this.#send = parts.send;
    this.#warn = parts.warn;
  }

  /** How many questions wait for an answer. */
  get size(): number {
    return this.#open.size;
  }

  ask(node: NodeName, asked: AskEvent): void {
    const nowMs = this.#clock.monotonicMs();
    const id = `${node} ${asked.section} ${asked.key}`;
    for (const [each, open] of this.#open) if (open.untilMs <= nowMs) this.#close(each, open);
    const before = this.#open.get(id);
    if (before?.asked.ask === asked.ask) {
      before.untilMs = nowMs + KEPT_MS;
      return;
    }
    if (before !== undefined) this.#close(id, before);
    if (this.#open.size >= OPEN_MAX || [...this.#open.values()].filter((open) => open.node === node).length >= OPEN_PER_NODE_MAX) {
      this.#warn({ node, section: asked.section, key: asked.key }, "a node asks others for more values than are kept: dropped, and it will ask again");
      return;
    }
    const open: Open = { node, asked, untilMs: nowMs + KEPT_MS, next: 0, rounds: 0, why: [], attempt: null, timer: null };
    this.#open.set(id, open);
    this.#go(id, open);
  }

  made(maker: NodeName, { id, ok, sealed }: MadeEvent): void {
    const found = this.#attempt(maker, id);
    if (found === null) return;
    const [key, open] = found;
    this.#send(open.node, { v: 1, kind: "value", ask: open.asked.ask, maker, sealed });
    if (ok) this.#close(key, open);
    else this.#failed(key, open, `${maker} tried and could not: it has told ${open.node} why`);
  }

  notMade(maker: NodeName, { id, why }: NotMadeEvent): void {
    const found = this.#attempt(maker, id);
    if (found !== null) this.#failed(found[0], found[1], why);
  }

  /** The node went away: what it was asked to make, another may. */
  gone(node: NodeName): void {
    for (const [id, open] of this.#open) if (open.attempt?.maker === node) this.#failed(id, open, `${node} lost its connection to the hub`);
  }

  stop(): void {
    for (const [id, open] of this.#open) this.#close(id, open);
  }

  /** An answer counts only from whom the hub is asking now. */
  #attempt(maker: NodeName, id: string): readonly [string, Open] | null {
    return [...this.#open].find(([, { attempt }]) => attempt?.id === id && attempt.maker === maker) ?? null;
  }

  #go(id: string, open: Open): void {
    open.timer?.cancel();
    if (open.untilMs <= this.#clock.monotonicMs()) return this.#close(id, open);
    const { from, ask, section, key } = open.asked;
    for (; open.next < from.length; open.next += 1) {
      const maker = from[open.next]!;
      if (maker === open.node) continue;
      if (!this.#isOnline(maker)) {
        open.why.push(`${maker} is not connected to the hub`);
        continue;
      }
      open.next += 1;
      open.attempt = { id: this.#newId(), maker };
      open.timer = this.#clock.after(MAKE_TIMEOUT_MS, () => this.#failed(id, open, `${maker} did not answer within ${MAKE_TIMEOUT_MS / 1_000} s`));
      this.#send(maker, { v: 1, kind: "make", id: open.attempt.id, ask, section, key, node: open.node });
      return;
    }
    this.#roundOver(id, open);
  }

  #failed(id: string, open: Open, why: string): void {
    open.attempt = null;
    open.why.push(why);
    this.#go(id, open);
  }

  #roundOver(id: string, open: Open): void {
    const waitMs = Math.min(ROUND_MAX_MS, ROUND_MIN_MS * 2 ** open.rounds);
    // Told when the first seconds are over, in which the others may be on their way to what is asked of them.
    if (open.rounds >= 3) this.#send(open.node, { v: 1, kind: "no-value", ask: open.asked.ask, why: open.why.join("; ").slice(0, valueLimits.whyCharsMax) || "nobody was named who could" });
    [open.next, open.rounds, open.why] = [0, Math.min(open.rounds + 1, 10), []];
    open.timer = this.#clock.after(waitMs, () => this.#go(id, open));
  }

  #close(id: string, open: Open): void {
    open.timer?.cancel();
    open.timer = null;
    open.attempt = null;
    if (this.#open.get(id) === open) this.#open.delete(id);
  }
}
