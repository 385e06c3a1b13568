import { join } from "node:path";
import { readFile } from "node:fs/promises";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { BootId } from "../../shared/ids.ts";
import type { DrainPolicy, LeaseMessage, LeaseOrder } from "../../shared/protocol/lease.ts";
import type { RebootNeed, UpdateOrder, UpdateResult } from "../../shared/protocol/updates.ts";
import { writeDurably } from "../host/durable.ts";
import type { Changed } from "./change.ts";
import type { Health, Memory, NodeEffect, NodeEvent } from "./step.ts";
import { nodeStep } from "./step.ts";
import type { NodeRecord } from "./standing.ts";
import { emptyStanding, Standing } from "./standing.ts";

/**
 * The edge of the node's half of a lease: one event at a time, the new standing on disk with fsync, and only then what
 * follows from it.
 */

export interface Drainer {
  drain(lease: string, policy: DrainPolicy, progress: (text: string) => void, signal: AbortSignal): Promise<{ readonly failed: string | null }>;
  restore(progress: (text: string) => void, signal: AbortSignal): Promise<{ readonly failed: string | null }>;
}

export interface Updater {
  apply(order: UpdateOrder, progress: (text: string) => void): Promise<UpdateResult>;
  recover(): Promise<UpdateResult | null>;
  rebootNeed(): Promise<RebootNeed>;
}

/** Applies what the node holds back of its commit. */
export interface Changer {
  apply(lease: string, progress: (text: string) => void, signal: AbortSignal): Promise<Changed>;
}

export interface LeasesParts {
  readonly stateDir: string;
  readonly bootId: BootId;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly drainer: Drainer;
  readonly updater: Updater;
  readonly changer: Changer;
  /** How the node is, asked often while a lease is in hand and seldom otherwise. */
  readonly look: () => Promise<Health>;
  readonly say: (word: LeaseMessage) => void;
  /** Asks systemd for a reboot. Resolves when it has been asked, not when it has happened. */
  readonly reboot: () => Promise<void>;
  /** Nothing else may change the machine while it is drained; resolves when nothing does. */
  readonly pause: (why: string | null) => Promise<void>;
  /** The lease is over: what it changed may be told. */
  readonly over: () => void;
  readonly log: (text: string) => void;
}

type Happening = { [Kind in NodeEvent["kind"]]: Omit<Extract<NodeEvent, { kind: Kind }>, "now" | "fresh"> }[NodeEvent["kind"]];

const LOOK_EVERY_MS = 60_000;
/** While it is not well, or keeps others from going: they wait for it. */
const LOOK_UNWELL_MS = 10_000;
const LOOK_OFTEN_MS = 2_000;
const REMIND_EVERY_MS = 60_000;
const WRITE_AGAIN_MS = 5_000;
/** A machine that was told to reboot and still runs after so long is told again. */
const REBOOT_AGAIN_MS = 180_000;

export class Leases {
  readonly #parts: LeasesParts;
  #standing: Standing;
  #memory: Memory;
  #queue: Promise<unknown> = Promise.resolve();
  #activity: { readonly abort: AbortController; readonly done: Promise<void> } | null = null;
  #looking: Timer | null = null;
  #reminding: Timer | null = null;
  #rebooting: Timer | null = null;
  #started = false;
  #stopped = false;

  private constructor(parts: LeasesParts, standing: Standing) {
    const now = { wallMs: parts.clock.nowMs(), monoMs: parts.clock.monotonicMs() };
    this.#parts = parts;
    this.#standing = standing;
    // Not well until somebody has looked.
    const health: Health = { healthy: false, trouble: ["the agent has just started"], cordonedBy: null, commit: null };
    this.#memory = { stream: parts.newId(), seq: 0, bootId: parts.bootId, answers: null, challenge: parts.newId(), challengeAt: now, health, progress: "", refuses: null };
  }

  static async open(parts: LeasesParts): Promise<Leases> {
    return new Leases(parts, await readStanding(parts.stateDir, parts.log));
  }

  /** The lease in hand; null when there is none. */
  get record(): NodeRecord | null {
    return this.#standing.record;
  }

  get health(): Health {
    return this.#memory.health;
  }

