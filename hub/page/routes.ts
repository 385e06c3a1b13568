import { Hono } from "hono";
import { html } from "hono/html";
import type { ClusterSummary } from "../../shared/protocol/api.ts";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import type { Clock } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import type { Coordination } from "../coordination.ts";
import type { HubEnv } from "../http/environment.ts";
import type { PageData } from "../page-data.ts";
import { systemClock } from "../system-clock.ts";
import { actionRoutes } from "./action-routes.ts";
import { adminOf, answer, send } from "./answer.ts";
import { assets } from "./assets.ts";
import { clusterHeadline, clusterView } from "./cluster.ts";
import { commitsView } from "./commits.ts";
import { CONDITION_LOOKS } from "./condition.ts";
import { clip, plain } from "./format.ts";
import type { Frame } from "./layout.ts";
import { convergeView, nodeView } from "./node.ts";
import { brokenPage, notFoundPage, unknownConvergePage, unknownNodePage, unknownRolloutPage } from "./notices.ts";
import type { PreviewData } from "../preview/service.ts";
import { previewHeadline, previewHref, previewPage, previewSection, unknownPreviewPage } from "./preview.ts";
import { noRolloutView, rolloutList, rolloutView } from "./rollout.ts";
import { rolloutHeadline } from "./rollout-headline.ts";
import { isAtIt } from "./timeline.ts";
import { nodeCoordination } from "./why.ts";

export { PAGE_HEADERS } from "./answer.ts";

/**
 * The status page: `/`, `/nodes/:name`, `/converges/:id`, `/commits`, `/previews/:name`, `/rollout`, `/rollouts`, what an admin may do from
 * there, and its assets. It expects somebody in front of it who lets in only those who may read, and sets `caller`; without
 * one, nobody is an admin. The assets may be had by everybody. It answers every other address with a page that says so, and
 * therefore is mounted last.
 *
 * @param clock what the ages on the page are counted from
 * @param failed is told why a page could not be made; its reader is not
 * @param coordination null: slots, rollouts and checks are left out
 * @param previews null: there are none
 */
export function pageRoutes(data: PageData, clock: Pick<Clock, "nowMs"> = systemClock, failed: Failed = toStandardError, coordination: Coordination | null = null, previews: PreviewData | null = null): Hono<HubEnv> {
  const app = new Hono<HubEnv>();
  app.route("/", assetRoutes() as unknown as Hono<HubEnv>);

  app.get("/", async (c) => {
    const [summary, commits, standing, planned] = await Promise.all([data.cluster(), data.commits(), coordination?.summary() ?? null, previews?.list() ?? []]);
    const nowMs = clock.nowMs();
    const facts = { summary, commits, standing };
    const frame = frameOf(summary, nowMs);
    const alert = frame.alert || standing?.rollout?.phase === "halted" || (standing?.checks.some(({ state }) => state === "failing") ?? false);
    return answer(c, { ...frame, alert, title: clip(clusterHeadline(facts).title, 80), active: "cluster", body: html`${clusterView(facts, adminOf(c) !== null, nowMs)}${previewSection(planned, nowMs)}` });
  });

  app.get("/commits", async (c) => {
    const [summary, commits] = await Promise.all([data.cluster(), data.commits()]);
    const nowMs = clock.nowMs();
    return answer(c, { ...frameOf(summary, nowMs), title: "Commits", active: "commits", body: commitsView(summary, commits, nowMs) });
  });

  app.get("/nodes/:name", async (c) => {
    const name = c.req.param("name");
    const real = NodeName.safeParse(name).success;
    const [summary, commits, node, standing, why] = await Promise.all([data.cluster(), data.commits(), real ? data.node(name) : null, coordination?.summary() ?? null, real ? (coordination?.why(name) ?? null) : null]);
    if (node === null) return send(c, unknownNodePage(name, summary.nodes.map((other) => other.name), summary.cluster), 404);
    const nowMs = clock.nowMs();
    return answer(c, {
      ...frameOf(summary, nowMs),
      title: `${plain(node.name)} ${node.condition}`,
      alert: CONDITION_LOOKS[node.condition].attention,
      body: nodeView(node, summary.head, commits, nowMs, standing === null ? "" : nodeCoordination(name, why, standing, adminOf(c) !== null, nowMs)),
    });
  });

  app.get("/converges/:id{[0-9]{1,15}}", async (c) => {
    const [summary, stored] = await Promise.all([data.cluster(), data.converge(Number(c.req.param("id")))]);
    if (stored === null) return send(c, unknownConvergePage(summary.cluster), 404);
    const nowMs = clock.nowMs();
    return answer(c, { ...frameOf(summary, nowMs), title: `Report of ${plain(stored.node)}`, body: convergeView(stored, nowMs) });
  });

  app.get("/previews/:name", async (c) => {
    const name = c.req.param("name").slice(0, 255);
    const [summary, view] = await Promise.all([data.cluster(), previews?.view(name) ?? null]);
    if (view === null) return send(c, unknownPreviewPage(name, summary.cluster), 404);
    const nowMs = clock.nowMs();
    return answer(c, { ...frameOf(summary, nowMs), json: `/api/v1${previewHref(view.name)}`, title: previewHeadline(view).title, body: previewPage(view, nowMs) });
  });

  if (coordination !== null) {
    actionRoutes(app, { data, coordination, clock });
    rolloutRoutes(app, data, coordination, clock);
  }
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

function rolloutFrame(summary: ClusterSummary, rollout: RolloutView | null, nowMs: number): Omit<Frame, "title" | "body"> {
  const moves = rollout !== null && (rollout.phase === "running" || rollout.nodes.some(isAtIt));
  return { ...frameOf(summary, nowMs), active: "rollout", alert: rollout?.phase === "halted", moves };
}

function rolloutRoutes(app: Hono<HubEnv>, data: PageData, coordination: Coordination, clock: Pick<Clock, "nowMs">): void {
  app.get("/rollout", async (c) => {
    const [summary, standing] = await Promise.all([data.cluster(), coordination.summary()]);
    const nowMs = clock.nowMs();
    const may = adminOf(c) !== null;
    const { rollout } = standing;
    const body = rollout === null ? noRolloutView(standing, may, nowMs) : rolloutView(rollout, standing, true, may, nowMs);
    return answer(c, { ...rolloutFrame(summary, rollout, nowMs), json: "/api/v1/coordination", title: rollout === null ? "No rollout yet" : rolloutHeadline(rollout).title, body });
  });
  app.get("/rollouts", async (c) => {
    const [summary, rollouts] = await Promise.all([data.cluster(), coordination.rollouts()]);
    const nowMs = clock.nowMs();
    return answer(c, { ...frameOf(summary, nowMs), active: "rollout", json: "/api/v1/rollouts", title: "Rollouts", body: rolloutList(rollouts, adminOf(c) !== null, nowMs) });
  });
  app.get("/rollouts/:id", async (c) => {
    const [summary, standing, rollout] = await Promise.all([data.cluster(), coordination.summary(), coordination.rollout(c.req.param("id").slice(0, 64))]);
    if (rollout === null) return send(c, unknownRolloutPage(summary.cluster), 404);
    const nowMs = clock.nowMs();
    const body = rolloutView(rollout, standing, standing.rollout?.id === rollout.id, adminOf(c) !== null, nowMs);
    return answer(c, { ...rolloutFrame(summary, rollout, nowMs), json: `/api/v1/rollouts/${encodeURIComponent(rollout.id)}`, title: rolloutHeadline(rollout).title, body });
  });
}
