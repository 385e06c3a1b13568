import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import type { Clock } from "../../shared/clock.ts";
import { saidAtEnd } from "../../shared/kinds/drain.ts";
import type { Act, DrainStep, Kind, Output, Probe } from "../../shared/kinds/kind.ts";
import type { DrainPolicy, GateReason } from "../../shared/protocol/lease.ts";
import { writeDurably } from "../host/durable.ts";
import { CODE_TIMEOUT } from "../host/process.ts";
import type { RunOptions } from "../host/process.ts";
import { lookAtUnits } from "./well.ts";

/**
 * Takes a node out and puts it back. What is going to be done, and how it is undone, is on disk before it is done. So a
 * crash between any two lines neither forgets a drain nor undoes what was not ours, and the way back needs no repository.
 *
 * ```text
 *   found ── was so before we came: not undone, and nothing starts it while the node is drained
 *   begun ──(runs)──▶ done ──(undo runs)──▶ struck off;  begun is undone like done: nobody knows how far it came
 * ```
 */

const RecordedAct = z.object({ doing: z.string(), argv: z.tuple([z.string()], z.string()), timeoutMs: z.number() });

const RecordedStep = z.object({
  kind: z.string(),
  name: z.string(),
  order: z.number(),
  state: z.enum(["found", "begun", "done"]),
  /** The boot in which it was last begun: what a reboot may have put back is done again. */
  bootId: z.string(),
  undo: RecordedAct.nullable(),
  units: z.array(z.string()),
});
type RecordedStep = z.output<typeof RecordedStep>;

export const DrainRecord = z.object({
  v: z.literal(1),
  lease: z.string(),
  /** Units that had failed when this lease's drain began. */
  failedBefore: z.array(z.string()),
  /** In the order in which they were begun. */
  steps: z.array(RecordedStep),
});
export type DrainRecord = z.output<typeof DrainRecord>;

/** Where the record lies: a file in practice, memory in tests. `save` returns only when it would survive a power cut. */
export interface DrainStore {
  load(): Promise<unknown>;
  save(record: DrainRecord): Promise<void>;
}

/** Runs one program; `signal` ends it early. */
export type DrainRun = (argv: readonly [string, ...string[]], options: RunOptions & { readonly signal: AbortSignal }) => Promise<Output>;

export interface DrainParts {
  readonly kinds: readonly Kind[];
  readonly probe: Probe;
  readonly run: DrainRun;
  readonly clock: Clock;
  readonly store: DrainStore;
  readonly bootId: string;
  /** Held by whatever runs: what outlives a killed agent is waited for, and never runs beside its own undo. */
  readonly lockPath: string;
}

export interface DrainOrder {
  /** A drain of the same lease goes on where it was; one of another begins anew. */
  readonly lease: string;
  readonly sections: ReadonlyMap<string, unknown>;
  readonly policy: DrainPolicy;
  readonly progress: (text: string) => void;
  readonly signal?: AbortSignal;
}

/** Null: all is well. Else what failed, and what to do. */
export interface DrainOutcome {
  readonly failed: string | null;
}

const ok: DrainOutcome = { failed: null };
const OUTPUT_MAX_BYTES = 256 * 1024;
const FAILURE_MAX_CHARS = 1_900;
const GATE_MAX_CHARS = 500;
/** What flock(1) shall answer when the lock is not to be had; 75 is EX_TEMPFAIL in sysexits.h. */
const CODE_LOCKED = 75;
/** Of a step's time, so that there is an answer before it is over. */
const LOCK_SHARE = 0.8;

type Planned = DrainStep & { readonly kind: string };

export class Drain {
  readonly #parts: DrainParts;
  #record: DrainRecord | null;
  #turn: Promise<unknown> = Promise.resolve();
  #draining = new AbortController();

  private constructor(parts: DrainParts, record: DrainRecord | null) {
    this.#parts = parts;
    this.#record = record;
  }

  /** @throws when the record cannot be read: an agent that forgot what it stopped must not go on by itself. */
  static async open(parts: DrainParts): Promise<Drain> {
    const stored = await parts.store.load();
    return new Drain(parts, stored === null ? null : DrainRecord.parse(stored));
  }

