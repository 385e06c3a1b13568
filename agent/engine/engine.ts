import type { Clock } from "../../shared/clock.ts";
import type { Confirmation } from "../confirm/confirmation.ts";
import type { Kind, Step } from "../../shared/kinds/kind.ts";
import { declaredPresent } from "../../shared/kinds/packages.ts";
import type { Change, ConvergeReport, PlanReport, Problem } from "../../shared/protocol/report.ts";
import type { Host } from "../host/host.ts";
import { reportLimits } from "../../shared/protocol/report.ts";
import { forgetOldRepairs, resetBreakers } from "./breaker.ts";
import { changeOf, diffOf } from "./describe.ts";
import { disruptiveUnits } from "./disruption.ts";
import type { Inventory } from "./inventory.ts";
import type { ConfirmRecord } from "../confirm/record.ts";
import { isNetwork } from "./network-steps.ts";
import { countRemovals, planAll, planKind, removalsFirst, splitRemovals } from "./plan.ts";
import type { Desired, WholePlan } from "./plan.ts";
import { fitReport } from "./report.ts";
import { Run } from "./run.ts";
import type { Ask, Disruption } from "./run.ts";
import { Windows } from "./windows.ts";

/** A machine that changes under every look is not chased for ever; the next event or retry goes on. */
const PASSES_MAX = 3;

export type Cause = ConvergeReport["cause"];

export interface ConvergeOptions {
  readonly cause: Cause;
  /** Stops between two steps; what was begun is finished, what is left is done by the next run. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (action: string) => void;
  /** How many removals the owner has allowed for this commit, beyond the guard's limit. */
  readonly removalsAllowed?: number;
  /** Close tripped breakers first, and try again what was put back because it cut the node off. */
  readonly retry?: boolean;
  /** Default `hold`: what takes down what the cluster leans on is left as it is and listed. `allowed`: the node is drained, and has a lease. */
  readonly disruption?: Disruption;
  /** All that other nodes are to be asked for, once a run; what is not among it any more need not be made. */
  readonly onAsks?: (asks: readonly Ask[]) => void;
}

export interface EngineParts {
  readonly kinds: readonly Kind[];
  readonly host: Host;
  readonly inventory: Inventory;
  readonly clock: Clock;
  /** Without one, what could cut the node off is not done at all. */
  readonly confirmation?: Confirmation;
  readonly log?: (message: string) => void;
}

/**
 * Makes a machine what a commit says: observe all, plan all, guard, apply in order, observe again. Converged means that
 * the second plan is empty, and nothing else does.
 */
export class Engine {
  readonly #kinds: readonly Kind[];
  readonly #host: Host;
  readonly #inventory: Inventory;
  readonly #clock: Clock;
  readonly #confirmation: Confirmation | null;
  readonly #log: (message: string) => void;

  constructor(parts: EngineParts) {
    this.#confirmation = parts.confirmation ?? null;
    this.#log = parts.log ?? (() => {});
    this.#kinds = parts.kinds;
    this.#host = parts.host;
    this.#inventory = parts.inventory;
    this.#clock = parts.clock;
  }

