import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { kernelName, parseMounts, parseSwaps, readBlock, tableOf, typeOf, users } from "./disks-blocks.ts";
import type { Block, Mounted } from "./disks-blocks.ts";
import { readLvm } from "./disks-lvm-report.ts";
import type { LvmReport } from "./disks-lvm-report.ts";
import { byIdPath, escapePath } from "./disks-names.ts";
import { placesOf } from "./disks-places.ts";
import type { Place } from "./disks-places.ts";
import type { DisksWant } from "./disks-section.ts";
import { GUARD, GUARD_PATH } from "./disks-tools.ts";
import { unitsOf } from "./disks-units.ts";
import { readZfs } from "./disks-zfs-report.ts";
import type { ZfsReport } from "./disks-zfs-report.ts";
import type { Owned, Probe } from "./kind.ts";
import { lookAt, lookAtAll } from "./managed-file.ts";
import type { At } from "./managed-file.ts";

export interface DisksFacts {
  /** Disks by the name that the section gives them; null when there is none. */
  readonly disks: ReadonlyMap<string, Block | null>;
  /** What stands behind the paths of places: of LUKS, volumes, arrays. */
  readonly made: ReadonlyMap<string, Block>;
  /** Kernel name → what `wipefs` finds, of devices that seem blank and are to hold something; null when it could not look. */
  readonly signatures: ReadonlyMap<string, readonly string[] | null>;
  /** Disk → the names in its GPT, where the kernel knows fewer than are wanted. */
  readonly tables: ReadonlyMap<string, readonly string[]>;
  /** Disks of the node that the section does not name; only looked up when one is missing. */
  readonly others: readonly { readonly name: string; readonly block: Block }[];
  /** Kernel name → its place in an enclosure, where there is one that says so. */
  readonly slots: ReadonlyMap<string, string>;
  readonly mounts: ReadonlyMap<string, Mounted>;
  readonly swaps: ReadonlySet<string>;
  readonly files: ReadonlyMap<string, At>;
  readonly links: ReadonlyMap<string, string | null>;
  /** Mount point that nothing is mounted at → how many entries it has; null when it is not there. */
  readonly entries: ReadonlyMap<string, number | null>;
  /** Mount point → how large its device was when its file system was last seen to fill it. */
  readonly filled: ReadonlyMap<string, number | null>;
  readonly lvm: LvmReport | null;
  readonly zfs: ZfsReport | null;
  readonly accounts: Accounts;
}

const OTHERS_MAX = 256;
export const GUARD_BYTES = new TextEncoder().encode(GUARD);

/** Where it is kept how large the device of a mounted file system was when that was last made to fill it. */
export function filledPath(at: string): string {
  return `/var/lib/evenkeel/disks/${escapePath(at)}.size`;
}

export async function observeDisks(want: DisksWant, probe: Probe, owned: Owned): Promise<DisksFacts> {
  const names = Object.keys(want.devices);
  const places = placesOf(want);
  const all = names.length + places.length === 0 ? [] : ((await probe.list("/sys/class/block")) ?? []);
  const disks = await lookAtAll(names, (name) => blockAt(probe, byIdPath(name), all));
  const units = unitsOf(want, disks);
  const contents = new Map([[GUARD_PATH, GUARD_BYTES], ...units.flatMap(({ files }) => files.map(({ path, content }) => [path, content] as const))]);
  const [found, mountInfo, swapInfo, accounts, files, links, lvm, zfs, slots] = await Promise.all([
    lookAtAll(madePaths(places), (path) => blockAt(probe, path, all)),
    // PID 1's, because the agent's own mount namespace may be another one.
    probe.readText("/proc/1/mountinfo"),
    probe.readText("/proc/swaps"),
    readAccounts(probe),
    lookAtAll([...new Set([GUARD_PATH, ...contents.keys(), ...claimedFiles(owned)])], (path) => lookAt(probe, path, { content: contents.get(path) })),
    lookAtAll(units.flatMap((unit) => unit.links), (path) => probe.readLink(path)),
    Object.keys(want.volumeGroups).length === 0 ? null : readLvm(probe),
    Object.keys(want.zpools).length === 0 ? null : readZfs(probe, want),
    names.length === 0 ? new Map<string, string>() : readSlots(probe),
  ]);
  const mounts = await withDevices(probe, parseMounts(mountInfo ?? ""));
  const swaps = parseSwaps(swapInfo ?? "");
  const made = new Map([...found].filter((entry): entry is [string, Block] => entry[1] !== null));
  const mounted = units.filter(({ mountPoint }) => mountPoint !== undefined);
  const [signatures, tables, others, entries, filled] = await Promise.all([
    readSignatures(probe, candidates(places, want, { disks, made }).filter((block) => users(block, mounts, swaps).length === 0)),
    readTables(probe, want, disks),
    [...disks.values()].includes(null) ? readOthers(probe, names, all) : [],
    lookAtAll([...mounted.map(({ key }) => key), ...ownedMounts(owned)].filter((at) => !mounts.has(at)), async (at) => (await probe.list(at))?.length ?? null),
    lookAtAll(mounted.filter(({ place }) => place !== null).map(({ key }) => key), (at) => readFilled(probe, at)),
  ]);
  return { disks, made, signatures, tables, others, slots, mounts, swaps, files, links, entries, filled, lvm, zfs, accounts };
}

