import type { Cluster } from "../../shared/config/cluster.ts";
import type { FleetLockMember } from "../../shared/config/policy.ts";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import type { Policy } from "./plan.ts";

/** What the repository says about rollouts, and what holds before it says anything. */

/** The desired membership and policy, at the tip of the main branch. */
export interface DesiredPolicy {
  readonly commit: CommitId;
  readonly cluster: Cluster;
  readonly nodes: readonly { readonly name: NodeName; readonly fleetlock: FleetLockMember | null }[];
}

export function policyOf(desired: DesiredPolicy | null, hubNode: NodeName | null): Policy {
  const nodes = (desired?.nodes ?? []).filter(({ fleetlock }) => fleetlock === null).map(({ name }) => name);
  return { updates: desired?.cluster.updates ?? noUpdates, rollout: desired?.cluster.rollout ?? noRollout, windows: desired?.cluster.windows ?? {}, nodes, hubNode: hubNode !== null && nodes.includes(hubNode) ? hubNode : null };
}

const noRollout: Policy["rollout"] = { commits: "everywhere", canary: [], soakMinutes: 2, changes: "at-once", changeSoakMinutes: 1, nodeMinutes: 10 };
const noUpdates: Policy["updates"] = {
  scope: "all",
  windows: [],
  canary: [],
  canarySoakMinutes: 30,
  soakMinutes: 5,
  order: [],
  rebootWhen: "required",
  deferDays: 0,
  exclude: [],
  blackouts: [],
  nodeMinutes: 30,
  drainTimeoutMinutes: 10,
  onDrainTimeout: "undo",
};
