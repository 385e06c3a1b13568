import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Flavour } from "./base-recipe.ts";
import { Lab, LabError } from "./lab.ts";
import { labNames, settingsPath, stateDirectoryOf } from "./settings.ts";

interface GlobalOptions {
  readonly name?: string;
  readonly state?: string;
  readonly json?: true;
}

const program = new Command("lab")
  .description(
    "Real Debian machines on this one, by systemd-nspawn: they boot, reboot, crash, hang and lose their network.\n" +
      "Needs root, the packages systemd-container and mmdebstrap, overlayfs and cgroup2; no network once the base is built.",
  )
  .enablePositionalOptions()
  .showHelpAfterError("(npm run lab -- --help lists the commands)")
  .addHelpText(
    "after",
    `
Examples:
  npm run lab -- up                             three nodes n1, n2, n3, booted
  npm run lab -- exec n1 systemctl --failed
  npm run lab -- publish toy 2.0 --reboot       a package for the nodes' next apt-get update
  npm run lab -- --name other up --nodes a,b    a second lab beside the first
  npm run lab -- wipe                           nothing is left`,
  );

for (const option of globalOptions()) program.addOption(option);
let commandOptions: GlobalOptions = {};

function globalOptions(): Option[] {
  return [
    new Option("--name <lab>", 'which lab (default: "lab")'),
    new Option("--state <directory>", "where its files are (default: .lab/NAME in the checkout)"),
    new Option("--json", "print the result as JSON"),
  ];
}

/** `--name x up` and `up --name x` are the same, so every command takes the global options too. */
function chosen(): GlobalOptions {
  return { ...program.opts<GlobalOptions>(), ...commandOptions };
}

function chosenName(): string {
  return chosen().name ?? "lab";
}

/** Progress goes to standard error: standard output is the result. */
function openLab(extra: { nodes?: readonly string[]; flavour?: Flavour } = {}): Lab {
  const { state } = chosen();
  const onProgress = (message: string): void => console.error(message);
  return new Lab({ name: chosenName(), onProgress, ...extra, ...(state === undefined ? {} : { stateDirectory: state }) });
}

function existingLab(): Lab {
  const { state } = chosen();
  const name = chosenName();
  if (!existsSync(settingsPath(state ?? stateDirectoryOf(name)))) {
    throw new LabError("bad-request", `there is no lab "${name}" yet: npm run lab -- --name ${name} up`);
  }
  return openLab();
}

function report(result: unknown, sentence: string): void {
  console.log(chosen().json === true ? JSON.stringify(result) : sentence);
}

program
  .command("up")
  .description("boot all nodes; builds the base system first if need be (half a minute, once)")
  .option("--nodes <names>", "names of the nodes, with commas", (text) => text.split(","))
  .addOption(new Option("--base <flavour>", "plain, or cluster: with keepalived, FRR, LXD …").choices(["plain", "cluster"]))
  .action(async (options: { nodes?: string[]; base?: Flavour }) => {
    const { nodes, base } = options;
    const lab = openLab({ ...(nodes === undefined ? {} : { nodes }), ...(base === undefined ? {} : { flavour: base }) });
    const startedMs = performance.now();
    console.error(`booting ${lab.nodes.join(", ")}`);
    await lab.up();
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    const addresses = lab.nodes.map((node) => `${node} ${lab.address(node)}`).join(", ");
    report({ hub: lab.hostAddress, nodes: await lab.status() }, `up in ${seconds} s: ${addresses}; the host is ${lab.hostAddress}`);
  });

program
  .command("down")
  .description("end everything of the lab; the nodes' files stay")
  .action(async () => {
    const lab = openLab();
    await lab.down();
    report({ down: lab.name }, `${lab.name} is down`);
  });

program
  .command("wipe")
  .description("down, and remove all files of the lab")
  .action(async () => {
    const lab = openLab();
    await lab.wipe();
    report({ wiped: lab.name }, `${lab.name} is gone`);
  });

program
  .command("status")
  .description("the nodes and their faults; without --name, of all labs")
  .action(async () => {
    const { name, state } = chosen();
    const all = name === undefined && state === undefined;
    const labs = all ? (await labNames()).map((found) => new Lab({ name: found })) : [existingLab()];
    const shown = await Promise.all(labs.map(async (lab) => ({ name: lab.name, nodes: await lab.status() })));
    const lines = shown.flatMap((lab) => lab.nodes.map((node) => statusLine(lab.name, node)));
    report(all ? shown : shown[0], lines.length === 0 ? `no lab here${all ? "" : ` by the name of ${chosenName()}`}` : lines.join("\n"));
  });

