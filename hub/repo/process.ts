import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Git } from "../../shared/git/git.ts";
import type { Scratch } from "../../shared/git/keyring.ts";

/** How the hub runs git and gpg: no shell, an environment of its own, limits on time and output. */

const outputMaxBytes = 128 * 1024 * 1024;
const stderrMaxChars = 64 * 1024;
const defaultTimeoutMs = 60_000;

/** Neither the system's nor a user's configuration may change what the hub makes of a push. */
export const gitEnvironment: Readonly<Record<string, string>> = {
  PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
  LC_ALL: "C.UTF-8",
  HOME: "/nonexistent",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
};

/** `git` in one bare repository; `env` adds what a push in quarantine needs. */
export function gitIn(directory: string, env: Readonly<Record<string, string>> = {}): Git {
  return (args, options = {}) =>
    run("git", args, {
      env: { ...gitEnvironment, GIT_DIR: directory, ...env, ...options.env },
      timeoutMs: options.timeoutMs ?? defaultTimeoutMs,
      ...(options.input !== undefined && { input: options.input }),
    });
}

/** Makes a private directory for checking signatures, and removes it afterwards. */
export async function withScratch<T>(work: (scratch: Scratch) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "evenkeel-hub-"));
  try {
    return await work({
      directory,
      async write(name, content) {
        const path = join(directory, name);
        await writeFile(path, content, { mode: 0o600 });
        return path;
      },
      async gpg(args, input) {
        const output = await run("gpg", args, { env: { ...gitEnvironment, GNUPGHOME: directory }, timeoutMs: defaultTimeoutMs, input });
        return { code: output.code, stdout: Buffer.from(output.stdout).toString("utf8"), stderr: output.stderr };
      },
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

interface RunOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly input?: string | Uint8Array;
}

function run(program: string, args: readonly string[], options: RunOptions): ReturnType<Git> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env: { ...options.env }, stdio: ["pipe", "pipe", "pipe"], timeout: options.timeoutMs, killSignal: "SIGKILL" });
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > outputMaxBytes) child.kill("SIGKILL");
      else chunks.push(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      if (stderr.length < stderrMaxChars) stderr += chunk.toString("utf8");
    });
    child.once("error", (error: NodeJS.ErrnoException) => {
      resolve({ code: error.code === "ENOENT" ? 127 : 126, stdout: new Uint8Array(), stderr: `${program}: ${error.code === "ENOENT" ? "no such program; install it" : error.message}` });
    });
    child.once("close", (code, signal) => {
      const note = signal === null ? "" : sizeBytes > outputMaxBytes ? `\n${program} printed more than ${outputMaxBytes} bytes` : `\n${program} was ended by ${signal} (limit ${options.timeoutMs / 1_000} s)`;
      resolve({ code: code ?? 128, stdout: Buffer.concat(chunks), stderr: `${stderr}${note}` });
    });
    // It may end without reading all of its input; that shows in its exit code.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
  });
}
