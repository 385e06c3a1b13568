/** What stands where a secret was. */
export const REDACTED = "•••";
/** Shorter ones are in too many words to be told from them. `evenkeel secret set` does not take such a one. */
export const SECRET_CHARS_MIN = 4;
/** A line of a longer secret (a key's) that is as long as this cannot be chance. */
const LINE_CHARS_MIN = 12;

/** Finds the secrets that a node has opened, in whatever it is about to say or to do. */
export class Redactor {
  /** The longest first, so that no part of a secret is left over. */
  readonly #needles: readonly string[];

  constructor(secrets: Iterable<Uint8Array>) {
    this.#needles = [...new Set([...secrets].flatMap(needlesOf))].toSorted((a, b) => b.length - a.length);
  }

  isIn(text: string): boolean {
    return this.#needles.some((needle) => text.includes(needle));
  }

  isInBytes(bytes: Uint8Array): boolean {
    return this.#needles.length > 0 && this.isIn(new TextDecoder().decode(bytes));
  }

  text(text: string): string {
    return this.#needles.reduce((clean, needle) => clean.replaceAll(needle, REDACTED), text);
  }

  /** The same value with all its texts made clean, keys of objects as well. */
  deep<T>(value: T): T {
    if (this.#needles.length === 0) return value;
    return this.#deep(value) as T;
  }

  #deep(value: unknown): unknown {
    if (typeof value === "string") return this.text(value);
    if (Array.isArray(value)) return value.map((each) => this.#deep(each));
    if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [this.text(key), this.#deep(each)]));
  }
}

/** Texts by which a secret is known: as it is, its longer lines, and as JSON, addresses and base64 write it. */
function needlesOf(bytes: Uint8Array): readonly string[] {
  const whole = new TextDecoder().decode(bytes).trim();
  // A frame such as -----BEGIN PRIVATE KEY----- is in many files, and no secret.
  const lines = whole.split(/\r?\n/).map((line) => line.trim());
  const parts = lines.length === 1 ? lines : [whole, ...lines.filter((line) => line.length >= LINE_CHARS_MIN && !line.startsWith("-----"))];
  const written = [...parts, ...parts.map((part) => JSON.stringify(part).slice(1, -1)), ...parts.flatMap(asAddress), base64(bytes), base64(new TextEncoder().encode(whole))];
  return written.filter((needle) => needle.length >= SECRET_CHARS_MIN);
}

function asAddress(part: string): readonly string[] {
  try {
    return [encodeURIComponent(part)];
  } catch {
    // Half a surrogate pair.
    return [];
  }
}

function base64(bytes: Uint8Array): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replace(/=+$/, "");
}
