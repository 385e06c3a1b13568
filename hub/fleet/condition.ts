import type { ConvergeMessage } from "../../shared/protocol/messages.ts";
import type { NodeCondition } from "../../shared/protocol/api.ts";
import { shortCommit } from "../../shared/ids.ts";

/** What the hub knows of one node, as far as it matters for the one word. */
export interface NodeFacts {
  readonly name: string;
  /** `nodes/NAME.yaml` exists at the main branch's tip. */
  readonly inRepository: boolean;
  /** It runs no agent of ours, and takes its slots by FleetLock. */
  readonly fleetlock: boolean;
  readonly enrolledAt: string | null;
  readonly revokedAt: string | null;
  readonly lastSeenAt: string | null;
  readonly online: boolean;
  /** Why the hub does not deal with it, such as a cloned machine-id. */
  readonly refusal: string | null;
  readonly converge: ConvergeMessage | null;
  readonly head: string | null;
}

/** How a node is doing, in one word and one sentence, the worst that holds. */
export function conditionOf(node: NodeFacts): { readonly condition: NodeCondition; readonly why: string } {
  const { name, converge, head } = node;
  if (node.fleetlock) return { condition: "guest", why: "" };
  if (node.revokedAt !== null) {
    return { condition: "revoked", why: `its certificate was revoked at ${node.revokedAt}; \`evenkeel node add ${name}\` would let it enrol again` };
  }
  if (node.enrolledAt === null) {
    return { condition: "waiting", why: `not enrolled yet: run \`evenkeel node add ${name}\`, and the command that it prints on the machine` };
  }
  if (node.refusal !== null) return { condition: "refused", why: node.refusal };
  if (!node.online) {
    return { condition: "offline", why: node.lastSeenAt === null ? "enrolled, but never connected since" : `not connected, last heard of at ${node.lastSeenAt}` };
  }
  const refused = converge?.refused ?? null;
  if (refused !== null && converge?.commit !== refused.commit) {
    return { condition: "refused", why: `refuses ${shortCommit(refused.commit)}: ${refused.message}` };
  }
  if (converge === null || converge.outcome === "none") {
    if (head === null) return { condition: "converging", why: "nothing has been pushed yet" };
    if (!node.inRepository) return { condition: "behind", why: `the repository has no nodes/${name}.yaml, so there is nothing for it to be` };
    return { condition: "converging", why: "has not reported its first converge yet" };
  }
  if (converge.outcome === "running") return { condition: "converging", why: `is applying ${converge.commit === null ? "its first commit" : shortCommit(converge.commit)}` };
  if (converge.outcome === "held") return { condition: "behind", why: heldWhy(converge) };
  if (converge.outcome !== "converged") return { condition: "failing", why: failureOf(converge) };
  // It holds its commit, and cannot do something else: reach the repository, or write its own state.
  const problem = converge.problems.find(({ code }) => code !== "canary");
  if (problem !== undefined) return { condition: "failing", why: firstLine(problem.message) };
  const waits = converge.problems.find(({ code }) => code === "canary");
  if (waits !== undefined && converge.commit !== head) return { condition: "behind", why: firstLine(waits.message) };
  if (head !== null && converge.commit !== head) {
    return { condition: "behind", why: `runs ${converge.commit === null ? "nothing" : shortCommit(converge.commit)}, the main branch is at ${shortCommit(head)}` };
  }
  return { condition: "converged", why: "" };
}

function heldWhy({ commit, held = [] }: ConvergeMessage): string {
  const [first, ...rest] = held;
  const what = first === undefined ? "something" : `${first}${rest.length === 0 ? "" : ` (and ${rest.length} more)`}`;
  return `has ${commit === null ? "its commit" : shortCommit(commit)} but for ${what}, which waits for this node's turn or for another node`;
}

function failureOf(converge: ConvergeMessage): string {
  const [first, ...rest] = converge.failing;
  if (first !== undefined) {
    const more = rest.length === 0 ? "" : ` (and ${rest.length} more)`;
    return `${first.resource}: ${firstLine(first.error)}${more}`;
  }
  const problem = converge.problems[0];
  if (problem !== undefined) return firstLine(problem.message);
  if (converge.outcome === "interrupted") return "the last run was interrupted; the next one repairs what it left";
  return `the last run ended as ${converge.outcome}`;
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
