import type { DisksWant } from "./disks-section.ts";
import type { Probe } from "./kind.ts";

/** ZFS as it reports itself. */
export interface ZfsReport {
  readonly error: string | null;
  /** Pool → its health: ONLINE, DEGRADED … */
  readonly pools: ReadonlyMap<string, string>;
  /** `POOL/DATASET` → property → value; of properties that the section sets. */
  readonly datasets: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

const NOTHING = { pools: new Map<string, string>(), datasets: new Map<string, ReadonlyMap<string, string>>() };

/** Two processes where pools are declared: the module's kstats name pools, but not their datasets' properties. */
export async function readZfs(probe: Probe, want: DisksWant): Promise<ZfsReport> {
  const pools = await probe.run(["zpool", "list", "-H", "-o", "name,health"]);
  if (pools.code === 127) return { ...NOTHING, error: "ZFS is not installed: declare zfsutils-linux under packages (on Debian out of contrib, with zfs-dkms)" };
  if (pools.code !== 0) return { ...NOTHING, error: `zpool list ended with code ${pools.code}: ${pools.stderr.trim()}` };
  const found = new Map(lines(pools.stdout).map(([name = "", health = ""]) => [name, health]));
  const properties = [...new Set(Object.values(want.zpools).flatMap(({ datasets }) => Object.values(datasets).flatMap((dataset) => Object.keys(dataset.properties))))].toSorted();
  const declared = Object.keys(want.zpools).filter((name) => found.has(name));
  if (declared.length === 0) return { error: null, pools: found, datasets: new Map() };
  const output = await probe.run(["zfs", "get", "-H", "-r", "-t", "filesystem", "-o", "name,property,value", ["type", ...properties].join(","), ...declared]);
  if (output.code !== 0) return { ...NOTHING, error: `zfs get ended with code ${output.code}: ${output.stderr.trim()}` };
  const datasets = new Map<string, Map<string, string>>();
  for (const [name = "", property = "", value = ""] of lines(output.stdout)) {
    const known = datasets.get(name) ?? new Map<string, string>();
    datasets.set(name, known.set(property, value));
  }
  return { error: null, pools: found, datasets };
}

function lines(text: string): string[][] {
  return text.split("\n").filter((line) => line !== "").map((line) => line.split("\t"));
}
