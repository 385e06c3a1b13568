import { describe, expect, test } from "vitest";
import { ACCOUNT_KEY, makeAccount, objectsOf, planAccount, planAccounts } from "./kubernetes-account.ts";
import type { AccountFacts } from "./kubernetes-account.ts";
import { ACCOUNT_FILE, KubeNode, kubectl, usesAccount } from "./kubernetes-api.ts";
import type { Read, Refusal } from "./kubernetes-api.ts";
import { SCRIPT } from "./kubernetes-script.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import { kubernetes } from "./kubernetes.ts";
import type { Json, Stat } from "./kind.ts";
import { nothingAt } from "./managed-file.ts";
import { unknownUnit } from "./unit-state.ts";

const sections = { n1: { role: "server" }, n2: { role: "server" }, n4: { role: "agent", nodeName: "four.example.org" }, n5: { role: "agent", kubeconfig: "/root/own.kubeconfig" }, n6: { role: "agent", cluster: "other" } } as const;
type Name = keyof typeof sections;

function want(self: Name, written: object = {}): KubernetesWant {
  const base = { distribution: "kubeadm", ...written };
  const section = (name: Name) => kubernetes.schema.parse({ ...base, ...sections[name] });
  const nodes = Object.keys(sections).map((name, index) => ({ name, address: `10.0.0.${index + 1}`, section: section(name as Name) }));
  return kubernetes.resolve!(section(self), { cluster: "cupboard", self, nodes }).want;
}

const DAY = 24 * 3_600;
const BORN = 1_800_000_000;
const jwt = (times: object, name = "a"): string => `${btoa('{"alg":"RS256"}')}.${btoa(JSON.stringify({ ...times, sub: name }))}.c2lnbmVk`.replaceAll("=", "");
const token = jwt({ iat: BORN, exp: BORN + 30 * DAY });
const cluster = { server: "https://10.0.0.1:6443", "certificate-authority-data": "Q0E=" };
const made = (text = token, more: object = cluster): string => JSON.stringify({ apiVersion: "v1", kind: "Config", clusters: [{ name: "kubernetes", cluster: more }], users: [{ name: "evenkeel-n4", user: { token: text } }], contexts: [], "current-context": "evenkeel" });
const rootFile: Stat = { type: "file", mode: 0o600, uid: 0, gid: 0, sizeBytes: 1 };
const accounts = { users: new Map([["root", { name: "root", uid: 0, gid: 0, gecos: "", home: "/root", shell: "/bin/sh" }]]), groups: new Map([["root", { name: "root", gid: 0, members: [] }]]) } as unknown as AccountFacts["accounts"];
const facts = (change: Partial<AccountFacts> = {}): AccountFacts => ({ accounts, file: { stat: null, text: null }, kubelet: null, nowSeconds: BORN + DAY, script: nothingAt, made: null, ...change });
const node: Read<KubeNode> = { ok: true, value: KubeNode.parse({ metadata: { name: "four.example.org" } }) };
const refused = (refusal: Refusal): Read<KubeNode> => ({ ok: false, refusal, message: `it says ${refusal}` });
const plan = (change: Partial<AccountFacts> = {}, options: { readonly node?: Read<KubeNode> | null; readonly given?: string; readonly owned?: Readonly<Record<string, Json>> } = {}) =>
  planAccount(want("n4"), facts(change), options.node === undefined ? node : options.node, new Map(Object.entries(options.owned ?? {})), new Map(options.given === undefined ? [] : [[ACCOUNT_KEY, options.given]]));

/** What stands on a node that has taken `given`. */
function standing(given: string, change: Partial<AccountFacts> = {}): Partial<AccountFacts> {
  const [step] = plan(change, { given }).steps;
  if (step?.do !== "write") throw new Error(`no file is written: ${JSON.stringify(step)}`);
  return { file: { stat: rootFile, text: new TextDecoder().decode(step.content) } };
}