/** A btrfs is known by the source of its mount alone, which may be a link: `/dev/vg0/data` becomes `/dev/dm-3`. */
async function withDevices(probe: Probe, mounts: ReadonlyMap<string, Mounted>): Promise<ReadonlyMap<string, Mounted>> {
  const linked = [...mounts.values()].filter(({ type, source }) => type === "btrfs" && source.startsWith("/dev/"));
  const names = await lookAtAll([...new Set(linked.map(({ source }) => source))], (source) => kernelName(probe, source));
  return new Map([...mounts].map(([at, mount]) => [at, linked.includes(mount) && names.get(mount.source) != null ? { ...mount, source: `/dev/${names.get(mount.source)}` } : mount]));
}

/** Files that units were made of, as the claims say. */
function claimedFiles(owned: Owned): string[] {
  return [...owned.values()].flatMap((claim) => {
    const files = typeof claim === "object" && claim !== null && "files" in claim ? claim["files"] : undefined;
    return Array.isArray(files) ? (files as readonly string[]) : [];
  });
}

export function ownedMounts(owned: Owned): string[] {
  return [...owned.keys()].filter((key) => key.startsWith("/"));
}

async function readFilled(probe: Probe, at: string): Promise<number | null> {
  const text = await probe.readText(filledPath(at));
  return text === null ? null : Number(text.trim());
}

async function blockAt(probe: Probe, path: string, all: readonly string[]): Promise<Block | null> {
  const name = await kernelName(probe, path);
  return name === null ? null : readBlock(probe, name, all);
}

function madePaths(places: readonly Place[]): string[] {
  return places.flatMap(({ path }) => (path === null || path.startsWith("/dev/disk/by-id/") ? [] : [path]));
}

/** Devices that are to hold something, and that seem to hold nothing. */
function candidates(places: readonly Place[], want: DisksWant, { disks, made }: Pick<DisksFacts, "disks" | "made">): Block[] {
  const found = places.map((place): Block | null => {
    const [disk = "", partition] = place.path === null ? splitPartition(place.key) : [place.key];
    if (partition !== undefined) return partitionNamed(disks.get(disk) ?? null, partition);
    return disks.get(place.key) ?? made.get(place.path ?? "") ?? null;
  });
  const wanted = places.map(({ held, key }) => [held.filesystem, held.swap, held.luks, held.lvm, held.md, held.zfs, want.devices[key]?.partitions].some((sort) => sort !== undefined));
  return found.filter((block, at): block is Block => block !== null && wanted[at] === true && typeOf(block) === null && tableOf(block) === null && block.partitions.length === 0);
}

function splitPartition(key: string): [string, string] {
  const slash = key.lastIndexOf("/");
  return [key.slice(0, slash), key.slice(slash + 1)];
}

/** A partition is known by its name in the GPT. */
export function partitionNamed(disk: Block | null, name: string): Block | null {
  return disk?.partitions.find((partition) => partition.properties.get("ID_PART_ENTRY_NAME") === name) ?? null;
}

async function readSignatures(probe: Probe, blocks: readonly Block[]): Promise<DisksFacts["signatures"]> {
  const answers = await lookAtAll(
    blocks.map(({ name }) => name),
    async (name) => {
      const output = await probe.run(["wipefs", "--no-act", "--noheadings", "--output", "TYPE", `/dev/${name}`]);
      return output.code === 0 ? output.stdout.split("\n").filter((line) => line !== "") : null;
    },
  );
  return answers;
}

/** What stands in the GPT itself, where the kernel may not have been told of it. */
async function readTables(probe: Probe, want: DisksWant, disks: DisksFacts["disks"]): Promise<DisksFacts["tables"]> {
  const tables = new Map<string, readonly string[]>();
  for (const [name, { partitions = {} }] of Object.entries(want.devices)) {
    const block = disks.get(name) ?? null;
    if (block === null || tableOf(block) !== "gpt" || Object.keys(partitions).every((partition) => partitionNamed(block, partition) !== null)) continue;
    const output = await probe.run(["sfdisk", "--json", `/dev/${block.name}`]);
    if (output.code === 0) tables.set(name, [...output.stdout.matchAll(/"name": *"([^"]*)"/g)].map(([, found]) => found!));
  }
  return tables;
}

async function readOthers(probe: Probe, declared: readonly string[], all: readonly string[]): Promise<DisksFacts["others"]> {
  const names = ((await probe.list("/dev/disk/by-id")) ?? []).filter((name) => !/-part\d+$|^(dm|md|lvm-pv|wwn)-/.test(name) && !declared.includes(name)).slice(0, OTHERS_MAX);
  const found = await lookAtAll(names, (name) => blockAt(probe, byIdPath(name), all));
  const taken = new Set((await lookAtAll(declared, (name) => kernelName(probe, byIdPath(name)))).values());
  return [...found].flatMap(([name, block]) => (block === null || taken.has(block.name) ? [] : [{ name, block }]));
}

/** /sys/class/enclosure/ENCLOSURE/SLOT/device/block/sda, where a SES enclosure is there to say so. */
async function readSlots(probe: Probe): Promise<ReadonlyMap<string, string>> {
  const slots = new Map<string, string>();
  for (const enclosure of (await probe.list("/sys/class/enclosure")) ?? []) {
    for (const component of (await probe.list(`/sys/class/enclosure/${enclosure}`)) ?? []) {
      for (const block of (await probe.list(`/sys/class/enclosure/${enclosure}/${component}/device/block`)) ?? []) slots.set(block, `${component} of enclosure ${enclosure}`);
    }
  }
  return slots;
}
