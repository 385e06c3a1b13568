import { Content } from "./content.ts";
import type { ContentSource } from "./content.ts";
import { errorAt, noteAt } from "./diagnostic.ts";
import type { Diagnostic, Span } from "./diagnostic.ts";
import { CONTENT_SIZE_BYTES_MAX } from "./layout.ts";
import type { Located } from "./located.ts";
import { didYouMean } from "./suggest.ts";
import { compileTemplate } from "./template.ts";
import type { RenderedTemplate, Template, TemplateRenderer } from "./template.ts";
import type { FileTree, TreeEntry } from "./tree.ts";

/**
 * The files below files/ of one load: each is read once, each template compiled once, whatever number of nodes use it.
 */
export class Contents {
  readonly #tree: FileTree;
  readonly #entries: ReadonlyMap<string, TreeEntry>;
  readonly #bytes = new Map<string, Promise<Uint8Array>>();
  readonly #templates = new Map<string, Template>();
  readonly #compiling = new Map<string, Promise<void>>();
  readonly #diagnostics: Diagnostic[] = [];
  /** Templates that failed once: an endless loop is waited for once, and not for every node. */
  readonly #failed = new Map<string, Diagnostic>();

  constructor(tree: FileTree, entries: ReadonlyMap<string, TreeEntry>) {
    this.#tree = tree;
    this.#entries = entries;
  }

  /** Those that compile, by their path below files/. */
  get templates(): ReadonlyMap<string, Template> {
    return this.#templates;
  }

  /** Secrets that these bytes hold, also by way of what a template includes. All must have been prepared. */
  secretsOf(from: ContentSource, seen: Set<string> = new Set()): readonly string[] {
    if ("secret" in from) return [from.secret];
    const template = "template" in from && !seen.has(from.template) ? this.#templates.get(from.template) : undefined;
    if (template === undefined) return [];
    seen.add(template.path);
    return [...new Set([...template.secrets.map(({ name }) => name), ...template.includes.flatMap((path) => this.secretsOf({ template: path }, seen))])];
  }

