import type { FileSystem } from "./disks-section.ts";
import type { StepCommon } from "./kind.ts";

/**
 * Argument vectors of the programs that change disks. None of them is ever given a -f, --force or --yes that would make it
 * overwrite something: as measured on Debian 12, `mkfs.ext4` (without a terminal), `mkswap`, `sfdisk` and `cryptsetup --batch-mode`
 * overwrite whatever is there in silence, only `mkfs.xfs`, `mkfs.btrfs` and `pvcreate` refuse. So everything that writes on a
 * device for the first time runs behind {@link onBlank}.
 */
export type Argv = readonly [string, ...string[]];

/** Where the guard is kept on the node; the section sees to it before it is needed. */
export const GUARD_PATH = "/var/lib/evenkeel/disks/on-blank";

/**
 * Runs the program in its last arguments only if all devices are blank at this very moment: no signature that libblkid knows, no
 * partition, nothing on top. A file and not an argument, so that a plan shows what is run on which disk.
 */
export const GUARD = `#!/bin/sh
# Kept by evenkeel (section disks): on-blank DEVICE... -- PROGRAM...
# Runs PROGRAM only if every DEVICE is blank now; else ends with 1, and nothing was changed.
for device; do
  [ "$device" = -- ] && break
  found=$(wipefs --no-act --noheadings --output TYPE -- "$device") || exit 1
  if [ -n "$found" ]; then
    echo "$device is not blank any more, so it was left alone. It holds:" $found >&2
    exit 1
  fi
  if [ "$(lsblk --noheadings --raw --output NAME -- "$device" | wc -l)" != 1 ]; then
    echo "$device has partitions or is in use, so it was left alone" >&2
    exit 1
  fi
done
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
`;

export function onBlank(devices: readonly string[], argv: Argv): Argv {
  return ["sh", GUARD_PATH, ...devices, "--", ...argv];
}

/** Discarding a large SSD takes minutes. */
export const FORMAT_TIMEOUT_MS = 30 * 60_000;
export const TOOL_TIMEOUT_MS = 2 * 60_000;
/** Moving metadata of a large ext4 that grows. */
export const GROW_TIMEOUT_MS = 60 * 60_000;

export function formatArgv(type: FileSystem | "swap", device: string, { label, uuid }: { readonly label?: string | undefined; readonly uuid?: string | undefined }): Argv {
  const labelled = label === undefined ? [] : ["-L", label];
  switch (type) {
    case "ext4":
      return ["mkfs.ext4", "-q", ...labelled, ...(uuid === undefined ? [] : ["-U", uuid]), device];
    case "xfs":
      return ["mkfs.xfs", "-q", ...labelled, ...(uuid === undefined ? [] : ["-m", `uuid=${uuid}`]), device];
    case "btrfs":
      return ["mkfs.btrfs", "-q", ...labelled, ...(uuid === undefined ? [] : ["--uuid", uuid]), device];
    case "swap":
      return ["mkswap", ...labelled, ...(uuid === undefined ? [] : ["-U", uuid]), device];
  }
}

/** xfs takes a label while it is mounted by another program than when it is not; the others do not mind. */
export function labelArgv(type: FileSystem | "swap", device: string, label: string, mountedAt: string | null): Argv {
  switch (type) {
    case "ext4":
      return ["e2label", device, label];
    case "xfs":
      return mountedAt === null ? ["xfs_admin", "-L", label, device] : ["xfs_io", "-c", `label -s ${label}`, mountedAt];
    case "btrfs":
      return ["btrfs", "filesystem", "label", mountedAt ?? device, label];
    case "swap":
      return ["swaplabel", "--label", label, device];
  }
}

/** All of them do nothing, and succeed, when the file system fills its device already. */
export function growArgv(type: FileSystem, device: string, mountedAt: string): Argv {
  switch (type) {
    case "ext4":
      return ["resize2fs", device];
    case "xfs":
      return ["xfs_growfs", "-d", mountedAt];
    case "btrfs":
      return ["btrfs", "filesystem", "resize", "max", mountedAt];
  }
}

/** udev looks at the device again, and has made its links when this ends. */
export function lookAgain(device: string): Argv {
  return ["udevadm", "trigger", "--settle", "--action=change", `--name-match=${device}`];
}

/**
 * The kernel takes over the partition table, or one partition of it, also while other partitions of the disk are in use; then
 * udev looks at all of them again. `partx` takes every partition that nobody uses away and adds it again, so it is told the one
 * that matters where there are others.
 */
export function tellKernel(disk: string, number?: number): readonly Argv[] {
  return [
    ["partx", "--update", ...(number === undefined ? [] : ["--nr", String(number)]), disk],
    ["udevadm", "trigger", "--settle", "--action=change", `--parent-match=${disk}`],
  ];
}

/** `sfdisk` writes a table; whether the kernel takes it over is seen to by {@link tellKernel}. */
export function sfdisk(disk: string, ...options: readonly string[]): Argv {
  return ["sfdisk", "--quiet", "--lock=yes", "--no-reread", "--no-tell-kernel", ...options, disk];
}

/** A step that runs one of them. */
export function run(common: StepCommon, argv: Argv, options: { readonly timeoutMs?: number; readonly input?: string } = {}) {
  return { ...common, do: "run" as const, argv, timeoutMs: options.timeoutMs ?? TOOL_TIMEOUT_MS, ...(options.input === undefined ? {} : { input: options.input }) };
}
