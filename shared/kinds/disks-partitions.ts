import { tableOf } from "./disks-blocks.ts";
import type { Block } from "./disks-blocks.ts";
import { fail, inTheWay, planContent, resourceOf } from "./disks-content.ts";
import type { Planning, State } from "./disks-content.ts";
import { partitionNamed } from "./disks-facts.ts";
import { byIdPath, GPT_TYPES } from "./disks-names.ts";
import type { Place } from "./disks-places.ts";
import type { Partition } from "./disks-section.ts";
import { sizeText } from "./disks-size.ts";
import { onBlank, run, sfdisk, tellKernel } from "./disks-tools.ts";
import { partitionNumbers } from "./disks-units.ts";
import type { Step, StepCommon } from "./kind.ts";

/** Partitions begin and end at full MiB; the backup of the GPT takes the disk's last 33 sectors. */
const ALIGNMENT_BYTES = 2 ** 20;

/** The table of a disk and all that stands in it. Partitions that are not declared are left alone, and so is what lies between. */
export function planPartitions(plan: Planning, name: string, needs: readonly string[] = []): Step[] {
  const partitions = plan.want.devices[name]!.partitions ?? {};
  const state = plan.states.get(name)!;
  const table = planTable(plan, name, state, needs);
  return [
    ...table,
    ...Object.entries(partitions).flatMap(([partition, wanted]) => {
      const place: Place = { key: `${name}/${partition}`, held: wanted, at: [], path: null };
      const own = planPartition(plan, name, partition, wanted);
      return [...own, ...planContent(plan, place, [name])];
    }),
  ];
}

function planTable(plan: Planning, name: string, state: State, needs: readonly string[]): Step[] {
  const partitions = plan.want.devices[name]!.partitions ?? {};
  const names = Object.keys(partitions);
  const all = (to: State): void => names.forEach((partition) => plan.states.set(`${name}/${partition}`, to));
  const common: StepCommon = { resource: resourceOf(name), why: `is blank, should have a GPT with ${names.join(", ")}`, impact: "none", ...(needs.length === 0 ? {} : { needs: needs.map(resourceOf) }) };
  if (state.is === "lost" || state.is === "later") {
    all(state);
    return [];
  }
  const isGpt = state.is === "there" && tableOf(state.block) === "gpt";
  if (state.is === "blank" || (!isGpt && inTheWay(plan, name, state.block) === null)) {
    const [uuid, wiped] = state.is === "blank" ? [state.uuid, state.wiped === true] : [undefined, false];
    all({ is: "blank" });
    const input = `label: gpt\n${uuid === undefined ? "" : `label-id: ${uuid}\n`}${Object.entries(partitions).map(([partition, wanted]) => line(partition, wanted)).join("")}`;
    // What an erased table pointed to may look like something again once the same partitions are there: it was to go as well.
    const argv = onBlank([byIdPath(name)], sfdisk(byIdPath(name), "--wipe", "never", "--wipe-partitions", wiped ? "always" : "never"));
    return [run(common, argv, { input }), ...tellKernel(byIdPath(name)).map((tell) => run({ ...common, why: "the kernel has to know the partitions" }, tell))];
  }
  const fault = isGpt ? foreignTable(plan, name, state.block, names) : inTheWay(plan, name, state.block);
  if (fault !== null) {
    all({ is: "lost", because: name });
    return [fail(name, "is not blank, and not as declared", `${name} is to have the partitions ${names.join(", ")}, and ${fault}`)];
  }
  return [];
}

/** A table of somebody else's gets no partition added, be it empty. Ours has one of the names already, or is remembered. */
function foreignTable(plan: Planning, name: string, block: Block, names: readonly string[]): string | null {
  const listed = plan.facts.tables.get(name) ?? [];
  const isOurs = plan.owned.has(name) || names.some((partition) => partitionNamed(block, partition) !== null || listed.includes(partition));
  return isOurs ? null : inTheWay(plan, name, block);
}

