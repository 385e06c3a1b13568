import { isoTime } from "../../shared/clock.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { CheckState } from "../../shared/protocol/checks.ts";
import type { DenialView, GroupView, HoldView, LeaseView, NodeUpdates, RequestView, RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";
import type { UpdatesMessage } from "../../shared/protocol/updates.ts";
import { Budget } from "../coordinator/budget.ts";
import type { Denial, Lease, Now, Patience, Request, State } from "../coordinator/state.ts";
import type { Campaigns } from "./campaigns.ts";
import { forecast } from "./forecast.ts";
import type { Going, Rollout, Surroundings, Watch } from "./state.ts";
import { untried } from "./step.ts";

/** How the coordinator and the rollouts are shown. Pure: state in, the shapes of the API out. */

export interface Scene {
  readonly state: State;
  readonly campaigns: Campaigns;
  readonly watch: Watch | null;
  readonly now: Now;
  readonly patience: Patience;
  readonly updates: ReadonlyMap<NodeName, UpdatesMessage>;
  readonly sinceTurn: Surroundings["sinceTurn"];
  readonly counts: (rollout: Rollout) => RolloutView["requests"];
}

export function denialView({ code, text, sinceMs, cure }: Denial): DenialView {
  return { code, text, cure, since: sinceMs === null ? null : isoTime(sinceMs) };
}

export function groupViews(budget: Budget): GroupView[] {
  return budget.groups.map(({ name, size, members, allowed, settling, down }) => ({
    name,
    size,
    members: [...members],
    allowed,
    settling,
    down: [...down].map(([node, { code, text, sinceMs }]) => ({ node, code, text, since: sinceMs === null ? null : isoTime(sinceMs) })),
  }));
}

export function leaseView(lease: Lease): LeaseView {
  const { id, node, holder, by, rollout, phase, progress, why } = lease;
  return {
    id,
    node,
    holder,
    work: lease.work.do,
    by,
    rollout,
    phase,
    progress,
    why,
    grantedAt: isoTime(lease.grantedAtMs),
    phaseSince: isoTime(lease.phaseSinceMs),
    stuck: lease.stuck === null ? null : { since: isoTime(lease.stuck.sinceMs), why: lease.stuck.why },
  };
}

export function requestView(request: Request, budget: Budget): RequestView {
  const { id, node, by, rollout } = request;
  return { id, node, by, rollout, work: request.work.do, requestedAt: isoTime(request.requestedAtMs), denials: budget.denials(request).map(denialView) };
}

export function holdViews(state: State): HoldView[] {
  return [...state.durable.holds].map(([what, { by, why, sinceMs, untilMs }]) => ({ what, by, why, since: isoTime(sinceMs), until: untilMs === null ? null : isoTime(untilMs) }));
}

export function updatesView(node: NodeName, known: UpdatesMessage | undefined): NodeUpdates {
  if (known === undefined) return { node, lookedAt: null, error: null, pending: 0, security: 0, held: 0, reboot: "unknown", rebootWhy: [], restarts: [], conflicts: [] };
  return {
    node,
    lookedAt: known.lookedAt,
    error: known.error,
    pending: known.pending.length + known.omitted,
    security: known.pending.filter(({ security }) => security).length,
    held: known.held.length,
    reboot: known.reboot.needed,
    rebootWhy: known.reboot.why,
    restarts: known.restarts.services,
    conflicts: known.conflicts.map(({ message }) => message),
  };
}

export function rolloutView(rollout: Rollout, scene: Scene, budget: Budget): RolloutView {
  // What was measured for an update says nothing of a change.
  const outlook = forecast(rollout, scene.watch?.rollout === rollout.id ? scene.watch : null, rollout.kind === "change" ? new Map() : scene.campaigns.durations, scene.now);
  const watchedMs = scene.watch?.rollout === rollout.id ? scene.now.monoMs - scene.watch.sinceMonoMs : 0;
  return {
    id: rollout.id,
    kind: rollout.kind,
    ...(rollout.commit != null && { commit: rollout.commit }),
    startedBy: rollout.startedBy,
    startedAt: isoTime(rollout.startedAtMs),
    endedAt: rollout.endedAtMs === null ? null : isoTime(rollout.endedAtMs),
    phase: rollout.phase,
    halt: rollout.halt === null ? null : { at: isoTime(rollout.halt.atMs), node: rollout.halt.node, why: rollout.halt.why, cure: rollout.halt.cure },
    nodes: rollout.nodes.map((going) => goingView(going, rollout, scene, budget, outlook.nodes.get(going.node) ?? null)),
    target: rollout.target === null ? null : [...rollout.target],
    changed: changesOf(rollout),
    window: rollout.window === null ? null : { name: rollout.window.name, closesAt: isoTime(rollout.window.closesAtMs) },
    canarySoakUntil: rollout.canaryDoneAtMs === null || rollout.canarySoaked || rollout.phase !== "running" ? null : isoTime(scene.now.wallMs + Math.max(0, rollout.plan.canarySoakMs - watchedMs)),
    forecast: { doneAt: outlook.doneAtMs === null ? null : isoTime(outlook.doneAtMs), fits: outlook.fits, text: outlook.text },
    requests: scene.counts(rollout),
  };
}

function goingView(going: Going, rollout: Rollout, scene: Scene, budget: Budget, expectedAtMs: number | null): RolloutNode {
  const lease = going.lease === null ? undefined : scene.state.durable.leases.get(going.lease);
  return {
    node: going.node,
    role: going.role,
    state: stateOf(going, lease),
    denials: rolloutDenials(going, rollout, scene, budget).map(denialView),
    lease: going.lease,
    startedAt: going.startedAtMs === null ? null : isoTime(going.startedAtMs),
    endedAt: going.endedAtMs === null ? null : isoTime(going.endedAtMs),
    timeline: going.timeline.map(({ phase, atMs }) => ({ phase, at: isoTime(atMs) })),
    progress: lease?.stuck?.why ?? lease?.progress ?? going.why ?? "",
    result: going.result,
    expectedAt: expectedAtMs === null ? null : isoTime(expectedAtMs),
  };
}

function stateOf(going: Going, lease: Lease | undefined): RolloutNode["state"] {
  if (going.state !== "leased") return going.state;
  switch (lease?.phase) {
    case "draining":
    case "aborting":
      return "draining";
    case "drained":
      return "drained";
    case "checking":
      return "checking";
    case "soaking":
      return "soaking";
    default:
      return "working";
  }
}

/** Why it is not this node's turn, or why it cannot go although it is. The first reason is the one that counts now. */
export function rolloutDenials(going: Going, rollout: Rollout, scene: Scene, budget: Budget): readonly Denial[] {
  if (going.state !== "waiting" && going.state !== "asked") return leftAlone(going, rollout, scene);
  const denials: Denial[] = [];
  const { halt } = rollout;
  if (rollout.phase === "halted" && halt !== null) denials.push({ code: "halted", text: `the rollout is halted: ${halt.why}`, sinceMs: halt.atMs, cure: halt.cure });
  const at = rollout.nodes.find(({ state }) => state === "leased");
  if (at !== undefined) denials.push({ code: "order", text: `${at.node} is at it (${at.timeline.at(-1)?.phase ?? "draining"})`, sinceMs: at.startedAtMs, cure: "it goes on by itself when that one is back, well, and watched" });
  else {
    const silent = rollout.nodes.find(({ node, state, result }) => state === "done" && result?.rebooted === true && scene.sinceTurn.get(node) === "silent");
    const before = rollout.nodes.slice(0, rollout.nodes.indexOf(going)).find(({ state }) => state === "waiting" || state === "asked");
    if (before !== undefined) denials.push({ code: "order", text: `${before.node} goes first`, sinceMs: null, cure: "the order stands under updates.order in cluster.yaml" });
    else if (silent !== undefined) denials.push({ code: "order", text: `${silent.node} has rebooted, and has not said yet whether that was enough`, sinceMs: silent.endedAtMs, cure: "it goes on by itself, after two minutes at the latest" });
    else if (going.role !== "canary" && rollout.canaryDoneAtMs !== null && !rollout.canarySoaked) denials.push({ code: "canary", text: "the canary is being watched", sinceMs: rollout.canaryDoneAtMs, cure: `it goes on by itself after ${rollout.kind === "change" ? "rollout.soakMinutes" : "updates.canarySoakMinutes"}` });
  }
  if (going.why !== null) denials.push({ code: "called-off", text: `it was called off before: ${going.why}`, sinceMs: null, cure: "it is asked for again by itself" });
  return [...denials, ...budget.denials({ node: going.node, despiteChecks: false, ...(rollout.kind === "change" && { work: { do: "converge" } }) }).filter(({ code }) => code !== "leased" || at === undefined)];
}

function leftAlone(going: Going, rollout: Rollout, scene: Scene): readonly Denial[] {
  const known = scene.updates.get(going.node);
  if (known === undefined || going.role === "canary" || going.state !== "done") return [];
  const names = untried(known, rollout);
  if (names.length === 0) return [];
  return [{ code: "untried", text: `left alone, because no canary has tried them: ${names.slice(0, 10).join(", ")}${names.length > 10 ? " …" : ""}`, sinceMs: null, cure: `make ${going.node} a canary as well, under updates.canary in cluster.yaml` }];
}

function changesOf(rollout: Rollout): RolloutView["changed"] {
  const changes = new Map<string, RolloutView["changed"][number]>();
  for (const { node, result } of rollout.nodes) {
    for (const change of result?.update?.changed ?? []) {
      const key = `${change.name} ${change.from} ${change.to}`;
      const known = changes.get(key);
      if (known === undefined) changes.set(key, { ...change, nodes: [node] });
      else known.nodes.push(node);
    }
  }
  return [...changes.values()];
}

/** Service checks that gate and are not well. */
export function failingGates(checks: readonly CheckState[]): readonly string[] {
  return checks.filter(({ gates, state }) => gates && state !== "ok").map(({ name }) => name);
}
