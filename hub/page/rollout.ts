import { html } from "hono/html";
import type { CoordinationSummary, RolloutView } from "../../shared/protocol/rollout.ts";
import { requestTable } from "./checks.ts";
import { capped, clip, duration, exact, figure, type Html, more, plural, prose, timeAgo } from "./format.ts";
import { boat } from "./layout.ts";
import { actionLink, actionsOf, type Offer } from "./offers.ts";
import { kindWords, rolloutHeadline } from "./rollout-headline.ts";
import { rolloutNodes } from "./rollout-nodes.ts";
import { otherSlots } from "./slots.ts";
import { nextWindowWords, quorumView } from "./standing.ts";

const VERSIONS_SHOWN = 12;
const VERSIONS_MAX = 500;
const NODES_PER_VERSION_MAX = 12;
const ROLLOUTS_MAX = 50;

/** One rollout, as one would hang it on the wall. `current` tells the one that runs, or was the last, from those of before. */
export function rolloutView(rollout: RolloutView, summary: CoordinationSummary, current: boolean, may: boolean, nowMs: number): Html {
  return html`${current ? "" : html`<nav class="crumbs" aria-label="Where you are"><a href="/rollouts">Rollouts</a> <span aria-hidden="true">/</span> <span aria-current="page">${exact(rollout.startedAt)}</span></nav>`}
${hero(rollout, summary, current, may, nowMs)}
${current ? quorum(summary, may, nowMs) : ""}
${rolloutNodes(rollout, nowMs)}
${current ? otherSlots(summary.leases, summary.requests, nowMs) : ""}
<div class="pair">${requestTable(rollout.requests, current ? summary.checks : [])}
${versions(rollout)}</div>
${current ? html`<p class="more"><a href="/rollouts">All rollouts</a></p>` : ""}`;
}

/** Before the first rollout. */
export function noRolloutView(summary: CoordinationSummary, may: boolean, nowMs: number): Html {
  return html`<section class="hero" data-tone="off">${boat("hero-boat")}<div>
    <h1>No rollout yet</h1>
    <p class="detail">A rollout updates or reboots one node after the other, and never more than the others can stand.</p>
    <p class="detail">${nextWindowWords(summary, nowMs)}</p>
    ${offers([start], may)}
  </div></section>
${quorum(summary, may, nowMs)}
${otherSlots(summary.leases, summary.requests, nowMs)}`;
}

const start: Offer = { href: "/rollouts/start", words: "Start a rollout", tone: "plain" };

function offers(list: readonly Offer[], may: boolean): Html | string {
  return !may || list.length === 0 ? "" : html`<p class="offers">${list.map(actionLink)}</p>`;
}

function hero(rollout: RolloutView, summary: CoordinationSummary, current: boolean, may: boolean, nowMs: number): Html {
  const headline = rolloutHeadline(rollout);
  const { halt, window, forecast, canarySoakUntil, target } = rollout;
  const over = rollout.phase === "done" || rollout.phase === "cancelled";
  return html`<section class="hero" data-tone="${headline.tone}">${boat("hero-boat")}<div>
    <h1 aria-live="polite">${headline.title}</h1>
    ${headline.details.map((detail) => html`<p class="detail">${prose(detail, 500)}</p>`)}
    ${halt === null || rollout.phase !== "halted" || halt.cure === "" ? "" : html`<p class="cure">${prose(halt.cure, 500)}</p>`}
    ${progress(rollout)}
    <dl class="pairs wide">
      <div><dt>${capital(kindWords(rollout))}, started by</dt><dd><bdi>${clip(rollout.startedBy, 100)}</bdi></dd></div>
      <div><dt>Started</dt><dd>${timeAgo(rollout.startedAt, nowMs)}</dd></div>
      ${rollout.endedAt === null ? "" : html`<div><dt>Took</dt><dd>${duration(Date.parse(rollout.endedAt) - Date.parse(rollout.startedAt))}</dd></div>`}
      ${forecast.doneAt === null || over ? "" : html`<div><dt>Expected to be done</dt><dd>${timeAgo(forecast.doneAt, nowMs)} (${exact(forecast.doneAt).slice(11, 16)})</dd></div>`}
      ${window === null ? "" : html`<div><dt>Window ${clip(window.name, 64)}</dt><dd>${over ? html`until ${exact(window.closesAt).slice(0, 16)}` : html`${Date.parse(window.closesAt) > nowMs ? "closes" : "closed"} ${timeAgo(window.closesAt, nowMs)}`}${forecast.fits === "no" ? html` <span class="pill" data-tone="warn">too short for all</span>` : ""}</dd></div>`}
      ${canarySoakUntil === null ? "" : html`<div><dt>The canary is watched</dt><dd>until ${exact(canarySoakUntil).slice(11, 16)}, ${timeAgo(canarySoakUntil, nowMs)}</dd></div>`}
      ${target === null ? "" : html`<div><dt>What the canary got</dt><dd>${plural(target.length, "package")}, pinned</dd></div>`}
      ${over && current ? html`<div><dt>Next</dt><dd>${nextWindowWords(summary, nowMs)}</dd></div>` : ""}
    </dl>
    ${offers([...actionsOf(rollout), ...(over && current ? [start] : [])], may)}
  </div></section>`;
}

