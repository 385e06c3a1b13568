import { parentPort } from "node:worker_threads";
import { simulate } from "./run.ts";
import type { FoundBy } from "./run.ts";
import { scenarioOf } from "./scenario.ts";

/** Runs the seeds that it is told, one batch after the other. */

export interface Batch {
  readonly from: number;
  readonly count: number;
}

export interface BatchResult extends Batch {
  readonly steps: number;
  readonly downs: number;
  readonly struck: ReadonlyMap<string, number>;
  readonly failures: readonly Failure[];
}

export interface Failure {
  readonly seed: number;
  readonly failure: string;
  readonly foundBy: FoundBy;
}

export function runBatch({ from, count }: Batch): BatchResult {
  const struck = new Map<string, number>();
  const failures: Failure[] = [];
  let steps = 0;
  let downs = 0;
  for (let seed = from; seed < from + count; seed++) {
    const outcome = simulate(scenarioOf(seed));
    steps += outcome.steps;
    downs += outcome.downs;
    for (const [fault, times] of outcome.struck) struck.set(fault, (struck.get(fault) ?? 0) + times);
    if (outcome.failure !== null && outcome.foundBy !== null) failures.push({ seed, failure: outcome.failure, foundBy: outcome.foundBy });
  }
  return { from, count, steps, downs, struck, failures };
}

parentPort?.on("message", (batch: Batch) => parentPort?.postMessage(runBatch(batch), []));
