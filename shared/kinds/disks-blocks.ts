import { posix } from "node:path";
import type { Probe } from "./kind.ts";
import { sizeText } from "./disks-size.ts";

/**
 * Block devices as the kernel (/sys/class/block) and udev's database (/run/udev/data) know them: both are files, so that a
 * look at a node where nothing is to be done starts no process. What is about to be formatted is looked at anew, by `wipefs`,
 * because udev's knowledge is as old as the last uevent.
 */
export interface Block {
  /** The kernel's name: `sda`, `nvme0n1p2`, `dm-0`. Never shown without a lasting name, never written anywhere. */
  readonly name: string;
  /** major:minor */
  readonly dev: string;
  readonly sizeBytes: number;
  /** Where a partition begins on its disk; 0 for what is no partition. */
  readonly startBytes: number;
  /** The number of a partition, else null. */
  readonly number: number | null;
  readonly readOnly: boolean;
  /** Kernel names of what is built on it: `dm-0`, `md127`. */
  readonly holders: readonly string[];
  /** Partitions that the kernel knows, by number. */
  readonly partitions: readonly Block[];
  /** udev's properties: ID_SERIAL_SHORT, ID_FS_TYPE, ID_PART_ENTRY_NAME … */
  readonly properties: ReadonlyMap<string, string>;
}

export interface Mounted {
  readonly at: string;
  readonly dev: string;
  readonly source: string;
  readonly type: string;
}

const SECTOR_BYTES = 512; // /sys/class/block/*/size and start count these, whatever the disk's own sectors are

/** `all` are the names in /sys/class/block; `within` is the directory of the disk that a partition is on. */
export async function readBlock(probe: Probe, name: string, all: readonly string[], within?: string): Promise<Block | null> {
  // /sys/class/block holds links; a partition's directory stands in that of its disk.
  const target = within === undefined ? await probe.readLink(`/sys/class/block/${name}`) : null;
  if (within === undefined && target === null) return null;
  const directory = within === undefined ? posix.resolve("/sys/class/block", target!) : `${within}/${name}`;
  const dev = (await probe.readText(`${directory}/dev`))?.trim();
  if (dev === undefined) return null;
  const [size, start, number, readOnly, holders, database] = await Promise.all([
    numberIn(probe, `${directory}/size`),
    within === undefined ? null : numberIn(probe, `${directory}/start`),
    within === undefined ? null : numberIn(probe, `${directory}/partition`),
    numberIn(probe, `${directory}/ro`),
    probe.list(`${directory}/holders`),
    probe.readText(`/run/udev/data/b${dev}`),
  ]);
  // sda1, but nvme0n1p1: the kernel puts a p before the number where the disk's own name ends with a digit.
  const numbered = /\d$/.test(name) ? /^p\d+$/ : /^\d+$/;
  const names = within === undefined ? all.filter((other) => other.startsWith(name) && numbered.test(other.slice(name.length))) : [];
  const partitions = (await Promise.all(names.map((child) => readBlock(probe, child, all, directory)))).filter((child) => child !== null);
  return {
    name,
    dev,
    sizeBytes: (size ?? 0) * SECTOR_BYTES,
    startBytes: (start ?? 0) * SECTOR_BYTES,
    number,
    readOnly: readOnly === 1,
    holders: holders ?? [],
    partitions: partitions.toSorted((one, other) => (one.number ?? 0) - (other.number ?? 0)),
    properties: propertiesIn(database ?? ""),
  };
}

async function numberIn(probe: Probe, path: string): Promise<number | null> {
  const text = await probe.readText(path);
  return text === null ? null : Number(text.trim());
}

/** Lines `E:KEY=VALUE` of an entry in udev's database. */
function propertiesIn(text: string): ReadonlyMap<string, string> {
  return new Map([...text.matchAll(/^E:([^=\n]+)=(.*)$/gm)].map(([, key, value]) => [key!, value!]));
}

/** The kernel's name of the device that a link below /dev leads to; null when there is none. */
export async function kernelName(probe: Probe, path: string): Promise<string | null> {
  const target = await probe.readLink(path);
  return target === null ? null : posix.basename(target);
}

