import { blocked, fail, planContent, resourceOf } from "./disks-content.ts";
import type { Planning, State } from "./disks-content.ts";
import { commonOf, lostAmong, membersOf } from "./disks-groups.ts";
import type { Member } from "./disks-groups.ts";
import type { LvmReport } from "./disks-lvm-report.ts";
import { placesOf } from "./disks-places.ts";
import { sizeText } from "./disks-size.ts";
import { FORMAT_TIMEOUT_MS, run } from "./disks-tools.ts";
import type { Argv } from "./disks-tools.ts";
import type { Step, StepCommon } from "./kind.ts";

/** A volume group, its volumes, and what stands on them. Volumes that are not declared are left alone. */
export function planGroup(plan: Planning, group: string): Step[] {
  const report = plan.facts.lvm!;
  const members = membersOf(plan, "lvm", group);
  const key = `lvm/${group}`;
  const lost = (steps: Step[]): Step[] => {
    for (const { key: volume } of placesOf(plan.want)) if (volume.startsWith(`${key}/`)) plan.states.set(volume, { is: "lost", because: key });
    return [...steps, ...contents(plan, key)];
  };
  if (report.error !== null) return lost([fail(key, "LVM does not answer", `${report.error}. Nothing of the group ${group} was changed.`)]);
  const known = report.groups.get(group);
  if (known !== undefined && known.missing > 0) {
    return lost([fail(key, `${known.missing} of its physical volumes are missing`, `the volume group ${group} lacks ${known.missing} of its physical volumes, so nothing of it is changed. Bring the disk back, or give it up by hand (vgreduce --removemissing).`)]);
  }
  const away = lostAmong(members);
  if (known === undefined && members.length === 0) return lost([fail(key, "does not exist", `nothing says lvm: ${group}: write it at the disks or partitions that the group is to be made of.`)]);
  if (known === undefined && away !== null) return lost([blocked(key, "does not exist, and is made when all of its disks are there", away)]);
  if (known === undefined && members.some(({ state }) => state.is === "later")) return later(plan, key);
  const volumes = plan.want.volumeGroups[group]!.volumes;
  // What takes the rest comes after what has a size.
  const names = Object.keys(volumes).toSorted((one, other) => Number(volumes[one]!.size === "rest") - Number(volumes[other]!.size === "rest"));
  return [...planMembers(group, members, report, known !== undefined), ...names.flatMap((name) => planVolume(plan, group, name))];
}

/** What its members are is seen in this very run, and the group after it. */
function later(plan: Planning, key: string): Step[] {
  for (const { key: volume } of placesOf(plan.want)) if (volume.startsWith(`${key}/`)) plan.states.set(volume, { is: "later" });
  return contents(plan, key);
}

/** What stands on the volumes of a group that cannot be had now: no steps, but it is known to wait. */
function contents(plan: Planning, group: string): Step[] {
  return placesOf(plan.want).flatMap((place) => (place.key.startsWith(`${group}/`) ? planContent(plan, place) : []));
}

/** The group of a physical volume, by the device that LVM prefers to call it by. */
function physicalOf({ path, state }: Member, report: LvmReport): { readonly group: string; readonly sizeBytes: number; readonly deviceBytes: number } | undefined {
  return report.physical.get(path) ?? (state.is === "there" ? report.physical.get(`/dev/${state.block.name}`) : undefined);
}

function planMembers(group: string, members: readonly Member[], report: LvmReport, exists: boolean): Step[] {
  const common = { ...commonOf(`lvm/${group}`, members) };
  const foreign = members.filter((member) => ![undefined, "", group].includes(physicalOf(member, report)?.group));
  if (foreign.length > 0) {
    return foreign.map((member) => fail(`lvm/${group}`, "a member is of another group", `${member.place.key} is to be in the volume group ${group}, and belongs to ${physicalOf(member, report)!.group}: it was left alone. Correct the group's name, or take it out of the other group by hand (vgreduce).`));
  }
  if (!exists) return [run({ ...common, why: `does not exist, should be made of ${members.map(({ place }) => place.key).join(", ")}` }, ["vgcreate", group, ...members.map(({ path }) => path)])];
  return members.flatMap((member): Step[] => {
    if (member.state.is === "lost" || member.state.is === "later") return [];
    const own: StepCommon = { ...common, needs: [resourceOf(member.place.key)] };
    const physical = physicalOf(member, report);
    if (physical === undefined || physical.group === "") return [run({ ...own, why: `${member.place.key} should be part of it` }, ["vgextend", group, member.path])];
    if (member.state.is === "there" && member.state.grows === true) return [run({ ...own, why: `${member.place.key} grows` }, ["pvresize", member.path])];
    const slack = 2 * (report.groups.get(group)?.extentBytes ?? 0);
    if (physical.deviceBytes - physical.sizeBytes <= slack) return [];
    return [run({ ...own, why: `${member.place.key} has grown to ${sizeText(physical.deviceBytes)}` }, ["pvresize", member.path])];
  });
}

