/**
 * What a fresh lab node consists of, as data: its hash names the cached base system, so that a change here rebuilds it.
 * base.ts builds it.
 */
export type Flavour = "plain" | "cluster";

export interface Recipe {
  readonly suite: string;
  readonly packages: readonly string[];
  readonly files: Readonly<Record<string, { readonly content: string; readonly mode?: number }>>;
  /** Link to what it points at; /dev/null masks. */
  readonly links: Readonly<Record<string, string>>;
  readonly remove: readonly string[];
}

const plainPackages = [
  "systemd", "systemd-sysv", "udev", "dbus", "iproute2", "iputils-ping", "procps", "kmod", "sudo", "fdisk",
  "git", "ca-certificates", "curl", "openssh-client", "gpg", "locales", "tzdata",
  // The Node 26 that npm brings is linked to it; a minimal Debian does not have it.
  "libatomic1",
];

// Kept out of `plain`: twice the size, and only tests of these subsystems need them.
const clusterPackages = [
  "openssh-server", "nftables", "keepalived", "frr", "frr-pythontools", "unattended-upgrades", "xfsprogs",
  "btrfs-progs", "parted", "gdisk", "lxd", "lxd-client", "dnsmasq-base", "iptables", "jq",
];

const units = "/etc/systemd/system";

/** They cost boot time, or they would act on the host: its disks (fstrim), crash records (pstore), binary formats. */
const maskedUnits = [
  "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
  "systemd-pstore.service", "console-getty.service", "getty@tty1.service", "systemd-binfmt.service",
];

/** Fragments that systemd-sysctl would write into the host's kernel. */
const maskedSysctls = ["50-pid-max.conf", "99-protect-links.conf"];

/*
 * The identity of a lab disk is the name of the file behind its loop device, MACHINE-SERIAL.img. Loop devices and their
 * uevents are seen by every node of every lab, so a node only takes the disks that carry its own machine name. nspawn
 * has no devtmpfs: the script makes the device node as well.
 */
const diskIdentity = `#!/bin/sh
device=/sys/class/block/$1
[ -e $device/partition ] && device=$(readlink -f $device/..)
file=$(cat $device/loop/backing_file 2>/dev/null)
file=\${file##*/}
machine=$(cat /usr/local/lib/evenkeel-lab/machine)
present() { [ -b /dev/$1 ] || mknod -m 660 /dev/$1 b $2 $3; }
case $file in
  "$machine"-*.img) present "$@"; file=\${file#"$machine"-}; echo "\${file%.img}" ;;
  *-*.img) rm -f /dev/$1; exit 1 ;; # another node's disk
  *) present "$@"; exit 1 ;; # a free loop device: LXD may use it
esac
`;

const diskRules = `SUBSYSTEM!="block", GOTO="lab_end"
KERNEL!="loop*", GOTO="lab_end"
ACTION=="remove", GOTO="lab_end"
PROGRAM!="/usr/local/lib/evenkeel-lab/disk-identity %k %M %m", GOTO="lab_end"
ENV{ID_SERIAL}="%c", ENV{ID_SERIAL_SHORT}="%c", ENV{ID_MODEL}="LabDisk"
ENV{DEVTYPE}=="disk", SYMLINK+="disk/by-id/scsi-%E{ID_SERIAL}"
ENV{DEVTYPE}=="partition", SYMLINK+="disk/by-id/scsi-%E{ID_SERIAL}-part%n"
LABEL="lab_end"
`;

/*
 * The API file systems are writable, for udev. So a node could set the host's own vm.*, fs.* and kernel.* sysctls, and
 * reboot the host by sysrq. It gets a copy of those values instead, to write and read back; net.* is the node's own.
 */
const guardScript = `#!/bin/sh
mount --bind /dev/null /proc/sysrq-trigger
mkdir -p /run/evenkeel-lab
cp -r /proc/sys/vm /proc/sys/fs /proc/sys/kernel /run/evenkeel-lab/ 2>/dev/null
for live in fs/binfmt_misc kernel/random kernel/hostname kernel/domainname; do
  mount --rbind /proc/sys/$live /run/evenkeel-lab/$live
done
for copied in vm fs kernel; do
  mount --rbind /run/evenkeel-lab/$copied /proc/sys/$copied
done
`;

const guardUnit = `[Unit]
Description=Keep this lab node's sysctls away from the host's kernel
DefaultDependencies=no
Before=sysinit.target systemd-sysctl.service systemd-udevd.service systemd-modules-load.service
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/evenkeel-lab/guard
[Install]
WantedBy=sysinit.target
`;

const files: Recipe["files"] = {
  "/etc/apt/sources.list.d/lab.list": { content: "deb [trusted=yes] file:/srv/repo ./\n" },
  "/etc/apt/apt.conf.d/51lab": {
    content:
      "#clear Unattended-Upgrade::Origins-Pattern;\n" +
      'Unattended-Upgrade::Origins-Pattern { "origin=Lab,codename=lab"; };\n',
  },
  "/etc/resolv.conf": { content: "# a lab node has no name server: names are in /etc/hosts\n" },
  "/etc/systemd/journald.conf.d/50-lab.conf": { content: "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n" },
  // Enough for services that wait for the network; an unplugged node must still finish its boot.
  "/etc/systemd/system/systemd-networkd-wait-online.service.d/50-lab.conf": {
    content:
      "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=10\n",
  },
  "/etc/udev/rules.d/59-lab.rules": { content: diskRules },
  "/usr/local/lib/evenkeel-lab/disk-identity": { content: diskIdentity, mode: 0o755 },
  "/usr/local/lib/evenkeel-lab/guard": { content: guardScript, mode: 0o755 },
  [`${units}/evenkeel-lab-guard.service`]: { content: guardUnit },
  "/etc/tmpfiles.d/lab.conf": {
    content: [
      "c /dev/loop-control 0660 root disk - 10:237",
      "c /dev/btrfs-control 0660 root disk - 10:234",
      "c /dev/fuse 0666 root root - 10:229",
      "",
    ].join("\n"),
  },
};

const links: Recipe["links"] = {
  ...Object.fromEntries(maskedUnits.map((unit) => [`${units}/${unit}`, "/dev/null"])),
  ...Object.fromEntries(maskedSysctls.map((name) => [`/etc/sysctl.d/${name}`, "/dev/null"])),
  [`${units}/sysinit.target.wants/evenkeel-lab-guard.service`]: "../evenkeel-lab-guard.service",
  [`${units}/multi-user.target.wants/systemd-networkd.service`]: "/lib/systemd/system/systemd-networkd.service",
  [`${units}/network-online.target.wants/systemd-networkd-wait-online.service`]:
    "/lib/systemd/system/systemd-networkd-wait-online.service",
};

export function recipeOf(flavour: Flavour): Recipe {
  return {
    suite: "bookworm",
    packages: flavour === "plain" ? plainPackages : [...plainPackages, ...clusterPackages],
    files,
    links,
    // Host keys are per node, sources are the lab's own, and identities are given when a node is made.
    remove: ["/etc/apt/sources.list", "/etc/hostname", "/etc/machine-id", "/etc/ssh/ssh_host_*"],
  };
}
