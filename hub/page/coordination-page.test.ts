import { Hono } from "hono";
import { describe, expect, test } from "vitest";
import type { HubEnv } from "../http/environment.ts";
import { CoordinationTwin, denialOf, rolloutNodeOf, rolloutOf } from "../http/coordination-twin.ts";
import { assets } from "./assets.ts";
import { calmScene, down, group, haltedScene, HostileCoordination, manyScene, NAMES, rollingRollout, rollingScene, troubledScene } from "./coordination-testdata.ts";
import { gaugeTone, gaugeWords } from "./gauge.ts";
import { rolloutHeadline } from "./rollout-headline.ts";
import { pageRoutes } from "./routes.ts";
import { before, cluster, emptyCluster, manyNodes, MemoryPageData, node, NOW_MS } from "./testdata.ts";
import { axisOf, spansOf, ticksOf } from "./timeline.ts";

const clock = { nowMs: () => NOW_MS };
const why = "new memory";
const OURS = { "sec-fetch-site": "same-origin" };

function appOf(coordination: CoordinationTwin, role: "admin" | "read" = "admin", data = cluster(NAMES.map((name) => node(name)))): Hono<HubEnv> {
  const app = new Hono<HubEnv>();
  app.use(async (c, next) => {
    c.set("caller", { kind: "person", name: "anna", role, via: "session" });
    await next();
  });
  app.route("/", pageRoutes(new MemoryPageData(data), clock, (error) => { throw error; }, coordination));
  return app;
}

async function get(coordination: CoordinationTwin, path: string, role: "admin" | "read" = "admin", status = 200): Promise<string> {
  const answer = await appOf(coordination, role).request(path);
  expect(answer.status, path).toBe(status);
  expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
  return answer.text();
}

function post(coordination: CoordinationTwin, path: string, fields: Record<string, string> = {}, headers: Record<string, string> = OURS, role: "admin" | "read" = "admin"): Promise<Response> {
  return Promise.resolve(appOf(coordination, role).request(path, { method: "POST", body: new URLSearchParams(fields), headers }));
}

/** What a person reads: the markup taken away, white space as one blank. */
function words(page: string): string {
  return page.replace(/<head>.*?<\/head>/s, "").replace(/<[^>]*>/g, " ").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&#39;", "'").replaceAll("&amp;", "&").replace(/[\s\u00a0]+/g, " ");
}

