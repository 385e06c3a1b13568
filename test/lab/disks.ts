import { mkdir, open, readdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { exists } from "./base.ts";
import { LabError, must, run } from "./command.ts";

interface LoopDevice {
  readonly device: string;
  readonly file: string;
  /** major:minor of the file system that holds the file. */
  readonly fileSystem: string;
}

/**
 * The lab's disks: sparse files on loop devices. The name of the file says whose it is (MACHINE-SERIAL.img) and becomes
 * the serial number inside the node, by a udev rule of the base system. A pulled disk keeps its content.
 */
export class LabDisks {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Gives the loop device. Attaching what is attached already changes nothing. */
  async attach(machine: string, serial: string, sizeBytes: number): Promise<string> {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(serial)) throw new LabError("bad-request", `not a disk serial: "${serial}"`);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 4096) {
      throw new LabError("bad-request", `not a disk size in bytes: ${sizeBytes}`);
    }
    const file = this.#file(machine, serial);
    await mkdir(this.#directory, { recursive: true });
    if (await exists(`${file}.pulled`)) await rename(`${file}.pulled`, file);
    if (!(await exists(file))) {
      const image = await open(file, "wx");
      await image.truncate(sizeBytes);
      await image.close();
    }
    const attached = (await loopDevices()).find((loop) => loop.file === file);
    return attached?.device ?? (await must(["losetup", "-f", "--show", file])).trim();
  }

  /** Whatever has the disk mounted keeps it until it lets go: the kernel detaches a loop device lazily. */
  async detach(machine: string, serial: string): Promise<void> {
    const file = this.#file(machine, serial);
    const attached = (await loopDevices()).filter((loop) => loop.file === file);
    if (attached.length === 0) throw new LabError("bad-request", `no disk ${serial} is attached to ${machine}`);
    for (const { device } of attached) await release(device);
    await rename(file, `${file}.pulled`);
  }

  /** After `down`, the disks that were not pulled come back. */
  async attachAll(): Promise<void> {
    const names = await readdir(this.#directory).catch(() => []);
    const attached = new Set((await loopDevices()).map((loop) => loop.file));
    for (const name of names.filter((candidate) => candidate.endsWith(".img"))) {
      const file = join(this.#directory, name);
      if (!attached.has(file)) await must(["losetup", "-f", file]);
    }
  }

  async serials(machine: string): Promise<string[]> {
    const prefix = join(this.#directory, `${machine}-`);
    const files = (await loopDevices()).map((loop) => loop.file);
    return files.filter((file) => file.startsWith(prefix)).map((file) => file.slice(prefix.length, -".img".length));
  }

  /** Takes the lab's disks away, and loop devices that a node made itself on a file in its own root. */
  async releaseAll(nodeRoots: readonly string[]): Promise<void> {
    const ours = new Set<string>();
    for (const root of nodeRoots) {
      const { dev } = await stat(root).catch(() => ({ dev: undefined }));
      if (dev !== undefined) ours.add(`${major(dev)}:${minor(dev)}`);
    }
    for (const { device, file, fileSystem } of await loopDevices()) {
      if (file.startsWith(`${this.#directory}/`) || ours.has(fileSystem)) await release(device);
    }
  }

  #file(machine: string, serial: string): string {
    return join(this.#directory, `${machine}-${serial}.img`);
  }
}

async function release(device: string): Promise<void> {
  await run(["partx", "-d", device]); // the partitions of a lab disk, if it has any
  await run(["losetup", "-d", device]);
}

async function loopDevices(): Promise<LoopDevice[]> {
  const text = await must(["losetup", "--json", "--list", "-O", "NAME,BACK-FILE,BACK-MAJ:MIN"]);
  if (text.trim() === "") return [];
  const parsed = JSON.parse(text) as { loopdevices: Record<string, string | null>[] };
  return parsed.loopdevices.map((loop) => ({
    device: loop["name"] ?? "",
    file: (loop["back-file"] ?? "").replace(/ \(deleted\)$/, ""),
    fileSystem: (loop["back-maj:min"] ?? "").trim(),
  }));
}

// glibc's gnu_dev_major and gnu_dev_minor, for the numbers that occur here.
function major(dev: number): number {
  return Math.floor(dev / 256) % 4096;
}

function minor(dev: number): number {
  return (dev % 256) + Math.floor(dev / 1_048_576) * 256;
}
