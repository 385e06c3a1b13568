import { execFile, spawn, type ChildProcess } from "node:child_process";
import { createHash, generateKeyPairSync, randomUUID, sign, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connect, type IClientOptions, type MqttClient } from "mqtt";
import { pino } from "pino";
import { NodeName } from "../shared/ids.ts";
import { EnrolAnswer, NodeAddAnswer } from "../shared/protocol/api.ts";
import type { ConvergeReport } from "../shared/protocol/report.ts";
import { topicOf } from "../shared/protocol/topics.ts";
import { PoisonCounts } from "./broker/poison.ts";
import { startHub, type HubOverrides, type RunningHub } from "./main.ts";
import { pinOf } from "./pki/authority.ts";
import { SettingsSchema, type WrittenSettings } from "./settings.ts";

/**
 * A hub to try things on, for tests: real sockets on free ports of the loopback, a real repository with a real signer,
 * machines that enrol and connect as agents do.
 */

export const trialCluster = "trial";

/** What came over the wire, looked into by the expectations of a test and by nothing else. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Untyped = any;

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
  json(): Untyped;
}

export interface Shell {
  readonly code: number;
  readonly output: string;
}

export interface Identity {
  readonly node: NodeName;
  readonly key: string;
  readonly publicKey: string;
  readonly machineId: string;
  readonly certificate: string;
  readonly answer: EnrolAnswer;
}

export class Trial {
  readonly directory = mkdtempSync(join(tmpdir(), "ek-"));
  readonly work: string;
  #hub: RunningHub | null = null;
  readonly #clients: MqttClient[] = [];

  constructor() {
    this.work = join(this.directory, "work");
  }

  get hub(): RunningHub {
    if (this.#hub === null) throw new Error("the hub is not running");
    return this.#hub;
  }

  get dataDir(): string {
    return join(this.directory, "data");
  }

  async start(written: WrittenSettings | Record<string, unknown> = {}, overrides: HubOverrides = {}): Promise<RunningHub> {
    const free = "127.0.0.1:0";
    const settings = SettingsSchema.parse({ dataDir: this.dataDir, cluster: trialCluster, publicHosts: ["127.0.0.1"], httpsListen: free, pageListen: free, mqttListen: free, ...written });
    const log = pino({ level: process.env["TRIAL_LOG"] ?? "silent" });
    this.#hub = await startHub(settings, { kinds: [], log, ...overrides });
    return this.#hub;
  }

  /** The hub as a process of its own, so that it can be killed: `evenkeel hub`. */
  async startProcess(): Promise<ChildProcess> {
    const free = "127.0.0.1:0";
    const args = ["hub", "--data-dir", this.dataDir, "--cluster", trialCluster, "--public-hosts", "127.0.0.1", "--https", free, "--page", free, "--mqtt", free];
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, "cli", "main.ts"), ...args], { env: { PATH: process.env["PATH"] }, stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout });
    const up = await new Promise<{ https: string; page: string; mqtt: number }>((resolve, reject) => {
      lines.on("line", (line) => line.includes('"the hub is up"') && resolve(JSON.parse(line)));
      child.once("exit", () => reject(new Error("the hub ended before it was up")));
    });
    const caPem = readFileSync(join(this.dataDir, "ca.pem"), "utf8");
    this.#hub = {
      urls: { https: up.https, git: `${up.https}/cluster.git`, page: up.page, mqtt: { host: "127.0.0.1", port: up.mqtt } },
      caPem,
      caPin: pinOf(caPem),
      adminToken: readFileSync(join(this.dataDir, "admin.token"), "utf8").trim(),
      poison: new PoisonCounts(),
      loginLink: () => {
        throw new Error("only a hub in this process gives links");
      },
      async stop() {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.kill("SIGTERM");
        await once(child, "exit");
      },
    };
    return child;
  }

  async stop(): Promise<void> {
    await this.#hub?.stop();
    this.#hub = null;
  }

  async end(): Promise<void> {
    for (const client of this.#clients) client.end(true);
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A work tree with a signer `ada`, a cluster.yaml and nodes, not committed yet. */
  async makeRepository(nodes: readonly string[] = ["n1", "n2", "n3"]): Promise<void> {
    await this.makeKey("ada");
    mkdirSync(join(this.work, "nodes"), { recursive: true });
    await this.git("init", "--quiet", "--initial-branch=main", ".");
    this.writeCluster(["ada"]);
    for (const [index, node] of nodes.entries()) this.write(`nodes/${node}.yaml`, `address: 10.0.0.${index + 1}\n`);
    await this.signWith("ada");
    writeFileSync(join(this.directory, "ca.pem"), this.hub.caPem);
  }

  async makeKey(name: string): Promise<string> {
    await this.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", join(this.directory, name));
    return readFileSync(join(this.directory, `${name}.pub`), "utf8").trim();
  }

  writeCluster(signers: readonly string[], name = trialCluster): void {
    const lines = signers.map((signer) => `  - name: ${signer}\n    ssh: ${JSON.stringify(readFileSync(join(this.directory, `${signer}.pub`), "utf8").trim())}\n`);
    this.write("cluster.yaml", `name: ${name}\nsigners:\n${lines.join("")}`);
  }

  async signWith(name: string): Promise<void> {
    for (const [key, value] of Object.entries({ "user.name": name, "user.email": `${name}@example.org`, "gpg.format": "ssh", "user.signingKey": join(this.directory, `${name}.pub`), "commit.gpgSign": "true" })) {
      await this.git("config", key, value);
    }
  }

  write(path: string, content: string): void {
    writeFileSync(join(this.work, path), content);
  }

  /** Commits all that is there; the answer is the new commit. */
  async commit(message: string, ...more: string[]): Promise<string> {
    await this.must("git", "-C", this.work, "add", "-A");
    await this.must("git", "-C", this.work, "commit", "--quiet", "--allow-empty", "-m", message, ...more);
    return (await this.git("rev-parse", "HEAD")).output.trim();
  }

  /** Pushes as whoever holds the token, and answers what the pusher sees. */
  push(refspec = "main", options: { readonly token?: string | null; readonly force?: boolean } = {}): Promise<Shell> {
    return this.git(...this.httpOptions(options.token), "push", ...(options.force === true ? ["--force"] : []), this.remote(), refspec);
  }

  httpOptions(token: string | null = this.hub.adminToken): string[] {
    const header = `Authorization: Basic ${Buffer.from(`ada:${token}`).toString("base64")}`;
    return ["-c", `http.sslCAInfo=${join(this.directory, "ca.pem")}`, "-c", `http.extraHeader=${header}`];
  }

  remote(): string {
    return this.hub.urls.git;
  }

  git(...args: string[]): Promise<Shell> {
    return this.run("git", "-C", this.work, ...args);
  }

  run(program: string, ...args: string[]): Promise<Shell> {
    const env = { PATH: process.env["PATH"] ?? "", HOME: this.directory, GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0", LC_ALL: "C.UTF-8" };
    return new Promise((resolve) => {
      execFile(program, args, { env, timeout: 60_000 }, (error, stdout, stderr) => resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, output: `${stdout}${stderr}` }));
    });
  }

  async must(program: string, ...args: string[]): Promise<string> {
    const { code, output } = await this.run(program, ...args);
    if (code !== 0) throw new Error(`${program} ${args.join(" ")}: ${output}`);
    return output;
  }

  /** A request over TLS as a person (token), a node (identity), or nobody. */
  request(method: string, path: string, options: { readonly body?: unknown; readonly token?: string | null; readonly as?: Identity; readonly headers?: Record<string, string> } = {}): Promise<Answer> {
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const token = options.token === undefined && options.as === undefined ? this.hub.adminToken : options.token;
    const headers: Record<string, string> = { ...options.headers, ...(body !== undefined && { "content-type": "application/json" }) };
    if (token != null) headers["authorization"] = `Bearer ${token}`;
    return new Promise((resolve, reject) => {
      const tls = { ca: this.hub.caPem, agent: false as const, ...(options.as !== undefined && { key: options.as.key, cert: options.as.certificate }) };
      const outgoing = httpsRequest(`${this.hub.urls.https}${path}`, { method, headers, ...tls }, (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: text, json: () => JSON.parse(text) });
        });
      });
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }

  async addNode(name: string): Promise<NodeAddAnswer> {
    const answer = await this.request("POST", "/api/v1/nodes", { body: { name } });
    if (answer.status !== 200) throw new Error(answer.body);
    return NodeAddAnswer.parse(answer.json());
  }

  /** What a machine sends to enrol, with a new key. */
  enrolRequest(node: string, token: string, machineId = createHash("md5").update(node).digest("hex")) {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const proof = sign("sha256", Buffer.from(`evenkeel-enrol:${node}:${token}`), privateKey).toString("base64");
    const pem = publicKey.export({ type: "spki", format: "pem" });
    return { key: privateKey.export({ type: "pkcs8", format: "pem" }), body: { node, token, publicKey: pem, proof, machineId } };
  }

  async enrol(name: string, machineId?: string): Promise<Identity> {
    const { token } = await this.addNode(name);
    const { key, body } = this.enrolRequest(name, token, machineId);
    const response = await this.request("POST", "/api/v1/enrol", { body, token: null });
    if (response.status !== 200) throw new Error(response.body);
    const answer = EnrolAnswer.parse(response.json());
    return { node: NodeName.parse(name), key, publicKey: body.publicKey, machineId: body.machineId, certificate: answer.certificate, answer };
  }

  /** An MQTT connection with the node's certificate, as an agent makes it. Rejects when it is refused. */
  async connect(identity: Identity, options: { readonly clientId?: string; readonly will?: boolean } = {}): Promise<TrialNode> {
    // After a restart on free ports the hub is elsewhere than at enrolment.
    const { host, port } = this.#hub?.urls.mqtt ?? identity.answer.broker;
    const will = { topic: topicOf(trialCluster, identity.node, "state"), payload: Buffer.from('{"v":1,"online":false}'), qos: 1 as const, retain: true };
    const settings: IClientOptions = {
      protocol: "mqtts",
      host,
      port,
      clientId: options.clientId ?? identity.node,
      key: identity.key,
      cert: identity.certificate,
      ca: identity.answer.ca,
      clean: true,
      reconnectPeriod: 0,
      protocolVersion: 4,
      ...(options.will !== false && { will }),
    };
    const client = await connectOnce(settings);
    this.#clients.push(client);
    return new TrialNode(client, identity);
  }
}

