import { shortCommit } from "../../shared/ids.ts";
import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { CommitOrder } from "../../shared/protocol/commit.ts";
import type { CommitView } from "../../shared/protocol/rollout.ts";
import type { UpdateOrder, UpdatesMessage } from "../../shared/protocol/updates.ts";
import type { Companion, Happening } from "../coordinator/run.ts";
import type { Effect, Ended, Now, State } from "../coordinator/state.ts";
import type { Campaigns } from "./campaigns.ts";
import { activeRollout, withRollout } from "./campaigns.ts";
import { dueChange, isSuperseded } from "./changes.ts";
import type { Course } from "./commits.ts";
import { behindCanary, courseOf, orderOf } from "./commits.ts";
import type { Policy } from "./plan.ts";
import { isPlausibleMs } from "./forecast.ts";
import { dueWindow, newRollout } from "./plan.ts";
import type { Rollout, Watch, Wish } from "./state.ts";
import { advanceRollout, cancelled } from "./step.ts";

/** So long a node may take to fetch its package lists. */
const LOOK_PATIENCE_MS = 120_000;

/** Runs the rollouts beside the coordinator: after each of its steps, and in the same transaction. */
export class Conductor implements Companion<Campaigns> {
  /** What each node said last about its updates. */
  readonly updates: Map<NodeName, UpdatesMessage>;
  watch: Watch | null = null;
  readonly #newId: () => string;
  #policy: Policy | null = null;
  #course: Course = { view: null, watch: null, passed: false };
  /** What the nodes were told last of the newest commit. */
  #told: string | null = null;
  /** When the nodes of a rollout were asked to look at their archives, or it was first seen, and who has answered since. */
  #asked: { readonly rollout: string; readonly atMonoMs: number; readonly heard: Set<NodeName> } | null = null;

  /** The last turns that this run of the hub saw end: nobody is judged by what he said of his updates before. */
  readonly #turns = new Map<NodeName, { readonly overMonoMs: number; hasSpoken: boolean }>();
  #quietSinceMonoMs: number | null = null;

  constructor(newId: () => string, known: ReadonlyMap<NodeName, UpdatesMessage>) {
    this.#newId = newId;
    this.updates = new Map(known);
  }

  heard(node: NodeName, message: UpdatesMessage): void {
    this.updates.set(node, message);
    this.#asked?.heard.add(node);
    const turn = this.#turns.get(node);
    if (turn !== undefined) turn.hasSpoken = true;
  }

  follow(policy: Policy): void {
    this.#policy = policy;
  }

  /** How the newest commit goes to the nodes; null when it goes everywhere at once, or there is none. */
  get course(): CommitView | null {
    return this.#course.view;
  }

