import { parse } from "yaml";
import * as z from "zod";
import type { Accounts } from "./accounts.ts";
import { readAccounts } from "./accounts.ts";
import { ACCOUNT_FILE, kubectl, readJson, usesAccount } from "./kubernetes-api.ts";
import type { KubeNode, Read } from "./kubernetes-api.ts";
import { SCRIPT, scriptText } from "./kubernetes-script.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Act, Asked, Given, Owned, Probe, ResourceId, Stat, Step } from "./kind.ts";
import { lookAt, nothingAt, planFile, restoreStep } from "./managed-file.ts";
import type { At } from "./managed-file.ts";

/**
 * By what a worker may close itself, ask its pods to leave, and open itself again: a service account of its own, which a server
 * makes when it is asked. Servers have the right to everything already.
 */

export const ACCOUNT_KEY = "account";
const NAMESPACE = "kube-system";
const LABELS = { "app.kubernetes.io/managed-by": "evenkeel", "app.kubernetes.io/component": "drain" };
const PREFIX = "evenkeel-";
const MAKE_TIMEOUT_MS = 60_000;
const DELETE_TIMEOUT_MS = 60_000;
const VALUE_LASTS_MS = 15 * 60_000;
/** A month: a node that is off for a holiday comes back with a token that holds. Some clusters give less. */
const TOKEN_LASTS_SECONDS = 30 * 24 * 3_600;
/** Renewed when so much of its life is over: there are days left to find a server that makes another. */
const RENEWED_AT = 2 / 3;
const resource: ResourceId = `kubernetes/${ACCOUNT_KEY}`;
const scriptResource: ResourceId = `kubernetes/${SCRIPT}`;
const leaversResource: ResourceId = "kubernetes/accounts";
const scriptBytes = new TextEncoder().encode(scriptText);

const Cluster = z.looseObject({
  server: z.url({ protocol: /^https$/ }).max(2_048),
  "certificate-authority-data": z.string().regex(/^[A-Za-z0-9+/=]+$/).max(64_000).optional(),
  "certificate-authority": z.string().startsWith("/").max(4_095).optional(),
});
type Cluster = Pick<z.output<typeof Cluster>, "server" | "certificate-authority-data" | "certificate-authority">;
const Token = z.string().regex(/^[A-Za-z0-9_.-]{20,}$/).max(8_192);
const Kubeconfig = z.looseObject({
  clusters: z.array(z.looseObject({ cluster: Cluster })).length(1),
  users: z.array(z.looseObject({ user: z.looseObject({ token: Token }) })).length(1),
});
const Clusters = z.looseObject({ clusters: z.array(z.looseObject({ cluster: Cluster })).min(1) });
const Times = z.looseObject({ iat: z.number().optional(), exp: z.number().optional() });
export const KubeAccounts = z.looseObject({ items: z.array(z.looseObject({ metadata: z.looseObject({ name: z.string() }) })) });
export type KubeAccounts = z.output<typeof KubeAccounts>;

/** Of a worker: its account as it stands. Of a server: what it makes accounts with, and which there are. */
export interface AccountFacts {
  readonly accounts: Accounts;
  readonly file: { readonly stat: Stat | null; readonly text: string | null };
  /** How this node's kubelet reaches the API. */
  readonly kubelet: Cluster | null;
  /** Seconds since 1970; null when it was not asked for. */
  readonly nowSeconds: number | null;
  readonly script: At;
  /** The accounts that there are; null where nobody needs to know. */
  readonly made: Read<KubeAccounts> | null;
}

/** How the kubelet reaches the API: by the endpoint that it joined by, or by a proxy of the distribution's own that knows all servers. */
const KUBELET = {
  k3s: "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
  kubeadm: "/etc/kubernetes/kubelet.conf",
  microk8s: "/var/snap/microk8s/current/credentials/kubelet.config",
  none: "/etc/kubernetes/kubelet.conf",
} as const;