describe("a worker", () => {
  test("without an account asks all servers, in their order, and does nothing else in the API", () => {
    expect(plan({}, { node: null })).toMatchObject({ settled: false, steps: [{ do: "ask", key: "account", from: ["n1", "n2"], why: "has none yet", impact: "none" }] });
  });

  test("writes what was made for root alone, not to be shown, and is content with it", () => {
    expect(plan({}, { given: made() }).steps).toMatchObject([{ do: "write", path: ACCOUNT_FILE, mode: 0o600, owner: "root", group: "root", sensitive: true, claim: { type: "absent" } }]);
    const there = standing(made());
    expect(JSON.parse(there.file?.text ?? "")).toMatchObject({ clusters: [{ cluster }], users: [{ user: { token } }] });
    expect(plan(there)).toEqual({ steps: [], settled: true });
    // The value is still there at the second look.
    expect(plan(there, { given: made() })).toEqual({ steps: [], settled: true });
  });

  test("reaches the API as its kubelet does, and follows it when that changes", () => {
    const kubelet = { server: "https://127.0.0.1:6444", "certificate-authority": "/var/lib/rancher/k3s/agent/server-ca.crt" };
    const there = standing(made(), { kubelet });
    expect(there.file?.text).toContain("127.0.0.1:6444");
    expect(there.file?.text).not.toContain("10.0.0.1");
    expect(plan({ ...there, kubelet })).toEqual({ steps: [], settled: true });
    expect(plan({ ...there, kubelet: { ...kubelet, server: "https://10.0.0.100:6443" } })).toMatchObject({ settled: true, steps: [{ do: "write", sensitive: true }] });
  });

  test.each([
    ["unauthorized", "the API does not take its account any more"],
    ["forbidden", "the API does not take its account any more"],
    ["untrusted", "the API has another certificate than its account is for"],
  ] as const)("whose account is %s asks for another; when that is no better, it says why, and does not ask at once again", (refusal, why) => {
    const there = standing(made());
    expect(plan(there, { node: refused(refusal) })).toMatchObject({ settled: false, steps: [{ do: "ask", why }] });
    const other = made(jwt({ iat: BORN, exp: BORN + 30 * DAY }, "b"));
    expect(plan(there, { node: refused(refusal), given: other })).toMatchObject({ settled: false, steps: [{ do: "write" }] });
    expect(plan(standing(other), { node: refused(refusal), given: other })).toMatchObject({ steps: [{ do: "fail", message: `it says ${refusal}` }] });
  });

  test("of a cluster whose certificate is a new one follows its kubelet first, and asks only if that does not help", () => {
    const kubelet = { server: "https://10.0.0.1:6443", "certificate-authority-data": "TkVX" };
    expect(plan({ ...standing(made()), kubelet }, { node: refused("untrusted") }).steps).toMatchObject([{ do: "write" }]);
    expect(plan({ ...standing(made(), { kubelet }), kubelet }, { node: refused("untrusted") }).steps).toMatchObject([{ do: "ask" }]);
  });

  test("keeps its account while the API is away, or has no such node", () => {
    for (const refusal of ["away", "no-node", "other"] as const) expect(plan(standing(made()), { node: refused(refusal) })).toEqual({ steps: [], settled: true });
  });

  test("has its token renewed when two thirds of its life are over, and uses it meanwhile", () => {
    const there = standing(made());
    expect(plan({ ...there, nowSeconds: BORN + 19 * DAY }).steps).toEqual([]);
    expect(plan({ ...there, nowSeconds: BORN + 21 * DAY })).toMatchObject({ settled: true, steps: [{ do: "ask", why: "its account's token ends in 216 hours" }] });
    // A clock that is wrong makes no new account at every look: the API is the judge.
    expect(plan({ ...there, nowSeconds: BORN + 400 * DAY }).steps).toEqual([]);
    expect(plan({ ...there, nowSeconds: BORN - 400 * DAY }).steps).toEqual([]);
    expect(plan({ ...there, nowSeconds: null }).steps).toEqual([]);
    expect(plan(standing(made(jwt({}))), {}).steps).toEqual([]);
    expect(plan({ ...there, nowSeconds: BORN + 21 * DAY }, { given: made() })).toEqual({ steps: [], settled: true });
  });

  test.each([
    ["", "empty"],
    ["echo gone wrong", "words"],
    [made("short"), "a token that is none"],
    [made(token, { server: "http://10.0.0.1:8080" }), "an address without TLS"],
    [made(token, { server: "" }), "no address"],
    [JSON.stringify({ clusters: [], users: [] }), "nothing in it"],
  ])("does not take what is no account: %j", (given) => {
    expect(plan({}, { given })).toMatchObject({ settled: false, steps: [{ do: "fail", message: expect.stringContaining("what a server has made is no kubeconfig") }] });
  });

  test("asks anew when somebody has spoiled the file, and puts its mode right", () => {
    expect(plan({ file: { stat: rootFile, text: "server: mine\n" } }, { node: null }).steps).toMatchObject([{ do: "ask", why: expect.stringContaining("is no kubeconfig of its account") }]);
    const there = standing(made());
    expect(plan({ file: { stat: { ...rootFile, mode: 0o644 }, text: there.file?.text ?? null } }, { owned: { account: { type: "absent" } } }).steps).toMatchObject([{ do: "attributes", mode: 0o600 }]);
  });

  test("without a section, or with a kubeconfig of the owner's, gives the file up", () => {
    const owned = new Map<string, Json>([[ACCOUNT_KEY, { type: "absent" }]]);
    for (const other of [kubernetes.schema.parse({}) as KubernetesWant, want("n5"), want("n1")]) {
      expect(usesAccount(other)).toBe(false);
      expect(planAccount(other, facts(), null, owned, new Map()).steps).toMatchObject([{ do: "restore", path: ACCOUNT_FILE, removes: true, release: true }]);
    }
    expect(planAccount(want("n5"), facts(), null, new Map(), new Map()).steps).toEqual([]);
    expect(kubectl(want("n5"))).toEqual(["kubectl", "--kubeconfig=/root/own.kubeconfig"]);
  });

  test("of microk8s uses the program itself, as its wrapper does nothing there and says that all is well", () => {
    expect(kubectl(want("n4", { distribution: "microk8s" }))).toEqual(["/snap/microk8s/current/kubectl", `--kubeconfig=${ACCOUNT_FILE}`]);
    expect(kubectl(want("n1", { distribution: "microk8s" }))).toEqual(["microk8s", "kubectl"]);
  });
});

