import type { CommitId, NodeName } from "../../shared/ids.ts";
import type { Rollout } from "./state.ts";

/** What is kept of rollouts, beside the coordinator's state and in the same transactions. */
export interface Campaigns {
  /** The oldest first; at most one is running or halted. */
  readonly rollouts: ReadonlyMap<string, Rollout>;
  /** The window's opening that was used last; null before the first. */
  readonly lastOpeningMs: number | null;
  /** How long each node took the last time for an update or a reboot, from its slot to its return, in milliseconds. */
  readonly durations: ReadonlyMap<NodeName, number>;
  /** The last commit that everybody may take, after the canary held it or by a person's word; null before the first. */
  readonly released: { readonly commit: CommitId; readonly by: string } | null;
}

export const ROLLOUTS_MAX = 50;

export const noCampaigns: Campaigns = { rollouts: new Map(), lastOpeningMs: null, durations: new Map(), released: null };

/** The one that runs or is halted. */
export function activeRollout({ rollouts }: Campaigns): Rollout | null {
  for (const rollout of rollouts.values()) if (rollout.phase === "running" || rollout.phase === "halted") return rollout;
  return null;
}

export function withRollout(campaigns: Campaigns, rollout: Rollout): Campaigns {
  const rollouts = new Map(campaigns.rollouts).set(rollout.id, rollout);
  for (const id of rollouts.keys()) {
    if (rollouts.size <= ROLLOUTS_MAX) break;
    rollouts.delete(id);
  }
  return { ...campaigns, rollouts };
}
