import type { Health, Memory, NodeEvent } from "../../agent/lease/step.ts";
import { nodeStep } from "../../agent/lease/step.ts";
import type { Standing } from "../../agent/lease/standing.ts";
import { emptyStanding } from "../../agent/lease/standing.ts";
import type { BootId, CommitId } from "../../shared/ids.ts";
import type { CommitStanding, GateReason, LeaseMessage } from "../../shared/protocol/lease.ts";
import type { Observer } from "./observer.ts";
import type { World } from "./world.ts";

/** One machine with the real state machine of the agent: a disk that outlives everything, a process that does not. */

export interface MachineParts {
  readonly world: World;
  readonly observer: Observer;
  readonly drift: number;
  crashes: number;
  say(node: string, word: LeaseMessage): void;
  /** What it has against anybody's going, now. */
  gates(node: string): readonly GateReason[];
  /** A lease is over, and the node looks whether it still needs a reboot. */
  tellUpdates(node: string, needed: "yes" | "no"): void;
  /** The connection to the hub broke. */
  lost(node: string): void;
}

const EPOCH_MS = 1_700_000_000_000;

export class Machine {
  readonly name: string;
  readonly #parts: MachineParts;
  #on = true;
  /** It has power, and does not come up. */
  #dead = false;
  #bootId: BootId;
  #disk: Standing = emptyStanding;
  /** Null while the agent does not run. */
  #memory: Memory | null = null;
  /** Everything that was started ends with the process: a callback of an earlier life is void. */
  #life = 0;
  #boot = 0;
  #activity = 0;
  #health: Health = { healthy: true, trouble: [], cordonedBy: null, commit: null };
  #wallOffsetMs = 0;
  /** How many changes the repository has that wait for the node's turn, and how many of them it has applied: on its disk. */
  #change = 0;
  #applied = 0;
  /** Nothing goes wrong any more. */
  calm = false;

  constructor(name: string, parts: MachineParts) {
    this.name = name;
    this.#parts = parts;
    this.#bootId = parts.world.chance.uuid() as BootId;
  }

  get agentRuns(): boolean {
    return this.#memory !== null;
  }

  get standing(): Standing {
    return this.#disk;
  }

  start(): void {
    if (!this.#on || this.#dead || this.#memory !== null) return;
    const { world, observer } = this.#parts;
    this.#life++;
    const now = this.#now();
    this.#memory = { stream: world.chance.uuid(), seq: 0, bootId: this.#bootId, answers: null, challenge: world.chance.text(), challengeAt: now, health: { ...this.#health, gates: undefined }, progress: "", refuses: null };
    observer.dead(this.name, false);
    world.say(this.name, () => `agent starts in boot ${this.#bootId.slice(0, 4)}, remembers ${this.#disk.record?.phase ?? "nothing"}`);
    this.#handle({ kind: "started" });
    this.#remind(this.#life);
    this.look();
  }

  /** Looks how it is, in a moment. */
  look(): void {
    const life = this.#life;
    this.#parts.world.after(this.#parts.world.chance.between(20, 1_500), () => {
      if (this.#life === life) this.#handle({ kind: "health", health: this.#seen() });
    });
  }

  /** What it has against others' going is not asked while it is away itself. */
  #seen(): Health {
    return { ...this.#health, gates: this.#isAway ? undefined : this.#parts.gates(this.name) };
  }

