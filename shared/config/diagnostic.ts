/** Where something stands in the repository. Lines and columns count from 1; columns count UTF-16 units, as editors' protocols do. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** One thing that is wrong, in the terms of whoever wrote the file. */
export interface Diagnostic extends Position {
  readonly severity: "error" | "warning";
  /** How many columns the mark covers. */
  readonly length?: number;
  readonly message: string;
  /** What to write instead, or what to do next. */
  readonly help?: string;
  /** The line itself, so that it can be shown where the repository is not at hand. */
  readonly source?: string;
  /** Other places that take part, such as the second of two roles in contradiction. */
  readonly notes?: readonly Note[];
}

export interface Note extends Position {
  readonly message: string;
  readonly length?: number;
  readonly source?: string;
}

/** A file's text with what is needed to turn offsets into lines. */
export interface Source {
  readonly file: string;
  readonly text: string;
  /** Offset of the first character of each line. */
  readonly lineStarts: readonly number[];
}

/** A stretch of a source: offsets in UTF-16 units, `end` exclusive. */
export interface Span {
  readonly source: Source;
  readonly start: number;
  readonly end: number;
}

/** More than this is noise: the first mistake usually causes the rest. */
export const DIAGNOSTICS_SHOWN_MAX = 100;
/** How much of a source line is shown. */
export const SOURCE_COLUMNS_MAX = 160;

export function makeSource(file: string, text: string): Source {
  const lineStarts = [0];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) lineStarts.push(at + 1);
  return { file, text, lineStarts };
}

export function positionOf(span: Span): Position {
  const { source } = span;
  let low = 0;
  let high = source.lineStarts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((source.lineStarts[middle] ?? 0) <= span.start) low = middle;
    else high = middle - 1;
  }
  return { file: source.file, line: low + 1, column: span.start - (source.lineStarts[low] ?? 0) + 1 };
}

/** A diagnostic's place: position, length of the mark and the line itself. */
export function placeOf(span: Span): Position & { readonly length: number; readonly source: string } {
  const position = positionOf(span);
  const lineStart = span.source.lineStarts[position.line - 1] ?? 0;
  const lineEnd = span.source.lineStarts[position.line] ?? span.source.text.length + 1;
  const source = span.source.text.slice(lineStart, lineEnd - 1).replace(/\r$/, "");
  const length = Math.max(1, Math.min(span.end, lineStart + source.length) - span.start);
  return { ...position, length, source: source.slice(0, 4 * SOURCE_COLUMNS_MAX) };
}

export function errorAt(span: Span, message: string, help?: string, notes?: readonly Note[]): Diagnostic {
  return { severity: "error", ...placeOf(span), message, ...(help !== undefined && { help }), ...(notes && notes.length > 0 && { notes }) };
}

export function warningAt(span: Span, message: string, help?: string): Diagnostic {
  return { severity: "warning", ...placeOf(span), message, ...(help !== undefined && { help }) };
}

export function noteAt(span: Span, message: string): Note {
  return { ...placeOf(span), message };
}

/** For what concerns a file as a whole. */
export function errorInFile(file: string, message: string, help?: string): Diagnostic {
  return { severity: "error", file, line: 1, column: 1, message, ...(help !== undefined && { help }) };
}

export function warningInFile(file: string, message: string, help?: string): Diagnostic {
  return { ...errorInFile(file, message, help), severity: "warning" };
}

