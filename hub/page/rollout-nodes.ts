import { html } from "hono/html";
import type { RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";
import { errorView } from "./changes.ts";
import { symbol, type Tone } from "./condition.ts";
import { denialList } from "./denials.ts";
import { capped, clip, duration, exact, type Html, more, nodeHref, plural, prose, timeAgo } from "./format.ts";
import { type Axis, axisOf, axisView, expectedBegins, isAtIt, lane, PHASES_IN_LEGEND, phaseList, phaseWord } from "./timeline.ts";

const NODES_MAX = 200;
/** On a large cluster the waiting ones all say much the same: each says its first reason. */
const DENIALS_OF_MANY_MAX = 1;
const MANY_NODES = 12;
const NAMES_MAX = 12;

type Look = { readonly tone: Tone; readonly symbol: Parameters<typeof symbol>[0] };
const LOOKS: Readonly<Record<RolloutNode["state"], Look>> = {
  waiting: { tone: "off", symbol: "dots" },
  asked: { tone: "busy", symbol: "dots" },
  draining: { tone: "busy", symbol: "down" },
  drained: { tone: "busy", symbol: "pause" },
  working: { tone: "busy", symbol: "turn" },
  checking: { tone: "busy", symbol: "turn" },
  soaking: { tone: "busy", symbol: "ring" },
  done: { tone: "good", symbol: "check" },
  failed: { tone: "bad", symbol: "cross" },
  skipped: { tone: "off", symbol: "slash" },
};

const STATE_WORDS: Readonly<Record<RolloutNode["state"], string>> = { waiting: "waits", asked: "waits for its slot", draining: "draining", drained: "drained", working: "updating", checking: "checking", soaking: "soaking", done: "done", failed: "failed", skipped: "left out" };

export function stateWord(node: RolloutNode, kind: RolloutView["kind"]): string {
  if (node.state !== "working") return STATE_WORDS[node.state];
  return node.timeline.at(-1)?.phase === "rebooting" ? "rebooting" : kind === "update" ? "updating" : kind === "change" ? "applying" : "about to reboot";
}

/** The queue and who is at it: every node in its order, with its bar on the common axis, its times, and why it waits. */
export function rolloutNodes(rollout: RolloutView, nowMs: number): Html {
  const axis = axisOf(rollout, nowMs);
  const begins = expectedBegins(rollout, nowMs);
  const { shown, hidden } = capped(rollout.nodes, NODES_MAX);
  const denialsMax = rollout.nodes.length > MANY_NODES ? DENIALS_OF_MANY_MAX : undefined;
  return html`<section aria-labelledby="nodes"><h2 id="nodes">Node by node</h2>
  <div class="chart">
    <div class="chart-head"><p class="legend" aria-hidden="true">${PHASES_IN_LEGEND.filter((phase) => rollout.kind !== "reboot" || phase !== "working").map((phase) => html`<span><span class="swatch" data-phase="${phase}"></span>${phaseWord(phase, rollout.kind)}</span>`)}</p><div class="chart-axis">${axisView(axis)}</div></div>
    <ol class="lanes">${shown.map((node, index) => row(node, rollout, axis, begins.get(node.node) ?? null, nowMs, sameAsBefore(shown, index) ?? denialList(node.denials, nowMs, denialsMax)))}</ol>
    <p class="chart-foot quiet">Times are UTC${axis.nowMs === null ? "" : "; the upright line is now, dashed bars are what is expected"}.</p>
  </div>${more(hidden)}
</section>`;
}

/** In a queue, many wait for the same: it is said once, and then by whom. */
function sameAsBefore(nodes: readonly RolloutNode[], at: number): Html | null {
  const said = (node: RolloutNode | undefined): string => JSON.stringify(node?.denials.map(({ code, text, cure }) => [code, text, cure]) ?? []);
  const own = said(nodes[at]);
  let first = at;
  while (first > 0 && said(nodes[first - 1]) === own) first -= 1;
  const other = nodes[first];
  return first === at || other === undefined || other.denials.length === 0 ? null : html`<p class="quiet">for the same reasons as ${clip(other.node, 63)}</p>`;
}

function row(node: RolloutNode, { kind }: RolloutView, axis: Axis, beginsAtMs: number | null, nowMs: number, reasons: Html | string): Html {
  const look = LOOKS[node.state];
  return html`<li class="lane-row" id="lane-${clip(node.node, 63)}" data-tone="${look.tone}">
    <div class="lane-name"><h3><a id="to-${clip(node.node, 63)}" href="${nodeHref(node.node)}">${clip(node.node, 63)}</a></h3>
      <p><span class="mark" data-tone="${look.tone}">${symbol(look.symbol)}${stateWord(node, kind)}</span>${node.role === "node" ? "" : html` <span class="impact">${node.role === "hub" ? "the hub runs here" : node.role}</span>`}</p></div>
    <div class="lane-body">${lane(node, axis, beginsAtMs, nowMs)}
      <div class="lane-words">${phaseList(node, kind, nowMs)}<p class="quiet lane-when">${when(node, nowMs)}</p></div>
      ${node.progress === "" ? "" : html`<p class="progress">${prose(node.progress, 500)}</p>`}
      ${reasons}
      ${outcome(node)}</div>
  </li>`;
}

function when(node: RolloutNode, nowMs: number): Html | string {
  if (node.startedAt !== null && node.endedAt !== null) return `took ${duration(Date.parse(node.endedAt) - Date.parse(node.startedAt))}`;
  if (node.expectedAt === null) return "";
  return html`expected to be done ${timeAgo(node.expectedAt, nowMs)} (${exact(node.expectedAt).slice(11, 16)})`;
}

/** What came of its work, as far as it was not all well; that it was is said by the mark. */
function outcome(node: RolloutNode): Html | string {
  const { result } = node;
  if (result === null) return "";
  const { update } = result;
  const said = update?.failure == null ? (result.failure ?? "") : `${result.failure ?? update.failure.message}\n${update.failure.output}`;
  const lists = update === null ? [] : ([["put back to the version of before", update.rolledBack], ["could not be put back", update.notRolledBack], ["newer in the archive by now, and not installed", update.movedOn.map(({ name, to }) => `${name} ${to ?? ""}`)]] as const).filter(([, names]) => names.length > 0);
  return html`${said === "" ? "" : html`<div class="trouble"><p class="what">${node.state === "failed" ? "It failed" : "Not all was well"}</p>${errorView(said, `lane-${clip(node.node, 63)}-error`)}</div>`}
  ${lists.map(([title, names]) => html`<p class="quiet">${plural(names.length, "package")} ${title}: ${named(names)}</p>`)}`;
}

function named(names: readonly string[]): string {
  const { shown, hidden } = capped(names, NAMES_MAX);
  return `${shown.map((name) => clip(name, 80)).join(", ")}${hidden > 0 ? ` and ${hidden} more` : ""}`;
}

/** One node's part of a rollout, for the node's own page. */
export function rolloutPart(rollout: RolloutView, name: string, nowMs: number): Html | string {
  const node = rollout.nodes.find((each) => each.node === name);
  if (node === undefined || node.timeline.length === 0 || !(isAtIt(node) || node.state === "failed")) return "";
  const fromMs = Date.parse(node.timeline[0]?.at ?? rollout.startedAt);
  const axis = { ...axisOf({ ...rollout, nodes: [node], forecast: { ...rollout.forecast, doneAt: node.expectedAt }, halt: null }, nowMs), fromMs };
  return html`<div class="one-lane">${axisView(axis)}${lane(node, axis, isAtIt(node) ? nowMs : null, nowMs)}<div class="lane-words">${phaseList(node, rollout.kind, nowMs)}<p class="quiet lane-when">${when(node, nowMs)}</p></div></div>`;
}
