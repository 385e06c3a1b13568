import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/**
 * The page's few static files. Their addresses carry a hash of the content, so that a browser may keep them for ever
 * and still has the new ones right after an update.
 */
export interface Asset {
  readonly path: string;
  readonly contentType: string;
  readonly body: string;
}

/** Everything under here is free to be read without a session: the login page needs it. */
export const ASSETS_PREFIX = "/assets/";

export const assets = {
  style: asset("style.css", "text/css; charset=utf-8", "rollout.css", "preview.css"),
  live: asset("live.js", "text/javascript; charset=utf-8"),
  icon: asset("icon.svg", "image/svg+xml"),
  iconAlert: asset("icon-alert.svg", "image/svg+xml"),
} as const;

/** The files lie beside this one; a bundle must have them beside itself. `rest` is appended. */
function asset(fileName: string, contentType: string, ...rest: readonly string[]): Asset {
  const text = [fileName, ...rest].map((name) => readFileSync(new URL(name, import.meta.url), "utf8")).join("");
  // Indentation and lines of comment are for those who read the source; none of these files has text in which a line's start would matter.
  const body = text.replace(/^\s+/gm, "").replace(/^\/\/.*\n/gm, "");
  const hash = createHash("sha256").update(body).digest("base64url").slice(0, 12);
  return { path: `${ASSETS_PREFIX}${fileName.replace(/(\.\w+)$/, `.${hash}$1`)}`, contentType, body };
}
