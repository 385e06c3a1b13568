import * as vm from "node:vm";
import { Eta } from "eta/core";
import { errorAt, errorInFile, makeSource } from "./diagnostic.ts";
import type { Diagnostic, Source } from "./diagnostic.ts";
import { didYouMean } from "./suggest.ts";
import { sandbox } from "./template-sandbox.ts";

/** A template's own text; what it prints has a limit of its own. */
export const TEMPLATE_SIZE_BYTES_MAX = 1024 * 1024;
/** How long one render may take: a thousand times the usual, so that a loaded machine does not trip over it. */
export const TEMPLATE_TIME_MS_MAX = 2_000;
/** What one render may print, in UTF-16 units: a configuration file of 4 MiB is a mistake. */
export const TEMPLATE_OUTPUT_MAX = 4 * 1024 * 1024;
/** How deep templates may include templates. */
export const TEMPLATE_INCLUDE_DEPTH_MAX = 8;

/** What a template sees as `it`, with `it.secret("NAME")` beside it. Whatever is not there is an error when a template asks for it. */
export interface TemplateData {
  readonly node: { readonly name: string; readonly address?: string };
  readonly vars: Readonly<Record<string, unknown>>;
  readonly cluster: { readonly name: string; readonly nodes: readonly { readonly name: string; readonly address?: string }[] };
}

export interface Template {
  /** Path below files/. */
  readonly path: string;
  readonly source: Source;
  /** Templates below files/ that it includes by name. */
  readonly includes: readonly string[];
  /** Secrets that it asks for, and where. */
  readonly secrets: readonly { readonly name: string; readonly start: number; readonly end: number }[];
  readonly script: vm.Script;
}

export type CompiledTemplate = { readonly ok: true; readonly template: Template } | { readonly ok: false; readonly diagnostic: Diagnostic };
export type RenderedTemplate = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly diagnostic: Diagnostic; readonly timedOut?: true };

const eta = new Eta({ autoEscape: false, autoFilter: true, autoTrim: false, debug: true, cache: false });

/** Parses a template (https://eta.js.org/docs/4.x.x/syntax) without running anything of it. `path` is below files/. */
export function compileTemplate(path: string, bytes: Uint8Array): CompiledTemplate {
  const file = `files/${path}`;
  const fail = (diagnostic: Diagnostic): CompiledTemplate => ({ ok: false, diagnostic });
  if (bytes.length > TEMPLATE_SIZE_BYTES_MAX) return fail(errorInFile(file, `the template is ${bytes.length} bytes long; at most ${TEMPLATE_SIZE_BYTES_MAX} are read`, "refer to it with {file: …} if nothing in it is to be filled in"));
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return fail(errorInFile(file, "the template is not UTF-8 text", "refer to it with {file: …} if it is binary"));
  }
  const source = makeSource(file, text);
  let ast: Ast;
  try {
    ast = dropEmptyLines(eta.parse(text));
  } catch (error) {
    return fail(parseError(source, error));
  }
  // import() would answer with a promise of our own realm, and so lead out of the template's (measured, Node 26.10).
  const importing = ast.find((item) => typeof item !== "string" && /\bimport\b/.test(item.val));
  if (typeof importing === "object") return fail(errorOnLine(source, importing.lineNo ?? 1, "a template cannot import", "it sees it.node, it.vars, it.cluster and it.secret(\"NAME\"), and can include(\"other.eta\")", "import"));
  const body = terminated(eta.compileBody(ast));
  const code = `templates[${JSON.stringify(path)}] = function (it, __eta, include) {"use strict";\n${body}\n};`;
  try {
    // Parsed alone, a body cannot close the function around it: so defining the function runs nothing of the template.
    vm.compileFunction(`"use strict";\n${body}`, ["it", "__eta", "include"], { filename: "template" });
    return { ok: true, template: { path, source, includes: includedIn(text), secrets: secretsIn(text), script: new vm.Script(code, { filename: "template" }) } };
  } catch (error) {
    const generated = Number(/^template:(\d+)/.exec((error as Error).stack ?? "")?.[1] ?? 1);
    return fail(errorOnLine(source, templateLine(code, generated), `JavaScript in the template: ${(error as Error).message}`));
  }
}

/**
 * Renders templates for one node, in a JavaScript realm of its own that has no file, network, clock or random, and
 * shares no object with ours: data goes in and text comes out as JSON. This keeps mistakes and endless loops in; it is
 * not a jail for strangers, which signatures keep out (node:vm's own documentation says as much).
 */
