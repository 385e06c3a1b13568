import { Agent, request as httpRequest } from "node:http";
import { join } from "node:path";
import { createClient } from "@libsql/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Trial, until, type Untyped } from "../trial.ts";

/** The hub's HTTP, over real sockets. */

const trial = new Trial();
beforeAll(async () => {
  await trial.start();
  await trial.makeRepository();
  await trial.commit("Begin");
  await trial.push();
});
afterAll(() => trial.end());

interface Page {
  readonly status: number;
  readonly headers: Record<string, Untyped>;
  readonly body: string;
}

function page(method: string, path: string, options: { headers?: Record<string, string>; body?: string; from?: string; agent?: Agent } = {}): Promise<Page> {
  return new Promise((resolve, reject) => {
    const { hub } = trial;
    const outgoing = httpRequest(hub.urls.page + path, { method, headers: options.headers ?? {}, localAddress: options.from ?? "127.0.0.1", ...(options.agent !== undefined && { agent: options.agent }) }, (incoming) => {
      let body = "";
      incoming.on("data", (chunk) => (body += String(chunk)));
      incoming.on("end", () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }));
    });
    outgoing.on("error", reject);
    outgoing.end(options.body);
  });
}

const form = { "content-type": "application/x-www-form-urlencoded" };
const cookieOf = (answer: Page): string => String(answer.headers["set-cookie"]).split(";")[0] ?? "";

test("everything but the login, assets, CA and health needs a token or a session", async () => {
  expect((await page("GET", "/")).headers["location"]).toBe("/login");
  expect((await page("GET", "/nodes/n1?x=1")).headers["location"]).toBe("/login?next=%2Fnodes%2Fn1%3Fx%3D1");
  for (const path of ["cluster", "nodes", "nodes/n1", "nodes/n1/converges", "commits", "events"]) expect((await page("GET", `/api/v1/${path}`)).status, path).toBe(401);
  for (const path of ["nodes", "nodes/n1/plan", "login-links", "renew"]) {
    const answer = await page("POST", `/api/v1/${path}`, { headers: { "content-type": "application/json" }, body: '{"name":"n1"}' });
    expect(answer.status, path).toBe(401);
    expect(JSON.parse(answer.body).error.message).toBeTruthy();
  }
  expect((await page("GET", "/healthz")).body).toBe("ok\n");
  expect((await page("GET", "/ca.pem")).body).toBe(trial.hub.caPem);
  expect((await page("GET", "/login")).body).toContain('action="/login"');
  const spec = JSON.parse((await page("GET", "/api/v1/openapi.json")).body);
  expect(Object.keys(spec.paths)).toEqual(expect.arrayContaining(["/cluster", "/nodes/{name}/plan", "/enrol"]));
});

test("a login link works once; the cookie cannot be read by scripts nor sent by other sites", async () => {
  const link = new URL(trial.hub.loginLink());
  const first = await page("GET", link.pathname + link.search);
  expect([first.status, first.headers["location"]]).toEqual([303, "/"]);
  expect(String(first.headers["set-cookie"])).toMatch(/; HttpOnly; SameSite=Strict/);
  const again = await page("GET", link.pathname + link.search);
  expect([again.status, again.body]).toEqual([401, expect.stringContaining("used already")]);
  const home = await page("GET", "/", { headers: { cookie: cookieOf(first) } });
  expect([home.status, home.body]).toEqual([200, expect.stringContaining("trial")]);
  expect(home.headers["content-security-policy"]).toContain("default-src 'none'");
  expect((await page("GET", "/nodes/n1", { headers: { cookie: cookieOf(first) } })).status).toBe(200);
  expect((await page("GET", "/nodes/n77", { headers: { cookie: cookieOf(first) } })).status).toBe(404);
});

test("the form takes the token, goes where one wanted to go, and never elsewhere; logout ends the session", async () => {
  const login = (next: string, headers = {}): Promise<Page> =>
    page("POST", "/login", { headers: { ...form, ...headers }, body: new URLSearchParams({ token: trial.hub.adminToken ?? "", next }).toString() });
  expect((await login("/nodes/n1")).headers["location"]).toBe("/nodes/n1");
  for (const next of ["https://evil.example/", "//evil.example", "/\\evil.example", "nodes"]) expect((await login(next)).headers["location"], next).toBe("/");
  expect((await login("/", { origin: "https://evil.example" })).status).toBe(403);
  const cookie = cookieOf(await login("/"));
  const out = await page("POST", "/logout", { headers: { cookie, "sec-fetch-site": "same-origin" } });
  expect(out.headers["location"]).toBe("/login");
  expect((await page("GET", "/", { headers: { cookie } })).headers["location"]).toBe("/login");
});

test("a session may change something from the hub's own pages only", async () => {
  const link = new URL(trial.hub.loginLink());
  const cookie = cookieOf(await page("GET", link.pathname + link.search));
  const add = (headers: Record<string, string>): Promise<Page> => page("POST", "/api/v1/nodes", { headers: { cookie, "content-type": "application/json", ...headers }, body: '{"name":"n1"}' });
  expect((await add({})).status).toBe(403);
  expect((await add({ "sec-fetch-site": "cross-site" })).status).toBe(403);
  expect((await add({ origin: "https://evil.example" })).status).toBe(403);
  expect((await add({ "sec-fetch-site": "same-origin" })).status).toBe(200);
  expect((await add({ origin: trial.hub.urls.page })).status).toBe(200);
  expect((await page("GET", "/cluster.git/info/refs?service=git-upload-pack", { headers: { cookie } })).status).toBe(403);
});

