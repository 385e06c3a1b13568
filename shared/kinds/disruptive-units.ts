import type { Json, Owned, Step } from "./kind.ts";

/**
 * Units that the cluster leans on, by their owner's word: whatever stops or restarts one of them waits for the node's turn,
 * whichever kind asks for it. A reload counts as well, since it becomes a restart where the unit cannot reload
 * (`systemctl try-reload-or-restart`); a start takes nothing down.
 */

/** Those that a services section marks. */
export function markedUnits(section: unknown): ReadonlySet<string> {
  const units = (section ?? {}) as Readonly<Record<string, { readonly disruptive?: boolean | undefined }>>;
  return new Set(Object.keys(units).filter((unit) => units[unit]?.disruptive === true));
}

/** Those that were marked when the agent first set their state, and have left the section since. */
export function markedBefore(owned: Owned): ReadonlySet<string> {
  return new Set([...owned].flatMap(([unit, claim]) => (isMarked(claim) ? [unit] : [])));
}

function isMarked(claim: Json): boolean {
  return typeof claim === "object" && claim !== null && (claim as Readonly<Record<string, Json>>)["disruptive"] === true;
}

/** The same steps, with an impact that says what they do to these units. What may cut the node off stays that, with a trigger that waits. */
export function withUnitImpact(steps: readonly Step[], units: ReadonlySet<string>): readonly Step[] {
  if (units.size === 0) return steps;
  return steps.map((step): Step => {
    const stops = step.do === "unit" && step.action === "stop" && units.has(step.unit);
    const restarts = step.then?.some(({ unit }) => units.has(unit)) === true;
    if (!stops && !restarts) return step;
    const isStronger = step.impact === "network" || step.impact === "reboot";
    const then = step.then?.map((trigger) => (units.has(trigger.unit) ? { ...trigger, impact: "disruptive" as const } : trigger));
    return { ...step, ...(then !== undefined && { then }), impact: isStronger ? step.impact : "disruptive" };
  });
}
