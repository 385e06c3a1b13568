import { html } from "hono/html";
import type { RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";
import { clip, duration, type Html, timeAgo } from "./format.ts";

/** When which node did what, all on one axis, so that one sees that they went one after the other. */

export interface Axis {
  readonly fromMs: number;
  readonly toMs: number;
  /** Where a line stands for this moment; null once nothing moves any more. */
  readonly nowMs: number | null;
}

export interface Span {
  readonly phase: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** It is at it. */
  readonly going: boolean;
}

/** Phases that end a timeline: they take no time. */
const ENDS = new Set(["done", "declined", "cleared", "void", "failed", "skipped", "released"]);

const WORDS: Readonly<Record<string, string>> = { draining: "drain", drained: "confirm", working: "update", rebooting: "reboot", checking: "check", soaking: "soak", aborting: "undo" };

export const PHASES_IN_LEGEND = ["draining", "working", "rebooting", "checking", "soaking"] as const;

/** How people call a phase. A phase that we do not know is called what it calls itself. */
export function phaseWord(phase: string, kind: RolloutView["kind"]): string {
  if (phase === "working" && kind !== "update") return kind === "reboot" ? "prepare" : "apply";
  return (Object.hasOwn(WORDS, phase) ? WORDS[phase] : undefined) ?? clip(phase, 40);
}

function known(phase: string): string {
  return Object.hasOwn(WORDS, phase) ? phase : "other";
}

export function spansOf({ timeline, endedAt }: Pick<RolloutNode, "timeline" | "endedAt">, nowMs: number): readonly Span[] {
  return timeline.flatMap(({ phase, at }, index) => {
    if (ENDS.has(phase)) return [];
    const next = timeline[index + 1]?.at ?? endedAt;
    const fromMs = Date.parse(at);
    return [{ phase, fromMs, toMs: Math.max(fromMs, next === null ? nowMs : Date.parse(next)), going: next === null }];
  });
}

const AT_IT: readonly RolloutNode["state"][] = ["draining", "drained", "working", "checking", "soaking"];

export function isAtIt({ state }: Pick<RolloutNode, "state">): boolean {
  return AT_IT.includes(state);
}

/** From the start to the forecast's end; a rollout that stands still is drawn as far as it got. */
export function axisOf(rollout: RolloutView, nowMs: number): Axis {
  const fromMs = Date.parse(rollout.startedAt);
  const moves = rollout.phase === "running" || rollout.nodes.some(isAtIt);
  const seen = rollout.nodes.flatMap((node) => spansOf(node, nowMs).map(({ toMs }) => toMs));
  const ends = [rollout.endedAt, rollout.halt?.at ?? null, rollout.phase === "running" ? rollout.forecast.doneAt : null].flatMap((at) => (at === null ? [] : [Date.parse(at)]));
  const toMs = Math.max(fromMs + 1_000, ...seen, ...ends, ...(moves ? [nowMs] : []));
  return { fromMs, toMs, nowMs: moves ? nowMs : null };
}

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const STEPS_MS = [SECOND_MS, 5 * SECOND_MS, 10 * SECOND_MS, 30 * SECOND_MS, MINUTE_MS, 2 * MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS, 15 * MINUTE_MS, 30 * MINUTE_MS, HOUR_MS, 2 * HOUR_MS, 6 * HOUR_MS, 12 * HOUR_MS, DAY_MS, 2 * DAY_MS, 7 * DAY_MS];
/** So many labels stand beside each other on a phone. */
const TICKS_MAX = 5;

export function ticksOf({ fromMs, toMs }: Axis): readonly { readonly ms: number; readonly label: string }[] {
  const lengthMs = toMs - fromMs;
  const stepMs = STEPS_MS.find((step) => lengthMs / step <= TICKS_MAX) ?? lengthMs / TICKS_MAX;
  const first = Math.ceil(fromMs / stepMs);
  const count = Math.min(TICKS_MAX + 1, Math.max(0, Math.floor(toMs / stepMs) - first + 1));
  return Array.from({ length: count }, (_, index) => (first + index) * stepMs).map((ms) => {
    const iso = new Date(ms).toISOString();
    return { ms, label: stepMs < MINUTE_MS ? iso.slice(11, 19) : lengthMs > DAY_MS ? `${iso.slice(5, 10)} ${iso.slice(11, 16)}` : iso.slice(11, 16) };
  });
}

function percent(ms: number, { fromMs, toMs }: Axis): number {
  return Math.min(100, Math.max(0, ((ms - fromMs) / (toMs - fromMs)) * 100));
}

/** The head of the chart: when is what. Times are UTC, as everywhere on the page. */
export function axisView(axis: Axis): Html {
  return html`<svg class="axis" width="100%" height="18" aria-hidden="true">${ticksOf(axis).map(({ ms, label }) => {
    const at = percent(ms, axis);
    return html`<text class="tick" x="${at.toFixed(2)}%" y="12" text-anchor="${at < 5 ? "start" : at > 93 ? "end" : "middle"}">${label}</text>`;
  })}</svg>`;
}

/** Shorter ones could not be seen at all. */
const WIDTH_PERCENT_MIN = 0.6;

/** One node's bar; beyond now, when it is expected to be at it. What it shows stands beside it in words. */
export function lane(node: RolloutNode, axis: Axis, expectedFromMs: number | null, nowMs: number): Html {
  const bar = (fromMs: number, toMs: number, className: string, phase: string): Html => {
    const x = Math.min(percent(fromMs, axis), 100 - WIDTH_PERCENT_MIN);
    return html`<rect class="${className}" data-phase="${phase}" x="${x.toFixed(2)}%" y="4" width="${Math.max(WIDTH_PERCENT_MIN, percent(toMs, axis) - x).toFixed(2)}%" height="14" rx="2.5"/>`;
  };
  const expectedMs = node.expectedAt === null ? Number.NaN : Date.parse(node.expectedAt);
  const now = axis.nowMs === null ? null : percent(axis.nowMs, axis).toFixed(2);
  return html`<svg class="lane" width="100%" height="22" aria-hidden="true"><rect class="track" y="4" width="100%" height="14" rx="3"/>${ticksOf(axis).map(({ ms }) => {
    const at = percent(ms, axis).toFixed(2);
    return html`<line class="grid" x1="${at}%" x2="${at}%" y1="4" y2="18"/>`;
  })}${expectedFromMs !== null && expectedMs > expectedFromMs ? bar(expectedFromMs, expectedMs, "ghost", "") : ""}${spansOf(node, nowMs).map(({ phase, fromMs, toMs }) => bar(fromMs, toMs, "span", known(phase)))}${
    now === null ? "" : html`<line class="now" x1="${now}%" x2="${now}%" y1="0" y2="22"/>`
  }</svg>`;
}

/** The same in words: `drain 12 s, update 1 min 20 s, reboot, began 40 s ago`. */
export function phaseList(node: Pick<RolloutNode, "node" | "timeline" | "endedAt">, kind: RolloutView["kind"], nowMs: number): Html | string {
  const spans = spansOf(node, nowMs);
  if (spans.length === 0) return "";
  return html`<ol class="phases" aria-label="How long ${clip(node.node, 63)} took for what">${spans.map(({ phase, fromMs, toMs, going }) => html`<li><span class="swatch" data-phase="${known(phase)}"></span>${phaseWord(phase, kind)} ${
    going ? html`<b>began ${timeAgo(new Date(fromMs).toISOString(), nowMs)}</b>` : html`<b>${duration(toMs - fromMs)}</b>`
  }</li>`)}</ol>`;
}

/** Where a waiting node is expected to begin: when the one before it is expected to be done. */
export function expectedBegins(rollout: RolloutView, nowMs: number): ReadonlyMap<string, number> {
  const begins = new Map<string, number>();
  let freeAtMs = nowMs;
  for (const { node, expectedAt } of rollout.nodes) {
    if (expectedAt === null) continue;
    begins.set(node, Math.max(nowMs, freeAtMs));
    freeAtMs = Date.parse(expectedAt);
  }
  return begins;
}
