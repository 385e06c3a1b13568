import { shortCommit } from "../../shared/ids.ts";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import { clip, plural } from "./format.ts";
import type { Headline } from "./headline.ts";
import { isAtIt } from "./timeline.ts";

const HEADS: Readonly<Record<RolloutView["kind"], string>> = { update: "Updating", reboot: "Rebooting", change: "Changing" };
const DONE: Readonly<Record<RolloutView["kind"], string>> = { update: "updated", reboot: "rebooted", change: "changed" };
const WORKS: Readonly<Record<RolloutView["kind"], string>> = { update: "is updating", reboot: "is about to reboot", change: "is applying its change" };

/** What it is: `OS updates`, `reboot of all`, `configuration change 3f2a91cc`. */
export function kindWords({ kind, commit }: Pick<RolloutView, "kind" | "commit">): string {
  switch (kind) {
    case "update":
      return "OS updates";
    case "reboot":
      return "reboot of all";
    case "change":
      return `configuration change${commit === undefined ? "" : ` ${shortCommit(commit)}`}`;
  }
}

/** What a rollout comes down to: the phase, who is at it, and when it will be over. */
export function rolloutHeadline(rollout: RolloutView): Headline {
  const { phase, halt, nodes, forecast } = rollout;
  const failed = nodes.filter(({ state }) => state === "failed");
  switch (phase) {
    case "running":
      return { tone: "busy", title: `${HEADS[rollout.kind]}: ${nowWords(rollout)}`, details: [forecast.text] };
    case "halted":
      return { tone: failed.length > 0 || halt?.node != null ? "bad" : "warn", title: halt?.node == null ? "The rollout is halted" : `The rollout is halted at ${clip(halt.node, 63)}`, details: [halt?.why ?? "", doneWords(rollout)].filter((text) => text !== "") };
    case "done": {
      const skipped = nodes.filter(({ state }) => state === "skipped").length;
      return { tone: failed.length > 0 ? "warn" : "good", title: doneWords(rollout), details: skipped > 0 ? [`${plural(skipped, "node")} left out`] : [] };
    }
    case "cancelled":
      return { tone: "off", title: "The rollout was cancelled", details: [doneWords(rollout)] };
  }
}

function doneWords({ kind, nodes }: RolloutView): string {
  return `${nodes.filter(({ state }) => state === "done").length} of ${plural(nodes.length, "node")} ${DONE[kind]}`;
}

const DOING: Readonly<Record<string, string>> = { draining: "is draining", drained: "is drained", rebooting: "is rebooting", checking: "is being checked", soaking: "is being watched", aborting: "puts its drain back" };

/** `n2 is rebooting`, or what all of them wait for. */
function nowWords(rollout: RolloutView): string {
  const [at] = rollout.nodes.filter(isAtIt);
  if (at !== undefined) {
    const phase = at.state === "working" ? (at.timeline.at(-1)?.phase ?? "working") : at.state;
    return `${clip(at.node, 63)} ${(Object.hasOwn(DOING, phase) ? DOING[phase] : undefined) ?? WORKS[rollout.kind]}`;
  }
  if (rollout.canarySoakUntil !== null) return "the canary is being watched";
  const next = rollout.nodes.find(({ state }) => state === "asked" || state === "waiting");
  return next === undefined ? "nobody is left" : `${clip(next.node, 63)} is next`;
}

/** One line for other pages. */
export function rolloutLine(rollout: RolloutView): string {
  const { title, details } = rolloutHeadline(rollout);
  return [title, ...details.slice(0, 1)].join(" · ");
}
