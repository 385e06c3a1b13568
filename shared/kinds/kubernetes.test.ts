import { describe, expect, test } from "vitest";
import { kubernetes } from "./kubernetes.ts";
import { explain, KubeBudget, KubeNode, KubePod, selects } from "./kubernetes-api.ts";
import { drainSteps, gateReasons } from "./kubernetes-drain.ts";
import type { GateFacts } from "./kubernetes-drain.ts";
import { parseManifests, planManifests } from "./kubernetes-manifests.ts";
import { makeToken, observeMember, planMember, planUpgrade } from "./kubernetes-member.ts";
import type { MemberFacts } from "./kubernetes-member.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Json, Probe, Step } from "./kind.ts";
import { unknownUnit } from "./unit-state.ts";

const binary = { url: "https://files.example.org/k3s", sha256: "a".repeat(64) };
const nodes = { n1: "server", n2: "server", n3: "server", n4: "agent" } as const;
type Name = keyof typeof nodes;

function want(self: Name, written: object = {}, others: Readonly<Record<string, object>> = {}) {
  const base = { distribution: "k3s", binary, bootstrap: { node: "n1", id: "first" }, endpoint: "10.0.0.100", version: "v1.33.1+k3s1", ...written };
  const peers = Object.entries(nodes).map(([name, role], index) => ({ name, address: `10.0.0.${index + 1}`, section: kubernetes.schema.parse({ ...base, role, ...others[name] }) }));
  const { want: resolved, misfits } = kubernetes.resolve!(kubernetes.schema.parse({ ...base, role: nodes[self], ...others[self] }), { cluster: "cupboard", self, nodes: peers });
  return { want: resolved as KubernetesWant, misfits };
}

const fresh: MemberFacts = { unit: unknownUnit, binary: { stat: null, record: null }, files: new Map([["/etc/rancher/k3s/config.yaml", null], ["/etc/rancher/k3s/evenkeel-token", null]]), joined: false };
const plan = (self: Name, facts: MemberFacts = fresh, options: { readonly given?: Readonly<Record<string, string>>; readonly owned?: Readonly<Record<string, Json>>; readonly written?: object } = {}): readonly Step[] =>
  planMember(want(self, options.written).want, facts, new Map(Object.entries(options.owned ?? {})), new Map(Object.entries(options.given ?? {})));
const shown = (steps: readonly Step[]): readonly string[] => steps.map((step) => `${step.do} ${"path" in step ? step.path : "key" in step ? `${step.key} of ${step.from.join(" ")}` : "unit" in step ? `${step.action} ${step.unit}` : "argv" in step ? step.argv.join(" ") : ""}`.trim());
const textOf = (steps: readonly Step[], path: string): string => {
  const step = steps.find((each) => each.do === "write" && each.path === path);
  return step?.do === "write" ? new TextDecoder().decode(step.content) : "";
};

