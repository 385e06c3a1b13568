import { html } from "hono/html";
import { shortCommit } from "../../shared/ids.ts";
import type { ClusterSummary, CommitSummary, NodeSummary } from "../../shared/protocol/api.ts";
import type { CoordinationSummary } from "../../shared/protocol/rollout.ts";
import { errorView, resourceName } from "./changes.ts";
import { arrivalMarks, pushedBy, slowest } from "./commits.ts";
import { CONDITION_LOOKS, conditionPill, conditionTally, symbol, type Tone } from "./condition.ts";
import { capped, clip, duration, type Html, more, nodeHref, plain, plural, prose, timeAgo } from "./format.ts";
import { type Headline, headlineOf, inOrder, isMember } from "./headline.ts";
import { checkStrip, headlineWithChecks } from "./checks.ts";
import { boat } from "./layout.ts";
import { standingSection } from "./standing.ts";
import { standingLine, standingOf, standingPairs } from "./updates.ts";

/** Up to this many nodes, each has a card with all that matters; above it, nodes without trouble get a small one. */
const LARGE_CARDS_MAX = 12;
const CARDS_MAX = 120;
const COMMITS_MAX = 8;
/** The first failing resource is shown in full; of the rest, which are often its consequences, the names of so many. */
const FAILING_NAMES_MAX = 4;
const PROBLEMS_PER_CARD_MAX = 2;

/** What the page shows, read at one moment. `standing` is null where there is no coordinator. */
export interface ClusterFacts {
  readonly summary: ClusterSummary;
  readonly commits: readonly CommitSummary[];
  readonly standing: CoordinationSummary | null;
}

/** Nodes and services in one sentence. */
export function clusterHeadline({ summary, standing }: Pick<ClusterFacts, "summary" | "standing">): Headline {
  return headlineWithChecks(headlineOf(summary), standing?.checks ?? []);
}

/**
 * The cluster at a glance: what users use, what it all comes down to, who may go down, then the nodes, those in trouble
 * first, then the latest commits.
 *
 * @param may whether the reader is an admin
 */
export function clusterView(facts: ClusterFacts, may: boolean, nowMs: number): Html {
  const { summary, commits, standing } = facts;
  return html`${standing === null ? "" : checkStrip(standing.checks, nowMs)}
${hero(summary, clusterHeadline(facts), nowMs)}
${summary.nodes.length === 0 || summary.head === null ? nextSteps(summary) : ""}
${standing === null || standing.groups.length === 0 ? "" : standingSection(standing, may, nowMs)}
${summary.nodes.length === 0 ? "" : nodeCards(facts, nowMs)}
${commits.length === 0 ? "" : recentCommits(summary, commits, nowMs)}`;
}

function hero(summary: ClusterSummary, headline: Headline, nowMs: number): Html {
  return html`<section class="hero" data-tone="${headline.tone}">
  ${boat("hero-boat")}
  <div>
    <h1 aria-live="polite">${headline.title}</h1>
    ${headline.details.map((detail) => html`<p class="detail">${prose(detail, 300)}</p>`)}
    ${summary.head === null ? "" : headLine(summary, summary.head, nowMs)}
    ${summary.nodes.length === 0 ? "" : conditionTally(summary.nodes.map(({ condition }) => condition))}
  </div>
</section>`;
}

function headLine(summary: ClusterSummary, head: CommitSummary, nowMs: number): Html {
  const members = summary.nodes.filter(isMember);
  const arrived = members.length > 0 && members.every(({ name }) => head.arrivals.some(({ node, outcome }) => node === name && outcome === "converged"));
  return html`<p class="head-commit"><a class="commit" href="/commits#c-${head.id}" title="${head.id}"><code>${shortCommit(head.id)}</code></a> <bdi class="subject">${clip(head.subject, 120)}</bdi></p>
    <p class="meta">${pushedBy(head, nowMs)}${arrived ? ` · on ${members.length === 1 ? "the node" : `all ${plural(members.length, "node")}`} after ${duration(slowest(head.arrivals))}` : ""}</p>`;
}

