import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { UpdatesMessage } from "../../shared/protocol/updates.ts";
import type { Companion, Happening } from "../coordinator/run.ts";
import type { Effect, Ended, Now, State } from "../coordinator/state.ts";
import type { Campaigns } from "./campaigns.ts";
import { activeRollout, withRollout } from "./campaigns.ts";
import type { Policy } from "./plan.ts";
import { isPlausibleMs } from "./forecast.ts";
import { dueWindow, newRollout } from "./plan.ts";
import type { Rollout, Watch, Wish } from "./state.ts";
import { advanceRollout } from "./step.ts";

/** So long a node may take to fetch its package lists. */
const LOOK_PATIENCE_MS = 120_000;

/** Runs the rollouts beside the coordinator: after each of its steps, and in the same transaction. */
export class Conductor implements Companion<Campaigns> {
  /** What each node said last about its updates. */
  readonly updates: Map<NodeName, UpdatesMessage>;
  watch: Watch | null = null;
  readonly #newId: () => string;
  #policy: Policy | null = null;
  /** When the nodes of a rollout were asked to look at their archives, and who has answered since. */
  #asked: { readonly rollout: string; readonly atMonoMs: number; readonly heard: Set<NodeName> } | null = null;

  constructor(newId: () => string, known: ReadonlyMap<NodeName, UpdatesMessage>) {
    this.#newId = newId;
    this.updates = new Map(known);
  }

  heard(node: NodeName, message: UpdatesMessage): void {
    this.updates.set(node, message);
    this.#asked?.heard.add(node);
  }

  follow(policy: Policy): void {
    this.#policy = policy;
  }

  advance(before: Campaigns, { state, effects, now }: { readonly state: State; readonly effects: readonly Effect[]; readonly now: Now }): { readonly extra: Campaigns; readonly events: readonly Happening[]; readonly effects: readonly Effect[] } {
    const ended = effects.flatMap((effect): Ended[] => (effect.do === "ended" ? [effect.ended] : []));
    let campaigns = remember(before, ended);
    const started = this.#begin(campaigns, now);
    if (started !== null) campaigns = started;
    const rollout = activeRollout(campaigns) ?? lately(campaigns, ended);
    if (rollout === null) return { extra: campaigns, events: [], effects: [] };
    const asks = rollout.phase === "running" && rollout.kind === "update" && this.#asked?.rollout !== rollout.id;
    if (asks) this.#asked = { rollout: rollout.id, atMonoMs: now.monoMs, heard: new Set() };
    const asked = this.#asked;
    const around = {
      looked: asked?.heard ?? new Set<NodeName>(),
      lookedLongEnough: asked !== null && now.monoMs - asked.atMonoMs > LOOK_PATIENCE_MS,
       now, coordinator: state, ended, updates: this.updates, durations: campaigns.durations, newId: () => this.#newId() as LeaseId };
    const advanced = advanceRollout(rollout, this.watch, around);
    this.watch = advanced.watch;
    if (advanced.rollout !== rollout) campaigns = withRollout(campaigns, advanced.rollout);
    return { extra: campaigns, events: advanced.wishes.flatMap(eventOf), effects: [...(asks ? [{ do: "ask-updates" as const, nodes: rollout.nodes.map(({ node }) => node) }] : []), ...advanced.wishes.flatMap((wish) => noteOf(wish, rollout))] };
  }

  /** A window opens a rollout, unless one is under way: a halted one waits for its owner's word, whatever the hour. */
  #begin(campaigns: Campaigns, now: Now): Campaigns | null {
    if (this.#policy === null || activeRollout(campaigns) !== null) return null;
    const due = dueWindow(this.#policy, this.updates, now.wallMs, campaigns.lastOpeningMs);
    if (due === null) return null;
    const rollout = newRollout(this.#policy, { id: this.#newId(), kind: "update", startedBy: `window ${due.name}`, nowMs: now.wallMs, window: { name: due.name, closesAtMs: due.closesAtMs } });
    return { ...withRollout(campaigns, rollout), lastOpeningMs: due.opensAtMs };
  }
}

/** A node of a cancelled rollout may still be on its way back. */
function lately({ rollouts }: Campaigns, ended: readonly Ended[]): Rollout | null {
  const id = ended.find(({ rollout }) => rollout !== null)?.rollout;
  return id == null ? null : (rollouts.get(id) ?? null);
}

function remember(campaigns: Campaigns, ended: readonly Ended[]): Campaigns {
  const measured = ended.filter(({ how, rollout }) => how === "released" && rollout !== null);
  if (measured.length === 0) return campaigns;
  const durations = new Map(campaigns.durations);
  for (const { node, grantedAtMs, endedAtMs } of measured) {
    const tookMs = endedAtMs - grantedAtMs;
    if (isPlausibleMs(tookMs)) durations.set(node, tookMs);
  }
  return { ...campaigns, durations };
}

function eventOf(wish: Wish): Happening[] {
  switch (wish.do) {
    case "withdraw":
      return [{ kind: "withdraw", id: wish.id, why: wish.why }];
    case "request": {
      const { rollout, id, node } = wish;
      const { plan } = rollout;
      const order = { scope: plan.scope, exclude: [...plan.exclude], deferDays: plan.deferDays, pinned: rollout.target === null ? null : [...rollout.target], reboot: plan.reboot };
      return [
        {
          kind: "request",
          request: {
            id,
            node,
            work: rollout.kind === "reboot" ? { do: "reboot" } : { do: "update", order },
            drain: plan.drain,
            soakMs: plan.soakMs,
            expectedMs: plan.nodeMs,
            by: `rollout of ${rollout.startedBy}`,
            rollout: rollout.id,
            despiteChecks: false,
          },
        },
      ];
    }
    case "note":
      return [];
  }
}

function noteOf(wish: Wish, rollout: Rollout): Effect[] {
  return wish.do === "note" ? [{ do: "note", level: wish.level, action: "rollout", subject: rollout.id, text: wish.text, by: rollout.startedBy }] : [];
}
