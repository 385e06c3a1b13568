import type { PlanReport } from "../../shared/protocol/report.ts";

/** The answers of one preview, all nodes together; beyond it the diffs are left out, and then the changes. */
export const PREVIEW_SIZE_MAX_BYTES = 16 * 1024 * 1024;

/** The report as it is kept in so many bytes: whole, without its diffs, or with a word that it did not fit. */
export function fitting(report: PlanReport, roomBytes: number): string {
  const bare = { ...report, changes: report.changes.map(({ diff: _diff, ...change }) => change) };
  const tooMuch = { code: "preview-size", message: `the hub keeps at most ${PREVIEW_SIZE_MAX_BYTES} bytes of a preview: ask the node itself, with evenkeel plan NODE --branch NAME` };
  const nothing = { ...report, changes: [], omitted: report.changes.length + report.omitted, problems: [tooMuch] };
  return [report, { ...bare, problems: [...bare.problems, tooMuch].slice(-50) }].map((each) => JSON.stringify(each)).find((text) => Buffer.byteLength(text) <= roomBytes) ?? JSON.stringify(nothing);
}
