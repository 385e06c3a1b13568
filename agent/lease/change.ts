import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import type { CommitId } from "../../shared/ids.ts";
import type { ConvergeReport, PlanReport } from "../../shared/protocol/report.ts";
import { writeDurably } from "../host/durable.ts";

/** What a node does under a lease for a configuration change: it applies what it holds back of the commit that it has chosen. */

export interface Changed {
  readonly commit: CommitId | undefined;
  /** Null when the node is what its commit says now. */
  readonly failed: string | null;
  /** A step asked for it. */
  readonly reboot: boolean;
}

export interface ChangeParts {
  readonly stateDir: string;
  readonly plan: () => Promise<PlanReport | { readonly error: string }>;
  /** The one run that may disturb. */
  readonly converge: (options: { readonly onProgress: (action: string) => void; readonly signal: AbortSignal }) => Promise<ConvergeReport | { readonly error: string }>;
}

/** A reboot that a step asks for is remembered before the step runs: after a crash the plan no longer has it. */
const Owed = z.object({ v: z.literal(1), lease: z.string(), reboot: z.boolean() });

const FAILURES_SHOWN = 3;
const FAILURE_MAX_CHARS = 1_900;

export class Change {
  readonly #parts: ChangeParts;

  constructor(parts: ChangeParts) {
    this.#parts = parts;
  }

  /** Again after a crash: what is done is not done twice. */
  async apply(lease: string, progress: (text: string) => void, signal: AbortSignal): Promise<Changed> {
    const plan = await this.#parts.plan();
    if ("error" in plan) return { commit: undefined, failed: plan.error.slice(0, FAILURE_MAX_CHARS), reboot: false };
    const reboot = (await this.#owes(lease)) || plan.changes.some(({ impact, result }) => impact === "reboot" && result === "planned");
    await writeDurably(this.#path, `${JSON.stringify({ v: 1, lease, reboot } satisfies z.output<typeof Owed>)}\n`, { mode: 0o600 });
    const report = await this.#parts.converge({ onProgress: progress, signal });
    if ("error" in report) return { commit: plan.commit, failed: report.error.slice(0, FAILURE_MAX_CHARS), reboot: false };
    return { commit: report.commit, failed: failureOf(report), reboot };
  }

  get #path(): string {
    return join(this.#parts.stateDir, "change.json");
  }

  async #owes(lease: string): Promise<boolean> {
    const text = await readFile(this.#path, "utf8").catch(() => null);
    if (text === null) return false;
    try {
      const owed = Owed.parse(JSON.parse(text));
      return owed.lease === lease && owed.reboot;
    } catch {
      return false;
    }
  }
}

/** Why the node is not what its commit says; what waits for another node's value is no failure. */
export function failureOf({ outcome, changes, problems }: Pick<ConvergeReport, "outcome" | "changes" | "problems">): string | null {
  if (outcome === "converged" || outcome === "held") return null;
  const failed = changes.filter(({ result }) => result === "failed" || result === "blocked").map(({ resource, action, result, error, why }) => `${resource}: ${action} ${result === "blocked" ? "is blocked" : "failed"}: ${error ?? why}`);
  const reasons = [...failed, ...problems.map(({ message }) => message)];
  const text = reasons.slice(0, FAILURES_SHOWN).join("\n") || `the run ended as ${outcome}`;
  return `${text}${reasons.length > FAILURES_SHOWN ? `\nand ${reasons.length - FAILURES_SHOWN} more` : ""}`.slice(0, FAILURE_MAX_CHARS);
}
