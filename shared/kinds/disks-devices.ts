import { describeDisk, serialOf, typeOf, users } from "./disks-blocks.ts";
import type { Block } from "./disks-blocks.ts";
import { fail, hasTable, holdsWanted, inTheWay, planContent, resourceOf, withClaim } from "./disks-content.ts";
import type { Planning } from "./disks-content.ts";
import { byIdPath, uuidOf } from "./disks-names.ts";
import { planPartitions } from "./disks-partitions.ts";
import { diskPlace } from "./disks-places.ts";
import type { Device, Wipe } from "./disks-section.ts";
import { sizeText } from "./disks-size.ts";
import { lookAgain, run } from "./disks-tools.ts";
import type { Argv } from "./disks-tools.ts";
import type { Json, Step, StepCommon } from "./kind.ts";

/** A disk's sticker is right to about this much. */
const SIZE_TOLERANCE = 0.02;
const WIPE_TIMEOUT_MS = 10 * 60_000;

/** One disk, and everything that stands on it. */
export function planDevice(plan: Planning, name: string): Step[] {
  const device = plan.want.devices[name]!;
  const block = plan.facts.disks.get(name) ?? null;
  const lost = (why: string, message: string): Step[] => {
    plan.states.set(name, { is: "lost", because: name });
    return [fail(name, why, message), ...(device.partitions === undefined ? planContent(plan, diskPlace(name, plan.want)) : planPartitions(plan, name))];
  };
  if (block === null) return lost("is missing", missing(plan, name, device));
  const names = Object.keys(plan.want.devices);
  const twin = names.slice(0, names.indexOf(name)).find((other) => plan.facts.disks.get(other)?.name === block.name);
  if (twin !== undefined) return lost(`is ${twin}`, `${name} and ${twin} are two names of the same disk (${describeDisk(block)}): write it once. Nothing was done by ${name}.`);
  if (device.size !== undefined && Math.abs(block.sizeBytes - device.size) > device.size * SIZE_TOLERANCE) {
    return lost(`has ${sizeText(block.sizeBytes)}, should have ${sizeText(device.size)}`, `the disk ${name} has ${sizeText(block.sizeBytes)}, and the section expects ${sizeText(device.size)}: it was left alone. If it is the right disk, correct its size.`);
  }
  const serial = serialOf(block);
  if (device.wipe !== undefined && device.wipe.serial !== serial) {
    return lost("its wipe names another serial", `the wipe at ${name} is for the serial ${device.wipe.serial}, and this disk has ${serial || "none that udev knows"}: nothing was erased. Write the serial of the disk that may be erased, or take the wipe out.`);
  }
  const uuid = device.wipe === undefined ? undefined : uuidOf(device.wipe.serial, device.wipe.id);
  const wiped = device.wipe === undefined ? { state: "as it is" as const, steps: [] } : planWipe(plan, name, device.wipe, block, uuid!);
  if (wiped.state === "cannot") {
    plan.states.set(name, { is: "lost", because: name });
    return [...wiped.steps, ...(device.partitions === undefined ? planContent(plan, diskPlace(name, plan.want)) : planPartitions(plan, name))];
  }
  // What carries the UUID of its wipe is known to be made after it, also by an agent that remembers nothing.
  const isBlank = wiped.state === "erased" || (uuid !== undefined && inTheWay(plan, name, block) === null);
  plan.states.set(name, isBlank ? { is: "blank", uuid, ...(wiped.state === "erased" ? { wiped: true } : {}) } : { is: "there", block });
  const needs = device.wipe === undefined || wiped.steps.length === 0 ? [] : [`wipe/${device.wipe.id}`];
  const content = device.partitions === undefined ? planContent(plan, diskPlace(name, plan.want), needs) : planPartitions(plan, name, needs);
  return [...wiped.steps, ...withClaim(content, name, lastSeen(plan, name), plan.owned)];
}

/** What is remembered of a disk, to be said when it is missing one day. */
export function lastSeen(plan: Planning, name: string): { readonly [key: string]: Json } {
  const block = plan.facts.disks.get(name) ?? null;
  if (block === null) return {};
  const path = block.properties.get("ID_PATH");
  const slot = plan.facts.slots.get(block.name);
  return { disk: describeDisk(block), ...(path === undefined ? {} : { path }), ...(slot === undefined ? {} : { slot }) };
}

