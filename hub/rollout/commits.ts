import { shortCommit } from "../../shared/ids.ts";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import { commitCanaries } from "../../shared/config/policy.ts";
import type { CommitOrder } from "../../shared/protocol/commit.ts";
import type { CommitView } from "../../shared/protocol/rollout.ts";
import { isActive } from "../coordinator/down.ts";
import { unwellWhy } from "../coordinator/gates.ts";
import type { State } from "../coordinator/state.ts";
import type { Campaigns } from "./campaigns.ts";
import { activeRollout } from "./campaigns.ts";
import type { Policy } from "./plan.ts";

/**
 * While `rollout: canary` is in force: how the canary does with the newest commit, and who may take it. The nodes wait by
 * themselves, because their repository says so; from here they only learn when the waiting is over. Pure.
 */

/** What is not stored: since when the canary has been seen to be well with a commit, by this run of the hub. */
export interface CommitWatch {
  readonly commit: CommitId;
  readonly sinceMonoMs: number;
}

export interface Course {
  /** Null when commits go everywhere at once. */
  readonly view: CommitView | null;
  readonly watch: CommitWatch | null;
  /** The canary has been well with it for long enough, just now. */
  readonly passed: boolean;
}

const none: Course = { view: null, watch: null, passed: false };

export function courseOf(policy: Policy | null, state: State, campaigns: Campaigns, watch: CommitWatch | null, monoMs: number): Course {
  const { commit } = state.durable;
  if (policy === null || commit === null) return none;
  const canaries = [...commitCanaries(policy)];
  if (canaries.length === 0) return none;
  const base = { commit, canaries };
  if (campaigns.released?.commit === commit) return { view: { ...base, state: "released", text: `${shortCommit(commit)} goes to all nodes: ${campaigns.released.by}`, cure: "" }, watch: null, passed: false };
  const found = first(canaries, (canary) => troubleOf(canary, commit, state, campaigns));
  if (found !== null) return { view: { ...base, ...found }, watch: null, passed: false };
  const since = watch?.commit === commit ? watch : { commit, sinceMonoMs: monoMs };
  const leftMs = policy.rollout.soakMinutes * 60_000 - (monoMs - since.sinceMonoMs);
  return { view: { ...base, state: "watched", text: `${canaries.join(", ")} ${canaries.length === 1 ? "holds" : "hold"} ${shortCommit(commit)}, and ${canaries.length === 1 ? "is" : "are"} watched with it`, cure: "it goes on by itself after rollout.soakMinutes" }, watch: since, passed: leftMs <= 0 };
}

type Found = Pick<CommitView, "state" | "text" | "cure">;

/** Why the others do not take the commit because of this canary; null when it holds it and is well. */
function troubleOf(canary: NodeName, commit: CommitId, state: State, campaigns: Campaigns): Found | null {
  const { volatile, durable } = state;
  const short = shortCommit(commit);
  const waiting = (text: string, cure = "it goes on by itself"): Found => ({ state: "waiting", text, cure });
  const bad = (why: string): Found => ({ state: "bad", text: `${short} goes no further: ${why}`, cure: `push a commit that mends it, or \`evenkeel rollout release ${short}\` lets the others take it regardless` });
  const away = `bring it back, name another canary in cluster.yaml, or \`evenkeel rollout release ${short}\` lets the others take the commit without it`;
  if (durable.members.get(canary)?.agent !== true) return waiting(`the canary ${canary} runs no agent, so that nobody can take ${short} before the others`, "name another canary in cluster.yaml");
  const view = volatile.views.get(canary);
  if (view === undefined || !view.online) return waiting(`the canary ${canary} is not connected`, away);
  const { word } = view;
  const rollout = activeRollout(campaigns);
  if (rollout?.kind === "change" && rollout.phase === "halted" && rollout.commit === commit && rollout.halt?.node === canary) return bad(rollout.halt.why);
  if (isActive(word.lease)) return waiting(`the canary ${canary} is at work (${word.lease?.phase})`);
  const { standing } = word;
  if (standing === undefined) return waiting(`the canary ${canary} has just started`);
  if (standing.commit !== commit) return waiting(`the canary ${canary} has not taken ${short} yet`);
  if (standing.outcome === "failed" || standing.outcome === "stopped") return bad(`the canary ${canary} does not come to it: ${standing.failure ?? "it does not say why"}`);
  if (standing.outcome === "interrupted") return waiting(`the canary ${canary} was interrupted`);
  if (standing.heldBack.length > 0) return waiting(`the canary ${canary} holds back ${standing.heldBack[0]} of it until it has its turn`);
  const unwell = unwellWhy(state, word, "converge");
  return unwell === null ? null : bad(`the canary ${canary} is not well with it: ${unwell}`);
}

function first<T, R>(list: readonly T[], find: (each: T) => R | null): R | null {
  for (const each of list) {
    const found = find(each);
    if (found !== null) return found;
  }
  return null;
}

/** What the nodes are told. */
export function orderOf({ commit, state, text }: CommitView): CommitOrder {
  return { v: 1, kind: "commit", commit, take: state === "released", why: text.slice(0, 1_000) };
}

/** Nodes that leave the newest commit alone for now. */
export function behindCanary(policy: Policy | null, view: CommitView | null): ReadonlySet<NodeName> {
  return new Set(view === null || view.state === "released" ? [] : (policy?.nodes ?? []).filter((node) => !view.canaries.includes(node)));
}
