import { posix } from "node:path";
import { isOn } from "./disks-blocks.ts";
import type { Block } from "./disks-blocks.ts";
import { blocked, fail, resourceOf } from "./disks-content.ts";
import type { Planning } from "./disks-content.ts";
import { lastSeen } from "./disks-devices.ts";
import { filledPath, partitionNamed } from "./disks-facts.ts";
import { placesOf } from "./disks-places.ts";
import { sizeText } from "./disks-size.ts";
import { GROW_TIMEOUT_MS, growArgv, run } from "./disks-tools.ts";
import { planUnit } from "./disks-unit-steps.ts";
import { unitsOf } from "./disks-units.ts";
import type { ManagedUnit } from "./disks-units.ts";
import type { Json, ResourceId, Step } from "./kind.ts";
import { claimedType, forgetStep, nothingAt, planFile, restoreStep } from "./managed-file.ts";
import { ancestors } from "./paths.ts";

/** What is mounted and swapped to, in the order of the mount points: the outer before the inner. */
export function planMounts(plan: Planning): Step[] {
  const units = unitsOf(plan.want, plan.facts.disks).filter(({ sort }) => sort !== "luks");
  return units.toSorted((one, other) => (one.key < other.key ? -1 : 1)).flatMap((unit) => (unit.sort === "swap" ? planSwap(plan, unit) : planMount(plan, unit, units)));
}

function planSwap(plan: Planning, unit: ManagedUnit): Step[] {
  const block = blockOf(plan, unit.place!);
  const active = block !== null && plan.facts.swaps.has(`/dev/${block.name}`);
  const waits = active ? null : waitsFor(plan, unit);
  return waits ?? planUnit(plan, unit, active, [unit.place!], { on: diskOf(unit.place!) });
}

/** Steps in the place of those for a unit whose device cannot be had now; null when it can. */
function waitsFor(plan: Planning, unit: ManagedUnit): Step[] | null {
  const state = unit.place === null ? undefined : plan.states.get(unit.place);
  if (state?.is === "later") return [];
  return state?.is === "lost" ? [blocked(unit.key, "what it stands on cannot be used", state.because)] : null;
}

function planMount(plan: Planning, unit: ManagedUnit, units: readonly ManagedUnit[]): Step[] {
  const { facts } = plan;
  const at = unit.key;
  const mounted = facts.mounts.get(at);
  const waits = waitsFor(plan, unit);
  // What is mounted stays so, with the unit that it has, although the section wants something else that cannot be had.
  if (waits !== null) return mounted === undefined ? waits : [];
  const block = unit.place === null ? null : blockOf(plan, unit.place);
  const outer = ancestors(at).find((up) => units.some(({ key }) => key === up));
  const needs = [...(unit.place === null ? [] : [unit.place]), ...(outer === undefined ? [] : [outer])];
  if (mounted !== undefined && unit.place !== null && block !== null && !isOn(mounted, block)) {
    return [fail(at, `${mounted.source} is mounted there`, `${mounted.source} (${mounted.type}) is mounted at ${at}, where ${unit.place} is to be: unmount it, and look in /etc/fstab for what mounts it.`)];
  }
  const entries = facts.entries.get(at) ?? null;
  if (mounted === undefined && entries !== null && entries > 0 && (outer === undefined || facts.mounts.has(outer))) {
    return [fail(at, "the mount point is not empty", `${at} holds ${entries} ${entries === 1 ? "entry" : "entries"}, which a mount would hide: move them away (mount it elsewhere first to copy them), and it is mounted by itself.`)];
  }
  const last = unit.place === null ? {} : { on: diskOf(unit.place), ...lastSeen(plan, diskOf(unit.place)) };
  const steps = planUnit(plan, unit, mounted !== undefined, needs, { ...last, ...(entries === null && mounted === undefined ? { made: at } : {}) });
  return [...steps, ...(mounted === undefined || block === null ? [] : planFill(plan, unit, block))];
}

/**
 * The file system is made to fill its device whenever that has another size than when this was last done. The size is kept in a
 * file: how large a file system is could only be told by a process for each at every look.
 */
function planFill(plan: Planning, unit: ManagedUnit, block: Block): Step[] {
  const at = unit.key;
  const type = placesOf(plan.want).find(({ key }) => key === unit.place)?.held.filesystem;
  if (type === undefined || plan.facts.filled.get(at) === block.sizeBytes) return [];
  // The kernel refuses to resize a btrfs to less than this, also to what it has (btrfs_ioctl_resize, SZ_256M).
  if (type === "btrfs" && block.sizeBytes < 2 ** 28) return [];
  const resource: ResourceId = resourceOf(`size/${at}`);
  const before = plan.facts.filled.get(at) ?? null;
  const common = { resource, impact: "none" as const, needs: [resourceOf(at), resourceOf(unit.place!)] };
  const why = before === null ? `should fill its device (${sizeText(block.sizeBytes)})` : `its device had ${sizeText(before)} and has ${sizeText(block.sizeBytes)}`;
  if (before !== null && before > block.sizeBytes) return [fail(`size/${at}`, why, `the device under ${at} has become smaller, from ${sizeText(before)} to ${sizeText(block.sizeBytes)}: nothing was done. Make it as large as it was, at once, and check the file system.`)];
  const note = planFile({ path: filledPath(at), content: new TextEncoder().encode(`${block.sizeBytes}\n`), mode: 0o644, owner: "root", group: "root" }, nothingAt, { resource, accounts: plan.facts.accounts, owned: plan.owned, common: { needs: common.needs } });
  return [run({ ...common, why }, growArgv(type, unit.what, at), { timeoutMs: GROW_TIMEOUT_MS }), ...note.map((step) => ({ ...step, why: "so large is the device that it fills now" }))];
}