/** In the order of reading, without those that say the same of the same place (a role's mistake shows in each of its nodes). */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const seen = new Map<string, Diagnostic>();
  for (const each of diagnostics) {
    const key = JSON.stringify([each.file, each.line, each.column, each.severity, each.message]);
    if (!seen.has(key)) seen.set(key, each);
  }
  return [...seen.values()].sort(
    (a, b) => compare(a.file, b.file) || a.line - b.line || a.column - b.column || compare(a.message, b.message),
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Prints diagnostics as a compiler would, all of them, with a summary in the last line. Ends with a line feed unless there is nothing to say. */
export function formatDiagnostics(diagnostics: readonly Diagnostic[], options: { readonly color?: boolean } = {}): string {
  if (diagnostics.length === 0) return "";
  const paint = options.color === true ? ansi : plain;
  const parts = diagnostics.slice(0, DIAGNOSTICS_SHOWN_MAX).map((each) => formatOne(each, paint));
  const hidden = diagnostics.length - parts.length;
  if (hidden > 0) parts.push(`… and ${hidden} more\n`);
  return `${parts.join("\n")}\n${summarize(diagnostics)}\n`;
}

/** `3 errors and 1 warning in 2 files` */
export function summarize(diagnostics: readonly Diagnostic[]): string {
  const errors = diagnostics.filter((each) => each.severity === "error").length;
  const warnings = diagnostics.length - errors;
  const counts = [errors > 0 ? count(errors, "error") : "", warnings > 0 ? count(warnings, "warning") : ""].filter((each) => each !== "");
  return `${counts.join(" and ")} in ${count(new Set(diagnostics.map((each) => each.file)).size, "file")}`;
}

export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

type Paint = (style: "bold" | "red" | "yellow" | "cyan" | "dim", text: string) => string;
const plain: Paint = (_style, text) => text;
const codes = { bold: "1", red: "1;31", yellow: "1;33", cyan: "1;36", dim: "2" } as const;
const ansi: Paint = (style, text) => `\u001b[${codes[style]}m${text}\u001b[0m`;

function formatOne(diagnostic: Diagnostic, paint: Paint): string {
  const color = diagnostic.severity === "error" ? "red" : "yellow";
  const lines = [
    `${paint("bold", where(diagnostic))} ${paint(color, `${diagnostic.severity}:`)} ${paint("bold", printable(diagnostic.message))}`,
    ...excerpt(diagnostic, color, paint),
  ];
  for (const note of diagnostic.notes ?? []) {
    lines.push(`${paint("bold", where(note))} ${paint("cyan", "note:")} ${printable(note.message)}`, ...excerpt(note, "cyan", paint));
  }
  if (diagnostic.help !== undefined) lines.push(`${paint("cyan", "help:")} ${printable(diagnostic.help)}`);
  return `${lines.join("\n")}\n`;
}

function where(position: Position): string {
  return `${printable(position.file)}:${position.line}:${position.column}:`;
}

function excerpt(place: Position & { readonly length?: number; readonly source?: string }, color: "red" | "yellow" | "cyan", paint: Paint): readonly string[] {
  if (place.source === undefined || place.source.trim() === "") return [];
  // A long line is shown around the mark.
  const cut = Math.max(0, place.column - 1 - Math.floor(SOURCE_COLUMNS_MAX / 2));
  const shown = place.source.slice(cut, cut + SOURCE_COLUMNS_MAX);
  const before = shown.slice(0, place.column - 1 - cut);
  const marked = shown.slice(before.length, before.length + Math.max(1, place.length ?? 1));
  const gutter = String(place.line);
  const blank = " ".repeat(gutter.length);
  const lead = cut > 0 ? "…" : "";
  const tail = cut + SOURCE_COLUMNS_MAX < place.source.length ? "…" : "";
  const indent = " ".repeat(printable(lead + before).length);
  return [
    `${paint("dim", ` ${gutter} |`)} ${lead}${printable(shown)}${tail}`,
    `${paint("dim", ` ${blank} |`)} ${indent}${paint(color, "^".repeat(Math.max(1, printable(marked).length)))}`,
  ];
}

/**
 * The text without anything that a terminal would obey: a repository's author must not be able to rewrite the screen of
 * whoever validates it. Control characters (C0, C1), the marks that change the direction of writing, and tabs.
 */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  return text.replace(/\t/g, "  ").replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
