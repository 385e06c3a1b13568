import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { Check } from "../../shared/config/policy.ts";
import { CheckState } from "../../shared/protocol/checks.ts";
import { Checks, COUNTERS_MAX, LOOKS_AT_ONCE } from "./checks.ts";
import { HandClock } from "./hand-clock.ts";

const closing: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function begin(): { clock: HandClock; checks: Checks; changed: string[]; pass: (seconds: number) => Promise<void> } {
  const clock = new HandClock();
  const changed: string[] = [];
  // 0.5 is the middle of the jitter: every interval is just as long as it was asked for.
  const checks = new Checks({ clock, log: { info() {}, warn() {} }, random: () => 0.5, onChange: (name) => void changed.push(name) });
  closing.push(() => checks.stop());
  /** Half a second at a time, so that looks end before the next ones are due. */
  const pass = async (seconds: number): Promise<void> => {
    for (let half = 0; half < seconds * 2; half++) {
      clock.advance(500);
      await checks.settled();
    }
  };
  return { clock, checks, changed, pass };
}

async function web(listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** A service that can be broken, and counts who comes, by path. */
async function service(): Promise<{ url: string; served: Record<string, number>; status: number }> {
  const state = { url: "", served: {} as Record<string, number>, status: 200 };
  state.url = await web((request, response) => {
    const path = request.url ?? "";
    state.served[path] = (state.served[path] ?? 0) + 1;
    response.writeHead(state.status).end();
  });
  return state;
}

const http = (url: string, more: object = {}): Check => Check.parse({ http: url, ...more });

test("a check is unknown until its first look within a second, then looked at in its rhythm", async () => {
  const { checks, changed, pass } = begin();
  const web = await service();
  checks.use({ website: http(web.url, { gates: false }), api: http(`${web.url}api`, { everySeconds: 2 }) });
  expect(checks.states().map((state) => CheckState.parse(state))).toMatchObject([
    { name: "api", kind: "http", target: `${web.url}api`, gates: true, state: "unknown", since: "2026-05-06T12:30:00.000Z", lastMessage: null, lastLookAt: null, lookedCount: 0, failedCount: 0, latencyMs: null },
    { name: "website", gates: false, state: "unknown" },
  ]);
  expect(checks.standingInTheWay()).toEqual(["api"]);
  await pass(1);
  expect(checks.states().map((state) => CheckState.parse(state))).toMatchObject([
    { name: "api", state: "ok", since: "2026-05-06T12:30:00.500Z", lastLookAt: "2026-05-06T12:30:00.500Z", lookedCount: 1, failedCount: 0, latencyMs: 0 },
    { name: "website", state: "ok" },
  ]);
  expect(checks.standingInTheWay()).toEqual([]);
  await pass(20);
  expect(web.served).toEqual({ "/": 3, "/api": 11 });
  expect(changed).toEqual(["website", "api", "website", "api"]);
});

test("a failing check says since when and why, stands in the way if it gates, and is well again", async () => {
  const { checks, pass } = begin();
  const web = await service();
  checks.use({ website: http(web.url), looser: http(`${web.url}x`, { gates: false }) });
  await pass(1);
  web.status = 502;
  await pass(20);
  expect(checks.states()[1]).toMatchObject({ state: "ok", lastMessage: `${web.url} answered 502, expected 200 to 399` });
  await pass(10);
  expect(checks.states()[1]).toMatchObject({ state: "failing", since: "2026-05-06T12:30:30.500Z", lookedCount: 4, failedCount: 3 });
  expect(checks.standingInTheWay()).toEqual(["website"]);
  web.status = 200;
  await pass(20);
  expect(checks.states()[1]).toMatchObject({ state: "ok", since: "2026-05-06T12:30:50.500Z", lastMessage: null });
});

test("a push keeps what asks the same, starts anew what asks another thing, and drops what is gone", async () => {
  const { checks, changed, pass } = begin();
  const web = await service();
  checks.use({ same: http(`${web.url}same`), other: http(`${web.url}old`), gone: http(`${web.url}gone`) });
  await pass(5);
  changed.length = 0;
  checks.use({ same: http(`${web.url}same`, { everySeconds: 6, failuresMax: 1 }), other: http(`${web.url}new`), fresh: http(`${web.url}fresh`) });
  expect(checks.states()).toMatchObject([
    { name: "fresh", state: "unknown", lookedCount: 0 },
    { name: "other", state: "unknown", lookedCount: 0, target: `${web.url}new` },
    { name: "same", state: "ok", lookedCount: 1 },
  ]);
  expect(changed).toEqual(["gone", "other", "fresh"]);
  await pass(10);
  expect(web.served).toEqual({ "/same": 3, "/old": 1, "/gone": 1, "/new": 1, "/fresh": 1 });
});

test("a look that is under way when its check changes is ended and says nothing", async () => {
  const { checks, clock } = begin();
  let arrived = (): void => {};
  const here = new Promise<void>((resolve) => (arrived = resolve));
  let hungUp = (): void => {};
  const gone = new Promise<void>((resolve) => (hungUp = resolve));
  const url = await web((request, response) => {
    if (request.url === "/fast") return void response.end();
    request.socket.once("close", hungUp);
    arrived();
  });
  checks.use({ website: http(`${url}slow`), removed: http(`${url}slow`) });
  clock.advance(500);
  await here;
  checks.use({ website: http(`${url}fast`) });
  await gone;
  await checks.settled();
  expect(checks.states()).toMatchObject([{ name: "website", state: "unknown", lookedCount: 0, lastMessage: null }]);
  checks.use({ website: http(`${url}fast`), removed: http(`${url}fast`) });
  clock.advance(500);
  await checks.settled();
  expect(checks.states()).toMatchObject([{ name: "removed", state: "ok" }, { name: "website", state: "ok" }]);
});

test(`at most ${LOOKS_AT_ONCE} looks at once, never two of the same, and each gets its turn`, async () => {
  const { checks, clock } = begin();
  const total = 3 * LOOKS_AT_ONCE;
  const open = new Map<string, () => void>();
  const served = new Set<string>();
  let atOnceMost = 0;
  let twice = false;
  const url = await web((request, response) => {
    const path = request.url ?? "";
    if (path === "/mark") return void response.end();
    twice ||= open.has(path);
    open.set(path, () => void response.end());
    atOnceMost = Math.max(atOnceMost, open.size);
    if (open.size === Math.min(LOOKS_AT_ONCE, total - served.size)) void answerAll();
  });
  const answerAll = async (): Promise<void> => {
    // As many are here as may come. Time for several more looks passes, and whoever set out now is here before the marks.
    clock.advance(4_000);
    for (let mark = 0; mark < 3; mark++) await fetch(`${url}mark`);
    const waiting = [...open];
    open.clear();
    for (const [path, answer] of waiting) {
      served.add(path);
      answer();
    }
  };
  checks.use(Object.fromEntries(Array.from({ length: total }, (_, index) => [`c${index}`, http(`${url}${index}`, { everySeconds: 1, timeoutSeconds: 60 })])));
  clock.advance(1_000);
  while (served.size < total) await new Promise<void>((resolve) => setImmediate(resolve));
  await checks.stop();
  expect(atOnceMost).toBe(LOOKS_AT_ONCE);
  expect(twice).toBe(false);
});

test("while somebody counts, HTTP checks are looked at each second; the state keeps its rhythm", async () => {
  const { checks, pass } = begin();
  const web = await service();
  checks.use({ website: http(web.url), tcp: Check.parse({ tcp: new URL(web.url).host }) });
  await pass(1);
  expect(checks.countsOf("rollout")).toBeNull();
  expect(checks.startCounting("rollout", { tcp: { looked: 5, failed: 1 } })).toEqual({ ok: true });
  await pass(3);
  web.status = 503;
  await pass(6);
  // Six failures, but only extra ones: in its own rhythm it would not have been looked at since.
  expect(checks.countsOf("rollout")).toEqual({ website: { looked: 9, failed: 6 }, tcp: { looked: 5, failed: 1 } });
  expect(checks.states()[1]).toMatchObject({ state: "ok", lastMessage: `${web.url} answered 503, expected 200 to 399` });
  await pass(20);
  expect(checks.states()[1]).toMatchObject({ state: "ok" });
  await pass(2);
  expect(checks.states()[1]).toMatchObject({ state: "failing" });
  expect(checks.countsOf("rollout")).toMatchObject({ tcp: { looked: 8, failed: 1 } });
  const before = web.served["/"] ?? 0;
  checks.stopCounting("rollout");
  await pass(20);
  expect((web.served["/"] ?? 0) - before).toBe(2);
  expect(checks.countsOf("rollout")).toBeNull();
});

test("a look that takes its time is not joined by a second one, whoever counts or changes the rhythm", async () => {
  const { checks, clock } = begin();
  const waiting: (() => void)[] = [];
  let arrived = (): void => {};
  const here = new Promise<void>((resolve) => (arrived = resolve));
  const url = await web((request, response) => {
    if (request.url === "/mark") return void response.end();
    waiting.push(() => response.end());
    arrived();
  });
  checks.use({ slow: http(url, { timeoutSeconds: 60 }) });
  clock.advance(500);
  await here;
  checks.startCounting("rollout");
  checks.use({ slow: http(url, { timeoutSeconds: 60, everySeconds: 2 }) });
  clock.advance(30_000);
  for (let mark = 0; mark < 3; mark++) await fetch(`${url}mark`);
  expect(waiting).toHaveLength(1);
  for (const answer of waiting) answer();
  await checks.settled();
  expect(checks.countsOf("rollout")).toEqual({ slow: { looked: 1, failed: 0 } });
});

test("counts survive a push that changes the question, and are bounded in number", async () => {
  const { checks, pass } = begin();
  const web = await service();
  checks.use({ website: http(web.url) });
  for (let i = 0; i < COUNTERS_MAX; i++) expect(checks.startCounting(`r${i}`)).toEqual({ ok: true });
  expect(checks.startCounting("r0")).toEqual({ ok: true });
  expect(checks.startCounting("one-more")).toEqual({ ok: false, message: expect.stringMatching(/20 others are being counted for already \(r0, r1, r2 …\)/) });
  await pass(1);
  checks.use({ website: http(`${web.url}new`), fresh: http(`${web.url}fresh`) });
  await pass(1);
  expect(checks.countsOf("r3")).toEqual({ website: { looked: 2, failed: 0 }, fresh: { looked: 1, failed: 0 } });
});

test("a check that cannot look is unknown, with the reason", async () => {
  const { checks, pass } = begin();
  checks.use({ script: Check.parse({ command: ["no-such-program"], failuresMax: 1 }) });
  await pass(1);
  expect(checks.states()[0]).toMatchObject({ kind: "command", state: "unknown", lookedCount: 0, lastMessage: expect.stringMatching(/no-such-program is not there/) });
  expect(checks.standingInTheWay()).toEqual(["script"]);
});

test("after stop nothing begins any more, and what ran has ended", async () => {
  const { checks, clock } = begin();
  let arrived = (): void => {};
  const here = new Promise<void>((resolve) => (arrived = resolve));
  const url = await web(() => arrived());
  checks.use({ website: http(url) });
  clock.advance(500);
  await here;
  await checks.stop();
  checks.use({ other: http(url) });
  clock.advance(100_000);
  expect(checks.states()).toMatchObject([{ name: "website", state: "unknown", lookedCount: 0 }]);
});
