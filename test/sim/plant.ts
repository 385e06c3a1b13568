import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Planted } from "./planted.ts";
import type { Failure } from "./worker.ts";

/** What the simulation says of the project with one bug in it. */

const root = join(import.meta.dirname, "..", "..");
const PARTS = ["hub/coordinator", "hub/rollout", "agent/lease", "shared", "test/sim"];
/** The coordinator watches over itself; without that, only what happens outside can tell. */
const blind: Planted["changes"][number] = ["test/sim/hub.ts", "    assertInvariants(before, event, result, PATIENCE);\n", ""];

export interface Found {
  /** The first seed that failed, counted from 1; null when none of them did. */
  readonly first: Failure | null;
  readonly seeds: number;
}

/** @throws when a change does not match exactly once: the planted bug has to follow the code. */
export async function findPlanted({ changes }: Planted, seedsMax: number, invariants: boolean): Promise<Found> {
  const copy = mkdtempSync(join(tmpdir(), "evenkeel-planted-"));
  try {
    for (const part of PARTS) cpSync(join(root, part), join(copy, part), { recursive: true, filter: (path) => !path.endsWith(".test.ts") });
    cpSync(join(root, "package.json"), join(copy, "package.json"));
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    for (const [file, from, to] of invariants ? changes : [...changes, blind]) {
      const path = join(copy, file);
      const source = readFileSync(path, "utf8");
      const times = source.split(from).length - 1;
      if (times !== 1) throw new Error(`${file} has this ${times} times, and a bug is planted where it is once: ${from}`);
      writeFileSync(path, source.replace(from, () => to));
    }
    const output = await run(join(copy, "test", "sim", "main.ts"), ["--seeds", String(seedsMax), "--jobs", "1", "--failures", "1", "--no-shrink", "--json"]);
    const total = JSON.parse(output) as { seeds: number; failures: readonly Failure[] };
    return { first: total.failures[0] ?? null, seeds: total.seeds };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    // Exit code 1 is a seed that failed: just what is looked for.
    execFile(process.execPath, [program, ...args], { cwd: dirname(program), encoding: "utf8", maxBuffer: 64 * 2 ** 20 }, (error, stdout, stderr) => {
      if (error !== null && error.code !== 1) reject(new Error(`the simulation with a planted bug ended with ${error.code}: ${stderr}`));
      else if (!stdout.startsWith("{")) reject(new Error(`the simulation with a planted bug said nothing: ${stderr}`));
      else resolve(stdout);
    });
  });
}
