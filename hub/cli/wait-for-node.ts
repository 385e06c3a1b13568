import { printable } from "../../shared/config/diagnostic.ts";
import type { WhyAnswer } from "../../shared/protocol/rollout.ts";
import { exitCodes } from "./asking.ts";
import type { Failed, HubClient } from "./client.ts";
import { watch, type Pause } from "./patience.ts";

/** `--wait`: stays until a node is where it was asked to be, and says what happens meanwhile. */

export type Goal = "drained" | "rebooted" | "back";

export interface Waited {
  /** 0, or an exit code. */
  readonly code: number;
  /** One sentence. */
  readonly message: string;
}

export interface Told {
  /** Each time that something has changed, a sentence. */
  progress(text: string, why: WhyAnswer | null): void;
}

/** Where it stands, in the coordinator's words for a lease: confirmed is at the work, and for a hold that is being drained. */
const beyondReturn: readonly string[] = ["confirmed", "checking", "soaking"];

/** Waits for what was asked for as `id`, or, to be back, for whatever the node holds. */
export async function waitForNode(client: HubClient, node: string, goal: Goal, id: string | null, told: Told, pause: Pause): Promise<Waited | Failed> {
  const answers = watch<WhyAnswer>(client, `/nodes/${encodeURIComponent(node)}/why`, pause, (message) => told.progress(message === null ? "the hub is back" : `${message}; trying again`, null));
  let said = "";
  let went = false;
  let declined: string | null = null;
  for (;;) {
    const next = await answers.next();
    if (next.done === true) return next.value;
    const why = next.value;
    const lease = why.lease !== null && (id === null || why.lease.id === id) ? why.lease : null;
    const request = why.request !== null && (id === null || why.request.id === id) ? why.request : null;
    went ||= lease !== null && beyondReturn.includes(lease.phase);
    if (lease?.stuck != null) return { code: exitCodes.denied, message: `${node} is stuck: ${printable(lease.stuck.why)}` };
    if (goal === "drained" && lease?.phase === "confirmed") return { code: 0, message: `${node} is drained, and stays so until \`evenkeel resume ${node}\`` };
    if (lease === null && request === null) return ended(node, goal, went, declined);
    declined = lease?.why ?? declined;
    const text = lease === null ? `waiting: ${printable(request?.denials[0]?.text ?? "its turn comes next")}` : `${lease.phase}${lease.progress === "" ? "" : `: ${printable(lease.progress)}`}`;
    if (text !== said) told.progress(text, why);
    said = text;
  }
}

function ended(node: string, goal: Goal, went: boolean, declined: string | null): Waited {
  if (goal === "back") return { code: 0, message: `${node} is back` };
  if (goal === "rebooted" && went) return { code: 0, message: `${node} has rebooted, and is back` };
  return { code: exitCodes.denied, message: declined !== null ? `${node} was not ${goal}: ${printable(declined)}` : `${node} was not ${goal}: it was called off, or it declined; \`evenkeel why ${node}\` and the node's page say more` };
}
