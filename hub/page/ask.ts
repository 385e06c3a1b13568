import { html } from "hono/html";
import type { DenialView } from "../../shared/protocol/rollout.ts";
import { denialList } from "./denials.ts";
import { clip, type Html, plain, prose } from "./format.ts";

/** The page before an action: what will happen, what stands in the way now, and a form whose button does it. */

export const HOLD_HOURS = [1, 4, 12, 24, 72, 168] as const;

export type Field = "why" | "despiteChecks" | "failed" | "hours";

export interface Ask {
  readonly title: string;
  /** What will happen, in sentences. */
  readonly what: readonly string[];
  /** The button's word: what is done, never "OK". */
  readonly button: string;
  readonly grave: boolean;
  readonly fields: readonly Field[];
  /** Where to go afterwards, or instead. */
  readonly back: string;
  readonly hidden?: readonly (readonly [name: string, value: string])[];
  /** How things stand now, above the reasons that speak against it. */
  readonly now?: string;
  readonly against?: readonly DenialView[];
}

/** What came of a first try: what was filled in, and what was wrong with it or stands in the way. */
export interface Tried {
  readonly values: Readonly<Record<string, string>>;
  readonly error: string | null;
  readonly denials: readonly DenialView[];
}

export function askView(ask: Ask, tried: Tried | null, nowMs: number): Html {
  return html`<section class="ask${ask.grave ? " grave" : ""}">
  <h1>${plain(ask.title)}</h1>
  ${ask.what.map((sentence) => html`<p>${prose(sentence, 500)}</p>`)}
  ${tried === null || tried.denials.length === 0 ? "" : html`<div class="refusal" role="alert"><p><b>Not done.</b> The coordinator says why:</p>${denialList(tried.denials, nowMs)}</div>`}
  ${tried !== null || (ask.now === undefined && (ask.against ?? []).length === 0) ? "" : html`<div class="as-it-stands"><h2>As it stands</h2>${ask.now === undefined ? "" : html`<p>${prose(ask.now, 500)}</p>`}${denialList(ask.against ?? [], nowMs)}</div>`}
  <form method="post">
    ${(ask.hidden ?? []).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)}
    ${ask.fields.map((field) => FIELDS[field](tried))}
    <p class="offers"><button${ask.grave ? html` class="grave"` : ""}>${plain(ask.button)}</button> <a class="button plain" href="${ask.back}">Back</a></p>
  </form>
</section>`;
}

const FIELDS: Readonly<Record<Field, (tried: Tried | null) => Html>> = {
  why: (tried) => html`<label for="why">Why?</label>
    <input id="why" name="why" required maxlength="500" autofocus autocomplete="off" value="${clip(tried?.values["why"] ?? "", 500)}" aria-describedby="why-help${tried?.error == null ? "" : " why-error"}">
    ${tried?.error == null ? "" : html`<p id="why-error" class="form-error" role="alert">${prose(tried.error, 500)}</p>`}
    <p id="why-help" class="hint">It is kept with your name, and shown to whoever wonders.</p>`,
  despiteChecks: (tried) => html`<label class="choice"><input type="checkbox" name="despiteChecks" value="yes"${tried?.values["despiteChecks"] === "yes" ? html` checked` : ""}> Also while a service check fails, or a gate says no</label>`,
  failed: (tried) => html`<fieldset><legend>The node that failed</legend>
    <label class="choice"><input type="radio" name="failed" value="retry" required${tried?.values["failed"] === "retry" ? html` checked` : ""}> is tried again</label>
    <label class="choice"><input type="radio" name="failed" value="skip"${tried?.values["failed"] === "skip" ? html` checked` : ""}> is left out; the others go on</label></fieldset>`,
  hours: (tried) => html`<label for="hours">For how long?</label>
    <select id="hours" name="hours"><option value="">until somebody lifts it</option>${HOLD_HOURS.map((hours) => html`<option value="${hours}"${tried?.values["hours"] === String(hours) ? html` selected` : ""}>${hours < 24 ? `${hours} h` : `${hours / 24} d`}</option>`)}</select>`,
};

export interface StartChoices {
  readonly nodes: readonly string[];
}

/** The first step of starting a rollout: which one. It changes nothing; the second step says what will happen, and asks. */
export function startForm({ nodes }: StartChoices): Html {
  return html`<section class="ask">
  <h1>Start a rollout</h1>
  <p>One node after the other: drained, updated or rebooted, checked and watched, and never more at once than the others can stand.</p>
  <form method="get" action="/rollouts/start">
    <fieldset><legend>What for?</legend>
      <label class="choice"><input type="radio" name="kind" value="update" checked> OS updates, and a reboot where one is needed</label>
      <label class="choice"><input type="radio" name="kind" value="reboot"> a reboot, whether it is needed or not</label>
      <label class="choice"><input type="radio" name="kind" value="change"> what nodes hold back of their commit</label></fieldset>
    <fieldset><legend>Which updates?</legend>
      <label class="choice"><input type="radio" name="scope" value="" checked> what the policy in cluster.yaml says</label>
      <label class="choice"><input type="radio" name="scope" value="security"> only security updates</label>
      <label class="choice"><input type="radio" name="scope" value="all"> all updates</label></fieldset>
    <details id="some"><summary>Only some nodes</summary><fieldset class="some"><legend class="unseen">Only these nodes</legend>
      ${nodes.map((node) => html`<label class="choice"><input type="checkbox" name="node" value="${node}"> ${clip(node, 63)}</label>`)}</fieldset></details>
    <p class="offers"><button>Next</button> <a class="button plain" href="/rollout">Back</a></p>
  </form>
</section>`;
}
