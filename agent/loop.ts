import type { Clock, Timer } from "../shared/clock.ts";
import type { Kind } from "../shared/kinds/kind.ts";
import type { MessageOf } from "../shared/protocol/topics.ts";
import type { ConvergeReport, PlanReport, Problem } from "../shared/protocol/report.ts";
import type { NodeName } from "../shared/ids.ts";
import type { CommitOrder } from "../shared/protocol/commit.ts";
import { CommitTurn } from "./lease/commit-turn.ts";
import type { Choice, Chooser } from "./desired/choose.ts";
import type { Repository } from "./desired/repository.ts";
import type { Cause, ConvergeOptions, Engine } from "./engine/engine.ts";
import type { Inventory } from "./engine/inventory.ts";
import type { Desired } from "./engine/plan.ts";
import type { Settings } from "./settings.ts";
import type { Handed, Need } from "./values/asker.ts";

/**
 * The resident agent's day: look at the repository when told or from time to time, converge when there is something new,
 * when something drifted, and by a sweep; try again what failed. One run at a time, whoever asks.
 */

/** Events come in bursts (an editor writes, renames and touches): a converge waits until they pause, but not for ever. */
const DRIFT_SETTLE_MS = 150;
const DRIFT_FAILING_MAX_MS = 60_000;
/** Without a line to the hub no hints come, so the repository is looked at more often. */
const POLL_UNLINKED_SECONDS_MAX = 60;
/** A failed run is tried again after this long, doubled each time. */
const RETRY_MIN_MS = 15_000;
const RETRY_MAX_MS = 15 * 60_000;
/** How long a node whose own record is lost waits for the hub to say how far it had come. */
const MARK_WAIT_MS = 120_000;

/** As many as the hub keeps previews, and throw-aways: who comes back after a week is asked for all of them. */
const PLANS_WAITING_MAX = 50;

export interface LoopEvents {
  /** Every run that did something, failed, or was the first on its commit. */
  report(report: ConvergeReport): void | Promise<void>;
  refused(commit: string, message: string): void | Promise<void>;
  /** Where the node stands has changed. */
  status(status: Status): void;
  /** What is to be watched for drift from now on. */
  desired(desired: Desired, kinds: readonly Kind[]): void;
  log(message: string): void;
}

export type Status = Omit<MessageOf<"converge">, "v">;

