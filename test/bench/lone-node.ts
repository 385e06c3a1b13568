import { execFileSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bundleAgent, root } from "../../image/bundle.ts";
import { ConvergeReport } from "../../shared/protocol/report.ts";
import { Lab } from "../lab/lab.ts";
import { asNodeFile } from "./state.ts";
import type { State } from "./state.ts";

/** One real node whose agent follows a repository on its own disk, without a hub: for what a node does by itself. */
export class LoneNode {
  readonly lab: Lab;
  readonly #repository: string;
  readonly #key: string;

  private constructor(lab: Lab, directory: string) {
    this.lab = lab;
    this.#repository = join(directory, "repository");
    this.#key = join(directory, "key");
  }

  static async start(name: string): Promise<LoneNode> {
    await bundleAgent();
    const directory = join(root, ".lab", `${name}-files`);
    await rm(directory, { recursive: true, force: true });
    await mkdir(join(directory, "repository", "nodes"), { recursive: true });
    const binds = [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }, { from: join(directory, "repository"), to: "/srv/cluster" }];
    const lab = new Lab({ name, nodes: ["n1"], binds, downOnExit: true });
    await lab.wipe();
    await lab.up();
    const node = new LoneNode(lab, directory);
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", node.#key, "-C", "bench"]);
    const ssh = execFileSync("cat", [`${node.#key}.pub`], { encoding: "utf8" }).trim();
    node.#git("init", "-q", "-b", "main");
    await writeFile(join(node.#repository, "cluster.yaml"), JSON.stringify({ name: "bench", signers: [{ name: "bench", ssh }], guard: { removalsMax: 10_000 } }));
    await node.commit({ packages: [], files: 0, units: 0 });
    const settings = { v: 1, node: "n1", cluster: "bench", hub: null, broker: null, git: { url: "/srv/cluster", branch: "main" }, signers: [{ name: "bench", ssh }], commit: null };
    await node.sh("mkdir -p /etc/evenkeel && ln -sf /usr/lib/evenkeel/evenkeel-agent /usr/bin/evenkeel-agent && cp /usr/lib/evenkeel/evenkeel-agent.service /etc/systemd/system/ && chown -R root:root /srv/cluster 2>/dev/null; true");
    await lab.writeFile("n1", "/etc/evenkeel/agent.json", JSON.stringify(settings), 0o600);
    await node.sh("systemctl daemon-reload && systemctl enable -q --now evenkeel-agent");
    return node;
  }

  #git(...args: string[]): void {
    execFileSync("git", ["-C", this.#repository, "-c", "gpg.format=ssh", "-c", `user.signingKey=${this.#key}.pub`, "-c", "user.name=bench", "-c", "user.email=bench@example", ...args], { stdio: "ignore" });
  }

  /** Signs and commits a state; the next apply takes it. */
  async commit(state: State): Promise<void> {
    await writeFile(join(this.#repository, "nodes", "n1.yaml"), asNodeFile(state));
    this.#git("add", "-A");
    this.#git("commit", "-q", "-S", "-m", "state");
  }

  /** Asks the resident agent to converge now, and for its own account of it. */
  async apply(): Promise<ConvergeReport> {
    const outcome = await this.lab.exec("n1", ["evenkeel-agent", "apply", "--json"], { timeoutMs: 600_000 });
    try {
      return ConvergeReport.parse(JSON.parse(outcome.stdout));
    } catch {
      throw new Error(`apply failed: ${outcome.stdout}${outcome.stderr}`);
    }
  }

  async sh(script: string, timeoutMs = 600_000): Promise<string> {
    const outcome = await this.lab.shell("n1", script, { timeoutMs });
    if (outcome.code !== 0) throw new Error(`${script}\n${outcome.stdout}${outcome.stderr}`);
    return outcome.stdout;
  }

  async end(): Promise<void> {
    await this.lab.wipe();
  }
}
