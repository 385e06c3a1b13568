import type { ResourceId, Step } from "../../shared/kinds/kind.ts";

/**
 * What can cut the node off goes together, as late as the order of kinds allows, and with its restarts: it is confirmed or
 * put back as one. What is harmless comes before it, and what needs it after it.
 *
 * ```text
 *   kind:     packages   files   network   firewall   frr   services
 *   runs:     now        now     ─ deferred ───────────▶ │   now
 *                                                 window ┘ (all network steps, then their restarts, then: confirmed?)
 * ```
 */

/** Something disruptive that says how it is undone can cut the node off as well: a bond's members, a router's daemon. */
export function isNetwork(step: Step): boolean {
  return step.impact === "network" || (step.undo !== undefined && (step.impact === "disruptive" || step.impact === "reboot"));
}

export interface Split {
  readonly now: readonly Step[];
  readonly inside: readonly Step[];
  readonly after: readonly Step[];
}

/**
 * Divides the steps of one kind, in order. From the first that is of the network to the last, all of them go inside the
 * window, as their order may mean something; those behind them come after it, and so does what needs what waits.
 * @param waiting resources of earlier kinds that wait already.
 */
export function splitNetwork(steps: readonly Step[], waiting: ReadonlySet<ResourceId>): Split {
  const network = networkResources(steps);
  const first = steps.findIndex((step) => network.has(step.resource));
  const last = steps.findLastIndex((step) => network.has(step.resource));
  const waits = new Set([...waiting, ...network]);
  const [now, after]: [Step[], Step[]] = [[], []];
  for (const [at, step] of steps.entries()) {
    if (first !== -1 && at >= first && at <= last) waits.add(step.resource);
    else if ((first !== -1 && at > last) || waits.has(step.resource) || step.needs?.some((need) => waits.has(need)) === true) {
      waits.add(step.resource);
      after.push(step);
    } else now.push(step);
  }
  return { now, inside: first === -1 ? [] : steps.slice(first, last + 1), after };
}

/** Of what was to come after the window, what is needed inside it after all: by a network step of a later kind. */
export function neededInside(inside: readonly Step[], after: readonly Step[]): ReadonlySet<ResourceId> {
  const waits = new Set(after.map((step) => step.resource));
  const needed = new Set<ResourceId>();
  const add = (steps: readonly Step[]): void => {
    for (const need of steps.flatMap((step) => step.needs ?? [])) {
      if (!waits.has(need) || needed.has(need)) continue;
      needed.add(need);
      add(after.filter((step) => step.resource === need));
    }
  };
  add(inside);
  return needed;
}

/** A resource with a network step, and what it needs that is not harmless: a bond's files, which say that they are disruptive. */
function networkResources(steps: readonly Step[]): ReadonlySet<ResourceId> {
  const network = new Set(steps.filter(isNetwork).map((step) => step.resource));
  const harmful = new Set(steps.filter((step) => step.impact !== "none").map((step) => step.resource));
  // Grown until nothing is added: a set goes on over what is added to it meanwhile.
  for (const resource of network) {
    for (const step of steps) if (step.resource === resource) for (const need of step.needs ?? []) if (harmful.has(need)) network.add(need);
  }
  return network;
}
