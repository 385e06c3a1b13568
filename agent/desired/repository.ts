import { mkdtemp, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Git, GitOutput } from "../../shared/git/git.ts";
import type { Scratch } from "../../shared/git/keyring.ts";
import { authorityPath, certificatePath, keyPath, repositoryPath } from "../settings.ts";
import type { Places, Settings } from "../settings.ts";
import type { RunBytes } from "../host/process.ts";
import { writeDurably } from "../host/durable.ts";

/** A slow line may need a while for a first fetch; a hint that comes meanwhile is not lost. */
const FETCH_TIMEOUT_MS = 120_000;
const GIT_TIMEOUT_MS = 60_000;
/** What one fetch may bring: a cluster's whole history of settings is some megabytes, and a node's disk is not a Git host's to fill. */
export const FETCH_SIZE_MAX_BYTES = 256 * 1024 * 1024;

export type Fetched = { readonly ok: true; readonly commit: string | null } | { readonly ok: false; readonly message: string };

/** The node's own copy of the cluster's repository: bare, because nothing is ever checked out. */
export class Repository {
  readonly #run: RunBytes;
  readonly #places: Places;
  readonly #settings: Settings;
  readonly #path: string;
  readonly #fetchSizeMaxBytes: number;

  constructor(run: RunBytes, places: Places, settings: Settings, limits: { readonly fetchSizeMaxBytes: number } = { fetchSizeMaxBytes: FETCH_SIZE_MAX_BYTES }) {
    this.#run = run;
    this.#places = places;
    this.#settings = settings;
    this.#path = repositoryPath(places);
    this.#fetchSizeMaxBytes = limits.fetchSizeMaxBytes;
  }

  /** Git on this repository, blind to whatever is configured for root or the machine. */
  readonly git: Git = (args, options = {}) => this.#git(["git"], args, options);

