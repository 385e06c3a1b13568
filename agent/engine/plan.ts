import type { Given, Kind, Probe, ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Problem } from "../../shared/protocol/report.ts";
import type { Redactor } from "../../shared/secrets/redact.ts";
import type { Unopened } from "../../shared/secrets/vault.ts";
import type { Inventory } from "./inventory.ts";
import { asNodeStands } from "./disruption.ts";
import { guardSecrets, withoutUnopened } from "./secrets.ts";

/** What a node shall be: made by `agent/desired/` out of one verified commit. */
export interface Desired {
  readonly commit: string;
  /** Kind → its section, validated, contents filled in. A kind that is missing wants nothing. */
  readonly sections: ReadonlyMap<string, unknown>;
  /** Digest of what the repository says about one resource: a breaker starts anew when it changes. */
  digestOf(resource: ResourceId): string;
  /** What other nodes have made for this one, by kind and key. */
  givenTo?(kind: string): Given;
  /** Finds the secrets that are in the sections. */
  readonly redactor?: Redactor;
  /** By kind: what of its section is not to be had, because its secrets could not be opened. Stand-ins are in their place. */
  readonly unopened?: ReadonlyMap<string, Unopened>;
  /** Node → age recipient, by signed history. */
  readonly recipients?: ReadonlyMap<string, string>;
  /** Units that are down for the lease in hand: nothing starts them before they are put back. */
  readonly drained?: ReadonlySet<string>;
  /** How many things the sections declare. */
  readonly resources: number;
  readonly removalsMax: number;
  readonly repairsMax: number;
  /** How long a change of the network may take to be confirmed; default 60 s. */
  readonly confirmMs?: number;
}

export interface KindPlan {
  readonly kind: Kind;
  readonly steps: readonly Step[];
}

export interface WholePlan {
  readonly plans: readonly KindPlan[];
  readonly problems: readonly Problem[];
  /** Kinds that could not be looked at: they are neither converged nor touched. */
  readonly blind: readonly string[];
}

const NOTHING_GIVEN: Given = new Map();

/** Looks at everything and says what to do. Reads only. One kind that cannot look does not keep the others from it. */
export async function planAll(kinds: readonly Kind[], desired: Desired, probe: Probe, inventory: Inventory): Promise<WholePlan> {
  const looked = await Promise.all(kinds.map((kind) => planKind(kind, desired, probe, inventory)));
  return {
    plans: looked.flatMap((look) => (look.plan === null ? [] : [look.plan])),
    problems: looked.flatMap((look) => look.problems),
    blind: looked.flatMap((look) => (look.blind === undefined ? [] : [look.blind])),
  };
}

export async function planKind(
  kind: Kind,
  desired: Desired,
  probe: Probe,
  inventory: Inventory,
): Promise<{ plan: KindPlan | null; problems: readonly Problem[]; blind?: string }> {
  const owned = inventory.ownedOf(kind.name);
  const section = desired.sections.get(kind.name);
  const unopened = desired.unopened?.get(kind.name);
  if (unopened !== undefined && (unopened.keys === null || section === undefined)) return { plan: null, problems: [{ code: "secret", message: `nothing of ${kind.name} is looked at or changed: ${unopened.message}`, resource: kind.name }], blind: kind.name };
  if (section === undefined && owned.size === 0) return { plan: null, problems: [] };
  // A section that is gone while something of it is owned is an empty one: all of it is to be pruned.
  const want = section ?? emptySection(kind);
  try {
    const facts = await kind.observe(want, probe, owned);
    const planned = asNodeStands(kind.plan(want, facts, owned, desired.givenTo?.(kind.name) ?? NOTHING_GIVEN), desired);
    const possible = unopened?.keys == null ? planned : withoutUnopened(kind.name, planned, { ...unopened, keys: unopened.keys });
    return { plan: { kind, steps: desired.redactor === undefined ? possible : guardSecrets(possible, desired.redactor) }, problems: [] };
  } catch (error) {
    const message = `could not look at ${kind.name}: ${error instanceof Error ? error.message : String(error)}. Nothing of it was changed; it is tried again by itself.`;
    return { plan: null, problems: [{ code: "observe", message, resource: kind.name }], blind: kind.name };
  }
}

function emptySection(kind: Kind): unknown {
  return kind.schema.parse({});
}

/**
 * The order in which a run goes: first what is taken away, in reverse order of kinds (a unit is stopped before its file
 * goes, before its package goes), then what is made, in order. Packages stay one transaction, in their own place.
 */
export function removalsFirst(plans: readonly KindPlan[]): readonly Step[] {
  return plans.toReversed().flatMap((plan) => splitRemovals(plan.steps).early);
}

/**
 * What is pruned goes early. What the repository wants to be absent does not: a package that is installed in this run may
 * bring it along.
 */
export function splitRemovals(steps: readonly Step[]): { readonly early: readonly Step[]; readonly rest: readonly Step[] } {
  const pruned = new Set(steps.filter((step) => step.release === true).map((step) => step.resource));
  const isEarly = (step: Step) => step.removes === true && step.do !== "package" && pruned.has(step.resource);
  return { early: steps.filter(isEarly), rest: steps.filter((step) => !isEarly(step)) };
}

/** How many managed things a plan would take away, however many steps that needs. */
export function countRemovals(plans: readonly KindPlan[]): readonly ResourceId[] {
  return [...new Set(plans.flatMap((plan) => plan.steps.filter((step) => step.removes === true).map((step) => step.resource)))];
}