  /** Where a template, or what it includes, asks for a secret. */
  placeOfSecret(from: ContentSource, secret: string, seen: Set<string> = new Set()): Span | undefined {
    const template = "template" in from && !seen.has(from.template) ? this.#templates.get(from.template) : undefined;
    if (template === undefined) return undefined;
    seen.add(template.path);
    const own = template.secrets.find(({ name }) => name === secret);
    if (own !== undefined) return { source: template.source, start: own.start, end: own.end };
    for (const path of template.includes) {
      const found = this.placeOfSecret({ template: path }, secret, seen);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** What templates that do not compile, or include what is not there, have to say. */
  get diagnostics(): readonly Diagnostic[] {
    return this.#diagnostics;
  }

  /** Reads what `from` names, and compiles it if it is a template. Undefined when all is well, else the problem at `span`. */
  async prepare(from: ContentSource, span: Span): Promise<Diagnostic | undefined> {
    // Secrets are looked up before: see Vault.
    if ("text" in from || "secret" in from) return undefined;
    const path = "file" in from ? from.file : from.template;
    const problem = this.#problem(path, span);
    if (problem !== undefined) return problem;
    if ("template" in from) await this.#compile(path);
    else await this.#read(path);
    return undefined;
  }

  /** The bytes for one node, in the order of `wanted`, or what is wrong. All must have been prepared, and prepared well. */
  async fill(wanted: readonly { readonly from: ContentSource; readonly span: Span }[], node: string, renderer: TemplateRenderer, secrets: (name: string) => Uint8Array): Promise<readonly (Uint8Array | Diagnostic)[]> {
    const paths = new Set(wanted.flatMap(({ from }) => ("template" in from && !this.#failed.has(from.template) ? [from.template] : [])));
    const rendered = renderer.renderAll([...paths]);
    return Promise.all(
      wanted.map(async ({ from, span }) => {
        if ("text" in from) return new TextEncoder().encode(from.text);
        if ("file" in from) return this.#read(from.file);
        if ("secret" in from) return secrets(from.secret);
        return this.#filledIn(from.template, rendered.get(from.template), span, node);
      }),
    );
  }

  #filledIn(path: string, rendered: RenderedTemplate | undefined, span: Span, node: string): Uint8Array | Diagnostic {
    const earlier = this.#failed.get(path);
    if (earlier !== undefined) return earlier;
    if (rendered === undefined) throw new Error(`template ${path} was not rendered`);
    if (rendered.ok) return new TextEncoder().encode(rendered.text);
    const diagnostic: Diagnostic = { ...rendered.diagnostic, notes: [noteAt(span, `it is used here, for node ${node}`)] };
    if (rendered.timedOut) this.#failed.set(path, diagnostic);
    return diagnostic;
  }

  #problem(path: string, span: Span): Diagnostic | undefined {
    const entry = this.#entries.get(path);
    if (entry === undefined) return errorAt(span, `there is no files/${path}`, this.#similar(path));
    if (entry.type === "link") return errorAt(span, `files/${path} is a symbolic link; links are never followed`, "put the file itself there");
    if (entry.type === "submodule") return errorAt(span, `files/${path} is a Git submodule; submodules are not read`, "put the file itself there");
    // Told already, at the file itself; it must not be read either.
    if (entry.sizeBytes > CONTENT_SIZE_BYTES_MAX) return errorAt(span, `files/${path} is too large: ${entry.sizeBytes} bytes; at most ${CONTENT_SIZE_BYTES_MAX} are read`);
    return undefined;
  }

  #similar(path: string): string {
    const paths = [...this.#entries.keys()];
    if (path.startsWith("files/") && this.#entries.has(path.slice("files/".length))) return `paths are taken from files/ on: write ${JSON.stringify(path.slice("files/".length))}`;
    const link = paths.find((each) => path.startsWith(`${each}/`) && this.#entries.get(each)?.type !== "file");
    if (link !== undefined) return `files/${link} is a link, and links are never followed`;
    const folder = paths.filter((each) => each.startsWith(`${path}/`));
    if (folder.length > 0) return `files/${path} is a directory; name one of the files in it, such as ${JSON.stringify(folder[0])}`;
    const name = path.slice(path.lastIndexOf("/") + 1);
    const elsewhere = paths.find((each) => each.endsWith(`/${name}`));
    return didYouMean(path, paths) ?? (elsewhere === undefined ? `make the file files/${path}` : `did you mean ${JSON.stringify(elsewhere)}?`);
  }

  #read(path: string): Promise<Uint8Array> {
    const known = this.#bytes.get(path);
    if (known !== undefined) return known;
    const bytes = this.#tree.read(`files/${path}`);
    this.#bytes.set(path, bytes);
    return bytes;
  }

  /** Compiles a template and all that it includes, each once, also when several ask at the same time. */
  #compile(path: string): Promise<void> {
    const started = this.#compiling.get(path);
    // Whoever includes itself waits for nothing: the outermost call waits for all.
    if (started !== undefined) return started;
    const work = this.#compileOne(path);
    this.#compiling.set(path, work);
    return work;
  }

  async #compileOne(path: string): Promise<void> {
    const compiled = compileTemplate(path, await this.#read(path));
    if (!compiled.ok) {
      this.#diagnostics.push(compiled.diagnostic);
      return;
    }
    const { source, includes } = compiled.template;
    this.#templates.set(path, compiled.template);
    for (const included of includes) {
      const at = source.text.indexOf(included);
      const problem = this.#problem(included, { source, start: at, end: at + included.length });
      if (problem !== undefined) this.#diagnostics.push(problem);
      else if (!this.#compiling.has(included)) await this.#compile(included);
    }
  }
}

/** All contents in a kind's parsed section, at any depth. */
export function contentsIn(value: unknown, found: Content[] = []): Content[] {
  if (value instanceof Content) found.push(value);
  else if (value instanceof Map) for (const each of value.values()) contentsIn(each, found);
  else if (value instanceof Set) for (const each of value) contentsIn(each, found);
  else if (Array.isArray(value)) for (const each of value) contentsIn(each, found);
  else if (isPlainObject(value)) for (const each of Object.values(value)) contentsIn(each, found);
  return found;
}

/** The same value with each content replaced. What has none in it is kept as it is, also when it is frozen. */
export function withContents(value: unknown, filled: ReadonlyMap<Content, Content>): unknown {
  if (value instanceof Content) return filled.get(value) ?? value;
  if (value instanceof Map) return rebuilt(value, [...value.values()], filled, (values) => new Map([...value.keys()].map((key, index) => [key, values[index]])));
  if (value instanceof Set) return rebuilt(value, [...value], filled, (values) => new Set(values));
  if (Array.isArray(value)) return rebuilt(value, value, filled, (values) => values);
  if (!isPlainObject(value)) return value;
  return rebuilt(value, Object.values(value), filled, (values) => Object.fromEntries(Object.keys(value).map((key, index) => [key, values[index]])));
}

function rebuilt(whole: unknown, parts: readonly unknown[], filled: ReadonlyMap<Content, Content>, build: (parts: readonly unknown[]) => unknown): unknown {
  const after = parts.map((part) => withContents(part, filled));
  return after.every((part, index) => part === parts[index]) ? whole : build(after);
}

function isPlainObject(value: unknown): value is object {
  if (value === null || typeof value !== "object") return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * Where a section names this source. A kind may have reshaped its input, so that the output's path says little; the
 * source itself is `{file: x}` or `{template: x}`, which is found as it was written.
 */
export function placeOfSource(section: Located, from: ContentSource): Span | undefined {
  const [key, wanted] = "file" in from ? (["file", from.file] as const) : "template" in from ? (["template", from.template] as const) : "secret" in from ? (["secret", from.secret] as const) : ["", ""];
  if (section.kind === "scalar") return undefined;
  if (section.kind === "list") return firstOf(section.items, from);
  const named = section.entries.get(key)?.value;
  if (named?.kind === "scalar" && named.value === wanted) return named.span;
  return firstOf([...section.entries.values()].map((entry) => entry.value), from);
}

/** Every `{file: x}` and `{template: x}` as written, for a section that its schema did not let through. */
export function sourcesIn(section: Located, found: { readonly from: ContentSource; readonly span: Span }[] = []): readonly { readonly from: ContentSource; readonly span: Span }[] {
  if (section.kind === "list") for (const item of section.items) sourcesIn(item, found);
  if (section.kind !== "map") return found;
  for (const [key, { value }] of section.entries) {
    const alone = section.entries.size === 1 && value.kind === "scalar" && typeof value.value === "string" ? value.value : undefined;
    if (alone !== undefined && key === "file") found.push({ from: { file: alone }, span: value.span });
    else if (alone !== undefined && key === "template") found.push({ from: { template: alone }, span: value.span });
    else sourcesIn(value, found);
  }
  return found;
}

function firstOf(values: readonly Located[], from: ContentSource): Span | undefined {
  for (const value of values) {
    const span = placeOfSource(value, from);
    if (span !== undefined) return span;
  }
  return undefined;
}

