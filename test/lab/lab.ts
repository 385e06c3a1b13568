import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { type Base, type Progress, checkMachine, ensureBase, exists } from "./base.ts";
import { LabCgroups } from "./cgroup.ts";
import { LabError, type Outcome, run, until } from "./command.ts";
import { LabDisks } from "./disks.ts";
import { withLock } from "./lock.ts";
import { defaultMirror, fetchPackages } from "./mirror.ts";
import { LabNetwork } from "./network.ts";
import { type ExecOptions, LabNode, type NodeState, linkOf } from "./node.ts";
import { LabRepository, type PublishOptions } from "./repository.ts";
import {
  type LabOptions,
  type Settings,
  hashOf,
  mergeSettings,
  prefixOf,
  readSettings,
  stateDirectoryOf,
  writeSettings,
} from "./settings.ts";

export { LabError } from "./command.ts";
export type { Outcome } from "./command.ts";
export type { Bind, ExecOptions, NodeState } from "./node.ts";
export type { PublishOptions } from "./repository.ts";
export type { LabOptions } from "./settings.ts";

export interface NodeStatus {
  readonly name: string;
  readonly address: string;
  readonly state: NodeState;
  readonly bootId: string | undefined;
  readonly unplugged: boolean;
  readonly isolated: boolean;
  readonly disks: readonly string[];
}

const downTimeoutMs = 30_000;

/** Three (or more) real Debian machines on this one, that boot, reboot, crash, hang and lose their network. */
export class Lab {
  readonly name: string;
  readonly stateDirectory: string;
  /** Begins the names of all that the lab has in the kernel: bridge PREFIX-br, links ve-PREFIX-1, cgroup evenkeel-PREFIX. */
  readonly prefix: string;
  readonly #onProgress: Progress;
  readonly #downOnExit: boolean;
  readonly #cgroups: LabCgroups;
  readonly #network: LabNetwork;
  readonly #disks: LabDisks;
  readonly #repository: LabRepository;
  #settings: Settings;
  #watcher: ChildProcess | undefined;

  constructor(options: LabOptions = {}) {
    this.name = options.name ?? "lab";
    if (!/^[a-z][a-z0-9-]{0,30}$/.test(this.name)) throw new LabError("bad-request", `not a name for a lab: "${this.name}"`);
    this.stateDirectory = resolve(options.stateDirectory ?? stateDirectoryOf(this.name));
    if (/[,:\\]/.test(this.stateDirectory)) {
      throw new LabError("bad-request", `overlayfs takes no path with , : or \\ in it: ${this.stateDirectory}`);
    }
    this.prefix = prefixOf(this.name, this.stateDirectory);
    this.#onProgress = options.onProgress ?? (() => {});
    this.#downOnExit = options.downOnExit ?? false;
    this.#cgroups = new LabCgroups(this.prefix);
    this.#network = new LabNetwork(this.prefix, this.stateDirectory);
    this.#disks = new LabDisks(join(this.stateDirectory, "disks"));
    this.#repository = new LabRepository(join(this.stateDirectory, "repo"));
    this.#settings = mergeSettings(readSettings(this.stateDirectory), options);
  }

  get nodes(): readonly string[] {
    return this.#settings.nodes;
  }

  /** The bridge's address on the host: where a hub listens. The nodes know it as `hub`. Set by `prepare` or `up`. */
  get hostAddress(): string {
    return `10.77.${this.#subnet()}.1`;
  }

  address(node: string): string {
    return `10.77.${this.#subnet()}.${11 + this.#indexOf(node)}`;
  }

  /** The node's file system as the host sees it. Beware: absolute links in it lead into the host's own files. */
  nodeRoot(node: string): string {
    return this.#node(node).root;
  }

