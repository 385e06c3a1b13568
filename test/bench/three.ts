import { rm } from "node:fs/promises";
import { join } from "node:path";
import { bundleDir, root } from "../../image/bundle.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";
import { plainExample } from "../lab/plain-example.ts";

/** A hub and three nodes with the example cluster, from nothing, enrolled and converged. */
export class Three {
  readonly cupboard: Cupboard;
  readonly lab: Lab;

  private constructor(lab: Lab, cupboard: Cupboard) {
    this.lab = lab;
    this.cupboard = cupboard;
  }

  /** @param labPrefix begins the lab's name. A lab of that name that exists is wiped, whoever runs it. */
  static async open(progress: (message: string) => void, closers: (() => Promise<void>)[], labPrefix = "bench"): Promise<Three> {
    const name = `${labPrefix}-three`;
    const directory = join(root, ".lab", `${name}-cupboard`);
    const lab = new Lab({ name, binds: [{ from: bundleDir, to: "/usr/lib/evenkeel" }], downOnExit: true, onProgress: progress });
    await lab.wipe();
    await rm(directory, { recursive: true, force: true });
    const example = await plainExample();
    const cupboard = new Cupboard({ directory, lab, example });
    // Before anything runs, so that it is taken down whatever fails.
    closers.push(async () => {
      await lab.wipe();
      await cupboard.stop();
      for (const path of [directory, example]) await rm(path, { recursive: true, force: true });
    });
    await lab.up();
    await lab.mirror();
    progress("starting the hub, enrolling the nodes");
    await cupboard.start();
    await cupboard.pushExample();
    for (const node of lab.nodes) await cupboard.enrol(node);
    await cupboard.waitConverged();
    return new Three(lab, cupboard);
  }
}
