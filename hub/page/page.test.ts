import { describe, expect, test } from "vitest";
import { ago, byName, clip, duration, plain, prose } from "./format.ts";
import { assets } from "./assets.ts";
import { diffView, parseDiff } from "./diff.ts";
import { headlineOf } from "./headline.ts";
import { errorPage, loginPage } from "./notices.ts";
import { pageRoutes } from "./routes.ts";
import {
  APT_ERROR, badCluster, before, busyCluster, type Cluster, cluster, detail, emptyCluster, failingNode, goodCluster, hostileCluster, manyNodes, MemoryPageData, node, NOW_MS, report,
} from "./testdata.ts";

const clock = { nowMs: () => NOW_MS };

function appOf(of: Cluster) {
  return pageRoutes(new MemoryPageData(of), clock);
}

async function get(of: Cluster, path: string, status = 200): Promise<string> {
  const answer = await appOf(of).request(path);
  expect(answer.status, path).toBe(status);
  expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
  return answer.text();
}

/** What a person reads: the markup taken away, white space as one blank. */
function words(page: string): string {
  return page
    .replace(/<head>.*?<\/head>/s, "")
    .replace(/<[^>]*>/g, " ")
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&#39;", "'").replaceAll("&amp;", "&")
    .replace(/[\s\u00a0]+/g, " ");
}

describe("the cluster's page", () => {
  test("says in one sentence that all is well", async () => {
    const text = words(await get(goodCluster(), "/"));
    expect(text).toContain("3 of 3 nodes hold 1a2b3c4d");
    expect(text).toContain("on all 3 nodes after 2.0 s");
    expect(text).toContain("Serve the new front page from all three nodes");
    expect(text).not.toContain("attention");
  });

  test("names the one node in trouble, why, and the end of the output", async () => {
    const text = words(await get(cluster([node("n1"), failingNode("n2"), node("n3")]), "/"));
    expect(text).toContain("n2 is failing: packages/nginx and 1 more");
    expect(text).toContain("apt-get ended with 100: a package could not be configured");
    expect(text).toContain("E: Sub-process /usr/bin/dpkg returned an error code (1)");
    expect(text).toContain("2 of 3 nodes hold 1a2b3c4d");
  });

  test("shows every condition with its word, and counts those that need a person", async () => {
    const text = words(await get(badCluster(), "/"));
    for (const condition of ["failing", "refused", "offline", "behind", "converged", "waiting", "revoked"]) expect(text).toContain(`1 ${condition}`);
    expect(text).toContain("3 of 5 nodes need attention");
    expect(text).toContain("refused 1a2b3c4d , keeps 77e0c1f2");
    expect(text).toContain("not signed by a key that this node trusts");
    expect(text).toContain("n4 not yet");
    expect(words(await get(busyCluster(), "/"))).toContain("n2 is converging");
  });

  test("puts a node in trouble before the others", async () => {
    const page = await get(manyNodes(), "/");
    expect(page.indexOf('id="card-n18"')).toBeLessThan(page.indexOf('id="card-n1"'));
  });

  test("says what to do when there is nothing yet", async () => {
    const text = words(await get(emptyCluster(), "/"));
    expect(text).toContain("evenkeel node add n1");
    expect(text).toContain("git push hub main");
    expect(words(await get(cluster([node("n1", "converging", { commit: null })], []), "/"))).toContain("1 node, waiting for a first commit");
    expect(words(await get(cluster([node("n1", "waiting", { commit: null, converge: null, lastSeenAt: null })]), "/"))).toContain("Waiting for n1 to enrol");
  });

  test("shows a bounded number of cards, and says how many are left out", async () => {
    const page = await get(manyNodes(140), "/");
    expect(page.match(/class="card"/g)).toHaveLength(120);
    expect(page).toContain("… and 20 more");
  });
});

describe("the headline", () => {
  test("of a node that the hub refuses names no commit", () => {
    const twin = node("n1", "refused", { why: "another machine has the same machine-id" });
    expect(headlineOf(cluster([twin, node("n2")]).summary).title).toBe("n1 is refused by the hub");
  });

  test("of an offline node is a warning, of a failing one an alarm", () => {
    expect(headlineOf(cluster([node("n1", "offline"), node("n2")]).summary).tone).toBe("warn");
    expect(headlineOf(cluster([node("n1", "offline"), failingNode("n2")]).summary).tone).toBe("bad");
  });

  test("does not count a node at the head whose last converge is not done", () => {
    expect(headlineOf(cluster([node("n1"), node("n2", "converging")]).summary).title).toBe("1 of 2\u00a0nodes holds 1a2b3c4d");
  });
});

