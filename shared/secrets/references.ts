import type * as z from "zod";
import { Content } from "../config/content.ts";
import { contentsIn } from "../config/contents.ts";
import type { Span } from "../config/diagnostic.ts";
import { pointer, toPlain } from "../config/located.ts";
import type { Located, LocatedEntry, Path } from "../config/located.ts";

/**
 * `{secret: NAME}` may stand wherever a section wants text. What a schema then gets to see is the secret itself on a node that
 * may read it, and a stand-in everywhere else: the hub and the command line have no key, and validate all the same.
 */

export interface SecretReference {
  /** From the section on. */
  readonly path: Path;
  readonly name: string;
  readonly span: Span;
}

/** Every `{secret: NAME}` in a section. The section's own keys are names of things: what stands right below them may be one. */
export function referencesIn(section: Located, path: Path = [], found: SecretReference[] = []): readonly SecretReference[] {
  if (section.kind === "list") for (const [index, item] of section.items.entries()) referencesIn(item, [...path, index], found);
  if (section.kind !== "map") return found;
  const alone = section.entries.size === 1 ? section.entries.get("secret")?.value : undefined;
  if (path.length > 0 && alone?.kind === "scalar" && typeof alone.value === "string") found.push({ path, name: alone.value, span: alone.span });
  else for (const [key, { value }] of section.entries) referencesIn(value, [...path, key], found);
  return found;
}

/** What stands for a secret that cannot be read here. */
export function standInFor(name: string): string {
  return `SECRET-${name}`;
}

/** Schemas differ in what text they let through: the first that fits is taken. */
function standIns(name: string): readonly string[] {
  return [
    standInFor(name),
    "hidden00",
    `${"A".repeat(43)}=`,
    "abcdef.0123456789abcdef",
    "0".repeat(64),
    "0".repeat(32),
    `$6$hidden$${"x".repeat(86)}`,
    "12345678",
    "https://secret.invalid/",
    "secret@example.org",
    "/secret",
    "192.0.2.1",
  ];
}

/** What a secret is as one line of settings: a final line feed, which most programs write, is no part of it. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).replace(/\r?\n$/, "");
  } catch {
    return null;
  }
}

export interface Fitted {
  /** The section with text in place of references; those that a content stands for are left. */
  readonly located: Located;
  /** Where no stand-in is let through: what the schema says there is no mistake of the repository's. */
  readonly unfit: readonly Path[];
  /** Where the secret itself is not let through, with what the schema says; a stand-in is in its place. */
  readonly misfits: readonly { readonly reference: SecretReference; readonly message: string }[];
}

/** @param text the secret itself, or undefined where it cannot be read. */
export function fitSecrets(schema: z.ZodType, section: Located, references: readonly SecretReference[], text: (name: string) => string | null | undefined): Fitted {
  const texts = new Map<string, SecretText>();
  const check = (): z.ZodSafeParseResult<unknown> => schema.safeParse(toPlain(substituted(section, texts)));
  const unfit: Path[] = [];
  const misfits: Fitted["misfits"][number][] = [];
  const fit = (reference: SecretReference): void => {
    const { name, path } = reference;
    const real = text(name);
    const objections = (candidate: string) => {
      texts.set(pointer(path), { name, text: candidate });
      return (check().error?.issues ?? []).filter((issue) => overlaps(issue.path as Path, path));
    };
    const against = typeof real === "string" ? objections(real) : [];
    if (typeof real === "string" && against.length === 0) return;
    if (real === null) misfits.push({ reference, message: "it is not text, and only content: can hold that" });
    else if (real !== undefined) misfits.push({ reference, message: deepest(against[0]) });
    if (!standIns(name).some((candidate) => objections(candidate).length === 0)) unfit.push(path);
  };
  const first = check().error?.issues ?? [];
  const asMaps = references.filter(({ path }) => !first.some((issue) => overlaps(issue.path as Path, path)));
  const asTexts = references.filter((reference) => !asMaps.includes(reference));
  // All at first, so that each is then tried among others that may be right.
  for (const { path, name } of asTexts) texts.set(pointer(path), { name, text: text(name) ?? standInFor(name) });
  for (const reference of asTexts) fit(reference);
  for (const reference of notContents(asMaps, check, texts)) fit(reference);
  return { located: substituted(section, texts), unfit, misfits };
}

/** Where a schema takes any map, and makes no content of it, the secret's text is meant. */
function notContents(references: readonly SecretReference[], check: () => z.ZodSafeParseResult<unknown>, texts: Map<string, SecretText>): readonly SecretReference[] {
  const first = check();
  if (!first.success || contentsOf(first.data) === references.length) return [];
  const before = contentsOf(first.data);
  return references.filter(({ path, name }) => {
    texts.set(pointer(path), { name, text: standInFor(name) });
    const after = check();
    texts.delete(pointer(path));
    return !after.success || contentsOf(after.data) === before;
  });
}

function contentsOf(value: unknown): number {
  return contentsIn(value).filter((content: Content) => "secret" in content.from).length;
}

function overlaps(one: Path, other: Path): boolean {
  return one.slice(0, other.length).every((part, index) => String(part) === String(other[index]));
}

/** What a schema says, from inside of its unions; its own words do not quote what they are about. */
function deepest(issue: z.core.$ZodIssue | undefined): string {
  if (issue?.code !== "invalid_union") return issue?.message ?? "it does not fit";
  return deepest(issue.errors.flat().toSorted((a, b) => b.path.length - a.path.length)[0]) || issue.message;
}

interface SecretText {
  readonly name: string;
  readonly text: string;
}

function substituted(value: Located, texts: ReadonlyMap<string, SecretText>, path: Path = []): Located {
  if (texts.size === 0 || value.kind === "scalar") return value;
  const found = texts.get(pointer(path));
  if (found !== undefined) return { kind: "scalar", value: found.text, text: "", empty: false, span: value.span, secret: found.name };
  if (value.kind === "list") return { ...value, items: value.items.map((item, index) => substituted(item, texts, [...path, index])) };
  const entries = new Map<string, LocatedEntry>();
  for (const [key, entry] of value.entries) entries.set(key, { ...entry, value: substituted(entry.value, texts, [...path, key]) });
  return { ...value, entries };
}
