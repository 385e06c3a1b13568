import { denial } from "./budget.ts";
import type { Draft } from "./draft.ts";
import { isActive, unreachableWhy } from "./down.ts";
import { countingOf } from "./groups.ts";
import type { Answer, Denial, Event, Lease, LeasePhase } from "./state.ts";
import { EVERYWHERE, REQUESTS_MAX } from "./state.ts";
import { sendAbort, sendFinish } from "./words.ts";

/** What people may do to requests and leases, and when they may not. Each is noted with who did it and why. */

export function request(draft: Draft, { request: asked }: Extract<Event, { kind: "request" }>): Answer {
  const { durable } = draft;
  if (durable.requests.has(asked.id) || durable.leases.has(asked.id)) return { ok: true, lease: asked.id };
  if (durable.ended.has(asked.id)) return no("ended", `the lease ${asked.id} is over`, "ask for a new one");
  if (!durable.members.has(asked.node)) return no("unknown-node", `${asked.node} is not a node of the repository`, `add nodes/${asked.node}.yaml, or look for a spelling mistake`);
  if (durable.requests.size >= REQUESTS_MAX) return no("busy", `${REQUESTS_MAX} requests are waiting already`, "withdraw some");
  for (const other of [...durable.requests.values(), ...durable.leases.values()]) {
    if (other.node === asked.node) return no("asked-already", `${asked.node} is already asked for by ${other.by}`, `wait for it, or withdraw that one: \`evenkeel abort ${asked.node}\``);
  }
  draft.setRequest(asked.id, { ...asked, requestedAtMs: draft.now.wallMs });
  return { ok: true, lease: asked.id };
}

export function withdraw(draft: Draft, { id, why }: Extract<Event, { kind: "withdraw" }>): Answer {
  if (draft.durable.requests.has(id)) {
    draft.setRequest(id, null);
    return { ok: true };
  }
  const lease = draft.durable.leases.get(id);
  return lease === undefined ? { ok: true } : abortLease(draft, lease, why);
}

export function abort(draft: Draft, { id, by, why }: Extract<Event, { kind: "abort" }>): Answer {
  const asked = draft.durable.requests.get(id);
  if (asked !== undefined) {
    draft.setRequest(id, null);
    draft.note("info", "withdrawn", asked.node, why, by);
    return { ok: true };
  }
  const lease = draft.durable.leases.get(id);
  if (lease === undefined) return no("unknown-lease", `there is no lease ${id}`, "`evenkeel leases` shows them");
  const answer = abortLease(draft, lease, why);
  if (answer.ok) draft.note("info", "aborted", lease.node, why, by);
  return answer;
}

function abortLease(draft: Draft, lease: Lease, why: string): Answer {
  if (lease.holder !== "agent") return no("not-ours", `${lease.node} is held by ${lease.by}`, "it gives the slot back by itself, or you clear the lease");
  const early: readonly LeasePhase[] = ["draining", "drained"];
  if (lease.phase === "aborting") return { ok: true };
  if (!early.includes(lease.phase)) return no("too-late", `${lease.node} has had its second word: it is past the point of no return`, lease.work.do === "hold" ? `\`evenkeel resume ${lease.node}\` brings it back` : "wait until it is back");
  // The challenge stays: a grant that is still under way can be acted upon, whatever is said after it.
  sendAbort(draft, draft.enter(lease, "aborting", { why, calledOffBy: "hub" }));
  return { ok: true };
}

export function finish(draft: Draft, { id, by }: Extract<Event, { kind: "finish" }>): Answer {
  const lease = draft.durable.leases.get(id);
  if (lease === undefined) return no("unknown-lease", `there is no lease ${id}`, "`evenkeel leases` shows them");
  if (lease.work.do !== "hold" || lease.holder !== "agent") return no("not-held", `${lease.node} comes back by itself: it is there for ${lease.by}`, "wait until it is back");
  if (lease.phase !== "confirmed") return abortLease(draft, lease, `resumed by ${by}`);
  // The node may be away, or its agent only just starting: written down, it is said again until the node follows.
  draft.setLease({ ...lease, finishedBy: by });
  sendFinish(draft, lease);
  draft.note("info", "resumed", lease.node, `${lease.node} is told to come back`, by);
  return { ok: true };
}

/** Frees a slot by a person's word. Refused while the node could still act upon an order, or is at work. */
export function clear(draft: Draft, { id, by, why }: Extract<Event, { kind: "clear" }>): Answer {
  const lease = draft.durable.leases.get(id);
  if (lease === undefined) return no("unknown-lease", `there is no lease ${id}`, "`evenkeel leases` shows them");
  const refusal = lease.holder === "agent" ? clearRefusal(draft, lease) : null;
  if (refusal !== null) return { ok: false, denials: [refusal] };
  draft.end(lease, "cleared", why);
  draft.send(lease.node, { v: 1, kind: "release", lease: id });
  draft.note("warning", "cleared", lease.node, why, by);
  return { ok: true };
}

function clearRefusal(draft: Draft, lease: Lease): Denial | null {
  const { node } = lease;
  const away = unreachableWhy(draft.volatile, node, draft.now, draft.patience);
  const word = draft.volatile.views.get(node)?.word;
  if (away === null && word !== undefined) {
    if (isActive(word.lease)) return denial("at-work", `${node} is reachable, and at it (${word.lease?.phase})`, `\`evenkeel abort ${node}\` puts it back as long as it has not been confirmed; else wait for it`);
    if (lease.challenge !== null && lease.challenge === word.challenge) return denial("order-alive", `an order to ${node} is under way, and it could still act upon it`, "try again in a minute");
    return null;
  }
  const waitMs = draft.patience.orderVoidMs - (draft.now.monoMs - draft.clockOf(lease.id).orderMonoMs);
  if (lease.challenge !== null && waitMs > 0) return denial("order-alive", `${node} cannot be reached, and an order to it could still be acted upon for ${Math.ceil(waitMs / 1_000)} s`, "try again then");
  return null;
}

export function hold(draft: Draft, { what, hold: asked }: Extract<Event, { kind: "hold" }>): Answer {
  draft.setHold(what, asked);
  draft.note("info", "hold", what === EVERYWHERE ? "the cluster" : what, asked.why, asked.by);
  return { ok: true };
}

export function unhold(draft: Draft, { what, by }: Extract<Event, { kind: "unhold" }>): Answer {
  if (!draft.durable.holds.has(what)) return { ok: true };
  draft.setHold(what, null);
  draft.note("info", "unhold", what === EVERYWHERE ? "the cluster" : what, "the hold was lifted", by);
  return { ok: true };
}

/** "The new members are what there is": earlier terms are let go of by a person's word, but never under a slot. */
export function settle(draft: Draft, { group: name, by, why }: Extract<Event, { kind: "settle" }>): Answer {
  const group = draft.durable.groups.get(name);
  if (group === undefined) return no("unknown-group", `there is no group ${name}`, "`evenkeel status` shows the groups");
  const { members } = countingOf(name, group);
  for (const lease of draft.durable.leases.values()) {
    if (members.has(lease.node) || lease.groups.includes(name)) return no("leased", `${lease.node} holds a slot of this group`, "wait until it is back");
  }
  const groups = new Map(draft.durable.groups);
  if (group.current === null) groups.delete(name);
  else groups.set(name, { current: group.current, older: [] });
  draft.setGroups(groups);
  draft.note("warning", "settled", name, why, by);
  return { ok: true };
}

function no(code: string, text: string, cure: string): Answer {
  return { ok: false, denials: [denial(code, text, cure)] };
}
