import type { NodeName } from "../ids.ts";
import { addressClashes, sharedAddresses } from "./addresses.ts";
import { checkFleetLock } from "./check-policy.ts";
import type { Cluster } from "./cluster.ts";
import { Contents } from "./contents.ts";
import { errorAt, errorInFile, sortDiagnostics, warningInFile } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { CLUSTER_FILE, NODES_MAX, readLayout } from "./layout.ts";
import type { Layout } from "./layout.ts";
import { parseLocated } from "./explain.ts";
import { formatPath, locate } from "./located.ts";
import type { LocatedEntry, LocatedMap, Path } from "./located.ts";
import { mergeSettings } from "./merge.ts";
import { RECIPIENTS_PATH } from "../secrets/recipients-file.ts";
import type { Reader } from "../secrets/recipients-file.ts";
import { Redactor } from "../secrets/redact.ts";
import { openReview } from "../secrets/review.ts";
import type { SecretsReview } from "../secrets/review.ts";
import { fitSection } from "../secrets/section.ts";
import { Vault } from "../secrets/vault.ts";
import type { KeySource } from "../secrets/vault.ts";
import { renderNode } from "./render.ts";
import type { RenderedNode } from "./render.ts";
import { layersOf, resolveRoles, rolesOf, unknownRole } from "./roles.ts";
import type { RoleGraph } from "./roles.ts";
import type { SettingsCache } from "./settings-cache.ts";
import { readClusterFile, readSettingsFile } from "./settings-file.ts";
import type { ClusterFile, Read, SectionKind, SettingsFile } from "./settings-file.ts";
import { didYouMean } from "./suggest.ts";
import type { TemplateData } from "./template.ts";
import type { FileTree } from "./tree.ts";
import { checkSize } from "./yaml.ts";

/** A cluster repository in which everything has been checked. */
export interface Repository {
  readonly cluster: Cluster;
  /** In the order of their names. */
  readonly nodes: ReadonlyMap<NodeName, RenderedNode>;
}

export type LoadedRepository =
  | { readonly ok: true; readonly repository: Repository; readonly warnings: readonly Diagnostic[] }
  | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

export type LoadedNode =
  | { readonly ok: true; readonly cluster: Cluster; readonly node: RenderedNode; /** Node → its age recipient, of all that have one: by signed history. */ readonly recipients: ReadonlyMap<string, string>; readonly warnings: readonly Diagnostic[] }
  | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

/** Loads, checks and renders everything, for every node: what `evenkeel validate` and the hub at a push do. All problems, not the first. */
export async function loadRepository(tree: FileTree, kinds: readonly SectionKind[]): Promise<LoadedRepository> {
  const loader = await openLoader(tree, kinds);
  const { layout } = loader;
  if (layout.nodes.size > NODES_MAX) return { ok: false, diagnostics: sortDiagnostics(layout.diagnostics) };
  const names = [...layout.nodes.keys()];
  const files = loader.readNodes(names);
  for (const name of layout.roles.keys()) loader.readRole(name);
  const graph = resolveRoles(loader.roles, new Set(layout.roles.keys()));
  loader.diagnostics.push(...graph.diagnostics, ...checkFleetLock([...files.values()].flatMap(({ name, fleetlock }) => (fleetlock === undefined ? [] : [{ node: name, ...fleetlock.value, located: fleetlock.located }]))), ...sharedAddresses(files.values()));
  const nodes = new Map<NodeName, RenderedNode>();
  const used = new Set<string>();
  const secrets = await openReview(tree, layout.secrets, layout.hasRecipients ? (layout.sizes.get(RECIPIENTS_PATH) ?? 0) : undefined);
  loader.diagnostics.push(...secrets.diagnostics);
  const addresses = addressBook(names, files);
  for (const file of files.values()) {
    const node = await loader.render(file, graph, addresses, used, secrets);
    if (node !== undefined) nodes.set(node.name, node);
  }
  loader.diagnostics.push(...secrets.finish(loader.clusterFile?.cluster.secrets.owners ?? {}, readers(files, graph)));
  const peers = loader.peers(files, graph);
  if (peers !== undefined) for (const [name, node] of nodes) nodes.set(name, loader.resolve(node, peers));
  for (const [name, path] of layout.roles) {
    const role = loader.roles.get(name);
    if (role === undefined || used.has(name)) continue;
    await loader.checkUnused(role, graph);
    loader.diagnostics.push(warningInFile(path, `no node has the role ${JSON.stringify(name)}`, "list it under roles: of a node, or remove the file"));
  }
  if (names.length === 0 && layout.hasCluster) loader.diagnostics.push(warningInFile(CLUSTER_FILE, "there is no node yet", "add nodes/NAME.yaml for each machine"));
  const diagnostics = sortDiagnostics([...layout.diagnostics, ...loader.diagnostics]);
  if (loader.clusterFile === undefined || hasErrors(diagnostics)) return { ok: false, diagnostics };
  return { ok: true, repository: { cluster: loader.clusterFile.cluster, nodes }, warnings: diagnostics };
}

