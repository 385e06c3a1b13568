import type { GroupSpec } from "./scenario.ts";

/**
 * Watches what really happens to the machines, and knows the rule, and nothing of the coordinator: it shares no code with
 * it and reads none of its state. It sees orders as they leave the hub, and machines as they go down and come back.
 */

export class Violation extends Error {
  readonly by: "observer" | "progress";

  constructor(message: string, by: "observer" | "progress" = "observer") {
    super(message);
    this.by = by;
  }
}

/** A node that has been away for longer than this cannot have answered lately: three pings at 15 s, and a moment. */
const NOTICED_MS = 46_000;

interface Config {
  readonly groups: ReadonlyMap<string, { readonly members: ReadonlySet<string>; readonly allowed: number }>;
  readonly nodes: ReadonlySet<string>;
}

interface Machine {
  /** The lease for whose sake it is down. */
  byOrder: string | null;
  /** Since when neither machine nor agent answer; null when they do. */
  deadSinceMs: number | null;
  /** Since when something is wrong with it, or somebody else has taken it out of service. */
  unfitSinceMs: number | null;
  /** Since when its subsystems are not whole, so that nobody else may go. */
  gatedSinceMs: number | null;
  restoredAtMs: number;
  /** Packages are being changed on it. */
  works: boolean;
  /** The lease that it has been drained for, since it was switched on. */
  safeFor: string | null;
}

interface Seen {
  readonly node: string;
  readonly grants: Set<string>;
  readonly confirms: Set<string>;
  /** The membership that was in force as the slot was given. */
  config: number;
  drainedAtMs: number;
  reboots: number;
  /** Its node has begun to put back what it drained. */
  spent: boolean;
  cleared: boolean;
  /** Granted before the database was put back to an older copy. */
  lost: boolean;
  /** Its holder has no agent that could tell the hub of it. */
  silent: boolean;
}

export class Observer {
  readonly #configs: Config[] = [];
  readonly #machines = new Map<string, Machine>();
  readonly #leases = new Map<string, Seen>();
  readonly #nowMs: () => number;
  /** How many times a node went down by order. */
  downs = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  membership(nodes: readonly string[], groups: Readonly<Record<string, GroupSpec>>): void {
    const all = Object.entries({ ...groups, cluster: { ...groups["cluster"], members: nodes } });
    this.#configs.push({ nodes: new Set(nodes), groups: new Map(all.map(([name, group]) => [name, { members: new Set(group.members), allowed: allowed(group) }])) });
  }

