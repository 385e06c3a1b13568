import { describeSource } from "../config/content.ts";
import { readAccounts } from "./accounts.ts";
import { markedBefore, markedUnits, withUnitImpact } from "./disruptive-units.ts";
import { defineKind } from "./kind.ts";
import type { Owned, ResourceId, Step } from "./kind.ts";
import { lookAt, lookAtAll, nothingAt, planFile } from "./managed-file.ts";
import { pruneServices } from "./services-prune.ts";
import { servicesSchema, unitOfPath, wantedFiles } from "./services-section.ts";
import type { ServiceEntry, ServicesFacts, ServicesWant } from "./services-section.ts";
import { isTemplateUnit, templateOf } from "./unit-name.ts";
import { canBeEnabled, isEnabled, isMasked, isUp, showUnits, unknownUnit } from "./unit-state.ts";
import type { UnitState } from "./unit-state.ts";

/**
 * Keys of the inventory are the unit (for its state) and each file's path (for the file), so that a drop-in can go
 * while its unit stays.
 */
export const services = defineKind({
  name: "services",
  summary: "systemd units: enabled, running, masked, unit files of one's own and drop-ins",
  schema: servicesSchema,

  async observe(want, probe, owned): Promise<ServicesFacts> {
    const files = wantedFiles(want);
    const ownedPaths = [...owned.keys()].filter((key) => key.startsWith("/"));
    const units = new Set([...Object.keys(want), ...[...owned.keys()].map((key) => (key.startsWith("/") ? unitOfPath(key) : key))]);
    const [accounts, at, shown] = await Promise.all([
      readAccounts(probe),
      lookAtAll([...new Set([...files.keys(), ...ownedPaths])], (path) => lookAt(probe, path, files.has(path) ? { content: files.get(path)!.content.bytes } : {})),
      showUnits(probe, [...units].filter((unit) => !isTemplateUnit(unit)).toSorted()),
    ]);
    return { accounts, at, units: shown.units, error: shown.error };
  },

  plan(want, facts, owned) {
    const names = Object.keys(want).toSorted();
    const written = new Map(names.map((name) => [name, planFiles(name, want[name]!, facts, owned)]));
    const reloads = names.flatMap((name) => planReload(name, facts, written.get(name)!));
    const states = names.flatMap((name) => planState(name, want, facts, [name, templateOf(name)].some((unit) => (written.get(unit) ?? []).length > 0)));
    const steps = [...pruneServices(want, facts, owned), ...[...written.values()].flat(), ...reloads, ...withClaims(inOrder(states), want, facts, owned)];
    return withUnitImpact(stoppedFirst(steps, markedBefore(owned)), new Set([...markedUnits(want), ...markedBefore(owned)]));
  },

  // A unit of which nothing is said but its file may come and go: what a timer starts each minute is no drift.
  watch: (want) => ({ units: Object.keys(want).filter((name) => !isTemplateUnit(name) && hasState(want[name]!)), paths: [...wantedFiles(want).keys()] }),
});

function planFiles(name: string, unit: ServiceEntry, facts: ServicesFacts, owned: Owned): Step[] {
  const state = facts.units.get(name);
  // What starts in this run anyhow reads the new files; what is to be stopped needs no restart first.
  const restarts = state !== undefined && isUp(state) && unit.running !== false && unit.masked !== true;
  return [...wantedFiles({ [name]: unit })].flatMap(([path, file]) =>
    planFile(
      { path, content: file.content.bytes, mode: 0o644, owner: "root", group: "root", ...("text" in file.content.from ? {} : { source: describeSource(file.content.from) }) },
      facts.at.get(path) ?? nothingAt,
      { resource: `services/${path}`, accounts: facts.accounts, owned, ...(restarts ? { common: { then: [{ unit: name, action: "restart" }], impact: "service" } } : {}) },
    ),
  );
}

/** A unit that waits for the node's turn to be stopped keeps its file until then: without it nobody would know what to stop. */
function stoppedFirst(steps: readonly Step[], leanedOn: ReadonlySet<string>): readonly Step[] {
  return steps.map((step) => {
    const key = step.resource.slice("services/".length);
    if (step.removes !== true || !key.startsWith("/") || !leanedOn.has(unitOfPath(key))) return step;
    return { ...step, needs: [`services/${unitOfPath(key)}`] };
  });
}

function hasState(unit: ServiceEntry): boolean {
  return unit.enabled !== undefined || unit.running !== undefined || unit.masked !== undefined;
}

/** One per file that was written; neighbours become one call of systemctl. */
function planReload(name: string, facts: ServicesFacts, written: readonly Step[]): Step[] {
  // Without a systemd there is nobody to tell: it reads the files when it comes.
  if (facts.error !== null) return [];
  const reload = { impact: "none", do: "unit", action: "daemon-reload", unit: name } as const;
  if (written.length > 0) return [...new Set(written.map((step) => step.resource))].map((resource): Step => ({ resource, why: "systemd has to read the changed unit file", ...reload }));
  if (facts.units.get(name)?.needsReload !== true) return [];
  return [{ resource: `services/${name}`, why: "a unit file has changed since systemd read it", ...reload }];
}

