import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { identityFile, newIdentity, parseIdentities } from "../../shared/secrets/age.ts";
import type { KeyPair } from "../../shared/secrets/age.ts";
import type { Terminal } from "./terminal.ts";

/** The owner's age key: a file as `age-keygen` makes it, which no repository ever sees. */

export type Identities = { readonly ok: true; readonly path: string; readonly pairs: readonly KeyPair[] } | { readonly ok: false; readonly message: string };

export function identityPath(flag: string | undefined, { env, cwd }: Pick<Terminal, "env" | "cwd">): string {
  const named = flag ?? set(env["EVENKEEL_AGE_IDENTITY"]);
  if (named !== undefined) return resolve(cwd, named);
  return join(set(env["XDG_CONFIG_HOME"]) ?? join(set(env["HOME"]) ?? homedir(), ".config"), "evenkeel", "age.txt");
}

export async function readIdentities(flag: string | undefined, terminal: Terminal): Promise<Identities> {
  const path = identityPath(flag, terminal);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === "ENOENT";
    return { ok: false, message: absent ? `your age key is not at ${path}: give it with --identity FILE or EVENKEEL_AGE_IDENTITY, or make one with \`evenkeel secret key\` and have another owner add it` : `${path} cannot be read: ${(error as Error).message}` };
  }
  if ((statSync(path).mode & 0o077) !== 0) terminal.err(`evenkeel: ${path} can be read by others; put that right: chmod 600 ${path}\n`);
  const pairs = await parseIdentities(text);
  if (pairs !== null) return { ok: true, path, pairs };
  const why = /BEGIN (AGE|OPENSSH)/.test(text) ? "it is protected by a passphrase, or an SSH key: give a plain age key, as `age -d` writes it, on a file system in memory" : "it holds something else than age keys (AGE-SECRET-KEY-1…), or is damaged";
  return { ok: false, message: `${path} is no age key that can be used here: ${why}` };
}

export async function makeIdentity(flag: string | undefined, terminal: Terminal): Promise<{ readonly ok: true; readonly path: string; readonly recipient: string; readonly isNew: boolean } | { readonly ok: false; readonly message: string }> {
  const path = identityPath(flag, terminal);
  if (existsSync(path)) {
    const read = await readIdentities(flag, terminal);
    const [first] = read.ok ? read.pairs : [];
    return first === undefined ? { ok: false, message: read.ok ? `${path} is empty` : read.message } : { ok: true, path, recipient: first.recipient, isNew: false };
  }
  const pair = await newIdentity();
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, identityFile(pair), { mode: 0o600, flag: "wx" });
  } catch (error) {
    return { ok: false, message: `the key could not be written to ${path}: ${(error as Error).message}` };
  }
  return { ok: true, path, recipient: pair.recipient, isNew: true };
}

function set(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value;
}