function planPartition(plan: Planning, name: string, partition: string, wanted: Partition): Step[] {
  const key = `${name}/${partition}`;
  if (plan.states.has(key)) return [];
  const disk = plan.facts.disks.get(name)!;
  const block = partitionNamed(disk, partition);
  const common: StepCommon = { resource: resourceOf(key), why: "", impact: "none", needs: [resourceOf(name)] };
  const number = partitionNumbers(disk, Object.keys(plan.want.devices[name]!.partitions ?? {})).get(partition)!;
  const tell = (why: string) => tellKernel(byIdPath(name), number).map((argv) => run({ ...common, why }, argv));
  if (block !== null) {
    const size = planSize(name, partition, wanted, block, disk, common, tell);
    plan.states.set(key, { is: "there", block, grows: size.some((step) => step.do === "run") });
    return [...planType(name, wanted, block, common), ...size];
  }
  if (plan.facts.tables.get(name)?.includes(partition) === true) {
    plan.states.set(key, { is: "later" });
    const told = plan.states.has(`${name}/.table`);
    plan.states.set(`${name}/.table`, { is: "later" });
    // Another resource than the partition's own: what is on it is looked at, and seen to, in the same run.
    const why = "its partitions are in the table, and the kernel does not know all of them";
    return told ? [] : tellKernel(byIdPath(name)).map((argv) => run({ ...common, resource: resourceOf(`${name}/.table`), why }, argv));
  }
  plan.states.set(key, { is: "blank" });
  const argv = sfdisk(byIdPath(name), "--append", "--wipe", "never", "--wipe-partitions", "never");
  return [run({ ...common, why: "is not there, and is added in the room that is left" }, argv, { input: `${number} : ${line(partition, wanted)}` }), ...tell("the kernel has to know the new partition")];
}

/** A line of sfdisk's script: sizes without a unit are sectors, so it is given one. */
function line(name: string, wanted: Partition): string {
  const size = wanted.size === "rest" ? "+" : `${Math.floor(wanted.size / 1024)}KiB`;
  return `size=${size}, type=${typeGuid(wanted)}, name="${name}"\n`;
}

function typeGuid(wanted: Partition): string {
  const implied = wanted.swap !== undefined ? "swap" : wanted.lvm !== undefined ? "lvm" : wanted.md !== undefined ? "raid" : wanted.zfs !== undefined ? "zfs" : "linux";
  return GPT_TYPES[wanted.type ?? implied] ?? wanted.type ?? "";
}

function planType(name: string, wanted: Partition, block: Block, common: StepCommon): Step[] {
  const is = block.properties.get("ID_PART_ENTRY_TYPE");
  // An adopted partition keeps a type that nobody said anything about.
  if (wanted.type === undefined || is === undefined || is === typeGuid(wanted)) return [];
  const argv = ["sfdisk", "--quiet", "--lock=yes", "--no-reread", "--no-tell-kernel", "--part-type", byIdPath(name), String(block.number), typeGuid(wanted)] as const;
  return [run({ ...common, why: `its type is ${is}, should be ${wanted.type}` }, argv), run({ ...common, why: "udev has to see the new type" }, ["udevadm", "trigger", "--settle", "--action=change", `--name-match=${byIdPath(name)}-part${block.number}`])];
}

function planSize(name: string, partition: string, wanted: Partition, block: Block, disk: Block, common: StepCommon, tell: (why: string) => Step[]): Step[] {
  const end = block.startBytes + block.sizeBytes;
  const next = Math.min(disk.sizeBytes - ALIGNMENT_BYTES, ...disk.partitions.filter(({ startBytes }) => startBytes >= end).map(({ startBytes }) => startBytes));
  const wantedBytes = wanted.size === "rest" ? next - block.startBytes : wanted.size;
  if (wanted.size !== "rest" && block.sizeBytes - wantedBytes > ALIGNMENT_BYTES) {
    return [fail(`${name}/${partition}`, `has ${sizeText(block.sizeBytes)}, should have ${sizeText(wantedBytes)}`, `the partition ${partition} of ${name} has ${sizeText(block.sizeBytes)}, more than the ${sizeText(wantedBytes)} that are declared, and nothing is ever made smaller: declare its size as it is.`)];
  }
  if (wantedBytes - block.sizeBytes <= ALIGNMENT_BYTES) return [];
  if (block.startBytes + wantedBytes > next + ALIGNMENT_BYTES) {
    return [fail(`${name}/${partition}`, `has ${sizeText(block.sizeBytes)}, should have ${sizeText(wantedBytes)}`, `the partition ${partition} of ${name} can grow to ${sizeText(next - block.startBytes)} at most, where the next one begins or the disk ends: declare no more than that.`)];
  }
  const why = `has ${sizeText(block.sizeBytes)}, should have ${sizeText(wantedBytes)}`;
  const size = wanted.size === "rest" ? "+" : `${Math.floor(wantedBytes / 1024)}KiB`;
  return [run({ ...common, why }, sfdisk(byIdPath(name), "--wipe", "never", "--wipe-partitions", "never", "-N", String(block.number)), { input: `, ${size}\n` }), ...tell("the kernel has to know the new size")];
}
