import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../shared/clock.ts";
import type { Output } from "../../shared/kinds/kind.ts";
import type { Run, RunOptions } from "../host/process.ts";

/**
 * Runs what changes packages with its output in files. On a pipe to the agent, apt dies of SIGPIPE at its next word when the
 * agent is killed, between two packages (seen with apt 2.6); so it goes on, and is waited for by the agent that starts next.
 */

const POLL_MS = 500;
/** A maintainer script may say a lot: a file that has grown so far is emptied, and what was kept of it is its end. */
const FILE_MAX_BYTES = 4 * 1024 * 1024;
const KEPT_MAX_CHARS = 1024 * 1024;
const READ_BYTES = 64 * 1024;

/** Constant, with the program as its arguments: nothing in them is read by the shell. */
const REDIRECT = 'exec "$@" >&3 2>&4 3>&- 4>&-';

export class LoggedRun {
  readonly #run: Run;
  readonly #clock: Clock;
  readonly #directory: string;

  constructor(run: Run, clock: Clock, directory: string) {
    this.#run = run;
    this.#clock = clock;
    this.#directory = directory;
  }

  /** As {@link Run}; `onText` gets what the program says on its standard output, piece by piece. */
  async run(argv: readonly [string, ...string[]], options: RunOptions, onText: (text: string) => void): Promise<Output> {
    const files: FileHandle[] = [];
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      for (const name of ["stdout", "stderr"]) files.push(await open(join(this.#directory, `updates-${name}.log`), constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND | constants.O_NOFOLLOW, 0o600));
    } catch {
      // A full disk must not keep a repair from being tried.
      for (const file of files) await file.close();
      return this.#run(argv, options);
    }
    const [out, err] = files.map((file) => new Tail(file)) as [Tail, Tail];
    try {
      const running = this.#run(["/bin/sh", "-c", REDIRECT, "sh", ...argv], { ...options, descriptors: files.map(({ fd }) => fd) });
      for (;;) {
        const ended = await Promise.race([running.then(() => true), new Promise<false>((resolve) => void this.#clock.after(POLL_MS, () => resolve(false)))]);
        onText(await out.read());
        await err.read();
        if (ended) break;
      }
      const { code, stdout, stderr } = await running;
      return { code, stdout: out.text + stdout, stderr: err.text + stderr };
    } finally {
      for (const file of files) await file.close();
    }
  }
}

/** The end of a file that grows, and is emptied when it has grown too far. */
class Tail {
  readonly #file: FileHandle;
  readonly #decoder = new TextDecoder();
  #at = 0;
  text = "";

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** What has come since the last time. */
  async read(): Promise<string> {
    const buffer = Buffer.alloc(READ_BYTES);
    let fresh = "";
    for (;;) {
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#at);
      if (bytesRead === 0) break;
      this.#at += bytesRead;
      fresh = (fresh + this.#decoder.decode(buffer.subarray(0, bytesRead), { stream: true })).slice(-KEPT_MAX_CHARS);
    }
    if (this.#at > FILE_MAX_BYTES) {
      await this.#file.truncate(0);
      this.#at = 0;
    }
    this.text = (this.text + fresh).slice(-KEPT_MAX_CHARS);
    return fresh;
  }
}
