import { readFileSync, realpathSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { expect } from "vitest";
import { Machine } from "./machine.ts";
import type { Hardware } from "./machine.ts";

const root = join(import.meta.dirname, "..", "..");
/** No script takes so long; an emulated machine beside others may. */
const TIMEOUT_MS = 10 * 60_000;

export interface Report {
  readonly outcome?: string;
  readonly changes: readonly { readonly resource: string; readonly result: string; readonly why: string; readonly error?: string }[];
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

/** What the driver of a kind answers (test/fixtures/engine-driver.ts). */
export interface Answer {
  readonly converged: Report;
  /** A look right after it. */
  readonly plan: Report;
  /** Processes that the look has started. */
  readonly started: number;
}

/** A machine with the engine and one kind in it. */
export class Guest {
  readonly machine: Machine;
  #commits = 0;

  private constructor(machine: Machine) {
    this.machine = machine;
  }

  static async start(kind: "disks" | "network", hardware: Hardware): Promise<Guest> {
    const machine = await Machine.make(hardware, realpathSync(join(root, "node_modules/.bin/node")));
    const work = await mkdtemp(join(tmpdir(), "evenkeel-qemu-"));
    try {
      await machine.start();
      const outfile = join(work, "driver.mjs");
      await build({ entryPoints: [join(root, `test/fixtures/${kind}/driver.ts`)], outfile, bundle: true, minify: true, platform: "node", target: "node26", format: "esm", banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' }, logLevel: "warning" });
      await machine.writeFile("/opt/driver.mjs", readFileSync(outfile));
      return new Guest(machine);
    } catch (error) {
      await machine.remove();
      throw error;
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  /** Its standard output; it has to succeed. */
  async sh(script: string): Promise<string> {
    const outcome = await this.machine.shell(script, TIMEOUT_MS);
    expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
    return outcome.stdout.trim();
  }

  /** @param more further input of the driver. */
  async converge(section: object | null, more: object = {}): Promise<Answer> {
    await this.machine.writeFile("/run/input.json", JSON.stringify({ section, commit: `commit-${(this.#commits += 1)}`, ...more }));
    return JSON.parse(await this.sh("NODE_COMPILE_CACHE=/var/cache/driver node /opt/driver.mjs converge /run/input.json")) as Answer;
  }

  /** It becomes so, and a look right after it finds nothing to do, by one process. */
  async become(section: object | null, more: object = {}): Promise<void> {
    const answer = await this.converge(section, more);
    expect(answer.converged.changes.filter(({ result }) => result !== "done"), JSON.stringify(answer.converged.problems)).toEqual([]);
    expect(answer).toMatchObject({ converged: { outcome: "converged" }, plan: { changes: [], problems: [] }, started: section === null ? 0 : 1 });
  }
}
