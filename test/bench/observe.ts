import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { bundleDir, root } from "../../image/bundle.ts";
import { Lab } from "../lab/lab.ts";
import type { Context } from "./context.ts";
import type { Input, Observed } from "./observe-driver.ts";
import { figure, median } from "./row.ts";
import type { Row } from "./row.ts";

const NODE = "n1";
const TIMEOUT_MS = 5 * 60_000;

/** What each kind costs when there is nothing to do: the processes that it starts, and the time until it knows. */
export async function observe(context: Context): Promise<Row> {
  const lab = new Lab({ name: "bench-observe", nodes: [NODE], flavour: "cluster", binds: [{ from: bundleDir, to: "/usr/lib/evenkeel" }], downOnExit: true });
  try {
    await lab.wipe();
    await lab.up();
    await lab.attachDisk(NODE, "BENCH", 64_000_000);
    const driver = join(lab.stateDirectory, "observe.mjs");
    await build({ entryPoints: [join(root, "test/bench/observe-driver.ts")], outfile: driver, bundle: true, platform: "node", target: "node26", format: "esm", banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' }, logLevel: "warning" });
    await lab.writeFile(NODE, "/opt/observe.mjs", readFileSync(driver));
    const input: Input = { sections: sectionsOf(lab), address: lab.address(NODE), runs: context.options.runs };
    await lab.writeFile(NODE, "/opt/input.json", JSON.stringify(input));
    context.progress("each kind looks, with nothing to do");
    const { code, stdout, stderr } = await lab.exec(NODE, ["/usr/lib/evenkeel/node", "/opt/observe.mjs", "/opt/input.json"], { timeoutMs: TIMEOUT_MS });
    if (code !== 0) throw new Error(`the kinds could not be asked: ${stderr.slice(-3_000)}`);
    return rowOf(JSON.parse(stdout) as readonly Observed[]);
  } finally {
    await lab.wipe();
  }
}

function rowOf(observed: readonly Observed[]): Row {
  const all = observed.reduce((sum, { ms }) => sum + median(ms), 0);
  return {
    name: "observe",
    title: "what each kind costs when there is nothing to do",
    figures: [
      ...observed.flatMap(({ kind, ms, processes }) => [figure(kind, "ms", ms), figure(`  share of all kinds together`, "%", (100 * median(ms)) / all), figure("  processes", "processes", processes)]),
      figure("all of them, one after the other", "ms", all),
      figure("processes of all", "processes", observed.reduce((sum, { processes }) => sum + processes, 0)),
    ],
    requirements: [],
    notes: [
      `On a real node, in a warm process, ${observed[0]?.ms.length ?? 0} runs each, median: looked and planned alone, the section of each kind small and in force.`,
      "Not here: downloads (no process, by its recorded cases), kubernetes (two at most: systemctl and kubectl) and drain, which converges nothing. A converge asks systemd once for all kinds.",
    ],
  };
}

function sectionsOf(lab: Lab): Input["sections"] {
  const network = lab.hostAddress.replace(/\d+$/, "");
  return {
    apt: { options: { "APT::Install-Recommends": false } },
    packages: { jq: "present", nftables: "present" },
    modules: { floppy: "blocked" },
    sysctl: { "net.core.somaxconn": 1024 },
    host: { timeZone: "Etc/UTC" },
    disks: { devices: { "scsi-BENCH": { filesystem: "ext4", mount: "/srv/bench" } } },
    groups: { bench: {} },
    users: { bench: { shell: "/bin/bash" } },
    files: { "/etc/bench": { content: "text\n" } },
    network: { replaces: ["/etc/systemd/network/10-host0.network"], interfaces: { host0: { addresses: [`${lab.address(NODE)}/24`], gateway4: lab.hostAddress } } },
    firewall: { policy: "drop", allow: { http: "any", ssh: "any" } },
    frr: { static: { "203.0.113.0/24": { blackhole: true } } },
    keepalived: { instances: { bench: { routerId: 51, interface: "host0", addresses: [`${network}100/24`] } } },
    services: { ssh: { running: true } },
    lxd: { pools: { local: { driver: "dir" } } },
  };
}