/**
 * Loads and checks what one node needs: cluster.yaml, its own file, its roles, and the contents that it refers to. What
 * is wrong elsewhere does not keep this node from following; at a push the hub checks all of it.
 *
 * @param options `key` opens the node's secrets; `cache` is for who loads one commit after another
 */
export async function loadNode(tree: FileTree, kinds: readonly SectionKind[], name: string, { key, cache }: { readonly key?: KeySource | undefined; readonly cache?: SettingsCache } = {}): Promise<LoadedNode> {
  const loader = await openLoader(tree, kinds, key, cache);
  const { layout } = loader;
  const path = layout.nodes.get(name);
  if (path === undefined) {
    const missing = errorInFile(`nodes/${name}.yaml`, `there is no nodes/${name}.yaml`, didYouMean(name, layout.nodes.keys()) ?? "add the file: a node without one is left as it is");
    return { ok: false, diagnostics: sortDiagnostics([...concerning(layout, [`nodes/${name}`]), ...loader.diagnostics, missing]) };
  }
  const own = loader.readNodes([name]).get(name);
  for (const reference of own?.roles ?? []) loader.readRole(reference.name, true);
  const graph = resolveRoles(loader.roles, new Set(layout.roles.keys()));
  loader.diagnostics.push(...graph.diagnostics);
  const files = loader.readOthers(own);
  let node = own === undefined ? undefined : await loader.render(own, graph, addressBook([...layout.nodes.keys()], files), new Set());
  if (node !== undefined && loader.mindsOthers(node)) node = loader.resolveAmong(node, files);
  const references = [own, ...loader.roles.values()].flatMap((file) => file?.roles ?? []);
  const places = references.map((reference) => `roles/${reference.name}.yaml`);
  const diagnostics = loader.redactor.deep(sortDiagnostics([...concerning(layout, places), ...loader.diagnostics]));
  if (loader.clusterFile === undefined || node === undefined || hasErrors(diagnostics)) return { ok: false, diagnostics };
  const recipients = new Map([...files.values()].flatMap((file) => (file.recipient === undefined ? [] : [[file.name, file.recipient.value] as const])));
  return { ok: true, cluster: loader.clusterFile.cluster, node, recipients, warnings: diagnostics };
}

/** Who is there to read secrets. `incomplete` when cluster.yaml, a node or a role cannot be read: what is wrong is in `diagnostics`. */
export interface KnownReaders {
  readonly owners: Readonly<Record<string, string>>;
  readonly nodes: readonly Reader[];
  readonly incomplete: boolean;
  readonly diagnostics: readonly Diagnostic[];
}