function planState(name: string, want: ServicesWant, facts: ServicesFacts, written: boolean): Step[] {
  const unit = want[name]!;
  if (!hasState(unit)) return [];
  const resource: ResourceId = `services/${name}`;
  const template = templateOf(name);
  const declared = unit.unit !== undefined || want[template]?.unit !== undefined;
  const own = { [name]: unit, ...(want[template] === undefined ? {} : { [template]: want[template] }) };
  const needs = [...wantedFiles(own).keys()].map((path): ResourceId => `services/${path}`);
  const common = { resource, ...(needs.length === 0 ? {} : { needs }) };
  const fail = (why: string, message: string): Step => ({ ...common, why, impact: "none", do: "fail", message });
  const state = facts.units.get(name) ?? (facts.error === null ? unknownUnit : null);
  if (state === null) return [fail("its state is not known", `${facts.error}. Without systemd's answer nothing is changed; it is tried again by itself.`)];

  if (unit.masked === true) {
    return [
      ...(isUp(state) ? [act(common, "stop", `is ${state.activeState}, should be masked`)] : []),
      ...(isMasked(state) && state.fileState !== "masked-runtime" ? [] : [act(common, "mask", "is not masked, should be")]),
    ];
  }
  // A unit file of one's own takes the place of the link to /dev/null that masks a unit.
  const masked = isMasked(state) && unit.unit === undefined;
  const wanted = unit.enabled === true || unit.running === true;
  const unmask = masked && (unit.masked === false || wanted) ? [act(common, "unmask", "is masked, should not be")] : [];
  if (wanted && state.loadState === "not-found" && !declared) {
    return [fail("does not exist", `there is no unit ${name} on this node. Is the package that brings it declared under packages, and the name right?`)];
  }
  if (wanted && !written && ["bad-setting", "error", "bad"].includes(state.loadState)) {
    return [fail(`cannot be loaded (${state.loadState})`, `systemd cannot load ${name}: ${state.loadError || state.loadState}. \`systemd-analyze verify ${name}\` on the node says more.`)];
  }
  return [...unmask, ...planEnabled(unit, state, written, common, fail), ...planRunning(name, unit, state, written, common, fail)];
}

type Common = { readonly resource: ResourceId; readonly needs?: readonly ResourceId[] };
type Fail = (why: string, message: string) => Step;

function planEnabled(unit: ServiceEntry, state: UnitState, written: boolean, common: Common, fail: Fail): Step[] {
  if (unit.enabled === true) {
    if (unit.unit !== undefined && !/^\[Install\]/m.test(new TextDecoder().decode(unit.unit.bytes))) {
      return [fail("is not enabled, should be", "the unit file has no [Install] section, so that nothing says what should start it: add one, such as WantedBy=multi-user.target, or leave `enabled` out.")];
    }
    const newlyPossible = unit.unit !== undefined && written && !isEnabled(state);
    return newlyPossible || canBeEnabled(state) ? [act(common, "enable", `is ${state.fileState === "" ? "new" : state.fileState}, should be enabled`)] : [];
  }
  return unit.enabled === false && ["enabled", "enabled-runtime"].includes(state.fileState) ? [act(common, "disable", `is ${state.fileState}, should be disabled`)] : [];
}

function planRunning(name: string, unit: ServiceEntry, state: UnitState, written: boolean, common: Common, fail: Fail): Step[] {
  if (unit.running === undefined) return [];
  if (!unit.running) return isUp(state) || state.activeState === "activating" ? [act(common, "stop", `is ${state.activeState}, should be stopped`)] : [];
  if (isUp(state)) return [];
  // While its files change, another start may well go better.
  if (state.subState === "auto-restart" && !written) {
    return [fail("keeps failing", `${name} is started by systemd again and again and does not stay up. \`journalctl -u ${name}\` on the node says why.`)];
  }
  if (written ? endsByFile(unit) : state.ends) {
    return [fail("is a oneshot", `${name} runs once and ends (Type=oneshot), so that it cannot be kept running: leave \`running\` out and start it by a timer, or give it RemainAfterExit=yes.`)];
  }
  const skipped = state.conditionFailed ? " (at the last try a condition of the unit was not met)" : "";
  return [act(common, "start", `${state.activeState === "failed" ? "has failed" : `is ${state.activeState}`}, should be running${skipped}`)];
}

/** A unit that is only being written: what its file says about itself, which systemd does not know yet. */
function endsByFile(unit: ServiceEntry): boolean {
  const text = [unit.unit, ...Object.values(unit.dropIns ?? {})].map((part) => (part === undefined ? "" : new TextDecoder().decode(part.bytes))).join("\n");
  return /^Type\s*=\s*oneshot\s*$/m.test(text) && !/^RemainAfterExit\s*=\s*(yes|true|on|1)\s*$/im.test(text);
}

function act(common: Common, action: Extract<Step, { do: "unit" }>["action"], why: string): Step {
  return { ...common, why, impact: action === "start" || action === "stop" ? "service" : "none", do: "unit", action, unit: common.resource.slice("services/".length) };
}

/** Same actions stand together, so that the engine makes one call of them; what cannot be done comes last. */
const ORDER = ["unmask", "enable", "disable", "stop", "mask", "start"];

function inOrder(steps: readonly Step[]): Step[] {
  const rank = (step: Step): number => (step.do === "unit" ? ORDER.indexOf(step.action) : ORDER.length);
  return steps.toSorted((one, other) => rank(one) - rank(other));
}

/** The first step that changes a unit's state records what the state was. */
function withClaims(steps: readonly Step[], want: ServicesWant, facts: ServicesFacts, owned: Owned): Step[] {
  const claimed = new Set<string>(owned.keys());
  return steps.map((step) => {
    const unit = step.resource.slice("services/".length);
    if (step.do === "fail" || claimed.has(unit)) return step;
    claimed.add(unit);
    const { loadState, fileState, activeState } = facts.units.get(unit) ?? unknownUnit;
    return { ...step, claim: { loadState, fileState, activeState, ...(want[unit]?.disruptive === true && { disruptive: true }) } };
  });
}
