import { denialsFor } from "../../hub/coordinator/budget.ts";
import { assertInvariants } from "../../hub/coordinator/invariants.ts";
import type { Answer, Durable, Effect, Ended, Event, State } from "../../hub/coordinator/state.ts";
import { emptyState, emptyVolatile, PATIENCE } from "../../hub/coordinator/state.ts";
import { step } from "../../hub/coordinator/step.ts";
import type { Campaigns } from "../../hub/rollout/campaigns.ts";
import { noCampaigns } from "../../hub/rollout/campaigns.ts";
import { Conductor } from "../../hub/rollout/conductor.ts";
import type { Policy } from "../../hub/rollout/plan.ts";
import { CommitRollout, Updates } from "../../shared/config/policy.ts";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import type { LeaseOrder } from "../../shared/protocol/lease.ts";
import type { Observer } from "./observer.ts";
import type { GroupSpec } from "./scenario.ts";
import type { World } from "./world.ts";

/** The hub's process around the real coordinator: a database that is written before anything is done, and may be lost. */

export interface HubParts {
  readonly world: World;
  readonly observer: Observer;
  crashes: number;
  send(node: string, order: LeaseOrder): void;
  /** A node is away for too long: somebody looks at its power. */
  lookOutside(node: string): void;
  /** A slot was freed by a person's word. */
  cleared(lease: string, node: string): void;
  /** The hub runs, and listens. */
  up(): void;
}

/** What waits for the next order that could hurt. */
export interface Moment {
  /** The hub dies before or after the order is written down; before, it is never sent. */
  readonly kills: "before" | "after" | null;
  strike(node: string): void;
}

type Happening = { [Kind in Event["kind"]]: Omit<Extract<Event, { kind: Kind }>, "now"> }[Event["kind"]];

const EPOCH_MS = 1_700_000_000_000;
const TICK_MS = 5_000;
const COPY_EVERY_MS = 20_000;

export class Hub {
  readonly #parts: HubParts;
  #disk: Durable = emptyState().durable;
  #campaigns: Campaigns = noCampaigns;
  #campaignsDisk: Campaigns = noCampaigns;
  #conductor = new Conductor(() => this.#parts.world.chance.uuid(), new Map());
  #state: State | null = null;
  #copies: { readonly atMs: number; readonly durable: Durable; readonly campaigns: Campaigns }[] = [];
  #life = 0;
  #wallOffsetMs = 0;
  #membership: Happening | null = null;
  #seenCommit = "";
  #agents: readonly string[] = [];
  failingChecks: readonly string[] = [];
  readonly moments: Moment[] = [];
  calm = false;
  steps = 0;

  constructor(parts: HubParts) {
    this.#parts = parts;
  }

  get runs(): boolean {
    return this.#state !== null;
  }

  get durable(): Durable {
    return this.#state?.durable ?? this.#disk;
  }

