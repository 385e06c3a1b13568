import { spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { LabError } from "./command.ts";

/**
 * Holds a lock between processes while `work` runs. Node has no flock(2), so a child holds it for us and lets go when
 * its input ends: that happens even if this process is killed, so a lock never outlives its owner.
 */
export async function withLock<T>(path: string, timeoutMs: number, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  const waitSeconds = String(timeoutMs / 1000);
  const holder = spawn("flock", ["-w", waitSeconds, path, "sh", "-c", "echo held; exec cat"], {
    detached: true, // Ctrl-C at the terminal must not drop the lock while we clean up
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise<void>((resolve) => holder.once("close", () => resolve()));
  holder.stdin.on("error", () => {});
  await new Promise<void>((resolve, reject) => {
    holder.stdout.once("data", () => resolve());
    holder.once("error", (error) => reject(new LabError("cannot-run-here", `flock: ${error.message}`)));
    holder.once("close", () => reject(new LabError("timeout", `another process held ${path} for ${timeoutMs} ms`)));
  });
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}
