import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Chooser, MarkFile } from "../../agent/desired/choose.ts";
import { Repository } from "../../agent/desired/repository.ts";
import { Engine } from "../../agent/engine/engine.ts";
import { Inventory } from "../../agent/engine/inventory.ts";
import { MemoryHost } from "../../agent/host/memory.ts";
import { Processes } from "../../agent/host/process.ts";
import { Settings } from "../../agent/settings.ts";
import { systemClock } from "../../agent/system-clock.ts";
import { gitIn } from "../../hub/repo/process.ts";
import { loadRepository } from "../../shared/config/repository.ts";
import { gitTree } from "../../shared/git/tree.ts";
import { kinds } from "../../shared/kinds/index.ts";
import { parseDpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output } from "../../shared/kinds/kind.ts";
import type { PlanReport } from "../../shared/protocol/report.ts";
import type { PreviewView } from "../../shared/protocol/preview.ts";
import { watchFor, type Context } from "./context.ts";
import { SignedRepository } from "./repository.ts";
import { atMost, figure, median } from "./row.ts";
import type { Row } from "./row.ts";
import { makeState, usual, type State } from "./state.ts";

const NODES = Array.from({ length: 9 }, (_, index) => `n${index + 1}`);
const BRANCH = "preview/bench";
const BUDGET_MS = 1_000;
const ARRIVAL_TIMEOUT_MS = 60_000;

interface Sample {
  readonly fetchMs: number;
  readonly verifyAndRenderMs: number;
  readonly renderMs: number;
  readonly planMs: number;
  /** The slowest node's whole part: where each node has a machine of its own, all have answered then. */
  readonly slowestMs: number;
}

