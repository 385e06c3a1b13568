import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { CoordinationTwin } from "../../hub/http/coordination-twin.ts";
import type { HubEnv } from "../../hub/http/environment.ts";
import { calmScene, haltedScene, HostileCoordination, manyScene, NAMES, rollingScene, troubledScene } from "../../hub/page/coordination-testdata.ts";
import { askedPreview, fullPreview, MemoryPreviews, quietPreview } from "../../hub/page/preview-testdata.ts";
import { pageRoutes } from "../../hub/page/routes.ts";
import { badCluster, busyCluster, type Cluster, cluster, emptyCluster, failingNode, goodCluster, hostileCluster, manyNodes, MemoryPageData, node, NOW_MS } from "../../hub/page/testdata.ts";
import { Trial } from "../../hub/trial.ts";

/** The status page in a real Chromium, over real sockets. With SCREENSHOTS=DIR set, the pictures are kept there. */

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

let browser: Browser;
const endings: (() => Promise<unknown> | void)[] = [];

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGS });
});
afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end();
});
afterAll(async () => {
  await browser?.close();
});

interface Site {
  readonly url: string;
  readonly data: MemoryPageData;
  /** Ends the event streams that are open and refuses new ones, as a hub that is being restarted does. */
  hush(quiet: boolean): void;
  /** How many pages were asked for. */
  readonly asked: { pages: number };
}

async function open(of: Cluster, coordination: CoordinationTwin | null = null, previews: MemoryPreviews | null = null): Promise<Site> {
  const data = new MemoryPageData(of);
  const streams = new Set<() => void>();
  const asked = { pages: 0 };
  let quiet = false;
  const app = new Hono<HubEnv>();
  app.get("/api/v1/events", (c) => {
    if (quiet) return c.text("restarting", 503);
    return streamSSE(c, async (stream) => {
      await stream.write(": welcome\n\n");
      const unsubscribe = data.subscribe((change) => void stream.writeSSE({ event: "change", data: JSON.stringify(change) }));
      await new Promise<void>((resolve) => {
        streams.add(resolve);
        stream.onAbort(resolve);
      });
      unsubscribe();
    });
  });
  app.use(async (c, next) => {
    if (!c.req.path.startsWith("/assets/")) asked.pages += 1;
    c.set("caller", { kind: "person", name: "anna", role: "admin", via: "session" });
    await next();
  });
  app.route("/", pageRoutes(data, { nowMs: () => NOW_MS }, undefined, coordination, previews));
  const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 }) as Server;
  await once(server, "listening");
  const hushNow = (): void => {
    for (const end of streams) end();
    streams.clear();
  };
  endings.push(() => {
    hushNow();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    data,
    asked,
    hush(now) {
      quiet = now;
      if (now) hushNow();
    },
  };
}

/** A tab that remembers everything that a developer's console would show: errors, CSP violations, failed requests. */
async function tab(options: BrowserContextOptions = {}): Promise<{ page: Page; complaints: string[] }> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
  endings.push(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, complaints };
}

async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env["SCREENSHOTS"];
  if (folder === undefined) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

test("without JavaScript, the pages are whole", async () => {
  const site = await open(badCluster());
  const { page, complaints } = await tab({ javaScriptEnabled: false });
  await page.goto(site.url);
  expect(await page.locator("h1").innerText()).toBe("3 of 5\u00a0nodes need attention");
  for (const words of ["apt-get ended with 100", "not signed by a key", "Serve the new front page", "as of 02:30:00 UTC"]) {
    await expect.soft(page.getByText(words).first().isVisible(), words).resolves.toBe(true);
  }
  expect(await page.locator("#card-n2 .tail").innerText()).toContain("E: Sub-process /usr/bin/dpkg returned an error code (1)");
  await page.locator("#to-n2").press("Enter");
  expect(await page.locator("h1").innerText()).toContain("n2");
  const push = page.locator("#converge-208");
  expect(await push.getByText("gzip_types").isVisible()).toBe(false);
  await push.locator("summary.row").click();
  expect(await push.getByText("gzip_types").isVisible()).toBe(true);
  await page.getByRole("link", { name: "Whole report" }).first().click();
  await page.getByRole("link", { name: "Commits" }).click();
  expect(await page.locator(".commit-item").count()).toBe(8);
  expect(complaints).toEqual([]);
});

