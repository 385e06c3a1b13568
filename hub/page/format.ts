import { html } from "hono/html";

/** What hono's `html` gives: escaped markup, or a promise of it when a part is one. */
export type Html = ReturnType<typeof html>;

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** How long something took, to two or three digits: `850 ms`, `1.2 s`, `48 s`, `2 min 5 s`, `3 h`, `4 d`. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "–";
  if (ms < 999.5) return `${Math.round(ms)}\u00a0ms`;
  if (ms < 9_950) return `${(ms / SECOND_MS).toFixed(1)}\u00a0s`;
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < 90) return `${seconds}\u00a0s`;
  if (seconds < 600) {
    const rest = seconds % 60;
    return `${Math.floor(seconds / 60)}\u00a0min${rest === 0 ? "" : `\u00a0${rest}\u00a0s`}`;
  }
  return coarse(ms);
}

/**
 * How far a moment is from now: `just now`, `12 s ago`, `3 min ago`, `in 84 d`. `live.js` says the same while it ticks.
 */
export function ago(thenMs: number, nowMs: number): string {
  if (!Number.isFinite(thenMs)) return "at an unknown time";
  const distanceMs = nowMs - thenMs;
  if (Math.abs(distanceMs) < 5 * SECOND_MS) return "just now";
  return distanceMs > 0 ? `${coarse(distanceMs)} ago` : `in ${coarse(-distanceMs)}`;
}

/** One number and one unit, cut down rather than rounded, so that "2 h ago" never means less than two hours. */
function coarse(ms: number): string {
  if (ms < MINUTE_MS) return `${Math.floor(ms / SECOND_MS)}\u00a0s`;
  if (ms < 90 * MINUTE_MS) return `${Math.floor(ms / MINUTE_MS)}\u00a0min`;
  if (ms < 36 * HOUR_MS) return `${Math.floor(ms / HOUR_MS)}\u00a0h`;
  return `${Math.floor(ms / DAY_MS)}\u00a0d`;
}

/** `2026-03-01 14:03:22 UTC`, or the text as it is when it is no date. */
export function exact(iso: string): string {
  const ms = Date.parse(iso);
  if (Number.isNaN(ms)) return plain(iso);
  return `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** A moment for people, precise for machines and on hover; the script keeps the words current. */
export function timeAgo(iso: string, nowMs: number): Html {
  return html`<time datetime="${iso}" title="${exact(iso)}" data-ago>${ago(Date.parse(iso), nowMs)}</time>`;
}

/** ECMA-48 control sequences, with which apt and friends colour their output. */
// oxlint-disable-next-line no-control-regex
const ESCAPE_SEQUENCES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;
/** Control characters but tab and newline, and the marks that reorder text (Unicode TR36: what is read is not what is there). */
// oxlint-disable-next-line no-control-regex
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** Text from a node or a commit, made fit to be shown: nothing in it can colour, hide or reorder. Escaping comes later. */
export function plain(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(ESCAPE_SEQUENCES, "").replace(INVISIBLE, "\ufffd");
}

const ISO_TIME = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z/g;

/** A sentence as the hub and the agents write them: commands between backticks are set as code, times are made readable. */
export function prose(text: string, charsMax: number): Html {
  // Splitting at pairs leaves what is between them at the odd places; a lone backtick stays what it is.
  const parts = clip(text.replace(ISO_TIME, exact), charsMax).split(/`([^`\n]+)`/);
  return html`${parts.map((part, index) => (index % 2 === 0 ? part : html`<code>${part}</code>`))}`;
}

/** At most `charsMax` characters; what was cut is shown by an ellipsis. */
export function clip(text: string, charsMax: number): string {
  const whole = plain(text);
  if (whole.length <= charsMax) return whole;
  const end = charsMax - 1;
  // A surrogate pair is not cut in half.
  const cut = /[\ud800-\udbff]/.test(whole.charAt(end - 1)) ? end - 1 : end;
  return `${whole.slice(0, cut)}…`;
}

/** `1 node`, `3 nodes`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count}\u00a0${count === 1 ? one : many}`;
}

/** `n2` before `n10`. */
export function byName(a: string, b: string): number {
  return collator.compare(a, b);
}
const collator = new Intl.Collator("en", { numeric: true });

/** The first of a list, and how many were left out. */
export function capped<T>(list: readonly T[], max: number): { shown: readonly T[]; hidden: number } {
  return { shown: list.slice(0, max), hidden: Math.max(0, list.length - max) };
}

/** `… and 12 more`, or nothing. */
export function more(hidden: number, href?: string): Html | string {
  if (hidden <= 0) return "";
  const words = `… and ${hidden} more`;
  return html`<p class="more">${href === undefined ? words : html`<a href="${href}">${words}</a>`}</p>`;
}

/** How long something has been so: `for 3 min`; the script keeps the words current. */
export function timeFor(iso: string, nowMs: number): Html {
  const words = ago(Date.parse(iso), nowMs);
  return html`<time datetime="${iso}" title="since ${exact(iso)}" data-ago="for">${words.endsWith(" ago") ? `for ${words.slice(0, -" ago".length)}` : words}</time>`;
}

/** `2,248`: figures that are read from across the room. */
export function figure(count: number): string {
  return count.toLocaleString("en");
}

export function nodeHref(name: string): string {
  return `/nodes/${encodeURIComponent(name)}`;
}
