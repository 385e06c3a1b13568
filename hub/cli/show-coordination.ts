import { printable } from "../../shared/config/diagnostic.ts";
import { shortCommit } from "../../shared/ids.ts";
import type { CheckState } from "../../shared/protocol/checks.ts";
import type { CoordinationSummary, DenialView, GroupView, HoldView, LeaseView, NodeUpdates, RequestView, RolloutNode, RolloutView, WhyAnswer } from "../../shared/protocol/rollout.ts";
import { span, wallClock } from "./moment.ts";
import { count, plain, table, type Cell, type Paint, type Style } from "./show.ts";

/** Slots, rollouts and reasons, for a terminal. Everything that came from elsewhere goes through `printable`. */

const packagesShown = 10;

/** Below the nodes in `evenkeel status`: groups, rollout, holds. */
export function showStanding(summary: CoordinationSummary, paint: Paint, nowMs: number): string {
  const { gates, groups, holds, leases, rollout, nextWindow, blackout } = summary;
  const lines: [string, string][] = groups.map((group) => [`group ${group.name}`, gauge(group, paint)]);
  for (const { text } of gates) lines.push(["gate", paint.yellow(printable(text))]);
  if (rollout !== null && (rollout.phase === "running" || rollout.phase === "halted")) lines.push(["rollout", rolloutLine(rollout, paint)]);
  else if (nextWindow !== null) lines.push(["next window", `${nextWindow.name}, ${wallClock(nextWindow.opensAt, nowMs)} to ${wallClock(nextWindow.closesAt, nowMs)}`]);
  if (summary.commit !== undefined && summary.commit.state !== "released") lines.push(["newest commit", paint[summary.commit.state === "bad" ? "red" : "yellow"](printable(summary.commit.text)) + (summary.commit.cure === "" ? "" : paint.dim(` → ${printable(summary.commit.cure)}`))]);
  if (blackout !== null) lines.push(["blackout", paint.yellow(`until ${wallClock(blackout.until, nowMs)}: ${printable(blackout.why)}`)]);
  for (const lease of leases) if (lease.rollout === null) lines.push([`slot of ${lease.node}`, leaseLine(lease, paint, nowMs)]);
  for (const hold of holds) lines.push(["held", paint.yellow(holdLine(hold, nowMs))]);
  return titled(lines, paint);
}

/** `3 of 3 up, may lose 1`, and who is down. */
export function gauge({ size, allowed, down, settling }: GroupView, paint: Paint): string {
  const left = Math.max(0, allowed - down.length);
  const up = `${size - down.length} of ${size} up, may lose ${left === 0 ? (allowed === 0 ? "none" : "no more") : left}`;
  const style = down.length > allowed ? paint.red : left === 0 ? paint.yellow : paint.green;
  const who = down.map(({ node, text }) => (text.startsWith(`${node} `) ? printable(text) : `${node}: ${printable(text)}`)).join("; ");
  return `${style(up)}${who === "" ? "" : paint.dim(` (${who})`)}${settling === null ? "" : paint.yellow(` ${printable(settling)}`)}`;
}

function titled(lines: readonly (readonly [string, string])[], paint: Paint): string {
  const width = Math.max(0, ...lines.map(([title]) => title.length));
  return lines.map(([title, text]) => `${paint.dim(title.padEnd(width))}  ${text}\n`).join("");
}

const phaseStyles = { running: "cyan", halted: "red", done: "green", cancelled: "dim" } as const;

export function rolloutLine(rollout: RolloutView, paint: Paint): string {
  const what = rollout.phase === "halted" && rollout.halt !== null ? printable(rollout.halt.why) : printable(rollout.forecast.text);
  return `${shortRollout(rollout.id)}: ${rolloutKind(rollout)} by ${printable(rollout.startedBy)}, ${paint[phaseStyles[rollout.phase]](rollout.phase)}: ${what}`;
}

/** `update`, `reboot`, or `configuration change 3f2a91cc`. */
export function rolloutKind({ kind, commit }: Pick<RolloutView, "kind" | "commit">): string {
  return kind === "change" ? `configuration change${commit === undefined ? "" : ` ${shortCommit(commit)}`}` : kind;
}

/** How people read a rollout's id, and may write it: its first eight characters. */
export function shortRollout(id: string): string {
  return printable(id.slice(0, 8));
}

export function showRollouts(rollouts: readonly RolloutView[], paint: Paint, nowMs: number): string {
  if (rollouts.length === 0) return paint.dim("no rollout yet: `evenkeel rollout start` begins one, and so does a window\n");
  const rows = rollouts.map((rollout) => {
    const gone = rollout.nodes.filter(({ state }) => state === "done").length;
    return [
      cell(shortRollout(rollout.id), paint.bold),
      cell(rolloutKind(rollout)),
      cell(rollout.phase, paint[phaseStyles[rollout.phase]]),
      cell(`${gone} of ${rollout.nodes.length}`),
      cell(wallClock(rollout.startedAt, nowMs)),
      cell(span(rollout.startedAt, rollout.endedAt === null ? nowMs : Date.parse(rollout.endedAt))),
      cell(printable(rollout.startedBy)),
    ];
  });
  return table([head(["ROLLOUT", "KIND", "PHASE", "DONE", "STARTED", "TOOK", "BY"], paint), ...rows]);
}

