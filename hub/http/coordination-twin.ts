import { LeaseId, NodeName } from "../../shared/ids.ts";
import type { CoordinationSummary, DenialView, Done, GroupView, HoldView, HoldWord, LeaseTake, LeaseView, NodeWord, ReasonWord, RequestView, RolloutNode, RolloutStart, RolloutView, RolloutWord, WhyAnswer } from "../../shared/protocol/rollout.ts";
import type { Coordination, Word } from "../coordination.ts";

/** A coordinator in memory, for tests of what stands before it: one group, one slot, and rollouts that go where the test moves them. */

export const twinTime = "2026-05-04T01:00:00.000Z";
const rolloutsMax = 50;

export class CoordinationTwin implements Coordination {
  readonly nodes: readonly NodeName[];
  /** FleetLock machines: `group/id` to the node. */
  readonly machines = new Map<string, NodeName>();
  /** While there are any, whatever is asked for is denied with them. */
  denials: readonly DenialView[] = [];
  leases: LeaseView[] = [];
  requests: RequestView[] = [];
  holds: HoldView[] = [];
  /** Newest first. */
  all: RolloutView[] = [];
  /** What was asked for, in order. */
  readonly asked: unknown[][] = [];
  more: Partial<CoordinationSummary> = {};

  constructor(nodes: readonly string[] = ["n1", "n2", "n3"]) {
    this.nodes = nodes.map((name) => NodeName.parse(name));
  }

  async summary(): Promise<CoordinationSummary> {
    const rollout = this.all[0] ?? null;
    const rest = { gates: [], nextWindow: null, blackout: null, checks: [], updates: [], hubNode: null };
    return { groups: [this.#group()], leases: this.leases, requests: this.requests, holds: this.holds, rollout, ...rest, ...this.more };
  }

  async rollouts(): Promise<RolloutView[]> {
    return this.all.slice(0, rolloutsMax);
  }

  async rollout(id: string): Promise<RolloutView | null> {
    return this.all.find((each) => each.id === id) ?? null;
  }

  async why(name: string): Promise<WhyAnswer | null> {
    const node = this.nodes.find((each) => each === name);
    if (node === undefined) return null;
    const lease = this.leases.find((each) => each.node === node) ?? null;
    const request = this.requests.find((each) => each.node === node) ?? null;
    const denials = request?.denials ?? [...this.denials];
    const headline = lease !== null ? `${node} holds a slot (${lease.phase})` : (denials[0]?.text ?? `nobody has asked for ${node}, and nothing stands in the way`);
    return { node, headline, denials: [...denials], lease, request, expectedAt: null };
  }

  async startRollout(start: RolloutStart, by: string): Promise<Word> {
    this.asked.push(["startRollout", start, by]);
    if (this.denials.length > 0) return this.#denied();
    const rollout = rolloutOf(`r${this.all.length + 1}`, start.nodes ?? this.nodes, { kind: start.kind, startedBy: by });
    this.all.unshift(rollout);
    return done({ rollout: rollout.id });
  }

  async steerRollout(id: string, what: "halt" | "resume" | "cancel", word: RolloutWord, by: string): Promise<Word> {
    this.asked.push([what, id, word, by]);
    const at = this.all.findIndex((each) => each.id === id);
    const rollout = this.all[at];
    if (rollout === undefined) return no("unknown-rollout", `there is no rollout ${id}`);
    if (what === "halt") this.all[at] = { ...rollout, phase: "halted", halt: { at: twinTime, node: null, why: `${by}: ${word.why}`, cure: "`evenkeel rollout resume` goes on" } };
    if (what === "resume") this.all[at] = { ...rollout, phase: "running", halt: null };
    if (what === "cancel") this.all[at] = { ...rollout, phase: "cancelled", endedAt: twinTime };
    return done({ rollout: id });
  }

  async releaseCommit(commit: string, word: ReasonWord, by: string): Promise<Word> {
    this.asked.push(["releaseCommit", commit, word, by]);
    return this.denials.length > 0 ? this.#denied() : done({});
  }

  async ask(name: string, what: "drain" | "reboot", word: NodeWord, by: string): Promise<Word> {
    this.asked.push([what, name, word, by]);
    const node = this.nodes.find((each) => each === name);
    if (node === undefined) return no("unknown-node", `${name} is not a node of the repository`);
    const id = LeaseId.parse(`lease-${this.asked.length}`);
    this.requests.push({ id, node, work: what === "drain" ? "hold" : "reboot", by, rollout: null, requestedAt: twinTime, denials: [...this.denials] });
    return done({ lease: id });
  }

  async resume(node: string, by: string): Promise<Word> {
    this.asked.push(["resume", node, by]);
    if (!this.leases.some((lease) => lease.node === node)) return no("not-held", `${node} is not drained`);
    this.leases = this.leases.filter((lease) => lease.node !== node);
    return done({});
  }

  async hold({ what, why, until }: HoldWord, by: string): Promise<Word> {
    this.asked.push(["hold", what, why, until, by]);
    this.holds = [...this.holds.filter((each) => each.what !== what), { what, by, why, since: twinTime, until }];
    return done({});
  }

  async unhold(what: string, by: string): Promise<Word> {
    this.asked.push(["unhold", what, by]);
    this.holds = this.holds.filter((each) => each.what !== what);
    return done({});
  }

  abort(lease: string, word: ReasonWord, by: string): Promise<Word> {
    return this.#endLease("abort", lease, word, by);
  }

  clear(lease: string, word: ReasonWord, by: string): Promise<Word> {
    return this.#endLease("clear", lease, word, by);
  }

  async settle(group: string, word: ReasonWord, by: string): Promise<Word> {
    this.asked.push(["settle", group, word, by]);
    return group === "all" ? done({}) : no("unknown-group", `there is no group ${group}`);
  }

  async take({ id, node, why }: LeaseTake, by: string): Promise<Word> {
    this.asked.push(["take", id, node, why, by]);
    return this.#take(leaseOf(id, node, { holder: "script", by, why }));
  }

  async giveBack(lease: string, by: string): Promise<Word> {
    this.asked.push(["giveBack", lease, by]);
    this.leases = this.leases.filter((each) => each.id !== lease);
    return done({});
  }

  async takeFleetLock(id: string, group: string): Promise<Word | null> {
    this.asked.push(["takeFleetLock", id, group]);
    const node = this.machines.get(`${group}/${id}`);
    return node === undefined ? null : this.#take(leaseOf(`fleetlock-${node}`, node, { holder: "fleetlock", by: node }));
  }

  async giveBackFleetLock(id: string, group: string): Promise<Word | null> {
    this.asked.push(["giveBackFleetLock", id, group]);
    const node = this.machines.get(`${group}/${id}`);
    if (node === undefined) return null;
    this.leases = this.leases.filter((each) => each.id !== `fleetlock-${node}`);
    return done({});
  }

  #take(lease: LeaseView): Word {
    if (this.leases.some(({ id }) => id === lease.id)) return done({ lease: lease.id });
    if (this.denials.length > 0) return this.#denied();
    const other = this.leases[0];
    if (other !== undefined) return no("quorum", `all: 1 of 3 may be down, and ${other.node} is`);
    this.leases.push(lease);
    return done({ lease: lease.id });
  }

  async #endLease(what: "abort" | "clear", id: string, word: ReasonWord, by: string): Promise<Word> {
    this.asked.push([what, id, word, by]);
    if (this.denials.length > 0) return this.#denied();
    const known = [...this.leases, ...this.requests].some((each) => each.id === id);
    if (!known) return no("unknown-lease", `there is no lease ${id}`);
    this.leases = this.leases.filter((lease) => lease.id !== id);
    this.requests = this.requests.filter((request) => request.id !== id);
    return done({});
  }

