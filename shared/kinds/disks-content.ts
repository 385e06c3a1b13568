import { contentText, serialOf, tableOf, typeOf, users } from "./disks-blocks.ts";
import type { Block } from "./disks-blocks.ts";
import type { DisksFacts } from "./disks-facts.ts";
import type { Place } from "./disks-places.ts";
import type { DisksWant, Held } from "./disks-section.ts";
import { FORMAT_TIMEOUT_MS, formatArgv, labelArgv, lookAgain, onBlank, run } from "./disks-tools.ts";
import type { Argv } from "./disks-tools.ts";
import { keyPath, pathOf, unitsOf } from "./disks-units.ts";
import { planUnit } from "./disks-unit-steps.ts";
import { luksPlace } from "./disks-places.ts";
import type { Json, Owned, ResourceId, Step } from "./kind.ts";

/** Where a place stands when the steps planned so far are done. */
export type State =
  /** It is there; what it holds is known. */
  | { readonly is: "there"; readonly block: Block; readonly grows?: boolean }
  /** It will be there, and blank. */
  | { readonly is: "blank"; readonly uuid?: string | undefined; readonly wiped?: true }
  /** It will be there, and what it holds can only be known then. */
  | { readonly is: "later" }
  /** It cannot be had, because this resource has failed; what stands on it is blocked by that. */
  | { readonly is: "lost"; readonly because: string };

/** What the planning of one section carries along. */
export interface Planning {
  readonly want: DisksWant;
  readonly facts: DisksFacts;
  readonly owned: Owned;
  /** Place → where it stands. Filled in from what contains to what is contained. */
  readonly states: Map<string, State>;
}

export function resourceOf(key: string): ResourceId {
  return `disks/${key}`;
}

export function fail(key: string, why: string, message: string): Step {
  return { resource: resourceOf(key), why, impact: "none", do: "fail", message };
}

/** What udev calls what is wanted (ID_FS_TYPE). */
export function wantedType(held: Held): string | null {
  if (held.filesystem !== undefined) return held.filesystem;
  if (held.swap !== undefined) return "swap";
  if (held.luks !== undefined) return "crypto_LUKS";
  if (held.lvm !== undefined) return "LVM2_member";
  if (held.md !== undefined) return "linux_raid_member";
  return held.zfs === undefined ? null : "zfs_member";
}

/** It holds what is wanted, also by the name of the array or pool that a member is of. Of which group a physical volume is, LVM tells. */
export function holdsWanted(held: Held, block: Block): boolean {
  if (tableOf(block) !== null || typeOf(block) !== wantedType(held)) return false;
  const label = block.properties.get("ID_FS_LABEL") ?? "";
  // mdadm's name of an array is HOST:NAME (mdadm(8), --name), or NAME alone in old ones.
  if (held.filesystem === undefined && held.md !== undefined) return label === held.md || label.endsWith(`:${held.md}`);
  return held.zfs === undefined || label === held.zfs;
}

/** Why something may not be made on it, for people, or null when it is blank. */
export function inTheWay(plan: Planning, key: string, block: Block): string | null {
  const { facts } = plan;
  const held = contentText(block, facts.signatures.get(block.name) ?? []);
  const used = users(block, facts.mounts, facts.swaps);
  const free = used.length === 0 ? "" : ` and is ${used.join(", ")}`;
  if (held !== null) return `holds ${held}${free}. ${cure(plan, key, block)}`;
  if (used.length > 0) return `seems blank${free}. Find out what uses it (lsblk, fuser -vm), and end that first.`;
  if (block.readOnly) return "is read-only: a switch on it, or the kernel after an error (see dmesg).";
  if (facts.signatures.get(block.name) === null) return "could not be looked at by wipefs, so it is not known to be blank: see dmesg for read errors of the disk.";
  return null;
}

function cure(plan: Planning, key: string, block: Block): string {
  const [disk = "", device] = Object.entries(plan.want.devices).find(([name]) => key === name || key.startsWith(`${name}/`)) ?? [];
  if (device === undefined) return "Empty it by hand if that may go; Evenkeel formats only what is blank.";
  const serial = serialOf(plan.facts.disks.get(disk) ?? block);
  const used = device.wipe !== undefined && plan.owned.has(`wipe/${device.wipe.id}`) ? ` (the id ${device.wipe.id} has been used on this node, and is good for one time)` : "";
  return `Nothing was changed. To keep it, say what is on it or take the disk out of the section. If all that is on the disk may go, write at the disk: wipe: {serial: ${JSON.stringify(serial)}, id: a-new-word}${used}.`;
}

/** Makes what a place is to hold, where it is blank; sees to the label where it is there; else says what is in the way. */
export function planContent(plan: Planning, place: Place, needs: readonly string[] = []): Step[] {
  const wanted = wantedType(place.held);
  const state = plan.states.get(place.key);
  if (wanted === null || state === undefined || state.is === "lost" || state.is === "later") return planLuks(plan, place, false);
  const path = pathOf(place, plan.want, plan.facts.disks);
  if (state.is === "there" && holdsWanted(place.held, state.block)) {
    return [...planLabel(plan, place, path, state.block, needs), ...planLuks(plan, place, true)];
  }
  if (state.is === "there") {
    const fault = inTheWay(plan, place.key, state.block);
    if (fault !== null) {
      plan.states.set(place.key, { is: "lost", because: place.key });
      return [fail(place.key, `is not blank, and not ${wanted}`, `${place.key} is to hold ${nameOf(place.held)}, and ${fault}`), ...planLuks(plan, place, false)];
    }
    plan.states.set(place.key, { is: "blank" });
  }
  return [...makeContent(place, path, state.is === "blank" ? state.uuid : undefined, needs, `is blank, should hold ${nameOf(place.held)}`), ...planLuks(plan, place, false)];
}

