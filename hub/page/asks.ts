import type { CoordinationSummary, LeaseView, RequestView, RolloutStart, RolloutView, WhyAnswer } from "../../shared/protocol/rollout.ts";
import type { Ask } from "./ask.ts";
import { capped, clip, nodeHref, plain, plural } from "./format.ts";
import { rolloutHeadline } from "./rollout-headline.ts";

/** The words of each action: what it does, said before it is done. */

const NAMES_MAX = 12;

function named(names: readonly string[]): string {
  const { shown, hidden } = capped(names, NAMES_MAX);
  return `${shown.map((name) => clip(name, 63)).join(", ")}${hidden > 0 ? ` and ${hidden} more` : ""}`;
}

export type Steering = "halt" | "resume" | "cancel";

export function steerAsk(rollout: RolloutView, what: Steering): Ask {
  const back = `/rollouts/${encodeURIComponent(rollout.id)}`;
  const failed = rollout.nodes.filter(({ state }) => state === "failed").map(({ node }) => node);
  const now = `${rolloutHeadline(rollout).title}. ${rollout.forecast.text}`;
  switch (what) {
    case "halt":
      return { title: "Halt the rollout", what: ["The node that is at it finishes, comes back and keeps being watched. No other one starts until somebody resumes the rollout."], button: "Halt the rollout", grave: true, fields: ["why"], back, now };
    case "cancel":
      return { title: "Cancel the rollout", what: ["The node that is at it finishes and comes back. The others are left as they are, and this rollout can not be resumed: the next one begins anew."], button: "Cancel the rollout", grave: true, fields: ["why"], back, now };
    case "resume":
      return {
        title: "Resume the rollout",
        what: [failed.length === 0 ? "It goes on with the next node." : `${named(failed)} failed. Say what is to become of ${failed.length === 1 ? "it" : "them"}; then the rollout goes on.`, "Before each node, everything is checked again."],
        button: "Resume the rollout", grave: false, fields: failed.length === 0 ? ["why"] : ["failed", "why"], back,
        ...(rollout.halt === null ? { now } : { against: [{ code: "halted", text: rollout.halt.why, since: rollout.halt.at, cure: rollout.halt.cure }] }),
      };
  }
}

/** The second step of starting a rollout: what exactly will happen. */
export function startAsk(start: RolloutStart, summary: CoordinationSummary): Ask {
  const of = summary.updates.filter(({ node }) => start.nodes === undefined || start.nodes.includes(node));
  const names = start.nodes ?? of.map(({ node }) => node);
  const sum = (count: (each: (typeof of)[number]) => number): number => of.reduce((total, each) => total + count(each), 0);
  const unknown = of.filter(({ lookedAt }) => lookedAt === null).map(({ node }) => node);
  const reboots = of.filter(({ reboot }) => reboot === "yes").map(({ node }) => node);
  const which = start.scope === "security" ? "Security updates only." : start.scope === "all" ? "All updates." : "The updates that the policy in cluster.yaml says.";
  const facts = start.kind === "reboot"
    ? [`${plural(names.length, "node")} will be rebooted, one after the other: ${named(names)}.`]
    : start.kind === "change" ? [`What nodes hold back of their commit is applied, one after the other: ${named(names)}. Who holds nothing back is left out.`]
    : [
        `${plural(names.length, "node")}, one after the other: ${named(names)}. ${which}`,
        `Pending now: ${plural(sum(({ pending }) => pending), "package")} in all, of which ${sum(({ security }) => security)} from a security archive.${reboots.length > 0 ? ` ${named(reboots)} ${reboots.length === 1 ? "needs" : "need"} a reboot already.` : ""}${unknown.length > 0 ? ` ${named(unknown)} ${unknown.length === 1 ? "has" : "have"} not said yet what is pending.` : ""}`,
      ];
  return {
    title: start.kind === "update" ? "Start a rollout of OS updates" : start.kind === "change" ? "Start a rollout of what is held back" : "Start a reboot of all",
    what: [...facts, "It begins now, outside of every window, and goes on until it is done. The canary goes first and is watched before the others follow; the first failure halts it."],
    button: start.kind === "update" ? "Start updating" : start.kind === "change" ? "Start applying" : "Start rebooting",
    grave: false,
    fields: [],
    back: "/rollouts/start",
    hidden: [["kind", start.kind], ...(start.scope === undefined ? [] : [["scope", start.scope] as const]), ...(start.nodes ?? []).map((node) => ["node", node] as const)],
    ...(summary.holds.length > 0 && { now: `Held: ${named(summary.holds.map(({ what }) => (what === "*" ? "the cluster" : what)))}. Nothing that is held goes down.` }),
  };
}

