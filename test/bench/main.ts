import { readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundleAgent } from "../../image/bundle.ts";
import { LabError } from "../lab/lab.ts";
import { withLock } from "../lab/lock.ts";
import { coordinator } from "./coordinator.ts";
import { cpu } from "./cpu.ts";
import { sleep } from "./context.ts";
import type { Bench, BenchOptions, Context } from "./context.ts";
import { drift } from "./drift.ts";
import { idle } from "./idle.ts";
import { memory } from "./memory.ts";
import { observe } from "./observe.ts";
import { coldPlan } from "./plan.ts";
import { preview } from "./preview.ts";
import { printRows } from "./print.ts";
import { push } from "./push.ts";
import { rollout } from "./rollout.ts";
import { mergeResults } from "./results.ts";
import type { Row } from "./row.ts";
import { scaling } from "./scaling.ts";
import { Solo } from "./solo.ts";
import { Three } from "./three.ts";

/** In this order: rows that share a machine stand together. */
const benches: Readonly<Record<string, Bench>> = { idle, plan: coldPlan, scaling, observe, drift, push, preview, memory, cpu, rollout, coordinator };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "5" },
    pushes: { type: "string", default: "20" },
    drifts: { type: "string", default: "20" },
    minutes: { type: "string", default: "3" },
    "idle-minutes": { type: "string", default: "2" },
    lab: { type: "string", default: "bench" },
    json: { type: "boolean", default: false },
    "no-write": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  console.log(`npm run bench -- [rows] [options]   measures the agent on real nodes, beside other products

rows: ${Object.keys(benches).join(" ")} (default: all of them)

  --runs N           of each competitor, in turn (5)
  --pushes N         (20)
  --drifts N         of each sort (20)
  --minutes N        how long memory is watched under pushes (3; the figure to publish takes 60)
  --idle-minutes N   how long CPU time is watched (2; the figure to publish takes 10)
  --lab NAME         begins the names of the labs, which are made anew: NAME-solo, NAME-three (bench)
  --json             the rows as JSON on stdout
  --no-write         leave test/bench/RESULTS.md as it is; else the rows that were measured are replaced in it

Nothing is asserted: a requirement that is not met is printed as such. Ctrl-C takes everything down.`);
  process.exit(0);
}

if (!/^[a-z][a-z0-9-]{0,20}$/.test(values.lab)) fail("--lab takes small letters, digits and -, at most 21 of them");
const unknown = positionals.filter((name) => !Object.hasOwn(benches, name));
if (unknown.length > 0) fail(`there is no row ${unknown.join(", ")}: there are ${Object.keys(benches).join(", ")}`);

const startedMs = performance.now();
const say = (message: string) => console.error(`[${((performance.now() - startedMs) / 1_000).toFixed(0).padStart(4)} s] ${message}`);
const closers: (() => Promise<void>)[] = [];
let closing: Promise<void> | null = null;
let measuring: Promise<unknown> = Promise.resolve();

/** For rows: it ends them when everything is being taken down, so that they do not go on with machines that are gone. */
function progress(message: string): void {
  if (closing !== null) throw new Error("interrupted");
  say(message);
}

for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  process.on(signal, () => void close().then(() => process.exit(code)));
}

async function main(): Promise<void> {
  const options: BenchOptions = {
    runs: positive("runs"),
    pushes: positive("pushes"),
    drifts: positive("drifts"),
    minutes: positive("minutes"),
    idleMinutes: positive("idle-minutes"),
  };
  progress("bundling the agent as it ships");
  await bundleAgent();
  const context: Context = { options, progress, solo: opened(openSolo), three: opened(openThree) };
  const rows: Row[] = [];
  for (const [name, bench] of Object.entries(benches)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    progress(`row ${name}`);
    const row = bench(context).catch((error: unknown) => broken(name, error));
    measuring = row;
    rows.push(await row);
    // What Ctrl-C has cut off says nothing about the product.
    if (closing !== null) return;
  }
  const machine = machineLine();
  const results = join(import.meta.dirname, "RESULTS.md");
  if (!values["no-write"]) await writeFile(results, mergeResults(await readFile(results, "utf8").catch(() => ""), rows, machine));
  console.log(values.json ? JSON.stringify({ machine, options, rows }, null, 2) : `${machine}\n\n${printRows(rows)}`);
}

/** A row that could not be measured is a row that says so; the others are measured all the same. */
function broken(name: string, error: unknown): Row {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (closing === null) say(`${name}: ${message}`);
  const requirement = { what: "could be measured", required: "yes", reached: "no", met: false };
  return { name, title: name, figures: [], requirements: [requirement], notes: [message.slice(0, 2_000)] };
}

/** Opens when first asked, and answers the same from then on. */
function opened<T>(open: () => Promise<T>): () => Promise<T> {
  let once: Promise<T> | null = null;
  return () => (once ??= open());
}

function openSolo(): Promise<Solo> {
  progress("starting the lab of single nodes");
  return Solo.open(say, closers, values.lab);
}

function openThree(): Promise<Three> {
  progress("starting the hub and three nodes");
  return Three.open(say, closers, values.lab);
}

function close(): Promise<void> {
  closing ??= (async () => {
    if (closers.length > 0) say("taking everything down");
    const again: typeof closers = [];
    for (const closer of closers.toReversed()) await closer().catch(() => again.push(closer));
    // What a row still wrote while its machines went away: once it has noticed, nothing stands in the way.
    if (again.length > 0) await Promise.race([measuring, sleep(30_000)]);
    for (const closer of again) await closer().catch((error: unknown) => console.error(error));
  })();
  return closing;
}

function positive(name: "runs" | "pushes" | "drifts" | "minutes" | "idle-minutes"): number {
  const value = Number(values[name]);
  return value > 0 ? value : fail(`--${name} takes a number above 0`);
}

function machineLine(): string {
  const model = cpus()[0]?.model ?? "unknown processor";
  const os = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux";
  return `${new Date().toISOString().slice(0, 10)}, ${cpus().length} cores of ${model}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, ${os}, Node ${process.versions.node}.`;
}

function fail(message: string): never {
  console.error(`bench: ${message}`);
  process.exit(1);
}

let code = 0;
try {
  // Two at a time would take each other's machines away, and measure each other.
  await withLock("/run/lock/evenkeel-bench.lock", 1_000, main);
} catch (error) {
  console.error(error instanceof LabError && error.reason === "timeout" && closers.length === 0 ? "bench: another bench runs on this machine: wait until it has ended" : error);
  code = 1;
} finally {
  await close();
}
process.exit(code);
