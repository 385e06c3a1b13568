import type { Asked } from "./budget.ts";
import { Budget } from "./budget.ts";
import type { Draft } from "./draft.ts";
import { unreachableWhy } from "./down.ts";
import { notBackWhy } from "./gates.ts";
import type { Answer, Event, Lease, Request } from "./state.ts";
import { concerned, pingNodes, sendAbort, sendConfirm, sendGrant, stick } from "./words.ts";

/** What moves by itself once the latest event is in: slots are given, drained nodes get their second word, soaks end. */
export function advance(draft: Draft): void {
  soak(draft);
  const drained = [...draft.durable.leases.values()].filter((lease) => lease.phase === "drained");
  if (drained.length === 0 && draft.durable.requests.size === 0) return;
  const budget = new Budget(draft.state, draft.now, draft.patience);
  for (const lease of drained) decide(draft, budget, lease);
  for (const request of draft.durable.requests.values()) give(draft, budget, request);
}

function give(draft: Draft, budget: Budget, request: Request): void {
  if (!budget.allows(request)) return;
  const word = draft.volatile.views.get(request.node)?.word;
  if (word === undefined) return;
  draft.setRequest(request.id, null);
  const lease = draft.enter(leaseFrom(draft, budget, request, "agent"), "draining", { bootId: word.bootId, challenge: word.challenge });
  budget.take(request.node, request.by);
  sendGrant(draft, lease);
  draft.note("info", "granted", request.node, `${request.node} has the slot, and drains`, request.by);
}

function leaseFrom(draft: Draft, budget: Budget, request: Request, holder: Lease["holder"]): Lease {
  return {
    ...request,
    holder,
    phase: "held",
    epoch: draft.durable.epoch,
    bootId: null,
    groups: budget.groupsOf(request.node),
    challenge: null,
    grantedAtMs: draft.now.wallMs,
    phaseSinceMs: draft.now.wallMs,
    result: null,
    progress: "",
    why: null,
    calledOffBy: null,
    finishedBy: null,
    stuck: null,
  };
}

/** The second question, right before the point of no return. */
function decide(draft: Draft, budget: Budget, lease: Lease): void {
  const clock = draft.clockOf(lease.id);
  const view = draft.volatile.views.get(lease.node);
  const record = view?.word.lease;
  const heard = view?.online === true && record?.lease === lease.id && record.phase === "drained" && (view.word.answers?.ping ?? -1) >= clock.confirmPing;
  const asked: Asked = { node: lease.node, despiteChecks: lease.despiteChecks, work: lease.work, confirms: { lease: lease.id, ping: clock.confirmPing } };
  if (heard && view.word.bootId === lease.bootId && budget.allows(asked)) {
    const next = draft.enter(lease, "confirmed", { challenge: view.word.challenge });
    sendConfirm(draft, next);
    draft.note("info", "confirmed", lease.node, `${lease.node} may go: everything was checked again`, lease.by);
    return;
  }
  if (draft.now.monoMs - clock.phaseMonoMs < draft.patience.confirmMs) return;
  const why = budget.denials(asked)[0]?.text ?? `${lease.node} has not said since that it is drained`;
  sendAbort(draft, draft.enter(lease, "aborting", { why, calledOffBy: "hub", challenge: null }));
  draft.note("warning", "unconfirmed", lease.node, `${lease.node} is told to put everything back: ${why}`);
}

/** A node that stays well for long enough gives its slot back. */
function soak(draft: Draft): void {
  for (const lease of draft.durable.leases.values()) {
    if (lease.phase !== "soaking") continue;
    if (lease.holder === "agent") {
      const away = unreachableWhy(draft.volatile, lease.node, draft.now, draft.patience);
      const word = draft.volatile.views.get(lease.node)?.word;
      const why = away ?? (word === undefined ? `${lease.node} has not spoken yet` : notBackWhy(draft.state, lease, word));
      if (why !== null) {
        draft.enter(lease, "checking", { why });
        continue;
      }
    }
    if (draft.now.monoMs - draft.clockOf(lease.id).phaseMonoMs < lease.soakMs) continue;
    if (!lease.despiteChecks && (draft.volatile.failingChecks === null || draft.volatile.failingChecks.length > 0)) continue;
    draft.end(lease, "released", null);
    if (lease.holder === "agent") draft.send(lease.node, { v: 1, kind: "release", lease: lease.id });
    draft.note("info", "released", lease.node, `${lease.node} is back and well`, lease.by);
  }
}

