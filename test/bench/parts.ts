import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

/** Where the parts' programs are, in the node. */
export const partsDir = "/var/tmp/bench-parts";

interface Part {
  readonly name: string;
  readonly file: string;
}

const places = '{ settingsDir: "/etc/evenkeel", stateDir: "/var/lib/evenkeel", runDir: "/run/evenkeel" }';

/** What the resident agent is made of, in an order in which each stands on those before. Each is used a little. */
const parts: readonly (Part & { readonly source: string })[] = [
  { name: "zod", file: "zod", source: 'import * as z from "zod"; z.strictObject({ name: z.string(), sizes: z.array(z.number()).max(5) }).parse({ name: "one", sizes: [1] });' },
  { name: "yaml", file: "yaml", source: 'import { parseDocument } from "yaml"; parseDocument("one: [1, two]\\n").toJS();' },
  { name: "commander", file: "commander", source: 'import { Command } from "commander"; new Command("part").option("--json").parse([], { from: "user" });' },
  {
    name: "kinds, engine, Git: the desired state, read from the repository, and one plan",
    file: "engine",
    source: `import { kinds } from "../../shared/kinds/index.ts"; import { openMachine } from "../../agent/machine.ts"; import { readSettings } from "../../agent/settings.ts";
      const places = ${places};
      void (async () => {
        const read = await readSettings(places);
        if (!read.ok) throw new Error(read.message);
        const machine = await openMachine(read.settings, places, kinds);
        const choice = await machine.chooser.last();
        if (!choice?.ok) throw new Error("nothing is chosen");
        await machine.engine.plan(choice.desired);
      })();`,
  },
  {
    name: "D-Bus, connected",
    file: "dbus",
    source: 'import { UnitSignals } from "../../agent/host/unit-signals.ts"; import { systemClock } from "../../agent/system-clock.ts"; new UnitSignals(systemClock, () => {}).watch(["cron.service"]);',
  },
  {
    name: "TLS, one handshake",
    file: "tls",
    source: `import { connect } from "node:tls"; import { readFileSync as read } from "node:fs";
      const { broker } = JSON.parse(read("/etc/evenkeel/agent.json", "utf8"));
      const [key, cert, ca] = ["node.key", "node.crt", "ca.crt"].map((name) => read("/etc/evenkeel/" + name));
      const socket = connect({ host: broker.host, port: broker.port, key, cert, ca }, () => socket.destroy()).on("error", (error) => { throw error; });`,
  },
  {
    name: "MQTT, connected over TLS",
    file: "mqtt",
    source: `import mqtt from "mqtt"; import { readFileSync } from "node:fs";
      const agent = JSON.parse(readFileSync("/etc/evenkeel/agent.json", "utf8"));
      const [key, cert, ca] = ["node.key", "node.crt", "ca.crt"].map((name) => readFileSync("/etc/evenkeel/" + name));
      mqtt.connect({ protocol: "mqtts", host: agent.broker.host, port: agent.broker.port, clientId: agent.node, protocolVersion: 4, key, cert, ca }).on("error", (error) => { throw error; });`,
  },
];

/** As the agent does at rest (agent/host/memory-back.ts). */
const ending = 'import { setFlagsFromString } from "node:v8"; import { runInNewContext } from "node:vm"; setFlagsFromString("--expose-gc"); setTimeout(() => runInNewContext("gc")({ type: "major", execution: "sync", flavor: "last-resort" }), 4_000); setInterval(() => {}, 1e9);';

/** Writes one program for each part, with all parts before it, bundled as the agent is. @param root the node's. */
export async function bundleParts(root: string): Promise<readonly Part[]> {
  await mkdir(join(root, partsDir), { recursive: true });
  for (const [at, { file }] of parts.entries()) {
    const sources = parts.slice(0, at + 1).map(({ source }) => `{\n${source}\n}`);
    const imports: string[] = [];
    const bodies = [...sources, ending].map((source) => source.replaceAll(/import [^;]+ from "[^"]+";/g, (line) => {
      if (!imports.includes(line)) imports.push(line);
      return "";
    }));
    await build({
      stdin: { contents: [...imports, ...bodies].join("\n"), resolveDir: import.meta.dirname, loader: "ts" },
      outfile: join(root, partsDir, `${file}.cjs`),
      bundle: true,
      platform: "node",
      target: "node26",
      format: "cjs",
      minify: true,
      keepNames: true,
      logLevel: "warning",
    });
  }
  return parts;
}