describe("a whole plan", () => {
  const member = { unit: { ...unknownUnit, loadState: "loaded" }, binary: { stat: null, record: null }, files: new Map(), joined: true } as const;
  const whole = (read: Read<KubeNode> | null, written: object = {}, change: Partial<AccountFacts> = standing(made())) => kubernetes.plan(want("n4", written), { member, account: facts(change), node: read, applied: null }, new Map(), new Map());

  test("of a worker that wants nothing of the API is not held up while that is away; one that wants a label is, with what to look at", () => {
    expect(whole(refused("away"))).toEqual([]);
    expect(whole(refused("away"), { labels: { disk: "ssd" } })).toMatchObject([{ resource: "kubernetes/api", do: "fail", message: "it says away" }]);
  });

  test("of a worker that the cluster knows by another name says so before anybody wants it drained", () => {
    expect(whole(refused("no-node"))).toMatchObject([{ resource: "kubernetes/api", do: "fail", message: "it says no-node" }]);
  });

  test("of a server that the cluster knows by another name says so, and applies the cluster's manifests all the same", () => {
    const manifests = { web: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: default}\n" };
    const steps = kubernetes.plan(want("n1", { manifests }), { member, account: facts(), node: refused("no-node"), applied: { ok: true, inventory: null } }, new Map(), new Map());
    expect(steps.find(({ do: does }) => does === "fail")).toMatchObject({ resource: "kubernetes/api", message: "it says no-node" });
    expect(steps.some((step) => step.do === "run" && step.input?.includes("ConfigMap") === true)).toBe(true);
  });

  test("does not try labels with an account that is refused", () => {
    expect(whole(refused("unauthorized"), { labels: { disk: "ssd" } })).toMatchObject([{ resource: "kubernetes/account", do: "ask" }]);
  });

  test("of one that has not joined yet asks for a token alone", () => {
    const steps = kubernetes.plan(want("n4"), { member: { ...member, joined: false }, account: facts(), node: null, applied: null }, new Map(), new Map());
    expect(steps).toMatchObject([{ do: "ask", key: "join" }]);
  });
});

