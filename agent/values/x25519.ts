import { createPrivateKey, createPublicKey, diffieHellman } from "node:crypto";
import type { KeyObject } from "node:crypto";

/**
 * The secret that two nodes share by their age keys, which are X25519 keys written in bech32 (BIP 173, with age's own
 * prefixes): https://github.com/C2SP/C2SP/blob/main/age.md#the-x25519-recipient-type
 */

const CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as const;
const KEY_BYTES = 32;
/** What stands before the key's 32 bytes in PKCS #8 and SubjectPublicKeyInfo (RFC 8410). */
const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
const SPKI = Buffer.from("302a300506032b656e032100", "hex");

/** Null when either is no X25519 key of age's. */
export function sharedSecret(identity: string, recipient: string): Buffer | null {
  const ours = bytesOf(identity, "age-secret-key-");
  const theirs = bytesOf(recipient, "age");
  if (ours === null || theirs === null) return null;
  const privateKey: KeyObject = createPrivateKey({ key: Buffer.concat([PKCS8, ours]), format: "der", type: "pkcs8" });
  const publicKey: KeyObject = createPublicKey({ key: Buffer.concat([SPKI, theirs]), format: "der", type: "spki" });
  try {
    return diffieHellman({ privateKey, publicKey });
  } catch {
    // OpenSSL refuses keys of small order, with which the secret would be known to all (RFC 7748, 6.1).
    return null;
  }
}

/** The bytes in a bech32 text with this prefix, or null when it is damaged or another. */
function bytesOf(text: string, prefix: string): Buffer | null {
  const lower = text.toLowerCase();
  if (text !== lower && text !== text.toUpperCase()) return null;
  if (!lower.startsWith(`${prefix}1`)) return null;
  const words = lower.slice(prefix.length + 1).split("").map((letter) => CHARSET.indexOf(letter));
  if (words.includes(-1) || words.length < 7) return null;
  const letters = prefix.split("").map((letter) => letter.codePointAt(0) ?? 0);
  if (checksum([...letters.map((code) => code >> 5), 0, ...letters.map((code) => code & 31), ...words]) !== 1) return null;
  let [bits, held] = [0, 0];
  const bytes: number[] = [];
  for (const word of words.slice(0, -6)) {
    held = ((held << 5) | word) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((held >> bits) & 0xff);
  }
  return bytes.length === KEY_BYTES ? Buffer.from(bytes) : null;
}

function checksum(values: readonly number[]): number {
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    GENERATOR.forEach((generator, index) => {
      if ((top >> index) & 1) sum ^= generator;
    });
  }
  return sum;
}
