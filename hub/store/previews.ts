import { and, asc, desc, eq, getTableColumns, isNull, ne, sum } from "drizzle-orm";
import type { Database } from "./database.ts";
import { previewAnswers, previews } from "./schema.ts";

export type PreviewRow = typeof previews.$inferSelect;
export type PreviewAnswerRow = typeof previewAnswers.$inferSelect;
/** What an overview needs of an answer: the reports themselves may be large. */
export type PreviewAnswerGist = Omit<PreviewAnswerRow, "report">;
/** What a node said. */
export type NewAnswer = Pick<PreviewAnswerRow, "failure" | "report" | "changes" | "impact" | "tookMs"> & { readonly answeredAtMs: number };
const nothingSaid = { answeredAtMs: null, failure: null, report: null, changes: null, impact: null, tookMs: null, sizeBytes: 0 } as const;
export type NewPreview = Omit<PreviewRow, "position">;

/** The previews that the hub keeps, and the nodes' plans of them. */
export class PreviewStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Newest first. */
  list(): Promise<PreviewRow[]> {
    return this.#database.tables.select().from(previews).orderBy(desc(previews.position));
  }

  async get(branch: string): Promise<PreviewRow | null> {
    return (await this.#database.tables.select().from(previews).where(eq(previews.branch, branch)))[0] ?? null;
  }

  /**
   * In the place of an earlier one of that branch, whose answers go with it. Those beyond the newest `keep` go as well, and
   * the answer is their branches. Throw-aways are counted by themselves: they come in numbers, and push nobody else out.
   */
  async put(preview: NewPreview, keep: number): Promise<string[]> {
    const { tables } = this.#database;
    const all = await this.list();
    const position = (all[0]?.position ?? 0) + 1;
    const surplus = all.filter(({ branch, throwaway }) => branch !== preview.branch && throwaway === preview.throwaway).slice(keep - 1).map(({ branch }) => branch);
    await tables.batch([
      tables.delete(previews).where(eq(previews.branch, preview.branch)),
      ...surplus.map((branch) => tables.delete(previews).where(eq(previews.branch, branch))),
      tables.insert(previews).values({ ...preview, position }),
    ]);
    return surplus;
  }

  /** True when there was one. */
  async remove(branch: string): Promise<boolean> {
    return (await this.#database.tables.delete(previews).where(eq(previews.branch, branch))).rowsAffected === 1;
  }

  answers(branch: string): Promise<PreviewAnswerRow[]> {
    return this.#database.tables.select().from(previewAnswers).where(eq(previewAnswers.branch, branch)).orderBy(asc(previewAnswers.node));
  }

  /** Of all previews, by branch. */
  async gists(): Promise<Map<string, PreviewAnswerGist[]>> {
    const { report: _report, ...columns } = getTableColumns(previewAnswers);
    const rows = await this.#database.tables.select(columns).from(previewAnswers).orderBy(asc(previewAnswers.node));
    return Map.groupBy(rows, ({ branch }) => branch);
  }

  /** How much is kept of a preview's answers, but for one. */
  async sizeBytes(branch: string, exceptId: string): Promise<number> {
    const rows = await this.#database.tables.select({ bytes: sum(previewAnswers.sizeBytes) }).from(previewAnswers).where(and(eq(previewAnswers.branch, branch), ne(previewAnswers.id, exceptId)));
    return Number(rows[0]?.bytes ?? 0);
  }

  async answer(id: string): Promise<PreviewAnswerRow | null> {
    return (await this.#database.tables.select().from(previewAnswers).where(eq(previewAnswers.id, id)))[0] ?? null;
  }

  /** The question to a node, under a new id; what it had answered before is forgotten. */
  async ask(question: { readonly id: string; readonly branch: string; readonly node: string; readonly askedAtMs: number | null }): Promise<void> {
    const set = { ...question, ...nothingSaid };
    await this.#database.tables.insert(previewAnswers).values(set).onConflictDoUpdate({ target: [previewAnswers.branch, previewAnswers.node], set });
  }

  /** The same question again, to a node that was away. */
  async asked(id: string, askedAtMs: number): Promise<void> {
    await this.#database.tables.update(previewAnswers).set({ askedAtMs }).where(eq(previewAnswers.id, id));
  }

  async answered(id: string, answer: NewAnswer): Promise<void> {
    await this.#database.tables
      .update(previewAnswers)
      .set({ ...answer, sizeBytes: Buffer.byteLength(answer.report ?? "") })
      .where(eq(previewAnswers.id, id));
  }

  /** What a node still owes, of the newest preview first. */
  owedBy(node: string): Promise<{ id: string; branch: string; commitId: string }[]> {
    return this.#database.tables
      .select({ id: previewAnswers.id, branch: previews.branch, commitId: previews.commitId })
      .from(previewAnswers)
      .innerJoin(previews, eq(previews.branch, previewAnswers.branch))
      .where(and(eq(previewAnswers.node, node), isNull(previewAnswers.answeredAtMs)))
      .orderBy(desc(previews.position));
  }
}
