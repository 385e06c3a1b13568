import type { CommitId, LeaseId, NodeName } from "../../shared/ids.ts";
import { allowedDown } from "../../shared/quorum.ts";
import type { GateReason } from "../../shared/protocol/lease.ts";
import { InvariantViolation } from "../../hub/coordinator/invariants.ts";
import { activeRollout } from "../../hub/rollout/campaigns.ts";
import { Hub } from "./hub.ts";
import { Machine } from "./machine.ts";
import { Network } from "./network.ts";
import { Observer, Violation } from "./observer.ts";
import { People } from "./people.ts";
import type { Fault, GroupSpec, Scenario } from "./scenario.ts";
import { CALM_MS, TROUBLE_MS } from "./scenario.ts";
import { World } from "./world.ts";

/** One seed from beginning to end. */

export interface Outcome {
  readonly failure: string | null;
  readonly timeline: readonly string[];
  readonly steps: number;
  /** How often a node went down by order: a simulation in which nothing happens proves nothing. */
  readonly downs: number;
  /** How often each sort of fault struck. */
  readonly struck: ReadonlyMap<string, number>;
  /** Who saw the failure: the observer outside, the coordinator's own invariants, or that it did not come right; "bug" is any other error. */
  readonly foundBy: FoundBy | null;
}

export type FoundBy = "observer" | "invariant" | "progress" | "bug";

export function simulate(scenario: Scenario, traced = false): Outcome {
  const simulation = new Simulation(scenario, traced);
  let failure: string | null = null;
  let foundBy: FoundBy | null = null;
  try {
    simulation.run();
  } catch (error) {
    foundBy = error instanceof Violation ? error.by : error instanceof InvariantViolation ? "invariant" : "bug";
    failure = error instanceof Error ? `${error instanceof Violation ? "" : `${error.name}: `}${error.message}` : String(error);
    simulation.world.say("", () => `>>> ${failure}`);
    if (traced && error instanceof Error && !(error instanceof Violation)) simulation.world.trace?.push(error.stack ?? "");
  }
  return { failure, foundBy, timeline: simulation.world.trace ?? [], steps: simulation.hub.steps, downs: simulation.observer.downs, struck: simulation.world.struck };
}

/** A connection that broke without a goodbye is noticed after this long: one and a half times MQTT's keepalive. */
const NOTICED_MS = 30_000;

class Simulation {
  readonly world: World;
  readonly observer: Observer;
  readonly hub: Hub;
  readonly #scenario: Scenario;
  readonly #network: Network;
  readonly #people: People;
  readonly #machines = new Map<string, Machine>();
  #nodes: readonly string[];
  #groups: Readonly<Record<string, GroupSpec>>;
  /** Whose subsystem is not whole, and whom that keeps from going. */
  readonly #gated = new Map<string, GateReason["holds"]>();
  #commits = 0;
  #calm = false;