describe("a node's page", () => {
  test("shows condition, plan as a diff, history and facts", async () => {
    const page = await get(badCluster(), "/nodes/n2");
    const text = words(page);
    expect(page).toContain("<del>-    gzip off;\n</del>");
    expect(page).toContain("<ins>+        expires 1<b>2</b>h;\n</ins>");
    expect(text).toContain("2 changes in 48 resources");
    expect(text).toContain("tried again");
    expect(text).toContain("2 changes, 1 failed, 1 blocked");
    expect(text).toContain("This commit would remove 14 packages");
    expect(text).toContain("Debian GNU/Linux 12 (bookworm)");
    expect(text).toContain("expires in 62 d");
    expect(text).toContain("disks/ /srv/old");
  });

  test("warns of a certificate that was not renewed, and of one that has ended", async () => {
    const of = node("n1");
    const ending = (agoMs: number) => cluster([of], undefined, [detail(of, { certificate: { serial: "01", notAfter: before(agoMs) } })]);
    expect(words(await get(ending(-86_400_000), "/nodes/n1"))).toContain("not renewed");
    expect(words(await get(ending(3_600_000), "/nodes/n1"))).toContain("expired 60 min ago");
  });

  test("of one that waits says how to enrol it", async () => {
    expect(words(await get(badCluster(), "/nodes/n6"))).toContain("evenkeel node add n6");
  });

  test("keeps its lists short and links to the whole report, which has all", async () => {
    const of = node("n1");
    const changes = Array.from({ length: 300 }, (_, index) => ({ resource: `files//srv/${index}`, action: "write", why: "is missing", impact: "none" as const, result: "done" as const }));
    const converges = Array.from({ length: 50 }, (_, index) => ({ id: index + 1, node: of.name, receivedAt: before(index * 1_000), report: report({ changes, omitted: 7 }) }));
    const facts = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`fact ${index}`, "x"]));
    const long = cluster([of], undefined, [detail(of, { converges, facts })]);
    const page = await get(long, "/nodes/n1");
    expect(page.match(/id="converge-/g)).toHaveLength(25);
    expect(page).toContain('<a href="/converges/1">… and 292 more</a>');
    expect(page).toContain("… and 40 more");
    const whole = await get(long, "/converges/1");
    expect(whole.match(/class="change"/g)).toHaveLength(300);
    expect(whole).toContain("… and 7 more");
  });

  test("that is not there says which ones are", async () => {
    const text = words(await get(goodCluster(), "/nodes/n9", 404));
    expect(text).toContain("No node n9");
    expect(text).toContain("n1 n2 n3");
    expect(words(await get(goodCluster(), "/nodes/%3Cb%3E", 404))).toContain("No node <b>");
  });
});

describe("the page of commits", () => {
  test("says who, when, where and how long", async () => {
    const page = await get(badCluster(), "/commits");
    const text = words(page);
    expect(text).toContain("by Anna Example <anna@example.org>");
    expect(text).toContain("pushed 3 min ago by anna · signed by anna@example.org");
    expect(text).toContain("n2 failed 9.8 s");
    expect(text).toContain("not yet on n3, n4, n5");
    expect(text).toContain("on no node; a newer one came first");
    expect(page).toContain('<rect class="fill" width="11.5%"');
  });

  test("invites the first push", async () => {
    expect(words(await get(emptyCluster(), "/commits"))).toContain("Nothing has been pushed yet");
  });
});

describe("errors and the way in", () => {
  test("an unknown address and an unknown report get a page of their own", async () => {
    expect(words(await get(goodCluster(), "/nowhere", 404))).toContain("There is no page /nowhere");
    expect(words(await get(goodCluster(), "/converges/99999", 404))).toContain("Old ones are removed after a while");
    await get(goodCluster(), "/converges/1e3", 404);
  });

  test("a database that cannot be read gets a calm page; the reason goes to the hub", async () => {
    const data = new MemoryPageData(goodCluster());
    data.cluster = () => Promise.reject(new Error("disk I/O error at /var/lib"));
    const told: string[] = [];
    const answer = await pageRoutes(data, clock, (error, path) => told.push(`${path}: ${error.message}`)).request("/");
    expect(answer.status).toBe(500);
    const text = words(await answer.text());
    expect(text).toContain("journalctl -u evenkeel-hub");
    expect(text).not.toContain("disk I/O");
    expect(told).toEqual(["/: disk I/O error at /var/lib"]);
  });

  test("the login page posts the token, and escapes what it is given", async () => {
    const page = String(await loginPage({ error: '<img src=x onerror="1">', next: '/nodes/n1"><script>' }));
    expect(page).toContain('<form method="post" action="/login">');
    expect(page).toContain('name="token" type="password"');
    expect(page).not.toMatch(/<img|<script/);
    expect(String(await errorPage({ status: 403, title: "No entry", message: "<b>" }))).toContain("&lt;b&gt;");
  });

  test("assets are kept for ever under an address that changes with them", async () => {
    const app = appOf(goodCluster());
    for (const asset of Object.values(assets)) {
      const answer = await app.request(asset.path);
      expect(answer.headers.get("content-type")).toBe(asset.contentType);
      expect(answer.headers.get("cache-control")).toContain("immutable");
      expect(asset.path).toMatch(/\.[\w-]{12}\.\w+$/);
    }
    expect(assets.live.body.length).toBeLessThan(3 * 1_024);
  });
});

