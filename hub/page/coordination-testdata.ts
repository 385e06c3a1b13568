import { LeaseId, NodeName } from "../../shared/ids.ts";
import type { CheckState } from "../../shared/protocol/checks.ts";
import type { CoordinationSummary, DenialView, GroupView, NodeUpdates, RolloutNode, RolloutView, WhyAnswer } from "../../shared/protocol/rollout.ts";
import { CoordinationTwin, leaseOf, rolloutNodeOf, rolloutOf } from "../http/coordination-twin.ts";
import { APT_ERROR, before } from "./testdata.ts";

/** Clusters in the middle of something, to look at in tests and while working on the design. Ages count from the same moment as in testdata.ts. */

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export const NAMES = ["n1", "n2", "n3", "n4", "n5"] as const;

export function check(name: string, more: Partial<CheckState> = {}): CheckState {
  return { name, kind: "http", target: "https://www.example.org/", gates: true, state: "ok", since: before(3 * DAY_MS), lastMessage: null, lastLookAt: before(2 * SECOND_MS), lookedCount: 51_840, failedCount: 3, latencyMs: 11.8, ...more };
}

const CHECKS = [check("front page"), check("resolver", { kind: "dns", target: "A of www.example.org at 10.77.1.53", latencyMs: 1.3 }), check("database", { kind: "tcp", target: "10.77.1.10:5432", latencyMs: 0.6, since: before(9 * HOUR_MS) })];

export function updatesOf(node: string, more: Partial<NodeUpdates> = {}): NodeUpdates {
  return { node: NodeName.parse(node), lookedAt: before(11 * MINUTE_MS), error: null, pending: 0, security: 0, held: 0, reboot: "no", rebootWhy: [], restarts: [], conflicts: [], ...more };
}

export function group(name: string, members: readonly string[], down: GroupView["down"] = [], more: Partial<GroupView> = {}): GroupView {
  return { name, size: members.length, members: members.map((member) => NodeName.parse(member)), allowed: Math.ceil(members.length / 2) - 1, down, settling: null, ...more };
}

export function down(node: string, code: GroupView["down"][number]["code"], text: string, agoMs: number): GroupView["down"][number] {
  return { node: NodeName.parse(node), code, text, since: before(agoMs) };
}

function denial(code: string, text: string, cure: string, agoMs: number | null = null): DenialView {
  return { code, text, cure, since: agoMs === null ? null : before(agoMs) };
}

/** Phases that took so long each, the last of which began `endedAgoMs` ago plus its length, or goes on. */
function timeline(fromAgoMs: number, phases: readonly (readonly [phase: string, tookMs: number])[], end?: string): RolloutNode["timeline"] {
  let agoMs = fromAgoMs;
  const entries = phases.map(([phase, tookMs]) => {
    const at = before(agoMs);
    agoMs -= tookMs;
    return { phase, at };
  });
  return end === undefined ? entries : [...entries, { phase: end, at: before(agoMs) }];
}

const CHANGED: readonly (readonly [string, string | null, string | null])[] = [
  ["libssl3", "3.0.16-1~deb12u1", "3.0.17-1~deb12u2"], ["openssl", "3.0.16-1~deb12u1", "3.0.17-1~deb12u2"], ["linux-image-amd64", "6.1.148-1", "6.1.153-1"],
  ["linux-image-6.1.0-39-amd64", null, "6.1.153-1"], ["nginx", "1.22.1-9+deb12u1", "1.22.1-9+deb12u2"], ["nginx-common", "1.22.1-9+deb12u1", "1.22.1-9+deb12u2"],
];

function changed(nodes: readonly string[]): RolloutView["changed"] {
  return CHANGED.map(([name, from, to]) => ({ name, from, to, nodes: nodes.map((node) => NodeName.parse(node)) }));
}

const HUB_LAST = denial("order", "n3 goes first", "the order stands under updates.order in cluster.yaml");
const N2_AT_IT = denial("order", "n2 is at it (rebooting)", "it goes on by itself when that one is back, well, and watched", 6 * MINUTE_MS);

function doneNode(name: string, fromAgoMs: number, role: RolloutNode["role"]): RolloutNode {
  const phases = [["draining", 14 * SECOND_MS], ["drained", SECOND_MS], ["working", 96 * SECOND_MS], ["rebooting", 52 * SECOND_MS], ["checking", 9 * SECOND_MS], ["soaking", 5 * MINUTE_MS]] as const;
  const tookMs = phases.reduce((sum, [, ms]) => sum + ms, 0);
  return rolloutNodeOf(name, { role, state: "done", startedAt: before(fromAgoMs), endedAt: before(fromAgoMs - tookMs), timeline: timeline(fromAgoMs, phases, "done"), result: { ok: true, rebooted: true, failure: null, update: null } });
}

