import { diagnose, parseQuery, QUERY_FORMAT } from "../host/apt-output.ts";
import type { Run } from "../host/process.ts";
import { LoggedRun } from "./logged-run.ts";
import type { Clock } from "../../shared/clock.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output } from "../../shared/kinds/kind.ts";

/** The command lines of an update: apt-get(8), dpkg(1), apt-cache(8). What they answer is judged elsewhere. */

const LOCK_TIMEOUT_SECONDS = 300;
const LOCK_RETRY_MS = 1_000;
const QUERY_TIMEOUT_MS = 60_000;
const SIMULATE_TIMEOUT_MS = 120_000;
const UPDATE_TIMEOUT_MS = 300_000;
const DOWNLOAD_TIMEOUT_MS = 30 * 60_000;
/** Maintainer scripts build initrds and migrate databases. */
const RUN_TIMEOUT_MS = 60 * 60_000;

/**
 * Nobody is there to answer. needrestart's hook is told to keep out altogether, and where an older one does not know
 * that, to list only: what runs on replaced libraries is seen afterwards, and ended by the reboot that holds a lease.
 */
const environment: Readonly<Record<string, string>> = {
  DEBIAN_FRONTEND: "noninteractive",
  APT_LISTCHANGES_FRONTEND: "none",
  APT_LISTBUGS_FRONTEND: "none",
  NEEDRESTART_SUSPEND: "1",
  NEEDRESTART_MODE: "l",
  UCF_FORCE_CONFFOLD: "1",
  LC_ALL: "C.UTF-8",
};