/** Where it was, what sits there now, and what to write. */
function missing(plan: Planning, name: string, device: Device): string {
  // The disk's own record, or that of a mount on it.
  const claims = [...plan.owned].filter(([key, claim]) => key === name || (textIn(claim, "on") === name)).map(([, claim]) => claim);
  const of = (key: string): string | null => claims.map((claim) => textIn(claim, key)).find((text) => text !== null) ?? null;
  const [slot, path, disk] = [device.slot ?? of("slot"), of("path"), of("disk")];
  const inPlace = path === null ? undefined : plan.facts.others.find(({ block }) => block.properties.get("ID_PATH") === path);
  const free = plan.facts.others.filter(({ block }) => !hasTable(block) && typeOf(block) === null && block.properties.get("ID_SERIAL") !== undefined && users(block, plan.facts.mounts, plan.facts.swaps).length === 0);
  const was = [...(slot === null ? [] : [`in ${slot}`]), ...(path === null ? [] : [`at ${path}`]), ...(disk === null ? [] : [disk])];
  const now =
    inPlace !== undefined
      ? ` In its place there is now ${inPlace.name} (${describeDisk(inPlace.block)}): if that replaces it, write that name.`
      : free.length > 0
        ? ` If it was replaced, write the new disk's name; blank and not declared: ${free.slice(0, 3).map(({ name: other, block }) => `${other} (${describeDisk(block)})`).join("; ")}.`
        : " Is it in another machine, unplugged, or dead? If it was replaced, write the new disk's name.";
  return `there is no disk ${name} on this node${was.length === 0 ? "" : ` (it was, or should be: ${was.join("; ")})`}. What stands on other disks is not held up.${now}`;
}

function textIn(claim: Json | undefined, key: string): string | null {
  const value = typeof claim === "object" && claim !== null && key in claim ? (claim as Readonly<Record<string, Json>>)[key] : null;
  return typeof value === "string" ? value : null;
}

/**
 * A wipe is good for one time. Its id goes into the inventory before anything is erased, also when there was nothing to
 * erase, and is never taken out again.
 */
function planWipe(plan: Planning, name: string, { id }: Wipe, block: Block, uuid: string): { readonly state: "erased" | "as it is" | "cannot"; readonly steps: Step[] } {
  if (plan.owned.has(`wipe/${id}`)) return { state: "as it is", steps: [] };
  const common: StepCommon = { resource: resourceOf(`wipe/${id}`), why: "", impact: "none", claim: { disk: name, serial: serialOf(block) } };
  const spend = (why: string) => ({ state: "as it is" as const, steps: [run({ ...common, why }, ["true"], { timeoutMs: 10_000 })] });
  const fault = inTheWay(plan, name, block);
  if (fault === null) return spend("there is nothing to erase: the id counts as used");
  if ([block.properties.get("ID_FS_UUID"), block.properties.get("ID_PART_TABLE_UUID")].includes(uuid)) return spend("what is on the disk was made after this very wipe: the id counts as used");
  if (isMemberAsWanted(plan, name, block)) return spend("the disk is what it should be: the id counts as used");
  const used = users(block, plan.facts.mounts, plan.facts.swaps);
  if (used.length > 0) return { state: "cannot", steps: [fail(`wipe/${id}`, "the disk is in use", `${name} is to be wiped, and it is ${used.join(", ")}: nothing was erased. End that first (umount, swapoff, mdadm --stop, vgchange -an …); the wipe is carried out then.`), fail(name, "is in use", `the wipe of ${name} cannot be carried out, because it is ${used.join(", ")}.`)] };
  const disk = byIdPath(name);
  const parts = block.partitions.map(({ number }) => `${disk}-part${number}`);
  const what = fault.split(". ")[0]!.replace(/^holds /, "");
  // The disk first: it cannot be opened exclusively while any partition of it is in use, so that all goes or nothing does.
  const erase: Argv = ["flock", "--exclusive", "--timeout", "60", disk, "wipefs", "--all", disk, ...parts];
  const forget: Argv[] = parts.length === 0 ? [] : [["partx", "--delete", "--nr", `1:${Math.max(...block.partitions.map(({ number }) => number ?? 0))}`, disk]];
  return {
    state: "erased",
    steps: [
      run({ ...common, why: `the repository says that all of serial ${serialOf(block)} may go, once: ${what}` }, erase, { timeoutMs: WIPE_TIMEOUT_MS }),
      ...[...forget, lookAgain(disk)].map((argv) => run({ resource: common.resource, why: "the kernel and udev have to see that it is blank", impact: "none" }, argv)),
    ],
  };
}

/** Members of groups carry no UUID that could say so; but which group they are of, they do. */
function isMemberAsWanted(plan: Planning, name: string, block: Block): boolean {
  const held = plan.want.devices[name]!;
  if (!holdsWanted(held, block)) return false;
  if (held.lvm !== undefined) return plan.facts.lvm?.physical.get(`/dev/${block.name}`)?.group === held.lvm;
  return held.md !== undefined || held.zfs !== undefined;
}
