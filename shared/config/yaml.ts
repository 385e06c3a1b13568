import { isAlias, isMap, isScalar, isSeq, Lexer, parseDocument } from "yaml";
import type { Document, Node, Pair, Scalar as YamlScalar, YAMLError, YAMLMap, YAMLSeq } from "yaml";
import { errorAt, errorInFile, makeSource, noteAt } from "./diagnostic.ts";
import type { Diagnostic, Source, Span } from "./diagnostic.ts";
import type { Located, LocatedEntry, LocatedMap } from "./located.ts";

/** A YAML file of settings: a thousand times what people write by hand, and parsed in about a second (measured: 1 MiB of keys, 1.2 s). */
export const YAML_SIZE_BYTES_MAX = 1024 * 1024;
/** Lines of one YAML file: 20,000 lines are 50 a node for 400 nodes; beyond it, something wrote the file by mistake. */
export const YAML_LINES_MAX = 20_000;
/** Levels of maps and lists. Kinds use about 6; the parser recurses, so this also bounds its stack. */
export const YAML_DEPTH_MAX = 32;
/** Columns of indentation, so that depth is bounded before the parser recurses: 32 levels of 8 columns. */
export const YAML_INDENT_COLUMNS_MAX = 8 * YAML_DEPTH_MAX;
/** `*name` in one file: repetition belongs in a role, so few are needed. */
export const YAML_ALIASES_MAX = 100;
/** Values of one file with all aliases expanded: what makes a "billion laughs" bomb die early. */
export const YAML_VALUES_MAX = 100_000;
/** Problems reported of one file: after a syntax error the rest is mostly its echo. */
export const YAML_PROBLEMS_MAX = 20;

export type ParsedYaml =
  | { readonly ok: true; readonly source: Source; readonly root: LocatedMap }
  | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

/** Reads one YAML file into plain data with positions. Nothing in it is executed, resolved or looked up. */
export function parseYaml(file: string, bytes: Uint8Array): ParsedYaml {
  const tooLarge = checkSize(file, bytes.length);
  if (tooLarge !== undefined) return failed(tooLarge);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return failed(errorInFile(file, "the file is not UTF-8 text", "save it as UTF-8; binary content belongs below files/"));
  }
  const source = makeSource(file, text);
  const tooMuch = checkShape(source);
  if (tooMuch !== undefined) return failed(tooMuch);
  // Duplicate keys are looked for below: the library compares all pairs, which takes minutes for a large map.
  const document = parseDocument(text, { uniqueKeys: false, prettyErrors: false, merge: false, logLevel: "error" });
  if (document.errors.length > 0) {
    return { ok: false, diagnostics: document.errors.slice(0, YAML_PROBLEMS_MAX).map((error) => syntaxError(source, error)) };
  }
  return convert(source, document);
}

/** To be asked before a file is even read. */
export function checkSize(file: string, sizeBytes: number): Diagnostic | undefined {
  if (sizeBytes <= YAML_SIZE_BYTES_MAX) return undefined;
  return errorInFile(file, `the file is ${sizeBytes} bytes long; at most ${YAML_SIZE_BYTES_MAX} are read`, "put large content below files/ and refer to it with {file: …}");
}

function failed(diagnostic: Diagnostic): ParsedYaml {
  return { ok: false, diagnostics: [diagnostic] };
}

/**
 * Counts, with the lexer alone, what the parser would recurse into. The lexer is a loop, so that no input can exhaust
 * the stack before this has had its say.
 */
function checkShape(source: Source): Diagnostic | undefined {
  const lines = source.lineStarts.length;
  if (lines > YAML_LINES_MAX) return errorInFile(source.file, `the file has ${lines} lines; at most ${YAML_LINES_MAX} are read`);
  let offset = 0;
  let flowDepth = 0;
  let compactDepth = 0;
  let aliases = 0;
  let lineStart = true;
  let scalar = false;
  const at = (length: number): Span => ({ source, start: offset, end: offset + length });
  for (const token of new Lexer().lex(source.text)) {
    // The lexer's own marks: document start (\u0002), end of a flow (\u0018), scalar follows (\u001f). They stand for no text.
    if (token === "\u0002" || token === "\u0018" || token === "\u001f") {
      scalar = token === "\u001f";
      continue;
    }
    const first = token[0];
    if (scalar) {
      // Text, which may look like anything. A block scalar is one token, from its first line's indentation to its last line's end.
      scalar = false;
      lineStart = token.endsWith("\n");
      if (lineStart) compactDepth = 0;
    } else if (first === "\n" || first === "\r") {
      lineStart = true;
      compactDepth = 0;
    } else if (first === " ") {
      const columns = token.length;
      if (lineStart && columns > YAML_INDENT_COLUMNS_MAX && flowDepth === 0) return errorAt(at(columns), `indented by ${columns} columns; at most ${YAML_INDENT_COLUMNS_MAX} are read`);
      lineStart = false;
    } else {
      lineStart = false;
      if (token === "[" || token === "{") flowDepth++;
      else if (token === "]" || token === "}") flowDepth = Math.max(0, flowDepth - 1);
      else if (token === "-" || token === "?") compactDepth++;
      else if (first === "*" && ++aliases > YAML_ALIASES_MAX) {
        return errorAt(at(token.length), `more than ${YAML_ALIASES_MAX} aliases in one file`, "put what repeats into a role");
      }
      if (flowDepth > YAML_DEPTH_MAX || compactDepth > YAML_DEPTH_MAX) return errorAt(at(token.length), tooDeep);
    }
    offset += token.length;
  }
  return undefined;
}

