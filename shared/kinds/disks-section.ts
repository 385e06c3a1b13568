import * as z from "zod";
import { content } from "../config/content.ts";
import { mountUnit, UNIT_NAME_MAX } from "./disks-names.ts";
import { bytesOf } from "./disks-size.ts";
import { pathFault } from "./paths.ts";

/**
 * What may stand on a disk, a partition, a volume, an array or behind a LUKS header is written with the same words
 * everywhere; only what makes no sense in a place is missing there. Nothing in it is recursive, so that editors and the
 * reference can show all of it.
 */

export const FILE_SYSTEMS = ["ext4", "xfs", "btrfs"] as const;
export type FileSystem = (typeof FILE_SYSTEMS)[number];

/** Bytes that a label may have: e2label(8), mkfs.xfs(8), btrfs(8) (cut to what is readable), mkswap(8). */
const LABEL_MAX: Readonly<Record<FileSystem | "swap", number>> = { ext4: 16, xfs: 12, btrfs: 64, swap: 15 };

/** Names of groups, volumes, arrays, LUKS mappings and partitions: what all of the tools take. */
const shortName = z.string().regex(/^[A-Za-z][A-Za-z0-9_.-]{0,31}$/, "a name has 1 to 32 letters, digits, _, . and -, and begins with a letter");

const size = z
  .string('a size is written with its unit, like "500GB" (powers of 1000) or "465GiB" (powers of 1024)')
  .superRefine((text, check) => {
    if (bytesOf(text) === null) check.addIssue({ code: "custom", message: `"${text}" is no size: write it with its unit, like 500GB (powers of 1000, as on the disk's sticker) or 465GiB (powers of 1024)` });
  })
  .transform((text) => bytesOf(text) ?? 0);
const sizeOrRest = z.union([z.literal("rest"), size]);

export const mountPath = z.string().superRefine((path, check) => {
  const fault = pathFault(path) ?? (/^\/($|(proc|sys|dev|run|boot|etc|usr|bin|sbin|lib|lib64|tmp)(\/|$))/.test(path) ? `${path} belongs to the system: mount below /srv, /mnt, /var/lib, /home, /opt or a directory of your own` : null);
  if (fault !== null) check.addIssue({ code: "custom", message: fault });
  else if (mountUnit(path).length > UNIT_NAME_MAX) check.addIssue({ code: "custom", message: `the unit of this mount point would have a name of more than ${UNIT_NAME_MAX} characters: choose a shorter path` });
});

