import { stringify } from "yaml";
import { downloadRecordPath } from "./downloads.ts";
import type { DownloadRecord } from "./downloads.ts";
import { releaseIn } from "./kubernetes-section.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Act, Asked, Given, Json, Owned, Probe, ResourceId, Stat, Step } from "./kind.ts";
import type { UnitState } from "./unit-state.ts";

/** How a node becomes a member of a cluster, for each distribution: founded once, joined by a token that a server makes. */

export const K3S = "/usr/local/bin/k3s";
const K3S_CONFIG = "/etc/rancher/k3s/config.yaml";
const K3S_TOKEN = "/etc/rancher/k3s/evenkeel-token";
const KUBEADM_CONFIG = "/etc/kubernetes/evenkeel-kubeadm.yaml";
const KUBELET_CONFIG = "/etc/kubernetes/kubelet.conf";
/** Its database's members; also a machine that has just been given the snap is a cluster of one. */
const MICROK8S_MEMBERS = "/var/snap/microk8s/current/var/kubernetes/backend/cluster.yaml";
/** Made by `microk8s join --worker`, and by nothing else (microk8s, scripts/wrappers/join.py). */
const MICROK8S_WORKER = "/var/snap/microk8s/current/var/lock/clustered.lock";
/** A download of 70 MB on a slow line, or pulling the images of a control plane. */
const JOIN_TIMEOUT_MS = 15 * 60_000;
const TOKEN_LASTS_MS = 15 * 60_000;
/** It unpacks itself at its first start. */
const VERSION_TIMEOUT_MS = 30_000;
/** Founding on an older word would be founding on none. */
const WORD_LASTS_MS = 3 * 60_000;
/** kubeadm's own words for it: its tokens are 6 and 16 characters, its hash a SHA-256 (kubeadm-join). */
const KUBEADM_JOIN = /^kubeadm join (\S+) --token ([a-z0-9]{6}\.[a-z0-9]{16}) --discovery-token-ca-cert-hash (sha256:[0-9a-f]{64})\s*$/;

export interface MemberFacts {
  readonly unit: UnitState | null;
  /** `version`: what a member's k3s program says of itself, asked when it is to be exchanged. */
  readonly binary: { readonly stat: Stat | null; readonly record: DownloadRecord | null; readonly version?: string | null };
  /** What stands in the files that this kind writes, by path. */
  readonly files: ReadonlyMap<string, string | null>;
  /** The node was a member at some time: it holds the cluster's credentials. */
  readonly joined: boolean;
}

export function unitOf(want: KubernetesWant): string | null {
  return { k3s: want.role === "server" ? "k3s.service" : "k3s-agent.service", kubeadm: "kubelet.service", microk8s: null, none: null }[want.distribution];
}

/** The file whose presence says that the node has joined; null where others see to membership. */
export function markOf(want: KubernetesWant): string | null {
  return { k3s: want.role === "server" ? "/var/lib/rancher/k3s/server/token" : "/var/lib/rancher/k3s/agent/kubelet.kubeconfig", kubeadm: KUBELET_CONFIG, microk8s: want.role === "server" ? MICROK8S_MEMBERS : MICROK8S_WORKER, none: null }[want.distribution];
}

export async function observeMember(want: KubernetesWant, probe: Probe, unit: UnitState | null, owned: Owned): Promise<MemberFacts> {
  const mark = markOf(want);
  const paths = want.distribution === "k3s" ? [K3S_CONFIG, K3S_TOKEN, `/etc/systemd/system/${unitOf(want)}`] : [];
  const [stat, record, joined, ...texts] = await Promise.all([probe.stat(K3S), probe.readText(downloadRecordPath(K3S)), mark === null ? null : probe.stat(mark), ...paths.map((path) => probe.readText(path))]);
  const binary = { stat, record: recordIn(record) };
  const isExchanged = want.distribution === "k3s" && programVersion(want) !== null && joined !== null && stat !== null && !isSameProgram(want, binary);
  const version = isExchanged ? versionIn((await probe.run([K3S, "--version"], { timeoutMs: VERSION_TIMEOUT_MS })).stdout) : null;
  return { unit, binary: { ...binary, version }, files: new Map(paths.map((path, index) => [path, texts[index] ?? null])), joined: joined !== null && (mark !== MICROK8S_MEMBERS || isMicrok8sMember(want, await probe.readText(mark), owned)) };
}

