import { CommitId, NodeName } from "../../shared/ids.ts";
import { groupPlans, previewName, worstImpact, type PreviewNode, type PreviewNodeState, type PreviewOutcome, type PreviewSummary, type PreviewView } from "../../shared/protocol/preview.ts";
import { PlanReport } from "../../shared/protocol/report.ts";
import type { PreviewAnswerGist, PreviewAnswerRow, PreviewRow } from "../store/previews.ts";
import { isoTime } from "../system-clock.ts";

/** What people see of a preview, made out of what is stored and who is there. */

/** What is not in the database. */
export interface Surroundings {
  /** Names of the enrolled nodes that are not revoked. */
  readonly enrolled: ReadonlySet<string>;
  readonly online: (node: string) => boolean;
  /** The tip of the main branch, as far as the hub holds it. */
  readonly mainTip: string | null;
  readonly nowMs: number;
  /** After so long, an answer is late. */
  readonly answerTimeoutMs: number;
}

export function previewSummary(row: PreviewRow, answers: readonly PreviewAnswerGist[], around: Surroundings): PreviewSummary {
  return summaryOf(row, answers, previewNodes(row, answers, around), around);
}

export function previewView(row: PreviewRow, answers: readonly PreviewAnswerRow[], around: Surroundings): PreviewView {
  const nodes = previewNodes(row, answers, around);
  const plans = answers.flatMap(({ node, report }) => {
    const parsed = report === null ? null : PlanReport.safeParse(JSON.parse(report));
    return parsed?.success === true ? [{ node: NodeName.parse(node), report: parsed.data }] : [];
  });
  return { ...summaryOf(row, answers, nodes, around), nodes, groups: groupPlans(plans) };
}

function summaryOf(row: PreviewRow, answers: readonly PreviewAnswerGist[], nodes: readonly PreviewNode[], { mainTip }: Surroundings): PreviewSummary {
  const count = (...states: readonly PreviewNodeState[]): number => nodes.filter(({ state }) => states.includes(state)).length;
  const changing = nodes.filter(({ changes }) => (changes ?? 0) > 0).length;
  return {
    name: previewName(row.branch),
    branch: row.branch,
    commit: CommitId.parse(row.commitId),
    subject: row.subject,
    author: row.author,
    pushedBy: row.pushedBy,
    pushedAt: isoTime(row.pushedAtMs),
    throwaway: row.throwaway === 1,
    outdated: row.base !== null && mainTip !== null && row.base !== mainTip,
    outcome: outcomeOf(nodes, changing),
    impact: worstImpact(answers.flatMap(({ impact }) => (impact === null ? [] : [{ impact }]))),
    counts: { nodes: nodes.length, planned: count("planned"), changing, failed: count("failed"), missing: count("asked", "late"), offline: count("offline") },
  };
}

/** Nodes that are not there decide nothing; one that is there and says nothing has failed, once it is late. */
function outcomeOf(nodes: readonly PreviewNode[], changing: number): PreviewOutcome {
  const some = (...states: readonly PreviewNodeState[]): boolean => nodes.some(({ state }) => states.includes(state));
  if (some("asked") || !some("planned", "failed", "late", "left")) return "pending";
  if (some("failed", "late")) return "failed";
  return changing > 0 ? "changes" : "nothing";
}

function previewNodes(row: PreviewRow, answers: readonly PreviewAnswerGist[], around: Surroundings): PreviewNode[] {
  const inside = row.nodes === null ? null : (JSON.parse(row.nodes) as string[]);
  const byNode = new Map(answers.map((answer) => [answer.node, answer]));
  const names = new Set([...(inside ?? []), ...around.enrolled, ...byNode.keys()]);
  return [...names]
    .toSorted((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .flatMap((name) => {
      const answer = byNode.get(name) ?? null;
      const node = previewNode(name, answer, inside === null || inside.includes(name), around);
      return node === null ? [] : [node];
    });
}

function previewNode(name: string, answer: PreviewAnswerGist | null, inside: boolean, around: Surroundings): PreviewNode | null {
  const of = (state: PreviewNodeState, message = ""): PreviewNode => ({
    name: NodeName.parse(name),
    state,
    message,
    askedAt: answer?.askedAtMs == null ? null : isoTime(answer.askedAtMs),
    answeredAt: answer?.answeredAtMs == null ? null : isoTime(answer.answeredAtMs),
    tookMs: answer?.tookMs ?? null,
    changes: answer?.changes ?? null,
  });
  if (answer?.answeredAtMs != null) return answer.failure === null ? of("planned") : of("failed", answer.failure);
  if (!around.enrolled.has(name)) return inside ? of("waiting", `no machine is enrolled as ${name} yet: \`evenkeel node add ${name}\``) : null;
  if (!inside) return of("left", `${name} does not stand in this preview: it would be left as it is`);
  if (!around.online(name)) return of("offline", `${name} is not connected; it is asked when it comes back`);
  const waitedMs = answer?.askedAtMs == null ? 0 : around.nowMs - answer.askedAtMs;
  if (waitedMs < around.answerTimeoutMs) return of("asked", "has been asked");
  return of("late", `${name} has not answered for ${Math.round(waitedMs / 1_000)} s: it may be in the middle of a converge; its log says more (\`evenkeel-agent log\`)`);
}
