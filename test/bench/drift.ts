import { appendFileSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ConvergeReport } from "../../shared/protocol/report.ts";
import { sleep, watchFor } from "./context.ts";
import type { Context } from "./context.ts";
import { atMost, figure, median } from "./row.ts";
import type { Figure, Row } from "./row.ts";
import { soloNodes } from "./solo.ts";
import type { Solo } from "./solo.ts";
import { filePath, makeState, numbers, startedPath, unitName, usual } from "./state.ts";

const node = soloNodes.drift;
const toy = (n: number) => `bench-toy-${n}`;
/** Like the toys, but not declared: what apt itself takes to install one. */
const twin = "bench-twin";
/** Long enough that each case begins on an agent at rest; uneven, so that no timer of its own keeps step with it. */
const restMs = () => 400 + Math.random() * 400;
const REPAIR_TIMEOUT_MS = 120_000;

interface Sort {
  readonly name: string;
  readonly repairMs: number[];
  readonly convergeMs: number[];
}

/** Breaks one thing after the other by hand, and watches from outside until it is as it was. Each only once: see the breaker. */
export async function drift(context: Context): Promise<Row> {
  const solo = await context.solo();
  await solo.start(node);
  const root = solo.lab.nodeRoot(node);
  const count = context.options.drifts;
  await declareAll(context, solo, count);

  const journal = new JournalOnHost(join(root, "var/lib/evenkeel/log.jsonl"));
  const sorts = { file: newSort("file"), unit: newSort("unit"), package: newSort("package") };
  const aptMs: number[] = [];
  const repaired = async (sort: Sort, resource: string, seen: () => boolean) => {
    const brokenMs = performance.now();
    sort.repairMs.push((await watchFor(`${resource} to be repaired`, 2, REPAIR_TIMEOUT_MS, seen)) - brokenMs);
    sort.convergeMs.push((await journal.reportOf(resource)).tookMs);
    await sleep(restMs());
  };
  for (const n of numbers(count)) {
    context.progress(`drift, ${n} of ${count} of each`);
    const path = join(root, filePath(n));
    const right = readFileSync(path, "utf8");
    appendFileSync(path, "something = else\n");
    await repaired(sorts.file, `files/${filePath(n)}`, () => existsSync(path) && readFileSync(path, "utf8") === right);

    const started = join(root, startedPath(unitName(n)));
    rmSync(started);
    await solo.must(node, `systemctl stop ${unitName(n)}`);
    await repaired(sorts.unit, `services/${unitName(n)}.service`, () => existsSync(started));

    await solo.must(node, `apt-get -qq -y remove ${toy(n)}`);
    await repaired(sorts.package, `packages/${toy(n)}`, () => isInstalled(root, toy(n)));

    await solo.must(node, `apt-get -qq -y remove ${twin}`);
    await sleep(restMs());
    aptMs.push((await solo.time(node, ["apt-get", "-qq", "-y", "install", twin])).wallMs);
    await sleep(restMs());
  }
  return rowOf(sorts, aptMs, count);
}

async function declareAll(context: Context, solo: Solo, count: number): Promise<void> {
  context.progress(`publishing ${count + 1} toy packages`);
  for (const n of numbers(count)) await solo.lab.publish(toy(n), "1");
  await solo.lab.publish(twin, "1");
  await solo.must(node, `apt-get -qq update && apt-get -qq -y install ${twin}`, 120_000);
  const counts = { packages: usual.packages, files: Math.max(usual.files, count), units: Math.max(usual.units, count) };
  const state = makeState(counts, await solo.installed(node));
  context.progress("the agent makes the node what is declared");
  await solo.declare(node, { ...state, packages: [...state.packages.filter((name) => name !== twin), ...numbers(count).map(toy)] });
}

function rowOf(sorts: { readonly file: Sort; readonly unit: Sort; readonly package: Sort }, aptMs: readonly number[], count: number): Row {
  const apt = median(aptMs);
  const beyondApt = median(sorts.package.repairMs) - apt;
  const figures = ({ name, repairMs, convergeMs }: Sort): Figure[] => [
    figure(`a ${name}, until repaired`, "ms", repairMs),
    figure(`  of a ${name}: the whole converge, with its second look`, "ms", convergeMs),
  ];
  return {
    name: "drift",
    title: "drift, until repaired",
    figures: [
      ...figures(sorts.file),
      ...figures(sorts.unit),
      ...figures(sorts.package),
      figure("apt-get install of such a package, by hand", "ms", aptMs),
      figure("a package, until repaired, against that", "times", median(sorts.package.repairMs) / apt),
      figure("a package, beyond apt's own time", "ms", beyondApt),
    ],
    requirements: [
      atMost("file", median(sorts.file.repairMs), 2_000, "ms"),
      atMost("unit", median(sorts.unit.repairMs), 2_000, "ms"),
      atMost("package, beyond apt's own time", beyondApt, 2_000, "ms"),
    ],
    notes: [
      `${count} of each, in turn, each of another file, unit and package, median. From the moment when the writing, \`systemctl stop\` or \`apt-get remove\` by hand has ended, until the file holds what it should, the unit's process has started, dpkg calls the package installed.`,
      "A node of its own with 50 files, 20 units and 70 packages declared; the agent waits 150 ms for a burst of events to end.",
    ],
  };
}

function newSort(name: string): Sort {
  return { name, repairMs: [], convergeMs: [] };
}

/** Without a process, so that asking every few milliseconds does not slow down what is asked about. */
function isInstalled(root: string, name: string): boolean {
  let status: string;
  try {
    status = readFileSync(join(root, "var/lib/dpkg/status"), "utf8");
  } catch {
    return false; // dpkg replaces it by rename
  }
  return status.includes(`\nPackage: ${name}\nStatus: install ok installed\n`);
}

/** The agent's own log, read from outside. */
class JournalOnHost {
  readonly #path: string;
  #seen: number;

  constructor(path: string) {
    this.#path = path;
    this.#seen = this.#lines().length;
  }

  /** The next report that did something to the resource. @throws when that failed. */
  async reportOf(resource: string): Promise<ConvergeReport> {
    let found: ConvergeReport | undefined;
    await watchFor(`the report on ${resource}`, 10, REPAIR_TIMEOUT_MS, () => {
      const fresh = this.#lines().slice(this.#seen).map((line) => ConvergeReport.parse(JSON.parse(line)));
      found = fresh.find((report) => report.changes.some((change) => change.resource === resource));
      return found !== undefined;
    });
    this.#seen = this.#lines().length;
    if (found?.outcome !== "converged") throw new Error(`${resource}: ${JSON.stringify(found).slice(0, 2_000)}`);
    return found;
  }

  #lines(): string[] {
    return readFileSync(this.#path, "utf8").split("\n").slice(0, -1);
  }
}
