/**
 * Bugs to be planted, one at a time, into a copy of coordinator, agent and simulation: each is a textual replacement, or
 * several where one line watches over another. Whoever changes a line that is named here changes it here as well.
 */

export interface Planted {
  readonly name: string;
  readonly changes: readonly (readonly [file: string, from: string, to: string])[];
}

const budget = "hub/coordinator/budget.ts";
const down = "hub/coordinator/down.ts";
const gates = "hub/coordinator/gates.ts";
const grants = "hub/coordinator/grants.ts";
const groups = "hub/coordinator/groups.ts";
const operators = "hub/coordinator/operators.ts";
const step = "hub/coordinator/step.ts";
const words = "hub/coordinator/words.ts";
const agent = "agent/lease/step.ts";
const rollout = "hub/rollout/step.ts";
const simHub = "test/sim/hub.ts";
const simMachine = "test/sim/machine.ts";

export const planted: readonly Planted[] = [
  // The count.
  { name: "half is fewer than half", changes: [["shared/quorum.ts", "Math.ceil(size / 2) - 1", "Math.floor(size / 2)"]] },
  { name: "the asking node does not count itself", changes: [[budget, "if (others + 1 > group.allowed) return false;", "if (others > group.allowed) return false;"]] },
  { name: "one of its groups agrees, and that is enough", changes: [[budget, "groups.every((group) => this.#fits", "groups.some((group) => this.#fits"]] },
  { name: "two are granted in one step, and do not see each other", changes: [[grants, "  budget.take(request.node, request.by);\n", ""]] },
  { name: "an unreachable node counts as up", changes: [[down, 'if (away !== null) return { code: "unreachable"', 'if (away === "") return { code: "unreachable"']] },
  { name: "a node that has fallen silent counts as up", changes: [[down, "  if (now.monoMs - view.heardMonoMs > patience.staleMs) return", "  if (now.monoMs < 0) return"]] },
  { name: "a late word makes a dead node live", changes: [[words, "Math.min(now.monoMs, volatile.startedMonoMs + (answers?.ping ?? 0))", "now.monoMs"]] },
  { name: "an unhealthy node counts as up", changes: [[down, "  if (!word.healthy) return", "  if (word.trouble.length > 20) return"]] },
  { name: "a node that somebody cordoned counts as up", changes: [[down, "  if (word.cordonedBy !== null) return", '  if (word.cordonedBy === "nobody") return']] },

  // Membership.
  { name: "earlier members are forgotten at once", changes: [[groups, "groups.set(name, { current: next, older: withOlder(before) });", "groups.set(name, { current: next, older: [] });"]] },
  { name: "a group that left the repository is forgotten at once", changes: [[groups, "groups.set(name, { current: null, older: withOlder(before) });", "groups.delete(name);"]] },
  { name: "earlier members are let go of under a slot", changes: [[groups, "if (members.has(lease.node) || lease.groups.includes(name)) return `${lease.node} holds a slot`;", ""]] },
  {
    name: "a removed member's slot does not count",
    changes: [
      [budget, "lease.groups.includes(name) ? down(lease.node) : null", "null"],
      [groups, "if (members.has(lease.node) || lease.groups.includes(name)) return `${lease.node} holds a slot`;", ""],
    ],
  },

  // The second word.
  { name: "confirmed without looking again", changes: [[grants, "view.word.bootId === lease.bootId && budget.allows(asked)", "view.word.bootId === lease.bootId"]] },
  { name: "whoever has not answered counts as up", changes: [[budget, "others + this.#unheard(group, node, confirms.ping).length + 1 <= group.allowed", "others + 1 <= group.allowed"]] },
  { name: "a void grant is given anew without looking again", changes: [[words, "  if (denials.length > 0) {\n    const { id, node, work", "  if (denials.length > 99) {\n    const { id, node, work"]] },
  { name: "a void confirmation is given anew without looking again", changes: [[words, "    if (lease.challenge === word.challenge) sendConfirm(draft, lease);\n    else enterDrained(draft, lease);", "    sendConfirm(draft, draft.enter(lease, \"confirmed\", { challenge: word.challenge }));"]] },

  // Gates.
  { name: "a gate keeps nobody from going", changes: [[budget, "|| this.#gates(asked).length > 0) return false;", ") return false;"]] },
  { name: "a node's own gate does not keep it from going", changes: [[gates, '(node === asking ? "itself" : "others")', '(node === asking ? "nobody" as string : "others")']] },
  { name: "whoever misses a node that is away by order keeps everybody from going", changes: [[gates, "missing.every((other) => other === asking || isAway(state, other))", "missing.length > 99"]] },
  { name: "whoever misses a node keeps nobody from going, wherever that one is", changes: [[gates, "missing.every((other) => other === asking || isAway(state, other))", "missing.length < 99"]] },

  // Giving back.
  { name: "a slot expires", changes: [[grants, "    stick(draft, lease, late);\n", '    draft.end(lease, "released", late);\n']] },
  { name: "a node that is gone while it drains gives its slot back", changes: [[step, "      if (view?.online === true) draft.setView", '      for (const lease of draft.durable.leases.values()) if (lease.node === event.node && lease.phase === "draining") draft.end(lease, "declined", null);\n      if (view?.online === true) draft.setView']] },
  { name: "a slot is given back before the node has been watched", changes: [[grants, "    if (draft.now.monoMs - draft.clockOf(lease.id).phaseMonoMs < lease.soakMs) continue;\n", ""]] },
  {
    name: "a sick node's slot is given back",
    changes: [
      [gates, "  if (!word.healthy) return word.trouble[0] ?? \"it does not say why\";\n", ""],
    ],
  },
  {
    name: "a slot is given back although a gate says no",
    changes: [[gates, "  return gate?.text ?? null;", "  return gate === null ? \"\" : null;"]],
  },
  { name: "a word that brings a node back is said once", changes: [[words, "      if (lease.finishedBy) sendFinish(draft, lease);\n", ""]] },
  { name: "cleared while an order can still be acted upon", changes: [[operators, "  if (lease.challenge !== null && waitMs > 0) return", "  if (waitMs > 1e15) return"]] },
  { name: "cleared while an order is under way to a node that speaks", changes: [[operators, "    if (lease.challenge !== null && lease.challenge === word.challenge) return", '    if (lease.challenge === "") return']] },

  // What the hub forgets, or should have.
  { name: "what nodes said outlives a restart of the hub", changes: [[words, "if (word.answers?.run !== run) {", "if (word.answers === null) {"], [simHub, 'volatile: emptyVolatile("", world.nowMs)', 'volatile: this.#kept ?? emptyVolatile("", world.nowMs)'], [simHub, "    this.#state = null;\n    this.#life++;\n", "    this.#kept = this.#state.volatile;\n    this.#state = null;\n    this.#life++;\n"], [simHub, "  #life = 0;\n", "  #life = 0;\n  #kept: State[\"volatile\"] | null = null;\n"], [step, "emptyVolatile(event.run, event.now.monoMs)", "{ ...draft.volatile, run: event.run }"]] },
  { name: "a word said to an earlier run of the hub counts", changes: [[words, "if (word.answers?.run !== run) {", "if (word.answers === null) {"]] },
  { name: "late and doubled words count", changes: [[words, "return word.seq > last.word.seq;", "return true;"]] },
  { name: "the words of an agent that has ended count", changes: [[words, "  if (word.answers.ping > (last.word.answers?.ping ?? -1)) return true;", "  if (word.seq >= 0) return true;"]] },
  { name: "unknown leases are not taken over", changes: [[words, "  if (lease === undefined || lease.id !== word.lease.lease) foreign(", "  if (lease === undefined) return;\n  if (lease.id !== word.lease.lease) foreign("]] },
  {
    name: "unknown leases are not taken over, and do not count",
    changes: [
      [words, "  if (lease === undefined || lease.id !== word.lease.lease) foreign(", "  if (lease === undefined) return;\n  if (lease.id !== word.lease.lease) foreign("],
      [down, 'return lease !== null && lease.phase !== "declined" && lease.phase !== "back";', "return lease === null && false;"],
    ],
  },
  {
    name: "granted before it is written down",
    changes: [[simHub, 'if (this.#dies("hub dies before a write", kills === "before")) return gone;', 'if (this.#dies("hub dies before a write", kills === "before")) {\n        for (const effect of result.effects) if (effect.do === "send") {\n          this.#watch(effect.node, effect.order);\n          this.#parts.send(effect.node, effect.order);\n        }\n        return gone;\n      }']],
  },

  // The agent.
  { name: "the challenge is ignored", changes: [[agent, "order.challenge === memory.challenge && ", ""]] },
  { name: "a challenge is good for ever", changes: [[agent, " && ageMs(memory.challengeAt, now) <= CHALLENGE_VALID_MS", ""], [agent, "if (ageMs(this.memory.challengeAt, this.now) > CHALLENGE_RENEW_MS) this.renewChallenge();", ""]] },
  { name: "orders of an earlier run count after a word to this one", changes: [[agent, "      if (turn.memory.answers?.run !== order.run) turn.renewChallenge();\n", ""]] },
  {
    name: "the epoch is ignored, and the run as well",
    changes: [
      [agent, "order.epoch >= standing.epochSeen && ", ""],
      [agent, "      if (turn.memory.answers?.run !== order.run) turn.renewChallenge();\n", ""],
    ],
  },
  { name: "a lease is taken a second time", changes: [[agent, "if (turn.standing.taken.includes(order.lease)) {", "if (turn.standing.taken.length > 999) {"]] },
  { name: "the boot id is ignored: rebooting again after the reboot", changes: [[agent, "const sameBoot = record.bootId === turn.memory.bootId;", "const sameBoot = true;"]] },
  { name: "rebooting is not written down before the reboot", changes: [[agent, 'turn.effects.push({ do: "reboot", record: turn.enter(record, "rebooting") });\n      return;\n    case "update"', 'turn.effects.push({ do: "reboot", record });\n      return;\n    case "update"']] },
  { name: "a drain is forgotten when the node reboots by itself", changes: [[agent, 'else restore(turn, record, "undoing", { why: "the node rebooted by itself while it was drained" });', ""]] },
  { name: "putting back is forgotten when the agent restarts", changes: [[agent, '    case "resuming":\n      turn.effects.push({ do: "restore", record, afterMs: 0 });\n      return;', '    case "resuming":\n      return;']] },
  { name: "declined before everything is put back", changes: [[agent, "  if (failed === null) {\n    turn.enter(record, record.phase ===", "  if (failed !== undefined) {\n    turn.enter(record, record.phase ==="]] },
  { name: "an abort is obeyed after the point of no return", changes: [[agent, '(record.phase !== "draining" && record.phase !== "drained")) return;\n      restore', '(record.phase === "undoing" || record.phase === "declined")) return;\n      restore']] },
  { name: "released while it is still at it", changes: [[agent, '(record.phase !== "back" && record.phase !== "declined")) return;\n      turn.forget', '(record.phase === "draining")) return;\n      turn.forget']] },
  { name: "the first order is the second: no confirmation is waited for", changes: [[agent, 'if (failed === null) turn.enter(record, "drained");', "if (failed === null) confirm(turn, record);"]] },

  // Disruptive changes.
  { name: "what waits for the node's turn is applied as it is pushed", changes: [[simMachine, "    if (disruptive) this.#change++;\n", "    if (disruptive) this.#disrupt(this.#disk.record?.lease ?? \"none\");\n"]] },
  { name: "a change is applied before the node is drained for it", changes: [[agent, '  turn.effects.push({ do: "drain", record: turn.enter(record, "draining") });\n}', '  if (record.work.do === "converge") turn.effects.push({ do: "work", record: turn.enter(record, "working"), interrupted: false });\n  else turn.effects.push({ do: "drain", record: turn.enter(record, "draining") });\n}']] },
  { name: "a change needs no second word", changes: [[agent, 'if (failed === null) turn.enter(record, "drained");', 'if (failed === null && record.work.do === "converge") confirm(turn, record);\n  else if (failed === null) turn.enter(record, "drained");']] },
  { name: "a change goes on after the machine went down in its middle, and with it the drain", changes: [[agent, 'record.work.do === "converge" && !sameBoot', 'record.work.do === "converge" && record.bootId === ""']] },
  { name: "a change is applied once more after a crash, on a lease that is spent", changes: [[agent, '    case "undoing":\n    case "resuming":\n      turn.effects.push', '    case "undoing":\n    case "resuming":\n      if (record.work.do === "converge") turn.effects.push({ do: "work", record, interrupted: true });\n      turn.effects.push']] },
  { name: "a change is rebooted for a second time after a crash", changes: [[agent, 'else restore(turn, record, "resuming", { result: { ...(record.result', 'else if (record.work.do === "converge") turn.effects.push({ do: "reboot", record });\n      else restore(turn, record, "resuming", { result: { ...(record.result']] },
  { name: "two nodes of a rollout go at once", changes: [[rollout, '    if (nodes.some(({ state }) => state === "leased")) return;\n', ""]] },
  { name: "who holds something back is passed over", changes: [[rollout, 'if (rollout.kind === "change") return holdsBack(this.#around.coordinator, node) ? null', 'if (rollout.kind === "change") return holdsBack(this.#around.coordinator, node) ? "nothing to do"']] },
];
