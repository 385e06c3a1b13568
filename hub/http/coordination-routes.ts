import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { LeaseId, NodeName } from "../../shared/ids.ts";
import { ApiError } from "../../shared/protocol/api.ts";
import { CoordinationSummary, Denied, Done, HoldView, HoldWord, LeaseTake, NodeWord, ReasonWord, RolloutStart, RolloutView, RolloutWord, WhyAnswer } from "../../shared/protocol/rollout.ts";
import type { Coordination, Word } from "../coordination.ts";
import { answers, bearer, fail, personOr } from "./api-answers.ts";
import type { HubEnv } from "./environment.ts";

/** Slots, rollouts, holds, and why a node waits. What the coordinator will not do is answered with 409 and its reasons. */

const id = z.object({ id: z.string().min(1).max(64) });
const lease = z.object({ id: LeaseId });
const node = z.object({ name: NodeName });
/** A node's name, or `*` for the cluster. */
const held = z.object({ what: z.union([z.literal("*"), NodeName]) });

function body<Schema extends z.ZodType>(schema: Schema) {
  return { required: true, content: { "application/json": { schema } } };
}

const done = {
  ...answers(Done, "Done, or taken on: `lease` and `rollout` say by what to know it"),
  409: { description: "Not done, and all that stands in the way", content: { "application/json": { schema: z.union([Denied, ApiError]) } } },
};

const read = {
  summary: createRoute({ method: "get", path: "/coordination", summary: "Groups, slots, holds, checks and the rollout, at a glance", security: bearer, responses: answers(CoordinationSummary, "How things stand") }),
  rollouts: createRoute({ method: "get", path: "/rollouts", summary: "Rollouts, newest first, at most 50", security: bearer, responses: answers(z.array(RolloutView), "Rollouts") }),
  rollout: createRoute({ method: "get", path: "/rollouts/{id}", summary: "One rollout, node by node", security: bearer, request: { params: id }, responses: answers(RolloutView, "The rollout") }),
  why: createRoute({ method: "get", path: "/nodes/{name}/why", summary: "Why a node is not being rebooted now", security: bearer, request: { params: node }, responses: answers(WhyAnswer, "What stands in the way, since when, and what would change it") }),
  holds: createRoute({ method: "get", path: "/holds", summary: "What is held back, by whom and why", security: bearer, responses: answers(z.array(HoldView), "Holds") }),
};

const change = {
  start: createRoute({ method: "post", path: "/rollouts", summary: "Start a rollout", security: bearer, request: { body: body(RolloutStart) }, responses: done }),
  steer: createRoute({
    method: "post",
    path: "/rollouts/{id}/{what}",
    summary: "Halt, resume or cancel a rollout; the node that is at it comes back first",
    security: bearer,
    request: { params: id.extend({ what: z.enum(["halt", "resume", "cancel"]) }), body: body(RolloutWord) },
    responses: done,
  }),
  release: createRoute({
    method: "post",
    path: "/commits/{id}/release",
    summary: "Let all nodes take the newest commit, whatever the canary does with it",
    security: bearer,
    request: { params: z.object({ id: z.string().regex(/^[0-9a-f]{4,64}$/) }), body: body(ReasonWord) },
    responses: done,
  }),
  ask: createRoute({
    method: "post",
    path: "/nodes/{name}/{what}",
    summary: "Drain a node until it is resumed, or reboot it; it gets its turn like everybody",
    security: bearer,
    request: { params: node.extend({ what: z.enum(["drain", "reboot"]) }), body: body(NodeWord) },
    responses: done,
  }),
  resume: createRoute({ method: "post", path: "/nodes/{name}/resume", summary: "Bring a drained node back", security: bearer, request: { params: node }, responses: done }),
  hold: createRoute({ method: "post", path: "/holds", summary: "Let nothing go down: a node, or the cluster", security: bearer, request: { body: body(HoldWord) }, responses: done }),
  unhold: createRoute({ method: "delete", path: "/holds/{what}", summary: "Lift a hold", security: bearer, request: { params: held }, responses: done }),
  take: createRoute({ method: "post", path: "/leases", summary: "Take a slot for a script, now or not at all; asking again with the same id is safe", security: bearer, request: { body: body(LeaseTake) }, responses: done }),
  giveBack: createRoute({ method: "delete", path: "/leases/{id}", summary: "Give a script's slot back; doing it again is safe", security: bearer, request: { params: lease }, responses: done }),
  word: createRoute({
    method: "post",
    path: "/leases/{id}/{what}",
    summary: "Abort: call a request or a drain off. Clear: free a slot by a person's word",
    security: bearer,
    request: { params: lease.extend({ what: z.enum(["abort", "clear"]) }), body: body(ReasonWord) },
    responses: done,
  }),
  settle: createRoute({ method: "post", path: "/groups/{name}/settle", summary: "Earlier members of a group count no more", security: bearer, request: { params: z.object({ name: z.string().min(1).max(64) }), body: body(ReasonWord) }, responses: done }),
};