  hubRestored(): void {
    for (const seen of this.#leases.values()) seen.lost = true;
  }

  granted(lease: string, node: string, challenge: string): void {
    const seen = this.#lease(lease, node);
    if (seen.grants.has(challenge)) return;
    seen.grants.add(challenge);
    seen.config = this.#configs.length - 1;
    seen.lost = false;
    this.#count(node, new Set([...this.#byOrder(), ...this.#awaySince(this.#nowMs() - NOTICED_MS, node), node]), seen.config, "was granted", node);
  }

  confirmed(lease: string, node: string, challenge: string): void {
    const seen = this.#lease(lease, node);
    if (seen.confirms.has(challenge)) return;
    seen.confirms.add(challenge);
    // Whoever has been dead since before this node was drained cannot have answered since, and whoever was unfit has said so.
    this.#count(node, new Set([...this.#byOrder(), ...this.#awaySince(seen.drainedAtMs, node), node]), this.#configs.length - 1, "was confirmed", node);
  }

  #awaySince(ms: number, except: string): readonly string[] {
    const since = (at: number | null): boolean => at !== null && at < ms;
    return [...this.#machines].filter(([node, { deadSinceMs, unfitSinceMs }]) => node !== except && (since(deadSinceMs) || since(unfitSinceMs))).map(([node]) => node);
  }

  /** The node begins to make itself unfit for service. */
  down(node: string, lease: string): void {
    const machine = this.#machine(node);
    const own = this.#leases.get(lease);
    if (own === undefined || (own.grants.size === 0 && own.node === node)) throw new Violation(`${node} drains on lease ${lease}, which nobody granted`);
    if (machine.byOrder === lease) return;
    machine.byOrder = lease;
    this.downs++;
    // Whoever went down under a membership goes on counting by it, in the groups that he was in.
    for (const [other, { byOrder }] of this.#machines) {
      if (byOrder === null) continue;
      const seen = this.#leases.get(byOrder);
      // A person's word ends what a slot brought along; the machine itself still counts, as one that is away.
      // Nor does a hub with an older database know of it: there, too, the machine counts by what is in force for who asks now, and
      // a person who settles the group is not stopped by a slot that nobody knows of.
      const forgotten = seen?.lost === true && !own.lost;
      const config = seen === undefined || seen.cleared || forgotten ? own.config : seen.config;
      this.#count(node, this.#byOrder(), config, "drains", other);
    }
  }

  drained(node: string, lease: string): void {
    this.#lease(lease, node).drainedAtMs = this.#nowMs();
    this.#machine(node).safeFor = lease;
  }

  /** What is enabled has started with the machine: whatever was drained before serves again. */
  booted(node: string): void {
    this.#machine(node).safeFor = null;
  }

  /** A step takes down what the cluster leans on. */
  disrupts(node: string, lease: string): void {
    this.#confirmedOnce(node, lease);
    if (this.#lease(lease, node).spent) throw new Violation(`${node} disrupts the cluster on lease ${lease}, which is spent`);
    if (this.#machine(node).safeFor !== lease) throw new Violation(`${node} disrupts the cluster on lease ${lease}, and is not drained for it`);
  }

  working(node: string, lease: string): void {
    this.#confirmedOnce(node, lease);
    this.#machine(node).works = true;
  }

  #confirmedOnce(node: string, lease: string): void {
    if ((this.#leases.get(lease)?.confirms.size ?? 0) === 0) throw new Violation(`${node} is at work on lease ${lease}, which was never confirmed`);
  }

  worked(node: string): void {
    this.#machine(node).works = false;
  }

  /** It begins to put back what it drained. */
  restoring(node: string, lease: string): void {
    if (this.#machine(node).works) throw new Violation(`${node} takes up service in the middle of its work on lease ${lease}`);
    this.#machine(node).safeFor = null;
    this.#lease(lease, node).spent = true;
  }

  rebooted(node: string, lease: string): void {
    this.#confirmedOnce(node, lease);
    const seen = this.#lease(lease, node);
    if (this.#machine(node).byOrder !== lease) throw new Violation(`${node} reboots on lease ${lease}, and is in service`);
    if (++seen.reboots > 1) throw new Violation(`${node} rebooted a second time on lease ${lease}`);
  }

  /** @param lease given by a holder without an agent, who knows only of his own. */
  restored(node: string, lease: string | null = null): void {
    const machine = this.#machine(node);
    if (lease !== null && machine.byOrder !== lease) return;
    machine.byOrder = null;
    machine.restoredAtMs = this.#nowMs();
  }

  /** The hub says that a slot is free, and not by a person's word. */
  ended(lease: string, node: string, how: "released" | "declined" | "void", soakMs: number, hasAgent: boolean): void {
    const machine = this.#machine(node);
    const fail = (why: string): never => {
      throw new Violation(`the slot of ${node} was given back (${how}), and ${why}`);
    };
    if (machine.byOrder === lease) fail("it is not in service");
    const seen = this.#leases.get(lease);
    // "Void" may be a lease that was over long ago, out of an older copy of the database.
    if (how === "declined" && (seen?.reboots ?? 0) > 0) fail("it had rebooted for it");
    // Whoever has no agent answers for the machine by himself.
    if (how !== "released" || !hasAgent) return;
    if (this.#nowMs() - machine.restoredAtMs < soakMs) fail("it has not been back for long enough");
    const { deadSinceMs, unfitSinceMs, gatedSinceMs } = machine;
    if (gatedSinceMs !== null && gatedSinceMs < this.#nowMs() - NOTICED_MS) fail("its gates say no");
    if (Math.min(deadSinceMs ?? Number.POSITIVE_INFINITY, unfitSinceMs ?? Number.POSITIVE_INFINITY) < this.#nowMs() - NOTICED_MS) fail("it is not well");
  }

  dead(node: string, dead: boolean): void {
    const machine = this.#machine(node);
    if (!dead) machine.deadSinceMs = null;
    else {
      machine.deadSinceMs ??= this.#nowMs();
      machine.works = false;
    }
  }

  unfit(node: string, unfit: boolean): void {
    const machine = this.#machine(node);
    if (!unfit) machine.unfitSinceMs = null;
    else machine.unfitSinceMs ??= this.#nowMs();
  }

  gated(node: string, gated: boolean): void {
    const machine = this.#machine(node);
    machine.gatedSinceMs = gated ? (machine.gatedSinceMs ?? this.#nowMs()) : null;
  }

  /** A person has taken it upon himself. */
  cleared(lease: string): void {
    const seen = this.#leases.get(lease);
    if (seen !== undefined) seen.cleared = true;
  }

  /** Without a hub, or with a script's or a FleetLock machine's slot, there is no grant order to be seen. */
  took(lease: string, node: string): void {
    this.granted(lease, node, "");
    const seen = this.#lease(lease, node);
    seen.confirms.add("");
    seen.silent = true;
  }

  stillDown(): readonly string[] {
    return [...this.#byOrder()];
  }

  #byOrder(): Set<string> {
    const newest = this.#configs.at(-1);
    const down = new Set<string>();
    for (const [node, { byOrder }] of this.#machines) {
      if (byOrder === null) continue;
      // Cleared by a person, and no longer a member: it is nobody's business.
      // Nor is one that has left the repository, and whose slot an older database does not know of.
      const seen = this.#leases.get(byOrder);
      // And of what an older database does not know, and nobody can tell it, no hub could: whoever puts a database back has to look
      // at the machines without an agent.
      if (seen?.lost === true && seen.silent) continue;
      if (newest?.nodes.has(node) !== true && (seen?.cleared === true || seen?.lost === true)) continue;
      down.add(node);
    }
    return down;
  }

  #count(node: string, down: ReadonlySet<string>, config: number, what: string, other: string): void {
    for (const [name, group] of this.#configs[config]?.groups ?? []) {
      if (!group.members.has(node) || !group.members.has(other)) continue;
      const members = [...down].filter((each) => group.members.has(each));
      if (members.length > group.allowed) throw new Violation(`${node} ${what}, and with it ${members.length} of ${group.members.size} are down in ${name} (${members.join(", ")}), where ${group.allowed} may be`);
    }
  }

  #lease(lease: string, node: string): Seen {
    let seen = this.#leases.get(lease);
    if (seen === undefined) this.#leases.set(lease, (seen = { node, grants: new Set(), confirms: new Set(), config: 0, drainedAtMs: Number.POSITIVE_INFINITY, reboots: 0, spent: false, cleared: false, lost: false, silent: false }));
    return seen;
  }

  #machine(node: string): Machine {
    let machine = this.#machines.get(node);
    if (machine === undefined) this.#machines.set(node, (machine = { byOrder: null, deadSinceMs: null, unfitSinceMs: null, gatedSinceMs: null, restoredAtMs: Number.NEGATIVE_INFINITY, works: false, safeFor: null }));
    return machine;
  }
}

/** Fewer than half; of one or two, one with the owner's word. */
function allowed({ members, maxUnavailable, acceptOutage }: GroupSpec): number {
  let most = 0;
  while (2 * (most + 1) < members.length) most++;
  if (members.length < 3 && acceptOutage === true) most = 1;
  return maxUnavailable === undefined ? most : Math.min(most, maxUnavailable);
}
