import { html } from "hono/html";
import type { CheckState } from "../../shared/protocol/checks.ts";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import { symbol, type Tone } from "./condition.ts";
import { capped, clip, duration, figure, type Html, more, plural, prose, timeFor } from "./format.ts";
import type { Headline } from "./headline.ts";

const CHECKS_MAX = 24;

const LOOKS = {
  ok: { tone: "good", symbol: "check" },
  failing: { tone: "bad", symbol: "cross" },
  unknown: { tone: "off", symbol: "dots" },
} as const satisfies Record<CheckState["state"], { tone: Tone; symbol: Parameters<typeof symbol>[0] }>;

/** What users use, and whether they can: the top of the page. */
export function checkStrip(checks: readonly CheckState[], nowMs: number): Html | string {
  if (checks.length === 0) return "";
  const { shown, hidden } = capped(troubledFirst(checks), CHECKS_MAX);
  return html`<section class="checks" aria-labelledby="checks"><h2 id="checks" class="unseen">Service checks</h2>
  <ul>${shown.map((check) => checkItem(check, nowMs))}</ul>${more(hidden)}
</section>`;
}

function troubledFirst(checks: readonly CheckState[]): readonly CheckState[] {
  const rank = { failing: 0, unknown: 1, ok: 2 } as const;
  return [...checks].sort((a, b) => rank[a.state] - rank[b.state]);
}

function checkItem(check: CheckState, nowMs: number): Html {
  const look = LOOKS[check.state];
  return html`<li class="check" data-tone="${look.tone}">
    <p class="check-name"><span class="mark" data-tone="${look.tone}">${symbol(look.symbol)}<span class="unseen">${check.state}:</span></span> <b>${clip(check.name, 63)}</b> ${
      check.latencyMs === null ? "" : html`<span class="latency">${duration(check.latencyMs)}</span>`
    }</p>
    <p class="meta">${check.state} ${timeFor(check.since, nowMs)}${check.gates ? "" : " · gates nothing"}</p>
    <p class="meta target">${clip(check.target, 120)}</p>
    ${check.lastMessage === null ? "" : html`<p class="reason">${prose(check.lastMessage, 300)}</p>`}
  </li>`;
}

/** A service that users cannot reach is worse than anything about nodes: it comes first, and what came first before follows. */
export function headlineWithChecks(headline: Headline, checks: readonly CheckState[]): Headline {
  const failing = checks.filter(({ state }) => state === "failing");
  const [first] = failing;
  if (first === undefined) return headline;
  const title = failing.length === 1 ? `${clip(first.name, 63)} is failing` : `${plural(failing.length, "service check")} are failing`;
  return { tone: "bad", title, details: [headline.title, ...headline.details] };
}

/** Looks at what users use since the rollout began, and how it is now. */
export function requestTable(requests: RolloutView["requests"], checks: readonly CheckState[]): Html {
  const looked = requests.reduce((sum, each) => sum + each.looked, 0);
  const failed = requests.reduce((sum, each) => sum + each.failed, 0);
  const { shown, hidden } = capped(requests, CHECKS_MAX);
  return html`<section aria-labelledby="requests"><h2 id="requests">Requests meanwhile</h2>
  <div class="panel">
  ${requests.length === 0 ? html`<p class="quiet">Nothing was looked at: there are no service checks. <code>checks:</code> in cluster.yaml makes some.</p>` : html`<p class="figure" data-tone="${failed > 0 ? "bad" : "good"}"><b>${figure(failed)}</b> of ${figure(looked)} failed</p>
  <table class="numbers"><thead><tr><th scope="col">Check</th><th scope="col">Looked</th><th scope="col">Failed</th><th scope="col">Now</th></tr></thead><tbody>
    ${shown.map((each) => {
      const now = checks.find(({ name }) => name === each.check);
      return html`<tr><th scope="row">${clip(each.check, 63)}</th><td>${figure(each.looked)}</td><td>${each.failed === 0 ? "0" : html`<span class="mark" data-tone="bad">${figure(each.failed)}</span>`}</td><td>${now === undefined ? "–" : html`<span class="mark" data-tone="${LOOKS[now.state].tone}">${symbol(LOOKS[now.state].symbol)}${now.state}</span>`}</td></tr>`;
    })}
  </tbody></table>${more(hidden)}`}
  </div></section>`;
}
