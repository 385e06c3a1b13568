import type { BootId, CommitId, LeaseId, NodeName } from "../../shared/ids.ts";
import type { LeaseMessage, LeaseOrder, NodeLease, NodeLeasePhase } from "../../shared/protocol/lease.ts";
import { denialsFor } from "./budget.ts";
import { assertInvariants } from "./invariants.ts";
import type { Answer, Denial, Effect, Ended, Event, Lease, Request, State, Terms } from "./state.ts";
import { emptyState, emptyVolatile, PATIENCE } from "./state.ts";
import { step } from "./step.ts";

/** For tests: the coordinator with nodes that do what a test says, and answer each ping with where they stand. */

export type Happening = { [Kind in Event["kind"]]: Omit<Extract<Event, { kind: Kind }>, "now"> }[Event["kind"]];
type Groups = Readonly<Record<string, { readonly members: readonly string[]; readonly maxUnavailable?: number; readonly acceptOutage?: boolean }>>;

/** 2026-01-01, 00:00 UTC. */
const START_MS = 1_767_225_600_000;
const TICK_MS = 5_000;

export class ClusterTwin {
  state: State = emptyState();
  nowMs = 0;
  wallOffsetMs = 0;
  /** Everything that the coordinator wanted to be done, in order, without the pings. */
  readonly effects: Effect[] = [];
  readonly #nodes = new Map<string, NodeTwin>();
  #runs = 0;
  #commits = 0;

  constructor(nodes: readonly string[], groups: Groups = {}, locks: readonly string[] = []) {
    this.restart();
    this.push(nodes, groups, locks);
    for (const node of nodes) this.says(node);
    this.step({ kind: "checks", failing: [] });
  }

  step(happening: Happening): Answer {
    const event = { ...happening, now: { wallMs: START_MS + this.nowMs + this.wallOffsetMs, monoMs: this.nowMs } } as Event;
    const result = step(this.state, event);
    assertInvariants(this.state, event, result, PATIENCE);
    this.state = result.state;
    const pinged: NodeTwin[] = [];
    for (const effect of result.effects) {
      if (effect.do !== "send" || effect.order.kind !== "ping") {
        this.effects.push(effect);
        continue;
      }
      const node = this.#nodes.get(effect.node);
      if (node === undefined || !node.answers) continue;
      node.word = { ...node.word, answers: { run: effect.order.run, ping: effect.order.ping } };
      pinged.push(node);
    }
    for (const node of pinged) this.says(node.name);
    return result.answer;
  }

  /** What is only in memory is lost, and maybe the newest part of the database as well. */
  restart(durable = this.state.durable): void {
    this.state = { durable, volatile: emptyVolatile("", this.nowMs) };
    this.step({ kind: "started", run: `run ${++this.#runs}` });
    this.step({ kind: "checks", failing: [] });
  }

