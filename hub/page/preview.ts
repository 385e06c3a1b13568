import { html } from "hono/html";
import { shortCommit } from "../../shared/ids.ts";
import { IMPACT_WORDS, type PreviewGroup, type PreviewNode, type PreviewOutcome, type PreviewSummary, type PreviewView } from "../../shared/protocol/preview.ts";
import type { Change } from "../../shared/protocol/report.ts";
import { changeList, errorView, problemList } from "./changes.ts";
import { symbol, type Tone } from "./condition.ts";
import { capped, clip, duration, type Html, more, plural, prose, timeAgo } from "./format.ts";
import type { Headline } from "./headline.ts";
import { boat } from "./layout.ts";
import { errorPage } from "./notices.ts";

/** Previews: what a branch would change, with nodes that would do the same put together. */

const SHOWN_ON_FIRST_PAGE_MAX = 6;
const GROUPS_MAX = 60;
const CHANGES_PER_GROUP_MAX = 60;
const PROBLEMS_MAX = 10;
const NAMES_MAX = 16;

export function previewHref(name: string): string {
  return `/previews/${encodeURIComponent(name)}`;
}

/** On the first page; nothing where there is none. */
export function previewSection(previews: readonly PreviewSummary[], nowMs: number): Html | string {
  if (previews.length === 0) return "";
  const { shown, hidden } = capped(previews, SHOWN_ON_FIRST_PAGE_MAX);
  return html`<section aria-labelledby="previews"><h2 id="previews">Previews</h2>
  <ol class="log previews">${shown.map((preview) => html`<li id="preview-${preview.name}">
    <p class="line"><a href="${previewHref(preview.name)}">${clip(preview.name, 80)}</a> <bdi class="subject">${clip(preview.subject, 120)}</bdi></p>
    <p class="meta">${pushed(preview, nowMs)}</p>
    <p class="marks">${outcomePill(preview)}</p>
  </li>`)}</ol>
  ${more(hidden)}
</section>`;
}

function pushed({ commit, pushedAt, pushedBy, throwaway }: PreviewSummary, nowMs: number): Html {
  return html`<code class="commit" title="${commit}">${shortCommit(commit)}</code> ${throwaway ? "a working copy, sent" : "pushed"} ${timeAgo(pushedAt, nowMs)} by <bdi>${clip(pushedBy, 60)}</bdi>`;
}

const OUTCOME_LOOKS: Readonly<Record<PreviewOutcome, { readonly tone: Tone; readonly symbol: Parameters<typeof symbol>[0] }>> = {
  pending: { tone: "busy", symbol: "turn" },
  nothing: { tone: "good", symbol: "check" },
  changes: { tone: "busy", symbol: "dots" },
  failed: { tone: "bad", symbol: "cross" },
};

function outcomePill(preview: PreviewSummary): Html {
  const look = OUTCOME_LOOKS[preview.outcome];
  const words = { pending: preview.counts.missing === 0 ? "no node is there" : `${answered(preview)} of ${plural(preview.counts.nodes, "node")}`, nothing: "changes nothing", changes: `changes ${plural(preview.counts.changing, "node")}`, failed: `fails on ${plural(Math.max(1, preview.counts.failed + preview.counts.missing), "node")}` }[preview.outcome];
  return html`<span class="pill" data-tone="${look.tone}">${symbol(look.symbol)}${words}</span>${preview.counts.changing === 0 || preview.impact === "none" ? "" : html` ${impactBadge(preview.impact)}`}`;
}

function answered({ counts }: PreviewSummary): number {
  return counts.planned + counts.failed;
}

const IMPACT_TONES: Readonly<Record<Change["impact"], Tone>> = { none: "good", service: "busy", network: "warn", disruptive: "warn", reboot: "bad" };

function impactBadge(impact: Change["impact"]): Html {
  return html`<span class="pill" data-tone="${IMPACT_TONES[impact]}" title="${IMPACT_WORDS[impact]}">${symbol(impact === "none" ? "check" : "half")}${impact === "none" ? "disturbs nothing" : impact}</span>`;
}

/** What a preview comes down to. */
export function previewHeadline(view: PreviewSummary): Headline {
  const name = clip(view.name, 60);
  const { counts, impact, outcome, outdated } = view;
  const title = {
    pending: counts.missing === 0 ? `No node is there to plan ${name}` : `${answered(view)} of ${plural(counts.nodes, "node")} ${counts.nodes === 1 ? "has" : "have"} planned ${name}`,
    nothing: `${name} would change nothing`,
    changes: `${name} would change ${plural(counts.changing, "node")}`,
    failed: `${name} cannot be had on ${plural(Math.max(1, counts.failed + counts.missing), "node")}`,
  }[outcome];
  const details = [
    counts.changing > 0 ? sentence(IMPACT_WORDS[impact]) : "",
    outdated ? "The main branch has moved since this one left it: rebase it onto the main branch, and push it again." : "",
    "Nothing of it is applied before it is merged into the main branch.",
  ];
  return { tone: outdated && outcome !== "failed" ? "warn" : OUTCOME_LOOKS[outcome].tone, title, details: details.filter((detail) => detail !== "") };
}

function sentence(words: string): string {
  return `${words.replace(/^./, (letter) => letter.toUpperCase())}.`;
}

