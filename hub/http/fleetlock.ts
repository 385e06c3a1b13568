import { Hono, type Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Logger } from "pino";
import * as z from "zod";
import type { Coordination, Word } from "../coordination.ts";
import { hashOf } from "../secret.ts";
import type { AccessStore } from "../store/access.ts";
import { tokenOf, type Gate } from "./caller.ts";
import type { HubEnv } from "./environment.ts";

/**
 * FleetLock v1 (https://coreos.github.io/zincati/development/fleetlock/protocol/): machines without our agent, Fedora
 * CoreOS and Flatcar, ask for their slot before they reboot, and give it back when they are up again. The protocol has
 * no login of its own, so a token is part of the base address: `https://HUB:7443/fleetlock/TOKEN`.
 */

/** Fixed, because clients make metric labels of them. */
type Kind = "invalid_request" | "unauthorized" | "unknown_client" | "slot_denied" | "not_found" | "internal";

export interface FleetLockParts {
  readonly gate: Gate;
  readonly access: Pick<AccessStore, "fleetLockOwner">;
  readonly coordination: Pick<Coordination, "takeFleetLock" | "giveBackFleetLock">;
  readonly log: Logger;
}

const bodyMaxBytes = 4_096;
const tokenMaxChars = 256;

/** Clients put base and path together with a slash of their own, so that `//v1` is as good as `/v1`. */
const address = /^\/fleetlock(?:\/+([A-Za-z0-9_-]+))?\/+v1\/+(pre-reboot|steady-state)\/?$/;

const Request = z.object({
  client_params: z.object({
    id: z.string().min(1, "must not be empty").max(256),
    group: z.string().max(128).regex(/^[a-zA-Z0-9.-]+$/, "must be letters, digits, dots and hyphens"),
  }),
});

export function fleetLockRoutes(parts: FleetLockParts): Hono<HubEnv> {
  const app = new Hono<HubEnv>();
  app.onError((error, c) => {
    // Without the path: it has the token in it.
    parts.log.error({ err: error }, "answering a FleetLock request failed");
    return refuse(c, 500, "internal", "the hub failed to answer; its log says why");
  });
  app.use("/fleetlock/*", bodyLimit({ maxSize: bodyMaxBytes, onError: (c) => refuse(c, 413, "invalid_request", `a FleetLock request may have at most ${bodyMaxBytes} bytes`) }));
  app.all("/fleetlock/*", async (c) => {
    const [whole, inPath, what] = address.exec(c.req.path) ?? [];
    if (whole === undefined) return refuse(c, 404, "not_found", "FleetLock is at /fleetlock/TOKEN/v1/pre-reboot and /fleetlock/TOKEN/v1/steady-state: set the base address to https://HUB:7443/fleetlock/TOKEN");
    const stop = await refuseStranger(c, parts, inPath ?? tokenOf(c.req.header("authorization")) ?? "");
    if (stop !== null) return stop;
    if (c.req.method !== "POST") return refuse(c, 405, "invalid_request", "FleetLock requests are sent with POST");
    if (c.req.header("fleet-lock-protocol") !== "true") return refuse(c, 400, "invalid_request", "the header fleet-lock-protocol: true is missing: this is no FleetLock client");
    const request = parseRequest(await c.req.text());
    if (!request.ok) return refuse(c, 400, "invalid_request", request.message);
    const { id, group } = request.client;
    const word = await (what === "pre-reboot" ? parts.coordination.takeFleetLock(id, group) : parts.coordination.giveBackFleetLock(id, group));
    return answerWord(c, word, id, group);
  });
  return app;
}

async function refuseStranger(c: Context<HubEnv>, { gate, access }: FleetLockParts, token: string): Promise<Response | null> {
  // Looked up by its hash, so that the time it takes says nothing about the tokens that there are.
  const owner = token === "" || token.length > tokenMaxChars ? null : await access.fleetLockOwner(hashOf(token));
  if (owner !== null) return null;
  const { status, retryAfterS } = await gate.failure(c.env.incoming);
  if (retryAfterS > 0) c.header("retry-after", String(retryAfterS));
  return refuse(c, status, "unauthorized", "this address has no token that may ask for slots: make one with `evenkeel token add NAME --role fleetlock`, and set the base address to https://HUB:7443/fleetlock/TOKEN");
}

/** Zincati sends no Content-Type, so the body is taken for what it is. */
function parseRequest(text: string): { readonly ok: true; readonly client: z.output<typeof Request>["client_params"] } | { readonly ok: false; readonly message: string } {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { ok: false, message: 'the body is not JSON: it should be {"client_params":{"id":"…","group":"…"}}' };
  }
  const parsed = Request.safeParse(json);
  if (parsed.success) return { ok: true, client: parsed.data.client_params };
  return { ok: false, message: `the request is not valid: ${parsed.error.issues.map((issue) => `${issue.path.join(".") || "(top)"}: ${issue.message}`).join("; ")}` };
}

function answerWord(c: Context<HubEnv>, word: Word | null, id: string, group: string): Response {
  if (word === null) return refuse(c, 404, "unknown_client", `no node of the repository has the FleetLock id ${id} in the group ${group}: write fleetlock: {id: …, group: …} into its nodes/NAME.yaml`);
  // Every 2xx is "go" to a client, so there is one, without a body.
  if (word.ok) return c.body(null, 200, { "content-length": "0" });
  const sentences = word.denials.map(({ text }) => text).join("; ");
  return refuse(c, 409, "slot_denied", sentences === "" ? "no slot is free now: try again later" : sentences);
}

function refuse(c: Context, status: 400 | 401 | 404 | 405 | 409 | 413 | 429 | 500, kind: Kind, value: string): Response {
  return c.json({ kind, value }, status);
}
