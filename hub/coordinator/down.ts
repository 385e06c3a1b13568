import type { NodeName } from "../../shared/ids.ts";
import type { NodeLease } from "../../shared/protocol/lease.ts";
import type { Lease, LeasePhase, Now, Patience, State, Volatile } from "./state.ts";

/** Who counts as down, and why. What is not known to be up is down. */

export type DownCode = "leased" | "unreachable" | "unhealthy" | "cordoned";

export interface Down {
  readonly code: DownCode;
  /** "n2 is not well: nginx.service has failed". */
  readonly text: string;
  readonly sinceMs: number | null;
}

const phaseTexts: Record<LeasePhase, string> = {
  draining: "is being drained",
  drained: "is drained, and waits for the second word",
  confirmed: "is at work or rebooting",
  aborting: "is putting back what it drained",
  checking: "is back, and being checked",
  soaking: "is back, and being watched",
  held: "is held",
};

/** Null when the node is up as far as we know. */
export function downOf(state: State, node: NodeName, now: Now, patience: Patience, leases = leasesByNode(state)): Down | null {
  const lease = leases.get(node);
  if (lease !== undefined) return { code: "leased", text: `${node} ${phaseTexts[lease.phase]} (${lease.by})${lease.stuck === null ? "" : `, and is stuck: ${lease.stuck.why}`}`, sinceMs: lease.phaseSinceMs };
  if (state.durable.members.get(node)?.agent === false) return null;
  const away = unreachableWhy(state.volatile, node, now, patience);
  if (away !== null) return { code: "unreachable", text: away, sinceMs: null };
  const word = state.volatile.views.get(node)?.word;
  if (word === undefined || isActive(word.lease)) return { code: "leased", text: `${node} is at work on a lease that this hub does not know`, sinceMs: null };
  if (!word.healthy) return { code: "unhealthy", text: `${node} is not well: ${word.trouble[0] ?? "it does not say why"}`, sinceMs: null };
  if (word.cordonedBy !== null) return { code: "cordoned", text: `${node} has been taken out of service by ${word.cordonedBy}`, sinceMs: null };
  return null;
}

/** A node may do something on this lease, or is not itself again: for all but the last word of a lease. */
export function isActive(lease: NodeLease | null): boolean {
  return lease !== null && lease.phase !== "declined" && lease.phase !== "back";
}

export function unreachableWhy(volatile: Volatile, node: NodeName, now: Now, patience: Patience): string | null {
  const view = volatile.views.get(node);
  if (view === undefined) return `${node} has not been heard of since the hub started`;
  if (!view.online) return `${node} is not connected`;
  if (now.monoMs - view.heardMonoMs > patience.staleMs) return `${node} has not been heard of for ${Math.round((now.monoMs - view.heardMonoMs) / 1_000)} s`;
  return null;
}

export function leasesByNode({ durable }: State): ReadonlyMap<NodeName, Lease> {
  return new Map([...durable.leases.values()].map((lease) => [lease.node, lease]));
}

export function leaseOf(state: State, node: NodeName): Lease | undefined {
  for (const lease of state.durable.leases.values()) if (lease.node === node) return lease;
  return undefined;
}
