import { printable } from "../../shared/config/diagnostic.ts";
import type { ClusterSummary, NodeCondition, NodeSummary, StoredConverge } from "../../shared/protocol/api.ts";
import type { Change, PlanReport, Problem } from "../../shared/protocol/report.ts";
import { shortCommit } from "../../shared/ids.ts";

/** What nodes and the hub say, for a terminal. Everything that came from elsewhere goes through `printable`. */

export interface Paint {
  readonly bold: Style;
  readonly dim: Style;
  readonly red: Style;
  readonly green: Style;
  readonly yellow: Style;
  readonly cyan: Style;
}
export type Style = (text: string) => string;

export function paintFor(color: boolean): Paint {
  const code = (open: number, close: number): Style => (text) => (color ? `\u001b[${open}m${text}\u001b[${close}m` : text);
  return { bold: code(1, 22), dim: code(2, 22), red: code(31, 39), green: code(32, 39), yellow: code(33, 39), cyan: code(36, 39) };
}

const conditionStyles: Readonly<Record<NodeCondition, keyof Paint>> = {
  revoked: "dim",
  waiting: "dim",
  offline: "red",
  refused: "red",
  failing: "red",
  behind: "yellow",
  converging: "cyan",
  converged: "green",
  guest: "dim",
};

export function showStatus(summary: ClusterSummary, paint: Paint, nowMs: number): string {
  const { head, counts, nodes } = summary;
  const tip = head === null ? "nothing pushed yet" : `${shortCommit(head.id)} ${printable(head.subject)} (${printable(head.pushedBy)}, ${ago(head.pushedAt, nowMs)})`;
  const allWell = counts.total > 0 && counts.converged === counts.total;
  const count = `${counts.converged} of ${counts.total} converged, ${counts.online} online`;
  return `${paint.bold(summary.cluster)}  ${tip}\n${allWell ? paint.green(count) : count}\n\n${showNodes(nodes, paint, nowMs)}`;
}

export function showNodes(nodes: readonly NodeSummary[], paint: Paint, nowMs: number): string {
  if (nodes.length === 0) return `${paint.dim("no nodes yet: push a repository with nodes/NAME.yaml, then `evenkeel node add NAME`")}\n`;
  const rows = nodes.map((node) => [
    { text: node.name, style: paint.bold },
    { text: node.condition, style: paint[conditionStyles[node.condition]] },
    { text: node.commit === null ? "-" : shortCommit(node.commit), style: plain },
    { text: node.online ? "online" : node.lastSeenAt === null ? "never seen" : ago(node.lastSeenAt, nowMs), style: node.online ? plain : paint.dim },
    { text: printable(node.why), style: plain },
  ]);
  return table([["NODE", "CONDITION", "COMMIT", "SEEN", "WHY"].map((text) => ({ text, style: paint.dim })), ...rows]);
}

export interface Cell {
  readonly text: string;
  readonly style: Style;
}

/** Columns as wide as they need to be; the last one goes on. */
export function table(rows: readonly (readonly Cell[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach(({ text }, column) => (widths[column] = Math.max(widths[column] ?? 0, text.length)));
  const line = (row: readonly Cell[]): string =>
    row.map(({ text, style }, column) => style(text) + (column === row.length - 1 ? "" : " ".repeat((widths[column] ?? 0) - text.length + 2))).join("");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}

/** One report as a line, and what was done or went wrong below it. */
export function showConverge({ node, receivedAt, report }: StoredConverge, paint: Paint, verbose: boolean): string {
  const style = report.outcome === "converged" ? paint.green : report.outcome === "failed" ? paint.red : paint.yellow;
  const counted = report.changes.length === 0 ? "nothing to do" : count(report.changes.length + report.omitted, "change");
  const head = `${paint.dim(receivedAt.replace("T", " ").slice(0, 19))} ${paint.bold(node)} ${style(report.outcome)}  ${shortCommit(report.commit)} ${paint.dim(`${report.cause}, ${counted}, ${report.tookMs.toFixed(0)} ms`)}`;
  const changes = verbose ? report.changes : report.changes.filter((change) => change.result !== "done" && change.result !== "planned");
  return `${[head, ...changes.flatMap((change) => showChange(change, paint, verbose)), ...showProblems(report.problems, paint)].join("\n")}\n`;
}

export function showPlan(node: string, report: PlanReport, paint: Paint): string {
  const nothing = report.changes.length === 0 && report.problems.length === 0;
  const head = nothing ? paint.green("nothing to do") : `${count(report.changes.length + report.omitted, "change")} to make`;
  const details = paint.dim(`(${node}, commit ${shortCommit(report.commit)}, ${count(report.resources, "resource")}, ${report.tookMs.toFixed(0)} ms)`);
  const omitted = report.omitted > 0 ? [paint.dim(`… and ${report.omitted} more`)] : [];
  return `${[`${paint.bold(head)} ${details}`, ...report.changes.flatMap((change) => showChange(change, paint, true)), ...omitted, ...showProblems(report.problems, paint)].join("\n")}\n`;
}

export function showChange(change: Change, paint: Paint, withDiff: boolean): readonly string[] {
  const marks = { planned: paint.cyan("~"), done: paint.green("✓"), failed: paint.red("✗"), blocked: paint.yellow("–"), held: paint.cyan("…"), waiting: paint.cyan("…") };
  const lines = [`${marks[change.result]} ${paint.bold(printable(change.resource))}  ${printable(change.action)} ${paint.dim(`— ${printable(change.why)}`)}${change.impact === "none" || change.result !== "planned" ? "" : ` ${paint.yellow(`[${change.impact}]`)}`}`];
  if (change.oneWay !== undefined) lines.push(`    ${paint.yellow(`cannot be taken back: ${printable(change.oneWay)}`)}`);
  if (change.error !== undefined) lines.push(...linesOf(change.error).map((line) => `    ${paint.red(line)}`));
  if (withDiff && change.diff !== undefined) lines.push(...linesOf(change.diff).map((line) => `    ${colourDiffLine(line, paint)}`));
  return lines;
}

export function showProblems(problems: readonly Problem[], paint: Paint): readonly string[] {
  return problems.map((problem) => `${paint.yellow("!")} ${linesOf(problem.message).join("\n  ")}`);
}

function colourDiffLine(line: string, paint: Paint): string {
  if (line.startsWith("+++") || line.startsWith("---")) return paint.dim(line);
  if (line.startsWith("@@")) return paint.cyan(line);
  if (line.startsWith("+")) return paint.green(line);
  if (line.startsWith("-")) return paint.red(line);
  return line;
}

export function linesOf(text: string): readonly string[] {
  return text.trimEnd().split("\n").map(printable);
}

/** How long ago, in one unit: `12 s ago`. Two clocks take part, so the future is "just now". */
export function ago(iso: string, nowMs: number): string {
  const seconds = Math.floor((nowMs - Date.parse(iso)) / 1_000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 5_400) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

export function plain(text: string): string {
  return text;
}
