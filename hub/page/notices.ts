import { html } from "hono/html";
import { byName, capped, clip, type Html, more, nodeHref, plain } from "./format.ts";
import { boat, layout } from "./layout.ts";

export interface Login {
  /** Why the last try failed, for people. */
  readonly error?: string;
  /** The HTTP path to go to afterwards; sent along as the field `next`. The receiver checks that it is one of its own. */
  readonly next?: string;
}

/** The form that posts `token` (and `next`, if given) to `/login`. It says nothing about the cluster. */
export function loginPage({ error, next }: Login = {}): Html {
  const body = html`<section class="notice login">
  ${boat("notice-boat")}
  <h1>Welcome aboard</h1>
  <form method="post" action="/login">
    ${next === undefined ? "" : html`<input type="hidden" name="next" value="${next}">`}
    <label for="token">Access token</label>
    <input id="token" name="token" type="password" required autofocus autocomplete="current-password" spellcheck="false" autocapitalize="off" aria-describedby="token-help${error === undefined ? "" : " token-error"}">
    ${error === undefined ? "" : html`<p id="token-error" class="form-error" role="alert">${plain(error)}</p>`}
    <button>Log in</button>
    <p id="token-help" class="hint">The first one is in <code>admin.token</code> in the hub's data directory. <code>evenkeel login-link</code> prints a link that needs none.</p>
  </form>
</section>`;
  return layout({ title: "Log in", cluster: null, hubVersion: null, active: null, alert: false, live: false, nowMs: 0, body });
}

export interface Notice {
  readonly status: number;
  readonly title: string;
  /** What happened. */
  readonly message: string;
  /** What to do next. */
  readonly next?: Html;
  readonly cluster?: string | null;
}

/** A page that says what went wrong and what to do next; no inner detail is told. */
export function errorPage({ status, title, message, next, cluster = null }: Notice): Html {
  const body = html`<section class="notice">
  ${boat("notice-boat")}
  <p class="status-code">${status}</p>
  <h1>${plain(title)}</h1>
  <p>${plain(message)}</p>
  ${next ?? html`<p><a class="button" href="/">Back to the cluster</a></p>`}
</section>`;
  return layout({ title, cluster, hubVersion: null, active: null, alert: false, live: false, nowMs: 0, body });
}

export function notFoundPage(path: string, cluster: string | null = null): Html {
  return errorPage({
    status: 404,
    title: "Nothing at this address",
    message: `There is no page ${clip(path, 200)}. The link may be old, or mistyped.`,
    cluster,
  });
}

const NAMES_SHOWN_MAX = 24;

export function unknownNodePage(name: string, known: readonly string[], cluster: string): Html {
  const { shown, hidden } = capped([...known].sort(byName), NAMES_SHOWN_MAX);
  const next = known.length === 0
    ? html`<p>No node has been added yet: <code>evenkeel node add n1</code> makes the first one.</p>`
    : html`<p>These are known:</p>
  <ul class="names">${shown.map((other) => html`<li><a href="${nodeHref(other)}">${clip(other, 63)}</a></li>`)}</ul>${more(hidden, "/")}`;
  return errorPage({
    status: 404,
    title: `No node ${clip(name, 63)}`,
    message: "No node of that name is enrolled, and the repository does not name one either.",
    next,
    cluster,
  });
}

export function unknownConvergePage(cluster: string): Html {
  return errorPage({
    status: 404,
    title: "No such report",
    message: "There is no report of that number. Old ones are removed after a while, so it may have been here once.",
    cluster,
  });
}

export function unknownRolloutPage(cluster: string): Html {
  return errorPage({
    status: 404,
    title: "No such rollout",
    message: "There is no rollout of that name. Only the last ones are kept, so it may have been here once.",
    next: html`<p><a class="button" href="/rollouts">All rollouts</a></p>`,
    cluster,
  });
}

export function brokenPage(): Html {
  return errorPage({
    status: 500,
    title: "The hub could not make this page",
    message: "Something went wrong while it was reading its database. The nodes are not affected: they follow the repository without the hub.",
    next: html`<p>Try again in a moment. If it stays, the reason stands in the hub's log:</p>
  <pre class="command"><code>journalctl -u evenkeel-hub -n 50</code></pre>
  <p><a class="button" href="/">Back to the cluster</a></p>`,
  });
}
