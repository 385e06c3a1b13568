import { asc, desc, eq, inArray } from "drizzle-orm";
import type { Database } from "./database.ts";
import { arrivals, commits } from "./schema.ts";

export type CommitRow = typeof commits.$inferSelect;
export type ArrivalRow = typeof arrivals.$inferSelect;

export interface NewCommit {
  readonly id: string;
  readonly subject: string;
  readonly author: string;
  readonly signer: string;
}

/** The main branch as it came in, and where each push has arrived. */
export class CommitStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Newest first. */
  list(limit: number): Promise<CommitRow[]> {
    return this.#database.tables.select().from(commits).orderBy(desc(commits.position)).limit(limit);
  }

  async get(id: string): Promise<CommitRow | null> {
    return (await this.#database.tables.select().from(commits).where(eq(commits.id, id)))[0] ?? null;
  }

  /** The newest commit, the tip of the main branch. */
  async head(): Promise<CommitRow | null> {
    return (await this.list(1))[0] ?? null;
  }

  /** Adds one push, oldest commit first. Commits that are already there are left as they are. */
  async addPush(push: { readonly tip: string; readonly commits: readonly NewCommit[]; readonly pushedBy: string; readonly pushedAtMs: number }): Promise<void> {
    const { tables } = this.#database;
    const rows = push.commits.map((commit) => ({ ...commit, tip: push.tip, pushedBy: push.pushedBy, pushedAtMs: push.pushedAtMs }));
    // SQLite allows 32,766 variables a statement; a first push may bring a long history.
    const inserts = [];
    for (let at = 0; at < rows.length; at += 500) inserts.push(tables.insert(commits).values(rows.slice(at, at + 500)).onConflictDoNothing());
    const [first, ...rest] = inserts;
    if (first !== undefined) await tables.batch([first, ...rest]);
  }

  /** A node reported on the tip of a push: the first report counts, unless only a later one converged. True when something is new. */
  async arrived(tip: string, node: string, afterMs: number, outcome: string): Promise<boolean> {
    const { tables } = this.#database;
    const converged = outcome === "converged";
    const values = { tip, node, afterMs, outcome };
    const insert = tables.insert(arrivals).values(values);
    const result = converged
      ? await insert.onConflictDoUpdate({ target: [arrivals.tip, arrivals.node], set: { afterMs, outcome }, setWhere: inArray(arrivals.outcome, ["failed", "held", "stopped", "interrupted"]) })
      : await insert.onConflictDoNothing();
    return result.rowsAffected === 1;
  }

  async arrivals(tips: readonly string[]): Promise<Map<string, ArrivalRow[]>> {
    const byTip = new Map<string, ArrivalRow[]>();
    if (tips.length === 0) return byTip;
    const rows = await this.#database.tables.select().from(arrivals).where(inArray(arrivals.tip, [...new Set(tips)])).orderBy(asc(arrivals.node));
    for (const row of rows) byTip.set(row.tip, [...(byTip.get(row.tip) ?? []), row]);
    return byTip;
  }

  /** Removes commits beyond the newest `keep`, at most `batch` at once, and the arrivals that go with them. */
  async prune(keep: number, batch: number): Promise<number> {
    const { client } = this.#database;
    const [removed] = await client.batch(
      [
        { sql: "DELETE FROM commits WHERE position IN (SELECT position FROM commits ORDER BY position DESC LIMIT ? OFFSET ?)", args: [batch, keep] },
        "DELETE FROM arrivals WHERE tip NOT IN (SELECT tip FROM commits)",
      ],
      "write",
    );
    return removed?.rowsAffected ?? 0;
  }
}
