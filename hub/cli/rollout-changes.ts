import type { DenialView, RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";

/** What has changed between two looks at a rollout: what `--json` prints one to a line, and people read. Times are ISO 8601. */

export interface RolloutChange {
  readonly change: "rollout";
  readonly at: string;
  readonly rollout: string;
  readonly kind: RolloutView["kind"];
  readonly phase: RolloutView["phase"];
  /** Why it is halted, and what to do. */
  readonly halt: RolloutView["halt"];
  readonly forecast: string;
}

export interface NodeChange {
  readonly change: "node";
  readonly at: string;
  readonly rollout: string;
  readonly node: string;
  readonly role: RolloutNode["role"];
  readonly state: RolloutNode["state"];
  /** Of the node's timeline: rebooting, say; else its state. */
  readonly phase: string;
  readonly progress: string;
  /** Why it waits. */
  readonly denials: readonly DenialView[];
  readonly failure: string | null;
}

export type Change = RolloutChange | NodeChange;

/** All that is new in `now`, the oldest first; of a first look, how everything stands. */
export function changesBetween(before: RolloutView | null, now: RolloutView, lookedAt: string): readonly Change[] {
  const changes: Change[] = [];
  const nodes = now.nodes.flatMap((node) => nodeChanges(before?.nodes.find((each) => each.node === node.node), node, now.id, lookedAt));
  const { id, kind, phase, halt, forecast } = now;
  const whole: RolloutChange = { change: "rollout", at: before === null && phase === "running" ? now.startedAt : (now.endedAt ?? halt?.at ?? lookedAt), rollout: id, kind, phase, halt, forecast: forecast.text };
  const isNew = before === null || before.phase !== phase || before.halt?.why !== halt?.why;
  // How it ended stands below how the nodes did.
  const begins = before === null && phase === "running";
  if (begins) changes.push(whole);
  changes.push(...nodes.sort((a, b) => a.at.localeCompare(b.at)));
  if (isNew && !begins) changes.push(whole);
  return changes;
}

function nodeChanges(before: RolloutNode | undefined, now: RolloutNode, rollout: string, lookedAt: string): readonly NodeChange[] {
  const change = (at: string, phase: string, more: Partial<NodeChange> = {}): NodeChange => {
    const { node, role, state, progress, denials } = now;
    return { change: "node", at, rollout, node, role, state, phase, progress, denials, failure: now.result?.failure ?? null, ...more };
  };
  const entered = before === undefined ? now.timeline.slice(-1) : newPhases(before.timeline, now.timeline);
  const last = entered.length - 1;
  // What it is at now is said with the last of what it went through meanwhile.
  const changes = entered.map(({ at, phase }, index) => change(at, phase, index === last ? {} : { progress: "", denials: [] }));
  const named = entered.some(({ phase }) => phase === now.state) || (last >= 0 && now.state === "working");
  if (before?.state !== now.state && !named) changes.push(change(now.endedAt ?? lookedAt, last < 0 || !atIt.includes(now.state) ? now.state : (entered[last]?.phase ?? now.state)));
  if (changes.length === 0 && before !== undefined && saying(before) !== saying(now)) changes.push(change(lookedAt, now.state === "working" ? (now.timeline.at(-1)?.phase ?? now.state) : now.state));
  return changes;
}

const atIt: readonly RolloutNode["state"][] = ["draining", "drained", "working", "checking", "soaking"];

/** A node that had to give its slot back begins again, with a timeline of its own. */
function newPhases(before: RolloutNode["timeline"], now: RolloutNode["timeline"]): RolloutNode["timeline"] {
  const goesOn = before.every(({ phase, at }, index) => now[index]?.phase === phase && now[index].at === at);
  return goesOn ? now.slice(before.length) : now;
}

/** That another node is at it is said with that node, phase by phase; it is no news of this one. */
function saying({ progress, denials }: RolloutNode): string {
  const first = denials[0];
  return `${progress}\n${first === undefined ? "" : first.code === "order" ? first.code : `${first.code} ${first.text}`}`;
}
