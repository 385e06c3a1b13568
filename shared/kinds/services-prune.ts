import type { Json, Owned, ResourceId, Step } from "./kind.ts";
import { claimedType, forgetStep, restoreStep } from "./managed-file.ts";
import { unitOfPath, unitPath, wantedFiles } from "./services-section.ts";
import type { ServicesFacts, ServicesWant } from "./services-section.ts";
import { templateOf } from "./unit-name.ts";
import { isEnabled, isMasked, isUp, unknownUnit } from "./unit-state.ts";

/**
 * What the agent did to units that have left the section, taken back:
 *
 * - A unit whose file the agent made is stopped and disabled, then the file goes.
 * - A unit of somebody else's gets back what was set for boot (enabled, disabled, masked). It is started again if it ran
 *   before and was stopped for the section's sake; but it is never stopped: whoever dropped the line said nothing about
 *   wanting the service down.
 */
export function pruneServices(want: ServicesWant, facts: ServicesFacts, owned: Owned): Step[] {
  const wanted = wantedFiles(want);
  const files = [...owned.keys()].filter((key) => key.startsWith("/") && !wanted.has(key)).toSorted();
  const units = [...owned.keys()].filter((key) => !key.startsWith("/") && want[key] === undefined).toSorted();
  const made = (path: string): boolean => files.includes(path) && claimedType(owned.get(path)) === "absent";
  const vanishes = (unit: string): boolean => made(unitPath(unit)) || made(unitPath(templateOf(unit)));
  return [
    ...units.flatMap((unit) => releaseUnit(unit, vanishes(unit), facts, owned)),
    ...files.flatMap((path) => stopOrphan(path, units, vanishes, facts)),
    ...files.map((path) => restoreFile(path, vanishes, facts, owned)),
    ...files.map((path): Step => ({ ...common(`services/${path}`), why: "systemd has to forget the unit file", do: "unit", action: "daemon-reload", unit: unitOfPath(path) })),
  ];
}

function releaseUnit(unit: string, vanishes: boolean, facts: ServicesFacts, owned: Owned): Step[] {
  const resource: ResourceId = `services/${unit}`;
  const state = facts.units.get(unit) ?? unknownUnit;
  const steps = vanishes ? takeDown(resource, unit, facts) : putBack(resource, unit, facts, owned.get(unit));
  const last = steps.pop();
  if (last !== undefined) return [...steps, { ...last, release: true }];
  return [forgetStep(resource, state.loadState === "not-found" ? "no longer declared, and gone" : "no longer declared; it is as it was before")];
}

function takeDown(resource: ResourceId, unit: string, facts: ServicesFacts): Step[] {
  const state = facts.units.get(unit) ?? unknownUnit;
  return [
    ...(isUp(state) || state.activeState === "activating" ? [step(resource, "stop", unit, "no longer declared, and its unit file goes")] : []),
    ...(isEnabled(state) ? [step(resource, "disable", unit, "no longer declared, and its unit file goes")] : []),
  ];
}

function putBack(resource: ResourceId, unit: string, facts: ServicesFacts, claim: Json | undefined): Step[] {
  const state = facts.units.get(unit) ?? unknownUnit;
  if (state.loadState === "not-found") return [];
  const before = { fileState: claimText(claim, "fileState"), loadState: claimText(claim, "loadState"), activeState: claimText(claim, "activeState") };
  if (isMasked(before)) return isMasked(state) ? [] : [step(resource, "mask", unit, "no longer declared; it was masked before")];
  const masked = isMasked(state);
  return [
    ...(masked ? [step(resource, "unmask", unit, "no longer declared; it was not masked before")] : []),
    ...(isEnabled(before) && !isEnabled(state) ? [step(resource, "enable", unit, "no longer declared; it was enabled before")] : []),
    ...(before.fileState === "disabled" && isEnabled(state) ? [step(resource, "disable", unit, "no longer declared; it was disabled before")] : []),
    ...(before.activeState === "active" && !isUp(state) ? [step(resource, "start", unit, "no longer declared; it was running before")] : []),
  ];
}

/** A unit file without any state declared for it: its unit may still run. */
function stopOrphan(path: string, units: readonly string[], vanishes: (unit: string) => boolean, facts: ServicesFacts): Step[] {
  const unit = unitOfPath(path);
  if (path !== unitPath(unit) || units.includes(unit) || !vanishes(unit)) return [];
  return takeDown(`services/${path}`, unit, facts);
}

function restoreFile(path: string, vanishes: (unit: string) => boolean, facts: ServicesFacts, owned: Owned): Step {
  const unit = unitOfPath(path);
  const state = facts.units.get(unit);
  const restarts = state !== undefined && isUp(state) && !vanishes(unit);
  return { ...restoreStep(`services/${path}`, path, owned.get(path)), impact: "service", ...(restarts ? { then: [{ unit, action: "restart" }] } : {}) };
}

function common(resource: ResourceId): { readonly resource: ResourceId; readonly impact: "service"; readonly removes: true } {
  return { resource, impact: "service", removes: true };
}

function step(resource: ResourceId, action: Extract<Step, { do: "unit" }>["action"], unit: string, why: string): Step {
  return { ...common(resource), why, do: "unit", action, unit };
}

function claimText(claim: Json | undefined, key: string): string {
  const value = typeof claim === "object" && claim !== null && key in claim ? (claim as Readonly<Record<string, Json>>)[key] : undefined;
  return typeof value === "string" ? value : "";
}
