import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LabError, until } from "./command.ts";

/**
 * The processes of one lab, as control groups: everything the lab starts lives in `evenkeel-PREFIX`, so that `down`
 * finds and ends it without pid files, whatever was killed before, and never touches anybody else's process.
 *
 *     evenkeel-PREFIX/NODE-keeper      the shell that starts nspawn again after a reboot
 *     evenkeel-PREFIX/NODE/supervisor  systemd-nspawn (it makes the two groups itself)
 *     evenkeel-PREFIX/NODE/payload     the node: frozen as a whole by cgroup.freeze
 */
export class LabCgroups {
  readonly #top: string;
  /** nspawn mirrors its group into the v1 hierarchy named systemd, where there is one. */
  readonly #mirror: string | undefined;

  constructor(prefix: string) {
    const mounts = cgroupMounts();
    this.#top = join(mounts.unified, `evenkeel-${prefix}`);
    this.#mirror = mounts.systemd === undefined ? undefined : join(mounts.systemd, `evenkeel-${prefix}`);
  }

  node(node: string): string {
    return join(this.#top, node);
  }

  keeper(node: string): string {
    return join(this.#top, `${node}-keeper`);
  }

  /** Makes the groups of a node that is about to start, and takes away what its last life left. */
  create(node: string): void {
    removeTree(this.node(node));
    mkdirSync(this.keeper(node), { recursive: true });
    mkdirSync(this.node(node), { recursive: true });
    delegateControllers(this.#top);
  }

  exists(): boolean {
    return existsSync(this.#top);
  }

  kill(directory: string): void {
    writeIfThere(join(directory, "cgroup.kill"), "1");
  }

  /** Ends every process of the lab, frozen ones too, and removes the groups. */
  async remove(timeoutMs: number): Promise<void> {
    if (this.exists()) {
      await until(`the end of all processes in ${this.#top}`, timeoutMs, () => {
        this.kill(this.#top);
        return processesUnder(this.#top).length === 0 && removeTree(this.#top) ? true : undefined;
      });
    }
    if (this.#mirror !== undefined) removeTree(this.#mirror);
  }

  freeze(node: string, frozen: boolean): void {
    writeFileSync(join(this.node(node), "payload", "cgroup.freeze"), frozen ? "1" : "0");
  }

  isFrozen(node: string): boolean {
    return readIfThere(join(this.node(node), "payload", "cgroup.freeze")).trim() === "1";
  }

  keeperRuns(node: string): boolean {
    return processesIn(this.keeper(node)).length > 0;
  }

  /** systemd-nspawn's own pid. */
  nspawn(node: string): number | undefined {
    return processesIn(join(this.node(node), "supervisor"))[0] ?? processesIn(this.node(node))[0];
  }

  /**
   * The node's PID 1 as the host numbers it, once it is systemd. Not before: nspawn's first child still sits in the
   * host's namespaces, and a command that "enters" it would run on the host.
   */
  leader(node: string): number | undefined {
    const nspawn = this.nspawn(node);
    if (nspawn === undefined) return undefined;
    for (const child of readIfThere(`/proc/${nspawn}/task/${nspawn}/children`).split(" ")) {
      const status = child === "" ? "" : readIfThere(`/proc/${child}/status`);
      if (/^Name:\tsystemd$/m.test(status) && /^NSpid:(\t\d+)+\t1$/m.test(status)) return Number(child);
    }
    return undefined;
  }

  /** The directory of the group that a process is in: a command joins the one of the node's PID 1. */
  groupOf(pid: number): string {
    const path = /^0::(.*)$/m.exec(readIfThere(`/proc/${pid}/cgroup`))?.[1] ?? "";
    return join(cgroupMounts().unified, path);
  }
}

/** Where cgroup2 is mounted, alone (/sys/fs/cgroup) or beside v1 (/sys/fs/cgroup/unified). */
export function cgroupMounts(): { readonly unified: string; readonly systemd: string | undefined } {
  let unified: string | undefined;
  let systemd: string | undefined;
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, point, type, flags] = line.split(" ");
    if (point === undefined || !point.startsWith("/sys/fs/cgroup")) continue;
    if (type === "cgroup2") unified ??= point;
    if (type === "cgroup" && flags?.split(",").includes("name=systemd")) systemd ??= point;
  }
  if (unified === undefined) throw new LabError("cannot-run-here", "cgroup2 is not mounted under /sys/fs/cgroup");
  return { unified, systemd };
}

/** On a pure cgroup2 machine the nodes' systemd gets the controllers that the machine has. */
function delegateControllers(top: string): void {
  for (const directory of [cgroupMounts().unified, top]) {
    for (const controller of readIfThere(join(directory, "cgroup.controllers")).trim().split(" ")) {
      if (controller !== "") writeIfThere(join(directory, "cgroup.subtree_control"), `+${controller}`);
    }
  }
}

function processesIn(directory: string): number[] {
  const text = readIfThere(join(directory, "cgroup.procs")).trim();
  return text === "" ? [] : text.split("\n").map(Number);
}

function processesUnder(directory: string): number[] {
  return [...processesIn(directory), ...subgroups(directory).flatMap(processesUnder)];
}

/** True when nothing is left. The kernel refuses to remove a group with processes, so this cannot do harm. */
function removeTree(directory: string): boolean {
  for (const group of subgroups(directory)) removeTree(group);
  try {
    rmdirSync(directory);
  } catch {
    // EBUSY: its last process is still being reaped
  }
  return !existsSync(directory);
}

function subgroups(directory: string): string[] {
  try {
    const entries = readdirSync(directory, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
  } catch {
    return [];
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function writeIfThere(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch {
    // gone already, or (controllers) not ours to give
  }
}
