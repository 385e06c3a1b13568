import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, readlink, rename, rm, rmdir, symlink, unlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ResourceId, Step, Trigger } from "../../shared/kinds/kind.ts";
import type { Earlier } from "../engine/inventory.ts";
import { Apt } from "./apt.ts";
import { syncDirectory, temporaryBeside, writeDurably } from "./durable.ts";
import { CannotKeep, done, failed, failedRun } from "./host.ts";
import type { Host, PackageStep, StepResult, UnitStep } from "./host.ts";
import { HostProbe } from "./probe.ts";
import type { Processes } from "./process.ts";

/** systemd waits up to 90 s for a unit to start or stop (DefaultTimeoutStartSec); a call may have several to wait for. */
const SYSTEMCTL_TIMEOUT_MS = 5 * 60_000;

export class RealHost implements Host {
  readonly probe: HostProbe;
  readonly #processes: Processes;
  readonly #apt: Apt;
  readonly #backupDir: string;

  constructor(processes: Processes, backupDir: string) {
    this.#processes = processes;
    this.#backupDir = backupDir;
    this.probe = new HostProbe(processes.run);
    this.#apt = new Apt(processes.run);
  }

  get processesStarted(): number {
    return this.#processes.started;
  }

  async apply(step: Step, earlier: Earlier | undefined): Promise<StepResult> {
    try {
      return await this.#apply(step, earlier);
    } catch (error) {
      if (isSystemError(error)) return failed(explain(error, "path" in step ? step.path : step.resource));
      throw error;
    }
  }

