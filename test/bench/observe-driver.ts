import { readFileSync } from "node:fs";
import { Engine } from "../../agent/engine/engine.ts";
import { Inventory } from "../../agent/engine/inventory.ts";
import { inventoryFile } from "../../agent/host/inventory-file.ts";
import { Processes } from "../../agent/host/process.ts";
import { RealHost } from "../../agent/host/real.ts";
import { systemClock } from "../../agent/system-clock.ts";
import { kinds } from "../../shared/kinds/index.ts";
import { confirmation } from "../fixtures/engine-driver.ts";
import { wantOf } from "../fixtures/fixture.ts";

/** On a node: it becomes what the sections say, and then each kind alone is asked again and again whether that is so. */

export interface Input {
  readonly sections: Readonly<Record<string, unknown>>;
  readonly address: string;
  readonly runs: number;
}

export interface Observed {
  readonly kind: string;
  readonly ms: readonly number[];
  readonly processes: number;
}

const stateDir = "/var/lib/observe-bench";
const input = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Input;
// Timers do not keep the process alive.
const alive = setInterval(() => {}, 60_000);
const processes = new Processes();
const host = new RealHost(processes, `${stateDir}/backup`);
const inventory = await Inventory.open(inventoryFile(stateDir));
const common = { commit: "a".repeat(40), digestOf: () => "", resources: 20, removalsMax: 10, repairsMax: 5 };
const wanted = kinds.flatMap((kind) => {
  const section = input.sections[kind.name];
  return section === undefined ? [] : [{ kind, want: wantOf(kind, { section, repository: {}, around: { self: "n1", nodes: { n1: { address: input.address, section } } } }) }];
});
const all = new Engine({ kinds, host, inventory, clock: systemClock, confirmation: await confirmation(processes, { settingsDir: stateDir, stateDir, runDir: stateDir }) });
const report = await all.converge({ ...common, sections: new Map(wanted.map(({ kind, want }) => [kind.name, want])) }, { cause: "push", disruption: "allowed" });
if (report.outcome !== "converged") throw new Error(`the node does not become what the bench wants: ${JSON.stringify([report.problems, report.changes.filter(({ result }) => result !== "done")]).slice(0, 2_500)}`);

const observed: Observed[] = [];
for (const { kind, want } of wanted) {
  const engine = new Engine({ kinds: [kind], host, inventory, clock: systemClock });
  const ms: number[] = [];
  let started = 0;
  // The first one is not counted: it compiles.
  for (let run = 0; run <= input.runs; run += 1) {
    const [before, startedMs] = [host.processesStarted, performance.now()];
    const { changes, problems } = await engine.plan({ ...common, sections: new Map([[kind.name, want]]) });
    if (run > 0) ms.push(performance.now() - startedMs);
    started = Math.max(started, host.processesStarted - before);
    if (changes.length + problems.length > 0) throw new Error(`${kind.name} finds something to do: ${JSON.stringify([changes, problems]).slice(0, 2_000)}`);
  }
  observed.push({ kind: kind.name, ms, processes: started });
}
clearInterval(alive);
process.stdout.write(JSON.stringify(observed));
