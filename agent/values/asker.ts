import type { Clock, Timer } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import type { Given } from "../../shared/kinds/kind.ts";
import { ValueKey, ValueSection, valueLimits } from "../../shared/protocol/values.ts";
import type { AskEvent, NoValueOrder, ValueOrder } from "../../shared/protocol/values.ts";
import { openContent } from "./envelope.ts";

/** A question without an answer is put again after this long: a hub that was started anew knows nothing of it. */
const REPEAT_MS = 60_000;
/** A question put for so long is a new one: an answer to the old one is not waited for any more. */
const SAME_QUESTION_MS = 10 * 60_000;
/** After a value that was of no use, or a failure to make it. */
const AFTER_FAILURE_MS = 5_000;
/** Open questions of one node, over all kinds. */
const OPEN_MAX = 50;

/** What a run needs and nobody has made yet: the `ask` steps of its plan. */
export interface Need {
  /** The name of the kind. */
  readonly kind: string;
  readonly key: string;
  readonly from: readonly string[];
  readonly what: string;
  readonly lastsMs: number;
}

interface Open {
  readonly need: Need;
  ask: string;
  /** When the question as it stands was first put. */
  sinceMs: number;
  timer: Timer;
  /** Nobody was asked yet, because no answer could have been sealed to this node. */
  untold: boolean;
}

export interface AskerParts {
  readonly self: string;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly identity: () => Promise<string | null>;
  /** The recipients of all nodes, by the commit that this node follows. */
  readonly recipients: () => ReadonlyMap<string, string>;
  readonly tell: (event: AskEvent) => Promise<void>;
  /** Something has come that a run may go on with. */
  readonly arrived: () => void;
  readonly log: (message: string) => void;
}

/** The values that one run goes by: what comes meanwhile is for the next. */
export interface Handed {
  to(kind: string): Given;
  /** The run is over, and still needs these. */
  over(needs: readonly Need[]): void;
}

/**
 * Asks other nodes for values, and keeps what they made, in memory only, until a run has used it or it has expired. A value is
 * accepted from a node that was asked, for the question that was put, once.
 */
export class Asker {
  readonly #parts: AskerParts;
  /** By kind and key. */
  readonly #open = new Map<string, Open>();
  readonly #values = new Map<string, { readonly kind: string; readonly key: string; readonly value: string; readonly untilMs: number }>();
  readonly #notBeforeMs = new Map<string, number>();
  #saidNoKey = false;

  constructor(parts: AskerParts) {
    this.#parts = parts;
  }