/** A server of microk8s is one of several, or has founded the cluster; a lone one that nobody is to found is taken as it is. */
function isMicrok8sMember({ bootstrap, members }: KubernetesWant, list: string | null, owned: Owned): boolean {
  const count = list?.match(/^\s*-?\s*Address:/gm)?.length ?? 0;
  return count > 1 || (bootstrap === undefined ? (members?.servers.length ?? 0) <= 1 : owned.has(`bootstrap/${bootstrap.id}`));
}

function isSameProgram(want: KubernetesWant, { stat, record }: MemberFacts["binary"]): boolean {
  return stat?.type === "file" && record?.sha256 === want.binary?.sha256 && record?.stamp === (stat.stamp ?? null);
}

/** Of the program that is wanted, as far as the section or its address says. */
function programVersion(want: KubernetesWant): string | null {
  return want.version ?? releaseIn(want.binary?.url ?? "");
}

/** `k3s version v1.33.1+k3s1 (99d91538)`, and a line about Go. */
function versionIn(text: string): string | null {
  return /^k3s version (v\d\S*)/m.exec(text)?.[1] ?? null;
}

function recordIn(text: string | null): DownloadRecord | null {
  try {
    return text === null ? null : (JSON.parse(text) as DownloadRecord);
  } catch {
    return null;
  }
}

export function planMember(want: KubernetesWant, facts: MemberFacts, owned: Owned, given: Given): readonly Step[] {
  switch (want.distribution) {
    case "k3s":
      return planK3s(want, facts, owned, given);
    case "kubeadm":
      return planKubeadm(want, facts, owned, given);
    case "microk8s":
      return planMicrok8s(want, facts, owned, given);
    case "none":
      return [];
  }
}

/** Why the node neither founds nor joins yet; or how it may. */
type Way = { readonly do: "found"; readonly claim: string } | { readonly do: "join" } | { readonly do: "nothing" } | { readonly do: "ask"; readonly steps: readonly Step[] };

/**
 * Founding is allowed once per id, to one node, and only after every other server has said that it knows of no cluster.
 * Having done so is remembered; a founder without its disk hears of the others, and joins.
 */
function wayIn(want: KubernetesWant, facts: MemberFacts, owned: Owned, given: Given): Way {
  if (facts.joined) return { do: "nothing" };
  const { bootstrap, members } = want;
  const claim = bootstrap === undefined ? "" : `bootstrap/${bootstrap.id}`;
  if (bootstrap === undefined || bootstrap.node !== members?.self || owned.has(claim)) return { do: "join" };
  const words = members.servers.filter(({ name }) => name !== members.self).map(({ name }) => ({ name, word: given.get(`state/${name}`)?.trim() }));
  if (words.some(({ word }) => word === "member")) return { do: "join" };
  const silent = words.filter(({ word }) => word !== "none");
  if (silent.length === 0) return { do: "found", claim };
  const why = `${members.self} founds the cluster only if no other server knows of one, and not all have answered yet`;
  return { do: "ask", steps: silent.map(({ name }): Step => ({ resource, why, impact: "none", do: "ask", key: `state/${name}`, from: [name], what: `whether ${name} is in a Kubernetes cluster already`, lastsMs: WORD_LASTS_MS })) };
}

const resource: ResourceId = "kubernetes/member";

function write(path: string, text: string, why: string, more: Partial<Step> = {}): Step {
  return { resource, why, impact: "none", do: "write", path, content: new TextEncoder().encode(text), mode: 0o600, owner: "root", group: "root", ...more } as Step;
}

function run(argv: readonly [string, ...string[]], why: string, more: Partial<Step> = {}): Step {
  return { resource, why, impact: "service", do: "run", argv, timeoutMs: JOIN_TIMEOUT_MS, ...more } as Step;
}