const mountOptions = z
  .array(z.string().regex(/^[^\s,"'\\%]{1,200}$/, "an option is one word, like noatime or subvol=@data"))
  .max(40)
  .default([])
  .describe("Mount options, such as noatime; for a remount the file system must allow them to change");

const mountInFull = z.strictObject({
  at: mountPath.describe("The mount point; it is made if it is missing, and must be empty"),
  options: mountOptions,
  waitSeconds: z.int().min(1).max(600).default(30).describe("How long a boot waits for the device before it goes on without it"),
});

const mount = z
  .union([mountPath.transform((at) => mountInFull.parse({ at })), mountInFull])
  .describe("Where it is mounted, now and at every boot, by a systemd unit: a path, or the path with options");

const swap = z
  .union([
    z.literal(true).transform(() => ({ priority: null })),
    z.strictObject({ priority: z.int().min(0).max(32767).nullable().default(null).describe("Swap with a higher priority is used first") }),
  ])
  .describe("Swap space, used now and at every boot: true, or {priority}");

const plainShape = {
  filesystem: z.enum(FILE_SYSTEMS).optional().describe("The file system on it: ext4, xfs or btrfs; one that is there already is kept, with what it holds"),
  label: z.string().regex(/^[A-Za-z0-9_.-]+$/, "a label has letters, digits, _, . and -").max(64).optional().describe("The label of the file system or the swap space"),
  mount: mount.optional(),
  swap: swap.optional(),
};
const memberShape = {
  lvm: shortName.optional().describe("It is a physical volume of this volume group (see volumeGroups)"),
  md: shortName.optional().describe("It is a member of this software RAID (see arrays)"),
  zfs: shortName.optional().describe("It is a member of this ZFS pool (see zpools)"),
};

const nodePath = z.string().superRefine((path, check) => {
  const fault = pathFault(path);
  if (fault !== null) check.addIssue({ code: "custom", message: fault });
});

const luks = z
  .strictObject({
    name: shortName.describe("The name of the opened device: /dev/mapper/NAME"),
    key: content.optional().describe("The key, best out of secrets; kept in /etc/cryptsetup-keys.d/NAME.key, for root only"),
    keyFile: nodePath.optional().describe("A file on the node that holds the key and was put there by other means"),
    ...plainShape,
    lvm: memberShape.lvm,
  })
  .superRefine((inside, check) => {
    if ((inside.key === undefined) === (inside.keyFile === undefined)) check.addIssue({ code: "custom", path: ["keyFile"], message: "say where the key comes from: either key or keyFile" });
    checkContent(inside, check);
  })
  .describe("Encrypted with LUKS 2; what follows stands inside. The key is needed to open it: keep a copy elsewhere");

const partition = z
  .strictObject({
    size: sizeOrRest.describe('How large it is made, like 512MiB; "rest" takes all that is left, also when the disk grows. Never made smaller'),
    type: z
      .union([z.enum(["linux", "swap", "uefi", "bios", "raid", "lvm", "zfs", "home"]), z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "a GPT type is linux, swap, uefi, bios, raid, lvm, zfs, home, or a GUID in lower case")])
      .optional()
      .describe("The GPT type, by name or as a GUID; follows from what stands on it when not said"),
    ...plainShape,
    ...memberShape,
    luks: luks.optional(),
  })
  .superRefine(checkContent)
  .describe("One partition");

const wipe = z
  .strictObject({
    serial: z.string().min(1).max(200).describe("The serial number of the disk whose content may go, as lsblk -o NAME,SERIAL shows it"),
    id: z
      .string()
      .regex(/^[a-z0-9][a-z0-9.-]{0,63}$/, "an id has lower-case letters, digits, . and -")
      .describe("Any word that was never used on this node: it is good for one time"),
  })
  .describe("Erase what stands on this disk, once. May stay in the repository: a used id does nothing");

const device = z
  .strictObject({
    size: size.optional().describe("How large the disk must be, give or take 2 %: a disk of another size is not touched"),
    slot: z.string().max(100).optional().describe("Where in the machine it sits, for people, such as bay 3"),
    wipe: wipe.optional(),
    ...plainShape,
    ...memberShape,
    luks: luks.optional(),
    partitions: z
      .record(shortName, partition)
      .optional()
      .describe("A GPT with these partitions, in this order, by name; only the last may have the size rest"),
  })
  .superRefine((disk, check) => {
    checkContent(disk, check);
    const partitions = Object.entries(disk.partitions ?? {});
    partitions.slice(0, -1).forEach(([name, { size }]) => {
      if (size === "rest") check.addIssue({ code: "custom", path: ["partitions", name, "size"], message: "only the last partition can take the rest" });
    });
  })
  .describe("One disk");

const thin = z.strictObject({ size: size.describe("How large it looks; it takes room in the pool only as it fills. Never made smaller"), ...plainShape }).superRefine(checkContent).describe("A thin volume");

const volume = z
  .strictObject({
    size: sizeOrRest.describe('How large it is made, like 100GiB; "rest" takes what the group has free when it is made, and later what is added. Never made smaller'),
    ...plainShape,
    luks: luks.optional(),
    thin: z.record(shortName, thin).optional().describe("It is a thin pool, with these volumes in it"),
  })
  .superRefine((entry, check) => {
    checkContent(entry, check);
    if (entry.thin !== undefined && (entry.filesystem ?? entry.swap ?? entry.luks) !== undefined) check.addIssue({ code: "custom", path: ["thin"], message: "a thin pool holds volumes, and nothing else" });
  })
  .describe("A logical volume");

const volumeGroup = z
  .strictObject({ volumes: z.record(shortName, volume).default({}).describe("Logical volumes by name") })
  .superRefine((group, check) => {
    const rest = Object.entries(group.volumes).filter(([, { size }]) => size === "rest");
    for (const [name] of rest.slice(1)) check.addIssue({ code: "custom", path: ["volumes", name, "size"], message: "only one volume of a group can take the rest" });
  })
  .describe("A volume group out of the disks and partitions that say lvm: NAME");

const array = z
  .strictObject({
    level: z.union([z.literal(0), z.literal(1), z.literal(4), z.literal(5), z.literal(6), z.literal(10)]).describe("The RAID level"),
    spares: z.int().min(0).max(16).default(0).describe("How many of the members stand by"),
    ...plainShape,
    lvm: memberShape.lvm,
    luks: luks.optional(),
  })
  .superRefine(checkContent)
  .describe("A software RAID out of the disks and partitions that say md: NAME; a new blank member takes the place of a missing one");

const property = z.string().regex(/^[^\n\0]{1,1024}$/);
const properties = z.record(z.string().regex(/^[a-z][a-z0-9_:.@-]{0,100}$/), property).default({});
const zpool = z
  .strictObject({
    layout: z.enum(["stripe", "mirror", "raidz1", "raidz2", "raidz3"]).describe("How the members are put together when the pool is made"),
    options: properties.describe("Options of zpool create, such as ashift: '12'; they count when the pool is made"),
    datasets: z
      .record(
        z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,200}$/, "a dataset's name below the pool, like data/backup"),
        z.strictObject({ properties: properties.describe("Properties kept on it, such as compression: lz4, mountpoint: /srv/data or quota: 100G") }).describe("One dataset"),
      )
      .default({})
      .describe("Datasets by their name below the pool"),
  })
  .describe("A ZFS pool out of the disks and partitions that say zfs: NAME, where ZFS is installed");

