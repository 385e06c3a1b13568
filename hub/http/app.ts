import { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import type { Logger } from "pino";
import type { Changes } from "../fleet/changes.ts";
import { loginPage, errorPage } from "../page/notices.ts";
import { PAGE_HEADERS, assetRoutes, pageRoutes } from "../page/routes.ts";
import { apiRoutes, type ApiParts } from "./api.ts";
import { fail, isSameOrigin } from "./api-answers.ts";
import type { HubEnv } from "./environment.ts";
import { streamChanges } from "./events.ts";
import { fleetLockRoutes } from "./fleetlock.ts";

/** The one web application, served over TLS and on the page's own port: API, login, page. */

export interface AppParts extends ApiParts {
  readonly changes: Changes;
  readonly caPem: string;
  /** Aborted when the hub stops, so that open streams end. */
  readonly stopped: AbortSignal;
  readonly log: Logger;
}

const loginBodyMaxBytes = 4_096;

export function hubApp(parts: AppParts): Hono<HubEnv> {
  const { gate, log } = parts;
  const app = new Hono<HubEnv>();
  app.use(secureHeaders({ strictTransportSecurity: false, crossOriginResourcePolicy: "same-origin", xFrameOptions: "DENY", referrerPolicy: "same-origin" }));
  app.onError((error, c) => {
    log.error({ err: error, method: c.req.method, path: c.req.path }, "answering a request failed");
    if (isDiskFull(error)) return fail(c, 503, "disk-full", "the hub's disk is full, so nothing can be stored: make room where its data directory is; it goes on by itself");
    return fail(c, 500, "internal", "the hub failed to answer; its log says why");
  });
  app.get("/healthz", async (c) => {
    // Touches the database, so that a hub which cannot read it does not pass for a healthy one.
    await parts.view.probe();
    return c.text("ok\n");
  });
  app.get("/ca.pem", (c) => c.body(parts.caPem, 200, { "content-type": "application/x-pem-file" }));
  app.route("/", assetRoutes() as unknown as Hono<HubEnv>);
  loginRoutes(app, parts);
  app.route("/", fleetLockRoutes(parts));

  app.use(async (c, next) => {
    c.set("caller", await gate.callerOf(c.env.incoming));
    await next();
  });
  app.get("/api/v1/events", (c) => {
    const caller = c.get("caller");
    if (caller.kind !== "person") return fail(c, 401, "token-missing", "this needs a token or a login on the page");
    if (parts.changes.full) return fail(c, 503, "too-many-watchers", "too many pages watch this hub already: close some");
    return streamChanges(c, parts.changes, parts.clock, parts.stopped);
  });
  app.route("/api/v1", apiRoutes(parts));
  app.all("/api/*", (c) => fail(c, 404, "not-found", `there is no ${c.req.method} ${c.req.path.slice(0, 200)}: /api/v1/openapi.json lists what there is`));

  app.use(async (c, next) => {
    const caller = c.get("caller");
    if (caller.kind === "person") return next();
    if (caller.kind === "refused") return page(c, errorPage({ status: caller.status, title: "No entry", message: caller.message }), caller.status);
    const { pathname, search } = new URL(c.req.url);
    return c.redirect(`/login${pathname === "/" ? "" : `?next=${encodeURIComponent(pathname + search)}`}`, 302);
  });
  app.route("/", pageRoutes(parts.view, parts.clock, (error, path) => log.error({ err: error, path }, "making a page failed"), parts.coordination, parts.previews));
  return app;
}

/** libSQL's code, here or in what a query was wrapped in. */
function isDiskFull(error: unknown): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if ((at as { code?: unknown }).code === "SQLITE_FULL") return true;
  return false;
}

function loginRoutes(app: Hono<HubEnv>, { gate }: AppParts): void {
  app.get("/login", async (c) => {
    const key = c.req.query("key");
    if (key === undefined) return page(c, loginPage({ ...nextOf(c.req.query("next")) }), 200);
    const login = await gate.loginByLink(key, c.env.incoming);
    if (!login.ok) return page(c, loginPage({ error: login.message }), login.status);
    c.header("set-cookie", login.cookie);
    c.header("cache-control", "no-store");
    return c.redirect("/", 303);
  });
  app.post("/login", async (c) => {
    // A page elsewhere must not log somebody in as somebody else. Without either header it is not a browser.
    const fromBrowser = c.req.header("origin") !== undefined || c.req.header("sec-fetch-site") !== undefined;
    if (fromBrowser && !isSameOrigin(c)) return page(c, loginPage({ error: "That form did not come from this page. Try again here." }), 403);
    const body = await formOf(c.env.incoming.headers["content-length"], () => c.req.parseBody());
    const token = textOf(body["token"]).trim();
    const next = nextOf(textOf(body["next"]));
    const login = await gate.login(token, c.env.incoming);
    if (!login.ok) {
      if (login.retryAfterS > 0) c.header("retry-after", String(login.retryAfterS));
      return page(c, loginPage({ error: login.message, ...next }), login.status);
    }
    c.header("set-cookie", login.cookie);
    return c.redirect(next.next ?? "/", 303);
  });
  app.post("/logout", async (c) => {
    if (!isSameOrigin(c)) return fail(c, 403, "cross-site", "a request with a session must come from the hub's own pages");
    c.header("set-cookie", await gate.logout(c.env.incoming));
    return c.redirect("/login", 303);
  });
}

async function formOf(contentLength: string | undefined, parse: () => Promise<Record<string, unknown>>): Promise<Record<string, unknown>> {
  const sizeBytes = Number(contentLength ?? Number.NaN);
  return sizeBytes <= loginBodyMaxBytes ? parse() : {};
}

function textOf(field: unknown): string {
  return typeof field === "string" ? field : "";
}

/** Only a path of our own: `//host` and `/\host` are other hosts to a browser. */
function nextOf(next: string | undefined): { readonly next?: string } {
  return next !== undefined && /^\/(?![/\\])[\x21-\x7e]{0,500}$/.test(next) && !next.startsWith("/login") ? { next } : {};
}

function page(c: Parameters<typeof fail>[0], body: ReturnType<typeof loginPage>, status: 200 | 401 | 403 | 429): Response | Promise<Response> {
  for (const [name, value] of Object.entries(PAGE_HEADERS)) c.header(name, value);
  return c.html(body, status);
}
