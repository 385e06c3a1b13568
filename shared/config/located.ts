import type { Span } from "./diagnostic.ts";

/** Plain data out of a YAML file that still knows where each key and value stands. */
export type Located = LocatedScalar | LocatedList | LocatedMap;

export interface LocatedScalar {
  readonly kind: "scalar";
  readonly value: Scalar;
  /** As it was written: `0644` for the number 644. */
  readonly text: string;
  /** Nothing at all after the key, as in `jq:`; YAML calls that null. */
  readonly empty: boolean;
  readonly span: Span;
  /** The value is this secret's, or stands for it, and must never be shown. */
  readonly secret?: string;
}

export interface LocatedList {
  readonly kind: "list";
  readonly items: readonly Located[];
  readonly span: Span;
}

export interface LocatedMap {
  readonly kind: "map";
  readonly entries: ReadonlyMap<string, LocatedEntry>;
  readonly span: Span;
}

export interface LocatedEntry {
  readonly keySpan: Span;
  readonly value: Located;
}

export type Scalar = null | boolean | number | string;
export type Plain = Scalar | Plain[] | { [key: string]: Plain };

export function toPlain(located: Located): Plain {
  if (located.kind === "scalar") return located.value;
  if (located.kind === "list") return located.items.map(toPlain);
  // `__proto__` never gets here: the parser refuses it as a key.
  const plain: { [key: string]: Plain } = {};
  for (const [key, entry] of located.entries) plain[key] = toPlain(entry.value);
  return plain;
}

/** For people: what kind of value this is. */
export function describeLocated(located: Located): string {
  if (located.kind === "map") return "a map";
  if (located.kind === "list") return "a list";
  if (located.secret !== undefined) return `the secret ${JSON.stringify(located.secret)}`;
  return describeScalar(located.value);
}

export function describeScalar(value: Scalar): string {
  if (value === null) return "nothing";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") return `the number ${value}`;
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}

export function sameValue(a: Located, b: Located): boolean {
  if (a === b) return true;
  if (a.kind === "scalar") return b.kind === "scalar" && a.value === b.value;
  if (a.kind === "list") {
    return b.kind === "list" && a.items.length === b.items.length && a.items.every((item, index) => sameValue(item, b.items[index] as Located));
  }
  if (b.kind !== "map" || a.entries.size !== b.entries.size) return false;
  for (const [key, entry] of a.entries) {
    const other = b.entries.get(key);
    if (other === undefined || !sameValue(entry.value, other.value)) return false;
  }
  return true;
}

export type Path = readonly (string | number)[];

/** For people: `packages.nginx`, `files."/etc/motd".mode`, `groups.control.members[2]`. */
export function formatPath(path: Path): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else {
      const name = /^[A-Za-z0-9_@-]+$/.test(part) ? part : JSON.stringify(part);
      text += text === "" ? name : `.${name}`;
    }
  }
  return text;
}

/** For programs: a JSON pointer (RFC 6901) such as `/files/~1etc~1motd/mode`. */
export function pointer(path: Path): string {
  return path.map((part) => `/${String(part).replace(/~/g, "~0").replace(/\//g, "~1")}`).join("");
}

/** The deepest place that `path` leads to; `missing` is the part of it that is not there. */
export function locate(root: Located, path: Path): { readonly value: Located; readonly keySpan?: Span; readonly missing: Path } {
  let value = root;
  let keySpan: Span | undefined;
  for (const [index, part] of path.entries()) {
    const entry: LocatedEntry | undefined = value.kind === "map" ? value.entries.get(String(part)) : undefined;
    const next = entry?.value ?? (value.kind === "list" && typeof part === "number" ? value.items[part] : undefined);
    if (next === undefined) return { value, ...(keySpan && { keySpan }), missing: path.slice(index) };
    value = next;
    keySpan = entry?.keySpan;
  }
  return { value, ...(keySpan && { keySpan }), missing: [] };
}
