import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { parseAllDocuments, stringify } from "yaml";
import * as z from "zod";
import type { Content } from "../config/content.ts";
import { KubeNode, kubectl, readJson } from "./kubernetes-api.ts";
import type { KubernetesWant } from "./kubernetes-section.ts";
import type { Probe, ResourceId, Step } from "./kind.ts";

/**
 * Objects that the repository holds, applied by the first server alone. What was applied is written into the cluster itself,
 * so that it can be taken away again, by whichever server is the first then.
 */

const INVENTORY = "evenkeel-manifests";
const NAMESPACE = "kube-system";
const APPLY_TIMEOUT_MS = 120_000;
const OBJECTS_MAX = 2_000;
/** With these, other people's things would go as well: they are left, and somebody has to remove them by hand. */
const NEVER_PRUNED = new Set(["Namespace", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition", "Node", "StorageClass"]);
/** What others live in, or are made of, comes first. */
const FIRST = ["Namespace", "CustomResourceDefinition", "ServiceAccount", "ConfigMap", "Secret"];

const Applied = z.object({ apiVersion: z.string(), kind: z.string(), namespace: z.string().nullable(), name: z.string() });
export type Applied = z.output<typeof Applied>;
const Inventory = z.object({ digest: z.string(), objects: z.array(Applied).max(OBJECTS_MAX) });
export type Inventory = z.output<typeof Inventory>;

const ConfigMap = z.looseObject({ data: z.record(z.string(), z.string()).optional() });
const Typed = z.looseObject({ apiVersion: z.string(), kind: z.string(), metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }) });
type Typed = z.output<typeof Typed>;

export type Manifests = { readonly ok: true; readonly objects: readonly Typed[]; readonly digest: string } | { readonly ok: false; readonly message: string };

/** All objects of all manifests, in an order in which they can be applied. */
export function parseManifests(manifests: Readonly<Record<string, Content>>): Manifests {
  const objects: Typed[] = [];
  for (const [name, content] of Object.entries(manifests).toSorted(([one], [other]) => (one < other ? -1 : 1))) {
    const documents = parseAllDocuments(new TextDecoder().decode(content.bytes));
    for (const [index, document] of (Array.isArray(documents) ? documents : []).entries()) {
      const error = document.errors[0];
      if (error !== undefined) return { ok: false, message: `the manifest ${name} is no YAML: ${error.message.split("\n")[0]}` };
      const value: unknown = document.toJS({ maxAliasCount: 100 });
      if (value === null) continue;
      const typed = Typed.safeParse(value);
      if (!typed.success) return { ok: false, message: `the manifest ${name} has no object in its ${index + 1}. document: it lacks ${typed.error.issues[0]?.path.join(".") ?? "a kind"}` };
      objects.push(typed.data);
    }
  }
  if (objects.length > OBJECTS_MAX) return { ok: false, message: `the manifests hold ${objects.length} objects, more than the ${OBJECTS_MAX} that are applied at most` };
  const rank = ({ kind }: Typed): number => (FIRST.includes(kind) ? FIRST.indexOf(kind) : FIRST.length);
  const ordered = objects.toSorted((one, other) => rank(one) - rank(other));
  return { ok: true, objects: ordered, digest: bytesToHex(sha256(new TextEncoder().encode(JSON.stringify(ordered)))) };
}

/** What was applied last; null when nothing was yet. */
export async function readInventory(probe: Probe, want: KubernetesWant): Promise<{ readonly ok: true; readonly inventory: Inventory | null } | { readonly ok: false; readonly message: string }> {
  const read = await readJson(probe, want, ["get", "configmap", INVENTORY, `--namespace=${NAMESPACE}`, "--ignore-not-found"], z.union([ConfigMap, z.null()]));
  if (!read.ok) return /cannot be read/.test(read.message) ? { ok: true, inventory: null } : read;
  try {
    return { ok: true, inventory: Inventory.parse(JSON.parse(read.value?.data?.["inventory"] ?? "null")) };
  } catch {
    // Somebody has edited it: it is made anew, and what only it knew is left alone.
    return { ok: true, inventory: null };
  }
}

