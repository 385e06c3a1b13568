import type { RebootRule, UpdateScope } from "../../shared/config/policy.ts";
import type { CommitId, LeaseId, NodeName } from "../../shared/ids.ts";
import type { DrainPolicy, WorkResult } from "../../shared/protocol/lease.ts";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import type { PinnedVersion, UpdatesMessage } from "../../shared/protocol/updates.ts";
import type { State } from "../coordinator/state.ts";
import type { Ended, Now } from "../coordinator/state.ts";

/** A rollout: nodes that are updated, rebooted or changed one after the other, the canary first, the hub's own machine last. */

export interface Rollout {
  readonly id: string;
  readonly kind: RolloutView["kind"];
  /** Of a change: the newest commit of which somebody held something back as it began. Nodes apply what they have chosen themselves. */
  readonly commit: CommitId | null;
  readonly startedBy: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number | null;
  readonly phase: "running" | "halted" | "done" | "cancelled";
  readonly halt: Halt | null;
  /** In the order in which they go. */
  readonly nodes: readonly Going[];
  readonly plan: Plan;
  /** What the canary got, and all that the others get; null before it has. */
  readonly target: readonly PinnedVersion[] | null;
  /** No node starts that would not be done by then; null for a rollout that somebody started by hand. */
  readonly window: { readonly name: string; readonly closesAtMs: number } | null;
  /** When the last canary was done, for people; how long it has been watched is measured by {@link Watch}. */
  readonly canaryDoneAtMs: number | null;
  readonly canarySoaked: boolean;
  /** Looks at the service checks while it ran, as far as they were kept. */
  readonly counts: Readonly<Record<string, { readonly looked: number; readonly failed: number }>>;
}

export interface Halt {
  readonly atMs: number;
  readonly node: NodeName | null;
  readonly why: string;
  readonly cure: string;
}

/** The policy as it was when the rollout began: a push in the middle changes the next one. */
export interface Plan {
  readonly scope: UpdateScope;
  readonly exclude: readonly string[];
  readonly deferDays: number;
  readonly reboot: RebootRule;
  readonly drain: DrainPolicy;
  readonly soakMs: number;
  readonly canarySoakMs: number;
  /** How long a node takes until it is measured. */
  readonly nodeMs: number;
}

export interface Going {
  readonly node: NodeName;
  readonly role: "canary" | "node" | "hub";
  readonly state: "waiting" | "asked" | "leased" | "done" | "failed" | "skipped";
  readonly lease: LeaseId | null;
  /** How often it has asked for a slot. */
  readonly attempts: number;
  readonly startedAtMs: number | null;
  readonly endedAtMs: number | null;
  readonly timeline: readonly { readonly phase: string; readonly atMs: number }[];
  readonly result: WorkResult | null;
  /** Why it failed or was skipped. */
  readonly why: string | null;
}

/** How often a node is called off before the rollout asks somebody. */
export const ATTEMPTS_MAX = 3;

/**
 * So long after somebody was away the others may say that they are not well, for want of him: a session of routes comes back in a
 * while, and whoever is not well looks at himself every ten seconds.
 */
export const SETTLE_MS = 30_000;

/** What is not stored: how long the canary has been watched by this run of the hub. */
export interface Watch {
  readonly rollout: string;
  readonly sinceMonoMs: number;
}

/** What a rollout can see when it decides. */
export interface Surroundings {
  readonly now: Now;
  readonly coordinator: State;
  /** Leases that ended in this step. */
  readonly ended: readonly Ended[];
  readonly updates: ReadonlyMap<NodeName, UpdatesMessage>;
  /** Of an update: nodes whose word about their updates is newer than the rollout; the others have been asked. */
  readonly looked: ReadonlySet<NodeName>;
  /** They have been waited for long enough: who has not answered goes without. */
  readonly lookedLongEnough: boolean;
  /** Whether a node has said anything of its updates since its last lease was over; missing when it was silent for too long, or nobody knows. */
  readonly sinceTurn: ReadonlyMap<NodeName, "spoken" | "silent">;
  /** How long nobody at all has held a slot; 0 while somebody does. */
  readonly quietMs: number;
  /** Nodes that do not take the newest commit yet, because the canary is not done with it. */
  readonly behindCanary: ReadonlySet<NodeName>;
  /** How long each node took the last time, from the slot to its return. */
  readonly durations: ReadonlyMap<NodeName, number>;
  readonly newId: () => LeaseId;
}

export type Wish =
  | { readonly do: "request"; readonly id: LeaseId; readonly node: NodeName; readonly rollout: Rollout }
  | { readonly do: "withdraw"; readonly id: LeaseId; readonly why: string }
  | { readonly do: "note"; readonly level: "info" | "warning"; readonly text: string };

export interface Advanced {
  readonly rollout: Rollout;
  readonly watch: Watch | null;
  readonly wishes: readonly Wish[];
}