  /** Before anything else may change the machine: what is drained stays so. */
  async prepare(): Promise<void> {
    if (isAway(this.#standing.record)) await this.#parts.pause(pauseWhy(this.#standing.record));
  }

  /** Goes on with what was under way when the agent or the machine went down. Until then, orders are not heard. */
  async start(): Promise<void> {
    this.#started = true;
    await this.#handle({ kind: "started" });
    this.look();
    this.#remind();
  }

  order(order: LeaseOrder): void {
    if (this.#started) void this.#handle({ kind: "order", order });
  }

  connected(): void {
    if (this.#started) void this.#handle({ kind: "connected" });
  }

  /** Something has changed that may concern the node's health. */
  look(): void {
    this.#looking?.cancel();
    if (this.#stopped) return;
    void this.#parts
      .look()
      .then((health) => this.#handle({ kind: "health", health }))
      .catch((error: unknown) => this.#parts.log(`could not look how the node is: ${String(error)}`))
      .finally(() => {
        if (this.#stopped) return;
        this.#looking?.cancel();
        this.#looking = this.#parts.clock.after(this.#standing.record !== null ? LOOK_OFTEN_MS : isWell(this.#memory.health) ? LOOK_EVERY_MS : LOOK_UNWELL_MS, () => this.look());
      });
  }

  /** Ends what is under way; it goes on at the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of [this.#looking, this.#reminding, this.#rebooting]) timer?.cancel();
    this.#activity?.abort.abort();
    await this.#activity?.done;
    await this.#queue;
  }

  #remind(): void {
    this.#reminding = this.#parts.clock.after(REMIND_EVERY_MS, () => {
      if (this.#standing.record !== null) this.connected();
      this.#remind();
    });
  }

  #handle(event: Happening): Promise<void> {
    const result = this.#queue.then(() => this.#take(event));
    this.#queue = result.catch((error: unknown) => this.#parts.log(`the lease: ${String(error)}`));
    return result;
  }

  async #take(happening: Happening): Promise<void> {
    const { clock, newId, stateDir, log } = this.#parts;
    for (;;) {
      const event = { ...happening, now: { wallMs: clock.nowMs(), monoMs: clock.monotonicMs() }, fresh: newId() } as NodeEvent;
      const result = nodeStep(this.#standing, this.#memory, event);
      try {
        if (result.standing !== this.#standing) await writeDurably(standingPath(stateDir), `${JSON.stringify(result.standing)}\n`, { mode: 0o600 });
      } catch (error) {
        log(`cannot keep what the node has promised: ${String(error)}; nothing is done that could not be remembered`);
        // The hub repeats its orders; what has happened here is told by nobody else.
        if (happening.kind === "order" || this.#stopped) return;
        await new Promise<void>((resolve) => clock.after(WRITE_AGAIN_MS, resolve));
        continue;
      }
      const before = this.#standing.record;
      this.#standing = result.standing;
      this.#memory = result.memory;
      this.#tellPhase(before, result.standing.record);
      for (const effect of result.effects) this.#act(effect);
      return;
    }
  }

  #tellPhase(before: NodeRecord | null, after: NodeRecord | null): void {
    if (before?.phase === after?.phase && before?.lease === after?.lease) return;
    const { log, pause } = this.#parts;
    if (after === null) {
      log("the lease is over");
      this.#parts.over();
    }
    else log(`lease ${after.lease.slice(0, 8)} (${after.work.do}): ${after.phase}${after.why === null ? "" : `: ${after.why}`}`);
    // Drained things are not drift.
    if (isAway(before) && !isAway(after)) void pause(null);
    this.look();
  }

  #act(effect: NodeEffect): void {
    switch (effect.do) {
      case "say":
        this.#parts.say(effect.word);
        return;
      case "log":
        this.#parts.log(effect.text);
        return;
      case "drain":
        return this.#start(effect.record, async (signal) => {
          await this.#parts.pause(pauseWhy(effect.record));
          const { failed } = await this.#parts.drainer.drain(effect.record.lease, effect.record.drain, (text) => this.#progress(text), signal);
          if (!signal.aborted) await this.#handle({ kind: "drained", lease: effect.record.lease, failed });
        });
      case "restore":
        return this.#start(effect.record, async (signal) => {
          if (effect.afterMs > 0) await new Promise<void>((resolve) => this.#parts.clock.after(effect.afterMs, resolve));
          if (signal.aborted) return;
          const { failed } = await this.#parts.drainer.restore((text) => this.#progress(text), signal);
          if (!signal.aborted) await this.#handle({ kind: "restored", lease: effect.record.lease, failed });
        });
      case "work":
        return this.#start(effect.record, async (signal) => this.#work(effect.record, effect.interrupted, signal));
      case "reboot":
        return this.#reboot();
    }
  }

  /** One activity at a time: the one before is told to end, and waited for. */
  #start(record: NodeRecord, work: (signal: AbortSignal) => Promise<void>): void {
    const earlier = this.#activity;
    earlier?.abort.abort();
    const abort = new AbortController();
    const done = (async () => {
      await earlier?.done;
      if (abort.signal.aborted) return;
      await work(abort.signal);
    })().catch((error: unknown) => {
      this.#parts.log(`${record.phase}: ${String(error)}`);
      const failed = `${record.phase} failed: ${String(error)}`.slice(0, 2_000);
      const { lease } = record;
      if (record.phase === "draining") void this.#handle({ kind: "drained", lease, failed });
      else if (record.phase === "working") void this.#handle({ kind: "worked", lease, failed, update: null, reboot: false });
      else void this.#handle({ kind: "restored", lease, failed });
    });
    this.#activity = { abort, done };
  }

  async #work({ lease, work }: NodeRecord, interrupted: boolean, signal: AbortSignal): Promise<void> {
    if (work.do === "converge") {
      // Before anything is applied, also after a crash: a run that is under way ends first.
      await this.#parts.pause(pauseWhy(this.#standing.record));
      const { failed, reboot, commit } = await this.#parts.changer.apply(lease, (text) => this.#progress(text), signal);
      // Told to stop: it goes on at the next start.
      if (!signal.aborted) await this.#handle({ kind: "worked", lease, update: null, failed, reboot, commit });
      return;
    }
    if (work.do !== "update") return;
    const { updater } = this.#parts;
    const update = interrupted ? await updater.recover() : await updater.apply(work.order, (text) => this.#progress(text));
    if (update === null) return this.#handle({ kind: "worked", lease, update: null, failed: "the agent was ended before the update began: nothing was changed", reboot: false });
    const need = work.order.reboot === "always" ? "yes" : work.order.reboot === "never" ? "no" : update.reboot.needed;
    const failed = update.ok ? null : (update.failure?.message ?? "the update failed");
    await this.#handle({ kind: "worked", lease, update, failed, reboot: need === "yes" });
  }

  #progress(text: string): void {
    void this.#handle({ kind: "progress", text });
  }

  #reboot(): void {
    const { reboot, log, clock } = this.#parts;
    log("rebooting");
    void reboot().catch((error: unknown) => {
      log(`could not reboot: ${String(error)}`);
      this.#progress(`could not reboot, and tries again: ${String(error)}`);
    });
    this.#rebooting = clock.after(REBOOT_AGAIN_MS, () => {
      if (this.#standing.record?.phase === "rebooting" && !this.#stopped) this.#reboot();
    });
  }
}

/** Neither is anything wrong with it, nor does anybody wait for it. */
function isWell({ healthy, gates = [] }: Health): boolean {
  return healthy && gates.length === 0;
}

/** The node is not itself: from the first step of the drain until everything has been put back. */
export function isAway(record: NodeRecord | null): boolean {
  return record !== null && record.phase !== "back" && record.phase !== "declined";
}

function pauseWhy(record: NodeRecord | null): string {
  switch (record?.work.do) {
    case "hold":
      return "the node is drained for somebody's hands: `evenkeel resume` brings it back";
    case "converge":
      return "the node is drained for a configuration change, and comes back by itself";
    default:
      return "the node is drained for an update or a reboot, and comes back by itself";
  }
}

function standingPath(stateDir: string): string {
  return join(stateDir, "lease.json");
}

async function readStanding(stateDir: string, log: (text: string) => void): Promise<Standing> {
  let text: string;
  try {
    text = await readFile(standingPath(stateDir), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return emptyStanding;
    throw error;
  }
  try {
    return Standing.parse(JSON.parse(text));
  } catch (error) {
    log(`${standingPath(stateDir)} is damaged, and what it said of a lease is lost: the hub will ask somebody to look (${String(error).slice(0, 200)})`);
    return emptyStanding;
  }
}
