import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { must, until } from "../lab/command.ts";
import type { Outcome } from "../lab/command.ts";
import { ensureQemuBase } from "./base.ts";
import type { QemuBase } from "./base.ts";
import { connectTo, Monitor } from "./monitor.ts";

/** Emulated, on a shared core: a boot takes a quarter of a minute on a quiet machine. */
const BOOT_TIMEOUT_MS = 240_000;
const PLUG_TIMEOUT_SECONDS = 60;
/** The name of the state that a machine is started from within its disk image. */
const BOOTED = "booted";

export interface GuestDisk {
  /** `/dev/disk/by-id/virtio-SERIAL` in the guest; at most 20 characters. */
  readonly serial: string;
  readonly sizeBytes: number;
}

export interface GuestCard {
  /** For `pull` and `plug`; the guest gives it a name of its own. */
  readonly id: string;
  /** Cards on one cable hear each other, and nobody else does. */
  readonly cable: number;
}

export interface Hardware {
  readonly disks?: readonly GuestDisk[];
  readonly cards?: readonly GuestCard[];
}

/** What a device is made of, as the command line takes it, and the monitor as well. */
type Part = readonly [sort: "drive" | "netdev" | "device", options: string];

/**
 * A Debian with a kernel of its own, emulated: for what a container cannot have (device-mapper, md, bonds, swap, a true reboot).
 * The first start goes on from where a machine without any disks and cards had booted; these are plugged in while it runs.
 */
export class Machine {
  readonly #base: QemuBase;
  readonly #work: string;
  readonly #hardware: Required<Hardware>;
  #emulator: ChildProcess | null = null;
  #monitor: Monitor | null = null;
  #commands: Socket | null = null;
  #answers = "";
  #hasBooted = false;

  private constructor(base: QemuBase, work: string, hardware: Hardware) {
    this.#base = base;
    this.#work = work;
    this.#hardware = { disks: [], cards: [], ...hardware };
  }