export class Loop {
  readonly #parts: LoopParts;
  readonly #abort = new AbortController();
  readonly #turn: CommitTurn;
  /** The commit that was looked at last, when it is not known to be this node's turn. */
  #waiting: { readonly commit: string; readonly canaries: readonly NodeName[] } | null = null;
  #plansWaiting = 0;
  #desired: Desired | null = null;
  #removalsAllowed = 0;
  #hubMark: string | null = null;
  #hubMarkKnown = false;
  #queue: Promise<unknown> = Promise.resolve();
  #lookWaiting = false;
  #driftWaiting: Timer | null = null;
  #retry: Timer | null = null;
  #retries = 0;
  #fetchFailures = 0;
  #lookRetry: Timer | null = null;
  #converging = false;
  /** Why nothing may be changed now; null when it may. */
  #paused: string | null = null;
  #changedMeanwhile: string | null = null;
  #linked = false;
  #lastReported = "";
  #lastRefused = "";
  #status: Status;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#turn = new CommitTurn(parts.settings.node, parts.settings.hub !== null);
    this.#status = { commit: null, outcome: "none", at: this.#nowIso(), failing: [], refused: null, problems: [] };
  }

  get status(): Status {
    return this.#status;
  }

  get desired(): Desired | null {
    return this.#desired;
  }

  async start(): Promise<void> {
    const last = await this.#parts.chooser.last();
    if (last?.ok) {
      this.#take(last);
      void this.#enqueue(() => this.#converge("start"));
    } else {
      if (last !== null) this.#parts.events.log(`the commit chosen last cannot be used: ${last.message}`);
      // Its own record is gone or was never there. Whoever wiped it must not get an older commit in: ask the hub first.
      if (this.#parts.settings.hub !== null) await this.#waitForMark();
    }
    this.look();
    this.#schedulePoll();
    this.#scheduleSweep();
  }

  /** Finishes the step at hand and stops. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#retry?.cancel();
    this.#lookRetry?.cancel();
    this.#driftWaiting?.cancel();
    await this.#queue;
  }

  /** Look at the repository, soon. Several hints at once are one look. */
  look(): void {
    if (this.#lookWaiting) return;
    this.#lookWaiting = true;
    void this.#enqueue(async () => {
      this.#lookWaiting = false;
      await this.#look();
    });
  }

  /**
   * Something that this node manages was changed. During a converge that may be the converge's own doing or somebody
   * else's: one more look afterwards tells, and finds nothing in the first case. While the node fails, looks come at growing
   * distances, so that two who fight over a file do not keep the machine busy.
   */
  drifted(what: string): void {
    if (this.#desired === null) return;
    if (this.#converging) {
      this.#changedMeanwhile = what;
      return;
    }
    if (this.#driftWaiting !== null) return;
    const settleMs = this.#retries === 0 ? DRIFT_SETTLE_MS : Math.min(DRIFT_FAILING_MAX_MS, 1_000 * 2 ** this.#retries);
    this.#driftWaiting = this.#parts.clock.after(settleMs, () => {
      this.#driftWaiting = null;
      void this.#enqueue(() => this.#converge("drift"));
    });
  }

  /** What the hub remembers of this node. Later answers count only if they were never older: see Chooser. */
  hubMark(commit: string | null): void {
    this.#hubMark = commit;
    this.#hubMarkKnown = true;
  }

  /**
   * While a node is drained, what was stopped on purpose is not drift, and apt is somebody else's. Resolves when no run is
   * under way. With null, it goes on, and what was left undone is done.
   */
  async pause(why: string | null): Promise<void> {
    const was = this.#paused;
    this.#paused = why;
    if (why === null && was !== null) void this.#enqueue(() => this.#converge("drift"));
    await this.#queue.catch(() => {});
  }

  /** Another node has made what a run asked for. */
  given(): void {
    void this.#enqueue(() => this.#converge("retry"));
  }

  /** The hub says how the canary does with a commit. */
  commitTold(order: CommitOrder): void {
    this.#turn.heard(order);
    const waiting = this.#waiting;
    if (order.take || waiting === null) this.look();
    else this.#problem("canary", this.#turn.whyWait(waiting.commit, waiting.canaries));
  }

  linked(linked: boolean): void {
    this.#linked = linked;
  }

  /** Converge now, for somebody who waits for the answer. */
  apply(options: Omit<ConvergeOptions, "cause" | "signal">): Promise<ConvergeReport | { readonly error: string }> {
    return this.#enqueue<ConvergeReport | { readonly error: string }>(async () => {
      if (this.#paused !== null) return { error: `nothing is changed on this node now: ${this.#paused}` };
      await this.#look(false);
      const report = await this.#converge("asked", options);
      return report ?? { error: this.#status.refused?.message ?? "no commit has been chosen yet: nothing was pushed, or the repository cannot be reached" };
    });
  }

  /**
   * What was held back too, under a lease, on a node that is drained: the only run while the loop is paused.
   * @param drained units that are down for the lease: they stay so.
   */
  disrupt(drained: ReadonlySet<string>, options: Pick<ConvergeOptions, "onProgress" | "signal">): Promise<ConvergeReport | { readonly error: string }> {
    return this.#enqueue<ConvergeReport | { readonly error: string }>(async () => {
      const report = await this.#converge("lease", { ...options, disruption: "allowed" }, drained);
      return report ?? { error: "no commit has been chosen yet, or the agent is stopping" };
    });
  }

  /** What a branch, or what is chosen now, would change on this machine. With `commit`, the branch must stand there. */
  plan(branch: string | null, commit?: string): Promise<PlanReport | { readonly error: string }> {
    if (this.#plansWaiting >= PLANS_WAITING_MAX) return Promise.resolve({ error: `${PLANS_WAITING_MAX} plans are waiting on this node already: ask again in a minute` });
    this.#plansWaiting += 1;
    return this.#enqueue<PlanReport | { readonly error: string }>(async () => {
      this.#plansWaiting -= 1;
      const { repository, chooser, engine, settings } = this.#parts;
      if (branch === null || branch === settings.git.branch) {
        if (this.#desired === null) return { error: "no commit has been chosen yet" };
        return engine.plan(this.#desired);
      }
      const fetched = await repository.fetch(branch);
      if (!fetched.ok) return { error: fetched.message };
      if (fetched.commit === null) return { error: `there is no branch "${branch}" in the repository` };
      if (commit !== undefined && fetched.commit !== commit) return { error: `the branch "${branch}" of the repository that this node follows stands at ${fetched.commit.slice(0, 8)}, and ${commit.slice(0, 8)} was to be planned: it was pushed again, or elsewhere` };
      const choice = await chooser.preview(fetched.commit);
      return choice.ok ? engine.plan(choice.desired) : { error: choice.message };
    });
  }

  /** One after the other. What the machine refuses (a full disk, a read-only /var) is trouble that may pass; the rest is a bug. */
  #enqueue<T>(work: () => Promise<T>): Promise<T | { readonly error: string }> {
    const result = this.#queue.then(work).then(
      (value) => {
        this.#problem("machine", null);
        return value;
      },
      (error: unknown) => {
        if (!isSystemError(error)) throw error;
        const message = `${error.code === "ENOSPC" ? "no space left on the disk" : error.message}: the agent cannot keep its own state, and changes nothing that it could not remember. It tries again by itself.`;
        this.#problem("machine", message);
        this.#scheduleRetry();
        return { error: message };
      },
    );
    this.#queue = result.catch((error: unknown) => this.#parts.onBug(error));
    return result;
  }

  async #look(convergeWhenNew = true): Promise<void> {
    if (this.#abort.signal.aborted) return;
    const { repository, chooser, inventory, events } = this.#parts;
    const fetched = await repository.fetch();
    if (!fetched.ok) {
      this.#problem("fetch", fetched.message);
      this.#lookAgain();
      return;
    }
    this.#problem("fetch", null);
    this.#fetchFailures = 0;
    if (fetched.commit === null) return;
    this.#waiting = null;
    let choice = await chooser.choose(fetched.commit, this.#hubMark, inventory.held, (commit, canaries) => {
      this.#waiting = { commit, canaries };
      return this.#turn.whyWait(commit, canaries);
    });
    const waits = !choice.ok && choice.waits === true ? choice.message : null;
    this.#problem("canary", waits);
    if (waits !== null) {
      // Where commits come quickly, an earlier one may have been released meanwhile.
      const { released } = this.#turn;
      if (released === null || released === this.#desired?.commit) return;
      choice = await chooser.chooseBefore(fetched.commit, released, this.#hubMark, inventory.held);
      if (!choice.ok) return;
    }
    if (!choice.ok) {
      if (this.#lastRefused === `${choice.commit} ${choice.message}`) return;
      this.#lastRefused = `${choice.commit} ${choice.message}`;
      this.#setStatus({ refused: { commit: choice.commit, message: choice.message.slice(0, 4_000), at: this.#nowIso() } });
      await events.refused(choice.commit, choice.message);
      return;
    }
    if (this.#status.refused !== null) {
      this.#lastRefused = "";
      this.#setStatus({ refused: null });
    }
    if (this.#desired?.commit === choice.desired.commit) return;
    this.#take(choice);
    this.#retries = 0;
    if (convergeWhenNew) await this.#converge("push");
  }

  #take(choice: Extract<Choice, { ok: true }>): void {
    this.#desired = choice.desired;
    this.#removalsAllowed = choice.mark.removalsAllowed;
  }

  async #converge(cause: Cause, options: Omit<ConvergeOptions, "cause"> = {}, drained?: ReadonlySet<string>): Promise<ConvergeReport | null> {
    const desired = this.#desired;
    if (desired === null || (this.#paused !== null && drained === undefined) || this.#abort.signal.aborted) return null;
    const { engine, events, kinds } = this.#parts;
    this.#retry?.cancel();
    this.#retry = null;
    this.#converging = true;
    this.#changedMeanwhile = null;
    let report: ConvergeReport;
    const handed = this.#parts.values?.hand();
    let asks: readonly Need[] = [];
    try {
      const allowed = Math.max(this.#removalsAllowed, options.removalsAllowed ?? 0);
      const given: Desired = { ...desired, ...(drained !== undefined && { drained }), ...(handed !== undefined && { givenTo: (kind: string) => handed.to(kind) }) };
      const signal = options.signal === undefined ? this.#abort.signal : AbortSignal.any([this.#abort.signal, options.signal]);
      report = await engine.converge(given, { ...options, removalsAllowed: allowed, cause, signal, onAsks: (all) => (asks = all) });
    } finally {
      this.#converging = false;
    }
    handed?.over(asks);
    events.desired(desired, kinds);
    this.#setStatus({
      commit: desired.commit as Status["commit"],
      outcome: report.outcome,
      failing: report.changes.filter((change) => change.result === "failed" || change.result === "blocked").slice(0, 20).map((change) => ({ resource: change.resource, error: (change.error ?? change.why).slice(0, 2_000) })),
      held: heldIn(report),
      problems: [...this.#status.problems.filter((problem) => problem.code === "fetch" || problem.code === "canary"), ...report.problems].slice(0, 20),
    });
    await this.#report(report);
    if (report.outcome === "failed") this.#scheduleRetry();
    else this.#retries = 0;
    if (this.#changedMeanwhile !== null) this.drifted(this.#changedMeanwhile);
    return report;
  }

  /** A sweep that finds what the last one found says nothing new: it is not sent, stored and read by anybody. */
  async #report(report: ConvergeReport): Promise<void> {
    const failures = report.changes.filter((change) => change.result !== "done").map((change) => `${change.resource} ${change.error ?? ""}`);
    const gist = JSON.stringify([report.commit, report.outcome, failures, report.problems]);
    const didSomething = report.changes.some((change) => change.result === "done");
    if (!didSomething && gist === this.#lastReported && report.cause !== "asked") return;
    await this.#parts.events.report(report);
    this.#lastReported = gist;
  }

  #scheduleRetry(): void {
    this.#retry?.cancel();
    const waitMs = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** this.#retries) * (0.75 + this.#parts.random() / 2);
    this.#retries = Math.min(this.#retries + 1, 10);
    this.#retry = this.#parts.clock.after(waitMs, () => void this.#enqueue(() => this.#converge("retry")));
  }

  /** A repository out of reach is tried again sooner than it would be looked at anyway, at growing distances. */
  #lookAgain(): void {
    const waitMs = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** this.#fetchFailures) * (0.75 + this.#parts.random() / 2);
    this.#fetchFailures = Math.min(this.#fetchFailures + 1, 10);
    this.#lookRetry?.cancel();
    this.#lookRetry = this.#parts.clock.after(waitMs, () => this.look());
  }

  #schedulePoll(): void {
    const seconds = this.#linked ? this.#parts.settings.pollSeconds : Math.min(this.#parts.settings.pollSeconds, POLL_UNLINKED_SECONDS_MAX);
    this.#again(seconds, () => {
      this.look();
      this.#schedulePoll();
    });
  }

  #scheduleSweep(): void {
    this.#again(this.#parts.settings.sweepSeconds, () => {
      void this.#enqueue(() => this.#converge("sweep"));
      this.#scheduleSweep();
    });
  }

  /** Half to one and a half times as long: nodes that were started together do not stay together. */
  #again(seconds: number, work: () => void): void {
    this.#parts.clock.after(seconds * 1_000 * (0.5 + this.#parts.random()), () => {
      if (!this.#abort.signal.aborted) work();
    });
  }

  async #waitForMark(): Promise<void> {
    const { clock, events } = this.#parts;
    const deadlineMs = clock.monotonicMs() + MARK_WAIT_MS;
    while (!this.#hubMarkKnown && clock.monotonicMs() < deadlineMs && !this.#abort.signal.aborted) {
      await new Promise<void>((resolve) => clock.after(100, resolve));
    }
    if (!this.#hubMarkKnown) events.log("the hub did not say how far this node had come; going on from the commit pinned at enrolment");
  }

  #problem(code: string, message: string | null): void {
    const others = this.#status.problems.filter((problem) => problem.code !== code);
    const before = this.#status.problems.find((problem) => problem.code === code);
    if ((before?.message ?? null) === message) return;
    if (message !== null) this.#parts.events.log(message);
    const problem: Problem[] = message === null ? [] : [{ code, message: message.slice(0, 4_000) }];
    this.#setStatus({ problems: [...problem, ...others].slice(0, 20) });
  }

  #setStatus(change: Partial<Status>): void {
    this.#status = { ...this.#status, ...change, at: this.#nowIso() };
    this.#parts.events.status(this.#status);
  }

  #nowIso(): string {
    return new Date(this.#parts.clock.nowMs()).toISOString();
  }
}

function heldIn({ changes }: ConvergeReport): string[] {
  return [...new Set(changes.filter(({ result }) => result === "held" || result === "waiting").map(({ resource }) => resource))].slice(0, 20);
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error && "syscall" in error;
}

export interface LoopParts {
  readonly settings: Settings;
  readonly repository: Repository;
  readonly chooser: Chooser;
  readonly engine: Engine;
  readonly inventory: Inventory;
  readonly kinds: readonly Kind[];
  /** What other nodes are asked for, and have made. */
  readonly values?: { hand(): Handed };
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: LoopEvents;
  readonly onBug: (error: unknown) => void;
}