  /** Units that were stopped for a lease, or stood still already: no converge may start them. */
  drainedUnits(): ReadonlySet<string> {
    return new Set(this.#record?.steps.flatMap((step) => step.units));
  }

  /** Units that had failed when the drain of the last lease began. */
  failedBefore(): ReadonlySet<string> {
    return new Set(this.#record?.failedBefore);
  }

  /** Makes the node safe to lose. What was done before a crash is not done twice. Undoes nothing: see {@link restore}. */
  drain(order: DrainOrder): Promise<DrainOutcome> {
    const stop = new AbortController();
    this.#draining = stop;
    const signal = order.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, order.signal]);
    return this.#inTurn("drain", () => this.#drain({ ...order, signal }));
  }

  /** Puts back exactly what is recorded, the last first. A drain that still runs is stopped first. */
  restore(progress: (text: string) => void, signal: AbortSignal = new AbortController().signal): Promise<DrainOutcome> {
    this.#draining.abort();
    return this.#inTurn("restore", () => this.#restore(progress, signal));
  }

  /** Why others, or this node, must not go now. */
  async gates(sections: ReadonlyMap<string, unknown>): Promise<readonly GateReason[]> {
    const reasons = await Promise.all(
      this.#parts.kinds.map(async ({ name, gate }): Promise<readonly GateReason[]> => {
        const want = sections.get(name);
        if (gate === undefined || want === undefined) return [];
        const facts = await gate.observe(want, this.#parts.probe).catch(asError);
        const found = facts instanceof Error ? [{ text: `it is not known whether ${name} could stand losing this node: ${facts.message}`, holds: "all" as const }] : gate.reasons(want, facts);
        return found.map((reason) => {
          const { text, holds = "others", missing = [] } = typeof reason === "string" ? { text: reason } : reason;
          return { kind: name, text: text.slice(0, GATE_MAX_CHARS), holds, missing: [...missing] };
        });
      }),
    );
    return reasons.flat();
  }

  /** One at a time; what the disk refuses is an answer. */
  #inTurn(what: "drain" | "restore", work: () => Promise<DrainOutcome>): Promise<DrainOutcome> {
    const result = this.#turn.then(work).catch((error: unknown): DrainOutcome => {
      if (!(error instanceof Error && "syscall" in error)) throw error;
      return failed(`the ${what} stopped, because it cannot be kept on disk how far it came: ${error.message}. Make room, or mend the disk.`);
    });
    this.#turn = result.catch(() => {});
    return result;
  }

  async #drain({ lease, sections, policy, progress, signal }: DrainOrder & { readonly signal: AbortSignal }): Promise<DrainOutcome> {
    const deadlineMs = this.#parts.clock.monotonicMs() + policy.timeoutMs;
    if (signal.aborted) return stopped;
    const plan = await this.#plan(sections);
    if ("failed" in plan) return plan;
    // What the hub has heard of it may be a minute old. A drain that goes on after a crash is past this question.
    const against = policy.despiteGates === true || this.#record?.lease === lease ? undefined : (await this.gates(sections)).find(({ holds }) => holds !== "others");
    if (against !== undefined) return failed(`nothing was drained: ${against.text}`);
    await this.#begin(lease, plan);
    const todo = plan.filter((step) => this.#isOpen(step));
    for (const [at, step] of todo.entries()) {
      if (signal.aborted) return stopped;
      const place = `${step.drain.doing} (${at + 1} of ${todo.length})`;
      progress(place);
      await this.#remember(step, "begun");
      const leftMs = deadlineMs - this.#parts.clock.monotonicMs();
      const output = leftMs <= 0 ? timedOut : await this.#run({ ...step.drain, timeoutMs: Math.min(step.drain.timeoutMs, leftMs) }, signal);
      if (signal.aborted) return stopped;
      if (output.code === 0) await this.#remember(step, "done");
      else {
        const isOver = this.#parts.clock.monotonicMs() >= deadlineMs || step.drain.timeoutMs >= leftMs;
        if (output.code !== CODE_TIMEOUT) return failed(`${place} failed: ${await this.#said(output, step.units)}`);
        if (policy.onTimeout === "undo") return failed(isOver ? overdue(place, policy) : `${place} did not end within ${seconds(step.drain.timeoutMs)}. Give it more by its timeoutSeconds, or see why it takes so long.`);
        progress(`${place}: not waiting any longer`);
        if (isOver) return ok;
      }
    }
    return ok;
  }

  async #plan(sections: ReadonlyMap<string, unknown>): Promise<readonly Planned[] | DrainOutcome> {
    const steps: Planned[] = [];
    for (const { name, drain } of this.#parts.kinds) {
      const want = sections.get(name);
      if (drain === undefined || want === undefined) continue;
      const facts = await drain.observe(want, this.#parts.probe).catch(asError);
      if (facts instanceof Error) return failed(`nothing was drained, since ${name} could not be looked at: ${facts.message}`);
      for (const step of drain.steps(want, facts)) steps.push({ ...step, kind: name });
    }
    const cannot = steps.find((step) => step.cannot !== undefined && this.#isOpen(step));
    if (cannot !== undefined) return failed(`nothing was drained: ${cannot.cannot}`);
    return steps.toSorted((one, other) => one.order - other.order);
  }

  /** What this lease finds, on disk before anything is touched. What an earlier one could not put back stays to be put back. */
  async #begin(lease: string, plan: readonly Planned[]): Promise<void> {
    const before = this.#record;
    const found = plan.flatMap((step): RecordedStep[] => (step.already !== true || (step.units ?? []).length === 0 || this.#recorded(step) !== undefined ? [] : [{ ...this.#entry(step, "found"), undo: null }]));
    if (before?.lease === lease && found.length === 0) return;
    const failedBefore = before?.lease === lease ? before.failedBefore : (await lookAtUnits(this.#parts.probe)).failed;
    await this.#save({ v: 1, lease, failedBefore: [...failedBefore], steps: [...(before?.steps ?? []), ...found] });
  }

  #isOpen(step: Planned): boolean {
    if (step.already !== null) return !step.already;
    const recorded = this.#recorded(step);
    return recorded?.state !== "done" || recorded.bootId !== this.#parts.bootId;
  }

  #recorded(step: { readonly kind: string; readonly name: string }): RecordedStep | undefined {
    return this.#record?.steps.find((each) => each.kind === step.kind && each.name === step.name);
  }

  #entry(step: Planned, state: RecordedStep["state"]): RecordedStep {
    const { kind, name, order, undo, units = [] } = step;
    return { kind, name, order, state, bootId: this.#parts.bootId, undo: undo === null ? null : recordedAct(undo), units: [...units] };
  }

  /** The first way back that was recorded counts: by now the machine may look as if there had been nothing to put back. */
  async #remember(step: Planned, state: "begun" | "done"): Promise<void> {
    const record = this.#record!;
    const known = this.#recorded(step);
    const entry = this.#entry(step, state);
    const next: RecordedStep = known === undefined ? entry : { ...entry, order: known.order, undo: known.undo ?? entry.undo, units: [...new Set([...known.units, ...entry.units])] };
    // One that was only found goes to the end: it is begun now.
    const steps = known === undefined || known.state === "found" ? [...record.steps.filter((each) => each !== known), next] : record.steps.map((each) => (each === known ? next : each));
    await this.#save({ ...record, steps });
  }

  async #restore(progress: (text: string) => void, signal: AbortSignal): Promise<DrainOutcome> {
    const steps = (this.#record?.steps ?? []).toReversed().toSorted((one, other) => other.order - one.order);
    const failures: string[] = [];
    const count = steps.filter((step) => step.undo !== null).length;
    let [at, failedAt]: [number, number | null] = [0, null];
    for (const step of steps) {
      if (signal.aborted) return failed("putting back was interrupted; what is left is put back later");
      // What comes back later relies on it: a pool is not joined again in front of a server that does not start.
      if (failedAt !== null && step.order !== failedAt) break;
      if (step.undo !== null) {
        progress(`${step.undo.doing} (${(at += 1)} of ${count})`);
        // A unit that was started too often lately, by an earlier try, is refused a start until then (systemd.unit(5), StartLimitBurst=).
        if (step.units.length > 0) await this.#run({ ...step.undo, argv: ["systemctl", "reset-failed", "--", ...step.units] }, signal);
        const output = await this.#run(step.undo, signal);
        if (output.code !== 0) {
          failedAt = step.order;
          failures.push(output.code === CODE_TIMEOUT ? `${step.undo.doing} did not end within ${seconds(step.undo.timeoutMs)}` : `${step.undo.doing} failed: ${await this.#said(output, step.units)}`);
          continue;
        }
      }
      await this.#strikeOff(step);
    }
    const left = this.#record?.steps.length ?? 0;
    if (failures.length === 0) return ok;
    return failed(`${failures.join("; ").slice(0, FAILURE_MAX_CHARS - 100)}${left > failures.length ? ` (${left - failures.length} more wait for it)` : ""}`);
  }

  async #strikeOff(step: RecordedStep): Promise<void> {
    const record = this.#record!;
    await this.#save({ ...record, steps: record.steps.filter((each) => each.kind !== step.kind || each.name !== step.name) });
  }

  async #save(record: DrainRecord): Promise<void> {
    await this.#parts.store.save(record);
    this.#record = record;
  }

  /** flock(1) closes the lock in what it runs (-o), so that a daemon that is left behind does not hold it. */
  async #run({ argv, timeoutMs }: Act, signal: AbortSignal): Promise<Output> {
    const waitSeconds = String(Math.max(0.05, (timeoutMs / 1_000) * LOCK_SHARE));
    const output = await this.#parts.run(["flock", "-o", "-w", waitSeconds, "-E", String(CODE_LOCKED), this.#parts.lockPath, ...argv], { timeoutMs, outputMaxBytes: OUTPUT_MAX_BYTES, signal });
    if (output.code !== CODE_LOCKED || output.stdout + output.stderr !== "") return output;
    return { ...output, stderr: `what an earlier run of the agent started has not ended yet (fuser ${this.#parts.lockPath} names it)` };
  }

  /** "See journalctl" helps nobody who reads a status page. */
  async #said(output: Output, units: readonly string[] | undefined): Promise<string> {
    const journal = units === undefined || units.length === 0 ? null : await this.#parts.probe.run(["journalctl", "--no-pager", "-q", "-b", "-n", "10", "-o", "cat", ...units.slice(0, 5).flatMap((unit) => ["-u", unit])]);
    const said = saidAtEnd(output);
    return journal === null || journal.code !== 0 || journal.stdout.trim() === "" ? said : `${said}\n${saidAtEnd(journal)}`;
  }
}

