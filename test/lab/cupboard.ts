import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { startHub } from "../../hub/main.ts";
import type { RunningHub } from "../../hub/main.ts";
import { makeLog } from "../../hub/log.ts";
import { SettingsSchema } from "../../hub/settings.ts";
import { root } from "../../image/bundle.ts";
import { ClusterSummary, NodeAddAnswer, NodeDetail } from "../../shared/protocol/api.ts";
import { CoordinationSummary } from "../../shared/protocol/rollout.ts";
import type { HubHome } from "./hub-process.ts";
import type { Lab } from "./lab.ts";

export interface CupboardOptions {
  /** Keys, the hub's data, and the owner's clone of the repository. */
  readonly directory: string;
  readonly lab: Lab;
  /** 0 for any free one. */
  readonly pagePort?: number;
  /** The cluster repository to begin with; default git-config/. */
  readonly example?: string;
  readonly clusterName?: string;
  /** For somebody who watches: a toy package to update, and soaks of seconds. */
  readonly demo?: boolean;
  /** A hub that lives elsewhere than in this process. */
  readonly home?: HubHome;
}

const CALM_TIMEOUT_MS = 60_000;
const CONVERGE_TIMEOUT_MS = 120_000;
const API_TIMEOUT_MS = 30_000;

/**
 * A hub, an owner with a signing key and a clone, and the lab's nodes enrolled: what the demo shows, and what the tests
 * and the bench stand on. Everything goes the way a person would go: the `evenkeel` command, `git push`, and the one line
 * that `node add` prints.
 */
/** As the example writes it. */
const EXAMPLE_NETWORK = "10.77.1.";

export class Cupboard {
  readonly directory: string;
  readonly lab: Lab;
  readonly clone: string;
  readonly #pagePort: number;
  readonly #example: string;
  readonly #clusterName: string;
  readonly #demo: boolean;
  readonly #home: HubHome | null;
  #token = "";
  #ca = "";
  #hub: RunningHub | null = null;

  constructor(options: CupboardOptions) {
    this.directory = options.directory;
    this.lab = options.lab;
    this.clone = join(options.directory, "cluster");
    this.#pagePort = options.pagePort ?? 0;
    this.#example = options.example ?? join(root, "git-config");
    this.#home = options.home ?? null;
    this.#demo = options.demo ?? false;
    this.#clusterName = options.clusterName ?? "cupboard";
  }

