import { isoTime } from "../../shared/clock.ts";
import type { Clock } from "../../shared/clock.ts";
import { parseDpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import { compareVersions } from "../../shared/kinds/deb-version.ts";
import type { Probe } from "../../shared/kinds/kind.ts";
import { updateLimits } from "../../shared/protocol/updates.ts";
import type { PendingUpdate, RebootNeed, UpdateOrder, UpdateResult, UpdatesMessage } from "../../shared/protocol/updates.ts";
import { diagnose } from "../host/apt-output.ts";
import { tailOf } from "../host/apt-resolve.ts";
import type { Processes } from "../host/process.ts";
import { AptGet } from "./apt-get.ts";
import { cachedDebs } from "./cached-debs.ts";
import { findConflicts } from "./conflicts.ts";
import { fail, failOutput } from "./failure.ts";
import type { UpdateFailure } from "./failure.ts";
import { unfinishedNames } from "./installed.ts";
import { parseMadison, parseUpgrade } from "./offers.ts";
import type { Offer } from "./offers.ts";
import { movedOn, planChosen, planPinned } from "./plan.ts";
import type { Planned } from "./plan.ts";
import { lookAtRunning, STATUS_PATH } from "./reboot-need.ts";
import { TransactionRecords } from "./record.ts";
import { SeenUpdates } from "./seen.ts";
import { Transaction } from "./transaction.ts";
import type { Ending } from "./transaction.ts";

export interface UpdatesParts {
  readonly processes: Pick<Processes, "run">;
  readonly probe: Probe;
  readonly clock: Clock;
  /** Where first-seen times and the record of a transaction are kept; the agent's own, 0700. */
  readonly stateDir: string;
  /** How long another apt or dpkg is waited for, per command; default 300. */
  readonly lockTimeoutSeconds?: number;
}

export type Refreshed = { readonly ok: true } | { readonly ok: false; readonly failure: UpdateFailure };

const ERROR_MAX_CHARS = 2_000;

/**
 * The node's OS updates: what is pending, what an order makes of it, and what an interruption left.
 *
 * Pending is what `apt-get upgrade --with-new-pkgs` would do, and not `dist-upgrade`: that never removes a package, and still
 * brings new ones such as the next kernel. An update that would need a removal is the owner's to decide, and one of them must
 * not keep all the others back. Orders come one at a time; a second while one runs is a bug and throws.
 */
export class Updates {
  readonly #parts: UpdatesParts;
  readonly #apt: AptGet;
  readonly #seen: SeenUpdates;
  readonly #records: TransactionRecords;
  #refreshError: string | null = null;
  #busy = false;

  constructor(parts: UpdatesParts) {
    this.#parts = parts;
    this.#apt = new AptGet({ run: parts.processes.run, clock: parts.clock, stateDir: parts.stateDir, lockTimeoutSeconds: parts.lockTimeoutSeconds });
    this.#seen = new SeenUpdates(parts.stateDir);
    this.#records = new TransactionRecords(parts.stateDir);
  }

  /** Fetches the package lists (`apt-get update`). A source that cannot be reached is a failure, which the next looks tell too. */
  async refresh(): Promise<Refreshed> {
    const output = await this.#apt.update();
    if (output.code === 0) {
      this.#refreshError = null;
      return { ok: true };
    }
    const { code, message } = diagnose(output, this.#apt.lockTimeoutSeconds);
    const known = ({ locked: "lock", "disk-full": "disk-full" } as const)[code as string];
    const said = output.stderr.split("\n").filter((line) => /^[EW]: /.test(line)).map((line) => line.slice(3));
    const why = known === undefined && said.length > 0 ? said.slice(0, 5).join("; ") : message;
    const failure = failOutput(known ?? "lists", `the package lists could not be fetched: ${why}. \`apt-get update\` on the node shows it again`, output);
    this.#refreshError = failure.message;
    return { ok: false, failure };
  }

  /**
   * Looks, and changes nothing. One process where nothing is pending (`apt-get -s`), one more each for updates that are
   * not from a security archive (`apt-cache`), for unattended-upgrades (`apt-config`) and needrestart where installed.
   */
  async look(): Promise<UpdatesMessage> {
    const { probe, clock } = this.#parts;
    const status = await probe.parsed(STATUS_PATH, parseDpkgStatus);
    const [found, running, conflicts] = await Promise.all([this.#pending(status), lookAtRunning(probe, true), status === null ? [] : findConflicts(probe, status)]);
    const { pending, held } = found.ok ? found : await this.#seen.last();
    const error = found.ok ? this.#refreshError : found.failure.message;
    return {
      v: 1,
      lookedAt: isoTime(clock.nowMs()),
      error: error?.slice(0, ERROR_MAX_CHARS) ?? null,
      pending: pending.slice(0, updateLimits.packagesMax),
      omitted: Math.max(0, pending.length - updateLimits.packagesMax),
      held: held.slice(0, updateLimits.packagesMax),
      reboot: running.reboot,
      restarts: { needed: running.restarts.needed, services: [...running.restarts.services] },
      conflicts: conflicts.slice(0, 20),
    };
  }

  /** Whether something that runs is older than what is installed. Files of /proc, /run and dpkg; at most one short process. */
  async rebootNeed(): Promise<RebootNeed> {
    return (await lookAtRunning(this.#parts.probe, false)).reboot;
  }

  /** Carries an order out. Every way in which it can fail is in the result; `progress` gets a line at each step. */
  async apply(order: UpdateOrder, progress: (line: string) => void): Promise<UpdateResult> {
    return this.#alone(() => this.#apply(order, progress));
  }

  /**
   * To be called when the agent starts. Null when no update was interrupted. Else dpkg is repaired; `ok` says whether all of
   * the update is installed nevertheless, and `failure` says `interrupted` in any case. While another apt is at work it
   * answers `lock`, and is to be called again.
   */
  async recover(): Promise<UpdateResult | null> {
    return this.#alone(async () => {
      const record = await this.#records.open();
      if (record === null) return null;
      const ending = await this.#transaction(() => {}).recover(record);
      if (ending === null) return this.#result({ failure: fail("lock", `the update begun at ${record.startedAt} was interrupted, and cannot be repaired yet: another program is at work on packages, or dpkg's database cannot be read; it is tried again`) });
      return this.#result(ending);
    });
  }

  async #apply(order: UpdateOrder, progress: (line: string) => void): Promise<UpdateResult> {
    const { clock } = this.#parts;
    const interrupted = await this.#records.open();
    if (interrupted !== null) {
      const ending = await this.#transaction(progress).recover(interrupted);
      if (ending === null) return this.#result({ failure: fail("lock", "an earlier update was interrupted, and cannot be repaired while another program is at work on packages") });
      if (ending.failure?.code === "dpkg-broken") return this.#result(ending);
    }
    progress("reading the package lists");
    const refreshed = await this.refresh();
    // Pinned versions are had or not, whatever else the archive says.
    if (!refreshed.ok && order.pinned === null) return this.#result({ failure: refreshed.failure });
    const before = await this.#cleanStatus(progress);
    if (!before.ok) return this.#result({ failure: before.failure });
    const offered = await this.#offers(order.pinned === null);
    if (!offered.ok && order.pinned === null) return this.#result({ failure: offered.failure });
    const offers = offered.ok ? offered.offers : [];
    progress("planning the update");
    const planned = order.pinned === null ? await planChosen(this.#apt, before.status, await this.#remember(offers, offered.ok ? offered.keptBack : [], before.status), order, clock.nowMs()) : await this.#planPinned({ ...order, pinned: order.pinned }, before.status);
    const moved = movedOn(order.pinned ?? [], offers);
    if (!planned.ok) return this.#result({ failure: planned.failure, movedOn: moved });
    if (planned.plan.args.length === 0) return this.#result({ failure: null, movedOn: moved });
    const ending = await this.#transaction(progress).carryOut(planned.plan, before.status);
    return this.#result({ ...ending, movedOn: moved });
  }

  async #planPinned(order: UpdateOrder & { readonly pinned: NonNullable<UpdateOrder["pinned"]> }, status: DpkgStatus): Promise<Planned> {
    const names = order.pinned.map(({ name }) => name);
    const [madison, cached] = await Promise.all([names.length === 0 ? null : this.#apt.madison(names), cachedDebs(this.#parts.probe, status.architecture)]);
    return planPinned(this.#apt, order, { status, archive: parseMadison(madison?.stdout ?? ""), cached });
  }

  /** What somebody else left unfinished would make apt refuse everything. */
  async #cleanStatus(progress: (line: string) => void): Promise<{ readonly ok: true; readonly status: DpkgStatus } | { readonly ok: false; readonly failure: UpdateFailure }> {
    const unreadable = (output: Parameters<typeof failOutput>[2]) => ({ ok: false, failure: failOutput("dpkg-broken", "dpkg's database cannot be read, and nothing was changed (`dpkg --audit` on the node tells more)", output) }) as const;
    const first = await this.#apt.query();
    if (!first.ok) return unreadable(first.output);
    if (unfinishedNames(first.status).length === 0) return first;
    progress("finishing what dpkg left unfinished");
    const repaired = await this.#apt.configureAll();
    if (diagnose(repaired, 0).code === "locked" && repaired.code !== 0) return { ok: false, failure: failOutput("lock", diagnose(repaired, this.#apt.lockTimeoutSeconds).message, repaired) };
    if (repaired.code !== 0) await this.#apt.fixBroken();
    const again = await this.#apt.query();
    if (!again.ok) return unreadable(again.output);
    const broken = unfinishedNames(again.status);
    if (broken.length === 0) return again;
    return { ok: false, failure: failOutput("dpkg-broken", `${broken.slice(0, 20).join(", ")} ${broken.length === 1 ? "was" : "were"} left broken before this update, and \`dpkg --configure -a\` could not mend it; nothing was changed`, repaired) };
  }

  async #pending(status: DpkgStatus | null): Promise<{ readonly ok: true; readonly pending: readonly PendingUpdate[]; readonly held: readonly string[] } | { readonly ok: false; readonly failure: UpdateFailure }> {
    if (status === null) return { ok: false, failure: fail("simulate", `${STATUS_PATH} does not exist: this is no Debian or Ubuntu system, or its package database is lost`) };
    const offered = await this.#offers(true);
    if (!offered.ok) return offered;
    return { ok: true, pending: await this.#remember(offered.offers, offered.keptBack, status), held: heldOf(offered.keptBack, status) };
  }

  async #remember(offers: readonly Offer[], keptBack: readonly string[], status: DpkgStatus): Promise<readonly PendingUpdate[]> {
    return this.#seen.remember(offers, heldOf(keptBack, status), this.#parts.clock.nowMs());
  }

  async #offers(withSecurity: boolean): Promise<{ readonly ok: true; readonly offers: readonly Offer[]; readonly keptBack: readonly string[] } | { readonly ok: false; readonly failure: UpdateFailure }> {
    const output = await this.#apt.simulateUpgrade();
    if (output.code !== 0) return { ok: false, failure: { code: "simulate", message: `apt cannot say what is pending: ${diagnose(output, 0).message}`.slice(0, ERROR_MAX_CHARS), output: tailOf(output) } };
    const { offers, keptBack } = parseUpgrade(output.stdout);
    return { ok: true, offers: withSecurity ? await this.#withSkippedFixes(offers) : offers, keptBack };
  }

  /** A newer version from elsewhere brings the fix of a security archive's that it leaves behind: that counts as security too. */
  async #withSkippedFixes(offers: readonly Offer[]): Promise<readonly Offer[]> {
    const plain = offers.filter(({ security, from }) => !security && from !== null);
    if (plain.length === 0) return offers;
    const archive = parseMadison((await this.#apt.madison(plain.map(({ name }) => name))).stdout).filter(({ security }) => security);
    return offers.map((offer) => {
      const { name, from, to, security } = offer;
      if (security || from === null) return offer;
      const skipped = archive.some((one) => (one.name === name || one.name === name.split(":")[0]) && compareVersions(one.version, from) > 0 && compareVersions(one.version, to) <= 0);
      return skipped ? { ...offer, security: true } : offer;
    });
  }

  #transaction(progress: (line: string) => void): Transaction {
    const { probe, clock } = this.#parts;
    this.#apt.onProgress = progress;
    return new Transaction({ apt: this.#apt, probe, clock, records: this.#records }, progress);
  }

  async #result(ending: Partial<Omit<Ending, "failure">> & { readonly failure: UpdateFailure | null; readonly movedOn?: UpdateResult["movedOn"] }): Promise<UpdateResult> {
    return {
      ok: ending.failure === null || (ending.failure.code === "interrupted" && ending.complete === true),
      changed: [...(ending.changed ?? [])],
      failure: ending.failure,
      rolledBack: [...(ending.rolledBack ?? [])],
      notRolledBack: [...(ending.notRolledBack ?? [])],
      movedOn: [...(ending.movedOn ?? [])].slice(0, updateLimits.packagesMax),
      reboot: await this.rebootNeed(),
    };
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    if (this.#busy) throw new Error("an update is being carried out already: orders come one at a time");
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }
}

function heldOf(keptBack: readonly string[], status: DpkgStatus): readonly string[] {
  return keptBack.filter((name) => status.packages.get(name.split(":")[0]!)?.some(({ selection }) => selection === "hold") === true);
}
