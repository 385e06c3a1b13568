import { html } from "hono/html";
import { shortCommit } from "../../shared/ids.ts";
import type { CommitSummary, NodeDetail, StoredConverge } from "../../shared/protocol/api.ts";
import { changeCount, changeList, errorView, problemList, resourceName } from "./changes.ts";
import { commitOf, lastSeen, whyIsShownBelow } from "./cluster.ts";
import { CONDITION_LOOKS, conditionPill, outcomeLook, outcomeMark } from "./condition.ts";
import { byName, capped, clip, duration, exact, type Html, more, nodeHref, plain, plural, prose, timeAgo } from "./format.ts";

const FAILING_MAX = 10;
const PROBLEMS_MAX = 10;
const PLAN_CHANGES_MAX = 20;
const CONVERGES_MAX = 25;
const CHANGES_PER_CONVERGE_MAX = 8;
const FACTS_MAX = 60;
/** Agents renew long before; a certificate this close to its end has failed to be renewed. */
const CERTIFICATE_WARN_MS = 14 * 24 * 60 * 60 * 1_000;

/** One node: how it is and why, why it is not being rebooted (`coordination`), what it would change now, what it did, what it is. */
export function nodeView(node: NodeDetail, head: CommitSummary | null, commits: readonly CommitSummary[], nowMs: number, coordination: Html | string = ""): Html {
  return html`<nav class="crumbs" aria-label="Where you are"><a href="/">Cluster</a> <span aria-hidden="true">/</span> <span aria-current="page">${clip(node.name, 63)}</span></nav>
<section class="node-head" data-tone="${CONDITION_LOOKS[node.condition].tone}">
  <h1>${clip(node.name, 63)} ${conditionPill(node.condition)}</h1>
  ${node.why === "" || whyIsShownBelow(node) ? "" : html`<p class="lead">${prose(node.why, 1_000)}</p>`}
  <dl class="pairs wide">
    <div><dt>Commit</dt><dd>${commitOf(node, head, commits)}</dd></div>
    <div><dt>Last seen</dt><dd>${lastSeen(node, nowMs)}</dd></div>
    <div><dt>Drift repaired, 24 h</dt><dd>${node.driftRepairs24h === 0 ? "none" : `${node.driftRepairs24h}\u00d7`}</dd></div>
    <div><dt>Certificate</dt><dd>${certificate(node, nowMs)}</dd></div>
    <div><dt>Agent</dt><dd>${node.agentVersion === null ? "unknown" : clip(node.agentVersion, 64)}</dd></div>
    <div><dt>Enrolled</dt><dd>${node.enrolledAt === null ? "not yet" : timeAgo(node.enrolledAt, nowMs)}</dd></div>
    ${node.address === null ? "" : html`<div><dt>Address</dt><dd>${clip(node.address, 64)}</dd></div>`}
    ${node.roles.length === 0 ? "" : html`<div><dt>${node.roles.length === 1 ? "Role" : "Roles"}</dt><dd>${clip(node.roles.join(", "), 200)}</dd></div>`}
  </dl>
</section>
${node.condition === "waiting" ? enrolHint(node) : ""}
${trouble(node, nowMs)}
${coordination}
${plan(node, nowMs)}
${history(node, nowMs)}
${facts(node)}`;
}

function enrolHint(node: NodeDetail): Html {
  return html`<section class="next"><h2>What to do next</h2>
  <p>This makes a new one-time token, and prints the command to paste into a root shell of the machine:</p>
  <pre class="command" tabindex="0" aria-label="Command"><code>evenkeel node add ${clip(node.name, 63)}</code></pre></section>`;
}