/** A connected machine: says what an agent would say, and keeps the orders that it gets. */
export class TrialNode {
  readonly client: MqttClient;
  readonly identity: Identity;
  readonly stream: string = randomUUID();
  readonly orders: Untyped[] = [];
  readonly #waiting: { matches: (order: Untyped) => boolean; resolve: (order: Untyped) => void }[] = [];
  closed = false;

  constructor(client: MqttClient, identity: Identity) {
    this.client = client;
    this.identity = identity;
    client.on("error", () => {});
    client.on("close", () => (this.closed = true));
    client.on("message", (_topic, payload) => {
      const order = JSON.parse(payload.toString("utf8"));
      this.orders.push(order);
      for (const waiter of this.#waiting.filter(({ matches }) => matches(order))) waiter.resolve(order);
    });
  }

  topic(what: "state" | "converge" | "facts" | "event" | "orders", node: NodeName = this.identity.node): string {
    return topicOf(trialCluster, node, what);
  }

  /** Subscribes and says hello; resolves with the hub's `mark`, or with its refusal. */
  async hello(state: Record<string, unknown> = {}): Promise<Untyped> {
    await this.client.subscribeAsync(this.topic("orders"), { qos: 1 });
    const answer = this.order(({ kind }) => kind === "mark" || kind === "refused");
    const base = { v: 1, online: true, bootId: randomUUID(), machineId: this.identity.machineId, agentVersion: "0.1.0", startedAt: new Date().toISOString(), stream: this.stream, mark: null };
    await this.publish("state", { ...base, ...state });
    return answer;
  }

  async publish(what: "state" | "converge" | "facts" | "event", message: object): Promise<void> {
    await this.client.publishAsync(this.topic(what), JSON.stringify(message), { qos: 1, retain: what !== "event" });
  }

  event(seq: number, event: object, stream: string = this.stream): Promise<void> {
    return this.publish("event", { v: 1, stream, seq, event });
  }

  /** The first order that matches, among those that came and those to come. */
  order(matches: (order: Untyped) => boolean, fromNowOn = true): Promise<Untyped> {
    const found = fromNowOn ? undefined : this.orders.find(matches);
    return found !== undefined ? Promise.resolve(found) : new Promise((resolve) => this.#waiting.push({ matches, resolve }));
  }

  ack(seq: number): Promise<Untyped> {
    return this.order((order) => order.kind === "ack" && order.seq >= seq, false);
  }

  whenClosed(): Promise<void> {
    return this.closed ? Promise.resolve() : new Promise((resolve) => this.client.once("close", () => resolve()));
  }
}

/** One attempt: a refusal rejects, and nothing is tried again. */
export function connectOnce(settings: IClientOptions): Promise<MqttClient> {
  return new Promise((resolve, reject) => {
    const client = connect(settings);
    const refused = (reason?: Error): void => {
      client.on("error", () => {});
      client.end(true);
      reject(reason instanceof Error ? reason : new Error("the broker closed the connection"));
    };
    client.once("error", refused);
    client.once("close", refused);
    client.once("connect", () => {
      client.off("error", refused);
      client.off("close", refused);
      resolve(client);
    });
  });
}

export function report(commit: string, more: Partial<ConvergeReport> = {}): object {
  return { commit, cause: "push", startedAt: new Date().toISOString(), tookMs: 12, outcome: "converged", changes: [], problems: [], resources: 3, processes: 1, ...more };
}

/** Asks again until it holds; the test's own time limit ends the waiting. */
export async function until<T>(ask: () => Promise<T | null | undefined | false>): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer !== null && answer !== undefined && answer !== false) return answer;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export function serialNumber(pem: string): string {
  return new X509Certificate(pem).serialNumber.toLowerCase();
}
