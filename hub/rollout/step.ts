import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { PinnedVersion, UpdatesMessage } from "../../shared/protocol/updates.ts";
import { unwellWhy } from "../coordinator/gates.ts";
import type { Ended, Lease, State } from "../coordinator/state.ts";
import type { Advanced, Going, Halt, Rollout, Surroundings, Watch, Wish } from "./state.ts";
import { ATTEMPTS_MAX, SETTLE_MS } from "./state.ts";

/**
 * What a rollout does after each step of the coordinator: it takes down how its nodes are getting on, halts at the first
 * sign of trouble, and asks for the next slot. Pure, like the coordinator; it never takes a slot itself.
 */
export function advanceRollout(rollout: Rollout, watch: Watch | null, around: Surroundings): Advanced {
  if (rollout.phase === "done" || rollout.phase === "cancelled") return { rollout: follow(rollout, around), watch: null, wishes: [] };
  const turn = new Turn(follow(rollout, around), watch, around);
  turn.judge();
  if (turn.rollout.phase === "running") turn.goOn();
  else turn.callOff("the rollout is halted");
  return turn.end();
}

/** Brings every node up to date with its lease. */
function follow(rollout: Rollout, around: Surroundings): Rollout {
  let changed = false;
  const nodes = rollout.nodes.map((going) => {
    const next = going.lease === null ? going : followNode(going, going.lease, around);
    changed ||= next !== going;
    return next;
  });
  return changed ? { ...rollout, nodes } : rollout;
}

function followNode(going: Going, id: LeaseId, { coordinator, ended, now }: Surroundings): Going {
  const { requests, leases, ended: history } = coordinator.durable;
  if (going.state === "done" || going.state === "failed" || going.state === "skipped") return going;
  const lease = leases.get(id);
  if (lease !== undefined) return followLease(going, lease, coordinator.volatile.views.get(going.node)?.word.lease?.phase ?? null, now.wallMs);
  if (requests.has(id)) return going.state === "asked" ? going : { ...going, state: "asked", timeline: [] };
  const end = ended.find((each) => each.id === id) ?? history.get(id);
  // Taken out of the queue by somebody: it is asked for again, or has left the repository.
  if (end === undefined && going.state === "asked") return again(going, "its request was withdrawn");
  return end === undefined ? { ...going, state: "failed", endedAtMs: now.wallMs, why: "the hub has lost track of its lease: its database was put back to an older copy" } : followEnd(going, end);
}

function followLease(going: Going, lease: Lease, said: string | null, nowMs: number): Going {
  const phase = lease.phase === "confirmed" ? (said === "rebooting" ? "rebooting" : "working") : lease.phase;
  const isNew = going.timeline.at(-1)?.phase !== phase;
  if (going.state === "leased" && !isNew && going.result === lease.result) return going;
  // A node that answers again between two words of a reboot has not gone back to work.
  const goesBack = phase === "working" && going.timeline.at(-1)?.phase === "rebooting";
  const timeline = isNew && !goesBack ? [...going.timeline, { phase, atMs: nowMs }].slice(-50) : going.timeline;
  return { ...going, state: "leased", startedAtMs: going.startedAtMs ?? lease.grantedAtMs, timeline, result: lease.result };
}

function followEnd(going: Going, end: Ended): Going {
  const over = { ...going, endedAtMs: end.endedAtMs, result: end.result, timeline: [...going.timeline, { phase: end.how === "released" ? "done" : end.how, atMs: end.endedAtMs }] };
  switch (end.how) {
    case "released":
      return end.result?.ok === false ? { ...over, state: "failed", why: end.result.failure ?? "its work failed" } : { ...over, state: "done" };
    case "cleared":
      return { ...over, state: "failed", why: `its lease was cleared: ${end.why ?? "no reason was given"}` };
    case "declined":
      if (end.calledOffBy === "node") return { ...over, state: "failed", why: `it could not be drained: ${end.why ?? "it does not say why"}` };
      return again(going, end.why);
    case "void":
      return again(going, end.why);
  }
}

/** It never went, and it was not its fault: it asks once more. */
function again(going: Going, why: string | null): Going {
  return { ...going, state: "waiting", lease: null, startedAtMs: null, endedAtMs: null, timeline: [], result: null, why };
}

const MEND = "mend it, then `evenkeel rollout resume`: with --failed retry it is tried again, with --failed skip the others go on without it";

class Turn {
  rollout: Rollout;
  #watch: Watch | null;
  readonly #around: Surroundings;
  readonly #wishes: Wish[] = [];

  constructor(rollout: Rollout, watch: Watch | null, around: Surroundings) {
    this.rollout = rollout;
    this.#watch = watch?.rollout === rollout.id ? watch : null;
    this.#around = around;
  }

