import type { NodeName } from "../ids.ts";
import { Vars } from "./cluster.ts";
import type { Cluster } from "./cluster.ts";
import { Content } from "./content.ts";
import { contentsIn, placeOfSource, sourcesIn, withContents } from "./contents.ts";
import type { Contents } from "./contents.ts";
import { errorAt, positionOf } from "./diagnostic.ts";
import type { Diagnostic, Position } from "./diagnostic.ts";
import { parseLocated } from "./explain.ts";
import { pointer, toPlain } from "./located.ts";
import type { Located, LocatedEntry, LocatedMap, Path, Plain } from "./located.ts";
import { mergeSettings } from "./merge.ts";
import type { Setting } from "./merge.ts";
import type { FleetLockMember } from "./policy.ts";
import type { SectionKind, SettingsFile } from "./settings-file.ts";
import { referencesIn, standInFor, textOf } from "../secrets/references.ts";
import { exposedSecrets, fitSection, unopenedOf, usesIn } from "../secrets/section.ts";
import type { SecretUse } from "../secrets/section.ts";
import type { NodeSecrets, Unopened, Vault } from "../secrets/vault.ts";
import { TemplateRenderer } from "./template.ts";
import type { TemplateData } from "./template.ts";

/** What the repository says one node should be. */
export interface RenderedNode {
  readonly name: NodeName;
  readonly address?: string;
  /** The node's age recipient, as its file names it. */
  readonly recipient?: string;
  /** Set for a machine without our agent, which asks for its slot by FleetLock; it has no roles and no sections. */
  readonly fleetlock?: FleetLockMember;
  /** All roles, those that others include as well; what is overridden comes first. */
  readonly roles: readonly string[];
  readonly vars: Vars;
  /** Kind → its section as the kind's schema gives it, contents filled in. A section that nobody wrote is not there. In the order of kinds. */
  readonly sections: ReadonlyMap<string, unknown>;
  /** Where each value came from, by its JSON pointer (RFC 6901) in {@link RenderedNode.merged}: `/files/~1etc~1motd/mode`. */
  readonly provenance: ReadonlyMap<string, Position>;
  /** Of a load with the node's key: what was opened, and what could not be. */
  readonly secrets?: NodeSecrets;
  /** `address`, `recipient`, `fleetlock`, `roles`, `vars` and sections as merged, before any schema: what `evenkeel render` prints. */
  readonly merged: { readonly [key: string]: Plain };
}

export interface RenderRequest {
  readonly file: SettingsFile;
  /** All roles of the node, what is included first. */
  readonly roles: readonly string[];
  readonly settings: readonly Setting[];
  /**
   * Undefined when a part is of no use: cluster.yaml, or a role. Then what is there is checked, but nothing is said about
   * what is missing, and no template is rendered.
   */
  readonly cluster: Cluster | undefined;
  readonly kinds: readonly SectionKind[];
  readonly nodes: TemplateData["cluster"]["nodes"];
  readonly contents: Contents;
  readonly vault: Vault;
  /** What is wrong with a use of a secret by this node, as far as the repository itself shows. */
  readonly checkUse?: (use: SecretUse) => Diagnostic | undefined;
}

/** `located`: the merged settings with their places, to tell later at which line something does not fit. */
export type Rendered = { readonly ok: true; readonly node: RenderedNode; readonly located: LocatedMap; readonly warnings: readonly Diagnostic[] } | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

