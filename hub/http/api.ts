import { OpenAPIHono, createRoute, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { NodeName } from "../../shared/ids.ts";
import { ApiError, ClusterSummary, CommitSummary, EnrolAnswer, EnrolRequest, NodeAddAnswer, NodeDetail, NodeSummary, RenewAnswer, StoredConverge } from "../../shared/protocol/api.ts";
import { PlanReport } from "../../shared/protocol/report.ts";
import type { Enrolment } from "../fleet/enrolment.ts";
import type { Orders, PlanAnswer } from "../fleet/orders.ts";
import { convergesShown, type FleetView } from "../fleet/view.ts";
import type { Caller, Gate } from "./caller.ts";
import type { HubEnv } from "./environment.ts";

/** The API under `/api/v1`, for the page, the command line and whoever has a token; `/openapi.json` describes it. */

const bodyMaxBytes = 64 * 1024;

export interface ApiParts {
  readonly view: FleetView;
  readonly orders: Orders;
  readonly enrolment: Enrolment;
  readonly gate: Gate;
  readonly version: string;
}

type ErrorStatus = 400 | 401 | 403 | 404 | 409 | 429 | 503 | 504;

const nameParam = z.object({ name: NodeName });
const bearer = [{ token: [] }, { session: [] }];

function json<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { "application/json": { schema } } };
}
const refused = json(ApiError, "Not done; `message` says why, and what to do next");
const errors = { 400: refused, 401: refused, 403: refused, 404: refused, 409: refused, 429: refused, 503: refused, 504: refused };

const routes = {
  cluster: createRoute({ method: "get", path: "/cluster", summary: "The cluster at a glance", security: bearer, responses: { 200: json(ClusterSummary, "The cluster"), ...errors } }),
  nodes: createRoute({ method: "get", path: "/nodes", summary: "All nodes", security: bearer, responses: { 200: json(z.array(NodeSummary), "Nodes by name"), ...errors } }),
  node: createRoute({ method: "get", path: "/nodes/{name}", summary: "One node with its history", security: bearer, request: { params: nameParam }, responses: { 200: json(NodeDetail, "The node"), ...errors } }),
  converges: createRoute({
    method: "get",
    path: "/nodes/{name}/converges",
    summary: "A node's reports, newest first, at most 50 at once",
    security: bearer,
    request: { params: nameParam, query: z.object({ before: z.coerce.number().int().positive().optional() }) },
    responses: { 200: json(z.array(StoredConverge), "Reports older than `before`"), ...errors },
  }),
  commits: createRoute({ method: "get", path: "/commits", summary: "Pushed commits and where they have arrived, newest first", security: bearer, responses: { 200: json(z.array(CommitSummary), "At most 100 commits"), ...errors } }),
  addNode: createRoute({
    method: "post",
    path: "/nodes",
    summary: "Make a one-time enrolment token for a node",
    security: bearer,
    request: { body: { required: true, content: { "application/json": { schema: z.object({ name: NodeName }) } } } },
    responses: { 200: json(NodeAddAnswer, "The token, and the command to run on the new machine"), ...errors },
  }),
  revokeNode: createRoute({ method: "delete", path: "/nodes/{name}", summary: "Revoke a node: it is cut off at once", security: bearer, request: { params: nameParam }, responses: { 200: json(z.object({ node: NodeName }), "Revoked"), ...errors } }),
  plan: createRoute({
    method: "post",
    path: "/nodes/{name}/plan",
    summary: "Ask a node what it would do, for the main branch or a preview",
    security: bearer,
    request: { params: nameParam, body: { content: { "application/json": { schema: z.object({ branch: z.string().min(1).max(255).nullable().optional() }) } } } },
    responses: { 200: json(PlanReport, "What it would do"), ...errors },
  }),
  loginLink: createRoute({ method: "post", path: "/login-links", summary: "Make a link that logs a browser in, once", security: bearer, responses: { 200: json(z.object({ url: z.string() }), "The link, good for a day"), ...errors } }),
  enrol: createRoute({
    method: "post",
    path: "/enrol",
    summary: "A new machine becomes a node; the token is in the body",
    request: { body: { required: true, content: { "application/json": { schema: EnrolRequest } } } },
    responses: { 200: json(EnrolAnswer, "Its certificate, and where everything is"), ...errors },
  }),
  renew: createRoute({ method: "post", path: "/renew", summary: "A node's certificate for another period; asked for over TLS with the present one", responses: { 200: json(RenewAnswer, "The new certificate, for the same key"), ...errors } }),
};

