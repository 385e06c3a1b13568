import { printable } from "../../shared/config/diagnostic.ts";
import { shortCommit } from "../../shared/ids.ts";
import { IMPACT_WORDS, type PreviewGroup, type PreviewNode, type PreviewView } from "../../shared/protocol/preview.ts";
import { count, linesOf, showChange, showProblems, type Paint } from "./show.ts";

/** A preview for a terminal: nodes that would do the same stand together. */

export function showPreview(view: PreviewView, paint: Paint): string {
  const head = `${paint.bold(`preview ${printable(view.name)}`)} ${paint.dim(`${shortCommit(view.commit)} ${printable(view.subject)}`)}`.trimEnd();
  const outdated = view.outdated ? [`${paint.yellow("!")} the main branch has moved since this one left it: rebase it onto the main branch and push it again`] : [];
  const failed = view.nodes.filter(({ state, name }) => state === "failed" && !view.groups.some(({ nodes }) => nodes.includes(name)));
  const rest = view.nodes.filter(({ state }) => ["asked", "late", "offline", "waiting", "left"].includes(state));
  return `${[head, ...outdated, ...view.groups.flatMap((group) => ["", ...showGroup(group, paint)]), ...blankBefore([...showFailed(failed, paint), ...rest.map(({ name, message }) => `${paint.yellow("!")} ${name}: ${printable(message)}`)]), "", verdict(view, paint)].join("\n")}\n`;
}

function showGroup({ nodes, changes, problems, omitted, impact }: PreviewGroup, paint: Paint): readonly string[] {
  const names = paint.bold(nodes.join(", "));
  if (changes.length + problems.length + omitted === 0) return [`${names}  ${paint.green("nothing to change")}`];
  const total = `${count(changes.length + omitted, "change")}${impact === "none" ? "" : `, ${paint.yellow(impact)}: ${IMPACT_WORDS[impact]}`}`;
  const more = omitted > 0 ? [paint.dim(`… and ${omitted} more`)] : [];
  return [`${names}  ${total}`, ...changes.flatMap((change) => showChange(change, paint, true)), ...more, ...showProblems(problems, paint)];
}

/** Nodes that say the same stand together here, too: a branch to be rebased is refused by all of them. */
function showFailed(nodes: readonly PreviewNode[], paint: Paint): readonly string[] {
  return [...Map.groupBy(nodes, ({ message }) => message)].flatMap(([message, same]) => {
    const [first = "", ...lines] = linesOf(message);
    return [`${paint.red("✗")} ${paint.bold(same.map(({ name }) => name).join(", "))}  ${first}`, ...lines.map((line) => `  ${line}`)];
  });
}

function blankBefore(lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : ["", ...lines];
}

function verdict({ outcome, counts, impact }: PreviewView, paint: Paint): string {
  const of = `${counts.planned} of ${count(counts.nodes, "node")} planned it`;
  const changing = counts.changing === 0 ? "nothing would change" : `${count(counts.changing, "node")} would change`;
  const how = impact === "none" || counts.changing === 0 ? "" : `; ${IMPACT_WORDS[impact]}`;
  switch (outcome) {
    case "nothing":
      return paint.green(`${of}: nothing would change`);
    case "changes":
      return paint.bold(`${of}: ${changing}${how}`);
    case "failed":
      return paint.red(`${of}, ${counts.failed + counts.missing} could not: ${changing}${how}`);
    case "pending":
      return paint.yellow(counts.missing === 0 ? "no node is there to plan it" : `${of}, ${counts.missing} still at it: ${changing}${how}`);
  }
}
