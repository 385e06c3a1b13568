import * as z from "zod";
import { BootId, CommitId, LeaseId } from "../ids.ts";
import { OUTCOMES } from "./report.ts";
import { UpdateOrder, UpdateResult } from "./updates.ts";

/**
 * What hub and node say to each other about leases. A node's word is its whole standing, so that any one message is
 * enough; an order names lease, epoch, boot and the node's own challenge, so that an old, doubled or late one is void.
 */

/** An order that answers a challenge is void this long after the node made the challenge, by the node's own clocks. */
export const CHALLENGE_VALID_MS = 60_000;

const why = z.string().max(2_000);

/** What a node does between "confirmed" and "back". */
export const Work = z.discriminatedUnion("do", [
  z.object({ do: z.literal("update"), order: UpdateOrder }),
  z.object({ do: z.literal("reboot") }),
  /** Apply what the node holds back of the commit that it has chosen itself: the order names none. */
  z.object({ do: z.literal("converge") }),
  /** Stay drained, for somebody's hands, across reboots, until the order `finish`. */
  z.object({ do: z.literal("hold") }),
]);
export type Work = z.output<typeof Work>;

export const WorkResult = z.object({
  ok: z.boolean(),
  rebooted: z.boolean(),
  /** What went wrong, and what to do next; null when all went well. */
  failure: why.nullable(),
  update: UpdateResult.nullable(),
  /** What a `converge` applied; missing for other work. */
  commit: CommitId.optional(),
});
export type WorkResult = z.output<typeof WorkResult>;

export const DrainPolicy = z.object({
  timeoutMs: z.number().int().min(1_000).max(24 * 3_600_000),
  onTimeout: z.enum(["undo", "go-on"]),
  /** By a person's word: whatever the node's own gates say. */
  despiteGates: z.boolean().optional(),
});
export type DrainPolicy = z.output<typeof DrainPolicy>;

/** Where a node stands with the lease it holds. */
export const NODE_LEASE_PHASES = [
  /** Making itself safe to lose. */
  "draining",
  /** Safe to lose, and waiting for the second word. */
  "drained",
  /** Putting back what it drained, because it will not go. */
  "undoing",
  /** It never went, and never will on this lease. */
  "declined",
  /** Confirmed: at work. */
  "working",
  /** Confirmed, and about to reboot or rebooting. */
  "rebooting",
  /** Back, and undoing the drain. */
  "resuming",
  /** Back, with all undone: whether it is well is said by its health. */
  "back",
] as const;
export type NodeLeasePhase = (typeof NODE_LEASE_PHASES)[number];

export const NodeLease = z.object({
  lease: LeaseId,
  epoch: z.number().int().nonnegative(),
  /** The boot in which the lease was granted. */
  bootId: BootId,
  phase: z.enum(NODE_LEASE_PHASES),
  work: Work,
  since: z.iso.datetime(),
  /** What it is at, for people: "stopping nginx (2 of 3)". */
  progress: z.string().max(500),
  /** Why it is undoing, declined, or could not drain or resume all; null when there is nothing to say. */
  why: why.nullable(),
  result: WorkResult.nullable(),
});
export type NodeLease = z.output<typeof NodeLease>;

/** What a node came to with the commit that it chose last. */
export const CommitStanding = z.object({
  commit: CommitId,
  outcome: z.enum(OUTCOMES),
  /** Resources that it leaves as they are until it has a lease for them. */
  heldBack: z.array(z.string().max(512)).max(20),
  /** What failed first, or why the run was stopped; null when nothing did. */
  failure: z.string().max(500).nullable(),
});
export type CommitStanding = z.output<typeof CommitStanding>;

/** What a node has against the going of a node: of another one, or of itself. */
export const GateReason = z.object({
  /** The section that it is about. */
  kind: z.string().max(63),
  text: z.string().max(500),
  holds: z.enum(["others", "itself", "all"]),
  /** Only for want of these: no reason while all of them are away. Empty when it is one by itself. */
  missing: z.array(z.string().max(63)).max(64),
});
export type GateReason = z.output<typeof GateReason>;

/** Node to hub, retained: all that the coordinator knows of a node. */
export const LeaseMessage = z.object({
  v: z.literal(1),
  /** New at each start of the agent. */
  stream: z.string().max(64),
  /** Counts within the stream. */
  seq: z.number().int().nonnegative(),
  /** The last ping that the node has seen: it tells a fresh word from an old one. */
  answers: z.object({ run: z.string().max(64), ping: z.number().int().nonnegative() }).nullable(),
  bootId: BootId,
  /** Any order that the node is to act upon must repeat it. */
  challenge: z.string().min(1).max(64),
  /** The highest epoch that any order ever carried. */
  epochSeen: z.number().int().nonnegative(),
  /** What the node has converged to; null when it has not, or is failing. */
  commit: CommitId.nullable(),
  /** Missing until this start of the agent has compared the node with a commit. */
  standing: CommitStanding.optional(),
  healthy: z.boolean(),
  /** Why it is not healthy. */
  trouble: z.array(z.string().max(500)).max(20),
  /** Missing while it is on its way down or back: then they would speak of something else. */
  gates: z.array(GateReason).max(20).optional(),
  /** Somebody other than us has taken it out of service. */
  cordonedBy: z.string().max(200).nullable(),
  lease: NodeLease.nullable(),
  /** A lease that the node was offered and will never take, because it has taken it before: the hub's database is an older copy. */
  refuses: LeaseId.nullable(),
});
export type LeaseMessage = z.output<typeof LeaseMessage>;

const versioned = { v: z.literal(1) };
const bound = { lease: LeaseId, epoch: z.number().int().nonnegative(), bootId: BootId, challenge: z.string().min(1).max(64) };

/** Hub to node. Only `grant` and `confirm` make a node do what could hurt, and only those are bound. */
export const leaseOrders = [
  /** "Say where you stand." */
  z.object({ ...versioned, kind: z.literal("ping"), run: z.string().max(64), ping: z.number().int().nonnegative(), epoch: z.number().int().nonnegative() }),
  /** "Drain, for this." */
  z.object({ ...versioned, kind: z.literal("grant"), ...bound, work: Work, drain: DrainPolicy }),
  /** "Everything was checked again: go." */
  z.object({ ...versioned, kind: z.literal("confirm"), ...bound }),
  /** "It will not be: put everything back." Void once the work has begun. */
  z.object({ ...versioned, kind: z.literal("abort"), lease: LeaseId, why }),
  /** "The hands are off: come back." Ends a `hold`. */
  z.object({ ...versioned, kind: z.literal("finish"), lease: LeaseId }),
  /** "The slot is free: forget the lease." Void before the node is back or has declined. */
  z.object({ ...versioned, kind: z.literal("release"), lease: LeaseId }),
] as const;
export const LeaseOrder = z.discriminatedUnion("kind", leaseOrders);
export type LeaseOrder = z.output<typeof LeaseOrder>;
