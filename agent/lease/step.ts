import { isoTime } from "../../shared/clock.ts";
import type { BootId, CommitId, LeaseId } from "../../shared/ids.ts";
import type { CommitStanding, GateReason, LeaseMessage, LeaseOrder, WorkResult } from "../../shared/protocol/lease.ts";
import { CHALLENGE_VALID_MS } from "../../shared/protocol/lease.ts";
import type { UpdateResult } from "../../shared/protocol/updates.ts";
import type { NodeRecord, Standing } from "./standing.ts";
import { TAKEN_MAX } from "./standing.ts";

/**
 * The node's half of a lease: a pure function of what it remembers and what happened. Whoever calls it stores the new
 * standing, with fsync, before it starts the effects; so a crash between any two lines is either before the decision, and
 * nothing has happened, or after it, and {@link started} goes on from there.
 */

/** What is not remembered: gone with the process. */
export interface Memory {
  readonly stream: string;
  readonly seq: number;
  readonly bootId: BootId;
  readonly answers: LeaseMessage["answers"];
  readonly challenge: string;
  readonly challengeAt: Now;
  readonly health: Health;
  readonly progress: string;
  readonly refuses: LeaseId | null;
}

export interface Health {
  readonly healthy: boolean;
  readonly trouble: readonly string[];
  readonly cordonedBy: string | null;
  readonly commit: CommitId | null;
  /** What the last comparison with a commit came to; missing before the first. */
  readonly standing?: CommitStanding | undefined;
  /** What it has against anybody's going; missing while it is away itself. */
  readonly gates?: readonly GateReason[] | undefined;
}

export interface Now {
  readonly wallMs: number;
  readonly monoMs: number;
}

/** `fresh` is a random text that was never used before: it may become a challenge. */
export type NodeEvent = { readonly now: Now; readonly fresh: string } & (
  | { readonly kind: "started" }
  /** The hub may have missed what was said before. */
  | { readonly kind: "connected" }
  | { readonly kind: "order"; readonly order: LeaseOrder }
  | { readonly kind: "health"; readonly health: Health }
  | { readonly kind: "progress"; readonly text: string }
  | { readonly kind: "drained"; readonly lease: string; readonly failed: string | null }
  | { readonly kind: "worked"; readonly lease: string; readonly update: UpdateResult | null; readonly failed: string | null; readonly reboot: boolean; readonly commit?: CommitId | undefined }
  /** What was drained has been put back, or not. */
  | { readonly kind: "restored"; readonly lease: string; readonly failed: string | null }
);

export type NodeEffect =
  /** Make the node safe to lose. Again after a crash: what is done is not done twice. */
  | { readonly do: "drain"; readonly record: NodeRecord }
  /** Put back what was drained, and nothing else; a drain that still runs is stopped first. */
  | { readonly do: "restore"; readonly record: NodeRecord; readonly afterMs: number }
  | { readonly do: "work"; readonly record: NodeRecord; readonly interrupted: boolean }
  | { readonly do: "reboot"; readonly record: NodeRecord }
  | { readonly do: "say"; readonly word: LeaseMessage }
  | { readonly do: "log"; readonly text: string };

export interface NodeStep {
  readonly standing: Standing;
  readonly memory: Memory;
  readonly effects: readonly NodeEffect[];
}

/** A challenge is renewed when it is older than this as the node speaks, so that there is time left to answer it. */
const CHALLENGE_RENEW_MS = CHALLENGE_VALID_MS / 2;
const RESTORE_TRIES_MAX = 3;
const RESTORE_AGAIN_MS = 30_000;

export function nodeStep(standing: Standing, memory: Memory, event: NodeEvent): NodeStep {
  const turn = new Turn(standing, memory, event);
  switch (event.kind) {
    case "started":
      started(turn);
      break;
    case "connected":
      turn.speak();
      break;
    case "order":
      obey(turn, event.order);
      break;
    case "health":
      if (sameHealth(memory.health, event.health)) break;
      turn.memory = { ...turn.memory, health: event.health };
      turn.speak();
      break;
    case "progress":
      if (standing.record === null || memory.progress === event.text) break;
      turn.memory = { ...turn.memory, progress: event.text.slice(0, 500) };
      turn.speak();
      break;
    case "drained":
      if (standing.record?.lease === event.lease && standing.record.phase === "draining") drained(turn, standing.record, event.failed);
      break;
    case "worked":
      if (standing.record?.lease === event.lease && standing.record.phase === "working") worked(turn, standing.record, event);
      break;
    case "restored":
      if (standing.record?.lease === event.lease) restored(turn, standing.record, event.failed);
      break;
  }
  return turn.end();
}

class Turn {
  standing: Standing;
  memory: Memory;
  readonly now: Now;
  readonly effects: NodeEffect[] = [];
  readonly #fresh: string;
  #speaks = false;

  constructor(standing: Standing, memory: Memory, event: NodeEvent) {
    this.standing = standing;
    this.memory = memory;
    this.now = event.now;
    this.#fresh = event.fresh;
  }

