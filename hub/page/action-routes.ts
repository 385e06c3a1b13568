import { type Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type * as z from "zod";
import { type Clock, isoTime } from "../../shared/clock.ts";
import { LeaseId, NodeName } from "../../shared/ids.ts";
import { HoldWord, NodeWord, ReasonWord, RolloutStart, RolloutWord } from "../../shared/protocol/rollout.ts";
import type { Coordination, Word } from "../coordination.ts";
import { isSameOrigin } from "../http/api-answers.ts";
import type { HubEnv } from "../http/environment.ts";
import type { PageData } from "../page-data.ts";
import { adminOf, type PageContext, send } from "./answer.ts";
import { type Ask, askView, HOLD_HOURS, startForm, type Tried } from "./ask.ts";
import { holdAsk, leaseAsk, nodeAsk, settleAsk, startAsk, steerAsk, unholdAsk } from "./asks.ts";
import { byName, type Html } from "./format.ts";
import { layout } from "./layout.ts";
import { errorPage, notFoundPage } from "./notices.ts";

/**
 * What an admin may do from the page. Each action is two steps without any script: a page that says what will happen and
 * asks why, and its form, which does it and leads back. Whatever speaks against it comes back on the same page.
 */

/** A form of ours has a sentence, and at most some thousand names of nodes. */
const FORM_BYTES_MAX = 128 * 1_024;

/** The fields of a form as they came: nothing in it is trusted before its schema has seen it. */
type Values = Readonly<Record<string, string>>;
type Deed = (values: Values, by: string) => Promise<Word> | Invalid;
interface Invalid {
  readonly invalid: string;
}
interface Found {
  readonly ask: Ask;
  readonly act: Deed;
}

interface Parts {
  readonly data: PageData;
  readonly coordination: Coordination;
  readonly clock: Pick<Clock, "nowMs">;
}

export function actionRoutes(app: Hono<HubEnv>, parts: Parts): void {
  app.use("*", bodyLimit({ maxSize: FORM_BYTES_MAX, onError: (c) => send(c as PageContext, errorPage({ status: 413, title: "That form is too large", message: "No form of this page is that large." }), 413) }));
  startRoutes(app, parts);
  rolloutRoutes(app, parts);
  nodeRoutes(app, parts);
  leaseRoutes(app, parts);
  clusterRoutes(app, parts);
}

/** Both steps of an action at one address. `find` answers null when what it is about is not there. */
function action(app: Hono<HubEnv>, parts: Parts, path: string, find: (c: PageContext) => Promise<Found | null>): void {
  app.get(path, async (c) => {
    if (adminOf(c) === null) return send(c, noEntry(), 403);
    const found = await find(c);
    return found === null ? missing(c, parts) : show(c, parts, found.ask, null, 200);
  });
  app.post(path, async (c) => {
    const by = adminOf(c);
    if (by === null) return send(c, noEntry(), 403);
    // A page elsewhere must not act in the reader's name. Scripts with a token are no browsers, and have the API.
    if (!isSameOrigin(c)) return send(c, foreignForm(), 403);
    const found = await find(c);
    if (found === null) return missing(c, parts);
    const values = valuesOf(await c.req.parseBody());
    const done = await found.act(values, by);
    if ("invalid" in done) return show(c, parts, found.ask, { values, error: done.invalid, denials: [] }, 400);
    if (!done.ok) return show(c, parts, found.ask, { values, error: null, denials: done.denials }, 409);
    return c.redirect(done.rollout !== null && path.startsWith("/rollouts") ? "/rollout" : found.ask.back, 303);
  });
}

function startRoutes(app: Hono<HubEnv>, parts: Parts): void {
  const { coordination } = parts;
  const path = "/rollouts/start";
  const parse = (kind: unknown, scope: unknown, nodes: readonly string[]): ReturnType<typeof RolloutStart.safeParse> =>
    RolloutStart.safeParse({ kind, ...(typeof scope === "string" && scope !== "" && kind === "update" && { scope }), ...(nodes.length > 0 && { nodes }) });
  app.get(path, async (c) => {
    if (adminOf(c) === null) return send(c, noEntry(), 403);
    const summary = await coordination.summary();
    const { kind, scope } = c.req.query();
    const start = parse(kind, scope, c.req.queries("node") ?? []);
    if (start.success) return show(c, parts, startAsk(start.data, summary), null, 200);
    return frame(c, parts, "Start a rollout", startForm({ nodes: summary.updates.map(({ node }) => node).sort(byName) }), 200);
  });
  app.post(path, async (c) => {
    const by = adminOf(c);
    if (by === null) return send(c, noEntry(), 403);
    if (!isSameOrigin(c)) return send(c, foreignForm(), 403);
    const { kind, scope, node = [] } = await c.req.parseBody({ all: true });
    const start = parse(kind, scope, [node].flat().filter((each) => typeof each === "string"));
    if (!start.success) return c.redirect(path, 303);
    const done = await coordination.startRollout(start.data, by);
    if (done.ok) return c.redirect("/rollout", 303);
    return show(c, parts, startAsk(start.data, await coordination.summary()), { values: {}, error: null, denials: done.denials }, 409);
  });
}

function rolloutRoutes(app: Hono<HubEnv>, parts: Parts): void {
  const { coordination } = parts;
  for (const what of ["halt", "resume", "cancel"] as const) {
    action(app, parts, `/rollouts/:id/${what}`, async (c) => {
      const rollout = await coordination.rollout(c.req.param("id") ?? "");
      if (rollout === null) return null;
      return { ask: steerAsk(rollout, what), act: (values, by) => parsed(RolloutWord, { why: values["why"], failed: values["failed"] }, (word) => coordination.steerRollout(rollout.id, what, word, by)) };
    });
  }
}

function nodeRoutes(app: Hono<HubEnv>, parts: Parts): void {
  const { coordination, clock } = parts;
  for (const what of ["drain", "reboot", "resume", "hold", "unhold"] as const) {
    action(app, parts, `/nodes/:name/${what}`, async (c) => {
      const name = NodeName.safeParse(c.req.param("name"));
      const why = name.success ? await coordination.why(name.data) : null;
      if (why === null) return null;
      const { node } = why;
      const act: Deed = (values, by) => {
        if (what === "resume") return coordination.resume(node, by);
        if (what === "unhold") return coordination.unhold(node, by);
        if (what === "hold") return parsed(HoldWord, holdOf(node, values, clock), (word) => coordination.hold(word, by));
        return parsed(NodeWord, { why: values["why"], despiteChecks: values["despiteChecks"] === "yes" }, (word) => coordination.ask(node, what, word, by));
      };
      return { ask: nodeAsk(why, what), act };
    });
  }
}

function leaseRoutes(app: Hono<HubEnv>, parts: Parts): void {
  const { coordination } = parts;
  for (const what of ["abort", "clear"] as const) {
    action(app, parts, `/leases/:id/${what}`, async (c) => {
      const id = LeaseId.safeParse(c.req.param("id"));
      if (!id.success) return null;
      const { leases, requests } = await coordination.summary();
      const ask = leaseAsk(leases.find((each) => each.id === id.data) ?? null, requests.find((each) => each.id === id.data) ?? null, what);
      return ask === null ? null : { ask, act: (values, by) => parsed(ReasonWord, { why: values["why"] }, (word) => coordination[what](id.data, word, by)) };
    });
  }
}

function clusterRoutes(app: Hono<HubEnv>, parts: Parts): void {
  const { coordination, clock } = parts;
  action(app, parts, "/hold", async () => ({ ask: holdAsk(await coordination.summary()), act: (values, by) => parsed(HoldWord, holdOf("*", values, clock), (word) => coordination.hold(word, by)) }));
  action(app, parts, "/unhold", async () => ({ ask: unholdAsk(await coordination.summary()), act: (_values, by) => coordination.unhold("*", by) }));
  action(app, parts, "/groups/:name/settle", async (c) => {
    const name = c.req.param("name") ?? "";
    const ask = settleAsk(await coordination.summary(), name);
    return ask === null ? null : { ask, act: (values, by) => parsed(ReasonWord, { why: values["why"] }, (word) => coordination.settle(name, word, by)) };
  });
}

function holdOf(what: string, values: Values, clock: Pick<Clock, "nowMs">): unknown {
  const hours = HOLD_HOURS.find((each) => String(each) === values["hours"]);
  return { what, why: values["why"], until: hours === undefined ? null : isoTime(clock.nowMs() + hours * 3_600_000) };
}

function parsed<Schema extends z.ZodType>(schema: Schema, values: unknown, act: (word: z.output<Schema>) => Promise<Word>): Promise<Word> | Invalid {
  const word = schema.safeParse(values);
  return word.success ? act(word.data) : { invalid: word.error.issues[0]?.message ?? "the form was not filled in as it should be" };
}

function valuesOf(body: Readonly<Record<string, unknown>>): Values {
  return Object.fromEntries(Object.entries(body).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

function show(c: PageContext, parts: Parts, ask: Ask, tried: Tried | null, status: 200 | 400 | 409): Promise<Response> {
  return frame(c, parts, ask.title, askView(ask, tried, parts.clock.nowMs()), status);
}

async function frame(c: PageContext, { data, clock }: Parts, title: string, body: Html, status: 200 | 400 | 409): Promise<Response> {
  const { cluster, hubVersion } = await data.cluster();
  return send(c, layout({ title, cluster, hubVersion, active: null, alert: false, live: false, nowMs: clock.nowMs(), body }), status);
}

async function missing(c: PageContext, { data }: Parts): Promise<Response> {
  return send(c, notFoundPage(c.req.path, (await data.cluster()).cluster), 404);
}

function noEntry(): Html {
  return errorPage({ status: 403, title: "Only an admin may do that", message: "Your token may only read. Log in with one that has the role admin." });
}

function foreignForm(): Html {
  return errorPage({ status: 403, title: "That form did not come from this page", message: "So nothing was done. Open the page here, and try again." });
}