  hand(): Handed {
    const nowMs = this.#parts.clock.monotonicMs();
    for (const [id, { untilMs }] of this.#values) if (untilMs <= nowMs) this.#values.delete(id);
    const handed = [...this.#values];
    return {
      to: (kind) => new Map(handed.flatMap(([, each]) => (each.kind === kind ? [[each.key, each.value]] : []))),
      over: (needs) => this.#over(handed.map(([id, { kind }]) => ({ id, kind })), needs),
    };
  }

  stop(): void {
    for (const { timer } of this.#open.values()) timer.cancel();
    this.#open.clear();
  }

  /** An answer has come. Resolves when it is known whether it is one. */
  async take({ ask, maker, sealed }: ValueOrder): Promise<void> {
    const { self, log, clock } = this.#parts;
    const found = [...this.#open].find(([, open]) => open.ask === ask);
    // Answered before, given up, or of an earlier life of this agent.
    if (found === undefined) return;
    const [id, open] = found;
    const { kind, key, what, from } = open.need;
    const refuse = (why: string): void => log(`what came as ${what} is not used: ${why}`);
    if (!from.includes(maker)) return refuse(`${maker} was not asked for it`);
    const recipient = this.#parts.recipients().get(maker);
    if (recipient === undefined) return refuse(`${maker} has no recipient in the repository, so nothing tells that it is from there`);
    const identity = await this.#parts.identity();
    if (identity === null) return refuse("this node has no key to open it with");
    const opened = await openContent({ ask, section: kind, key, node: self, maker }, sealed, { identity, recipient });
    if (!opened.ok) return refuse(opened.why);
    if (this.#open.get(id) !== open || open.ask !== ask) return;
    if (!opened.content.ok) {
      // The hub goes on to the next; the question stays.
      log(`${maker} could not make ${what}: ${opened.content.message}`);
      return;
    }
    open.timer.cancel();
    this.#open.delete(id);
    this.#values.set(id, { kind, key, value: opened.content.value, untilMs: clock.monotonicMs() + Math.min(open.need.lastsMs, valueLimits.lastsMsMax) });
    log(`${what} has come from ${maker}`);
    this.#parts.arrived();
  }

  refused({ ask, why }: NoValueOrder): void {
    const open = [...this.#open.values()].find((each) => each.ask === ask);
    if (open !== undefined) this.#parts.log(`nobody has made ${open.need.what} yet, and it is tried again: ${why}`);
  }

  #over(handed: readonly { readonly id: string; readonly kind: string }[], needs: readonly Need[]): void {
    const nowMs = this.#parts.clock.monotonicMs();
    // A kind that asks for nothing more had all that it needs, and has used it: with success or without, it is worth nothing now.
    const asking = new Set(needs.map(({ kind }) => kind));
    for (const { id, kind } of handed) {
      if (asking.has(kind)) continue;
      this.#values.delete(id);
      this.#notBeforeMs.set(id, nowMs + AFTER_FAILURE_MS);
    }
    const wanted = new Map(needs.filter((need) => this.#isValid(need)).slice(0, OPEN_MAX).map((need) => [idOf(need), need]));
    for (const [id, open] of this.#open) {
      if (wanted.has(id)) continue;
      open.timer.cancel();
      this.#open.delete(id);
    }
    for (const [id, ms] of this.#notBeforeMs) if (ms <= nowMs) this.#notBeforeMs.delete(id);
    for (const [id, need] of wanted) if (!this.#values.has(id)) this.#ask(id, need, nowMs);
  }

  #ask(id: string, need: Need, nowMs: number): void {
    const open = this.#open.get(id);
    // It is under way; who could answer may have changed, or a commit has brought what was missing.
    if (open !== undefined && !open.untold && JSON.stringify(open.need.from) === JSON.stringify(need.from)) return;
    open?.timer.cancel();
    const waitMs = Math.max(0, (this.#notBeforeMs.get(id) ?? 0) - nowMs);
    const next: Open = { need, ask: this.#parts.newId(), sinceMs: nowMs, untold: false, timer: this.#parts.clock.after(waitMs === 0 ? REPEAT_MS : waitMs, () => this.#put(id)) };
    this.#open.set(id, next);
    if (waitMs === 0) void this.#tell(next);
  }

  #put(id: string): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    const nowMs = this.#parts.clock.monotonicMs();
    if (nowMs - open.sinceMs > SAME_QUESTION_MS) [open.ask, open.sinceMs] = [this.#parts.newId(), nowMs];
    open.timer = this.#parts.clock.after(REPEAT_MS, () => this.#put(id));
    void this.#tell(open);
  }

  async #tell(open: Open): Promise<void> {
    const { ask, need } = open;
    const { self, log } = this.#parts;
    const missing = !this.#parts.recipients().has(self) ? `${self} has no recipient in the repository; "evenkeel secret trust ${self}" writes it there` : (await this.#parts.identity()) === null ? "this node's key cannot be read" : null;
    open.untold = missing !== null;
    if (missing !== null) {
      if (!this.#saidNoKey) log(`${need.what} is needed from another node, and cannot be sealed to this one: ${missing}`);
      this.#saidNoKey = true;
      return;
    }
    this.#saidNoKey = false;
    await this.#parts.tell({ kind: "ask", ask, section: need.kind, key: need.key, from: need.from.map((name) => NodeName.parse(name)), what: need.what.slice(0, 200) }).catch((error: unknown) => log(`could not ask for ${need.what}: ${String(error)}`));
  }

  #isValid({ kind, key, from, what }: Need): boolean {
    const valid = ValueSection.safeParse(kind).success && ValueKey.safeParse(key).success && from.length > 0 && from.length <= valueLimits.fromMax && from.every((name) => NodeName.safeParse(name).success);
    if (!valid) this.#parts.log(`${what} cannot be asked for: nobody is named who could make it, or its key ${JSON.stringify(key.slice(0, 100))} is none`);
    return valid;
  }
}

function idOf({ kind, key }: Need): string {
  return `${kind} ${key}`;
}