function certificate(node: NodeDetail, nowMs: number): Html | string {
  if (node.certificate === null) return "none";
  const leftMs = Date.parse(node.certificate.notAfter) - nowMs;
  const when = timeAgo(node.certificate.notAfter, nowMs);
  if (leftMs <= 0) return html`<span class="mark" data-tone="bad">${outcomeMark("expired")} ${when}</span>`;
  return html`expires ${when}${leftMs < CERTIFICATE_WARN_MS ? html` <span class="pill" data-tone="warn">not renewed</span>` : ""}`;
}

function trouble(node: NodeDetail, nowMs: number): Html | string {
  const { converge } = node;
  if (converge === null) return "";
  const { failing, refused, problems } = converge;
  if (failing.length === 0 && refused === null && problems.length === 0) return "";
  const { shown, hidden } = capped(failing, FAILING_MAX);
  return html`<section aria-labelledby="trouble"><h2 id="trouble">What is wrong</h2>
  <div class="panel">
  ${shown.map(({ resource, error }, index) => html`<div class="trouble"><p class="what">${resourceName(resource)}</p>${errorView(error, `error-${index}`)}</div>`)}
  ${more(hidden)}
  ${refused === null ? "" : html`<div class="trouble"><p class="what">refused <code title="${plain(refused.commit)}">${shortCommit(plain(refused.commit))}</code> ${timeAgo(refused.at, nowMs)}${
    node.commit === null ? "" : html`, keeps <code>${shortCommit(node.commit)}</code>`
  }</p>${errorView(refused.message, "refused")}</div>`}
  ${problemList(problems, PROBLEMS_MAX)}
  </div>
</section>`;
}

function plan(node: NodeDetail, nowMs: number): Html {
  const last = node.lastPlan;
  const name = clip(node.name, 63);
  if (last === null) {
    return html`<section aria-labelledby="plan"><h2 id="plan">Last plan</h2>
  <div class="panel"><p class="quiet">No plan has been asked for. This asks the node what it would change, without changing it:</p>
  <pre class="command" tabindex="0" aria-label="Command"><code>evenkeel plan ${name}</code></pre></div></section>`;
  }
  const { report } = last;
  const total = report.changes.length + report.omitted;
  return html`<section aria-labelledby="plan"><h2 id="plan">Last plan</h2>
  <p class="meta">of <code title="${report.commit}">${shortCommit(report.commit)}</code>, made ${timeAgo(report.plannedAt, nowMs)} in ${duration(report.tookMs)}: ${
    total === 0 ? "nothing" : plural(total, "change")
  } in ${plural(report.resources, "resource")}</p>
  <div class="panel">
  ${problemList(report.problems, PROBLEMS_MAX)}
  ${total === 0 ? html`<p class="quiet">Empty: the machine already is what this commit says.</p>` : changeList(report.changes, PLAN_CHANGES_MAX, "plan")}
  ${more(report.changes.length > PLAN_CHANGES_MAX ? 0 : report.omitted)}
  </div>
</section>`;
}

function history(node: NodeDetail, nowMs: number): Html {
  const { shown, hidden } = capped(node.converges, CONVERGES_MAX);
  return html`<section aria-labelledby="history"><h2 id="history">History</h2>
  ${shown.length === 0 ? html`<div class="panel"><p class="quiet">No converge has been reported yet.</p></div>` : html`<ol class="history">
    ${shown.map((stored) => converge(stored, nowMs))}
  </ol>${more(hidden)}`}
</section>`;
}

const CAUSES: Readonly<Record<StoredConverge["report"]["cause"], string>> = {
  start: "agent started",
  push: "push",
  drift: "drift",
  sweep: "regular sweep",
  asked: "asked for",
  retry: "tried again",
  lease: "its turn",
};

