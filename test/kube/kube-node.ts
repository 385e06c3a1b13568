import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HostProbe } from "../../agent/host/probe.ts";
import { Processes } from "../../agent/host/process.ts";
import type { Run } from "../../agent/host/process.ts";
import { ACCOUNT_FILE } from "../../shared/kinds/kubernetes-api.ts";
import { SCRIPT } from "../../shared/kinds/kubernetes-script.ts";
import type { KubernetesWant } from "../../shared/kinds/kubernetes-section.ts";
import { kubernetes } from "../../shared/kinds/kubernetes.ts";
import { reasonText } from "../../shared/kinds/kind.ts";
import type { Act, DrainStep, Json, Output, Step } from "../../shared/kinds/kind.ts";
import { kubeDirectory } from "./build.ts";

/**
 * A node as the agent makes it, with its files in a directory of its own: it carries out the section's steps, and gets from the
 * other nodes what it asks for. What is between them, the hub and the seals, has its own tests (agent/values, test/e2e).
 */

const ROUNDS_MAX = 6;

export class KubeNodeTwin {
  readonly name: string;
  readonly root: string;
  readonly owned = new Map<string, Json>();
  readonly #cluster: ReadonlyMap<string, KubeNodeTwin>;
  readonly #probe: HostProbe;
  /** As it stands in the repository. */
  section: object;
  /** What the last value was that another node has made, by its key. */
  readonly got = new Map<string, string>();

  constructor(name: string, root: string, section: object, cluster: ReadonlyMap<string, KubeNodeTwin>) {
    this.name = name;
    this.root = root;
    this.section = section;
    this.#cluster = cluster;
    this.#probe = new HostProbe(this.run, root);
  }

  /** The node's own paths, and the programs that were built, found by their names. */
  readonly run: Run = (argv, options = {}) => {
    const here = argv.map((word) => (word === SCRIPT ? join(this.root, SCRIPT) : word === `--kubeconfig=${ACCOUNT_FILE}` ? `--kubeconfig=${this.accountFile}` : word)) as [string, ...string[]];
    return new Processes().run(here, { ...options, env: { PATH: `${kubeDirectory()}:/usr/bin:/bin`, HOME: this.root } });
  };

  get accountFile(): string {
    return join(this.root, ACCOUNT_FILE);
  }

  get want(): KubernetesWant {
    const nodes = [...this.#cluster.values()].map(({ name, section }) => ({ name, section: kubernetes.schema.parse(section) }));
    const { want, misfits } = kubernetes.resolve!(kubernetes.schema.parse(this.section), { cluster: "cupboard", self: this.name, nodes });
    if (misfits.length > 0) throw new Error(JSON.stringify(misfits));
    return want;
  }

  async plan(given: ReadonlyMap<string, string> = new Map()): Promise<readonly Step[]> {
    const { want } = this;
    return kubernetes.plan(want, await kubernetes.observe(want, this.#probe, this.owned), this.owned, given);
  }

  /** Carries out what is planned until nothing is, with what others make; answers what could not be had. */
  async converge(): Promise<readonly string[]> {
    let given = new Map<string, string>();
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const steps = await this.plan(given);
      if (steps.length === 0) return [];
      const failures = steps.flatMap((step) => (step.do === "fail" ? [step.message] : []));
      if (failures.length > 0) return failures;
      for (const step of steps) await this.#apply(step, given);
    }
    return [`there is still something to do after ${ROUNDS_MAX} rounds: ${JSON.stringify(await this.plan(given))}`];
  }

  async drain(): Promise<readonly DrainStep[]> {
    const { want } = this;
    return kubernetes.drain!.steps(want, await kubernetes.drain!.observe(want, this.#probe));
  }

  async gate(): Promise<readonly string[]> {
    const { want } = this;
    return kubernetes.gate!.reasons(want, await kubernetes.gate!.observe(want, this.#probe)).map(reasonText);
  }

  carryOut({ argv, timeoutMs }: Act): Promise<Output> {
    return this.run(argv, { timeoutMs });
  }

  /** kubectl with the node's own account. */
  kubectl(...args: string[]): Promise<Output> {
    return this.run(["kubectl", `--kubeconfig=${ACCOUNT_FILE}`, ...args]);
  }

  /** Makes a value for another node, as the agent does. */
  async make(node: string, key: string): Promise<Output | null> {
    const { want } = this;
    const act = kubernetes.make!(want, await kubernetes.observe(want, this.#probe, this.owned), { node, key });
    return act === null ? null : this.carryOut(act);
  }

  async #apply(step: Step, given: Map<string, string>): Promise<void> {
    const key = step.resource.slice("kubernetes/".length);
    if (step.claim !== undefined && !this.owned.has(key)) this.owned.set(key, step.claim);
    if (step.do === "ask") {
      const made = await this.#cluster.get(step.from[0] ?? "")?.make(this.name, step.key);
      if (made?.code !== 0) throw new Error(`${step.from[0]} could not make ${step.what}: ${made?.stderr}`);
      given.set(step.key, made.stdout.trim());
      this.got.set(step.key, made.stdout.trim());
    } else if (step.do === "run") {
      const output = await this.run(step.argv, { timeoutMs: step.timeoutMs, ...(step.input !== undefined && { input: step.input }) });
      if (output.code !== 0) throw new Error(`${step.argv.join(" ")}: ${output.stderr}`);
    } else if (step.do === "write") {
      const path = join(this.root, step.path);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, step.content);
      await chmod(path, step.mode);
    } else if (step.do === "restore") {
      await rm(join(this.root, step.path), { force: true });
    } else {
      throw new Error(`cannot ${step.do}: ${JSON.stringify(step)}`);
    }
    if (step.release === true) this.owned.delete(key);
  }
}
