import { Decrypter, Encrypter, armor, generateX25519Identity, identityToRecipient } from "age-encryption";
import { recipientProblem } from "./recipient.ts";
import { SEALED_SIZE_BYTES_MAX } from "./sealed-file.ts";

/**
 * Files encrypted with age (https://age-encryption.org/v1), as the `age` command reads and writes them. Keys are X25519 ones:
 * an identity is `AGE-SECRET-KEY-1…` and secret, its recipient is `age1…` and public. Randomness is the library's own
 * (the platform's `getRandomValues`).
 */

/** A secret is a password, a key or a small configuration file. */
export const PLAINTEXT_SIZE_BYTES_MAX = 256 * 1024;
/** A header names each in about 100 bytes, and whoever opens the file tries one after the other. */
export const RECIPIENTS_MAX = 1_100;

export interface KeyPair {
  /** `AGE-SECRET-KEY-1…`: never in a repository, a log or an argument. */
  readonly identity: string;
  /** `age1…`: what others encrypt to. */
  readonly recipient: string;
}

export type Opened =
  | { readonly ok: true; readonly plaintext: Uint8Array }
  | { readonly ok: false; readonly reason: "not-for-this-key" | "damaged" | "too-large"; /** What is wrong with it, to follow a name and a colon. */ readonly message: string };

export async function newIdentity(): Promise<KeyPair> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/** The recipient of an identity, or null when it is none. */
export async function recipientOf(identity: string): Promise<string | null> {
  if (!identity.startsWith("AGE-SECRET-KEY-1")) return null;
  return identityToRecipient(identity).catch(() => null);
}

/**
 * Encrypts for all of the recipients, each of which can then open it alone. Answers an armored file (ASCII, ends with a line feed).
 * @throws for recipients in which {@link recipientProblem} finds something, for none at all, and for more than may be: bugs in the caller.
 */
export async function seal(recipients: readonly string[], plaintext: Uint8Array): Promise<Uint8Array> {
  const distinct = [...new Set(recipients)];
  if (distinct.length === 0 || distinct.length > RECIPIENTS_MAX) throw new Error(`a secret is sealed to 1 to ${RECIPIENTS_MAX} recipients, not ${distinct.length}`);
  if (plaintext.length > PLAINTEXT_SIZE_BYTES_MAX) throw new Error(`a secret has at most ${PLAINTEXT_SIZE_BYTES_MAX} bytes, not ${plaintext.length}`);
  const encrypter = new Encrypter();
  for (const recipient of distinct) {
    const problem = recipientProblem(recipient);
    if (problem !== undefined) throw new Error(problem);
    encrypter.addRecipient(recipient);
  }
  return new TextEncoder().encode(armor.encode(await encrypter.encrypt(plaintext)));
}

/** Decrypts a file, armored or not, with the first identity that can. What cannot be decrypted is an answer; no identity at all opens nothing. */
export async function open(identities: readonly string[], sealed: Uint8Array): Promise<Opened> {
  if (sealed.length > SEALED_SIZE_BYTES_MAX) return { ok: false, reason: "too-large", message: `it is ${sealed.length} bytes long; at most ${SEALED_SIZE_BYTES_MAX} are read` };
  const decrypter = new Decrypter();
  for (const identity of identities) decrypter.addIdentity(identity);
  try {
    const plaintext = await decrypter.decrypt(unarmored(sealed));
    if (plaintext.length <= PLAINTEXT_SIZE_BYTES_MAX) return { ok: true, plaintext };
    return { ok: false, reason: "too-large", message: `it holds ${plaintext.length} bytes; at most ${PLAINTEXT_SIZE_BYTES_MAX} may be a secret` };
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    if (/no identity matched/.test(said)) return { ok: false, reason: "not-for-this-key", message: "it is not encrypted to this key" };
    return { ok: false, reason: "damaged", message: `it is no age file, or it is damaged (${said.slice(0, 100)})` };
  }
}

function unarmored(sealed: Uint8Array): Uint8Array {
  const start = new TextDecoder("latin1").decode(sealed.subarray(0, 256)).trimStart();
  return start.startsWith("-----BEGIN") ? armor.decode(new TextDecoder("latin1").decode(sealed)) : sealed;
}

/** The identities in a file as `age-keygen` writes it: one a line, with comments; null when a line is something else. */
export async function parseIdentities(text: string): Promise<readonly KeyPair[] | null> {
  const pairs: KeyPair[] = [];
  for (const line of text.split("\n").map((each) => each.trim())) {
    if (line === "" || line.startsWith("#")) continue;
    const recipient = await recipientOf(line);
    if (recipient === null) return null;
    pairs.push({ identity: line, recipient });
  }
  return pairs.length === 0 ? null : pairs;
}

/** A file of one identity, as `age-keygen` writes it but for the date. */
export function identityFile({ identity, recipient }: KeyPair): string {
  return `# public key: ${recipient}\n${identity}\n`;
}