  async #git(command: readonly [string, ...string[]], args: readonly string[], options: NonNullable<Parameters<Git>[1]>): Promise<GitOutput> {
    const output = await this.#run([...command, "--git-dir", this.#path, "-c", "core.hooksPath=/dev/null", ...args], {
      timeoutMs: options.timeoutMs ?? GIT_TIMEOUT_MS,
      env: { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0", GIT_OPTIONAL_LOCKS: "0", ...options.env },
      ...(options.input === undefined ? {} : { input: options.input }),
    });
    return { code: output.code, stdout: output.stdout, stderr: output.stderr };
  }

  async prepare(): Promise<void> {
    await mkdir(this.#places.stateDir, { recursive: true, mode: 0o700 });
    const there = await this.git(["rev-parse", "--git-dir"]);
    if (there.code === 0) {
      await this.#clearLeftovers();
      return;
    }
    // A power cut while it was made, or a wiped state: it holds nothing that cannot be fetched again.
    await rm(this.#path, { recursive: true, force: true });
    const made = await this.git(["init", "--quiet", "--bare", this.#path]);
    if (made.code !== 0) throw new Error(`cannot make ${this.#path}: ${made.stderr.trim()}`);
  }

  /** Fetches a branch; answers its tip, or null for a branch that does not exist (yet). What is fetched is not yet believed. */
  async fetch(branch: string = this.#settings.git.branch): Promise<Fetched> {
    const fetched = await this.#fetchOnce(branch);
    if (fetched.ok || !/bad object|file exists|too short|corrupt|is empty|not a git repository/i.test(fetched.message)) return fetched;
    // A power cut can leave git a lock, an empty ref or half a pack. It holds nothing that cannot be fetched again.
    await rm(this.#path, { recursive: true, force: true });
    await this.prepare();
    return this.#fetchOnce(branch);
  }

  async #fetchOnce(branch: string): Promise<Fetched> {
    const ref = branch === this.#settings.git.branch ? "refs/evenkeel/candidate" : "refs/evenkeel/preview";
    const output = await this.#git(
      // No file may grow beyond the limit (RLIMIT_FSIZE), and unpackLimit=1 makes one file of all that comes. Blobs above
      // bigFileThreshold go through a small buffer, so that a little data cannot become a lot of memory (git-config(1)).
      ["prlimit", `--fsize=${this.#fetchSizeMaxBytes}`, "git"],
      ["-c", "fetch.unpackLimit=1", "-c", "core.bigFileThreshold=16m", "-c", "fetch.fsckObjects=true", "-c", "core.fsync=all", "-c", "gc.autoDetach=false", "-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=30", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--force", "--", this.#settings.git.url, `+refs/heads/${branch}:${ref}`],
      { timeoutMs: FETCH_TIMEOUT_MS, env: this.#access() },
    );
    const leftoverBytes = output.code === 0 ? 0 : await this.#clearLeftovers();
    if (leftoverBytes >= this.#fetchSizeMaxBytes) {
      return { ok: false, message: `${this.#settings.git.url} sends more than ${this.#fetchSizeMaxBytes} bytes for the branch ${branch}, which is more than is fetched at once. The node keeps what it has. Were large files pushed by mistake? Take them out of the branch before its nodes have taken it, or enrol the nodes again, from a repository without them.` };
    }
    if (output.code !== 0) {
      if (/couldn't find remote ref/i.test(output.stderr)) return { ok: true, commit: null };
      return { ok: false, message: explainFetch(this.#settings.git.url, output.stderr) };
    }
    return { ok: true, commit: await this.#tip(ref) };
  }

  /** Removes what a fetch that was cut off has left, which Git keeps for two weeks. Answers the size of the largest. */
  async #clearLeftovers(): Promise<number> {
    const directory = join(this.#path, "objects", "pack");
    let largestBytes = 0;
    for (const name of await readdir(directory).catch(() => [])) {
      if (!/^(tmp_|\.tmp-)/.test(name)) continue;
      const path = join(directory, name);
      largestBytes = Math.max(largestBytes, (await stat(path).catch(() => null))?.size ?? 0);
      await rm(path, { force: true });
    }
    return largestBytes;
  }

  async #tip(ref: string): Promise<string | null> {
    const output = await this.git(["rev-parse", "--verify", "--quiet", `${ref}^{commit}`]);
    return output.code === 0 ? Buffer.from(output.stdout).toString().trim() : null;
  }

  #access(): Record<string, string> {
    const { hub, git } = this.#settings;
    // The node's certificate is for the hub's eyes; another Git host is reached like any other.
    if (hub === null || !git.url.startsWith(new URL(hub).origin)) return {};
    return { GIT_SSL_CERT: certificatePath(this.#places), GIT_SSL_KEY: keyPath(this.#places), GIT_SSL_CAINFO: authorityPath(this.#places) };
  }

  /** A private directory for one check of signatures; gone afterwards. */
  async withScratch<T>(use: (scratch: Scratch) => Promise<T>): Promise<T> {
    const directory = await mkdtemp(join(this.#places.stateDir, "scratch-"));
    try {
      return await use({
        directory,
        write: async (name, content) => {
          const path = join(directory, name);
          await writeDurably(path, content, { mode: 0o600 });
          return path;
        },
        gpg: async (args, input) => {
          const output = await this.#run(["gpg", ...args], { input });
          return { code: output.code, stdout: Buffer.from(output.stdout).toString(), stderr: output.stderr };
        },
      });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

function explainFetch(url: string, stderr: string): string {
  const said = stderr.trim().split("\n").slice(-3).join(" ").slice(0, 600);
  if (/expired|not yet valid|certificate/i.test(said)) return `cannot fetch ${url}: its certificate does not hold here. Is the clock right (timedatectl)? Was the hub set up anew? ${said}`;
  if (/could not resolve|couldn't connect|failed to connect|timed out|refused|unreachable|no route/i.test(said)) return `cannot reach ${url}. The node keeps what it has, and tries again by itself. ${said}`;
  if (/403|401|authentication|could not read username/i.test(said)) return `${url} refuses this node. Was its certificate revoked? Then enrol it again. ${said}`;
  if (/no space left/i.test(said)) return `no space left to fetch ${url}. Make room; it is tried again by itself. ${said}`;
  return `cannot fetch ${url}: ${said}`;
}
