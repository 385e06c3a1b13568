import { isFirstServer, makeAccount, observeAccount, planAccount, planAccounts } from "./kubernetes-account.ts";
import type { AccountFacts } from "./kubernetes-account.ts";
import { ACCOUNT_FILE, KubeNode, readJson, usesAccount } from "./kubernetes-api.ts";
import type { Read } from "./kubernetes-api.ts";
import { drainSteps, gateReasons, isMember, nodeNameOf, observeDrain, observeGate } from "./kubernetes-drain.ts";
import { parseManifests, planManifests, planNode, readInventory } from "./kubernetes-manifests.ts";
import type { Inventory } from "./kubernetes-manifests.ts";
import { K3S, makeToken, minorOf, observeMember, planMember, planUpgrade, unitOf } from "./kubernetes-member.ts";
import type { MemberFacts } from "./kubernetes-member.ts";
import { kubernetesSchema } from "./kubernetes-section.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import { defineKind } from "./kind.ts";
import type { Misfit, Owned, Step } from "./kind.ts";
import { showUnits } from "./unit-state.ts";

interface Facts {
  readonly member: MemberFacts;
  readonly account: AccountFacts;
  /** This node as the API has it; null where nothing is asked of the API. */
  readonly node: Read<KubeNode> | null;
  /** What was applied last; null where this node is not the one that applies. */
  readonly applied: { readonly ok: true; readonly inventory: Inventory | null } | { readonly ok: false; readonly message: string } | null;
}

export const kubernetes = defineKind({
  name: "kubernetes",
  summary: "Membership in a Kubernetes cluster (k3s, kubeadm, microk8s), the node's labels and taints, its drain, and the cluster's manifests",
  schema: kubernetesSchema,

  resolve(want, { self, nodes }) {
    const mine = nodes.filter((node) => node.section !== null && node.section.cluster === want.cluster);
    const servers = mine.filter((node) => node.section?.role === "server").map(({ name, address }) => ({ name, address: address ?? null }));
    const agents = mine.flatMap(({ name, section }) => (section?.role === "agent" && section.kubeconfig === undefined ? [{ name, nodeName: section.nodeName ?? name }] : []));
    return { want: { ...want, members: { self, servers, agents } } as typeof want, misfits: misfitsOf(want, servers.map(({ name }) => name), mine.flatMap(({ name, section }) => (section === null ? [] : [{ name, role: section.role, version: section.version }])), self) };
  },

  async observe(want: KubernetesWant, probe, owned): Promise<Facts> {
    const unitName = unitOf(want);
    const units = unitName === null ? null : await showUnits(probe, [unitName]);
    const member = await observeMember(want, probe, unitName === null ? null : (units?.units.get(unitName) ?? null), owned);
    const asksApi = isMember(want) && (want.distribution === "none" || member.joined);
    const account = await observeAccount(want, probe, owned, asksApi);
    // A worker's account is tried at every look: that it does not do is better known before the node is to go.
    const nodeAsked = asksApi && (usesAccount(want) ? account.file.text !== null : wantsOfNode(want, owned));
    const applies = asksApi && appliesManifests(want, owned);
    const [node, applied] = await Promise.all([nodeAsked ? readJson(probe, want, ["get", "node", nodeNameOf(want)], KubeNode) : null, applies ? readInventory(probe, want) : null]);
    return { member, account, node, applied };
  },

  plan(want: KubernetesWant, facts, owned, given = new Map()) {
    const isIn = want.distribution === "none" || facts.member.joined;
    const account = isIn || !usesAccount(want) ? planAccount(want, facts.account, facts.node, owned, given) : { steps: [], settled: true };
    const membership = [...planAccounts(want, facts.account, owned), ...planMember(want, facts.member, owned, given), ...account.steps];
    if (!account.settled || (facts.node === null && facts.applied === null)) return membership;
    // Nothing is to be done there now: it is said when the node is to go, and its other sections are not held up.
    if (facts.applied === null && facts.node?.ok === false && facts.node.refusal === "away" && !wantsOfNode(want, owned)) return membership;
    const unread = [facts.node, facts.applied].find((read) => read !== null && !read.ok);
    // What the node is called there concerns nothing that is the whole cluster's.
    const manifests = facts.applied?.ok === true ? withClaim(planManifests(want, facts.applied.inventory), want, owned) : [];
    if (unread !== undefined && unread !== null && !unread.ok) return [...membership, { resource: "kubernetes/api", why: "cannot be asked", impact: "none", do: "fail", message: unread.message }, ...manifests];
    const live = facts.node?.ok === true ? facts.node.value : null;
    return [
      ...membership,
      ...planUpgrade(want, live?.status.nodeInfo?.kubeletVersion ?? null),
      ...(live === null ? [] : planNode(want, live, new Set(owned.keys()))),
      ...manifests,
    ];
  },

  make: (want: KubernetesWant, facts, asked) => makeToken(want, facts.member, asked) ?? makeAccount(want, facts.member.joined, asked),
  watch: (want) => ({ paths: [...(want.distribution === "k3s" ? [K3S, "/etc/rancher/k3s/config.yaml"] : []), ...(usesAccount(want) ? [ACCOUNT_FILE] : [])], units: unitOf(want) === null ? [] : [unitOf(want)!] }),
  drain: { observe: observeDrain, steps: drainSteps },
  gate: { observe: observeGate, reasons: gateReasons },
});