function blockOf(plan: Planning, place: string): Block | null {
  const path = placesOf(plan.want).find(({ key }) => key === place)?.path ?? null;
  if (path === null) return partitionNamed(plan.facts.disks.get(diskOf(place)) ?? null, posix.basename(place));
  return plan.facts.disks.get(place) ?? plan.facts.made.get(path) ?? null;
}

/** The disk that a place is on, where its name says so. */
function diskOf(place: string): string {
  return place.split("/")[0]!;
}

/** Units that the agent made and nobody wants any more: unmounted, and gone. What is on the disk stays as it is. */
export function pruneUnits(plan: Planning): Step[] {
  const wanted = new Set(unitsOf(plan.want, plan.facts.disks).map(({ key }) => key));
  const gone = [...plan.owned].filter(([key]) => (key.startsWith("/") || key.startsWith("swap/")) && !wanted.has(key)).toSorted(([one], [other]) => (one < other ? 1 : -1));
  const sizes = [...plan.owned].filter(([key]) => key.startsWith("size/") && !wanted.has(key.slice("size/".length)));
  return [...gone.flatMap(([key, claim]) => pruneUnit(plan, key, claim)), ...sizes.map(([key, claim]) => sizeGone(key, claim)), ...orphans(plan)];
}

/** A note of the agent's own: it goes along with its mount, and is no removal of its own. */
function sizeGone(key: string, claim: Json): Step {
  const { removes: _, ...step } = restoreStep(resourceOf(key), filledPath(key.slice("size/".length)), claim);
  return step;
}

function pruneUnit(plan: Planning, key: string, claim: Json): Step[] {
  const resource = resourceOf(key);
  const { unit, files, made } = claimOf(claim);
  const common = { resource, impact: "service" as const, removes: true as const, why: "no longer declared; what is on the disk stays" };
  const active = key.startsWith("/") ? plan.facts.mounts.has(key) : true;
  const others = new Set(unitsOf(plan.want, plan.facts.disks).flatMap((other) => other.files.map(({ path }) => path)));
  const own = files.filter((path) => !others.has(path));
  const restores = own.map((path, at): Step => {
    const { release: _, ...step } = { ...restoreStep(resource, path, at === 0 ? claim : { type: "absent" }) };
    return step;
  });
  const steps: Step[] = [
    ...(active && unit !== "" ? [{ ...common, do: "unit" as const, action: "stop" as const, unit }] : []),
    ...(unit === "" ? [] : [{ ...common, do: "unit" as const, action: "disable" as const, unit }]),
    ...restores,
    ...(made === "" ? [] : [run({ ...common, impact: "none" as const, why: "the mount point was made for the mount; it goes if it is empty" }, ["rmdir", "--ignore-fail-on-non-empty", "--", made])]),
  ];
  const last: Step = { ...common, impact: "none", release: true, why: "systemd has to forget the unit", do: "unit", action: "daemon-reload", unit: unit === "" ? "-.mount" : unit };
  return claimedType(claim) === "absent" || steps.length > 0 ? [...steps, last] : [forgetStep(resource, "no longer declared")];
}

function claimOf(claim: Json): { readonly unit: string; readonly files: readonly string[]; readonly made: string } {
  const { unit = "", files = [], made = "" } = (typeof claim === "object" && claim !== null && !Array.isArray(claim) ? claim : {}) as { readonly unit?: string; readonly files?: readonly string[]; readonly made?: string };
  return { unit, files, made };
}

/** Disks that were set up and are no longer declared: said once, and left alone. Encrypted ones are opened as before. */
function orphans(plan: Planning): Step[] {
  const wanted = new Set([...Object.keys(plan.want.devices), ...placesOf(plan.want).map(({ key }) => key)]);
  return [...plan.owned.keys()]
    .filter((key) => !/^(\/|swap\/|size\/|wipe\/)/.test(key) && !wanted.has(key))
    .toSorted()
    .map((key): Step => ({ resource: resourceOf(key), why: "no longer declared: an orphan, which is left as it is, with all that it holds", impact: "none", release: true, do: "run", argv: ["true"], timeoutMs: 10_000 }));
}