/** How far it is, in one bar: a piece for each node. */
function progress({ nodes }: RolloutView): Html {
  const tones = nodes.map(({ state }) => (state === "done" ? "good" : state === "failed" ? "bad" : state === "waiting" || state === "asked" || state === "skipped" ? "off" : "busy"));
  const order = ["good", "busy", "bad", "off"] as const;
  const width = 100 / Math.max(1, nodes.length);
  let at = 0;
  return html`<svg class="level" width="100%" height="10" aria-hidden="true">${order.map((tone) => {
    const count = tones.filter((each) => each === tone).length;
    const x = at;
    at += count * width;
    return count === 0 ? "" : html`<rect class="place" data-tone="${tone}" x="${x.toFixed(2)}%" y="0" width="${(count * width - 0.4).toFixed(2)}%" height="10" rx="2.5"/>`;
  })}</svg>`;
}

function quorum(summary: CoordinationSummary, may: boolean, nowMs: number): Html {
  return html`<section aria-labelledby="quorum"><h2 id="quorum">Quorum</h2>
  ${quorumView(summary, may, nowMs)}
</section>`;
}

const NO_VERSIONS: Readonly<Record<RolloutView["kind"], string>> = { update: "None so far.", reboot: "None: this rollout only reboots.", change: "None: this rollout applies what the repository says; the nodes' own pages show it." };

function capital(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}

function versions({ changed, kind }: RolloutView): Html {
  const rows = changed.slice(0, VERSIONS_MAX);
  const table = (some: typeof rows): Html => html`<table class="numbers versions"><thead><tr><th scope="col">Package</th><th scope="col">From</th><th scope="col">To</th><th scope="col">On</th></tr></thead><tbody>${some.map(({ name, from, to, nodes }) => {
    const { shown, hidden } = capped(nodes, NODES_PER_VERSION_MAX);
    return html`<tr><th scope="row">${clip(name, 128)}</th><td>${from === null ? "new" : html`<code>${clip(from, 80)}</code>`}</td><td>${to === null ? "removed" : html`<code>${clip(to, 80)}</code>`}</td><td>${shown.map((node) => clip(node, 63)).join(", ")}${hidden > 0 ? ` and ${hidden} more` : ""}</td></tr>`;
  })}</tbody></table>`;
  return html`<section aria-labelledby="versions"><h2 id="versions">Versions changed</h2>
  <div class="panel">${rows.length === 0 ? html`<p class="quiet">${NO_VERSIONS[kind]}</p>` : html`${table(rows.slice(0, VERSIONS_SHOWN))}
  ${rows.length > VERSIONS_SHOWN ? html`<details id="versions-all"><summary>${plural(rows.length - VERSIONS_SHOWN, "more package")}</summary>${table(rows.slice(VERSIONS_SHOWN))}</details>` : ""}${more(changed.length - rows.length)}`}</div>
</section>`;
}

const PHASE_TONES = { running: "busy", halted: "bad", done: "good", cancelled: "off" } as const;

/** Earlier rollouts, newest first. */
export function rolloutList(rollouts: readonly RolloutView[], may: boolean, nowMs: number): Html {
  const { shown, hidden } = capped(rollouts, ROLLOUTS_MAX);
  return html`<h1>Rollouts</h1>
${offers(rollouts.some(({ phase }) => phase === "running" || phase === "halted") ? [] : [start], may)}
${shown.length === 0 ? html`<div class="panel"><p class="quiet">There has not been one yet.</p></div>` : html`<ol class="log">${shown.map((rollout) => html`<li id="rollout-${clip(rollout.id, 64)}" data-tone="${PHASE_TONES[rollout.phase]}">
      <p class="line"><a href="/rollouts/${encodeURIComponent(rollout.id)}">${rolloutHeadline(rollout).title}</a> <span class="pill" data-tone="${PHASE_TONES[rollout.phase]}">${rollout.phase}</span></p>
      <p class="meta">${kindWords(rollout)}, started ${timeAgo(rollout.startedAt, nowMs)} by <bdi>${clip(rollout.startedBy, 100)}</bdi>${rollout.endedAt === null ? "" : `, took ${duration(Date.parse(rollout.endedAt) - Date.parse(rollout.startedAt))}`}</p>
      <p class="marks-none meta">${plural(rollout.changed.length, "version")} changed · ${figure(rollout.requests.reduce((sum, { failed }) => sum + failed, 0))} of ${figure(rollout.requests.reduce((sum, { looked }) => sum + looked, 0))} requests failed</p>
    </li>`)}</ol>${more(hidden)}`}`;
}
