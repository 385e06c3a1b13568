import { CommitRollout, Updates } from "../../shared/config/policy.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { CommitStanding } from "../../shared/protocol/lease.ts";
import type { UpdatesMessage, VersionChange } from "../../shared/protocol/updates.ts";
import type { Answer, Ended } from "../coordinator/state.ts";
import { ClusterTwin, type Happening } from "../coordinator/twin.ts";
import type { Campaigns } from "./campaigns.ts";
import { activeRollout, noCampaigns, withRollout } from "./campaigns.ts";
import { Conductor } from "./conductor.ts";
import { newRollout, type Policy } from "./plan.ts";
import type { Going, Rollout } from "./state.ts";

/** For tests: the coordinator's twin with the real rollouts on top, in the same steps. */

const START_MS = 1_767_225_600_000;

export class RolloutTwin extends ClusterTwin {
  campaigns: Campaigns = noCampaigns;
  readonly asked: string[] = [];
  conductor: Conductor | null = null;
  policy: Policy;
  #seen = 0;
  #ids = 0;

  constructor(nodes: readonly string[], updates: Partial<Updates> = {}, more: Partial<Policy> = {}) {
    super(nodes);
    this.policy = { updates: Updates.parse({ canarySoakMinutes: 10, soakMinutes: 1, ...updates }), rollout: CommitRollout.parse({}), windows: {}, nodes: nodes as NodeName[], hubNode: null, ...more };
    this.wakes();
    for (const node of nodes) this.offers(node, "tool", "2.0");
  }

  /** A new run of the hub: what is only in memory is lost. */
  wakes(): void {
    const known = this.conductor?.updates ?? new Map();
    this.conductor = new Conductor(() => `id-${++this.#ids}`, known);
    this.conductor.follow(this.policy);
  }

  override step(happening: Happening): Answer {
    const answer = super.step(happening);
    this.advance();
    return answer;
  }

  advance(): void {
    const { conductor } = this;
    if (!conductor) return;
    const ended = this.effects.slice(this.#seen).flatMap((effect): Ended[] => (effect.do === "ended" ? [effect.ended] : []));
    this.#seen = this.effects.length;
    const now = { wallMs: START_MS + this.nowMs + this.wallOffsetMs, monoMs: this.nowMs };
    const advanced = conductor.advance(this.campaigns, { state: this.state, effects: ended.map((each) => ({ do: "ended", ended: each })), now });
    this.campaigns = advanced.extra;
    for (const effect of advanced.effects) {
      if (effect.do !== "ask-updates") continue;
      this.asked.push(...effect.nodes);
      for (const node of effect.nodes) {
        const known = conductor.updates.get(node);
        if (known !== undefined) conductor.heard(node, known);
      }
    }
    if (advanced.effects.length > 0 && advanced.events.length === 0) this.advance();
    for (const event of advanced.events) this.step(event);
  }

  start(kind: Rollout["kind"] = "update", more: Partial<Parameters<typeof newRollout>[1]> = {}): void {
    const rollout = newRollout(this.policy, { id: `rollout-${++this.#ids}`, kind, startedBy: "ada", nowMs: START_MS + this.nowMs + this.wallOffsetMs, window: null, ...more });
    this.campaigns = withRollout(this.campaigns, rollout);
    this.waits(5_000);
  }

  change(rollout: Rollout | { readonly refused: string }): void {
    if ("refused" in rollout) throw new Error(rollout.refused);
    this.campaigns = withRollout(this.campaigns, rollout);
    this.waits(5_000);
  }

  get rollout(): Rollout {
    const rollout = activeRollout(this.campaigns) ?? [...this.campaigns.rollouts.values()].at(-1);
    if (rollout === undefined) throw new Error("there is no rollout");
    return rollout;
  }

  get states(): string {
    return this.rollout.nodes.map(({ node, state }) => `${node} ${state}`).join(", ");
  }

  going(node: string): Going {
    const going = this.rollout.nodes.find((each) => each.node === node);
    if (going === undefined) throw new Error(`${node} is not in the rollout`);
    return going;
  }

  offers(node: string, name: string, to: string, more: Partial<UpdatesMessage> = {}): void {
    const pending = name === "" ? [] : [{ name, from: "1.0", to, security: false, firstSeenAt: "2026-01-01T00:00:00.000Z" }];
    this.conductor?.heard(node as NodeName, { v: 1, lookedAt: "2026-01-01T00:00:00.000Z", error: null, pending, omitted: 0, held: [], reboot: { needed: "no", why: [] }, restarts: { needed: "no", services: [] }, conflicts: [], ...more });
  }

  /** It has compared itself with a commit, the newest unless said otherwise, and leaves some of it as it is. */
  stands(node: string, heldBack: readonly string[] = [], more: Partial<CommitStanding> = {}): void {
    const commit = this.state.durable.commit;
    if (commit === null) throw new Error("nothing has been pushed");
    this.says(node, { standing: { commit, outcome: heldBack.length > 0 ? "held" : "converged", heldBack: [...heldBack], failure: null, ...more } });
  }

  /** From the grant of a change until the slot is free again. */
  applies(node: string, failure: string | null = null): void {
    this.reaches(node, "drained");
    this.reaches(node, "working");
    if (failure === null) this.stands(node);
    this.reaches(node, "back", { result: { ok: failure === null, rebooted: false, failure, update: null, ...(this.state.durable.commit !== null && { commit: this.state.durable.commit }) } });
    this.waits(70_000);
    this.says(node, { lease: null });
    this.waits(5_000);
  }

  /** From the grant until the slot is free again; answers what it was told to install. */
  goes(node: string, changed: readonly VersionChange[] = [{ name: "tool", from: "1.0", to: "2.0" }], failure: string | null = null): unknown {
    this.reaches(node, "drained");
    this.reaches(node, "working");
    const update = { ok: failure === null, changed: [...changed], failure: null, rolledBack: [], notRolledBack: [], movedOn: [], reboot: { needed: "no" as const, why: [] } };
    this.reaches(node, "back", { result: { ok: failure === null, rebooted: false, failure, update } });
    this.waits(70_000);
    this.says(node, { lease: null });
    const grant = this.ordersTo(node).findLast((order) => order.kind === "grant");
    return grant?.kind === "grant" && grant.work.do === "update" ? grant.work.order.pinned : null;
  }
}
