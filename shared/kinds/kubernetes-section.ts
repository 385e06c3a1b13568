import * as z from "zod";
import { content } from "../config/content.ts";
import { NodeName } from "../ids.ts";

/** Things of one sort in one section. */
const ENTRIES_MAX = 200;

const few = <T extends z.ZodType>(of: z.ZodRecord<z.ZodType<string, string>, T>) => of.refine((entries) => Object.keys(entries).length <= ENTRIES_MAX, `at most ${ENTRIES_MAX}`).default({});

/** A label's or taint's key: an optional DNS prefix and a name (kubernetes.io, "Labels and Selectors"). */
const key = z.string().max(317).regex(/^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/, "a key like disk or example.org/disk");
const labelValue = z.string().max(63).regex(/^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$/, "a label's value is up to 63 letters, digits, dots, hyphens and underscores");
const minutes = (usual: number) => z.number().min(0.1).max(120).default(usual);

/** `v1.33.1`, and what a distribution appends: `v1.33.1+k3s1`. */
const version = z.string().regex(/^v?\d+\.\d+\.\d+([-+][A-Za-z0-9.]+)*$/, "a whole version, like v1.33.1+k3s1").transform((text) => (text.startsWith("v") ? text : `v${text}`));

const drain = z.strictObject({
  timeoutMinutes: minutes(10).describe("How long the pods may take to leave; a node that does not get empty is not taken down"),
  graceSeconds: z.int().min(0).max(3_600).optional().describe("How long each pod may take to end, in place of its own grace period"),
  podSelector: z.string().max(1_000).regex(/^[^\n\0-][^\n\0]*$/, "a label selector, like app!=cache").optional().describe("Only pods with these labels have to leave"),
  localData: z.enum(["delete", "refuse"]).default("delete").describe("Pods with an emptyDir lose it when they leave: delete lets them, refuse keeps the node up as long as there is one"),
  unmanaged: z.enum(["delete", "refuse"]).default("refuse").describe("Pods that nothing would start again elsewhere: refuse keeps the node up as long as there is one, delete ends them for good"),
});

const binary = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).max(2_048).describe("Where the k3s program is fetched from"),
  mirrors: z.array(z.url({ protocol: /^https?$/ }).max(2_048)).max(10).default([]).describe("Other places that have it"),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, "the SHA-256 as 64 lower-case hexadecimal digits").describe("Its SHA-256, as the release lists it for this version and architecture"),
});

export const kubernetesSchema = z.strictObject({
  distribution: z.enum(["k3s", "kubeadm", "microk8s", "none"]).default("none").describe("What makes this node a member: none leaves membership to others, and keeps labels, drains and manifests only"),
  role: z.enum(["server", "agent"]).default("agent").describe("server: part of the control plane; agent: runs pods only"),
  cluster: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "lower-case letters, digits and hyphens").default("kubernetes").describe("Tells several clusters of one repository apart: the nodes with the same name here are its members"),
  bootstrap: z
    .strictObject({
      node: NodeName.describe("The server that founds the cluster, if no other server has it; all others join"),
      id: z.string().min(1).max(63).describe("Any word. A node founds once with one id"),
    })
    .optional()
    .describe("Who may found the cluster, once"),
  endpoint: z.string().max(260).regex(/^[A-Za-z0-9.-]+(:\d{1,5})?$|^\[[0-9a-fA-F:]+\](:\d{1,5})?$/, "HOST or HOST:PORT").optional().describe("Where the API is reached by all nodes, best an address that moves (keepalived); port 6443 unless written"),
  version: version.optional().describe("The version that the node shall run; nodes are brought to it one by one, under a lease, and never by more than one minor version at a time"),
  binary: binary.optional().describe("The k3s program, pinned; needed for k3s"),
  config: few(z.record(z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, "a key of the configuration file, like disable"), z.json())).describe("More of k3s's config.yaml, by its own keys: what stands here wins"),
  podSubnet: z.string().max(64).optional().describe("The network of the pods, for kubeadm init: 10.244.0.0/16"),
  nodeName: z.string().max(253).regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, "a DNS name in lower case").optional().describe("The node's name in Kubernetes, where it is not the one in the repository"),
  kubeconfig: z.string().max(4_095).regex(/^\/[^\0]+$/, "an absolute path").optional().describe("How to reach the API, with the right to evict: for a server, where it is not the distribution's own file; for a worker, in place of the account that a server makes for it"),
  labels: few(z.record(key, labelValue)).describe("Labels of the node; labels that others set are left alone"),
  taints: few(z.record(key, z.strictObject({ value: labelValue.default("").describe("The taint's value"), effect: z.enum(["NoSchedule", "PreferNoSchedule", "NoExecute"]).describe("What it does to pods that do not tolerate it") }))).describe("Taints of the node, by key; those that others set are left alone"),
  drain: drain.prefault({}).describe("How pods leave before the node goes down"),
  manifests: few(z.record(z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/, "lower-case letters, digits, dots and hyphens"), content)).describe("Objects of the cluster, as YAML, by any name; the first server in the repository's order applies them, and removes what has left them"),
}).superRefine(({ version: written, binary: program }, check) => {
  const [named, wanted] = [releaseIn(program?.url ?? ""), written?.replace(/\+.*/, "")];
  if (named === null || wanted === undefined || named.replace(/\+.*/, "") === wanted) return;
  check.addIssue({ code: "custom", path: ["binary", "url"], message: `the address is that of ${named}, and version says ${written}: write the address and the sha256 of the version that is wanted` });
});

/** The version that a release's address names, as k3s's do: `…/releases/download/v1.33.1%2Bk3s1/k3s`. */
export function releaseIn(url: string): string | null {
  return /\/(v\d+\.\d+\.\d+(?:(?:\+|%2B)k3s\d+)?)\//i.exec(url)?.[1]?.replace(/%2B/i, "+") ?? null;
}

export type KubernetesWant = z.output<typeof kubernetesSchema> & {
  /** Filled in from the other nodes by `resolve`. */
  readonly members?: Members;
};

export interface Members {
  readonly self: string;
  /** The servers of this cluster, in the order of their names. */
  readonly servers: readonly { readonly name: string; readonly address: string | null }[];
  /** Workers that have no kubeconfig of their owner's, with their names in Kubernetes: each gets an account. */
  readonly agents: readonly { readonly name: string; readonly nodeName: string }[];
}
