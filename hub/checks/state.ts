import type { Check } from "../../shared/config/policy.ts";
import type { CheckCounts, CheckWord } from "../../shared/protocol/checks.ts";
import type { LookResult } from "./look.ts";

/**
 * What is known of one check, moved on by each look. Pure.
 *
 *            first look well, or ceil(failuresMax / 2) well in a row
 *   unknown ─────────────────────────────────────────────────────────▶ ok
 *      ▲ │                                                            │ ▲
 *      │ └──────────── failuresMax failures in a row ─────▶ failing ◀─┘ │
 *      │                                                      │  └──────┘ ceil(failuresMax / 2) well in a row
 *      └── failuresMax attempts in a row that could not look ─┘ (from ok as well)
 */
export interface CheckProgress {
  readonly state: CheckWord;
  /** By the wall clock. */
  readonly sinceMs: number;
  readonly lastMessage: string | null;
  /** By the wall clock; null before the first look that could look. */
  readonly lastLookAtMs: number | null;
  readonly latencyMs: number | null;
  /** Looks since the check is there; attempts that could not look do not count. */
  readonly total: CheckCounts;
  /** The same since each of those who count began, by their ids. */
  readonly watches: Readonly<Record<string, CheckCounts>>;
  /** How many looks in a row, the last one included, went the same way. At most one of them is above zero, except `unable`. */
  readonly inARow: { readonly well: number; readonly failed: number; readonly unable: number };
}

const none: CheckCounts = { looked: 0, failed: 0 };
const nothingInARow = { well: 0, failed: 0, unable: 0 };

/** Before the first look. */
export function unknownProgress(nowMs: number, watches: CheckProgress["watches"] = {}): CheckProgress {
  return { state: "unknown", sinceMs: nowMs, lastMessage: null, lastLookAtMs: null, latencyMs: null, total: none, watches, inARow: nothingInARow };
}

/** After a look in its turn: counts it, and decides anew between unknown, ok and failing. */
export function afterLook(progress: CheckProgress, result: LookResult, check: Pick<Check, "failuresMax">, nowMs: number): CheckProgress {
  const { failuresMax } = check;
  const counted = afterExtraLook(progress, result, nowMs);
  if (!result.ok && !result.looked) {
    const unable = progress.inARow.unable + 1;
    const inARow = unable >= failuresMax ? { ...nothingInARow, unable } : { ...progress.inARow, unable };
    return enter({ ...counted, inARow }, unable >= failuresMax ? "unknown" : progress.state, nowMs);
  }
  if (!result.ok) {
    const failures = progress.inARow.failed + 1;
    return enter({ ...counted, inARow: { ...nothingInARow, failed: failures } }, failures >= failuresMax ? "failing" : progress.state, nowMs);
  }
  const well = progress.inARow.well + 1;
  // Without any sign of trouble there is no reason to keep a rollout waiting for a second look.
  const neverAnything = progress.total.looked === 0;
  return enter({ ...counted, inARow: { ...nothingInARow, well } }, neverAnything || well >= Math.ceil(failuresMax / 2) ? "ok" : progress.state, nowMs);
}

/**
 * After a look between two turns, made only because somebody counts: it is counted, but decides nothing. Otherwise three
 * failures in a row would take three seconds instead of the thirty that the owner asked for, just because a rollout runs.
 */
export function afterExtraLook(progress: CheckProgress, result: LookResult, nowMs: number): CheckProgress {
  if (!result.ok && !result.looked) return { ...progress, lastMessage: result.message };
  const add = ({ looked, failed }: CheckCounts): CheckCounts => ({ looked: looked + 1, failed: failed + (result.ok ? 0 : 1) });
  return {
    ...progress,
    lastMessage: result.ok ? (progress.state === "ok" ? null : progress.lastMessage) : result.message,
    lastLookAtMs: nowMs,
    latencyMs: result.tookMs,
    total: add(progress.total),
    watches: Object.fromEntries(Object.entries(progress.watches).map(([id, counts]) => [id, add(counts)])),
  };
}

/** Begins to count for `id`, on top of what `already` says. */
export function watched(progress: CheckProgress, id: string, already: CheckCounts = none): CheckProgress {
  return { ...progress, watches: { ...progress.watches, [id]: already } };
}

export function unwatched(progress: CheckProgress, id: string): CheckProgress {
  const { [id]: _gone, ...watches } = progress.watches;
  return { ...progress, watches };
}

function enter(progress: CheckProgress, state: CheckWord, nowMs: number): CheckProgress {
  const lastMessage = state === "ok" && progress.inARow.well > 0 ? null : progress.lastMessage;
  return { ...progress, lastMessage, ...(state !== progress.state && { state, sinceMs: nowMs }) };
}