function ask(want: KubernetesWant, key: string, what: string): Step {
  const { self = "", servers = [] } = want.members ?? {};
  return { resource, why: "is not a member yet", impact: "none", do: "ask", key, from: servers.map(({ name }) => name).filter((name) => name !== self), what, lastsMs: TOKEN_LASTS_MS };
}

function endpointOf(want: KubernetesWant): string {
  const endpoint = want.endpoint ?? want.members?.servers.find(({ name }) => name === want.bootstrap?.node)?.address ?? "";
  return /:\d+$/.test(endpoint) ? endpoint : `${endpoint}:6443`;
}

function planK3s(want: KubernetesWant, facts: MemberFacts, owned: Owned, given: Given): readonly Step[] {
  const unit = unitOf(want) ?? "";
  const runs = facts.unit?.activeState === "active";
  const way = wayIn(want, facts, owned, given);
  const steps: Step[] = [];
  // A member that restarts is away for a while: only under a lease, drained. One that is none yet disturbs nobody.
  const restart = runs ? ({ impact: "disruptive", then: [{ unit, action: "restart" }] } as const) : ({ impact: "none" } as const);
  if (want.binary !== undefined) {
    const { stat, record, version = null } = facts.binary;
    const same = isSameProgram(want, facts.binary);
    // The program is what makes the member's version: one that may not follow on the last is not even fetched.
    const wanted = programVersion(want);
    const leap = same || version === null || wanted === null ? null : leapOf(version, wanted);
    if (leap !== null) return [{ resource, why: `is ${version}, should be ${wanted}`, impact: "none", do: "fail", message: leap }];
    if (!same) {
      steps.push({ resource, why: stat === null ? "is not installed" : `should be ${want.version ?? want.binary.sha256.slice(0, 12)}`, ...restart, do: "download", path: K3S, urls: [want.binary.url, ...want.binary.mirrors], sha256: want.binary.sha256, mode: 0o755, owner: "root", group: "root", timeoutMs: JOIN_TIMEOUT_MS, sizeMaxBytes: 1_000_000_000, replace: record !== null });
    }
  }
  if (way.do === "ask") return [...steps, ...way.steps];
  if (way.do === "join" && !given.has("token") && facts.files.get(K3S_TOKEN) === null) return [...steps, ask(want, "token", "the token by which it joins the Kubernetes cluster")];
  const token = given.get("token");
  if (way.do === "join" && token !== undefined && facts.files.get(K3S_TOKEN) === null) steps.push(write(K3S_TOKEN, `${token.trim()}\n`, "a server has given it", { sensitive: true }));
  const standing = facts.files.get(K3S_CONFIG) ?? null;
  // A member keeps what it began as: a founder that lost its data joins like the others, and is no founder any more.
  const isFounder = way.do === "found" || (way.do === "nothing" && standing?.includes("cluster-init: true") === true);
  const config = stringify({
    ...(want.nodeName === undefined ? {} : { "node-name": want.nodeName }),
    ...(want.role === "server" && want.endpoint !== undefined ? { "tls-san": [want.endpoint.replace(/:\d+$/, "")] } : {}),
    ...(isFounder ? { "cluster-init": true } : { server: `https://${endpointOf(want)}`, "token-file": K3S_TOKEN }),
    ...want.config,
  });
  if (standing !== config) steps.push(write(K3S_CONFIG, config, standing === null ? "does not exist" : "content differs", restart));
  const unitPath = `/etc/systemd/system/${unit}`;
  if (facts.files.get(unitPath) !== k3sUnit(want.role)) steps.push(write(unitPath, k3sUnit(want.role), facts.files.get(unitPath) === null ? "does not exist" : "content differs", { mode: 0o644, ...restart }), { resource, why: "its unit has changed", impact: "none", do: "unit", action: "daemon-reload", unit });
  if (facts.unit?.fileState !== "enabled") steps.push({ resource, why: "does not start at boot", impact: "none", do: "unit", action: "enable", unit });
  const claim: { readonly claim?: Json } = way.do === "found" ? { claim: { founded: want.cluster } } : {};
  if (!runs) steps.push({ resource: way.do === "found" ? `kubernetes/${way.claim}` : resource, why: way.do === "found" ? "founds the cluster, as the repository says" : way.do === "join" ? "joins the cluster" : "does not run", impact: "service", ...claim, ...(way.do === "found" ? { needs: [resource] } : {}), do: "unit", action: "start", unit });
  return steps;
}

