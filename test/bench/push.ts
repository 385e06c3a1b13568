import { readFileSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { sleep, watchFor } from "./context.ts";
import type { Context } from "./context.ts";
import { atMost, figure, median } from "./row.ts";
import type { Row } from "./row.ts";
import type { Three } from "./three.ts";

const ARRIVAL_TIMEOUT_MS = 120_000;

export interface Arrival {
  /** `git push`, until it returns. */
  readonly pushMs: number;
  /** From the start of the push until the first and the last node have the content. */
  readonly firstMs: number;
  readonly lastMs: number;
}

/** One line more in a template that every node has as /etc/motd: signed, pushed, and watched until it is everywhere. */
export async function pushOnce({ cupboard, lab }: Three, line: string): Promise<Arrival> {
  await appendFile(join(cupboard.clone, "files", "motd.eta"), `${line}\n`);
  await cupboard.git("commit", "-q", "-a", "-m", line);
  const waiting = new Map(lab.nodes.map((node) => [node, join(lab.nodeRoot(node), "etc/motd")]));
  const arrivedMs: number[] = [];
  const startedMs = performance.now();
  const pushed = cupboard.git("push", "-q", "origin", "HEAD:main").then(() => performance.now());
  const watched = watchFor(`"${line}" on all nodes`, 5, ARRIVAL_TIMEOUT_MS, () => {
    for (const [node, path] of waiting) {
      if (!holds(path, line)) continue;
      waiting.delete(node);
      arrivedMs.push(performance.now());
    }
    return waiting.size === 0;
  });
  const [pushedMs] = await Promise.all([pushed, watched]);
  return { pushMs: pushedMs - startedMs, firstMs: Math.min(...arrivedMs) - startedMs, lastMs: Math.max(...arrivedMs) - startedMs };
}

export async function push(context: Context): Promise<Row> {
  const three = await context.three();
  const arrivals: Arrival[] = [];
  for (let n = 1; n <= context.options.pushes; n += 1) {
    context.progress(`push ${n} of ${context.options.pushes}`);
    arrivals.push(await pushOnce(three, `push ${n} of the bench`));
    await three.cupboard.waitConverged();
    await sleep(300 + Math.random() * 400);
  }
  const of = (measure: (arrival: Arrival) => number) => arrivals.map(measure);
  const last = median(of((arrival) => arrival.lastMs));
  const pushing = median(of((arrival) => arrival.pushMs));
  return {
    name: "push",
    title: "push (one file changed), until the third node has it",
    figures: [
      figure("git push itself", "ms", of((arrival) => arrival.pushMs)),
      figure("until the first node has it", "ms", of((arrival) => arrival.firstMs)),
      figure("until the third node has it", "ms", of((arrival) => arrival.lastMs)),
      figure("  against git push itself", "times", last / pushing),
      figure("  after git push has returned", "ms", of((arrival) => arrival.lastMs - arrival.pushMs)),
    ],
    requirements: [atMost("from the start of git push until the third node has it", last, 2_000, "ms")],
    notes: [`${context.options.pushes} pushes over HTTPS to the hub, which verifies and validates; median; both counted from the start of \`git push\`. Hub and three nodes share this machine, and the hub its process with the bench.`],
  };
}

function holds(path: string, line: string): boolean {
  try {
    return readFileSync(path, "utf8").includes(`${line}\n`);
  } catch {
    return false;
  }
}