export async function renderNode(request: RenderRequest): Promise<Rendered> {
  const { file } = request;
  const merge = mergeSettings(request.settings);
  const diagnostics: Diagnostic[] = [...merge.diagnostics];
  const merged: LocatedMap = merge.value?.kind === "map" ? merge.value : file.settings;
  const vars = parseVars(merged.entries.get("vars"), diagnostics);
  const { parsed, unopened } = await parseSections(request, merged, diagnostics);
  if (vars === undefined) return { ok: false, diagnostics };
  const filled = await fillContents(request, merged, parsed, vars, !hasErrors(diagnostics));
  diagnostics.push(...filled.diagnostics);
  if (request.cluster === undefined || hasErrors(diagnostics)) return { ok: false, diagnostics };
  const whole = wholeNode(request, merged);
  const plain = toPlain(whole) as { [key: string]: Plain };
  const node: RenderedNode = {
    name: file.name as NodeName,
    ...(file.address && { address: file.address.value }),
    ...(file.recipient && { recipient: file.recipient.value }),
    ...(file.fleetlock && { fleetlock: file.fleetlock.value }),
    roles: request.roles,
    vars,
    sections: filled.sections,
    provenance: provenanceOf(whole),
    merged: plain,
    ...(request.vault.hasKey && { secrets: { opened: request.vault.opened, unopened } }),
  };
  return { ok: true, node, located: merged, warnings: diagnostics };
}

/** Each section by its schema, with its secrets as far as they can be had here; what is wrong goes to `diagnostics`. */
async function parseSections(request: RenderRequest, merged: LocatedMap, diagnostics: Diagnostic[]): Promise<{ parsed: ReadonlyMap<string, unknown>; unopened: ReadonlyMap<string, Unopened> }> {
  const { contents, vault, file } = request;
  const parsed = new Map<string, unknown>();
  const unopened = new Map<string, Unopened>();
  for (const kind of request.kinds) {
    const entry = merged.entries.get(kind.name);
    if (entry === undefined) continue;
    // Templates are compiled first: they may ask for secrets. What is wrong with them is told where they are filled in, or below.
    const sources = sourcesIn(entry.value);
    const problems = await Promise.all(sources.map(({ from, span }) => contents.prepare(from, span)));
    const uses = usesIn(entry.value, contents);
    if (request.checkUse !== undefined) diagnostics.push(...uses.flatMap((use) => present(request.checkUse?.(use))));
    await vault.open(uses.map(({ name }) => name), { name: file.name, ...(file.recipient && { recipient: file.recipient.value }) });
    const fitted = fitSection(kind.schema, entry.value, vault);
    const trouble = unopenedOf(kind.name, uses, fitted.misfits, vault);
    if (trouble !== undefined) unopened.set(kind.name, trouble);
    const result = parseLocated(kind.schema, fitted.located, entry.keySpan, [kind.name], { partial: request.cluster === undefined, except: fitted.unfit });
    if (result.ok) {
      parsed.set(kind.name, result.value);
      if (uses.length > 0) diagnostics.push(...exposedSecrets(kind.name, result.value, entry, contents));
    } else diagnostics.push(...result.diagnostics, ...problems.flatMap(present));
  }
  return { parsed, unopened };
}

function present(diagnostic: Diagnostic | undefined): readonly Diagnostic[] {
  return diagnostic === undefined ? [] : [diagnostic];
}

function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some((each) => each.severity === "error");
}

function parseVars(entry: LocatedEntry | undefined, diagnostics: Diagnostic[]): Vars | undefined {
  if (entry === undefined) return {};
  for (const { name, span } of referencesIn(entry.value)) diagnostics.push(errorAt(span, "vars hold no secrets", `write <%= it.secret(${JSON.stringify(name)}) %> in the template`));
  const result = parseLocated(Vars, entry.value, entry.keySpan, ["vars"]);
  if (result.ok) return result.value;
  diagnostics.push(...result.diagnostics);
  return undefined;
}