function nodeCards(facts: ClusterFacts, nowMs: number): Html {
  const { summary } = facts;
  const { shown, hidden } = capped(inOrder(summary.nodes), CARDS_MAX);
  const many = summary.nodes.length > LARGE_CARDS_MAX;
  const troubled = shown.filter(({ condition }) => CONDITION_LOOKS[condition].attention);
  const others = shown.filter(({ condition }) => !CONDITION_LOOKS[condition].attention);
  return html`<section aria-labelledby="nodes">
  <h2 id="nodes">Nodes</h2>
  ${troubled.length === 0 ? "" : html`<ul class="cards troubled" id="troubled">${troubled.map((node) => card(node, facts, nowMs))}</ul>`}
  ${others.length === 0 ? "" : html`<ul class="cards${many ? " small" : ""}" id="others">${others.map((node) => (many ? smallCard(node, facts, nowMs) : card(node, facts, nowMs)))}</ul>`}
  ${more(hidden)}
</section>`;
}

function card(node: NodeSummary, { summary: { head }, commits, standing }: ClusterFacts, nowMs: number): Html {
  const tone: Tone = CONDITION_LOOKS[node.condition].tone;
  return html`<li class="card" id="card-${node.name}" data-tone="${tone}">
  <header><h3><a id="to-${node.name}" href="${nodeHref(node.name)}">${clip(node.name, 63)}</a></h3>${conditionPill(node.condition)}</header>
  ${node.why === "" || whyIsShownBelow(node) ? "" : html`<p class="why">${prose(node.why, 300)}</p>`}
  <div class="card-body">${cardTrouble(node)}
  <dl class="pairs">
    <div><dt>Commit</dt><dd>${commitOf(node, head, commits)}</dd></div>
    <div><dt>Last seen</dt><dd>${lastSeen(node, nowMs)}</dd></div>
    ${standingPairs(standingOf(node.name, standing))}
    ${isMember(node) ? html`<div><dt>Drift repaired, 24 h</dt><dd>${node.driftRepairs24h === 0 ? "none" : `${node.driftRepairs24h}\u00d7`}</dd></div>` : ""}
    ${node.roles.length === 0 ? "" : html`<div class="extra"><dt>${node.roles.length === 1 ? "Role" : "Roles"}</dt><dd>${clip(node.roles.join(", "), 80)}</dd></div>`}
    ${node.address === null ? "" : html`<div class="extra"><dt>Address</dt><dd>${clip(node.address, 64)}</dd></div>`}
  </dl></div>
</li>`;
}

/** The sentence about a failing or refusing node repeats the reason that stands in full beneath it. */
export function whyIsShownBelow({ condition, converge }: NodeSummary): boolean {
  if (converge === null) return false;
  if (condition === "refused") return converge.refused !== null;
  return condition === "failing" && converge.failing.length + converge.problems.length > 0;
}

function smallCard(node: NodeSummary, { standing }: ClusterFacts, nowMs: number): Html {
  return html`<li class="card" id="card-${node.name}" data-tone="${CONDITION_LOOKS[node.condition].tone}">
  <header><h3><a id="to-${node.name}" href="${nodeHref(node.name)}">${clip(node.name, 63)}</a></h3>${conditionPill(node.condition)}</header>
  <p class="meta">${node.commit === null ? "no commit" : html`<code>${shortCommit(node.commit)}</code>`} · ${lastSeen(node, nowMs)}</p>
  ${standingLine(standingOf(node.name, standing))}
</li>`;
}

