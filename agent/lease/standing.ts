import * as z from "zod";
import { BootId, LeaseId } from "../../shared/ids.ts";
import { DrainPolicy, NODE_LEASE_PHASES, Work, WorkResult } from "../../shared/protocol/lease.ts";

/** What a node remembers of leases through crashes and reboots: one file, replaced as a whole. */

export const NodeRecord = z.object({
  lease: LeaseId,
  epoch: z.number().int().nonnegative(),
  /** The boot in which the lease was granted. A reboot has happened when the machine's is another. */
  bootId: BootId,
  phase: z.enum(NODE_LEASE_PHASES),
  work: Work,
  drain: DrainPolicy,
  sinceMs: z.number(),
  why: z.string().nullable(),
  result: WorkResult.nullable(),
  /** How often putting things back has failed in a row. */
  tries: z.number().int().nonnegative(),
  /** What could not be put back: the node is not well until somebody has seen to it. */
  unrestored: z.string().nullable(),
});
export type NodeRecord = z.output<typeof NodeRecord>;

export const Standing = z.object({
  v: z.literal(1),
  epochSeen: z.number().int().nonnegative(),
  record: NodeRecord.nullable(),
  /** Leases that this node has ever taken, the newest last: none is taken twice. */
  taken: z.array(LeaseId).max(500),
});
export type Standing = z.output<typeof Standing>;

export const TAKEN_MAX = 500;

export const emptyStanding: Standing = { v: 1, epochSeen: 0, record: null, taken: [] };
