import { compareVersions } from "../../shared/kinds/deb-version.ts";
import { findPackage } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output, ResourceId } from "../../shared/kinds/kind.ts";
import { diagnose, parseDpkgErrors, parseFetchFailures, parseQuery, QUERY_FORMAT, shortName } from "./apt-output.ts";
import type { FailureCode, Simulation } from "./apt-output.ts";
import { Resolver, tailOf } from "./apt-resolve.ts";
import type { AptContext, Failure } from "./apt-resolve.ts";
import type { PackageStep } from "./host.ts";

/**
 * Runs one program. It must get a session of its own (setsid(2)): a Ctrl-C at a terminal must not reach a dpkg in its
 * middle. A program that ran too long answers 124, one that does not exist 127.
 */
export type AptRun = (argv: readonly [string, ...string[]], options?: { readonly timeoutMs?: number; readonly env?: Readonly<Record<string, string>> }) => Promise<Output>;

export type PackageResult = { readonly ok: true } | Failure;

export interface AptOptions {
  /** How long another apt or dpkg is waited for; unattended-upgrades may take minutes. */
  readonly lockTimeoutSeconds?: number;
}

const LOCK_TIMEOUT_SECONDS = 120;
const QUERY_TIMEOUT_MS = 30_000;
const SIMULATE_TIMEOUT_MS = 120_000;
const UPDATE_TIMEOUT_MS = 300_000;
/** Beside downloading, maintainer scripts build initrds and migrate databases. */
const RUN_TIMEOUT_MS = 30 * 60_000;
/** A transaction, and twice what is left of it without the packages that failed. */
const ROUNDS_MAX = 3;

/** Nobody is there to answer questions, and what comes back is read by a program. needrestart lists, and restarts nothing. */
const environment: Readonly<Record<string, string>> = {
  DEBIAN_FRONTEND: "noninteractive",
  APT_LISTCHANGES_FRONTEND: "none",
  APT_LISTBUGS_FRONTEND: "none",
  NEEDRESTART_MODE: "l",
  UCF_FORCE_CONFFOLD: "1",
  // Not plain C: a database cluster that a script makes would get its encoding from it.
  LC_ALL: "C.UTF-8",
};