test("a token that may only read, reads", async () => {
  const added = await trial.request("POST", "/api/v1/tokens", { body: { name: "reader" } });
  expect(added.json()).toEqual({ name: "reader", role: "read", token: expect.stringMatching(/^[\w-]{43}$/) });
  const { token } = added.json();
  expect((await trial.request("GET", "/api/v1/cluster", { token })).status).toBe(200);
  expect((await trial.request("POST", "/api/v1/nodes", { token, body: { name: "n1" } })).json().error.code).toBe("role");
  expect((await trial.request("DELETE", "/api/v1/nodes/n1", { token })).status).toBe(403);
  expect((await trial.request("POST", "/api/v1/tokens", { token, body: { name: "mine", role: "admin" } })).status).toBe(403);
  await trial.commit("More");
  expect((await trial.push("main", { token })).output).toMatch(/403|may only read/);
});

test("a token can be ended alone, with its sessions; the last admin's cannot", async () => {
  const { token } = (await trial.request("POST", "/api/v1/tokens", { body: { name: "bob", role: "admin" } })).json();
  expect((await trial.request("POST", "/api/v1/tokens", { body: { name: "bob" } })).json().error.code).toBe("token-exists");
  const cookie = cookieOf(await page("POST", "/login", { headers: form, body: `token=${token}` }));
  await trial.commit("By Bob");
  expect((await trial.push("main", { token })).code).toBe(0);
  expect((await trial.request("GET", "/api/v1/commits")).json()[0]).toMatchObject({ subject: "By Bob", pushedBy: "bob" });
  expect((await page("GET", "/", { headers: { cookie } })).status).toBe(200);
  expect((await trial.request("DELETE", "/api/v1/tokens/bob")).status).toBe(200);
  expect((await trial.request("GET", "/api/v1/cluster", { token })).status).toBe(401);
  expect((await page("GET", "/", { headers: { cookie } })).status).toBe(302);
  expect((await trial.request("DELETE", "/api/v1/tokens/admin")).json().error.code).toBe("last-admin");
  expect((await trial.request("GET", "/api/v1/tokens")).json()).toMatchObject([{ name: "admin", role: "admin" }, { name: "reader", role: "read" }]);
});

test("bad requests get a reason: unknown paths, bad names, bad JSON, bodies that are too large", async () => {
  expect((await trial.request("GET", "/api/v1/nothing")).json().error.message).toContain("/api/v1/openapi.json");
  expect((await trial.request("GET", "/api/v1/nodes/UPPER")).json().error.message).toContain("lower-case");
  expect((await trial.request("POST", "/api/v1/nodes", { body: { name: 7 } })).json().error.code).toBe("invalid");
  expect((await trial.request("POST", "/api/v1/enrol", { body: { node: "n1" } })).json().error.message).toContain("token:");
  expect((await trial.request("POST", "/api/v1/nodes", { body: { name: "x".repeat(100_000) } })).json().error.code).toBe("too-large");
});

test("10,000 bad logins: the hub answers meanwhile, notes a few, and lets the right token in, from the same address too", async () => {
  const agents = Array.from({ length: 20 }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  const statuses = new Map<number, number>();
  const attempt = async (at: number, agent: Agent): Promise<void> => {
    const from = `127.0.${1 + (at % 200)}.7`;
    const bearer = at % 2 === 0;
    const { status } = bearer
      ? await page("GET", "/api/v1/cluster", { headers: { authorization: `Bearer wrong-${at}` }, agent })
      : await page("POST", "/login", { headers: form, body: `token=wrong-${at}`, from, agent });
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  };
  let next = 0;
  const flood = Promise.all(agents.map(async (agent) => {
    while (next < 10_000) await attempt(next++, agent);
  }));
  await until(async () => next > 3_000);
  expect((await trial.request("GET", "/api/v1/cluster")).status).toBe(200);
  await flood;
  for (const agent of agents) agent.destroy();
  expect([...statuses.keys()].toSorted((a, b) => a - b)).toEqual([401, 429]);
  expect(statuses.get(429)).toBeGreaterThan(6_000);
  expect((await trial.request("GET", "/api/v1/cluster")).status).toBe(200);
  expect((await page("POST", "/login", { headers: form, body: `token=${trial.hub.adminToken}` })).status).toBe(303);
  const database = createClient({ url: `file:${join(trial.dataDir, "hub.db")}` });
  const { rows } = await database.execute("SELECT count(*) AS n FROM audit WHERE action = 'login-failed'");
  database.close();
  expect(Number(rows[0]?.["n"])).toBeLessThan(100);
});

test("GET /events tells of changes as they happen, and ends with the hub", async () => {
  const events: string[] = [];
  let ended = false;
  httpRequest(`${trial.hub.urls.page}/api/v1/events`, { headers: { authorization: `Bearer ${trial.hub.adminToken}` } }, (incoming) => {
    expect(incoming.headers["content-type"]).toContain("text/event-stream");
    incoming.on("data", (chunk) => events.push(String(chunk)));
    incoming.on("close", () => (ended = true));
    incoming.on("error", () => {});
  }).end();
  await until(async () => events.length > 0);
  const node = await trial.connect(await trial.enrol("n1"));
  await node.hello();
  await until(async () => events.join("").includes('event: change\ndata: {"topic":"node","name":"n1"}'));
  await trial.commit("News");
  await trial.push();
  await until(async () => events.join("").includes('"topic":"commits"'));
  await trial.stop();
  await until(async () => ended);
  await trial.start();
});