/** Five nodes on a night: the canary is done and watched, n2 reboots, the rest waits, the hub's own machine last. */
export function rollingRollout(): RolloutView {
  return rolloutOf("7c1f-2026-03-14", NAMES, {
    startedBy: "window night",
    startedAt: before(25 * MINUTE_MS),
    window: { name: "night", closesAt: before(-2.5 * HOUR_MS) },
    target: CHANGED.map(([name, , to]) => ({ name, version: to ?? "" })),
    nodes: [
      doneNode("n1", 24.5 * MINUTE_MS, "canary"),
      rolloutNodeOf("n2", { state: "working", lease: LeaseId.parse("lease-2"), startedAt: before(2.5 * MINUTE_MS), timeline: timeline(2.5 * MINUTE_MS, [["draining", 12 * SECOND_MS], ["drained", SECOND_MS], ["working", 98 * SECOND_MS], ["rebooting", 0]]), progress: "rebooting into 6.1.0-39-amd64", expectedAt: before(-6 * MINUTE_MS) }),
      rolloutNodeOf("n3", { denials: [N2_AT_IT, denial("quorum", "routers: 1 of 3 may be down, and n2 is (leased)", "it goes on by itself when n2 is back", 2.5 * MINUTE_MS)], expectedAt: before(-14 * MINUTE_MS) }),
      rolloutNodeOf("n4", { denials: [N2_AT_IT], expectedAt: before(-22 * MINUTE_MS) }),
      rolloutNodeOf("n5", { role: "hub", denials: [HUB_LAST], expectedAt: before(-30 * MINUTE_MS) }),
    ],
    changed: changed(["n1", "n2"]),
    forecast: { doneAt: before(-30 * MINUTE_MS), fits: "yes", text: "1 of 5 done, about 30 min to go; the window suffices" },
    requests: [{ check: "front page", looked: 750, failed: 0 }, { check: "resolver", looked: 748, failed: 0 }, { check: "database", looked: 750, failed: 0 }],
  });
}

function scene(rollouts: readonly RolloutView[], more: Partial<CoordinationSummary>): CoordinationTwin {
  const twin = new CoordinationTwin(NAMES);
  twin.all = [...rollouts];
  twin.leases = more.leases ?? [];
  twin.requests = more.requests ?? [];
  twin.holds = more.holds ?? [];
  const { leases: _leases, requests: _requests, holds: _holds, ...rest } = more;
  twin.more = { checks: CHECKS, updates: NAMES.map((name) => updatesOf(name)), groups: [group("cluster", NAMES), group("routers", NAMES.slice(0, 3))], hubNode: NodeName.parse("n5"), nextWindow: { name: "night", opensAt: before(-23.5 * HOUR_MS), closesAt: before(-26.5 * HOUR_MS) }, ...rest };
  return twin;
}

/** Nothing is going on; last night's rollout went well. */
export function calmScene(): CoordinationTwin {
  return scene([doneRollout(), { ...doneRollout("cancelled-1"), phase: "cancelled" }], {});
}

export function doneRollout(id = "done-1"): RolloutView {
  const nodes = NAMES.map((name, index) => doneNode(name, (60 - index * 8) * MINUTE_MS, index === 0 ? "canary" : index === 4 ? "hub" : "node"));
  return rolloutOf(id, NAMES, { startedBy: "window night", startedAt: before(61 * MINUTE_MS), endedAt: before(20 * MINUTE_MS), phase: "done", nodes, changed: changed(NAMES), forecast: { doneAt: null, fits: "yes", text: "5 of 5 done" }, requests: [{ check: "front page", looked: 1_231, failed: 0 }] });
}

export function rollingScene(): CoordinationTwin {
  const n2 = down("n2", "leased", "n2 is rebooting (window night)", 2.5 * MINUTE_MS);
  const pending = { pending: 6, security: 4, reboot: "yes", rebootWhy: ["linux-image-6.1.0-39-amd64 is installed, 6.1.0-38-amd64 is running"] } as const;
  return scene([rollingRollout()], {
    groups: [group("cluster", NAMES, [n2]), group("routers", NAMES.slice(0, 3), [n2]), group("power A", ["n4", "n5"], [], { allowed: 1 })],
    leases: [leaseOf("lease-2", "n2", { work: "update", by: "window night", rollout: "7c1f-2026-03-14", phase: "confirmed", progress: "rebooting into 6.1.0-39-amd64", grantedAt: before(2.5 * MINUTE_MS), phaseSince: before(39 * SECOND_MS) })],
    updates: NAMES.map((name) => updatesOf(name, name === "n1" ? {} : { ...pending, rebootWhy: [...pending.rebootWhy] })),
  });
}

