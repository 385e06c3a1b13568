import type { CoordinationSummary, Done, DenialView, HoldWord, LeaseTake, NodeWord, ReasonWord, RolloutStart, RolloutView, RolloutWord, WhyAnswer } from "../shared/protocol/rollout.ts";

/** What the page, the API and FleetLock may know of the coordinator, and ask of it. The same shapes as the API's. */
export interface Coordination {
  summary(): Promise<CoordinationSummary>;
  /** Newest first, at most 50. */
  rollouts(): Promise<RolloutView[]>;
  rollout(id: string): Promise<RolloutView | null>;
  /** Null when there is no such node in the repository. */
  why(node: string): Promise<WhyAnswer | null>;

  startRollout(start: RolloutStart, by: string): Promise<Word>;
  /** `halt` lets the node that is at it come back first, and starts no other; `cancel` ends the rollout likewise. */
  steerRollout(id: string, what: "halt" | "resume" | "cancel", word: RolloutWord, by: string): Promise<Word>;
  /** Lets all nodes take the newest commit, whatever the canary does with it. `commit` may be its first characters. */
  releaseCommit(commit: string, word: ReasonWord, by: string): Promise<Word>;
  /** `drain` keeps the node drained until {@link resume}. */
  ask(node: string, what: "drain" | "reboot", word: NodeWord, by: string): Promise<Word>;
  resume(node: string, by: string): Promise<Word>;
  hold(word: HoldWord, by: string): Promise<Word>;
  unhold(what: string, by: string): Promise<Word>;
  abort(lease: string, word: ReasonWord, by: string): Promise<Word>;
  clear(lease: string, word: ReasonWord, by: string): Promise<Word>;
  settle(group: string, word: ReasonWord, by: string): Promise<Word>;
  /** A slot for somebody without an agent, now or not at all. Asking again while holding is fine. */
  take(take: LeaseTake, by: string): Promise<Word>;
  giveBack(lease: string, by: string): Promise<Word>;
  /** For FleetLock: the machine is known by its id and group; answers null when no node of the repository has them. */
  takeFleetLock(id: string, group: string): Promise<Word | null>;
  giveBackFleetLock(id: string, group: string): Promise<Word | null>;
}

export type Word = Done | { readonly ok: false; readonly denials: readonly DenialView[] };