export type NodeDeed = "drain" | "reboot" | "resume" | "hold" | "unhold";

export function nodeAsk(why: WhyAnswer, what: NodeDeed): Ask {
  const { node } = why;
  const back = nodeHref(node);
  const now = { now: why.headline, against: why.denials };
  switch (what) {
    case "drain":
      return { title: `Drain ${node}`, what: [`${node} is made safe to lose, and stays drained for the work of your hands, across reboots, until somebody resumes it.`, "It takes a slot like everybody: while nobody may go down, it waits for its turn."], button: `Drain ${node}`, grave: false, fields: ["why", "despiteChecks"], back, ...now };
    case "reboot":
      return { title: `Reboot ${node}`, what: [`${node} is drained, rebooted, checked and watched.`, "It takes a slot like everybody: while nobody may go down, it waits for its turn."], button: `Reboot ${node}`, grave: false, fields: ["why", "despiteChecks"], back, ...now };
    case "resume":
      return { title: `Resume ${node}`, what: [`${node} puts back what it drained, is checked and watched, and gives its slot back.`], button: `Resume ${node}`, grave: false, fields: [], back, now: why.headline };
    case "hold":
      return { title: `Hold ${node}`, what: [`${node} gets no slot while it is held: no update, no reboot, no drain. If it is at one now, that goes on.`], button: `Hold ${node}`, grave: false, fields: ["why", "hours"], back, now: why.headline };
    case "unhold":
      return { title: `Lift the hold of ${node}`, what: [`${node} may go down again when it is its turn.`], button: "Lift the hold", grave: false, fields: [], back, ...now };
  }
}

export function holdAsk(summary: CoordinationSummary): Ask {
  const at = summary.leases.map(({ node }) => node);
  return { title: "Hold the cluster", what: ["No node gets a slot while the cluster is held: no update, no reboot, no drain. A rollout waits.", ...(at.length > 0 ? [`What is under way goes on: ${named(at)}.`] : [])], button: "Hold the cluster", grave: false, fields: ["why", "hours"], back: "/" };
}

export function unholdAsk(summary: CoordinationSummary): Ask {
  const hold = summary.holds.find(({ what }) => what === "*");
  return { title: "Lift the hold of the cluster", what: ["Nodes may go down again, one after the other, as the groups allow."], button: "Lift the hold", grave: false, fields: [], back: "/", ...(hold !== undefined && { now: `Held by ${hold.by}: ${hold.why}` }) };
}

export function leaseAsk(lease: LeaseView | null, request: RequestView | null, what: "abort" | "clear"): Ask | null {
  const of = lease ?? request;
  if (of === null) return null;
  const { node } = of;
  const back = nodeHref(node);
  if (what === "abort") {
    return lease === null
      ? { title: `Withdraw the request for ${node}`, what: [`${plain(of.by)} asked for it; ${node} stays as it is.`], button: "Withdraw it", grave: false, fields: ["why"], back }
      : { title: `Call it off for ${node}`, what: [`${node} puts back what it drained, and gives its slot back. Once it has been confirmed, it is too late for that, and the answer says so.`], button: "Call it off", grave: false, fields: ["why"], back };
  }
  if (lease === null) return null;
  return {
    title: `Clear the slot of ${node}`,
    what: [`The slot is freed by your word, not by ${node} proving that it is back. Do this when you know how the machine is: the next node may go down as if ${node} were not at it.`, "It is refused while an order to it could still be acted upon."],
    button: `Clear the slot of ${node}`, grave: true, fields: ["why"], back,
    ...(lease.stuck !== null && { now: `Stuck: ${lease.stuck.why}` }),
  };
}

export function settleAsk(summary: CoordinationSummary, name: string): Ask | null {
  const group = summary.groups.find((each) => each.name === name);
  if (group === undefined) return null;
  return { title: `Settle the group ${clip(name, 63)}`, what: [`Its members are ${named(group.members)}. Who was a member before counts no more, whether all nodes know of the change or not.`], button: "Settle it", grave: true, fields: ["why"], back: "/", ...(group.settling !== null && { now: group.settling }) };
}
