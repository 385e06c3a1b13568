import type { NodeName } from "../../shared/ids.ts";
import type { LeaseMessage, NodeLease } from "../../shared/protocol/lease.ts";
import { Budget } from "./budget.ts";
import type { Draft } from "./draft.ts";
import { leaseOf } from "./down.ts";
import { notBackWhy } from "./gates.ts";
import type { Lease, LeasePhase, View } from "./state.ts";

/**
 * What a node's word means for the lease it holds. A word says where the node stands, so that each is enough by itself:
 * whatever was lost, doubled or late before it is made good by it.
 */

/**
 * Asks nodes where they stand. Answers to earlier pings are older than the question. The number is the time of the question,
 * in milliseconds since this run began, so that an answer tells how old the word can be at most, however long it was under way.
 */
export function pingNodes(draft: Draft, nodes: Iterable<NodeName>): number {
  const { startedMonoMs } = draft.volatile;
  const ping = Math.max(draft.volatile.ping + 1, Math.floor(draft.now.monoMs - startedMonoMs));
  draft.volatile = { ...draft.volatile, ping };
  for (const node of nodes) draft.send(node, { v: 1, kind: "ping", run: draft.volatile.run, ping, epoch: draft.durable.epoch });
  return ping;
}

/** Members, whoever has spoken, and who holds a slot: he may have left the repository, and still has to give it back. */
export function concerned({ durable, volatile }: Draft): ReadonlySet<NodeName> {
  const holders = [...durable.leases.values()].filter(({ holder }) => holder === "agent").map(({ node }) => node);
  return new Set([...durable.members.keys(), ...volatile.views.keys(), ...holders]);
}

export function takeWord(draft: Draft, node: NodeName, word: LeaseMessage): void {
  raiseEpoch(draft, node, Math.max(word.epochSeen, word.lease?.epoch ?? 0));
  if (!isNews(draft, node, word)) return;
  draft.setView(node, viewOf(draft, draft.volatile.views.get(node), word));
  const lease = leaseOf(draft.state, node);
  if (word.lease === null) {
    if (lease !== undefined) forgotten(draft, lease, word);
    return;
  }
  if (lease === undefined || lease.id !== word.lease.lease) foreign(draft, node, word, word.lease, lease);
  else follow(draft, lease, word, word.lease);
}

/**
 * Heard as of the question that it answers: a word that was held up on its way says nothing of a node that has died since.
 * A newer word of the same stream is never older than the newest question that the stream has answered.
 */
function viewOf({ now, volatile }: Draft, last: View | undefined, word: LeaseMessage): View {
  const earlier = last?.word.stream === word.stream ? last.word.answers : null;
  const answers = earlier !== null && earlier.ping > (word.answers?.ping ?? -1) ? earlier : word.answers;
  return { online: true, heardMonoMs: Math.min(now.monoMs, volatile.startedMonoMs + (answers?.ping ?? 0)), word: answers === word.answers ? word : { ...word, answers } };
}

/** A node has seen a later hub than this one: the database is an older copy. What that one granted, the nodes will say. */
function raiseEpoch(draft: Draft, node: NodeName, seen: number): void {
  const { epoch } = draft.durable;
  if (seen <= epoch) return;
  draft.durable = { ...draft.durable, epoch: seen + 1 };
  doubtSilentHolders(draft);
  draft.note("warning", "epoch", node, `${node} has had orders of epoch ${seen}, and this hub was at ${epoch}: its database is an older copy. Slots that are missing in it are taken over from what the nodes say.`);
}

/**
 * The database is an older copy. A machine without an agent says nothing of itself: it may have taken its slot again since, and be
 * on its way down. It keeps the slot until it gives it back once more, or a person has looked.
 */
function doubtSilentHolders(draft: Draft): void {
  for (const lease of draft.durable.leases.values()) if (lease.holder !== "agent" && lease.phase === "soaking") draft.enter(lease, "held");
}

/** Words may be late, doubled and out of order; only a newer one than the last, said to this run of the hub, counts. */
function isNews(draft: Draft, node: NodeName, word: LeaseMessage): boolean {
  const { run, views } = draft.volatile;
  if (word.answers?.run !== run) {
    pingNodes(draft, [node]);
    return false;
  }
  const last = views.get(node);
  if (last === undefined) return true;
  if (last.word.stream === word.stream) return word.seq > last.word.seq;
  // Another start of the agent. Which of the two is the living one, an answer to a new question tells.
  if (word.answers.ping > (last.word.answers?.ping ?? -1)) return true;
  draft.setView(node, { ...last, online: false });
  pingNodes(draft, [node]);
  return false;
}