  get hub(): RunningHub {
    if (this.#hub === null) throw new Error("the hub is not running");
    return this.#hub;
  }

  /** Starts the hub on the lab's bridge, where the nodes reach it and nobody else does. */
  async start(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    if (this.#home !== null) {
      await this.#home.start();
      this.#token = (await this.#home.read("admin.token")).trim();
      this.#ca = await this.#home.read("ca.pem");
      return this.#writeOwner();
    }
    const settings = SettingsSchema.parse({
      dataDir: join(this.directory, "hub"),
      cluster: this.#clusterName,
      publicHosts: ["hub", this.lab.hostAddress],
      httpsListen: `${this.lab.hostAddress}:7443`,
      mqttListen: `${this.lab.hostAddress}:8883`,
      pageListen: `127.0.0.1:${this.#pagePort}`,
    });
    const log = makeLog("info", { write: (line: string) => void this.#log(line) } as never);
    this.#hub = await startHub(settings, { log });
    this.#token = this.#hub.adminToken ?? "";
    this.#ca = this.#hub.caPem;
    await this.#writeOwner();
  }

  async stop(): Promise<void> {
    await this.#home?.stop();
    await this.#hub?.stop();
    this.#hub = null;
  }

  async #log(line: string): Promise<void> {
    await writeFile(join(this.directory, "hub.log"), line, { flag: "a" });
  }

  /** The owner's signing key, git settings and access to the hub, as files that git and the `evenkeel` command read. */
  async #writeOwner(): Promise<void> {
    const key = join(this.directory, "owner");
    if (!existsSync(key)) await this.#must("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "owner@cupboard", "-f", key]);
    const token = this.#token;
    const ca = join(this.directory, "ca.pem");
    await writeFile(ca, this.#ca);
    await writeFile(join(this.directory, "credentials"), `https://owner:${token}@${this.#address}:7443\n`, { mode: 0o600 });
    const lines = [
      "[user]",
      "\tname = Owner",
      "\temail = owner@cupboard",
      `\tsigningKey = ${key}.pub`,
      "[gpg]",
      "\tformat = ssh",
      "[commit]",
      "\tgpgSign = true",
      `[http "https://${this.#address}:7443"]`,
      `\tsslCAInfo = ${ca}`,
      `[credential "https://${this.#address}:7443"]`,
      `\thelper = store --file=${join(this.directory, "credentials")}`,
      "[push]",
      "\tdefault = simple",
    ];
    await writeFile(join(this.directory, "gitconfig"), `${lines.join("\n")}\n`);
    await mkdir(join(this.directory, ".evenkeel"), { recursive: true });
    await writeFile(join(this.directory, ".evenkeel", "hub.json"), JSON.stringify({ hub: this.apiUrl, token, ca: this.#ca }, null, 2), { mode: 0o600 });
    await chmod(join(this.directory, ".evenkeel", "hub.json"), 0o600);
  }

  get #address(): string {
    return this.#home?.address ?? this.lab.hostAddress;
  }

  get apiUrl(): string {
    return `https://${this.#address}:7443`;
  }

  get gitUrl(): string {
    return `${this.apiUrl}/cluster.git`;
  }

  /** The owner's clone with the example in it, pushed once. Answers the tip. @param change what else it shall say, before it is committed */
  async pushExample(change: () => Promise<void> = async () => {}): Promise<string> {
    if (!existsSync(join(this.clone, ".git"))) {
      await this.#must("git", ["clone", "-q", "-c", `include.path=${join(this.directory, "gitconfig")}`, this.gitUrl, this.clone], { GIT_CONFIG_GLOBAL: join(this.directory, "gitconfig") });
      await this.git("symbolic-ref", "HEAD", "refs/heads/main");
    }
    if ((await this.#run("git", ["-C", this.clone, "rev-parse", "-q", "--verify", "HEAD"])).code !== 0) {
      await cp(this.#example, this.clone, { recursive: true });
      await this.#makeItOurs();
      await change();
      await this.git("add", "-A");
      await this.git("commit", "-q", "-m", "Three nodes in a cupboard");
    }
    await this.git("push", "-q", "origin", "HEAD:main");
    return (await this.git("rev-parse", "HEAD")).trim();
  }

  /** The example's placeholder for a signer becomes the owner's key, and its network the lab's. */
  async #makeItOurs(): Promise<void> {
    const publicKey = (await readFile(join(this.directory, "owner.pub"), "utf8")).trim();
    const network = this.lab.hostAddress.replace(/\d+$/, "");
    await this.edit("cluster.yaml", (text) => text.replace(/ssh-ed25519 \S+ replace-me@example/, publicKey));
    for (const path of await readdir(this.clone, { recursive: true })) {
      if (path.endsWith(".yaml") && !path.startsWith(".")) await this.edit(path, (text) => text.replaceAll(EXAMPLE_NETWORK, network));
    }
    for (const node of this.lab.nodes) {
      if (existsSync(join(this.clone, "nodes", `${node}.yaml`))) await this.edit(`nodes/${node}.yaml`, (text) => text.replace(/^address: .*$/m, `address: ${this.lab.address(node)}`));
    }
    // Whoever runs this at two in the morning is not to be surprised by a rollout.
    await this.edit("cluster.yaml", (text) => text.replace("windows: [night]", "windows: []"));
    if (!this.#demo) return;
    await this.edit("cluster.yaml", (text) => text.replace(/canarySoakMinutes: \d+ /, "canarySoakMinutes: 0.2 ").replace(/(  soakMinutes|changeSoakMinutes): \d+ /g, "$1: 0.2 ").replace(/nodeMinutes: \d+ /, "nodeMinutes: 2 "));
    await this.edit("roles/base.yaml", (text) => text.replace("packages:\n", "packages:\n  even-tool: present   # of the demo\n"));
  }

  /** Changes a file of the clone, which is not committed by that. */
  async edit(path: string, change: (text: string) => string): Promise<void> {
    const file = join(this.clone, path);
    await writeFile(file, change(await readFile(file, "utf8")));
  }

  /** Writes into the repository what secrets and tokens for each node are encrypted to, once its agent has told the hub; commits and pushes that. */
  async trustAll(): Promise<void> {
    const deadlineMs = performance.now() + API_TIMEOUT_MS;
    for (const node of this.lab.nodes) {
      while ((await this.node(node)).recipient === null) {
        if (performance.now() > deadlineMs) throw new Error(`${node} has not told its recipient`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await this.evenkeel("secret", "trust", node, "--dir", this.clone);
    }
    if ((await this.git("status", "--porcelain")) !== "") await this.push({}, "The nodes' keys");
  }

  /** Installs the agent on a node and enrols it with the line that `evenkeel node add` prints. Does nothing for one that is enrolled. */
  async enrol(node: string): Promise<string> {
    const install = "ln -sf /usr/lib/evenkeel/evenkeel-agent /usr/bin/evenkeel-agent && cp /usr/lib/evenkeel/evenkeel-agent.service /etc/systemd/system/ && systemctl daemon-reload";
    const there = await this.lab.exec(node, ["test", "-e", "/etc/evenkeel/agent.json"]);
    if (there.code !== 0) {
      const answer = NodeAddAnswer.parse(JSON.parse(await this.evenkeel("node", "add", node, "--json")));
      await this.#inNode(node, `${install} && ${answer.command}`);
    } else {
      await this.#inNode(node, install);
    }
    await this.#inNode(node, "systemctl enable -q --now evenkeel-agent");
    return `${node} is enrolled`;
  }

  async #inNode(node: string, script: string): Promise<string> {
    const outcome = await this.lab.shell(node, script, { timeoutMs: 60_000 });
    if (outcome.code !== 0) throw new Error(`on ${node}: ${outcome.stderr}${outcome.stdout}`);
    return outcome.stdout;
  }

  /** Resolves when every node holds the tip; says meanwhile who is where. */
  async waitConverged(onProgress: (message: string) => void = () => {}, timeoutMs = CONVERGE_TIMEOUT_MS): Promise<ClusterSummary> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const cluster = await this.cluster();
      const nodes = cluster.nodes.filter((node) => this.lab.nodes.includes(node.name));
      onProgress(nodes.map((node) => `${node.name} ${node.condition}`).join("   "));
      const all = nodes.length === this.lab.nodes.length && nodes.every((node) => node.condition === "converged" && node.commit === cluster.head?.id);
      if (all) return cluster;
      if (performance.now() > deadlineMs) {
        const stuck = nodes.filter((node) => node.condition !== "converged").map((node) => `${node.name}: ${node.condition}, ${node.why}`);
        throw new Error(`not all nodes have converged:\n  ${stuck.join("\n  ")}\nSee the page, and on a node: evenkeel-agent log`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Resolves when nobody is down and no gate says no, as it is a moment after the last converge; false when that takes too long. */
  async waitCalm(timeoutMs = CALM_TIMEOUT_MS): Promise<boolean> {
    const deadlineMs = performance.now() + timeoutMs;
    while (performance.now() < deadlineMs) {
      const { groups, gates } = CoordinationSummary.parse(await this.api("/coordination"));
      if (gates.length === 0 && groups.every(({ down }) => down.length === 0)) return true;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
    return false;
  }

  async cluster(): Promise<ClusterSummary> {
    return ClusterSummary.parse(await this.api("/cluster"));
  }

  async node(name: string): Promise<NodeDetail> {
    return NodeDetail.parse(await this.api(`/nodes/${name}`));
  }

  /** Asks the API as the command line does. */
  async api(path: string, post?: object): Promise<unknown> {
    const { status, body } = await this.tryApi(path, post);
    if (status >= 300) throw new Error(`${path}: ${status} ${body}`);
    return JSON.parse(body);
  }

  /** The same, for what may be refused. @throws when the hub cannot be reached */
  tryApi(path: string, post?: object): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const body = post === undefined ? undefined : JSON.stringify(post);
      const headers = { authorization: `Bearer ${this.#token}`, ...(body === undefined ? {} : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) }) };
      const asked = request(`${this.apiUrl}/api/v1${path}`, { method: body === undefined ? "GET" : "POST", headers, ca: this.#ca, agent: false, timeout: API_TIMEOUT_MS }, (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (chunk: string) => (text += chunk));
        answer.once("end", () => resolve({ status: answer.statusCode ?? 0, body: text }));
        answer.once("error", reject);
      });
      asked.once("timeout", () => asked.destroy(new Error(`${path}: no answer`)));
      asked.once("error", reject);
      asked.end(body);
    });
  }

  /** Git in the owner's clone. */
  async git(...args: string[]): Promise<string> {
    return this.#must("git", ["-C", this.clone, ...args]);
  }

  /** Git in the owner's clone, when it may fail: the code, and what a person at a terminal would read. */
  tryGit(...args: string[]): Promise<{ code: number; output: string }> {
    return this.#run("git", ["-C", this.clone, ...args]);
  }

  /** Writes a file of the clone, commits and pushes it. Answers the commit. */
  async push(files: Readonly<Record<string, string | null>>, message = "A change"): Promise<string> {
    for (const [path, content] of Object.entries(files)) {
      if (content === null) await this.git("rm", "-q", path);
      else {
        await mkdir(join(this.clone, path, ".."), { recursive: true });
        await writeFile(join(this.clone, path), content);
      }
    }
    await this.git("add", "-A");
    await this.git("commit", "-q", "--allow-empty", "-m", message);
    await this.git("push", "-q", "origin", "HEAD:main");
    return (await this.git("rev-parse", "HEAD")).trim();
  }

  /** The `evenkeel` command, as the owner types it. */
  async evenkeel(...args: string[]): Promise<string> {
    return this.#must(join(root, "bin", "evenkeel"), args, {}, this.directory);
  }

  tryEvenkeel(...args: string[]): Promise<{ code: number; output: string }> {
    return this.#run(join(root, "bin", "evenkeel"), args, {}, this.directory);
  }

  async #must(file: string, args: readonly string[], env: Record<string, string> = {}, cwd?: string): Promise<string> {
    const { code, output, stdout } = await this.#run(file, args, env, cwd);
    if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code}:\n${output}`);
    return stdout;
  }

  #run(file: string, args: readonly string[], env: Record<string, string> = {}, cwd?: string): Promise<{ code: number; output: string; stdout: string }> {
    return new Promise((resolve, reject) => {
      const child = spawn(file, args, {
        stdio: ["ignore", "pipe", "pipe"],
        // A GIT_SSL_CAINFO of the machine's would outweigh the repository's own setting.
        env: { ...process.env, GIT_TERMINAL_PROMPT: "0", GIT_SSL_CAINFO: join(this.directory, "ca.pem"), ...env }, ...(cwd === undefined ? {} : { cwd }),
      });
      let [output, stdout] = ["", ""];
      child.stdout.on("data", (chunk: Buffer) => {
        stdout += chunk.toString();
        output += chunk.toString();
      });
      child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
      child.once("error", reject);
      child.once("close", (code) => resolve({ code: code ?? 1, output, stdout }));
    });
  }

  /** What the demo says when everything stands. */
  welcome(seconds: string): string {
    const clone = "my-cluster";
    const outweighed = process.env["GIT_SSL_CAINFO"] === undefined ? "" : "  unset GIT_SSL_CAINFO   # set on this machine, and it would outweigh the clone's own setting\n";
    return `
Three nodes hold the example cluster (${seconds} s). Ctrl-C takes all of it down.

  page    ${this.hub.urls.page}
  log in  ${this.hub.loginLink()}
  shop    http://${this.lab.hostAddress.replace(/\d+$/, "100")}/   (an address that keepalived moves; HAProxy asks another node each time)

Change something, in another terminal:

${outweighed}  git clone -c include.path=${join(this.directory, "gitconfig")} ${this.gitUrl} ${clone} && cd ${clone}
  echo 'the keel is even' >> files/motd.eta
  git commit -am 'Say so' && git push

Roll an update through the cluster, reboots and all, one node at a time (page: /rollout):

  npm run lab -- --name demo publish even-tool 2.0 --reboot
  cd .demo && npx evenkeel rollout start --follow        npx evenkeel why n2

Look at a node (its container moves while it is away), and pull a plug:

  npm run lab -- --name demo exec n1 lxc list        npm run lab -- --name demo exec n2 ip route
  npm run lab -- --name demo exec n1 evenkeel-agent log
  npm run lab -- --name demo unplug n2        npm run lab -- --name demo plug n2
  cd .demo && npx evenkeel status
`;
  }
}