function planVolume(plan: Planning, group: string, name: string): Step[] {
  const volume = plan.want.volumeGroups[group]!.volumes[name]!;
  const own = planExtents(plan, group, name, volume.size, volume.thin === undefined ? {} : { isPool: true });
  const place = placesOf(plan.want).find(({ key }) => key === `lvm/${group}/${name}`)!;
  const thin = Object.entries(volume.thin ?? {}).flatMap(([child, { size }]) => {
    const steps = planExtents(plan, group, child, size, { pool: name });
    const inside = placesOf(plan.want).find(({ key }) => key === `lvm/${group}/${child}`)!;
    return [...steps, ...planContent(plan, inside, [inside.key])];
  });
  return [...own, ...planContent(plan, place, [place.key]), ...thin];
}

/** The room of a plain volume, of a thin pool, or of a thin volume in its pool. */
function planExtents(plan: Planning, group: string, name: string, size: number | "rest", { isPool = false, pool }: { readonly isPool?: boolean; readonly pool?: string }): Step[] {
  const report = plan.facts.lvm!;
  const key = `lvm/${group}/${name}`;
  const known = report.volumes.get(`${group}/${name}`);
  const { freeBytes = 0, extentBytes = 4 * 2 ** 20 } = report.groups.get(group) ?? {};
  const common: StepCommon = { resource: resourceOf(key), why: "", impact: "none", needs: [resourceOf(`lvm/${group}`), ...(pool === undefined ? [] : [resourceOf(`lvm/${group}/${pool}`)])] };
  const to = (state: State, steps: Step[]): Step[] => {
    plan.states.set(key, state);
    return steps;
  };
  if (known === undefined) {
    const room = size === "rest" ? ["--extents", "100%FREE"] : [pool === undefined ? "--size" : "--virtualsize", `${size}b`];
    // What a deleted volume left in the group's free room is nobody's any more: unlike on a disk, signatures there may go.
    const kind = isPool ? ["--type", "thin-pool", group] : pool === undefined ? ["--wipesignatures", "y", group] : ["--thin", `${group}/${pool}`];
    const argv: Argv = ["lvcreate", "--yes", ...room, "--name", name, ...kind];
    return to({ is: "blank" }, [run({ ...common, why: `does not exist, should have ${size === "rest" ? "what is free" : sizeText(size)}` }, argv, { timeoutMs: FORMAT_TIMEOUT_MS })]);
  }
  const block = plan.facts.made.get(`/dev/${group}/${name}`);
  const activate = known.active || isPool ? [] : [run({ ...common, why: "is not active" }, ["lvchange", "--activate", "y", `${group}/${name}`])];
  const state: State = block !== undefined ? { is: "there", block } : { is: "later" };
  const wantedBytes = size === "rest" ? known.sizeBytes + Math.floor(freeBytes / extentBytes) * extentBytes : Math.ceil(size / extentBytes) * extentBytes;
  if (wantedBytes < known.sizeBytes) {
    return to(state, [...activate, fail(key, `has ${sizeText(known.sizeBytes)}, should have ${sizeText(wantedBytes)}`, `the volume ${name} of ${group} has ${sizeText(known.sizeBytes)}, more than is declared, and nothing is ever made smaller: declare its size as it is (${known.sizeBytes / 2 ** 20}MiB).`)]);
  }
  if (wantedBytes === known.sizeBytes) return to(state, activate);
  const room = size === "rest" ? ["--extents", "+100%FREE"] : ["--size", `${size}b`];
  // The file system follows in the same run, once it is seen that its device has grown.
  return to(state, [...activate, run({ ...common, why: `has ${sizeText(known.sizeBytes)}, should have ${sizeText(wantedBytes)}` }, ["lvextend", ...room, `${group}/${name}`])]);
}