/** n2 failed in mid-update, so that the rollout is halted. */
export function haltedScene(): CoordinationTwin {
  const rollout = rollingRollout();
  const why = "nginx could not be configured (exit status 1); it was put back to 1.22.1-9+deb12u1";
  const nodes = rollout.nodes.map((node) => node.node === "n1" ? node : node.node === "n2" ? rolloutNodeOf("n2", {
    state: "failed", startedAt: before(9 * HOUR_MS), endedAt: before(9 * HOUR_MS - 4 * MINUTE_MS), timeline: timeline(9 * HOUR_MS, [["draining", 12 * SECOND_MS], ["drained", SECOND_MS], ["working", 3 * MINUTE_MS], ["checking", 47 * SECOND_MS]], "done"),
    result: { ok: false, rebooted: false, failure: why, update: { ok: false, changed: [], failure: { code: "install", message: why, output: APT_ERROR }, rolledBack: ["nginx", "nginx-common"], notRolledBack: ["libssl3"], movedOn: [{ name: "openssl", from: "3.0.17-1~deb12u2", to: "3.0.17-1~deb12u3" }], reboot: { needed: "no", why: [] } } },
  }) : rolloutNodeOf(node.node, { role: node.role, denials: [denial("halted", `the rollout is halted: n2 failed: ${why}`, "look at n2, then `evenkeel rollout resume --failed retry` or `--failed skip`", 9 * HOUR_MS)] }));
  const halted: RolloutView = {
    ...rollout, phase: "halted", startedAt: before(9.6 * HOUR_MS), nodes: nodes.map((node) => (node.node === "n1" ? doneNode("n1", 9.55 * HOUR_MS, "canary") : node)),
    halt: { at: before(9 * HOUR_MS - 4 * MINUTE_MS), node: NodeName.parse("n2"), why: `n2 failed: ${why}`, cure: "look at n2, then `evenkeel rollout resume --failed retry` or `--failed skip`" },
    forecast: { doneAt: null, fits: "unknown", text: `1 of 5 done; halted: n2 failed: ${why}` }, window: { name: "night", closesAt: before(5 * HOUR_MS) },
    requests: [{ check: "front page", looked: 5_120, failed: 2 }, { check: "resolver", looked: 5_118, failed: 0 }], changed: changed(["n1"]),
  };
  return scene([halted, doneRollout("done-1")], {});
}

/** Much stands in the way: a drained node, a stuck one, a dead one, holds, a failing check, and somebody else who reboots. */
export function troubledScene(): CoordinationTwin {
  const n3 = down("n3", "unreachable", "n3 is not connected", 2.4 * HOUR_MS);
  const n4 = down("n4", "leased", "n4 is being drained (anna)", 47 * MINUTE_MS);
  const conflict = "unattended-upgrades reboots this node by itself (Unattended-Upgrade::Automatic-Reboot \"true\" in /etc/apt/apt.conf.d/50unattended-upgrades): set it to \"false\", or two of us reboot";
  const twin = scene([], {
    checks: [check("front page", { state: "failing", since: before(4 * MINUTE_MS), lastMessage: "the answer was 502 Bad Gateway, wanted 200", latencyMs: 31 }), ...CHECKS.slice(1, 2), check("database", { state: "unknown", gates: false, since: before(20 * SECOND_MS), lookedCount: 0, lastMessage: "pg_isready is not installed where the hub runs", latencyMs: null })],
    groups: [group("cluster", NAMES, [n3, n4]), group("routers", NAMES.slice(0, 3), [n3, down("n2", "cordoned", "n2 was cordoned by kubectl (bob)", 5 * MINUTE_MS)]), group("etcd", ["n4", "n5"], [n4], { settling: "n6 left in 3e5c91aa, and n5 has not converged to that yet" })],
    leases: [leaseOf("lease-4", "n4", { phase: "confirmed", by: "anna", why: "new memory", grantedAt: before(47 * MINUTE_MS), phaseSince: before(46 * MINUTE_MS) }), leaseOf("lease-3", "n3", { work: "reboot", by: "bob", phase: "confirmed", grantedAt: before(3 * HOUR_MS), phaseSince: before(2.9 * HOUR_MS), stuck: { since: before(2.4 * HOUR_MS), why: "n3 has not come back for 30 min: look at its console or its BMC, and clear the slot when you know how it is" } })],
    requests: [{ id: LeaseId.parse("lease-5"), node: NodeName.parse("n5"), work: "reboot", by: "anna", rollout: null, requestedAt: before(12 * MINUTE_MS), denials: [denial("hold", "the cluster is held by bob: the auditors are here", "`evenkeel unhold` lifts it", 26 * HOUR_MS), denial("checks", "front page is failing", "it goes on by itself when the check is well; --despite-checks goes in spite of it", 4 * MINUTE_MS), denial("quorum", "cluster: 2 of 5 may be down, and n3 (unreachable) and n4 (leased) are", "see to n3; n4 gives its slot back after `evenkeel resume n4`", 2.4 * HOUR_MS)] }],
    holds: [{ what: "*", by: "bob", why: "the auditors are here", since: before(26 * HOUR_MS), until: before(-10 * HOUR_MS) }, { what: "n2", by: "anna", why: "its disk is being replaced", since: before(HOUR_MS), until: null }],
    blackout: { until: before(-3 * DAY_MS), why: "end of the quarter" },
    updates: [updatesOf("n1", { pending: 12, security: 3, conflicts: [conflict], restarts: ["nginx.service", "cron.service"] }), updatesOf("n2", { pending: 12, security: 3, conflicts: [conflict], held: 2 }), updatesOf("n3", { lookedAt: null, reboot: "unknown" }), updatesOf("n4", { error: "apt-get update failed: Temporary failure resolving deb.debian.org", reboot: "unknown" }), updatesOf("n5", { pending: 1, reboot: "yes", rebootWhy: ["/run/reboot-required of linux-base"] })],
  });
  return twin;
}

