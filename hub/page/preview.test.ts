import { expect, test } from "vitest";
import { pageRoutes } from "./routes.ts";
import { askedPreview, fullPreview, MemoryPreviews, quietPreview } from "./preview-testdata.ts";
import { goodCluster, MemoryPageData, NOW_MS } from "./testdata.ts";

/** Previews on the page, as they leave the hub. */

const page = async (path: string, previews = new MemoryPreviews(fullPreview(), quietPreview(), askedPreview())) => {
  const answer = await pageRoutes(new MemoryPageData(goodCluster()), { nowMs: () => NOW_MS }, undefined, null, previews).request(path);
  return { status: answer.status, text: await answer.text() };
};

test("the first page lists them with what they come down to, and has no heading where there is none", async () => {
  const { text } = await page("/");
  expect(text).toMatch(/Previews<\/h2>[^]*href="\/previews\/gzip"[^]*fails on 3\u00a0nodes[^]*disruptive[^]*changes nothing[^]*1 of 2\u00a0nodes/);
  expect((await page("/", new MemoryPreviews())).text).not.toContain("Previews</h2>");
});

test("a preview: nodes that would do the same stand together, with impact, and what cannot be taken back", async () => {
  const { text } = await page("/previews/gzip");
  expect(text).toMatch(/gzip cannot be had on 3\u00a0nodes/);
  expect(text).toMatch(/<h2 id="plan-n1-names">n1, n2<\/h2>[^]*service[^]*services restart or reload[^]*<ins>\+gzip o<b>n<\/b>;/);
  expect(text).toMatch(/<h2 id="plan-n3-names">n3<\/h2>[^]*goes node by node under a lease, drained[^]*Cannot be taken back:<\/b> the database is converted/);
  expect(text).toMatch(/<h2 id="plan-n4-names">n4<\/h2>[^]*nothing to change/);
  expect(text).toMatch(/Who cannot plan it[^]*n5[^]*does not build on/);
  expect(text).toMatch(/Not heard of yet[^]*n6[^]*is asked when it comes back[^]*n7[^]*n8[^]*<code>evenkeel node add n8<\/code>[^]*n9/);
  expect(text).toContain("The main branch has moved since this one left it");
  expect(text).toContain('<a href="/api/v1/previews/gzip">JSON</a>');
});

test("one that is not there says why, and what would make it", async () => {
  const { status, text } = await page("/previews/gone");
  expect([status, text]).toEqual([404, expect.stringMatching(/It was merged, its branch was deleted[^]*git push hub HEAD:preview\/gone/)]);
});

test("hostile text stays text", async () => {
  const { text } = await page("/previews/gzip", new MemoryPreviews(fullPreview("gzip", "<script>alert(1)</script>\u202e\u001b[2J")));
  for (const hostile of ["<script>alert", "\u202e", "\u001b"]) expect(text).not.toContain(hostile);
});