/** As k3s's own installer writes it, without its environment file: everything stands in config.yaml. */
function k3sUnit(role: "server" | "agent"): string {
  return `[Unit]
Description=Lightweight Kubernetes
Wants=network-online.target
After=network-online.target

[Service]
Type=${role === "server" ? "notify" : "exec"}
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=${K3S} ${role}
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
`;
}

function planKubeadm(want: KubernetesWant, facts: MemberFacts, owned: Owned, given: Given): readonly Step[] {
  const way = wayIn(want, facts, owned, given);
  if (way.do === "nothing") return [];
  if (way.do === "ask") return way.steps;
  if (facts.unit === null || facts.unit.loadState === "not-found") {
    return [{ resource, why: "is not a member yet", impact: "none", do: "fail", message: "there is no kubelet on this node: declare kubeadm, kubelet and kubectl under packages, in the version that is wanted, and a container runtime" }];
  }
  const nodeRegistration = { ...(want.nodeName === undefined ? {} : { name: want.nodeName }) };
  if (way.do === "found") {
    const documents = [
      { apiVersion: "kubeadm.k8s.io/v1beta3", kind: "InitConfiguration", nodeRegistration },
      { apiVersion: "kubeadm.k8s.io/v1beta3", kind: "ClusterConfiguration", controlPlaneEndpoint: endpointOf(want), ...(want.version === undefined ? {} : { kubernetesVersion: want.version }), networking: { podSubnet: want.podSubnet ?? "10.244.0.0/16" } },
    ];
    return [
      write(KUBEADM_CONFIG, documents.map((each) => stringify(each)).join("---\n"), "does not exist"),
      run(["kubeadm", "init", "--config", KUBEADM_CONFIG, "--skip-token-print"], "founds the cluster, as the repository says", { resource: `kubernetes/${way.claim}`, claim: { founded: want.cluster }, needs: [resource], oneWay: "a cluster that was founded stays: kubeadm reset on the node takes it away" }),
    ];
  }
  const join = KUBEADM_JOIN.exec(given.get("join") ?? "");
  const key = given.get("certificate-key")?.trim();
  if (given.get("join") !== undefined && join === null) return [{ resource, why: "is not a member yet", impact: "none", do: "fail", message: "what a server has given to join by is not what kubeadm token create --print-join-command prints: is another version of kubeadm at work there?" }];
  if (join === null) return [ask(want, "join", "a token to join the Kubernetes cluster by")];
  if (want.role === "server" && (key === undefined || !/^[0-9a-f]{64}$/.test(key))) return [ask(want, "certificate-key", "the key to the control plane's certificates")];
  const document = {
    apiVersion: "kubeadm.k8s.io/v1beta3",
    kind: "JoinConfiguration",
    nodeRegistration,
    discovery: { bootstrapToken: { apiServerEndpoint: join[1], token: join[2], caCertHashes: [join[3]] } },
    ...(want.role === "server" ? { controlPlane: { certificateKey: key } } : {}),
  };
  return [
    write(KUBEADM_CONFIG, stringify(document), "a server has given what to join by", { sensitive: true }),
    run(["kubeadm", "join", "--config", KUBEADM_CONFIG], "joins the cluster"),
    // The token lives for some minutes more; nobody has to find it here.
    { resource, why: "has joined", impact: "none", do: "remove", path: KUBEADM_CONFIG },
  ];
}

