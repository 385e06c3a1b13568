import { CommitId, NodeName } from "../../shared/ids.ts";
import { groupPlans, worstImpact, type PreviewNode, type PreviewSummary, type PreviewView } from "../../shared/protocol/preview.ts";
import { Change } from "../../shared/protocol/report.ts";
import type { PreviewData } from "../preview/service.ts";
import { NOW_MS } from "./testdata.ts";

/** Previews for the page's tests, without a hub. */

const commit = CommitId.parse("5ca1ab1e".repeat(5));
const at = (agoMs: number): string => new Date(NOW_MS - agoMs).toISOString();
const diff = (text: string): string => `--- /etc/nginx/nginx.conf\n+++ /etc/nginx/nginx.conf\tfiles/nginx.conf\n@@ -1,3 +1,3 @@\n worker_processes auto;\n-gzip off;\n+gzip ${text};\n`;
const change = (text: string, more: Partial<Change> = {}): Change => Change.parse({ resource: "files//etc/nginx/nginx.conf", action: "write /etc/nginx/nginx.conf", why: "differs", impact: "service", result: "planned", diff: diff(text), ...more });
const node = (name: string, state: PreviewNode["state"], message = "", changes: number | null = null): PreviewNode => ({ name: NodeName.parse(name), state, message, askedAt: at(5_000), answeredAt: changes === null ? null : at(4_000), tookMs: changes === null ? null : 42, changes });

function preview(name: string, nodes: readonly PreviewNode[], plans: Parameters<typeof groupPlans>[0], more: Partial<PreviewSummary> = {}): PreviewView {
  const count = (...states: string[]): number => nodes.filter(({ state }) => states.includes(state)).length;
  const counts = { nodes: nodes.length, planned: count("planned"), changing: nodes.filter(({ changes }) => (changes ?? 0) > 0).length, failed: count("failed"), missing: count("asked", "late"), offline: count("offline") };
  const impact = worstImpact(plans.flatMap(({ report }) => report.changes));
  return { name, branch: `preview/${name}`, commit, subject: "Zip what is sent", author: "Anna <anna@example.org>", pushedBy: "anna", pushedAt: at(60_000), throwaway: false, outdated: false, outcome: "changes", impact, counts, nodes: [...nodes], groups: groupPlans(plans), ...more };
}

const plan = (name: string, changes: readonly Change[]): Parameters<typeof groupPlans>[0][number] => ({ node: NodeName.parse(name), report: { commit, plannedAt: at(4_000), tookMs: 42, changes: [...changes], problems: [], resources: 9, omitted: 0 } });

/** All that a page may have to show, with `text` in the place of what came from elsewhere. */
export function fullPreview(name = "gzip", text = "on"): PreviewView {
  const disruptive = change(text, { resource: "lxd/server", action: `restart lxd for ${text}`, impact: "disruptive", oneWay: `the database is converted, ${text}` });
  const broken = change(text, { resource: "packages/nginx", action: "install nginx", result: "failed", error: `no such package: ${text}` });
  return preview(
    name,
    [node("n1", "planned", "", 1), node("n2", "planned", "", 1), node("n3", "failed", `packages/nginx: no such package: ${text}`, 2), node("n4", "planned", "", 0), node("n5", "failed", `commit 5ca1ab1e does not build on 1a2b3c4d.\n${text}`), node("n6", "offline", "n6 is not connected; it is asked when it comes back"), node("n7", "late", `n7 has not answered: ${text}`), node("n8", "waiting", "no machine is enrolled as n8 yet: `evenkeel node add n8`"), node("n9", "left", "n9 does not stand in this preview")],
    [plan("n1", [change(text)]), plan("n2", [change(text)]), plan("n3", [disruptive, broken]), plan("n4", [])],
    { outcome: "failed", outdated: true, subject: `Zip what is sent ${text}` },
  );
}

export const quietPreview = (): PreviewView => preview("quiet", [node("n1", "planned", "", 0)], [plan("n1", [])], { outcome: "nothing", throwaway: true });
export const askedPreview = (): PreviewView => preview("asked", [node("n1", "asked"), node("n2", "planned", "", 0)], [plan("n2", [])], { outcome: "pending" });

export class MemoryPreviews implements PreviewData {
  all: readonly PreviewView[];

  constructor(...all: readonly PreviewView[]) {
    this.all = all;
  }

  list(): Promise<PreviewSummary[]> {
    return Promise.resolve([...this.all]);
  }

  view(name: string): Promise<PreviewView | null> {
    return Promise.resolve(this.all.find((view) => view.name === name) ?? null);
  }
}
