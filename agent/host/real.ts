import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, readlink, rename, rm, rmdir, symlink, unlink, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ResourceId, Step, Trigger } from "../../shared/kinds/kind.ts";
import type { Earlier } from "../engine/inventory.ts";
import { Downloader } from "../download/downloader.ts";
import type { DownloaderParts, DownloadStep } from "../download/downloader.ts";
import { Apt } from "./apt.ts";
import { syncDirectory, temporaryBeside, writeDurably } from "./durable.ts";
import { CannotKeep, done, failed, failedRun } from "./host.ts";
import type { Host, PackageStep, StepResult, UnitStep } from "./host.ts";
import { inParent, LinkRefused, plainPaths } from "./parents.ts";
import { HostProbe, READ_MAX_BYTES } from "./probe.ts";
import type { Processes } from "./process.ts";

/** systemd waits up to 90 s for a unit to start or stop (DefaultTimeoutStartSec); a call may have several to wait for. */
const SYSTEMCTL_TIMEOUT_MS = 5 * 60_000;

export class RealHost implements Host {
  readonly probe: HostProbe;
  readonly #processes: Processes;
  readonly #apt: Apt;
  readonly #backupDir: string;
  readonly #downloader: Downloader;

  constructor(processes: Processes, backupDir: string, near: DownloaderParts["near"] = async () => null) {
    this.#processes = processes;
    this.#downloader = new Downloader({ run: processes.run, near });
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
      if (error instanceof LinkRefused) return failed(error.message);
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
      case "write":
        return this.#asOwner(step, (at, ids) => writeDurably(at, step.content, { mode: step.mode, ...ids }), { makeParents: true });
      case "attributes":
        return this.#asOwner(step, (at, ids) => setAttributes(at, { ...ids, mode: step.mode }));
      case "directory":
        return this.#asOwner(step, (at, ids) => makeDirectory(at, { ...ids, mode: step.mode }), { makeParents: true });
      case "link":
        await inParent(step.path, (at) => replaceByLink(at, step.target), { makeParents: true });
        return done;
      case "remove":
        await removeOne(step.path);
        return done;
      case "restore":
        return this.#restore(step.path, earlier);
      case "set":
        await writeFile(step.path, step.value, { flag: "r+" });
        return done;
      case "download":
        return this.#download(step);
      case "ask":
        return failed(`waits for ${step.what}, which ${step.from.join(" or ")} can make`);
      case "fail":
        return failed(step.message);
      case "package":
      case "unit":
        throw new Error(`a step of type ${step.do} goes through its own method`);
    }
  }

  async #download(step: DownloadStep): Promise<StepResult> {
    const found = await this.#ids(step.owner, step.group);
    return found.ok ? this.#downloader.put(step, found) : failed(found.message);
  }

  async #asOwner(
    step: { readonly path: string; readonly owner: string; readonly group: string },
    change: (at: string, ids: { readonly uid: number; readonly gid: number }) => Promise<void>,
    options: { readonly makeParents?: boolean } = {},
  ): Promise<StepResult> {
    const found = await this.#ids(step.owner, step.group);
    if (!found.ok) return failed(found.message);
    await inParent(step.path, (at) => change(at, { uid: found.uid, gid: found.gid }), options);
    return done;
  }

  async packages(steps: readonly PackageStep[], declared: ReadonlySet<string>): Promise<ReadonlyMap<ResourceId, StepResult>> {
    // The agent does not saw at the branch that it sits on.
    return this.#apt.transaction(steps, { declared: new Set([...declared, "evenkeel-agent"]) });
  }

  async units(action: UnitStep["action"], units: readonly string[], timeoutMs: number = SYSTEMCTL_TIMEOUT_MS): Promise<StepResult> {
    const argv: [string, ...string[]] = action === "daemon-reload" ? ["systemctl", "daemon-reload"] : ["systemctl", "--no-ask-password", action, "--", ...units];
    // A unit that failed often enough is refused a start until it is reset (systemd.unit(5), StartLimitBurst=).
    if (action === "start") await this.#processes.run(["systemctl", "reset-failed", "--", ...units]);
    const output = await this.#processes.run(argv, { timeoutMs });
    if (output.code === 0) return done;
    return action === "start" ? this.#withJournal(failedRun(argv, output), units) : failedRun(argv, output);
  }

  async trigger(trigger: Trigger, timeoutMs: number = SYSTEMCTL_TIMEOUT_MS): Promise<StepResult> {
    const argv: [string, ...string[]] = ["systemctl", trigger.action === "reload" ? "try-reload-or-restart" : "try-restart", "--", trigger.unit];
    const output = await this.#processes.run(argv, { timeoutMs });
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
    try {
      return await inParent(path, (at) => this.#keep(path, at));
    } catch (error) {
      if (error instanceof LinkRefused) throw new CannotKeep(error.message);
      if (isAbsent(error)) return { type: "absent" };
      throw error;
    }
  }

  async #keep(path: string, at: string): Promise<Earlier> {
    const named = await lstat(at);
    if (named.isSymbolicLink()) return { type: "link", target: await readlink(at) };
    if (named.isDirectory()) return { type: "directory", ...attributesOf(named) };
    if (!named.isFile()) return { type: "absent" };
    const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      // What is open now counts, not what had the name a moment ago.
      const found = await file.stat();
      if (!found.isFile()) return { type: "absent" };
      const content = await readWhole(file, path, found.size);
      const sha256 = createHash("sha256").update(content).digest("hex");
      await mkdir(this.#backupDir, { recursive: true, mode: 0o700 });
      await writeDurably(join(this.#backupDir, sha256), content, { mode: 0o600 });
      return { type: "file", sha256, ...attributesOf(found) };
    } finally {
      await file.close();
    }
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
        await inParent(path, (at) => replaceByLink(at, earlier.target), { makeParents: true });
        return done;
      case "directory":
        await inParent(path, (at) => restoreDirectory(at, earlier), { makeParents: true });
        return done;
      case "file": {
        const content = await this.probe.read(join(this.#backupDir, earlier.sha256));
        if (content === null) return failed(`what stood at ${path} before is missing in ${this.#backupDir}; the file is left as it is. Remove it by hand if it may go.`);
        await inParent(path, (at) => writeDurably(at, content, earlier), { makeParents: true });
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

interface Attributes {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

function attributesOf({ mode, uid, gid }: Attributes): Attributes {
  return { mode: mode & 0o7777, uid, gid };
}

/** A file that grows while it is read is read as far as it went at first, and not for ever. */
async function readWhole(file: FileHandle, path: string, sizeBytes: number): Promise<Uint8Array> {
  if (sizeBytes > READ_MAX_BYTES) throw new CannotKeep(`${path} has ${sizeBytes} bytes, more than the ${READ_MAX_BYTES} that are kept at most`);
  const content = new Uint8Array(sizeBytes);
  let filled = 0;
  while (filled < sizeBytes) {
    const { bytesRead } = await file.read(content, filled, sizeBytes - filled, filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return content.subarray(0, filled);
}

/**
 * On the file itself and never through a link: in a directory that belongs to a user, what was a file when it was looked at
 * may be a link to /etc/shadow by now. A link gives ELOOP.
 */
async function setAttributes(path: string, wanted: Attributes, flags = 0): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | flags);
  try {
    // chown clears setuid and setgid bits (chown(2)), so the mode comes last.
    await file.chown(wanted.uid, wanted.gid);
    await file.chmod(wanted.mode);
  } finally {
    await file.close();
  }
}

async function makeDirectory(path: string, wanted: Attributes): Promise<void> {
  await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    // There already, or something else is in its place: then it cannot be opened as a directory.
    if (error.code !== "EEXIST") throw error;
  });
  await setAttributes(path, wanted, constants.O_DIRECTORY);
  await syncDirectory(dirname(path));
}

async function restoreDirectory(path: string, earlier: Attributes): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found !== null && !found.isDirectory()) await unlink(path);
  await makeDirectory(path, earlier);
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
  try {
    await inParent(path, async (at) => {
      if ((await lstat(at)).isDirectory()) await rmdir(at);
      else await unlink(at);
      await syncDirectory(dirname(at));
    });
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

function isAbsent(error: unknown): boolean {
  return isSystemError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR");
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error && typeof error.code === "string" && "syscall" in error;
}

function explain(error: NodeJS.ErrnoException, what: string): string {
  const said = plainPaths(error.message, what);
  switch (error.code) {
    case "ENOSPC":
    case "EDQUOT":
      return `no space left on the device that holds ${what}. Make room; it is tried again by itself.`;
    case "EROFS":
      return `${what} is on a file system that is mounted read-only (after a disk error, perhaps: see dmesg). It is tried again by itself.`;
    case "ENOTEMPTY":
      return `the directory ${what} is not empty; what is in it was not made by Evenkeel and stays. Empty it by hand if it may go.`;
    case "ENOTDIR":
      return `a directory is wanted at ${what} or on the way to it, and something else stands there: ${said}. Move that away by hand if it may go.`;
    case "EISDIR":
      return `${what} is a directory, and is not replaced by a file. Move it away by hand if it may go.`;
    case "EPERM":
    case "EACCES":
      return `not permitted to change ${what} (immutable flag, read-only mount, or a security module): ${said}`;
    case "ELOOP":
      return `${what} became a link while it was being changed; it was left alone.`;
    case "EINVAL":
      return `the kernel refuses this value for ${what}: ${said}`;
    default:
      return `${what}: ${said}`;
  }
}
