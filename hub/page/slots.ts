import { html, raw } from "hono/html";
import type { HoldView, LeaseView, RequestView } from "../../shared/protocol/rollout.ts";
import { symbol } from "./condition.ts";
import { denialList } from "./denials.ts";
import { capped, clip, exact, type Html, more, nodeHref, prose, timeAgo, timeFor } from "./format.ts";

/** Slots, and who asks for one. */

const SLOTS_MAX = 20;
const HOLDS_MAX = 20;

const WORK: Readonly<Record<LeaseView["work"], string>> = { update: "update", reboot: "reboot", converge: "configuration change", hold: "work by hand" };

/** The steps of a lease, in order; which ones there are depends on what it is for and who holds it. */
function stepsOf({ phase, holder, work }: LeaseView): readonly (readonly [LeaseView["phase"], string])[] {
  if (holder !== "agent" || phase === "held") return [["held", "held"], ["soaking", "soak"]];
  if (phase === "aborting") return [["draining", "drain"], ["aborting", "undo the drain"]];
  return [["draining", "drain"], ["drained", "confirm"], ["confirmed", work === "hold" ? "stay drained" : work === "converge" ? "apply" : work], ["checking", "check"], ["soaking", "soak"]];
}

/** What a lease is at, in a word or two. */
export function leaseWord(lease: LeaseView): string {
  if (lease.stuck !== null) return "stuck";
  if (lease.phase === "confirmed") return lease.work === "hold" ? "kept drained" : lease.work === "reboot" ? "rebooting" : "at work";
  return lease.phase;
}

/** Where a lease is on its way: done, at it, to come. */
export function leaseSteps(lease: LeaseView): Html {
  const steps = stepsOf(lease);
  const at = steps.findIndex(([phase]) => phase === lease.phase);
  return html`<ol class="steps" aria-label="Where it is">${steps.map(([, word], index) => html`<li data-tone="${lease.stuck !== null && index === at ? "bad" : index < at ? "good" : index === at ? "busy" : "off"}"${index === at ? raw(' aria-current="step"') : ""}>${symbol(index < at ? "check" : index === at ? (lease.stuck === null ? "turn" : "cross") : "dots")}${word}</li>`)}</ol>`;
}

/**
 * Who has the slot and for what, where it is, and what went wrong.
 *
 * @param said stands above it already, and is not said again
 */
export function leaseView(lease: LeaseView, nowMs: number, said = ""): Html {
  return html`${leaseSteps(lease)}
  <p class="meta">${WORK[lease.work]}, for <bdi>${clip(lease.by, 100)}</bdi> · holds its slot ${timeFor(lease.grantedAt, nowMs)} · ${leaseWord(lease)} ${timeFor(lease.stuck?.since ?? lease.phaseSince, nowMs)}</p>
  ${said.includes(lease.progress) ? "" : html`<p>${prose(lease.progress, 500)}</p>`}
  ${lease.why === null || said.includes(lease.why) ? "" : html`<p class="reason">${prose(lease.why, 500)}</p>`}
  ${lease.stuck === null || said.includes(lease.stuck.why) ? "" : html`<div class="trouble"><p class="what">Stuck ${timeFor(lease.stuck.since, nowMs)}</p><p class="reason">${prose(lease.stuck.why, 1_000)}</p></div>`}`;
}

/** Slots and requests beside the rollout: an operator's, a script's, a FleetLock machine's. */
export function otherSlots(leases: readonly LeaseView[], requests: readonly RequestView[], nowMs: number): Html | string {
  const held = leases.filter(({ rollout }) => rollout === null);
  const asked = requests.filter(({ rollout }) => rollout === null);
  if (held.length + asked.length === 0) return "";
  const holders = capped(held, SLOTS_MAX);
  const waiting = capped(asked, SLOTS_MAX);
  return html`<section aria-labelledby="slots"><h2 id="slots">Other slots</h2>
  <ul class="slots">
    ${holders.shown.map((lease) => html`<li id="slot-${clip(lease.id, 64)}" data-tone="${lease.stuck === null ? "busy" : "bad"}"><h3><a href="${nodeHref(lease.node)}">${clip(lease.node, 63)}</a></h3>${leaseView(lease, nowMs)}</li>`)}
    ${waiting.shown.map((request) => html`<li id="slot-${clip(request.id, 64)}" data-tone="off"><h3><a href="${nodeHref(request.node)}">${clip(request.node, 63)}</a></h3>
      <p class="meta">${WORK[request.work]}, asked for by <bdi>${clip(request.by, 100)}</bdi> ${timeAgo(request.requestedAt, nowMs)}</p>
      ${denialList(request.denials, nowMs)}</li>`)}
  </ul>${more(holders.hidden + waiting.hidden)}
</section>`;
}

/** `The cluster is held by anna: holidays, until …`. */
export function holdLine(hold: HoldView, nowMs: number): Html {
  return html`<b>${hold.what === "*" ? "The cluster" : clip(hold.what, 63)} is held</b> by <bdi>${clip(hold.by, 100)}</bdi>: ${prose(hold.why, 500)} <span class="quiet">${timeFor(hold.since, nowMs)}, ${
    hold.until === null ? "until somebody lifts it" : html`until ${exact(hold.until)}`
  }</span>`;
}

export function holdList(holds: readonly HoldView[], nowMs: number, lift: (hold: HoldView) => Html | string): Html | string {
  if (holds.length === 0) return "";
  const { shown, hidden } = capped(holds, HOLDS_MAX);
  return html`<ul class="holds">${shown.map((hold) => html`<li><p>${symbol("pause")} ${holdLine(hold, nowMs)}</p>${lift(hold)}</li>`)}</ul>${more(hidden)}`;
}
