import type * as z from "zod";
import { errorAt } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { describeLocated, formatPath, locate, toPlain } from "./located.ts";
import type { Located, LocatedMap, Path } from "./located.ts";
import { didYouMean, editDistance, suggest } from "./suggest.ts";

/** Stands for "no message of the schema's own": the text is then made here, where the value's place is known. */
const UNSAID = "\u0000";

type Issue = z.core.$ZodIssue & { readonly known?: readonly string[] };

/** Zod's hook for messages; it is also the only moment at which the schema that complains is at hand, hence `known`. */
const remember: z.core.$ZodErrorMap = (raw) => {
  if (raw.code === "unrecognized_keys") {
    const definition = (raw.inst as unknown as { _zod?: { def?: { shape?: object } } } | undefined)?._zod?.def;
    (raw as { known?: readonly string[] }).known = Object.keys(definition?.shape ?? {});
  }
  return UNSAID;
};

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly diagnostics: readonly Diagnostic[] };

/**
 * Checks located data against a schema. What zod finds wrong is told at the line where the value stands, in whichever
 * file that is. `path` is where `located` stands in the node's file, for the messages.
 */
export function parseLocated<Schema extends z.ZodType>(
  schema: Schema,
  located: Located,
  keySpan = located.span,
  path: Path = [],
  options: {
    /** Does not complain about what is missing: it may stand in a file that cannot be read. */
    readonly partial?: boolean;
    /** Does not complain about what stands at these places, from `located` on. */
    readonly except?: readonly Path[];
  } = {},
): Parsed<z.output<Schema>> {
  const result = schema.safeParse(toPlain(located), { error: remember, reportInput: true });
  if (result.success) return { ok: true, value: result.data };
  const context: Context = { root: located, rootSpan: keySpan, prefix: path, partial: options.partial === true };
  const issues = (result.error.issues as readonly Issue[]).filter((issue) => !isExcepted(issue, [], options.except ?? []));
  return { ok: false, diagnostics: issues.flatMap((issue) => explain(context, issue, [])) };
}

function isExcepted(issue: Issue, base: Path, except: readonly Path[]): boolean {
  if (except.length === 0) return false;
  const path = [...base, ...(issue.path as Path)];
  if (except.some((each) => formatPath(each) === formatPath(path))) return true;
  return issue.code === "invalid_union" && (issue.errors as readonly (readonly Issue[])[]).some((branch) => branch.length > 0 && branch.every((each) => isExcepted(each, path, except)));
}

interface Context {
  readonly root: Located;
  readonly rootSpan: Diagnosticable;
  readonly prefix: Path;
  readonly partial: boolean;
}
type Diagnosticable = Located["span"];

function explain(context: Context, issue: Issue, base: Path): readonly Diagnostic[] {
  const path = [...base, ...(issue.path as Path)];
  const name = formatPath([...context.prefix, ...path]);
  const found = locate(context.root, path);
  const keySpan = found.keySpan ?? context.rootSpan;
  if (found.missing.length > 0) {
    // The schema asks for something that is not there: told at the key of what should have it.
    if (context.partial) return [];
    const last = found.missing[0];
    if (!isUnsaid(issue)) return [errorAt(keySpan, `${name}: ${issue.message}`)];
    return [errorAt(keySpan, `${formatPath([...context.prefix, ...path.slice(0, path.length - found.missing.length)]) || "the file"} lacks ${JSON.stringify(String(last))}`, neighbour(found.value, String(last)))];
  }
  if (issue.code === "unrecognized_keys") return unknownKeys(context, issue, found.value, name);
  if (issue.code === "invalid_key") {
    const inner: Issue | undefined = issue.issues[0];
    const key = String(path.at(-1));
    const why = inner === undefined ? "it does not fit" : isUnsaid(inner) ? defaultText(inner, { kind: "scalar", value: key, text: key, empty: false, span: keySpan }).message : inner.message;
    return [errorAt(keySpan, `${JSON.stringify(key)} cannot be a key of ${formatPath([...context.prefix, ...path.slice(0, -1)]) || "the file"}: ${why}`)];
  }
  if (issue.code === "invalid_union" && isUnsaid(issue)) return explainUnion(context, issue, path, found.value, name);
  const at = found.value.kind === "map" ? keySpan : found.value.span;
  if (!isUnsaid(issue)) return [errorAt(at, `${name === "" ? "" : `${name}: `}${issue.message}${foundSuffix(issue, found.value)}`, issue.code === "invalid_union" ? mistypedKey(issue, found.value) : undefined)];
  const { message, help } = defaultText(issue, found.value);
  return [errorAt(at, `${name === "" ? "" : `${name}: `}${message}`, help)];
}