/** Reads files alone, but on the server that takes away the accounts of those who have left: that asks the API once. */
export async function observeAccount(want: KubernetesWant, probe: Probe, owned: Owned, asksApi: boolean): Promise<AccountFacts> {
  const [accounts, stat, script] = await Promise.all([readAccounts(probe), probe.stat(ACCOUNT_FILE), makesAccounts(want) || owned.has(SCRIPT) ? lookAt(probe, SCRIPT, { content: scriptBytes }) : nothingAt]);
  const facts: AccountFacts = { accounts, file: { stat, text: null }, kubelet: null, nowSeconds: null, script, made: null };
  if (usesAccount(want)) {
    const text = stat?.type === "file" ? await probe.readText(ACCOUNT_FILE) : null;
    const [kubelet, nowSeconds] = await Promise.all([probe.parsed(KUBELET[want.distribution], clusterIn), text === null ? null : secondsNow(probe)]);
    return { ...facts, file: { stat, text }, kubelet, nowSeconds };
  }
  if (!asksApi || !isFirstServer(want) || (want.members?.agents.length === 0 && !owned.has(SCRIPT))) return facts;
  const selector = Object.entries(LABELS).map(([key, value]) => `${key}=${value}`).join(",");
  return { ...facts, made: await readJson(probe, want, ["get", "serviceaccounts", `--namespace=${NAMESPACE}`, `--selector=${selector}`], KubeAccounts) };
}

/** A server on which a worker may call for an account. */
function makesAccounts({ role, members }: KubernetesWant): boolean {
  return role === "server" && (members?.agents.length ?? 0) > 0;
}

/** In the repository's order, so that two never take turns at the same objects. */
export function isFirstServer({ members }: KubernetesWant): boolean {
  return members !== undefined && members.servers[0]?.name === members.self;
}

/** There is no clock here: the kernel says when it was started, and for how long it has run since (proc_stat(5), proc_uptime(5)). */
async function secondsNow(probe: Probe): Promise<number | null> {
  const [stat, uptime] = await Promise.all([probe.readText("/proc/stat"), probe.readText("/proc/uptime")]);
  const [boot, runs] = [/^btime (\d+)$/m.exec(stat ?? "")?.[1], /^(\d+)/.exec(uptime ?? "")?.[1]];
  return boot === undefined || runs === undefined ? null : Number(boot) + Number(runs);
}

function clusterIn(text: string): Cluster | null {
  try {
    const found = plain(Clusters.parse(parse(text)).clusters[0]?.cluster);
    return found !== null && ("certificate-authority-data" in found || "certificate-authority" in found) ? found : null;
  } catch {
    return null;
  }
}

/** The cluster and the token in a kubeconfig of this kind's; null when it is none. */
function accountIn(text: string): { readonly cluster: Cluster; readonly token: string } | null {
  try {
    const { clusters, users } = Kubeconfig.parse(JSON.parse(text));
    const [cluster, token] = [plain(clusters[0]?.cluster), users[0]?.user.token];
    return cluster === null || token === undefined ? null : { cluster, token };
  } catch {
    return null;
  }
}

/** What names the cluster, and nothing else that may stand beside it. */
function plain(cluster: Cluster | undefined): Cluster | null {
  if (cluster === undefined) return null;
  const { server, "certificate-authority-data": data, "certificate-authority": file } = cluster;
  return { server, ...(data === undefined ? {} : { "certificate-authority-data": data }), ...(file === undefined ? {} : { "certificate-authority": file }) };
}

