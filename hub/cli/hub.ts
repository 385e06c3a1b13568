import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { Command } from "commander";
import { readSettings, splitHosts } from "../settings.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

/** `evenkeel hub`: runs the hub in the foreground, as systemd wants it. */

const settingsPathDefault = "/etc/evenkeel/hub.yaml";

interface HubFlags {
  readonly config?: string;
  readonly dataDir?: string;
  readonly cluster?: string;
  readonly publicHosts?: string;
  readonly https?: string;
  readonly page?: string;
  readonly mqtt?: string;
  readonly logLevel?: string;
  readonly resetAdminToken?: boolean;
}

export function hubCommand(terminal: Terminal = processTerminal()): Command {
  return new Command("hub")
    .description("run the hub: broker, repository, API and status page, until it is stopped")
    .option("--config <file>", `settings in YAML or JSON (default: ${settingsPathDefault}, if it is there)`)
    .option("--data-dir <dir>", "database, repository and keys (EVENKEEL_HUB_DATA_DIR)")
    .option("--cluster <name>", "the cluster's name, as in cluster.yaml (EVENKEEL_HUB_CLUSTER)")
    .option("--public-hosts <list>", "names and addresses under which nodes and people reach the hub, the first is told to nodes (EVENKEEL_HUB_PUBLIC_HOSTS)")
    .option("--https <address:port>", "API, Git, enrolment (default: 0.0.0.0:7443)")
    .option("--page <address:port>", "status page and API over plain HTTP (default: 127.0.0.1:7480)")
    .option("--mqtt <address:port>", "MQTT for nodes (default: 0.0.0.0:8883)")
    .option("--log-level <level>", "debug, info, warn, error or silent")
    .option("--reset-admin-token", "make a new admin token; the earlier one ends")
    .action(async (flags: HubFlags) => {
      const path = flags.config ?? (existsSync(settingsPathDefault) ? settingsPathDefault : undefined);
      let file: { path: string; text: string } | undefined;
      try {
        if (path !== undefined) file = { path, text: readFileSync(path, "utf8") };
      } catch (error) {
        terminal.err(`evenkeel hub: ${path} cannot be read: ${(error as Error).message}\n`);
        return terminal.exit(2);
      }
      const read = readSettings({
        ...(file !== undefined && { file }),
        env: terminal.env,
        flags: {
          dataDir: flags.dataDir,
          cluster: flags.cluster,
          publicHosts: flags.publicHosts === undefined ? undefined : splitHosts(flags.publicHosts),
          httpsListen: flags.https,
          pageListen: flags.page,
          mqttListen: flags.mqtt,
          logLevel: flags.logLevel,
        },
        hostname: hostname(),
      });
      if (!read.ok) {
        terminal.err(`evenkeel hub: ${read.message}\n`);
        return terminal.exit(2);
      }
      // Loaded only here: the other commands need none of it.
      const { runHub } = await import("../main.ts");
      // Whatever would still hold the process (after a stop that took too long) is not waited for.
      process.exit(await runHub(read.settings, { resetAdminToken: flags.resetAdminToken ?? false }));
    });
}
