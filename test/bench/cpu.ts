import { sleep } from "./context.ts";
import type { Context } from "./context.ts";
import { cpuMsOf } from "./resident.ts";
import { atMost, figure } from "./row.ts";
import type { Row } from "./row.ts";

/** What nodes at rest burn: connected to the hub, watching, with nothing to do. */
export async function cpu(context: Context): Promise<Row> {
  const { lab } = await context.three();
  const unit = "evenkeel-agent";
  const totalMs = context.options.idleMinutes * 60_000;
  await sleep(15_000); // the last converge has ended, and its garbage is collected
  context.progress(`watching idle agents for ${context.options.idleMinutes} minutes`);
  const read = () => Promise.all(lab.nodes.map((node) => cpuMsOf(lab, node, unit)));
  const startedMs = performance.now();
  const before = await read();
  await sleep(totalMs);
  const after = await read();
  const elapsedMs = performance.now() - startedMs;
  const shares = lab.nodes.map((_node, at) => (((after[at] ?? Number.NaN) - (before[at] ?? Number.NaN)) / elapsedMs) * 100);
  return {
    name: "cpu",
    title: "the idle agent's CPU",
    figures: lab.nodes.map((node, at) => figure(`${node}, of one core`, "%", shares[at] ?? Number.NaN)),
    requirements: [atMost("of one core, the busiest of the three", Math.max(...shares), 0.3, "%")],
    notes: [`${(elapsedMs / 60_000).toFixed(1)} minutes, from the cgroup of the service: the agent with everything that it starts (fetches, sweeps). At rest it looks at the repository every 5 minutes and sweeps every 15, by chance half to one and a half times as far apart.`],
  };
}
