import type * as z from "zod";
import type { Around, Resolved } from "../kinds/kind.ts";
import { checkPolicy } from "./check-policy.ts";
import { Cluster, nodeFields } from "./cluster.ts";
import { errorAt } from "./diagnostic.ts";
import type { Diagnostic, Span } from "./diagnostic.ts";
import { emptyMap, parseLocated } from "./explain.ts";
import type { Located, LocatedEntry, LocatedMap } from "./located.ts";
import type { FleetLockMember } from "./policy.ts";
import { didYouMean, suggest } from "./suggest.ts";
import { parseYaml } from "./yaml.ts";

/** As much of a kind as reading a repository takes. */
export interface SectionKind {
  readonly name: string;
  readonly schema: z.ZodType;
  /** See `Kind.resolve`. */
  resolve?(want: unknown, around: Around<unknown>): Resolved<unknown>;
}

/** A node's or role's file, read but not yet merged. */
export interface SettingsFile {
  readonly name: string;
  readonly path: string;
  /** `vars` and the sections; what is merged. */
  readonly settings: LocatedMap;
  readonly roles: readonly RoleReference[];
  readonly address?: { readonly value: string; readonly located: Located };
  /** Its age recipient. */
  readonly recipient?: { readonly value: string; readonly located: Located };
  /** The machine runs no agent of ours; then there are no roles and no settings. */
  readonly fleetlock?: { readonly value: FleetLockMember; readonly located: Located };
  /** Where the file begins, for problems that have no other place. */
  readonly start: Span;
}

export interface RoleReference {
  readonly name: string;
  readonly span: Span;
}

export interface Read<T> {
  /** Undefined when nothing of the file is of use. May be there in spite of errors. */
  readonly value: T | undefined;
  readonly diagnostics: readonly Diagnostic[];
}

export function readSettingsFile(what: "node" | "role", name: string, path: string, bytes: Uint8Array, kinds: readonly SectionKind[]): Read<SettingsFile> {
  const parsed = parseYaml(path, bytes);
  if (!parsed.ok) return { value: undefined, diagnostics: parsed.diagnostics };
  const diagnostics: Diagnostic[] = [];
  const settings = new Map<string, LocatedEntry>();
  const known = ["roles", "vars", ...(what === "node" ? ["address", "recipient", "fleetlock"] : []), ...kinds.map((kind) => kind.name)];
  for (const [key, entry] of parsed.root.entries) {
    if (key === "roles" || ((key === "address" || key === "recipient" || key === "fleetlock") && what === "node")) continue;
    if (!known.includes(key)) diagnostics.push(unknownSection(what, key, entry.keySpan, known));
    else if (isEmpty(entry.value)) continue;
    else if (entry.value.kind === "map" || (entry.value.kind === "scalar" && entry.value.value === null)) settings.set(key, entry);
    else diagnostics.push(errorAt(entry.value.span, `${key} must be a map, such as \`name: value\``, entry.value.kind === "list" ? "remove the leading `- `, and write `name: value`" : undefined));
  }
  const roles = readRoles(parsed.root.entries.get("roles"), diagnostics);
  const address = readText("address", what === "node" ? parsed.root.entries.get("address") : undefined, diagnostics);
  const recipient = readText("recipient", what === "node" ? parsed.root.entries.get("recipient") : undefined, diagnostics);
  const fleetlock = readFleetLock(what === "node" ? parsed.root.entries.get("fleetlock") : undefined, parsed.root, diagnostics);
  const start: Span = { source: parsed.source, start: 0, end: 1 };
  const value: SettingsFile = { name, path, settings: { ...parsed.root, entries: settings }, roles, ...(address && { address }), ...(recipient && { recipient }), ...(fleetlock && { fleetlock }), start };
  // What is well written is looked at further, so that one run tells of all mistakes.
  return { value, diagnostics };
}

function unknownSection(what: "node" | "role", key: string, span: Span, known: readonly string[]): Diagnostic {
  if (key === "address") return errorAt(span, "a role has no address", "write address: in the node's own file");
  if (key === "recipient") return errorAt(span, "a role has no recipient: each node has a key of its own", "write recipient: in the node's own file");
  if (key === "fleetlock") return errorAt(span, "a role has no fleetlock: each machine has an id of its own", "write fleetlock: in the node's own file");
  if (Object.hasOwn(Cluster.shape, key)) return errorAt(span, `${key} belongs in cluster.yaml`);
  return errorAt(span, `unknown section ${JSON.stringify(key)}`, suggest(key, known) === undefined ? `a ${what} can have: ${known.join(", ")}` : didYouMean(key, known));
}

