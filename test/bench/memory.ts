import { sleep } from "./context.ts";
import type { Context } from "./context.ts";
import { memoryOf, must } from "./resident.ts";
import { atMost, figure, median } from "./row.ts";
import type { Row } from "./row.ts";

const UNIT = "evenkeel-agent";
const PUSH_EVERY_MS = 4_000;
/** What V8 collects after five quiet seconds is not what the agent needs. */
const SETTLE_MS = 12_000;

/** What the agent takes as it ships, linked to a hub, after a time of pushes; beside bare Node on the same node. */
export async function memory(context: Context): Promise<Row> {
  const { lab, cupboard } = await context.three();
  const { minutes } = context.options;
  await lab.shell("n1", `systemctl restart ${UNIT}`);
  await cupboard.waitConverged();
  const startedMs = performance.now();
  const seen: number[] = [];
  let pushes = 0;
  while (performance.now() - startedMs < minutes * 60_000) {
    pushes += 1;
    await cupboard.push({ "files/index.html.eta": `memory ${pushes}\n` });
    await sleep(PUSH_EVERY_MS);
    seen.push((await memoryOf(lab, "n1", UNIT)).rssMiB);
    context.progress(`after ${pushes} pushes: ${seen.at(-1)?.toFixed(1)} MiB`);
  }
  await cupboard.waitConverged();
  await sleep(SETTLE_MS);
  const end = await memoryOf(lab, "n1", UNIT);
  await must(lab, "n1", "systemd-run -q --unit=bench-bare /usr/lib/evenkeel/node -e 'setInterval(() => {}, 1e9)'");
  await sleep(3_000);
  const bare = await memoryOf(lab, "n1", "bench-bare");
  await must(lab, "n1", "systemctl stop bench-bare");
  const third = Math.max(1, Math.floor(seen.length / 3));
  const growth = median(seen.slice(-third)) / median(seen.slice(0, third));
  return {
    name: "memory",
    title: "the resident agent's memory",
    figures: [
      figure("RSS at rest, linked to the hub", "MiB", end.rssMiB),
      figure("PSS (three nodes share Node's file on this host)", "MiB", end.pssMiB),
      figure("RSS while pushes come", "MiB", seen),
      figure("bare Node, the same binary", "MiB", bare.rssMiB),
      figure("the agent, of bare Node", "times", end.rssMiB / bare.rssMiB),
      figure("growth: last third against first third", "times", growth),
    ],
    // 85 MB; the kernel counts in KiB.
    requirements: [atMost("RSS at rest", end.rssMiB, 85e6 / 2 ** 20, "MiB"), atMost("growth", growth, 1.03, "times")],
    notes: [`${minutes} minutes with a push every few seconds, ${pushes} in all.`],
  };
}