  /** What a converge would do now. Changes nothing, on the machine or in the agent's own state. */
  async plan(desired: Desired): Promise<PlanReport> {
    const startedMs = this.#clock.monotonicMs();
    const plannedAt = new Date(this.#clock.nowMs()).toISOString();
    const whole = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    const changes: Change[] = [];
    for (const step of [...removalsFirst(whole.plans), ...whole.plans.flatMap((plan) => splitRemovals(plan.steps).rest)]) {
      changes.push(changeOf(step, plannedAs(step), step.do === "fail" ? step.message : undefined, await diffOf(step, this.#host.probe)));
    }
    for (const trigger of this.#inventory.pending) changes.push(pendingChange(trigger));
    const guard = guardRemovals(whole, desired, 0);
    return fitReport(clean(desired, {
      commit: desired.commit as PlanReport["commit"],
      plannedAt,
      tookMs: this.#clock.monotonicMs() - startedMs,
      changes,
      problems: [...whole.problems, ...(guard === null ? [] : [guard])],
      resources: desired.resources,
      omitted: 0,
    }));
  }

  /**
   * Puts back what an earlier run has left unconfirmed. Every converge begins with it; called by itself where that would
   * come late.
   */
  async settle(): Promise<void> {
    await this.#confirmation?.settle(this.#inventory);
  }

  /** Makes the machine what is desired, as far as it goes, and says what was done. Never throws for what a machine can be. */
  async converge(desired: Desired, options: ConvergeOptions): Promise<ConvergeReport> {
    const nowMs = this.#clock.nowMs();
    const startedMs = this.#clock.monotonicMs();
    const processesBefore = this.#host.processesStarted;
    const signal = options.signal ?? new AbortController().signal;
    const unconfirmed = await this.#unconfirmed(desired, options);
    if (options.retry) resetBreakers(this.#inventory);
    forgetOldRepairs(this.#inventory, nowMs);

    const report = (outcome: ConvergeReport["outcome"], changes: readonly Change[], problems: readonly Problem[], held: readonly string[] = []): ConvergeReport =>
      fitReport(clean(desired, {
        commit: desired.commit as ConvergeReport["commit"],
        cause: options.cause,
        startedAt: new Date(nowMs).toISOString(),
        tookMs: this.#clock.monotonicMs() - startedMs,
        outcome,
        changes: [...changes],
        problems: [...problems],
        ...(held.length === 0 ? {} : { held: held.slice(0, reportLimits.heldMax) }),
        resources: desired.resources,
        processes: this.#host.processesStarted - processesBefore,
        omitted: 0,
      }));

    const before = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    const guard = guardRemovals(before, desired, options.removalsAllowed ?? 0);
    if (guard !== null) return report("stopped", [], [...before.problems, guard]);
    const idle = before.plans.every((plan) => plan.steps.length === 0) && this.#inventory.pending.length === 0;
    if (idle && before.blind.length > 0) return report("failed", [], before.problems);
    if (idle) {
      options.onAsks?.([]);
      await this.#hold(desired);
      return report("converged", [], []);
    }

    const run = new Run({
      host: this.#host,
      inventory: this.#inventory,
      desired,
      declaredPackages: declaredPresent((desired.sections.get("packages") ?? {}) as Parameters<typeof declaredPresent>[0]),
      isDrift: this.#inventory.held === desired.commit,
      nowMs,
      signal,
      disruption: options.disruption ?? "hold",
      disruptiveUnits: disruptiveUnits(desired),
      log: this.#log,
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    });
    const windows = new Windows({ run, desired, host: this.#host, kinds: this.#kinds, inventory: this.#inventory, confirmation: this.#confirmation, unconfirmed, signal, ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }), stepsOf: (kind) => this.#stepsOf(kind, desired) });
    await this.#apply(run, before, desired, windows);
    let after = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    // What this run did not touch and now differs was changed by somebody else meanwhile: that is drift, not a failure.
    for (let pass = 1; pass < PASSES_MAX && !signal.aborted && after.plans.some((plan) => plan.steps.some((step) => !run.hasTouched(step.resource))); pass += 1) {
      await this.#apply(run, after, desired, windows);
      after = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    }
    if (signal.aborted) return report("interrupted", run.changes, [...before.problems, ...run.problems]);
    const left = after.plans.flatMap((plan) => plan.steps);
    for (const step of left) run.reportLeftover(step);
    const held = run.leftOf(left, "held");
    const failed = run.failedAnything || after.blind.length > 0;
    const outcome = failed ? "failed" : held.length + run.leftOf(left, "waiting").length > 0 ? "held" : "converged";
    if (outcome === "converged") await this.#hold(desired);
    await this.#host.forget(this.#inventory.earlierContents());
    options.onAsks?.(run.asks);
    return report(outcome, run.changes, [...after.problems, ...run.problems, ...windows.problems], held);
  }

  /** The change that was put back on this node and must not be tried again: of this very commit, until the owner says so. */
  async #unconfirmed(desired: Desired, options: ConvergeOptions): Promise<ConfirmRecord | null> {
    const record = (await this.#confirmation?.settle(this.#inventory)) ?? null;
    if (record === null || (record.commit === desired.commit && options.retry !== true)) return record;
    await this.#confirmation?.forget();
    return null;
  }

  /** Removals first; then kind by kind, each looked at anew once something has changed: a package may have brought the unit. */
  async #apply(run: Run, before: WholePlan, desired: Desired, windows: Windows): Promise<void> {
    run.hold(before.plans.flatMap((plan) => plan.steps));
    await run.apply(before.plans.toReversed().flatMap(({ kind, steps }) => windows.defer(kind, splitRemovals(steps).early, "pruned")));
    for (const [at, kind] of this.#kinds.entries()) {
      if (windows.stopped) return;
      // What could not be looked at was not judged by the removal guard either.
      if (!before.blind.includes(kind.name)) {
        const known = before.plans.find((plan) => plan.kind === kind)?.steps ?? [];
        const steps = windows.defer(kind, run.changedAnything ? await this.#stepsOf(kind, desired) : splitRemovals(known).rest, "made");
        if (steps.length > 0) await run.apply(steps);
      }
      const isMore = before.plans.some((plan) => this.#kinds.indexOf(plan.kind) > at && plan.steps.some(isNetwork));
      if (!isMore) await windows.run();
    }
    if (!windows.stopped) await run.trigger();
  }

  async #stepsOf(kind: Kind, desired: Desired): Promise<readonly Step[]> {
    const { plan } = await planKind(kind, desired, this.#host.probe, this.#inventory);
    return splitRemovals(plan?.steps ?? []).rest;
  }

  async #hold(desired: Desired): Promise<void> {
    this.#inventory.held = desired.commit;
    await this.#inventory.save();
    // Somebody made it so by hand, or it came right otherwise.
    if (this.#confirmation !== null && (await this.#confirmation.settle(this.#inventory)) !== null) await this.#confirmation.forget();
  }
}

/** The last place that all words about a machine pass: no secret of the commit gets beyond it. */
function clean<Report>(desired: Desired, report: Report): Report {
  return desired.redactor === undefined ? report : desired.redactor.deep(report);
}

function plannedAs(step: Step): Change["result"] {
  if (step.do === "fail") return "failed";
  return step.do === "ask" ? "waiting" : "planned";
}

function guardRemovals(whole: WholePlan, desired: Desired, allowed: number): Problem | null {
  const removals = countRemovals(whole.plans);
  const limit = Math.max(desired.removalsMax, allowed);
  if (removals.length <= limit) return null;
  const some = removals.slice(0, 12).join(", ");
  return {
    code: "removal-guard",
    message:
      `this commit would take away ${removals.length} things on this node, and the limit is ${limit}: ${some}${removals.length > 12 ? ", …" : ""}. Nothing was changed. ` +
      `If that is what you want, push a signed commit (an empty one will do) with the line "Evenkeel-Allow-Removals: ${removals.length}" in its message, or run "evenkeel-agent apply --allow-removals ${removals.length}" on the node.`,
  };
}

function pendingChange(trigger: { readonly unit: string; readonly action: string }): Change {
  return {
    resource: `services/${trigger.unit}`,
    action: `${trigger.action} ${trigger.unit}`,
    why: "an earlier run changed what it reads and did not come to this",
    impact: "service",
    result: "planned",
  };
}
