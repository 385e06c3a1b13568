import { sleep } from "./context.ts";
import type { Context } from "./context.ts";
import { cpuMsOf } from "./resident.ts";
import { atMost, figure, quantile } from "./row.ts";
import type { Row } from "./row.ts";

const unit = "evenkeel-agent";
const SLICE_MS = 10_000;

/** What nodes at rest burn: connected to the hub, watching, with nothing to do. */
export async function cpu(context: Context): Promise<Row> {
  const { lab } = await context.three();
  await sleep(20_000); // the last converge has ended, and its garbage is collected
  context.progress(`watching idle agents for ${context.options.idleMinutes} minutes`);
  const read = async () => ({ atMs: performance.now(), usedMs: await Promise.all(lab.nodes.map((node) => cpuMsOf(lab, node, unit))) });
  const readings = [await read()];
  const untilMs = performance.now() + context.options.idleMinutes * 60_000;
  while (performance.now() < untilMs) {
    await sleep(SLICE_MS);
    readings.push(await read());
  }
  type Reading = (typeof readings)[number];
  const share = (from: Reading | undefined, to: Reading | undefined, at: number) => (((to?.usedMs[at] ?? Number.NaN) - (from?.usedMs[at] ?? Number.NaN)) / ((to?.atMs ?? Number.NaN) - (from?.atMs ?? Number.NaN))) * 100;
  const shares = lab.nodes.map((_node, at) => share(readings[0], readings.at(-1), at));
  const slices = lab.nodes.flatMap((_node, at) => readings.slice(1).map((reading, index) => share(readings[index], reading, at)));
  return {
    name: "cpu",
    title: "the idle agent's CPU",
    figures: [
      ...lab.nodes.map((node, at) => figure(`${node}, of one core`, "%", shares[at] ?? Number.NaN)),
      figure(`  in the usual ${SLICE_MS / 1_000} seconds, without a look at the repository or a sweep`, "%", quantile(slices, 0.5)),
      figure(`  in the busiest ${SLICE_MS / 1_000} seconds`, "%", Math.max(...slices)),
    ],
    requirements: [atMost("of one core, the busiest of the three", Math.max(...shares), 0.3, "%")],
    notes: [
      `${context.options.idleMinutes} minutes, from the cgroup of the service: the agent with everything that it starts (fetches, sweeps). At rest it looks at the repository every 5 minutes and sweeps every 15, by chance half to one and a half times as far apart.`,
    ],
  };
}
