import type { Logger } from "pino";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { Statuses as Forge } from "../../shared/config/statuses.ts";
import type { ClusterSummary } from "../../shared/protocol/api.ts";
import { IMPACT_WORDS, type PreviewSummary } from "../../shared/protocol/preview.ts";
import { judgeAnswer, statusRequest, type CommitStatus, type ForgeRequest } from "./forge.ts";

/** Says on the Git host how a preview's plan, and the main branch's tip, stand. Only the newest word about a commit counts. */

/** Ten minutes for a commit that is still on its way there, or a host that restarts. */
const RETRY_AFTER_MS = [5_000, 30_000, 120_000, 480_000] as const;
const WAITING_MAX = 100;
const REMEMBERED_MAX = 1_000;

export interface StatusParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** What the main branch's cluster.yaml says; null where it says nothing. A preview must not choose where the token goes. */
  readonly forge: () => Forge | null;
  /** The content of a file in the hub's directory of tokens, without the line's end; null when there is none. */
  readonly token: (file: string) => Promise<string | null>;
  /** Rejects when there is no answer. Redirects are not followed: the token is for this address. */
  readonly post: (request: ForgeRequest) => Promise<{ readonly status: number; readonly body: string }>;
  /** The hub's address for people. */
  readonly site: () => string;
}

interface Waiting {
  readonly status: CommitStatus;
  attempt: number;
}

export class CommitStatuses {
  readonly #parts: StatusParts;
  /** By commit and context, in the order in which they are to be sent. */
  readonly #waiting = new Map<string, Waiting>();
  /** What was said last, by commit and context. */
  readonly #said = new Map<string, string>();
  readonly #timers = new Set<Timer>();
  #sending: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(parts: StatusParts) {
    this.#parts = parts;
  }

  preview(summary: PreviewSummary): void {
    // A working copy's commit is on no other Git host.
    if (summary.throwaway) return;
    const { counts, impact, outcome, outdated, name } = summary;
    const changing = counts.changing === 0 ? "nothing would change" : `${counts.changing} of ${counts.nodes} nodes would change${impact === "none" ? "" : ` (${impact}: ${IMPACT_WORDS[impact]})`}`;
    const description = outcome === "pending" ? `${counts.planned + counts.failed} of ${counts.nodes} nodes have planned it` : outcome === "failed" ? `${counts.failed + counts.missing} of ${counts.nodes} nodes cannot plan it; ${changing}` : changing;
    this.#say({
      commit: summary.commit,
      state: outcome === "pending" ? "pending" : outcome === "failed" ? "failure" : "success",
      context: "evenkeel/plan",
      description: outdated ? `the main branch has moved; ${description}` : description,
      targetUrl: `${this.#parts.site()}/previews/${encodeURIComponent(name)}`,
    });
  }

  /** How far the main branch's tip has come. */
  main({ head, nodes }: Pick<ClusterSummary, "head" | "nodes">): void {
    if (head === null) return;
    const members = nodes.filter(({ condition }) => !["waiting", "revoked", "guest"].includes(condition)).map(({ name }) => name);
    const outcomes = members.map((name) => head.arrivals.find(({ node }) => node === name)?.outcome ?? null);
    const holding = outcomes.filter((outcome) => outcome === "converged").length;
    const failed = outcomes.filter((outcome) => outcome !== null && outcome !== "converged").length;
    this.#say({
      commit: head.id,
      state: failed > 0 ? "failure" : holding === members.length && holding > 0 ? "success" : "pending",
      context: "evenkeel/applied",
      description: `${holding} of ${members.length} nodes hold it${failed > 0 ? `, ${failed} could not apply all of it` : ""}`,
      targetUrl: `${this.#parts.site()}/commits#c-${head.id}`,
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) timer.cancel();
    this.#waiting.clear();
    await this.#sending;
  }

  #say(status: CommitStatus): void {
    if (this.#stopped || this.#parts.forge() === null) return;
    const key = `${status.commit} ${status.context}`;
    const gist = JSON.stringify([status.state, status.description]);
    if (this.#said.get(key) === gist) return;
    remember(this.#said, key, gist, REMEMBERED_MAX);
    if (remember(this.#waiting, key, { status, attempt: 0 }, WAITING_MAX)) this.#parts.log.warn({ waiting: WAITING_MAX }, "too many commit statuses wait to be sent: the oldest is left out");
    this.#soon(0);
  }

  #soon(delayMs: number): void {
    const timer = this.#parts.clock.after(delayMs, () => {
      this.#timers.delete(timer);
      this.#sending = this.#sending.then(() => this.#sendAll());
    });
    this.#timers.add(timer);
  }

  /** One after the other; what fails is put back with its time, unless there is a newer word by then. */
  async #sendAll(): Promise<void> {
    for (const [key, waiting] of [...this.#waiting]) {
      if (this.#stopped || this.#waiting.get(key) !== waiting) continue;
      this.#waiting.delete(key);
      const forge = this.#parts.forge();
      if (forge === null) continue;
      const problem = await this.#send(forge, waiting.status);
      if (problem === null || this.#waiting.has(key)) continue;
      const retryAfterMs = problem.again ? RETRY_AFTER_MS[waiting.attempt] : undefined;
      if (retryAfterMs === undefined) {
        this.#parts.log.warn({ provider: forge.provider, repository: forge.repository, commit: waiting.status.commit, attempts: waiting.attempt + 1 }, `could not set a commit status: ${problem.why}`);
        continue;
      }
      this.#retry(key, { status: waiting.status, attempt: waiting.attempt + 1 }, retryAfterMs);
    }
  }

  #retry(key: string, waiting: Waiting, delayMs: number): void {
    const timer = this.#parts.clock.after(delayMs, () => {
      this.#timers.delete(timer);
      // Something newer has been said meanwhile.
      if (this.#waiting.has(key) || this.#said.get(key) !== JSON.stringify([waiting.status.state, waiting.status.description])) return;
      this.#waiting.set(key, waiting);
      this.#soon(0);
    });
    this.#timers.add(timer);
  }

  async #send(forge: Forge, status: CommitStatus): Promise<{ readonly again: boolean; readonly why: string } | null> {
    const token = await this.#parts.token(forge.tokenFile).catch((error: Error) => error);
    if (token instanceof Error) return { again: true, why: `the token's file cannot be read: ${token.message}` };
    if (token === null) return { again: false, why: `there is no file ${forge.tokenFile} in the directory tokens/ of the hub's data directory: put the token there (mode 0600, of the hub's user)` };
    if (!/^[\x21-\x7e]{1,4096}$/.test(token)) return { again: false, why: `what stands in ${forge.tokenFile} is no token: one word on one line is` };
    try {
      const verdict = judgeAnswer(forge, await this.#parts.post(statusRequest(forge, token, status)));
      return verdict.end === "done" ? null : { again: verdict.end === "again", why: verdict.why };
    } catch (error) {
      const cause = (error as Error).cause;
      return { again: true, why: `no answer from ${forge.provider}: ${(error as Error).message}${cause instanceof Error ? ` (${cause.message})` : ""}`.replaceAll(token, "…") };
    }
  }
}

/** Puts it last, and forgets the oldest beyond the limit. True when one was forgotten. */
function remember<T>(map: Map<string, T>, key: string, value: T, max: number): boolean {
  map.delete(key);
  map.set(key, value);
  if (map.size <= max) return false;
  map.delete(map.keys().next().value ?? "");
  return true;
}
