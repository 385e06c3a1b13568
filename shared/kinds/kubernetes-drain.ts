import { isReady, KubeBudgets, kubectl, KubeNode, KubeNodes, KubePods, podName, readJson, selects, usesAccount } from "./kubernetes-api.ts";
import type { KubeBudget, KubePod, Read } from "./kubernetes-api.ts";
import { markOf } from "./kubernetes-member.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Act, DrainStep, Probe, Reason } from "./kind.ts";

/**
 * A node leaves in two steps: no new pods, then the pods that it has, by eviction, so that budgets hold. Coming back is one:
 * new pods again, unless somebody else had closed the node before.
 */

/** After the services' own drains (20) and before units are stopped (50). */
const ORDER = 30;
const KUBECTL_TIMEOUT_MS = 60_000;
/** Pods named in one sentence. */
const NAMED_MAX = 5;

export interface DrainFacts {
  /** Whether the node has joined: one that has not yet has nothing to hand over. */
  readonly joined: boolean;
  readonly node: Read<KubeNode>;
  readonly pods: Read<readonly KubePod[]>;
  readonly budgets: Read<readonly KubeBudget[]>;
}

export interface GateFacts extends DrainFacts {
  readonly nodes: Read<readonly KubeNode[]>;
  /** Of what the API's own health check complains (`/readyz`, etcd among it); null when it is well, or was not asked. */
  readonly health: string | null;
}

export function nodeNameOf(want: KubernetesWant): string {
  return want.nodeName ?? want.members?.self ?? "";
}

/** Whether there is anything in Kubernetes that concerns this node. */
export function isMember(want: KubernetesWant): boolean {
  return want.distribution !== "none" || want.kubeconfig !== undefined || want.role === "server" || usesAccount(want);
}

const nothing: GateFacts = { joined: false, node: { ok: false, refusal: "other", message: "this node is in no Kubernetes cluster" }, pods: { ok: true, value: [] }, budgets: { ok: true, value: [] }, nodes: { ok: true, value: [] }, health: null };

export async function observeDrain(want: KubernetesWant, probe: Probe): Promise<DrainFacts> {
  if (!(await hasJoined(want, probe))) return nothing;
  const name = nodeNameOf(want);
  const [node, pods, budgets] = await Promise.all([
    readJson(probe, want, ["get", "node", name], KubeNode),
    readJson(probe, want, ["get", "pods", "--all-namespaces", `--field-selector=spec.nodeName=${name}`], KubePods),
    readJson(probe, want, ["get", "poddisruptionbudgets", "--all-namespaces"], KubeBudgets),
  ]);
  return { joined: true, node, pods: itemsOf(pods), budgets: itemsOf(budgets) };
}

async function hasJoined(want: KubernetesWant, probe: Probe): Promise<boolean> {
  const mark = markOf(want);
  return isMember(want) && (mark === null || (await probe.stat(mark)) !== null);
}

function itemsOf<T>(read: Read<{ readonly items: readonly T[] }>): Read<readonly T[]> {
  return read.ok ? { ok: true, value: read.value.items } : read;
}

export function drainSteps(want: KubernetesWant, facts: DrainFacts): readonly DrainStep[] {
  if (!facts.joined) return [];
  const name = nodeNameOf(want);
  const act = (doing: string, args: readonly string[], timeoutMs: number): Act => ({ doing, argv: [...kubectl(want), ...args], timeoutMs });
  const problem = unreadable(facts) ?? stays(want, facts)[0];
  const cannot = problem === undefined ? {} : { cannot: problem };
  const cordon: DrainStep = {
    name: "cordon",
    order: ORDER,
    drain: act(`closing ${name} for new pods`, schedulable(name, false), KUBECTL_TIMEOUT_MS),
    undo: act(`opening ${name} for pods again`, schedulable(name, true), KUBECTL_TIMEOUT_MS),
    already: facts.node.ok && facts.node.value.spec.unschedulable === true,
    ...cannot,
  };
  const { drain } = want;
  const leaving = facts.pods.ok ? facts.pods.value.filter(hasToLeave) : [];
  const evict: DrainStep = {
    name: "pods",
    order: ORDER + 1,
    drain: act(
      `asking ${leaving.length} pod${leaving.length === 1 ? "" : "s"} to leave ${name}`,
      [
        "drain",
        name,
        "--ignore-daemonsets",
        `--timeout=${Math.round(drain.timeoutMinutes * 60)}s`,
        ...(drain.localData === "delete" ? ["--delete-emptydir-data"] : []),
        ...(drain.unmanaged === "delete" ? ["--force"] : []),
        ...(drain.graceSeconds === undefined ? [] : [`--grace-period=${drain.graceSeconds}`]),
        ...(drain.podSelector === undefined ? [] : [`--pod-selector=${drain.podSelector}`]),
      ],
      // kubectl's own limit comes first, and says which pod did not leave.
      drain.timeoutMinutes * 60_000 + KUBECTL_TIMEOUT_MS,
    ),
    undo: null,
    already: facts.pods.ok && leaving.length === 0,
    ...cannot,
  };
  return [cordon, evict];
}

/** What `kubectl cordon` and `uncordon` do; but those end with 0 also when the API refuses it (seen with 1.20.2). */
function schedulable(node: string, isOpen: boolean): readonly string[] {
  return ["patch", "node", node, "--type=merge", `--patch={"spec":{"unschedulable":${isOpen ? "null" : "true"}}}`];
}

