import { reportLimits } from "../../shared/protocol/report.ts";
import type { Change } from "../../shared/protocol/report.ts";

/** All diffs of one report together; with everything else it stays well below the size of a message. */
const DIFFS_SIZE_MAX_BYTES = 100_000;
const TEXTS_SIZE_MAX_BYTES = 80_000;

/** Cuts a report to its bounds, failures first: what did not work must never be what was left out. */
export function fitReport<Report extends { changes: Change[]; problems: readonly unknown[]; omitted: number }>(report: Report): Report {
  const ranked = report.changes.length <= reportLimits.changesMax ? report.changes : failuresFirst(report.changes).slice(0, reportLimits.changesMax);
  let diffsLeft = DIFFS_SIZE_MAX_BYTES;
  let textsLeft = TEXTS_SIZE_MAX_BYTES;
  const changes: Change[] = [];
  for (const change of ranked) {
    const { diff, ...rest } = change;
    textsLeft -= sizeOf(rest);
    if (textsLeft < 0) break;
    diffsLeft -= diff === undefined ? 0 : sizeOf(diff);
    changes.push(diff === undefined || diffsLeft < 0 ? rest : change);
  }
  return { ...report, changes, problems: report.problems.slice(0, reportLimits.problemsMax), omitted: report.changes.length - changes.length };
}

/** As it will be sent: in bytes, with JSON's escapes. */
function sizeOf(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

function failuresFirst(changes: readonly Change[]): readonly Change[] {
  const failures = changes.filter((change) => change.result === "failed" || change.result === "blocked");
  return [...failures, ...changes.filter((change) => !failures.includes(change))];
}