program
  .command("exec")
  .description("run a command in a node; its exit code is ours")
  .argument("<node>")
  .argument("<command...>")
  .passThroughOptions()
  .action(async (node: string, argv: string[]) => {
    // "exec n1 -- ls": the dashes are meant for us
    process.exitCode = await foreground(existingLab().enter(node, argv[0] === "--" ? argv.slice(1) : argv));
  });

program
  .command("shell")
  .description("a root shell in a node")
  .argument("<node>")
  .action(async (node: string) => {
    // script(1) makes a terminal inside the node: ours is not in its /dev/pts.
    const argv = process.stdin.isTTY ? ["script", "-qec", "bash -l", "/dev/null"] : ["bash", "-l"];
    process.exitCode = await foreground(existingLab().enter(node, argv));
  });

const faults = {
  start: "switch a node on",
  stop: "power a node off, in order",
  reboot: "reboot a node and wait for it",
  crash: "pull the power",
  freeze: "hang everything in the node; its kernel still answers ping",
  thaw: "end of freeze",
  unplug: "pull the network cable: carrier lost",
  plug: "put the cable back",
  isolate: "cut the node off at the switch: it keeps its carrier",
  rejoin: "end of isolate",
} as const;

for (const [fault, description] of Object.entries(faults) as [keyof typeof faults, string][]) {
  program
    .command(fault)
    .description(description)
    .argument("<node>")
    .action(async (node: string) => {
      const lab = existingLab();
      await lab[fault](node);
      const status = (await lab.status()).find((candidate) => candidate.name === node);
      if (status !== undefined) report(status, statusLine(lab.name, status));
    });
}

program
  .command("disk")
  .description("attach a disk; it appears as /dev/disk/by-id/scsi-SERIAL")
  .argument("<node>")
  .argument("<serial>")
  .argument("<size>", "bytes, or with K, M, G, T", sizeBytes)
  .action(async (node: string, serial: string, size: number) => {
    const disk = await existingLab().attachDisk(node, serial, size);
    report(disk, `${node} has ${disk.byId} (${disk.device})`);
  });

program
  .command("undisk")
  .description("pull a disk; its content is there again when it is attached again")
  .argument("<node>")
  .argument("<serial>")
  .action(async (node: string, serial: string) => {
    await existingLab().detachDisk(node, serial);
    report({ node, pulled: serial }, `${serial} is pulled from ${node}`);
  });

program
  .command("publish")
  .description("put a toy package with a service into the lab's apt repository")
  .argument("<package>")
  .argument("<version>")
  .option("--reboot", "installing it asks for a reboot")
  .option("--postinst <script>", "shell lines to run when it is configured")
  .action(async (name: string, version: string, options: { reboot?: boolean; postinst?: string }) => {
    await existingLab().publish(name, version, options);
    report({ published: name, version }, `${name} ${version} is in the repository`);
  });

program
  .command("mirror")
  .description("put real Debian packages, and what they need, into the lab's apt repository")
  .argument("[packages...]", "default: a handful of small ones")
  .action(async (packages: string[]) => {
    await existingLab().mirror(packages.length === 0 ? undefined : packages);
    report({ mirrored: packages }, "they are in the repository: apt-get update in the nodes");
  });

function statusLine(lab: string, node: Awaited<ReturnType<Lab["status"]>>[number]): string {
  const notes = [node.unplugged ? "unplugged" : "", node.isolated ? "isolated" : "", ...node.disks.map((serial) => `disk ${serial}`)];
  const words = [lab, node.name, node.address, node.state, ...notes.filter((note) => note !== "")];
  return words.join("  ");
}

function sizeBytes(text: string): number {
  const parts = /^(\d+)([KMGT]?)$/i.exec(text);
  if (parts === null) throw new InvalidArgumentError("Write 268435456, or 256M.");
  return Number(parts[1]) * 1024 ** " KMGT".indexOf((parts[2] || " ").toUpperCase());
}

function foreground(entered: { readonly argv: string[]; readonly env: Record<string, string> }): Promise<number> {
  const [file = "", ...args] = entered.argv;
  const env = { ...entered.env, TERM: process.env["TERM"] ?? "dumb" };
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit", env });
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 130));
  });
}

for (const command of program.commands) {
  for (const option of globalOptions()) command.addOption(option.hideHelp());
}
program.hook("preAction", (_program, command) => {
  commandOptions = command.opts<GlobalOptions>();
});

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof LabError)) throw error;
  console.error(`lab: ${error.message}`);
  process.exitCode = 1;
}
