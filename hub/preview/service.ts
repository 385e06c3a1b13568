import type { Logger } from "pino";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import type { OrderMessage } from "../../shared/protocol/messages.ts";
import { PREVIEW_PREFIX, planFails, previewName, worstImpact, type PreviewAsk, type PreviewSummary, type PreviewView } from "../../shared/protocol/preview.ts";
import type { PlanReport } from "../../shared/protocol/report.ts";
import type { PlanAnswer } from "../fleet/orders.ts";
import type { PreviewBranch, ReadPreview } from "../repo/preview-branches.ts";
import type { PreviewRow, PreviewStore } from "../store/previews.ts";
import { fitting, PREVIEW_SIZE_MAX_BYTES } from "./fit.ts";
import { previewSummary, previewView, type Surroundings } from "./view.ts";

/**
 * Previews: has every node plan what is pushed below `preview/`, keeps what they say, and shows it. It holds no authority:
 * a node believes a preview by its signatures, and plans it; nothing that is said here makes it apply anything.
 */

/** The newest previews are kept, with their nodes' answers; and as many throw-aways. */
export const PREVIEWS_MAX = 20;
/** A throw-away preview whose maker went away without deleting it. */
export const THROWAWAY_MAX_MS = 60 * 60_000;
const SWEEP_EVERY_MS = 5 * 60_000;
/** Tells an answer to a preview from the answer to a person who asked one node. */
const ID_PREFIX = "preview-";

/** What is asked of the hub's repository. */
export interface PreviewRepository {
  mainTip(): string | null;
  preview(branch: string): Promise<ReadPreview | null>;
  branchTip(branch: string): Promise<string | null>;
  holds(commit: string): Promise<boolean>;
  deleteBranch(branch: string, commit: string): Promise<boolean>;
  throwaways(): Promise<readonly { readonly branch: string; readonly commit: string; readonly committedAtMs: number }[]>;
}

export interface PreviewParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly newId: () => string;
  readonly store: PreviewStore;
  readonly repository: PreviewRepository;
  readonly branch: string;
  /** Enrolled and not revoked. */
  readonly enrolled: () => Promise<readonly NodeName[]>;
  readonly online: (node: NodeName) => boolean;
  readonly send: (node: NodeName, order: OrderMessage) => void;
  readonly answerTimeoutMs: number;
  /** What is shown of a preview has changed. */
  readonly changed: (name: string) => void;
  /** How a preview stands, after each change. */
  readonly stands: (summary: PreviewSummary) => void;
}

/** What the page and the API read. */
export interface PreviewData {
  /** Newest first. */
  list(): Promise<PreviewSummary[]>;
  view(name: string): Promise<PreviewView | null>;
}

export type PreviewWord = { readonly ok: true; readonly view: PreviewView } | { readonly ok: false; readonly status: 404 | 409; readonly code: string; readonly message: string };

export class Previews implements PreviewData {
  readonly #parts: PreviewParts;
  /** One change after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  readonly #timers = new Set<Timer>();
  #stopped = false;

  constructor(parts: PreviewParts) {
    this.#parts = parts;
  }

  /** Brings what is kept in line with the branches, which may have moved while the hub was killed, and begins to sweep. */
  async start(): Promise<void> {
    await this.#take(async () => {
      for (const row of await this.#parts.store.list()) {
        if (row.nodes === null) continue;
        const tip = await this.#parts.repository.branchTip(row.branch);
        const read = tip === null || tip === row.commitId ? null : await this.#parts.repository.preview(row.branch);
        if (read?.ok === true) await this.#plan(read.preview, row.pushedBy);
        else if (tip !== row.commitId || (await this.#isOver(row))) await this.#forget(row.branch);
      }
      await this.#sweep();
    });
    this.#sweepLater();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) timer.cancel();
    await this.#turn;
  }

