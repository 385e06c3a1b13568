import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HostProbe } from "../../agent/host/probe.ts";
import { Processes } from "../../agent/host/process.ts";
import { kubernetes } from "../../shared/kinds/kubernetes.ts";
import type { KubernetesWant } from "../../shared/kinds/kubernetes-section.ts";
import { reasonText } from "../../shared/kinds/kind.ts";
import type { Act, Json, Step } from "../../shared/kinds/kind.ts";
import { until } from "../e2e/real-cupboard.ts";
import { buildKube, kubeDirectory } from "./build.ts";
import { Kube } from "./kube.ts";

/**
 * Against a real API server, controller manager and etcd. There are no kubelets: nodes are made by hand, pods are said to run,
 * and one that has been evicted is gone when somebody says so.
 */

/** Of an object, or a list of objects, what these tests look at. */
interface Answer {
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly deletionTimestamp?: string };
  readonly spec: { readonly taints?: readonly unknown[]; readonly replicas?: number; readonly unschedulable?: boolean };
  readonly status: { readonly phase?: string; readonly currentHealthy?: number; readonly disruptionsAllowed?: number };
  readonly data?: Readonly<Record<string, string>>;
  readonly items: readonly Answer[];
}

// A machine that cannot reach Debian's sources cannot build it: that is said, and nothing of Kubernetes is claimed then.
const problem = await buildKube();
if (problem !== null) console.error(problem);

let kube: Kube;
const processes = new Processes();
/** As the agent's, with the programs that were built found by name. */
const run: typeof processes.run = (argv, options) => processes.run(argv[0] === "kubectl" ? [join(kubeDirectory(), "kubectl"), ...argv.slice(1)] : argv, options);
const probe = new HostProbe(run);
const owned = new Map<string, Json>();

beforeAll(async () => {
  if (problem !== null) return;
  kube = await Kube.start();
  for (const name of ["n1", "n2", "n3"]) await kube.addNode(name);
});
afterAll(() => kube?.stop());

function want(written: object): KubernetesWant {
  const section = kubernetes.schema.parse({ kubeconfig: kube.kubeconfig, ...written });
  const { want: resolved, misfits } = kubernetes.resolve!(section, { cluster: "cupboard", self: "n1", nodes: [{ name: "n1", section }] });
  expect(misfits).toEqual([]);
  return resolved;
}
const plan = async (written: object): Promise<readonly Step[]> => {
  const wanted = want(written);
  return kubernetes.plan(wanted, await kubernetes.observe(wanted, probe, owned), owned);
};
/** Carries steps out, as the engine does, and keeps what is claimed. */
async function apply(steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    const key = step.resource.slice("kubernetes/".length);
    if (step.claim !== undefined && !owned.has(key)) owned.set(key, step.claim);
    if (step.do !== "run") throw new Error(`cannot ${step.do}: ${JSON.stringify(step)}`);
    const output = await run(step.argv, { timeoutMs: step.timeoutMs, ...(step.input !== undefined && { input: step.input }) });
    expect(output.code, `${step.argv.join(" ")}\n${output.stderr}`).toBe(0);
    if (step.release === true) owned.delete(key);
  }
}
const carryOut = async ({ argv, timeoutMs }: Act) => run(argv, { timeoutMs });
/** As the API answers; what is not there shows in the expectation. */
const json = async (...args: string[]): Promise<Answer> => JSON.parse(await kube.kubectl([...args, "-o", "json"]));

