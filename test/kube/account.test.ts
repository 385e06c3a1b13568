import { createPrivateKey, createSign } from "node:crypto";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../e2e/real-cupboard.ts";
import { buildKube } from "./build.ts";
import { KubeNodeTwin } from "./kube-node.ts";
import { Kube } from "./kube.ts";

/** A worker drains itself with an account that a server has made, which can do that and no more: against a real API. */

interface Answer {
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly deletionTimestamp?: string };
  readonly spec: { readonly unschedulable?: boolean };
  readonly status: { readonly currentHealthy?: number; readonly disruptionsAllowed?: number };
  readonly items: readonly Answer[];
}

const problem = await buildKube();
if (problem !== null) console.error(problem);

let kube: Kube;
const nodes = new Map<string, KubeNodeTwin>();
const node = (name: string): KubeNodeTwin => nodes.get(name)!;
const json = async (...args: string[]): Promise<Answer> => JSON.parse(await kube.kubectl([...args, "-o", "json"]));
const isClosed = async (name: string): Promise<boolean> => (await json("get", "node", name)).spec.unschedulable === true;

beforeAll(async () => {
  if (problem !== null) return;
  kube = await Kube.start();
  for (const name of ["n1", "four.example.org", "n5"]) await kube.addNode(name);
  const sections = { n1: { role: "server", kubeconfig: kube.kubeconfig, endpoint: kube.endpoint }, n4: { nodeName: "four.example.org" }, n5: {} };
  for (const [name, section] of Object.entries(sections)) {
    const root = join(kube.directory, name);
    await mkdir(join(root, "etc"), { recursive: true });
    await writeFile(join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n");
    await writeFile(join(root, "etc/group"), "root:x:0:\n");
    nodes.set(name, new KubeNodeTwin(name, root, section, nodes));
  }
});
afterAll(() => kube?.stop());

describe.skipIf(problem !== null)("a worker's account", () => {
  test("is asked for, made, written down for root alone, and tried; it sets the node's label", async () => {
    expect(await node("n1").converge()).toEqual([]);
    expect(await node("n4").gate()).toEqual(["there are no credentials for the Kubernetes API on this node yet: n1 makes them when asked, which happens by itself"]);
    expect((await node("n4").plan()).map((step) => step.do)).toEqual(["ask"]);
    expect(await node("n4").converge()).toEqual([]);
    expect((await stat(node("n4").accountFile)).mode & 0o777).toBe(0o600);
    node("n4").section = { ...node("n4").section, labels: { disk: "ssd" } };
    expect(await node("n4").converge()).toEqual([]);
    expect((await json("get", "node", "four.example.org")).metadata.labels["disk"]).toBe("ssd");
    expect(await node("n5").converge()).toEqual([]);
    expect(await node("n1").converge()).toEqual([]);
  });

  test("cannot change another node, read secrets, delete pods, or make itself more than it is", async () => {
    const denied: readonly (readonly string[])[] = [
      ["label", "node", "n5", "mine=yes"],
      ["patch", "node", "n5", "--type=merge", "-p", '{"spec":{"unschedulable":true}}'],
      ["delete", "node", "four.example.org"],
      ["patch", "node", "four.example.org", "--subresource=status", "-p", "{}"],
      ["get", "secrets", "--all-namespaces"],
      ["get", "configmaps", "--all-namespaces"],
      ["get", "serviceaccounts", "--all-namespaces"],
      ["delete", "pod", "any", "--namespace=default"],
      ["get", "pods", "--all-namespaces", "--watch"],
      ["create", "namespace", "mine"],
      ["patch", "clusterrole", "evenkeel-n4", "--type=merge", "-p", '{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}'],
      ["create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--serviceaccount=kube-system:evenkeel-n4"],
      ["create", "--raw", "/api/v1/namespaces/kube-system/serviceaccounts/evenkeel-n5/token", "-f", "/dev/null"],
    ];
    const seen = await Promise.all(denied.map(async (args) => [args.join(" "), await node("n4").kubectl("--request-timeout=10s", ...args)] as const));
    for (const [line, { code, stdout, stderr }] of seen) expect([line, code === 0, stdout, /[Ff]orbidden|unknown flag/.test(stderr) ? "" : stderr]).toEqual([line, false, "", ""]);
    // kubectl says nothing by its exit code here.
    expect((await node("n4").kubectl("cordon", "n5")).stderr).toContain("forbidden");
    expect(await isClosed("n5")).toBe(false);
    const may = (await node("n4").kubectl("auth", "can-i", "--list", "--no-headers")).stdout;
    expect(may).not.toMatch(/secrets|\*\.\*|\[\*\]/);
    expect(may).toMatch(/nodes\s+\[\]\s+\[four\.example\.org\]\s+\[patch update\]/);
  });

  describe("a drain with it", () => {
    const pods = async (): Promise<readonly { readonly name: string; readonly leaving: boolean }[]> => (await json("get", "pods", "-l", "app=web")).items.map(({ metadata }) => ({ name: metadata.name, leaving: metadata.deletionTimestamp !== undefined }));
    const bind = async (name: string, to: string): Promise<void> => {
      await kube.kubectl(["create", "--raw", `/api/v1/namespaces/default/pods/${name}/binding`, "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Binding", metadata: { name }, target: { apiVersion: "v1", kind: "Node", name: to } }));
      await kube.podRuns("default", name);
    };

    beforeAll(async () => {
      const template = (app: string) => ({ metadata: { labels: { app } }, spec: { terminationGracePeriodSeconds: 1, containers: [{ name: app, image: app }] } });
      const objects = [
        { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace: "default" }, spec: { replicas: 2, selector: { matchLabels: { app: "web" } }, template: template("web") } },
        { apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "log", namespace: "default" }, spec: { selector: { matchLabels: { app: "log" } }, template: template("log") } },
        { apiVersion: "policy/v1beta1", kind: "PodDisruptionBudget", metadata: { name: "web", namespace: "default" }, spec: { minAvailable: 2, selector: { matchLabels: { app: "web" } } } },
      ];
      await kube.kubectl(["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
      const two = await until("the deployment's pods", pods, (found) => found.length === 2);
      await bind(two[0]!.name, "four.example.org");
      await bind(two[1]!.name, "n5");
      const logs = await until("the daemon's pods", () => json("get", "pods", "-l", "app=log"), ({ items }) => items.length === 3);
      const there = logs.items.find(({ spec }) => JSON.stringify(spec).includes("four.example.org"));
      await bind(there!.metadata.name, "four.example.org");
      await until("the budget to see both", () => json("get", "pdb", "web"), ({ status }) => status.currentHealthy === 2);
    });

    test("respects a budget of zero, which the gate names, and kubectl too; then the node is opened again", async () => {
      expect(await node("n4").gate()).toEqual([expect.stringMatching(/^the budget default\/web lets no pod go \(2 of 2 healthy, 2 wanted\), and default\/web-\S+ is on this node: it never will/)]);
      node("n4").section = { ...node("n4").section, drain: { timeoutMinutes: 0.1 } };
      const [cordon, evict] = await node("n4").drain();
      expect(await node("n4").carryOut(cordon!.drain)).toMatchObject({ code: 0 });
      expect(await isClosed("four.example.org")).toBe(true);
      const held = await node("n4").carryOut(evict!.drain);
      expect([held.code, held.stderr]).toEqual([1, expect.stringMatching(/web-\S+.*disruption budget/s)]);
      expect(await pods()).toMatchObject([{ leaving: false }, { leaving: false }]);
      expect(await node("n4").carryOut(cordon!.undo!)).toMatchObject({ code: 0 });
      expect(await isClosed("four.example.org")).toBe(false);
    });

    test("of a pod that does not end, whatever its grace period, is given up in time, and names it", async () => {
      await kube.kubectl(["patch", "pdb", "web", "--type=merge", "-p", '{"spec":{"minAvailable":1}}']);
      await until("the budget to let one go", () => json("get", "pdb", "web"), ({ status }) => status.disruptionsAllowed === 1);
      expect(await node("n4").gate()).toEqual([]);
      const [cordon, evict] = await node("n4").drain();
      expect(await node("n4").carryOut(cordon!.drain)).toMatchObject({ code: 0 });
      const held = await node("n4").carryOut(evict!.drain);
      expect([held.code, held.stderr]).toEqual([1, expect.stringMatching(/web-\S+.*(global timeout reached|timed out)/s)]);
    });

    test("goes through once it has ended, leaves the daemon's pod, and takes back only what it did itself", async () => {
      const leaving = (await pods()).find((pod) => pod.leaving);
      // Its kubelet would end it.
      await kube.kubectl(["delete", "pod", leaving!.name, "--grace-period=0", "--force"]);
      const [cordon, evict] = await node("n4").drain();
      expect([cordon?.already, evict?.already, evict?.cannot]).toEqual([true, true, undefined]);
      expect(await node("n4").carryOut(evict!.drain)).toMatchObject({ code: 0 });
      expect((await json("get", "pods", "-l", "app=log")).items.every(({ metadata }) => metadata.deletionTimestamp === undefined)).toBe(true);
      expect(await node("n4").carryOut(cordon!.undo!)).toMatchObject({ code: 0 });
      await kube.kubectl(["cordon", "four.example.org"]);
      // Somebody else's: neither done nor undone.
      expect((await node("n4").drain())[0]).toMatchObject({ name: "cordon", already: true });
      await kube.kubectl(["uncordon", "four.example.org"]);
    });
  });

  test("that was taken back, has expired or lost its role is asked for anew, by itself", async () => {
    const before = await readFile(node("n4").accountFile, "utf8");
    await kube.kubectl(["delete", "serviceaccount", "evenkeel-n4", "--namespace=kube-system"]);
    // The API remembers for ten seconds that a token was good (TokenSuccessCacheTTL).
    const asks = await until("the account to be refused", () => node("n4").plan(), (steps) => steps.length > 0);
    expect(asks).toMatchObject([{ do: "ask", why: "the API does not take its account any more" }]);
    expect(await node("n4").gate()).toEqual([expect.stringContaining("have expired or were taken back: it asks n1 for others by itself")]);
    expect((await node("n4").drain())[0]?.cannot).toContain("it asks n1 for others by itself");
    expect(await node("n4").converge()).toEqual([]);
    expect(await readFile(node("n4").accountFile, "utf8")).not.toBe(before);

    await writeFile(node("n4").accountFile, await withToken(await readFile(node("n4").accountFile, "utf8"), { iat: -7_200, exp: -3_600 }));
    expect(await node("n4").plan()).toMatchObject([{ do: "ask", why: "the API does not take its account any more" }]);
    expect(await node("n4").converge()).toEqual([]);

    await kube.kubectl(["delete", "clusterrolebinding", "evenkeel-n4"]);
    await until("the right to be gone", () => node("n4").plan(), (steps) => steps.length > 0);
    expect(await node("n4").converge()).toEqual([]);
  });

  test("is renewed while it still works, when two thirds of its life are over", async () => {
    const file = node("n4").accountFile;
    // The kind reads the time where a node has it.
    const nowSeconds = Math.floor(Date.now() / 1_000);
    await mkdir(join(node("n4").root, "proc"), { recursive: true });
    await writeFile(join(node("n4").root, "proc/stat"), `btime ${nowSeconds - 100}\n`);
    await writeFile(join(node("n4").root, "proc/uptime"), "100.00 0.00\n");
    expect(await node("n4").plan()).toEqual([]);
    const old = await withToken(await readFile(file, "utf8"), { iat: -21 * 86_400, exp: 9 * 86_400 });
    await writeFile(file, old);
    expect(await node("n4").gate()).toEqual([]);
    expect(await node("n4").plan()).toMatchObject([{ do: "ask", why: "its account's token ends in 216 hours" }]);
    expect(await node("n4").converge()).toEqual([]);
    expect(await readFile(file, "utf8")).not.toBe(old);
  });

  /** The same kubeconfig with the token changed and signed again, by the cluster's own key. */
  async function withToken(text: string, times: { readonly iat: number; readonly exp: number }): Promise<string> {
    const token = /"token": "([^"]+)"/.exec(text)?.[1] ?? "";
    const [header, payload] = token.split(".");
    const nowSeconds = Math.floor(Date.now() / 1_000);
    const claims = { ...(JSON.parse(Buffer.from(payload ?? "", "base64url").toString()) as object), iat: nowSeconds + times.iat, nbf: nowSeconds + times.iat, exp: nowSeconds + times.exp };
    const signed = `${header}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}`;
    const key = createPrivateKey(await readFile(join(kube.directory, "sa.key")));
    return text.replace(token, `${signed}.${createSign("RSA-SHA256").update(signed).sign(key).toString("base64url")}`);
  }

  test("goes when its worker leaves the repository, and no other goes with it", async () => {
    nodes.delete("n5");
    expect((await node("n1").plan()).map((step) => [step.do, step.removes, step.why])).toEqual([["run", true, "n5 is no worker of this cluster any more, and loses its account"]]);
    expect(await node("n1").converge()).toEqual([]);
    for (const sort of ["serviceaccount", "clusterrole", "clusterrolebinding"]) {
      await expect(kube.kubectl(["get", sort, "evenkeel-n5", "--namespace=kube-system"])).rejects.toThrow("not found");
      expect(await kube.kubectl(["get", sort, "evenkeel-n4", "--namespace=kube-system", "-o", "name"])).toContain("evenkeel-n4");
    }
  });

  test("is for the name that the repository gives the node: another name in the cluster is said, with what to write", async () => {
    const { section } = node("n4");
    node("n4").section = { ...section, nodeName: "four" };
    expect(await node("n4").converge()).toEqual([expect.stringMatching(/^Kubernetes has no node called four: if this node has another name there .* write it in the section as nodeName:/)]);
    expect((await node("n4").drain())[0]?.cannot).toContain("Kubernetes has no node called four");
    node("n4").section = section;
    expect(await node("n4").converge()).toEqual([]);
  });
});