export class TemplateRenderer {
  readonly #templates: ReadonlyMap<string, Template>;
  readonly #data: TemplateData;
  readonly #timeoutMs: number;
  readonly #secrets: ReadonlyMap<string, string>;
  #context: vm.Context | undefined;

  constructor(templates: ReadonlyMap<string, Template>, data: TemplateData, timeoutMs: number = TEMPLATE_TIME_MS_MAX, secrets: ReadonlyMap<string, string> = new Map()) {
    this.#templates = templates;
    this.#secrets = secrets;
    this.#data = data;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * All of them in one go: a guarded call costs a thread (measured: 0.7 ms). Only when that does not end, each by itself.
   * @throws when a path is not among the templates, which is a bug in the caller.
   */
  renderAll(paths: readonly string[]): ReadonlyMap<string, RenderedTemplate> {
    const outcomes = paths.length > 1 ? this.#run(`renderAll(${JSON.stringify(paths)})`) : undefined;
    if (!Array.isArray(outcomes) || outcomes.length !== paths.length) return new Map(paths.map((path) => [path, this.render(path)]));
    return new Map(paths.map((path, index) => [path, this.#rendered(path, outcomes[index])]));
  }

  /** @throws when `path` is not among the templates, which is a bug in the caller. */
  render(path: string): RenderedTemplate {
    return this.#rendered(path, this.#run(`render(${JSON.stringify(path)})`));
  }

  #rendered(path: string, outcome: unknown): RenderedTemplate {
    const template = this.#templates.get(path);
    if (template === undefined) throw new Error(`template ${path} was not compiled`);
    if (outcome === "timeout") return { ok: false, timedOut: true, diagnostic: errorOnLine(template.source, 1, `the template did not end within ${this.#timeoutMs} ms`, "look for a loop that does not end") };
    if (typeof outcome !== "object" || outcome === null) return { ok: false, diagnostic: errorOnLine(template.source, 1, "the template broke the realm that it runs in", "it must not change what JavaScript itself provides") };
    const { text, ...failure } = outcome as { readonly text?: unknown } & Partial<Failure>;
    if (typeof text === "string") return { ok: true, text };
    const failing = this.#templates.get(failure.path ?? path) ?? template;
    return { ok: false, diagnostic: this.#explain(failing, { line: 1, message: "the template failed", ...failure }) };
  }

  /** What the sandbox answers; "timeout", or undefined when it could not even say what went wrong. */
  #run(code: string): unknown {
    try {
      this.#context ??= this.#realm();
      const answer: unknown = vm.runInContext(code, this.#context, { timeout: this.#timeoutMs });
      return typeof answer === "string" ? JSON.parse(answer) : undefined;
    } catch (error) {
      // A realm that was stopped in the middle is not used again.
      this.#context = undefined;
      return (error as { code?: unknown } | null)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT" ? "timeout" : undefined;
    }
  }

  #realm(): vm.Context {
    const context = vm.createContext(vm.constants.DONT_CONTEXTIFY, { codeGeneration: { strings: false, wasm: false }, microtaskMode: "afterEvaluate" });
    const limits = { outputMax: TEMPLATE_OUTPUT_MAX, includeDepthMax: TEMPLATE_INCLUDE_DEPTH_MAX };
    vm.runInContext(sandbox(JSON.stringify(this.#data), JSON.stringify(limits), JSON.stringify(Object.fromEntries(this.#secrets))), context);
    for (const template of this.#templates.values()) template.script.runInContext(context);
    return context;
  }

  #explain(template: Template, failure: Failure): Diagnostic {
    const { unknown } = failure;
    if (unknown !== undefined) {
      const known = unknown.known.slice(0, 20).join(", ");
      const help = didYouMean(unknown.key, unknown.known) ?? (unknown.of === "it.vars" ? `set it under vars: in the node's file, a role or cluster.yaml${known === "" ? "" : `; set are: ${known}`}` : `there are: ${known}`);
      return errorOnLine(template.source, failure.line, failure.message, help, unknown.key);
    }
    const name = /^(\w+) is not defined$/.exec(failure.message)?.[1];
    return errorOnLine(template.source, failure.line, failure.message, name === undefined ? undefined : this.#undefinedHelp(name), name);
  }

  #undefinedHelp(name: string): string {
    if (["Date", "Temporal", "Intl", "performance"].includes(name)) return "a template has no clock: it must give the same text each time it is rendered";
    if (Object.hasOwn(this.#data.vars, name)) return `write it.vars.${name}`;
    if (name === "vars" || name === "node" || name === "cluster" || name === "secret") return `write it.${name}`;
    return didYouMean(name, Object.keys(this.#data.vars))?.replace(/"(.*)"/, "it.vars.$1") ?? "a template sees it.node, it.vars and it.cluster";
  }
}

/** eta leaves the marks of lines without a semicolon, so that a tag that begins with a parenthesis would call the number. */
function terminated(body: string): string {
  return body.replace(/^__eta\.line=\d+$/gm, "$&;");
}

interface Failure {
  readonly path?: string;
  readonly line: number;
  readonly message: string;
  readonly unknown?: { readonly of: string; readonly key: string; readonly known: readonly string[] };
}

/** Names of the templates that a template's text includes. They are found by reading, so that nothing is looked up while it runs. */
function includedIn(text: string): readonly string[] {
  return [...new Set([...text.matchAll(/\binclude\(\s*(["'`])([^"'`\\$\n]+)\1/g)].map((match) => match[2] ?? ""))];
}

/** Names of the secrets that a template asks for; found by reading, so that they are at hand before it runs. */
function secretsIn(text: string): Template["secrets"] {
  return [...text.matchAll(/\bit\.secret\(\s*(["'`])([^"'`\\$\n]+)\1/g)].map((match) => {
    const name = match[2] ?? "";
    const start = match.index + match[0].length - 1 - name.length;
    return { name, start, end: start + name.length };
  });
}

type Ast = ReturnType<typeof eta.parse>;

/**
 * A line that holds nothing but `<% … %>` leaves no empty line behind, while `<%= … %>` keeps what stands around it, as in
 * Mustache's standalone tags. Texts in the tree are already escaped for JavaScript: a line feed is `\n` in two letters.
 */
function dropEmptyLines(ast: Ast): Ast {
  const result: Ast = [...ast];
  for (const [index, item] of ast.entries()) {
    if (typeof item === "string" || item.t !== "e") continue;
    const before = ast[index - 1] ?? "";
    const after = ast[index + 1] ?? "";
    if (typeof before !== "string" || typeof after !== "string") continue;
    const beginsLine = /(?<!\\)(?:\\\\)*\\n[ \t]*$/.test(before) || (index <= 1 && /^[ \t]*$/.test(before));
    const endsLine = /^[ \t]*\\n/.test(after) || (index + 2 >= ast.length && /^[ \t]*$/.test(after));
    if (!beginsLine || !endsLine) continue;
    // The text before may already have lost its beginning to the tag before it.
    const shortened = result[index - 1] ?? "";
    if (index > 0 && typeof shortened === "string") result[index - 1] = shortened.replace(/[ \t]+$/, "");
    if (index + 1 < ast.length) result[index + 1] = after.replace(/^[ \t]*(\\n)?/, "");
  }
  return result;
}

function parseError(source: Source, error: unknown): Diagnostic {
  const match = /^(.*?) at line (\d+) col (\d+)/.exec((error as Error).message);
  return errorOnLine(source, Number(match?.[2] ?? 1), match?.[1] ?? (error as Error).message);
}

/** The template's line that a line of generated code comes from: eta marks each tag with `__eta.line=N`. */
function templateLine(code: string, generated: number): number {
  let line = 1;
  let since = 0;
  const lines = code.split("\n");
  for (const [index, text] of lines.slice(0, generated).entries()) {
    const mark = /^__eta\.line=(\d+);$/.exec(text)?.[1];
    if (mark !== undefined) {
      line = Number(mark);
      since = index;
    }
  }
  // A tag's own JavaScript may span lines; what follows it is text, and complains of what the tag left open.
  const isText = lines[generated - 1]?.startsWith("__eta.res+=") ?? true;
  return since === 0 || isText ? line : line + Math.max(0, generated - 1 - since - 1);
}

function errorOnLine(source: Source, line: number, message: string, help?: string, word?: string): Diagnostic {
  const start = source.lineStarts[line - 1] ?? 0;
  const end = (source.lineStarts[line] ?? source.text.length + 1) - 1;
  const text = source.text.slice(start, end);
  const wordAt = word === undefined ? -1 : text.search(new RegExp(`(?<![A-Za-z0-9_])${word.replace(/[^A-Za-z0-9_]/g, "\\$&")}(?![A-Za-z0-9_])`));
  const from = wordAt === -1 ? start + (/\S/.exec(text)?.index ?? 0) : start + wordAt;
  return errorAt({ source, start: from, end: wordAt === -1 ? end : from + (word ?? "").length }, message, help);
}