export function planManifests(want: KubernetesWant, inventory: Inventory | null): readonly Step[] {
  const resource: ResourceId = "kubernetes/manifests";
  const parsed = parseManifests(want.manifests);
  if (!parsed.ok) return [{ resource, why: "cannot be applied", impact: "none", do: "fail", message: parsed.message }];
  if (inventory?.digest === parsed.digest || (inventory === null && parsed.objects.length === 0)) return [];
  const objects = parsed.objects.map(appliedOf);
  const gone = (inventory?.objects ?? []).filter((object) => !NEVER_PRUNED.has(object.kind) && !objects.some((each) => keyOf(each) === keyOf(object)));
  const run = (why: string, args: readonly string[], more: Partial<Extract<Step, { do: "run" }>> = {}): Step => ({ resource, why, impact: "service", do: "run", argv: [...kubectl(want), ...args], timeoutMs: APPLY_TIMEOUT_MS, ...more });
  const apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=evenkeel", "--filename=-"];
  // Written down before anything is made: what was applied in a run that broke off can still be taken away.
  const record = (digest: string, all: readonly Applied[]): Step => run("what is applied is written down in the cluster", apply, { input: inventoryObject({ digest, objects: [...all] }) });
  const known = [...objects, ...(inventory?.objects ?? []).filter((object) => !objects.some((each) => keyOf(each) === keyOf(object)))];
  return [
    record("", known),
    ...(parsed.objects.length === 0 ? [] : [run(inventory === null ? "nothing was applied yet" : "the manifests have changed", apply, { input: parsed.objects.map((object) => stringify(object)).join("---\n"), sensitive: true })]),
    ...gone.map((object) => run(`${object.kind} ${object.name} is no longer in the manifests`, ["delete", `${object.kind}${groupOf(object)}`, object.name, ...(object.namespace === null ? [] : [`--namespace=${object.namespace}`]), "--ignore-not-found", "--wait=false"], { removes: true })),
    record(parsed.digest, objects),
  ];
}

function appliedOf({ apiVersion, kind, metadata }: Typed): Applied {
  return { apiVersion, kind, namespace: metadata.namespace ?? null, name: metadata.name };
}

/** Versions of one API are the same object. */
function keyOf({ apiVersion, kind, namespace, name }: Applied): string {
  return [apiVersion.includes("/") ? apiVersion.split("/")[0] : "", kind, namespace ?? "", name].join(" ");
}

/** kubectl takes `Kind.version.group`, which is unambiguous where a kind's name is not; the core group has no such form. */
function groupOf({ apiVersion }: Applied): string {
  const [group, version] = apiVersion.split("/");
  return version === undefined ? "" : `.${version}.${group}`;
}

function inventoryObject(inventory: Inventory): string {
  return stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: INVENTORY, namespace: NAMESPACE }, data: { inventory: JSON.stringify(inventory) } });
}

/** Labels and taints that are declared and differ. Those of others are left alone. */
export function planNode(want: KubernetesWant, node: KubeNode, owned: ReadonlySet<string>): readonly Step[] {
  const name = node.metadata.name;
  const labels = node.metadata.labels ?? {};
  const taints = node.spec.taints ?? [];
  const steps: Step[] = [];
  const run = (resource: ResourceId, why: string, args: readonly string[], more: Partial<Step> = {}): void => void steps.push({ resource, why, impact: "service", do: "run", argv: [...kubectl(want), ...args], timeoutMs: APPLY_TIMEOUT_MS, ...more } as Step);
  for (const [key, value] of Object.entries(want.labels)) {
    const resource: ResourceId = `kubernetes/labels/${key}`;
    if (labels[key] !== value) run(resource, labels[key] === undefined ? "is not set" : `is ${labels[key]}, should be ${value}`, ["label", "node", name, "--overwrite", `${key}=${value}`], owned.has(`labels/${key}`) || labels[key] !== undefined ? {} : { claim: true });
  }
  for (const [key, { value, effect }] of Object.entries(want.taints)) {
    const resource: ResourceId = `kubernetes/taints/${key}`;
    const found = taints.find((taint) => taint.key === key && taint.effect === effect);
    if (found === undefined || (found.value ?? "") !== value) run(resource, found === undefined ? "is not set" : `is ${found.value ?? ""}, should be ${value}`, ["taint", "node", name, "--overwrite", `${key}${value === "" ? "" : `=${value}`}:${effect}`], owned.has(`taints/${key}`) || found !== undefined ? {} : { claim: { effect } });
  }
  for (const key of owned) {
    const [sort, ...rest] = key.split("/");
    const at = rest.join("/");
    if (sort === "labels" && want.labels[at] === undefined) run(`kubernetes/${key}`, "no longer declared", labels[at] === undefined ? ["version", "--client"] : ["label", "node", name, `${at}-`], { removes: true, release: true });
    if (sort === "taints" && want.taints[at] === undefined) run(`kubernetes/${key}`, "no longer declared", taints.some((taint) => taint.key === at) ? ["taint", "node", name, `${at}-`] : ["version", "--client"], { removes: true, release: true });
  }
  return steps;
}
