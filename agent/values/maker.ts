import type { Clock } from "../../shared/clock.ts";
import type { Kind, Output, Owned, Probe } from "../../shared/kinds/kind.ts";
import { valueLimits } from "../../shared/protocol/values.ts";
import type { MadeEvent, MakeOrder, NotMadeEvent } from "../../shared/protocol/values.ts";
import { sealContent } from "./envelope.ts";
import type { Content } from "./envelope.ts";

/** Who asks for the same thing again sooner has not got the first answer yet. */
const SAME_AGAIN_MS = 5_000;
/** A cluster of fifty nodes that are all born in one hour asks for less. */
const PER_HOUR_MAX = 120;
const HOUR_MS = 3_600_000;
/** Orders that wait for the one at hand; the hub asks again. */
const WAITING_MAX = 20;
const MESSAGE_CHARS_MAX = 3_000;

export interface MakerParts {
  readonly self: string;
  readonly kinds: readonly Kind[];
  readonly probe: Probe;
  readonly run: (argv: readonly [string, ...string[]], options: { readonly timeoutMs: number }) => Promise<Output>;
  /** What this node shall be by the commit that it follows; null when there is none. */
  readonly sections: () => ReadonlyMap<string, unknown> | null;
  /** The recipients of all nodes by the same commit. */
  readonly recipients: () => ReadonlyMap<string, string>;
  readonly ownedOf: (kind: string) => Owned;
  /** This node's age identity; null when it has none. */
  readonly identity: () => Promise<string | null>;
  readonly clock: Clock;
  readonly tell: (event: MadeEvent | NotMadeEvent) => Promise<void>;
  readonly log: (message: string) => void;
}

/**
 * Makes values for other nodes. The hub says who asks for what; whether they may have it is the repository's to say: the
 * asking node has to stand in it with a recipient, and the kind decides on the rest. One after the other.
 */
export class Maker {
  readonly #parts: MakerParts;
  readonly #lastMs = new Map<string, number>();
  readonly #recentMs: number[] = [];
  #waiting = 0;
  #queue: Promise<void> = Promise.resolve();

  constructor(parts: MakerParts) {
    this.#parts = parts;
  }

  /** Resolves when the answer is on its way. */
  make(order: MakeOrder): Promise<void> {
    const refusal = this.#refusal(order);
    if (refusal !== null) return this.#parts.tell({ kind: "not-made", id: order.id, why: refusal });
    this.#waiting += 1;
    const done = this.#queue.then(() => this.#make(order)).finally(() => (this.#waiting -= 1));
    this.#queue = done.catch((error: unknown) => this.#parts.log(`could not answer what ${order.node} asks for: ${String(error)}`));
    return this.#queue;
  }

  #refusal({ section, key, node }: MakeOrder): string | null {
    const nowMs = this.#parts.clock.monotonicMs();
    const what = `${section} ${key} ${node}`;
    if (nowMs - (this.#lastMs.get(what) ?? Number.NEGATIVE_INFINITY) < SAME_AGAIN_MS) return `${this.#parts.self} was asked for it less than ${SAME_AGAIN_MS / 1_000} s ago`;
    while (this.#recentMs[0] !== undefined && nowMs - this.#recentMs[0] > HOUR_MS) this.#recentMs.shift();
    if (this.#recentMs.length >= PER_HOUR_MAX || this.#waiting >= WAITING_MAX) return `${this.#parts.self} has made ${this.#recentMs.length} values in an hour, and ${this.#waiting} wait: no more now`;
    this.#recentMs.push(nowMs);
    this.#lastMs.set(what, nowMs);
    for (const [each, ms] of this.#lastMs) if (nowMs - ms > SAME_AGAIN_MS) this.#lastMs.delete(each);
    return null;
  }

  async #make(order: MakeOrder): Promise<void> {
    const { self, tell, log } = this.#parts;
    const notMade = (why: string): Promise<void> => tell({ kind: "not-made", id: order.id, why: why.slice(0, valueLimits.whyCharsMax) });
    const recipient = this.#parts.recipients().get(order.node);
    if (recipient === undefined) return notMade(`${order.node} has no recipient in the repository as ${self} holds it: "evenkeel secret trust ${order.node}" writes it there`);
    const identity = await this.#parts.identity();
    if (identity === null) return notMade(`${self} has no key of its own, by which ${order.node} could tell that the value is from it: enrol it again`);
    const content = await this.#contentFor(order);
    if (content === null) return notMade(`${self} cannot make it: it is no member itself, or ${order.node} is none by the repository`);
    const sealed = await sealContent({ ask: order.ask, section: order.section, key: order.key, node: order.node, maker: self }, content, { identity, recipient });
    if (sealed === null) return notMade(`the recipient of ${order.node} is no key: correct it in nodes/${order.node}.yaml`);
    log(content.ok ? `made ${order.section} ${order.key} for ${order.node}` : `could not make ${order.section} ${order.key} for ${order.node}: ${content.message}`);
    await tell({ kind: "made", id: order.id, ok: content.ok, sealed });
  }

  /** Null: not by this node. A failure is an answer as well, which only the asking node can read. */
  async #contentFor({ section, key, node }: MakeOrder): Promise<Content | null> {
    const { kinds, sections, probe, run, ownedOf, self } = this.#parts;
    const kind = kinds.find(({ name }) => name === section);
    const want = sections()?.get(section);
    if (kind?.make === undefined || want === undefined || node === self) return null;
    const failed = (message: string): Content => ({ ok: false, message: message.slice(-MESSAGE_CHARS_MAX) });
    let act;
    try {
      act = kind.make(want, await kind.observe(want, probe, ownedOf(section)), { node, key });
    } catch (error) {
      return failed(error instanceof Error ? error.message : String(error));
    }
    if (act === null) return null;
    const output = await run(act.argv, { timeoutMs: act.timeoutMs });
    const value = output.stdout.trim();
    if (output.code !== 0) return failed(`${act.doing} ended with code ${output.code}: ${`${output.stdout}\n${output.stderr}`.trim()}`);
    if (value === "") return failed(`${act.doing} gave nothing`);
    if (Buffer.byteLength(value) > valueLimits.valueBytesMax) return failed(`${act.doing} gave ${Buffer.byteLength(value)} bytes, and a value has at most ${valueLimits.valueBytesMax}`);
    return { ok: true, value };
  }
}
