import { rm } from "node:fs/promises";
import { join } from "node:path";
import { bundleAgent, root } from "../../image/bundle.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";

/** Real nodes, a real hub and the owner's clone, fresh, enrolled and converged; `close` takes all of it down. */
export interface RealCupboard {
  readonly lab: Lab;
  readonly cupboard: Cupboard;
  close(): Promise<void>;
}

export async function openCupboard(name: string, nodes: readonly string[], example: string): Promise<RealCupboard> {
  await bundleAgent();
  const directory = join(root, ".lab", `${name}-cupboard`);
  const lab = new Lab({ name, nodes, binds: [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }], downOnExit: true });
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  const cupboard = new Cupboard({ directory, lab, example });
  await cupboard.start();
  await cupboard.pushExample();
  for (const node of nodes) await cupboard.enrol(node);
  await cupboard.waitConverged();
  return {
    lab,
    cupboard,
    async close() {
      await lab.wipe();
      await cupboard.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Asks again until the answer is right, three times as long as it takes on a slow day; tests never sleep for a time. */
export async function until<T>(what: string, ask: () => Promise<T>, right: (answer: T) => boolean, timeoutMs = 60_000): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (right(answer)) return answer;
    if (performance.now() > deadlineMs) throw new Error(`waited for: ${what}\nlast seen: ${JSON.stringify(answer, null, 2).slice(0, 4_000)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