describe("a k3s cluster", () => {
  test("is founded only when all other servers have said that there is none", () => {
    expect(shown(plan("n1"))).toEqual(["download /usr/local/bin/k3s", "ask state/n2 of n2", "ask state/n3 of n3"]);
    expect(shown(plan("n1", fresh, { given: { "state/n2": "none" } }))).toContain("ask state/n3 of n3");
    const founding = plan("n1", fresh, { given: { "state/n2": "none", "state/n3": "none\n" } });
    expect(shown(founding)).toEqual(["download /usr/local/bin/k3s", "write /etc/rancher/k3s/config.yaml", "write /etc/systemd/system/k3s.service", "unit daemon-reload k3s.service", "unit enable k3s.service", "unit start k3s.service"]);
    expect(textOf(founding, "/etc/rancher/k3s/config.yaml")).toContain("cluster-init: true");
    expect(founding.at(-1)).toMatchObject({ resource: "kubernetes/bootstrap/first", claim: { founded: "kubernetes" }, needs: ["kubernetes/member"] });
  });

  test("is not founded a second time: not with the same id, and not beside one that lives", () => {
    expect(shown(plan("n1", fresh, { owned: { "bootstrap/first": { founded: "kubernetes" } } }))).toContain("ask token of n2 n3");
    expect(shown(plan("n1", fresh, { given: { "state/n2": "member", "state/n3": "none" } }))).toContain("ask token of n2 n3");
  });

  test("is joined by a token in a file of root's, never as an argument", () => {
    expect(shown(plan("n4"))).toEqual(["download /usr/local/bin/k3s", "ask token of n1 n2 n3"]);
    const joining = plan("n4", fresh, { given: { token: "K10abc::server:secret\n" } });
    expect(shown(joining)).toContain("write /etc/rancher/k3s/evenkeel-token");
    expect(joining.find((step) => step.do === "write" && step.path.endsWith("token"))).toMatchObject({ mode: 0o600, sensitive: true });
    expect(textOf(joining, "/etc/rancher/k3s/config.yaml")).toBe('server: https://10.0.0.100:6443\ntoken-file: /etc/rancher/k3s/evenkeel-token\n');
    expect(shown(joining).join(" ")).not.toContain("secret");
    expect(shown(joining).at(-1)).toBe("unit start k3s-agent.service");
  });

  test("a member that runs is left alone; a new program restarts it, under a lease", () => {
    const joined = plan("n4", fresh, { given: { token: "t" } });
    const files = new Map(joined.flatMap((step) => (step.do === "write" ? [[step.path, new TextDecoder().decode(step.content)] as const] : [])));
    const facts: MemberFacts = { unit: { ...unknownUnit, activeState: "active", fileState: "enabled" }, binary: { stat: { type: "file", mode: 0o755, uid: 0, gid: 0, sizeBytes: 1, stamp: "s" }, record: { sha256: binary.sha256, member: null, stamp: "s" } }, files, joined: true };
    expect(plan("n4", facts)).toEqual([]);
    const newer = plan("n4", facts, { written: { binary: { ...binary, sha256: "b".repeat(64) } } });
    expect(newer).toMatchObject([{ do: "download", impact: "disruptive", replace: true, then: [{ unit: "k3s-agent.service", action: "restart" }] }]);
  });

  test("a program two minor versions ahead is not fetched, nor is one that is older; nothing else of the member is touched", () => {
    const member = { ...fresh, joined: true, unit: { ...unknownUnit, activeState: "active", fileState: "enabled" }, binary: { stat: { type: "file", mode: 0o755, uid: 0, gid: 0, sizeBytes: 1 }, record: null, version: "v1.31.4+k3s1" } } as const;
    expect(plan("n4", member)).toMatchObject([{ do: "fail", resource: "kubernetes/member", message: expect.stringContaining("v1.31.4+k3s1 cannot become v1.33.1+k3s1 at once: it goes one minor version at a time. Write v1.32.x first") }]);
    expect(plan("n4", { ...member, binary: { ...member.binary, version: "v1.34.0+k3s1" } })).toMatchObject([{ do: "fail", message: expect.stringContaining("does not go back") }]);
    expect(shown(plan("n4", { ...member, binary: { ...member.binary, version: "v1.32.9+k3s1" } }))[0]).toBe("download /usr/local/bin/k3s");
    const release = (version: string) => ({ url: `https://github.example.org/k3s/releases/download/${version}%2Bk3s1/k3s`, sha256: "b".repeat(64) });
    expect(plan("n4", member, { written: { version: undefined, binary: release("v1.33.1") } })).toMatchObject([{ do: "fail", message: expect.stringContaining("Write v1.32.x first") }]);
    expect(kubernetes.schema.safeParse({ distribution: "k3s", version: "v1.33.1+k3s1", binary: release("v1.33.1") }).success).toBe(true);
    expect(JSON.stringify(kubernetes.schema.safeParse({ distribution: "k3s", version: "v1.33.1+k3s1", binary: release("v1.35.0") }).error?.issues)).toContain("the address is that of v1.35.0+k3s1, and version says v1.33.1+k3s1");
  });

  test("servers make tokens, and say whether they are members; agents make none", () => {
    const server = want("n2").want;
    const joined = { ...fresh, joined: true };
    expect(makeToken(server, joined, { node: "n4", key: "token" })?.argv).toEqual(["cat", "/var/lib/rancher/k3s/server/token"]);
    expect(makeToken(server, fresh, { node: "n4", key: "token" })).toBeNull();
    expect(makeToken(server, fresh, { node: "n1", key: "state/n2" })?.argv).toEqual(["echo", "none"]);
    expect(makeToken(server, joined, { node: "n1", key: "state/n2" })?.argv).toEqual(["echo", "member"]);
    expect(makeToken(want("n4").want, joined, { node: "n1", key: "token" })).toBeNull();
  });
});

