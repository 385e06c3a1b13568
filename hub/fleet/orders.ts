import { randomUUID } from "node:crypto";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { OrderMessage } from "../../shared/protocol/messages.ts";
import type { PlanReport } from "../../shared/protocol/report.ts";
import type { Presence } from "./presence.ts";

export type PlanAnswer = { readonly ok: true; readonly report: PlanReport } | { readonly ok: false; readonly code: "offline" | "timeout" | "failed" | "busy"; readonly message: string };

/** Plans asked for and not yet answered, over all nodes. */
const pendingMax = 200;

/** What the hub asks of nodes. None of it is authority: a node looks at its repository, or plans and tells. */
export class Orders {
  readonly #clock: Clock;
  readonly #presence: Presence;
  readonly #send: (node: NodeName, order: OrderMessage) => void;
  readonly #planTimeoutMs: number;
  readonly #pending = new Map<string, { node: NodeName; timer: Timer; resolve: (answer: PlanAnswer) => void }>();

  constructor(options: { clock: Clock; presence: Presence; send: (node: NodeName, order: OrderMessage) => void; planTimeoutMs: number }) {
    this.#clock = options.clock;
    this.#presence = options.presence;
    this.#send = options.send;
    this.#planTimeoutMs = options.planTimeoutMs;
  }

  /** "Look at the repository now", to those that are connected; the others look by themselves. */
  look(nodes: readonly NodeName[] | "all"): void {
    for (const node of nodes === "all" ? this.#presence.online() : nodes) this.#send(node, { v: 1, kind: "look" });
  }

  /** Asks a node what it would do for a branch (null: the main one), and waits for the answer. */
  plan(node: NodeName, branch: string | null): Promise<PlanAnswer> {
    const session = this.#presence.get(node);
    if (session?.online !== true) {
      return Promise.resolve({ ok: false, code: "offline", message: `${node} is not connected, so it cannot plan now: see \`evenkeel status\`, or run \`evenkeel-agent plan\` on the node itself` });
    }
    if (this.#pending.size >= pendingMax) {
      return Promise.resolve({ ok: false, code: "busy", message: `${pendingMax} plans are already under way: try again in a minute` });
    }
    const id = randomUUID();
    return new Promise((resolve) => {
      const timer = this.#clock.after(this.#planTimeoutMs, () =>
        this.answer(node, id, { ok: false, code: "timeout", message: `${node} did not answer within ${Math.round(this.#planTimeoutMs / 1_000)} s: it may be in the middle of a converge; its log says more (\`evenkeel-agent log\`)` }),
      );
      this.#pending.set(id, { node, timer, resolve });
      this.#send(node, { v: 1, kind: "plan", id, branch });
    });
  }

  /** Hands an answer to whoever asked; one that nobody waits for (any more) is dropped. */
  answer(node: NodeName, id: string, answer: PlanAnswer): void {
    const pending = this.#pending.get(id);
    if (pending === undefined || pending.node !== node) return;
    this.#pending.delete(id);
    pending.timer.cancel();
    pending.resolve(answer);
  }

  /** The node went away: what it was asked will not be answered. */
  disconnected(node: NodeName): void {
    for (const [id, pending] of this.#pending) {
      if (pending.node === node) this.answer(node, id, { ok: false, code: "offline", message: `${node} lost its connection before it answered: try again once it is back` });
    }
  }
}