  /** Why a node leaves the newest commit alone for now; null when it does not. */
  behind(node: NodeName): { readonly code: string; readonly text: string; readonly cure: string } | null {
    const { view } = this.#course;
    return view !== null && behindCanary(this.#policy, view).has(node) ? { code: "canary", text: `${node} waits with the newest commit: ${view.text}`, cure: view.cure } : null;
  }

  /** A node may not have heard what was said before: it is told again. */
  hello(node: NodeName): CommitOrder | null {
    const { view } = this.#course;
    return view === null || view.canaries.includes(node) ? null : orderOf(view);
  }

  advance(before: Campaigns, { state, effects, now }: { readonly state: State; readonly effects: readonly Effect[]; readonly now: Now }): { readonly extra: Campaigns; readonly events: readonly Happening[]; readonly effects: readonly Effect[] } {
    const ended = effects.flatMap((effect): Ended[] => (effect.do === "ended" ? [effect.ended] : []));
    for (const { node } of ended) this.#turns.set(node, { overMonoMs: now.monoMs, hasSpoken: false });
    this.#quietSinceMonoMs = state.durable.leases.size > 0 ? null : (this.#quietSinceMonoMs ?? now.monoMs);
    let campaigns = remember(before, ended);
    const told = this.#follow(campaigns, state, now);
    campaigns = told.campaigns;
    const made: Effect[] = [...told.effects];
    const superseded = isSuperseded(campaigns, state);
    if (superseded !== null) {
      const over = cancelled(superseded, now.wallMs);
      if (!("refused" in over)) campaigns = withRollout(campaigns, over.rollout);
      made.push({ do: "note", level: "info", action: "rollout", subject: superseded.id, text: "the rollout is over: a newer commit takes its place", by: superseded.startedBy });
    }
    campaigns = this.#begin(campaigns, state, now) ?? campaigns;
    const rollout = activeRollout(campaigns) ?? lately(campaigns, ended);
    if (rollout === null) return { extra: campaigns, events: [], effects: made };
    const isNew = rollout.phase === "running" && this.#asked?.rollout !== rollout.id;
    if (isNew) this.#asked = { rollout: rollout.id, atMonoMs: now.monoMs, heard: new Set() };
    if (isNew && rollout.kind === "update") made.push({ do: "ask-updates", nodes: rollout.nodes.map(({ node }) => node) });
    const asked = this.#asked;
    const around = {
      now,
      coordinator: state,
      ended,
      updates: this.updates,
      looked: asked?.heard ?? new Set<NodeName>(),
      lookedLongEnough: asked !== null && now.monoMs - asked.atMonoMs > LOOK_PATIENCE_MS,
      sinceTurn: this.sinceTurn(now.monoMs),
      quietMs: this.#quietSinceMonoMs === null ? 0 : now.monoMs - this.#quietSinceMonoMs,
      behindCanary: behindCanary(this.#policy, this.#course.view),
      durations: campaigns.durations,
      newId: () => this.#newId() as LeaseId,
    };
    const advanced = advanceRollout(rollout, this.watch, around);
    this.watch = advanced.watch;
    if (advanced.rollout !== rollout) campaigns = withRollout(campaigns, advanced.rollout);
    return { extra: campaigns, events: advanced.wishes.flatMap(eventOf), effects: [...made, ...advanced.wishes.flatMap((wish) => noteOf(wish, rollout))] };
  }

  /** Whether those whose turn is over have said anything of their updates since; who was silent for too long is not waited for. */
  sinceTurn(monoMs: number): ReadonlyMap<NodeName, "spoken" | "silent"> {
    const since = new Map<NodeName, "spoken" | "silent">();
    for (const [node, { overMonoMs, hasSpoken }] of this.#turns) {
      if (hasSpoken) since.set(node, "spoken");
      else if (monoMs - overMonoMs <= LOOK_PATIENCE_MS) since.set(node, "silent");
    }
    return since;
  }

  /** Watches the canary with the newest commit, and tells the others what has become of it. */
  #follow(campaigns: Campaigns, state: State, now: Now): { readonly campaigns: Campaigns; readonly effects: readonly Effect[] } {
    const policy = this.#policy;
    let course = courseOf(policy, state, campaigns, this.#course.watch, now.monoMs);
    let after = campaigns;
    const effects: Effect[] = [];
    if (course.passed && course.view !== null) {
      const { commit, canaries } = course.view;
      after = { ...campaigns, released: { commit, by: `${canaries.join(", ")} held it, and was well` } };
      course = courseOf(policy, state, after, null, now.monoMs);
    }
    const { view } = course;
    const gist = view === null ? null : `${view.commit} ${view.state} ${view.text}`;
    if (view !== null && gist !== this.#told) {
      effects.push({ do: "tell-commit", nodes: (policy?.nodes ?? []).filter((node) => !view.canaries.includes(node)), order: orderOf(view) });
      if (view.state === "bad" || view.state === "released") effects.push({ do: "note", level: view.state === "bad" ? "warning" : "info", action: "commit", subject: view.commit, text: view.text, by: "hub" });
    }
    this.#told = gist;
    this.#course = course;
    return { campaigns: after, effects };
  }

  /**
   * What nodes hold back, or a window, opens a rollout, unless one is under way: a halted one waits for its owner's word,
   * whatever the hour.
   */
  #begin(campaigns: Campaigns, state: State, now: Now): Campaigns | null {
    if (this.#policy === null || activeRollout(campaigns) !== null) return null;
    const change = dueChange(this.#policy, state, campaigns, now);
    if (change !== null) return withRollout(campaigns, newRollout(this.#policy, { id: this.#newId(), kind: "change", commit: change.commit, startedBy: `commit ${shortCommit(change.commit)}`, nowMs: now.wallMs, window: change.window }));
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
  // How long a change takes says nothing of an update.
  const measured = ended.filter(({ how, rollout }) => how === "released" && rollout !== null && campaigns.rollouts.get(rollout)?.kind !== "change");
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
      const order: UpdateOrder = { scope: plan.scope, exclude: [...plan.exclude], deferDays: plan.deferDays, pinned: rollout.target === null ? null : [...rollout.target], reboot: plan.reboot };
      return [
        {
          kind: "request",
          request: {
            id,
            node,
            work: rollout.kind === "reboot" ? { do: "reboot" } : rollout.kind === "change" ? { do: "converge" } : { do: "update", order },
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
