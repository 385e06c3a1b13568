import { html } from "hono/html";
import type { Change, Problem } from "../../shared/protocol/report.ts";
import { outcomeMark } from "./condition.ts";
import { diffView } from "./diff.ts";
import { capped, clip, type Html, more, plain, plural, prose } from "./format.ts";

/** Resource names come from nodes and may be long; a page shows this much. */
export const RESOURCE_CHARS_MAX = 160;
/** Lines of a program's output that are shown before one has to ask for the rest. */
const TAIL_LINES_MAX = 6;
const REASON_CHARS_MAX = 1_000;

/** `files//etc/motd` as kind and key, so that the eye finds the key. Long ones break anywhere, never the page. */
export function resourceName(resource: string): Html {
  const whole = clip(resource, RESOURCE_CHARS_MAX);
  const slash = whole.indexOf("/");
  if (slash < 1) return html`<code class="resource">${whole}</code>`;
  return html`<code class="resource"><span class="kind">${whole.slice(0, slash + 1)}</span>${whole.slice(slash + 1)}</code>`;
}

/**
 * An error as a person wants it: the reason in the first line, then the end of the output, and the rest on demand.
 *
 * @param id unique on the page; what is open stays open when the page is brought up to date
 */
export function errorView(error: string, id: string): Html {
  const [reason = "", ...rest] = plain(error).trim().split("\n");
  const output = rest.join("\n").replace(/^\n+|\s+$/g, "");
  if (output === "") return html`<p class="reason">${prose(reason, REASON_CHARS_MAX)}</p>`;
  const lines = output.split("\n");
  const hidden = lines.length - TAIL_LINES_MAX;
  if (hidden <= 1) return html`<p class="reason">${prose(reason, REASON_CHARS_MAX)}</p><pre class="output" tabindex="0" aria-label="Output">${output}</pre>`;
  return html`<p class="reason">${prose(reason, REASON_CHARS_MAX)}</p>
<details class="output-all" id="${id}"><summary>all ${lines.length} lines of output</summary><pre class="output" tabindex="0" aria-label="All output">${output}</pre></details>
<pre class="output tail" tabindex="0" aria-label="End of the output">${lines.slice(-TAIL_LINES_MAX).join("\n")}</pre>`;
}

/** What was or would be done, one entry a change: what, why, what came of it, and the difference it makes. */
export function changeList(changes: readonly Change[], max: number, id: string, all?: string): Html {
  const { shown, hidden } = capped(changes, max);
  return html`<ol class="changes">
    ${shown.map((change, index) => changeItem(change, `${id}-${index}`))}
  </ol>${more(hidden, all)}`;
}

function changeItem(change: Change, id: string): Html {
  return html`<li class="change">
  <p class="what">${outcomeMark(change.result)} ${resourceName(change.resource)} <span class="action">${clip(change.action, 200)}</span>${
    change.impact === "none" ? "" : html` <span class="impact" title="How much it disturbs">${change.impact}</span>`
  }</p>
  <p class="why">${prose(change.why, 500)}</p>
  ${change.oneWay === undefined ? "" : html`<p class="no-return"><b>Cannot be taken back:</b> ${prose(change.oneWay, 500)}</p>`}
  ${change.error === undefined ? "" : html`<div class="trouble">${errorView(change.error, `${id}-error`)}</div>`}
  ${change.diff === undefined || change.diff === "" ? "" : diffView(change.diff, `What changes in ${clip(change.resource, RESOURCE_CHARS_MAX)}`)}
</li>`;
}

export function problemList(problems: readonly Problem[], max: number): Html | string {
  if (problems.length === 0) return "";
  const { shown, hidden } = capped(problems, max);
  return html`<ul class="problems">
    ${shown.map((problem) => html`<li><p><b class="code">${clip(problem.code, 64)}</b> ${
      problem.resource === undefined ? "" : resourceName(problem.resource)
    }</p><p class="reason">${prose(problem.message, REASON_CHARS_MAX)}</p></li>`)}
  </ul>${more(hidden)}`;
}

/** `2 changes, 1 failed`, counting those that the report left out. */
export function changeCount(changes: readonly Change[], omitted: number): string {
  const total = changes.length + omitted;
  if (total === 0) return "no changes";
  const failed = changes.filter(({ result }) => result === "failed").length;
  const blocked = changes.filter(({ result }) => result === "blocked").length;
  const held = changes.filter(({ result }) => result === "held" || result === "waiting").length;
  return [plural(total, "change"), failed > 0 ? `${failed}\u00a0failed` : "", blocked > 0 ? `${blocked}\u00a0blocked` : "", held > 0 ? `${held}\u00a0held` : ""].filter((part) => part !== "").join(", ");
}