  end(): Advanced {
    return { rollout: this.rollout, watch: this.#watch, wishes: this.#wishes };
  }

  /** Halts at the first thing that is not as it should be. */
  judge(): void {
    if (this.rollout.phase !== "running") return;
    for (const going of this.rollout.nodes) {
      const why = this.#needsRebootAgain(going);
      if (why !== null) this.#set(going.node, { ...going, state: "failed", why });
    }
    const trouble = this.#trouble();
    if (trouble === null) return;
    const halt: Halt = { ...trouble, atMs: this.#around.now.wallMs };
    this.rollout = { ...this.rollout, phase: "halted", halt };
    this.#wishes.push({ do: "note", level: "warning", text: `the rollout is halted: ${halt.why}` });
  }

  #trouble(): Omit<Halt, "atMs"> | null {
    const { coordinator } = this.#around;
    for (const going of this.rollout.nodes) {
      const { node } = going;
      if (going.state === "failed") return { node, why: `${node} failed: ${going.why ?? "it does not say why"}`, cure: MEND };
      if (going.state === "leased" && going.lease !== null) {
        const stuck = coordinator.durable.leases.get(going.lease)?.stuck;
        // A service that does not start again keeps its node from being well, and so from giving its slot back: said at once.
        if (this.rollout.kind === "change" && going.result?.ok === false) return { node, why: `${node} failed: ${going.result.failure ?? "its work failed"}`, cure: MEND };
        if (stuck) return { node, why: stuck.why, cure: `see to ${node}; when it is back by itself, \`evenkeel rollout resume\` goes on, and \`evenkeel clear ${node}\` gives its slot up` };
      }
      if (going.state === "waiting" && going.attempts >= ATTEMPTS_MAX) return { node, why: `${node} was drained and had to be put back ${going.attempts} times: ${going.why ?? ""}`, cure: "see to what stood in the way, then `evenkeel rollout resume`" };
      if (going.state === "done") {
        const sick = this.#sickAfterTurn(going);
        // Whoever misses a node that is away by order may say so for as long as it is away: nobody goes meanwhile, and it is judged afterwards.
        if (sick !== null && this.#around.quietMs >= SETTLE_MS) return { node, why: sick, cure: "mend it, then `evenkeel rollout resume`" };
      }
    }
    return null;
  }

  /** What a node that has had its turn says is wrong with it; null when nothing is, or nobody knows. */
  #sickAfterTurn({ node }: Going): string | null {
    const { coordinator } = this.#around;
    const word = coordinator.volatile.views.get(node)?.word;
    const why = word === undefined || word.lease !== null ? null : unwellWhy(coordinator, word, this.rollout.kind === "change" ? "converge" : this.rollout.kind);
    return why === null ? null : `${node} is not well any more after its turn: ${why}`;
  }

  /** A reboot that does not help would be ordered again in each window. */
  #needsRebootAgain({ node, state, result }: Going): string | null {
    const reboot = this.#around.updates.get(node)?.reboot;
    if (state !== "done" || result?.rebooted !== true || reboot?.needed !== "yes" || this.#around.sinceTurn.get(node) !== "spoken") return null;
    return `it has rebooted, and still needs a reboot: ${reboot.why[0] ?? "it does not say why"}`;
  }

  /** Whether those that have had their turn are still waited for: they have to be well, and to have said that one reboot was enough. */
  #isUnsettled(): boolean {
    return this.rollout.nodes.some((going) => going.state === "done" && (this.#sickAfterTurn(going) !== null || (going.result?.rebooted === true && this.#around.sinceTurn.get(going.node) === "silent")));
  }

  /** Takes back what is only asked for. Whoever has a slot goes on: half a reboot is no reboot. */
  callOff(why: string): void {
    for (const going of this.rollout.nodes) {
      if (going.state !== "asked" || going.lease === null) continue;
      this.#wishes.push({ do: "withdraw", id: going.lease, why });
      this.#set(going.node, again({ ...going, attempts: Math.max(0, going.attempts - 1) }, null));
    }
  }

  goOn(): void {
    this.#dropStrangers();
    this.#takeTarget();
    const { nodes } = this.rollout;
    if (nodes.some(({ state }) => state === "leased")) return;
    if (this.#isUnsettled()) return this.callOff("the ones before are not well");
    const next = this.#next();
    if (next === null) {
      if (nodes.every(({ state }) => state === "done" || state === "skipped" || state === "failed")) this.#finish();
      return;
    }
    if (!this.#fits(next.node)) {
      this.callOff("the window closes");
      this.#skipRest();
      return;
    }
    if (next.state === "asked" || this.#isTaken(next.node)) return;
    const id = this.#around.newId();
    this.#set(next.node, { ...next, state: "asked", lease: id, attempts: next.attempts + 1, why: null });
    this.#wishes.push({ do: "request", id, node: next.node, rollout: this.rollout });
  }

  /** Whoever has left the repository meanwhile is not asked for any more. */
  #dropStrangers(): void {
    const { coordinator, now } = this.#around;
    for (const going of this.rollout.nodes) {
      if (going.state !== "waiting" && going.state !== "asked") continue;
      if (!coordinator.durable.members.has(going.node)) this.#set(going.node, { ...going, state: "skipped", lease: null, endedAtMs: now.wallMs, why: "it is no longer in the repository" });
    }
  }

  /** Whose turn it is; null while the canary is watched, or when nobody is left. */
  #next(): Going | null {
    for (;;) {
      const waiting = this.rollout.nodes.find(({ state }) => state === "waiting" || state === "asked");
      if (waiting === undefined) return null;
      // What it knew before the rollout began may be old: it is asked, and waited for a while.
      if (waiting.state === "waiting" && !this.#hasSaid(waiting.node) && !this.#around.lookedLongEnough) return null;
      const idle = waiting.state === "waiting" || this.rollout.kind === "change" ? this.#idleWhy(waiting.node) : null;
      if (idle !== null) {
        if (waiting.lease !== null) this.#wishes.push({ do: "withdraw", id: waiting.lease, why: idle });
        this.#set(waiting.node, { ...waiting, state: "skipped", lease: null, endedAtMs: this.#around.now.wallMs, why: idle });
        continue;
      }
      // The first that has something to do is the canary, when no other was.
      if (!this.rollout.nodes.some(({ role, state }) => role === "canary" && state !== "skipped") && waiting.role === "node") {
        this.#set(waiting.node, { ...waiting, role: "canary" });
        continue;
      }
      if (waiting.role !== "canary" && !this.#canarySoaked()) return null;
      return waiting;
    }
  }

  /** Somebody else has asked for this node, or has it: it is waited for. */
  #isTaken(node: NodeName): boolean {
    const { requests, leases } = this.#around.coordinator.durable;
    return [...requests.values(), ...leases.values()].some((other) => other.node === node);
  }

  /** Whether it is known what this node has to do in this rollout. */
  #hasSaid(node: NodeName): boolean {
    switch (this.rollout.kind) {
      case "reboot":
        return true;
      case "update":
        return this.#around.looked.has(node);
      case "change":
        return this.#around.behindCanary.has(node) || holdsBack(this.#around.coordinator, node) || this.#hasCommit(node);
    }
  }

  /** Why this node has nothing to do; null when it has, or nobody knows. */
  #idleWhy(node: NodeName): string | null {
    const { rollout } = this;
    if (rollout.kind === "change") return holdsBack(this.#around.coordinator, node) ? null : this.#around.behindCanary.has(node) ? "it takes the commit after the canary" : this.#hasCommit(node) ? "nothing to do" : "it has not said that it holds anything back";
    if (rollout.kind === "reboot" || rollout.plan.reboot === "always") return null;
    const known = this.#around.updates.get(node);
    if (known === undefined || known.error !== null || !this.#around.looked.has(node) || known.reboot.needed === "yes") return null;
    return toInstall(known, rollout).length === 0 ? "nothing to do" : null;
  }

  /** It has compared itself with the rollout's commit, or with the newest. */
  #hasCommit(node: NodeName): boolean {
    const { durable, volatile } = this.#around.coordinator;
    const standing = volatile.views.get(node)?.word.standing;
    return standing !== undefined && (standing.commit === this.rollout.commit || standing.commit === durable.commit);
  }

  #takeTarget(): void {
    const { rollout } = this;
    const canaries = rollout.nodes.filter(({ role }) => role === "canary");
    if (rollout.canaryDoneAtMs !== null || canaries.length === 0 || !canaries.every(({ state }) => state === "done" || state === "skipped" || state === "failed")) return;
    const results = canaries.filter(({ state }) => state === "done");
    if (results.length === 0) return;
    const target = new Map<string, PinnedVersion>();
    for (const { result } of results) {
      for (const { name, to } of result?.update?.changed ?? []) if (to !== null) target.set(name, { name, version: to });
    }
    this.rollout = { ...rollout, canaryDoneAtMs: this.#around.now.wallMs, target: rollout.kind === "update" ? [...target.values()] : null };
  }

  #canarySoaked(): boolean {
    const { rollout } = this;
    if (rollout.canarySoaked) return true;
    if (rollout.canaryDoneAtMs === null) return !rollout.nodes.some(({ role, state }) => role === "canary" && state !== "skipped" && state !== "failed");
    const { monoMs } = this.#around.now;
    // A restart of the hub begins to watch anew: what it did not see, it does not count.
    this.#watch ??= { rollout: rollout.id, sinceMonoMs: monoMs };
    if (monoMs - this.#watch.sinceMonoMs < rollout.plan.canarySoakMs) return false;
    this.rollout = { ...rollout, canarySoaked: true };
    return true;
  }

  #fits(node: NodeName): boolean {
    const { window, plan } = this.rollout;
    if (window === null) return true;
    const usualMs = this.rollout.kind === "change" ? undefined : this.#around.durations.get(node);
    return this.#around.now.wallMs + (usualMs ?? plan.nodeMs) <= window.closesAtMs;
  }

  #skipRest(): void {
    const why = `the window ${this.rollout.window?.name ?? ""} closes before it would be done: it goes in the next one`;
    for (const going of this.rollout.nodes) {
      if (going.state === "waiting" || going.state === "asked") this.#set(going.node, { ...going, state: "skipped", lease: null, endedAtMs: this.#around.now.wallMs, why });
    }
    this.#finish();
  }

