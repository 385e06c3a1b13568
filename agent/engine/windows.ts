import { reasonText } from "../../shared/kinds/kind.ts";
import type { Kind, ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Problem } from "../../shared/protocol/report.ts";
import { whyBack } from "../confirm/back.ts";
import type { Closed, Confirmation, Window } from "../confirm/confirmation.ts";
import type { ConfirmRecord } from "../confirm/record.ts";
import type { Host } from "../host/host.ts";
import type { Inventory } from "./inventory.ts";
import { neededInside, splitNetwork } from "./network-steps.ts";
import type { Split } from "./network-steps.ts";
import type { Desired } from "./plan.ts";
import type { Run } from "./run.ts";

/** How long a change of the network may take to be confirmed, where the repository does not say. */
const CONFIRM_MS_DEFAULT = 60_000;
/** Kinds whose gates speak of neighbours on the network: any change of it may cost them, also one by another kind. */
const PEER_KINDS: ReadonlySet<string> = new Set(["frr", "keepalived"]);

export interface WindowsParts {
  readonly run: Run;
  readonly desired: Desired;
  readonly host: Host;
  readonly kinds: readonly Kind[];
  readonly inventory: Inventory;
  readonly confirmation: Confirmation | null;
  /** What was put back on this node, of this very commit. */
  readonly unconfirmed: ConfirmRecord | null;
  readonly signal: AbortSignal;
  readonly onProgress?: (action: string) => void;
  /** What a kind wants now, without what is pruned. */
  readonly stepsOf: (kind: Kind) => Promise<readonly Step[]>;
}

/** What was kept back of one kind; what is pruned goes before what is made. */
interface Deferred extends Omit<Split, "now"> {
  readonly kind: Kind;
  readonly part: "pruned" | "made";
}

function insideOf({ inside, after }: Omit<Split, "now">, needed: ReadonlySet<ResourceId>): readonly Step[] {
  return [...after.filter((step) => needed.has(step.resource)), ...inside];
}

/** The part of a run that can cut the node off: gathers it, and carries it out under a confirmed commit. See network-steps.ts. */
export class Windows {
  readonly #parts: WindowsParts;
  #deferred: Deferred[] = [];
  #unconfirmed: ConfirmRecord | null;
  /** Said once, however often a run looks again. */
  readonly #blocked = new Set<ResourceId>();

  constructor(parts: WindowsParts) {
    this.#parts = parts;
    this.#unconfirmed = parts.unconfirmed;
  }

  get stopped(): boolean {
    return this.#parts.signal.aborted;
  }

  /** For the report: what was put back, now or earlier. */
  get problems(): readonly Problem[] {
    const record = this.#unconfirmed;
    return record === null ? [] : [{ code: "unconfirmed", message: sayUnconfirmed(record) }];
  }

