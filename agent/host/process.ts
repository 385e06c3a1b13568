import { spawn } from "node:child_process";
import type { Output } from "../../shared/kinds/kind.ts";

/**
 * The only place where the agent starts processes. Every one gets a session of its own (a Ctrl-C at a terminal must not
 * reach a dpkg in its middle), a time limit, a fixed environment, and bounded output.
 */

export interface RunOptions {
  readonly timeoutMs?: number;
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Our open files that it gets as its descriptors 3, 4 …, besides the usual three. */
  readonly descriptors?: readonly number[];
  /** What is read beyond this is dropped from the middle, so that the beginning and the end stay. */
  readonly outputMaxBytes?: number;
  /** Ends it early, and all that it has started. */
  readonly signal?: AbortSignal;
}

export type Run = (argv: readonly [string, ...string[]], options?: RunOptions) => Promise<Output>;
export type RunBytes = (argv: readonly [string, ...string[]], options?: RunOptions) => Promise<BytesOutput>;

export interface BytesOutput {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
}

export const RUN_TIMEOUT_MS = 60_000;
const PIPES_DRAIN_MS = 2_000;
const OUTPUT_MAX_BYTES = 64 * 1024 * 1024;

/** What the shell reports for a program that does not exist, and what `timeout(1)` reports for one that ran too long. */
export const CODE_NOT_FOUND = 127;
export const CODE_TIMEOUT = 124;

/** Programs answer in English, without pagers, questions or colours, so that what they say can be read by a program. */
const environment: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LC_ALL: "C.UTF-8",
  DEBIAN_FRONTEND: "noninteractive",
  SYSTEMD_PAGER: "",
  SYSTEMD_COLORS: "0",
};

/** Starts processes and counts them: how many a converge starts is the number that the agent is measured by. */
export class Processes {
  #started = 0;
  readonly #running = new Set<number>();

  get started(): number {
    return this.#started;
  }

  readonly run: Run = async (argv, options) => {
    const output = await this.runBytes(argv, options);
    return { code: output.code, stdout: Buffer.from(output.stdout).toString("utf8"), stderr: output.stderr };
  };

  /** Resolves for every way in which the process can end; a missing program answers {@link CODE_NOT_FOUND}. */
  readonly runBytes: RunBytes = (argv, options = {}) => {
    const [file, ...args] = argv;
    const timeoutMs = options.timeoutMs ?? RUN_TIMEOUT_MS;
    this.#started += 1;
    return new Promise((resolve) => {
      const child = spawn(file, args, {
        stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe", ...(options.descriptors ?? [])],
        env: { ...environment, ...options.env },
        detached: true,
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      });
      const stdout = new BoundedOutput(options.outputMaxBytes ?? OUTPUT_MAX_BYTES);
      const stderr = new BoundedOutput(256 * 1024);
      let timedOut = false;
      const timer = setTimeout(() => {
        timedOut = true;
        killGroup(child.pid);
      }, timeoutMs);
      if (child.pid !== undefined) this.#running.add(child.pid);
      const abort = () => killGroup(child.pid);
      if (options.signal?.aborted === true) abort();
      options.signal?.addEventListener("abort", abort, { once: true });
      const finish = (code: number, note: string) => {
        clearTimeout(timer);
        options.signal?.removeEventListener("abort", abort);
        if (child.pid !== undefined) this.#running.delete(child.pid);
        resolve({ code, stdout: stdout.bytes(), stderr: `${Buffer.from(stderr.bytes()).toString("utf8")}${note}` });
      };
      child.once("error", (error: NodeJS.ErrnoException) => {
        finish(error.code === "ENOENT" ? CODE_NOT_FOUND : 126, `${file}: ${error.code === "ENOENT" ? "no such program" : error.message}`);
      });
      child.stdout?.on("data", (chunk: Buffer) => stdout.add(chunk));
      child.stderr?.on("data", (chunk: Buffer) => stderr.add(chunk));
      child.once("close", (code, signal) => {
        if (timedOut) finish(CODE_TIMEOUT, `\n${file} did not end within ${timeoutMs / 1000} s and was ended`);
        else finish(code ?? 128, signal === null ? "" : `\n${file} was ended by ${signal}`);
      });
      // A daemon that it leaves behind may hold the pipes open for ever: what it says later is not ours to wait for.
      child.once("exit", () => {
        const drain = setTimeout(() => {
          child.stdout?.destroy();
          child.stderr?.destroy();
        }, PIPES_DRAIN_MS);
        child.once("close", () => clearTimeout(drain));
      });
      // A program may end without reading its input: that is its business, and shows in its exit code.
      child.stdin?.on("error", () => {});
      if (options.input !== undefined) child.stdin?.end(options.input);
    });
  };

  /** True while any process that was started here still runs. */
  get busy(): boolean {
    return this.#running.size > 0;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It ended by itself in the meantime.
  }
}

/** Keeps the first and the last half of what does not fit. */
class BoundedOutput {
  readonly #maxBytes: number;
  #head: Buffer[] = [];
  #headBytes = 0;
  #tail: Buffer[] = [];
  #tailBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(chunk: Buffer): void {
    const half = this.#maxBytes / 2;
    if (this.#headBytes < half) {
      this.#head.push(chunk);
      this.#headBytes += chunk.length;
      return;
    }
    this.#tail.push(chunk);
    this.#tailBytes += chunk.length;
    while (this.#tailBytes - (this.#tail[0]?.length ?? 0) > half) {
      this.#tailBytes -= this.#tail.shift()?.length ?? 0;
    }
  }

  bytes(): Uint8Array {
    return Buffer.concat([...this.#head, ...this.#tail]);
  }
}