const otherMount = z
  .strictObject({
    what: z.string().regex(/^[^\s"'\\%]{1,1024}$/, "what is mounted is one word, like nas:/export or tmpfs").describe("What is mounted: nas:/export, tmpfs, or a directory for a bind mount"),
    type: z.string().regex(/^[a-z][a-z0-9.]{0,30}$/).describe("The type of the file system: nfs, cifs, tmpfs, none (bind) …"),
    options: mountOptions,
  })
  .describe("A mount of something that is no disk of this node");

export const disksSchema = z
  .strictObject({
    devices: z.record(byIdName(), device).default({}).describe("Disks by their name in /dev/disk/by-id, such as ata-WDC_WD40EFRX-68N32N0_WD-WCC7K0ABCDEF"),
    volumeGroups: z.record(shortName, volumeGroup).default({}).describe("LVM volume groups by name"),
    arrays: z.record(shortName, array).default({}).describe("Software RAID (md) by name: /dev/md/NAME"),
    zpools: z.record(shortName, zpool).default({}).describe("ZFS pools by name"),
    mounts: z.record(mountPath, otherMount).default({}).describe("Mounts of what is no disk of this node (NFS, bind, tmpfs), by mount point"),
  })
  .describe("Disks by their lasting names, what stands on them, and where it is mounted. What holds data is never formatted and never removed");

export type DisksWant = z.output<typeof disksSchema>;
export type Device = z.output<typeof device>;
export type Partition = z.output<typeof partition>;
export type Luks = z.output<typeof luks>;
export type VolumeGroup = z.output<typeof volumeGroup>;
export type Volume = z.output<typeof volume>;
export type Mount = z.output<typeof mountInFull>;
export type Wipe = z.output<typeof wipe>;

/** What stands on something, wherever that is: the fields that a place does not have are undefined there. */
export interface Held {
  readonly filesystem?: FileSystem | undefined;
  readonly label?: string | undefined;
  readonly mount?: Mount | undefined;
  readonly swap?: { readonly priority: number | null } | undefined;
  readonly luks?: Luks | undefined;
  readonly lvm?: string | undefined;
  readonly md?: string | undefined;
  readonly zfs?: string | undefined;
}

/** The names that change from boot to boot, and what to write in their place. */
function byIdName() {
  return z.string().superRefine((name, check) => {
    const look = "`ls -l /dev/disk/by-id` on the node shows the lasting names";
    const fault = name.startsWith("/dev/disk/by-id/")
      ? `write only the name, without /dev/disk/by-id/: ${name.slice("/dev/disk/by-id/".length)}`
      : /^(\/dev\/)?(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme\d+n\d+|mmcblk\d+|loop\d+)(p?\d+)?$/.test(name)
        ? `${name} can be another disk after the next boot: write its name in /dev/disk/by-id (${look})`
        : /^(\/dev\/disk\/|pci-|platform-)/.test(name)
          ? `${name} says where a disk sits or what is on it, and not which disk it is: write its name in /dev/disk/by-id (${look})`
          : /^(dm-|md-|lvm-pv-)/.test(name)
            ? `${name} is no disk but something made of disks: see volumeGroups and arrays`
            : /-part\d+$/.test(name)
              ? `${name} is a partition: name the disk (${name.replace(/-part\d+$/, "")}), and the partition under its partitions`
              : /^[a-z0-9]+-[A-Za-z0-9#+.:=@_-]{1,200}$/.test(name)
                ? null
                : `"${name}" is no name in /dev/disk/by-id, like ata-WDC_WD40EFRX-68N32N0_WD-WCC7K0ABCDEF (${look})`;
    if (fault !== null) check.addIssue({ code: "custom", message: fault });
  });
}

function checkContent(held: Held & { readonly partitions?: unknown; readonly thin?: unknown }, check: z.core.$RefinementCtx): void {
  const fault = (path: string, message: string) => check.addIssue({ code: "custom", path: [path], message });
  const sorts = (["filesystem", "swap", "luks", "lvm", "md", "zfs", "partitions"] as const).filter((sort) => held[sort] !== undefined);
  for (const second of sorts.slice(1)) fault(second, `there can be one thing on it, ${sorts[0]} or ${second}: leave one of the two out`);
  if (held.mount !== undefined && held.filesystem === undefined) fault("mount", "what is mounted is a file system: say which one, like filesystem: ext4");
  if (held.label === undefined) return;
  const labelled = held.filesystem ?? (held.swap === undefined ? null : "swap");
  if (labelled === null) fault("label", "a label belongs to a file system or a swap space");
  else if (held.label.length > LABEL_MAX[labelled]) fault("label", `a label of ${labelled} has at most ${LABEL_MAX[labelled]} characters`);
}
