import * as z from "zod";
import { CommitId, NodeName } from "../ids.ts";
import { Change, IMPACTS, Problem } from "./report.ts";
import type { PlanReport } from "./report.ts";

/**
 * A preview: a branch that every node plans and none applies. What the hub keeps of it, what its API answers, and how the
 * nodes' plans become one diff each, with nodes that would change alike put together.
 */

/** A push to a branch below it is planned by every node. */
export const PREVIEW_PREFIX = "preview/";
/** Below it lie the throw-away previews of working copies, which the hub drops by itself. */
export const THROWAWAY_PREFIX = "preview/wc-";
/** `Evenkeel-Preview: NAME` in a commit's message: it may be planned, and no node ever applies it or what builds on it. */
export const PREVIEW_TRAILER = "Evenkeel-Preview";
/** What a branch's name may be in an order to a node. */
export const PREVIEW_BRANCH = /^(?!-)[\w./-]{1,255}$/;

/** `preview/x` is called x; another branch that was asked to be planned has its own name. */
export function previewName(branch: string): string {
  return branch.startsWith(PREVIEW_PREFIX) ? branch.slice(PREVIEW_PREFIX.length) : branch;
}

export const PREVIEW_NODE_STATES = [
  /** It has said what it would do. */
  "planned",
  /** It cannot plan it, or what it wants cannot be had there; `message` says why. */
  "failed",
  /** It has been asked, and has not answered yet. */
  "asked",
  /** It has been asked and should have answered by now; the answer counts whenever it comes. */
  "late",
  /** It is not connected, and is asked when it comes back. */
  "offline",
  /** It stands in the preview, and no machine has enrolled as it. */
  "waiting",
  /** It is enrolled, and does not stand in the preview: it would be left as it is. */
  "left",
] as const;
export type PreviewNodeState = (typeof PREVIEW_NODE_STATES)[number];

export const PreviewNode = z.object({
  name: NodeName,
  state: z.enum(PREVIEW_NODE_STATES),
  /** Why it failed, or what it waits for; empty when it has planned. */
  message: z.string(),
  askedAt: z.iso.datetime().nullable(),
  answeredAt: z.iso.datetime().nullable(),
  /** How long the node took to look and plan, without the fetch. */
  tookMs: z.number().nonnegative().nullable(),
  /** How many changes it would make, those left out of the report included; null before it has planned. */
  changes: z.number().int().nonnegative().nullable(),
});
export type PreviewNode = z.output<typeof PreviewNode>;

/** Nodes that would do the same, and what. */
export const PreviewGroup = z.object({
  nodes: z.array(NodeName).min(1),
  changes: z.array(Change),
  problems: z.array(Problem),
  omitted: z.number().int().nonnegative(),
  /** The most disturbing of its changes. */
  impact: z.enum(IMPACTS),
});
export type PreviewGroup = z.output<typeof PreviewGroup>;

/** What it comes down to. `pending` while a node that is there has not answered. */
export const PREVIEW_OUTCOMES = ["pending", "nothing", "changes", "failed"] as const;
export type PreviewOutcome = (typeof PREVIEW_OUTCOMES)[number];

export const PreviewSummary = z.object({
  name: z.string(),
  branch: z.string(),
  commit: CommitId,
  subject: z.string(),
  author: z.string(),
  /** Who pushed it, or asked for it: the name of the token. */
  pushedBy: z.string(),
  pushedAt: z.iso.datetime(),
  /** The preview of a working copy: it is gone an hour later at the latest. */
  throwaway: z.boolean(),
  /** The main branch has moved since this one left it: nodes that have followed cannot plan it any more. */
  outdated: z.boolean(),
  outcome: z.enum(PREVIEW_OUTCOMES),
  /** The most disturbing of all changes on any node. */
  impact: z.enum(IMPACTS),
  counts: z.object({
    nodes: z.number().int(),
    planned: z.number().int(),
    /** Nodes on which something would change. */
    changing: z.number().int(),
    failed: z.number().int(),
    /** Asked, and to be heard of. */
    missing: z.number().int(),
    offline: z.number().int(),
  }),
});
export type PreviewSummary = z.output<typeof PreviewSummary>;

export const PreviewView = PreviewSummary.extend({
  /** In the order of their names. */
  nodes: z.array(PreviewNode),
  /** What changes first, the most nodes first; those that would change nothing are the last. */
  groups: z.array(PreviewGroup),
});
export type PreviewView = z.output<typeof PreviewView>;

/** `POST /previews`: plan a branch, or plan it again. */
export const PreviewAsk = z.object({
  /** `preview/NAME`, NAME, or another branch. */
  branch: z.string().regex(PREVIEW_BRANCH, "a branch's name: letters, digits, `.`, `_`, `/` and `-`"),
  /** For a branch of another Git host that the nodes follow: the commit that they have to find there. */
  commit: CommitId.optional(),
  /** Ask the nodes again that have answered already: the machines may have changed. */
  again: z.boolean().optional(),
});
export type PreviewAsk = z.output<typeof PreviewAsk>;

/** How an impact is carried out, for people. */
export const IMPACT_WORDS: Readonly<Record<Change["impact"], string>> = {
  none: "nothing is disturbed",
  service: "services restart or reload",
  network: "under a confirmed commit: it comes back by itself if it cuts the node off",
  disruptive: "goes node by node under a lease, drained",
  reboot: "goes node by node under a lease, with a reboot",
};

export function worstImpact(changes: readonly Pick<Change, "impact">[]): Change["impact"] {
  return changes.reduce<Change["impact"]>((worst, { impact }) => (IMPACTS.indexOf(impact) > IMPACTS.indexOf(worst) ? impact : worst), "none");
}

/** Puts together the nodes whose plans say the same; times and totals do not count. */
export function groupPlans(plans: readonly { readonly node: NodeName; readonly report: PlanReport }[]): PreviewGroup[] {
  const groups = new Map<string, PreviewGroup>();
  for (const { node, report } of plans) {
    const { changes, problems, omitted } = report;
    const gist = JSON.stringify([changes, problems, omitted]);
    const known = groups.get(gist);
    if (known !== undefined) known.nodes.push(node);
    else groups.set(gist, { nodes: [node], changes, problems, omitted, impact: worstImpact(changes) });
  }
  const quiet = (group: PreviewGroup): number => Number(group.changes.length + group.problems.length + group.omitted === 0);
  return [...groups.values()].toSorted((a, b) => quiet(a) - quiet(b) || b.nodes.length - a.nodes.length);
}

/** Whether a plan says that something cannot be done. */
export function planFails({ changes, problems }: Pick<PlanReport, "changes" | "problems">): boolean {
  return changes.some(({ result }) => result === "failed" || result === "blocked") || problems.some(({ code }) => code === "observe" || code === "removal-guard");
}
