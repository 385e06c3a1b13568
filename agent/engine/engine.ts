import type { Clock } from "../../shared/clock.ts";
import type { Kind } from "../../shared/kinds/kind.ts";
import { declaredPresent } from "../../shared/kinds/packages.ts";
import type { Change, ConvergeReport, PlanReport, Problem } from "../../shared/protocol/report.ts";
import type { Host } from "../host/host.ts";
import { forgetOldRepairs, resetBreakers } from "./breaker.ts";
import { changeOf, diffOf } from "./describe.ts";
import type { Inventory } from "./inventory.ts";
import { countRemovals, planAll, planKind, removalsFirst, splitRemovals } from "./plan.ts";
import type { Desired, WholePlan } from "./plan.ts";
import { fitReport } from "./report.ts";
import { Run } from "./run.ts";

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
  /** Close tripped breakers first. */
  readonly retry?: boolean;
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

  constructor(parts: { readonly kinds: readonly Kind[]; readonly host: Host; readonly inventory: Inventory; readonly clock: Clock }) {
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
      changes.push(changeOf(step, step.do === "fail" ? "failed" : "planned", step.do === "fail" ? step.message : undefined, await diffOf(step, this.#host.probe)));
    }
    for (const trigger of this.#inventory.pending) changes.push(pendingChange(trigger));
    const guard = guardRemovals(whole, desired, 0);
    return fitReport({
      commit: desired.commit as PlanReport["commit"],
      plannedAt,
      tookMs: this.#clock.monotonicMs() - startedMs,
      changes,
      problems: [...whole.problems, ...(guard === null ? [] : [guard])],
      resources: desired.resources,
      omitted: 0,
    });
  }

  /** Makes the machine what is desired, as far as it goes, and says what was done. Never throws for what a machine can be. */
  async converge(desired: Desired, options: ConvergeOptions): Promise<ConvergeReport> {
    const nowMs = this.#clock.nowMs();
    const startedMs = this.#clock.monotonicMs();
    const processesBefore = this.#host.processesStarted;
    const signal = options.signal ?? new AbortController().signal;
    if (options.retry) resetBreakers(this.#inventory);
    forgetOldRepairs(this.#inventory, nowMs);

    const report = (outcome: ConvergeReport["outcome"], changes: readonly Change[], problems: readonly Problem[]): ConvergeReport =>
      fitReport({
        commit: desired.commit as ConvergeReport["commit"],
        cause: options.cause,
        startedAt: new Date(nowMs).toISOString(),
        tookMs: this.#clock.monotonicMs() - startedMs,
        outcome,
        changes: [...changes],
        problems: [...problems],
        resources: desired.resources,
        processes: this.#host.processesStarted - processesBefore,
        omitted: 0,
      });

    const before = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    const guard = guardRemovals(before, desired, options.removalsAllowed ?? 0);
    if (guard !== null) return report("stopped", [], [...before.problems, guard]);
    const idle = before.plans.every((plan) => plan.steps.length === 0) && this.#inventory.pending.length === 0;
    if (idle && before.blind.length > 0) return report("failed", [], before.problems);
    if (idle) {
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
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    });
    await this.#apply(run, before, desired, signal);
    let after = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    // What this run did not touch and now differs was changed by somebody else meanwhile: that is drift, not a failure.
    for (let pass = 1; pass < PASSES_MAX && !signal.aborted && after.plans.some((plan) => plan.steps.some((step) => !run.hasTouched(step.resource))); pass += 1) {
      await this.#apply(run, after, desired, signal);
      after = await planAll(this.#kinds, desired, this.#host.probe, this.#inventory);
    }
    if (signal.aborted) return report("interrupted", run.changes, [...before.problems, ...run.problems]);
    for (const step of after.plans.flatMap((plan) => plan.steps)) run.reportLeftover(step);
    const converged = !run.failedAnything && after.blind.length === 0;
    if (converged) await this.#hold(desired);
    await this.#host.forget(this.#inventory.earlierContents());
    return report(converged ? "converged" : "failed", run.changes, [...after.problems, ...run.problems]);
  }

  /** Removals first; then kind by kind, each looked at anew once something has changed: a package may have brought the unit. */
  async #apply(run: Run, before: WholePlan, desired: Desired, signal: AbortSignal): Promise<void> {
    await run.apply(removalsFirst(before.plans));
    for (const kind of this.#kinds) {
      if (signal.aborted) return;
      // What could not be looked at was not judged by the removal guard either.
      if (before.blind.includes(kind.name)) continue;
      const known = before.plans.find((plan) => plan.kind === kind);
      const plan = run.changedAnything ? (await planKind(kind, desired, this.#host.probe, this.#inventory)).plan : known;
      const steps = splitRemovals(plan?.steps ?? []).rest;
      if (steps.length > 0) await run.apply(steps);
    }
    if (!signal.aborted) await run.trigger();
  }

  async #hold(desired: Desired): Promise<void> {
    this.#inventory.held = desired.commit;
    await this.#inventory.save();
  }
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
