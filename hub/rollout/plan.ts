import type { CommitRollout, Updates, Window } from "../../shared/config/policy.ts";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import type { UpdatesMessage } from "../../shared/protocol/updates.ts";
import { blackoutAt, windowAt } from "../../shared/window.ts";
import type { Going, Plan, Rollout } from "./state.ts";
import { toInstall } from "./step.ts";

/** How a rollout begins: who goes in which order, by which rules, and when it starts by itself. */

export interface Policy {
  readonly updates: Updates;
  readonly rollout: CommitRollout;
  readonly windows: Readonly<Record<string, Window>>;
  /** All nodes that run our agent, in the order of their names. */
  readonly nodes: readonly NodeName[];
  /** The hub's own machine, when it is one of them. */
  readonly hubNode: NodeName | null;
}

export interface NewRollout {
  readonly id: string;
  readonly kind: Rollout["kind"];
  readonly commit?: CommitId | null | undefined;
  readonly startedBy: string;
  readonly nowMs: number;
  readonly nodes?: readonly NodeName[] | undefined;
  readonly scope?: Plan["scope"] | undefined;
  readonly window: Rollout["window"];
}

export function newRollout(policy: Policy, asked: NewRollout): Rollout {
  const { updates } = policy;
  const chosen = policy.nodes.filter((node) => asked.nodes === undefined || asked.nodes.includes(node));
  const first = asked.kind === "change" && policy.rollout.canary.length > 0 ? policy.rollout.canary : updates.canary;
  const canaries = first.filter((node) => chosen.includes(node) && node !== policy.hubNode);
  const rank = (node: NodeName): number => {
    if (node === policy.hubNode) return Number.MAX_SAFE_INTEGER;
    if (canaries.includes(node)) return canaries.indexOf(node) - canaries.length;
    const listed = updates.order.indexOf(node);
    return listed === -1 ? updates.order.length : listed;
  };
  const nodes = chosen.toSorted((a, b) => rank(a) - rank(b) || a.localeCompare(b, "en", { numeric: true }));
  return {
    id: asked.id,
    kind: asked.kind,
    commit: asked.commit ?? null,
    startedBy: asked.startedBy,
    startedAtMs: asked.nowMs,
    endedAtMs: null,
    phase: "running",
    halt: null,
    nodes: nodes.map((node) => going(node, node === policy.hubNode ? "hub" : canaries.includes(node) ? "canary" : "node")),
    plan: asked.kind === "change" ? changePlan(policy) : planOf(updates, asked.scope),
    target: null,
    window: asked.window,
    canaryDoneAtMs: null,
    canarySoaked: false,
    counts: {},
  };
}

export function planOf(updates: Updates, scope: Plan["scope"] | undefined): Plan {
  return {
    scope: scope ?? updates.scope,
    exclude: updates.exclude,
    deferDays: updates.deferDays,
    reboot: updates.rebootWhen,
    drain: { timeoutMs: Math.max(1_000, Math.round(updates.drainTimeoutMinutes * 60_000)), onTimeout: updates.onDrainTimeout },
    soakMs: updates.soakMinutes * 60_000,
    canarySoakMs: updates.canarySoakMinutes * 60_000,
    nodeMs: updates.nodeMinutes * 60_000,
  };
}

/** A change is smaller than an update of the system, and shows sooner whether it does any good. */
function changePlan({ updates, rollout }: Policy): Plan {
  return { ...planOf(updates, undefined), soakMs: rollout.changeSoakMinutes * 60_000, canarySoakMs: rollout.soakMinutes * 60_000, nodeMs: rollout.nodeMinutes * 60_000 };
}

function going(node: NodeName, role: Going["role"]): Going {
  return { node, role, state: "waiting", lease: null, attempts: 0, startedAtMs: null, endedAtMs: null, timeline: [], result: null, why: null };
}

/**
 * The window that a rollout should start in now, or null. Each opening starts one at most, so that a rollout that came to
 * its end is not followed by another in the same night.
 */
export function dueWindow(policy: Policy, known: ReadonlyMap<NodeName, UpdatesMessage>, nowMs: number, lastOpeningMs: number | null): { readonly name: string; readonly opensAtMs: number; readonly closesAtMs: number } | null {
  const { updates } = policy;
  if (updates.windows.length === 0 || blackoutAt(updates.blackouts, nowMs) !== null) return null;
  const open = windowAt(policy.windows, updates.windows, nowMs);
  if (open === null || open.opensAtMs === lastOpeningMs) return null;
  const plan = planOf(updates, undefined);
  if (nowMs + plan.nodeMs > open.closesAtMs) return null;
  const isWanted = policy.nodes.some((node) => {
    const updates = known.get(node);
    return updates !== undefined && ((updates.reboot.needed === "yes" && plan.reboot !== "never") || toInstall(updates, { plan, target: null }).length > 0);
  });
  return isWanted ? open : null;
}