export function apiRoutes(parts: ApiParts): OpenAPIHono<HubEnv> {
  const app = new OpenAPIHono<HubEnv>({
    defaultHook: (result, c) => {
      if (result.success) return undefined;
      const lines = result.error.issues.map((issue) => `${issue.path.join(".") || "(top)"}: ${issue.message}`);
      return fail(c, 400, "invalid", `the request is not valid: ${lines.join("; ").slice(0, 2_000)}`);
    },
  });
  app.use(bodyLimit({ maxSize: bodyMaxBytes, onError: (c) => fail(c as Context<HubEnv>, 400, "too-large", `a request may have at most ${bodyMaxBytes} bytes`) }));
  readRoutes(app, parts);
  changeRoutes(app, parts);
  nodeRoutes(app, parts);
  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  app.openAPIRegistry.registerComponent("securitySchemes", "session", { type: "apiKey", in: "cookie", name: "evenkeel" });
  app.doc31("/openapi.json", { openapi: "3.1.0", info: { title: "Evenkeel hub", version: parts.version }, servers: [{ url: "/api/v1" }] });
  return app;
}

/** An error as every part of the API gives it. */
export function fail(c: Context, status: ErrorStatus | 500, code: string, message: string) {
  return c.json({ error: { code, message } } satisfies ApiError, status as ErrorStatus);
}

type Person = Extract<Caller, { kind: "person" }>;

/** The person behind the request, or the answer to whoever is not one or may not do that. */
function personOr(c: Context<HubEnv>, role: "admin" | "read"): { readonly person: Person; readonly no: null } | { readonly person: null; readonly no: ReturnType<typeof fail> } {
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

function readRoutes(app: OpenAPIHono<HubEnv>, { view }: ApiParts): void {
  app.openapi(routes.cluster, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json(await view.cluster(), 200);
  });
  app.openapi(routes.nodes, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json((await view.cluster()).nodes, 200);
  });
  app.openapi(routes.node, async (c) => {
    const { no } = personOr(c, "read");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    const node = await view.node(name);
    return node === null ? unknownNode(c, name) : c.json(node, 200);
  });
  app.openapi(routes.converges, async (c) => {
    const { no } = personOr(c, "read");
    if (no !== null) return no;
    return c.json(await view.converges(c.req.valid("param").name, convergesShown, c.req.valid("query").before), 200);
  });
  app.openapi(routes.commits, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json(await view.commits(), 200);
  });
}

function changeRoutes(app: OpenAPIHono<HubEnv>, { view, enrolment, orders, gate }: ApiParts): void {
  app.openapi(routes.addNode, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const added = await enrolment.add(c.req.valid("json").name, person.name);
    return added.ok ? c.json(added.answer, 200) : fail(c, added.status, added.code, added.message);
  });
  app.openapi(routes.revokeNode, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    const revoked = await enrolment.revoke(name, person.name);
    return revoked.ok ? c.json({ node: name }, 200) : fail(c, revoked.status, revoked.code, revoked.message);
  });
  app.openapi(routes.plan, async (c) => {
    const { no } = personOr(c, "admin");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    if ((await view.node(name)) === null) return unknownNode(c, name);
    const body = c.req.valid("json") as { branch?: string | null };
    const answer = await orders.plan(name, body.branch ?? null);
    return answer.ok ? c.json(answer.report, 200) : fail(c, planStatus(answer), answer.code, answer.message);
  });
  app.openapi(routes.loginLink, (c) => {
    const { person, no } = personOr(c, "read");
    if (no !== null) return no;
    // At the address that the caller came by: that one works from where he is.
    const url = new URL("/login", c.req.url);
    url.searchParams.set("key", gate.makeLink({ name: person.name, role: person.role }));
    return c.json({ url: url.href }, 200);
  });
}

function nodeRoutes(app: OpenAPIHono<HubEnv>, { enrolment, gate }: ApiParts): void {
  app.openapi(routes.enrol, async (c) => {
    const enrolled = await enrolment.enrol(c.req.valid("json"));
    if (enrolled.ok) return c.json(enrolled.answer, 200);
    if (enrolled.code.startsWith("token-")) {
      const { retryAfterS } = await gate.failure(c.env.incoming);
      if (retryAfterS > 0) return fail(c, 429, "too-many-failures", `${enrolled.message}. Too many wrong tokens came from this address: wait ${retryAfterS} s`);
    }
    return fail(c, enrolled.status, enrolled.code, enrolled.message);
  });
  app.openapi(routes.renew, async (c) => {
    const caller = c.get("caller");
    if (caller.kind === "refused") return fail(c, caller.status, caller.code, caller.message);
    if (caller.kind !== "node") return fail(c, 401, "certificate-missing", "this needs a TLS connection with the node's present certificate");
    return c.json(await enrolment.renew(caller.node, caller.publicKeyPem), 200);
  });
}

function unknownNode(c: Context, name: string) {
  return fail(c, 404, "node-unknown", `there is no node ${name}: \`evenkeel node list\` shows them`);
}

function planStatus(answer: Extract<PlanAnswer, { ok: false }>): ErrorStatus {
  return { offline: 409, busy: 503, timeout: 504, failed: 409 }[answer.code] as ErrorStatus;
}
