import { posix } from "node:path";
import { saidAtEnd } from "../../shared/kinds/drain.ts";
import type { DrainWant } from "../../shared/kinds/drain.ts";
import type { Output, Probe } from "../../shared/kinds/kind.ts";
import { isTemplateUnit } from "../../shared/kinds/unit-name.ts";
import type { ServicesWant } from "../../shared/kinds/services-section.ts";
import type { ConvergeReport } from "../../shared/protocol/report.ts";

/**
 * Whether the node is well: what the coordinator counts, before a node goes and after it is back. What cannot be looked at
 * is trouble: an unknown is never taken for health.
 */

/** The bounds of what a node says of its lease. */
const TROUBLE_MAX = 20;
const TROUBLE_MAX_CHARS = 500;
const LIST_TIMEOUT_MS = 30_000;

export type ConvergeSeen = Pick<ConvergeReport, "outcome" | "changes" | "problems">;

export interface WellParts {
  readonly probe: Probe;
  /** What the repository wants of this node; null while no commit was ever chosen. */
  readonly sections: () => ReadonlyMap<string, unknown> | null;
  /** What the last converge of this process came to; null before the first. */
  readonly converge: () => ConvergeSeen | null;
  /** Units that are down for a lease: that they do not run is as it should be. */
  readonly drained: () => ReadonlySet<string>;
  /** Units that had failed before the lease that is held now; none without a lease. */
  readonly failedBefore: () => ReadonlySet<string>;
}

export interface Wellness {
  readonly healthy: boolean;
  readonly trouble: readonly string[];
}

export class Well {
  readonly #parts: WellParts;

  constructor(parts: WellParts) {
    this.#parts = parts;
  }

