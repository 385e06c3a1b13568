import { html } from "hono/html";
import { shortCommit } from "../../shared/ids.ts";
import type { ClusterSummary, CommitSummary } from "../../shared/protocol/api.ts";
import { outcomeLook, outcomeMark, symbol } from "./condition.ts";
import { byName, capped, clip, duration, type Html, more, nodeHref, plural, timeAgo } from "./format.ts";
import { isMember } from "./headline.ts";

const COMMITS_MAX = 30;
const NODES_PER_COMMIT_MAX = 12;
const MARKS_MAX = 12;
/** Columns of the chart on top; at 360 px each still has some 7 px. */
const COLUMNS_MAX = 40;

type Arrival = CommitSummary["arrivals"][number];

/** `pushed 3 min ago by anna · signed by anna@example.org`. */
export function pushedBy(commit: CommitSummary, nowMs: number): Html {
  const signer = commit.signer === "" ? "" : ` · signed by ${clip(commit.signer, 80)}`;
  return html`pushed ${timeAgo(commit.pushedAt, nowMs)} by <bdi>${clip(commit.pushedBy, 60)}</bdi>${signer}`;
}

/** The time until the last of the nodes had it, in milliseconds. */
export function slowest(arrivals: readonly Arrival[]): number {
  return arrivals.reduce((max, { afterMs }) => Math.max(max, afterMs), 0);
}

/**
 * Where a commit has arrived, as one small mark a node. A node that has not got it yet is shown for the head only:
 * an older commit that a node skipped for a newer one will never arrive there.
 */
export function arrivalMarks(commit: CommitSummary, names: readonly string[], isHead: boolean): Html | string {
  const arrivals = [...commit.arrivals].sort(troubleFirst);
  const missing = isHead ? missingAt(commit, names) : [];
  if (arrivals.length + missing.length === 0) return html`<p class="meta marks-none">on no node; a newer one came first</p>`;
  const well = arrivals.filter(({ outcome }) => outcome === "converged");
  // On a large cluster, only what is out of the ordinary is named.
  const summed = arrivals.length + missing.length > MARKS_MAX && well.length > 1;
  const marks = [
    ...missing.map((name) => html`<li class="mark" data-tone="off">${symbol("dots")}${clip(name, 63)} <span class="took">not yet</span></li>`),
    ...(summed ? arrivals.slice(0, arrivals.length - well.length) : arrivals).map((arrival) => {
      const look = outcomeLook(arrival.outcome);
      return html`<li class="mark" data-tone="${look.tone}">${symbol(look.symbol)}${clip(arrival.node, 63)} <span class="took">${
        arrival.outcome === "converged" ? "" : `${clip(arrival.outcome, 20)} `
      }${duration(arrival.afterMs)}</span></li>`;
    }),
  ];
  const { shown, hidden } = capped(marks, MARKS_MAX);
  return html`<ul class="marks" aria-label="Arrived at">${shown}${hidden > 0 ? html`<li class="mark" data-tone="off">… and ${hidden} more</li>` : ""}${
    summed ? html`<li class="mark" data-tone="good">${symbol("check")}${plural(well.length, "node")} <span class="took">${duration(slowest(well))}</span></li>` : ""
  }</ul>`;
}

function missingAt({ arrivals }: CommitSummary, names: readonly string[]): string[] {
  return names.filter((name) => !arrivals.some(({ node }) => node === name)).sort(byName);
}

function troubleFirst(a: Arrival, b: Arrival): number {
  return Number(a.outcome === "converged") - Number(b.outcome === "converged") || byName(a.node, b.node);
}

/** Who pushed what, where it has arrived, and how long each node took. */
export function commitsView({ head, nodes }: Pick<ClusterSummary, "head" | "nodes">, commits: readonly CommitSummary[], nowMs: number): Html {
  if (commits.length === 0) {
    return html`<h1>Commits</h1>
<section class="next"><h2>Nothing has been pushed yet</h2>
  <p>The first commit that you push to this hub will stand here, with the time that each node took to become it.</p>
  <pre class="command" tabindex="0" aria-label="Command"><code>git push hub main</code></pre></section>`;
  }
  const { shown, hidden } = capped(commits, COMMITS_MAX);
  return html`<h1>Commits</h1>
${columns(commits)}
<ol class="commit-list">
  ${shown.map((commit) => commitItem(commit, commit.id === head?.id ? missingAt(commit, nodes.filter(isMember).map(({ name }) => name)) : [], nowMs))}
</ol>
${more(hidden)}`;
}

function commitItem(commit: CommitSummary, missing: readonly string[], nowMs: number): Html {
  const longestMs = slowest(commit.arrivals);
  const slowFirst = [...commit.arrivals].sort((a, b) => Number(a.outcome === "converged") - Number(b.outcome === "converged") || b.afterMs - a.afterMs);
  const { shown, hidden } = capped(slowFirst, NODES_PER_COMMIT_MAX);
  const byNode = [...shown].sort((a, b) => byName(a.node, b.node));
  return html`<li class="commit-item" id="c-${commit.id}">
  <div class="commit-text">
    <h2><bdi>${clip(commit.subject, 160)}</bdi></h2>
    <p><code class="commit" title="${commit.id}">${shortCommit(commit.id)}</code> by <bdi>${clip(commit.author, 100)}</bdi></p>
    <p class="meta">${pushedBy(commit, nowMs)}</p>
  </div>
  ${byNode.length === 0
    ? html`<p class="meta commit-nowhere">${missing.length > 0 ? notYet(missing) : "on no node; a newer one came first"}</p>`
    : html`<div class="commit-chart"><table class="arrivals" aria-label="How long after the push each node had ${shortCommit(commit.id)}">
    <tbody>${byNode.map((arrival) => arrivalRow(arrival, longestMs))}</tbody>
    ${hidden > 0 ? html`<tfoot><tr><td colspan="4" class="more">… and ${hidden} more, faster</td></tr></tfoot>` : ""}
  </table>
  ${missing.length > 0 ? html`<p class="meta">${notYet(missing)}</p>` : ""}</div>`}
</li>`;
}

