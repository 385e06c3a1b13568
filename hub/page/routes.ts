import { type Context, Hono } from "hono";
import type { ClusterSummary } from "../../shared/protocol/api.ts";
import type { Clock } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import type { PageData } from "../page-data.ts";
import { systemClock } from "../system-clock.ts";
import { assets } from "./assets.ts";
import { clusterView } from "./cluster.ts";
import { commitsView } from "./commits.ts";
import { CONDITION_LOOKS } from "./condition.ts";
import { clip, type Html, plain } from "./format.ts";
import { headlineOf } from "./headline.ts";
import { type Frame, layout } from "./layout.ts";
import { convergeView, nodeView } from "./node.ts";
import { brokenPage, notFoundPage, unknownConvergePage, unknownNodePage } from "./notices.ts";

/**
 * What the pages need, and not more: own style, script, pictures and requests, no inline code or style, no frame around
 * them. Every page sends it; whoever answers with {@link loginPage} or {@link errorPage} should send it as well.
 */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "cache-control": "no-store",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
};

/**
 * The status page: `/`, `/nodes/:name`, `/converges/:id`, `/commits`, and its assets. It expects somebody in front of it
 * who lets in only those who may read; the assets may be had by everybody. It answers every other address with a page that
 * says so, and therefore is mounted last.
 *
 * @param clock what the ages on the page are counted from
 * @param failed is told why a page could not be made; its reader is not
 */
export function pageRoutes(data: PageData, clock: Pick<Clock, "nowMs"> = systemClock, failed: Failed = toStandardError): Hono {
  const app = new Hono();
  app.route("/", assetRoutes());

  app.get("/", async (c) => {
    const [summary, commits] = await Promise.all([data.cluster(), data.commits()]);
    const nowMs = clock.nowMs();
    const headline = headlineOf(summary);
    return answer(c, { ...frameOf(summary, nowMs), title: clip(headline.title, 80), active: "cluster", body: clusterView(summary, commits, nowMs) });
  });

  app.get("/commits", async (c) => {
    const [summary, commits] = await Promise.all([data.cluster(), data.commits()]);
    const nowMs = clock.nowMs();
    return answer(c, { ...frameOf(summary, nowMs), title: "Commits", active: "commits", body: commitsView(summary, commits, nowMs) });
  });

  app.get("/nodes/:name", async (c) => {
    const name = c.req.param("name");
    const [summary, commits, node] = await Promise.all([data.cluster(), data.commits(), NodeName.safeParse(name).success ? data.node(name) : null]);
    if (node === null) return send(c, unknownNodePage(name, summary.nodes.map((other) => other.name), summary.cluster), 404);
    const nowMs = clock.nowMs();
    return answer(c, {
      ...frameOf(summary, nowMs),
      title: `${plain(node.name)} ${node.condition}`,
      alert: CONDITION_LOOKS[node.condition].attention,
      body: nodeView(node, summary.head, commits, nowMs),
    });
  });

  app.get("/converges/:id{[0-9]{1,15}}", async (c) => {
    const [summary, stored] = await Promise.all([data.cluster(), data.converge(Number(c.req.param("id")))]);
    if (stored === null) return send(c, unknownConvergePage(summary.cluster), 404);
    const nowMs = clock.nowMs();
    return answer(c, { ...frameOf(summary, nowMs), title: `Report of ${plain(stored.node)}`, body: convergeView(stored, nowMs) });
  });

  app.get("*", async (c) => send(c, notFoundPage(c.req.path, (await data.cluster()).cluster), 404));
  app.onError((error, c) => {
    failed(error, c.req.path);
    return send(c, brokenPage(), 500);
  });
  return app;
}

type Failed = (error: Error, path: string) => void;

function toStandardError(error: Error, path: string): void {
  console.error(`making the page ${clip(path, 200)} failed: ${error.stack ?? error.message}`);
}

/** Style, script and icons, to be had without a session: the login page needs them. */
export function assetRoutes(): Hono {
  const app = new Hono();
  for (const { path, body, contentType } of Object.values(assets)) {
    app.get(path, (c) => c.body(body, 200, { "content-type": contentType, "cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff" }));
  }
  app.get("/favicon.ico", (c) => c.redirect(assets.icon.path, 302));
  return app;
}

function frameOf({ cluster, hubVersion, nodes }: ClusterSummary, nowMs: number): Omit<Frame, "title" | "body"> {
  return { cluster, hubVersion, nowMs, active: null, live: true, alert: nodes.some(({ condition }) => CONDITION_LOOKS[condition].attention) };
}

function answer(c: Context, frame: Frame): Response | Promise<Response> {
  return send(c, layout(frame), 200);
}

function send(c: Context, page: Html, status: 200 | 404 | 500): Response | Promise<Response> {
  for (const [name, value] of Object.entries(PAGE_HEADERS)) c.header(name, value);
  return c.html(page, status);
}