  /** Where systemd-nspawn and the booting systemd write. */
  consoleLog(node: string): string {
    return join(this.#directoryOf(node), "console.log");
  }

  /** Everything but the nodes: base system, network, repository. Enough for a hub to listen on `hostAddress`. */
  async prepare(): Promise<void> {
    await checkMachine();
    await mkdir(this.stateDirectory, { recursive: true });
    const base = await this.#chooseBase();
    this.#watchOver();
    await this.#locked(async () => {
      const subnet = await this.#network.create(this.#settings.subnet ?? 1 + (hashOf(this.stateDirectory) % 254));
      await this.#saveSettings({ ...this.#settings, subnet, base });
      await this.#repository.create();
      await this.#disks.attachAll();
    });
  }

  /** All nodes booted. Nodes that run already are left alone. */
  async up(): Promise<void> {
    await this.prepare();
    await Promise.all(this.nodes.map((node) => this.start(node)));
  }

  /**
   * Nothing of the lab runs any more, and nothing of it is left in the kernel; its files stay. Safe at any moment,
   * also twice, also after whatever started it was killed.
   */
  async down(): Promise<void> {
    // Before waiting for the lock: an `up` that holds it may be waiting for a node that never comes.
    if (existsSync(this.stateDirectory)) await this.#cgroups.remove(downTimeoutMs);
    await this.#locked(async () => {
      await this.#cgroups.remove(downTimeoutMs);
      const machines = await this.#machinesEverSeen();
      await this.#disks.releaseAll(machines.map(({ directory }) => join(directory, "root")));
      for (const { directory, machine } of machines) await this.#bareNode(directory, machine).unmount();
      await this.#network.remove(machines.map(({ machine }) => linkOf(machine)));
    });
    await this.#stopWatching();
  }

  /** `down`, and all files of the lab are gone: the next `up` makes new machines. */
  async wipe(): Promise<void> {
    await this.down();
    // Never across a mount: a node's root that did not let go would lead into the base system.
    if (existsSync(this.stateDirectory)) {
      const { code, stderr } = await run(["rm", "-rf", "--one-file-system", this.stateDirectory]);
      if (code !== 0) throw new LabError("command-failed", `cannot remove ${this.stateDirectory}: ${stderr.trim()}`);
    }
    const { nodes, binds, flavour } = this.#settings;
    this.#settings = { nodes, binds, flavour };
  }

  /** Switches a node on, and waits until it has booted. */
  async start(node: string): Promise<void> {
    if (!this.#network.exists()) await this.prepare(); // the first node after a `down`
    await this.#node(node).start(this.#repository.directory, this.#onProgress);
  }

  /** Powers a node off in order. */
  async stop(node: string): Promise<void> {
    await this.#node(node).stop();
  }

  /** Asks the node to reboot, and waits until it is back with another boot id. */
  async reboot(node: string): Promise<void> {
    await this.#node(node).reboot(this.#onProgress);
  }

  /** Waits until the node, which reboots by itself, is back with another boot id than `before`. */
  async waitRebooted(node: string, before: string, timeoutMs?: number): Promise<void> {
    await this.#node(node).waitRebooted(before, this.#onProgress, timeoutMs);
  }

  /** Waits until the node has booted. */
  async waitUp(node: string, timeoutMs?: number): Promise<void> {
    await this.#node(node).waitUp(this.#onProgress, timeoutMs);
  }

  /** Pulls the power. No power loss for the disks, though: what was written is still in the host's page cache. */
  async crash(node: string): Promise<void> {
    await this.#node(node).crash();
  }

  /** Everything in the node hangs; its kernel still answers ping. */
  async freeze(node: string): Promise<void> {
    this.#node(node).freeze(true);
  }

  async thaw(node: string): Promise<void> {
    this.#node(node).freeze(false);
  }

  /** Cable out: the node sees that its carrier is lost. */
  async unplug(node: string): Promise<void> {
    await this.#node(node).setCable(false);
  }

  async plug(node: string): Promise<void> {
    await this.#node(node).setCable(true);
  }

  /** The switch is dead for this node: it keeps its carrier and reaches nobody. */
  async isolate(node: string): Promise<void> {
    await this.#node(node).setPort(false);
  }

  async rejoin(node: string): Promise<void> {
    await this.#node(node).setPort(true);
  }

  /** Runs a command in the node, as root. A non-zero exit is a value; a node that is down, or a timeout, throws. */
  async exec(node: string, argv: readonly string[], options?: ExecOptions): Promise<Outcome> {
    return this.#node(node).exec(argv, options);
  }

  /** Runs a script by the node's /bin/sh. */
  shell(node: string, script: string, options?: ExecOptions): Promise<Outcome> {
    return this.exec(node, ["/bin/sh", "-c", script], options);
  }

  /** The command line and environment that enter the node, for a caller who wants a terminal or a stream. */
  enter(node: string, argv: readonly string[]): { readonly argv: string[]; readonly env: Record<string, string> } {
    const labNode = this.#node(node);
    return { argv: labNode.enter(argv), env: labNode.environment() };
  }

  /** Replaces a file in one step, with the directories it needs. In the node, so that its own links hold. */
  async writeFile(node: string, path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
    const script = 'set -e; mkdir -p "$(dirname "$1")"; cat >"$1.lab-new"; chmod "$2" "$1.lab-new"; mv -f "$1.lab-new" "$1"';
    const argv = ["/bin/sh", "-c", script, "write", path, mode.toString(8)];
    const { code, stderr } = await this.exec(node, argv, { input: content });
    if (code !== 0) throw new LabError("command-failed", `cannot write ${path} in ${node}: ${stderr.trim()}`);
  }

  async readFile(node: string, path: string): Promise<string> {
    const { code, stdout, stderr } = await this.exec(node, ["cat", "--", path]);
    if (code !== 0) throw new LabError("command-failed", `cannot read ${path} in ${node}: ${stderr.trim()}`);
    return stdout;
  }

  /** The node gets a disk, /dev/disk/by-id/scsi-SERIAL. One that was pulled before comes back with its content. */
  async attachDisk(node: string, serial: string, sizeBytes: number): Promise<{ device: string; byId: string }> {
    const labNode = this.#node(node);
    const device = await this.#disks.attach(labNode.settings.machine, serial, sizeBytes);
    const byId = `/dev/disk/by-id/scsi-${serial}`;
    if (labNode.state() === "up") await this.#waitForDisk(node, byId, true);
    return { device, byId };
  }

  async detachDisk(node: string, serial: string): Promise<void> {
    const labNode = this.#node(node);
    await this.#disks.detach(labNode.settings.machine, serial);
    if (labNode.state() === "up") await this.#waitForDisk(node, `/dev/disk/by-id/scsi-${serial}`, false);
  }

  /** Puts a toy package, with a service of its own, into the lab's apt repository. The nodes see it at `apt-get update`. */
  async publish(name: string, version: string, options: PublishOptions = {}): Promise<void> {
    await this.#repository.publish(name, version, options);
  }

  /** Puts real Debian packages, and what they need, into the lab's apt repository. */
  async mirror(names: readonly string[] = defaultMirror): Promise<void> {
    const base = await this.#chooseBase();
    await this.#repository.add(await fetchPackages(base, names, this.#onProgress));
  }

  async bootId(node: string): Promise<string> {
    return this.#node(node).bootId();
  }

  /** The host's number of the node's PID 1. */
  pid1(node: string): number {
    return this.#node(node).pid1();
  }

  state(node: string): NodeState {
    return this.#node(node).state();
  }

  async status(): Promise<NodeStatus[]> {
    if (this.#settings.subnet === undefined) return [];
    return Promise.all(
      this.nodes.map(async (name) => {
        const node = this.#node(name);
        const state = node.state();
        const bootId = state === "up" ? await node.bootId().catch(() => undefined) : undefined;
        const disks = await this.#disks.serials(node.settings.machine);
        return { name, address: this.address(name), state, bootId, ...node.faults(), disks };
      }),
    );
  }

  async #chooseBase(): Promise<Base> {
    const made = this.#settings.base;
    if (made !== undefined && (await exists(made.directory)) && (await exists(join(this.stateDirectory, "nodes")))) return made;
    return ensureBase(this.#settings.flavour, this.#onProgress);
  }

  async #waitForDisk(node: string, byId: string, present: boolean): Promise<void> {
    await until(`${byId} to ${present ? "appear" : "go"} in ${node}`, 15_000, async () => {
      const { code } = await this.exec(node, ["test", "-e", byId]);
      return (code === 0) === present ? true : undefined;
    });
  }

  #subnet(): number {
    const { subnet } = this.#settings;
    if (subnet === undefined) throw new LabError("not-running", `the lab ${this.name} is not up`);
    return subnet;
  }

  #indexOf(node: string): number {
    const index = this.nodes.indexOf(node);
    if (index < 0) throw new LabError("bad-request", `no node "${node}" in this lab: it has ${this.nodes.join(", ")}`);
    return index;
  }

  #directoryOf(node: string): string {
    this.#indexOf(node);
    return join(this.stateDirectory, "nodes", node);
  }

  #node(node: string): LabNode {
    const { binds, base } = this.#settings;
    const hosts = ["127.0.0.1 localhost", `${this.hostAddress} hub`, ...this.nodes.map((name) => `${this.address(name)} ${name}`)];
    const settings = {
      name: node,
      machine: `${this.prefix}-${this.#indexOf(node) + 1}`,
      directory: this.#directoryOf(node),
      baseDirectory: base?.directory ?? "",
      address: this.address(node),
      hostAddress: this.hostAddress,
      hosts: `${hosts.join("\n")}\n`,
      binds,
    };
    return new LabNode(settings, this.#cgroups, this.#network);
  }

  /** Enough of a node to clean up after it: `down` has to work whatever is missing in lab.json. */
  #bareNode(directory: string, machine: string): LabNode {
    const nothing = { baseDirectory: "", address: "", hostAddress: "", hosts: "", binds: [] };
    return new LabNode({ name: basename(directory), machine, directory, ...nothing }, this.#cgroups, this.#network);
  }

  async #machinesEverSeen(): Promise<{ directory: string; machine: string }[]> {
    const found = await readdir(join(this.stateDirectory, "nodes")).catch(() => []);
    const names = [...this.nodes, ...found.filter((name) => !this.nodes.includes(name))];
    return names.map((name, index) => ({
      directory: join(this.stateDirectory, "nodes", name),
      machine: `${this.prefix}-${index + 1}`,
    }));
  }

  #locked<T>(work: () => Promise<T>): Promise<T> {
    return withLock(join("/run/lock", `evenkeel-lab-${this.prefix}.lock`), 60_000, work);
  }

  async #saveSettings(settings: Settings): Promise<void> {
    this.#settings = settings;
    await writeSettings(this.stateDirectory, settings);
  }

  /*
   * A shell that waits for the end of a pipe from us. The kernel closes the pipe however we end, so this works where a
   * signal handler would not. A word on the pipe means that all is well.
   */
  #watchOver(): void {
    if (!this.#downOnExit || this.#watcher !== undefined) return;
    const down = [process.execPath, join(import.meta.dirname, "main.ts"), "down", "--name", this.name, "--state", this.stateDirectory];
    const argv = ["-c", 'read -r word || exec "$@"', "watch", ...down];
    const watcher = spawn("/bin/sh", argv, { detached: true, stdio: ["pipe", "ignore", "ignore"] });
    watcher.stdin.on("error", () => {});
    watcher.unref();
    (watcher.stdin as unknown as { unref(): void }).unref();
    this.#watcher = watcher;
  }

  async #stopWatching(): Promise<void> {
    const watcher = this.#watcher;
    if (watcher === undefined) return;
    this.#watcher = undefined;
    const ended = new Promise((resolved) => watcher.once("close", resolved));
    watcher.ref();
    watcher.stdin?.end("done\n");
    await ended;
  }
}