describe("kubeadm", () => {
  const written = { distribution: "kubeadm", binary: undefined, version: "v1.33.1" };
  const installed: MemberFacts = { ...fresh, unit: { ...unknownUnit, loadState: "loaded" } };
  const join = `kubeadm join 10.0.0.100:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:${"c".repeat(64)} \n`;

  test("without its packages: says what to declare", () => {
    expect(plan("n4", fresh, { written })).toMatchObject([{ do: "fail", message: expect.stringContaining("declare kubeadm, kubelet and kubectl") }]);
  });

  test("founds by a file, with the endpoint and the version of the repository", () => {
    const steps = plan("n1", installed, { written, given: { "state/n2": "none", "state/n3": "none" } });
    expect(shown(steps)).toEqual(["write /etc/kubernetes/evenkeel-kubeadm.yaml", "run kubeadm init --config /etc/kubernetes/evenkeel-kubeadm.yaml --skip-token-print"]);
    expect(textOf(steps, "/etc/kubernetes/evenkeel-kubeadm.yaml")).toMatch(/controlPlaneEndpoint: 10\.0\.0\.100:6443\nkubernetesVersion: v1\.33\.1/);
    expect(steps[1]).toMatchObject({ oneWay: expect.any(String) });
  });

  test("joins by what a server has printed, taken apart and written into a file that goes again", () => {
    const steps = plan("n4", installed, { written, given: { join } });
    expect(shown(steps)).toEqual(["write /etc/kubernetes/evenkeel-kubeadm.yaml", "run kubeadm join --config /etc/kubernetes/evenkeel-kubeadm.yaml", "remove /etc/kubernetes/evenkeel-kubeadm.yaml"]);
    expect(textOf(steps, "/etc/kubernetes/evenkeel-kubeadm.yaml")).toContain("token: abcdef.0123456789abcdef");
    expect(steps[0]).toMatchObject({ mode: 0o600, sensitive: true });
    expect(shown(plan("n2", installed, { written, given: { join } }))).toEqual(["ask certificate-key of n1 n3"]);
    expect(textOf(plan("n2", installed, { written, given: { join, "certificate-key": "d".repeat(64) } }), "/etc/kubernetes/evenkeel-kubeadm.yaml")).toContain(`certificateKey: ${"d".repeat(64)}`);
  });

  test("does not carry out what it does not know", () => {
    expect(plan("n4", installed, { written, given: { join: "kubeadm join x; rm -rf /" } })).toMatchObject([{ do: "fail", message: expect.stringContaining("is not what kubeadm token create") }]);
  });

  test("is upgraded under a lease, one minor version at a time, and not back", () => {
    const { want: wanted } = want("n1", written);
    expect(planUpgrade(wanted, "v1.33.1")).toEqual([]);
    expect(planUpgrade(wanted, "v1.32.5")).toMatchObject([{ impact: "disruptive", argv: ["kubeadm", "upgrade", "apply", "--yes", "v1.33.1"] }]);
    expect(planUpgrade(want("n4", written).want, "v1.32.5")).toMatchObject([{ argv: ["kubeadm", "upgrade", "node"] }]);
    expect(planUpgrade(wanted, "v1.31.0")).toMatchObject([{ do: "fail", message: expect.stringContaining("Write v1.32.x first") }]);
    expect(planUpgrade(wanted, "v1.34.0")).toMatchObject([{ do: "fail", message: expect.stringContaining("does not go back") }]);
  });
});

