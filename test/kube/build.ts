import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, openSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheDirectory } from "../lab/base.ts";
import { lastLines } from "../lab/command.ts";
import { withLock } from "../lab/lock.ts";

/** The API server to test Kubernetes with: built once from Debian's source, as there is none to be had ready-made. */

const script = join(import.meta.dirname, "build.sh");
const BUILD_TIMEOUT_MS = 60 * 60_000;

/** Where the programs are, or will be. */
export function kubeDirectory(): string {
  const key = createHash("sha256").update(readFileSync(script)).digest("hex").slice(0, 12);
  return join(dirname(cacheDirectory()), "kube", key);
}

export function isBuilt(): boolean {
  return existsSync(join(kubeDirectory(), "kube-apiserver"));
}

/**
 * Waits for the programs, building them if nobody does. At the lowest priority: it goes on beside other tests, and takes what
 * they leave. Answers what went wrong, or null.
 */
export async function buildKube(): Promise<string | null> {
  if (isBuilt()) return null;
  const directory = kubeDirectory();
  const log = `${directory}.log`;
  await mkdir(dirname(directory), { recursive: true });
  return withLock(`${directory}.lock`, BUILD_TIMEOUT_MS, async () => {
    const out = openSync(log, "w");
    const child = spawn("nice", ["-n", "19", "sh", script, directory], { stdio: ["ignore", out, out], detached: true });
    // With all that it has started: make and the compilers would go on by themselves.
    const stop = (): void => {
      if (child.pid !== undefined) process.kill(-child.pid);
    };
    process.once("exit", stop);
    const code = await new Promise<number>((resolve) => child.once("close", (exit) => resolve(exit ?? 1)));
    process.off("exit", stop);
    return code === 0 ? null : `building the Kubernetes API server failed; the last lines of ${log}:\n${lastLines(readFileSync(log, "utf8"), 5)}`;
  });
}

if (import.meta.main) {
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));
  const problem = await buildKube();
  if (problem !== null) {
    console.error(problem);
    process.exit(1);
  }
  console.log(kubeDirectory());
}