describe.skipIf(problem !== null)("the kind kubernetes, against a real API", () => {
  test("labels and taints become what is declared, others are left alone, and those that leave go", async () => {
    await kube.kubectl(["label", "node", "n1", "mine=stays"]);
    const written = { labels: { disk: "ssd", "example.org/room": "cellar" }, taints: { dedicated: { value: "db", effect: "NoSchedule" } } };
    await apply(await plan(written));
    expect(await plan(written)).toEqual([]);
    await kube.kubectl(["label", "node", "n1", "--overwrite", "disk=hdd"]);
    expect(await plan(written)).toMatchObject([{ resource: "kubernetes/labels/disk", why: "is hdd, should be ssd" }]);
    await apply(await plan({ labels: { disk: "ssd" } }));
    expect(await plan({ labels: { disk: "ssd" } })).toEqual([]);
    const { metadata, spec } = await json("get", "node", "n1");
    expect(metadata.labels).toMatchObject({ disk: "ssd", mine: "stays" });
    expect([metadata.labels["example.org/room"], spec.taints ?? []]).toEqual([undefined, []]);
    await apply(await plan({}));
  });

  test("manifests are applied, changed and pruned, also by a server that did not apply them", async () => {
    const shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: prices, namespace: shop}\ndata: {tea: '3'}\n";
    const web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: default}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: web}]}\n---\napiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: web, namespace: default}\nspec: {minAvailable: 1, selector: {matchLabels: {app: web}}}\n";
    await apply(await plan({ manifests: { shop, web } }));
    expect(await plan({ manifests: { shop, web } })).toEqual([]);
    expect((await json("get", "configmap", "prices", "-n", "shop")).data).toEqual({ tea: "3" });
    await apply(await plan({ manifests: { shop: shop.replace("'3'", "'4'"), web } }));
    expect((await json("get", "configmap", "prices", "-n", "shop")).data).toEqual({ tea: "4" });
    await apply(await plan({ manifests: { web } }));
    await expect(kube.kubectl(["get", "configmap", "prices", "-n", "shop"])).rejects.toThrow("not found");
    // What is in a namespace may be other people's.
    expect((await json("get", "namespace", "shop")).status.phase).toBe("Active");
  });

  test("a manifest that the API refuses is said, and what was there stays", async () => {
    const steps = await plan({ manifests: { bad: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad, namespace: default}\nspec: {replicas: many}\n" } });
    const [, bad] = steps;
    if (bad?.do !== "run") throw new Error("it is applied by a program");
    const output = await run(bad.argv, { timeoutMs: bad.timeoutMs, input: bad.input ?? "" });
    expect([output.code === 0, output.stderr]).toEqual([false, expect.stringMatching(/replicas|many|Invalid|cannot/)]);
    expect((await json("get", "deployment", "web")).spec.replicas).toBe(2);
  });

  describe("a drain", () => {
    const pods = async (): Promise<readonly { readonly name: string; readonly leaving: boolean }[]> => (await json("get", "pods", "-l", "app=web")).items.map(({ metadata }) => ({ name: metadata.name, leaving: metadata.deletionTimestamp !== undefined }));
    const bind = async (name: string, node: string): Promise<void> => {
      await kube.kubectl(["create", "--raw", `/api/v1/namespaces/default/pods/${name}/binding`, "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Binding", metadata: { name }, target: { apiVersion: "v1", kind: "Node", name: node } }));
      await kube.podRuns("default", name);
    };
    const steps = async (drain: object = {}) => {
      const wanted = want({ drain });
      return kubernetes.drain!.steps(wanted, await kubernetes.drain!.observe(wanted, probe));
    };
    const reasons = async () => {
      const wanted = want({});
      return kubernetes.gate!.reasons(wanted, await kubernetes.gate!.observe(wanted, probe)).map(reasonText);
    };

    beforeAll(async () => {
      const two = await until("the deployment's pods", pods, (found) => found.length === 2);
      await bind(two[0]!.name, "n1");
      await bind(two[1]!.name, "n2");
      await until("the budget to see both", () => json("get", "pdb", "web"), ({ status }) => status.currentHealthy === 2 && status.disruptionsAllowed === 1);
    });

    test("may begin while the budget lets one go; a node that is not ready, or a budget of zero, keeps it back", async () => {
      expect(await reasons()).toEqual([]);
      await kube.nodeReady("n3", false);
      expect(await reasons()).toEqual(["not ready in Kubernetes: n3"]);
      await kube.nodeReady("n3", true);
      await kube.kubectl(["patch", "pdb", "web", "--type=merge", "-p", '{"spec":{"minAvailable":2}}']);
      await until("the budget of zero", () => json("get", "pdb", "web"), ({ status }) => status.disruptionsAllowed === 0);
      expect(await reasons()).toEqual([expect.stringMatching(/^the budget default\/web lets no pod go \(2 of 2 healthy, 2 wanted\), and default\/web-\S+ is on this node: it never will/)]);
    });

    test("is held up by the budget, and says by which pod; what was closed is opened again", async () => {
      const [cordon, evict] = await steps({ timeoutMinutes: 0.1 });
      expect((await carryOut(cordon!.drain)).code).toBe(0);
      const held = await carryOut(evict!.drain);
      expect([held.code, held.stderr]).toEqual([1, expect.stringMatching(/web-\S+.*(disruption budget|timeout|timed out|global timeout)/s)]);
      expect((await carryOut(cordon!.undo!)).code).toBe(0);
      expect((await json("get", "node", "n1")).spec.unschedulable).toBeUndefined();
      await kube.kubectl(["patch", "pdb", "web", "--type=merge", "-p", '{"spec":{"minAvailable":1}}']);
      await until("the budget to let one go", () => json("get", "pdb", "web"), ({ status }) => status.disruptionsAllowed === 1);
    });

    test("evicts, waits until the pod is gone, and leaves the other; a second time there is nothing to do", async () => {
      const [cordon, evict] = await steps();
      expect([cordon!.already, evict!.already]).toEqual([false, false]);
      expect((await carryOut(cordon!.drain)).code).toBe(0);
      const leaving = carryOut(evict!.drain);
      const seen = await until("a pod to be asked to leave", pods, (found) => found.some((pod) => pod.leaving));
      // Its kubelet would end it now.
      await kube.kubectl(["delete", "pod", seen.find((pod) => pod.leaving)!.name, "--grace-period=0", "--force"]);
      expect((await leaving).code).toBe(0);
      const again = await steps();
      expect([again[0]!.already, again[1]!.already]).toEqual([true, true]);
      expect((await carryOut(cordon!.undo!)).code).toBe(0);
    });

    test("of a node that somebody else had closed leaves it closed", async () => {
      await kube.kubectl(["cordon", "n1"]);
      expect((await steps())[0]).toMatchObject({ name: "cordon", already: true });
      await kube.kubectl(["uncordon", "n1"]);
    });

    test("is not begun with a pod that nothing would start again", async () => {
      await kube.kubectl(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Pod", metadata: { name: "alone", namespace: "default" }, spec: { nodeName: "n1", containers: [{ name: "c", image: "c" }] } }));
      expect((await steps())[0]?.cannot).toContain("nothing would start default/alone again elsewhere");
      expect(await reasons()).toContainEqual(expect.stringContaining("default/alone"));
      await kube.kubectl(["delete", "pod", "alone", "--grace-period=0", "--force"]);
    });
  });

  test("the API is away: it is said, and nothing is planned but that", async () => {
    const steps = await plan({ kubeconfig: join(kube.directory, "none"), labels: { disk: "ssd" } });
    expect(steps).toMatchObject([{ do: "fail", message: expect.stringMatching(/no credentials|does not answer|kubectl ended/) }]);
  });
});
