import type { Row } from "./row.ts";
import type { Solo } from "./solo.ts";
import type { Three } from "./three.ts";

export interface BenchOptions {
  /** Of each competitor, in turn. */
  readonly runs: number;
  readonly pushes: number;
  /** Of each sort: files, packages, units. */
  readonly drifts: number;
  /** How long the agent's memory is watched under pushes. */
  readonly minutes: number;
  /** How long the agent's CPU time is watched without any. */
  readonly idleMinutes: number;
}

/** What a row may use. Machines are started when the first row asks for them, and shared by the rows. */
export interface Context {
  readonly options: BenchOptions;
  readonly progress: (message: string) => void;
  /** Single nodes that follow a signed repository without a hub. */
  readonly solo: () => Promise<Solo>;
  /** A hub and three enrolled nodes that hold the example cluster. */
  readonly three: () => Promise<Three>;
}

export type Bench = (context: Context) => Promise<Row>;

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Asks every `everyMs` until the answer is true; answers when that was, in milliseconds of performance.now(). */
export async function watchFor(what: string, everyMs: number, timeoutMs: number, seen: () => boolean | Promise<boolean>): Promise<number> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!(await seen())) {
    if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs / 1_000} s for ${what}`);
    await sleep(everyMs);
  }
  return performance.now();
}
