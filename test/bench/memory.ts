import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bundleDir } from "../../image/bundle.ts";
import type { Lab } from "../lab/lab.ts";
import { sleep } from "./context.ts";
import type { Context } from "./context.ts";
import { bundleParts, partsDir } from "./parts.ts";
import { pushOnce } from "./push.ts";
import { memoryOf, must } from "./resident.ts";
import type { Memory } from "./resident.ts";
import { atMost, figure, median } from "./row.ts";
import type { Figure, Row } from "./row.ts";
import type { Three } from "./three.ts";

const unit = "evenkeel-agent";
/** Another program is measured where the agent was, with the agent stopped. */
const spare = "n3";
/** Idle is: the last converge has ended, and what it left has been collected (after 5 s). */
const IDLE_AFTER_MS = 10_000;
/** Memory that grows under pushes is a leak; pages that come and go are not. The first third of an hour's samples against the last. */
const GROWTH_MAX_MIB = 2;

/** The resident agent's memory at rest, again and again between pushes; beside a bare Node, its own parts, and puppet's agent. */
export async function memory(context: Context): Promise<Row> {
  const three = await context.three();
  const { lab } = three;
  const samples: Memory[][] = [];
  const look = async () => samples.push(await Promise.all(lab.nodes.map((node) => memoryOf(lab, node, unit))));
  await sleep(IDLE_AFTER_MS);
  await look();
  const untilMs = performance.now() + context.options.minutes * 60_000;
  let pushes = 0;
  do {
    pushes += 1;
    await pushOnce(three, `memory, push ${pushes}`);
    await sleep(IDLE_AFTER_MS);
    await look();
    context.progress(`memory, push ${pushes}: ${(samples.at(-1) ?? []).map(({ rssMiB }) => rssMiB.toFixed(1)).join(", ")} MiB RSS`);
  } while (performance.now() < untilMs);

  const last = samples.at(-1) ?? [];
  const highest = Math.max(...last.map(({ rssMiB }) => rssMiB));
  const growth = growthOf(samples.map((all) => median(all.map(({ rssMiB }) => rssMiB))));
  const beside = await measureBeside(context, three);
  return {
    name: "memory",
    title: "the idle agent's memory",
    figures: [
      figure("agent, RSS", "MiB", last.map(({ rssMiB }) => rssMiB)),
      figure("agent, PSS", "MiB", last.map(({ pssMiB }) => pssMiB)),
      figure("agent, RSS before the first push", "MiB", (samples[0] ?? []).map(({ rssMiB }) => rssMiB)),
      figure("  growth, last third against first third", "MiB", growth),
      ...beside.figures,
      ...(beside.bareMiB === null ? [] : [figure("agent, RSS, against a bare Node as npm brings it", "times", highest / beside.bareMiB)]),
      ...(beside.puppetMiB === null ? [] : [figure("agent, RSS, against puppet agent", "times", highest / beside.puppetMiB)]),
    ],
    // The issue's 85 MB are decimal.
    requirements: [atMost("RSS of the largest of three agents, after the pushes", highest, 85e6 / 2 ** 20, "MiB"), atMost("growth", growth, GROWTH_MAX_MIB, "MiB")],
    notes: [
      `After ${pushes} pushes in ${context.options.minutes} minutes, all converged by three agents as they ship, connected to the hub over TLS; read 10 s after each push from /proc/PID/smaps_rollup. The three agents map one Node binary, so PSS is smaller here than on a machine of its own.`,
      ...beside.notes,
    ],
  };
}

function growthOf(medians: readonly number[]): number {
  const third = Math.max(1, Math.floor(medians.length / 3));
  return median(medians.slice(-third)) - median(medians.slice(0, third));
}

interface Beside {
  readonly figures: readonly Figure[];
  readonly notes: readonly string[];
  readonly bareMiB: number | null;
  readonly puppetMiB: number | null;
}

