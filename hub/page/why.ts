import { html } from "hono/html";
import type { CoordinationSummary, WhyAnswer } from "../../shared/protocol/rollout.ts";
import { denialList } from "./denials.ts";
import { clip, exact, type Html, prose, timeAgo } from "./format.ts";
import { actionLink, nodeOffers } from "./offers.ts";
import { rolloutPart } from "./rollout-nodes.ts";
import { holdLine, leaseView } from "./slots.ts";
import { updatesPanel } from "./updates.ts";

/** What the coordinator knows of a node; of one that is not in the repository, nothing. */
export function nodeCoordination(name: string, why: WhyAnswer | null, summary: CoordinationSummary, may: boolean, nowMs: number): Html {
  return html`${why === null ? "" : whySection(why, summary, may, nowMs)}
${updatesPanel(summary.updates.find(({ node }) => node === name) ?? null, nowMs)}`;
}

/** On a node's page: why it is not being rebooted now, the slot that it holds, and what one may do about it. */
function whySection(why: WhyAnswer, summary: CoordinationSummary, may: boolean, nowMs: number): Html {
  const { node, lease, request } = why;
  const holds = summary.holds.filter(({ what }) => what === node);
  const part = lease?.rollout == null || summary.rollout?.id !== lease.rollout ? "" : rolloutPart(summary.rollout, node, nowMs);
  return html`<section aria-labelledby="why"><h2 id="why">Why it is not being rebooted now</h2>
  <div class="panel why-panel" data-tone="${lease?.stuck != null ? "bad" : lease !== null ? "busy" : "off"}">
    <p class="why-headline">${prose(why.headline, 500)}</p>
    ${why.expectedAt === null ? "" : html`<p class="quiet">expected to be done ${timeAgo(why.expectedAt, nowMs)} (${exact(why.expectedAt).slice(11, 16)} UTC)</p>`}
    ${lease === null ? "" : html`<div class="lease">${leaseView(lease, nowMs, why.headline)}${part}${lease.rollout === null ? "" : html`<p class="more"><a href="/rollouts/${encodeURIComponent(lease.rollout)}">The rollout</a></p>`}</div>`}
    ${request === null ? "" : html`<p class="meta">asked for by <bdi>${clip(request.by, 100)}</bdi> ${timeAgo(request.requestedAt, nowMs)}</p>`}
    ${holds.map((hold) => html`<p>${holdLine(hold, nowMs)}</p>`)}
    ${denialList(why.denials, nowMs)}
    ${may ? html`<p class="offers">${nodeOffers(node, lease, request, summary.holds).map(actionLink)}</p>` : ""}
  </div>
</section>`;
}