/** Whether something of this node's in the API is this section's. */
function wantsOfNode(want: KubernetesWant, owned: Owned): boolean {
  return Object.keys(want.labels).length > 0 || Object.keys(want.taints).length > 0 || want.version !== undefined || [...owned.keys()].some((key) => key.startsWith("labels/") || key.startsWith("taints/"));
}

/** The first server in the repository's order, so that two never take turns at the same objects; without servers, whoever has manifests. */
function appliesManifests(want: KubernetesWant, owned: Owned): boolean {
  if (Object.keys(want.manifests).length === 0 && !owned.has("manifests")) return false;
  return want.members?.servers[0] === undefined || isFirstServer(want);
}

/** That this node applies manifests is remembered, so that the last of them can be taken away. */
function withClaim(steps: readonly Step[], want: KubernetesWant, owned: Owned): readonly Step[] {
  const [first, ...rest] = steps;
  if (first === undefined || owned.has("manifests") || Object.keys(want.manifests).length === 0) return steps;
  return [{ ...first, claim: true }, ...rest];
}

function misfitsOf(want: KubernetesWant, servers: readonly string[], members: readonly { readonly name: string; readonly role: string; readonly version: string | undefined }[], self: string): readonly Misfit[] {
  const misfits: Misfit[] = [];
  if (want.distribution === "k3s" && want.binary === undefined) misfits.push({ path: ["distribution"], message: "k3s needs the program: binary, with url and sha256" });
  if (want.distribution !== "none" && servers.length === 0) misfits.push({ path: ["role"], message: `the cluster ${want.cluster} has no server`, help: "give one of its nodes role: server" });
  if (want.bootstrap !== undefined && !servers.includes(want.bootstrap.node)) misfits.push({ path: ["bootstrap", "node"], message: `${want.bootstrap.node} is not a server of the cluster ${want.cluster}`, help: servers.length === 0 ? "give a node role: server" : `its servers are ${servers.join(", ")}` });
  if (want.role === "agent" && want.distribution === "none" && want.kubeconfig === undefined && servers.length === 0 && (Object.keys(want.labels).length > 0 || Object.keys(want.taints).length > 0)) {
    misfits.push({ path: ["distribution"], message: "labels and taints need a way to the API", help: "give a node of the cluster role: server, which makes an account for this one, or write kubeconfig: with the file to use" });
  }
  const parsed = parseManifests(want.manifests);
  // Contents of files are not there yet when other nodes look at this one.
  if (!parsed.ok) misfits.push({ path: ["manifests"], message: parsed.message });
  // Kubelets may be older than the API, and never newer (kubernetes.io, "Version Skew Policy"); and servers within one minor version.
  const mine = want.version === undefined ? null : minorOf(want.version);
  for (const { name, role, version } of members) {
    const theirs = version === undefined ? null : minorOf(version);
    if (name === self || mine === null || theirs === null || role !== "server") continue;
    if (mine.minor > theirs.minor && want.role === "agent") misfits.push({ path: ["version"], message: `${want.version} is newer than the server ${name} (${version})`, help: "servers are upgraded first" });
    else if (Math.abs(mine.minor - theirs.minor) > 1) misfits.push({ path: ["version"], message: `${want.version} is more than one minor version from ${name} (${version})`, help: "go one minor version at a time" });
  }
  return misfits;
}