  #group(): GroupView {
    const down = this.leases.map(({ node, by, grantedAt }) => ({ node, code: "leased" as const, text: `held by ${by}`, since: grantedAt }));
    return { name: "all", size: this.nodes.length, members: [...this.nodes], allowed: Math.ceil(this.nodes.length / 2) - 1, down, settling: null };
  }

  #denied(): Word {
    return { ok: false, denials: this.denials };
  }
}

export function leaseOf(id: string, node: string, more: Partial<LeaseView> = {}): LeaseView {
  const base = { holder: "agent", work: "hold", by: "ada", rollout: null, phase: "held", progress: "", grantedAt: twinTime, phaseSince: twinTime, why: null, stuck: null } as const;
  return { id: LeaseId.parse(id), node: NodeName.parse(node), ...base, ...more };
}

export function rolloutNodeOf(node: string, more: Partial<RolloutNode> = {}): RolloutNode {
  const base = { role: "node", state: "waiting", denials: [], lease: null, startedAt: null, endedAt: null, timeline: [], progress: "", result: null, expectedAt: null } as const;
  return { node: NodeName.parse(node), ...base, denials: [], timeline: [], ...more };
}

export function rolloutOf(id: string, nodes: readonly string[], more: Partial<RolloutView> = {}): RolloutView {
  const forecast = { doneAt: null, fits: "unknown", text: `0 of ${nodes.length} done` } as const;
  const base = { kind: "update", startedBy: "ada", startedAt: twinTime, endedAt: null, phase: "running", halt: null, target: null, window: null, canarySoakUntil: null } as const;
  return { id, ...base, nodes: nodes.map((node, index) => rolloutNodeOf(node, { role: index === 0 ? "canary" : "node" })), changed: [], forecast, requests: [], ...more };
}

export function denialOf(code: string, text: string, cure = "wait"): DenialView {
  return { code, text, since: twinTime, cure };
}

function done(what: { readonly lease?: LeaseId; readonly rollout?: string }): Done {
  return { ok: true, lease: what.lease ?? null, rollout: what.rollout ?? null };
}

function no(code: string, text: string): Word {
  return { ok: false, denials: [denialOf(code, text)] };
}
