import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Progress, exists } from "./base.ts";
import type { LabCgroups } from "./cgroup.ts";
import { LabError, type Outcome, lastLines, must, run, until } from "./command.ts";
import type { LabNetwork } from "./network.ts";

/** A directory or file of the host that the node sees, read-only unless said otherwise. */
export interface Bind {
  readonly from: string;
  readonly to: string;
  readonly writable?: boolean;
}

export interface ExecOptions {
  readonly input?: string | Uint8Array;
  /** Default 60 s. A frozen node answers nothing until then. */
  readonly timeoutMs?: number;
  /** Added to a clean environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export type NodeState = "stopped" | "starting" | "up" | "frozen";

export interface NodeSettings {
  readonly name: string;
  /** Unique on this host, at most 12 characters: the veth is called ve-MACHINE. */
  readonly machine: string;
  readonly directory: string;
  readonly baseDirectory: string;
  readonly address: string;
  readonly hostAddress: string;
  /** All of /etc/hosts. */
  readonly hosts: string;
  readonly binds: readonly Bind[];
}

const environment = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
  DEBIAN_FRONTEND: "noninteractive",
};

// Seen: 0.5 to 2 s to boot, 0.3 s to power off; LXD and a busy machine can take ten times that.
const bootTimeoutMs = 90_000;
const powerOffTimeoutMs = 90_000;
const keepNode = join(import.meta.dirname, "keep-node.sh");

/** One machine of the lab: a systemd-nspawn container that boots, reboots and dies like a machine. */
export class LabNode {
  readonly settings: NodeSettings;
  readonly link: string;
  readonly #cgroups: LabCgroups;
  readonly #network: LabNetwork;

  constructor(settings: NodeSettings, cgroups: LabCgroups, network: LabNetwork) {
    this.settings = settings;
    this.link = linkOf(settings.machine);
    this.#cgroups = cgroups;
    this.#network = network;
  }

  get root(): string {
    return join(this.settings.directory, "root");
  }

