import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { SecretKey } from "../shared/secrets/vault.ts";
import type { KeyPair } from "../shared/secrets/age.ts";
import { writeDurably } from "./host/durable.ts";
import { identityPath } from "./settings.ts";
import type { Places } from "./settings.ts";

/**
 * The node's age key: made here, once, and never sent anywhere. Its public half, the recipient, is told to the hub for people
 * to see; others encrypt to it only when an owner has signed it into nodes/NAME.yaml. The cryptography is loaded only when a
 * key is made or a secret is opened: most nodes' commits have none.
 */

/** The node's key, made if there is none; null when there is one that cannot be read, which is then left as it is. */
export async function ensureIdentity(places: Places): Promise<KeyPair | null> {
  const text = await readText(places);
  if (text !== null) return readIdentity(text);
  const { identityFile, newIdentity } = await import("../shared/secrets/age.ts");
  const pair = await newIdentity();
  const path = identityPath(places);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeDurably(path, identityFile(pair), { mode: 0o600 });
  return pair;
}

/** The same, for who only wants to tell the recipient: it is written beside the key, so that a start need not load the cryptography. */
export async function ensureRecipient(places: Places): Promise<string | null> {
  const written = /^# public key: (age1[a-z0-9]{58})$/m.exec((await readText(places)) ?? "")?.[1];
  return written ?? (await ensureIdentity(places))?.recipient ?? null;
}

/** Null when there is no such file; "" when there is one that cannot be read. */
async function readText(places: Places): Promise<string | null> {
  return readFile(identityPath(places), "utf8").catch((error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? null : ""));
}

async function readIdentity(text: string): Promise<KeyPair | null> {
  const { parseIdentities } = await import("../shared/secrets/age.ts");
  return (await parseIdentities(text))?.[0] ?? null;
}

/** The key as a load of the repository uses it. Read anew by each: it may have been put back meanwhile. */
export async function nodeKey(places: Places): Promise<SecretKey> {
  const path = identityPath(places);
  const text = await readText(places);
  const cannot = (problem: string): SecretKey => ({ recipient: null, problem, open: async () => ({ ok: false, reason: "not-for-this-key", message: problem }) });
  if (text === null) return cannot(`its key ${path} is gone. Put it back from a backup, or not; then restart the agent, which makes a new one if it is not there (systemctl restart evenkeel-agent)`);
  const pair = await readIdentity(text);
  if (pair === null) return cannot(`its key ${path} cannot be read, or is damaged. Put it back from a backup, or remove it; then restart the agent, which makes a new one if it is not there (systemctl restart evenkeel-agent)`);
  return {
    recipient: pair.recipient,
    async open(sealed) {
      const { open } = await import("../shared/secrets/age.ts");
      return open([pair.identity], sealed);
    },
  };
}
