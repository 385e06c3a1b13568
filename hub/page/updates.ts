import { html } from "hono/html";
import type { CoordinationSummary, LeaseView, NodeUpdates } from "../../shared/protocol/rollout.ts";
import { symbol } from "./condition.ts";
import { capped, clip, type Html, more, nodeHref, plural, prose, timeAgo } from "./format.ts";
import { leaseWord } from "./slots.ts";

/** What a node would install, whether it wants a reboot, and what else reboots it. */

const REASONS_MAX = 8;
const CONFLICTS_MAX = 6;

/** What a card says about a node beside its commit. */
export interface NodeStanding {
  readonly updates: NodeUpdates | null;
  readonly lease: LeaseView | null;
  /** It has asked for a slot. */
  readonly asks: boolean;
  readonly held: boolean;
}

export function standingOf(name: string, summary: CoordinationSummary | null): NodeStanding | null {
  if (summary === null) return null;
  return {
    updates: summary.updates.find(({ node }) => node === name) ?? null,
    lease: summary.leases.find(({ node }) => node === name) ?? null,
    asks: summary.requests.some(({ node }) => node === name),
    held: summary.holds.some(({ what }) => what === name),
  };
}

/** `12, of which 3 security`, `none`, `not known yet`. */
export function pendingWords({ lookedAt, error, pending, security }: NodeUpdates): Html | string {
  if (error !== null) return html`<span class="mark" data-tone="warn">${symbol("half")}could not look</span>`;
  if (lookedAt === null) return "not known yet";
  if (pending === 0) return "none";
  return security === 0 ? `${pending}` : html`${pending}, <span class="mark" data-tone="warn">${security}\u00a0security</span>`;
}

export function rebootWords({ reboot, lookedAt }: NodeUpdates): Html | string {
  if (reboot === "yes") return html`<span class="mark" data-tone="warn">${symbol("turn")}needed</span>`;
  return reboot === "no" ? "not needed" : lookedAt === null ? "not known yet" : "unknown";
}

/** Rows of a node's card. */
export function standingPairs(standing: NodeStanding | null): Html | string {
  if (standing === null) return "";
  const { updates, lease, asks, held } = standing;
  const [why] = updates?.rebootWhy ?? [];
  return html`${updates === null ? "" : html`<div><dt>Updates</dt><dd>${pendingWords(updates)}</dd></div>
    <div><dt>Reboot</dt><dd>${rebootWords(updates)}${updates.reboot === "yes" && why !== undefined ? html`<br><span class="quiet">${clip(why, 80)}</span>` : ""}</dd></div>`}
    ${lease === null && !asks ? "" : html`<div><dt>Slot</dt><dd>${lease === null ? html`<span class="mark" data-tone="off">${symbol("dots")}asked for</span>` : html`<span class="mark" data-tone="${lease.stuck === null ? "busy" : "bad"}">${symbol(lease.stuck === null ? "turn" : "cross")}${leaseWord(lease)}</span>`}</dd></div>`}
    ${held ? html`<div><dt>Held</dt><dd><span class="mark" data-tone="warn">${symbol("pause")}yes</span></dd></div>` : ""}`;
}

/** The same in one line, for a small card; empty when there is nothing to say. */
export function standingLine(standing: NodeStanding | null): Html | string {
  if (standing === null) return "";
  const { updates, lease } = standing;
  const parts = [
    lease === null ? "" : html`<span class="mark" data-tone="${lease.stuck === null ? "busy" : "bad"}">${leaseWord(lease)}</span>`,
    updates !== null && updates.pending > 0 ? plural(updates.pending, "update") : "",
    updates?.reboot === "yes" ? html`<span class="mark" data-tone="warn">reboot needed</span>` : "",
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : html`<p class="meta">${parts.map((part, index) => html`${index === 0 ? "" : " · "}${part}`)}</p>`;
}

/** What else reboots or updates nodes, beside us: each sentence once, with the nodes that it holds for. */
export function conflictList(updates: readonly NodeUpdates[]): Html | string {
  const nodesBySentence = new Map<string, string[]>();
  for (const { node, conflicts } of updates) for (const sentence of conflicts) nodesBySentence.set(sentence, [...(nodesBySentence.get(sentence) ?? []), node]);
  if (nodesBySentence.size === 0) return "";
  const { shown, hidden } = capped([...nodesBySentence], CONFLICTS_MAX);
  return html`<ul class="problems">${shown.map(([sentence, nodes]) => {
    const names = capped(nodes, REASONS_MAX);
    return html`<li><p><b class="code">conflict</b> ${names.shown.map((name, index) => html`${index === 0 ? "" : ", "}<a href="${nodeHref(name)}">${clip(name, 63)}</a>`)}${names.hidden > 0 ? ` and ${names.hidden} more` : ""}</p><p class="reason">${prose(sentence, 500)}</p></li>`;
  })}</ul>${more(hidden)}`;
}

/** A node's own page: all of it. */
export function updatesPanel(updates: NodeUpdates | null, nowMs: number): Html | string {
  if (updates === null) return "";
  return html`<section aria-labelledby="updates"><h2 id="updates">OS updates</h2>
  <div class="panel">
  ${updates.error === null ? "" : html`<div class="trouble"><p class="reason">${prose(updates.error, 1_000)}</p></div>`}
  <dl class="pairs wide">
    <div><dt>Pending</dt><dd>${pendingWords(updates)}</dd></div>
    <div><dt>Held back</dt><dd>${updates.lookedAt === null ? "not known yet" : updates.held === 0 ? "none" : updates.held}</dd></div>
    <div><dt>Reboot</dt><dd>${rebootWords(updates)}</dd></div>
    <div><dt>Looked</dt><dd>${updates.lookedAt === null ? "never" : timeAgo(updates.lookedAt, nowMs)}</dd></div>
  </dl>
  ${reasons("Why it wants a reboot", updates.rebootWhy)}
  ${reasons("Still running on old libraries", updates.restarts)}
  ${conflictList([updates])}
  </div></section>`;
}

function reasons(title: string, all: readonly string[]): Html | string {
  if (all.length === 0) return "";
  const { shown, hidden } = capped(all, REASONS_MAX);
  return html`<div><h3 class="small">${title}</h3><ul class="plain">${shown.map((reason) => html`<li>${prose(reason, 300)}</li>`)}</ul>${more(hidden)}</div>`;
}