  get #isAway(): boolean {
    const { record } = this.#disk;
    return record !== null && record.phase !== "back" && record.phase !== "declined";
  }

  /** What it has said of others' going is looked at again and again. */
  get saysNo(): boolean {
    return (this.#memory?.health.gates ?? []).length > 0;
  }

  /** Whether others see it in their midst. */
  get serves(): boolean {
    return this.#on && !this.#dead && !this.#isAway;
  }

  /** Whoever holds a lease says so again from time to time, asked or not. */
  #remind(life: number): void {
    this.#parts.world.after(60_000, () => {
      if (this.#life !== life) return;
      if (this.#disk.record !== null) this.#handle({ kind: "connected" });
      this.#remind(life);
    });
  }

  receive(event: Happening): void {
    this.#handle(event);
  }

  health(change: Partial<Health>): void {
    this.#health = { ...this.#health, ...change };
    this.#parts.observer.unfit(this.name, !this.#health.healthy || this.#health.cordonedBy !== null);
    this.#handle({ kind: "health", health: this.#seen() });
  }

  /** @param disruptive it has a part that waits for the node's turn; what is harmless in it is applied as it comes. */
  commit(commit: CommitId, disruptive: boolean): void {
    if (commit <= (this.#health.commit ?? "")) return;
    if (disruptive) this.#change++;
    this.health({ commit, standing: this.#standing(commit) });
  }

  get holdsBack(): boolean {
    return this.#change > this.#applied;
  }

  #standing(commit: CommitId): CommitStanding {
    return { commit, outcome: this.holdsBack ? "held" : "converged", heldBack: this.holdsBack ? ["services/store.service"] : [], failure: null };
  }

  /** The part of a commit that takes the node out of the cluster: each step of it. */
  #disrupt(lease: string): void {
    this.#parts.observer.disrupts(this.name, lease);
  }

  jump(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }

  crashAgent(awayMs: number): void {
    if (this.#memory === null) return;
    this.#parts.world.say(this.name, () => "agent is killed");
    this.#memory = null;
    this.#life++;
    this.#parts.observer.dead(this.name, true);
    this.#parts.lost(this.name);
    this.#parts.world.after(awayMs, () => this.start());
  }

  /** The power goes, and comes back. */
  power(awayMs: number): void {
    if (!this.#on) return;
    const { world, observer } = this.#parts;
    world.say(this.name, () => `machine goes down for ${Math.round(awayMs / 1_000)} s`);
    this.#on = false;
    this.#memory = null;
    this.#life++;
    this.#boot++;
    observer.dead(this.name, true);
    observer.booted(this.name);
    this.#parts.lost(this.name);
    world.after(awayMs, () => this.#powerOn());
  }

  /** A reboot by order, from which most come back soon. */
  #goesDown(): void {
    const { world } = this.#parts;
    const { chance } = world;
    const how = this.calm ? "soon" : chance.pick(["soon", "soon", "soon", "soon", "slow", "never", "dead", "sick"] as const);
    if (how !== "soon") world.count(`returns ${how}`);
    if (how === "sick") this.health({ healthy: false, trouble: ["a disk is missing since the reboot"] });
    this.#dead = how === "dead";
    this.power(how === "never" ? Number.MAX_SAFE_INTEGER : how === "slow" ? chance.between(100_000, 400_000) : chance.between(10_000, 60_000));
  }

  /** From outside, by its BMC: off, and on again. */
  cycle(): void {
    this.#parts.world.count("power cycled from outside");
    this.#dead = false;
    if (this.#on) this.power(5_000);
    else this.#powerOn();
  }

  #powerOn(): void {
    if (this.#on) return;
    this.#on = true;
    this.#bootId = this.#parts.world.chance.uuid() as BootId;
    if (this.#dead) this.#parts.world.say(this.name, () => "is on again, but nothing starts");
    else this.#parts.world.after(this.#parts.world.chance.between(500, 8_000), () => this.start());
  }

  /** Whoever cleared the lease has put back by hand what the agent could not. */
  mendByHand(): void {
    if (this.#disk.record?.unrestored != null) this.#parts.observer.restored(this.name);
  }

  #now(): Memory["challengeAt"] {
    const { world, drift } = this.#parts;
    return { wallMs: EPOCH_MS + world.nowMs + this.#wallOffsetMs, monoMs: world.nowMs * drift };
  }

  #handle(event: Happening): void {
    if (this.#memory === null) return;
    const { world } = this.#parts;
    const { chance } = world;
    const before = this.#disk.record;
    const result = nodeStep(this.#disk, this.#memory, { ...event, now: this.#now(), fresh: chance.text() });
    if (result.standing !== this.#disk) {
      // Before the write nothing has happened; after it, everything has been decided and nothing done.
      if (this.#dies("agent dies before a write")) return;
      this.#disk = result.standing;
      if (this.#dies("agent dies after a write")) return;
    }
    this.#memory = result.memory;
    if (before?.phase !== this.#disk.record?.phase) this.look();
    if (before !== null && this.#disk.record === null) this.#later(chance.between(500, 5_000), () => this.#parts.tellUpdates(this.name, !this.calm && chance.happens(0.03) ? "yes" : "no"));
    for (const effect of result.effects) this.#act(effect);
  }

  #dies(when: string): boolean {
    const { world, crashes } = this.#parts;
    if (this.calm || !world.chance.happens(crashes)) return false;
    world.count(when);
    this.crashAgent(world.chance.between(200, 20_000));
    return true;
  }

  #act(effect: ReturnType<typeof nodeStep>["effects"][number]): void {
    const { world, observer } = this.#parts;
    const { chance } = world;
    switch (effect.do) {
      case "say":
        this.#parts.say(this.name, effect.word);
        return;
      case "log":
        return;
      case "drain": {
        world.say(this.name, () => `drains for ${effect.record.lease}`);
        observer.down(this.name, effect.record.lease);
        const failed = !this.calm && chance.happens(0.08) ? "a unit would not stop" : null;
        this.#later(chance.between(500, 20_000), () => {
          if (failed === null) observer.drained(this.name, effect.record.lease);
          this.#handle({ kind: "drained", lease: effect.record.lease, failed });
        });
        return;
      }
      case "restore": {
        observer.restoring(this.name, effect.record.lease);
        const failed = !this.calm && chance.happens(0.08) ? "a unit would not start" : null;
        this.#later(effect.afterMs + chance.between(300, 10_000), () => {
          if (failed === null) observer.restored(this.name);
          world.say(this.name, () => (failed === null ? "has put back what was drained" : "could not put everything back"));
          this.#handle({ kind: "restored", lease: effect.record.lease, failed });
        });
        return;
      }
      case "work": {
        observer.working(this.name, effect.record.lease);
        world.say(this.name, () => `works on ${effect.record.lease}${effect.interrupted ? ", which was interrupted" : ""}`);
        const { lease, work } = effect.record;
        const change = work.do === "converge" ? this.#change : null;
        const failed = effect.interrupted && change === null ? "interrupted" : !this.calm && chance.happens(0.1) ? "postinst failed" : null;
        const reboot = chance.happens(change === null ? 0.6 : 0.2);
        if (change !== null) this.#disrupt(lease);
        this.#later(chance.between(1_000, 40_000), () => {
          if (change !== null) this.#disrupt(lease);
          observer.worked(this.name);
          if (change !== null && failed === null) {
            this.#applied = change;
            if (this.#health.commit !== null) this.health({ standing: this.#standing(this.#health.commit) });
          }
          this.#handle({ kind: "worked", lease: effect.record.lease, update: null, failed, reboot });
        });
        return;
      }
      case "reboot": {
        const boot = this.#boot;
        world.after(chance.between(0, 4_000), () => {
          if (this.#boot !== boot || !this.#on) return;
          observer.rebooted(this.name, effect.record.lease);
          world.say(this.name, () => `reboots for ${effect.record.lease}`);
          this.#goesDown();
        });
        return;
      }
    }
  }

  /** One activity at a time, and none outlives the process. */
  #later(delayMs: number, work: () => void): void {
    const life = this.#life;
    const activity = ++this.#activity;
    this.#parts.world.after(delayMs, () => {
      if (this.#life === life && this.#activity === activity) work();
    });
  }

  /** The trouble is over: whatever was thought dead is switched on again. */
  revive(): void {
    this.calm = true;
    this.#dead = false;
    if (!this.#on) this.#powerOn();
    else this.start();
    this.health({ healthy: true, trouble: [], cordonedBy: null });
  }
}

type Happening = { [Kind in NodeEvent["kind"]]: Omit<Extract<NodeEvent, { kind: Kind }>, "now" | "fresh"> }[NodeEvent["kind"]];