/** For whoever encrypts: a repository may well refer to a secret that is not there yet, and is no good as a whole then. */
export async function loadReaders(tree: FileTree, kinds: readonly SectionKind[]): Promise<KnownReaders> {
  const loader = await openLoader(tree, kinds);
  const { layout } = loader;
  const files = loader.readNodes([...layout.nodes.keys()]);
  for (const name of layout.roles.keys()) loader.readRole(name);
  const graph = resolveRoles(loader.roles, new Set(layout.roles.keys()));
  const incomplete = loader.clusterFile === undefined || files.size < layout.nodes.size || graph.closures.size < layout.roles.size;
  const diagnostics = sortDiagnostics([...loader.diagnostics, ...graph.diagnostics].filter((each) => each.severity === "error"));
  return { owners: loader.clusterFile?.cluster.secrets.owners ?? {}, nodes: readers(files, graph), incomplete, diagnostics };
}

/** All nodes as far as secrets are concerned. */
function readers(files: ReadonlyMap<string, SettingsFile>, graph: RoleGraph): readonly Reader[] {
  return [...files.values()].map((file) => ({ name: file.name, roles: rolesOf(file, graph.closures).names, ...(file.recipient && { recipient: file.recipient.value }) }));
}

/** What the layout says about cluster.yaml and the files that this node uses; the rest is not its business. */
function concerning(layout: Layout, places: readonly string[]): readonly Diagnostic[] {
  return layout.diagnostics.filter((each) => each.severity === "error" && (each.file === CLUSTER_FILE || places.some((place) => each.file.startsWith(place))));
}

function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some((each) => each.severity === "error");
}

function addressBook(names: readonly string[], files: ReadonlyMap<string, SettingsFile>): TemplateData["cluster"]["nodes"] {
  return names.map((name) => {
    const address = files.get(name)?.address?.value;
    return { name, ...(address !== undefined && { address }) };
  });
}

/** Reads the listing, and then all YAML files at once: a tree that asks a process for bytes can so ask once. */
async function openLoader(tree: FileTree, kinds: readonly SectionKind[], key?: KeySource, cache?: SettingsCache): Promise<Loader> {
  const layout = await readLayout(tree);
  const bytes = new Map<string, Uint8Array>();
  const wanted = [...(layout.hasCluster ? [CLUSTER_FILE] : []), ...layout.nodes.values(), ...layout.roles.values()];
  await Promise.all(
    wanted.map(async (path) => {
      if (checkSize(path, layout.sizes.get(path) ?? 0) === undefined) bytes.set(path, await tree.read(path));
    }),
  );
  const loader = new Loader(kinds, layout, bytes, new Contents(tree, layout.contents), new Vault(tree, layout.secrets, key), cache);
  loader.readCluster();
  return loader;
}

/** Another node's section: of its secrets, those that this one has opened as well, and stand-ins for the others. */
function parsePeer(kind: SectionKind, entry: LocatedEntry, vault: Vault) {
  const fitted = fitSection(kind.schema, entry.value, vault);
  return parseLocated(kind.schema, fitted.located, entry.keySpan, [kind.name], { except: fitted.unfit });
}

/** What the kinds see of each other node: name, address, and its section before `resolve`, by kind. */
type Peers = readonly { readonly name: string; readonly address?: string; readonly sections: ReadonlyMap<string, unknown> }[];

/** One load of one commit; collects what is wrong on the way. */
class Loader {
  readonly layout: Layout;
  /** What was found past the layout. */
  readonly diagnostics: Diagnostic[] = [];
  readonly roles = new Map<string, SettingsFile>();
  clusterFile: ClusterFile | undefined;
  readonly #kinds: readonly SectionKind[];
  readonly #bytes: ReadonlyMap<string, Uint8Array>;
  readonly #contents: Contents;
  readonly #vault: Vault;
  readonly #cache: SettingsCache | undefined;
  readonly #rolesRead = new Set<string>();
  /** Node → its merged settings with their places. */
  readonly #located = new Map<string, LocatedMap>();

  constructor(kinds: readonly SectionKind[], layout: Layout, bytes: ReadonlyMap<string, Uint8Array>, contents: Contents, vault: Vault, cache?: SettingsCache) {
    this.layout = layout;
    this.#kinds = kinds;
    this.#bytes = bytes;
    this.#contents = contents;
    this.#vault = vault;
    this.#cache = cache;
  }