const timedOut: Output = { code: CODE_TIMEOUT, stdout: "", stderr: "" };
const stopped: DrainOutcome = { failed: "the drain was stopped before its end" };

function failed(text: string): DrainOutcome {
  return { failed: text.length > FAILURE_MAX_CHARS ? `${text.slice(0, FAILURE_MAX_CHARS)}…` : text };
}

function overdue(place: string, policy: DrainPolicy): string {
  return `the drain did not end within ${seconds(policy.timeoutMs)}: it was at ${place}. Give it more by drainTimeoutMinutes in cluster.yaml, or let nodes go without by onDrainTimeout: go-on.`;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`;
}

function recordedAct({ doing, argv, timeoutMs }: Act): z.output<typeof RecordedAct> {
  return { doing, argv: [...argv], timeoutMs };
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** The record as one file in the state directory. */
export function drainFile(stateDir: string): DrainStore {
  const path = join(stateDir, "drain.json");
  return {
    async load() {
      try {
        return JSON.parse(await readFile(path, "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
        throw new Error(`${path} cannot be read (${String(error)}). It says what was stopped on this node and how it is put back. Put that back by hand, then move the file away.`, { cause: error });
      }
    },
    async save(record) {
      await mkdir(stateDir, { recursive: true, mode: 0o700 });
      await writeDurably(path, JSON.stringify(record), { mode: 0o600 });
    },
  };
}