/** Time has passed: nodes are asked where they stand, and what takes too long is told. It never takes a slot back. */
export function tick(draft: Draft): void {
  const { now, patience, volatile } = draft;
  if (now.monoMs - volatile.pingedMonoMs >= patience.pingEveryMs) {
    pingNodes(draft, concerned(draft));
    draft.volatile = { ...draft.volatile, pingedMonoMs: now.monoMs };
  }
  for (const lease of draft.durable.leases.values()) {
    if (lease.stuck !== null || lease.holder !== "agent") continue;
    const sinceMs = now.monoMs - draft.clockOf(lease.id).phaseMonoMs;
    const late = lateWhy(draft, lease, sinceMs);
    if (late === null) continue;
    stick(draft, lease, late);
    if (lease.phase === "confirmed") draft.effects.push({ do: "look-outside", node: lease.node, lease: lease.id });
  }
}

const ABORT_EXPECTED_MS = 15 * 60_000;

function lateWhy(draft: Draft, lease: Lease, sinceMs: number): string | null {
  const { node } = lease;
  const limits = {
    draining: lease.drain.timeoutMs + draft.patience.confirmMs,
    drained: Number.POSITIVE_INFINITY,
    confirmed: lease.work.do === "hold" ? Number.POSITIVE_INFINITY : lease.expectedMs,
    aborting: ABORT_EXPECTED_MS,
    checking: draft.patience.checkMs,
    soaking: Number.POSITIVE_INFINITY,
    held: Number.POSITIVE_INFINITY,
  } as const;
  if (sinceMs < limits[lease.phase]) return null;
  const minutes = Math.round(sinceMs / 60_000);
  switch (lease.phase) {
    case "draining":
      return `${node} has been draining for ${minutes} min (${lease.progress || "it does not say what it is at"}): see \`evenkeel-agent status\` there, or \`evenkeel abort\``;
    case "confirmed":
      return `${node} has not come back after ${minutes} min: look at its console or its power; it keeps its slot until it is back, or until you clear the lease`;
    case "aborting":
      return `${node} has not put back what it drained after ${minutes} min (${lease.progress}): look at it`;
    default:
      return `${node} is back but not well after ${minutes} min: ${notWell(draft, lease) ?? lease.why ?? "it does not say why"}`;
  }
}

function notWell(draft: Draft, lease: Lease): string | null {
  const word = draft.volatile.views.get(lease.node)?.word;
  return word === undefined ? null : notBackWhy(draft.state, lease, word);
}

/** For somebody without our agent: an answer at once, and no queue. Asking again while holding is fine. */
export function take(draft: Draft, event: Extract<Event, { kind: "take" }>): Answer {
  const { id, node, holder, by, soakMs } = event;
  for (const lease of draft.durable.leases.values()) {
    if (lease.node !== node || lease.holder !== holder || holder === "script") continue;
    // It has its slot, and yet everything is looked at again: it may go right after this answer.
    const denials = new Budget(draft.state, draft.now, draft.patience).denials({ node, despiteChecks: false, confirms: { lease: lease.id, ping: -1 } });
    if (denials.length > 0) return { ok: false, denials };
    if (lease.phase === "soaking") draft.enter(lease, "held");
    return { ok: true, lease: lease.id };
  }
  const budget = new Budget(draft.state, draft.now, draft.patience);
  const denials = budget.denials({ node, despiteChecks: false });
  if (denials.length > 0) return { ok: false, denials };
  const request: Request = { id, node, work: { do: "hold" }, drain: { timeoutMs: 1_000, onTimeout: "undo" }, soakMs, expectedMs: 0, by, rollout: null, despiteChecks: false, requestedAtMs: draft.now.wallMs };
  draft.enter(leaseFrom(draft, budget, request, holder), "held");
  draft.note("info", "granted", node, `${node} has the slot`, by);
  return { ok: true, lease: id };
}

export function giveBack(draft: Draft, event: Extract<Event, { kind: "give-back" }>): Answer {
  for (const lease of draft.durable.leases.values()) {
    if (lease.node !== event.node || lease.holder !== event.holder || (event.id !== null && lease.id !== event.id)) continue;
    if (lease.phase === "held" && lease.soakMs > 0) draft.enter(lease, "soaking");
    else if (lease.phase === "held") {
      draft.end(lease, "released", null);
      draft.note("info", "released", lease.node, `${lease.node} has given its slot back`, event.by);
    }
    return { ok: true, lease: lease.id };
  }
  return { ok: true };
}
