import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { PreviewAsk, PreviewSummary, PreviewView } from "../../shared/protocol/preview.ts";
import type { PreviewData, PreviewWord } from "../preview/service.ts";
import { answers, bearer, fail, personOr } from "./api-answers.ts";
import type { HubEnv } from "./environment.ts";

/** Previews: what a branch would change, node by node, without changing it. */

/** What the routes ask for. */
export interface PreviewDesk extends PreviewData {
  request(ask: PreviewAsk, by: string): Promise<PreviewWord>;
  /** Ends a preview and deletes its branch. False when there is none. */
  remove(name: string): Promise<boolean>;
}

/** A slash in a name is written %2F. */
const named = z.object({ name: z.string().min(1).max(255) });

const routes = {
  list: createRoute({ method: "get", path: "/previews", summary: "Previews, newest first, at most 20 and as many throw-aways", security: bearer, responses: answers(z.array(PreviewSummary), "Previews") }),
  view: createRoute({ method: "get", path: "/previews/{name}", summary: "What a preview would change; nodes that would do the same are put together", security: bearer, request: { params: named }, responses: answers(PreviewView, "The preview, as far as the nodes have answered") }),
  ask: createRoute({
    method: "post",
    path: "/previews",
    summary: "Have all nodes plan a branch, or plan it again; a push to preview/NAME does it by itself",
    security: bearer,
    request: { body: { required: true, content: { "application/json": { schema: PreviewAsk } } } },
    responses: answers(PreviewView, "The nodes have been asked"),
  }),
  remove: createRoute({ method: "delete", path: "/previews/{name}", summary: "End a preview, and delete its branch on the hub", security: bearer, request: { params: named }, responses: answers(z.object({ name: z.string() }), "Ended") }),
};

export function previewRoutes(app: OpenAPIHono<HubEnv>, previews: PreviewDesk): void {
  app.openapi(routes.list, async (c) => {
    const { no } = personOr(c, "read");
    return no ?? c.json(await previews.list(), 200);
  });
  app.openapi(routes.view, async (c) => {
    const { no } = personOr(c, "read");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    const view = await previews.view(name);
    return view === null ? fail(c, 404, "preview-unknown", unknownPreview(name)) : c.json(view, 200);
  });
  app.openapi(routes.ask, async (c) => {
    const { person, no } = personOr(c, "admin");
    if (no !== null) return no;
    const word = await previews.request(c.req.valid("json"), person.name);
    return word.ok ? c.json(word.view, 200) : fail(c, word.status, word.code, word.message);
  });
  app.openapi(routes.remove, async (c) => {
    const { no } = personOr(c, "admin");
    if (no !== null) return no;
    const { name } = c.req.valid("param");
    return (await previews.remove(name)) ? c.json({ name }, 200) : fail(c, 404, "preview-unknown", unknownPreview(name));
  });
}

export function unknownPreview(name: string): string {
  return `there is no preview ${name.slice(0, 255)}: it was merged, its branch was deleted, or it was never pushed (git push REMOTE HEAD:preview/NAME)`;
}