  get #name(): string {
    return this.settings.name;
  }

  state(): NodeState {
    if (this.#cgroups.nspawn(this.#name) === undefined) {
      return this.#cgroups.keeperRuns(this.#name) ? "starting" : "stopped";
    }
    if (this.#cgroups.isFrozen(this.#name)) return "frozen";
    return this.#cgroups.leader(this.#name) === undefined ? "starting" : "up";
  }

  /** Makes the root and the identity of the node; what is there already stays. */
  async prepare(): Promise<void> {
    const { directory, baseDirectory } = this.settings;
    for (const name of ["upper", "work", "root"]) await mkdir(join(directory, name), { recursive: true });
    if (!(await isMounted(this.root))) {
      const layers = [`lowerdir=${baseDirectory}`, `upperdir=${directory}/upper`, `workdir=${directory}/work`];
      await must(["mount", "-t", "overlay", this.settings.machine, "-o", layers.join(","), this.root]);
    }
    await this.#configure();
  }

  /** Switches the node on and waits until it has booted. */
  async start(repository: string, onProgress: Progress): Promise<void> {
    if (this.state() === "stopped") {
      await this.prepare();
      this.#cgroups.create(this.#name);
      await writeFile(join(this.settings.directory, "console.log"), "");
      const cgroups = [this.#cgroups.keeper(this.#name), this.#cgroups.node(this.#name)];
      const argv = [keepNode, this.settings.directory, ...cgroups, this.link, this.#network.bridge];
      spawn("/bin/sh", [...argv, ...this.#nspawnArgv(repository)], { detached: true, stdio: "ignore" }).unref();
      // Until the shell is in its cgroup, the node would still look switched off.
      await until(`${this.#name} to start`, 10_000, () => this.#cgroups.keeperRuns(this.#name) || undefined, 5);
    }
    await this.waitUp(onProgress);
  }

  async waitUp(onProgress: Progress, timeoutMs = bootTimeoutMs): Promise<void> {
    await until(`${this.#name} to boot`, timeoutMs, async () => {
      if (this.state() === "stopped") throw new LabError("not-running", `${this.#name} did not boot: ${await this.#console()}`);
      const leader = this.#cgroups.leader(this.#name);
      // Asking earlier costs a process each time, and systemctl only fails.
      if (leader === undefined || !existsSync(`/proc/${leader}/root/run/systemd/private`)) return undefined;
      // Not --wait: asked early in a boot, it was seen to wait for ever.
      const asked = await this.exec(["systemctl", "is-system-running"], { timeoutMs: 10_000 }).catch(unlessTimeout);
      const answer = asked?.stdout.trim();
      if (answer === "degraded") onProgress(`${this.#name} is up, with failed units: ${await this.#failedUnits()}`);
      return answer === "running" || answer === "degraded" || undefined;
    }, 50);
    await this.#waitForAddress(onProgress);
  }

  /** Powers off in order, as `systemctl poweroff` would. */
  async stop(timeoutMs = powerOffTimeoutMs): Promise<void> {
    const state = this.state();
    if (state === "stopped") return;
    if (state === "frozen") throw new LabError("bad-request", `${this.#name} is frozen: thaw or crash it`);
    const leader = await until(`${this.#name} to listen`, timeoutMs, () => this.#cgroups.leader(this.#name));
    // RTMIN+4 starts poweroff.target, see systemd(1). Node names no real-time signals.
    await must(["kill", "-s", "RTMIN+4", String(leader)]);
    await this.#waitStopped(timeoutMs);
  }

  /** Pulls the power: off the network first, else the dying sockets would say goodbye. */
  async crash(): Promise<void> {
    if (this.state() === "stopped") return;
    if (await this.#network.hasLink(this.link)) await this.#network.setPort(this.link, false);
    const leader = this.#cgroups.leader(this.#name);
    // Not its keeper: that must see the end and not start it again. Before PID 1 is there, everything goes.
    if (leader === undefined) this.#cgroups.kill(this.#cgroups.keeper(this.#name));
    if (leader === undefined) this.#cgroups.kill(this.#cgroups.node(this.#name));
    else process.kill(leader, "SIGKILL");
    await this.#waitStopped(powerOffTimeoutMs);
  }

  /** A userland that hangs: no process runs, but the kernel still answers ping. */
  freeze(frozen: boolean): void {
    this.#runningLeader();
    this.#cgroups.freeze(this.#name, frozen);
  }

  /** Cable out (no carrier) or in. Lasts over reboots. */
  async setCable(plugged: boolean): Promise<void> {
    await this.#remember("unplugged", !plugged);
    if (await this.#network.hasLink(this.link)) await this.#network.setCable(this.link, plugged);
  }

  /** Cut off by the switch, with carrier, or joined again. Lasts over reboots. */
  async setPort(alive: boolean): Promise<void> {
    await this.#remember("isolated", !alive);
    if (await this.#network.hasLink(this.link)) await this.#network.setPort(this.link, alive);
  }

  faults(): { readonly unplugged: boolean; readonly isolated: boolean } {
    const marked = (name: string): boolean => existsSync(join(this.settings.directory, name));
    return { unplugged: marked("unplugged"), isolated: marked("isolated") };
  }

  /** The command line that enters the node; also for a terminal. 7 to 10 ms. */
  enter(argv: readonly string[]): string[] {
    const leader = this.#runningLeader();
    const procs = join(this.#cgroups.groupOf(leader), "cgroup.procs");
    const join_ = 'echo $$ >"$1" || exit 125; shift; exec nsenter "$@"';
    return ["/bin/sh", "-c", join_, "enter", procs, "-t", String(leader), "-a", "--", ...argv];
  }

  environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
    return { ...environment, ...extra };
  }

  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<Outcome> {
    const { env, ...rest } = options;
    const outcome = await run(this.enter(argv), { ...rest, env: this.environment(env) });
    // The node went down between finding its PID 1 and entering it.
    if (outcome.code !== 0 && /^(nsenter: (cannot open|reassociate)|\/bin\/sh: \d+: cannot create)/.test(outcome.stderr)) {
      throw new LabError("not-running", `${this.#name} went down: ${outcome.stderr.trim()}`);
    }
    return outcome;
  }

  async bootId(): Promise<string> {
    return (await this.#mustExec(["cat", "/proc/sys/kernel/random/boot_id"])).trim();
  }

  /** The host's number of the node's PID 1. */
  pid1(): number {
    return this.#runningLeader();
  }

  async reboot(onProgress: Progress, timeoutMs = bootTimeoutMs): Promise<void> {
    const before = await this.bootId();
    await this.#mustExec(["systemctl", "reboot"]);
    await this.waitRebooted(before, onProgress, timeoutMs);
  }

  /** Waits until the node runs with another boot id than `before`. */
  async waitRebooted(before: string, onProgress: Progress, timeoutMs = bootTimeoutMs): Promise<void> {
    const leader = this.#cgroups.leader(this.#name);
    await until(`${this.#name} to reboot`, timeoutMs, async () => {
      if (this.state() === "stopped") throw new LabError("not-running", `${this.#name} did not come back: ${await this.#console()}`);
      const now = this.#cgroups.leader(this.#name);
      if (now === undefined || (now === leader && leader !== undefined && (await this.#bootIdIfUp()) === before)) return undefined;
      const id = await this.#bootIdIfUp();
      return id !== undefined && id !== before ? true : undefined;
    });
    await this.waitUp(onProgress, timeoutMs);
  }

  async unmount(): Promise<void> {
    while (await isMounted(this.root)) {
      // Lazily if need be: somebody's shell may stand in there, and `down` has to end.
      if ((await run(["umount", this.root])).code !== 0) await must(["umount", "--lazy", this.root]);
    }
    await rm(join(this.settings.directory, ".#root.lck"), { force: true });
    await rm(join("/run/systemd/nspawn/propagate", this.settings.machine), { recursive: true, force: true });
  }

  #nspawnArgv(repository: string): string[] {
    const { machine, name, directory, binds } = this.settings;
    const bind = ({ from, to, writable }: Bind): string =>
      `--bind${writable === true ? "" : "-ro"}=${escapeColon(from)}:${escapeColon(to)}`;
    return [
      "systemd-nspawn",
      "--quiet",
      "--boot",
      `--directory=${this.root}`,
      `--machine=${machine}`,
      `--hostname=${name}`,
      // Without --keep-unit nspawn wants a scope from the host's systemd, which need not be there.
      "--register=no",
      "--keep-unit",
      "--network-veth",
      "--resolv-conf=off",
      "--link-journal=no",
      "--console=pipe",
      `--bind=${escapeColon(join(directory, "udev"))}:/run/udev`,
      ...[{ from: repository, to: "/srv/repo" }, ...binds].map(bind),
    ];
  }

  async #configure(): Promise<void> {
    const { directory, address, hostAddress, hosts, machine, name } = this.settings;
    const marker = join(directory, "configured");
    const configured = await readFile(marker, "utf8").catch(() => undefined);
    const replace = async (path: string, content: string): Promise<void> => {
      // Removed first: a link that the node put there would lead out of its root, into the host's files.
      await rm(this.root + path, { force: true });
      await writeFile(this.root + path, content);
    };
    if (configured === undefined) {
      await replace("/etc/hostname", `${name}\n`);
      await replace("/etc/machine-id", `${randomBytes(16).toString("hex")}\n`);
      await replace("/usr/local/lib/evenkeel-lab/machine", `${machine}\n`);
      if (await exists(join(this.root, "usr/sbin/sshd"))) await must(["chroot", this.root, "ssh-keygen", "-q", "-A"]);
    }
    // Only anew when the lab moved to another subnet: what the node made of its own settings is left alone.
    if (configured === address) return;
    await replace("/etc/hosts", hosts);
    const network = ["[Match]", "Name=host0", "[Network]", `Address=${address}/24`, `Gateway=${hostAddress}`, "LinkLocalAddressing=no", ""];
    await replace("/etc/systemd/network/10-host0.network", network.join("\n"));
    await writeFile(marker, address);
  }

  async #remember(fault: string, present: boolean): Promise<void> {
    const path = join(this.settings.directory, fault);
    await (present ? writeFile(path, "") : rm(path, { force: true }));
  }

  /** networkd counts as started before it has set the address. A node may have been told to have none: no error. */
  async #waitForAddress(onProgress: Progress): Promise<void> {
    if (this.faults().unplugged) return;
    const configured = async (): Promise<true | undefined> => {
      const leader = this.#cgroups.leader(this.#name);
      const table = leader === undefined ? "" : await readFile(`/proc/${leader}/net/fib_trie`, "utf8").catch(() => "");
      return /-- (?!127\.|0\.0\.0\.0)[\d.]+\n\s+\/32 host LOCAL/.test(table) || undefined;
    };
    await until("an address", 5_000, configured).catch(() => onProgress(`${this.#name} is up, without an IPv4 address`));
  }

  async #waitStopped(timeoutMs: number): Promise<void> {
    await until(`${this.#name} to end`, timeoutMs, () => this.state() === "stopped" || undefined, 10);
    // The kernel takes the network away a moment later; a start before that would meet the old link.
    await until(`${this.link} to go`, 10_000, async () => ((await this.#network.hasLink(this.link)) ? undefined : true));
  }

  async #bootIdIfUp(): Promise<string | undefined> {
    const answer = await this.exec(["cat", "/proc/sys/kernel/random/boot_id"], { timeoutMs: 5_000 }).catch(unlessTimeout);
    return answer?.code === 0 ? answer.stdout.trim() : undefined;
  }

  async #failedUnits(): Promise<string> {
    const { stdout } = await this.exec(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]);
    return stdout.split("\n").flatMap((line) => line.split(" ")[0] || []).join(", ");
  }

  async #mustExec(argv: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.exec(argv);
    if (code !== 0) throw new LabError("command-failed", `${this.#name}: ${argv.join(" ")} ended with ${code}: ${stderr.trim()}`);
    return stdout;
  }

  async #console(): Promise<string> {
    const path = join(this.settings.directory, "console.log");
    return lastLines(await readFile(path, "utf8").catch(() => ""), 10) || `nothing in ${path}`;
  }

  #runningLeader(): number {
    const leader = this.#cgroups.leader(this.#name);
    if (leader === undefined) throw new LabError("not-running", `${this.#name} is not running`);
    return leader;
  }
}

export function linkOf(machine: string): string {
  return `ve-${machine}`;
}

/** A node that goes down while we ask is what the callers wait through; a bug is not. */
function unlessTimeout(error: unknown): undefined {
  if (error instanceof LabError && (error.reason === "not-running" || error.reason === "timeout")) return undefined;
  throw error;
}

async function isMounted(path: string): Promise<boolean> {
  const escaped = path.replaceAll("\\", "\\134").replaceAll(" ", "\\040");
  return (await readFile("/proc/self/mounts", "utf8")).includes(` ${escaped} overlay `);
}

function escapeColon(path: string): string {
  return path.replaceAll(":", "\\:");
}
