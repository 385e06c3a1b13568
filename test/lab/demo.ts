import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Listr } from "listr2";
import { bundleAgent, root } from "../../image/bundle.ts";
import { Cupboard } from "./cupboard.ts";
import { Lab } from "./lab.ts";
import { enrolAll, pushWholeExample, stockExample } from "./whole-example.ts";

/**
 * `npm start`: a hub and three real Debian nodes on this machine, enrolled with the commands that a person would type, and
 * the example cluster pushed to them. Ctrl-C takes all of it down; the next start goes on where it was.
 */

const { values } = parseArgs({
  options: {
    fresh: { type: "boolean", default: false },
    "page-port": { type: "string", default: "7480" },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  console.log(`npm start -- [options]   a hub and three real nodes on this machine

  --fresh            forget what an earlier start has kept
  --page-port PORT   where the status page listens on 127.0.0.1 (default 7480)

Ctrl-C takes everything down and keeps its state.`);
  process.exit(0);
}

const directory = join(root, ".demo");
let lab: Lab | null = null;
let cupboard: Cupboard | null = null;
let leaving = false;

async function leave(code: number): Promise<void> {
  if (leaving) return;
  leaving = true;
  console.log("\ntaking the hub and the nodes down …");
  // The nodes first: the hub would only report them as lost.
  await lab?.down().catch((error: unknown) => console.error(error));
  await cupboard?.stop().catch((error: unknown) => console.error(error));
  console.log("everything is down; npm start goes on from here, npm start -- --fresh forgets");
  process.exit(code);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void leave(0));

async function main(): Promise<void> {
  const startedMs = performance.now();
  await bundleAgent();
  const progress = { report: (_message: string) => {} };
  lab = new Lab({
    name: "demo",
    flavour: "cluster",
    binds: [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }],
    downOnExit: true,
    onProgress: (message) => progress.report(message),
  });
  const nodes = lab;
  if (values.fresh) {
    await nodes.wipe();
    await rm(directory, { recursive: true, force: true });
  }
  const first = !existsSync(join(directory, "hub"));

  const tasks = new Listr(
    [
      {
        title: first ? "three real Debian nodes (the base system is built once, about a minute)" : "three real Debian nodes",
        task: async (_context, task) => {
          progress.report = (message) => (task.output = message);
          await startNodes(nodes, progress);
        },
      },
      {
        title: "the hub",
        task: async () => {
          cupboard = new Cupboard({ directory, lab: nodes, pagePort: Number(values["page-port"]), demo: true });
          await cupboard.start();
        },
      },
      {
        title: "the example cluster: signed and pushed",
        task: async (_context, task) => {
          task.output = await pushWholeExample(nodes, present(cupboard));
        },
      },
      {
        title: "the nodes: enrolled, each with a one-time token; their keys are written into the repository",
        task: async (_context, task) => {
          await enrolAll(nodes, present(cupboard), (message) => (task.output = message));
        },
      },
      {
        title: "the nodes become what the repository says",
        task: async (_context, task) => {
          await present(cupboard).waitConverged((message) => {
            if (task.output !== message) task.output = message;
          });
          task.output = "all have converged, and look how their neighbours are";
          await present(cupboard).waitCalm();
        },
      },
    ],
    { rendererOptions: { showTimer: true } as object },
  );
  await tasks.run();
  const seconds = ((performance.now() - startedMs) / 1_000).toFixed(0);
  console.log(present(cupboard).welcome(seconds));
}

async function startNodes(nodes: Lab, progress: { report: (message: string) => void }): Promise<void> {
  await nodes.up();
  progress.report("fetching the packages that the example installs");
  await stockExample(nodes);
}

function present<T>(value: T | null): T {
  if (value === null) throw new Error("an earlier step did not end");
  return value;
}

await main().catch(async (error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  await leave(1);
});