/** `packages:` with all its lines commented out: as good as not there. */
function isEmpty(value: Located): boolean {
  return value.kind === "scalar" && value.empty;
}

function readRoles(entry: LocatedEntry | undefined, diagnostics: Diagnostic[]): readonly RoleReference[] {
  if (entry === undefined || isEmpty(entry.value)) return [];
  const parsed = parseLocated(nodeFields.roles, entry.value, entry.keySpan, ["roles"]);
  if (!parsed.ok) {
    diagnostics.push(...parsed.diagnostics);
    return [];
  }
  const items = entry.value.kind === "list" ? entry.value.items : [];
  const references = parsed.value.map((name, index) => ({ name, span: items[index]?.span ?? entry.keySpan }));
  for (const [index, { name, span }] of references.entries()) {
    if (references.findIndex((each) => each.name === name) !== index) diagnostics.push(errorAt(span, `role ${JSON.stringify(name)} is listed twice`, "remove one of them"));
  }
  return references;
}

function readText(field: "address" | "recipient", entry: LocatedEntry | undefined, diagnostics: Diagnostic[]): { value: string; located: Located } | undefined {
  if (entry === undefined) return undefined;
  const parsed = parseLocated(nodeFields[field], entry.value, entry.keySpan, [field]);
  if (parsed.ok) return parsed.value === undefined ? undefined : { value: parsed.value, located: entry.value };
  diagnostics.push(...parsed.diagnostics);
  return undefined;
}

/** A machine without our agent: whatever its file asks of it, nothing there would carry it out. */
function readFleetLock(entry: LocatedEntry | undefined, root: LocatedMap, diagnostics: Diagnostic[]): { value: FleetLockMember; located: Located } | undefined {
  if (entry === undefined) return undefined;
  const parsed = parseLocated(nodeFields.fleetlock, entry.value, entry.keySpan, ["fleetlock"]);
  if (!parsed.ok) diagnostics.push(...parsed.diagnostics);
  for (const [key, { keySpan, value }] of root.entries) {
    if (key === "fleetlock" || key === "address" || isEmpty(value)) continue;
    diagnostics.push(errorAt(keySpan, `a machine with fleetlock: runs no agent of ours, so nothing there would heed ${key}:`, `remove ${key}:, or remove fleetlock: and enrol the machine`));
  }
  return parsed.ok && parsed.value !== undefined ? { value: parsed.value, located: entry.value } : undefined;
}

/** cluster.yaml with what its `vars` look like to be merged. */
export interface ClusterFile {
  readonly cluster: Cluster;
  readonly vars: LocatedMap;
}

/** @param nodes names of all nodes, which groups and updates may name. */
export function readClusterFile(path: string, bytes: Uint8Array, nodes: ReadonlySet<string>): Read<ClusterFile> {
  const parsed = parseYaml(path, bytes);
  if (!parsed.ok) return { value: undefined, diagnostics: parsed.diagnostics };
  const root = withoutEmpty(parsed.root);
  const result = parseLocated(Cluster, root);
  if (!result.ok) return { value: undefined, diagnostics: result.diagnostics };
  const diagnostics = [...checkSigners(root, result.value), ...checkPolicy(root, result.value, nodes)];
  const vars = root.entries.get("vars")?.value;
  return { value: { cluster: result.value, vars: vars?.kind === "map" ? vars : emptyMap(root.span) }, diagnostics };
}

function withoutEmpty(root: LocatedMap): LocatedMap {
  return { ...root, entries: new Map([...root.entries].filter(([, entry]) => !isEmpty(entry.value))) };
}

function checkSigners(root: LocatedMap, cluster: Cluster): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  const list = root.entries.get("signers")?.value;
  const seen = new Set<string>();
  for (const [index, signer] of cluster.signers.entries()) {
    const item = list?.kind === "list" ? list.items[index] : undefined;
    const name = item?.kind === "map" ? item.entries.get("name")?.value : undefined;
    if (seen.has(signer.name)) diagnostics.push(errorAt((name ?? item ?? root).span, `a signer named ${JSON.stringify(signer.name)} is listed twice`, "give each key a name of its own, such as ada-laptop and ada-phone"));
    seen.add(signer.name);
  }
  return diagnostics;
}
