import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPairSync } from "node:crypto";
import { Processes } from "../../agent/host/process.ts";
import { kubeDirectory } from "./build.ts";

/**
 * A real Kubernetes API on the loopback: etcd, API server, controller manager. There is no kubelet, so nodes are made by hand,
 * and pods are what somebody says they are.
 */

const START_TIMEOUT_MS = 120_000;
const TOKEN = "evenkeel-test-admin";
const CERTIFICATE_DAYS = 30;

export class Kube {
  readonly directory: string;
  /** How to reach the API with a right to everything. */
  readonly kubeconfig: string;
  #server = "";
  #api: ChildProcess | null = null;
  readonly #children: ChildProcess[] = [];
  readonly #run = new Processes().run;

  private constructor(directory: string) {
    this.directory = directory;
    this.kubeconfig = join(directory, "kubeconfig");
  }

  static async start(): Promise<Kube> {
    const kube = new Kube(await mkdtemp(join(tmpdir(), "kube-")));
    try {
      await kube.#start();
      return kube;
    } catch (error) {
      await kube.stop();
      throw error;
    }
  }

  /** kubectl with a right to everything. */
  async kubectl(args: readonly string[], input?: string): Promise<string> {
    const output = await this.#run([join(kubeDirectory(), "kubectl"), `--kubeconfig=${this.kubeconfig}`, ...args], { timeoutMs: 60_000, ...(input !== undefined && { input }) });
    if (output.code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${output.stderr}`);
    return output.stdout;
  }

  /** Makes a node that is ready, as a kubelet would. */
  async addNode(name: string): Promise<void> {
    await this.kubectl(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Node", metadata: { name } }));
    await this.nodeReady(name, true);
    await this.kubectl(["taint", "node", name, "node.kubernetes.io/not-ready-"]).catch(() => "");
  }

  async nodeReady(name: string, ready: boolean): Promise<void> {
    const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    await this.#status(`/api/v1/nodes/${name}/status`, { status: { nodeInfo: nodeInfo("v1.20.2"), conditions: [{ type: "Ready", status: ready ? "True" : "False", reason: "Test", message: "by hand", lastHeartbeatTime: now, lastTransitionTime: now }] } });
  }

  /** Says of a pod that it runs and is ready, as its kubelet would. */
  async podRuns(namespace: string, name: string): Promise<void> {
    await this.#status(`/api/v1/namespaces/${namespace}/pods/${name}/status`, { status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] } });
  }

  /** HOST:PORT of the API. */
  get endpoint(): string {
    return this.#server.replace("https://", "");
  }

  /** Another kubeconfig, with a client certificate of `system:masters` that lasts so many days from now; less than none has expired. */
  async kubeconfigOf(days: number): Promise<string> {
    const name = join(this.directory, `client${days}`);
    await this.#certificate(name, "/O=system:masters/CN=admin", days);
    const [cert, key] = await Promise.all([`${name}.crt`, `${name}.key`].map(async (path) => (await readFile(path)).toString("base64")));
    const path = join(this.directory, `kubeconfig-client${days}`);
    await writeFile(path, await this.#configOf({ "client-certificate-data": cert, "client-key-data": key }), { mode: 0o600 });
    return path;
  }

  /** The API alone goes away; it does not come back. */
  async stopApi(): Promise<void> {
    if (this.#api !== null) await kill(this.#api);
  }

  async stop(): Promise<void> {
    for (const child of this.#children.toReversed()) await kill(child);
    await rm(this.directory, { recursive: true, force: true });
  }

  async #status(path: string, patch: object): Promise<void> {
    const output = await this.#run(["curl", "--silent", "--show-error", "--fail-with-body", "--insecure", "--request", "PATCH", "--header", "content-type: application/strategic-merge-patch+json", "--header", `authorization: Bearer ${TOKEN}`, "--data-binary", "@-", `${this.#server}${path}`], { input: JSON.stringify(patch) });
    if (output.code !== 0) throw new Error(`${path}: ${output.stdout}${output.stderr}`);
  }

  async #start(): Promise<void> {
    const { directory } = this;
    const programs = kubeDirectory();
    const [etcdPort, peerPort, apiPort] = await Promise.all([freePort(), freePort(), freePort()]);
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048, publicKeyEncoding: { type: "spki", format: "pem" }, privateKeyEncoding: { type: "pkcs8", format: "pem" } });
    await writeFile(join(directory, "sa.key"), privateKey);
    await writeFile(join(directory, "sa.pub"), publicKey);
    await writeFile(join(directory, "tokens.csv"), `${TOKEN},admin,admin,system:masters\n`, { mode: 0o600 });
    this.#server = `https://127.0.0.1:${apiPort}`;
    await this.#openssl(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kube-ca", "-days", String(CERTIFICATE_DAYS), "-keyout", join(directory, "ca.key"), "-out", join(directory, "ca.crt")]);
    await this.#certificate(join(directory, "serving"), "/CN=127.0.0.1", CERTIFICATE_DAYS, "subjectAltName=IP:127.0.0.1");
    await writeFile(this.kubeconfig, await this.#configOf({ token: TOKEN }), { mode: 0o600 });
    this.#spawn(join(programs, "etcd"), ["--data-dir", join(directory, "etcd"), "--listen-client-urls", `http://127.0.0.1:${etcdPort}`, "--advertise-client-urls", `http://127.0.0.1:${etcdPort}`, "--listen-peer-urls", `http://127.0.0.1:${peerPort}`, "--initial-advertise-peer-urls", `http://127.0.0.1:${peerPort}`, "--initial-cluster", `default=http://127.0.0.1:${peerPort}`]);
    this.#api = this.#spawn(join(programs, "kube-apiserver"), [
      `--etcd-servers=http://127.0.0.1:${etcdPort}`,
      `--secure-port=${apiPort}`,
      "--bind-address=127.0.0.1",
      `--cert-dir=${join(directory, "certs")}`,
      `--tls-cert-file=${join(directory, "serving.crt")}`,
      `--tls-private-key-file=${join(directory, "serving.key")}`,
      `--client-ca-file=${join(directory, "ca.crt")}`,
      `--token-auth-file=${join(directory, "tokens.csv")}`,
      "--authorization-mode=RBAC",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${join(directory, "sa.pub")}`,
      `--service-account-signing-key-file=${join(directory, "sa.key")}`,
      "--service-cluster-ip-range=10.96.0.0/24",
      "--disable-admission-plugins=ServiceAccount",
    ]);
    await this.#until(async () => (await this.kubectl(["get", "--raw=/readyz"])).trim() === "ok");
    this.#spawn(join(programs, "kube-controller-manager"), [`--kubeconfig=${this.kubeconfig}`, "--port=0", "--secure-port=0", "--leader-elect=false", "--controllers=disruption,replicaset,deployment,daemonset,namespace", `--service-account-private-key-file=${join(directory, "sa.key")}`]);
    await this.#until(async () => (await this.kubectl(["get", "namespace", "default", "-o", "name"])).includes("default"));
  }

  async #configOf(user: object): Promise<string> {
    const ca = (await readFile(join(this.directory, "ca.crt"))).toString("base64");
    const config = { apiVersion: "v1", kind: "Config", clusters: [{ name: "test", cluster: { server: this.#server, "certificate-authority-data": ca } }], users: [{ name: "admin", user }], contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }], "current-context": "test" };
    return `${JSON.stringify(config)}\n`;
  }

  /** A key and a certificate of the cluster's authority at `name` with `.key` and `.crt`. */
  async #certificate(name: string, subject: string, days: number, extension?: string): Promise<void> {
    await this.#openssl(["req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", `${name}.key`, "-out", `${name}.csr`]);
    await writeFile(`${name}.ext`, extension ?? "");
    await this.#openssl(["x509", "-req", "-in", `${name}.csr`, "-CA", join(this.directory, "ca.crt"), "-CAkey", join(this.directory, "ca.key"), "-CAcreateserial", "-days", String(days), "-extfile", `${name}.ext`, "-out", `${name}.crt`]);
  }

  async #openssl(args: readonly string[]): Promise<void> {
    const output = await this.#run(["openssl", ...args], { timeoutMs: 60_000 });
    if (output.code !== 0) throw new Error(`openssl ${args.join(" ")}: ${output.stderr}`);
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    const child = spawn(program, args, { stdio: "ignore", env: { PATH: process.env["PATH"] ?? "", ETCD_UNSUPPORTED_ARCH: process.arch } });
    child.once("error", () => {});
    this.#children.push(child);
    return child;
  }

  async #until(ask: () => Promise<boolean>): Promise<void> {
    const deadlineMs = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      const right = await ask().catch((error: unknown) => error);
      if (right === true) return;
      if (performance.now() > deadlineMs) throw new Error(`the Kubernetes API did not start: ${String(right)}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise<void>((resolve) => (child.exitCode !== null || child.signalCode !== null ? resolve() : child.once("close", () => resolve())));
  child.kill("SIGKILL");
  await ended;
}

function nodeInfo(kubeletVersion: string): Record<string, string> {
  const rest = ["machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeProxyVersion", "operatingSystem", "architecture"];
  return { kubeletVersion, ...Object.fromEntries(rest.map((key) => [key, "test"])) };
}

/** Free when it was asked for; another process may be faster, and then the start fails and says so. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
