import { writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cluster } from "./cluster.ts";
import { idle } from "./idle.ts";
import type { Row } from "./row.ts";

/** `npm run bench`: what Evenkeel must reach, measured on real nodes beside what others do, as ratios of one run. */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "5" },
    pushes: { type: "string", default: "20" },
    minutes: { type: "string", default: "5" },
    "idle-minutes": { type: "string", default: "10" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`npm run bench -- [idle] [cluster] [options]

  idle      nothing to do, against puppet, cfengine and ansible; cold plan; ten times as much
  cluster   push until the third node has it; drift; memory; CPU

  --runs N           rounds against the rivals (default 5)
  --pushes N         pushes and drifts (default 20)
  --minutes N        of pushes before memory is read (default 5; an hour for the README)
  --idle-minutes N   of rest for the CPU (default 10)
  --json`);
  process.exit(0);
}

const say = (message: string) => process.stderr.write(`${message}\n`);
const wanted = positionals.length === 0 ? ["idle", "cluster"] : positionals;
const rows: Row[] = [];
if (wanted.includes("idle")) rows.push(...(await idle(Number(values.runs), say)));
if (wanted.includes("cluster")) rows.push(...(await cluster({ pushes: Number(values.pushes), minutes: Number(values.minutes), idleMinutes: Number(values["idle-minutes"]) }, say)));

if (values.json) {
  console.log(JSON.stringify(rows, null, 2));
} else {
  const table = ["| what | seen | ratio | required | |", "|---|---|---|---|---|", ...rows.map((row) => `| ${row.what} | ${row.figure} | **${row.ratio}** | ${row.required} | ${row.required === "" ? "" : row.met ? "met" : "**not met**"} |`)];
  console.log(table.join("\n"));
  const about = `# Bench\n\nMade by \`npm run bench -- ${process.argv.slice(2).join(" ")}\` on ${cpus().length} cores (${cpus()[0]?.model.trim() ?? "unknown"}), ${(totalmem() / 2 ** 30).toFixed(0)} GiB, shared with other work.\nRatios count; times are this machine's.\n\n`;
  await writeFile(join(import.meta.dirname, `RESULTS-${wanted.join("-")}.md`), `${about}${table.join("\n")}\n`);
}
process.exit(rows.every((row) => row.met || row.required === "") ? 0 : 1);