/** As many nodes as one page has ever to show. */
export function manyScene(count = 50): CoordinationTwin {
  const names = Array.from({ length: count }, (_, index) => `n${index + 1}`);
  const twin = new CoordinationTwin(names);
  const rollout = rollingRollout();
  const nodes = names.map((name, index) => (index < 20 ? doneNode(name, (170 - index * 8) * MINUTE_MS, index < 2 ? "canary" : "node") : index === 20 ? { ...rolloutNodeOf(name), ...rollout.nodes[1], node: NodeName.parse(name) } : rolloutNodeOf(name, { denials: [N2_AT_IT, HUB_LAST] })));
  const many = Array.from({ length: 140 }, (_, index) => ({ name: `libexample${index}`, from: `1.${index}-1`, to: `1.${index}-2`, nodes: names.map((name) => NodeName.parse(name)) }));
  twin.all = [{ ...rollout, startedAt: before(171 * MINUTE_MS), nodes, changed: many }];
  twin.more = { checks: CHECKS, groups: [group("cluster", names, [down("n21", "leased", "n21 is rebooting", MINUTE_MS)])], updates: names.map((name) => updatesOf(name, { pending: 6 })) };
  return twin;
}

/** Fixed words are checked by their schemas before they get to a page; every other string is set to the same hostile text. */
const FIXED: Readonly<Record<string, readonly string[]>> = {
  phase: ["running", "halted", "done", "cancelled", "draining", "drained", "confirmed", "aborting", "checking", "soaking", "held"],
  state: ["waiting", "asked", "draining", "drained", "working", "checking", "soaking", "done", "failed", "skipped", "ok", "failing", "unknown"],
  code: ["leased", "unreachable", "unhealthy", "cordoned"],
  kind: ["update", "reboot", "http", "tcp", "dns", "ping", "command"],
  role: ["canary", "node", "hub"],
  holder: ["agent", "fleetlock", "script"],
  work: ["update", "reboot", "hold"],
  fits: ["yes", "no", "unknown"],
  reboot: ["yes", "no", "unknown"],
};


function hostileValue<T>(value: T, text: string): T {
  const replaced = (each: unknown, key: string): unknown => {
    if (typeof each === "string") return FIXED[key]?.includes(each) === true || /^\d{4}-\d\d-\d\dT/.test(each) || (key === "what" && each === "*") ? each : text;
    if (Array.isArray(each)) return each.map((one) => replaced(one, key));
    if (typeof each !== "object" || each === null) return each;
    return Object.fromEntries(Object.entries(each).map(([name, one]) => [name, replaced(one, name)]));
  };
  return replaced(value, "") as T;
}

/** What a coordinator says whose every name, reason and progress was written by an attacker. */
export class HostileCoordination extends CoordinationTwin {
  readonly #of: CoordinationTwin;
  readonly #text: string;

  constructor(of: CoordinationTwin, text: string) {
    super(NAMES);
    this.#of = of;
    this.#text = text;
  }

  override async summary(): Promise<CoordinationSummary> {
    return hostileValue(await this.#of.summary(), this.#text);
  }

  override async rollouts(): Promise<RolloutView[]> {
    return hostileValue(await this.#of.rollouts(), this.#text);
  }

  override async rollout(): Promise<RolloutView | null> {
    return hostileValue((await this.#of.summary()).rollout, this.#text);
  }

  override async why(node: string): Promise<WhyAnswer | null> {
    return hostileValue(await this.#of.why(node), this.#text);
  }
}
