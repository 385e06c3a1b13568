import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import { run, until } from "../lab/command.ts";
import type { Outcome } from "../lab/command.ts";
import { ensureQemuBase } from "./base.ts";
import type { QemuBase } from "./base.ts";

/** Emulated, on a shared core: a boot takes half a minute on a quiet machine. */
const BOOT_TIMEOUT_MS = 240_000;

export interface GuestDisk {
  /** `/dev/disk/by-id/virtio-SERIAL` in the guest; at most 20 characters. */
  readonly serial: string;
  readonly sizeBytes: number;
}

/** A Debian with a kernel of its own, emulated: for what a container cannot have (device-mapper, md, swap, a true reboot). */
export class Machine {
  readonly #base: QemuBase;
  /** Below the tree of the emulator, which cannot see anything else. */
  readonly #work: string;
  readonly #disks: readonly GuestDisk[];
  #emulator: ChildProcess | null = null;
  #socket: Socket | null = null;
  #answers = "";

  private constructor(base: QemuBase, work: string, disks: readonly GuestDisk[]) {
    this.#base = base;
    this.#work = work;
    this.#disks = disks;
  }

  static async make(disks: readonly GuestDisk[], node: string): Promise<Machine> {
    const base = await ensureQemuBase(node);
    const parent = join(base.tools, "machines");
    await mkdir(parent, { recursive: true });
    const machine = new Machine(base, await mkdtemp(join(parent, "m-")), disks);
    await copyFile(base.kernel, join(machine.#work, "kernel"));
    await copyFile(base.initrd, join(machine.#work, "initrd"));
    // A sparse copy, because the emulator cannot see the base's directory.
    await run(["cp", "--sparse=always", base.image, join(machine.#work, "root.img")]);
    for (const { serial, sizeBytes } of disks) {
      await writeFile(join(machine.#work, `${serial}.img`), "");
      await truncate(join(machine.#work, `${serial}.img`), sizeBytes);
    }
    return machine;
  }

  async start(): Promise<void> {
    const inside = this.#work.slice(this.#base.tools.length);
    const disk = (file: string, serial: string) => ["-drive", `file=${inside}/${file},format=raw,if=none,id=${serial},discard=unmap,cache=unsafe`, "-device", `virtio-blk-pci,drive=${serial},serial=${serial}`];
    const argv = [
      this.#base.tools,
      "qemu-system-x86_64",
      ...["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max", "-m", "1024", "-smp", "1", "-nodefaults", "-display", "none", "-no-reboot"],
      ...["-kernel", `${inside}/kernel`, "-initrd", `${inside}/initrd`, "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off"],
      ...["-serial", `file:${inside}/console.log`, "-device", "virtio-serial", "-chardev", `socket,id=c,path=${inside}/commands,server=on,wait=off`, "-device", "virtserialport,chardev=c,name=commands"],
      ...["-device", "virtio-rng-pci"],
      ...disk("root.img", "root"),
      ...this.#disks.flatMap(({ serial }) => disk(`${serial}.img`, serial)),
    ];
    await rm(join(this.#work, "commands"), { force: true });
    const emulator = spawn("chroot", argv, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    emulator.stderr.on("data", (data: Buffer) => (said += data.toString()));
    this.#emulator = emulator;
    this.#answers = "";
    const deadline = async (): Promise<Socket | undefined> => {
      if (emulator.exitCode !== null) throw new Error(`qemu ended with ${emulator.exitCode}: ${said}`);
      return this.#connect().catch(() => undefined);
    };
    this.#socket = await until("qemu's socket", 10_000, deadline);
    this.#socket.on("data", (data) => (this.#answers += data.toString()));
    await until("the guest to boot", BOOT_TIMEOUT_MS, async () => (this.#answers.includes("ready\n") ? true : undefined)).catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${await readFile(join(this.#work, "console.log"), "utf8").catch(() => "")}`, { cause: error });
    });
    this.#answers = "";
  }

  #connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(join(this.#work, "commands"));
      socket.once("connect", () => resolve(socket));
      socket.once("error", reject);
    });
  }

  /** Runs a script by the guest's bash, as root. One at a time. */
  async shell(script: string, timeoutMs = 180_000): Promise<Outcome> {
    const socket = this.#socket;
    if (socket === null) throw new Error("the guest is not running");
    this.#answers = "";
    socket.write(`${Buffer.from(script).toString("base64")}\n`);
    await until(`the guest to answer: ${script.slice(0, 200)}`, timeoutMs, async () => (this.#answers.includes("\n") ? true : undefined));
    const [code = "", stdout = "", stderr = ""] = this.#answers.trim().split(" ");
    const text = (encoded: string) => Buffer.from(encoded, "base64").toString();
    return { code: Number(code), stdout: text(stdout), stderr: text(stderr) };
  }

  async writeFile(path: string, content: string | Uint8Array): Promise<void> {
    const encoded = Buffer.from(content).toString("base64");
    await this.shell(`: > '${path}'`);
    // bash reads a line of the port at a time; half a megabyte each goes well.
    for (let at = 0; at < encoded.length; at += 400_000) await this.shell(`base64 -d >> '${path}' <<'END'\n${encoded.slice(at, at + 400_000)}\nEND`);
  }

  /** The power is cut: what the guest had not written to its disks is lost. */
  async kill(): Promise<void> {
    const emulator = this.#emulator;
    this.#socket?.destroy();
    this.#socket = null;
    this.#emulator = null;
    if (emulator === null || emulator.exitCode !== null) return;
    const ended = new Promise((resolve) => emulator.once("exit", resolve));
    emulator.kill("SIGKILL");
    await ended;
  }

  /** In order, and up again. */
  async reboot(): Promise<void> {
    const emulator = this.#emulator;
    if (emulator === null) throw new Error("the guest is not running");
    const ended = new Promise((resolve) => emulator.once("exit", resolve));
    this.#socket?.write(`${Buffer.from("systemctl reboot").toString("base64")}\n`);
    await Promise.race([ended, new Promise((_, reject) => setTimeout(() => reject(new Error("the guest did not go down")), 120_000).unref())]);
    this.#emulator = null;
    this.#socket?.destroy();
    await this.start();
  }

  /** Disks get another size while the machine is off. */
  async enlarge(serial: string, sizeBytes: number): Promise<void> {
    await truncate(join(this.#work, `${serial}.img`), sizeBytes);
  }

  async remove(): Promise<void> {
    await this.kill();
    await rm(this.#work, { recursive: true, force: true });
  }
}
