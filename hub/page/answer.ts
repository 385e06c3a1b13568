import type { Context } from "hono";
import type { Caller } from "../http/caller.ts";
import type { HubEnv } from "../http/environment.ts";
import type { Html } from "./format.ts";
import { type Frame, layout } from "./layout.ts";

/**
 * What the pages need, and not more: own style, script, pictures and requests, no inline code or style, no frame around
 * them. Every page sends it; whoever answers with a login or an error page should send it as well.
 */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "cache-control": "no-store",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
};

export type PageContext = Context<HubEnv>;

/** The name of the admin who asks; null for everybody else, who may only look. */
export function adminOf(c: PageContext): string | null {
  const caller: Caller | undefined = c.get("caller");
  return caller?.kind === "person" && caller.role === "admin" ? caller.name : null;
}

export function answer(c: PageContext, frame: Frame): Response | Promise<Response> {
  return send(c, layout(frame), 200);
}

export function send(c: PageContext, page: Html, status: 200 | 400 | 403 | 404 | 409 | 413 | 500): Response | Promise<Response> {
  for (const [name, value] of Object.entries(PAGE_HEADERS)) c.header(name, value);
  return c.html(page, status);
}
