import type { BootId, CommitId, LeaseId, NodeName } from "../../shared/ids.ts";
import type { CommitOrder } from "../../shared/protocol/commit.ts";
import type { DrainPolicy, LeaseMessage, LeaseOrder, Work, WorkResult } from "../../shared/protocol/lease.ts";

/**
 * What the coordinator knows. The durable half is what must survive anything; the volatile half is what nodes said to this
 * run of the hub, and is empty after each start: until a node has spoken to this run, it counts as down.
 */

export interface State {
  readonly durable: Durable;
  readonly volatile: Volatile;
}

export interface Durable {
  /** Rises at each start of the hub, and above whatever a node has seen: a database out of a backup does not go unnoticed. */
  readonly epoch: number;
  /** The newest commit that membership was read from. */
  readonly commit: CommitId | null;
  readonly members: ReadonlyMap<NodeName, Member>;
  readonly groups: ReadonlyMap<string, GroupState>;
  /** In the order in which they were made. */
  readonly requests: ReadonlyMap<LeaseId, Request>;
  /** Those that hold a slot. */
  readonly leases: ReadonlyMap<LeaseId, Lease>;
  /** The last ones that gave theirs back. */
  readonly ended: ReadonlyMap<LeaseId, Ended>;
  /** By node, or {@link EVERYWHERE}. */
  readonly holds: ReadonlyMap<string, Hold>;
}

export const EVERYWHERE = "*";
export const ENDED_MAX = 2_000;
export const REQUESTS_MAX = 2_000;

export interface Member {
  readonly name: NodeName;
  /** Whether our agent runs there; a FleetLock machine has none, and is known only by the slots that it takes. */
  readonly agent: boolean;
}

/** The members of a group and how many of them may be down, as one commit says. */
export interface Terms {
  readonly members: readonly NodeName[];
  readonly maxUnavailable?: number | undefined;
  readonly acceptOutage: boolean;
  readonly commit: CommitId;
}

/** While membership changes, earlier terms hold as well, until the group has settled on the new ones. */
export interface GroupState {
  /** Null when the repository no longer has the group. */
  readonly current: Terms | null;
  readonly older: readonly Terms[];
}

/** More earlier terms than this cannot be kept apart: then no slot of the group is given until it has settled. */
export const OLDER_TERMS_MAX = 16;

export interface Request {
  readonly id: LeaseId;
  readonly node: NodeName;
  readonly work: Work;
  readonly drain: DrainPolicy;
  readonly soakMs: number;
  /** How long from "confirmed" to "back" before somebody is told. */
  readonly expectedMs: number;
  /** Who asked: a person, or `rollout ID`. */
  readonly by: string;
  readonly rollout: string | null;
  /** Go although a service check fails or a gate says no: only a person can say that, and never against a quorum. */
  readonly despiteChecks: boolean;
  readonly requestedAtMs: number;
}

export const LEASE_PHASES = [
  /** Granted; the node drains. */
  "draining",
  /** The node is drained; everything is checked again. */
  "drained",
  /** The node may go, goes, or is gone. */
  "confirmed",
  /** The node is to put everything back. */
  "aborting",
  /** The node is back; is it well? */
  "checking",
  /** It is well; does it stay so? */
  "soaking",
  /** Somebody without an agent holds the slot: a FleetLock machine, or a script. */
  "held",
] as const;
export type LeasePhase = (typeof LEASE_PHASES)[number];

export interface Lease extends Request {
  readonly holder: "agent" | "fleetlock" | "script";
  readonly phase: LeasePhase;
  readonly epoch: number;
  /** The node's boot when the slot was given; null for a holder without an agent. */
  readonly bootId: BootId | null;
  /** The quorum groups of the node then: it counts in them even after it has left them. */
  readonly groups: readonly string[];
  /** Repeated by the last order that the node may act upon; null when there is none. */
  readonly challenge: string | null;
  readonly grantedAtMs: number;
  readonly phaseSinceMs: number;
  readonly result: WorkResult | null;
  /** What the node is at. */
  readonly progress: string;
  /** Why it is aborting, or why the node could not do all that it should. */
  readonly why: string | null;
  /** Who called it off before the point of no return: we, for want of a budget or by a person's word, or the node, which could not drain. */
  readonly calledOffBy: "hub" | "node" | null;
  /** Who has told a node that is held for somebody's hands to come back. It is told until it does. */
  readonly finishedBy: string | null;
  /** Takes longer than it should, or cannot go on without somebody: it keeps its slot, and its rollout halts. */
  readonly stuck: { readonly sinceMs: number; readonly why: string } | null;
}

export const LEASE_ENDS = [
  /** Back, well, and soaked. */
  "released",
  /** It never went. */
  "declined",
  /** Its order can no longer be acted upon, and never was. */
  "void",
  /** By an operator. */
  "cleared",
] as const;

export interface Ended {
  readonly id: LeaseId;
  readonly node: NodeName;
  readonly how: (typeof LEASE_ENDS)[number];
  readonly rollout: string | null;
  readonly by: string;
  readonly why: string | null;
  readonly calledOffBy: Lease["calledOffBy"];
  readonly result: WorkResult | null;
  readonly grantedAtMs: number;
  readonly endedAtMs: number;
}

export interface Hold {
  readonly by: string;
  readonly why: string;
  readonly sinceMs: number;
  /** Null: until it is lifted. */
  readonly untilMs: number | null;
}

