import { html } from "hono/html";
import { WHOLE_CLUSTER } from "../../shared/config/policy.ts";
import type { GroupView } from "../../shared/protocol/rollout.ts";
import type { Tone } from "./condition.ts";
import { capped, clip, type Html, more, nodeHref, prose, timeFor } from "./format.ts";

/** Up to this many members, each has a place of its own in the gauge; above it, those that are up are one piece. */
const PLACES_MAX = 60;
const DOWN_MAX = 8;
const GAP_PERCENT = 0.6;

export function groupName(name: string): string {
  return name === WHOLE_CLUSTER ? "The whole cluster" : clip(name, 63);
}

/** `3 of 3 up, may lose 1`: the same words as on the command line. */
export function gaugeWords({ size, allowed, down }: GroupView): string {
  const left = Math.max(0, allowed - down.length);
  return `${Math.max(0, size - down.length)} of ${size} up, may lose ${left === 0 ? (allowed === 0 ? "none" : "no more") : left}`;
}

/** More down than may be is an alarm; what we took down ourselves is work in progress; what fell over by itself is a warning. */
export function gaugeTone({ allowed, down }: GroupView): Tone {
  if (down.length > allowed && down.some(({ code }) => code !== "leased")) return "bad";
  if (down.some(({ code }) => code !== "leased")) return "warn";
  return down.length > 0 ? "busy" : allowed === 0 ? "off" : "good";
}

/** How full each quorum group is: a level, the line that it must not fall below, and who is down and why. */
export function gauges(groups: readonly GroupView[], nowMs: number, settle: (group: GroupView) => Html | string = () => ""): Html {
  return html`<ul class="gauges">${groups.map((group) => html`<li class="gauge" data-tone="${gaugeTone(group)}">
    <p class="gauge-name">${groupName(group.name)}</p>
    <p class="gauge-words">${emphasized(gaugeWords(group))}</p>
    ${level(group)}
    ${downList(group, nowMs)}
    ${group.settling === null ? "" : html`<p class="settling">${prose(group.settling, 300)}${settle(group)}</p>`}
  </li>`)}</ul>`;
}

function emphasized(words: string): Html {
  const comma = words.indexOf(",");
  return html`<b>${words.slice(0, comma)}</b>${words.slice(comma)}`;
}

function level(group: GroupView): Html {
  const { size, allowed, down } = group;
  const places = Math.max(1, size);
  const up = Math.max(0, places - down.length);
  const width = 100 / places;
  const gap = places > PLACES_MAX ? 0 : GAP_PERCENT;
  const rect = (at: number, count: number, tone: Tone | "up"): Html =>
    html`<rect class="place" data-tone="${tone === "up" ? "good" : tone}" x="${(at * width).toFixed(2)}%" y="3" width="${Math.max(0.2, count * width - gap).toFixed(2)}%" height="14" rx="2.5"/>`;
  const full = places > PLACES_MAX ? [rect(0, up, "up")] : Array.from({ length: up }, (_, index) => rect(index, 1, "up"));
  const lost = capped(down, places - up).shown.map(({ code }, index) => rect(up + index, 1, code === "leased" ? "busy" : code === "cordoned" ? "warn" : "bad"));
  const floor = ((places - Math.min(allowed, places)) * width - gap / 2).toFixed(2);
  return html`<svg class="level" width="100%" height="20" aria-hidden="true">${full}${lost}<line class="floor" x1="${floor}%" x2="${floor}%" y1="0" y2="20"/></svg>`;
}

function downList({ down }: GroupView, nowMs: number): Html | string {
  if (down.length === 0) return "";
  const { shown, hidden } = capped(down, DOWN_MAX);
  return html`<ul class="down">${shown.map(({ node, code, text, since }) => html`<li><a href="${nodeHref(node)}">${clip(node, 63)}</a> <b class="code">${code}</b> ${prose(text, 200)}${since === null ? "" : html` <span class="quiet">${timeFor(since, nowMs)}</span>`}</li>`)}</ul>${more(hidden)}`;
}