/**
 * /proc/PID/mountinfo (proc(5)): `36 35 98:0 /root /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`. Spaces in it
 * are octal escapes. Of mounts on top of each other, the last counts.
 */
export function parseMounts(text: string): ReadonlyMap<string, Mounted> {
  const mounts = new Map<string, Mounted>();
  for (const line of text.split("\n")) {
    const [before = "", after = ""] = line.split(" - ");
    const [, , dev, , at] = before.split(" ");
    const [type, source] = after.split(" ");
    if (dev === undefined || at === undefined || type === undefined || source === undefined) continue;
    mounts.set(unescapeOctal(at), { at: unescapeOctal(at), dev, source: unescapeOctal(source), type });
  }
  return mounts;
}

/** /proc/swaps: a line of headings, then the device or file first. */
export function parseSwaps(text: string): ReadonlySet<string> {
  return new Set(text.split("\n").slice(1).map((line) => unescapeOctal(line.split(/\s+/)[0] ?? "")).filter((path) => path !== ""));
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

export function serialOf(block: Block): string {
  return block.properties.get("ID_SERIAL_SHORT") ?? block.properties.get("ID_SERIAL") ?? "";
}

export function typeOf(block: Block): string | null {
  return block.properties.get("ID_FS_TYPE") ?? null;
}

export function tableOf(block: Block): string | null {
  // A partition's entry repeats the type of the table that it stands in.
  return block.number === null ? (block.properties.get("ID_PART_TABLE_TYPE") ?? null) : null;
}

const MEMBERS: Readonly<Record<string, string>> = {
  LVM2_member: "an LVM physical volume",
  linux_raid_member: "a member of a software RAID",
  crypto_LUKS: "a LUKS header",
  zfs_member: "a member of a ZFS pool",
  ceph_bluestore: "a Ceph OSD",
  swap: "a swap space",
};

/** What stands on it, for people, or null when nothing does as far as is known. */
export function contentText(block: Block, signatures: readonly string[] = []): string | null {
  const type = typeOf(block);
  const label = block.properties.get("ID_FS_LABEL");
  const said = label === undefined ? "" : ` "${label}"`;
  if (type !== null) return MEMBERS[type] === undefined ? `a file system (${type}${said})` : `${MEMBERS[type]}${said}`;
  const table = tableOf(block);
  if (table !== null || block.partitions.length > 0) {
    const names = block.partitions.map((partition) => partition.properties.get("ID_PART_ENTRY_NAME") ?? `number ${partition.number}`);
    return `a partition table (${table ?? "of a type unknown to udev"}${names.length === 0 ? ", empty" : `: ${names.join(", ")}`})`;
  }
  return signatures.length === 0 ? null : `something that wipefs knows as ${[...new Set(signatures)].join(", ")}`;
}

/** What has it in use, for people; `[]` when nothing has. */
export function users(block: Block, mounts: ReadonlyMap<string, Mounted>, swaps: ReadonlySet<string>): readonly string[] {
  const own = [
    ...[...mounts.values()].filter((mount) => isOn(mount, block)).map(({ at }) => `mounted at ${at}`),
    ...(swaps.has(`/dev/${block.name}`) ? ["used as swap"] : []),
    ...block.holders.map((holder) => `part of /dev/${holder}`),
  ];
  return [...own, ...block.partitions.flatMap((partition) => users(partition, mounts, swaps).map((use) => `its partition ${partition.number} is ${use}`))];
}

/** A btrfs has a device number of its own, and is known by the source of its mount. */
export function isOn(mount: Mounted, block: Block): boolean {
  return mount.dev === block.dev || posix.basename(mount.source) === block.name;
}

/** `4.0 TB, serial WD-1, Samsung_SSD`. */
export function describeDisk(block: Block): string {
  const model = block.properties.get("ID_MODEL");
  return [sizeText(block.sizeBytes), `serial ${serialOf(block) || "unknown"}`, ...(model === undefined ? [] : [model])].join(", ");
}
