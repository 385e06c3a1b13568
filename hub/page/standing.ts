import { html } from "hono/html";
import type { CoordinationSummary, GroupView, HoldView } from "../../shared/protocol/rollout.ts";
import { symbol } from "./condition.ts";
import { capped, clip, exact, type Html, more, nodeHref, prose, timeAgo } from "./format.ts";
import { gauges } from "./gauge.ts";
import { actionLink } from "./offers.ts";
import { rolloutHeadline, rolloutLine } from "./rollout-headline.ts";
import { holdList } from "./slots.ts";
import { conflictList } from "./updates.ts";

/** What stands between the cluster and its next reboot: quorum, holds, the rollout and the window. */

const GATES_MAX = 5;

/** `Window night opens in 3 h (2026-03-15 02:00)`. */
export function nextWindowWords({ nextWindow: next, blackout }: CoordinationSummary, nowMs: number): Html | string {
  if (blackout !== null) return html`Blackout until ${exact(blackout.until).slice(0, 16)}: ${prose(blackout.why, 200)}`;
  if (next === null) return "No window is set: rollouts start by hand";
  return html`Window ${clip(next.name, 64)} ${Date.parse(next.opensAt) <= nowMs ? html`is open until ${exact(next.closesAt).slice(11, 16)}` : html`opens ${timeAgo(next.opensAt, nowMs)} (${exact(next.opensAt).slice(0, 16)} UTC)`}`;
}

/** Gauges, and the holds above them; who may, finds the way to lift and settle beside them. */
export function quorumView(summary: CoordinationSummary, may: boolean, nowMs: number): Html {
  const settle = ({ name }: GroupView): Html | string => (may ? html` ${actionLink({ href: `/groups/${encodeURIComponent(name)}/settle`, words: "Settle", tone: "plain" })}` : "");
  const lift = ({ what }: HoldView): Html | string => (may ? actionLink({ href: what === "*" ? "/unhold" : `${nodeHref(what)}/unhold`, words: "Lift the hold", tone: "plain" }) : "");
  return html`${holdList(summary.holds, nowMs, lift)}
  ${summary.groups.length === 0 ? html`<div class="panel"><p class="quiet">There is no node in the repository yet.</p></div>` : html`${gauges(summary.groups, nowMs, settle)}<p class="more">The line in a gauge is what must stay up.</p>`}`;
}

/** On the first page, below the headline. */
export function standingSection(summary: CoordinationSummary, may: boolean, nowMs: number): Html {
  const held = summary.holds.some(({ what }) => what === "*");
  return html`<section aria-labelledby="standing"><h2 id="standing">Who may go down</h2>
  ${rolloutNotice(summary, nowMs)}
  ${commitNotice(summary)}
  ${gateNotices(summary)}
  ${quorumView(summary, may, nowMs)}
  ${conflictList(summary.updates)}
  ${may && !held ? html`<p class="offers">${actionLink({ href: "/hold", words: "Hold the cluster", tone: "plain" })}</p>` : ""}
</section>`;
}

/** While the canary goes first: what the others wait for. */
function commitNotice({ commit }: CoordinationSummary): Html | string {
  if (commit === undefined || commit.state === "released") return "";
  return html`<p class="rollout-line" data-tone="${commit.state === "bad" ? "bad" : "busy"}">${symbol(commit.state === "bad" ? "half" : "dots")}<span>${prose(commit.text, 500)}${commit.cure === "" ? "" : html` · ${prose(commit.cure, 300)}`}</span></p>`;
}

/** Why nobody, or one node, may go although all are up. */
function gateNotices({ gates }: CoordinationSummary): Html | string {
  const { shown, hidden } = capped(gates, GATES_MAX);
  return html`${shown.map(({ text }) => html`<p class="rollout-line" data-tone="warn">${symbol("half")}<span>${prose(text, 400)}</span></p>`)}${more(hidden)}`;
}

function rolloutNotice(summary: CoordinationSummary, nowMs: number): Html {
  const { rollout } = summary;
  if (rollout === null || (rollout.phase !== "running" && rollout.phase !== "halted")) {
    return html`<p class="rollout-line" data-tone="off">${symbol("pause")}<span>${nextWindowWords(summary, nowMs)}${rollout === null ? "" : html` · <a href="/rollout">${rolloutHeadline(rollout).title}</a>${rollout.endedAt === null ? "" : html` ${timeAgo(rollout.endedAt, nowMs)}`}`}</span></p>`;
  }
  const { tone } = rolloutHeadline(rollout);
  return html`<p class="rollout-line" data-tone="${tone}">${symbol(rollout.phase === "halted" ? "half" : "turn")}<span><a id="to-rollout" href="/rollout">${clip(rolloutLine(rollout), 300)}</a></span></p>`;
}