const tooDeep = `nested more than ${YAML_DEPTH_MAX} levels deep`;

function syntaxError(source: Source, error: YAMLError): Diagnostic {
  const [start, end] = error.pos;
  const span: Span = { source, start, end: Math.max(end, start + 1) };
  switch (error.code) {
    case "TAB_AS_INDENT":
      return errorAt(span, "a tab is used for indentation", "YAML is indented with spaces only");
    case "MULTIPLE_DOCS":
      return errorAt(span, "a second document begins here", "one file holds one document: remove the line ---, or make it a file of its own");
    case "BAD_ALIAS":
      return errorAt(span, `bad alias: ${firstLower(error.message)}`);
    case "MISSING_CHAR":
    case "BAD_INDENT":
    case "BLOCK_AS_IMPLICIT_KEY":
    case "UNEXPECTED_TOKEN":
    default:
      return errorAt(span, firstLower(error.message), syntaxHelp(error));
  }
}

function syntaxHelp(error: YAMLError): string | undefined {
  if (error.code === "BLOCK_AS_IMPLICIT_KEY") return "text with \": \" in it must stand in quotes";
  if (error.code === "BAD_INDENT") return "entries of the same map or list must begin in the same column";
  if (error.code === "BAD_SCALAR_START" || /reserved|Plain value cannot start/.test(error.message)) return "put the text in quotes";
  return undefined;
}

function firstLower(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}

interface Converted {
  readonly value: Located;
  /** Number of values in it, aliases expanded. */
  readonly size: number;
}

interface State {
  readonly source: Source;
  readonly problems: Diagnostic[];
  readonly anchors: Map<string, Converted | "open">;
  values: number;
  /** Set when a limit was reached: the rest of the file is not looked at. */
  stopped: boolean;
}

function convert(source: Source, document: Document.Parsed): ParsedYaml {
  const state: State = { source, problems: [], anchors: new Map(), values: 0, stopped: false };
  const whole: Span = { source, start: 0, end: 1 };
  const contents: Node | null = document.contents;
  if (contents === null || (isScalar(contents) && contents.value === null)) return { ok: true, source, root: { kind: "map", entries: new Map(), span: whole } };
  const { value } = convertNode(state, contents, 0, whole);
  if (state.problems.length > 0) return { ok: false, diagnostics: state.problems.slice(0, YAML_PROBLEMS_MAX) };
  if (value.kind !== "map") return failed(errorAt(value.span, "a map is expected here, such as `roles: [base]`"));
  return { ok: true, source, root: value };
}

function spanOf(state: State, node: Node): Span {
  const range = node.range ?? [0, 1, 1];
  return { source: state.source, start: range[0], end: Math.max(range[1], range[0]) };
}

function problem(state: State, span: Span, message: string, help?: string): void {
  state.problems.push(errorAt(span, message, help));
}

function nothing(span: Span): Converted {
  return { value: { kind: "scalar", value: null, text: "", empty: true, span }, size: 1 };
}

function convertNode(state: State, node: Node | null, depth: number, fallback: Span): Converted {
  if (state.stopped) return nothing(fallback);
  if (node === null) return counted(state, nothing(fallback));
  const span = spanOf(state, node);
  if (depth > YAML_DEPTH_MAX) {
    state.stopped = true;
    problem(state, span, tooDeep);
    return nothing(span);
  }
  if (isAlias(node)) return convertAlias(state, node.source, span);
  const anchor = (node as { anchor?: string }).anchor;
  if (anchor !== undefined) state.anchors.set(anchor, "open");
  checkTag(state, node, span);
  const converted = isMap(node)
    ? convertMap(state, node, depth, span)
    : isSeq(node)
      ? convertList(state, node, depth, span)
      : counted(state, convertScalar(state, node, span, fallback));
  if (anchor !== undefined) state.anchors.set(anchor, converted);
  return converted;
}

