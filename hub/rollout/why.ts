import { isoTime } from "../../shared/clock.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { WhyAnswer } from "../../shared/protocol/rollout.ts";
import { Budget } from "../coordinator/budget.ts";
import { leaseOf } from "../coordinator/down.ts";
import type { Denial, Ended, Lease } from "../coordinator/state.ts";
import { activeRollout } from "./campaigns.ts";
import { waitingWhy } from "./changes.ts";
import type { Policy } from "./plan.ts";
import type { Scene } from "./view.ts";
import { denialView, leaseView, requestView, rolloutDenials, rolloutView } from "./view.ts";

/**
 * Why a node is not being rebooted now. Pure.
 *
 * @param behind why it does not take the newest commit yet
 */
export function whyOf(node: NodeName, scene: Scene, policy: Policy, behind: Omit<Denial, "sinceMs"> | null): WhyAnswer {
  const { state, campaigns, now } = scene;
  const budget = new Budget(state, now, scene.patience);
  const lease = leaseOf(state, node);
  const request = [...state.durable.requests.values()].find((each) => each.node === node);
  const rollout = activeRollout(campaigns);
  const going = rollout?.nodes.find((each) => each.node === node);
  const change = lease === undefined ? waitingWhy(policy, state, campaigns, node, now) : null;
  const first = [change, behind].flatMap((each): Denial[] => (each === null ? [] : [{ ...each, sinceMs: null }]));
  const isNext = going?.state === "waiting" || going?.state === "asked";
  const denials = rollout !== null && going !== undefined && isNext ? rolloutDenials(going, rollout, scene, budget) : [...first, ...budget.denials({ node, despiteChecks: request?.despiteChecks ?? false, ...(request !== undefined && { work: request.work }) }).filter(({ code }) => lease === undefined || code !== "leased")];
  const asked = request !== undefined || isNext;
  return {
    node,
    headline: lease !== undefined ? holding(lease) : asked ? waiting(node, denials) : (first[0]?.text ?? idle(node, denials, [...state.durable.ended.values()].findLast((each) => each.node === node))),
    denials: denials.map(denialView),
    lease: lease === undefined ? null : leaseView(lease),
    request: request === undefined ? null : requestView(request, budget),
    expectedAt: rollout === null || going === undefined ? null : (rolloutView(rollout, scene, budget).nodes.find((each) => each.node === node)?.expectedAt ?? null),
  };
}

function holding({ node, phase, by, progress, stuck, finishedBy }: Lease): string {
  if (stuck !== null) return `${node} is stuck: ${stuck.why}`;
  if (finishedBy && phase === "confirmed") return `${node} has been told by ${finishedBy} to come back, and has not begun to`;
  return `${node} is ${phase === "confirmed" ? "at work" : phase}, for ${by}${progress === "" ? "" : `: ${progress}`}`;
}

function waiting(node: NodeName, [first]: readonly Denial[]): string {
  return first === undefined ? `nothing stands in the way of ${node}: it goes in a moment` : `${node} waits: ${first.text}`;
}

/** What came of the last time is said until there is a next one. */
function idle(node: NodeName, [first]: readonly Denial[], last: Ended | undefined): string {
  const before = last?.how === "declined" && last.why !== null ? `; the last time (${isoTime(last.endedAtMs)}) it did not go: ${last.why}` : "";
  return `nobody has asked for ${node}${first === undefined ? "; it could go now" : `, and it could not go now: ${first.text}`}${before}`;
}
