import type { Output, Probe } from "./kind.ts";

/** What systemd knows about one unit, as far as `services` asks. */
export interface UnitState {
  /** systemd's LoadState: `loaded`, `not-found`, `masked`, `bad-setting`, `error` … */
  readonly loadState: string;
  /** What is wrong with the unit file, in systemd's words; empty when nothing is. */
  readonly loadError: string;
  /** ActiveState: `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`. */
  readonly activeState: string;
  readonly subState: string;
  /** UnitFileState: `enabled`, `disabled`, `static`, `masked`, `generated`, `alias`, `indirect`, `linked` …, or empty. */
  readonly fileState: string;
  /** A file of the unit has changed on disk since systemd read it. */
  readonly needsReload: boolean;
  /** Runs once and ends by itself: such a unit cannot be kept running. */
  readonly ends: boolean;
  /** At the last try a Condition…= of the unit was not met, so it was not started. */
  readonly conditionFailed: boolean;
}

export const unknownUnit: UnitState = {
  loadState: "not-found",
  loadError: "",
  activeState: "inactive",
  subState: "dead",
  fileState: "",
  needsReload: false,
  ends: false,
  conditionFailed: false,
};

const PROPERTIES = ["Id", "Names", "LoadState", "LoadError", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "Type", "RemainAfterExit", "ConditionResult", "ConditionTimestampMonotonic"];

/** PID 1 answers from memory; a node under heavy load may still take its time. */
const SHOW_TIMEOUT_MS = 30_000;

/** All units in one process. The error is for people, when systemd does not answer at all. */
export async function showUnits(probe: Probe, units: readonly string[]): Promise<{ readonly units: ReadonlyMap<string, UnitState>; readonly error: string | null }> {
  if (units.length === 0) return { units: new Map(), error: null };
  const argv = ["systemctl", "show", `--property=${PROPERTIES.join(",")}`, "--", ...units] as const;
  const output = await probe.run(argv, { timeoutMs: SHOW_TIMEOUT_MS });
  const found = parseShow(output.stdout, units);
  return { units: found, error: found.size === units.length ? null : showFault(output, units, found) };
}

function showFault(output: Output, units: readonly string[], found: ReadonlyMap<string, UnitState>): string {
  const said = output.stderr.trim().split("\n").slice(0, 3).join(" ");
  const missing = units.filter((unit) => !found.has(unit));
  return `systemctl show ended with code ${output.code} and said nothing about ${missing.slice(0, 3).join(", ")}${missing.length > 3 ? ` and ${missing.length - 3} more` : ""}${said === "" ? "" : `: ${said}`}`;
}

/**
 * One block of `Key=value` lines for each unit, in the order asked for, with an empty line between (systemctl(1)). A
 * block is known by its Names: a unit asked for by an alias answers with the Id of the real one.
 */
export function parseShow(stdout: string, asked: readonly string[]): ReadonlyMap<string, UnitState> {
  const blocks = stdout
    .split(/\n[ \t]*\n/)
    .map(parseBlock)
    .filter((block) => block.size > 0);
  const byName = new Map<string, ReadonlyMap<string, string>>();
  for (const block of blocks) {
    for (const name of [block.get("Id"), ...(block.get("Names") ?? "").split(" ")]) if (name && !byName.has(name)) byName.set(name, block);
  }
  const states = new Map<string, UnitState>();
  for (const unit of asked) {
    const block = byName.get(unit);
    if (block !== undefined) states.set(unit, stateOf(block));
  }
  return states;
}

function parseBlock(text: string): ReadonlyMap<string, string> {
  const block = new Map<string, string>();
  for (const line of text.split("\n")) {
    const equals = line.indexOf("=");
    if (equals > 0) block.set(line.slice(0, equals), line.slice(equals + 1));
  }
  return block;
}

function stateOf(block: ReadonlyMap<string, string>): UnitState {
  const of = (key: string): string => block.get(key) ?? "";
  return {
    loadState: of("LoadState"),
    loadError: of("LoadError").replace(/^\S+ "(.*)"$/, "$1"),
    activeState: of("ActiveState"),
    subState: of("SubState"),
    fileState: of("UnitFileState"),
    needsReload: of("NeedDaemonReload") === "yes",
    ends: of("Type") === "oneshot" && of("RemainAfterExit") !== "yes",
    conditionFailed: of("ConditionResult") === "no" && !["", "0"].includes(of("ConditionTimestampMonotonic")),
  };
}

export function isMasked(state: Pick<UnitState, "fileState" | "loadState">): boolean {
  return state.fileState === "masked" || state.fileState === "masked-runtime" || state.loadState === "masked";
}

/** Runs, or is about to. A unit between two of its crashes is not. */
export function isUp(state: UnitState): boolean {
  return ["active", "reloading", "refreshing"].includes(state.activeState) || (state.activeState === "activating" && state.subState !== "auto-restart");
}

/** Starts at boot, for good. */
export function isEnabled(state: Pick<UnitState, "fileState">): boolean {
  return state.fileState === "enabled";
}

/**
 * States in which `systemctl enable` has something to do. The others (static, generated, transient, alias, indirect)
 * are started by something else, and there is nothing to enable.
 */
export function canBeEnabled(state: Pick<UnitState, "fileState">): boolean {
  return ["disabled", "enabled-runtime", "linked", "linked-runtime", "masked", "masked-runtime", "bad"].includes(state.fileState);
}
