import { rm } from "node:fs/promises";
import { join } from "node:path";
import { bundleDir, root } from "../../image/bundle.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";

const name = "bench-three";

/** A hub and three nodes with the example cluster, from nothing, enrolled and converged. */
export class Three {
  readonly cupboard: Cupboard;
  readonly lab: Lab;

  private constructor(lab: Lab, cupboard: Cupboard) {
    this.lab = lab;
    this.cupboard = cupboard;
  }

  static async open(progress: (message: string) => void, closers: (() => Promise<void>)[]): Promise<Three> {
    const directory = join(root, ".lab", `${name}-cupboard`);
    const lab = new Lab({ name, binds: [{ from: bundleDir, to: "/usr/lib/evenkeel" }], downOnExit: true, onProgress: progress });
    await lab.wipe();
    await rm(directory, { recursive: true, force: true });
    const cupboard = new Cupboard({ directory, lab });
    // Before anything runs, so that it is taken down whatever fails.
    closers.push(async () => {
      await lab.wipe();
      await cupboard.stop();
      await rm(directory, { recursive: true, force: true });
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
