/**
 * What can be seen of an age file without a key (https://age-encryption.org/v1, "Header"): for how many it is encrypted, and
 * the header's authentication code, by which this very header is known again.
 */

/** A sealed file: the largest secret, armored, with a header for every node of the largest cluster. */
export const SEALED_SIZE_BYTES_MAX = 1024 * 1024;

export interface SealedHeader {
  /** How many recipients the file has; who they are, it does not tell. */
  readonly recipients: number;
  /** Of the header, in base64 without padding: a file that was encrypted anew has another one. */
  readonly mac: string;
}

export type HeaderRead = { readonly ok: true; readonly header: SealedHeader } | { readonly ok: false; /** To follow the file's name and a colon. */ readonly message: string };

export function readHeader(sealed: Uint8Array): HeaderRead {
  if (sealed.length > SEALED_SIZE_BYTES_MAX) return { ok: false, message: `it is ${sealed.length} bytes long; at most ${SEALED_SIZE_BYTES_MAX} are read` };
  const whole = latin1(sealed);
  const text = whole.trimStart().startsWith("-----BEGIN") ? unarmored(whole) : whole;
  if (text === null) return { ok: false, message: "its armor is damaged" };
  if (!text.startsWith("age-encryption.org/v1\n")) return { ok: false, message: "it is no age file" };
  const mac = /\n--- ([A-Za-z0-9+/]{43})\n/.exec(text);
  if (mac === null) return { ok: false, message: "its header is damaged" };
  const stanzas = text.slice(0, mac.index).match(/^-> \S+/gm) ?? [];
  const foreign = stanzas.find((stanza) => stanza !== "-> X25519" && !stanza.endsWith("-grease"));
  if (foreign !== undefined) return { ok: false, message: `it is encrypted in a way that nodes cannot read (${foreign.slice(3)}): they need an age key as their recipient, and no passphrase, SSH key or plugin` };
  return { ok: true, header: { recipients: stanzas.filter((stanza) => stanza === "-> X25519").length, mac: mac[1] ?? "" } };
}

function latin1(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

function unarmored(text: string): string | null {
  const body = /^-----BEGIN AGE ENCRYPTED FILE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END AGE ENCRYPTED FILE-----$/.exec(text.trim())?.[1];
  if (body === undefined) return null;
  try {
    return atob(body.replace(/[\r\n]/g, ""));
  } catch {
    return null;
  }
}
