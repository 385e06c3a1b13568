import type { Clock } from "../../shared/clock.ts";
import type { ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Excerpt, Inventory } from "../engine/inventory.ts";
import type { Protection } from "../engine/run.ts";
import { touchedPath } from "../engine/touched.ts";
import { CannotKeep } from "../host/host.ts";
import type { Host } from "../host/host.ts";
import { backNow, notInTime } from "./back.ts";
import type { Fuse } from "./fuse.ts";
import { limitedHost } from "./limited-host.ts";
import type { Reach } from "./reach.ts";
import type { ConfirmRecord, ConfirmStore } from "./record.ts";
import { judge, looked, missing } from "./step.ts";
import type { Seen, Watch } from "./step.ts";

/**
 * The confirmed commit: before a node touches its network, it writes down how everything stood and lights a fuse. What is
 * not confirmed in time is put back, by this agent, by the next one, by a timer, or by the next boot.
 */

export interface ConfirmationParts {
  readonly store: ConfirmStore;
  /** The machine, with a store of its own for the contents that are kept. */
  readonly host: Host;
  readonly fuse: Fuse;
  readonly reach: Reach;
  readonly clock: Clock;
  readonly bootId: string;
  readonly newId: () => string;
  /** Only one process at a time decides what becomes of the record. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>;
  readonly log: (message: string) => void;
}

export interface Opening {
  readonly commit: string;
  readonly limitMs: number;
  /** The machine, as the run changes it. */
  readonly host: Host;
  /** Why the subsystems could not stand it as it is: what is no reason before must be none after. */
  readonly reasons: () => Promise<readonly string[]>;
}

export type Closed = { readonly kept: true } | { readonly kept: false; readonly record: ConfirmRecord };

const LOOK_TIMEOUT_MS = 3_000;
const LOOK_EVERY_MS = 500;

export class Confirmation {
  readonly #parts: ConfirmationParts;

  constructor(parts: ConfirmationParts) {
    this.#parts = parts;
  }