export function coordinationRoutes(app: OpenAPIHono<HubEnv>, coordination: Coordination): void {
  readRoutes(app, coordination);
  rolloutRoutes(app, coordination);
  commitRoutes(app, coordination);
  nodeRoutes(app, coordination);
  leaseRoutes(app, coordination);
}

function readRoutes(app: OpenAPIHono<HubEnv>, coordination: Coordination): void {
  app.openapi(read.summary, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json(await coordination.summary(), 200);
  });
  app.openapi(read.rollouts, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json(await coordination.rollouts(), 200);
  });
  app.openapi(read.rollout, async (c) => {
    const { no } = personOr(c, "read");
    if (no !== null) return no;
    const rollout = await coordination.rollout(c.req.valid("param").id);
    return rollout === null ? fail(c, 404, "rollout-unknown", `there is no rollout ${c.req.valid("param").id}: \`evenkeel rollout list\` shows them`) : c.json(rollout, 200);
  });
  app.openapi(read.why, async (c) => {
    const { no } = personOr(c, "read");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    const why = await coordination.why(name);
    return why === null ? fail(c, 404, "node-unknown", `${name} is not a node of the repository: \`evenkeel node list\` shows them`) : c.json(why, 200);
  });
  app.openapi(read.holds, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json((await coordination.summary()).holds, 200);
  });
}

function rolloutRoutes(app: OpenAPIHono<HubEnv>, coordination: Coordination): void {
  app.openapi(change.start, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.startRollout(c.req.valid("json"), person.name));
  });
  app.openapi(change.steer, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const { id, what } = c.req.valid("param");
    return answerWord(c, await coordination.steerRollout(id, what, c.req.valid("json"), person.name));
  });
}

function commitRoutes(app: OpenAPIHono<HubEnv>, coordination: Coordination): void {
  app.openapi(change.release, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.releaseCommit(c.req.valid("param").id, c.req.valid("json"), person.name));
  });
}

function nodeRoutes(app: OpenAPIHono<HubEnv>, coordination: Coordination): void {
  app.openapi(change.resume, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.resume(c.req.valid("param").name, person.name));
  });
  app.openapi(change.ask, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const { name, what } = c.req.valid("param");
    return answerWord(c, await coordination.ask(name, what, c.req.valid("json"), person.name));
  });
  app.openapi(change.hold, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.hold(c.req.valid("json"), person.name));
  });
  app.openapi(change.unhold, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.unhold(c.req.valid("param").what, person.name));
  });
}

function leaseRoutes(app: OpenAPIHono<HubEnv>, coordination: Coordination): void {
  app.openapi(change.take, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.take(c.req.valid("json"), person.name));
  });
  app.openapi(change.giveBack, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.giveBack(c.req.valid("param").id, person.name));
  });
  app.openapi(change.word, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const { id, what } = c.req.valid("param");
    return answerWord(c, await coordination[what](id, c.req.valid("json"), person.name));
  });
  app.openapi(change.settle, async (c) => {
    const { person, no } = personOr(c, "admin");
    return no ?? answerWord(c, await coordination.settle(c.req.valid("param").name, c.req.valid("json"), person.name));
  });
}

function answerWord(c: Context, word: Word) {
  if (word.ok) return c.json(word, 200);
  const first = word.denials[0];
  const error = { code: first?.code ?? "denied", message: first?.text ?? "the coordinator will not do that now" };
  return c.json({ error, denials: [...word.denials] } satisfies Denied, 409);
}
