import type { NodeName } from "../../shared/ids.ts";
import type { GateReason, LeaseMessage, Work } from "../../shared/protocol/lease.ts";
import type { Lease, State } from "./state.ts";

/** Gates: what nodes have against somebody's going, although they are up. */

export interface Gated {
  readonly node: NodeName;
  readonly gates: readonly GateReason[];
}

/** Who can be heard and has anything to say. Hardly ever anybody: asked once for a step, however many wait. */
export function gatedOf({ durable, volatile }: State): readonly Gated[] {
  const gated: Gated[] = [];
  for (const [node, { online, word }] of volatile.views) if (online && word.gates !== undefined && word.gates.length > 0 && durable.members.has(node)) gated.push({ node, gates: word.gates });
  return gated;
}

export interface Against {
  readonly node: NodeName;
  readonly text: string;
}

/** What of it is still so with `asking` away as well. Of its own gates only those that are about its own going count. */
export function gatesAgainst(state: State, gated: readonly Gated[], asking: NodeName, work: Work["do"] | null): readonly Against[] {
  const changing = changingKinds(state, work);
  return gated.flatMap(({ node, gates }) =>
    gates
      .filter(({ kind, holds, missing }) => (holds === "all" || holds === (node === asking ? "itself" : "others")) && !(holds === "others" && changing.has(kind)) && !isExcused(state, missing, asking))
      .map(({ text }) => ({ node, text: gateText(node, node === asking ? "itself" : "others", text) })),
  );
}

/**
 * Of the work that rolls a change through the nodes: sections that some of them still hold back. Such a subsystem is not whole, as long
 * as it is half one thing and half the other, and the change is what makes it whole.
 */
function changingKinds({ volatile }: State, work: Work["do"] | null): ReadonlySet<string> {
  const kinds = new Set<string>();
  if (work === "converge") for (const { word } of volatile.views.values()) for (const resource of word.standing?.heldBack ?? []) kinds.add(resource.split("/", 1)[0]!);
  return kinds;
}

/** All that stands, whoever asks, or nobody. */
export function standingGates(state: State): readonly Against[] {
  return gatedOf(state).flatMap(({ node, gates }) => gates.filter(({ missing }) => !isExcused(state, missing, null)).map(({ text, holds }) => ({ node, text: gateText(node, holds, text) })));
}

function gateText(node: NodeName, holds: GateReason["holds"], text: string): string {
  return holds === "itself" ? `${node} must not go now: ${text}` : `${node} says that ${holds === "others" ? "no other" : "nobody"} may go now: ${text}`;
}

function isExcused(state: State, missing: readonly string[], asking: NodeName | null): boolean {
  return missing.length > 0 && missing.every((other) => other === asking || isAway(state, other));
}

/** Down, known to be, and counted: by order, or because it does not answer. */
function isAway({ durable, volatile }: State, node: string): boolean {
  for (const lease of durable.leases.values()) if (lease.node === node) return true;
  const member = durable.members.get(node as NodeName);
  return member?.agent === true && volatile.views.get(node as NodeName)?.online !== true;
}

/** Why a node that has come back cannot give its slot back yet; null when it can. */
export function notBackWhy(state: State, lease: Lease, word: LeaseMessage): string | null {
  return word.cordonedBy === null ? unwellWhy(state, word, lease.work.do) : `it has been taken out of service by ${word.cordonedBy}`;
}

/** Why a node that says so is not as it should be, on its way back from its work or after it; null when it is. */
export function unwellWhy(state: State, word: LeaseMessage, work: Work["do"]): string | null {
  if (!word.healthy) return word.trouble[0] ?? "it does not say why";
  // What it says of others is asked of it as soon as it is back.
  if (word.gates === undefined) return word.lease === null ? null : "it has not said yet how its subsystems are";
  const changing = changingKinds(state, work);
  const gate = word.gates.find(({ kind, holds, missing }) => holds !== "itself" && !changing.has(kind) && !isExcused(state, missing, null));
  return gate?.text ?? null;
}
