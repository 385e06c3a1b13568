import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import type { Batch, BatchResult, Failure } from "./worker.ts";

/** Many seeds, in parallel. */

export interface Total {
  seeds: number;
  steps: number;
  downs: number;
  readonly struck: Map<string, number>;
  readonly failures: Failure[];
}

export interface PoolOptions {
  readonly from: number;
  readonly seeds: number;
  readonly jobs: number;
  /** After so many failing seeds no more are begun. */
  readonly failuresMax: number;
  /** Ends early, with what was done until then. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (total: Total) => void;
}

/** Small enough that progress is seen to move, large enough that talking costs nothing. */
const BATCH_SEEDS = 20;

export async function runSeeds({ from, seeds, jobs, failuresMax, signal, onProgress }: PoolOptions): Promise<Total> {
  const total: Total = { seeds: 0, steps: 0, downs: 0, struck: new Map(), failures: [] };
  let next = from;
  const work = async (): Promise<void> => {
    const worker = new Worker(join(import.meta.dirname, "worker.ts"), { resourceLimits: { maxYoungGenerationSizeMb: 64 } });
    const stop = (): void => void worker.terminate();
    signal?.addEventListener("abort", stop, { once: true });
    const ended = once(worker, "exit");
    try {
      while (next < from + seeds && total.failures.length < failuresMax) {
        const batch: Batch = { from: next, count: Math.min(BATCH_SEEDS, from + seeds - next) };
        next += batch.count;
        const answered = once(worker, "message") as Promise<[BatchResult]>;
        worker.postMessage(batch, []);
        const [result] = await Promise.race([answered, ended.then(() => [null] as const)]);
        // Terminated: what it was at is lost, and nothing more is begun.
        if (result === null) return;
        add(total, result);
        onProgress?.(total);
      }
    } finally {
      signal?.removeEventListener("abort", stop);
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  total.failures.sort((a, b) => a.seed - b.seed);
  return total;
}

function add(total: Total, result: BatchResult): void {
  total.seeds += result.count;
  total.steps += result.steps;
  total.downs += result.downs;
  for (const [fault, times] of result.struck) total.struck.set(fault, (total.struck.get(fault) ?? 0) + times);
  total.failures.push(...result.failures);
}
