import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import type { Clock } from "../../shared/clock.ts";
import { hashOf, newToken } from "../secret.ts";
import type { AccessStore } from "../store/access.ts";
import { isoTime } from "../system-clock.ts";
import { answers, bearer, fail, personOr } from "./api-answers.ts";
import type { HubEnv } from "./environment.ts";

/** Tokens of the API: one for each person or program, so that a commit says who pushed it, and one can be ended alone. */

export const tokensMax = 100;

const TokenName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/, "a token's name is letters, digits and . _ @ -, such as ada or home-assistant");
const Role = z.enum(["admin", "read", "fleetlock"]);
const KnownToken = z.object({ name: TokenName, role: Role, createdAt: z.iso.datetime() });

const routes = {
  list: createRoute({ method: "get", path: "/tokens", summary: "The tokens' names and roles", security: bearer, responses: answers(z.array(KnownToken), "Tokens by name") }),
  add: createRoute({
    method: "post",
    path: "/tokens",
    summary: "Make a token; it is shown once",
    security: bearer,
    request: { body: { required: true, content: { "application/json": { schema: z.object({ name: TokenName, role: Role.default("read") }) } } } },
    responses: answers(z.object({ name: TokenName, role: Role, token: z.string() }), "The token"),
  }),
  remove: createRoute({ method: "delete", path: "/tokens/{name}", summary: "End a token and its sessions", security: bearer, request: { params: z.object({ name: TokenName }) }, responses: answers(z.object({ name: TokenName }), "Ended") }),
};

export function tokenRoutes(app: OpenAPIHono<HubEnv>, { access, clock }: { readonly access: AccessStore; readonly clock: Clock }): void {
  app.openapi(routes.list, async (c) => {
    const { no } = personOr(c, "admin");
    if (no !== null) return no;
    const tokens = await access.tokens();
    return c.json(tokens.map(({ name, role, createdAtMs }) => ({ name, role, createdAt: isoTime(createdAtMs) })), 200);
  });
  app.openapi(routes.add, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const { name, role } = c.req.valid("json");
    const known = await access.tokens();
    if (known.some((token) => token.name === name)) return fail(c, 409, "token-exists", `there is a token ${name} already: end it first (evenkeel token revoke ${name}), or choose another name`);
    if (known.length >= tokensMax) return fail(c, 409, "too-many-tokens", `there are ${tokensMax} tokens already: end some that are not used`);
    const token = newToken();
    await access.putToken(name, hashOf(token), role, clock.nowMs());
    await access.note({ atMs: clock.nowMs(), actor: person.name, action: "token-add", subject: name, detail: role });
    return c.json({ name, role, token }, 200);
  });
  app.openapi(routes.remove, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    const result = await access.removeToken(name);
    if (result === "unknown") return fail(c, 404, "token-unknown", `there is no token ${name}: \`evenkeel token list\` shows them`);
    if (result === "last-admin") return fail(c, 409, "last-admin", `${name} is the last admin token, and without one nobody could get in: add another first (evenkeel token add NAME --role admin)`);
    await access.note({ atMs: clock.nowMs(), actor: person.name, action: "token-revoke", subject: name });
    return c.json({ name }, 200);
  });
}
