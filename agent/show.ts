import type { Change, ConvergeReport, PlanReport, Problem } from "../shared/protocol/report.ts";

/** Reports for a terminal. */

export interface Paint {
  readonly bold: Colour;
  readonly dim: Colour;
  readonly red: Colour;
  readonly green: Colour;
  readonly yellow: Colour;
  readonly cyan: Colour;
}

type Colour = (text: string) => string;

/** Colours only where somebody looks, and never against their will (https://no-color.org). */
export function paintFor(stream: { readonly isTTY?: boolean }, env: Readonly<Record<string, string | undefined>>): Paint {
  const on = stream.isTTY === true && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  const code = (open: number, close: number) => (text: string) => (on ? `\u001b[${open}m${text}\u001b[${close}m` : text);
  return { bold: code(1, 22), dim: code(2, 22), red: code(31, 39), green: code(32, 39), yellow: code(33, 39), cyan: code(36, 39) };
}

export function showPlan(report: PlanReport, paint: Paint): string {
  const head = report.changes.length === 0 && report.problems.length === 0 ? paint.green("nothing to do") : `${count(report.changes.length, "change")} to make`;
  return [`${paint.bold(head)} ${paint.dim(`(commit ${report.commit.slice(0, 8)}, ${count(report.resources, "resource")}, ${report.tookMs.toFixed(0)} ms)`)}`, ...body(report, paint)].join("\n");
}

export function showConverge(report: ConvergeReport, paint: Paint): string {
  const mark = report.outcome === "converged" ? paint.green("converged") : report.outcome === "failed" ? paint.red("failed") : paint.yellow(report.outcome);
  const details = `${report.startedAt.replace("T", " ").slice(0, 19)} UTC, ${report.cause}, commit ${report.commit.slice(0, 8)}, ${count(report.changes.length, "change")}, ${report.tookMs.toFixed(0)} ms, ${count(report.processes, "process", "processes")}`;
  return [`${paint.bold(mark)} ${paint.dim(`(${details})`)}`, ...body(report, paint)].join("\n");
}

function body(report: { readonly changes: readonly Change[]; readonly problems: readonly Problem[]; readonly omitted: number }, paint: Paint): readonly string[] {
  return [
    ...report.changes.flatMap((change) => showChange(change, paint)),
    ...(report.omitted > 0 ? [paint.dim(`… and ${report.omitted} more`)] : []),
    ...report.problems.map((problem) => `${paint.yellow("!")} ${problem.message}`),
  ];
}

function showChange(change: Change, paint: Paint): readonly string[] {
  const marks = { planned: paint.cyan("~"), done: paint.green("✓"), failed: paint.red("✗"), blocked: paint.yellow("–"), held: paint.cyan("…"), waiting: paint.cyan("…") };
  const lines = [`${marks[change.result]} ${paint.bold(change.resource)}  ${change.action} ${paint.dim(`— ${change.why}`)}`];
  if (change.oneWay !== undefined) lines.push(...indent(`cannot be taken back: ${change.oneWay}`, paint.yellow));
  if (change.error !== undefined) lines.push(...indent(change.error, paint.red));
  if (change.diff !== undefined) lines.push(...change.diff.trimEnd().split("\n").map((line) => `    ${colourDiffLine(line, paint)}`));
  return lines;
}

export function colourDiffLine(line: string, paint: Paint): string {
  if (line.startsWith("+++") || line.startsWith("---")) return paint.dim(line);
  if (line.startsWith("@@")) return paint.cyan(line);
  if (line.startsWith("+")) return paint.green(line);
  if (line.startsWith("-")) return paint.red(line);
  return line;
}

function indent(text: string, colour: Colour): readonly string[] {
  return text.trimEnd().split("\n").map((line) => `    ${colour(line)}`);
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}