  /**
   * Before anything else is done: what a run that ended in the middle has left is put back, and the inventory says again
   * what it said before it. Answers the change that failed on this node last, if one did.
   */
  async settle(inventory: Inventory): Promise<ConfirmRecord | null> {
    const { store, alone, fuse, bootId } = this.#parts;
    let record = await store.load();
    if (record?.state === "armed") {
      const why = record.bootId === bootId ? "the agent ended before it was confirmed" : "the node went down before it was confirmed";
      record = await alone(() => this.#back(why));
    }
    if (record === null || record.settled) return record;
    await fuse.disarm(record.id);
    inventory.putBack(record.inventory);
    await inventory.save();
    const settled: ConfirmRecord = { ...record, settled: true };
    await store.save(settled);
    return settled;
  }

  /** What failed on this node may be tried again: another commit has come, or the owner has said so. */
  async forget(): Promise<void> {
    await this.#parts.store.remove();
    await this.#parts.host.forget(new Set());
  }

  /** Writes down that something is about to begin, and lights the fuse. */
  async open(inventory: Inventory, opening: Opening): Promise<Window | { readonly failed: string }> {
    const { store, fuse, reach, clock, bootId, newId, log } = this.#parts;
    const [seen, reasons] = await Promise.all([reach.look(LOOK_TIMEOUT_MS), opening.reasons()]);
    const record: ConfirmRecord = {
      v: 1, id: newId(), commit: opening.commit, bootId, armedAt: new Date(clock.nowMs()).toISOString(), limitMs: opening.limitMs, state: "armed",
      resources: [], paths: [], values: [], actsFirst: [], acts: [], triggers: [], inventory: { owned: [], earlier: [], pending: [] }, missing: [], filesBackIn: null, back: null, settled: false,
    };
    await store.save(record);
    await this.#parts.host.forget(new Set());
    const deadlineMs = clock.monotonicMs() + opening.limitMs;
    const armed = await fuse.arm(record.id, opening.limitMs);
    if (!armed.ok) {
      await store.remove();
      return { failed: `the network is not changed without something that could put it back: ${armed.message}` };
    }
    log(`the network is about to be changed for ${opening.commit.slice(0, 8)}: it is put back unless it is confirmed within ${opening.limitMs / 1_000} s`);
    return new Window({ parts: this.#parts, inventory, opening, record, before: { ...seen, reasons }, deadlineMs, back: (why) => this.#back(why) });
  }

  /** Under the lock. Whatever somebody else has put back meanwhile stays as he left it. */
  async #back(why: string): Promise<ConfirmRecord | null> {
    const { store, host, bootId, clock, log } = this.#parts;
    return backNow({ store, host, bootId, nowMs: () => clock.nowMs(), log }, why);
  }
}

interface WindowParts {
  readonly parts: ConfirmationParts;
  readonly inventory: Inventory;
  readonly opening: Opening;
  readonly record: ConfirmRecord;
  readonly before: Seen;
  readonly deadlineMs: number;
  readonly back: (why: string) => Promise<ConfirmRecord | null>;
}

/** From the lit fuse to the decision. */
export class Window implements Protection {
  readonly host: Host;
  readonly #w: WindowParts;
  #record: ConfirmRecord;

  constructor(parts: WindowParts) {
    this.#w = parts;
    this.#record = parts.record;
    this.host = limitedHost(parts.opening.host, () => this.#leftMs);
  }

  get units(): ReadonlySet<string> {
    return new Set(this.#record.triggers.map(({ unit }) => unit));
  }

  get #leftMs(): number {
    return this.#w.deadlineMs - this.#w.parts.clock.monotonicMs();
  }

  expired(): boolean {
    return this.#leftMs <= 0;
  }

  async cover(steps: readonly Step[]): Promise<ReadonlyMap<ResourceId, string>> {
    const refused = new Map<ResourceId, string>();
    for (const step of steps) {
      if (refused.has(step.resource)) continue;
      try {
        this.#record = await this.#covering(this.#record, step);
      } catch (error) {
        if (!(error instanceof CannotKeep)) throw error;
        refused.set(step.resource, `what stands there now could not be kept, so it is left as it is: ${error.message}`);
      }
    }
    await this.#w.parts.store.save(this.#record);
    return refused;
  }

  /** What was covered first counts: it is what stood there before this window. */
  async #covering(record: ConfirmRecord, step: Step): Promise<ConfirmRecord> {
    const { host } = this.#w.parts;
    const path = touchedPath(step);
    const isNewPath = path !== undefined && !record.paths.some((each) => each.path === path);
    const value = step.do === "set" && step.undo === undefined && !record.values.some((each) => each.path === step.path) ? await host.probe.readText(step.path).catch(() => null) : null;
    const undo = undoOf(step);
    const triggers = (step.then ?? []).filter(({ unit }) => !record.triggers.some((each) => each.unit === unit));
    const isNewResource = !record.resources.includes(step.resource);
    return {
      ...record,
      resources: isNewResource ? [...record.resources, step.resource] : record.resources,
      paths: isNewPath ? [...record.paths, { path, was: await host.keep(path) }] : record.paths,
      values: value === null || step.do !== "set" ? record.values : [...record.values, { path: step.path, value: value.trim() }],
      actsFirst: undo?.first === true ? [...record.actsFirst, undo.act] : record.actsFirst,
      acts: undo?.first === false ? [...record.acts, undo.act] : record.acts,
      triggers: [...record.triggers, ...triggers],
      inventory: joined(record.inventory, this.#w.inventory.excerpt({ resources: isNewResource ? [step.resource] : [], paths: isNewPath ? [path] : [], units: triggers.map(({ unit }) => unit) })),
    };
  }

  /**
   * Watches until it can be said whether the change may stay, and puts it back if not.
   * @param failure what went wrong while it was made: then nothing is waited for.
   */
  async close(failure: string | null): Promise<Closed> {
    const { parts, deadlineMs } = this.#w;
    const { clock, alone, fuse, log } = parts;
    const begun: Watch = { deadlineMs, appliedMs: clock.monotonicMs(), goodLooks: 0, missing: [] };
    const watch = failure === null ? await this.#watch(begun) : begun;
    const closed = await alone(() => this.#decide(watch, failure));
    await fuse.disarm(this.#record.id);
    if (closed.kept) log(`the change of the network for ${this.#record.commit.slice(0, 8)} is confirmed`);
    return closed;
  }

  async #watch(begun: Watch): Promise<Watch> {
    const { clock } = this.#w.parts;
    let watch = begun;
    while (judge(watch, clock.monotonicMs()) === "wait") {
      watch = looked(watch, await this.#look(watch.missing));
      await this.#note(watch.missing);
      if (judge(watch, clock.monotonicMs()) === "wait") await pause(clock, Math.min(LOOK_EVERY_MS, this.#leftMs));
    }
    return watch;
  }

  /** The fuse goes off at the same moment as the agent decides; whichever is first shall know why. */
  async #note(missing: readonly string[]): Promise<void> {
    const { store, alone } = this.#w.parts;
    if (missing.join("\n") === this.#record.missing.join("\n")) return;
    this.#record = { ...this.#record, missing: [...missing] };
    await alone(async () => {
      const found = await store.load();
      if (found?.id === this.#record.id && found.state === "armed") await store.save(this.#record);
    });
  }

  /** One look, cut off at the deadline. */
  async #look(before: readonly string[]): Promise<readonly string[]> {
    const { parts, opening, before: seenBefore } = this.#w;
    const look = async () => {
      const [seen, reasons] = await Promise.all([parts.reach.look(Math.max(1, Math.min(LOOK_TIMEOUT_MS, this.#leftMs))), opening.reasons()]);
      return missing(seenBefore, { ...seen, reasons });
    };
    const late = pause(parts.clock, this.#leftMs).then(() => (before.length === 0 ? ["there was no answer in time"] : before));
    return Promise.race([look(), late]);
  }

  /** Under the lock, so that nobody puts back what is being confirmed, or confirms what is being put back. */
  async #decide(watch: Watch, failure: string | null): Promise<Closed> {
    const { parts, inventory, back, opening } = this.#w;
    const { clock, store, host } = parts;
    const found = await store.load();
    if (found?.id === this.#record.id && found.state === "armed") {
      if (failure === null && judge(watch, clock.monotonicMs()) === "keep") {
        await store.remove();
        await host.forget(new Set());
        return { kept: true };
      }
      const why = failure ?? notInTime({ limitMs: opening.limitMs, missing: watch.missing });
      await back(why);
    }
    const record = (await store.load()) ?? this.#record;
    // What this window covered, whoever put it back: by now the inventory may say that all of it was made.
    inventory.putBack(this.#record.inventory);
    await inventory.save();
    if (record.state === "back") await store.save({ ...record, settled: true });
    return { kept: false, record };
  }

  /** Nothing was done under it: as if it had never been opened. */
  async cancel(): Promise<void> {
    const { parts, inventory } = this.#w;
    inventory.putBack(this.#record.inventory);
    await inventory.save();
    await parts.alone(() => parts.store.remove());
    await parts.host.forget(new Set());
    await parts.fuse.disarm(this.#record.id);
  }
}

function joined(one: Excerpt, other: Excerpt): Excerpt {
  return { owned: [...one.owned, ...other.owned], earlier: [...one.earlier, ...other.earlier], pending: [...one.pending, ...other.pending] };
}

const UNIT_TIMEOUT_MS = 60_000;
const OPPOSITE = { start: "stop", stop: "start", enable: "disable", disable: "enable", mask: "unmask", unmask: "mask" } as const;

/**
 * What the kind says, or the opposite of what is asked of systemd: down before the unit's file goes, up when it is back. Units
 * are read anew after their files are back.
 */
function undoOf(step: Step): { readonly act: ConfirmRecord["acts"][number]; readonly first: boolean } | null {
  if (step.undo !== undefined) return { act: { ...step.undo, argv: [...step.undo.argv] }, first: false };
  if (step.do !== "unit" || step.action === "daemon-reload") return null;
  const action = OPPOSITE[step.action];
  return { act: { doing: `${action} ${step.unit}`, argv: ["systemctl", "--no-ask-password", action, "--", step.unit], timeoutMs: UNIT_TIMEOUT_MS }, first: action === "stop" || action === "disable" };
}

function pause(clock: Clock, forMs: number): Promise<void> {
  return new Promise((resolve) => clock.after(Math.max(0, forMs), resolve));
}
