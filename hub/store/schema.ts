import { index, integer, primaryKey, real, sqliteTable, text, unique } from "drizzle-orm/sqlite-core";
import { IMPACTS } from "../../shared/protocol/report.ts";

/**
 * The hub's tables as Drizzle sees them. The truth about constraints is in `migrations/`; a test holds the two together.
 * Times are milliseconds since the Unix epoch, by the hub's clock.
 */

export const nodes = sqliteTable(
  "nodes",
  {
    name: text("name").primaryKey(),
    addedAtMs: integer("added_at").notNull(),
    enrolledAtMs: integer("enrolled_at"),
    revokedAtMs: integer("revoked_at"),
    machineId: text("machine_id"),
    mark: text("mark"),
    lastSeenAtMs: integer("last_seen_at"),
  },
  (table) => [index("nodes_by_machine").on(table.machineId)],
);

export const certificates = sqliteTable(
  "certificates",
  {
    serial: text("serial").primaryKey(),
    node: text("node").notNull(),
    issuedAtMs: integer("issued_at").notNull(),
    notAfterMs: integer("not_after").notNull(),
    revokedAtMs: integer("revoked_at"),
  },
  (table) => [index("certificates_by_node").on(table.node, table.issuedAtMs)],
);

export const enrolmentTokens = sqliteTable(
  "enrolment_tokens",
  {
    hash: text("hash").primaryKey(),
    node: text("node").notNull(),
    createdAtMs: integer("created_at").notNull(),
    expiresAtMs: integer("expires_at").notNull(),
    usedAtMs: integer("used_at"),
  },
  (table) => [index("enrolment_tokens_by_node").on(table.node)],
);

export const apiTokens = sqliteTable("api_tokens", {
  hash: text("hash").primaryKey(),
  name: text("name").notNull().unique(),
  role: text("role", { enum: ["admin", "read", "fleetlock"] }).notNull(),
  createdAtMs: integer("created_at").notNull(),
});

export const sessions = sqliteTable(
  "sessions",
  {
    hash: text("hash").primaryKey(),
    name: text("name").notNull(),
    role: text("role", { enum: ["admin", "read"] }).notNull(),
    createdAtMs: integer("created_at").notNull(),
    expiresAtMs: integer("expires_at").notNull(),
  },
  (table) => [index("sessions_by_expiry").on(table.expiresAtMs)],
);

export const commits = sqliteTable("commits", {
  position: integer("position").primaryKey({ autoIncrement: true }),
  id: text("id").notNull().unique(),
  tip: text("tip").notNull(),
  subject: text("subject").notNull(),
  author: text("author").notNull(),
  signer: text("signer").notNull(),
  pushedBy: text("pushed_by").notNull(),
  pushedAtMs: integer("pushed_at").notNull(),
});

export const arrivals = sqliteTable(
  "arrivals",
  {
    tip: text("tip").notNull(),
    node: text("node").notNull(),
    afterMs: integer("after_ms").notNull(),
    outcome: text("outcome").notNull(),
  },
  (table) => [primaryKey({ columns: [table.tip, table.node] })],
);

export const converges = sqliteTable(
  "converges",
  {
    id: integer("id").primaryKey({ autoIncrement: true }),
    node: text("node").notNull(),
    stream: text("stream").notNull(),
    seq: integer("seq").notNull(),
    receivedAtMs: integer("received_at").notNull(),
    commitId: text("commit_id").notNull(),
    cause: text("cause").notNull(),
    outcome: text("outcome").notNull(),
    changesDone: integer("changes_done").notNull(),
    sizeBytes: integer("size_bytes").notNull(),
    report: text("report").notNull(),
  },
  (table) => [unique().on(table.node, table.stream, table.seq), index("converges_by_node").on(table.node, table.id)],
);

export const streams = sqliteTable(
  "streams",
  {
    node: text("node").notNull(),
    stream: text("stream").notNull(),
    ackSeq: integer("ack_seq").notNull(),
    updatedAtMs: integer("updated_at").notNull(),
  },
  (table) => [primaryKey({ columns: [table.node, table.stream] })],
);

export const earlyEvents = sqliteTable(
  "early_events",
  {
    node: text("node").notNull(),
    stream: text("stream").notNull(),
    seq: integer("seq").notNull(),
  },
  (table) => [primaryKey({ columns: [table.node, table.stream, table.seq] })],
);

export const nodeState = sqliteTable("node_state", {
  node: text("node").primaryKey(),
  state: text("state"),
  converge: text("converge"),
  facts: text("facts"),
  plan: text("plan"),
  planAtMs: integer("plan_at"),
  refusal: text("refusal"),
  updates: text("updates"),
});

export const coordination = sqliteTable(
  "coordination",
  {
    kind: text("kind").notNull(),
    id: text("id").notNull(),
    position: integer("position").notNull(),
    body: text("body").notNull(),
  },
  (table) => [primaryKey({ columns: [table.kind, table.id] })],
);

export const coordinationOutbox = sqliteTable("coordination_outbox", {
  position: integer("position").primaryKey({ autoIncrement: true }),
  id: text("id").notNull().unique(),
  body: text("body").notNull(),
});

export const previews = sqliteTable("previews", {
  branch: text("branch").primaryKey(),
  position: integer("position").notNull().unique(),
  commitId: text("commit_id").notNull(),
  base: text("base"),
  subject: text("subject").notNull(),
  author: text("author").notNull(),
  pushedBy: text("pushed_by").notNull(),
  pushedAtMs: integer("pushed_at").notNull(),
  throwaway: integer("throwaway").notNull(),
  nodes: text("nodes"),
});

export const previewAnswers = sqliteTable(
  "preview_answers",
  {
    id: text("id").primaryKey(),
    branch: text("branch").notNull(),
    node: text("node").notNull(),
    askedAtMs: integer("asked_at"),
    answeredAtMs: integer("answered_at"),
    failure: text("failure"),
    report: text("report"),
    changes: integer("changes"),
    impact: text("impact", { enum: IMPACTS }),
    tookMs: real("took_ms"),
    sizeBytes: integer("size_bytes").notNull(),
  },
  (table) => [unique().on(table.branch, table.node)],
);

export const audit = sqliteTable("audit", {
  id: integer("id").primaryKey({ autoIncrement: true }),
  atMs: integer("at").notNull(),
  actor: text("actor").notNull(),
  action: text("action").notNull(),
  subject: text("subject").notNull(),
  detail: text("detail").notNull(),
});