/** A schema's own message says what is right; what was found goes with it, unless it is in there already. */
function foundSuffix(issue: Issue, value: Located): string {
  if (issue.code !== "invalid_format" || value.kind !== "scalar" || issue.message.includes(value.text)) return "";
  return `; found ${describeLocated(value)}`;
}

function isUnsaid(issue: Issue): boolean {
  return issue.message === UNSAID;
}

/** For a union that says itself what it wants: the first key that no branch knows, when it resembles one that some branch does. */
function mistypedKey(issue: Issue & { code: "invalid_union" }, value: Located): string | undefined {
  if (value.kind !== "map") return undefined;
  const unknown = (issue.errors as readonly (readonly Issue[])[]).map((branch) => branch.find((each) => each.code === "unrecognized_keys"));
  const known = [...new Set(unknown.flatMap((each) => each?.known ?? []))];
  for (const key of value.entries.keys()) {
    const meant = known.includes(key) ? undefined : suggest(key, known);
    if (meant !== undefined) return `is ${JSON.stringify(key)} meant to be ${JSON.stringify(meant)}?`;
  }
  return undefined;
}

/** A key that is there, unknown to nobody yet, and looks like the missing one. */
function neighbour(value: Located, missing: string): string | undefined {
  if (value.kind !== "map") return undefined;
  const similar = suggest(missing, value.entries.keys());
  return similar === undefined ? undefined : `is ${JSON.stringify(similar)} meant to be ${JSON.stringify(missing)}?`;
}

function unknownKeys(context: Context, issue: Issue & { code: "unrecognized_keys" }, value: Located, name: string): readonly Diagnostic[] {
  const known = issue.known ?? [];
  return issue.keys.map((key) => {
    const span = (value.kind === "map" ? value.entries.get(key)?.keySpan : undefined) ?? context.rootSpan;
    const help = didYouMean(key, known) ?? (known.length > 0 ? `known here: ${known.slice(0, 20).join(", ")}` : undefined);
    return errorAt(span, `unknown field ${JSON.stringify(key)}${name === "" ? "" : ` in ${name}`}`, help);
  });
}

/** Of a union's branches, tells only of the one that was meant, which is the one whose type fits. */
function explainUnion(context: Context, issue: Issue & { code: "invalid_union" }, path: Path, value: Located, name: string): readonly Diagnostic[] {
  const at = value.kind === "map" ? (locate(context.root, path).keySpan ?? context.rootSpan) : value.span;
  const branches = (issue.errors as readonly (readonly Issue[])[]).flatMap(flattenUnion);
  const expected = branches.flatMap((branch) => branch.filter(isMismatch).flatMap(expectedNames));
  const fitting = branches.filter((branch) => !branch.some(isMismatch));
  if (fitting.length === 0) {
    const literals = branches.flatMap((branch) => branch.flatMap((each) => (each.code === "invalid_value" && each.path.length === 0 ? each.values.map(String) : [])));
    const word = value.kind === "scalar" ? value.text : "";
    const choice = expected.length > 0 ? `expected ${oneOf([...new Set(expected)])}` : "does not fit";
    const help = (word === "" ? undefined : didYouMean(word, literals)) ?? mismatchHelp([...new Set(expected)], value);
    return [errorAt(at, `${name === "" ? "" : `${name}: `}${choice}, found ${describeLocated(value)}`, help)];
  }
  // A branch that lacks nothing is the one that was meant, however much else is wrong.
  const complete = fitting.filter((branch) => !branch.some((each) => lacks(each, value)));
  const best = (complete.length > 0 ? complete : fitting).reduce((a, b) => (score(b, value) < score(a, value) ? b : a));
  const told = best.flatMap((each) => explain(context, each, path));
  return told.map((each) => ({ ...each, ...unionHelp(best, complete.length > 0 ? complete : fitting) }));
}

/** A union inside of a union, with no key between them, is one union to whoever reads about it. */
function flattenUnion(branch: readonly Issue[]): readonly (readonly Issue[])[] {
  const [only] = branch;
  if (branch.length === 1 && only?.code === "invalid_union" && only.path.length === 0 && only.errors.length > 0 && isUnsaid(only)) {
    return (only.errors as readonly (readonly Issue[])[]).flatMap(flattenUnion);
  }
  return [branch];
}

function lacks(issue: Issue, value: Located): boolean {
  const [key] = issue.path;
  return value.kind === "map" && key !== undefined && !value.entries.has(String(key));
}

function isMismatch(issue: Issue): boolean {
  return issue.path.length === 0 && (issue.code === "invalid_type" || issue.code === "invalid_value");
}