  enter(record: NodeRecord, phase: NodeRecord["phase"], change: Partial<NodeRecord> = {}): NodeRecord {
    const next: NodeRecord = { ...record, ...change, phase, sinceMs: this.now.wallMs };
    this.standing = { ...this.standing, record: next };
    this.memory = { ...this.memory, progress: "" };
    this.renewChallenge();
    this.speak();
    return next;
  }

  forget(): void {
    this.standing = { ...this.standing, record: null };
    this.renewChallenge();
    this.speak();
  }

  /** Every order that answers the earlier one is void from now on. */
  renewChallenge(): void {
    this.memory = { ...this.memory, challenge: this.#fresh, challengeAt: this.now };
  }

  speak(): void {
    this.#speaks = true;
  }

  end(): NodeStep {
    if (this.#speaks) {
      if (ageMs(this.memory.challengeAt, this.now) > CHALLENGE_RENEW_MS) this.renewChallenge();
      this.memory = { ...this.memory, seq: this.memory.seq + 1 };
      this.effects.push({ do: "say", word: wordOf(this.standing, this.memory) });
    }
    return { standing: this.standing, memory: this.memory, effects: this.effects };
  }
}

/** By whichever clock says more: a wall clock that jumped can only make an order void. */
function ageMs(since: Now, now: Now): number {
  return Math.max(now.monoMs - since.monoMs, Math.abs(now.wallMs - since.wallMs));
}

export function wordOf({ epochSeen, record }: Standing, memory: Memory): LeaseMessage {
  const { health } = memory;
  const trouble = record?.unrestored ? [record.unrestored, ...health.trouble] : health.trouble;
  return {
    v: 1,
    stream: memory.stream,
    seq: memory.seq,
    answers: memory.answers,
    bootId: memory.bootId,
    challenge: memory.challenge,
    epochSeen,
    commit: health.commit,
    ...(health.standing !== undefined && { standing: health.standing }),
    healthy: health.healthy && record?.unrestored == null,
    trouble: trouble.slice(0, 20).map((text) => text.slice(0, 500)),
    ...(health.gates !== undefined && { gates: health.gates.slice(0, 20) }),
    cordonedBy: health.cordonedBy,
    refuses: memory.refuses,
    lease:
      record === null
        ? null
        : { lease: record.lease, epoch: record.epoch, bootId: record.bootId, phase: record.phase, work: record.work, since: isoTime(record.sinceMs), progress: memory.progress, why: record.why, result: record.result },
  };
}

/** The process has just started: whatever was under way goes on from what is on disk. */
function started(turn: Turn): void {
  turn.speak();
  const { record } = turn.standing;
  if (record === null) return;
  const sameBoot = record.bootId === turn.memory.bootId;
  switch (record.phase) {
    case "draining":
      if (sameBoot) turn.effects.push({ do: "drain", record });
      else restore(turn, record, "undoing", { why: "the node rebooted by itself while it was drained" });
      return;
    case "drained":
      if (!sameBoot) restore(turn, record, "undoing", { why: "the node rebooted by itself before it was told to go" });
      return;
    case "undoing":
    case "resuming":
      turn.effects.push({ do: "restore", record, afterMs: 0 });
      return;
    case "working":
      if (record.work.do === "hold") {
        // What is enabled has started with the machine: it is stopped again, for whoever has his hands in it.
        if (!sameBoot) turn.effects.push({ do: "drain", record });
      } else if (record.work.do === "converge" && !sameBoot) {
        // What it drained has started with the machine. What is left to do is asked for again, by a node that is drained again.
        restore(turn, record, "resuming", { result: { ok: false, rebooted: true, failure: "the node went down in the middle of applying its disruptive changes: see whether it is well, and let it try again", update: null } });
      } else turn.effects.push({ do: "work", record, interrupted: true });
      return;
    case "rebooting":
      // The same boot: the machine has not gone down yet, and going down now is still the one reboot of this lease.
      if (sameBoot) turn.effects.push({ do: "reboot", record });
      else restore(turn, record, "resuming", { result: { ...(record.result ?? { ok: true, failure: null, update: null }), rebooted: true } });
      return;
    case "declined":
    case "back":
      return;
  }
}

function obey(turn: Turn, order: LeaseOrder): void {
  const { record, epochSeen } = turn.standing;
  switch (order.kind) {
    case "ping":
      if (order.epoch > epochSeen) turn.standing = { ...turn.standing, epochSeen: order.epoch };
      // Another run of the hub. It decides by what this word says, so orders of the run before must not count after it: by their
      // epoch alone they could be those of this run, if its database is an older copy.
      if (turn.memory.answers?.run !== order.run) turn.renewChallenge();
      // Pings may overtake each other: an earlier one than the last says nothing new, and must not make this word look old.
      if (turn.memory.answers?.run !== order.run || turn.memory.answers.ping < order.ping) turn.memory = { ...turn.memory, answers: { run: order.run, ping: order.ping } };
      turn.speak();
      return;
    case "grant":
      if (record !== null || !isBound(turn, order)) return;
      if (turn.standing.taken.includes(order.lease)) {
        turn.memory = { ...turn.memory, refuses: order.lease };
        turn.speak();
        return;
      }
      return grant(turn, order);
    case "confirm":
      if (record?.lease !== order.lease || record.phase !== "drained" || record.bootId !== turn.memory.bootId || !isBound(turn, order)) return;
      return confirm(turn, record);
    case "abort":
      if (record?.lease !== order.lease || (record.phase !== "draining" && record.phase !== "drained")) return;
      restore(turn, record, "undoing", { why: order.why });
      return;
    case "finish":
      if (record?.lease !== order.lease || record.phase !== "working" || record.work.do !== "hold") return;
      restore(turn, record, "resuming", { result: { ok: true, rebooted: record.bootId !== turn.memory.bootId, failure: null, update: null } });
      return;
    case "release":
      if (record?.lease !== order.lease || (record.phase !== "back" && record.phase !== "declined")) return;
      turn.forget();
      return;
  }
}

/** An order counts if it is for this boot, from no earlier hub than we have seen, and answers what we said last, lately. */
function isBound(turn: Turn, order: Extract<LeaseOrder, { kind: "grant" | "confirm" }>): boolean {
  const { memory, now, standing } = turn;
  return order.epoch >= standing.epochSeen && order.bootId === memory.bootId && order.challenge === memory.challenge && ageMs(memory.challengeAt, now) <= CHALLENGE_VALID_MS;
}

function grant(turn: Turn, order: Extract<LeaseOrder, { kind: "grant" }>): void {
  const taken = [...turn.standing.taken, order.lease].slice(-TAKEN_MAX);
  turn.standing = { ...turn.standing, epochSeen: order.epoch, taken };
  const record: NodeRecord = {
    lease: order.lease,
    epoch: order.epoch,
    bootId: order.bootId,
    phase: "draining",
    work: order.work,
    drain: order.drain,
    sinceMs: turn.now.wallMs,
    why: null,
    result: null,
    tries: 0,
    unrestored: null,
  };
  turn.effects.push({ do: "drain", record: turn.enter(record, "draining") });
}

function drained(turn: Turn, record: NodeRecord, failed: string | null): void {
  if (failed === null) turn.enter(record, "drained");
  else restore(turn, record, "undoing", { why: failed });
}

/** The point of no return: it is on disk before anything happens. */
function confirm(turn: Turn, record: NodeRecord): void {
  switch (record.work.do) {
    case "reboot":
      turn.effects.push({ do: "reboot", record: turn.enter(record, "rebooting") });
      return;
    case "update":
    case "converge":
      turn.effects.push({ do: "work", record: turn.enter(record, "working"), interrupted: false });
      return;
    case "hold":
      turn.enter(record, "working");
      return;
  }
}

function worked(turn: Turn, record: NodeRecord, { update, failed, reboot, commit }: Extract<NodeEvent, { kind: "worked" }>): void {
  const rebooted = record.bootId !== turn.memory.bootId;
  const result: WorkResult = { ok: failed === null, rebooted, failure: failed, update, ...(commit !== undefined && { commit }) };
  // A machine that went down by itself in the middle has had the one reboot of this lease.
  if (reboot && failed === null && !rebooted) turn.effects.push({ do: "reboot", record: turn.enter(record, "rebooting", { result }) });
  else restore(turn, record, "resuming", { result });
}

function restore(turn: Turn, record: NodeRecord, phase: "undoing" | "resuming", change: Partial<NodeRecord>): void {
  turn.effects.push({ do: "restore", record: turn.enter(record, phase, { tries: 0, ...change }), afterMs: 0 });
}

function restored(turn: Turn, record: NodeRecord, failed: string | null): void {
  if (record.phase !== "undoing" && record.phase !== "resuming") return;
  if (failed === null) {
    turn.enter(record, record.phase === "undoing" ? "declined" : "back");
    return;
  }
  const tries = record.tries + 1;
  turn.effects.push({ do: "log", text: `could not put back what was drained: ${failed}` });
  if (tries < RESTORE_TRIES_MAX) {
    const next = turn.enter(record, record.phase, { tries, why: record.why ?? failed });
    turn.effects.push({ do: "restore", record: next, afterMs: RESTORE_AGAIN_MS });
    return;
  }
  // It is not as it was, so it has not "declined": it is back, and not well, until somebody has seen to it.
  const result: WorkResult = { ...(record.result ?? { rebooted: false, update: null }), ok: false, failure: record.result?.failure ?? record.why ?? failed };
  turn.enter(record, "back", { tries, result, unrestored: `what was drained could not be put back: ${failed}` });
}

function sameHealth(a: Health, b: Health): boolean {
  return a.healthy === b.healthy && a.cordonedBy === b.cordonedBy && a.commit === b.commit && sameStanding(a.standing, b.standing) && JSON.stringify(a.gates) === JSON.stringify(b.gates) && a.trouble.length === b.trouble.length && a.trouble.every((text, index) => text === b.trouble[index]);
}

function sameStanding(a: CommitStanding | undefined, b: CommitStanding | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.commit === b.commit && a.outcome === b.outcome && a.failure === b.failure && a.heldBack.length === b.heldBack.length && a.heldBack.every((resource, index) => resource === b.heldBack[index]);
}
