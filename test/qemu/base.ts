import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheDirectory } from "../lab/base.ts";
import { run } from "../lab/command.ts";

/**
 * What a virtual machine is started from, made once and kept: a Debian with a kernel of its own as a disk image, and a tree with
 * the emulator, which is run by chroot, so that nothing has to be installed on the machine that runs the tests.
 */
export interface QemuBase {
  /** A tree with qemu-system-x86_64 in it. */
  readonly tools: string;
  /** A raw ext4 image without partitions: the root of a guest. Never written: each machine has an overlay. */
  readonly image: string;
  readonly kernel: string;
  readonly initrd: string;
}

const SUITE = "bookworm";
/** device-mapper, md and dm-crypt are in the cloud kernel, which has an initrd of 20 MB where the usual one has 40. */
const GUEST = ["systemd", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "linux-image-cloud-amd64", "lvm2", "thin-provisioning-tools", "mdadm", "cryptsetup-bin", "xfsprogs", "btrfs-progs", "fdisk", "libatomic1", "e2fsprogs", "procps"];
const TOOLS = ["qemu-system-x86", "qemu-utils"];
const IMAGE_BYTES = 2_000_000_000;

/** Runs what comes over a virtio port, a line of base64 for each command, and answers in the same way. */
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
while read -r line <&3; do
  out=$(mktemp) err=$(mktemp)
  base64 -d <<<"$line" | setsid bash >"$out" 2>"$err" 3>&-
  echo "\${PIPESTATUS[1]} $(base64 -w0 <"$out") $(base64 -w0 <"$err")" >&3
  rm -f "$out" "$err"
done
`;
const masked = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty@tty1.service", "systemd-networkd-wait-online.service", "systemd-pstore.service"];

const buildScript = `
set -e
[ -e "$1/done" ] && exit 0
rm -rf --one-file-system "$1"; mkdir -p "$1"
strap() { mmdebstrap --variant=minbase --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' --include="$2" ${SUITE} "$3" >"$3.log" 2>&1; }
strap tools "$4" "$1/tools"
strap guest "$3" "$1/guest"
cp -a "$2/." "$1/guest/"
install -m 755 "$5" "$1/guest/usr/local/bin/node"
cp "$1"/guest/boot/vmlinuz-* "$1/kernel"
cp "$1"/guest/boot/initrd.img-* "$1/initrd"
rm -rf "$1"/guest/boot/* "$1"/guest/var/cache/apt/*
mke2fs -q -t ext4 -d "$1/guest" "$1/root.img" ${Math.floor(IMAGE_BYTES / 1024)}k
rm -rf --one-file-system "$1/guest"
touch "$1/done"
`;

function directory(): string {
  const recipe = createHash("sha256").update(JSON.stringify([SUITE, GUEST, TOOLS, shellService, shellScript, masked, buildScript])).digest("hex").slice(0, 12);
  return join(cacheDirectory(), "qemu", recipe);
}

/** Building takes minutes and needs Debian's mirror: who does not want that looks first. */
export function isBuilt(): boolean {
  return existsSync(join(directory(), "done"));
}

export async function ensureQemuBase(node: string): Promise<QemuBase> {
  const at = directory();
  if (!isBuilt()) {
    const overlay = `${at}.overlay-${process.pid}`;
    const files: Readonly<Record<string, readonly [string, number]>> = {
      "/etc/systemd/system/test-shell.service": [shellService, 0o644],
      "/usr/local/sbin/test-shell": [shellScript, 0o755],
      "/etc/fstab": ["/dev/vda / ext4 defaults 0 0\n", 0o644],
      "/etc/hostname": ["guest\n", 0o644],
    };
    for (const [path, [content, mode]] of Object.entries(files)) {
      await mkdir(dirname(overlay + path), { recursive: true });
      await writeFile(overlay + path, content, { mode });
    }
    await mkdir(`${overlay}/etc/systemd/system/multi-user.target.wants`, { recursive: true });
    const links = [["../test-shell.service", "multi-user.target.wants/test-shell.service"], ...masked.map((unit) => ["/dev/null", unit])];
    for (const [target = "", link = ""] of links) await run(["ln", "-sfn", target, `${overlay}/etc/systemd/system/${link}`]);
    const outcome = await run(["flock", `${at}.lock`, "sh", "-c", buildScript, "build", at, overlay, GUEST.join(","), TOOLS.join(","), node], { timeoutMs: 15 * 60_000 });
    await rm(overlay, { recursive: true, force: true });
    if (outcome.code !== 0) throw new Error(`the virtual machine's base could not be built in ${at}: ${outcome.stderr}`);
  }
  return { tools: join(at, "tools"), image: join(at, "root.img"), kernel: join(at, "kernel"), initrd: join(at, "initrd") };
}
