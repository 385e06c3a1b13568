import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { Event, GroupState, Lease, Patience, State, Step } from "./state.ts";

/**
 * What must be true after every step, whatever happened. Written apart from the code that it watches: it counts by itself.
 * A violation is a bug of ours, and the hub stops rather than act upon it.
 */

export class InvariantViolation extends Error {}

export function assertInvariants(before: State, event: Event, { state: after }: Step, patience: Patience): void {
  const fail = (text: string): never => {
    throw new InvariantViolation(`after ${event.kind}: ${text}`);
  };
  if (after.durable.epoch < before.durable.epoch) fail("the epoch went back");
  if (after.durable.leases !== before.durable.leases || after.durable.requests !== before.durable.requests) {
    oneLeaseANode(after, fail);
    for (const [id, lease] of after.durable.leases) {
      const was = before.durable.leases.get(id);
      if (was === lease) continue;
      if (was !== undefined && (was.node !== lease.node || was.holder !== lease.holder)) fail(`lease ${id} changed hands`);
      const isNew = was === undefined && (lease.phase === "draining" || lease.phase === "held") && (event.kind !== "word" || before.durable.requests.has(id) || (lease.phase === "draining" && event.word.lease?.lease !== id));
      if (isNew) withinBudget(after, lease, event, patience, fail, null, after.durable.leases);
      if (isNew && !lease.despiteChecks) pastNoGate(before, after, lease, fail);
      if (was?.phase === "drained" && lease.phase === "confirmed" && !(event.kind === "word" && event.node === lease.node && event.word.lease?.phase !== "drained")) {
        // Whoever got a slot after it, in the same step, was counted with it there.
        withinBudget(after, lease, event, patience, fail, before.volatile.clocks.get(id)?.confirmPing ?? 0, new Map([...before.durable.leases].filter(([each]) => after.durable.leases.has(each))));
      }
    }
    for (const [id, lease] of before.durable.leases) if (!after.durable.leases.has(id)) gaveBack(after, lease, event, fail);
  }
}

function oneLeaseANode({ durable }: State, fail: (text: string) => never): void {
  const seen = new Set<NodeName>();
  for (const lease of durable.leases.values()) {
    if (seen.has(lease.node)) fail(`${lease.node} holds two leases`);
    seen.add(lease.node);
    if (durable.requests.has(lease.id)) fail(`lease ${lease.id} is a request as well`);
    if (lease.groups.length === 0 && lease.holder !== "agent") fail(`lease ${lease.id} counts in no group`);
  }
}

/** The rule itself: with this node, fewer than half are down, in every group, by the earlier and the new terms. */
function withinBudget(after: State, lease: Lease, event: Event, patience: Patience, fail: (text: string) => never, answersPing: number | null, leases: State["durable"]["leases"]): void {
  const leased = new Set([...leases.values()].map((each) => each.node));
  for (const [name, group] of after.durable.groups) {
    const everybody = membersOf(group);
    if (!everybody.has(lease.node)) continue;
    for (const other of after.durable.leases.values()) if (other.groups.includes(name)) everybody.add(other.node);
    const isDown = (member: NodeName): boolean => member === lease.node || leased.has(member) || !isUp(after, member, event, patience, answersPing);
    const down = [...everybody].filter(isDown).length;
    for (const terms of [...(group.current ? [group.current] : []), ...group.older]) {
      const half = terms.members.length / 2;
      const alone = terms.members.length <= 2 && terms.acceptOutage && down <= 1;
      if (!(down < half || alone)) fail(`${lease.node} went ${lease.phase} with ${down} of ${terms.members.length} down in ${name}: ${[...everybody].filter(isDown).join(", ")}`);
      if (terms.maxUnavailable !== undefined && down > terms.maxUnavailable) fail(`${lease.node} went ${lease.phase} beyond maxUnavailable of ${name}`);
    }
  }
}

/** Nobody of those that can be heard has said no, unless for want of those that are known to be away. */
function pastNoGate(before: State, { durable, volatile }: State, lease: Lease, fail: (text: string) => never): void {
  // Whoever gave his slot back in the same step was away as it was decided.
  const leased = [...before.durable.leases.values(), ...durable.leases.values()];
  const away = new Set([lease.node, ...leased.map(({ node }) => node), ...[...durable.members.values()].filter(({ name, agent }) => agent && volatile.views.get(name)?.online !== true).map(({ name }) => name)]);
  for (const node of durable.members.keys()) {
    const view = volatile.views.get(node);
    if (view?.online !== true) continue;
    for (const gate of view.word.gates ?? []) {
      const isHalfWay = lease.work.do === "converge" && gate.holds === "others" && [...volatile.views.values()].some(({ word }) => word.standing?.heldBack.some((resource) => resource.startsWith(`${gate.kind}/`)) === true);
      const isMeant = gate.holds === "all" || (gate.holds === "itself") === (node === lease.node);
      const isExcused = gate.missing.length > 0 && gate.missing.every((other) => away.has(other as NodeName));
      if (isMeant && !isExcused && !isHalfWay) fail(`${lease.node} went ${lease.phase} against a gate of ${node}: ${gate.text}`);
    }
  }
}

function membersOf(group: GroupState): Set<NodeName> {
  return new Set([...(group.current?.members ?? []), ...group.older.flatMap((terms) => terms.members)]);
}

function isUp({ durable, volatile }: State, node: NodeName, event: Event, patience: Patience, answersPing: number | null): boolean {
  if (durable.members.get(node)?.agent === false) return true;
  const view = volatile.views.get(node);
  if (view === undefined || !view.online || event.now.monoMs - view.heardMonoMs > patience.staleMs) return false;
  if (view.word.answers?.run !== volatile.run || (answersPing !== null && view.word.answers.ping < answersPing)) return false;
  const { lease } = view.word;
  return view.word.healthy && view.word.cordonedBy === null && (lease === null || lease.phase === "back" || lease.phase === "declined");
}

/** A slot is freed by the node's own proof, or by a person; never by time. */
function gaveBack(after: State, lease: Lease, event: Event, fail: (text: string) => never): void {
  const id: LeaseId = lease.id;
  const ended = after.durable.ended.get(id);
  const word = event.kind === "word" && event.node === lease.node ? event.word : null;
  if (after.durable.requests.has(id)) {
    if (lease.phase !== "draining" || word === null || word.lease !== null || word.challenge === lease.challenge) fail(`lease ${id} was put back into the queue while its order could be acted upon`);
    return;
  }
  switch (ended?.how) {
    case "released":
      if (lease.phase !== "soaking" && lease.phase !== "held") fail(`lease ${id} was released while ${lease.phase}`);
      return;
    case "declined":
      if (word?.lease?.lease !== id || word.lease.phase !== "declined") fail(`lease ${id} ended as declined, and the node had not said so`);
      return;
    case "void":
      if (word === null || (word.challenge === lease.challenge && word.refuses !== id && (word.lease === null || word.lease.lease === id))) fail(`lease ${id} was called void while its order could be acted upon`);
      return;
    case "cleared":
      if (event.kind !== "clear" || event.id !== id) fail(`lease ${id} was cleared by nobody`);
      return;
    case undefined:
      fail(`lease ${id} is gone without a trace`);
  }
}