  #finish(): void {
    this.rollout = { ...this.rollout, phase: "done", endedAtMs: this.#around.now.wallMs };
    const done = this.rollout.nodes.filter(({ state }) => state === "done").length;
    this.#wishes.push({ do: "note", level: "info", text: `the rollout is over: ${done} of ${this.rollout.nodes.length} nodes done` });
  }

  #set(node: NodeName, going: Going): void {
    this.rollout = { ...this.rollout, nodes: this.rollout.nodes.map((each) => (each.node === node ? going : each)) };
  }
}

/** The node leaves something as it is until it has a lease for it: by what it said last to this run of the hub. */
export function holdsBack({ volatile }: State, node: NodeName): boolean {
  return (volatile.views.get(node)?.word.standing?.heldBack.length ?? 0) > 0;
}

/** What a rollout would install on a node, as far as is known here; the node itself decides by the same rules. */
export function toInstall(known: UpdatesMessage, { plan, target }: Pick<Rollout, "plan" | "target">): readonly PinnedVersion[] {
  const offered = known.pending.filter((update) => (plan.scope === "all" || update.security) && !plan.exclude.some((pattern) => matches(pattern, update.name)));
  if (target === null) return offered.map(({ name, to }) => ({ name, version: to }));
  return target.filter(({ name }) => offered.some((update) => update.name === name));
}

