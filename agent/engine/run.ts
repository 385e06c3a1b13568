import type { ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Change, Problem } from "../../shared/protocol/report.ts";
import { CannotKeep, failed } from "../host/host.ts";
import type { Host, PackageStep, StepResult, UnitStep } from "../host/host.ts";
import { countRepair, isTripped } from "./breaker.ts";
import { changeOf, diffOf } from "./describe.ts";
import type { Inventory } from "./inventory.ts";
import type { Desired } from "./plan.ts";

/**
 * One application of a plan: carries steps out in order, remembers what failed, blocks what depends on that, and lets
 * everything else go on. Whatever must survive a crash goes into the inventory before the machine is touched.
 */
export class Run {
  readonly changes: Change[] = [];
  readonly problems: Problem[] = [];
  readonly #context: RunContext;
  readonly #failed = new Set<ResourceId>();
  readonly #tripped = new Set<ResourceId>();
  readonly #done = new Set<ResourceId>();
  readonly #newClaims = new Set<ResourceId>();
  /** Paths whose earlier state was first kept in this run, and for which resource. */
  readonly #newlyKept = new Map<string, ResourceId>();
  readonly #repaired = new Set<ResourceId>();
  /** Units that a step of this run wants restarted, and how that step ended. */
  readonly #wanted = new Map<string, "done" | "failed">();
  readonly #pendingBefore: ReadonlySet<string>;

  constructor(context: RunContext) {
    this.#context = context;
    this.#pendingBefore = new Set(context.inventory.pending.map((trigger) => trigger.unit));
  }

  get changedAnything(): boolean {
    return this.#done.size > 0;
  }

  get failedAnything(): boolean {
    return this.#failed.size > 0 || this.#tripped.size > 0;
  }

  /** This run has changed it, or tried to. */
  hasTouched(resource: ResourceId): boolean {
    return this.#done.has(resource) || this.#failed.has(resource);
  }

