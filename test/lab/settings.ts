import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { readdir, rename, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Flavour } from "./base-recipe.ts";
import type { Base, Progress } from "./base.ts";
import { LabError } from "./command.ts";
import type { Bind } from "./node.ts";

const checkout = resolve(import.meta.dirname, "../..");

export interface LabOptions {
  /** Default "lab". Two labs of one checkout need two names. */
  readonly name?: string;
  /** Host names of the nodes; default n1, n2, n3. */
  readonly nodes?: readonly string[];
  /** Default: .lab/NAME in the checkout. */
  readonly stateDirectory?: string;
  readonly binds?: readonly Bind[];
  readonly flavour?: Flavour;
  /** Takes the lab down when this process ends, however it ends (kill -9 too), unless `down` was called. */
  readonly downOnExit?: boolean;
  readonly onProgress?: Progress;
}

/** What is kept in lab.json, so that `npm run lab -- …` finds the lab that a test or the demo started. */
export interface Settings {
  readonly nodes: readonly string[];
  readonly binds: readonly Bind[];
  readonly flavour: Flavour;
  readonly subnet?: number;
  /** Nodes stay on the base system that they were made on, until they are wiped. */
  readonly base?: Base;
}

export function stateDirectoryOf(name: string): string {
  return join(checkout, ".lab", name);
}

export function readSettings(directory: string): Settings | undefined {
  const path = settingsPath(directory);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Settings) : undefined;
}

export async function writeSettings(directory: string, settings: Settings): Promise<void> {
  const path = settingsPath(directory);
  await writeFile(`${path}.new`, `${JSON.stringify(settings, undefined, 2)}\n`);
  await rename(`${path}.new`, path);
}

/** The names of all labs of this checkout, running or not. */
export async function labNames(): Promise<string[]> {
  const found = await readdir(join(checkout, ".lab")).catch(() => []);
  return found.filter((name) => existsSync(settingsPath(stateDirectoryOf(name)))).toSorted();
}

export function settingsPath(directory: string): string {
  return join(directory, "lab.json");
}

export function mergeSettings(kept: Settings | undefined, options: LabOptions): Settings {
  const nodes = options.nodes ?? kept?.nodes ?? ["n1", "n2", "n3"];
  if (nodes.length === 0 || nodes.length > 50 || new Set(nodes).size !== nodes.length) {
    throw new LabError("bad-request", `1 to 50 different names of nodes, not: ${nodes.join(", ")}`);
  }
  for (const node of nodes) {
    // NODE-keeper is another control group's name
    if (!/^[a-z][a-z0-9-]{0,40}$/.test(node) || node.endsWith("-keeper"))
      throw new LabError("bad-request", `not a name for a node: "${node}"`);
  }
  return { ...kept, nodes, binds: options.binds ?? kept?.binds ?? [], flavour: options.flavour ?? kept?.flavour ?? "plain" };
}

/** Seven characters, the same for the same lab, different for labs of other checkouts: network links have 15 at most. */
export function prefixOf(name: string, directory: string): string {
  return `${name.replaceAll("-", "").slice(0, 4)}${hashOf(directory).toString(36).padStart(3, "0").slice(-3)}`;
}

export function hashOf(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE(0);
}