function notYet(names: readonly string[]): string {
  const { shown, hidden } = capped(names, NODES_PER_COMMIT_MAX);
  return `not yet on ${shown.map((name) => clip(name, 63)).join(", ")}${hidden > 0 ? ` … and ${hidden} more` : ""}`;
}

function arrivalRow({ node, outcome, afterMs }: Arrival, longestMs: number): Html {
  const percent = longestMs > 0 ? Math.max(1, (afterMs / longestMs) * 100) : 1;
  return html`<tr data-tone="${outcomeLook(outcome).tone}">
      <th scope="row"><a href="${nodeHref(node)}">${clip(node, 63)}</a></th>
      <td class="outcome">${outcomeMark(clip(outcome, 20))}</td>
      <td class="bar-cell"><svg class="bar-chart" width="100%" height="10" aria-hidden="true"><rect class="track" width="100%" height="10" rx="3"/><rect class="fill" width="${percent.toFixed(1)}%" height="10" rx="3"/></svg></td>
      <td class="after">${duration(afterMs)}</td>
    </tr>`;
}

const CHART_HEIGHT_PX = 132;
const CHART_TOP_PX = 16;
const CHART_BOTTOM_PX = CHART_HEIGHT_PX - 2;
const GRID = [
  { ms: 100, label: "0.1 s" },
  { ms: 1_000, label: "1 s" },
  { ms: 10_000, label: "10 s" },
  { ms: 60_000, label: "1 min" },
  { ms: 600_000, label: "10 min" },
  { ms: 3_600_000, label: "1 h" },
  { ms: 86_400_000, label: "1 d" },
] as const;

/**
 * How long each of the latest commits took to reach the last node that took it, oldest at the left. The axis is
 * logarithmic, since one file takes a second and a kernel ten minutes; its lines say so.
 */
function columns(commits: readonly CommitSummary[]): Html | string {
  const points = commits.filter(({ arrivals }) => arrivals.length > 0).slice(0, COLUMNS_MAX).toReversed();
  if (points.length < 3) return "";
  const times = points.map(({ arrivals }) => Math.max(1, slowest(arrivals)));
  const floorMs = GRID.findLast(({ ms }) => ms < Math.min(...times))?.ms ?? 10;
  const ceilingMs = Math.max(GRID.find(({ ms }) => ms >= Math.max(...times))?.ms ?? Math.max(...times), floorMs * 10);
  const y = (ms: number): number => {
    const share = Math.log(ms / floorMs) / Math.log(ceilingMs / floorMs);
    return CHART_BOTTOM_PX - Math.min(1, Math.max(0, share)) * (CHART_BOTTOM_PX - CHART_TOP_PX);
  };
  const grid = GRID.filter(({ ms }) => ms >= floorMs && ms <= ceilingMs);
  const sorted = times.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  return html`<figure class="columns">
  <figcaption>From the push until the last node had it: <b>${duration(median)}</b>, the median of the last ${plural(points.length, "commit")}</figcaption>
  <svg width="100%" height="${CHART_HEIGHT_PX}" role="img" aria-label="Time until the last node had each commit, from ${duration(sorted[0] ?? 0)} to ${duration(sorted.at(-1) ?? 0)}, oldest first">
    ${grid.map(({ ms, label }) => html`<line class="grid" x1="0" x2="100%" y1="${y(ms).toFixed(1)}" y2="${y(ms).toFixed(1)}"/><text class="tick" x="0" y="${(y(ms) - 4).toFixed(1)}">${label}</text>`)}
    <svg x="11%" width="89%" height="${CHART_HEIGHT_PX}">${points.map((commit, index) => column(commit, index, points.length, y))}</svg>
  </svg>
</figure>`;
}

function column(commit: CommitSummary, index: number, count: number, y: (ms: number) => number): Html {
  const ms = slowest(commit.arrivals);
  const top = Math.min(y(Math.max(1, ms)), CHART_BOTTOM_PX - 2);
  const failed = commit.arrivals.some(({ outcome }) => outcome !== "converged");
  // At least twelve places wide, so that three commits do not make three barn doors.
  const step = 100 / Math.max(count, 12);
  const x = 100 - (count - index) * step;
  return html`<g class="column" data-tone="${failed ? "bad" : "good"}"><title>${shortCommit(commit.id)} ${clip(commit.subject, 60)}: ${duration(ms)}${failed ? ", not well on every node" : ""}</title><rect x="${(x + step * 0.14).toFixed(2)}%" y="${top.toFixed(1)}" width="${(step * 0.72).toFixed(2)}%" height="${(CHART_BOTTOM_PX - top).toFixed(1)}" rx="2"/>${
    failed ? html`<text class="cross" x="${(x + step / 2).toFixed(2)}%" y="${(top - 4).toFixed(1)}" text-anchor="middle">×</text>` : ""
  }</g>`;
}
