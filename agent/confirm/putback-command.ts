import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { Processes } from "../host/process.ts";
import { RealHost } from "../host/real.ts";
import type { Places } from "../settings.ts";
import { aloneBy } from "./alone.ts";
import { backAtBoot, backInTime } from "./back.ts";
import { confirmFile, keptPath } from "./record-file.ts";

/**
 * What the fuse starts, in a process of its own. With an id: the time of that change is up. At boot: the files of a change
 * that the last boot left unconfirmed are put back before anything reads them; the agent does the rest when it starts.
 */
export async function putBackCommand(places: Places, wish: { readonly id: string; readonly earlyMs: number } | { readonly boot: true }): Promise<void> {
  const processes = new Processes();
  const parts = { store: confirmFile(places.stateDir), host: new RealHost(processes, keptPath(places.stateDir)), bootId: await readBootId(), nowMs: Date.now, log: (message: string) => console.log(message) };
  // The agent may still confirm it, up to the very end.
  if ("id" in wish) await setTimeout(Math.max(0, wish.earlyMs - performance.now()));
  await aloneBy(lockPath(places), processes.run)(() => ("boot" in wish ? backAtBoot(parts) : backInTime(parts, wish.id)));
}

export const lockPath = (places: Places) => join(places.stateDir, "confirm.lock");

export async function readBootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
