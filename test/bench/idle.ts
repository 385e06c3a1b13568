import type { Context } from "./context.ts";
import { atLeast, atMost, figure, median } from "./row.ts";
import type { Row } from "./row.ts";
import { installRivals, optionsOf } from "./rivals/install.ts";
import { soloNodes } from "./solo.ts";
import type { Solo } from "./solo.ts";
import { makeState, usual } from "./state.ts";
import type { Installed } from "./rivals/install.ts";
import type { State } from "./state.ts";

const node = soloNodes.idle;

/** One node that all competitors agree about. */
export interface Ground extends Installed {
  readonly solo: Solo;
  readonly state: State;
}

const grounds = new WeakMap<Solo, Ground>();

/** Declares the usual state, installs the rivals, and makes sure that everybody finds nothing to do. */
export async function prepareGround({ solo: open, progress }: Context): Promise<Ground> {
  const solo = await open();
  const known = grounds.get(solo);
  if (known !== undefined) return known;
  await solo.start(node);
  // Chosen before the rivals are installed: what the base system has.
  const state = makeState(usual, await solo.installed(node));
  progress("the agent makes the node what is declared");
  await solo.declare(node, state);
  const { ready, missing } = await installRivals(solo, node, state, progress);
  const { report } = await solo.apply(node);
  if (report.changes.length > 0) throw new Error(`the agent finds something to do after the others: ${JSON.stringify(report.changes).slice(0, 2_000)}`);
  const ground = { solo, state, ready, missing };
  grounds.set(solo, ground);
  return ground;
}

/** A converge that has nothing to do, against what Debian has to offer, in turn. */
export async function idle(context: Context): Promise<Row> {
  const { solo, ready, missing } = await prepareGround(context);
  const inAgent: number[] = [];
  const command: number[] = [];
  const processes: number[] = [];
  const theirs = new Map(ready.map((rival) => [rival.name, [] as number[]]));
  for (let run = 1; run <= context.options.runs; run += 1) {
    context.progress(`nothing to do, run ${run} of ${context.options.runs}`);
    const { report, wallMs } = await solo.apply(node);
    if (report.outcome !== "converged" || report.changes.length > 0) throw new Error(`the agent found something to do: ${JSON.stringify(report).slice(0, 2_000)}`);
    inAgent.push(report.tookMs);
    command.push(wallMs);
    processes.push(report.processes);
    for (const rival of ready) {
      const { wallMs: took, outcome } = await solo.time(node, rival.apply, optionsOf(rival));
      if (outcome.code !== 0) throw new Error(`${rival.name} ended with ${outcome.code}: ${outcome.stderr.slice(-1_000)}`);
      theirs.get(rival.name)?.push(took);
    }
  }
  const ours = median(inAgent);
  const others = [...theirs].map(([name, samples]) => figure(name, "ms", samples));
  const fastest = others.toSorted((a, b) => a.value - b.value)[0];
  return {
    name: "idle",
    title: "nothing to do: 50 packages, 50 files, 20 units",
    figures: [
      figure("resident agent, a converge", "ms", inAgent),
      figure("  processes started for it", "processes", processes),
      figure("evenkeel-agent apply (new process, fetch, converge)", "ms", command),
      ...others.flatMap((other) => [other, figure("  against the resident agent", "times", other.value / ours), figure("  against evenkeel-agent apply", "times", other.value / median(command))]),
    ],
    requirements: [
      ...(fastest === undefined ? [] : [atLeast(`faster than the fastest of them (${fastest.what})`, fastest.value / ours, 40, "times")]),
      atMost("processes started", Math.max(...processes), 3, "processes"),
    ],
    notes: [`${context.options.runs} runs of each, in turn, median, on the same node in the same state; all of them found nothing to do before.`, ...missing],
  };
}
