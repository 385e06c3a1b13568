import type { Clock } from "../../shared/clock.ts";
import { assertInvariants } from "./invariants.ts";
import type { Answer, Durable, Effect, Event, Now, Patience, State } from "./state.ts";
import { emptyVolatile } from "./state.ts";
import { step } from "./step.ts";

/**
 * The coordinator's edge: events one at a time; state and outbox in one transaction; and only then is anything done. What
 * was decided and not done when the hub was killed is done at its next start.
 */

/** Where the durable state is kept. Both must have reached the disk when the promise resolves. */
export interface CoordinatorStore<Extra> {
  load(): Promise<{ readonly durable: Durable; readonly extra: Extra; readonly outbox: readonly Outgoing[] }>;
  commit(change: { readonly before: Durable; readonly after: Durable; readonly extraBefore: Extra; readonly extraAfter: Extra; readonly outgoing: readonly Outgoing[]; readonly sent: readonly string[] }): Promise<void>;
}

export interface Outgoing {
  readonly id: string;
  readonly effect: Effect;
}

/** What decides on top of the coordinator (rollouts), in the same transaction: what it wishes for are events of the coordinator. */
export interface Companion<Extra> {
  advance(extra: Extra, around: { readonly state: State; readonly effects: readonly Effect[]; readonly now: Now }): { readonly extra: Extra; readonly events: readonly Happening[]; readonly effects: readonly Effect[] };
}

export type Happening = { [Kind in Event["kind"]]: Omit<Extract<Event, { kind: Kind }>, "now"> }[Event["kind"]];

/** A companion that wishes for more than this at once wishes in circles. */
const ROUNDS_MAX = 50;

export interface RunnerParts<Extra> {
  readonly store: CoordinatorStore<Extra>;
  readonly companion: Companion<Extra>;
  readonly clock: Clock;
  readonly patience: Patience;
  readonly newId: () => string;
  /** Does what was decided. It must be fine to do it twice. */
  readonly act: (effect: Effect) => void | Promise<void>;
  /** Something has changed that people may look at. */
  readonly changed: () => void;
  /** A violated invariant, or a database that cannot be written: nothing may be decided any more. */
  readonly onBug: (error: unknown) => void;
}

export class Runner<Extra> {
  readonly #parts: RunnerParts<Extra>;
  #state: State;
  #extra: Extra;
  #queue: Promise<unknown> = Promise.resolve();
  #sent: string[] = [];
  #dead = false;

  private constructor(parts: RunnerParts<Extra>, durable: Durable, extra: Extra) {
    this.#parts = parts;
    this.#state = { durable, volatile: emptyVolatile("", parts.clock.monotonicMs()) };
    this.#extra = extra;
  }

  static async open<Extra>(parts: RunnerParts<Extra>, run: string): Promise<Runner<Extra>> {
    const { durable, extra, outbox } = await parts.store.load();
    const runner = new Runner(parts, durable, extra);
    for (const { id, effect } of outbox) {
      // Orders are made anew from the state, with what the node says now; the old ones would be void.
      if (effect.do !== "send") await parts.act(effect);
      runner.#sent.push(id);
    }
    await runner.handle({ kind: "started", run });
    return runner;
  }

  get state(): State {
    return this.#state;
  }

  get extra(): Extra {
    return this.#extra;
  }

  now(): Now {
    return { wallMs: this.#parts.clock.nowMs(), monoMs: this.#parts.clock.monotonicMs() };
  }

  /** Takes one event in, after all earlier ones. Resolves when what came of it is stored and done. */
  handle(event: Happening): Promise<Answer> {
    return this.#enqueue(() => this.#take(event));
  }

  /** Changes what the companion keeps, by a person's word; answers why not, or null. */
  alter(change: (extra: Extra, now: Now) => { readonly extra: Extra; readonly events: readonly Happening[] } | { readonly refused: string }): Promise<string | null> {
    return this.#enqueue(async () => {
      const changed = change(this.#extra, this.now());
      if ("refused" in changed) return changed.refused;
      await this.#settle(changed.extra, changed.events, { ok: true });
      return null;
    });
  }

  /** Takes no event in any more. What was done is struck off, so that the next start does not do it again. */
  async stop(): Promise<void> {
    await this.#queue;
    if (!this.#dead && this.#sent.length > 0) {
      const { durable } = this.#state;
      await this.#parts.store.commit({ before: durable, after: durable, extraBefore: this.#extra, extraAfter: this.#extra, outgoing: [], sent: this.#sent });
    }
    this.#dead = true;
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(() => {
      if (this.#dead) throw new Error("the coordinator has stopped");
      return work();
    });
    this.#queue = result.catch((error: unknown) => {
      if (this.#dead) return;
      this.#dead = true;
      this.#parts.onBug(error);
    });
    return result;
  }

  async #take(event: Happening): Promise<Answer> {
    return this.#settle(this.#extra, [event], null);
  }

  async #settle(extraFirst: Extra, first: readonly Happening[], answered: Answer | null): Promise<Answer> {
    const { companion, store, patience, newId } = this.#parts;
    const before = this.#state;
    let state = before;
    let extra = extraFirst;
    let answer = answered;
    const effects: Effect[] = [];
    let events = first;
    for (let round = 0; ; round++) {
      if (round >= ROUNDS_MAX) throw new Error("the rollout asks in circles");
      const fresh: Effect[] = [];
      for (const happening of events) {
        const event = { ...happening, now: this.now() } as Event;
        const result = step(state, event, patience);
        assertInvariants(state, event, result, patience);
        state = result.state;
        fresh.push(...result.effects);
        answer ??= result.answer;
      }
      const advanced = companion.advance(extra, { state, effects: fresh, now: this.now() });
      extra = advanced.extra;
      effects.push(...fresh, ...advanced.effects);
      events = advanced.events;
      if (events.length === 0) break;
    }
    await this.#finish({ before, state, extra, effects, store, newId });
    return answer ?? { ok: true };
  }

  async #finish({ before, state, extra, effects, store, newId }: { before: State; state: State; extra: Extra; effects: readonly Effect[]; store: CoordinatorStore<Extra>; newId: () => string }): Promise<void> {
    const extraBefore = this.#extra;
    const isNew = state.durable !== before.durable || extra !== extraBefore;
    const outgoing = effects.map((effect) => ({ id: newId(), effect }));
    if (isNew) {
      const sent = this.#sent;
      await store.commit({ before: before.durable, after: state.durable, extraBefore, extraAfter: extra, outgoing, sent });
      this.#sent = [];
    }
    this.#state = state;
    this.#extra = extra;
    for (const { id, effect } of outgoing) {
      await this.#parts.act(effect);
      if (isNew) this.#sent.push(id);
    }
    if (isNew || showsDifferently(before, state)) this.#parts.changed();
  }
}

/** Pings and their answers come all the time; what people look at changes seldom. */
function showsDifferently(before: State, after: State): boolean {
  if (before.volatile.failingChecks !== after.volatile.failingChecks) return true;
  if (before.volatile.views === after.volatile.views) return false;
  for (const [node, view] of after.volatile.views) {
    const was = before.volatile.views.get(node);
    if (was === view) continue;
    if (was === undefined || was.online !== view.online || was.word.healthy !== view.word.healthy || was.word.cordonedBy !== view.word.cordonedBy || JSON.stringify(was.word.gates) !== JSON.stringify(view.word.gates) || was.word.lease?.phase !== view.word.lease?.phase) return true;
  }
  return false;
}
