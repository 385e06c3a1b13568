import type { CommitId, NodeName } from "../../shared/ids.ts";
import { shortCommit } from "../../shared/ids.ts";
import { blackoutAt, windowAt } from "../../shared/window.ts";
import type { Now, State } from "../coordinator/state.ts";
import type { Campaigns } from "./campaigns.ts";
import { activeRollout } from "./campaigns.ts";
import type { Policy } from "./plan.ts";
import type { Rollout } from "./state.ts";
import { holdsBack } from "./step.ts";

/**
 * Disruptive changes roll by themselves: as soon as a node says that it holds something back of its commit, a rollout goes
 * from node to node. A push is somebody's hand, so it does not wait for a window, unless the owner says so. Pure.
 */

export interface DueChange {
  readonly commit: CommitId;
  readonly window: Rollout["window"];
}

/** The rollout of a change that should begin now; null when there is none. */
export function dueChange(policy: Policy, state: State, campaigns: Campaigns, now: Now): DueChange | null {
  const holding = policy.nodes.filter((node) => state.volatile.views.get(node)?.online === true && holdsBack(state, node) && leftToOwner(campaigns, state, node) === null);
  const [first] = holding.toSorted((a, b) => Number(isNewest(state, b)) - Number(isNewest(state, a)));
  const commit = first === undefined ? undefined : state.volatile.views.get(first)?.word.standing?.commit;
  if (commit === undefined) return null;
  if (policy.rollout.changes === "at-once") return { commit, window: null };
  const open = windowNow(policy, now);
  return open === null || now.wallMs + policy.rollout.nodeMinutes * 60_000 > open.closesAtMs ? null : { commit, window: { name: open.name, closesAtMs: open.closesAtMs } };
}

function windowNow({ updates, windows }: Policy, now: Now): ReturnType<typeof windowAt> {
  return blackoutAt(updates.blackouts, now.wallMs) === null ? windowAt(windows, updates.windows, now.wallMs) : null;
}

function isNewest({ durable, volatile }: State, node: NodeName): boolean {
  return volatile.views.get(node)?.word.standing?.commit === durable.commit;
}

/**
 * Why what a node holds back does not roll by itself again: it was tried and failed, or a person has cancelled it. A newer
 * commit begins anew.
 */
export function leftToOwner({ rollouts }: Campaigns, { volatile }: State, node: NodeName): string | null {
  const commit = volatile.views.get(node)?.word.standing?.commit;
  for (const rollout of [...rollouts.values()].toReversed()) {
    if (rollout.kind !== "change" || rollout.phase === "running" || rollout.phase === "halted") continue;
    const going = rollout.nodes.find((each) => each.node === node);
    if (going === undefined || (rollout.commit !== commit && going.result?.commit !== commit)) continue;
    if (going.state !== "done" && going.timeline.length > 0) return `it was tried, and failed: ${going.why ?? going.result?.failure ?? "nobody knows why"}`;
    return rollout.phase === "cancelled" && going.state !== "done" ? "the rollout of this change was cancelled" : null;
  }
  return null;
}

/** A halted change that a newer commit is to mend: the node that failed has taken that one. A halt by a person stays. */
export function isSuperseded(campaigns: Campaigns, { durable, volatile }: State): Rollout | null {
  const rollout = activeRollout(campaigns);
  if (rollout?.kind !== "change" || rollout.phase !== "halted" || rollout.halt?.node == null) return null;
  const standing = volatile.views.get(rollout.halt.node)?.word.standing;
  return durable.commit !== null && durable.commit !== rollout.commit && standing?.commit === durable.commit ? rollout : null;
}

/** Why what this node holds back is not rolling now; null when it holds nothing back, or it is on its way. */
export function waitingWhy(policy: Policy, state: State, campaigns: Campaigns, node: NodeName, now: Now): { readonly code: string; readonly text: string; readonly cure: string } | null {
  const standing = state.volatile.views.get(node)?.word.standing;
  if (standing === undefined || standing.heldBack.length === 0) return null;
  const what = `${node} holds back ${standing.heldBack.length === 1 ? (standing.heldBack[0] ?? "something") : `${standing.heldBack.length} changes`} of ${shortCommit(standing.commit)}`;
  const byHand = "`evenkeel rollout start --kind change` begins at once";
  const active = activeRollout(campaigns);
  if (active?.kind === "change" && active.nodes.some((going) => going.node === node && (going.state === "waiting" || going.state === "asked" || going.state === "leased"))) return null;
  if (active !== null) return { code: "rollout", text: `${what}, and another rollout is ${active.phase}`, cure: "it begins by itself when that one is over; `evenkeel rollout` shows it" };
  const left = leftToOwner(campaigns, state, node);
  if (left !== null) return { code: "failed", text: `${what}: ${left}`, cure: `push a commit that mends it, or ${byHand}` };
  if (policy.rollout.changes === "in-window" && windowNow(policy, now) === null) return { code: "window", text: `${what} until a window of updates opens`, cure: `it begins by itself then; ${byHand}` };
  return { code: "change", text: `${what}, and its rollout begins in a moment`, cure: "" };
}
