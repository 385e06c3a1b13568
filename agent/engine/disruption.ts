import { markedUnits, withUnitImpact } from "../../shared/kinds/disruptive-units.ts";
import type { Step } from "../../shared/kinds/kind.ts";
import type { Desired } from "./plan.ts";

/** Units that the owner calls disruptive, whichever kind touches them. */
export function disruptiveUnits({ sections }: Pick<Desired, "sections">): ReadonlySet<string> {
  return markedUnits(sections.get("services"));
}

/** A plan as it may be carried out on this node now: what is drained stays down, and what takes down others says so. */
export function asNodeStands(steps: readonly Step[], desired: Pick<Desired, "sections" | "drained">): readonly Step[] {
  const { drained } = desired;
  const left = drained === undefined || drained.size === 0 ? steps : steps.filter((step) => step.do !== "unit" || step.action !== "start" || !drained.has(step.unit));
  return withUnitImpact(left, disruptiveUnits(desired));
}
