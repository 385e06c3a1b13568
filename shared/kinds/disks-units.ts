import type { Block } from "./disks-blocks.ts";
import { byIdPath, deviceUnit, escapePath, mountUnit, swapUnit } from "./disks-names.ts";
import { placesOf } from "./disks-places.ts";
import type { Place } from "./disks-places.ts";
import type { DisksWant, Luks } from "./disks-section.ts";

/**
 * systemd units for what is mounted, swapped to, or opened, as files in /etc/systemd/system: they take precedence over what the
 * generators make of /etc/fstab and /etc/crypttab, which stay the owner's.
 */
export interface ManagedUnit {
  readonly sort: "mount" | "swap" | "luks";
  /** The resource, without the kind: the mount point, `swap/KEY`, `luks/NAME`. */
  readonly key: string;
  readonly unit: string;
  /** What is mounted, swapped to or opened: a path with a lasting name. */
  readonly what: string;
  /** The place that it stands on, for mounts of disks, swap and LUKS. */
  readonly place: string | null;
  readonly mountPoint?: string;
  readonly files: readonly { readonly path: string; readonly content: Uint8Array; readonly mode: number; readonly secret?: true }[];
  /** The links that enabling it makes. */
  readonly links: readonly string[];
}

const DIRECTORY = "/etc/systemd/system";
const NETWORK_TYPES = /^(nfs4?|cifs|smb3|ceph|glusterfs|fuse\.(sshfs|glusterfs)|9p|afs)$/;

/** Needs the disks that were found, because a partition's device is named by its number. */
export function unitsOf(want: DisksWant, disks: ReadonlyMap<string, Block | null>): readonly ManagedUnit[] {
  return [
    ...placesOf(want).flatMap((place) => {
      const what = pathOf(place, want, disks);
      const { held, key } = place;
      return [
        ...(held.luks === undefined ? [] : [luksUnit(held.luks, what, key)]),
        ...(held.mount === undefined || held.filesystem === undefined ? [] : [mountOf(held.mount, what, held.filesystem, key)]),
        ...(held.swap === undefined ? [] : [swapOf(held.swap.priority, what, key)]),
      ];
    }),
    ...Object.entries(want.mounts).map(([at, { what, type, options }]) => mountOf({ at, options }, what, type, null)),
  ];
}

export function pathOf(place: Place, want: DisksWant, disks: ReadonlyMap<string, Block | null>): string {
  if (place.path !== null) return place.path;
  const slash = place.key.lastIndexOf("/");
  const [disk, partition] = [place.key.slice(0, slash), place.key.slice(slash + 1)];
  return `${byIdPath(disk)}-part${partitionNumbers(disks.get(disk) ?? null, Object.keys(want.devices[disk]?.partitions ?? {})).get(partition)}`;
}

/** The number that each partition has, or will get when it is made: the lowest ones that are free, in order. */
export function partitionNumbers(disk: Block | null, names: readonly string[]): ReadonlyMap<string, number> {
  const there = new Map((disk?.partitions ?? []).map((partition) => [partition.properties.get("ID_PART_ENTRY_NAME") ?? "", partition.number ?? 0]));
  const taken = new Set((disk?.partitions ?? []).map(({ number }) => number ?? 0));
  const numbers = new Map<string, number>();
  let next = 1;
  for (const name of names) {
    const known = there.get(name);
    if (known === undefined) while (taken.has(next)) next += 1;
    numbers.set(name, known ?? next);
    taken.add(known ?? next);
  }
  return numbers;
}