export async function observeGate(want: KubernetesWant, probe: Probe): Promise<GateFacts> {
  if (!(await hasJoined(want, probe))) return nothing;
  const [drain, nodes, readyz] = await Promise.all([
    observeDrain(want, probe),
    readJson(probe, want, ["get", "nodes"], KubeNodes),
    probe.run([...kubectl(want), "--request-timeout=15s", "get", "--raw=/readyz?verbose"], { timeoutMs: 20_000 }),
  ]);
  return { ...drain, nodes: itemsOf(nodes), health: readyz.code === 0 ? null : complaints(`${readyz.stdout}\n${readyz.stderr}`) };
}

/** Why this node must not leave now: what would not survive it, and what is not well without it. */
export function gateReasons(want: KubernetesWant, facts: GateFacts): readonly Reason[] {
  if (!facts.joined) return [];
  const unread = unreadable(facts) ?? (facts.nodes.ok ? undefined : facts.nodes.message);
  if (unread !== undefined) return [{ text: unread, holds: "all" }];
  const self = nodeNameOf(want);
  const away = facts.nodes.ok ? facts.nodes.value.filter((node) => node.metadata.name !== self && !isReady(node)).map((node) => node.metadata.name) : [];
  return [
    ...(facts.health === null ? [] : [`the Kubernetes control plane is not well: ${facts.health}`]),
    ...(away.length === 0 ? [] : [{ text: `not ready in Kubernetes: ${some(away)}`, missing: away.map((name) => want.members?.agents.find(({ nodeName }) => nodeName === name)?.name ?? name) }]),
    ...[...stays(want, facts), ...blockedByBudgets(facts)].map((text) => ({ text, holds: "itself" as const })),
  ];
}

function unreadable(facts: DrainFacts): string | undefined {
  for (const read of [facts.node, facts.pods, facts.budgets]) if (!read.ok) return read.message;
  return undefined;
}

/** Pods that may not be ended, by the section's own words. */
function stays({ drain }: KubernetesWant, facts: DrainFacts): readonly string[] {
  const pods = facts.pods.ok ? facts.pods.value.filter(hasToLeave) : [];
  const alone = drain.unmanaged === "delete" ? [] : pods.filter((pod) => controllerOf(pod) === undefined && !isOver(pod));
  const local = drain.localData === "delete" ? [] : pods.filter((pod) => !isOver(pod) && (pod.spec.volumes ?? []).some((volume) => volume.emptyDir !== undefined));
  return [
    ...(alone.length === 0 ? [] : [`nothing would start ${some(alone.map(podName))} again elsewhere: give ${alone.length === 1 ? "it" : "them"} to a Deployment, or write drain.unmanaged: delete`]),
    ...(local.length === 0 ? [] : [`${some(local.map(podName))} would lose local data (emptyDir): move it to a volume, or write drain.localData: delete`]),
  ];
}

/** Budgets that let nothing go now and count pods of this node; and pods that two of them count, which the API evicts for nobody. */
function blockedByBudgets(facts: DrainFacts): readonly string[] {
  const pods = facts.pods.ok ? facts.pods.value.filter((pod) => hasToLeave(pod) && !isOver(pod)) : [];
  const budgets = facts.budgets.ok ? facts.budgets.value : [];
  const torn = pods.flatMap((pod) => {
    const counting = budgets.filter((budget) => selects(budget, pod)).map(({ metadata }) => `${metadata.namespace ?? "default"}/${metadata.name}`);
    return counting.length < 2 ? [] : [`${podName(pod)} is counted by ${counting.length} budgets (${some(counting)}), and Kubernetes evicts no pod that more than one counts: let their selectors not overlap`];
  });
  const blocked = budgets.flatMap((budget) => {
    const counted = pods.filter((pod) => selects(budget, pod));
    if (counted.length === 0 || budget.status.disruptionsAllowed > 0) return [];
    const { desiredHealthy, currentHealthy, expectedPods } = budget.status;
    const never = desiredHealthy >= expectedPods && expectedPods > 0;
    return [
      `the budget ${budget.metadata.namespace ?? "default"}/${budget.metadata.name} lets no pod go (${currentHealthy} of ${expectedPods} healthy, ${desiredHealthy} wanted), and ${some(counted.map(podName))} ${counted.length === 1 ? "is" : "are"} on this node${never ? ": it never will, as it wants all of them: give it maxUnavailable: 1, or one more replica" : ""}`,
    ];
  });
  return [...torn, ...blocked];
}

/** DaemonSets' pods and the kubelet's own (static) ones stay with the node. */
function hasToLeave(pod: KubePod): boolean {
  return controllerOf(pod)?.kind !== "DaemonSet" && pod.metadata.annotations?.["kubernetes.io/config.mirror"] === undefined;
}

function controllerOf(pod: KubePod): { readonly kind: string } | undefined {
  return pod.metadata.ownerReferences?.find((owner) => owner.controller === true);
}

function isOver(pod: KubePod): boolean {
  return pod.status.phase === "Succeeded" || pod.status.phase === "Failed" || pod.metadata.deletionTimestamp !== undefined;
}

/** `[-]etcd failed: reason withheld` and the like (kubernetes.io, "API health endpoints"). */
function complaints(text: string): string {
  const bad = text.split("\n").filter((line) => line.startsWith("[-]")).map((line) => line.slice(3));
  return bad.length > 0 ? some(bad) : text.trim().split("\n").slice(-2).join(" ").slice(0, 400) || "it does not answer";
}

function some(names: readonly string[]): string {
  return names.length <= NAMED_MAX ? names.join(", ") : `${names.slice(0, NAMED_MAX).join(", ")} and ${names.length - NAMED_MAX} more`;
}
