import { html, raw } from "hono/html";
import { assets } from "./assets.ts";
import { exact, type Html, plain } from "./format.ts";

/**
 * The frame that all pages share. Without JavaScript each page is whole; with it, `live.js` keeps `<main>` current.
 */
export interface Frame {
  /** What stands in the browser's tab before the cluster's name. */
  readonly title: string;
  /** Null where it is not known or not to be told: on the login page, and when the database cannot be read. */
  readonly cluster: string | null;
  readonly hubVersion: string | null;
  readonly active: "cluster" | "rollout" | "commits" | null;
  /** Turns the tab's icon into the one that heels. */
  readonly alert: boolean;
  /** Whether the script follows the hub's events and keeps the page current. */
  readonly live: boolean;
  /** Something on it moves that no event tells of: the script fetches the page again every ten seconds. */
  readonly moves?: boolean;
  /** Where the same stands as JSON; the cluster, unless given. */
  readonly json?: string;
  readonly nowMs: number;
  readonly body: Html;
}

export function layout(frame: Frame): Html {
  const name = frame.cluster === null ? "Evenkeel" : plain(frame.cluster);
  const icon = frame.alert ? assets.iconAlert.path : assets.icon.path;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${plain(frame.title)} · ${name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta name="referrer" content="same-origin">
<link rel="icon" type="image/svg+xml" href="${icon}">
<link rel="stylesheet" href="${assets.style.path}">
${frame.live ? html`<script type="module" src="${assets.live.path}"></script>` : ""}
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
  <div class="bar">
    <a class="brand" href="/">${boat("brand-boat")}<span>Evenkeel</span></a>
    ${frame.cluster === null ? "" : navigation(name, frame.active)}
    ${frame.live ? liveState(frame.nowMs) : ""}
  </div>
</header>
<main id="main" tabindex="-1"${frame.live ? html` data-now="${frame.nowMs}"${frame.moves === true ? html` data-moves` : ""}` : ""}>
${frame.body}
</main>
<footer class="foot">
  <p>Evenkeel${frame.hubVersion === null ? "" : ` ${plain(frame.hubVersion)}`}${frame.cluster === null ? "" : html` · the same as <a href="${frame.json ?? "/api/v1/cluster"}">JSON</a>`}</p>
  ${frame.live ? html`<form method="post" action="/logout"><button>Log out</button></form>` : ""}
</footer>
</body>
</html>
`;
}

function navigation(cluster: string, active: Frame["active"]): Html {
  const link = (href: string, page: Frame["active"], words: string): Html =>
    html`<li><a href="${href}"${active === page ? raw(' aria-current="page"') : ""}>${words}</a></li>`;
  return html`<nav aria-label="Pages"><ul>
      ${link("/", "cluster", cluster)}
      ${link("/rollout", "rollout", "Rollout")}
      ${link("/commits", "commits", "Commits")}
    </ul></nav>`;
}

/** Without the script it says of when the page is, which is the truth; with it, whether changes are being followed. */
function liveState(nowMs: number): Html {
  const iso = new Date(nowMs).toISOString();
  return html`<p id="live" class="live"><span class="dot" aria-hidden="true"></span><span role="status">as of <time datetime="${iso}" title="${exact(iso)}">${iso.slice(11, 19)} UTC</time></span></p>`;
}

/** The mark: a hull on a level waterline, with a keel below it. Where something is wrong, the style sheet lets it heel. */
export function boat(className: string): Html {
  return raw(`<svg class="boat ${className}" viewBox="0 0 32 32" aria-hidden="true" focusable="false"><g class="vessel"><path class="sail" d="M16.6 3.5v11.4h8.2z"/><path class="jib" d="M15.2 6.4v8.5H8.9z"/><path class="hull" d="M4.5 16.6h23l-3 5H7.5z"/><path class="keel" d="M9 23h14c-1.1 1.1-2.5 1.7-4.1 1.7h-1.1l-.8 3.8h-2l-.8-3.8h-1.1c-1.6 0-3-.6-4.1-1.7z"/></g><path class="water" d="M1 22.3h30"/></svg>`);
}