  /** @param node the Node that the guest gets. */
  static async make(hardware: Hardware, node: string): Promise<Machine> {
    const base = await ensureQemuBase(node);
    await removeStale(base);
    const booted = join(base.guest, `${BOOTED}-${createHash("sha256").update(JSON.stringify(frame)).digest("hex").slice(0, 12)}.qcow2`);
    if (!existsSync(booted)) await bootOnce(new Machine(base, await workplace(base), {}), booted);
    const machine = new Machine(base, await workplace(base), hardware);
    await copyFile(booted, machine.#at("root.qcow2"));
    for (const { serial, sizeBytes } of machine.#hardware.disks) {
      await writeFile(machine.#at(`${serial}.img`), "");
      await truncate(machine.#at(`${serial}.img`), sizeBytes);
    }
    return machine;

    /** Keeps what a machine is like right after its boot. */
    async function bootOnce(first: Machine, to: string): Promise<void> {
      try {
        await must(["chroot", base.tools, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", `${first.#inside(base.guest)}/root.img`, first.#inside(first.#at("root.qcow2"))]);
        await first.#boot();
        await first.#monitor?.type(`savevm ${BOOTED}`);
        await first.kill();
        await rename(first.#at("root.qcow2"), to);
      } finally {
        await first.remove();
      }
    }
  }

  #at(name: string): string {
    return join(this.#work, name);
  }

  #inside(path: string): string {
    return path.slice(this.#base.tools.length);
  }

  /** From the state that was kept, the first time; then by a boot. */
  async start(): Promise<void> {
    if (this.#hasBooted) return this.#boot();
    await this.#run(["-loadvm", BOOTED]);
    for (const [sort, options] of this.#parts()) await this.#monitor?.type(sort === "drive" ? `drive_add 0 ${options}` : `${sort}_add ${options}`);
    this.#hasBooted = true;
    const links = this.#hardware.disks.map(({ serial }) => `/dev/disk/by-id/virtio-${serial}`);
    const plugged = `for n in $(seq ${PLUG_TIMEOUT_SECONDS * 5}); do [ $(cat /sys/class/net/*/address | grep -c ^52:54:) = ${this.#hardware.cards.length} ] && ls ${["/dev/vda", ...links].join(" ")} && udevadm settle && exit 0; sleep 0.2; done; exit 1`;
    const { code, stderr } = await this.shell(`date -s @${Math.floor(Date.now() / 1_000)}; ${plugged}`);
    if (code !== 0) throw new Error(`the guest does not see its disks and cards: ${stderr.split("\n").at(-2)}`);
  }

  async #boot(): Promise<void> {
    await this.#run(this.#parts().flatMap(([sort, options]) => [`-${sort}`, options]));
    this.#hasBooted = true;
    await until("the guest to boot", BOOT_TIMEOUT_MS, async () => (this.#answers.includes("ready\n") ? true : undefined)).catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${await readFile(this.#at("console.log"), "utf8").catch(() => "")}`, { cause: error });
    });
    await this.shell("systemctl is-system-running --wait", BOOT_TIMEOUT_MS);
  }

  /** At places that do not depend on how it was started, so that the guest gives the same names after a reboot. */
  #parts(): readonly Part[] {
    const { disks, cards } = this.#hardware;
    return [
      ...disks.flatMap(({ serial }, at): Part[] => [
        ["drive", `file=${this.#inside(this.#at(serial))}.img,format=raw,if=none,id=${serial},discard=unmap,cache=unsafe`],
        ["device", `virtio-blk-pci,drive=${serial},serial=${serial},addr=${slot(8 + at)}`],
      ]),
      ...cards.flatMap(({ id, cable }, at): Part[] => [
        ["netdev", `hubport,id=port-${id},hubid=${cable}`],
        ["device", `virtio-net-pci,id=${id},netdev=port-${id},mac=${this.mac(id)},speed=1000,duplex=full,addr=${slot(16 + at)}`],
      ]),
    ];
  }

  mac(card: string): string {
    return `52:54:00:00:00:${(16 + this.#hardware.cards.findIndex(({ id }) => id === card)).toString(16)}`;
  }

  async #run(more: readonly string[]): Promise<void> {
    const place = (name: string): string => this.#inside(this.#at(name));
    const argv = [
      ...[this.#base.tools, "qemu-system-x86_64", ...frame],
      ...["-kernel", `${this.#inside(this.#base.guest)}/kernel`, "-initrd", `${this.#inside(this.#base.guest)}/initrd`],
      ...["-drive", `file=${place("root.qcow2")},format=qcow2,if=none,id=root,discard=unmap,cache=unsafe`],
      ...["-chardev", `file,id=console,path=${place("console.log")}`, "-chardev", `socket,id=commands,path=${place("commands")},server=on,wait=off`],
      ...["-chardev", `socket,id=monitor,path=${place("monitor")},server=on,wait=off`, "-mon", "chardev=monitor,mode=control"],
      ...more,
    ];
    for (const socket of ["commands", "monitor"]) await rm(this.#at(socket), { force: true });
    const emulator = spawn("chroot", argv, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    emulator.stderr.on("data", (data: Buffer) => (said += data.toString()));
    this.#emulator = emulator;
    this.#answers = "";
    const reached = <T>(connect: Promise<T>): Promise<T | undefined> => {
      if (emulator.exitCode !== null) throw new Error(`qemu ended with ${emulator.exitCode}: ${said}`);
      return connect.catch(() => undefined);
    };
    this.#commands = await until("qemu's socket", 30_000, () => reached(connectTo(this.#at("commands"))));
    this.#commands.on("data", (data) => (this.#answers += data.toString()));
    this.#commands.on("error", () => {});
    this.#monitor = await until("qemu's monitor", 30_000, () => reached(Monitor.connect(this.#at("monitor"))));
  }

  /** The plug leaves the card: the guest sees no carrier. */
  async pull(card: string): Promise<void> {
    await this.#monitor?.type(`set_link ${card} off`);
  }

  async plug(card: string): Promise<void> {
    await this.#monitor?.type(`set_link ${card} on`);
  }

  /** Runs a script by the guest's bash, as root. One at a time. */
  async shell(script: string, timeoutMs = 180_000): Promise<Outcome> {
    const socket = this.#commands;
    if (socket === null) throw new Error("the guest is not running");
    this.#answers = "";
    send(socket, script);
    await until(`the guest to answer: ${script.slice(0, 200)}`, timeoutMs, async () => (this.#answers.includes("\n") ? true : undefined));
    const [code = "", stdout = "", stderr = ""] = this.#answers.trim().split(" ");
    const text = (encoded: string) => Buffer.from(encoded, "base64").toString();
    return { code: Number(code), stdout: text(stdout), stderr: text(stderr) };
  }

  async writeFile(path: string, content: string | Uint8Array): Promise<void> {
    await this.shell(`base64 -d > '${path}' <<'END'\n${Buffer.from(content).toString("base64")}\nEND`);
  }

  /** The power is cut: what the guest had not written to its disks is lost. */
  async kill(): Promise<void> {
    const emulator = this.#emulator;
    this.#disconnect();
    if (emulator === null || emulator.exitCode !== null) return;
    const ended = new Promise((resolve) => emulator.once("exit", resolve));
    emulator.kill("SIGKILL");
    await ended;
  }

  #disconnect(): void {
    this.#commands?.destroy();
    this.#monitor?.close();
    this.#commands = null;
    this.#monitor = null;
    this.#emulator = null;
  }

  /** In order, and up again. */
  async reboot(): Promise<void> {
    const emulator = this.#emulator;
    if (emulator === null) throw new Error("the guest is not running");
    const ended = new Promise((resolve) => emulator.once("exit", resolve));
    if (this.#commands !== null) send(this.#commands, "systemctl reboot");
    await Promise.race([ended, new Promise((_, reject) => setTimeout(() => reject(new Error("the guest did not go down")), 120_000).unref())]);
    this.#disconnect();
    await this.start();
  }

  /** Disks get another size while the machine is off. */
  async enlarge(serial: string, sizeBytes: number): Promise<void> {
    await truncate(this.#at(`${serial}.img`), sizeBytes);
  }

  async remove(): Promise<void> {
    await this.kill();
    await rm(this.#work, { recursive: true, force: true });
  }
}

/** As the guest's test-shell takes it. */
function send(socket: Socket, script: string): void {
  socket.write(`${Buffer.byteLength(script)}\n${script}`);
}

/** What nothing here needs: a sixth of a boot. */
const idle = ["systemd-logind.service", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "modprobe@drm.service", "modprobe@fuse.service", "modprobe@configfs.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-user-sessions.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"];

/** The machine itself. A state that was kept only goes on in the very same one. */
const frame = [
  ...["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-m", "1024", "-smp", "1", "-nodefaults", "-display", "none", "-no-reboot"],
  ...["-append", `root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off ${idle.map((unit) => `systemd.mask=${unit}`).join(" ")}`],
  ...["-serial", "chardev:console", "-device", "virtio-serial", "-device", "virtserialport,chardev=commands,name=commands"],
  ...["-device", "virtio-rng-pci", "-device", "virtio-blk-pci,drive=root,serial=root"],
];

/** The monitor reads hexadecimal, the command line what it is told. */
function slot(number: number): string {
  return `0x${number.toString(16)}`;
}

function workplace({ tools }: QemuBase): Promise<string> {
  return mkdtemp(join(tools, "machines", `${process.pid}-`));
}

/** What a test that was killed has left: a gigabyte each. */
async function removeStale({ tools }: QemuBase): Promise<void> {
  const machines = join(tools, "machines");
  const stale = (await readdir(machines)).filter((name) => !existsSync(`/proc/${name.split("-")[0]}`));
  for (const name of stale) await rm(join(machines, name), { recursive: true, force: true });
}
