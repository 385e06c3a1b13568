import { spawn } from "node:child_process";

/** What a finished command left behind. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly timeoutMs?: number;
  /** Replaces the environment altogether when given. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Called with each piece of output as it comes, for progress. */
  readonly onOutput?: (text: string) => void;
}

export type LabFailure =
  | "bad-request" // the caller asked for something that makes no sense
  | "cannot-run-here" // this machine lacks something nspawn needs
  | "not-running" // the node is down
  | "timeout"
  | "command-failed";

/** Every error the lab throws on purpose; anything else is a bug. */
export class LabError extends Error {
  override readonly name = "LabError";
  readonly reason: LabFailure;

  constructor(reason: LabFailure, message: string) {
    super(message);
    this.reason = reason;
  }
}

// Nothing in the lab prints this much; a runaway command must not fill the memory of the test process.
const outputLimitBytes = 64 * 1024 * 1024;

/** Runs a command without a shell. A non-zero exit is a value; not starting, or not ending in time, throws. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const [file, ...args] = argv;
  if (file === undefined) throw new LabError("bad-request", "an empty command");
  const timeoutMs = options.timeoutMs ?? 60_000;
  return new Promise((resolve, reject) => {
    // Its own process group: a timeout must also end what the command started (nsenter's child, for one),
    // and Ctrl-C at the terminal must not cut a clean-up short.
    const child = spawn(file, args, { detached: true, cwd: options.cwd, env: options.env ?? process.env });
    const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    let sizeBytes = 0;
    let failure: LabError | undefined;
    const abandon = (error: LabError): void => {
      if (failure !== undefined) return;
      failure = error;
      if (child.pid !== undefined) killGroup(child.pid);
      // A grandchild that left the group may still hold the pipes: do not wait for it.
      child.stdout.destroy();
      child.stderr.destroy();
    };
    const timer = setTimeout(() => {
      abandon(new LabError("timeout", `no end after ${timeoutMs} ms: ${printable(argv)}${tailOf(chunks.stderr)}`));
    }, timeoutMs);
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].on("data", (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > outputLimitBytes) {
          abandon(new LabError("command-failed", `more than ${outputLimitBytes} bytes of output: ${printable(argv)}`));
        }
        chunks[stream].push(chunk);
        options.onOutput?.(chunk.toString());
      });
    }
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(new LabError("command-failed", `cannot start ${file}: ${error.message}`));
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (failure !== undefined) return reject(failure);
      const stdout = Buffer.concat(chunks.stdout).toString();
      const stderr = Buffer.concat(chunks.stderr).toString();
      resolve({ code: code ?? (signal === "SIGKILL" ? 137 : 143), stdout, stderr });
    });
    // A command that does not read its input closes the pipe: its exit code says enough.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input);
  });
}

/** Runs a command that has to succeed, and gives its standard output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const outcome = await run(argv, options);
  if (outcome.code === 0) return outcome.stdout;
  const said = lastLines(outcome.stderr.trim() || outcome.stdout.trim(), 15);
  throw new LabError("command-failed", `${printable(argv)} ended with ${outcome.code}${said === "" ? "" : `: ${said}`}`);
}

export function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}

/** Polls, because what the lab waits for (a kernel object, a process' end) sends no event to us. */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => T | undefined | Promise<T | undefined>,
  everyMs = 20,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const seen = await probe();
    if (seen !== undefined && seen !== false) return seen;
    if (performance.now() >= end) throw new LabError("timeout", `waited ${timeoutMs} ms for ${what}`);
    await new Promise((wake) => setTimeout(wake, everyMs));
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // already gone
  }
}

function tailOf(chunks: readonly Buffer[]): string {
  const text = lastLines(Buffer.concat(chunks).toString(), 5);
  return text === "" ? "" : ` (${text})`;
}

function printable(argv: readonly string[]): string {
  const text = argv.join(" ");
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