  /** One process, besides the owner's own commands. Never throws for what a machine can be. */
  async look(): Promise<Wellness> {
    const sections = this.#parts.sections();
    const health = (sections?.get("drain") as DrainWant | undefined)?.health;
    const [units, commands] = await Promise.all([this.#units(sections, health?.ignoreUnits ?? []), this.#commands(health?.commands ?? {})]);
    const trouble = [...units, ...(sections === null ? [] : convergeTrouble(this.#parts.converge())), ...commands].map((text) => (text.length > TROUBLE_MAX_CHARS ? `${text.slice(0, TROUBLE_MAX_CHARS - 1)}…` : text));
    const shown = trouble.length > TROUBLE_MAX ? [...trouble.slice(0, TROUBLE_MAX - 1), `and ${trouble.length - TROUBLE_MAX + 1} more`] : trouble;
    return { healthy: trouble.length === 0, trouble: shown };
  }

  async #units(sections: ReadonlyMap<string, unknown> | null, ignored: readonly string[]): Promise<readonly string[]> {
    const { probe, drained, failedBefore } = this.#parts;
    const [seen, target] = await Promise.all([lookAtUnits(probe), defaultTarget(probe)]);
    if (seen.error !== null) return [`it is not known which units run: ${seen.error}`];
    const down = drained();
    const declared = Object.entries((sections?.get("services") ?? {}) as ServicesWant).flatMap(([unit, { running }]) => (running === true && !isTemplateUnit(unit) && !down.has(unit) ? [unit] : []));
    const resting = (await Promise.all(declared.map(async (unit) => [unit, await stateOf(unit, seen, probe)] as const))).filter(([, state]) => !isRunning(state));
    const patterns = ignored.map(asPattern);
    const before = failedBefore();
    const failed = [...seen.failed].filter((unit) => !declared.includes(unit) && !before.has(unit) && !patterns.some((pattern) => pattern.test(unit)));
    const booted = target === null || isRunning(seen.states.get(target));
    return [
      ...(booted ? [] : [`the system is still starting: ${target} has not been reached`]),
      ...resting.map(([unit, state]) => `${unit} should run, and ${state === undefined ? "is not loaded" : `is ${state.active} (${state.sub})`}`),
      ...failed.map((unit) => `${unit} has failed (journalctl -u ${unit} on the node says why)`),
    ];
  }

  async #commands(commands: DrainWant["health"]["commands"]): Promise<readonly string[]> {
    const answers = await Promise.all(Object.entries(commands).map(async ([name, { command, timeoutSeconds }]) => [name, await this.#ask(command, timeoutSeconds * 1_000)] as const));
    return answers.flatMap(([name, output]) => (output.code === 0 ? [] : [`the question ${name} is not answered with yes: ${saidAtEnd(output)}`]));
  }

  #ask(argv: readonly [string, ...string[]], timeoutMs: number): Promise<Output> {
    return this.#parts.probe.run(argv, { timeoutMs });
  }
}

/** Only what disturbs the node's service when it goes wrong; a resource whose plan says why it cannot be had has no impact, and is failed as well. */
function convergeTrouble(converge: ConvergeSeen | null): readonly string[] {
  if (converge === null) return ["the agent has just started, and has not compared this node with its repository yet"];
  const failed = converge.changes.filter((change) => (change.result === "failed" || change.result === "blocked") && change.impact !== "none");
  const blind = converge.problems.filter((problem) => problem.code === "observe");
  return [
    ...failed.map((change) => `${change.resource}: ${change.action} ${change.result === "blocked" ? "is blocked" : "failed"}: ${firstLine(change.error ?? change.why)}`),
    ...blind.map((problem) => problem.message),
    ...(converge.outcome === "interrupted" ? ["the last comparison with the repository was interrupted"] : []),
  ];
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0]!;
}

interface UnitLine {
  readonly active: string;
  readonly sub: string;
}

export interface UnitsSeen {
  readonly states: ReadonlyMap<string, UnitLine>;
  readonly failed: readonly string[];
  /** Why systemd did not answer, or null. */
  readonly error: string | null;
}

/** All units that systemd has loaded, in one process. */
export async function lookAtUnits(probe: Probe): Promise<UnitsSeen> {
  const output = await probe.run(["systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"], { timeoutMs: LIST_TIMEOUT_MS });
  const states = output.code === 0 ? parseUnits(output.stdout) : new Map<string, UnitLine>();
  const error = states.size > 0 ? null : `systemctl list-units ended with code ${output.code}: ${output.stderr.trim().slice(0, 300) || "no unit is loaded"}`;
  return { states, error, failed: [...states].flatMap(([unit, { active }]) => (active === "failed" ? [unit] : [])).toSorted() };
}

/** UNIT LOAD ACTIVE SUB [JOB] DESCRIPTION, in columns of one or more spaces (systemctl(1)). */
function parseUnits(stdout: string): ReadonlyMap<string, UnitLine> {
  return new Map(
    stdout.split("\n").flatMap((line) => {
      const [unit, load, active, sub] = line.trim().split(/ +/);
      return unit === undefined || load === undefined || active === undefined || sub === undefined ? [] : [[unit, { active, sub }] as const];
    }),
  );
}

function isRunning(state: UnitLine | undefined): boolean {
  return state?.active === "active" || state?.active === "reloading" || state?.active === "refreshing";
}

const UNIT_DIRECTORIES = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/** systemd lists a unit by its own name; a name that is an alias of another is a link to that one's file. */
async function stateOf(unit: string, seen: UnitsSeen, probe: Probe): Promise<UnitLine | undefined> {
  const listed = seen.states.get(unit);
  if (listed !== undefined) return listed;
  const target = await linkOf(unit, probe);
  return target === null ? undefined : seen.states.get(target);
}

/** What is reached when the system has started (bootup(7)). Null where it does not show: then nothing is said about it. */
function defaultTarget(probe: Probe): Promise<string | null> {
  return linkOf("default.target", probe);
}

async function linkOf(unit: string, probe: Probe): Promise<string | null> {
  for (const directory of UNIT_DIRECTORIES) {
    const target = await probe.readLink(posix.join(directory, unit)).catch(() => null);
    if (target !== null) return posix.basename(target);
  }
  return null;
}

function asPattern(glob: string): RegExp {
  return new RegExp(`^${glob.replace(/[.\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`);
}