function kubeconfigText(cluster: Cluster, token: string): string {
  const config = { apiVersion: "v1", kind: "Config", clusters: [{ name: "kubernetes", cluster }], users: [{ name: "evenkeel", user: { token } }], contexts: [{ name: "evenkeel", context: { cluster: "kubernetes", user: "evenkeel" } }], "current-context": "evenkeel" };
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** When a token was made and when it ends, in seconds since 1970 (RFC 7519, 4.1); one of before 1.24 may never end. */
function timesOf(token: string): z.output<typeof Times> {
  try {
    return Times.parse(JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/"))));
  } catch {
    return {};
  }
}

/** Steps of a worker; `settled`: the account as it stands can be used. */
export function planAccount(want: KubernetesWant, facts: AccountFacts, node: Read<KubeNode> | null, owned: Owned, given: Given): { readonly steps: readonly Step[]; readonly settled: boolean } {
  const { file, kubelet } = facts;
  if (!usesAccount(want)) return { steps: owned.has(ACCOUNT_KEY) ? [restoreStep(resource, ACCOUNT_FILE, owned.get(ACCOUNT_KEY))] : [], settled: true };
  const standing = file.text === null ? null : accountIn(file.text);
  const fault = faultOf(file.text, standing?.token ?? null, facts.nowSeconds, node);
  const refreshed = standing === null ? null : kubeconfigText(kubelet ?? standing.cluster, standing.token);
  const hasMoved = node?.ok === false && node.refusal === "untrusted" && refreshed !== file.text;
  if (refreshed !== null && (fault === null || hasMoved)) return { steps: planAccountFile(refreshed, facts, owned), settled: fault === null };
  const value = given.get(ACCOUNT_KEY);
  const settled = fault?.urgent === false;
  if (value === undefined) {
    const from = (want.members?.servers ?? []).map(({ name }) => name);
    return { steps: [{ resource, why: fault?.why ?? "", impact: "none", do: "ask", key: ACCOUNT_KEY, from, what: "an account in Kubernetes by which this node drains itself", lastsMs: VALUE_LASTS_MS }], settled };
  }
  const made = accountIn(value);
  const fail = (message: string): { readonly steps: readonly Step[]; readonly settled: boolean } => ({ steps: [{ resource, why: fault?.why ?? "", impact: "none", do: "fail", message }], settled });
  if (made === null) return fail("what a server has made is no kubeconfig with a token and an https address: has it an endpoint, or an address in the repository? Another one is asked for by itself");
  const text = kubeconfigText(kubelet ?? made.cluster, made.token);
  if (text !== file.text) return { steps: planAccountFile(text, facts, owned), settled: false };
  // Just made, and no better: what is wrong is not the account.
  if (fault?.urgent === false) return { steps: [], settled: true };
  return fail(node?.ok === false ? node.message : "the account that was just made is not taken by the Kubernetes API");
}

function planAccountFile(text: string, { accounts, file }: AccountFacts, owned: Owned): readonly Step[] {
  const at: At = { stat: file.stat, same: file.text === text, target: null, entries: null };
  return planFile({ path: ACCOUNT_FILE, content: new TextEncoder().encode(text), mode: 0o600, owner: "root", group: "root" }, at, { resource, accounts, owned, common: { sensitive: true } });
}

/** Why another account is needed; not urgent while the one that stands can still be used. */
function faultOf(text: string | null, token: string | null, nowSeconds: number | null, node: Read<KubeNode> | null): { readonly why: string; readonly urgent: boolean } | null {
  if (text === null) return { why: "has none yet", urgent: true };
  if (token === null) return { why: `what stands in ${ACCOUNT_FILE} is no kubeconfig of its account`, urgent: true };
  if (node?.ok === false && (node.refusal === "unauthorized" || node.refusal === "forbidden" || node.refusal === "untrusted")) return { why: node.refusal === "untrusted" ? "the API has another certificate than its account is for" : "the API does not take its account any more", urgent: true };
  const { iat, exp } = timesOf(token);
  // What the API still takes although its time is over by this node's clock says that the clock is wrong, and needs no other.
  if (iat === undefined || exp === undefined || nowSeconds === null || nowSeconds >= exp || nowSeconds < iat + (exp - iat) * RENEWED_AT) return null;
  return { why: `its account's token ends in ${Math.ceil((exp - nowSeconds) / 3_600)} hours`, urgent: false };
}

/** What a server needs to make accounts; and, on the first of them, that who has left has none any more. */
export function planAccounts(want: KubernetesWant, { accounts, script, made }: AccountFacts, owned: Owned): readonly Step[] {
  const expected = new Set((want.members?.agents ?? []).map(({ name }) => accountOf(name)));
  const leavers = made?.ok === true ? made.value.items.map(({ metadata }) => metadata.name).filter((name) => name.startsWith(PREFIX) && !expected.has(name)) : [];
  const away = leavers.map((name): Step => ({
    resource: leaversResource,
    why: `${name.slice(PREFIX.length)} is no worker of this cluster any more, and loses its account`,
    impact: "none",
    removes: true,
    do: "run",
    argv: [...kubectl(want), "--request-timeout=15s", "delete", `--namespace=${NAMESPACE}`, "--ignore-not-found", `clusterrolebinding/${name}`, `clusterrole/${name}`, `serviceaccount/${name}`],
    timeoutMs: DELETE_TIMEOUT_MS,
  }));
  if (makesAccounts(want)) return [...away, ...planFile({ path: SCRIPT, content: scriptBytes, mode: 0o755, owner: "root", group: "root" }, script, { resource: scriptResource, accounts, owned })];
  // While there are accounts left that could not be looked at, the script stays, and with it the memory that there are some.
  const isKnown = want.role !== "server" || made === null || made.ok;
  return owned.has(SCRIPT) && isKnown ? [...away, { ...restoreStep(scriptResource, SCRIPT, owned.get(SCRIPT)), ...(leavers.length === 0 ? {} : { needs: [leaversResource] }) }] : away;
}

/** The name of a node's service account, cluster role and binding. A node's name in the repository has at most 63 characters. */
function accountOf(node: string): string {
  return `${PREFIX}${node}`;
}

/** An account for a worker of this cluster, and its name in Kubernetes as the repository says it, whatever the node asks for. */
export function makeAccount(want: KubernetesWant, joined: boolean, { node, key }: Asked): Act | null {
  const agent = want.members?.agents.find(({ name }) => name === node);
  if (key !== ACCOUNT_KEY || want.role !== "server" || agent === undefined || (want.distribution !== "none" && !joined)) return null;
  const name = accountOf(node);
  return { doing: `making an account in Kubernetes for ${node}`, argv: [SCRIPT, "account", NAMESPACE, name, String(TOKEN_LASTS_SECONDS), addressOf(want), JSON.stringify(objectsOf(name, agent.nodeName)), ...kubectl(want)], timeoutMs: MAKE_TIMEOUT_MS };
}

/** Where a worker reaches the API that has no word of its kubelet's; empty where this server's own file has to say it. */
function addressOf({ endpoint, members, distribution }: KubernetesWant): string {
  const host = endpoint ?? members?.servers.find(({ name }) => name === members.self)?.address ?? "";
  if (host === "") return "";
  if (host.startsWith("[") ? /\]:\d+$/.test(host) : /^[^:]*:\d+$/.test(host)) return `https://${host}`;
  return `https://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${distribution === "microk8s" ? 16_443 : 6_443}`;
}

/**
 * What a drain and its gate take (kubectl-drain, kubectl-cordon): to change one node alone, RBAC can say by its name; pods have
 * no such limit, so an account can ask any pod to leave that its budget lets go. It can delete none, and reads no secrets.
 */
export function objectsOf(name: string, nodeName: string): object {
  const metadata = { name, labels: LABELS };
  return {
    apiVersion: "v1",
    kind: "List",
    items: [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { ...metadata, namespace: NAMESPACE }, automountServiceAccountToken: false },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        metadata,
        rules: [
          { apiGroups: [""], resources: ["nodes"], resourceNames: [nodeName], verbs: ["patch", "update"] },
          { apiGroups: [""], resources: ["nodes"], verbs: ["get", "list"] },
          { apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] },
          { apiGroups: [""], resources: ["pods/eviction"], verbs: ["create"] },
          { apiGroups: ["policy"], resources: ["poddisruptionbudgets"], verbs: ["get", "list"] },
          { apiGroups: ["apps"], resources: ["daemonsets"], verbs: ["get"] },
          { nonResourceURLs: ["/readyz"], verbs: ["get"] },
        ],
      },
      { apiVersion: "rbac.authorization.k8s.io/v1", kind: "ClusterRoleBinding", metadata, roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name }, subjects: [{ kind: "ServiceAccount", name, namespace: NAMESPACE }] },
    ],
  };
}
