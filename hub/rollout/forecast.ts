import type { NodeName } from "../../shared/ids.ts";
import type { TriState } from "../../shared/protocol/updates.ts";
import type { Going, Rollout, Watch } from "./state.ts";

/** When a rollout will be done, if everything goes on as it does, and whether its window is long enough for that. */
export interface Forecast {
  /** By the wall clock; null when nobody can say: it is halted, or over. */
  readonly doneAtMs: number | null;
  /** By node: when it will be done. */
  readonly nodes: ReadonlyMap<NodeName, number>;
  readonly fits: TriState;
  readonly text: string;
}

export function forecast(rollout: Rollout, watch: Watch | null, durations: ReadonlyMap<NodeName, number>, now: { readonly wallMs: number; readonly monoMs: number }): Forecast {
  const done = rollout.nodes.filter(({ state }) => state === "done" || state === "skipped").length;
  const progress = `${done} of ${rollout.nodes.length} done`;
  if (rollout.phase !== "running") return { doneAtMs: null, nodes: new Map(), fits: rollout.phase === "halted" ? "unknown" : "yes", text: rollout.phase === "halted" ? `${progress}; halted: ${rollout.halt?.why ?? ""}` : progress };
  const measured = rollout.nodes.flatMap(tookMs);
  const usualMs = measured.length > 0 ? measured.reduce((sum, ms) => sum + ms, 0) / measured.length : null;
  const nodes = new Map<NodeName, number>();
  let atMs = now.wallMs;
  let watched = rollout.canarySoaked;
  for (const going of rollout.nodes) {
    if (going.state === "done" || going.state === "skipped" || going.state === "failed") continue;
    if (going.role !== "canary" && !watched) {
      const seenMs = rollout.canaryDoneAtMs !== null && watch !== null ? now.monoMs - watch.sinceMonoMs : 0;
      atMs += Math.max(0, rollout.plan.canarySoakMs - seenMs);
      watched = true;
    }
    const tookMs = usualMs ?? durations.get(going.node) ?? rollout.plan.nodeMs + rollout.plan.soakMs;
    const beganMs = going.startedAtMs === null ? 0 : Math.max(0, now.wallMs - going.startedAtMs);
    atMs += Math.max(0, tookMs - beganMs);
    nodes.set(going.node, atMs);
  }
  const { window } = rollout;
  const fits: TriState = window === null || atMs <= window.closesAtMs ? "yes" : "no";
  const minutes = Math.max(1, Math.round((atMs - now.wallMs) / 60_000));
  return { doneAtMs: atMs, nodes, fits, text: `${progress}, about ${minutes} min to go${window === null ? "" : fits === "yes" ? "; the window suffices" : "; the window closes before that, and what is left goes in the next one"}` };
}

function tookMs({ state, startedAtMs, endedAtMs }: Going): number[] {
  if (state !== "done" || startedAtMs === null || endedAtMs === null) return [];
  const took = endedAtMs - startedAtMs;
  return isPlausibleMs(took) ? [took] : [];
}

const NODE_MS_MAX = 24 * 3_600_000;

/** A duration by the wall clock may be a clock that has jumped: five years for a reboot would keep a node out of every window. */
export function isPlausibleMs(durationMs: number): boolean {
  return durationMs > 0 && durationMs <= NODE_MS_MAX;
}
