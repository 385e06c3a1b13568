import * as z from "zod";
import { CommitId, LeaseId, NodeName } from "../ids.ts";
import { CheckState } from "./checks.ts";
import { WorkResult } from "./lease.ts";
import { PinnedVersion, TriState, VersionChange } from "./updates.ts";

/** What the API, the page and the command line say about slots, rollouts and why a node waits. Times are ISO 8601, UTC. */

/** `change`: what nodes hold back of a commit, because it takes down what the cluster leans on. */
export const ROLLOUT_KINDS = ["update", "reboot", "change"] as const;
export const WORKS = ["update", "reboot", "converge", "hold"] as const;

const time = z.iso.datetime();
const text = z.string();

/** One thing that stands in the way, and what would change it. */
export const DenialView = z.object({
  /** A fixed word: quorum, hold, unreachable, checks, leased, window, blackout, canary, order, halted, unknown-node … */
  code: text,
  text,
  since: time.nullable(),
  cure: text,
});
export type DenialView = z.output<typeof DenialView>;

export const GroupView = z.object({
  name: text,
  /** Members by the repository. */
  size: z.number().int(),
  members: z.array(NodeName),
  /** How many may be down at once. */
  allowed: z.number().int(),
  down: z.array(z.object({ node: NodeName, code: z.enum(["leased", "unreachable", "unhealthy", "cordoned"]), text, since: time.nullable() })),
  /** Why earlier members still count; null when the group has settled. */
  settling: text.nullable(),
});
export type GroupView = z.output<typeof GroupView>;

export const LeaseView = z.object({
  id: LeaseId,
  node: NodeName,
  holder: z.enum(["agent", "fleetlock", "script"]),
  work: z.enum(WORKS),
  by: text,
  rollout: text.nullable(),
  phase: z.enum(["draining", "drained", "confirmed", "aborting", "checking", "soaking", "held"]),
  /** What the node says it is at: "stopping nginx (2 of 3)"; may be empty. */
  progress: text,
  grantedAt: time,
  phaseSince: time,
  why: text.nullable(),
  stuck: z.object({ since: time, why: text }).nullable(),
});
export type LeaseView = z.output<typeof LeaseView>;

export const RequestView = z.object({ id: LeaseId, node: NodeName, work: z.enum(WORKS), by: text, rollout: text.nullable(), requestedAt: time, denials: z.array(DenialView) });
export type RequestView = z.output<typeof RequestView>;

/** `what` is a node's name, or `*` for the whole cluster. */
export const HoldView = z.object({ what: text, by: text, why: text, since: time, until: time.nullable() });
export type HoldView = z.output<typeof HoldView>;

export const ROLLOUT_NODE_STATES = [
  "waiting",
  /** It has asked for its slot. */
  "asked",
  "draining",
  "drained",
  /** Confirmed: updating, rebooting, on its way back. */
  "working",
  "checking",
  "soaking",
  "done",
  "failed",
  /** Nothing to do there, or by the owner's word. */
  "skipped",
] as const;

export const RolloutNode = z.object({
  node: NodeName,
  role: z.enum(["canary", "node", "hub"]),
  state: z.enum(ROLLOUT_NODE_STATES),
  /** Why it is not its turn, or cannot go; for people, the most telling first. Empty while it is at it or done. */
  denials: z.array(DenialView),
  lease: LeaseId.nullable(),
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  /** When it entered each phase: draining, drained, working, rebooting, checking, soaking, done … in order. */
  timeline: z.array(z.object({ phase: text, at: time })),
  progress: text,
  result: WorkResult.nullable(),
  /** When it is expected to be done; null when nobody can say. */
  expectedAt: time.nullable(),
});
export type RolloutNode = z.output<typeof RolloutNode>;

export const ROLLOUT_PHASES = ["running", "halted", "done", "cancelled"] as const;

export const RolloutView = z.object({
  id: text,
  kind: z.enum(ROLLOUT_KINDS),
  /** Of a `change`: the commit whose disruptive steps roll. */
  commit: CommitId.optional(),
  /** A person's name, or `window night`. */
  startedBy: text,
  startedAt: time,
  endedAt: time.nullable(),
  phase: z.enum(ROLLOUT_PHASES),
  halt: z.object({ at: time, node: NodeName.nullable(), why: text, cure: text }).nullable(),
  nodes: z.array(RolloutNode),
  /** What the canary got; null until it has, or when there is nothing to pin. */
  target: z.array(PinnedVersion).nullable(),
  /** Everything that has changed so far, each version change once, with the nodes that have it. */
  changed: z.array(VersionChange.extend({ nodes: z.array(NodeName) })),
  window: z.object({ name: text, closesAt: time }).nullable(),
  /** The canary is watched until then. */
  canarySoakUntil: time.nullable(),
  forecast: z.object({
    /** When the last node will be done, if all goes on as it does; null when nobody can say. */
    doneAt: time.nullable(),
    fits: TriState,
    /** A sentence: "2 of 3 done, about 12 min to go; the window is open until 05:00". */
    text,
  }),
  /** Looks at what users use, since the rollout began. */
  requests: z.array(z.object({ check: text, looked: z.number().int(), failed: z.number().int() })),
});
export type RolloutView = z.output<typeof RolloutView>;