/** What fails, what was refused, what else is not right: the reason and the end of the output, on the first page already. */
function cardTrouble(node: NodeSummary): Html | string {
  const { converge } = node;
  if (converge === null || node.condition === "revoked") return "";
  const { refused, failing, problems } = converge;
  const [first, ...rest] = failing;
  if (first === undefined && refused === null && problems.length === 0) return "";
  const failed = capped(rest, FAILING_NAMES_MAX);
  const others = capped(problems, PROBLEMS_PER_CARD_MAX);
  const href = nodeHref(node.name);
  return html`<div class="card-trouble">
  ${first === undefined ? "" : html`<div class="trouble">
    <p class="what">${resourceName(first.resource)}</p>
    ${errorView(first.error, `card-${node.name}-error`)}
  </div>`}
  ${refused === null ? "" : html`<div class="trouble">
    <p class="what">refused <code>${shortCommit(plain(refused.commit))}</code>${node.commit === null ? "" : html`, keeps <code>${shortCommit(node.commit)}</code>`}</p>
    ${errorView(refused.message, `card-${node.name}-refused`)}
  </div>`}
  ${rest.length + problems.length === 0 ? "" : html`<ul class="others">
    ${failed.shown.map(({ resource }) => html`<li><span class="mark" data-tone="bad">${symbol("cross")}failing</span>${resourceName(resource)}</li>`)}
    ${others.shown.map(({ code, resource }) => html`<li><span class="mark" data-tone="warn">${symbol("half")}${clip(code, 40)}</span>${resource === undefined ? "" : resourceName(resource)}</li>`)}
  </ul>`}
  ${more(failed.hidden + others.hidden, href)}
</div>`;
}

export function lastSeen(node: NodeSummary, nowMs: number): Html | string {
  if (node.lastSeenAt === null) return "never";
  return node.online ? html`online, ${timeAgo(node.lastSeenAt, nowMs)}` : timeAgo(node.lastSeenAt, nowMs);
}

/** The node's commit, and how far it is from the head where the list of commits reaches that far. */
export function commitOf(node: NodeSummary, head: CommitSummary | null, commits: readonly CommitSummary[]): Html | string {
  if (node.commit === null) return "none yet";
  const at = commits.findIndex(({ id }) => id === node.commit);
  const headAt = head === null ? -1 : commits.findIndex(({ id }) => id === head.id);
  const behind = isMember(node) && at > headAt && headAt >= 0 ? at - headAt : 0;
  const where = node.commit === head?.id ? "head" : behind > 0 ? `${behind}\u00a0behind` : "";
  return html`<a class="commit" href="/commits#c-${node.commit}" title="${node.commit}"><code>${shortCommit(node.commit)}</code></a>${where === "" ? "" : ` ${where}`}`;
}

function recentCommits(summary: ClusterSummary, commits: readonly CommitSummary[], nowMs: number): Html {
  const { shown, hidden } = capped(commits, COMMITS_MAX);
  const names = summary.nodes.filter(isMember).map(({ name }) => name);
  return html`<section aria-labelledby="commits">
  <h2 id="commits">Latest commits</h2>
  <ol class="log">
    ${shown.map((commit) => html`<li id="log-${commit.id}">
      <p class="line"><a class="commit" href="/commits#c-${commit.id}" title="${commit.id}"><code>${shortCommit(commit.id)}</code></a> <bdi class="subject">${clip(commit.subject, 120)}</bdi></p>
      <p class="meta">${pushedBy(commit, nowMs)}</p>
      ${arrivalMarks(commit, names, commit.id === summary.head?.id)}
    </li>`)}
  </ol>
  ${more(hidden, "/commits")}
</section>`;
}

/** What to do next, where there is nothing to be seen yet. */
function nextSteps(summary: ClusterSummary): Html {
  const noNodes = summary.nodes.length === 0;
  return html`<section class="next" aria-labelledby="next">
  <h2 id="next">What to do next</h2>
  <ol>
    ${noNodes ? html`<li><h3>Add a node</h3>
      <p>This prints one command to paste into a root shell of the new machine:</p>
      <pre class="command" tabindex="0" aria-label="Command"><code>evenkeel node add n1</code></pre></li>` : ""}
    ${summary.head === null ? html`<li><h3>Push the cluster's repository</h3>
      <p>Make one, or take a repository that you have, and push it to this hub. Every commit must be signed with a key that the nodes know.</p>
      <pre class="command" tabindex="0" aria-label="Commands"><code>evenkeel init my-cluster
cd my-cluster
git remote add hub https://HUB:7443/cluster.git
git push hub main</code></pre>
      <p>Your access token is the password; with the hub's own Git address, it stands in what the hub prints when it starts. The hub checks what you push before it takes it, and shows a mistake in your terminal with its file and line.</p></li>` : ""}
  </ol>
</section>`;
}
