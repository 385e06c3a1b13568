import * as z from "zod";
import { CommitId, NodeName } from "../ids.ts";
import { ConvergeMessage } from "./messages.ts";
import { ConvergeReport, PlanReport } from "./report.ts";

/**
 * What the hub's HTTP API answers and takes, under `/api/v1`. The page and the command line read the same shapes, so
 * that whatever a person can see, a program can have.
 */

/** How a node is doing, in one word, worst first. The page's colour and the CLI's mark come from it. */
export const NODE_CONDITIONS = ["revoked", "waiting", "offline", "refused", "failing", "behind", "converging", "converged", "guest"] as const;
export type NodeCondition = (typeof NODE_CONDITIONS)[number];

export const NodeSummary = z.object({
  name: NodeName,
  address: z.string().nullable(),
  roles: z.array(z.string()),
  condition: z.enum(NODE_CONDITIONS),
  /** One sentence for people: why it is in this condition. Empty when converged. */
  why: z.string(),
  online: z.boolean(),
  /** When the hub last heard of it, ISO 8601; null when never. */
  lastSeenAt: z.iso.datetime().nullable(),
  commit: CommitId.nullable(),
  converge: ConvergeMessage.nullable(),
  agentVersion: z.string().nullable(),
  /** Its age recipient as the node says it; `evenkeel secret trust` writes it into the repository. Null when it has said none. */
  recipient: z.string().nullable(),
  /** Repairs of drift in the last 24 hours. */
  driftRepairs24h: z.number().int().nonnegative(),
});
export type NodeSummary = z.output<typeof NodeSummary>;

export const CommitSummary = z.object({
  id: CommitId,
  subject: z.string(),
  author: z.string(),
  signer: z.string(),
  /** Who pushed it: the name of the token. */
  pushedBy: z.string(),
  pushedAt: z.iso.datetime(),
  /** Where it has arrived, and how long after the push, in milliseconds; nodes that skipped it for a newer one are left out. */
  arrivals: z.array(z.object({ node: NodeName, afterMs: z.number(), outcome: z.string() })),
});
export type CommitSummary = z.output<typeof CommitSummary>;

export const ClusterSummary = z.object({
  cluster: z.string(),
  /** The tip of the main branch; null before the first push. */
  head: CommitSummary.nullable(),
  nodes: z.array(NodeSummary),
  counts: z.object({ total: z.number().int(), online: z.number().int(), converged: z.number().int() }),
  hubVersion: z.string(),
});
export type ClusterSummary = z.output<typeof ClusterSummary>;

export const StoredConverge = z.object({
  id: z.number().int(),
  node: NodeName,
  receivedAt: z.iso.datetime(),
  report: ConvergeReport,
});
export type StoredConverge = z.output<typeof StoredConverge>;

export const NodeDetail = NodeSummary.extend({
  facts: z.record(z.string(), z.string()),
  certificate: z.object({ serial: z.string(), notAfter: z.iso.datetime() }).nullable(),
  enrolledAt: z.iso.datetime().nullable(),
  lastPlan: z.object({ receivedAt: z.iso.datetime(), report: PlanReport }).nullable(),
  /** Newest first, at most 50. */
  converges: z.array(StoredConverge),
});
export type NodeDetail = z.output<typeof NodeDetail>;

/** `POST /nodes`: makes a one-time enrolment token, and says the command to run on the new machine. */
export const NodeAddAnswer = z.object({
  node: NodeName,
  token: z.string(),
  expiresAt: z.iso.datetime(),
  /** One line, to be pasted into a root shell of the new machine. */
  command: z.string(),
});
export type NodeAddAnswer = z.output<typeof NodeAddAnswer>;

/** `POST /enrol`, by a new machine, over TLS with the pinned CA; the token stands for the owner. */
export const EnrolRequest = z.object({
  node: NodeName,
  token: z.string().max(128),
  /** SubjectPublicKeyInfo of the node's new P-256 key, PEM. */
  publicKey: z.string().max(1_024),
  /** ECDSA-SHA256 over `evenkeel-enrol:<node>:<token>` with that key, base64: the node holds what it sends. */
  proof: z.string().max(512),
  machineId: z.string().regex(/^[0-9a-f]{32}$/),
  /** Its age recipient: noted in the audit log, and believed by nobody. */
  recipient: z.string().regex(/^age1[a-z0-9]{58}$/).optional(),
});
export type EnrolRequest = z.output<typeof EnrolRequest>;

export const EnrolAnswer = z.object({
  cluster: z.string(),
  /** The node's certificate and the hub's CA, PEM. */
  certificate: z.string(),
  ca: z.string(),
  broker: z.object({ host: z.string(), port: z.number().int() }),
  /** Where to fetch the repository from, with the certificate. */
  git: z.string().regex(/^https:\/\/[^\s]+$/),
  branch: z.string().regex(/^(?!-)[\w./-]{1,255}$/),
  /** The highest commit this name ever applied, as far as the hub knows. */
  mark: CommitId.nullable(),
});
export type EnrolAnswer = z.output<typeof EnrolAnswer>;

/** `POST /renew`, over TLS with the still valid certificate: the same key pair keeps its name for another period. */
export const RenewAnswer = z.object({ certificate: z.string(), ca: z.string() });
export type RenewAnswer = z.output<typeof RenewAnswer>;

/** The body of every answer that is not 2xx. */
export const ApiError = z.object({ error: z.object({ code: z.string(), message: z.string() }) });
export type ApiError = z.output<typeof ApiError>;