test("microk8s joins by a token that is checked first", () => {
  const written = { distribution: "microk8s", binary: undefined, version: undefined };
  expect(shown(plan("n4", fresh, { written }))).toEqual(["ask join of n1 n2 n3"]);
  expect(plan("n4", fresh, { written, given: { join: `10.0.0.1:25000/${"a".repeat(32)}/0123abcd\n` } })).toMatchObject([{ do: "run", sensitive: true, argv: ["xargs", "--no-run-if-empty", "microk8s", "join", "--worker"] }]);
  expect(plan("n4", fresh, { written, given: { join: "$(reboot)" } })).toMatchObject([{ do: "fail" }]);
});

test.each([
  ["a worker that has only been given the snap", "n4", [], "- Address: 10.0.0.4:19001\n", false],
  ["a worker that has joined", "n4", [], null, true],
  ["a server that has only been given the snap", "n2", [], "- Address: 10.0.0.2:19001\n  ID: 1\n  Role: 0\n", false],
  ["a server that has joined", "n2", [], "- Address: 10.0.0.1:19001\n  ID: 1\n  Role: 0\n- Address: 10.0.0.2:19001\n  ID: 2\n  Role: 0\n", true],
  ["the founder before it has founded", "n1", [], "- Address: 10.0.0.1:19001\n", false],
  ["the founder", "n1", ["bootstrap/first"], "- Address: 10.0.0.1:19001\n", true],
] as const)("microk8s: %s", async (_name, self, claims, list, expected) => {
  const files: Readonly<Record<string, string>> = { ...(list !== null && { "/var/snap/microk8s/current/var/kubernetes/backend/cluster.yaml": list }), ...(list === null && { "/var/snap/microk8s/current/var/lock/clustered.lock": "" }) };
  const wanted = want(self, { distribution: "microk8s", binary: undefined, version: undefined }).want;
  const probe = { stat: (path: string) => Promise.resolve(files[path] === undefined ? null : { type: "file", mode: 0o600, uid: 0, gid: 0, sizeBytes: 1 }), readText: (path: string) => Promise.resolve(files[path] ?? null) } as unknown as Probe;
  expect((await observeMember(wanted, probe, null, new Map(claims.map((key) => [key, {}])))).joined).toBe(expected);
});

describe("what does not fit between nodes", () => {
  const messages = (self: Name, written: object, others: Readonly<Record<string, object>> = {}): readonly string[] => want(self, written, others).misfits.map(({ path, message }) => `${path.join(".")}: ${message}`);
  test.each([
    ["a founder who is no server", "n2", { bootstrap: { node: "n4", id: "x" } }, {}, ["bootstrap.node: n4 is not a server of the cluster kubernetes"]],
    ["k3s without its program", "n2", { binary: undefined }, {}, ["distribution: k3s needs the program: binary, with url and sha256"]],
    ["an agent newer than a server", "n4", {}, { n4: { version: "v1.34.0+k3s1" } }, expect.arrayContaining(["version: v1.34.0+k3s1 is newer than the server n1 (v1.33.1+k3s1)"])],
    ["a server two minors ahead", "n2", {}, { n2: { version: "v1.35.0+k3s1" } }, expect.arrayContaining(["version: v1.35.0+k3s1 is more than one minor version from n1 (v1.33.1+k3s1)"])],
    ["a manifest that is no object", "n2", { manifests: { web: "just: text\n" } }, {}, ["manifests: the manifest web has no object in its 1. document: it lacks apiVersion"]],
    ["all is well", "n2", {}, {}, []],
  ] as const)("%s", (_name, self, written, others, expected) => expect(messages(self, written, others)).toEqual(expected));
});