const KEEP_CONFIGURATION = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"] as const;
const COMMON = ["-q", "-o", "APT::Cmd::Pattern-Only=true", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends"] as const;
const SIMULATE = ["-s", "-o", "Debug::NoLocking=1"] as const;

export interface AptGetParts {
  readonly run: Run;
  readonly clock: Clock;
  /** Where the output of a transaction goes while it runs. */
  readonly stateDir: string;
  readonly lockTimeoutSeconds?: number | undefined;
}

export class AptGet {
  readonly #run: Run;
  readonly #clock: Clock;
  readonly #logged: LoggedRun;
  readonly lockTimeoutSeconds: number;
  /** Told what dpkg does, package by package, while a transaction runs. */
  onProgress: (line: string) => void = () => {};

  constructor({ run, clock, stateDir, lockTimeoutSeconds = LOCK_TIMEOUT_SECONDS }: AptGetParts) {
    this.#run = run;
    this.#clock = clock;
    this.#logged = new LoggedRun(run, clock, stateDir);
    this.lockTimeoutSeconds = lockTimeoutSeconds;
  }

  /** Reads the lists anew. Unlike apt-get's default, one source that cannot be reached is an error (apt.conf(5), since apt 2.1). */
  update(): Promise<Output> {
    return this.#patiently(() => this.#aptGet(["update"], UPDATE_TIMEOUT_MS, ["-o", "Acquire::Retries=2", "-o", "APT::Update::Error-Mode=any", ...this.#lockOptions()]));
  }

  simulateUpgrade(): Promise<Output> {
    return this.#aptGet(["upgrade", "--with-new-pkgs"], SIMULATE_TIMEOUT_MS, SIMULATE);
  }

  simulateInstall(args: readonly string[]): Promise<Output> {
    return this.#aptGet(["install", ...args], SIMULATE_TIMEOUT_MS, [...SIMULATE, "--allow-downgrades"]);
  }

  /** Fetches what an install needs, and changes no package. */
  download(args: readonly string[]): Promise<Output> {
    return this.#patiently(() => this.#aptGet(["install", ...args], DOWNLOAD_TIMEOUT_MS, ["-y", "-d", "--no-remove", ...this.#lockOptions()]));
  }

  /** One transaction. Without `mayRemove`, apt stops rather than remove anything, whatever changed since the simulation. */
  install(args: readonly string[], options: { readonly goesBack?: boolean; readonly mayRemove?: boolean; readonly reinstall?: boolean } = {}): Promise<Output> {
    const flags = [
      ...(options.goesBack === true ? ["--allow-downgrades", "--allow-change-held-packages"] : []),
      ...(options.mayRemove === true ? [] : ["--no-remove"]),
      ...(options.reinstall === true ? ["--reinstall"] : []),
    ];
    return this.#transaction(["apt-get", ...COMMON, "-y", ...this.#lockOptions(), ...KEEP_CONFIGURATION, ...flags, "install", ...args]);
  }

  /** Installs dependencies that are missing since an interruption. */
  fixBroken(): Promise<Output> {
    return this.#transaction(["apt-get", ...COMMON, "-y", "--no-remove", ...this.#lockOptions(), ...KEEP_CONFIGURATION, "-f", "install"]);
  }

  /** Merges dpkg's journal and finishes what is unpacked. Waits for the lock, which dpkg itself does not. */
  configureAll(): Promise<Output> {
    return this.#transaction(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]);
  }

  /** All versions that the archives offer: `name | version | source`, a line each. */
  madison(names: readonly string[]): Promise<Output> {
    return this.#run(["apt-cache", "madison", ...names], { timeoutMs: QUERY_TIMEOUT_MS, env: environment });
  }

  /** Addresses and sizes, and then the files themselves, of exact versions, into `directory`. */
  downloadUris(args: readonly string[]): Promise<Output> {
    return this.#run(["apt-get", "-q", "download", "--print-uris", ...args], { timeoutMs: QUERY_TIMEOUT_MS, env: environment });
  }

  downloadInto(directory: string, args: readonly string[]): Promise<Output> {
    return this.#run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", ...args], { timeoutMs: DOWNLOAD_TIMEOUT_MS, env: environment, cwd: directory });
  }

  /** dpkg's database with its journal, which right after a crash knows more than the file does. */
  async query(): Promise<{ readonly ok: true; readonly status: DpkgStatus } | { readonly ok: false; readonly output: Output }> {
    const output = await this.#run(["dpkg-query", "-W", "-f", QUERY_FORMAT], { timeoutMs: QUERY_TIMEOUT_MS, env: environment });
    return output.code === 0 ? { ok: true, status: parseQuery(output.stdout) } : { ok: false, output };
  }

  #transaction(argv: readonly [string, ...string[]]): Promise<Output> {
    return this.#patiently(() => this.#logged.run(argv, { timeoutMs: RUN_TIMEOUT_MS, env: environment }, (text) => this.#tell(text)));
  }

  /** One line for each piece of output: the last package that dpkg began with. */
  #tell(text: string): void {
    const last = [...text.matchAll(/^(?:Unpacking|Setting up|Removing) \S+ \([^)]*\)/gm)].at(-1);
    if (last !== undefined) this.onProgress(last[0]);
  }

  #aptGet(command: readonly string[], timeoutMs: number, options: readonly string[]): Promise<Output> {
    return this.#run(["apt-get", ...COMMON, ...options, ...command], { timeoutMs, env: environment });
  }

  #lockOptions(): string[] {
    return ["-o", `DPkg::Lock::Timeout=${this.lockTimeoutSeconds}`];
  }

  /** apt-get waits for dpkg's lock by itself, but not for that of its lists or its archives; dpkg waits for none. */
  async #patiently(attempt: () => Promise<Output>): Promise<Output> {
    const deadlineMs = this.#clock.monotonicMs() + this.lockTimeoutSeconds * 1_000;
    for (;;) {
      const output = await attempt();
      if (output.code === 0 || diagnose(output, 0).code !== "locked" || this.#clock.monotonicMs() >= deadlineMs) return output;
      await new Promise<void>((resolve) => void this.#clock.after(LOCK_RETRY_MS, resolve));
    }
  }
}