describe("hostile text", () => {
  const paths = ["/", "/commits", ...["n1", "n2", "n3", "n4"].map((name) => `/nodes/${name}`)];
  const attack = `"'><script>alert(1)</script><img src=x onerror=alert(1)>\u001b[31m\u202e`;

  test("is never markup, on no page", async () => {
    const hostile = hostileCluster(attack);
    const data = new MemoryPageData(hostile);
    // The router lets only real names through; the data behind them is hostile all the same.
    data.node = async (name) => hostile.details[Number(name.slice(1)) - 1] ?? null;
    data.converge = async () => hostile.details[1]?.converges[0] ?? null;
    const app = pageRoutes(data, clock);
    for (const path of [...paths, "/converges/1", `/${encodeURIComponent(attack)}`, `/nodes/${encodeURIComponent(attack)}`]) {
      const page = await (await app.request(path)).text();
      const scripts = page.match(/<script[^>]*>/g) ?? [];
      expect(scripts.every((tag) => tag === `<script type="module" src="${assets.live.path}">`), `${path}: ${scripts.join(" ")}`).toBe(true);
      expect(page.replace(/"[^"]*"/g, '""'), path).not.toMatch(/<img|<[a-z][^<>]*\sonerror=/i);
      // A quote that got through would end an attribute: every tag is well formed, and nothing is left over.
      expect(page.replace(/<!doctype html>|<\/?[a-z][a-z0-9]*(?:\s+[a-z][\w-]*(?:="[^"<>]*")?)*\s*\/?>/gi, ""), path).not.toMatch(/[<>]/);
      // oxlint-disable-next-line no-control-regex
      expect(words(page), path).not.toMatch(/[\u001b\u202e]/);
    }
  });

  test("loses its colours and its disguise, and keeps its lines", () => {
    expect(plain("\u001b[1;31mred\u001b[0m\r\nnext\ttab\u0007")).toBe("red\nnext\ttab\ufffd");
    expect(plain("\u001b]0;title\u0007x")).toBe("x");
    expect(plain("safe\u202egpj.exe")).toBe("safe\ufffdgpj.exe");
  });

  test("that is long is cut, between characters", () => {
    expect(clip("abcdef", 4)).toBe("abc…");
    expect(clip("ab😀def", 4)).toBe("ab…");
  });

  test("in backticks is code, and still escaped", async () => {
    expect(String(await prose("run `a <b>` now, lone ` stays", 100))).toBe("run <code>a &lt;b&gt;</code> now, lone ` stays");
    expect(String(await prose("last heard of at 2026-03-14T00:06:00.000Z", 100))).toBe("last heard of at 2026-03-14 00:06:00 UTC");
  });
});

describe("words for time", () => {
  test("how long", () => {
    expect([0, 850, 1_240, 9_960, 48_000, 125_000, 600_000, 7_200_000, 345_600_000, -1, Number.NaN].map(duration).map((text) => text.replaceAll("\u00a0", " "))).toEqual(
      ["0 ms", "850 ms", "1.2 s", "10 s", "48 s", "2 min 5 s", "10 min", "2 h", "4 d", "–", "–"],
    );
  });

  test("how far", () => {
    const far = (ms: number) => ago(NOW_MS - ms, NOW_MS).replaceAll("\u00a0", " ");
    expect([0, 4_999, -4_000, 59_900, 60_000, 5_399_000, 5_400_000, 200_000_000, -200_000_000, Number.NaN].map(far)).toEqual(
      ["just now", "just now", "just now", "59 s ago", "1 min ago", "89 min ago", "1 h ago", "2 d ago", "in 2 d", "at an unknown time"],
    );
  });

  test("names in the order of people", () => {
    expect(["n10", "n2", "n1"].sort(byName)).toEqual(["n1", "n2", "n10"]);
  });
});

describe("diffs", () => {
  test("tell headings from changed lines that look like them", () => {
    const kinds = parseDiff("--- a\n+++ b\n@@ -1,2 +1,2 @@\n--- x\n+++ y\n same\n\\ No newline at end of file\n").map(({ kind }) => kind);
    expect(kinds).toEqual(["file", "file", "hunk", "del", "add", "same", "note"]);
  });

  test("mark what changed within a line, where most of it is the same", () => {
    const [, removed, added] = parseDiff("@@ -1 +1 @@\n-    expires 1h;\n+    expires 12h;");
    expect(removed?.changed).toBeUndefined();
    expect(added?.changed).toEqual([14, 15]);
    expect(parseDiff("@@ -1 +1 @@\n-abc\n+xyz").every(({ changed }) => changed === undefined)).toBe(true);
  });

  test("are cut after a number of lines, and say so", async () => {
    const diff = `@@ -0,0 +1,500 @@\n${"+x\n".repeat(500)}`;
    const page = String(await diffView(diff, "what"));
    expect(page.match(/<ins>/g)).toHaveLength(399);
    expect(words(page)).toContain("… and 101 more lines");
  });
});

test("an error's first line is its reason, and the end of the output is never hidden", async () => {
  const page = await get(badCluster(), "/nodes/n2");
  const tail = /<pre class="output tail"[^>]*>([^<]*)</.exec(page)?.[1] ?? "";
  expect(tail.split("\n")).toHaveLength(6);
  expect(APT_ERROR.endsWith(tail.split("\n").at(-1) ?? "-")).toBe(true);
});