describe("the rollout's page", () => {
  test("says how it stands, when it will be over, who may go down, and why each node waits", async () => {
    const text = words(await get(rollingScene(), "/rollout"));
    for (const said of [
      "Updating: n2 is rebooting", "1 of 5 done, about 30 min to go; the window suffices", "Window night closes in 2 h", "6 packages, pinned",
      "The whole cluster 4 of 5 up , may lose 1", "routers 2 of 3 up , may lose no more", "n2 leased n2 is rebooting (window night) for 2 min",
      "order n2 is at it (rebooting) for 6 min it goes on by itself when that one is back, well, and watched", "quorum routers: 1 of 3 may be down",
      "drain 14 s confirm 1.0 s update 1 min 36 s reboot 52 s check 9.0 s soak 5 min took 7 min 52 s", "reboot began 39 s ago", "expected to be done in 6 min (02:36)",
      "0 of 2,248 failed", "front page 750 0 ok", "linux-image-6.1.0-39-amd64 new 6.1.153-1 n1, n2", "the hub runs here",
    ]) expect.soft(text).toContain(said);
  });

  test("of a configuration change, it says which commit, and what the nodes do with it", async () => {
    const coordination = new CoordinationTwin();
    const commit = "3f2a91cc".padEnd(40, "0") as never;
    coordination.all = [rolloutOf("r1", NAMES, { kind: "change", commit, startedBy: "commit 3f2a91cc", nodes: [rolloutNodeOf("n1", { role: "canary", state: "working", timeline: [{ phase: "working", at: new Date(NOW_MS - 5_000).toISOString() }] }), rolloutNodeOf("n2")] })];
    coordination.more = { commit: { commit, canaries: ["n1"] as never, state: "bad", text: "3f2a91cc goes no further: the canary n1 does not come to it", cure: "push a commit that mends it" } };
    const text = words(await get(coordination, "/rollout"));
    for (const said of ["Changing: n1 is applying its change", "Configuration change 3f2a91cc, started by commit 3f2a91cc", "apply began 5 s ago", "applies what the repository says"]) expect.soft(text).toContain(said);
    expect(words(await get(coordination, "/"))).toContain("3f2a91cc goes no further: the canary n1 does not come to it · push a commit that mends it");
    expect(words(await get(coordination, "/rollouts/start?kind=change"))).toContain("What nodes hold back of their commit is applied");
  });

  test("halted, it says why, what came out of the node, what was put back, and what to do", async () => {
    const page = await get(haltedScene(), "/rollout");
    const text = words(page);
    for (const said of ["The rollout is halted at n2", "nginx could not be configured (exit status 1)", "look at n2, then evenkeel rollout resume", "It failed", "Sub-process /usr/bin/dpkg returned an error code (1)", "put back to the version of before: nginx, nginx-common", "could not be put back: libssl3", "not installed: openssl 3.0.17-1~deb12u3", "2 of 10,238 failed", "for the same reasons as n3"]) {
      expect.soft(text).toContain(said);
    }
    expect(page).toContain("/resume");
    expect(page).not.toContain("/halt");
    expect(page).toContain(`href="${assets.iconAlert.path}"`);
  });

  test("without one yet, it says when the next window opens; earlier ones are listed, and have pages of their own", async () => {
    const empty = new CoordinationTwin();
    expect(words(await get(empty, "/rollout"))).toContain("No rollout yet");
    expect(words(await get(empty, "/rollouts"))).toContain("There has not been one yet");
    const calm = calmScene();
    expect(words(await get(calm, "/rollout"))).toContain("5 of 5 nodes updated");
    const list = await get(calm, "/rollouts");
    expect(list).toContain('href="/rollouts/cancelled-1"');
    expect(words(list)).toContain("0 of 1,231 requests failed");
    expect(words(await get(calm, "/rollouts/cancelled-1"))).toContain("The rollout was cancelled");
    expect(words(await get(calm, "/rollouts/r-99", "admin", 404))).toContain("No such rollout");
  });

  test("is fetched again while something moves, and only then", async () => {
    expect(await get(rollingScene(), "/rollout")).toContain("data-moves");
    expect(await get(calmScene(), "/rollout")).not.toContain("data-moves");
  });

  test("of a large cluster is bounded, and says the same thing once", async () => {
    const page = await (await appOf(manyScene(250), "admin", manyNodes(50)).request("/rollout")).text();
    expect(page.match(/class="lane-row"/g)).toHaveLength(200);
    expect(words(page)).toContain("… and 50 more");
    expect(words(page)).toContain("for the same reasons as n22");
    expect(words(page)).toContain("128 more packages");
  });
});

describe("the first page", () => {
  test("has the services on top, and a service that fails is the headline", async () => {
    const page = await get(troubledScene(), "/");
    expect(page.indexOf('id="checks"')).toBeLessThan(page.indexOf("<h1"));
    const text = words(page);
    for (const said of ["front page is failing 5 of 5 nodes hold", "failing for 4 min", "502 Bad Gateway", "The cluster is held by bob : the auditors are here for 26 h , until 2026-03-14 12:30:00 UTC", "Blackout until 2026-03-17 02:30: end of the quarter", "n6 left in 3e5c91aa", "conflict n1 , n2 unattended-upgrades reboots this node by itself", "Updates 12, 3 security", "Reboot needed", "Slot kept drained", "Slot stuck", "Slot asked for", "could not look"]) {
      expect.soft(text).toContain(said);
    }
    expect(page).toContain(`href="${assets.iconAlert.path}"`);
  });

  test("has the rollout in one line, which leads to it", async () => {
    expect(await get(rollingScene(), "/")).toMatch(/href="\/rollout">Updating: n2 is rebooting · 1 of 5 done/);
    expect(words(await get(calmScene(), "/"))).toContain("Window night opens in 23 h (2026-03-15 02:00 UTC) · 5 of 5 nodes updated 20 min ago");
  });

  test("of an empty cluster says nothing of any of this", async () => {
    const twin = new CoordinationTwin([]);
    twin.more = { groups: [] };
    expect(words(await (await appOf(twin, "admin", emptyCluster()).request("/")).text())).not.toContain("Who may go down");
  });
});

