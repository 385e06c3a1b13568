import { html } from "hono/html";
import type { DenialView } from "../../shared/protocol/rollout.ts";
import { capped, clip, type Html, more, prose, timeFor } from "./format.ts";

const DENIALS_MAX = 6;
const TEXT_CHARS_MAX = 500;

/** What stands in the way, each with since when, and what would change it. */
export function denialList(denials: readonly DenialView[], nowMs: number, max = DENIALS_MAX): Html | string {
  if (denials.length === 0) return "";
  const { shown, hidden } = capped(denials, max);
  return html`<ul class="denials">
    ${shown.map((denial) => html`<li><b class="code">${clip(denial.code, 40)}</b>
      <p>${prose(denial.text, TEXT_CHARS_MAX)}${denial.since === null ? "" : html` <span class="quiet">${timeFor(denial.since, nowMs)}</span>`}</p>
      ${denial.cure === "" ? "" : html`<p class="cure">${prose(denial.cure, TEXT_CHARS_MAX)}</p>`}</li>`)}
  </ul>${more(hidden)}`;
}