  constructor(scenario: Scenario, traced: boolean) {
    this.#scenario = scenario;
    this.world = new World(scenario.seed, traced);
    this.observer = new Observer(() => this.world.nowMs);
    this.#network = new Network(this.world, scenario.network, (node) => this.world.after(this.world.chance.between(100, 5_000), () => this.#machines.get(node)?.receive({ kind: "connected" })));
    this.hub = new Hub({
      world: this.world,
      observer: this.observer,
      crashes: scenario.crashes.hub,
      send: (node, order) => this.#network.carry(node, () => this.#machines.get(node)?.receive({ kind: "order", order })),
      lookOutside: (node) => {
        if (this.world.chance.happens(0.5)) this.world.after(this.world.chance.between(1_000, 60_000), () => this.#machine(node).cycle());
      },
      cleared: (lease, node) => {
        this.observer.cleared(lease);
        this.#machine(node).mendByHand();
      },
      up: () => {
        for (const machine of this.#machines.values()) this.world.after(this.world.chance.between(100, 5_000), () => machine.receive({ kind: "connected" }));
      },
    });
    this.#nodes = scenario.nodes;
    this.#groups = scenario.groups;
    this.#people = new People({ world: this.world, hub: this.hub, observer: this.observer, nodes: () => this.#nodes, isCalm: () => this.#calm });
  }

  run(): void {
    this.hub.start();
    for (const node of this.#nodes) this.#machine(node).start();
    this.#push(1_000);
    for (const [index, fault] of this.#scenario.faults.entries()) this.world.after(fault.atMs, () => this.#strike(fault, index));
    for (const lock of this.#scenario.locks) this.#people.lockLoop(lock);
    if (this.#scenario.mesh) this.#lookAround();
    this.world.run(TROUBLE_MS);
    this.#mend();
    this.#mustComeRight();
  }

  #machine(name: string): Machine {
    let machine = this.#machines.get(name);
    if (machine === undefined) {
      const drift = this.#scenario.drift[this.#scenario.nodes.indexOf(name)] ?? 1;
      machine = new Machine(name, {
        world: this.world,
        observer: this.observer,
        drift,
        crashes: this.#scenario.crashes.agent,
        say: (node, word) => this.#network.carry(node, () => this.hub.handle({ kind: "word", node: node as NodeName, word })),
        gates: (node) => this.#gatesOf(node),
        tellUpdates: (node, needed) => this.#network.carry(node, () => this.hub.heard(node, needed)),
        lost: (node) => {
          const noticedMs = this.#network.isCut(node) ? NOTICED_MS : this.world.chance.between(10, this.world.chance.happens(0.3) ? NOTICED_MS : 2_000);
          this.world.after(noticedMs, () => {
            if (!this.#machine(node).agentRuns) this.hub.handle({ kind: "gone", node: node as NodeName });
          });
        },
      });
      this.#machines.set(name, machine);
    }
    return machine;
  }

  /** A push: the hub learns it at once, the nodes one after the other. It takes something down on those that are named. */
  #push(slowMs: number, disrupted: readonly string[] = []): void {
    const commit = (++this.#commits).toString(16).padStart(40, "0") as CommitId;
    for (const node of this.#nodes) {
      const machine = this.#machine(node);
      machine.start();
      this.world.after(this.world.chance.between(100, slowMs), () => machine.commit(commit, disrupted.includes(node)));
    }
    this.hub.membership(commit, this.#nodes, this.#scenario.locks, this.#groups);
  }

  #strike(fault: Fault, index: number): void {
    const { world, hub } = this;
    world.say("", () => `* ${JSON.stringify(fault)}`);
    world.count(fault.do);
    switch (fault.do) {
      case "cut":
        for (const node of fault.nodes) this.#cutOff(node, fault.keeps, fault.forMs);
        return;
      case "power":
        this.#machine(fault.node).power(fault.awayMs);
        return;
      case "agent-crash":
        this.#machine(fault.node).crashAgent(fault.awayMs);
        return;
      case "sick":
        this.#machine(fault.node).health({ healthy: false, trouble: ["a service has failed"] });
        world.after(fault.forMs, () => this.#machine(fault.node).health({ healthy: true, trouble: [] }));
        return;
      case "gate":
        this.#gated.set(fault.node, fault.holds);
        this.#gateChanged(fault.node);
        world.after(fault.forMs, () => this.#ungate(fault.node));
        return;
      case "cordon":
        this.#machine(fault.node).health({ cordonedBy: "somebody" });
        world.after(fault.forMs, () => this.#machine(fault.node).health({ cordonedBy: null }));
        return;
      case "hub-crash":
        hub.crash(fault.awayMs);
        return;
      case "hub-restore":
        hub.restore(fault.awayMs, fault.ageMs);
        return;
      case "clock":
        if (fault.who === "hub") hub.jump(fault.byMs);
        else this.#machine(fault.who).jump(fault.byMs);
        return;
      case "checks":
        hub.failingChecks = ["website"];
        hub.handle({ kind: "checks", failing: hub.failingChecks });
        world.after(fault.forMs, () => {
          hub.failingChecks = [];
          hub.handle({ kind: "checks", failing: [] });
        });
        return;
      case "membership":
        this.#nodes = fault.nodes;
        this.#groups = fault.groups;
        this.#push(fault.slowMs);
        return;
      case "change":
        this.#push(fault.slowMs, fault.nodes);
        return;
      case "reboot":
        this.#people.ask(fault.node, `a${index}`, world.chance.pick(["update", "reboot", "converge"] as const));
        return;
      case "hold-node": {
        this.#people.ask(fault.node, `a${index}`, "hold");
        world.after(fault.forMs, () => hub.handle({ kind: "finish", id: `a${index}` as LeaseId, by: "ada" }));
        return;
      }
      case "hold":
        hub.handle({ kind: "hold", what: fault.what, hold: { by: "ada", why: "visitors", sinceMs: 0, untilMs: null } });
        world.after(fault.forMs, () => hub.handle({ kind: "unhold", what: fault.what, by: "ada" }));
        return;
      case "clear":
        for (const lease of hub.durable.leases.values()) if (lease.node === fault.node) this.#people.clear(lease.id);
        return;
      case "abort":
        for (const lease of hub.durable.leases.values()) if (lease.node === fault.node) hub.handle({ kind: "abort", id: lease.id, by: "ada", why: "not now" });
        return;
      case "moment":
        hub.moments.push({ kills: fault.kills, strike: (node) => this.#strikeAt(node, fault) });
        return;
      case "settle":
        hub.handle({ kind: "settle", group: fault.group, by: "ada", why: "they are what there is" });
        return;
      case "window":
        for (const id of [...hub.durable.requests.keys(), ...hub.durable.leases.keys()]) hub.handle({ kind: "withdraw", id, why: "the window is closing" });
        return;
      case "rollout":
        this.#people.rollout(`r${index}`, fault.kind);
        return;
      case "steer":
        this.#people.steer(fault.what);
        return;
      case "script":
        this.#people.script(fault.node, `s${index}`, fault.forMs);
        return;
    }
  }

  #gatesOf(node: string): readonly GateReason[] {
    const holds = this.#gated.get(node);
    const missed = this.#scenario.mesh && this.#nodes.includes(node) ? this.#nodes.filter((other) => other !== node && this.#machines.get(other)?.serves === false) : [];
    return [...(holds === undefined ? [] : [{ kind: "disks", text: "a gate says no", holds, missing: [] }]), ...missed.map((other): GateReason => ({ kind: "frr", text: `the session with ${other} is not up`, holds: "others", missing: [other] }))];
  }

  #ungate(node: string): void {
    this.#gated.delete(node);
    this.#gateChanged(node);
  }

  #gateChanged(node: string): void {
    const holds = this.#gated.get(node);
    this.observer.gated(node, holds !== undefined && holds !== "itself");
    this.#machines.get(node)?.look();
  }

  /** Who misses somebody finds out sooner or later. */
  #lookAround(seen = ""): void {
    const missed = this.#nodes.filter((node) => this.#machines.get(node)?.serves === false).join(" ");
    for (const machine of this.#machines.values()) if (missed !== seen || machine.saysNo) machine.look();
    this.world.after(this.world.chance.between(2_000, 15_000), () => this.#lookAround(missed));
  }

  #strikeAt(node: string, { forMs, then, everyMs }: Extract<Fault, { do: "moment" }>): void {
    const { world, hub } = this;
    world.say("", () => `* the worst moment for ${node}: ${forMs === 0 ? "" : `cut off for ${Math.round(forMs / 1_000)} s`} ${then.join(", ")}`);
    if (forMs > 0) this.#cutOff(node, true, forMs, world.chance.between(500, NOTICED_MS));
    const untilMs = world.nowMs + forMs + 30_000;
    const again = (deed: "clear" | "abort" | "instead"): void => {
      if (world.nowMs > untilMs || this.#calm) return;
      if (deed === "instead") this.#people.ask(world.chance.pick(this.#nodes), `i${world.nowMs}`, "reboot");
      else {
        for (const asked of [...hub.durable.requests.values(), ...hub.durable.leases.values()]) {
          if (asked.node !== node) continue;
          if (deed === "clear") this.#people.clear(asked.id);
          else hub.handle({ kind: "abort", id: asked.id, by: "ada", why: "not now" });
        }
      }
      world.after(everyMs, () => again(deed));
    };
    for (const [index, deed] of then.entries()) {
      world.after((index + 1) * everyMs, () => {
        if (this.#calm) return;
        if (deed === "hub-restore") hub.restore(everyMs, world.chance.between(1_000, 60_000));
        else again(deed);
      });
    }
  }

  #cutOff(node: string, keeps: boolean, forMs: number, noticedMs = NOTICED_MS): void {
    const { world, hub } = this;
    if (!this.#network.cut(node, keeps)) return;
    world.after(noticedMs, () => {
      if (this.#network.isCut(node)) hub.handle({ kind: "gone", node: node as NodeName });
    });
    world.after(forMs, () => this.#network.heal(node));
  }

  #mend(): void {
    const { world, hub } = this;
    world.say("", () => "* the trouble is over");
    this.#calm = true;
    hub.calm = true;
    hub.moments.length = 0;
    this.#network.calm();
    hub.failingChecks = [];
    hub.start();
    hub.handle({ kind: "checks", failing: [] });
    for (const node of [...this.#gated.keys()]) this.#ungate(node);
    for (const machine of this.#machines.values()) machine.revive();
    this.#push(1_000);
    for (const what of [...hub.durable.holds.keys()]) hub.handle({ kind: "unhold", what, by: "ada" });
  }

  /** With everything well, nothing stays taken, and every node that may go down can be rebooted once more. */
  #mustComeRight(): void {
    const { world, hub } = this;
    const operator = (): void => {
      const rollout = activeRollout(hub.campaigns);
      if (rollout?.phase === "halted") this.#people.steer("resume");
      // Who may never go is not waited for.
      if (rollout?.nodes.some(({ node, state }) => (state === "waiting" || state === "asked") && this.#nodes.includes(node) && !this.#mayGo(node)) === true) this.#people.steer("cancel");
      // What was cancelled, or failed before, does not begin by itself again.
      const holding = this.#holding();
      if (rollout === null && holding.length > 0) this.#people.rollout(`y-${world.nowMs}`, "change", holding);
      for (const lease of hub.durable.leases.values()) {
        // Whoever has been told to come back is not told twice by a person.
        if (lease.work.do === "hold" && lease.holder === "agent" && !lease.finishedBy) hub.handle({ kind: "finish", id: lease.id, by: "ada" });
        // A script whose slot came back out of an old database is long over.
        if (lease.stuck !== null || (lease.holder === "script" && world.nowMs > TROUBLE_MS + 2 * 60_000)) this.#people.clear(lease.id);
      }
      world.after(30_000, operator);
    };
    world.after(60_000, operator);
    world.run(TROUBLE_MS + 5 * 60_000);
    const wanted = this.#nodes.filter((node) => this.#mayGo(node));
    const asked = wanted.map((node) => `z-${node}`);
    const deadlineMs = TROUBLE_MS + CALM_MS + wanted.length * 4 * 60_000;
    while (world.nowMs < deadlineMs) {
      for (const [index, node] of wanted.entries()) if (!hub.durable.ended.has(asked[index] as LeaseId)) this.#people.ask(node, asked[index] ?? "", "reboot");
      world.run(world.nowMs + 20_000);
      if (activeRollout(hub.campaigns) === null && asked.every((id) => hub.durable.ended.get(id as LeaseId)?.how === "released") && hub.durable.leases.size === 0 && this.#holding().length === 0) break;
    }
    const unfinished = wanted.filter((_, index) => hub.durable.ended.get(asked[index] as LeaseId)?.how !== "released");
    if (unfinished.length > 0) throw new Violation(`everything is well, and yet ${unfinished.join(", ")} could not be rebooted: ${hub.why(unfinished[0] ?? "")}`, "progress");
    const holding = this.#holding();
    if (holding.length > 0) throw new Violation(`everything is well, and yet ${holding.join(", ")} could not apply what the repository says: ${hub.why(holding[0] ?? "")}`, "progress");
    const rollout = activeRollout(hub.campaigns);
    if (rollout !== null) throw new Violation(`everything is well, and yet the rollout does not end: ${rollout.phase}, ${rollout.halt?.why ?? ""} ${rollout.nodes.map(({ node, state }) => `${node} ${state}`).join(", ")}`, "progress");
    const left = [...hub.durable.leases.values()];
    if (left.length > 0) throw new Violation(`everything is well, and yet slots are taken: ${left.map((lease) => `${lease.node} ${lease.phase}`).join(", ")}`, "progress");
    world.run(world.nowMs + 60_000);
    const down = this.observer.stillDown();
    if (down.length > 0) throw new Violation(`a drain was forgotten on ${down.join(", ")}`);
    for (const machine of this.#machines.values()) if (machine.standing.record !== null) throw new Violation(`${machine.name} still remembers a lease (${machine.standing.record.phase})`, "progress");
  }

  /** Who still waits to apply a change, and may go. */
  #holding(): readonly string[] {
    return this.#nodes.filter((node) => this.#machine(node).holdsBack && this.#mayGo(node));
  }

  #mayGo(node: string): boolean {
    const all = { ...this.#groups, cluster: { ...this.#groups["cluster"], members: [...this.#nodes, ...this.#scenario.locks] } };
    return Object.values(all).every((group: GroupSpec) => !group.members.includes(node) || allowedDown({ size: group.members.length, maxUnavailable: group.maxUnavailable, acceptOutage: group.acceptOutage ?? false }) > 0);
  }
}