/** Pending on this node, and on no canary: nobody has tried them, so they are left alone, and said. */
export function untried(known: UpdatesMessage, rollout: Pick<Rollout, "plan" | "target">): readonly string[] {
  if (rollout.target === null) return [];
  const tried = new Set(rollout.target.map(({ name }) => name));
  return toInstall(known, { plan: rollout.plan, target: null }).flatMap(({ name }) => (tried.has(name) ? [] : [name]));
}

/** `*` and `?` as in a shell's patterns. */
export function matches(pattern: string, name: string): boolean {
  const source = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${source}$`).test(name);
}

/** By a person's word: goes on after a halt. `retry` tries failed nodes again, `skip` goes on without them. */
export function resumed(rollout: Rollout, failed: "retry" | "skip" | undefined): Rollout | { readonly refused: string } {
  if (rollout.phase !== "halted") return { refused: `the rollout is ${rollout.phase}, not halted` };
  const broken = rollout.nodes.filter(({ state }) => state === "failed");
  if (broken.length > 0 && failed === undefined) return { refused: `${broken.map(({ node }) => node).join(", ")} failed: say --failed retry to try again, or --failed skip to go on without` };
  if (failed === "skip" && broken.some(({ role }) => role === "canary") && !rollout.nodes.some(({ role, state }) => role === "canary" && state === "done")) {
    return { refused: "the canary failed, so that nobody knows what the others would get: mend it and say --failed retry, or cancel the rollout" };
  }
  const nodes = rollout.nodes.map((going): Going => {
    if (going.state === "failed") return failed === "retry" ? { ...again(going, null), attempts: 0 } : { ...going, state: "skipped" };
    return going.state === "waiting" ? { ...going, attempts: 0 } : going;
  });
  return { ...rollout, phase: "running", halt: null, nodes };
}

/** By a person's word: nobody starts any more. Whoever has a slot comes back first. */
export function cancelled(rollout: Rollout, nowMs: number): { readonly rollout: Rollout; readonly withdraw: readonly LeaseId[] } | { readonly refused: string } {
  if (rollout.phase === "done" || rollout.phase === "cancelled") return { refused: `the rollout is ${rollout.phase} already` };
  const withdraw = rollout.nodes.flatMap(({ state, lease }) => (state === "asked" && lease !== null ? [lease] : []));
  const nodes = rollout.nodes.map((going): Going => (going.state === "waiting" || going.state === "asked" ? { ...going, state: "skipped", lease: null, endedAtMs: nowMs, why: "the rollout was cancelled" } : going));
  return { rollout: { ...rollout, phase: "cancelled", endedAtMs: nowMs, nodes }, withdraw };
}
