import type { Context } from "hono";
import * as z from "zod";
import { ApiError } from "../../shared/protocol/api.ts";
import type { Caller } from "./caller.ts";
import type { HubEnv } from "./environment.ts";

/** What the routes of the API have in common: who may ask, and how they answer. */

export type ErrorStatus = 400 | 401 | 403 | 404 | 409 | 429 | 503 | 504;

/** How a route says that it wants a token or a session. */
export const bearer = [{ token: [] }, { session: [] }];

function json<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { "application/json": { schema } } };
}
const refused = json(ApiError, "Not done; `message` says why, and what to do next");

/** A route's answers: its own with 200, and the errors that each may give. */
export function answers<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { 200: json(schema, description), 400: refused, 401: refused, 403: refused, 404: refused, 409: refused, 429: refused, 503: refused, 504: refused };
}

/** An error as every part of the API gives it. */
export function fail(c: Context, status: ErrorStatus | 500, code: string, message: string) {
  return c.json({ error: { code, message } } satisfies ApiError, status as ErrorStatus);
}

type Person = Extract<Caller, { kind: "person" }>;

/** The person behind the request, or the answer to whoever is not one or may not do that. */
export function personOr(c: Context<HubEnv>, role: "admin" | "read"): { readonly person: Person; readonly no: null } | { readonly person: null; readonly no: ReturnType<typeof fail> } {
  const caller = c.get("caller");
  if (caller.kind === "refused") {
    if (caller.retryAfterS > 0) c.header("retry-after", String(caller.retryAfterS));
    return { person: null, no: fail(c, caller.status, caller.code, caller.message) };
  }
  if (caller.kind !== "person") {
    c.header("www-authenticate", 'Bearer realm="evenkeel"');
    return { person: null, no: fail(c, 401, "token-missing", "this needs a token (Authorization: Bearer …) or a login on the page; the first token is in admin.token in the hub's data directory") };
  }
  if (role === "admin" && caller.role !== "admin") return { person: null, no: fail(c, 403, "role", `the token ${caller.name} may only read: use one with the role admin`) };
  if (caller.via === "session" && c.req.method !== "GET" && !isSameOrigin(c)) return { person: null, no: fail(c, 403, "cross-site", "a request with a session must come from the hub's own pages") };
  return { person: caller, no: null };
}

/** Whether a browser says that its request comes from our own pages (Fetch Metadata; older browsers send Origin). */
export function isSameOrigin(c: Context): boolean {
  const site = c.req.header("sec-fetch-site");
  if (site !== undefined) return site === "same-origin";
  const origin = c.req.header("origin");
  if (origin === undefined) return false;
  try {
    return new URL(origin).host === c.req.header("host");
  } catch {
    return false;
  }
}