/** The node says that it holds nothing, and we know of a lease. */
function forgotten(draft: Draft, lease: Lease, word: LeaseMessage): void {
  if (lease.holder !== "agent") return;
  if (lease.phase === "draining") {
    if (word.refuses === lease.id) draft.end(lease, "void", `${lease.node} has done this lease before: the hub's database was an older copy`);
    else if (word.challenge === lease.challenge) sendGrant(draft, lease);
    else offerAgain(draft, lease, word);
    return;
  }
  // Aborted before the node had taken it. As soon as the node has another challenge, it never will.
  if (lease.phase === "aborting" && lease.challenge !== null) {
    if (word.challenge !== lease.challenge) draft.end(lease, "void", lease.why);
    return;
  }
  stick(draft, lease, `${lease.node} has lost its own record of the lease, so that what it drained may still be drained: look at it, put back what is missing, and clear the lease`);
}

/** The order of before can not be acted upon any more: the node has another challenge. So the question is open again. */
function offerAgain(draft: Draft, lease: Lease, word: LeaseMessage): void {
  const denials = new Budget(draft.state, draft.now, draft.patience).denials({ node: lease.node, despiteChecks: lease.despiteChecks, work: lease.work, confirms: { lease: lease.id, ping: -1 } });
  if (denials.length > 0) {
    const { id, node, work, drain, soakMs, expectedMs, by, rollout, despiteChecks, requestedAtMs } = lease;
    draft.dropLease(lease);
    draft.setRequest(id, { id, node, work, drain, soakMs, expectedMs, by, rollout, despiteChecks, requestedAtMs });
    return;
  }
  const next: Lease = { ...lease, challenge: word.challenge, bootId: word.bootId, epoch: draft.durable.epoch };
  draft.setLease(next);
  sendGrant(draft, next);
}

export function sendGrant(draft: Draft, lease: Lease): void {
  if (lease.bootId === null || lease.challenge === null) return;
  draft.send(lease.node, { v: 1, kind: "grant", lease: lease.id, epoch: draft.durable.epoch, bootId: lease.bootId, challenge: lease.challenge, work: lease.work, drain: lease.drain });
  draft.setClock(lease.id, { orderMonoMs: draft.now.monoMs });
}

export function sendConfirm(draft: Draft, lease: Lease): void {
  if (lease.bootId === null || lease.challenge === null) return;
  draft.send(lease.node, { v: 1, kind: "confirm", lease: lease.id, epoch: draft.durable.epoch, bootId: lease.bootId, challenge: lease.challenge });
  draft.setClock(lease.id, { orderMonoMs: draft.now.monoMs });
}

/** The node holds a lease that we think is over, or have never heard of. */
function foreign(draft: Draft, node: NodeName, word: LeaseMessage, record: NodeLease, known: Lease | undefined): void {
  const ended = draft.durable.ended.get(record.lease);
  if (ended !== undefined && (record.phase === "back" || record.phase === "declined")) {
    draft.send(node, { v: 1, kind: "release", lease: record.lease });
    return;
  }
  // A node holds one lease at a time: with what we know of it is through, or has never taken it and cannot any more.
  if (known !== undefined) {
    if (known.holder !== "agent") return;
    if ((known.phase === "draining" || known.phase === "aborting") && known.challenge === word.challenge) {
      stick(draft, known, `${node} says that it holds another lease (${record.lease}): look at it, and clear this one`);
      return;
    }
    draft.end(known, "void", "the node holds another lease");
  }
  draft.setRequest(record.lease, null);
  const phase = adoptedPhase(record);
  const lease: Lease = {
    id: record.lease,
    node,
    holder: "agent",
    work: record.work,
    drain: { timeoutMs: 600_000, onTimeout: "undo" },
    soakMs: ADOPTED_SOAK_MS,
    expectedMs: ADOPTED_EXPECTED_MS,
    by: ended?.by ?? "an earlier hub",
    rollout: null,
    despiteChecks: false,
    requestedAtMs: draft.now.wallMs,
    phase,
    epoch: record.epoch,
    bootId: record.bootId,
    groups: new Budget(draft.state, draft.now, draft.patience).groupsOf(node),
    challenge: null,
    grantedAtMs: draft.now.wallMs,
    phaseSinceMs: draft.now.wallMs,
    result: record.result,
    progress: record.progress,
    why: record.why,
    calledOffBy: null,
    finishedBy: null,
    stuck: null,
  };
  draft.enter(lease, phase);
  if (ended === undefined) doubtSilentHolders(draft);
  draft.note("warning", "adopted", node, `${node} holds a lease that ${ended === undefined ? "this hub does not know" : `was ${ended.how}`}: it counts from now on (${record.phase})`);
  follow(draft, lease, word, record);
}

const ADOPTED_SOAK_MS = 5 * 60_000;
const ADOPTED_EXPECTED_MS = 30 * 60_000;