describe("with JavaScript", () => {
  test("a change appears without a reload, and leaves the reader where he is", async () => {
    const site = await open(cluster([node("n1"), failingNode("n2"), node("n3")]));
    const { page, complaints } = await tab({ viewport: { width: 1200, height: 500 } });
    await page.goto(site.url);
    await page.locator('#live[data-state="live"]').waitFor();
    await page.evaluate("window.sameDocument = true");
    await page.locator("#card-n2 .output-all summary").click();
    await page.locator("#to-n3").focus();
    await page.evaluate("scrollTo(0, 300)");

    const busy = busyCluster();
    const nodes = [node("n1", "converging", { why: "is applying 1a2b3c4d" }), failingNode("n2"), node("n3", "converged", { driftRepairs24h: 7 }), node("n4")];
    site.data.become(cluster(nodes, busy.commits), { topic: "node", name: "n1" });

    await page.locator("#card-n4").waitFor();
    expect(await page.locator("#card-n1 .pill").innerText()).toBe("converging");
    expect(await page.locator("#card-n3").innerText()).toContain("7×");
    expect(await page.evaluate("window.sameDocument")).toBe(true);
    expect(await page.evaluate("document.activeElement.id")).toBe("to-n3");
    expect(await page.evaluate("scrollY")).toBe(300);
    expect(await page.evaluate('document.querySelector("#card-n2 .output-all").open')).toBe(true);

    site.data.become(goodCluster(), { topic: "commits", name: "x" });
    await page.getByRole("heading", { name: "3 of 3 nodes hold 1a2b3c4d" }).waitFor();
    expect(await page.title()).toContain("3 of 3");
    expect(await page.locator(".card").count()).toBe(3);
    expect(complaints).toEqual([]);
  });

  test("a storm of changes is fetched a few times, not a thousand", async () => {
    const site = await open(goodCluster());
    const { page } = await tab();
    await page.goto(site.url);
    await page.locator('#live[data-state="live"]').waitFor();
    const before = site.asked.pages;
    for (let index = 0; index < 1_000; index += 1) site.data.become(goodCluster(), { topic: "node", name: "n1" });
    site.data.become(busyCluster(), { topic: "node", name: "n2" });
    await page.getByText("n2 is converging").waitFor();
    expect(site.asked.pages - before).toBeLessThan(50);
  });

  test("says so while the hub is away, and catches up by itself", async () => {
    const site = await open(goodCluster());
    const { page } = await tab();
    await page.goto(site.url);
    await page.locator('#live[data-state="live"]').waitFor();
    site.hush(true);
    await page.getByText("reconnecting…").waitFor();
    site.data.become(busyCluster(), { topic: "node", name: "n2" });
    site.hush(false);
    await page.getByText("n2 is converging").waitFor();
    await page.locator('#live[data-state="live"]').waitFor();
    expect(await page.locator("#live").innerText()).toBe("live");
  });

  test("ages grow by themselves", async () => {
    const site = await open(goodCluster());
    const { page } = await tab();
    await page.clock.install();
    await page.goto(site.url);
    const seen = page.locator("#card-n1 time").first();
    expect(await seen.innerText()).toMatch(/^1\d\ss ago$/);
    await page.clock.fastForward(120_000);
    await expect.poll(() => seen.innerText()).toMatch(/^2\smin ago$/);
  });

  test("hostile text runs nothing and makes no element", async () => {
    const site = await open(hostileCluster(`"'><script>document.title="owned"</script><img src=x onerror="document.title='owned'">`));
    const { page, complaints } = await tab();
    for (const path of ["/", "/commits"]) {
      await page.goto(site.url + path);
      await page.locator('#live[data-state="live"]').waitFor();
      expect(await page.locator("main script, main img").count()).toBe(0);
      expect(await page.title()).not.toBe("owned");
    }
    expect(complaints).toEqual([]);
  });
});

/** Five nodes, all well, for what goes on above them. */
function five(): Cluster {
  return cluster(NAMES.map((name) => node(name)));
}

test("a rollout is halted by two clicks and a reason, without JavaScript, and only from here", async () => {
  const scene = rollingScene();
  const site = await open(five(), scene);
  const { page, complaints } = await tab({ javaScriptEnabled: false });
  await page.goto(site.url);
  await page.getByRole("link", { name: "Updating: n2 is rebooting" }).click();
  expect(await page.locator("h1").innerText()).toBe("Updating: n2 is rebooting");
  expect(await page.getByText("n2 is at it (rebooting)").first().isVisible()).toBe(true);
  await page.getByRole("link", { name: "Halt" }).press("Enter");
  await page.getByRole("button", { name: "Halt the rollout" }).click();
  // The browser itself asks for the reason.
  expect(scene.asked).toEqual([]);
  await page.getByLabel("Why?").fill('the "new" kernel looks odd');
  await page.getByLabel("Why?").press("Enter");
  await page.waitForURL("**/rollout");
  expect(scene.asked).toEqual([["halt", "7c1f-2026-03-14", { why: 'the "new" kernel looks odd' }, "anna"]]);
  expect(await page.locator("h1").innerText()).toBe("The rollout is halted");
  await page.getByRole("link", { name: "Resume" }).click();
  await page.getByLabel("Why?").fill("it is fine");
  await page.getByRole("button", { name: "Resume the rollout" }).click();
  await page.waitForURL("**/rollout");
  expect(scene.asked).toHaveLength(2);

  // The same form on a page of somebody else's.
  await page.route("http://evil.example/", (route) => route.fulfill({ contentType: "text/html", body: `<form method="post" action="${site.url}/hold"><input name="why" value="ha"><button>Win</button></form>` }));
  await page.goto("http://evil.example/");
  await page.getByRole("button", { name: "Win" }).click();
  await page.getByText("That form did not come from this page").waitFor();
  expect(scene.asked).toHaveLength(2);
  expect(complaints.filter((text) => !text.includes("403"))).toEqual([]);
});

