import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import type { Total } from "./pool.ts";
import { runSeeds } from "./pool.ts";
import { simulate } from "./run.ts";
import { scenarioOf } from "./scenario.ts";
import { describeScenario, shrink } from "./shrink.ts";

/** `npm run sim`: as many seeds as one likes, and what a failing one looks like. */

const SHOWN_MAX = 5;
const FAILURES_MAX = 100;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "10000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    jobs: { type: "string", default: String(availableParallelism()) },
    json: { type: "boolean", default: false },
    "no-shrink": { type: "boolean", default: false },
    failures: { type: "string", default: String(FAILURES_MAX) },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  console.log(`npm run sim -- [options]   hub and agents in virtual time, under every fault that we could think of

  --seeds N      how many (10000)
  --from S       the first one (1)
  --seed S       one seed, with its timeline
  --jobs N       at a time (one for each core)
  --failures N   stops after so many failing seeds (${FAILURES_MAX})
  --no-shrink    prints failing seeds as they are; else the first ${SHOWN_MAX} are made as small as possible
  --json         the result as JSON on stdout

Exit code 1 if a seed fails. Ctrl-C prints what was done until then.`);
  process.exit(0);
}

function whole(name: "seeds" | "from" | "seed" | "jobs" | "failures", least: number): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= least) return value;
  console.error(`sim: --${name} takes a whole number from ${least}, not ${values[name]}`);
  process.exit(2);
}

function replay(seed: number): number {
  const scenario = scenarioOf(seed);
  const outcome = simulate(scenario, true);
  if (values.json) console.log(JSON.stringify({ scenario, failure: outcome.failure, foundBy: outcome.foundBy, steps: outcome.steps, timeline: outcome.timeline }, null, 2));
  else console.log([...describeScenario(scenario), "", ...outcome.timeline, "", outcome.failure === null ? `all is well, after ${outcome.steps} steps of the hub` : `failed (${outcome.foundBy}): ${outcome.failure}`].join("\n"));
  return outcome.failure === null ? 0 : 1;
}

async function many(): Promise<number> {
  const seeds = whole("seeds", 1);
  const jobs = whole("jobs", 1);
  const from = whole("from", 0);
  const failuresMax = whole("failures", 1);
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupt.abort());
  const startedMs = performance.now();
  const meter = new Meter(seeds, startedMs);
  const total = await runSeeds({ from, seeds, jobs, failuresMax, signal: interrupt.signal, onProgress: (now) => meter.show(now) });
  meter.end();
  const tookMs = performance.now() - startedMs;
  if (values.json) console.log(JSON.stringify({ ...total, struck: Object.fromEntries([...total.struck].sort(([a], [b]) => a.localeCompare(b))), tookMs: Math.round(tookMs), interrupted: interrupt.signal.aborted }, null, 2));
  else {
    for (const { seed, failure, foundBy } of total.failures.slice(0, SHOWN_MAX)) {
      console.log(`\nseed ${seed} fails (${foundBy}): ${failure}`);
      if (values["no-shrink"] || interrupt.signal.aborted) continue;
      const { scenario, outcome, runs } = shrink(scenarioOf(seed));
      console.log([`shrunk in ${runs} runs:`, ...describeScenario(scenario), ...scenario.faults.map((fault) => `  ${JSON.stringify(fault)}`), "", ...outcome.timeline].join("\n"));
    }
    if (total.failures.length > SHOWN_MAX) console.log(`\nand ${total.failures.slice(SHOWN_MAX).map(({ seed }) => seed).join(", ")}`);
    console.log(`${interrupt.signal.aborted ? "interrupted: " : ""}${summary(total, tookMs)}; nodes went down by order ${total.downs} times; ${total.failures.length} seeds failed${total.failures.length === 0 ? "" : ` (npm run sim -- --seed ${total.failures[0]?.seed} shows the first)`}`);
  }
  return total.failures.length > 0 ? 1 : interrupt.signal.aborted ? 130 : 0;
}

function summary({ seeds, steps }: Total, tookMs: number): string {
  const each = (count: number): string => Math.round((count / tookMs) * 1_000).toLocaleString("en");
  return `${seeds.toLocaleString("en")} seeds and ${steps.toLocaleString("en")} steps in ${(tookMs / 1_000).toFixed(1)} s: ${each(seeds)} seeds/s, ${each(steps)} steps/s`;
}

/** A bar for a person who watches, a line from time to time for a log; on stderr, so that stdout is only the result. */
class Meter {
  readonly #seeds: number;
  readonly #startedMs: number;
  readonly #isBar = process.stderr.isTTY;
  #shownMs: number;

  constructor(seeds: number, startedMs: number) {
    this.#seeds = seeds;
    this.#startedMs = startedMs;
    this.#shownMs = startedMs;
  }

  show(total: Total): void {
    const nowMs = performance.now();
    if (nowMs - this.#shownMs < (this.#isBar ? 100 : 5_000)) return;
    this.#shownMs = nowMs;
    const leftMs = ((nowMs - this.#startedMs) / total.seeds) * (this.#seeds - total.seeds);
    const text = `${summary(total, nowMs - this.#startedMs)}; ${total.failures.length} failed; ${Math.ceil(leftMs / 1_000)} s left`;
    if (!this.#isBar) console.error(text);
    else {
      const width = 24;
      const done = Math.round((total.seeds / this.#seeds) * width);
      process.stderr.write(`\r\x1b[K${"█".repeat(done)}${"░".repeat(width - done)} ${text}`.slice(0, Math.max(20, process.stderr.columns + 5)));
    }
  }

  end(): void {
    if (this.#isBar) process.stderr.write("\r\x1b[K");
  }
}

process.exitCode = values.seed === undefined ? await many() : replay(whole("seed", 0));