async function measureBeside(context: Context, { lab }: Three): Promise<Beside> {
  await must(lab, spare, `systemctl stop ${unit}`);
  try {
    const node = "/usr/lib/evenkeel/node";
    const { flags, environment } = launcher();
    const bareScript = "setInterval(() => {}, 1e9)";
    context.progress("memory of a bare Node");
    const bare = await measureService(lab, "bench-bare", [], [node, "-e", bareScript]);
    const lite = await measureService(lab, "bench-lite", environment, [node, ...flags, "-e", bareScript]);
    const figures = [memoryFigure("bare Node, as npm brings it, RSS", bare), memoryFigure("bare Node, with the agent's flags, RSS", lite)];
    let before = lite;
    for (const part of await bundleParts(lab.nodeRoot(spare))) {
      context.progress(`memory with ${part.name}`);
      const now = await measureService(lab, `bench-part-${part.file}`, environment, [node, ...flags, join(partsDir, `${part.file}.cjs`)]);
      figures.push(figure(`  + ${part.name}`, "MiB", now.rssMiB - before.rssMiB));
      before = now;
    }
    const puppet = await measurePuppet(context, lab).catch((error: unknown) => String(error));
    return {
      figures: [...figures, memoryFigure("  = all of these parts, RSS", before), ...(typeof puppet === "string" ? [] : [memoryFigure("puppet agent, waiting, RSS", puppet)])],
      notes: [`Parts: one bundle for each, with all parts before it, started like the agent, 8 s after its start. What the agent has beyond them is the heap that converges need.`, ...(typeof puppet === "string" ? [`puppet agent could not be measured: ${puppet.slice(0, 500)}`] : [])],
      bareMiB: bare.rssMiB,
      puppetMiB: typeof puppet === "string" ? null : puppet.rssMiB,
    };
  } finally {
    await must(lab, spare, `systemctl start ${unit}`);
  }
}

function memoryFigure(what: string, { rssMiB }: Memory): Figure {
  return figure(what, "MiB", rssMiB);
}

async function measureService(lab: Lab, name: string, environment: readonly string[], argv: readonly string[], settleMs = 8_000): Promise<Memory> {
  const quoted = argv.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
  await must(lab, spare, `systemd-run -q --unit=${name} ${environment.map((variable) => `--setenv=${variable}`).join(" ")} ${quoted}`);
  try {
    await sleep(settleMs);
    return await memoryOf(lab, spare, name);
  } catch (error) {
    const journal = await lab.shell(spare, `journalctl -q --no-pager -n 20 -o cat -u ${name}`);
    throw new Error(`${name} cannot be measured: ${String(error)}\n${journal.stdout}`, { cause: error });
  } finally {
    await lab.shell(spare, `systemctl stop ${name}`);
  }
}

/** Without a server: it waits for a certificate, as a new one does. */
async function measurePuppet(context: Context, lab: Lab): Promise<Memory> {
  context.progress("memory of puppet agent");
  await lab.mirror(["puppet-agent"]);
  await must(lab, spare, "apt-get -qq update && apt-get -qq -y --no-install-recommends install puppet-agent && systemctl disable -q --now puppet", 5 * 60_000);
  return measureService(lab, "bench-puppet", [], ["puppet", "agent", "--no-daemonize", "--server", "localhost", "--waitforcert", "3600"], 30_000);
}

/** The resident agent's flags and environment, from the launcher that ships, so that they cannot differ. */
function launcher(): { readonly flags: readonly string[]; readonly environment: readonly string[] } {
  const text = readFileSync(join(bundleDir, "evenkeel-agent"), "utf8");
  const run = /= run \]; then\n([^]*?)\nfi/.exec(text)?.[1] ?? "";
  const flags = /exec \/usr\/lib\/evenkeel\/node (.*?) \/usr\/lib\/evenkeel\/agent\.cjs/.exec(run)?.[1]?.split(" ") ?? [];
  const environment = [...text.matchAll(/^\s*export (.*)$/gm)].flatMap((match) => match[1]?.split(" ") ?? []);
  if (flags.length === 0) throw new Error("the launcher's flags were not found: has its text changed?");
  return { flags, environment };
}