function expectedNames(issue: Issue): readonly string[] {
  if (issue.code === "invalid_type") return [typeName(issue.expected)];
  return issue.code === "invalid_value" ? issue.values.map((value) => JSON.stringify(value)) : [];
}

/** How far the value is from a branch: unknown keys that resemble a missing one weigh less than those that do not. */
function score(branch: readonly Issue[], value: Located): number {
  let total = 0;
  const present = value.kind === "map" ? [...value.entries.keys()] : [];
  for (const issue of branch) {
    total += 10;
    if (issue.code === "unrecognized_keys") {
      for (const key of issue.keys) total += 10 + Math.min(9, ...(issue.known ?? []).filter((known) => !present.includes(known)).map((known) => editDistance(key, known)));
    }
  }
  return total;
}

/** When several branches are maps, the keys of all of them are candidates. */
function unionHelp(best: readonly Issue[], fitting: readonly (readonly Issue[])[]): { readonly help?: string } {
  if (fitting.length < 2) return {};
  const unknown = best.find((issue) => issue.code === "unrecognized_keys");
  if (unknown === undefined) return {};
  const known = [...new Set(fitting.flatMap((branch) => branch.flatMap((issue) => issue.known ?? [])))];
  const key = unknown.keys[0] ?? "";
  const help = didYouMean(key, known) ?? (known.length > 0 ? `known here: ${known.slice(0, 20).join(", ")}` : undefined);
  return help === undefined ? {} : { help };
}

function typeName(expected: string): string {
  const names: Readonly<Record<string, string>> = { string: "text", number: "a number", int: "a whole number", boolean: "true or false", array: "a list", object: "a map", record: "a map", null: "null" };
  return names[expected] ?? expected;
}

function oneOf(names: readonly string[]): string {
  if (names.length <= 1) return names[0] ?? "nothing";
  return `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

function mismatchHelp(expected: readonly string[], value: Located): string | undefined {
  if (value.kind !== "scalar") return undefined;
  if (expected.includes("text") && value.value !== null) return `put it in quotes: "${value.text}"`;
  if (expected.includes("true or false") && typeof value.value === "string" && /^(yes|no|on|off|true|false)$/i.test(value.value)) {
    return `write ${/^(yes|on|true)$/i.test(value.value) ? "true" : "false"}, without quotes`;
  }
  if (expected.some((name) => name.includes("number")) && typeof value.value === "string" && /^-?\d+(\.\d+)?$/.test(value.value)) return `write ${value.value} without quotes`;
  return undefined;
}

const units: Readonly<Record<string, string>> = { string: "characters", array: "items", set: "items", map: "entries", file: "bytes" };

function defaultText(issue: Issue, value: Located): { readonly message: string; readonly help?: string | undefined } {
  const found = describeLocated(value);
  switch (issue.code) {
    case "invalid_type": {
      const expected = typeName(issue.expected);
      return { message: `expected ${expected}, found ${found}`, help: mismatchHelp([expected], value) };
    }
    case "invalid_value": {
      const choices = issue.values.map((each) => JSON.stringify(each));
      return { message: `expected ${oneOf(choices)}, found ${found}`, help: value.kind === "scalar" ? didYouMean(value.text, issue.values.map(String)) : undefined };
    }
    case "too_big":
    case "too_small": {
      const bound = issue.code === "too_big" ? issue.maximum : issue.minimum;
      const word = issue.code === "too_big" ? "at most" : "at least";
      const unit = units[issue.origin];
      if (unit === undefined) return { message: `must be ${issue.inclusive === false ? (issue.code === "too_big" ? "less than" : "more than") : word} ${bound}, found ${found}` };
      return { message: issue.origin === "string" && Number(bound) === 1 && issue.code === "too_small" ? "must not be empty" : `must have ${word} ${bound} ${unit}` };
    }
    case "invalid_format":
      if (issue.format === "starts_with") return { message: `must begin with ${JSON.stringify((issue as { prefix?: string }).prefix)}, found ${found}` };
      if (issue.format === "ends_with") return { message: `must end with ${JSON.stringify((issue as { suffix?: string }).suffix)}, found ${found}` };
      return { message: issue.format === "regex" ? `${found} does not match ${issue.pattern ?? "the pattern"}` : `${found} is not a valid ${issue.format}` };
    case "not_multiple_of":
      return { message: `must be a multiple of ${issue.divisor}, found ${found}` };
    case "invalid_union":
      return { message: `${found} fits none of the allowed forms` };
    default:
      return { message: `${found} is not valid here` };
  }
}

/** A located map of one key, for data that has no file of its own. */
export function emptyMap(span: Located["span"]): LocatedMap {
  return { kind: "map", entries: new Map(), span };
}
