import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { denialOf, leaseOf, rolloutOf } from "./coordination-twin.ts";
import { TwinHub } from "./twin-hub.ts";

/** The API of the coordination, over real sockets, before a coordinator in memory. */

const hub = new TwinHub();
beforeAll(() => hub.start());
afterAll(() => hub.end());
beforeEach(() => {
  const { coordination } = hub;
  coordination.asked.length = 0;
  Object.assign(coordination, { denials: [], leases: [], requests: [], holds: [], all: [], more: {} });
});

const why = "new memory";
const changes: readonly (readonly [method: string, path: string, body?: unknown])[] = [
  ["POST", "/rollouts", { kind: "update" }],
  ["POST", "/rollouts/r1/halt", { why }],
  ["POST", "/rollouts/r1/resume", { why, failed: "skip" }],
  ["POST", "/rollouts/r1/cancel", { why }],
  ["POST", "/nodes/n1/drain", { why }],
  ["POST", "/nodes/n1/resume"],
  ["POST", "/nodes/n1/reboot", { why, despiteChecks: true }],
  ["POST", "/holds", { why }],
  ["DELETE", "/holds/*"],
  ["POST", "/leases", { id: "a-1", node: "n1", why }],
  ["DELETE", "/leases/a-1"],
  ["POST", "/leases/a-1/abort", { why }],
  ["POST", "/leases/a-1/clear", { why }],
  ["POST", "/groups/all/settle", { why }],
];
const reads = ["/coordination", "/rollouts", "/rollouts/r1", "/nodes/n1/why", "/holds"];

test("a token that may read, reads; to change anything takes an admin; nobody gets nothing; a token for FleetLock is nobody's", async () => {
  hub.coordination.all = [rolloutOf("r1", ["n1"])];
  for (const path of reads) {
    expect((await hub.api("GET", path, { token: "reader-token" })).status, path).toBe(200);
    expect((await hub.api("GET", path, { token: null })).status, path).toBe(401);
    expect((await hub.api("GET", path, { token: "coreos-token" })).status, path).toBe(401);
  }
  for (const [method, path, body] of changes) {
    for (const [token, status] of [["reader-token", 403], [null, 401], ["coreos-token", 401]] as const) expect((await hub.api(method, path, { body, token })).status, `${method} ${path} ${token}`).toSatisfy((got) => got === status || (token === "coreos-token" && got === 429));
  }
  expect(hub.coordination.asked).toEqual([]);
});

test("each change reaches the coordinator, with the caller's name", async () => {
  hub.coordination.all = [rolloutOf("r1", ["n1"])];
  for (const [method, path, body] of changes) await hub.api(method, path, { body });
  expect(hub.coordination.asked).toEqual([
    ["startRollout", { kind: "update" }, "admin"],
    ["halt", "r1", { why }, "admin"],
    ["resume", "r1", { why, failed: "skip" }, "admin"],
    ["cancel", "r1", { why }, "admin"],
    ["drain", "n1", { why, despiteChecks: false }, "admin"],
    ["resume", "n1", "admin"],
    ["reboot", "n1", { why, despiteChecks: true }, "admin"],
    ["hold", "*", why, null, "admin"],
    ["unhold", "*", "admin"],
    ["take", "a-1", "n1", why, "admin"],
    ["giveBack", "a-1", "admin"],
    ["abort", "a-1", { why }, "admin"],
    ["clear", "a-1", { why }, "admin"],
    ["settle", "all", { why }, "admin"],
  ]);
});

test("what is done says by what to know it; what is not says why, with 409 and every reason", async () => {
  expect((await hub.api("POST", "/rollouts", { body: { kind: "reboot", nodes: ["n2"] } })).json()).toEqual({ ok: true, lease: null, rollout: "r1" });
  hub.coordination.denials = [denialOf("quorum", "all: 1 of 3 may be down, and n3 is"), denialOf("hold", "held by ada: holidays")];
  const denied = await hub.api("POST", "/leases", { body: { id: "a-1", node: "n1", why } });
  expect(denied.status).toBe(409);
  expect(denied.json()).toEqual({ error: { code: "quorum", message: "all: 1 of 3 may be down, and n3 is" }, denials: hub.coordination.denials });
});

test("what is not there is said with 404, what is not valid with 400 and the field", async () => {
  expect((await hub.api("GET", "/rollouts/r7")).json().error).toMatchObject({ code: "rollout-unknown" });
  expect((await hub.api("GET", "/nodes/n7/why")).json().error).toMatchObject({ code: "node-unknown" });
  for (const [path, body, field] of [
    ["/rollouts", { kind: "dance" }, "kind"],
    ["/rollouts/r1/halt", {}, "why"],
    ["/nodes/n1/drain", { why: "  " }, "why"],
    ["/holds", { why, until: "tomorrow" }, "until"],
    ["/leases", { id: "-", node: "n1", why }, "id"],
    ["/leases/a-1/explode", { why }, "what"],
  ] as const) {
    const answer = await hub.api("POST", path, { body });
    expect([answer.status, answer.json().error.message], path).toEqual([400, expect.stringContaining(`${field}:`)]);
  }
});

test("the summary, holds and why are what the coordinator says", async () => {
  hub.coordination.leases = [leaseOf("a-1", "n2", { why })];
  await hub.api("POST", "/holds", { body: { what: "n3", why, until: "2026-05-05T00:00:00.000Z" } });
  const summary = (await hub.api("GET", "/coordination")).json();
  expect(summary).toEqual(await hub.coordination.summary());
  expect((await hub.api("GET", "/holds")).json()).toEqual(summary.holds);
  expect((await hub.api("GET", "/nodes/n2/why")).json()).toMatchObject({ node: "n2", headline: "n2 holds a slot (held)", lease: { id: "a-1" } });
});

test("the description lists them all", async () => {
  const { paths } = (await hub.api("GET", "/openapi.json")).json();
  expect(Object.keys(paths)).toEqual(expect.arrayContaining(["/coordination", "/rollouts", "/rollouts/{id}", "/rollouts/{id}/{what}", "/nodes/{name}/why", "/nodes/{name}/resume", "/nodes/{name}/{what}", "/holds", "/holds/{what}", "/leases", "/leases/{id}", "/leases/{id}/{what}", "/groups/{name}/settle"]));
  expect(JSON.stringify(paths["/leases"].post.responses["409"])).toContain("denials");
});