describe.skipIf(problem !== null)("credentials of a server, and an API that is away", () => {
  test("a server's client certificate that has expired is named with its file and its cure; no account is made then", async () => {
    const { section } = node("n1");
    const kubeconfig = await kube.kubeconfigOf(-1);
    node("n1").section = { ...section, kubeconfig, labels: { a: "b" } };
    expect(await node("n1").converge()).toEqual([expect.stringMatching(new RegExp(`refuses the credentials of this node: ${kubeconfig} holds a client certificate that has expired .*kubeadm certs renew all.*Unauthorized`))]);
    expect(await node("n1").gate()).toEqual([expect.stringContaining("kubeadm certs renew all")]);
    const made = await node("n1").make("n4", "account");
    expect([made?.code === 0, made?.stdout, made?.stderr]).toEqual([false, "", expect.stringContaining("must be logged in")]);
    node("n1").section = { ...section, kubeconfig: await kube.kubeconfigOf(7) };
    expect(await node("n1").converge()).toEqual([]);
    node("n1").section = section;
  });

  test("a worker that wants nothing of the API is not held up while that is away, and cannot go", async () => {
    await kube.stopApi();
    expect((await node("n4").gate())[0]).toMatch(/the Kubernetes API does not answer: look at the service of n1.*refused/s);
    expect((await node("n4").drain())[0]?.cannot).toContain("does not answer");
    expect(await node("n4").plan()).toMatchObject([{ resource: "kubernetes/api", do: "fail", message: expect.stringContaining("look at the service of n1") }]);
    node("n4").owned.clear();
    node("n4").section = { nodeName: "four.example.org" };
    expect(await node("n4").plan()).toEqual([]);
  });
});
