import * as z from "zod";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Output, Probe } from "./kind.ts";

/** What the cluster's API says, read with kubectl, which speaks the API's versions and finds its credentials. */

/** The API answers in milliseconds, or its leader has just died: etcd elects within a second or two. */
const READ_TIMEOUT_MS = 20_000;

/** Where a worker keeps the kubeconfig of its own account, which a server has made. */
export const ACCOUNT_FILE = "/var/lib/evenkeel/kubernetes/drain.kubeconfig";

/** Why the API has not answered a question, as far as something can be done about it. */
export type Refusal = "away" | "unauthorized" | "forbidden" | "untrusted" | "no-node" | "other";
export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal; readonly message: string };

/** A worker without a kubeconfig of its owner's gets an account from a server of its cluster. */
export function usesAccount(want: KubernetesWant): boolean {
  const { self, servers = [], agents = [] } = want.members ?? {};
  return want.role === "agent" && want.kubeconfig === undefined && servers.length > 0 && agents.some(({ name }) => name === self);
}

/** Where each distribution keeps its program, and the file with a right to everything, which only servers have. */
export function kubectl(want: KubernetesWant): readonly [string, ...string[]] {
  // `microk8s kubectl` says on a worker that it is to be used elsewhere, and ends with 0; the program itself does not mind (microk8s-kubectl.wrapper).
  const microk8s: readonly [string, ...string[]] = want.role === "server" ? ["microk8s", "kubectl"] : ["/snap/microk8s/current/kubectl"];
  const program: readonly [string, ...string[]] = want.distribution === "k3s" ? ["k3s", "kubectl"] : want.distribution === "microk8s" ? microk8s : ["kubectl"];
  const usual = want.role === "server" ? { k3s: "/etc/rancher/k3s/k3s.yaml", kubeadm: "/etc/kubernetes/admin.conf", microk8s: null, none: "/etc/kubernetes/admin.conf" }[want.distribution] : ACCOUNT_FILE;
  const file = want.kubeconfig ?? usual;
  return file === null ? program : [...program, `--kubeconfig=${file}`];
}

export async function readJson<Schema extends z.ZodType>(probe: Probe, want: KubernetesWant, args: readonly string[], schema: Schema): Promise<Read<z.output<Schema>>> {
  const output = await probe.run([...kubectl(want), "--request-timeout=15s", ...args, "--output=json"], { timeoutMs: READ_TIMEOUT_MS });
  if (output.code !== 0) return { ok: false, refusal: refusalOf(output), message: explain(output, want) };
  try {
    return { ok: true, value: schema.parse(JSON.parse(output.stdout)) };
  } catch (error) {
    return { ok: false, refusal: "other", message: `the API's answer to ${args.join(" ")} cannot be read: ${(error as Error).message.slice(0, 300)}` };
  }
}