function converge(stored: StoredConverge, nowMs: number): Html {
  const { report } = stored;
  const row = html`${outcomeMark(report.outcome)}
    <span class="cause">${CAUSES[report.cause]}</span>
    <code class="commit" title="${report.commit}">${shortCommit(report.commit)}</code>
    <span class="count">${changeCount(report.changes, report.omitted)}</span>
    <span class="took">${duration(report.tookMs)}</span>
    <span class="when">${timeAgo(report.startedAt, nowMs)}</span>`;
  const tone = outcomeLook(report.outcome).tone;
  if (report.changes.length === 0 && report.problems.length === 0) return html`<li id="converge-${stored.id}" data-tone="${tone}"><div class="row">${row}</div></li>`;
  const href = `/converges/${stored.id}`;
  return html`<li id="converge-${stored.id}" data-tone="${tone}"><details id="changes-${stored.id}"><summary class="row">${row}</summary>
    <div class="inside">
      ${problemList(report.problems, PROBLEMS_MAX)}
      ${changeList(report.changes, CHANGES_PER_CONVERGE_MAX, `c${stored.id}`, href)}
      <p class="meta"><a href="${href}">Whole report</a> · started ${exact(report.startedAt)} by the node's clock · ${plural(report.processes, "process", "processes")} for ${plural(report.resources, "resource")}</p>
    </div></details></li>`;
}

function facts(node: NodeDetail): Html {
  const entries = Object.entries(node.facts).sort(([a], [b]) => byName(a, b));
  const { shown, hidden } = capped(entries, FACTS_MAX);
  return html`<section aria-labelledby="facts"><h2 id="facts">Facts</h2>
  <div class="panel">${shown.length === 0 ? html`<p class="quiet">The node has not told any yet.</p>` : html`<table class="facts" aria-labelledby="facts"><tbody>
    ${shown.map(([key, value]) => html`<tr><th scope="row">${clip(key, 64)}</th><td>${clip(value, 512)}</td></tr>`)}
    ${node.certificate === null ? "" : html`<tr><th scope="row">certificate</th><td><code>${clip(node.certificate.serial, 80)}</code>, until ${exact(node.certificate.notAfter)}</td></tr>`}
  </tbody></table>${more(hidden)}`}</div>
</section>`;
}

/** One report in full, as far as the node sent it. */
export function convergeView(stored: StoredConverge, nowMs: number): Html {
  const { report, node } = stored;
  const tone = outcomeLook(report.outcome).tone;
  return html`<nav class="crumbs" aria-label="Where you are"><a href="/">Cluster</a> <span aria-hidden="true">/</span> <a href="${nodeHref(node)}">${clip(node, 63)}</a> <span aria-hidden="true">/</span> <span aria-current="page">report ${stored.id}</span></nav>
<section class="node-head" data-tone="${tone}">
  <h1>${CAUSES[report.cause].replace(/^./, (letter) => letter.toUpperCase())} on ${clip(node, 63)} <span class="pill" data-tone="${tone}">${outcomeMark(report.outcome)}</span></h1>
  <dl class="pairs wide">
    <div><dt>Commit</dt><dd><a class="commit" href="/commits#c-${report.commit}" title="${report.commit}"><code>${shortCommit(report.commit)}</code></a></dd></div>
    <div><dt>Started</dt><dd>${timeAgo(report.startedAt, nowMs)}</dd></div>
    <div><dt>Took</dt><dd>${duration(report.tookMs)}</dd></div>
    <div><dt>Changes</dt><dd>${changeCount(report.changes, report.omitted)}</dd></div>
    <div><dt>Resources</dt><dd>${report.resources}</dd></div>
    <div><dt>Processes</dt><dd>${report.processes}</dd></div>
  </dl>
</section>
${report.problems.length === 0 ? "" : html`<section aria-labelledby="problems"><h2 id="problems">Problems</h2><div class="panel">${problemList(report.problems, report.problems.length)}</div></section>`}
<section aria-labelledby="changes"><h2 id="changes">Changes</h2>
  <div class="panel">${report.changes.length === 0 ? html`<p class="quiet">Nothing had to be changed.</p>` : changeList(report.changes, report.changes.length, "change")}
  ${more(report.omitted)}</div>
</section>`;
}