const pod = (name: string, more: { readonly owner?: string; readonly emptyDir?: boolean; readonly labels?: Readonly<Record<string, string>>; readonly phase?: string } = {}) =>
  KubePod.parse({
    metadata: { name, namespace: "default", labels: more.labels ?? {}, ...(more.owner && { ownerReferences: [{ kind: more.owner, name: "o", controller: true }] }) },
    spec: { volumes: more.emptyDir ? [{ name: "v", emptyDir: {} }] : [] },
    status: { phase: more.phase ?? "Running" },
  });
const ready = (name: string, status = "True", unschedulable = false) => KubeNode.parse({ metadata: { name }, spec: { unschedulable }, status: { conditions: [{ type: "Ready", status }] } });
const ok = <T>(value: T) => ({ ok: true, value }) as const;
const facts = (change: Partial<GateFacts> = {}): GateFacts => ({ joined: true, node: ok(ready("n4")), pods: ok([pod("web-1", { owner: "ReplicaSet", labels: { app: "web" } }), pod("log", { owner: "DaemonSet" })]), budgets: ok([]), nodes: ok([ready("n1"), ready("n4")]), health: null, ...change });
const budget = (allowed: number, expected: number, desired: number) => KubeBudget.parse({ metadata: { name: "web", namespace: "default" }, spec: { selector: { matchLabels: { app: "web" } } }, status: { disruptionsAllowed: allowed, currentHealthy: expected, desiredHealthy: desired, expectedPods: expected } });

describe("a drain", () => {
  const { want: wanted } = want("n4", { drain: { timeoutMinutes: 2, graceSeconds: 5, podSelector: "app!=cache" } });

  test("closes the node, and asks the pods to leave; opens it again, and only if it was open", () => {
    const steps = drainSteps(wanted, facts());
    expect(steps.map(({ name, already, drain, undo }) => [name, already, drain.argv.slice(3), undo?.argv.slice(3)])).toEqual([
      ["cordon", false, ["patch", "node", "n4", "--type=merge", '--patch={"spec":{"unschedulable":true}}'], ["patch", "node", "n4", "--type=merge", '--patch={"spec":{"unschedulable":null}}']],
      ["pods", false, ["drain", "n4", "--ignore-daemonsets", "--timeout=120s", "--delete-emptydir-data", "--grace-period=5", "--pod-selector=app!=cache"], undefined],
    ]);
    expect(drainSteps(wanted, facts({ node: ok(ready("n4", "True", true)) }))[0]?.already).toBe(true);
    expect(drainSteps(wanted, facts({ pods: ok([pod("log", { owner: "DaemonSet" })]) }))[1]?.already).toBe(true);
  });

  test("is not begun when pods may not be ended, or nobody tells which there are", () => {
    expect(drainSteps(wanted, facts({ pods: ok([pod("alone")]) }))[0]?.cannot).toContain("nothing would start default/alone again elsewhere");
    expect(drainSteps(want("n4", { drain: { localData: "refuse" } }).want, facts({ pods: ok([pod("db", { owner: "StatefulSet", emptyDir: true })]) }))[0]?.cannot).toContain("default/db would lose local data");
    expect(drainSteps(wanted, facts({ pods: { ok: false, refusal: "away", message: "the Kubernetes API does not answer" } }))[0]?.cannot).toBe("the Kubernetes API does not answer");
    expect(drainSteps(want("n4", { drain: { unmanaged: "delete" } }).want, facts({ pods: ok([pod("alone")]) }))[1]?.drain.argv).toContain("--force");
  });
});

