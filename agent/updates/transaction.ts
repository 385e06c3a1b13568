import type { Clock } from "../../shared/clock.ts";
import { isoTime } from "../../shared/clock.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output, Probe } from "../../shared/kinds/kind.ts";
import type { VersionChange } from "../../shared/protocol/updates.ts";
import { updateLimits } from "../../shared/protocol/updates.ts";
import { diagnose, parseDpkgErrors } from "../host/apt-output.ts";
import type { AptGet } from "./apt-get.ts";
import { cachedDebs, dropOlder, keepWayBack } from "./cached-debs.ts";
import { fail, failOutput } from "./failure.ts";
import type { UpdateFailure } from "./failure.ts";
import { goBack } from "./go-back.ts";
import { changesBetween, installedVersions, unfinishedNames } from "./installed.ts";
import { parseMadison } from "./offers.ts";
import type { Plan } from "./plan.ts";
import { inArchive } from "./plan.ts";
import type { TransactionRecord, TransactionRecords } from "./record.ts";

/** One transaction from its plan to a clean dpkg: forward if it can be, else back, and told as it is. */

export interface Ending {
  readonly failure: UpdateFailure | null;
  /** Only meaningful with a failure: everything that was to be installed is, although it did not go smoothly. */
  readonly complete: boolean;
  readonly changed: readonly VersionChange[];
  readonly rolledBack: readonly string[];
  readonly notRolledBack: readonly string[];
}

export interface TransactionParts {
  readonly apt: AptGet;
  readonly probe: Probe;
  readonly clock: Clock;
  readonly records: TransactionRecords;
}

const NOTHING_CHANGED = { complete: false, changed: [], rolledBack: [], notRolledBack: [] } as const;

export class Transaction {
  readonly #parts: TransactionParts;
  readonly #progress: (line: string) => void;

  constructor(parts: TransactionParts, progress: (line: string) => void) {
    this.#parts = parts;
    this.#progress = progress;
  }

  async carryOut({ args, simulation }: Plan, before: DpkgStatus): Promise<Ending> {
    const { apt, clock, records } = this.#parts;
    const count = simulation.installs.size;
    this.#progress(`downloading ${count} package${count === 1 ? "" : "s"}`);
    const fetched = await apt.download(args);
    if (fetched.code !== 0) return { ...NOTHING_CHANGED, failure: downloadFailure(fetched, apt.lockTimeoutSeconds) };
    await this.#keepWayBack(plannedFrom(simulation), before);
    const targets = [...simulation.installs].map(([name, { to }]) => ({ name, version: to }));
    const record: TransactionRecord = {
      v: 1,
      startedAt: isoTime(clock.nowMs()),
      before: [...installedVersions(before)].map(([name, version]) => ({ name, version })),
      targets,
      phase: "forward",
    };
    try {
      await records.begin(record);
    } catch (error) {
      return { ...NOTHING_CHANGED, failure: fail("disk-full", `nothing was changed: the beginning of the update cannot be recorded on disk, without which an interruption would not be found: ${String(error)}. Free some space (\`df -h\`), or look at the state directory`) };
    }
    this.#progress(`installing ${targets.slice(0, 20).map(({ name, version }) => `${name} ${version}`).join(", ")}${count > 20 ? ` and ${count - 20} more` : ""}`);
    const output = await apt.install(args);
    const ending = await this.#settle(record, output);
    // Without an answer of dpkg's nothing is known: the record stays, and the next start looks again.
    if (ending === null) return { ...NOTHING_CHANGED, failure: failOutput("dpkg-broken", "dpkg's database cannot be read after the update (`dpkg --audit` tells more); it is looked at again when the agent starts", output) };
    await records.end();
    if (ending.failure !== null || ending.complete) return ending;
    return { ...ending, failure: failOutput("install", "apt ended well, but dpkg shows other versions than those that were to be installed: look with `apt list --upgradable` on the node", output) };
  }

  /** What an interrupted transaction left: repaired, and taken back where it cannot be repaired. Null while another apt is at work. */
  async recover(record: TransactionRecord): Promise<Ending | null> {
    const { records } = this.#parts;
    this.#progress("repairing what was interrupted");
    const output = await this.#repair(record);
    if (output !== null && diagnose(output, 0).code === "locked") return null;
    const ending = await this.#settle(record, output ?? { code: 0, stdout: "", stderr: "" });
    if (ending === null) return null;
    await records.end();
    const since = `the update begun at ${record.startedAt} was interrupted`;
    if (ending.failure !== null) {
      const code = ending.failure.code === "dpkg-broken" ? "dpkg-broken" : "interrupted";
      return { ...ending, failure: { ...ending.failure, code, message: `${since}; ${ending.failure.message}`.slice(0, 2_000) } };
    }
    const done = ending.complete
      ? `; dpkg is clean again, and all ${record.targets.length} packages are as they were to be`
      : "; dpkg is clean again, and the packages that were not yet begun have their earlier versions: order the update again";
    return { ...ending, failure: failOutput("interrupted", since + done, output ?? { code: 0, stdout: "", stderr: "" }) };
  }