export const NodeUpdates = z.object({
  node: NodeName,
  lookedAt: time.nullable(),
  error: text.nullable(),
  pending: z.number().int(),
  security: z.number().int(),
  held: z.number().int(),
  reboot: TriState,
  rebootWhy: z.array(text),
  restarts: z.array(text),
  conflicts: z.array(text),
});
export type NodeUpdates = z.output<typeof NodeUpdates>;

/** How a commit goes to the nodes, when it goes to the canary first. */
export const CommitView = z.object({
  commit: CommitId,
  canaries: z.array(NodeName),
  /** `waiting`: the canary has not come to it yet; `watched`: it holds it, and is watched; `bad`: it does not do well with it; `released`: everybody takes it. */
  state: z.enum(["waiting", "watched", "bad", "released"]),
  /** A sentence: who waits for what. */
  text,
  cure: text,
});
export type CommitView = z.output<typeof CommitView>;

export const CoordinationSummary = z.object({
  groups: z.array(GroupView),
  /** What nodes that are up have against somebody's going, each a sentence: "n1 must not go now: …". */
  gates: z.array(z.object({ node: NodeName, text })),
  leases: z.array(LeaseView),
  requests: z.array(RequestView),
  holds: z.array(HoldView),
  /** The one that runs or is halted; else the last one; null before the first. */
  rollout: RolloutView.nullable(),
  /** The newest commit, while `rollout: canary` is in force; missing when commits go everywhere at once. */
  commit: CommitView.optional(),
  /** When updates roll next by themselves. */
  nextWindow: z.object({ name: text, opensAt: time, closesAt: time }).nullable(),
  blackout: z.object({ until: time, why: text }).nullable(),
  checks: z.array(CheckState),
  updates: z.array(NodeUpdates),
  /** The machine that the hub runs on, when it is one of the nodes. */
  hubNode: NodeName.nullable(),
});
export type CoordinationSummary = z.output<typeof CoordinationSummary>;

/** Why a node is not being rebooted now. */
export const WhyAnswer = z.object({
  node: NodeName,
  /** One sentence. */
  headline: text,
  /** What stands in the way, or would; empty when nothing does. */
  denials: z.array(DenialView),
  lease: LeaseView.nullable(),
  request: RequestView.nullable(),
  expectedAt: time.nullable(),
});
export type WhyAnswer = z.output<typeof WhyAnswer>;

const why = z.string().trim().min(1, "say why: it is kept, and shown to whoever wonders").max(500);

/** `POST /rollouts` */
export const RolloutStart = z.object({
  kind: z.enum(ROLLOUT_KINDS),
  /** Without them, all. */
  nodes: z.array(NodeName).min(1).max(1_000).optional(),
  /** Of updates: what the policy says, unless given. */
  scope: z.enum(["security", "all"]).optional(),
  /** Stop when this window closes; started by hand, a rollout goes on until it is done. */
  window: z.string().max(64).optional(),
});
export type RolloutStart = z.output<typeof RolloutStart>;
/** `POST /rollouts/ID/halt|resume|cancel`. `retry` goes at a failed node again, `skip` goes on without it. */
export const RolloutWord = z.object({ why, failed: z.enum(["retry", "skip"]).optional() });
export type RolloutWord = z.output<typeof RolloutWord>;
/** `POST /nodes/NODE/drain|reboot` */
export const NodeWord = z.object({ why, despiteChecks: z.boolean().default(false) });
export type NodeWord = z.output<typeof NodeWord>;
/** `POST /holds` */
export const HoldWord = z.object({ what: z.string().max(64).default("*"), why, until: time.nullable().default(null) });
export type HoldWord = z.output<typeof HoldWord>;
/** `POST /leases/ID/abort|clear`, `POST /groups/GROUP/settle` */
export const ReasonWord = z.object({ why });
export type ReasonWord = z.output<typeof ReasonWord>;
/** `POST /leases`: a slot for a script of the owner's. The id is the caller's, so that asking again after a lost answer is safe. */
export const LeaseTake = z.object({ id: LeaseId, node: NodeName, why });
export type LeaseTake = z.output<typeof LeaseTake>;
/** What asking for something answers; denials come with status 409. */
export const Done = z.object({ ok: z.literal(true), lease: LeaseId.nullable(), rollout: text.nullable() });
export type Done = z.output<typeof Done>;
export const Denied = z.object({ error: z.object({ code: z.string(), message: z.string() }), denials: z.array(DenialView) });
export type Denied = z.output<typeof Denied>;
