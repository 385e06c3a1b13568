import * as z from "zod";
import { BootId, CommitId } from "../ids.ts";
import { commitOrder } from "./commit.ts";
import { leaseOrders } from "./lease.ts";
import { ConvergeReport, OUTCOMES, PlanReport, Problem } from "./report.ts";
import { valueEvents, valueOrders } from "./values.ts";

/**
 * The bodies of all MQTT messages. Each carries `v`, the version of its shape; a reader drops (and counts) what it cannot
 * read. Nothing here can make a node do more than look at its repository, or, under a lease, drain, install what its own
 * archives offer, and reboot: see DESIGN, rule 5.
 */

/** A body may not be larger than this; the broker drops what is. */
export const BODY_SIZE_MAX_BYTES = 256 * 1024;

const versioned = { v: z.literal(1) };

/** Node to hub, retained; its counterpart `online: false` is the last will. */
export const StateMessage = z.discriminatedUnion("online", [
  z.object({
    ...versioned,
    online: z.literal(true),
    bootId: BootId,
    /** systemd's machine-id: two nodes with the same one are a cloned disk, and the second is refused. */
    machineId: z.string().regex(/^[0-9a-f]{32}$/),
    agentVersion: z.string().max(64),
    startedAt: z.iso.datetime(),
    /** The spool's stream, new when the node's state was lost; sequence numbers count within it. */
    stream: z.uuid(),
    /** The highest commit ever applied, from the node's own disk. */
    mark: CommitId.nullable(),
    /** The node's age recipient as it says itself. People see it; what is encrypted to goes by the repository. */
    recipient: z.string().regex(/^age1[a-z0-9]{58}$/).optional(),
  }),
  z.object({ ...versioned, online: z.literal(false) }),
]);
export type StateMessage = z.output<typeof StateMessage>;

/** Node to hub, retained: where the node stands, small. The whole report follows as an event. */
export const ConvergeMessage = z.object({
  ...versioned,
  /** What the node runs: the last commit it chose and applied. */
  commit: CommitId.nullable(),
  outcome: z.enum([...OUTCOMES, "running", "none"]),
  at: z.iso.datetime(),
  failing: z.array(z.object({ resource: z.string().max(512), error: z.string().max(2_000) })).max(20),
  /** What waits for this node's turn, or for another node's value; missing when nothing does. */
  held: z.array(z.string().max(512)).max(20).optional(),
  /** A candidate that was refused, and why; the node keeps `commit`. */
  refused: z.object({ commit: z.string().max(64), message: z.string().max(4_000), at: z.iso.datetime() }).nullable(),
  problems: z.array(Problem).max(20),
});
export type ConvergeMessage = z.output<typeof ConvergeMessage>;

/** Node to hub, retained: slow facts for people (processor, memory, kernel, distribution, addresses). */
export const FactsMessage = z.object({
  ...versioned,
  facts: z.record(z.string().max(64), z.string().max(512)),
});
export type FactsMessage = z.output<typeof FactsMessage>;

/** Node to hub, not retained: kept in the node's spool until the hub has acknowledged it, so that each arrives once and in order. */
export const EventMessage = z.object({
  ...versioned,
  stream: z.uuid(),
  seq: z.number().int().positive(),
  event: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("converged"), report: ConvergeReport }),
    z.object({ kind: z.literal("planned"), id: z.string().max(64), report: PlanReport }),
    z.object({ kind: z.literal("plan-failed"), id: z.string().max(64), message: z.string().max(4_000) }),
    z.object({ kind: z.literal("refused"), commit: z.string().max(64), message: z.string().max(4_000), at: z.iso.datetime() }),
    /** Reports were dropped because the spool was full while the hub was away. */
    z.object({ kind: z.literal("dropped"), count: z.number().int().positive() }),
    ...valueEvents,
  ]),
});
export type EventMessage = z.output<typeof EventMessage>;

/** Hub to one node, never retained. Hints and answers; none of them is authority over what is applied. */
export const OrderMessage = z.discriminatedUnion("kind", [
  /** "Look at the repository now." */
  z.object({ ...versioned, kind: z.literal("look") }),
  /** "Everything up to this sequence number is in my database." */
  z.object({ ...versioned, kind: z.literal("ack"), stream: z.uuid(), seq: z.number().int().nonnegative() }),
  /** The answer to an `online` state: the highest commit the hub ever saw this node apply. It can only tighten. */
  z.object({ ...versioned, kind: z.literal("mark"), commit: CommitId.nullable() }),
  /** "Plan this branch (or main) against the machine as it is, and tell me." */
  z.object({
    ...versioned,
    kind: z.literal("plan"),
    id: z.string().max(64),
    branch: z.string().regex(/^(?!-)[\w./-]{1,255}$/).nullable(),
    /** The branch must stand there, or the answer would be about something else. */
    commit: CommitId.optional(),
  }),
  /** "Your certificate has been revoked" or "another machine has your id": say so in the log, and stay away for a while. */
  z.object({ ...versioned, kind: z.literal("refused"), message: z.string().max(1_000) }),
  /** "Fetch the package lists and tell what is pending." */
  z.object({ ...versioned, kind: z.literal("updates") }),
  ...valueOrders,
  commitOrder,
  ...leaseOrders,
]);
export type OrderMessage = z.output<typeof OrderMessage>;
