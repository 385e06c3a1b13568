import * as z from "zod";
import { CommitId } from "../ids.ts";

/**
 * What an agent says about a converge or a plan: the same shape on the node (`evenkeel-agent log --json`), over MQTT,
 * in the hub's database and in the API. It never carries a secret: sensitive steps have no diff and no output.
 */

export const IMPACTS = ["none", "service", "network", "disruptive", "reboot"] as const;

/** Bounds of one report, so that no node can fill the hub. Longer texts are cut in the middle, longer lists at the end. */
export const reportLimits = { changesMax: 500, textCharsMax: 4_000, diffCharsMax: 16_000, problemsMax: 50, heldMax: 100 } as const;

export const Change = z.object({
  resource: z.string().max(512),
  /** What is, or was, to be done in a few words: `write /etc/motd`, `install nginx 1.24`. */
  action: z.string().max(512),
  why: z.string().max(reportLimits.textCharsMax),
  impact: z.enum(IMPACTS),
  /** It cannot be taken back, and why. */
  oneWay: z.string().max(reportLimits.textCharsMax).optional(),
  /**
   * `blocked`: something that it needs failed, or a guard holds it. `held`: it takes down what the cluster leans on, and waits
   * for this node's turn. `waiting`: for a value that another node is asked to make.
   */
  result: z.enum(["planned", "done", "failed", "blocked", "held", "waiting"]),
  /** Why it failed or what blocks it, and the end of the program's output. */
  error: z.string().max(reportLimits.textCharsMax).optional(),
  /** A unified diff, where content changes and may be shown. */
  diff: z.string().max(reportLimits.diffCharsMax).optional(),
});
export type Change = z.output<typeof Change>;

/** Something that is not a failed step: a guard that stopped the run, a tripped breaker, an orphan, a kind that could not look. */
export const Problem = z.object({
  /** A fixed word, for machines: `removal-guard`, `breaker`, `orphan`, `observe`, `disk-full` … */
  code: z.string().max(64),
  /** For people: what is wrong and what to do next. */
  message: z.string().max(reportLimits.textCharsMax),
  resource: z.string().max(512).optional(),
});
export type Problem = z.output<typeof Problem>;

export const OUTCOMES = [
  /** A second look found nothing left to do. */
  "converged",
  /** At least one resource failed, is blocked, or came back different at the second look. */
  "failed",
  /** All is done that may be done now. The rest waits: for this node's turn (a lease), or for what another node makes. */
  "held",
  /** A guard refused the run; nothing was changed. */
  "stopped",
  /** Ended by a signal or a crash in the middle; the next run repairs. */
  "interrupted",
] as const;

export const ConvergeReport = z.object({
  commit: CommitId,
  /** Why the agent looked. */
  cause: z.enum(["start", "push", "drift", "sweep", "asked", "retry", "lease"]),
  /** ISO 8601, UTC, by the node's own clock. */
  startedAt: z.iso.datetime(),
  tookMs: z.number().nonnegative(),
  outcome: z.enum(OUTCOMES),
  changes: z.array(Change).max(reportLimits.changesMax),
  problems: z.array(Problem).max(reportLimits.problemsMax),
  /** Resources that are left as they are until the node has a lease; missing when there are none. */
  held: z.array(z.string().max(512)).max(reportLimits.heldMax).optional(),
  /** How many resources the node's sections declare. */
  resources: z.number().int().nonnegative(),
  /** How many processes were started for it: the number that the agent is measured by. */
  processes: z.number().int().nonnegative(),
  /** How many changes were left out to stay within the limits. */
  omitted: z.number().int().nonnegative().default(0),
});
export type ConvergeReport = z.output<typeof ConvergeReport>;

/** What would be done, seen without doing it. */
export const PlanReport = z.object({
  commit: CommitId,
  plannedAt: z.iso.datetime(),
  tookMs: z.number().nonnegative(),
  changes: z.array(Change).max(reportLimits.changesMax),
  problems: z.array(Problem).max(reportLimits.problemsMax),
  resources: z.number().int().nonnegative(),
  omitted: z.number().int().nonnegative().default(0),
});
export type PlanReport = z.output<typeof PlanReport>;