  /** Branches other than the main one were pushed or deleted here. */
  branches(pushed: readonly PreviewBranch[], deleted: readonly string[], by: string): Promise<void> {
    return this.#take(async () => {
      for (const branch of deleted) await this.#forget(branch);
      for (const preview of pushed) {
        const known = preview.branch.startsWith(PREVIEW_PREFIX) || (await this.#parts.store.get(preview.branch)) !== null;
        if (known) await this.#plan(preview, by);
      }
    });
  }

  /** What is merged is no preview any more, and what is not has fallen behind. */
  mainMoved(): Promise<void> {
    return this.#take(async () => {
      for (const row of await this.#parts.store.list()) {
        if (await this.#isOver(row)) await this.#forget(row.branch);
        else this.#parts.changed(previewName(row.branch));
      }
    });
  }

  /** Has a branch planned, or planned again. */
  request({ branch: asked, commit, again }: PreviewAsk, by: string): Promise<PreviewWord> {
    return this.#take(async () => {
      const { repository, branch: main, store } = this.#parts;
      if (asked === main) return refused(409, "main", `${main} is what the nodes are: \`evenkeel plan NODE\` shows what is left to do there`);
      const found = (await repository.preview(`${PREVIEW_PREFIX}${asked}`)) ?? (await repository.preview(asked));
      if (found?.ok === false) return refused(409, "invalid", found.message);
      // Not here: then it is a branch of the Git host that the nodes follow, and they say whether it is there.
      if (found === null && commit === undefined) return refused(404, "branch-unknown", `there is no branch ${PREVIEW_PREFIX}${previewName(asked)} on this hub: push it first (git push REMOTE HEAD:${PREVIEW_PREFIX}${previewName(asked)}). If your nodes follow another Git host, say with --commit where the branch stands there`);
      const preview = found?.preview ?? { branch: asked, commit: commit ?? "", base: null, subject: "", author: "", throwaway: false, nodes: null };
      if (commit !== undefined && preview.commit !== commit) return refused(409, "moved", `${preview.branch} stands at ${preview.commit.slice(0, 8)} here, and not at ${commit.slice(0, 8)}: was it pushed again meanwhile?`);
      const known = await store.get(preview.branch);
      if (known === null || known.commitId !== preview.commit || again === true) await this.#plan(preview, by);
      const view = await this.view(previewName(preview.branch));
      if (view === null) throw new Error(`the preview ${preview.branch} was stored and is not there`);
      return { ok: true, view };
    });
  }

  /** Ends a preview, and deletes its branch if it is one below `preview/`. False when there is none of that name. */
  remove(name: string): Promise<boolean> {
    return this.#take(async () => {
      const { repository, store } = this.#parts;
      const row = await this.#find(name);
      const branch = row?.branch ?? `${PREVIEW_PREFIX}${name}`;
      const tip = branch.startsWith(PREVIEW_PREFIX) ? await repository.branchTip(branch) : null;
      if (tip !== null) await repository.deleteBranch(branch, tip);
      const had = row !== null && (await store.get(row.branch)) !== null;
      if (had) await this.#forget(row.branch);
      return had || tip !== null;
    });
  }

  /** Whether an answer with this id is one to a preview. */
  isOurs(id: string): boolean {
    return id.startsWith(ID_PREFIX);
  }

  /** A node has answered. What is not, or no longer, asked for is dropped. */
  answer(node: NodeName, id: string, answer: PlanAnswer): Promise<void> {
    return this.#take(async () => {
      const { store, clock } = this.#parts;
      const question = await store.answer(id);
      if (question === null || question.node !== node) return;
      const row = await store.get(question.branch);
      if (row === null) return;
      const answeredAtMs = clock.nowMs();
      const report = answer.ok ? answer.report : null;
      if (report === null || report.commit !== row.commitId) {
        const failure = answer.ok ? `it planned ${answer.report.commit.slice(0, 8)} instead of ${row.commitId.slice(0, 8)}: ask again` : answer.message;
        await store.answered(id, { answeredAtMs, failure: failure.slice(0, 4_000), report: null, changes: null, impact: null, tookMs: null });
      } else {
        const room = PREVIEW_SIZE_MAX_BYTES - (await store.sizeBytes(row.branch, id));
        await store.answered(id, { answeredAtMs, failure: failureOf(report), report: fitting(report, room), changes: report.changes.length + report.omitted, impact: worstImpact(report.changes), tookMs: report.tookMs });
      }
      await this.#tell(row.branch);
    });
  }

  /** A node has said hello: it is asked what it was not there for. */
  here(node: NodeName): Promise<void> {
    return this.#take(async () => {
      const { store, enrolled } = this.#parts;
      if (!(await enrolled()).includes(node)) return;
      for (const { id, branch, commitId } of await store.owedBy(node)) await this.#send(node, id, branch, commitId);
      const answers = await store.gists();
      for (const row of await store.list()) {
        const asked = answers.get(row.branch)?.some((answer) => answer.node === node) ?? false;
        if (!asked && isInside(row, node)) await this.#ask(row.branch, row.commitId, node);
        this.#parts.changed(previewName(row.branch));
      }
    });
  }

  /** Whether a node is there is part of what is shown. */
  async gone(): Promise<void> {
    for (const row of await this.#parts.store.list()) this.#parts.changed(previewName(row.branch));
  }

  async list(): Promise<PreviewSummary[]> {
    const { store } = this.#parts;
    const rows = await store.list();
    if (rows.length === 0) return [];
    const [answers, around] = [await store.gists(), await this.#around()];
    return rows.map((row) => previewSummary(row, answers.get(row.branch) ?? [], around));
  }

  async view(name: string): Promise<PreviewView | null> {
    const row = await this.#find(name);
    return row === null ? null : previewView(row, await this.#parts.store.answers(row.branch), await this.#around());
  }

  /** `preview/NAME` goes before a branch that is called NAME itself. */
  async #find(name: string): Promise<PreviewRow | null> {
    return (await this.#parts.store.get(`${PREVIEW_PREFIX}${previewName(name)}`)) ?? this.#parts.store.get(name);
  }

  async #plan(preview: PreviewBranch, by: string): Promise<void> {
    const { store, clock, enrolled, log } = this.#parts;
    const { branch, commit, base, subject, author, throwaway, nodes } = preview;
    const dropped = await store.put({ branch, commitId: commit, base, subject, author, pushedBy: by, pushedAtMs: clock.nowMs(), throwaway: throwaway ? 1 : 0, nodes: nodes === null ? null : JSON.stringify(nodes) }, PREVIEWS_MAX);
    for (const each of dropped) log.info({ branch: each }, `a preview is forgotten: the newest ${PREVIEWS_MAX} are kept`);
    for (const node of await enrolled()) if (nodes === null || nodes.includes(node)) await this.#ask(branch, commit, node);
    log.info({ branch, commit, by }, "the nodes are asked to plan a preview");
    this.#later(this.#parts.answerTimeoutMs, () => void this.#take(() => this.#tell(branch)));
    for (const each of [...dropped, branch]) await this.#tell(each);
  }

  async #ask(branch: string, commit: string, node: NodeName): Promise<void> {
    const id = `${ID_PREFIX}${this.#parts.newId()}`;
    await this.#parts.store.ask({ id, branch, node, askedAtMs: null });
    await this.#send(node, id, branch, commit);
  }

  /** Into a connection that may break: then the node is asked again when it is back. */
  async #send(node: NodeName, id: string, branch: string, commit: string): Promise<void> {
    const { clock, online, send, store } = this.#parts;
    if (!online(node)) return;
    await store.asked(id, clock.nowMs());
    send(node, { v: 1, kind: "plan", id, branch, commit: commit as CommitId });
  }

  async #forget(branch: string): Promise<void> {
    if (!(await this.#parts.store.remove(branch))) return;
    this.#parts.log.info({ branch }, "a preview is over");
    this.#parts.changed(previewName(branch));
  }

  async #isOver(row: PreviewRow): Promise<boolean> {
    return row.nodes !== null && (await this.#parts.repository.holds(row.commitId));
  }

  /** Throw-away previews that nobody took away, with their branches. */
  async #sweep(): Promise<void> {
    const { clock, repository, store } = this.#parts;
    const untilMs = clock.nowMs() - THROWAWAY_MAX_MS;
    const kept = new Map((await store.list()).map((row) => [row.branch, row]));
    for (const { branch, commit, committedAtMs } of await repository.throwaways()) {
      const sinceMs = kept.get(branch)?.pushedAtMs ?? committedAtMs;
      if (sinceMs <= untilMs && (await repository.deleteBranch(branch, commit))) await this.#forget(branch);
    }
    for (const row of kept.values()) if (row.throwaway === 1 && row.pushedAtMs <= untilMs) await this.#forget(row.branch);
  }

  #sweepLater(): void {
    this.#later(SWEEP_EVERY_MS, () => void this.#take(() => this.#sweep()).catch((error: unknown) => this.#parts.log.error({ err: error }, "could not sweep previews")).finally(() => this.#sweepLater()));
  }

  async #tell(branch: string): Promise<void> {
    this.#parts.changed(previewName(branch));
    const { store } = this.#parts;
    const row = await store.get(branch);
    if (row !== null) this.#parts.stands(previewSummary(row, await store.answers(branch), await this.#around()));
  }

  async #around(): Promise<Surroundings> {
    const { clock, enrolled, online, repository, answerTimeoutMs } = this.#parts;
    return { enrolled: new Set(await enrolled()), online: (node) => online(node as NodeName), mainTip: repository.mainTip(), nowMs: clock.nowMs(), answerTimeoutMs };
  }

  #later(delayMs: number, work: () => void): void {
    if (this.#stopped) return;
    const timer = this.#parts.clock.after(delayMs, () => {
      this.#timers.delete(timer);
      if (!this.#stopped) work();
    });
    this.#timers.add(timer);
  }

  #take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

function isInside(row: PreviewRow, node: string): boolean {
  return row.nodes === null || (JSON.parse(row.nodes) as string[]).includes(node);
}

/** A plan that says that something cannot be done there. */
function failureOf(report: PlanReport): string | null {
  if (!planFails(report)) return null;
  const failed = report.changes.filter(({ result }) => result === "failed" || result === "blocked").map(({ resource, error, why }) => `${resource}: ${error ?? why}`);
  const problems = report.problems.filter(({ code }) => code === "observe" || code === "removal-guard").map(({ message }) => message);
  return [...failed, ...problems].join("\n").slice(0, 4_000);
}

function refused(status: 404 | 409, code: string, message: string): PreviewWord & { ok: false } {
  return { ok: false, status, code, message };
}