function counted(state: State, converted: Converted): Converted {
  state.values += converted.size;
  if (state.values > YAML_VALUES_MAX && !state.stopped) {
    state.stopped = true;
    problem(state, converted.value.span, `more than ${YAML_VALUES_MAX} values in one file, aliases expanded`, "split the file into roles");
  }
  return converted;
}

function convertAlias(state: State, name: string, span: Span): Converted {
  const target = state.anchors.get(name);
  if (target === undefined) {
    problem(state, span, `no anchor &${name} stands before this alias`);
    return nothing(span);
  }
  if (target === "open") {
    problem(state, span, `the alias *${name} stands inside of what it repeats`);
    return nothing(span);
  }
  // Shared, not copied: only its size is counted again.
  return counted(state, target);
}

const knownTags = new Set(["str", "int", "float", "bool", "null", "map", "seq"].map((name) => `tag:yaml.org,2002:${name}`));

function checkTag(state: State, node: Node, span: Span): void {
  const tag = (node as { tag?: string }).tag;
  if (tag !== undefined && !knownTags.has(tag)) {
    problem(state, span, `the tag ${tag.replace(/^tag:yaml\.org,2002:/, "!!")} is not supported`, "write the value itself; for secrets and files see {file: …}");
  }
}

function convertMap(state: State, node: YAMLMap, depth: number, span: Span): Converted {
  const entries = new Map<string, LocatedEntry>();
  let size = 1;
  state.values++;
  for (const pair of node.items as Pair<Node | null, Node | null>[]) {
    if (state.stopped) break;
    const key = convertKey(state, pair.key, span);
    if (key === undefined) continue;
    const converted = convertNode(state, pair.value, depth + 1, key.span);
    size += converted.size;
    const earlier = entries.get(key.text);
    if (earlier !== undefined) {
      state.problems.push(errorAt(key.span, `the key ${JSON.stringify(key.text)} stands here for the second time`, "a map has each key once: join the two entries", [noteAt(earlier.keySpan, "the first one is here")]));
      continue;
    }
    entries.set(key.text, { keySpan: key.span, value: converted.value });
  }
  return { value: { kind: "map", entries, span }, size };
}

function convertKey(state: State, key: Node | null, mapSpan: Span): { readonly text: string; readonly span: Span } | undefined {
  if (key === null || !isScalar(key)) {
    problem(state, key === null ? mapSpan : spanOf(state, key), "a key must be plain text", "write `name: value`");
    return undefined;
  }
  const span = spanOf(state, key);
  // As written: `80: x` has the key "80", and `0644: x` has the key "0644".
  const text = key.type === "PLAIN" && key.source !== undefined ? key.source : String(key.value);
  if (text === "" || key.value === null) problem(state, span, "the key is empty", "write `name: value`");
  else if (text === "<<") problem(state, span, "merge keys (<<) are not supported", "put what is shared into a role and list it under roles:");
  else if (text === "__proto__") problem(state, span, "__proto__ cannot be used as a key");
  else return { text, span };
  return undefined;
}

function convertList(state: State, node: YAMLSeq, depth: number, span: Span): Converted {
  const items: Located[] = [];
  let size = 1;
  state.values++;
  for (const item of node.items as (Node | null)[]) {
    if (state.stopped) break;
    const converted = convertNode(state, item, depth + 1, span);
    size += converted.size;
    items.push(converted.value);
  }
  return { value: { kind: "list", items, span }, size };
}

function convertScalar(state: State, node: YamlScalar, span: Span, fallback: Span): Converted {
  const { value } = node;
  const text = node.source ?? String(value);
  const empty = value === null && text === "";
  const at = empty ? fallback : span;
  if (value !== null && typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") {
    problem(state, span, "this kind of value is not supported", "put it in quotes");
    return nothing(span);
  }
  if (typeof value === "number" && String(value) !== text) {
    // YAML 1.2 reads 0644 as 644, 1.10 as 1.1 and 0x1f as 31: never what a mode or a version meant.
    problem(state, span, `${text} would be read as the number ${value}`, `write "${text}" in quotes if text is meant${Number.isFinite(value) ? `, or ${value} if the number is` : ""}`);
  }
  return { value: { kind: "scalar", value, text, empty, span: at }, size: 1 };
}
