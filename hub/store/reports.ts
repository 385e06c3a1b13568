import { and, asc, count, desc, eq, gt, gte, lt, lte, sql } from "drizzle-orm";
import type { ConvergeReport } from "../../shared/protocol/report.ts";
import type { Database } from "./database.ts";
import { converges, earlyEvents, nodeState, streams } from "./schema.ts";

export type NodeStateRow = typeof nodeState.$inferSelect;
export type ConvergeRow = typeof converges.$inferSelect;
/** What the overview needs: plans and facts may be large, and there are as many as nodes. */
export type NodeStateSummary = Pick<NodeStateRow, "node" | "state" | "converge" | "refusal">;
export type RetainedColumn = "state" | "converge" | "facts" | "updates";

/** Beyond a gap in a stream so many sequence numbers are remembered; a node that leaves a larger one has lost its spool. */
const earlyEventsMax = 1_000;

/** What the nodes said: the last word on each topic, and the history of converges. */
export class ReportStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async states(): Promise<Map<string, NodeStateSummary>> {
    const { node, state, converge, refusal } = nodeState;
    const rows = await this.#database.tables.select({ node, state, converge, refusal }).from(nodeState);
    return new Map(rows.map((row) => [row.node, row]));
  }

  async state(node: string): Promise<NodeStateRow | null> {
    return (await this.#database.tables.select().from(nodeState).where(eq(nodeState.node, node)))[0] ?? null;
  }

  async setRetained(node: string, column: RetainedColumn, body: string): Promise<void> {
    const set = { [column]: body };
    await this.#database.tables.insert(nodeState).values({ node, ...set }).onConflictDoUpdate({ target: nodeState.node, set });
  }

  /** By node: what it said last about its updates. */
  async updates(): Promise<Map<string, string>> {
    const rows = await this.#database.tables.select({ node: nodeState.node, updates: nodeState.updates }).from(nodeState);
    return new Map(rows.flatMap(({ node, updates }) => (updates === null ? [] : [[node, updates] as const])));
  }

  async setRefusal(node: string, refusal: string | null): Promise<void> {
    await this.#database.tables.insert(nodeState).values({ node, refusal }).onConflictDoUpdate({ target: nodeState.node, set: { refusal } });
  }

  async setPlan(node: string, plan: string, planAtMs: number): Promise<void> {
    const set = { plan, planAtMs };
    await this.#database.tables.insert(nodeState).values({ node, ...set }).onConflictDoUpdate({ target: nodeState.node, set });
  }

  /** Up to which sequence number a stream is complete; 0 for one that is not known. */
  async ackSeq(node: string, stream: string): Promise<number> {
    const rows = await this.#database.tables
      .select({ ackSeq: streams.ackSeq })
      .from(streams)
      .where(and(eq(streams.node, node), eq(streams.stream, stream)));
    return rows[0]?.ackSeq ?? 0;
  }

  /** Stores a report once, however often it arrives. True when it is new. */
  async addConverge(node: string, stream: string, seq: number, report: ConvergeReport, body: string, nowMs: number): Promise<boolean> {
    const result = await this.#database.tables
      .insert(converges)
      .values({
        node,
        stream,
        seq,
        receivedAtMs: nowMs,
        commitId: report.commit,
        cause: report.cause,
        outcome: report.outcome,
        changesDone: report.changes.filter((change) => change.result === "done").length,
        sizeBytes: Buffer.byteLength(body),
        report: body,
      })
      .onConflictDoNothing();
    return result.rowsAffected === 1;
  }

  /**
   * Notes that an event has been stored, and says up to where the stream is now complete. A stream may start anywhere
   * (the hub's database may be younger than the node's spool). `closesGap` says that nothing older will come.
   */
  async received(node: string, stream: string, seq: number, closesGap: boolean, nowMs: number): Promise<number> {
    const { tables } = this.#database;
    const known = await tables
      .select({ ackSeq: streams.ackSeq })
      .from(streams)
      .where(and(eq(streams.node, node), eq(streams.stream, stream)));
    const ack = known[0]?.ackSeq ?? seq - 1;
    if (seq <= ack) return ack;
    const ofStream = and(eq(earlyEvents.node, node), eq(earlyEvents.stream, stream));
    if (seq > ack + 1 && !closesGap) {
      const early = await tables.select({ n: count() }).from(earlyEvents).where(ofStream);
      if ((early[0]?.n ?? 0) < earlyEventsMax) {
        await tables.insert(earlyEvents).values({ node, stream, seq }).onConflictDoNothing();
        return ack;
      }
    }
    const later = await tables.select({ seq: earlyEvents.seq }).from(earlyEvents).where(and(ofStream, gt(earlyEvents.seq, seq))).orderBy(asc(earlyEvents.seq));
    let next = seq;
    for (const event of later) if (event.seq === next + 1) next = event.seq;
    await tables.batch([
      tables
        .insert(streams)
        .values({ node, stream, ackSeq: next, updatedAtMs: nowMs })
        .onConflictDoUpdate({ target: [streams.node, streams.stream], set: { ackSeq: next, updatedAtMs: nowMs } }),
      tables.delete(earlyEvents).where(and(ofStream, lte(earlyEvents.seq, next))),
    ]);
    return next;
  }

  /** Newest first. */
  converges(node: string, limit: number, beforeId?: number): Promise<ConvergeRow[]> {
    const wanted = beforeId === undefined ? eq(converges.node, node) : and(eq(converges.node, node), lt(converges.id, beforeId));
    return this.#database.tables.select().from(converges).where(wanted).orderBy(desc(converges.id)).limit(limit);
  }

  async converge(id: number): Promise<ConvergeRow | null> {
    return (await this.#database.tables.select().from(converges).where(eq(converges.id, id)))[0] ?? null;
  }

  /** How many reports since `sinceMs` repaired drift, by node. */
  async driftRepairs(sinceMs: number): Promise<Map<string, number>> {
    const rows = await this.#database.tables
      .select({ node: converges.node, n: count() })
      .from(converges)
      // Written out, because SQLite uses a partial index only for a condition that it can see (sqlite.org/partialindex.html).
      .where(and(gte(converges.receivedAtMs, sinceMs), sql`changes_done > 0 AND cause IN ('drift', 'sweep')`))
      .groupBy(converges.node);
    return new Map(rows.map((row) => [row.node, row.n]));
  }

  /** Removes up to `batch` of the oldest reports of a node beyond the limits. Answers how many. */
  async pruneConverges(node: string, limits: { rows: number; bytes: number }, batch: number): Promise<number> {
    const result = await this.#database.client.execute({
      sql: `DELETE FROM converges WHERE id IN (
              SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id DESC) AS nth, sum(size_bytes) OVER (ORDER BY id DESC) AS bytes
                              FROM converges WHERE node = ?)
              WHERE nth > ? OR (bytes > ? AND nth > 1) ORDER BY id LIMIT ?)`,
      args: [node, limits.rows, limits.bytes, batch],
    });
    return result.rowsAffected;
  }

  /** Forgets all but the newest streams of each node: an agent has one, and a new one only when its state was lost. */
  async pruneStreams(keep: number): Promise<void> {
    await this.#database.tables.run(sql`DELETE FROM streams WHERE (node, stream) IN (
      SELECT node, stream FROM (SELECT node, stream, row_number() OVER (PARTITION BY node ORDER BY updated_at DESC) AS nth FROM streams) WHERE nth > ${keep})`);
    await this.#database.tables.run(sql`DELETE FROM early_events WHERE (node, stream) NOT IN (SELECT node, stream FROM streams)`);
  }
}