/** A drain that nobody here asked for is undone; what is past the point of no return is followed. */
function adoptedPhase(record: NodeLease): LeasePhase {
  switch (record.phase) {
    case "draining":
    case "drained":
    case "undoing":
    case "declined":
      return "aborting";
    case "working":
    case "rebooting":
      return "confirmed";
    case "resuming":
    case "back":
      return "checking";
  }
}

/** Our lease, and where the node is with it. */
function follow(draft: Draft, before: Lease, word: LeaseMessage, record: NodeLease): void {
  let lease = before;
  if (lease.progress !== record.progress || lease.why !== record.why || (record.result !== null && lease.result === null)) {
    lease = { ...lease, progress: record.progress, why: record.why ?? lease.why, result: record.result ?? lease.result };
    draft.setLease(lease);
  }
  // Aborted, and the node has it: the grant is spent.
  if (lease.phase === "aborting" && lease.challenge !== null) {
    lease = { ...lease, challenge: null };
    draft.setLease(lease);
  }
  switch (record.phase) {
    case "draining":
      if (lease.phase === "aborting") sendAbort(draft, lease);
      else if (lease.phase !== "draining") stick(draft, lease, backwards(lease, record));
      return;
    case "drained":
      return followDrained(draft, lease, word, record);
    case "undoing":
      if (lease.phase === "draining" || lease.phase === "drained" || lease.phase === "confirmed") draft.enter(lease, "aborting", { why: record.why, calledOffBy: "node", challenge: null });
      return;
    case "declined":
      draft.end(lease, "declined", record.why ?? lease.why);
      draft.send(lease.node, { v: 1, kind: "release", lease: lease.id });
      return;
    case "working":
    case "rebooting":
      if (lease.finishedBy) sendFinish(draft, lease);
      if (lease.phase !== "confirmed") draft.enter(lease, "confirmed", { challenge: null });
      else if (lease.challenge !== null) draft.setLease({ ...lease, challenge: null });
      return;
    case "resuming":
      if (lease.phase !== "checking") draft.enter(lease, "checking", { challenge: null });
      return;
    case "back":
      return followBack(draft, lease, word, record);
  }
}

function followDrained(draft: Draft, lease: Lease, word: LeaseMessage, record: NodeLease): void {
  if (lease.phase === "aborting") sendAbort(draft, lease);
  else if (lease.phase === "draining") enterDrained(draft, lease);
  else if (lease.phase === "confirmed") {
    // Another challenge means that the order of before is void: everything is looked at once more.
    if (lease.challenge === word.challenge) sendConfirm(draft, lease);
    else enterDrained(draft, lease);
  } else if (lease.phase !== "drained") stick(draft, lease, backwards(lease, record));
}

function enterDrained(draft: Draft, lease: Lease): void {
  draft.enter(lease, "drained", { challenge: null });
  const groups = [...draft.durable.groups].filter(([name]) => lease.groups.includes(name));
  const members = new Set(groups.flatMap(([, group]) => [...(group.current?.members ?? []), ...group.older.flatMap((terms) => terms.members)]));
  draft.setClock(lease.id, { confirmPing: pingNodes(draft, new Set([lease.node, ...members])) });
}

function followBack(draft: Draft, lease: Lease, word: LeaseMessage, record: NodeLease): void {
  if (lease.work.do === "reboot" && word.bootId === record.bootId && (record.result?.ok ?? true)) {
    stick(draft, lease, `${lease.node} says that it is back, but it has not rebooted: look at it, and clear the lease`);
    return;
  }
  const unwell = notBackWhy(draft.state, lease, word);
  if (lease.phase === "soaking") {
    if (unwell !== null) draft.enter(lease, "checking", { why: unwell });
  } else if (unwell === null) draft.enter(lease, "soaking", { challenge: null });
  else if (lease.phase !== "checking") draft.enter(lease, "checking", { challenge: null });
}

export function sendAbort(draft: Draft, lease: Lease): void {
  draft.send(lease.node, { v: 1, kind: "abort", lease: lease.id, why: lease.why ?? "the lease was withdrawn" });
}

export function sendFinish(draft: Draft, lease: Lease): void {
  draft.send(lease.node, { v: 1, kind: "finish", lease: lease.id });
}

/** Nothing goes on without somebody. The slot stays taken. Said once. */
export function stick(draft: Draft, lease: Lease, why: string): void {
  if (lease.stuck !== null) return;
  draft.setLease({ ...lease, stuck: { sinceMs: draft.now.wallMs, why } });
  draft.note("warning", "stuck", lease.node, why);
}

function backwards(lease: Lease, record: NodeLease): string {
  return `${lease.node} says "${record.phase}" after it had been ${lease.phase}: its record of the lease has gone back in time. Look at it, and clear the lease`;
}