export function showRollout(rollout: RolloutView, paint: Paint, nowMs: number): string {
  const rows = rollout.nodes.map((node) => [cell(node.node, paint.bold), cell(node.role === "node" ? "" : node.role), cell(phaseOf(node), stateStyle(node.state, paint)), cell(sinceOf(node, nowMs)), cell(whatOf(node))]);
  const lines: [string, string][] = [];
  if (rollout.halt !== null) lines.push(["halted", `${paint.red(printable(rollout.halt.why))} ${paint.dim(`→ ${printable(rollout.halt.cure)}`)}`]);
  lines.push(["forecast", `${printable(rollout.forecast.text)}${rollout.forecast.doneAt === null || rollout.phase !== "running" ? "" : ` (${wallClock(rollout.forecast.doneAt, nowMs)})`}`]);
  if (rollout.window !== null) lines.push(["window", `${rollout.window.name}, until ${wallClock(rollout.window.closesAt, nowMs)}${rollout.forecast.fits === "no" ? paint.yellow(", which is not enough for all") : ""}`]);
  for (const { check, looked, failed } of rollout.requests) lines.push([`check ${printable(check)}`, `${count(looked, "look")}, ${failed === 0 ? "none failed" : paint.red(`${failed} failed`)}`]);
  if (rollout.changed.length > 0) lines.push(["changed", changed(rollout.changed)]);
  const title = `${paint.bold(`rollout ${shortRollout(rollout.id)}`)}  ${rolloutKind(rollout)} by ${printable(rollout.startedBy)}, ${wallClock(rollout.startedAt, nowMs)}: ${paint[phaseStyles[rollout.phase]](rollout.phase)}\n`;
  return `${title}\n${table([head(["NODE", "ROLE", "STATE", "SINCE", "WHAT"], paint), ...rows])}\n${titled(lines, paint)}`;
}

function changed(all: RolloutView["changed"]): string {
  const shown = all.slice(0, packagesShown).map(({ name, from, to }) => `${printable(name)} ${from === null ? "" : `${printable(from)} → `}${to === null ? "removed" : printable(to)}`);
  return `${count(all.length, "package")}: ${shown.join(", ")}${all.length > packagesShown ? " …" : ""}`;
}

/** What a node is at: the phase of its timeline while it is at it, else its state. */
export function phaseOf(node: RolloutNode): string {
  const last = node.timeline.at(-1)?.phase;
  return node.state === "working" && last !== undefined ? printable(last) : node.state;
}

function sinceOf(node: RolloutNode, nowMs: number): string {
  if (node.state === "done" || node.state === "failed") return node.startedAt === null || node.endedAt === null ? "" : `took ${span(node.startedAt, Date.parse(node.endedAt))}`;
  const at = node.timeline.at(-1)?.at;
  return at === undefined ? "" : span(at, nowMs);
}

/** One line: why it failed, what it is at, or what it waits for. */
export function whatOf(node: RolloutNode): string {
  const failure = node.result?.failure ?? null;
  if (failure !== null) return printable(failure);
  if (node.progress !== "") return printable(node.progress);
  return node.denials[0] === undefined ? "" : printable(node.denials[0].text);
}

export function stateStyle(state: RolloutNode["state"], paint: Paint): Style {
  const styles: Partial<Record<RolloutNode["state"], Style>> = { done: paint.green, failed: paint.red, waiting: paint.dim, skipped: paint.dim, asked: paint.yellow };
  return styles[state] ?? paint.cyan;
}

export function showWhy(why: WhyAnswer, paint: Paint, nowMs: number): string {
  const lines: string[] = [`${paint.bold(why.node)}  ${printable(why.headline)}\n`];
  if (why.denials.length > 0) lines.push(showDenials(why.denials, paint, nowMs));
  if (why.lease !== null) lines.push(`${paint.dim("slot")}  ${leaseLine(why.lease, paint, nowMs)}\n`);
  if (why.request !== null) lines.push(`${paint.dim("asked for by")} ${printable(why.request.by)} ${paint.dim(`${span(why.request.requestedAt, nowMs)} ago`)}\n`);
  if (why.expectedAt !== null) lines.push(`${paint.dim("expected to be done")} ${wallClock(why.expectedAt, nowMs)}\n`);
  return lines.join("");
}