test("a node moves through its phases before one's eyes", async () => {
  const scene = rollingScene();
  const site = await open(five(), scene);
  const { page, complaints } = await tab();
  await page.goto(`${site.url}/rollout`);
  await page.locator('#live[data-state="live"]').waitFor();
  await page.locator("#to-n2").focus();
  const [rollout] = scene.all;
  if (rollout === undefined) throw new Error("the scene has a rollout");
  const nodes = rollout.nodes.map((each) => (each.node === "n2" ? { ...each, state: "soaking" as const, timeline: [...each.timeline, { phase: "checking", at: new Date(NOW_MS - 8_000).toISOString() }, { phase: "soaking", at: new Date(NOW_MS - 3_000).toISOString() }] } : each));
  scene.all = [{ ...rollout, nodes }];
  site.data.become(five(), { topic: "coordination", name: "" });
  await page.getByRole("heading", { name: "Updating: n2 is being watched" }).waitFor();
  expect(await page.locator("#lane-n2 .phases li").count()).toBe(6);
  expect(await page.evaluate("document.activeElement.id")).toBe("to-n2");
  expect(complaints).toEqual([]);
});

test("how long it has been so grows by itself, in the same words", async () => {
  const site = await open(five(), troubledScene());
  const { page } = await tab();
  await page.clock.install();
  await page.goto(site.url);
  const since = page.locator(".check time").first();
  expect(await since.innerText()).toBe("for 4\u00a0min");
  await page.clock.fastForward(120_000);
  await expect.poll(() => since.innerText()).toBe("for 6\u00a0min");
});

type Look = readonly [name: string, of: () => Cluster, paths: readonly string[], coordination: (() => CoordinationTwin) | null];
const PREVIEWS: Readonly<Record<string, () => MemoryPreviews>> = {
  previews: () => new MemoryPreviews(fullPreview(), quietPreview(), askedPreview()),
  "long words previews": () => new MemoryPreviews(fullPreview("x".repeat(200), "x".repeat(400))),
};
const LOOKS: readonly Look[] = [
  ["good", goodCluster, ["/", "/nodes/n1", "/commits", "/nodes/n9"], null],
  ["bad", badCluster, ["/", "/nodes/n2", "/nodes/n4", "/nodes/n6", "/converges/209", "/commits"], null],
  ["empty", emptyCluster, ["/", "/commits"], null],
  ["many", manyNodes, ["/", "/commits"], null],
  ["long words", () => hostileCluster("x".repeat(400)), ["/", "/commits"], null],
  ["previews", five, ["/", "/previews/gzip", "/previews/quiet", "/previews/asked", "/previews/gone"], null],
  ["long words previews", five, ["/", `/previews/${"x".repeat(200)}`], null],
  ["calm", five, ["/", "/rollout", "/rollouts", "/rollouts/start", "/rollouts/start?kind=update"], calmScene],
  ["rolling", five, ["/", "/rollout", "/nodes/n2", "/rollouts/7c1f-2026-03-14/halt"], rollingScene],
  ["halted", five, ["/rollout", "/rollouts/7c1f-2026-03-14/resume"], haltedScene],
  ["troubled", five, ["/", "/rollout", "/nodes/n3", "/nodes/n5", "/nodes/n1/drain", "/hold"], troubledScene],
  ["many rolling", manyNodes, ["/", "/rollout"], manyScene],
  ["long words rolling", five, ["/", "/rollout", "/rollouts", "/nodes/n2", "/rollouts/x/resume", "/nodes/n1/drain"], () => new HostileCoordination(troubledScene(), "x".repeat(400))],
  ["long words halted", five, ["/rollout", "/rollouts/x/resume"], () => new HostileCoordination(haltedScene(), "x".repeat(400))],
];