const KEEP_CONFIGURATION = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"] as const;
/** Names are names: apt would take `lib.x` for a pattern (apt-get(8), install). */
const COMMON = ["-q", "-o", "APT::Cmd::Pattern-Only=true", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends"] as const;

/** The node's packages, changed in one transaction that is simulated and judged before anything is done. */
export class Apt {
  readonly #run: AptRun;
  readonly #lockTimeoutSeconds: number;

  constructor(run: AptRun, options: AptOptions = {}) {
    this.#run = run;
    this.#lockTimeoutSeconds = options.lockTimeoutSeconds ?? LOCK_TIMEOUT_SECONDS;
  }

  /**
   * Carries out all steps as far as they can be; what fails does not keep the rest from being done. Answers for every
   * step's resource. A resource with several steps is ok when all of them are.
   */
  async transaction(steps: readonly PackageStep[], context: AptContext): Promise<ReadonlyMap<ResourceId, PackageResult>> {
    const transaction = new Transaction(this.#run, this.#lockTimeoutSeconds, context);
    const results = await transaction.carryOut(steps);
    const byResource = new Map<ResourceId, PackageResult>();
    for (const step of steps) {
      const result = results.get(step) ?? { ok: true };
      if (byResource.get(step.resource)?.ok !== false) byResource.set(step.resource, result);
    }
    return byResource;
  }
}

class Transaction {
  readonly #run: AptRun;
  readonly #lockTimeoutSeconds: number;
  readonly #context: AptContext;
  readonly #failures = new Map<PackageStep, Failure>();
  #refreshed = false;

  constructor(run: AptRun, lockTimeoutSeconds: number, context: AptContext) {
    this.#run = run;
    this.#lockTimeoutSeconds = lockTimeoutSeconds;
    this.#context = context;
  }

  /** The failures, by step; steps that are missing were carried out. */
  async carryOut(steps: readonly PackageStep[]): Promise<ReadonlyMap<PackageStep, Failure>> {
    const before = await this.#query();
    if (!before.ok) {
      for (const step of steps) this.#failures.set(step, before);
      return this.#failures;
    }
    // A held package would be refused below, so that what is to be free is freed first.
    const unheld = await this.#mark("unhold", steps.filter(({ action }) => action === "unhold"), before.status);
    const status = unheld ? await this.#queryAgain(before.status) : before.status;
    const changes = steps.filter((step) => (step.action === "install" || step.action === "remove" || step.action === "purge") && !isDone(step, status, "removed"));
    await this.#finish(steps, status, await this.#change(changes, status));
    return this.#failures;
  }

  /** Runs the transaction; after a failure, what is left of it without what failed. Answers how dpkg's database is then. */
  async #change(changes: readonly PackageStep[], before: DpkgStatus): Promise<DpkgStatus> {
    let left = changes;
    let status = before;
    for (let round = 1; left.length > 0 && round <= ROUNDS_MAX; round += 1) {
      const resolution = await this.#resolver(status).resolve(left);
      for (const [step, failure] of resolution.failures) this.#failures.set(step, failure);
      left = resolution.accepted;
      if (left.length === 0) break;
      const output = await this.#execute(left, resolution.simulation, status);
      status = await this.#queryAgain(status);
      if (output.code !== 0) status = await this.#configure(output, status);
      const undone = left.filter((step) => !isDone(step, status, "removed"));
      left = undone.length === 0 ? [] : await this.#afterFailure(undone, output, round);
    }
    return status;
  }

  /** Records what failed by itself, and answers what deserves another try. */
  async #afterFailure(undone: readonly PackageStep[], output: Output, round: number): Promise<readonly PackageStep[]> {
    const tail = tailOf(output);
    const diagnosis = diagnose(output, this.#lockTimeoutSeconds);
    // The server has replaced a package since the lists were fetched.
    if (diagnosis.code === "download-failed" && (await this.#refresh())) return undone;
    if (diagnosis.code === "interrupted" && round === 1 && (await this.#repair())) return undone;
    const errors = parseDpkgErrors(output);
    const notFetched = parseFetchFailures(output);
    const culprits = undone.filter(({ name }) => errors.has(name) || errors.has(bare(name)) || notFetched.has(bare(name)));
    const retry = culprits.length > 0 && culprits.length < undone.length && round < ROUNDS_MAX;
    for (const step of retry ? culprits : undone) {
      const said = errors.get(step.name) ?? errors.get(bare(step.name));
      const code: FailureCode = said === undefined || diagnosis.code === "disk-full" ? diagnosis.code : "dpkg-failed";
      const message = code === "dpkg-failed" && said !== undefined ? `dpkg could not ${step.action} ${step.name}: ${said}` : diagnosis.message;
      this.#failures.set(step, { ok: false, code, message, tail });
    }
    return retry ? undone.filter((step) => !culprits.includes(step)) : [];
  }

  /** Purging needs the package gone first, and holding needs it there: both come last, in one call each. */
  async #finish(steps: readonly PackageStep[], before: DpkgStatus, changed: DpkgStatus): Promise<void> {
    let status = changed;
    const purges = steps.filter((step) => step.action === "purge" && !this.#failures.has(step) && !isDone(step, status, "purged"));
    if (purges.length > 0) {
      const output = await this.#aptGet(["purge", ...purges.map(({ name }) => name)], RUN_TIMEOUT_MS, ["-y", ...this.#lockOptions()]);
      status = await this.#queryAgain(status);
      for (const step of purges.filter((one) => !isDone(one, status, "purged"))) this.#fail(step, output);
    }
    const holds = steps.filter(({ action }) => action === "hold");
    for (const step of holds.filter(({ name }) => !isThere(status, name))) {
      // dpkg would hold what is not there, and apt would then refuse to install it.
      this.#failures.set(step, { ok: false, code: "failed", message: `${step.name} is not installed, so it cannot be held`, tail: "" });
    }
    await this.#mark("hold", [...holds.filter((step) => !this.#failures.has(step)), ...this.#lostHolds(before, status, steps)], status);
    const leftHeld = steps.filter((step) => step.action === "unhold" && findPackage(status, step.name)?.selection === "hold");
    await this.#mark("unhold", leftHeld, status);
  }

  /** Installing a held package at another version clears the hold (seen with apt 2.6): it was not asked to. */
  #lostHolds(before: DpkgStatus, after: DpkgStatus, steps: readonly PackageStep[]): PackageStep[] {
    return steps.filter(
      ({ action, name }) => action === "install" && findPackage(before, name)?.selection === "hold" && findPackage(after, name)?.selection === "install" && isThere(before, name),
    );
  }

  /** Answers whether anything was to be marked. Marking an unknown package fails; unholding one has nothing to do. */
  async #mark(action: "hold" | "unhold", steps: readonly PackageStep[], status: DpkgStatus): Promise<boolean> {
    const want = action === "hold";
    const names = new Set(steps.map(({ name }) => name).filter((name) => (findPackage(status, name)?.selection === "hold") !== want));
    if (names.size === 0) return false;
    const output = await this.#run(["apt-mark", action, ...names], { timeoutMs: QUERY_TIMEOUT_MS, env: environment });
    const after = await this.#queryAgain(status);
    for (const step of steps) {
      if ((findPackage(after, step.name)?.selection === "hold") !== want) this.#fail(step, output);
      else if (step.action === action) this.#failures.delete(step);
    }
    return true;
  }

  #resolver(status: DpkgStatus): Resolver {
    return new Resolver({
      simulate: (items) => this.#aptGet(["install", ...items.map(argument)], SIMULATE_TIMEOUT_MS, ["-s", "-o", "Debug::NoLocking=1"]),
      refresh: () => this.#refresh(),
      status,
      context: this.#context,
      lockTimeoutSeconds: this.#lockTimeoutSeconds,
    });
  }

  #execute(items: readonly PackageStep[], simulation: Simulation, status: DpkgStatus): Promise<Output> {
    const changed = [...simulation.installs.keys(), ...simulation.removes.keys()];
    const downgrade = [...simulation.installs.values()].some(({ from, to }) => from !== null && compareVersions(from, to) > 0);
    const held = changed.some((name) => findPackage(status, name)?.selection === "hold");
    const options = [
      "-y",
      ...this.#lockOptions(),
      ...KEEP_CONFIGURATION,
      // Whatever has changed since the simulation, apt removes nothing that was not judged.
      ...(simulation.removes.size === 0 ? ["--no-remove"] : []),
      ...(downgrade ? ["--allow-downgrades"] : []),
      ...(held ? ["--allow-change-held-packages"] : []),
    ];
    return this.#aptGet(["install", ...items.map(argument)], RUN_TIMEOUT_MS, options);
  }

  /** dpkg stops at a package that fails and leaves others unpacked that had nothing to do with it: they are finished here. */
  async #configure(output: Output, status: DpkgStatus): Promise<DpkgStatus> {
    const errors = parseDpkgErrors(output);
    const names = status.unfinished
      .filter(({ name, state }) => (state === "unpacked" || state.startsWith("triggers-")) && !errors.has(name))
      .map(({ name, architecture }) => (architecture === "all" || architecture === status.architecture ? name : `${name}:${architecture}`));
    if (names.length === 0) return status;
    await this.#run(["dpkg", "--force-confdef", "--force-confold", "--configure", ...names], { timeoutMs: RUN_TIMEOUT_MS, env: environment });
    return this.#queryAgain(status);
  }

  async #repair(): Promise<boolean> {
    const output = await this.#run(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], { timeoutMs: RUN_TIMEOUT_MS, env: environment });
    return output.code === 0;
  }

  /** A source that cannot be reached must not keep the others from being read, so that the exit code does not matter. */
  async #refresh(): Promise<boolean> {
    if (this.#refreshed) return false;
    this.#refreshed = true;
    await this.#run(["apt-get", "update", "-q", "-o", "Acquire::Retries=2", ...this.#lockOptions()], { timeoutMs: UPDATE_TIMEOUT_MS, env: environment });
    return true;
  }

  #aptGet(command: readonly string[], timeoutMs: number, options: readonly string[]): Promise<Output> {
    return this.#run(["apt-get", ...COMMON, ...options, ...command], { timeoutMs, env: environment });
  }

  #lockOptions(): string[] {
    return ["-o", `DPkg::Lock::Timeout=${this.#lockTimeoutSeconds}`];
  }

  async #query(): Promise<{ readonly ok: true; readonly status: DpkgStatus } | Failure> {
    const output = await this.#run(["dpkg-query", "-W", "-f", QUERY_FORMAT], { timeoutMs: QUERY_TIMEOUT_MS, env: environment });
    if (output.code === 0) return { ok: true, status: parseQuery(output.stdout) };
    return { ok: false, code: "failed", message: `cannot read dpkg's database: ${output.stderr.trim().slice(0, 500)}`, tail: tailOf(output) };
  }

  /** Once it could be read, it can be read again; if not, what is known stands, and the next look tells. */
  async #queryAgain(known: DpkgStatus): Promise<DpkgStatus> {
    const result = await this.#query();
    return result.ok ? result.status : known;
  }

  #fail(step: PackageStep, output: Output): void {
    if (!this.#failures.has(step)) this.#failures.set(step, { ok: false, ...diagnose(output, this.#lockTimeoutSeconds), tail: tailOf(output) });
  }
}

/** How apt-get(8) takes it: `name`, `name=version`, and `name-` for what goes. */
function argument({ action, name, version }: PackageStep): string {
  if (action !== "install") return `${name}-`;
  return version === undefined ? name : `${name}=${version}`;
}

function isThere(status: DpkgStatus, name: string): boolean {
  const state = findPackage(status, name)?.state ?? "not-installed";
  return state !== "not-installed" && state !== "config-files";
}

function bare(name: string): string {
  return name.split(":")[0]!;
}

/** Whether dpkg's database shows what the step asks for. A purge is done in two parts: `removed`, then `purged`. */
function isDone(step: PackageStep, status: DpkgStatus, part: "removed" | "purged"): boolean {
  const found = findPackage(status, shortName(step.name, status));
  const state = found?.state ?? "not-installed";
  if (step.action === "install") {
    const finished = (state === "installed" || state.startsWith("triggers-")) && found?.flag === "ok";
    return finished && (step.version === undefined || compareVersions(found?.version ?? "", step.version) === 0);
  }
  return state === "not-installed" || (state === "config-files" && part === "removed");
}