  /** A commit: the cluster, and groups beside it. Every node that answers runs it at once. */
  push(nodes: readonly string[], groups: Groups = {}, locks: readonly string[] = []): void {
    const commit = (++this.#commits).toString(16).padStart(40, "0") as CommitId;
    for (const node of nodes) {
      const twin = this.#nodes.get(node) ?? newNode(node);
      this.#nodes.set(node, { ...twin, word: { ...twin.word, commit } });
    }
    const specs: Groups = { cluster: { members: [...nodes, ...locks] }, ...groups };
    const terms = Object.entries(specs).map(([name, group]): [string, Omit<Terms, "commit">] => [name, { members: group.members as NodeName[], maxUnavailable: group.maxUnavailable, acceptOutage: group.acceptOutage ?? false }]);
    const members = [...nodes, ...locks].map((name) => ({ name: name as NodeName, agent: !locks.includes(name) }));
    this.step({ kind: "membership", commit, members, groups: new Map(terms) });
    for (const node of nodes) if (this.#node(node).answers) this.says(node);
  }

  ask(node: string, change: Partial<Request> = {}): LeaseId {
    const id = (change.id ?? `ask-${node}-${this.nowMs}`) as LeaseId;
    this.step({ kind: "request", request: { id, node: node as NodeName, work: { do: "reboot" }, drain: { timeoutMs: 60_000, onTimeout: "undo" }, soakMs: 60_000, expectedMs: 300_000, by: "ada", rollout: null, despiteChecks: false, ...change } });
    return id;
  }

  /** Its newest word, changed. */
  says(node: string, change: Partial<LeaseMessage> = {}): void {
    const twin = this.#node(node);
    twin.word = { ...twin.word, ...change, seq: twin.word.seq + 1 };
    this.step({ kind: "word", node: node as NodeName, word: twin.word });
  }

  /** Where it stands with the lease that it was granted last. */
  reaches(node: string, phase: NodeLeasePhase, change: Partial<NodeLease> = {}): void {
    const twin = this.#node(node);
    const grant = this.ordersTo(node).findLast((order) => order.kind === "grant");
    if (grant?.kind !== "grant") throw new Error(`${node} was granted nothing`);
    const lease: NodeLease = { lease: grant.lease, epoch: grant.epoch, bootId: grant.bootId, phase, work: grant.work, since: "2026-01-01T00:00:00.000Z", progress: "", why: null, result: null, ...change };
    this.says(node, { lease, challenge: `${twin.name}, word ${twin.word.seq + 1}` });
  }

  /** The connection broke, and nobody answers. */
  vanishes(node: string): void {
    this.#node(node).answers = false;
    this.step({ kind: "gone", node: node as NodeName });
  }

  /** The machine has booted, and its agent says where it stands. */
  boots(node: string, phase: NodeLeasePhase = "resuming"): void {
    const twin = this.#node(node);
    twin.answers = true;
    twin.boot += 1;
    const before = this.ordersTo(node).findLast((order) => order.kind === "grant");
    twin.word = { ...twin.word, stream: `${node}, start ${twin.boot}`, seq: 0, answers: null, bootId: bootOf(node, twin.boot), challenge: `${node}, boot ${twin.boot}` };
    if (before === undefined) this.says(node);
    else this.reaches(node, phase);
  }

  /** From the grant to the reboot. */
  drainsAndGoes(node: string): void {
    this.reaches(node, "draining");
    this.reaches(node, "drained");
    this.reaches(node, "rebooting");
    this.vanishes(node);
  }

  /** Time passes, with a tick every five seconds, and nodes that answer pings. */
  waits(forMs: number): void {
    for (const untilMs = this.nowMs + forMs; this.nowMs < untilMs; ) {
      this.nowMs += Math.min(TICK_MS, untilMs - this.nowMs);
      this.step({ kind: "tick" });
    }
  }

  ordersTo(node: string): readonly LeaseOrder[] {
    return this.effects.flatMap((effect) => (effect.do === "send" && effect.node === node ? [effect.order] : []));
  }

  lease(node: string): Lease | undefined {
    return [...this.state.durable.leases.values()].find((lease) => lease.node === node);
  }

  ended(id: string): Ended | undefined {
    return this.state.durable.ended.get(id as LeaseId);
  }

  /** What stands in the way of this node. */
  why(node: string): readonly Denial[] {
    return denialsFor(this.state, { node: node as NodeName, despiteChecks: false }, { wallMs: START_MS + this.nowMs + this.wallOffsetMs, monoMs: this.nowMs }, PATIENCE);
  }

  get notes(): readonly string[] {
    return this.effects.flatMap((effect) => (effect.do === "note" ? [`${effect.action} ${effect.subject} by ${effect.by}: ${effect.text}`] : []));
  }

  #node(name: string): NodeTwin {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`there is no ${name}`);
    return node;
  }
}

interface NodeTwin {
  readonly name: string;
  word: LeaseMessage;
  boot: number;
  answers: boolean;
}

function bootOf(node: string, boot: number): BootId {
  return `00000000-0000-4000-8000-${Buffer.from(`${node}${boot}`).toString("hex").padStart(12, "0").slice(-12)}` as BootId;
}

function newNode(name: string): NodeTwin {
  const word: LeaseMessage = { v: 1, stream: `${name}, start 1`, seq: 0, answers: null, bootId: bootOf(name, 1), challenge: `${name}, boot 1`, epochSeen: 0, commit: null, healthy: true, trouble: [], gates: [], cordonedBy: null, lease: null, refuses: null };
  return { name, word, boot: 1, answers: true };
}
