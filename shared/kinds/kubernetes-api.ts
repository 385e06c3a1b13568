import * as z from "zod";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Output, Probe } from "./kind.ts";

/** What the cluster's API says, read with kubectl, which speaks the API's versions and finds its credentials. */

/** The API answers in milliseconds, or its leader has just died: etcd elects within a second or two. */
const READ_TIMEOUT_MS = 20_000;

export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly message: string };

/** Where each distribution keeps its program and the file with a right to everything; agents of k3s have none. */
export function kubectl(want: KubernetesWant): readonly [string, ...string[]] {
  const program: readonly [string, ...string[]] = want.distribution === "k3s" ? ["k3s", "kubectl"] : want.distribution === "microk8s" ? ["microk8s", "kubectl"] : ["kubectl"];
  const usual = want.role === "server" ? { k3s: "/etc/rancher/k3s/k3s.yaml", kubeadm: "/etc/kubernetes/admin.conf", microk8s: null, none: "/etc/kubernetes/admin.conf" }[want.distribution] : `/var/lib/evenkeel/kubernetes/drain.kubeconfig`;
  const file = want.kubeconfig ?? usual;
  return file === null ? program : [...program, `--kubeconfig=${file}`];
}

export async function readJson<Schema extends z.ZodType>(probe: Probe, want: KubernetesWant, args: readonly string[], schema: Schema): Promise<Read<z.output<Schema>>> {
  const output = await probe.run([...kubectl(want), "--request-timeout=15s", ...args, "--output=json"], { timeoutMs: READ_TIMEOUT_MS });
  if (output.code !== 0) return { ok: false, message: explain(output) };
  try {
    return { ok: true, value: schema.parse(JSON.parse(output.stdout)) };
  } catch (error) {
    return { ok: false, message: `the API's answer to ${args.join(" ")} cannot be read: ${(error as Error).message.slice(0, 300)}` };
  }
}

/** kubectl's words, with what to do about them. */
export function explain(output: Output): string {
  const said = output.stderr.trim().split("\n").filter((line) => line !== "").slice(-3).join(" ").slice(0, 600);
  if (output.code === 127) return "there is no kubectl on this node: is Kubernetes installed? Declare its packages, or distribution: none where it is not managed here";
  if (/certificate has expired|certificate is not yet valid/i.test(said)) return `the certificate for the Kubernetes API has expired, or the clock is wrong: look at timedatectl, then renew it (k3s: restart it; kubeadm: kubeadm certs renew all). ${said}`;
  if (/connection refused|was refused|no route|i\/o timeout|timed? ?out|EOF|unable to connect|ServiceUnavailable|currently unable/i.test(said)) return `the Kubernetes API does not answer: look at the servers' own service. ${said}`;
  if (/forbidden|unauthorized|must be logged in/i.test(said)) return `the Kubernetes API refuses the credentials of this node for it: ${said}`;
  if (/no such file|stat .*kubeconfig|invalid configuration|does not exist/i.test(said) && /kubeconfig|configuration/.test(said)) return `there are no credentials for the Kubernetes API on this node yet: ${said}`;
  return `kubectl ended with code ${output.code}: ${said}`;
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