describe("a gate", () => {
  const { want: wanted } = want("n4");
  test("is open when all is well", () => expect(gateReasons(wanted, facts())).toEqual([]));
  test("names nodes that are not ready, and what the control plane complains of", () => {
    expect(gateReasons(wanted, facts({ nodes: ok([ready("n1", "Unknown"), ready("n4")]), health: "etcd failed: reason withheld" }))).toEqual(["the Kubernetes control plane is not well: etcd failed: reason withheld", { text: "not ready in Kubernetes: n1", missing: ["n1"] }]);
  });
  test("names the budget that lets nothing go, and the pod; and one that never will", () => {
    expect(gateReasons(wanted, facts({ budgets: ok([budget(1, 3, 2)]) }))).toEqual([]);
    expect(gateReasons(wanted, facts({ budgets: ok([budget(0, 2, 1)]) }))).toEqual([{ text: "the budget default/web lets no pod go (2 of 2 healthy, 1 wanted), and default/web-1 is on this node", holds: "itself" }]);
    expect(gateReasons(wanted, facts({ budgets: ok([budget(0, 2, 2)]) }))).toMatchObject([{ text: expect.stringContaining("it never will, as it wants all of them: give it maxUnavailable: 1") }]);
  });
  test("names a pod that two budgets count: the API answers each of its evictions with 500", () => {
    const other = { ...budget(1, 2, 1), metadata: { name: "all", namespace: "default" } };
    expect(gateReasons(wanted, facts({ budgets: ok([budget(1, 2, 1), other]) }))).toEqual([{ text: "default/web-1 is counted by 2 budgets (default/web, default/all), and Kubernetes evicts no pod that more than one counts: let their selectors not overlap", holds: "itself" }]);
  });
});

test("a selector with expressions is read as the API reads it", () => {
  const of = (matchExpressions: readonly object[]) => KubeBudget.parse({ metadata: { name: "b", namespace: "default" }, spec: { selector: { matchExpressions } } });
  const web = pod("p", { labels: { app: "web" } });
  expect([{ key: "app", operator: "In", values: ["web"] }, { key: "app", operator: "NotIn", values: ["db"] }, { key: "app", operator: "Exists" }, { key: "x", operator: "DoesNotExist" }].map((each) => selects(of([each]), web))).toEqual([true, true, true, true]);
  expect([{ key: "app", operator: "In", values: ["db"] }, { key: "app", operator: "NotIn", values: ["web"] }, { key: "x", operator: "Exists" }, { key: "app", operator: "DoesNotExist" }].map((each) => selects(of([each]), web))).toEqual([false, false, false, false]);
});

test.each([
  ["Unable to connect to the server: x509: certificate has expired or is not yet valid", "has expired, or the clock is wrong"],
  ["The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?", "the Kubernetes API does not answer"],
  ["dial tcp 10.0.0.1:6443: connect: connection refused", "the Kubernetes API does not answer"],
  ['Error from server (Forbidden): pods is forbidden: User "x" cannot list', "refuses the credentials"],
])("kubectl says %j", (stderr, expected) => expect(explain({ code: 1, stdout: "", stderr })).toContain(expected));

describe("manifests", () => {
  const wanted = (manifests: Readonly<Record<string, string>>): KubernetesWant => want("n1", { manifests }).want;
  const web = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: default}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

  test("are applied with what others need first, and written down before and after", () => {
    const steps = planManifests(wanted({ web }), null);
    expect(steps.map((step) => (step.do === "run" ? step.argv.slice(3).join(" ") : step.do))).toEqual(Array.from({ length: 3 }, () => "apply --server-side --force-conflicts --field-manager=evenkeel --filename=-"));
    expect(steps[1]?.do === "run" ? steps[1].input?.indexOf("Namespace") : -1).toBeLessThan(steps[1]?.do === "run" ? steps[1].input!.indexOf("ConfigMap") : -1);
  });

  test("that have left are removed, but for what holds other people's things", () => {
    const parsed = parseManifests(wanted({ web }).manifests);
    if (!parsed.ok) throw new Error(parsed.message);
    const inventory = { digest: parsed.digest, objects: parsed.objects.map(({ apiVersion, kind, metadata }) => ({ apiVersion, kind, namespace: metadata.namespace ?? null, name: metadata.name })) };
    expect(planManifests(wanted({ web }), inventory)).toEqual([]);
    const steps = planManifests(wanted({}), inventory);
    expect(steps.filter((step) => step.removes === true).map((step) => (step.do === "run" ? step.argv.slice(3).join(" ") : ""))).toEqual(["delete ConfigMap web --namespace=default --ignore-not-found --wait=false"]);
  });
});
