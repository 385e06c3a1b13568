import { openRolling, type RollingCluster } from "../e2e/rolling-cluster.ts";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import type { Context } from "./context.ts";
import { atMost, figure, median } from "./row.ts";
import type { Row } from "./row.ts";

const SOAK_MINUTES = 0.5;

interface Bare {
  readonly drainMs: number;
  readonly rebootMs: number;
}

/** What a person with nobody to wait for would need: stop the services, reboot, and see the service answer again. */
async function bare({ lab }: RollingCluster, node: string): Promise<Bare> {
  const startedMs = performance.now();
  await lab.shell(node, "systemctl stop keepalived even-web && systemctl is-active -q keepalived even-web; true");
  const drainedMs = performance.now();
  await lab.reboot(node);
  await lab.shell(node, "for i in $(seq 600); do curl -sf -o /dev/null http://127.0.0.1:8080/ && exit 0; sleep 0.05; done; exit 1", { timeoutMs: 60_000 });
  return { drainMs: drainedMs - startedMs, rebootMs: performance.now() - drainedMs };
}

/** How long the nodes were in a phase, each. */
function inPhase(rollout: RolloutView, ...phases: string[]): number[] {
  return rollout.nodes.map(({ timeline }) =>
    timeline.reduce((sum, { phase, at }, index) => {
      const next = timeline[index + 1];
      return phases.includes(phase) && next !== undefined ? sum + Date.parse(next.at) - Date.parse(at) : sum;
    }, 0),
  );
}

/** Three nodes are rebooted one after the other, and the same by hand: how much does waiting for each other cost? */
export async function rollout(context: Context): Promise<Row> {
  context.progress("starting three nodes with an address that moves between them");
  const cluster = await openRolling("bench-rollout", { vip: true, soakMinutes: SOAK_MINUTES });
  try {
    await cluster.isQuiet();
    context.progress("by hand");
    const byHand: Bare[] = [];
    for (const node of cluster.nodes) {
      byHand.push(await bare(cluster, node));
      await cluster.isQuiet();
    }
    context.progress("as a rollout");
    const startedMs = performance.now();
    await cluster.cupboard.api("/rollouts", { kind: "reboot" });
    const done = await cluster.reaches("done", 900_000);
    const wallMs = performance.now() - startedMs;
    const soakMs = SOAK_MINUTES * 60_000 * (cluster.nodes.length + 1);
    const sumMs = byHand.reduce((sum, { drainMs, rebootMs }) => sum + drainMs + rebootMs, soakMs);
    const failed = done.requests.reduce((sum, each) => sum + each.failed, 0);
    const looked = done.requests.reduce((sum, each) => sum + each.looked, 0);
    return {
      name: "rollout",
      title: "three nodes rebooted one after the other, drained and watched",
      figures: [
        figure("the whole rollout", "ms", wallMs),
        figure("by hand: drains and reboots, and the same soaks", "ms", sumMs),
        figure("  the rollout against that", "times", wallMs / sumMs),
        figure("  what it adds for each node", "ms", (wallMs - sumMs) / cluster.nodes.length),
        figure("by hand: a drain", "ms", byHand.map(({ drainMs }) => drainMs)),
        figure("  the agent's drain, until it is confirmed", "ms", inPhase(done, "draining", "drained")),
        figure("by hand: a reboot, until the service answers", "ms", byHand.map(({ rebootMs }) => rebootMs)),
        figure("  the agent's reboot, until it is well", "ms", inPhase(done, "working", "rebooting", "checking")),
        figure("a soak as the hub keeps it", "ms", inPhase(done, "soaking")),
      ],
      requirements: [atMost("the rollout against drain, reboot and soak by hand", wallMs / sumMs, 1.15, "times"), { what: "requests failed on the moving address", required: "0", reached: `${failed} of ${looked}`, met: failed === 0 }],
      notes: [`Soaks of ${SOAK_MINUTES * 60} s, ${cluster.nodes.length} nodes and the canary once more. Longer soaks, as they are usual, bring the ratio nearer to 1: what a rollout adds is ${(median([wallMs - sumMs]) / cluster.nodes.length / 1_000).toFixed(1)} s a node.`],
    };
  } finally {
    await cluster.close();
  }
}