  /** A schema, a kind or a template may quote what it complains about. */
  get redactor(): Redactor {
    return new Redactor(this.#vault.opened.values());
  }

  readCluster(): void {
    if (!this.layout.hasCluster) return;
    const read = this.#read(CLUSTER_FILE, (bytes) => readClusterFile(CLUSTER_FILE, bytes, new Set(this.layout.nodes.keys())));
    this.clusterFile = read.value;
    this.diagnostics.push(...read.diagnostics);
  }

  readNodes(names: readonly string[]): ReadonlyMap<string, SettingsFile> {
    const files = new Map<string, SettingsFile>();
    for (const name of names) {
      const read = this.#readSettings("node", name);
      this.diagnostics.push(...read.diagnostics);
      if (read.value !== undefined) files.set(name, read.value);
    }
    return files;
  }

  /** All nodes, for their addresses. What is wrong with the others is not told; a template that asks for an address that could not be read is. */
  readOthers(own: SettingsFile | undefined): ReadonlyMap<string, SettingsFile> {
    const files = new Map<string, SettingsFile>();
    for (const name of this.layout.nodes.keys()) {
      const file = name === own?.name ? own : this.#readSettings("node", name).value;
      if (file !== undefined) files.set(name, file);
    }
    return files;
  }

  /** @param deep reads the roles that it includes as well. */
  readRole(name: string, deep = false): void {
    if (!this.layout.roles.has(name) || this.#rolesRead.has(name)) return;
    this.#rolesRead.add(name);
    const read = this.#readSettings("role", name);
    this.diagnostics.push(...read.diagnostics);
    if (read.value === undefined) return;
    this.roles.set(name, read.value);
    if (deep) for (const reference of read.value.roles) this.readRole(reference.name, true);
  }

  #readSettings(what: "node" | "role", name: string): Read<SettingsFile> {
    const path = `${what}s/${name}.yaml`;
    const parse = (bytes: Uint8Array): Read<SettingsFile> => readSettingsFile(what, name, path, bytes, this.#kinds);
    return this.#read(path, (bytes) => this.#cache?.read(path, bytes, parse) ?? parse(bytes));
  }

  #read<T>(path: string, parse: (bytes: Uint8Array) => Read<T>): Read<T> {
    const tooLarge = checkSize(path, this.layout.sizes.get(path) ?? 0);
    if (tooLarge !== undefined) return { value: undefined, diagnostics: [tooLarge] };
    const bytes = this.#bytes.get(path);
    return bytes === undefined ? { value: undefined, diagnostics: [] } : parse(bytes);
  }

  /** A role that no node has is looked at as far as that goes without a node: what is missing in it, a node could have. */
  async checkUnused(role: SettingsFile, graph: RoleGraph): Promise<void> {
    const included = rolesOf(role, graph.closures).names;
    const settings = layersOf(role, included, this.roles, graph.closures, this.clusterFile?.vars);
    const rendered = await renderNode({ file: role, roles: included, settings, cluster: undefined, kinds: this.#kinds, nodes: [], contents: this.#contents, vault: this.#vault });
    if (!rendered.ok) this.diagnostics.push(...rendered.diagnostics.filter((each) => each.severity === "error"));
  }

  /** Whether what this node shall be depends on what the others are. */
  mindsOthers(node: RenderedNode): boolean {
    return this.#kinds.some((kind) => kind.resolve !== undefined && node.sections.has(kind.name));
  }

  /** As a node alone does it: it reads all roles, and if another node cannot be read, it does not guess what that one is. */
  resolveAmong(node: RenderedNode, files: ReadonlyMap<string, SettingsFile>): RenderedNode {
    for (const name of this.layout.roles.keys()) this.readRole(name);
    const graph = resolveRoles(this.roles, new Set(this.layout.roles.keys()));
    const missing = [...this.layout.nodes].find(([name]) => !files.has(name));
    const peers = missing === undefined ? this.peers(files, graph) : undefined;
    if (peers !== undefined) return this.resolve(node, peers);
    this.diagnostics.push(errorInFile(missing?.[1] ?? `nodes/${node.name}.yaml`, "what this node should be depends on the other nodes, and not all of them can be read", "run evenkeel validate, which says what is wrong with them"));
    return node;
  }

  /** Undefined when a node cannot be read to its end; what is wrong has been told where all nodes are rendered. */
  peers(files: ReadonlyMap<string, SettingsFile>, graph: RoleGraph): Peers | undefined {
    const minding = this.#kinds.filter((kind) => kind.resolve !== undefined);
    const peers: Peers[number][] = [];
    for (const name of this.layout.nodes.keys()) {
      const file = files.get(name);
      const roles = file === undefined ? undefined : rolesOf(file, graph.closures);
      if (file === undefined || roles?.complete !== true) return undefined;
      const merged = mergeSettings(layersOf(file, roles.names, this.roles, graph.closures, this.clusterFile?.vars)).value;
      const sections = new Map<string, unknown>();
      for (const kind of minding) {
        const entry = merged?.kind === "map" ? merged.entries.get(kind.name) : undefined;
        const parsed = entry === undefined ? undefined : parsePeer(kind, entry, this.#vault);
        if (parsed?.ok === false && parsed.diagnostics.length > 0) return undefined;
        if (parsed?.ok === true) sections.set(kind.name, parsed.value);
      }
      peers.push({ name, ...(file.address && { address: file.address.value }), sections });
    }
    return peers;
  }

  /** The node with all that follows from the others; what does not fit between them is told at its line. */
  resolve(node: RenderedNode, peers: Peers): RenderedNode {
    const sections = new Map(node.sections);
    const tell = (path: Path, message: string, help?: string): void => {
      const found = locate(this.#located.get(node.name)!, path);
      this.diagnostics.push(errorAt(found.value.kind === "map" ? (found.keySpan ?? found.value.span) : found.value.span, `${formatPath(path)}: ${message}`, help));
    };
    for (const { path, message, help } of addressClashes(node.name, peers)) tell(path, message, help);
    for (const kind of this.#kinds) {
      const section = sections.get(kind.name);
      if (kind.resolve === undefined || section === undefined) continue;
      const nodes = peers.map(({ sections: of, ...peer }) => ({ ...peer, section: of.get(kind.name) ?? null }));
      const { want, misfits } = kind.resolve(section, { cluster: this.clusterFile?.cluster.name ?? "", self: node.name, nodes });
      sections.set(kind.name, want);
      for (const { path, message, help } of misfits) tell([kind.name, ...path], message, help);
    }
    return { ...node, sections };
  }

  /** Undefined when something that the node needs is wrong; that has been told then. */
  async render(file: SettingsFile, graph: RoleGraph, addresses: TemplateData["cluster"]["nodes"], used: Set<string>, secrets?: SecretsReview): Promise<RenderedNode | undefined> {
    const known = new Set(this.layout.roles.keys());
    for (const reference of file.roles) {
      used.add(reference.name);
      if (!known.has(reference.name)) this.diagnostics.push(unknownRole(reference, known));
    }
    const roles = rolesOf(file, graph.closures);
    for (const role of roles.names) used.add(role);
    const settings = layersOf(file, roles.names, this.roles, graph.closures, this.clusterFile?.vars);
    const cluster = roles.complete ? this.clusterFile?.cluster : undefined;
    const reader: Reader = { name: file.name, roles: roles.names, ...(file.recipient && { recipient: file.recipient.value }) };
    const rendered = await renderNode({ file, roles: roles.names, settings, cluster, kinds: this.#kinds, nodes: addresses, contents: this.#contents, vault: this.#vault, ...(secrets && { checkUse: ({ name, span }) => secrets.problem(name, span, reader) }) });
    this.diagnostics.push(...(rendered.ok ? rendered.warnings : rendered.diagnostics));
    if (rendered.ok) this.#located.set(file.name, rendered.located);
    return rendered.ok ? rendered.node : undefined;
  }
}