/** What a branch would change in a cluster of nine: each node's part, one after the other in one process; and from a push to the last answer, on real nodes. */
export async function preview(context: Context): Promise<Row> {
  const directory = mkdtempSync(join(tmpdir(), "evenkeel-bench-preview-"));
  let validateMs: number[] = [];
  let samples: Sample[] = [];
  try {
    ({ validateMs, samples } = await nineInOneProcess(context, directory));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  const real = await threeInTheLab(context);
  const of = (measure: (sample: Sample) => number): number[] => samples.map(measure);
  const renderAndPlan = of((sample) => sample.renderMs + sample.planMs);
  const all = of((sample) => sample.fetchMs + sample.verifyAndRenderMs + sample.planMs);
  return {
    name: "preview",
    title: "a preview: what a branch would change on every node",
    figures: [
      figure("rendered and planned for nine nodes, one after the other", "ms", renderAndPlan),
      figure("  of it: rendering", "ms", of((sample) => sample.renderMs)),
      figure("  of it: looking and planning", "ms", of((sample) => sample.planMs)),
      figure("  the budget of 1 s, against it", "times", BUDGET_MS / median(renderAndPlan)),
      figure("evenkeel validate of the same commit, as the hub does it at a push", "ms", validateMs),
      figure("  rendered and planned, against that", "times", median(renderAndPlan) / median(validateMs)),
      figure("with each node's fetch and check of signatures, one after the other", "ms", all),
      figure("  the slowest node's part: all have planned, where each has a machine of its own", "ms", of((sample) => sample.slowestMs)),
      figure("three real nodes: from the start of git push until the last has answered", "ms", real.map(({ allMs }) => allMs)),
      figure("  of it: git push itself, with the hub's check", "ms", real.map(({ pushMs }) => pushMs)),
      figure("  after git push has returned", "ms", real.map(({ allMs, pushMs }) => allMs - pushMs)),
    ],
    requirements: [
      atMost("rendered and planned for nine nodes, one after the other in one process", median(renderAndPlan), BUDGET_MS, "ms"),
      atMost("fetched, checked, rendered and planned by nine nodes side by side", median(of((sample) => sample.slowestMs)), BUDGET_MS, "ms"),
    ],
    notes: [
      `Nine nodes with ${usual.packages} packages, ${usual.files} files and ${usual.units} units each; the branch changes a file of all of them. Real loader, signatures, Git and engine on machines in memory, whose dpkg status is this machine's; in a cluster each node does its own share, at the same time as the others.`,
      `${samples.length} runs, median. The three real nodes share this machine with the hub and the bench.`,
    ],
  };
}

async function nineInOneProcess(context: Context, directory: string): Promise<{ validateMs: number[]; samples: Sample[] }> {
  const status = readFileSync("/var/lib/dpkg/status", "utf8");
  const installed = [...parseDpkgStatus(status).packages.values()].flatMap(([first]) => (first?.state === "installed" && first.selection === "install" ? [first.name] : []));
  const before = makeState(usual, installed);
  const [path = ""] = before.files.keys();
  const after: State = { ...before, files: new Map([...before.files, [path, `${before.files.get(path) ?? ""}previewed = yes\n`]]) };
  const addresses = new Map(NODES.map((node, index) => [node, `10.0.0.${index + 1}`]));
  const repository = await SignedRepository.create(directory, addresses);
  for (const node of NODES) await repository.declare(node, addresses.get(node) ?? "", before);
  const main = repository.tip;
  const tip = await repository.declare("n1", addresses.get("n1") ?? "", after);
  execFileSync("git", ["-C", repository.path, "update-ref", `refs/heads/${BRANCH}`, tip]);
  execFileSync("git", ["-C", repository.path, "reset", "-q", "--hard", main]);

  const git = gitIn(join(repository.path, ".git"));
  const validateMs: number[] = [];
  for (let run = 0; run < context.options.runs; run += 1) {
    const startedMs = performance.now();
    const loaded = await loadRepository(gitTree(git, tip), kinds);
    validateMs.push(performance.now() - startedMs);
    if (!loaded.ok) throw new Error(`the bench's repository is not valid: ${JSON.stringify(loaded.diagnostics.slice(0, 2))}`);
  }
  const nodes: Node[] = [];
  for (const name of NODES) nodes.push(await Node.open(name, directory, repository, main, before, status));
  const samples: Sample[] = [];
  for (let run = 1; run <= context.options.runs; run += 1) {
    context.progress(`preview of nine nodes in one process, run ${run} of ${context.options.runs}`);
    const sums = { fetchMs: 0, verifyAndRenderMs: 0, renderMs: 0, planMs: 0, slowestMs: 0 };
    for (const node of nodes) {
      const { sample, report } = await node.preview(tip);
      if (report.changes.length !== 1 || report.problems.length > 0) throw new Error(`a plan of one file was expected: ${JSON.stringify(report).slice(0, 1_000)}`);
      for (const key of ["fetchMs", "verifyAndRenderMs", "renderMs", "planMs"] as const) sums[key] += sample[key];
      sums.slowestMs = Math.max(sums.slowestMs, sample.slowestMs);
    }
    samples.push(sums);
  }
  return { validateMs, samples };
}

/** An agent's parts on a machine in memory that holds what the main branch says. */
class Node {
  readonly #repository: Repository;
  readonly #chooser: Chooser;
  readonly #engine: Engine;

  private constructor(repository: Repository, chooser: Chooser, engine: Engine) {
    this.#repository = repository;
    this.#chooser = chooser;
    this.#engine = engine;
  }

  static async open(name: string, directory: string, from: SignedRepository, main: string, state: State, status: string): Promise<Node> {
    const places = { settingsDir: join(directory, name, "etc"), stateDir: join(directory, name, "lib"), runDir: join(directory, name, "run") };
    const settings = Settings.parse({ v: 1, node: name, cluster: "bench", hub: null, broker: null, git: { url: from.path, branch: "main" }, signers: [{ name: "owner", ssh: from.publicKey }], commit: main });
    const repository = new Repository(new Processes().runBytes, places, settings);
    await repository.prepare();
    const chooser = new Chooser({ repository, settings, marks: new MarkFile(places.stateDir), kinds });
    const fetched = await repository.fetch();
    const choice = fetched.ok && fetched.commit !== null ? await chooser.choose(fetched.commit, null, null) : null;
    if (choice?.ok !== true) throw new Error(`${name} does not take the main branch: ${JSON.stringify(choice ?? fetched)}`);
    const inventory = await Inventory.open({ load: () => Promise.resolve(null), save: () => Promise.resolve() });
    const node = new Node(repository, chooser, new Engine({ kinds, host: machine(state, status), inventory, clock: systemClock }));
    const idle = await node.#engine.plan(choice.desired);
    if (idle.changes.length + idle.problems.length > 0) throw new Error(`${name} in memory is not what the main branch says: ${JSON.stringify(idle).slice(0, 1_000)}`);
    return node;
  }

  /** As the agent does it when it is asked. Rendering alone is measured by reading once more what has been chosen. */
  async preview(tip: string): Promise<{ sample: Sample; report: PlanReport }> {
    const [fetchMs, fetched] = await timed(() => this.#repository.fetch(BRANCH));
    if (!fetched.ok || fetched.commit !== tip) throw new Error(`the branch was not fetched: ${JSON.stringify(fetched)}`);
    const [verifyAndRenderMs, choice] = await timed(() => this.#chooser.preview(tip));
    if (!choice.ok) throw new Error(choice.message);
    const [renderMs] = await timed(() => this.#chooser.last());
    const [planMs, report] = await timed(() => this.#engine.plan(choice.desired));
    return { sample: { fetchMs, verifyAndRenderMs, renderMs, planMs, slowestMs: fetchMs + verifyAndRenderMs + planMs }, report };
  }
}

async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const startedMs = performance.now();
  const value = await work();
  return [performance.now() - startedMs, value];
}

function machine(state: State, status: string): MemoryHost {
  const host = new MemoryHost();
  const put = (path: string, content: string): void => void host.files.set(path, { content, mode: 0o644 });
  put("/var/lib/dpkg/status", status);
  put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
  put("/etc/group", "root:x:0:\n");
  for (const [path, content] of state.files) put(path, content);
  for (const [name, content] of state.units) put(`/etc/systemd/system/${name}.service`, content);
  host.probe.run = async (argv): Promise<Output> => ({ code: argv[0] === "systemctl" ? 0 : 127, stdout: argv[0] === "systemctl" ? argv.slice(argv.indexOf("--") + 1).map(shown).join("\n") : "", stderr: "" });
  return host;
}

/** What `systemctl show` says of a unit that runs and is enabled. */
function shown(unit: string): string {
  return `Id=${unit}\nNames=${unit}\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\nConditionResult=yes\nConditionTimestampMonotonic=1\nLoadError=\nType=simple\nRemainAfterExit=no\n`;
}

interface Real {
  readonly pushMs: number;
  readonly allMs: number;
}

async function threeInTheLab(context: Context): Promise<readonly Real[]> {
  const { cupboard } = await context.three();
  const runs: Real[] = [];
  const main = (await cupboard.git("rev-parse", "HEAD")).trim();
  for (let run = 1; run <= context.options.runs; run += 1) {
    context.progress(`preview on three nodes, run ${run} of ${context.options.runs}`);
    await writeFile(join(cupboard.clone, "files", "motd.eta"), `previewed ${run}\n`);
    await cupboard.git("commit", "-qam", `Preview ${run}`);
    const startedMs = performance.now();
    await cupboard.git("push", "-q", "--force", "origin", `HEAD:refs/heads/${BRANCH}`);
    const pushMs = performance.now() - startedMs;
    const endedMs = await watchFor("all nodes' plans", 10, ARRIVAL_TIMEOUT_MS, async () => {
      const { counts } = (await cupboard.api("/previews/bench")) as PreviewView;
      return counts.planned === 3 && counts.missing === 0;
    });
    runs.push({ pushMs, allMs: endedMs - startedMs });
    await cupboard.git("reset", "-q", "--hard", main);
  }
  await cupboard.git("push", "-q", "origin", `:refs/heads/${BRANCH}`);
  return runs;
}
