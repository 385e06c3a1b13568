import { spawnSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Context } from "./context.ts";
import { atMost, figure, median } from "./row.ts";
import type { Row } from "./row.ts";
import { soloNodes } from "./solo.ts";
import type { Solo } from "./solo.ts";
import { makeState, numbers, tenfold, usual } from "./state.ts";

const node = soloNodes.scaling;

/** A converge with nothing to do, and the same with ten times the resources. */
export async function scaling(context: Context): Promise<Row> {
  const solo = await context.solo();
  await solo.start(node);
  const inBase = await solo.installed(node);
  context.progress(`installing ${Math.max(0, tenfold.packages - inBase.length)} packages that hold nothing`);
  const installed = [...inBase, ...(await installEmpty(solo, Math.max(0, tenfold.packages - inBase.length)))];
  const measured = [];
  for (const counts of [usual, tenfold]) {
    context.progress(`the agent makes the node what is declared: ${counts.packages} packages, ${counts.files} files, ${counts.units} units`);
    const { resources } = await solo.declare(node, makeState(counts, installed));
    const samples = { tookMs: [] as number[], planMs: [] as number[], processes: [] as number[] };
    for (let run = 1; run <= context.options.runs; run += 1) {
      const { report } = await solo.apply(node);
      if (report.changes.length > 0) throw new Error(`the agent found something to do: ${JSON.stringify(report.changes).slice(0, 2_000)}`);
      samples.tookMs.push(report.tookMs);
      samples.processes.push(report.processes);
      samples.planMs.push((await solo.time(node, ["evenkeel-agent", "plan", "--json"])).wallMs);
    }
    measured.push({ resources, ...samples });
  }
  const [small, large] = measured;
  if (small === undefined || large === undefined) throw new Error("two sizes were to be measured");
  const ratio = median(large.tookMs) / median(small.tookMs);
  return {
    name: "scaling",
    title: "nothing to do, with ten times the resources",
    figures: [
      figure("resources", "resources", small.resources),
      figure("  a converge", "ms", small.tookMs),
      figure("  processes started for it", "processes", small.processes),
      figure("  evenkeel-agent plan, cold", "ms", small.planMs),
      figure("resources, tenfold", "resources", large.resources),
      figure("  a converge of ten times the resources", "ms", large.tookMs),
      figure("  processes started for ten times the resources", "processes", large.processes),
      figure("  evenkeel-agent plan, cold, of ten times the resources", "ms", large.planMs),
      figure("ten times the resources, against one time", "times", ratio),
      figure("the same for evenkeel-agent plan", "times", median(large.planMs) / median(small.planMs)),
    ],
    requirements: [atMost("ten times the resources cost", ratio, 10, "times"), atMost("processes started for ten times the resources", Math.max(...large.processes), 3, "processes")],
    notes: [`500 packages (of Debian's and empty ones), 500 files, 200 units of one's own, on a node of its own; ${context.options.runs} runs each, median. dpkg knows the same 500 packages in both.`],
  };
}

/** Packages without content, made and installed in bulk. Answers their names. */
async function installEmpty(solo: Solo, count: number): Promise<string[]> {
  if (count === 0) return [];
  const names = numbers(count).map((n) => `bench-empty-${String(n).padStart(3, "0")}`);
  const directory = join(solo.lab.nodeRoot(node), "var/tmp/empty");
  for (const name of names) {
    await mkdir(join(directory, name, "DEBIAN"), { recursive: true, mode: 0o755 });
    const control = [`Package: ${name}`, "Version: 1", "Architecture: all", "Maintainer: Bench <bench@invalid>", "Description: empty package of the bench", ""];
    await writeFile(join(directory, name, "DEBIAN/control"), control.join("\n"));
  }
  const script = 'for name in bench-empty-*; do dpkg-deb -Znone --root-owner-group --build "$name" >/dev/null || exit 1; done';
  const built = spawnSync("/bin/sh", ["-c", script], { cwd: directory, encoding: "utf8" });
  if (built.status !== 0) throw new Error(`dpkg-deb: ${built.stderr}`);
  await solo.must(node, "cd /var/tmp/empty && dpkg --force-unsafe-io -i *.deb", 5 * 60_000);
  await rm(directory, { recursive: true, force: true });
  return names;
}