export interface Volatile {
  /** New at each start of the hub. */
  readonly run: string;
  readonly startedMonoMs: number;
  /** The number of the last ping: when it was sent, in milliseconds since `startedMonoMs`, or just above the one before. */
  readonly ping: number;
  readonly pingedMonoMs: number;
  readonly views: ReadonlyMap<NodeName, View>;
  /** Names of the service checks that are not well and gate; null until the checks have been heard. */
  readonly failingChecks: readonly string[] | null;
  readonly clocks: ReadonlyMap<LeaseId, LeaseClock>;
}

/** What a node said last to this run. */
export interface View {
  readonly online: boolean;
  /** When the ping that it answers was sent. */
  readonly heardMonoMs: number;
  readonly word: LeaseMessage;
}

/** Times of a lease by this run's monotonic clock; a restart begins them anew, which only ever delays. */
export interface LeaseClock {
  readonly phaseMonoMs: number;
  /** When an order that the node may act upon was last sent. */
  readonly orderMonoMs: number;
  /** The confirmation wants answers to this ping or a later one. */
  readonly confirmPing: number;
}

/** How long the coordinator waits for what. Milliseconds by the hub's monotonic clock, unless said otherwise. */
export interface Patience {
  /** A node that has not been heard of for so long is unreachable. Three pings. */
  readonly staleMs: number;
  readonly pingEveryMs: number;
  /** How long a drained node waits for everything else to be well, before it is told to put everything back. */
  readonly confirmMs: number;
  /** How long a node that is back may take to be well, before somebody is told. */
  readonly checkMs: number;
  /** After so long no order that was ever sent can be acted upon: twice what the node allows, for clocks that drift. */
  readonly orderVoidMs: number;
}

export const PATIENCE: Patience = { staleMs: 45_000, pingEveryMs: 15_000, confirmMs: 60_000, checkMs: 10 * 60_000, orderVoidMs: 120_000 };

/** Two clocks: the wall's, which people read and which may jump, and this run's, which never goes back. */
export interface Now {
  readonly wallMs: number;
  readonly monoMs: number;
}

export type Event = { readonly now: Now } & (
  | { readonly kind: "started"; readonly run: string }
  | { readonly kind: "tick" }
  | { readonly kind: "membership"; readonly commit: CommitId; readonly members: readonly Member[]; readonly groups: ReadonlyMap<string, Omit<Terms, "commit">> }
  | { readonly kind: "word"; readonly node: NodeName; readonly word: LeaseMessage }
  | { readonly kind: "gone"; readonly node: NodeName }
  | { readonly kind: "checks"; readonly failing: readonly string[] }
  | { readonly kind: "request"; readonly request: Omit<Request, "requestedAtMs"> }
  | { readonly kind: "withdraw"; readonly id: LeaseId; readonly why: string }
  /** By somebody without an agent, who gets the answer at once. */
  | { readonly kind: "take"; readonly id: LeaseId; readonly node: NodeName; readonly holder: "fleetlock" | "script"; readonly by: string; readonly soakMs: number }
  | { readonly kind: "give-back"; readonly node: NodeName; readonly holder: "fleetlock" | "script"; readonly id: LeaseId | null; readonly by: string }
  | { readonly kind: "abort"; readonly id: LeaseId; readonly by: string; readonly why: string }
  | { readonly kind: "finish"; readonly id: LeaseId; readonly by: string }
  | { readonly kind: "clear"; readonly id: LeaseId; readonly by: string; readonly why: string }
  | { readonly kind: "hold"; readonly what: string; readonly hold: Hold }
  | { readonly kind: "unhold"; readonly what: string; readonly by: string }
  | { readonly kind: "settle"; readonly group: string; readonly by: string; readonly why: string }
);

export type Effect =
  | { readonly do: "send"; readonly node: NodeName; readonly order: LeaseOrder }
  /** Something that the owner should know, and that stays in the audit. */
  | { readonly do: "note"; readonly level: "info" | "warning"; readonly subject: string; readonly action: string; readonly text: string; readonly by: string }
  | { readonly do: "ended"; readonly ended: Ended }
  /** Nodes are asked to look at their archives now. */
  | { readonly do: "ask-updates"; readonly nodes: readonly NodeName[] }
  /** Nodes are told whether they may take the newest commit. */
  | { readonly do: "tell-commit"; readonly nodes: readonly NodeName[]; readonly order: CommitOrder }
  /** A node is away for too long: look at its power from outside. */
  | { readonly do: "look-outside"; readonly node: NodeName; readonly lease: LeaseId };

/** What somebody who waits for an answer is told. */
export type Answer = { readonly ok: true; readonly lease?: LeaseId } | { readonly ok: false; readonly denials: readonly Denial[] };

/** One thing that stands in the way. */
export interface Denial {
  /** A fixed word, for machines: `quorum`, `hold`, `unreachable`, `checks` … */
  readonly code: string;
  /** A sentence for people, with names and numbers. */
  readonly text: string;
  /** Since when, by the wall clock; null when that is not known. */
  readonly sinceMs: number | null;
  /** Who could change it, or what would. */
  readonly cure: string;
}

export interface Step {
  readonly state: State;
  readonly effects: readonly Effect[];
  readonly answer: Answer;
}

export function emptyState(): State {
  return {
    durable: { epoch: 0, commit: null, members: new Map(), groups: new Map(), requests: new Map(), leases: new Map(), ended: new Map(), holds: new Map() },
    volatile: emptyVolatile("", 0),
  };
}

export function emptyVolatile(run: string, monoMs: number): Volatile {
  return { run, startedMonoMs: monoMs, ping: 0, pingedMonoMs: monoMs, views: new Map(), failingChecks: null, clocks: new Map() };
}
