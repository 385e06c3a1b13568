import type { ClusterSummary, NodeCondition, NodeSummary } from "../../shared/protocol/api.ts";
import { shortCommit } from "../../shared/ids.ts";
import { CONDITION_LOOKS, type Tone } from "./condition.ts";
import { byName, clip, plain, plural } from "./format.ts";

/** What the whole cluster comes down to: read from across the room, and repeated in the browser's tab. */
export interface Headline {
  readonly tone: Tone;
  readonly title: string;
  /** Further sentences, most important first. */
  readonly details: readonly string[];
}

const DETAILS_MAX = 3;

/** Whether a node counts: it is enrolled, and has not been sent away. */
export function isMember({ condition }: Pick<NodeSummary, "condition">): boolean {
  return condition !== "waiting" && condition !== "revoked" && condition !== "guest";
}

/** Those that need a person first, then by name; a node that is merely busy does not jump about. */
export function inOrder(nodes: readonly NodeSummary[]): readonly NodeSummary[] {
  return [...nodes].sort((a, b) => rank(a) - rank(b) || byName(a.name, b.name));
}

const ORDER: readonly NodeCondition[] = ["failing", "refused", "offline"];

function rank({ condition }: NodeSummary): number {
  const at = ORDER.indexOf(condition);
  if (at >= 0) return at;
  if (condition === "waiting") return ORDER.length + 1;
  return condition === "revoked" ? ORDER.length + 2 : ORDER.length;
}

export function headlineOf({ head, nodes }: Pick<ClusterSummary, "head" | "nodes">): Headline {
  const members = nodes.filter(isMember);
  if (members.length === 0) {
    const waiting = nodes.filter(({ condition }) => condition === "waiting");
    if (waiting.length === 0) return { tone: "off", title: "No nodes yet", details: [] };
    return { tone: "busy", title: `Waiting for ${nameList(waiting)} to enrol`, details: ["Run the command that `evenkeel node add` printed, on the new machine."] };
  }
  if (head === null) {
    return { tone: "off", title: `${plural(members.length, "node")}, waiting for a first commit`, details: [] };
  }
  const holding = members.filter(({ commit, condition }) => commit === head.id && condition === "converged");
  const hold = `${holding.length} of ${plural(members.length, "node")} ${holding.length === 1 ? "holds" : "hold"} ${shortCommit(head.id)}`;
  const troubled = inOrder(members).filter(({ condition }) => CONDITION_LOOKS[condition].attention);
  const [first] = troubled;
  if (first === undefined) return { tone: holding.length === members.length ? "good" : "busy", title: hold, details: underway(members) };
  const tone: Tone = troubled.some(({ condition }) => CONDITION_LOOKS[condition].tone === "bad") ? "bad" : "warn";
  if (troubled.length === 1) return { tone, title: trouble(first), details: [hold] };
  const shown = troubled.slice(0, DETAILS_MAX).map(trouble);
  const hidden = troubled.length - shown.length;
  return {
    tone,
    title: `${troubled.length} of ${plural(members.length, "node")} need attention`,
    details: [...shown, ...(hidden > 0 ? [`… and ${hidden} more`] : []), hold],
  };
}

/** One node's trouble in one clause. */
function trouble(node: NodeSummary): string {
  const name = clip(node.name, 63);
  if (node.condition === "refused") {
    const refused = node.converge?.refused?.commit;
    // Without a commit it is the hub that does not deal with the node, as with a cloned disk.
    return refused === undefined ? `${name} is refused by the hub` : `${name} refused ${shortCommit(plain(refused))}`;
  }
  const resources = node.condition === "failing" ? (node.converge?.failing ?? []) : [];
  const [resource] = resources;
  if (resource === undefined) return `${name} is ${node.condition}`;
  return `${name} is failing: ${clip(resource.resource, 60)}${resources.length > 1 ? ` and ${resources.length - 1} more` : ""}`;
}

function underway(members: readonly NodeSummary[]): readonly string[] {
  return (["converging", "behind"] as const).flatMap((condition) => {
    const some = members.filter((node) => node.condition === condition);
    return some.length === 0 ? [] : [`${nameList(some)} ${some.length === 1 ? "is" : "are"} ${condition}`];
  });
}

function nameList(nodes: readonly NodeSummary[]): string {
  const names = [...nodes].map(({ name }) => clip(name, 63)).sort(byName);
  const shown = names.slice(0, DETAILS_MAX);
  const hidden = names.length - shown.length;
  if (hidden > 0) return `${shown.join(", ")} and ${hidden} more`;
  return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown.join("");
}
