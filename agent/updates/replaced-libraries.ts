import type { Probe } from "../../shared/kinds/kind.ts";

/**
 * Services that still run on files which an upgrade has replaced: the kernel marks a mapped file that is gone from its
 * directory with `(deleted)` (proc_pid_maps(5)). Only executable mappings below the system's own directories count: temporary,
 * shared and anonymous memory looks the same. What belongs to no unit of this system (containers, virtual machines,
 * somebody's session) is not for an update of this system to end.
 */

/** More than any node of ours runs; a look at one takes some 0.2 ms. */
const PROCESSES_MAX = 5_000;
const MAPS_MAX_BYTES = 16 * 1024 * 1024;

/** The name for PID 1, which is no service. */
export const INIT = "systemd (PID 1)";

export function mapsReplaced(maps: string): boolean {
  for (const line of maps.split("\n")) {
    if (!line.endsWith(" (deleted)")) continue;
    const found = /^\S+ ..x. \S+ \S+ \S+ +(\/.*) \(deleted\)$/.exec(line);
    if (found !== null && /^\/(usr\/(?!local\/)|lib|bin\/|sbin\/)/.test(found[1]!)) return true;
  }
  return false;
}

/** The unit in /proc/PID/cgroup (version 2, or systemd's own hierarchy of version 1), if it is a service of this system. */
export function serviceOf(cgroup: string): string | null {
  const path = /^(?:0::|\d+:name=systemd:)(\/system\.slice\/.*)$/m.exec(cgroup)?.[1];
  if (path === undefined) return null;
  const unit = path.split("/").slice(2).find((part) => !part.endsWith(".slice"));
  return unit?.endsWith(".service") === true ? unit : null;
}

/** Sorted names of services; null when /proc cannot be read, which says nothing. */
export async function findReplaced(probe: Probe): Promise<readonly string[] | null> {
  const pids = ((await probe.list("/proc").catch(() => null)) ?? []).filter((name) => /^\d+$/.test(name));
  const maps = await readOf(probe, "1", "maps");
  if (pids.length === 0 || maps === null) return null;
  const found = new Set<string>(mapsReplaced(maps) ? [INIT] : []);
  for (const pid of pids.slice(0, PROCESSES_MAX)) {
    const cgroup = await readOf(probe, pid, "cgroup");
    const service = cgroup === null ? null : serviceOf(cgroup);
    if (service === null || found.has(service)) continue;
    if (mapsReplaced((await readOf(probe, pid, "maps")) ?? "")) found.add(service);
  }
  return [...found].toSorted();
}

/** A process that ends while it is looked at answers ENOENT or ESRCH: then there is nothing to restart. */
async function readOf(probe: Probe, pid: string, file: string): Promise<string | null> {
  const bytes = await probe.read(`/proc/${pid}/${file}`, MAPS_MAX_BYTES).catch(() => null);
  return bytes === null ? null : Buffer.from(bytes).toString("utf8");
}
