import { printable } from "../../shared/config/diagnostic.ts";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import { isoTime } from "../system-clock.ts";
import { exitCodes } from "./asking.ts";
import type { Failed, HubClient } from "./client.ts";
import { span } from "./moment.ts";
import { watch } from "./patience.ts";
import { changesBetween, type Change } from "./rollout-changes.ts";
import { count, type Paint } from "./show.ts";
import { shortRollout, stateStyle } from "./show-coordination.ts";
import type { CommandParts } from "./coordination-commands.ts";

/** `evenkeel rollout follow`: tells what happens until the rollout is done, halted or cancelled. */

/** Who is told. */
export interface Follower {
  look(rollout: RolloutView): void;
  /** The hub is away (why), or back (null). */
  trouble(message: string | null): void;
  /** After the last look. */
  end(): Promise<void>;
}

/** Answers with the exit code: 0 done, 1 cancelled, 3 halted; or with why the hub cannot be followed any more. */
export async function follow(client: HubClient, id: string, follower: Follower, parts: CommandParts): Promise<number | Failed> {
  const looks = watch<RolloutView>(client, `/rollouts/${encodeURIComponent(id)}`, parts.pause, (message) => follower.trouble(message));
  try {
    for (;;) {
      const next = await looks.next();
      if (next.done === true) return next.value;
      follower.look(next.value);
      const { phase } = next.value;
      if (phase !== "running") return phase === "done" ? 0 : phase === "halted" ? exitCodes.denied : exitCodes.failed;
    }
  } finally {
    await follower.end();
  }
}

/** One line for each change: for people without a screen, or as JSON. */
export function lineFollower(parts: CommandParts, json: boolean, paint: Paint): Follower {
  const { terminal, clock } = parts;
  let before: RolloutView | null = null;
  return {
    look(rollout) {
      for (const change of changesBetween(before, rollout, isoTime(clock.nowMs()))) terminal.out(json ? `${JSON.stringify(change)}\n` : showChange(change, rollout, paint));
      before = rollout;
    },
    trouble(message) {
      const at = isoTime(clock.nowMs());
      if (json) terminal.out(`${JSON.stringify({ change: "hub", at, reachable: message === null, message: message ?? "the hub is back" })}\n`);
      else terminal.err(`${timeOf(at)}  ${paint.yellow(message === null ? "the hub is back" : `${printable(message)}; trying again`)}\n`);
    },
    async end() {},
  };
}

function showChange(change: Change, rollout: RolloutView, paint: Paint): string {
  const at = paint.dim(timeOf(change.at));
  if (change.change === "rollout") return `${at}  ${outcome(rollout, paint)}\n`;
  const width = Math.max(...rollout.nodes.map(({ node }) => node.length));
  const what = change.failure ?? (change.progress === "" ? (change.denials[0]?.text ?? "") : change.progress);
  return `${`${at}  ${paint.bold(change.node.padEnd(width))}  ${stateStyle(change.state, paint)(printable(change.phase).padEnd(9))}  ${printable(what)}`.trimEnd()}\n`;
}

/** How the rollout stands or ended, in one line, with what to do when it is halted. */
export function outcome(rollout: RolloutView, paint: Paint): string {
  const { kind, phase, halt, nodes, changed, startedAt, endedAt } = rollout;
  const name = shortRollout(rollout.id);
  switch (phase) {
    case "running":
      return `rollout ${name} (${kind}): ${printable(rollout.forecast.text)}`;
    case "halted": {
      const busy = nodes.filter(({ state }) => ["draining", "drained", "working", "checking", "soaking"].includes(state)).map(({ node }) => node);
      const coming = busy.length === 0 ? "" : ` (${busy.join(", ")} ${busy.length === 1 ? "comes" : "come"} back first)`;
      return `${paint.red(`rollout ${name} is halted: ${printable(halt?.why ?? "nobody said why")}`)}${coming}${halt === null || halt.cure === "" ? "" : `\n  → ${printable(halt.cure)}`}`;
    }
    case "cancelled":
      return paint.yellow(`rollout ${name} was cancelled`);
    case "done": {
      const skipped = nodes.filter(({ state }) => state === "skipped").length;
      const all = `${count(nodes.length - skipped, "node")} done${skipped === 0 ? "" : `, ${skipped} skipped`}`;
      return paint.green(`rollout ${name} is done: ${all}, ${count(changed.length, "package")} changed, in ${span(startedAt, Date.parse(endedAt ?? startedAt))}`);
    }
  }
}

function timeOf(iso: string): string {
  return Temporal.Instant.from(iso).toZonedDateTimeISO(Temporal.Now.timeZoneId()).toPlainTime().toString({ smallestUnit: "second" });
}