  /** Carries out steps of one kind, in order. Ends early, between two steps, when asked to stop. */
  async apply(steps: readonly Step[]): Promise<void> {
    const allowed = steps.filter((step) => this.#passesBreaker(step));
    await this.#remember(allowed);
    for (const group of groups(allowed)) {
      if (this.#context.signal.aborted) break;
      const open = group.filter((step) => this.#isOpen(step));
      if (open.length > 0) await this.#applyGroup(open);
    }
    for (const resource of this.#newClaims) {
      // Claimed in advance, but nothing of it was made: it is not ours.
      if (this.#done.has(resource)) continue;
      this.#context.inventory.release(resource);
      for (const [path, keptFor] of this.#newlyKept) if (keptFor === resource) this.#context.inventory.forgetEarlier(path);
    }
    this.#newClaims.clear();
    this.#newlyKept.clear();
    await this.#context.inventory.save();
  }

  /** Restarts and reloads, once each, at the end. What fails stays pending, and is tried again by the next run. */
  async trigger(): Promise<void> {
    const { inventory, host, signal } = this.#context;
    for (const trigger of inventory.pending) {
      if (signal.aborted) return;
      const wanted = this.#wanted.get(trigger.unit);
      const resource: ResourceId = `services/${trigger.unit}`;
      const common = { resource, action: `${trigger.action} ${trigger.unit}`, why: "what it reads has changed", impact: "service" as const };
      if (wanted === "failed") {
        this.#failed.add(resource);
        this.changes.push({ ...common, result: "blocked", error: "not everything that it reads could be changed; it keeps running as it is until that is so" });
        continue;
      }
      if (wanted === undefined && !this.#pendingBefore.has(trigger.unit)) {
        inventory.removePending(trigger.unit);
        continue;
      }
      this.#context.onProgress?.(common.action);
      const result = await host.trigger(trigger);
      if (result.ok) inventory.removePending(trigger.unit);
      else this.#failed.add(resource);
      this.changes.push({ ...common, result: result.ok ? "done" : "failed", ...(result.ok ? {} : { error: result.message }) });
    }
    await inventory.save();
  }

  /** A step that a second look still asks for, although it was carried out: something works against it. */
  reportLeftover(step: Step): void {
    if (this.#failed.has(step.resource)) return;
    this.#failed.add(step.resource);
    const reason = step.do === "fail" ? step.message : "it was changed, and a second look finds it different again: another program may be changing it, or it cannot be had like this";
    this.changes.push(changeOf(step, "failed", reason));
  }

  #passesBreaker(step: Step): boolean {
    const { inventory, desired, nowMs } = this.#context;
    const { resource } = step;
    if (this.#tripped.has(resource)) return false;
    if (!isTripped(inventory, resource, desired.digestOf(resource), { repairsMax: desired.repairsMax }, nowMs)) return true;
    this.#tripped.add(resource);
    this.#failed.add(resource);
    const message = `${resource} was repaired ${desired.repairsMax} times in a row and is left as it is: something on this node works against it. Find out what, then run "evenkeel-agent apply --retry" on the node.`;
    this.problems.push({ code: "breaker", message, resource });
    this.changes.push(changeOf(step, "blocked", message));
    return false;
  }

  /** Claims, earlier content and triggers, on disk before the first step runs. */
  async #remember(steps: readonly Step[]): Promise<void> {
    const { inventory, isDrift } = this.#context;
    for (const step of steps) {
      for (const trigger of step.then ?? []) inventory.addPending(trigger);
      // What was right before and is not ours stays not ours when somebody breaks it: what they made of it is nothing to go back to.
      if (isDrift) continue;
      if (step.claim !== undefined && !inventory.owns(step.resource)) {
        inventory.claim(step.resource, step.claim);
        this.#newClaims.add(step.resource);
      }
      const path = changedPath(step);
      if (path !== undefined && inventory.earlier(path) === undefined) await this.#keep(step, path);
    }
    await inventory.save();
  }

  /** What cannot be kept (a file too large) is not touched: its resource fails, and nothing else. */
  async #keep(step: Step, path: string): Promise<void> {
    const { inventory, host } = this.#context;
    try {
      inventory.keepEarlier(path, await host.keep(path));
      this.#newlyKept.set(path, step.resource);
    } catch (error) {
      if (!(error instanceof CannotKeep)) throw error;
      this.#failed.add(step.resource);
      this.changes.push(changeOf(step, "failed", `what stands at ${path} now could not be kept, so it is left as it is: ${error.message}`));
    }
  }

  #isOpen(step: Step): boolean {
    if (this.#failed.has(step.resource)) {
      this.#finish(step, failed("an earlier step of the same resource failed"), "blocked");
      return false;
    }
    const missing = step.needs?.find((need) => this.#failed.has(need));
    if (missing === undefined) return true;
    this.#failed.add(step.resource);
    this.#finish(step, failed(`needs ${missing}, which failed`), "blocked");
    return false;
  }

  async #applyGroup(steps: readonly Step[]): Promise<void> {
    const { host, inventory } = this.#context;
    const first = steps[0];
    if (first === undefined) return;
    for (const step of steps) this.#context.onProgress?.(changeOf(step, "planned").action);
    if (first.do === "package") {
      const packages = steps as readonly PackageStep[];
      const results = await host.packages(packages, this.#context.declaredPackages);
      for (const step of packages) this.#finish(step, results.get(step.resource) ?? failed("the transaction ended before it came to this package"));
      return;
    }
    if (first.do === "unit") {
      await this.#applyUnits(steps as readonly UnitStep[], first.action);
      return;
    }
    for (const step of steps) {
      const diff = await diffOf(step, host.probe);
      const path = "path" in step ? step.path : undefined;
      const result = await host.apply(step, path === undefined ? undefined : inventory.earlier(path));
      if (result.ok && path !== undefined && (step.do === "restore" || step.release === true)) inventory.forgetEarlier(path);
      this.#finish(step, result, result.ok ? "done" : "failed", diff);
    }
  }

  /** All at once; if that fails, one by one, to know which, and so that one bad unit does not keep the others down. */
  async #applyUnits(steps: readonly UnitStep[], action: UnitStep["action"]): Promise<void> {
    const { host, inventory } = this.#context;
    const together = await host.units(action, steps.map((step) => step.unit));
    for (const step of steps) {
      const result = together.ok || steps.length === 1 ? together : await host.units(action, [step.unit]);
      // Started after everything it reads was written: the restart that was waiting for it has nothing left to do.
      if (result.ok && action === "start") inventory.removePending(step.unit);
      this.#finish(step, result);
    }
  }

  #finish(step: Step, result: StepResult, as: Change["result"] = result.ok ? "done" : "failed", diff?: string): void {
    const { inventory, desired, nowMs } = this.#context;
    if (result.ok) {
      this.#done.add(step.resource);
      if (step.release) inventory.release(step.resource);
      if (step.release !== true && !this.#repaired.has(step.resource)) {
        this.#repaired.add(step.resource);
        countRepair(inventory, step.resource, desired.digestOf(step.resource), nowMs, this.#context.isDrift ? 1 : 0);
      }
    } else {
      this.#failed.add(step.resource);
    }
    for (const trigger of step.then ?? []) {
      if (!result.ok || this.#wanted.get(trigger.unit) !== "failed") this.#wanted.set(trigger.unit, result.ok ? "done" : "failed");
    }
    this.changes.push(changeOf(step, as, result.ok ? undefined : result.message, diff));
  }
}

export interface RunContext {
  readonly host: Host;
  readonly inventory: Inventory;
  readonly desired: Desired;
  readonly declaredPackages: ReadonlySet<string>;
  /** The node held this very commit before: whatever differs now has drifted. */
  readonly isDrift: boolean;
  readonly nowMs: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (action: string) => void;
}

/** The path whose earlier state must be kept before a step changes it. */
function changedPath(step: Step): string | undefined {
  switch (step.do) {
    case "write":
    case "attributes":
    case "directory":
    case "link":
      return step.path;
    case "remove":
      // What the agent made and now takes away was nothing before; what was there before, is kept to be put back.
      return step.release === true ? undefined : step.path;
    default:
      return undefined;
  }
}

/** Neighbours that go in one call: package steps, and unit steps of one action. Everything else goes alone. */
function groups(steps: readonly Step[]): readonly (readonly Step[])[] {
  const result: Step[][] = [];
  for (const step of steps) {
    const last = result.at(-1)?.[0];
    const together =
      last !== undefined &&
      ((step.do === "package" && last.do === "package") || (step.do === "unit" && last.do === "unit" && step.action === last.action && step.needs === undefined));
    if (together) result.at(-1)?.push(step);
    else result.push([step]);
  }
  return result;
}