  start(): void {
    if (this.#state !== null) return;
    const { world } = this.#parts;
    const life = ++this.#life;
    world.say("hub", () => "starts");
    this.#state = { durable: this.#disk, volatile: emptyVolatile("", world.nowMs) };
    this.#campaigns = this.#campaignsDisk;
    this.#conductor = new Conductor(() => world.chance.uuid(), new Map());
    this.#follow();
    if (!this.handle({ kind: "started", run: world.chance.uuid() }).ok || this.#life !== life) return;
    if (this.#membership !== null) this.handle(this.#membership);
    if (this.#life !== life) return;
    this.#parts.up();
    world.after(world.chance.between(200, 3_000), () => {
      if (this.#life === life) this.handle({ kind: "checks", failing: this.failingChecks });
    });
    this.#tick(life);
  }

  #tick(life: number): void {
    const { world } = this.#parts;
    world.after(TICK_MS, () => {
      if (this.#life !== life) return;
      this.handle({ kind: "tick" });
      if (world.nowMs - (this.#copies.at(-1)?.atMs ?? 0) >= COPY_EVERY_MS) this.#copies.push({ atMs: world.nowMs, durable: this.#disk, campaigns: this.#campaignsDisk });
      this.#tick(life);
    });
  }

  crash(awayMs: number): void {
    if (this.#state === null) return;
    this.#parts.world.say("hub", () => `is killed, for ${Math.round(awayMs / 1_000)} s`);
    this.#state = null;
    this.#life++;
    this.#parts.world.after(awayMs, () => this.start());
  }

  /** Comes up again with a database out of a backup. */
  restore(awayMs: number, ageMs: number): void {
    const { world, observer } = this.#parts;
    const copy = this.#copies.findLast(({ atMs }) => atMs <= world.nowMs - ageMs) ?? this.#copies[0];
    if (copy === undefined || this.#state === null) return;
    this.crash(awayMs);
    world.say("hub", () => `its database is put back to what it was ${Math.round((world.nowMs - copy.atMs) / 1_000)} s ago`);
    this.#disk = copy.durable;
    this.#campaignsDisk = copy.campaigns;
    observer.hubRestored();
  }

  jump(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  membership(commit: CommitId, nodes: readonly string[], locks: readonly string[], groups: Readonly<Record<string, GroupSpec>>): void {
    const all = [...nodes, ...locks];
    const specs: Record<string, GroupSpec> = { ...groups, cluster: { ...groups["cluster"], members: all } };
    this.#membership = {
      kind: "membership",
      commit,
      members: all.map((name) => ({ name: name as NodeName, agent: !locks.includes(name) })),
      groups: new Map(Object.entries(specs).map(([name, group]) => [name, { members: group.members as readonly NodeName[], maxUnavailable: group.maxUnavailable, acceptOutage: group.acceptOutage ?? false }])),
    };
    this.#agents = nodes;
    this.#follow();
    this.handle(this.#membership);
  }

  #follow(): void {
    this.#conductor.follow(policyOf(this.#agents));
  }

  /** A word about updates. Its look at the archives failed: what there is to install does not matter here. */
  heard(node: string, needed: "yes" | "no"): void {
    if (this.#state === null) return;
    this.#conductor.heard(node as NodeName, { v: 1, lookedAt: "2026-01-01T00:00:00.000Z", error: "no archive answers", pending: [], omitted: 0, held: [], reboot: { needed, why: [] }, restarts: { needed: "unknown", services: [] }, conflicts: [] });
    this.handle({ kind: "tick" });
  }

  handle(happening: Happening): Answer {
    if (this.#state === null) return gone;
    const { world } = this.#parts;
    const before = this.#state;
    const result = this.#step(before, happening);
    const campaigns = this.#roll(result);
    if (result.state.durable !== before.durable || campaigns !== this.#campaigns) {
      const kills = this.#strike(result.effects);
      if (this.#dies("hub dies before a write", kills === "before")) return gone;
      this.#disk = result.state.durable;
      this.#campaignsDisk = campaigns;
      this.#decided(happening, before, result.effects);
      if (this.#dies("hub dies after a write", kills === "after")) return gone;
    }
    this.#state = result.state;
    this.#campaigns = campaigns;
    for (const effect of result.effects) {
      if (effect.do === "send") this.#parts.send(effect.node, effect.order);
      else if (effect.do === "look-outside") this.#parts.lookOutside(effect.node);
      else if (effect.do === "note") world.say("hub", () => `${effect.action} ${effect.subject}: ${effect.text}`);
    }
    return result.answer;
  }

  #step(before: State, happening: Happening): { state: State; effects: Effect[]; answer: Answer } {
    this.steps++;
    const event = { ...happening, now: this.#now() } as Event;
    const result = step(before, event);
    assertInvariants(before, event, result, PATIENCE);
    return { state: result.state, effects: [...result.effects], answer: result.answer };
  }

  #now(): Event["now"] {
    const { world } = this.#parts;
    return { wallMs: EPOCH_MS + world.nowMs + this.#wallOffsetMs, monoMs: world.nowMs };
  }

  /** The real rollouts, in the same transaction: what they wish for are events of the coordinator. */
  #roll(result: { state: State; effects: Effect[] }): Campaigns {
    let campaigns = this.#campaigns;
    let fresh: readonly Effect[] = result.effects;
    for (let round = 0; ; round++) {
      if (round > 50) throw new Error("the rollout asks in circles");
      const advanced = this.#conductor.advance(campaigns, { state: result.state, effects: fresh, now: this.#now() });
      campaigns = advanced.extra;
      const made: Effect[] = [...advanced.effects];
      for (const happening of advanced.events) {
        const next = this.#step(result.state, happening);
        result.state = next.state;
        made.push(...next.effects);
      }
      result.effects.push(...made);
      if (advanced.events.length === 0) break;
      fresh = made;
    }
    for (const rollout of campaigns.rollouts.values()) {
      const going = [...result.state.durable.leases.values()].filter((lease) => lease.rollout === rollout.id);
      if (going.length > 1) throw new Error(`two nodes of one rollout are at it: ${going.map(({ node }) => node).join(", ")}`);
    }
    return campaigns;
  }

  get campaigns(): Campaigns {
    return this.#campaigns;
  }

  /** By a person's word; false when the hub is down. */
  alter(change: (campaigns: Campaigns) => Campaigns): boolean {
    if (this.#state === null) return false;
    this.#campaigns = change(this.#campaigns);
    this.#campaignsDisk = this.#campaigns;
    return this.handle({ kind: "tick" }).ok;
  }

  /** What is written down is decided, by the membership of that moment, whether the order leaves now or after the next start. */
  #decided(happening: Happening, before: State, effects: readonly Effect[]): void {
    if (happening.kind === "membership" && happening.commit !== this.#seenCommit) {
      this.#seenCommit = happening.commit;
      const [groups, members] = [happening.groups, happening.members];
      this.#parts.observer.membership(members.map(({ name }) => name), Object.fromEntries(groups) as Readonly<Record<string, GroupSpec>>);
    }
    for (const effect of effects) {
      if (effect.do === "send") this.#watch(effect.node, effect.order);
      else if (effect.do === "ended") this.#watchEnd(before, effect.ended);
    }
  }

  /** Why a node may not go now, in the hub's own words. */
  why(node: string): string {
    if (this.#state === null) return "the hub is down";
    const { world } = this.#parts;
    return denialsFor(this.#state, { node: node as NodeName, despiteChecks: false }, { wallMs: EPOCH_MS + world.nowMs, monoMs: world.nowMs }, PATIENCE).map(({ text }) => text).join("; ");
  }

  #strike(effects: readonly Effect[]): Moment["kills"] {
    if (this.moments.length === 0) return null;
    const hurting = effects.find((effect) => effect.do === "send" && (effect.order.kind === "grant" || effect.order.kind === "confirm"));
    if (hurting?.do !== "send") return null;
    const moment = this.moments.shift();
    moment?.strike(hurting.node);
    return moment?.kills ?? null;
  }

  #dies(when: string, now: boolean): boolean {
    const { world, crashes } = this.#parts;
    if (this.calm || !(now || world.chance.happens(crashes))) return false;
    world.count(when);
    this.crash(world.chance.between(200, 30_000));
    return true;
  }

  #watchEnd(before: State, { id, node, how }: Ended): void {
    if (how === "cleared") this.#parts.cleared(id, node);
    else {
      const lease = before.durable.leases.get(id);
      this.#parts.observer.ended(id, node, how, lease?.soakMs ?? 0, lease?.holder === "agent");
    }
  }

  #watch(node: string, order: LeaseOrder): void {
    if (order.kind === "grant") this.#parts.observer.granted(order.lease, node, order.challenge);
    if (order.kind === "confirm") this.#parts.observer.confirmed(order.lease, node, order.challenge);
  }
}

const updates = Updates.parse({ canarySoakMinutes: 0.5, soakMinutes: 0.25, nodeMinutes: 5, drainTimeoutMinutes: 1 });
const rollout = CommitRollout.parse({ soakMinutes: 0.5, changeSoakMinutes: 0.25, nodeMinutes: 5 });

/** What the repository says about rollouts. */
export function policyOf(nodes: readonly string[]): Policy {
  return { updates, rollout, windows: {}, nodes: nodes as NodeName[], hubNode: null };
}

const gone: Answer = { ok: false, denials: [] };