describe("a server", () => {
  const act = (self: Name, node: string, written: object = {}, joined = true) => makeAccount(want(self, written), joined, { node, key: ACCOUNT_KEY });

  test("makes an account for a worker of its cluster, under the name that the repository gives it, and puts no secret into arguments", () => {
    expect(act("n2", "n4")?.argv).toEqual([SCRIPT, "account", "kube-system", "evenkeel-n4", "2592000", "https://10.0.0.2:6443", JSON.stringify(objectsOf("evenkeel-n4", "four.example.org")), "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"]);
    const rules = JSON.stringify(objectsOf("evenkeel-n4", "four.example.org"));
    expect(rules).toContain('"resourceNames":["four.example.org"],"verbs":["patch","update"]');
    expect(rules).not.toMatch(/secrets|\*|"delete"/);
  });

  test("makes none for a server, for one with a kubeconfig of its own, for another cluster's, for a stranger, for another key; nor if it is no member", () => {
    for (const node of ["n1", "n5", "n6", "n9"]) expect(act("n2", node), node).toBeNull();
    expect(act("n4", "n4")).toBeNull();
    expect(act("n1", "n4", {}, false)).toBeNull();
    expect(makeAccount(want("n1"), true, { node: "n4", key: "account/n1" })).toBeNull();
    expect(act("n1", "n4", { distribution: "none" }, false)).not.toBeNull();
  });

  test.each([
    ["k3s.example.org", "https://k3s.example.org:6443"],
    ["10.0.0.100:7443", "https://10.0.0.100:7443"],
    ["[fd00::1]:7443", "https://[fd00::1]:7443"],
    ["[fd00::1]", "https://[fd00::1]:6443"],
  ])("names the endpoint %s as %s", (endpoint, expected) => expect(act("n1", "n4", { endpoint })?.argv[5]).toBe(expected));

  const there = (...names: string[]): AccountFacts["made"] => ({ ok: true, value: { items: names.map((name) => ({ metadata: { name } })) } });
  const planned = (self: Name, change: Partial<AccountFacts>, owned: readonly string[] = []) => planAccounts(want(self), facts(change), new Map(owned.map((key) => [key, { type: "absent" }])));

  test("gets what it makes accounts with; workers do not", () => {
    expect(planned("n1", {})).toMatchObject([{ do: "write", path: SCRIPT, mode: 0o755 }]);
    expect(planned("n4", {})).toEqual([]);
  });

  test("takes away the accounts of those who are no workers any more, and no other", () => {
    const steps = planned("n1", { made: there("evenkeel-n4", "evenkeel-n5", "evenkeel-n7", "other") });
    expect(steps.flatMap((step) => (step.do === "run" ? [step.argv.slice(-3)] : []))).toEqual(["n5", "n7"].map((name) => ["clusterrolebinding", "clusterrole", "serviceaccount"].map((sort) => `${sort}/evenkeel-${name}`)));
    expect(planned("n1", { made: refused("away") as AccountFacts["made"] })).toMatchObject([{ do: "write" }]);
  });

  test("without workers gives its script up, once the last account has gone", () => {
    const alone = { ...want("n1"), members: { self: "n1", servers: [{ name: "n1", address: null }], agents: [] } };
    const of = (madeFacts: AccountFacts["made"]) => planAccounts(alone, facts({ made: madeFacts }), new Map([[SCRIPT, { type: "absent" }]]));
    expect(of(there("evenkeel-n4"))).toMatchObject([{ do: "run", resource: "kubernetes/accounts" }, { do: "restore", needs: ["kubernetes/accounts"] }]);
    expect(of(there())).toMatchObject([{ do: "restore", path: SCRIPT }]);
    expect(of(refused("away") as AccountFacts["made"])).toEqual([]);
  });
});