  async #apply(step: Step, earlier: Earlier | undefined): Promise<StepResult> {
    switch (step.do) {
      case "run": {
        const output = await this.#processes.run(step.argv, { timeoutMs: step.timeoutMs, ...(step.input === undefined ? {} : { input: step.input }) });
        return output.code === 0 ? done : failedRun(step.argv, output);
      }
      case "write": {
        const ids = await this.#ids(step.owner, step.group);
        if (!ids.ok) return failed(ids.message);
        await mkdir(dirname(step.path), { recursive: true, mode: 0o755 });
        await writeDurably(step.path, step.content, { mode: step.mode, uid: ids.uid, gid: ids.gid });
        return done;
      }
      case "attributes": {
        const ids = await this.#ids(step.owner, step.group);
        if (!ids.ok) return failed(ids.message);
        await setAttributes(step.path, { ...ids, mode: step.mode });
        return done;
      }
      case "directory": {
        const ids = await this.#ids(step.owner, step.group);
        if (!ids.ok) return failed(ids.message);
        await mkdir(step.path, { recursive: true, mode: 0o755 });
        await setAttributes(step.path, { ...ids, mode: step.mode });
        await syncDirectory(dirname(step.path));
        return done;
      }
      case "link":
        await mkdir(dirname(step.path), { recursive: true, mode: 0o755 });
        await replaceByLink(step.path, step.target);
        return done;
      case "remove":
        await removeOne(step.path);
        return done;
      case "restore":
        return this.#restore(step.path, earlier);
      case "set":
        await writeFile(step.path, step.value, { flag: "r+" });
        return done;
      case "fail":
        return failed(step.message);
      case "package":
      case "unit":
        throw new Error(`a step of type ${step.do} goes through its own method`);
    }
  }

  async packages(steps: readonly PackageStep[], declared: ReadonlySet<string>): Promise<ReadonlyMap<ResourceId, StepResult>> {
    // The agent does not saw at the branch that it sits on.
    return this.#apt.transaction(steps, { declared: new Set([...declared, "evenkeel-agent"]) });
  }

  async units(action: UnitStep["action"], units: readonly string[]): Promise<StepResult> {
    const argv: [string, ...string[]] = action === "daemon-reload" ? ["systemctl", "daemon-reload"] : ["systemctl", "--no-ask-password", action, "--", ...units];
    // A unit that failed often enough is refused a start until it is reset (systemd.unit(5), StartLimitBurst=).
    if (action === "start") await this.#processes.run(["systemctl", "reset-failed", "--", ...units]);
    const output = await this.#processes.run(argv, { timeoutMs: SYSTEMCTL_TIMEOUT_MS });
    if (output.code === 0) return done;
    return action === "start" ? this.#withJournal(failedRun(argv, output), units) : failedRun(argv, output);
  }

  async trigger(trigger: Trigger): Promise<StepResult> {
    const argv: [string, ...string[]] = ["systemctl", trigger.action === "reload" ? "try-reload-or-restart" : "try-restart", "--", trigger.unit];
    const output = await this.#processes.run(argv, { timeoutMs: SYSTEMCTL_TIMEOUT_MS });
    // 5: there is no such unit (systemctl(1), exit status): whatever was to be restarted is gone, and reads nothing any more.
    return output.code === 0 || output.code === 5 ? done : this.#withJournal(failedRun(argv, output), [trigger.unit]);
  }

  /** "See journalctl" helps nobody who reads a status page: the journal's end belongs to the message. */
  async #withJournal(result: StepResult, units: readonly string[]): Promise<StepResult> {
    if (result.ok) return result;
    const journal = await this.#processes.run(["journalctl", "--no-pager", "-q", "-n", "15", "-o", "cat", ...units.slice(0, 5).flatMap((unit) => ["-u", unit])]);
    return journal.code === 0 && journal.stdout.trim() !== "" ? failed(`${result.message}\n${journal.stdout.trim()}`) : result;
  }

  async keep(path: string): Promise<Earlier> {
    const found = await this.probe.stat(path);
    if (found === null || found.type === "other") return { type: "absent" };
    if (found.type === "link") return { type: "link", target: await readlink(path) };
    if (found.type === "directory") return { type: "directory", mode: found.mode, uid: found.uid, gid: found.gid };
    const content = await this.probe.read(path).catch((error: Error) => {
      throw isSystemError(error) ? error : new CannotKeep(error.message);
    });
    if (content === null) return { type: "absent" };
    const sha256 = createHash("sha256").update(content).digest("hex");
    await mkdir(this.#backupDir, { recursive: true, mode: 0o700 });
    await writeDurably(join(this.#backupDir, sha256), content, { mode: 0o600 });
    return { type: "file", sha256, mode: found.mode, uid: found.uid, gid: found.gid };
  }

  async forget(wanted: ReadonlySet<string>): Promise<void> {
    const names = await readdir(this.#backupDir).catch(() => []);
    for (const name of names) if (!wanted.has(name)) await rm(join(this.#backupDir, name), { force: true });
  }

  async #restore(path: string, earlier: Earlier | undefined): Promise<StepResult> {
    // Nothing was kept: the agent never got as far as touching it.
    if (earlier === undefined) return done;
    switch (earlier.type) {
      case "absent":
        await removeOne(path);
        return done;
      case "link":
        await replaceByLink(path, earlier.target);
        return done;
      case "directory":
        if ((await this.probe.stat(path))?.type !== "directory") await removeOne(path);
        await mkdir(path, { recursive: true });
        await setAttributes(path, earlier);
        return done;
      case "file": {
        const content = await this.probe.read(join(this.#backupDir, earlier.sha256));
        if (content === null) return failed(`what stood at ${path} before is missing in ${this.#backupDir}; the file is left as it is. Remove it by hand if it may go.`);
        await mkdir(dirname(path), { recursive: true });
        await writeDurably(path, content, earlier);
        return done;
      }
    }
  }

  async #ids(owner: string, group: string): Promise<{ ok: true; uid: number; gid: number } | { ok: false; message: string }> {
    const uid = await this.#id("/etc/passwd", owner);
    if (uid === undefined) return { ok: false, message: `there is no user "${owner}" on this node: declare it under users, or install the package that brings it` };
    const gid = await this.#id("/etc/group", group);
    if (gid === undefined) return { ok: false, message: `there is no group "${group}" on this node: declare it under groups, or install the package that brings it` };
    return { ok: true, uid, gid };
  }

  async #id(database: "/etc/passwd" | "/etc/group", name: string): Promise<number | undefined> {
    if (/^\d+$/.test(name)) return Number(name);
    return (await this.probe.parsed(database, idsByName))?.get(name);
  }
}

/** Name to number, of passwd(5) and group(5) alike: both have the number in the third field. */
function idsByName(text: string): ReadonlyMap<string, number> {
  const ids = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [name, , id] = line.split(":");
    if (name !== undefined && id !== undefined && !ids.has(name)) ids.set(name, Number(id));
  }
  return ids;
}

/**
 * On the file itself and never through a link: in a directory that belongs to a user, what was a file when it was looked at
 * may be a link to /etc/shadow by now. A link gives ELOOP.
 */
async function setAttributes(path: string, wanted: { readonly uid: number; readonly gid: number; readonly mode: number }): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    // chown clears setuid and setgid bits (chown(2)), so the mode comes last.
    await file.chown(wanted.uid, wanted.gid);
    await file.chmod(wanted.mode);
  } finally {
    await file.close();
  }
}

async function replaceByLink(path: string, target: string): Promise<void> {
  const temporary = temporaryBeside(path);
  await rm(temporary, { force: true });
  await symlink(target, temporary);
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/** A file, a link, or an empty directory. Never a directory with something in it: that is not ours to delete. */
async function removeOne(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (found.isDirectory()) await rmdir(path);
  else await unlink(path);
  await syncDirectory(dirname(path));
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error && typeof error.code === "string" && "syscall" in error;
}

function explain(error: NodeJS.ErrnoException, what: string): string {
  switch (error.code) {
    case "ENOSPC":
    case "EDQUOT":
      return `no space left on the device that holds ${what}. Make room; it is tried again by itself.`;
    case "EROFS":
      return `${what} is on a file system that is mounted read-only (after a disk error, perhaps: see dmesg). It is tried again by itself.`;
    case "ENOTEMPTY":
      return `the directory ${what} is not empty; what is in it was not made by Evenkeel and stays. Empty it by hand if it may go.`;
    case "EISDIR":
      return `${what} is a directory, and is not replaced by a file. Move it away by hand if it may go.`;
    case "EPERM":
    case "EACCES":
      return `not permitted to change ${what} (immutable flag, read-only mount, or a security module): ${error.message}`;
    case "ELOOP":
      return `${what} became a link while it was being changed; it was left alone.`;
    case "EINVAL":
      return `the kernel refuses this value for ${what}: ${error.message}`;
    default:
      return `${what}: ${error.message}`;
  }
}