function planMicrok8s(want: KubernetesWant, facts: MemberFacts, owned: Owned, given: Given): readonly Step[] {
  const way = wayIn(want, facts, owned, given);
  if (way.do === "nothing") return [];
  if (way.do === "ask") return way.steps;
  if (way.do === "found") return [run(["microk8s", "status", "--wait-ready", "--timeout", "600"], "founds the cluster, as the repository says", { resource: `kubernetes/${way.claim}`, claim: { founded: want.cluster } })];
  const connection = given.get("join")?.trim();
  if (connection === undefined) return [ask(want, "join", "a token to join the microk8s cluster by")];
  if (!/^[A-Za-z0-9.:[\]-]+\/[0-9a-f]{32}\/[0-9a-f]+$/.test(connection)) return [{ resource, why: "is not a member yet", impact: "none", do: "fail", message: "what a server has given to join by is not what microk8s add-node prints: HOST:PORT/TOKEN/CHECK" }];
  // microk8s takes the token as an argument and in no other way. It can be used once, and is spent when it shows up there.
  return [run(["xargs", "--no-run-if-empty", "microk8s", "join", ...(want.role === "agent" ? ["--worker"] : [])], "joins the cluster", { input: `${connection}\n`, sensitive: true })];
}

/** What a server makes for one who asks; null for what it cannot make. */
export function makeToken(want: KubernetesWant, facts: MemberFacts, { node, key }: Asked): Act | null {
  if (want.role !== "server") return null;
  if (key === `state/${want.members?.self ?? ""}`) return { doing: `telling ${node} whether there is a cluster`, argv: ["echo", facts.joined ? "member" : "none"], timeoutMs: 10_000 };
  if (!facts.joined) return null;
  const make = (argv: readonly [string, ...string[]], what: string): Act => ({ doing: `making ${what} for ${node}`, argv, timeoutMs: 60_000 });
  if (want.distribution === "k3s" && key === "token") return make(["cat", "/var/lib/rancher/k3s/server/token"], "a token");
  if (want.distribution === "kubeadm" && key === "join") return make(["kubeadm", "token", "create", "--ttl", "15m", "--print-join-command"], "a token");
  if (want.distribution === "kubeadm" && key === "certificate-key") return make(["sh", "-c", "kubeadm init phase upload-certs --upload-certs | tail -n 1"], "a key to the certificates");
  if (want.distribution === "microk8s" && key === "join") return make(["sh", "-c", "microk8s add-node --token-ttl 900 --format short | head -n 1 | sed 's/^microk8s join //'"], "a token");
  return null;
}

/** `v1.33.1+k3s1` as numbers, for comparing. */
export function minorOf(version: string): { readonly major: number; readonly minor: number } | null {
  const found = /^v?(\d+)\.(\d+)\./.exec(version);
  return found === null ? null : { major: Number(found[1]), minor: Number(found[2]) };
}

/** Why one version cannot become the other at once (kubernetes.io, "Version Skew Policy"); null when it can. */
function leapOf(from: string, to: string): string | null {
  const [live, wanted] = [minorOf(from), minorOf(to)];
  if (live === null || wanted === null) return null;
  if (wanted.major !== live.major || wanted.minor > live.minor + 1) return `Kubernetes ${from} cannot become ${to} at once: it goes one minor version at a time. Write v${live.major}.${live.minor + 1}.x first, and the next when all nodes have it.`;
  if (wanted.minor < live.minor) return `Kubernetes does not go back from ${from} to ${to}: write the version that it has, or restore a backup of the cluster`;
  return null;
}

/** Version upgrades of kubeadm's nodes; k3s is upgraded by its program. Packages are other sections' business. */
export function planUpgrade(want: KubernetesWant, liveVersion: string | null): readonly Step[] {
  if (want.version === undefined || liveVersion === null || liveVersion === want.version) return [];
  const step: ResourceId = "kubernetes/version";
  const leap = leapOf(liveVersion, want.version);
  if (leap !== null) return [{ resource: step, why: `is ${liveVersion}, should be ${want.version}`, impact: "none", do: "fail", message: leap }];
  if (want.distribution !== "kubeadm") return [];
  const self = want.members?.self;
  const first = want.members?.servers[0]?.name;
  const argv: readonly [string, ...string[]] = want.role === "server" && self === first ? ["kubeadm", "upgrade", "apply", "--yes", want.version] : ["kubeadm", "upgrade", "node"];
  return [{ resource: step, why: `is ${liveVersion}, should be ${want.version}`, impact: "disruptive", do: "run", argv, timeoutMs: JOIN_TIMEOUT_MS, then: [{ unit: "kubelet.service", action: "restart" }] }];
}