describe.each(["light", "dark"] as const)("in %s", (colorScheme) => {
  test.each(LOOKS)("nothing is wider than a phone of 360 px, nothing complains: %s", async (name, of, paths, coordination) => {
    const site = await open(of(), coordination?.(), PREVIEWS[name]?.());
    for (const width of [360, 1_200]) {
      const { page, complaints } = await tab({ viewport: { width, height: 800 }, colorScheme });
      for (const path of paths) {
        await page.goto(site.url + path);
        // Unfolded, it must fit as well.
        await page.evaluate('document.querySelectorAll("details").forEach((each) => { each.open = true; })');
        const widest = await page.evaluate(
          'Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll("main *")].filter((each) => !each.closest("pre, svg")).map((each) => Math.ceil(each.getBoundingClientRect().right)))',
        );
        expect.soft(widest, `${path} at ${width} px`).toBeLessThanOrEqual(width);
        await page.evaluate('document.querySelectorAll("details").forEach((each) => { each.open = false; })');
        await picture(page, `${name}${path.replaceAll(/[/?=&]/g, "_")}-${colorScheme}-${width}`);
      }
      // A page that is not there answers 404, which the console mentions.
      expect(complaints.filter((text) => !text.includes("404"))).toEqual([]);
    }
  });

  test("the scheme is followed", async () => {
    const site = await open(goodCluster());
    const { page } = await tab({ colorScheme });
    await page.goto(site.url);
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe(colorScheme === "light" ? "rgb(244, 247, 248)" : "rgb(12, 21, 27)");
  });
});

test("the keyboard reaches the content, the cards and what is folded", async () => {
  const site = await open(cluster([failingNode("n1"), node("n2")]));
  const { page } = await tab();
  await page.goto(site.url);
  await page.keyboard.press("Tab");
  expect(await page.evaluate("document.activeElement.textContent")).toBe("Skip to the content");
  await page.keyboard.press("Enter");
  const reached: string[] = [];
  for (let step = 0; step < 14; step += 1) {
    await page.keyboard.press("Tab");
    reached.push(String(await page.evaluate("document.activeElement.id || document.activeElement.tagName")));
  }
  expect(reached).toEqual(expect.arrayContaining(["to-n1", "SUMMARY", "to-n2"]));
  await page.locator("#to-n1").focus();
  expect(await page.evaluate('getComputedStyle(document.activeElement, "::before").outlineStyle')).toBe("solid");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/nodes/n1");
});

test("a real hub: log in by the form, see a machine enrol and a push arrive, log out", async () => {
  const trial = new Trial();
  endings.push(() => trial.end());
  const hub = await trial.start();
  await trial.makeRepository(["n1"]);
  const { page, complaints } = await tab();

  await page.goto(`${hub.urls.page}/commits`);
  await page.getByLabel("Access token").fill("not-the-token");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Access token").fill(hub.adminToken ?? "");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("Nothing has been pushed yet").waitFor();
  await page.getByRole("link", { name: "trial" }).click();
  await page.getByText("evenkeel node add n1").first().waitFor();
  await page.locator('#live[data-state="live"]').waitFor();

  const commit = await trial.commit("Let there be n1");
  expect(await trial.push()).toMatchObject({ code: 0 });
  await page.getByText("Let there be n1").first().waitFor();
  const machine = await trial.connect(await trial.enrol("n1"));
  await machine.hello();
  await machine.publish("converge", { v: 1, commit, outcome: "converged", at: new Date().toISOString(), failing: [], refused: null, problems: [] });
  await page.getByRole("heading", { name: `1 of 1 node holds ${commit.slice(0, 8)}` }).waitFor();

  await page.getByRole("link", { name: "Hold the cluster" }).click();
  await page.getByLabel("Why?").fill("the auditors are here");
  await page.getByLabel("For how long?").selectOption("4 h");
  await page.getByRole("button", { name: "Hold the cluster" }).click();
  await page.getByText("the auditors are here").waitFor();
  await page.locator("#to-n1").click();
  await page.getByText(/it could not go now/).waitFor();
  await page.getByRole("link", { name: "trial" }).click();
  await page.getByRole("link", { name: "Lift the hold" }).click();
  await page.getByRole("button", { name: "Lift the hold" }).click();
  await page.getByRole("link", { name: "Hold the cluster" }).waitFor();
  await page.getByRole("link", { name: "Rollout" }).click();
  await page.getByRole("heading", { name: "No rollout yet" }).waitFor();
  await page.getByRole("link", { name: "trial" }).click();
  await picture(page, "real-hub");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByText("Welcome aboard").waitFor();
  // 401 for the wrong token is meant to be there.
  expect(complaints.filter((text) => !text.includes("401"))).toEqual([]);
});
