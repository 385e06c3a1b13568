import type { ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Change, Problem } from "../../shared/protocol/report.ts";
import { CannotKeep, failed } from "../host/host.ts";
import type { Host, PackageStep, StepResult, UnitStep } from "../host/host.ts";
import { countRepair, isTripped } from "./breaker.ts";
import { changeOf, diffOf } from "./describe.ts";
import { splitResource } from "./inventory.ts";
import type { Inventory } from "./inventory.ts";
import type { Desired } from "./plan.ts";

/** What protects a part of a run: see agent/confirm/. Whatever is changed through it can be put back. */
export interface Protection {
  /** The machine; nothing that is asked of it takes longer than is left. */
  readonly host: Host;
  /** Keeps how things stand, on disk, before they are touched. Answers which resources must not be touched, and why. */
  cover(steps: readonly Step[]): Promise<ReadonlyMap<ResourceId, string>>;
  /** Units that the covered steps want restarted. */
  readonly units: ReadonlySet<string>;
  /** There is no time left to change anything. */
  expired(): boolean;
}

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
  /** What is left as it is, and how the report says that: `held` and why not more, where it is not its own impact. */
  readonly #left = new Map<ResourceId, { readonly result: "held" | "waiting"; readonly why?: string }>();
  readonly #heldTriggers: ResourceId[] = [];
  readonly #asks: Ask[] = [];
  #effects = 0;
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

  /** How often the machine was changed so far, or may have been: a program that failed may have come halfway. */
  get effects(): number {
    return this.#effects;
  }

  get failedAnything(): boolean {
    return this.#failed.size > 0 || this.#tripped.size > 0;
  }

  /** What other nodes are to be asked for. */
  get asks(): readonly Ask[] {
    return this.#asks;
  }

  /** This run has changed it, or tried to, or left it as it is. */
  hasTouched(resource: ResourceId): boolean {
    return this.#done.has(resource) || this.#failed.has(resource) || this.#left.has(resource);
  }

  /**
   * What takes down what the cluster leans on waits for the node's turn, the whole resource with it: half a change that a
   * reboot would complete at any time is no better.
   */
  hold(steps: readonly Step[]): void {
    if (this.#context.disruption === "allowed") return;
    const waits = ({ impact, then }: Step): boolean => impact === "disruptive" || impact === "reboot" || then?.some((trigger) => trigger.impact === "disruptive") === true;
    for (const step of steps) if (waits(step) && !this.#left.has(step.resource)) this.#left.set(step.resource, { result: "held" });
  }

  /** Whether a step would change something now, as far as is known. */
  wouldRun(step: Step): boolean {
    if (step.do === "ask" || step.do === "fail" || !this.#passesBreaker(step)) return false;
    return ![step.resource, ...(step.needs ?? [])].some((resource) => this.#failed.has(resource) || this.#left.has(resource));
  }

  /** Nothing of these is done in this run. */
  block(steps: readonly Step[], why: string): void {
    for (const step of steps) {
      if (this.#left.has(step.resource)) continue;
      this.#failed.add(step.resource);
      this.#finish(step, failed(why), "blocked");
    }
  }

  /** What was done of these was put back, and the rest was not begun: all of it has failed, for this reason. */
  undone(steps: readonly Step[], why: string): void {
    const resources = new Set<string>(steps.filter((step) => !this.#left.has(step.resource)).map((step) => step.resource));
    for (const [at, change] of this.changes.entries()) {
      if (resources.has(change.resource) && change.result === "done") this.changes[at] = { ...change, result: "failed", error: why };
    }
    for (const step of steps) {
      if (!resources.has(step.resource)) continue;
      this.#done.delete(step.resource);
      this.#failed.add(step.resource);
      if (!this.changes.some((change) => change.resource === step.resource)) this.#finish(step, failed(why), "blocked");
    }
  }

  /** Of a last look: which resources wait for the node's turn, and which for another node. */
  leftOf(steps: readonly Step[], result: "held" | "waiting"): readonly ResourceId[] {
    const left = [...new Set(steps.map((step) => step.resource))].filter((resource) => !this.#failed.has(resource) && this.#left.get(resource)?.result === result);
    return result === "held" ? [...new Set([...left, ...this.#heldTriggers])] : left;
  }

  /**
   * Carries out steps of one kind, in order. Ends early, between two steps, when asked to stop; under protection only when
   * time is up or something fails. Then it answers what, and the rest is left undone.
   */
  async apply(steps: readonly Step[], protection?: Protection): Promise<string | null> {
    this.hold(steps);
    const allowed = steps.filter((step) => this.#passesBreaker(step));
    const open = allowed.filter((step) => this.wouldRun(step));
    for (const [resource, why] of (await protection?.cover(open)) ?? []) this.block(open.filter((step) => step.resource === resource), why);
    await this.#remember(allowed.filter((step) => this.wouldRun(step)));
    const failure = await this.#applyAll(allowed, protection);
    for (const resource of this.#newClaims) {
      // Claimed in advance, but nothing of it was made: it is not ours.
      if (this.#done.has(resource)) continue;
      this.#context.inventory.release(resource);
      for (const [path, keptFor] of this.#newlyKept) if (keptFor === resource) this.#context.inventory.forgetEarlier(path);
    }
    this.#newClaims.clear();
    this.#newlyKept.clear();
    await this.#context.inventory.save();
    return failure;
  }

  async #applyAll(steps: readonly Step[], protection: Protection | undefined): Promise<string | null> {
    for (const group of groups(steps)) {
      if (protection === undefined ? this.#context.signal.aborted : protection.expired()) return "there was no time left for all of it";
      const open = group.filter((step) => this.#isOpen(step));
      const before = this.changes.length;
      if (open.length > 0) await this.#applyGroup(open, protection?.host ?? this.#context.host);
      const bad = protection === undefined ? undefined : this.changes.slice(before).find((change) => change.result === "failed");
      if (bad !== undefined) return `${bad.resource}: ${bad.action} failed: ${bad.error ?? "it did not say why"}`;
    }
    return null;
  }

  /** Restarts and reloads, once each, at the end. What fails stays pending, and is tried again by the next run. */
  async trigger(protection?: Protection): Promise<string | null> {
    const { inventory, signal } = this.#context;
    const host = protection?.host ?? this.#context.host;
    for (const trigger of inventory.pending.filter(({ unit }) => protection === undefined || protection.units.has(unit))) {
      if (protection === undefined ? signal.aborted : protection.expired()) return "there was no time left for all restarts";
      const wanted = this.#wanted.get(trigger.unit);
      const resource: ResourceId = `services/${trigger.unit}`;
      const common = { resource, action: `${trigger.action} ${trigger.unit}`, why: "what it reads has changed", impact: protection === undefined ? ("service" as const) : ("network" as const) };
      if (wanted === "failed") {
        this.#failed.add(resource);
        this.changes.push({ ...common, result: "blocked", error: "not everything that it reads could be changed; it keeps running as it is until that is so" });
        continue;
      }
      if (wanted === undefined && !this.#pendingBefore.has(trigger.unit)) {
        inventory.removePending(trigger.unit);
        continue;
      }
      // Left over from a run under a lease that was cut short: it waits for the next one.
      if (this.#context.disruption === "hold" && this.#context.disruptiveUnits.has(trigger.unit)) {
        if (!this.#heldTriggers.includes(resource)) this.changes.push({ ...common, impact: "disruptive", result: "held" });
        this.#heldTriggers.push(resource);
        continue;
      }
      this.#context.onProgress?.(common.action);
      const result = await host.trigger(trigger);
      this.#effects += 1;
      if (result.ok) inventory.removePending(trigger.unit);
      else this.#failed.add(resource);
      this.changes.push({ ...common, result: result.ok ? "done" : "failed", ...(result.ok ? {} : { error: result.message }) });
      if (!result.ok && protection !== undefined) return `${common.action} failed: ${result.message}`;
    }
    await inventory.save();
    return null;
  }

  /** A step that a second look still asks for, although it was carried out: something works against it. */
  reportLeftover(step: Step): void {
    if (this.#failed.has(step.resource)) return;
    const left = this.#left.get(step.resource);
    if (left !== undefined) {
      this.changes.push(changeOf(step, left.result, left.why));
      return;
    }
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
    if (missing !== undefined) {
      this.#failed.add(step.resource);
      this.#finish(step, failed(`needs ${missing}, which failed`), "blocked");
      return false;
    }
    const late = step.needs?.find((need) => this.#left.has(need));
    if (late !== undefined && !this.#left.has(step.resource)) {
      const { result } = this.#left.get(late)!;
      this.#left.set(step.resource, { result, why: `needs ${late}, which ${result === "held" ? "waits for this node's turn" : "waits for another node"}` });
    }
    if (step.do === "ask" && late === undefined) this.#ask(step);
    return !this.#left.has(step.resource);
  }

  /** Asked for ahead where the resource itself has to wait for the node's turn: then the value is there. */
  #ask(step: Extract<Step, { do: "ask" }>): void {
    const [kind] = splitResource(step.resource);
    const { key, from, what, lastsMs } = step;
    if (!this.#asks.some((ask) => ask.kind === kind && ask.key === key)) this.#asks.push({ kind, key, from, what, lastsMs });
    if (!this.#left.has(step.resource)) this.#left.set(step.resource, { result: "waiting", why: `waits for ${what}, which ${from.join(" or ")} can make` });
  }

  async #applyGroup(steps: readonly Step[], host: Host): Promise<void> {
    const { inventory } = this.#context;
    const first = steps[0];
    if (first === undefined) return;
    for (const step of steps) this.#announce(step);
    if (first.do === "package") {
      const packages = steps as readonly PackageStep[];
      const results = await host.packages(packages, this.#context.declaredPackages);
      for (const step of packages) this.#finish(step, results.get(step.resource) ?? failed("the transaction ended before it came to this package"));
      return;
    }
    if (first.do === "unit") {
      await this.#applyUnits(steps as readonly UnitStep[], first.action, host);
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

  #announce(step: Step): void {
    const { action } = changeOf(step, "planned");
    this.#context.onProgress?.(step.oneWay === undefined ? action : `${action} (cannot be taken back: ${step.oneWay})`);
    if (step.oneWay !== undefined) this.#context.log?.(`${step.resource}: ${action} cannot be taken back: ${step.oneWay}`);
  }

  /** All at once; if that fails, one by one, to know which, and so that one bad unit does not keep the others down. */
  async #applyUnits(steps: readonly UnitStep[], action: UnitStep["action"], host: Host): Promise<void> {
    const { inventory } = this.#context;
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
    if (result.ok || (as === "failed" && HALFWAY.has(step.do))) this.#effects += 1;
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
    this.changes.push(changeOf(step, as, result.ok ? undefined : (desired.redactor?.text(result.message) ?? result.message), diff));
  }
}

/** Steps that may have changed something although they failed; the others happen at once or not at all. */
const HALFWAY: ReadonlySet<Step["do"]> = new Set(["run", "unit", "package", "directory", "attributes"]);

export interface RunContext {
  readonly host: Host;
  readonly inventory: Inventory;
  readonly desired: Desired;
  readonly declaredPackages: ReadonlySet<string>;
  /** The node held this very commit before: whatever differs now has drifted. */
  readonly isDrift: boolean;
  readonly nowMs: number;
  readonly signal: AbortSignal;
  /** Whether what takes down what the cluster leans on may be done: only under a lease. */
  readonly disruption: Disruption;
  /** Units whose restart is disruptive. */
  readonly disruptiveUnits: ReadonlySet<string>;
  readonly onProgress?: (action: string) => void;
  readonly log?: (message: string) => void;
}

export type Disruption = "hold" | "allowed";

/** A value that another node is to make: the `ask` step, and whose it is. */
export interface Ask {
  readonly kind: string;
  readonly key: string;
  readonly from: readonly string[];
  readonly what: string;
  readonly lastsMs: number;
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
