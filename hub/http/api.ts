import { OpenAPIHono, createRoute, z } from "@hono/zod-openapi";
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { NodeName } from "../../shared/ids.ts";
import { ClusterSummary, CommitSummary, EnrolAnswer, EnrolRequest, NodeAddAnswer, NodeDetail, NodeSummary, RenewAnswer, StoredConverge } from "../../shared/protocol/api.ts";
import { PlanReport } from "../../shared/protocol/report.ts";
import type { Enrolment } from "../fleet/enrolment.ts";
import type { Orders, PlanAnswer } from "../fleet/orders.ts";
import { convergesShown, type FleetView } from "../fleet/view.ts";
import type { Clock } from "../../shared/clock.ts";
import type { Coordination } from "../coordination.ts";
import type { AccessStore } from "../store/access.ts";
import { answers, bearer, fail, personOr, type ErrorStatus } from "./api-answers.ts";
import type { Gate } from "./caller.ts";
import { coordinationRoutes } from "./coordination-routes.ts";
import type { HubEnv } from "./environment.ts";
import { previewRoutes, type PreviewDesk } from "./preview-routes.ts";
import { tokenRoutes } from "./token-routes.ts";

/** The API under `/api/v1`, for the page, the command line and whoever has a token; `/openapi.json` describes it. */

const bodyMaxBytes = 64 * 1024;

export interface ApiParts {
  readonly view: FleetView;
  readonly orders: Orders;
  readonly enrolment: Enrolment;
  readonly gate: Gate;
  readonly access: AccessStore;
  readonly coordination: Coordination;
  readonly previews: PreviewDesk;
  readonly clock: Clock;
  readonly version: string;
}

const nameParam = z.object({ name: NodeName });
const routes = {
  cluster: createRoute({ method: "get", path: "/cluster", summary: "The cluster at a glance", security: bearer, responses: answers(ClusterSummary, "The cluster") }),
  nodes: createRoute({ method: "get", path: "/nodes", summary: "All nodes", security: bearer, responses: answers(z.array(NodeSummary), "Nodes by name") }),
  node: createRoute({ method: "get", path: "/nodes/{name}", summary: "One node with its history", security: bearer, request: { params: nameParam }, responses: answers(NodeDetail, "The node") }),
  converges: createRoute({
    method: "get",
    path: "/nodes/{name}/converges",
    summary: "A node's reports, newest first, at most 50 at once",
    security: bearer,
    request: { params: nameParam, query: z.object({ before: z.coerce.number().int().positive().optional() }) },
    responses: answers(z.array(StoredConverge), "Reports older than `before`"),
  }),
  commits: createRoute({ method: "get", path: "/commits", summary: "Pushed commits and where they have arrived, newest first", security: bearer, responses: answers(z.array(CommitSummary), "At most 100 commits") }),
  addNode: createRoute({
    method: "post",
    path: "/nodes",
    summary: "Make a one-time enrolment token for a node",
    security: bearer,
    request: { body: { required: true, content: { "application/json": { schema: z.object({ name: NodeName }) } } } },
    responses: answers(NodeAddAnswer, "The token, and the command to run on the new machine"),
  }),
  revokeNode: createRoute({ method: "delete", path: "/nodes/{name}", summary: "Revoke a node: it is cut off at once", security: bearer, request: { params: nameParam }, responses: answers(z.object({ node: NodeName }), "Revoked") }),
  plan: createRoute({
    method: "post",
    path: "/nodes/{name}/plan",
    summary: "Ask a node what it would do, for the main branch or a preview",
    security: bearer,
    request: { params: nameParam, body: { content: { "application/json": { schema: z.object({ branch: z.string().min(1).max(255).nullable().optional() }) } } } },
    responses: answers(PlanReport, "What it would do"),
  }),
  loginLink: createRoute({ method: "post", path: "/login-links", summary: "Make a link that logs a browser in, once", security: bearer, responses: answers(z.object({ url: z.string() }), "The link, good for a day") }),
  enrol: createRoute({
    method: "post",
    path: "/enrol",
    summary: "A new machine becomes a node; the token is in the body",
    request: { body: { required: true, content: { "application/json": { schema: EnrolRequest } } } },
    responses: answers(EnrolAnswer, "Its certificate, and where everything is"),
  }),
  renew: createRoute({ method: "post", path: "/renew", summary: "A node's certificate for another period; asked for over TLS with the present one", responses: answers(RenewAnswer, "The new certificate, for the same key") }),
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
  tokenRoutes(app, parts);
  coordinationRoutes(app, parts.coordination);
  previewRoutes(app, parts.previews);
  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  app.openAPIRegistry.registerComponent("securitySchemes", "session", { type: "apiKey", in: "cookie", name: "evenkeel" });
  app.doc31("/openapi.json", { openapi: "3.1.0", info: { title: "Evenkeel hub", version: parts.version }, servers: [{ url: "/api/v1" }] });
  return app;
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
