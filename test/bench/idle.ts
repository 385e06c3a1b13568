import { LoneNode } from "./lone-node.ts";
import { prepareRival, rivals } from "./rivals.ts";
import { median, ms, timedMs } from "./row.ts";
import type { Row } from "./row.ts";
import type { State } from "./state.ts";

/** Nothing to do: the resident agent against what the field has, on the same node, in turn; then with ten times as much. */
export async function idle(runs: number, say: (message: string) => void): Promise<readonly Row[]> {
  const node = await LoneNode.start("bench-idle");
  try {
    const installed = (await node.sh("dpkg-query -W -f '${binary:Package}\\n'")).split("\n").filter((name) => name !== "" && !name.includes(":"));
    const state: State = { packages: installed.slice(0, 50), files: 50, units: 20 };
    await node.commit(state);
    say("bringing the node to the state");
    await node.apply();
    const ready: typeof rivals[number][] = [];
    for (const rival of rivals) {
      say(`preparing ${rival.name}`);
      const fault = await prepareRival(node, rival, state);
      if (fault === null) ready.push(rival);
      else say(`${rival.name} is left out: ${fault}`);
    }
    await node.apply();
    const ours: number[] = [];
    const whole: number[] = [];
    const plans: number[] = [];
    let processes = 0;
    const theirs = new Map(ready.map((rival) => [rival.name, [] as number[]]));
    for (let run = 1; run <= runs; run += 1) {
      say(`run ${run} of ${runs}`);
      const report = await node.apply();
      if (report.changes.length > 0) throw new Error(`not idle: ${JSON.stringify(report.changes.slice(0, 3))}`);
      ours.push(report.tookMs);
      processes = Math.max(processes, report.processes);
      whole.push(await timedMs(() => node.sh("evenkeel-agent apply >/dev/null")));
      plans.push(await timedMs(() => node.sh("evenkeel-agent plan >/dev/null")));
      for (const rival of ready) theirs.get(rival.name)?.push(await timedMs(() => node.lab.shell("n1", rival.command, { timeoutMs: 600_000 })));
    }
    const medians = [...theirs].map(([name, times]) => ({ name, time: median(times) })).toSorted((one, other) => one.time - other.time);
    const rows: Row[] = [];
    const own = median(ours);
    for (const { name, time } of medians) {
      const times = time / own;
      rows.push({ what: `nothing to do (50 packages, 50 files, 20 units): resident agent against ${name}`, figure: `${ms(own)} against ${ms(time)}`, ratio: `${times.toFixed(0)} times faster`, required: name === medians[0]?.name ? "40 times the fastest" : "", met: times >= 40 });
    }
    rows.push({ what: "… the whole command `evenkeel-agent apply`, which also fetches the repository, against the fastest", figure: `${ms(median(whole))} against ${ms(medians[0]?.time ?? Number.NaN)}`, ratio: `${((medians[0]?.time ?? Number.NaN) / median(whole)).toFixed(1)} times faster`, required: "", met: true });
    rows.push({ what: "processes started for it", figure: String(processes), ratio: `${processes} for 120 resources`, required: "at most 3", met: processes <= 3 });
    const puppet = medians.find(({ name }) => name.startsWith("puppet"));
    if (puppet !== undefined) {
      const times = puppet.time / median(plans);
      rows.push({ what: "`evenkeel-agent plan`, cold process, against `puppet apply`", figure: `${ms(median(plans))} against ${ms(puppet.time)}`, ratio: `${times.toFixed(1)} times faster`, required: "5 times", met: times >= 5 });
    }
    rows.push(await tenTimes(node, runs, own, installed, say));
    return rows;
  } finally {
    await node.end();
  }
}

async function tenTimes(node: LoneNode, runs: number, own: number, installed: readonly string[], say: (message: string) => void): Promise<Row> {
  say("ten times as many resources");
  const toys = Array.from({ length: Math.max(0, 500 - installed.length) }, (_, at) => `bench-toy${at}`);
  // Empty packages are registered with dpkg by one call, from control files that a loop writes.
  await node.sh(`mkdir -p /tmp/toys && cd /tmp/toys && for t in ${toys.join(" ")}; do mkdir -p $t/DEBIAN; printf 'Package: %s\\nVersion: 1\\nArchitecture: all\\nMaintainer: bench <bench@example>\\nDescription: empty\\n' $t > $t/DEBIAN/control; dpkg-deb -Znone -b $t >/dev/null; done; dpkg -i /tmp/toys/*.deb >/dev/null; rm -rf /tmp/toys`);
  const state: State = { packages: [...installed, ...toys].slice(0, 500), files: 500, units: 200 };
  await node.commit(state);
  await node.apply();
  const times: number[] = [];
  for (let run = 0; run < runs; run += 1) times.push((await node.apply()).tookMs);
  const ratio = median(times) / own;
  return { what: "ten times the resources (500 packages, 500 files, 200 units)", figure: `${ms(median(times))} against ${ms(own)}`, ratio: `${ratio.toFixed(1)} times the time`, required: "at most 10", met: ratio <= 10 };
}