/** Reads files and renders templates for all sections. First everything is looked up, so that all problems are told at once. */
async function fillContents(request: RenderRequest, merged: LocatedMap, parsed: ReadonlyMap<string, unknown>, vars: Vars, isGood: boolean): Promise<{ sections: ReadonlyMap<string, unknown>; diagnostics: readonly Diagnostic[] }> {
  const { contents, file, cluster } = request;
  const diagnostics: Diagnostic[] = [];
  const all: { readonly content: Content; readonly span: Located["span"] }[] = [];
  for (const [kind, section] of parsed) {
    const located = merged.entries.get(kind);
    if (located === undefined) continue;
    for (const content of contentsIn(section)) {
      if (!content.filled) all.push({ content, span: placeOfSource(located.value, content.from) ?? located.keySpan });
    }
  }
  // At once, because whoever reads them may take many together.
  const problems = await Promise.all(all.map(({ content, span }) => contents.prepare(content.from, span)));
  diagnostics.push(...problems.flatMap(present));
  const wanted = all.filter((_, index) => problems[index] === undefined);
  diagnostics.push(...contents.diagnostics);
  if (cluster === undefined || !isGood) return { sections: new Map(), diagnostics };
  const templates = contents.templates;
  const self = { name: file.name, ...(file.address && { address: file.address.value }) };
  const asked = [...new Set(wanted.flatMap(({ content: { from } }) => contents.secretsOf(from)))];
  const texts = new Map(asked.map((name) => [name, textOf(secretBytes(request.vault, name)) ?? standInFor(name)]));
  const renderer = new TemplateRenderer(templates, { node: self, vars, cluster: { name: cluster.name, nodes: request.nodes } }, undefined, texts);
  const filled = new Map<Content, Content>();
  // A template that does not compile has been told of above.
  const possible = wanted.filter(({ content: { from } }) => !("template" in from) || templates.has(from.template));
  const results = await contents.fill(possible.map(({ content, span }) => ({ from: content.from, span })), file.name, renderer, (name) => secretBytes(request.vault, name));
  for (const [index, { content }] of possible.entries()) {
    const result = results[index];
    if (result instanceof Uint8Array) filled.set(content, new Content(content.from, result));
    else if (result !== undefined) diagnostics.push(result);
  }
  const sections = new Map([...parsed].map(([kind, section]) => [kind, withContents(section, filled)]));
  return { sections, diagnostics };
}

function secretBytes(vault: Vault, name: string): Uint8Array {
  const value = vault.value(name);
  return value.state === "open" ? value.bytes : new TextEncoder().encode(standInFor(name));
}

/** The merged settings in the order in which a node's file is written: address, fleetlock, roles, vars, sections in the order of kinds. */
function wholeNode(request: RenderRequest, merged: LocatedMap): LocatedMap {
  const { file } = request;
  const entries = new Map<string, LocatedEntry>();
  if (file.address) entries.set("address", { keySpan: file.address.located.span, value: file.address.located });
  if (file.recipient) entries.set("recipient", { keySpan: file.recipient.located.span, value: file.recipient.located });
  if (file.fleetlock) entries.set("fleetlock", { keySpan: file.fleetlock.located.span, value: file.fleetlock.located });
  if (request.roles.length > 0) {
    const span = file.roles[0]?.span ?? file.start;
    const items = request.roles.map((value): Located => ({ kind: "scalar", value, text: value, empty: false, span: file.roles.find((each) => each.name === value)?.span ?? span }));
    entries.set("roles", { keySpan: span, value: { kind: "list", items, span } });
  }
  for (const key of ["vars", ...request.kinds.map((kind) => kind.name)]) {
    const entry = merged.entries.get(key);
    if (entry !== undefined) entries.set(key, entry);
  }
  return { kind: "map", entries, span: file.settings.span };
}

function provenanceOf(root: LocatedMap): ReadonlyMap<string, Position> {
  const positions = new Map<string, Position>();
  const walk = (value: Located, path: Path): void => {
    if (path.length > 0) positions.set(pointer(path), positionOf(value.span));
    if (value.kind === "list") for (const [index, item] of value.items.entries()) walk(item, [...path, index]);
    else if (value.kind === "map") for (const [key, entry] of value.entries) walk(entry.value, [...path, key]);
  };
  walk(root, []);
  return positions;
}
