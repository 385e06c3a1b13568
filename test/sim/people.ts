import { activeRollout, withRollout } from "../../hub/rollout/campaigns.ts";
import { newRollout } from "../../hub/rollout/plan.ts";
import type { Rollout } from "../../hub/rollout/state.ts";
import { cancelled, resumed } from "../../hub/rollout/step.ts";
import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { DrainPolicy, Work } from "../../shared/protocol/lease.ts";
import { policyOf } from "./hub.ts";
import type { Hub } from "./hub.ts";
import type { Observer } from "./observer.ts";
import type { World } from "./world.ts";

const drain: DrainPolicy = { timeoutMs: 60_000, onTimeout: "undo" };

interface PeopleParts {
  readonly world: World;
  readonly hub: Hub;
  readonly observer: Observer;
  nodes(): readonly string[];
  isCalm(): boolean;
}

/** Owners, their scripts, and machines without an agent: whoever asks the hub for slots, and says what is to become of them. */
export class People {
  readonly #parts: PeopleParts;

  constructor(parts: PeopleParts) {
    this.#parts = parts;
  }

  /** Starts one, unless one is under way. */
  rollout(id: string, kind: Rollout["kind"], nodes?: readonly string[]): void {
    this.#parts.hub.alter((campaigns) => {
      if (activeRollout(campaigns) !== null) return campaigns;
      return withRollout(campaigns, newRollout(policyOf(this.#parts.nodes()), { id, kind, commit: this.#parts.hub.durable.commit, startedBy: "ada", nowMs: 0, nodes: nodes as NodeName[] | undefined, window: null }));
    });
  }

  /** What a person says to the rollout that is under way. */
  steer(what: "halt" | "resume" | "cancel"): void {
    this.#parts.hub.alter((campaigns) => {
      const rollout = activeRollout(campaigns);
      if (rollout === null) return campaigns;
      if (what === "halt") return rollout.phase === "running" ? withRollout(campaigns, { ...rollout, phase: "halted", halt: { atMs: 0, node: null, why: "not now", cure: "" } }) : campaigns;
      if (what === "cancel") {
        const ended = cancelled(rollout, 0);
        return "refused" in ended ? campaigns : withRollout(campaigns, ended.rollout);
      }
      const next = resumed(rollout, "retry");
      return "refused" in next ? campaigns : withRollout(campaigns, next);
    });
    if (what !== "cancel") return;
    for (const asked of [...this.#parts.hub.durable.requests.values()]) if (asked.rollout !== null) this.#parts.hub.handle({ kind: "withdraw", id: asked.id, why: "the rollout was cancelled" });
  }

  /** "I have looked": never at what answers for itself. */
  clear(id: LeaseId): void {
    const lease = this.#parts.hub.durable.leases.get(id);
    if (lease === undefined || lease.holder === "fleetlock" || (lease.holder === "script" && !this.#parts.isCalm())) return;
    this.#parts.hub.handle({ kind: "clear", id, by: "ada", why: "I have looked" });
  }

  /** Asks for a slot for one node; false when the hub does not take it. */
  ask(node: string, id: string, work: Work["do"]): boolean {
    const todo: Record<typeof work, Work> = { update: { do: "update", order: { scope: "all", exclude: [], deferDays: 0, pinned: null, reboot: "required" } }, reboot: { do: "reboot" }, converge: { do: "converge" }, hold: { do: "hold" } };
    const request = {
      id: id as LeaseId,
      node: node as NodeName,
      work: todo[work],
      drain,
      soakMs: 15_000,
      expectedMs: 300_000,
      by: "ada",
      rollout: null,
      despiteChecks: false,
    };
    return this.#parts.hub.handle({ kind: "request", request }).ok;
  }

  /** A person's script takes the slot, hurts the node for a while, and gives the slot back. */
  script(node: string, id: string, forMs: number): void {
    const answer = this.#parts.hub.handle({ kind: "take", id: id as LeaseId, node: node as NodeName, holder: "script", by: "ada", soakMs: 0 });
    if (!answer.ok) {
      // Without an answer the slot may be taken or not: it is given back in any case.
      if (answer.denials.length === 0) this.#giveBack(node, "script", id);
      return;
    }
    this.#parts.observer.took(id, node);
    this.#parts.observer.down(node, id);
    this.#parts.world.after(forMs, () => {
      this.#parts.observer.restored(node, id);
      this.#giveBack(node, "script", id);
    });
  }

  /** Again and again until the hub has heard it; only then does the holder go on. */
  #giveBack(node: string, holder: "script" | "fleetlock", id: string | null, heard = (): void => {}): void {
    const answer = this.#parts.hub.handle({ kind: "give-back", node: node as NodeName, holder, id: id as LeaseId | null, by: "ada" });
    if (answer.ok) heard();
    else this.#parts.world.after(5_000, () => this.#giveBack(node, holder, id, heard));
  }

  /** Zincati: asks until it gets the slot, reboots, and says that it has started, until somebody hears it. */
  lockLoop(name: string): void {
    const { world } = this.#parts;
    world.after(world.chance.between(20_000, 90_000), () => {
      // It says so at each start, whether it remembers a slot or not.
      if (this.#parts.isCalm()) return this.#giveBack(name, "fleetlock", null);
      const id = `f${world.nowMs}` as LeaseId;
      const answer = this.#parts.hub.handle({ kind: "take", id, node: name as NodeName, holder: "fleetlock", by: name, soakMs: 5_000 });
      if (!answer.ok || answer.lease === undefined) return this.lockLoop(name);
      this.#parts.observer.took(answer.lease, name);
      this.#parts.observer.down(name, answer.lease);
      world.after(world.chance.between(10_000, 60_000), () => {
        this.#parts.observer.restored(name);
        this.#giveBack(name, "fleetlock", null, () => this.lockLoop(name));
      });
    });
  }
}
