import { html } from "hono/html";
import { type Html, plain, plural } from "./format.ts";

/** A diff that is longer than this is cut; the node's own `evenkeel-agent plan` has all of it. */
export const DIFF_LINES_MAX = 400;

type LineKind = "add" | "del" | "hunk" | "file" | "note" | "same";

interface Line {
  readonly kind: LineKind;
  readonly text: string;
  /** The part that differs from the line's counterpart: from (inclusive), to (exclusive). */
  readonly changed?: readonly [from: number, to: number];
}

/**
 * A unified diff, one line an element, coloured by kind. The `+` and `-` stay in the text, so that it can be read without
 * colour, read aloud, copied and applied.
 */
export function diffView(diff: string, label: string): Html {
  const lines = parseDiff(plain(diff));
  const shown = lines.slice(0, DIFF_LINES_MAX);
  const hidden = lines.length - shown.length;
  return html`<figure class="diff">
    <pre tabindex="0" aria-label="${label}"><code>${shown.map(lineView)}</code></pre>
    ${hidden > 0 ? html`<figcaption class="more">… and ${plural(hidden, "more line", "more lines")}</figcaption>` : ""}
  </figure>`;
}

function lineView(line: Line): Html {
  const content = emphasised(line);
  if (line.kind === "add") return html`<ins>${content}${"\n"}</ins>`;
  if (line.kind === "del") return html`<del>${content}${"\n"}</del>`;
  return html`<span class="${line.kind}">${content}${"\n"}</span>`;
}

function emphasised({ text, changed }: Line): Html | string {
  if (changed === undefined) return text;
  const [from, to] = changed;
  return html`${text.slice(0, from)}<b>${text.slice(from, to)}</b>${text.slice(to)}`;
}

/** Splits a unified diff into lines and marks what changed within lines that were replaced one for one. */
export function parseDiff(diff: string): readonly Line[] {
  const texts = diff.replace(/\n$/, "").split("\n");
  let inHunk = false;
  const lines = texts.map((text): Line => {
    if (text.startsWith("@@")) inHunk = true;
    // `--- a/file` is a heading only before the first hunk, or where a next file begins; within one it may be a removed line `-- a`.
    else if (/^(diff |index |Index: )/.test(text)) inHunk = false;
    return { kind: kindOf(text, inHunk), text };
  });
  return pairChanges(lines);
}

function kindOf(text: string, inHunk: boolean): LineKind {
  if (text.startsWith("@@")) return "hunk";
  if (!inHunk && /^(diff |index |Index: |--- |\+\+\+ )/.test(text)) return "file";
  if (text.startsWith("+")) return "add";
  if (text.startsWith("-")) return "del";
  if (text.startsWith("\\")) return "note";
  return "same";
}

function pairChanges(lines: readonly Line[]): readonly Line[] {
  const result = [...lines];
  for (let at = 0; at < result.length; ) {
    const removed = runLength(result, at, "del");
    const added = removed === 0 ? 0 : runLength(result, at + removed, "add");
    if (removed > 0 && removed === added) {
      for (let offset = 0; offset < removed; offset += 1) markPair(result, at + offset, at + removed + offset);
    }
    at += Math.max(1, removed + added);
  }
  return result;
}

function runLength(lines: readonly Line[], from: number, kind: LineKind): number {
  let length = 0;
  while (lines[from + length]?.kind === kind) length += 1;
  return length;
}

function markPair(lines: Line[], removedAt: number, addedAt: number): void {
  const removed = lines[removedAt];
  const added = lines[addedAt];
  if (removed === undefined || added === undefined) return;
  const shortest = Math.min(removed.text.length, added.text.length);
  let head = 1;
  while (head < shortest && removed.text[head] === added.text[head]) head += 1;
  let tail = 0;
  while (tail < shortest - head && removed.text.at(-1 - tail) === added.text.at(-1 - tail)) tail += 1;
  // When little is common, marking nearly the whole line says nothing.
  if (head - 1 + tail < (shortest - 1) / 3) return;
  for (const [at, line] of [[removedAt, removed], [addedAt, added]] as const) {
    const end = line.text.length - tail;
    if (end > head) lines[at] = { ...line, changed: [head, end] };
  }
}
