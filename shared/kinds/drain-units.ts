import type { Act, DrainStep, Probe } from "./kind.ts";
import { UNIT_TYPES } from "./unit-name.ts";
import { isUp, unknownUnit } from "./unit-state.ts";

/**
 * Stopping a unit stops others with it, and some that were not stopped start it again. So a unit is stopped together with
 * what would trigger it, and started again together with all that went down with it, if it ran before.
 */

/** systemd's answer on one unit, as far as a drain asks. */
export interface DrainUnit {
  readonly exists: boolean;
  readonly up: boolean;
  /** On its way down by somebody's doing. */
  readonly stopping: boolean;
  /** Between two of its crashes: systemd is about to start it again. */
  readonly crashing: boolean;
  /** Runs once and ends: what starts it is a timer or a person. */
  readonly ends: boolean;
  /** Units that go down when this one does. */
  readonly dependents: readonly string[];
  /** Sockets, timers and paths that start it. */
  readonly triggers: readonly string[];
}

export interface UnitsFacts {
  readonly units: ReadonlyMap<string, DrainUnit>;
  /** Why systemd did not answer, or null. */
  readonly error: string | null;
}

/** systemd.unit(5): a stop goes on to what has Requires=, BindsTo= or PartOf= of the unit, and to its PropagatesStopTo=. */
const DEPENDENTS = ["RequiredBy", "BoundBy", "ConsistsOf", "PropagatesStopTo"] as const;
const PROPERTIES = ["Id", "Names", "LoadState", "ActiveState", "SubState", "Type", "RemainAfterExit", ...DEPENDENTS, "TriggeredBy"];
/** Units that depend on units that depend on … : on real machines it ends after two or three. */
const ROUNDS_MAX = 5;
const UNITS_MAX = 300;
const SHOW_TIMEOUT_MS = 30_000;

export async function observeUnits(names: readonly string[], probe: Probe): Promise<UnitsFacts> {
  const units = new Map<string, DrainUnit>();
  let next = [...new Set(names)].toSorted();
  for (let round = 0; next.length > 0 && round < ROUNDS_MAX; round += 1) {
    const output = await probe.run(["systemctl", "show", `--property=${PROPERTIES.join(",")}`, "--", ...next], { timeoutMs: SHOW_TIMEOUT_MS });
    const found = parse(output.stdout, next);
    const missing = next.filter((name) => !found.has(name));
    if (missing.length > 0) return { units, error: `systemctl show ended with code ${output.code} and said nothing about ${missing.slice(0, 3).join(", ")}: ${output.stderr.trim().slice(0, 500)}` };
    for (const [name, unit] of found) units.set(name, unit);
    const related = [...found.values()].flatMap((unit) => [...(unit.up ? unit.dependents : []), ...unit.triggers]);
    next = [...new Set(related)].filter((name) => !units.has(name) && canBeStarted(name)).toSorted().slice(0, UNITS_MAX - units.size);
  }
  return { units, error: null };
}

export function stopStep(name: string, { order, timeoutSeconds }: { readonly order: number; readonly timeoutSeconds: number }, facts: UnitsFacts, listed: Readonly<Record<string, unknown>>): DrainStep {
  const act = (doing: string, argv: [string, ...string[]]): Act => ({ doing, argv, timeoutMs: timeoutSeconds * 1_000 });
  const systemctl = (verb: string, units: readonly string[], ...options: string[]): [string, ...string[]] => ["systemctl", "--no-ask-password", ...options, verb, "--", ...units];
  const unit = facts.units.get(name);
  const triggers = (unit?.triggers ?? []).filter((trigger) => facts.units.get(trigger)?.up === true);
  const gone = unit?.up === true ? dependentsOf(name, facts).filter((each) => listed[each] === undefined && !triggers.includes(each)) : [];
  const stop = act(`stopping ${name}`, systemctl("stop", [...triggers, name]));
  const problem = unitGate([name], facts)[0];
  if (unit === undefined || problem !== undefined) return { name: `units/${name}`, order, drain: stop, undo: null, already: false, cannot: problem ?? `${name} was not looked at` };
  // What ends by itself is not run anew, and what somebody else is stopping stays stopped.
  const again = [...triggers, ...(unit.up && !unit.ends ? [name] : []), ...gone];
  // It kept failing before: it is handed back to systemd as it was, and nobody waits for what did not work anyhow.
  const undo = unit.crashing ? act(`starting ${name}`, systemctl("start", [...triggers, name], "--no-block")) : again.length === 0 ? null : act(`starting ${name}`, systemctl("start", again));
  return {
    name: `units/${name}`,
    order,
    drain: stop,
    undo,
    already: !unit.up && !unit.stopping && !unit.crashing && triggers.length === 0,
    units: [...new Set([...triggers, name, ...gone])],
  };
}

/** Why these units cannot be stopped: a name that is not there is a mistake, found before the night. */
export function unitGate(names: readonly string[], facts: UnitsFacts): readonly string[] {
  if (names.length === 0) return [];
  if (facts.error !== null) return [`it is not known which units run: ${facts.error}`];
  return names.filter((name) => facts.units.get(name)?.exists !== true).map((name) => `the section drain stops ${name}, and there is no such unit on this node: correct the name, or take it away for this node by writing null`);
}

/** All that go down with it and run now, those that go down with them too, without those that end by themselves. */
function dependentsOf(name: string, facts: UnitsFacts): readonly string[] {
  const seen = new Set([name]);
  for (const each of seen) for (const dependent of facts.units.get(each)?.dependents ?? []) if (facts.units.get(dependent)?.up === true) seen.add(dependent);
  return [...seen].filter((each) => each !== name && facts.units.get(each)?.ends !== true).toSorted();
}

/** Scopes, devices and transient things are made by others, and cannot be started. */
function canBeStarted(name: string): boolean {
  return UNIT_TYPES.some((type) => name.endsWith(`.${type}`)) && !name.endsWith(".slice");
}

/** Blocks of `Key=value` lines with an empty line between, one a unit (systemctl(1)); known by any of the unit's names. */
function parse(stdout: string, asked: readonly string[]): ReadonlyMap<string, DrainUnit> {
  const byName = new Map<string, DrainUnit>();
  for (const text of stdout.split(/\n[ \t]*\n/)) {
    const values = new Map(text.split("\n").flatMap((line) => (line.includes("=") ? [[line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const] : [])));
    const words = (key: string): readonly string[] => (values.get(key) ?? "").split(" ").filter((word) => word !== "");
    const [activeState, subState] = [values.get("ActiveState") ?? "", values.get("SubState") ?? ""];
    const unit: DrainUnit = {
      exists: values.get("LoadState") !== "not-found",
      up: isUp({ ...unknownUnit, activeState, subState }),
      stopping: activeState === "deactivating",
      crashing: activeState === "activating" && subState === "auto-restart",
      ends: values.get("Type") === "oneshot" && values.get("RemainAfterExit") !== "yes",
      dependents: DEPENDENTS.flatMap(words),
      triggers: words("TriggeredBy"),
    };
    for (const name of [...words("Id"), ...words("Names")]) if (!byName.has(name)) byName.set(name, unit);
  }
  return new Map(asked.flatMap((name) => (byName.has(name) ? [[name, byName.get(name)!] as const] : [])));
}