describe("a node's page", () => {
  test("says why it is not being rebooted now, and what would change that", async () => {
    const text = words(await get(troubledScene(), "/nodes/n5"));
    for (const said of ["Why it is not being rebooted now", "the cluster is held by bob", "checks front page is failing for 4 min", "quorum cluster: 2 of 5 may be down", "n4 gives its slot back after evenkeel resume n4", "asked for by anna 12 min ago", "Withdraw…", "/run/reboot-required of linux-base"]) expect.soft(text).toContain(said);
  });

  test("shows its slot, where it is with it, and its times in the rollout", async () => {
    const page = await get(rollingScene(), "/nodes/n2");
    const text = words(page);
    for (const said of ["rebooting into 6.1.0-39-amd64", "update, for window night", "reboot began 39 s ago", "4 security"]) expect.soft(text).toContain(said);
    expect(page).toMatch(/aria-current="step"[^>]*>.*?update/s);
    const stuck = words(await get(troubledScene(), "/nodes/n3"));
    expect(stuck).toContain("Stuck for 2 h n3 has not come back for 30 min");
    expect(stuck).toContain("Clear the slot…");
  });

  test.each([["n1", ["Drain", "Reboot", "Hold"]], ["n2", ["Drain", "Reboot", "Lift the hold"]], ["n4", ["Resume", "Clear the slot", "Hold"]], ["n5", ["Withdraw", "Hold"]]])("offers what fits: %s", async (name, offers) => {
    const page = await get(troubledScene(), `/nodes/${name}`);
    expect([...page.matchAll(/class="button [a-z]+" href="[^"]+">([^<]+)…</g)].map(([, offer]) => offer)).toEqual(offers);
  });
});

const actions: readonly (readonly [path: string, fields: Record<string, string>, asked: readonly unknown[], leadsTo: string])[] = [
  ["/rollouts/7c1f-2026-03-14/halt", { why }, ["halt", "7c1f-2026-03-14", { why }, "anna"], "/rollout"],
  ["/rollouts/7c1f-2026-03-14/cancel", { why }, ["cancel", "7c1f-2026-03-14", { why }, "anna"], "/rollout"],
  ["/rollouts/7c1f-2026-03-14/resume", { why, failed: "skip" }, ["resume", "7c1f-2026-03-14", { why, failed: "skip" }, "anna"], "/rollout"],
  ["/rollouts/start", { kind: "update", scope: "security", node: "n2" }, ["startRollout", { kind: "update", scope: "security", nodes: ["n2"] }, "anna"], "/rollout"],
  ["/rollouts/start", { kind: "reboot", scope: "all" }, ["startRollout", { kind: "reboot" }, "anna"], "/rollout"],
  ["/nodes/n1/drain", { why }, ["drain", "n1", { why, despiteChecks: false }, "anna"], "/nodes/n1"],
  ["/nodes/n1/reboot", { why, despiteChecks: "yes" }, ["reboot", "n1", { why, despiteChecks: true }, "anna"], "/nodes/n1"],
  ["/nodes/n2/resume", {}, ["resume", "n2", "anna"], "/nodes/n2"],
  ["/nodes/n1/hold", { why, hours: "" }, ["hold", "n1", why, null, "anna"], "/nodes/n1"],
  ["/nodes/n1/unhold", {}, ["unhold", "n1", "anna"], "/nodes/n1"],
  ["/hold", { why, hours: "4" }, ["hold", "*", why, before(-4 * 3_600_000), "anna"], "/"],
  ["/unhold", {}, ["unhold", "*", "anna"], "/"],
  ["/leases/lease-2/abort", { why }, ["abort", "lease-2", { why }, "anna"], "/nodes/n2"],
  ["/leases/lease-2/clear", { why }, ["clear", "lease-2", { why }, "anna"], "/nodes/n2"],
];

describe("actions", () => {
  test.each(actions)("%s asks first, and then asks the coordinator in the reader's name", async (path, fields, asked, leadsTo) => {
    const scene = rollingScene();
    const page = await get(scene, path);
    expect(page).toContain('<form method="');
    expect(page).not.toContain(`src="${assets.live.path}"`);
    expect(scene.asked).toEqual([]);
    const answer = await post(scene, path, fields);
    expect([answer.status, answer.headers.get("location")]).toEqual([303, leadsTo]);
    expect(scene.asked).toEqual([asked]);
  });

  test.each(actions)("%s is for admins, and only from our own pages", async (path, fields) => {
    const scene = rollingScene();
    await get(scene, path, "read", 403);
    expect((await post(scene, path, fields, OURS, "read")).status).toBe(403);
    for (const headers of [{}, { "sec-fetch-site": "cross-site" }, { "sec-fetch-site": "same-site" }, { origin: "https://evil.example" }] as const) expect((await post(scene, path, fields, headers)).status).toBe(403);
    expect(scene.asked).toEqual([]);
  });

  test("a reader sees everything but the buttons", async () => {
    for (const [scene, path] of [[rollingScene(), "/rollout"], [calmScene(), "/rollouts"], [troubledScene(), "/"], [troubledScene(), "/rollout"], [troubledScene(), "/nodes/n4"]] as const) {
      expect(await get(scene, path), path).toContain('class="button');
      expect(await get(scene, path, "read"), path).not.toContain('class="button');
    }
  });

  test("nothing is done without a reason where one is asked for, and what was typed stays", async () => {
    const scene = rollingScene();
    const answer = await post(scene, "/nodes/n1/reboot", { why: "   ", despiteChecks: "yes" });
    expect(answer.status).toBe(400);
    const page = await answer.text();
    expect(words(page)).toContain("say why: it is kept, and shown to whoever wonders");
    expect(page).toMatch(/value="yes" checked/);
    expect(scene.asked).toEqual([]);
  });

  test("what the coordinator will not do, it says why, with what would change it", async () => {
    const scene = rollingScene();
    scene.denials = [denialOf("order-alive", "n2 cannot be reached, and an order to it could still be acted upon for 40 s", "try again then")];
    const answer = await post(scene, "/leases/lease-2/clear", { why: 'it is "off"' });
    expect(answer.status).toBe(409);
    const page = await answer.text();
    expect(words(page)).toContain("Not done. The coordinator says why: order-alive n2 cannot be reached");
    expect(words(page)).toContain("try again then");
    expect(page).toContain('value="it is &quot;off&quot;"');
  });

  test("what is not there has no form", async () => {
    const scene = rollingScene();
    for (const path of ["/rollouts/r-9/halt", "/nodes/n9/drain", "/nodes/%3Cb%3E/drain", "/leases/lease-9/clear", "/leases/a%20b/abort", "/groups/nobody/settle"]) {
      await get(scene, path, "admin", 404);
      expect((await post(scene, path, { why })).status, path).toBe(404);
    }
    expect(scene.asked).toEqual([]);
  });

  test("a group that settles can be settled", async () => {
    const scene = troubledScene();
    expect(words(await get(scene, "/groups/etcd/settle"))).toContain("n6 left in 3e5c91aa");
    await post(scene, "/groups/etcd/settle", { why });
    expect(scene.asked).toEqual([["settle", "etcd", { why }, "anna"]]);
  });

  test("after a failure, resuming asks what is to become of the node; else it does not", async () => {
    expect(await get(haltedScene(), "/rollouts/7c1f-2026-03-14/resume")).toMatch(/name="failed" value="retry" required>.*value="skip">/s);
    expect(await get(rollingScene(), "/rollouts/7c1f-2026-03-14/resume")).not.toContain('name="failed"');
  });

  test("starting a rollout says which nodes and how much, before its second button", async () => {
    const scene = troubledScene();
    const form = await get(scene, "/rollouts/start");
    expect(form).toContain('<form method="get" action="/rollouts/start">');
    const text = words(await get(scene, "/rollouts/start?kind=update&scope=all&node=n1&node=n3"));
    for (const said of ["2 nodes, one after the other: n1, n3. All updates.", "12 packages in all, of which 3 from a security archive", "n3 has not said yet", "Held: the cluster, n2"]) expect.soft(text).toContain(said);
    expect(words(await get(scene, "/rollouts/start?kind=nonsense"))).toContain("What for?");
    scene.denials = [denialOf("rollout", "a rollout is running already (started by bob)")];
    const answer = await post(scene, "/rollouts/start", { kind: "update" });
    expect(answer.status).toBe(409);
    expect(words(await answer.text())).toContain("a rollout is running already");
  });

  test("a form that is too large is not read", async () => {
    expect((await post(rollingScene(), "/hold", { why: "x".repeat(200_000) })).status).toBe(413);
  });
});

test("hostile text is never markup, on no page and in no form", async () => {
  const attack = `"'><script>alert(1)</script><img src=x onerror=alert(1)>\u001b[31m\u202e`;
  const paths = ["/", "/rollout", "/rollouts", "/rollouts/x", "/rollouts/x/halt", "/rollouts/x/resume", "/rollouts/start", "/rollouts/start?kind=update", "/hold", "/unhold", ...NAMES.map((name) => `/nodes/${name}`), "/nodes/n1/drain", "/nodes/n4/resume", "/nodes/n1/hold"];
  for (const scene of [rollingScene(), haltedScene(), troubledScene()]) {
    for (const path of paths) {
      const page = await (await appOf(new HostileCoordination(scene, attack)).request(path)).text();
      expect((page.match(/<script[^>]*>/g) ?? []).every((tag) => tag === `<script type="module" src="${assets.live.path}">`), path).toBe(true);
      expect(page.replace(/"[^"]*"/g, '""'), path).not.toMatch(/<img|<[a-z][^<>]*\sonerror=/i);
      expect(page.replace(/<!doctype html>|<\/?[a-z][a-z0-9]*(?:\s+[a-z][\w-]*(?:="[^"<>]*")?)*\s*\/?>/gi, ""), path).not.toMatch(/[<>]/);
      // oxlint-disable-next-line no-control-regex
      expect(words(page), path).not.toMatch(/[\u001b\u202e]/);
    }
  }
  const typed = await post(rollingScene(), "/nodes/n1/drain", { why: attack.repeat(20) });
  expect(typed.status).toBe(400);
  expect(await typed.text()).not.toMatch(/<img|<script/);
});

describe("gauges", () => {
  const three = ["n1", "n2", "n3"];
  test.each([
    [group("g", three), "3 of 3 up, may lose 1", "good"],
    [group("g", three, [down("n2", "leased", "", 0)]), "2 of 3 up, may lose no more", "busy"],
    [group("g", three, [down("n2", "unreachable", "", 0)]), "2 of 3 up, may lose no more", "warn"],
    [group("g", three, [down("n2", "leased", "", 0), down("n3", "unhealthy", "", 0)]), "1 of 3 up, may lose no more", "bad"],
    [group("g", ["n1", "n2"]), "2 of 2 up, may lose none", "off"],
  ] as const)("%#", (of, said, tone) => {
    expect([gaugeWords(of), gaugeTone(of)]).toEqual([said, tone]);
  });

  test("draw a place for each member, up to a bound", async () => {
    const twin = new CoordinationTwin(["n1"]);
    const names = Array.from({ length: 300 }, (_, index) => `n${index + 1}`);
    twin.more = { groups: [group("small", names.slice(0, 5)), group("large", names)] };
    expect((await get(twin, "/rollout")).match(/class="place"/g)).toHaveLength(5 + 1);
  });
});

describe("timelines", () => {
  const at = (agoMs: number, phase: string) => ({ phase, at: before(agoMs) });

  test("a phase lasts until the next, the last one until now; the end takes no time", () => {
    expect(spansOf({ timeline: [at(9_000, "draining"), at(5_000, "working")], endedAt: null }, NOW_MS)).toEqual([
      { phase: "draining", fromMs: NOW_MS - 9_000, toMs: NOW_MS - 5_000, going: false },
      { phase: "working", fromMs: NOW_MS - 5_000, toMs: NOW_MS, going: true },
    ]);
    expect(spansOf({ timeline: [at(9_000, "soaking"), at(5_000, "done")], endedAt: before(5_000) }, NOW_MS)).toHaveLength(1);
    // A clock that was put back makes no bar of negative length.
    expect(spansOf({ timeline: [at(1_000, "draining"), at(5_000, "working")], endedAt: before(9_000) }, NOW_MS).every(({ fromMs, toMs }) => toMs >= fromMs)).toBe(true);
  });

  test("the axis reaches to the forecast's end; of a halted rollout only as far as it got", () => {
    const running = rollingRollout();
    expect(axisOf(running, NOW_MS)).toEqual({ fromMs: Date.parse(running.startedAt), toMs: Date.parse(running.forecast.doneAt ?? ""), nowMs: NOW_MS });
    const halted = rolloutOf("r", ["n1"], { startedAt: before(36_000_000), phase: "halted", halt: { at: before(35_000_000), node: null, why, cure: "" }, nodes: [rolloutNodeOf("n1")] });
    expect(axisOf(halted, NOW_MS)).toMatchObject({ toMs: NOW_MS - 35_000_000, nowMs: null });
  });

  test.each([1_000, 17_000, 90_000, 1_800_000, 7 * 3_600_000, 40 * 3_600_000, 90 * 86_400_000])("few enough labels for %d ms", (lengthMs) => {
    const ticks = ticksOf({ fromMs: NOW_MS, toMs: NOW_MS + lengthMs, nowMs: null });
    expect(ticks.length).toBeGreaterThan(0);
    expect(ticks.length).toBeLessThanOrEqual(6);
    expect(ticks.every(({ ms }) => ms >= NOW_MS && ms <= NOW_MS + lengthMs)).toBe(true);
  });
});

describe("the headline", () => {
  const of = (more: Parameters<typeof rolloutOf>[2]) => rolloutHeadline(rolloutOf("r", ["n1", "n2"], more)).title;
  test("says who is at it, or what is waited for", () => {
    expect(of({})).toBe("Updating: n1 is next");
    expect(of({ kind: "reboot", nodes: [rolloutNodeOf("n1", { state: "soaking" })] })).toBe("Rebooting: n1 is being watched");
    expect(of({ canarySoakUntil: before(-1_000), nodes: [rolloutNodeOf("n1", { state: "done" }), rolloutNodeOf("n2")] })).toBe("Updating: the canary is being watched");
    expect(of({ phase: "halted", halt: { at: before(0), node: null, why, cure: "" } })).toBe("The rollout is halted");
    expect(of({ phase: "done", nodes: [rolloutNodeOf("n1", { state: "done" }), rolloutNodeOf("n2", { state: "skipped" })] })).toBe("1 of 2\u00a0nodes updated");
  });
});
