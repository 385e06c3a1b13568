import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "../../image/bundle.ts";
import type { WrittenSettings } from "../../hub/settings.ts";
import type { Lab } from "./lab.ts";

/** A hub of its own kind of life: one that can be killed, or that lives on one of the nodes and goes down with it. */
export interface HubHome {
  /** Where nodes and people reach it. */
  readonly address: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** As a power cut would: no goodbye. */
  kill(): Promise<void>;
  /** A file of its data directory, as text. */
  read(name: string): Promise<string>;
}

const START_TIMEOUT_MS = 60_000;

/** `evenkeel hub` on this machine, as a process. */
export class HubProcess implements HubHome {
  readonly address: string;
  readonly #directory: string;
  readonly #settings: WrittenSettings;
  #child: ChildProcess | null = null;

  constructor(directory: string, address: string, settings: WrittenSettings) {
    this.#directory = directory;
    this.address = address;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const config = join(this.#directory, "hub.json");
    await writeFile(config, JSON.stringify({ ...this.#settings, dataDir: join(this.#directory, "hub") }));
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(root, "hub", "cli", "main.ts"), "hub", "--config", config], { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    const log = (text: string): void => void appendFile(join(this.#directory, "hub.log"), text).catch(() => {});
    child.stderr.on("data", (chunk: Buffer) => log(chunk.toString()));
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("the hub did not start in time")), START_TIMEOUT_MS);
      // Whatever becomes of the test: the hub ends with it.
      process.once("exit", () => child.kill("SIGKILL"));
      createInterface({ input: child.stdout }).on("line", (line) => {
        log(`${line}\n`);
        if (!line.includes('"the hub is up"')) return;
        clearTimeout(late);
        resolve();
      });
      child.once("exit", (code) => {
        clearTimeout(late);
        reject(new Error(`the hub ended with ${code} before it was up: see ${join(this.#directory, "hub.log")}`));
      });
    });
  }

  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  read(name: string): Promise<string> {
    return readFile(join(this.#directory, "hub", name), "utf8");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, "exit");
  }
}

const unit = `[Unit]
Description=Evenkeel hub
After=network-online.target

[Service]
ExecStart=/opt/evenkeel/node_modules/.bin/node --disable-warning=ExperimentalWarning /opt/evenkeel/hub/cli/main.ts hub --config /etc/evenkeel/hub.json
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
`;

/** The hub as a service on one of the lab's nodes; the project must be bound at /opt/evenkeel. */
export class HubOnNode implements HubHome {
  readonly address: string;
  readonly #lab: Lab;
  readonly #node: string;
  readonly #settings: WrittenSettings;

  constructor(lab: Lab, node: string, settings: WrittenSettings) {
    this.address = lab.address(node);
    this.#lab = lab;
    this.#node = node;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    if (!existsSync(join(root, "node_modules"))) throw new Error("the project is not set up");
    await this.#lab.writeFile(this.#node, "/etc/evenkeel/hub.json", JSON.stringify({ ...this.#settings, dataDir: "/var/lib/evenkeel-hub" }));
    await this.#lab.writeFile(this.#node, "/etc/systemd/system/evenkeel-hub.service", unit);
    await this.#shell("systemctl daemon-reload && systemctl enable -q --now evenkeel-hub && for i in $(seq 300); do journalctl -u evenkeel-hub | grep -q hub.is.up && exit 0; sleep 0.2; done; journalctl -u evenkeel-hub | tail -20 >&2; exit 1");
  }

  async stop(): Promise<void> {
    await this.#lab.shell(this.#node, "systemctl disable -q --now evenkeel-hub", { timeoutMs: 60_000 }).catch(() => {});
  }

  async kill(): Promise<void> {
    await this.#shell("systemctl kill --signal=SIGKILL evenkeel-hub");
  }

  read(name: string): Promise<string> {
    return this.#lab.readFile(this.#node, `/var/lib/evenkeel-hub/${name}`);
  }

  async #shell(script: string): Promise<void> {
    const { code, stderr } = await this.#lab.shell(this.#node, script, { timeoutMs: 90_000 });
    if (code !== 0) throw new Error(`the hub on ${this.#node}: ${stderr}`);
  }
}
