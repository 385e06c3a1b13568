import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheDirectory } from "../lab/base.ts";
import { lastLines, run } from "../lab/command.ts";

/**
 * What a virtual machine is started from, made once and kept: a Debian with a kernel of its own as a disk image, and a tree with
 * the emulator, which is run by chroot, so that nothing has to be installed on the machine that runs the tests.
 */
export interface QemuBase {
  /** A tree with qemu-system-x86_64 in it, and everything else below it: the emulator cannot see anything beside it. */
  readonly tools: string;
  /** In it root.img (ext4 without partitions, never written: each machine has an overlay), kernel and initrd. */
  readonly guest: string;
}

const SUITE = "bookworm";
/** device-mapper, md, dm-crypt, bonding, 8021q and wireguard are in the cloud kernel. */
const GUEST = ["systemd", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "linux-image-cloud-amd64", "lvm2", "thin-provisioning-tools", "mdadm", "cryptsetup-bin", "xfsprogs", "btrfs-progs", "fdisk", "libatomic1", "e2fsprogs", "procps", "iproute2", "iputils-ping", "wireguard-tools"];
const TOOLS = ["qemu-system-x86", "qemu-utils"];
const IMAGE_BYTES = 2_000_000_000;

/**
 * Runs what comes over a virtio port: the length of a script in bytes, a line, and the script. Answers by a line: its code, and
 * its output in base64. The script goes into a file, because bash would read it byte by byte (20 s for a megabyte, emulated).
 */
const shellService = `[Unit]
Description=Commands from the test
DefaultDependencies=no
After=sysinit.target local-fs.target
[Service]
ExecStart=/usr/local/sbin/test-shell
StandardOutput=null
Restart=always
[Install]
WantedBy=multi-user.target
`;
const shellScript = `#!/bin/bash
exec 3<>/dev/virtio-ports/commands
echo ready >&3
while read -r bytes <&3; do
  script=$(mktemp) out=$(mktemp) err=$(mktemp)
  head -c "$bytes" <&3 >"$script"
  setsid bash "$script" </dev/null >"$out" 2>"$err" 3>&-
  echo "$? $(base64 -w0 <"$out") $(base64 -w0 <"$err")" >&3
  rm -f "$script" "$out" "$err"
done
`;
const files: Readonly<Record<string, readonly [string, number]>> = {
  "/etc/systemd/system/test-shell.service": [shellService, 0o644],
  "/usr/local/sbin/test-shell": [shellScript, 0o755],
  "/etc/fstab": ["/dev/vda / ext4 defaults 0 0\n", 0o644],
  "/etc/hostname": ["guest\n", 0o644],
  // Every module that a real machine might need is unpacked at every boot otherwise: a third of the boot, emulated.
  "/etc/initramfs-tools/conf.d/lean": ["MODULES=list\n", 0o644],
  "/etc/initramfs-tools/hooks/lean": ['#!/bin/sh\n[ "$1" = prereqs ] && exit 0\n. /usr/share/initramfs-tools/hook-functions\nmanual_add_modules virtio_pci virtio_blk ext4\n', 0o755],
};
const masked = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-networkd-wait-online.service", "systemd-pstore.service"];

const strap = `
set -e
strap() { mmdebstrap --variant=minbase --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' --include="$1" "$3" "$4" ${SUITE} "$2" >"$2.log" 2>&1 || { tail -n 15 "$2.log" >&2; exit 1; }; }
`;
const buildTools = `${strap}
[ -e "$1/machines" ] && exit 0
rm -rf --one-file-system "$1.building"
strap "$2" "$1.building" --customize-hook=true --customize-hook=true
mkdir "$1.building/machines" "$1.building/guests"
mv "$1.building" "$1"
`;
/** The files are there before the packages: the initrd is made once, and already lean. */
const buildGuest = `${strap}
[ -e "$1" ] && exit 0
rm -rf --one-file-system "$1.tree" "$1.building"; mkdir "$1.building"
strap "$2" "$1.tree" "--essential-hook=mkdir -p \\"\\$1/etc/initramfs-tools\\"; cp -a '$3/.' \\"\\$1/\\"" --customize-hook=true
install -m 755 "$4" "$1.tree/usr/local/bin/node"
cp "$1".tree/boot/vmlinuz-* "$1.building/kernel"
cp "$1".tree/boot/initrd.img-* "$1.building/initrd"
rm -rf "$1".tree/boot/* "$1".tree/var/cache/apt/*
mke2fs -q -t ext4 -d "$1.tree" "$1.building/root.img" ${Math.floor(IMAGE_BYTES / 1024)}k
rm -rf --one-file-system "$1.tree"
mv "$1.building" "$1"
`;

const hash = (...parts: readonly unknown[]): string => createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 12);

function directories(): QemuBase {
  const tools = join(cacheDirectory(), "qemu", `tools-${hash(SUITE, TOOLS, buildTools)}`);
  return { tools, guest: join(tools, "guests", hash(SUITE, GUEST, files, masked, buildGuest)) };
}

/** Building takes minutes and needs Debian's mirror: who does not want that looks first. */
export function isBuilt(): boolean {
  return existsSync(directories().guest);
}

/** @param node the Node that the guest gets. */
export async function ensureQemuBase(node: string): Promise<QemuBase> {
  const base = directories();
  if (isBuilt()) return base;
  await mkdir(dirname(base.tools), { recursive: true });
  await built(base.tools, buildTools, [TOOLS.join(",")]);
  const overlay = `${base.guest}.overlay-${process.pid}`;
  await writeOverlay(overlay);
  await built(base.guest, buildGuest, [GUEST.join(","), overlay, node]).finally(() => rm(overlay, { recursive: true, force: true }));
  return base;
}

async function writeOverlay(overlay: string): Promise<void> {
  for (const [path, [content, mode]] of Object.entries(files)) {
    await mkdir(dirname(overlay + path), { recursive: true });
    await writeFile(overlay + path, content, { mode });
  }
  await mkdir(`${overlay}/etc/systemd/system/multi-user.target.wants`, { recursive: true });
  const links = [["../test-shell.service", "multi-user.target.wants/test-shell.service"], ...masked.map((unit) => ["/dev/null", unit])];
  for (const [target = "", link = ""] of links) await run(["ln", "-sfn", target, `${overlay}/etc/systemd/system/${link}`]);
}

/** One shell under one lock does everything up to the rename, so that nobody finds what is only half there. */
async function built(at: string, script: string, args: readonly string[]): Promise<void> {
  const outcome = await run(["flock", `${at}.lock`, "sh", "-c", script, "build", at, ...args], { timeoutMs: 15 * 60_000 });
  if (outcome.code !== 0) throw new Error(`the virtual machine's base could not be built in ${at}: ${lastLines(outcome.stderr, 15)}`);
}
