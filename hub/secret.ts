import { createHash, randomBytes } from "node:crypto";

/** A new token: 256 random bits, safe in URLs, shell lines and headers. */
export function newToken(): string {
  return randomBytes(32).toString("base64url");
}

/**
 * What the database keeps of a token. Tokens are looked up by this hash: what an attacker could learn from the time that
 * takes is about the hash of his own guess. A slow hash is for passwords; 256 random bits need none.
 */
export function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