  /** Keeps back what has to go under a confirmed commit, and what needs that; answers the rest. */
  defer(kind: Kind, steps: readonly Step[], part: Deferred["part"]): readonly Step[] {
    const split = splitNetwork(steps, new Set(this.#deferred.flatMap(({ inside, after }) => [...inside, ...after].map((step) => step.resource))));
    if (split.inside.length + split.after.length > 0) this.#deferred.push({ ...split, kind, part });
    return split.now;
  }

  /** Carries out what was kept back: what is inside a window, and then what needed it. */
  async run(): Promise<void> {
    const { run } = this.#parts;
    const deferred = this.#deferred;
    this.#deferred = [];
    if (deferred.length === 0 || this.stopped) return;
    const after = deferred.flatMap((each) => each.after);
    const needed = neededInside(deferred.flatMap((each) => each.inside), after);
    const steps = deferred.flatMap((each) => insideOf(each, needed));
    // What cannot be had anyway, or waits for another node, is no reason to put the rest back.
    await run.apply(steps.filter((step) => step.do === "fail" || step.do === "ask"));
    if (this.#unconfirmed !== null) this.#block(steps, `not tried again on this node: ${sayUnconfirmed(this.#unconfirmed)}`);
    else if (steps.some((step) => run.wouldRun(step))) await this.#window(deferred, needed, steps);
    else await run.apply(steps);
    const afterwards = new Set(after.filter((step) => !needed.has(step.resource)).map((step) => step.resource));
    for (const each of deferred) {
      if (afterwards.size === 0 || this.stopped) return;
      const now = each.part === "pruned" ? each.after : await this.#parts.stepsOf(each.kind);
      await run.apply(now.filter((step) => afterwards.has(step.resource)));
    }
  }

  async #window(deferred: readonly Deferred[], needed: ReadonlySet<ResourceId>, steps: readonly Step[]): Promise<void> {
    const { run, desired, host, inventory, confirmation, onProgress } = this.#parts;
    if (confirmation === null) return this.#block(steps, "it may cut the node off, and nothing here could put it back");
    const limitMs = desired.confirmMs ?? CONFIRM_MS_DEFAULT;
    const kinds = new Set(deferred.map(({ kind }) => kind.name));
    const window = await confirmation.open(inventory, { commit: desired.commit, limitMs, host, reasons: () => this.#reasons(kinds) });
    if ("failed" in window) return this.#block(steps, window.failed);
    const before = run.effects;
    const covered = [...steps];
    const failure = await this.#inside(window, deferred, needed, covered);
    if (failure !== null && run.effects === before) return window.cancel();
    onProgress?.(`waiting until it is sure that the node is not cut off (at most ${limitMs / 1_000} s)`);
    const closed: Closed = await window.close(failure === null ? null : (desired.redactor?.deep(failure) ?? failure));
    if (closed.kept) return;
    this.#unconfirmed = closed.record;
    run.undone(covered, `put back: ${whyBack(closed.record)}`);
  }

  /** All of it or nothing: at the first failure it is left, and put back. Answers that failure. */
  async #inside(window: Window, deferred: readonly Deferred[], needed: ReadonlySet<ResourceId>, covered: Step[]): Promise<string | null> {
    const { run, stepsOf } = this.#parts;
    for (const each of deferred) {
      // Looked at anew, as what came before may have changed what there is to do.
      const now = each.part === "pruned" ? each : { ...each, ...splitNetwork(await stepsOf(each.kind), new Set(each.after.map((step) => step.resource))) };
      const mine = insideOf(now, needed);
      covered.push(...mine);
      const failure = await run.apply(mine, window);
      if (failure !== null) return failure;
    }
    return run.trigger(window);
  }

  #block(steps: readonly Step[], why: string): void {
    const fresh = steps.filter((step) => !this.#blocked.has(step.resource));
    for (const step of fresh) this.#blocked.add(step.resource);
    this.#parts.run.block(fresh, why);
  }

  /** What the subsystems have to say against how it is now. */
  async #reasons(asked: ReadonlySet<string>): Promise<readonly string[]> {
    const { kinds, desired, host } = this.#parts;
    const reasons = await Promise.all(
      kinds.map(async ({ name, gate }): Promise<readonly string[]> => {
        const want = desired.sections.get(name);
        if (gate === undefined || want === undefined || !(asked.has(name) || PEER_KINDS.has(name))) return [];
        const facts = await gate.observe(want, host.probe).catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
        return facts instanceof Error ? [`it is not known how ${name} is: ${facts.message}`] : gate.reasons(want, facts).map(reasonText);
      }),
    );
    return reasons.flat();
  }
}

function sayUnconfirmed(record: ConfirmRecord): string {
  const commit = record.commit.slice(0, 8);
  return `the change of the network by ${commit} was put back (${record.back?.at ?? record.armedAt}): ${whyBack(record)}. Push a commit that does better, or run "evenkeel-agent apply --retry" on the node to try the same again.`;
}