  /** `dpkg --configure -a`, what lacks its dependencies, and what was cut off while it was unpacked. Null when nothing was to be done. */
  async #repair(record: TransactionRecord): Promise<Output | null> {
    const { apt } = this.#parts;
    let output = await apt.configureAll();
    const queried = await apt.query();
    if (!queried.ok || queried.status.unfinished.length === 0) return output;
    const cutOff = queried.status.unfinished.filter(({ state, flag }) => state === "half-installed" || flag !== "ok").map(({ name }) => name);
    const targets = record.targets.filter(({ name }) => cutOff.includes(name.split(":")[0]!));
    // Neither of the other two mends a package that is half-installed (seen with dpkg 1.21).
    if (targets.length > 0) output = await apt.install(targets.map(({ name, version }) => `${name}=${version}`), { reinstall: true });
    return worse(output, await apt.fixBroken());
  }

  /** Judges by dpkg's database, not by exit codes; goes back when the targets are not reached. Null when it cannot be read. */
  async #settle(record: TransactionRecord, first: Output): Promise<Ending | null> {
    const { apt, probe } = this.#parts;
    const before = new Map(record.before.map(({ name, version }) => [name, version]));
    let now = await apt.query();
    if (!now.ok) return null;
    let output = first;
    if (unfinishedNames(now.status).length > 0) {
      this.#progress("finishing what dpkg left unfinished");
      const again = await apt.configureAll();
      output = parseDpkgErrors(first).size > 0 ? first : worse(first, again);
      now = await apt.query();
      if (!now.ok) return null;
    }
    const changed = before.size === 0 ? [] : changesBetween(before, installedVersions(now.status));
    const clean = unfinishedNames(now.status).length === 0;
    const installed = installedVersions(now.status);
    const complete = clean && record.targets.every(({ name, version }) => installed.get(name) === version);
    if (complete) {
      await dropOlder(probe, now.status.architecture, versionsToKeep(changed));
      return { failure: null, complete: true, changed, rolledBack: [], notRolledBack: [] };
    }
    const failed = output.code === 0 ? failOutput("install", "it had failed, and was being taken back", output) : installFailure(output, apt.lockTimeoutSeconds);
    if (clean && changed.length === 0 && output.code + first.code > 0) return { ...NOTHING_CHANGED, failure: failed };
    if (clean && first.code === 0 && record.phase === "forward") return { ...NOTHING_CHANGED, failure: null, changed };
    return this.#goBack(record, before, now.status, failed);
  }

  async #goBack(record: TransactionRecord, before: ReadonlyMap<string, string>, now: DpkgStatus, failure: UpdateFailure): Promise<Ending> {
    const { apt, probe, records } = this.#parts;
    this.#progress("going back to the earlier versions");
    // From here on an interruption must not look like one on the way forward. A full disk must not stop the way back.
    await records.begin({ ...record, phase: "back" }).catch(() => {});
    const targets = new Set(record.targets.map(({ name }) => name));
    const back = await goBack(apt, probe, { before, targets, status: now });
    const changed = before.size === 0 ? [] : changesBetween(before, installedVersions(back.status));
    const broken = unfinishedNames(back.status);
    const ended = { complete: false, changed, rolledBack: back.rolledBack.slice(0, updateLimits.packagesMax), notRolledBack: back.notRolledBack.slice(0, updateLimits.packagesMax) };
    if (broken.length > 0) {
      const words = `left broken: ${broken.slice(0, 20).join(", ")}, and there is no way back to a version that worked. Mend it on the node (\`dpkg --audit\`, \`apt-get -f install\`)`;
      return { ...ended, failure: { ...failure, code: "dpkg-broken", message: `${failure.message}; ${words}`.slice(0, 2_000) } };
    }
    const told = back.notRolledBack.length === 0 ? `all ${record.targets.length} packages have their earlier versions again` : `not put back, because neither archive nor cache has the earlier version, or others need the new one: ${back.notRolledBack.slice(0, 20).join(", ")}`;
    return { ...ended, failure: { ...failure, message: `${failure.message}; ${told}`.slice(0, 2_000) } };
  }

  /** The archive may be out of reach just when the way back is needed, because of the update. */
  async #keepWayBack(from: readonly { readonly name: string; readonly version: string }[], status: DpkgStatus): Promise<void> {
    if (from.length === 0) return;
    const { apt, probe } = this.#parts;
    const archive = parseMadison((await apt.madison(from.map(({ name }) => name))).stdout);
    const there = from.filter((one) => inArchive(one, archive));
    await keepWayBack(apt, there, await cachedDebs(probe, status.architecture));
  }
}

function plannedFrom(simulation: Plan["simulation"]): readonly { readonly name: string; readonly version: string }[] {
  return [...simulation.installs].flatMap(([name, { from }]) => (from === null ? [] : [{ name, version: from }]));
}

function versionsToKeep(changed: readonly VersionChange[]): ReadonlyMap<string, readonly string[]> {
  return new Map(changed.map(({ name, from, to }) => [name, [from, to].filter((version) => version !== null)]));
}

function worse(first: Output, second: Output): Output {
  return second.code !== 0 ? second : first;
}

function downloadFailure(output: Output, lockTimeoutSeconds: number): UpdateFailure {
  const { code, message } = diagnose(output, lockTimeoutSeconds);
  const known = ({ locked: "lock", "disk-full": "disk-full" } as const)[code as string];
  return failOutput(known ?? "install", `nothing was changed: ${message}`, output);
}

/** In the words of the package's script where it is one that failed. */
function installFailure(output: Output, lockTimeoutSeconds: number): UpdateFailure {
  const { code, message } = diagnose(output, lockTimeoutSeconds);
  const known = ({ locked: "lock", "disk-full": "disk-full" } as const)[code as string] ?? "install";
  const errors = [...parseDpkgErrors(output)].slice(0, 5).map(([name, said]) => `${name}: ${said}`);
  if (known === "install" && errors.length > 0) return failOutput(known, `dpkg could not install ${errors.join("; ")}`, output);
  return failOutput(known, message, output);
}
