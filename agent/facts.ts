import si from "systeminformation";

/**
 * The slow facts about a machine, for people. Run in a process of its own (`evenkeel-agent facts`), now and then: what it
 * loads would otherwise stay in the resident agent's memory for ever.
 */
export async function gatherFacts(): Promise<Record<string, string>> {
  const [system, cpu, memory, os, disks, interfaces] = await Promise.all([si.system(), si.cpu(), si.mem(), si.osInfo(), si.fsSize(), si.networkInterfaces()]);
  const facts: Record<string, string> = {
    "operating system": `${os.distro} ${os.release}`.trim(),
    kernel: os.kernel,
    architecture: os.arch,
    processor: `${cpu.manufacturer} ${cpu.brand}`.trim(),
    cores: String(cpu.cores),
    memory: gibibytes(memory.total),
    machine: `${system.manufacturer} ${system.model}`.trim(),
    virtual: system.virtual ? (system.virtualHost ?? "yes") : "no",
  };
  for (const one of Array.isArray(interfaces) ? interfaces : [interfaces]) {
    if (!one.internal && one.ip4 !== "") facts[`address ${one.iface}`] = one.ip4;
  }
  const root = disks.find((disk) => disk.mount === "/");
  if (root !== undefined) facts["root file system"] = `${gibibytes(root.used)} of ${gibibytes(root.size)} used`;
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== "").map(([name, value]) => [name.slice(0, 64), value.slice(0, 512)]));
}

function gibibytes(sizeBytes: number): string {
  return `${(sizeBytes / 2 ** 30).toFixed(1)} GiB`;
}