/** By the words of client-go and of the API server, which scripts all over the world go by. */
export function refusalOf({ stderr }: Output): Refusal {
  if (/certificate signed by unknown authority|certificate is valid for|doesn't contain any IP SANs/i.test(stderr)) return "untrusted";
  if (/must be logged in|\(Unauthorized\)|Unauthorized$/im.test(stderr)) return "unauthorized";
  if (/\(Forbidden\)/.test(stderr)) return "forbidden";
  if (/\(NotFound\): nodes? "/.test(stderr)) return "no-node";
  return /connection refused|was refused|no route|network is unreachable|no such host|i\/o timeout|timed? ?out|deadline exceeded|EOF|connection reset|unable to connect|ServiceUnavailable|currently unable/i.test(stderr) ? "away" : "other";
}

const RENEWAL = {
  k3s: "on the servers, one by one, `systemctl restart k3s` renews those that end within 90 days",
  kubeadm: "`kubeadm certs check-expiration` on the servers tells, `kubeadm certs renew all` renews, and the control plane's pods have to be started anew",
  microk8s: "`microk8s refresh-certs --check` on the servers tells, and `microk8s refresh-certs --cert server.crt` renews",
  none: "k3s: restart it on the servers; kubeadm: `kubeadm certs renew all`",
} as const;

/** kubectl's words, with what to do about them; `want` says what there is on this node. */
export function explain(output: Output, want?: KubernetesWant): string {
  const said = output.stderr.trim().split("\n").filter((line) => line !== "").slice(-3).join(" ").slice(0, 600);
  const renewal = RENEWAL[want?.distribution ?? "none"];
  const hasAccount = want !== undefined && usesAccount(want);
  const servers = serversOf(want);
  if (output.code === 127) return "there is no kubectl on this node: is Kubernetes installed? Declare its packages, or distribution: none where it is not managed here";
  if (/certificate has expired|certificate is not yet valid/i.test(said)) return `the certificate of the Kubernetes API has expired, or the clock is wrong, here or on the servers: look at timedatectl, then renew it (${renewal}). ${said}`;
  if (/no such file|does not exist|invalid configuration/i.test(said) && /kubeconfig|configuration|\.conf\b|\.yaml\b/.test(said)) {
    return `there are no credentials for the Kubernetes API on this node yet: ${hasAccount ? `${servers} makes them when asked, which happens by itself` : said}`;
  }
  switch (refusalOf(output)) {
    case "untrusted":
      return `the Kubernetes API shows a certificate that this node has no reason to trust: was the cluster made anew, or does another machine have its address? ${said}`;
    case "unauthorized":
      if (hasAccount) return `the Kubernetes API refuses the credentials of this node, which have expired or were taken back: it asks ${servers} for others by itself. ${said}`;
      return `the Kubernetes API refuses the credentials of this node: ${fileOf(want)} holds a client certificate that has expired most likely, or is of another cluster. Renew it (${renewal}). ${said}`;
    case "forbidden":
      return `the Kubernetes API refuses the credentials of this node for it: ${said}`;
    case "no-node":
      return `Kubernetes has no node called ${/nodes? "([^"]*)"/.exec(said)?.[1] ?? "so"}: if this node has another name there (\`kubectl get nodes\` shows them), write it in the section as nodeName: and if it is not there at all, look at its kubelet. ${said}`;
    case "away":
      return `the Kubernetes API does not answer: look at the service of ${servers}${want?.endpoint === undefined ? "" : `, and whether ${want.endpoint} leads there`}. ${said}`;
    case "other":
      return `kubectl ended with code ${output.code}: ${said}`;
  }
}

function serversOf(want: KubernetesWant | undefined): string {
  const names = (want?.members?.servers ?? []).map(({ name }) => name);
  return names.length === 0 ? "the servers" : names.slice(0, 5).join(" or ");
}

function fileOf(want: KubernetesWant | undefined): string {
  const option = want === undefined ? undefined : kubectl(want).find((word) => word.startsWith("--kubeconfig="));
  return option?.slice("--kubeconfig=".length) ?? "its kubeconfig";
}

const meta = z.looseObject({ name: z.string(), namespace: z.string().optional(), labels: z.record(z.string(), z.string()).optional(), annotations: z.record(z.string(), z.string()).optional() });
const Taint = z.looseObject({ key: z.string(), value: z.string().optional(), effect: z.string() });
export const KubeNode = z.looseObject({
  metadata: meta,
  spec: z.looseObject({ unschedulable: z.boolean().optional(), taints: z.array(Taint).optional() }).default({}),
  status: z.looseObject({ conditions: z.array(z.looseObject({ type: z.string(), status: z.string(), message: z.string().optional() })).default([]), nodeInfo: z.looseObject({ kubeletVersion: z.string() }).optional() }).prefault({}),
});
export type KubeNode = z.output<typeof KubeNode>;
export const KubeNodes = z.looseObject({ items: z.array(KubeNode) });

export const KubePod = z.looseObject({
  metadata: meta.extend({ deletionTimestamp: z.string().optional(), ownerReferences: z.array(z.looseObject({ kind: z.string(), name: z.string(), controller: z.boolean().optional() })).optional() }),
  spec: z.looseObject({ nodeName: z.string().optional(), volumes: z.array(z.looseObject({ name: z.string(), emptyDir: z.unknown().optional() })).optional() }).default({}),
  status: z.looseObject({ phase: z.string().optional() }).default({}),
});
export type KubePod = z.output<typeof KubePod>;
export const KubePods = z.looseObject({ items: z.array(KubePod) });

const Selector = z.looseObject({
  matchLabels: z.record(z.string(), z.string()).optional(),
  matchExpressions: z.array(z.looseObject({ key: z.string(), operator: z.string(), values: z.array(z.string()).optional() })).optional(),
});
export const KubeBudget = z.looseObject({
  metadata: meta,
  spec: z.looseObject({ selector: Selector.nullish() }).default({}),
  status: z.looseObject({ disruptionsAllowed: z.int().default(0), currentHealthy: z.int().default(0), desiredHealthy: z.int().default(0), expectedPods: z.int().default(0) }).prefault({}),
});
export type KubeBudget = z.output<typeof KubeBudget>;
export const KubeBudgets = z.looseObject({ items: z.array(KubeBudget) });

export function isReady(node: KubeNode): boolean {
  return node.status.conditions.some(({ type, status }) => type === "Ready" && status === "True");
}

/**
 * Whether a budget counts a pod: same namespace, and all of its selector holds. An empty selector selects all pods in policy/v1,
 * and none in policy/v1beta1 (the API's reference); as all is the careful reading, it is taken.
 */
export function selects(budget: KubeBudget, pod: KubePod): boolean {
  if (budget.metadata.namespace !== pod.metadata.namespace) return false;
  const selector = budget.spec.selector;
  if (selector === null || selector === undefined) return false;
  const labels = pod.metadata.labels ?? {};
  const all = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return all && (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => holds(labels[key], operator, values));
}

function holds(value: string | undefined, operator: string, values: readonly string[]): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    default:
      // An operator of a later version: the budget is counted, which is careful.
      return true;
  }
}

export function podName(pod: KubePod): string {
  return `${pod.metadata.namespace ?? "default"}/${pod.metadata.name}`;
}
