import { spawn, type ChildProcess } from "node:child_process";
import type { Clock } from "../../shared/clock.ts";

/** Time to tidy up after SIGTERM; then comes SIGKILL. */
const graceMs = 1_000;
/** How long to wait for the end after SIGKILL, and for a pipe that somebody outside the group keeps open. */
const leftoverMs = 2_000;
/** Of what a program prints, the end is kept. */
const outputMaxChars = 4_096;

export type Ending =
  | { readonly kind: "ended"; readonly code: number; readonly stdout: string; readonly stderr: string }
  | { readonly kind: "killed"; readonly signal: string; readonly stdout: string; readonly stderr: string }
  /** `signal` was aborted before it ended by itself. */
  | { readonly kind: "stopped"; readonly stdout: string; readonly stderr: string }
  | { readonly kind: "unstartable"; readonly code: string };

export interface RunParts {
  readonly clock: Clock;
  readonly searchPath: string;
  /** Ends the program: SIGTERM to its process group, SIGKILL after a second. */
  readonly signal: AbortSignal;
}

/**
 * Runs a program without a shell, in a process group of its own, with a minimal environment and without input. Whatever it
 * leaves behind in its group is killed with it: a check that runs every second must not pile up processes.
 */
export function runProgram(argv: readonly string[], { clock, searchPath, signal }: RunParts): Promise<Ending> {
  const [program = "", ...args] = argv;
  const child = spawn(program, args, { cwd: "/", env: { PATH: searchPath, LC_ALL: "C.UTF-8", HOME: "/nonexistent" }, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const stdout = tailOf(child.stdout);
  const stderr = tailOf(child.stderr);
  return new Promise((resolve) => {
    let stopped = false;
    const stop = (): void => {
      stopped = true;
      killGroup(child, "SIGTERM");
      timer = clock.after(graceMs, () => {
        killGroup(child, "SIGKILL");
        // Asleep in the kernel, on a dead NFS server for instance: the one thing that SIGKILL does not end.
        timer = clock.after(leftoverMs, () => finish({ kind: "stopped", stdout: stdout(), stderr: stderr() }));
      });
    };
    let timer = clock.after(0x7fff_ffff, () => {});
    const finish = (ending: Ending): void => {
      timer.cancel();
      signal.removeEventListener("abort", stop);
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve(ending);
    };
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (child.pid === undefined) finish({ kind: "unstartable", code: error.code ?? error.message });
    });
    child.once("exit", (code, endedBy) => {
      killGroup(child, "SIGKILL");
      timer.cancel();
      const end = (): void => {
        const output = { stdout: stdout(), stderr: stderr() };
        if (stopped) finish({ kind: "stopped", ...output });
        else finish(code === null ? { kind: "killed", signal: endedBy ?? "a signal", ...output } : { kind: "ended", code, ...output });
      };
      // The pipes close when the last of the group is gone, unless someone has left the group and holds them.
      child.once("close", end);
      timer = clock.after(leftoverMs, end);
    });
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  });
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    // ESRCH: the group is empty, which is what was wanted.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function tailOf(stream: NodeJS.ReadableStream): () => string {
  let text = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    text = `${text}${chunk}`.slice(-outputMaxChars);
  });
  // Destroying a pipe that is being read may give one; what was read so far is enough.
  stream.on("error", () => {});
  return () => text;
}