export function previewPage(view: PreviewView, nowMs: number): Html {
  const headline = previewHeadline(view);
  const { shown, hidden } = capped(view.groups, GROUPS_MAX);
  return html`<nav class="crumbs" aria-label="Where you are"><a href="/">Cluster</a> <span aria-hidden="true">/</span> <span aria-current="page">preview ${clip(view.name, 80)}</span></nav>
<section class="hero" data-tone="${headline.tone}">${boat("hero-boat")}<div>
  <h1 aria-live="polite">${headline.title}</h1>
  ${headline.details.map((detail) => html`<p class="detail">${prose(detail, 300)}</p>`)}
  <p class="head-commit"><bdi class="subject">${clip(view.subject === "" ? view.branch : view.subject, 160)}</bdi></p>
  <p class="meta">${pushed(view, nowMs)}${view.author === "" ? "" : html` · by <bdi>${clip(view.author, 100)}</bdi>`}</p>
  ${nodeTally(view.nodes)}
</div></section>
${shown.map((group) => groupSection(group, view.nodes))}
${more(hidden)}
${failedSection(view)}
${absentSection(view.nodes)}`;
}

const NODE_LOOKS: Readonly<Record<PreviewNode["state"], { readonly tone: Tone; readonly symbol: Parameters<typeof symbol>[0]; readonly words: string }>> = {
  planned: { tone: "good", symbol: "check", words: "planned" },
  failed: { tone: "bad", symbol: "cross", words: "cannot" },
  asked: { tone: "busy", symbol: "turn", words: "asked" },
  late: { tone: "warn", symbol: "half", words: "silent" },
  offline: { tone: "warn", symbol: "ring", words: "offline" },
  waiting: { tone: "off", symbol: "dots", words: "not enrolled" },
  left: { tone: "off", symbol: "pause", words: "left as it is" },
};

function nodeTally(nodes: readonly PreviewNode[]): Html {
  const present = (Object.keys(NODE_LOOKS) as PreviewNode["state"][]).map((state) => ({ look: NODE_LOOKS[state], count: nodes.filter((node) => node.state === state).length })).filter(({ count }) => count > 0);
  return html`<ul class="tally" aria-label="${plural(nodes.length, "node")}">${present.map(({ look, count }) => html`<li class="pill" data-tone="${look.tone}">${symbol(look.symbol)}<b>${count}</b> ${look.words}</li>`)}</ul>`;
}

function groupSection({ nodes, changes, problems, omitted, impact }: PreviewGroup, all: readonly PreviewNode[]): Html {
  const id = `plan-${nodes[0] ?? ""}`;
  const total = changes.length + omitted;
  const tookMs = Math.max(0, ...all.filter(({ name }) => nodes.includes(name)).map((node) => node.tookMs ?? 0));
  const quiet = total + problems.length === 0;
  return html`<section class="plan" id="${id}" aria-labelledby="${id}-names">
  <h2 id="${id}-names">${names(nodes)}</h2>
  <p class="meta">${quiet ? html`<span class="mark" data-tone="good">${symbol("check")}nothing to change</span>` : html`${plural(total, "change")} ${impactBadge(impact)} ${IMPACT_WORDS[impact]}`} · planned in ${duration(tookMs)}</p>
  ${quiet ? "" : html`<div class="panel">
    ${problemList(problems, PROBLEMS_MAX)}
    ${total === 0 ? "" : changeList(changes, CHANGES_PER_GROUP_MAX, id)}
    ${more(changes.length > CHANGES_PER_GROUP_MAX ? 0 : omitted)}
  </div>`}
</section>`;
}

function names(nodes: readonly string[]): string {
  const { shown, hidden } = capped(nodes, NAMES_MAX);
  return `${shown.map((name) => clip(name, 63)).join(", ")}${hidden > 0 ? ` and ${hidden} more` : ""}`;
}

/** Nodes without a plan, those that say the same put together. */
function failedSection({ nodes, groups }: PreviewView): Html | string {
  const planned = new Set<string>(groups.flatMap((group) => group.nodes));
  const failed = [...Map.groupBy(nodes.filter(({ state, name }) => state === "failed" && !planned.has(name)), ({ message }) => message)];
  if (failed.length === 0) return "";
  return html`<section aria-labelledby="cannot"><h2 id="cannot">Who cannot plan it</h2><div class="panel">
  ${failed.map(([message, same], index) => html`<div class="trouble"><p class="what">${names(same.map(({ name }) => name))}</p>${errorView(message, `cannot-${index}`)}</div>`)}
</div></section>`;
}

function absentSection(nodes: readonly PreviewNode[]): Html | string {
  const absent = nodes.filter(({ state }) => !["planned", "failed"].includes(state));
  if (absent.length === 0) return "";
  const { shown, hidden } = capped(absent, GROUPS_MAX);
  return html`<section aria-labelledby="absent"><h2 id="absent">Not heard of yet</h2><div class="panel"><ul class="absent">
  ${shown.map(({ name, state, message }) => html`<li><span class="mark" data-tone="${NODE_LOOKS[state].tone}">${symbol(NODE_LOOKS[state].symbol)}${clip(name, 63)}</span> <span>${prose(message, 300)}</span></li>`)}
</ul>${more(hidden)}</div></section>`;
}

export function unknownPreviewPage(name: string, cluster: string): Html {
  return errorPage({
    status: 404,
    title: `No preview ${clip(name, 63)}`,
    message: "It was merged, its branch was deleted, or it was never pushed. The newest ones stand on the first page.",
    next: html`<p>This makes one of the commit that you stand on:</p>
  <pre class="command" tabindex="0" aria-label="Command"><code>git push hub HEAD:preview/${clip(name, 63)}</code></pre>`,
    cluster,
  });
}