function nameOf(held: Held): string {
  if (held.filesystem !== undefined) return `an ${held.filesystem} file system`.replace(/^an (?=[bx])/, "a ").replace("a xfs", "an xfs");
  if (held.swap !== undefined) return "swap";
  if (held.luks !== undefined) return `the encrypted ${held.luks.name}`;
  if (held.lvm !== undefined) return `a physical volume of ${held.lvm}`;
  return held.md === undefined ? `a member of the pool ${held.zfs}` : `a member of the array ${held.md}`;
}

function makeContent(place: Place, path: string, uuid: string | undefined, needs: readonly string[], why: string): Step[] {
  const { held, key } = place;
  const common = { resource: resourceOf(key), why, impact: "none" as const, ...(needs.length === 0 ? {} : { needs: needs.map(resourceOf) }) };
  const make = (argv: Argv): Step[] => [run(common, onBlank([path], argv), { timeoutMs: FORMAT_TIMEOUT_MS }), run({ ...common, why: "udev has to see what was made" }, lookAgain(path))];
  if (held.filesystem !== undefined) return make(formatArgv(held.filesystem, path, { label: held.label, uuid }));
  if (held.swap !== undefined) return make(formatArgv("swap", path, { label: held.label, uuid }));
  if (held.lvm !== undefined) return make(["pvcreate", path]);
  // Arrays and pools are made of all their members at once.
  if (held.luks === undefined) return [];
  return [
    ...keySteps(held, common.resource, needs),
    ...make(["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", ...(uuid === undefined ? [] : ["--uuid", uuid]), "--key-file", keyPath(held.luks), path]),
  ];
}

/** The key is on the node before anything is encrypted with it. It is never taken away: without it the data would be gone. */
function keySteps(held: Held, resource: ResourceId, needs: readonly string[]): Step[] {
  if (held.luks?.key === undefined) return [];
  return [{ resource, why: "the key has to be there first", impact: "none", ...(needs.length === 0 ? {} : { needs: needs.map(resourceOf) }), sensitive: true, do: "write", path: keyPath(held.luks), content: held.luks.key.bytes, mode: 0o400, owner: "root", group: "root" }];
}

function planLabel(plan: Planning, place: Place, path: string, block: Block, needs: readonly string[]): Step[] {
  const { label, filesystem } = place.held;
  const is = block.properties.get("ID_FS_LABEL") ?? "";
  if (label === undefined || is === label) return [];
  const common = { resource: resourceOf(place.key), why: is === "" ? `has no label, should be ${label}` : `is labelled ${is}, should be ${label}`, impact: "none" as const, ...(needs.length === 0 ? {} : { needs: needs.map(resourceOf) }) };
  const used = users(block, plan.facts.mounts, plan.facts.swaps);
  if (filesystem === undefined && used.length > 0) return [fail(place.key, common.why, `the label of swap space can only be changed while it is not used: run swapoff ${path} on the node; it is used again by itself.`)];
  const mountedAt = [...plan.facts.mounts.values()].find((mount) => used.includes(`mounted at ${mount.at}`))?.at ?? null;
  return [run(common, labelArgv(filesystem ?? "swap", path, label, mountedAt)), run({ ...common, why: "udev has to see the new label" }, lookAgain(path))];
}

/** What stands behind a LUKS header: opened by a unit, and then a place like any other. */
function planLuks(plan: Planning, place: Place, wasThere: boolean): Step[] {
  const { luks } = place.held;
  if (luks === undefined) return [];
  const inside = luksPlace(luks, place);
  const state = plan.states.get(place.key);
  if (state === undefined || state.is === "lost" || state.is === "later") {
    plan.states.set(inside.key, state ?? { is: "later" });
    return [];
  }
  const unit = unitsOf(plan.want, plan.facts.disks).find(({ sort, key }) => sort === "luks" && key === inside.key)!;
  const open = plan.facts.made.get(inside.path!);
  plan.states.set(inside.key, open !== undefined ? { is: "there", block: open } : wasThere ? { is: "later" } : { is: "blank" });
  const [own, key] = [unit.files.filter(({ secret }) => secret !== true), unit.files.find(({ secret }) => secret === true)];
  const kept = key === undefined ? undefined : plan.facts.files.get(key.path);
  if (wasThere && kept?.stat?.type === "file" && !kept.same) {
    plan.states.set(inside.key, { is: "lost", because: inside.key });
    return [fail(inside.key, "its key has changed", `the key of ${luks.name} in the repository is not the one in ${key!.path}, which opens it, and which is never overwritten. Change it on the node: put the new key into a file, cryptsetup luksChangeKey --key-file ${key!.path} ${unit.what} NEWFILE, then move NEWFILE to ${key!.path}.`)];
  }
  // Where the header is only being made, the key was written before it.
  return [...planUnit(plan, wasThere ? unit : { ...unit, files: own }, open !== undefined, [place.key]), ...planContent(plan, inside, [place.key])];
}

/** What is not done for the sake of a resource that has failed, in one line that says so. */
export function blocked(key: string, why: string, because: string): Step {
  return { ...fail(key, why, `waits for ${because}`), needs: [resourceOf(because)] };
}

/** The claim stands at the first step of a resource that is not owned yet. */
export function withClaim(steps: readonly Step[], key: string, claim: Json, owned: Owned): Step[] {
  const first = owned.has(key) ? -1 : steps.findIndex((step) => step.resource === resourceOf(key) && step.do !== "fail");
  return steps.map((step, at) => (at === first ? { ...step, claim } : step));
}

/** A disk has a partition table of its own, or holds what it holds directly. */
export function hasTable(block: Block): boolean {
  return tableOf(block) !== null || block.partitions.length > 0;
}