function mountOf({ at, options, waitSeconds }: { readonly at: string; readonly options: readonly string[]; readonly waitSeconds?: number }, what: string, type: string, place: string | null): ManagedUnit {
  const unit = mountUnit(at);
  const device = deviceUnit(what);
  const isNetwork = NETWORK_TYPES.test(type) || options.includes("_netdev");
  const target = isNetwork ? "remote-fs.target" : "local-fs.target";
  // As systemd-fstab-generator does it; xfs and btrfs repair themselves when they are mounted.
  const check = type === "ext4" ? `Requires=systemd-fsck@${escapePath(what)}.service\nAfter=systemd-fsck@${escapePath(what)}.service\n` : "";
  const text = [
    `[Unit]\nDescription=${place ?? what} at ${at}\n${check}`,
    `[Mount]\nWhat=${what}\nWhere=${at}\nType=${type}\n${options.length === 0 ? "" : `Options=${options.join(",")}\n`}`,
    // By its device as well: a disk that comes late, or is plugged in again, is mounted then.
    `[Install]\nWantedBy=${target}\n${place === null ? "" : `WantedBy=${device}\n`}`,
  ].join("\n");
  // A boot waits for a missing disk no longer than this (systemd.device(5); the usual 90 s hold up everything after local-fs.target).
  const wait = waitSeconds === undefined ? [] : [{ path: `${DIRECTORY}/${device}.d/50-evenkeel.conf`, content: unitText(`[Unit]\nJobRunningTimeoutSec=${waitSeconds}\n`), mode: 0o644 }];
  return {
    sort: "mount",
    key: at,
    unit,
    what,
    place,
    mountPoint: at,
    files: [{ path: `${DIRECTORY}/${unit}`, content: unitText(text), mode: 0o644 }, ...wait],
    links: [`${DIRECTORY}/${target}.wants/${unit}`, ...(place === null ? [] : [`${DIRECTORY}/${device}.wants/${unit}`])],
  };
}

function swapOf(priority: number | null, what: string, place: string): ManagedUnit {
  const unit = swapUnit(what);
  const text = `[Unit]\nDescription=Swap on ${place}\n\n[Swap]\nWhat=${what}\n${priority === null ? "" : `Priority=${priority}\n`}\n[Install]\nWantedBy=swap.target\n`;
  return { sort: "swap", key: `swap/${place}`, unit, what, place, files: [{ path: `${DIRECTORY}/${unit}`, content: unitText(text), mode: 0o644 }], links: [`${DIRECTORY}/swap.target.wants/${unit}`] };
}

export function keyPath(luks: Luks): string {
  return luks.keyFile ?? `/etc/cryptsetup-keys.d/${luks.name}.key`;
}

/** What systemd-cryptsetup-generator would make of a line in /etc/crypttab, by the command that every cryptsetup brings. */
function luksUnit(luks: Luks, what: string, place: string): ManagedUnit {
  const unit = `evenkeel-luks-${luks.name}.service`;
  const device = deviceUnit(what);
  const text = `[Unit]
Description=Opens the encrypted device ${luks.name} on ${place}
DefaultDependencies=no
BindsTo=${device}
After=${device} cryptsetup-pre.target
Before=cryptsetup.target umount.target
Conflicts=umount.target
RequiresMountsFor=${keyPath(luks)}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/cryptsetup open --type luks2 --key-file ${keyPath(luks)} ${what} ${luks.name}
ExecStop=/sbin/cryptsetup close ${luks.name}

[Install]
WantedBy=cryptsetup.target
WantedBy=${device}
`;
  const key = luks.key === undefined ? [] : [{ path: keyPath(luks), content: luks.key.bytes, mode: 0o400, secret: true as const }];
  return {
    sort: "luks",
    key: `luks/${luks.name}`,
    unit,
    what,
    place,
    files: [...key, { path: `${DIRECTORY}/${unit}`, content: unitText(text), mode: 0o644 }],
    links: [`${DIRECTORY}/cryptsetup.target.wants/${unit}`, `${DIRECTORY}/${device}.wants/${unit}`],
  };
}

/** A percent sign begins a specifier in a unit file (systemd.unit(5)). */
function unitText(text: string): Uint8Array {
  return new TextEncoder().encode(`# Kept by evenkeel (section disks). What is written here by hand is overwritten.\n${text.replaceAll("%", "%%")}`);
}