/** Each reason with what would change it. */
export function showDenials(denials: readonly DenialView[], paint: Paint, nowMs?: number): string {
  const width = Math.max(0, ...denials.map(({ code }) => code.length));
  return denials
    .map(({ code, text, since, cure }) => {
      const age = since === null || nowMs === undefined ? "" : paint.dim(` (for ${span(since, nowMs)})`);
      const cures = cure === "" ? "" : `  ${" ".repeat(width)}  ${paint.dim(`→ ${printable(cure)}`)}\n`;
      return `  ${paint.yellow(printable(code).padEnd(width))}  ${printable(text)}${age}\n${cures}`;
    })
    .join("");
}

export function showLeases(leases: readonly LeaseView[], requests: readonly RequestView[], paint: Paint, nowMs: number): string {
  if (leases.length === 0 && requests.length === 0) return paint.dim("nobody holds a slot, or asks for one\n");
  const held = leases.map((lease) => [cell(lease.node, paint.bold), cell(lease.work), cell(lease.stuck === null ? lease.phase : "stuck", lease.stuck === null ? paint.cyan : paint.red), cell(span(lease.phaseSince, nowMs)), cell(printable(lease.by)), cell(lease.id), cell(printable(lease.stuck?.why ?? (lease.progress === "" ? (lease.why ?? "") : lease.progress)))]);
  const asked = requests.map((request) => [cell(request.node, paint.bold), cell(request.work), cell("asked", paint.yellow), cell(span(request.requestedAt, nowMs)), cell(printable(request.by)), cell(request.id), cell(printable(request.denials[0]?.text ?? ""))]);
  return table([head(["NODE", "FOR", "PHASE", "SINCE", "BY", "LEASE", "WHAT"], paint), ...held, ...asked]);
}

export function leaseLine(lease: LeaseView, paint: Paint, nowMs: number): string {
  const detail = lease.stuck !== null ? paint.red(`stuck: ${printable(lease.stuck.why)}`) : [lease.progress, lease.why ?? ""].filter((text) => text !== "").map(printable).join("; ");
  return `${lease.work} by ${printable(lease.by)}, ${lease.phase} for ${span(lease.phaseSince, nowMs)}${detail === "" ? "" : `: ${detail}`} ${paint.dim(lease.id)}`;
}

export function holdLine({ what, by, why, until }: HoldView, nowMs: number): string {
  return `${what === "*" ? "the cluster" : what} by ${printable(by)}, ${until === null ? "until somebody lifts it" : `until ${wallClock(until, nowMs)}`}: ${printable(why)}`;
}

export function showChecks(checks: readonly CheckState[], paint: Paint, nowMs: number): string {
  if (checks.length === 0) return paint.dim("no service checks: add some under checks: in cluster.yaml\n");
  const style = { ok: paint.green, failing: paint.red, unknown: paint.yellow } as const;
  const rows = checks.map((check) => [
    cell(check.name, paint.bold),
    cell(check.state, style[check.state]),
    cell(span(check.since, nowMs)),
    cell(check.latencyMs === null ? "-" : `${check.latencyMs.toFixed(0)} ms`),
    cell(`${check.failedCount} of ${check.lookedCount}`),
    cell(check.gates ? "yes" : "no"),
    cell(printable(check.target)),
    cell(printable(check.lastMessage ?? "")),
  ]);
  return table([head(["CHECK", "STATE", "SINCE", "TOOK", "FAILED", "GATES", "TARGET", "WHAT"], paint), ...rows]);
}

export function showUpdates(updates: readonly NodeUpdates[], paint: Paint, nowMs: number): string {
  if (updates.length === 0) return paint.dim("no node has said yet what there is to update\n");
  const reboot = { yes: paint.yellow, no: plain, unknown: paint.dim } as const;
  const rows = updates.map((node) => {
    const notes = [node.error ?? "", ...node.conflicts, ...node.rebootWhy, node.restarts.length > 0 ? `on old libraries: ${node.restarts.join(", ")}` : ""].filter((text) => text !== "");
    return [
      cell(node.node, paint.bold),
      cell(node.lookedAt === null ? "-" : String(node.pending), node.pending > 0 ? paint.yellow : plain),
      cell(node.lookedAt === null ? "-" : String(node.security), node.security > 0 ? paint.red : plain),
      cell(node.lookedAt === null ? "-" : String(node.held)),
      cell(node.reboot, reboot[node.reboot]),
      cell(node.lookedAt === null ? "never" : `${span(node.lookedAt, nowMs)} ago`),
      cell(printable(notes.join("; "))),
    ];
  });
  return table([head(["NODE", "UPDATES", "SECURITY", "HELD BACK", "REBOOT", "LOOKED", "WHAT"], paint), ...rows]);
}

function cell(text: string, style: Style = plain): Cell {
  return { text, style };
}

function head(titles: readonly string[], paint: Paint): readonly Cell[] {
  return titles.map((text) => ({ text, style: paint.dim }));
}
