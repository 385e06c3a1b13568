import type { Lab } from "../lab/lab.ts";

/** Reads what a systemd service in a node takes, from the kernel's own books. */

export interface Memory {
  readonly rssMiB: number;
  readonly pssMiB: number;
}

/** Of the service's main process. PSS divides shared pages by all that map them: nodes that share a Node binary on one host make it look small. */
export async function memoryOf(lab: Lab, node: string, unit: string): Promise<Memory> {
  const text = await must(lab, node, `cat "/proc/$(systemctl show -p MainPID --value ${unit})/smaps_rollup"`);
  const of = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(text)?.[1]) / 1_024;
  const memory = { rssMiB: of("Rss"), pssMiB: of("Pss") };
  if (Number.isNaN(memory.rssMiB)) throw new Error(`no memory of ${unit} in ${text.slice(0, 300)}`);
  return memory;
}

/** CPU time in milliseconds that everything in the service's cgroup has ever used, ended children included. */
export async function cpuMsOf(lab: Lab, node: string, unit: string): Promise<number> {
  const text = await must(lab, node, `cat /sys/fs/cgroup/system.slice/${unit}.service/cpu.stat`);
  const usec = Number(/^usage_usec (\d+)$/m.exec(text)?.[1]);
  if (Number.isNaN(usec)) throw new Error(`no CPU time of ${unit} in ${text.slice(0, 300)}`);
  return usec / 1_000;
}

export async function must(lab: Lab, node: string, script: string, timeoutMs = 60_000): Promise<string> {
  const { code, stdout, stderr } = await lab.shell(node, script, { timeoutMs });
  if (code !== 0) throw new Error(`on ${node}: ${script.slice(0, 200)}\n${stderr}${stdout}`);
  return stdout;
}
