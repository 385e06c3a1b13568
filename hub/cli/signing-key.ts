import { readFile } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { sshKeyProblem } from "../../shared/config/cluster.ts";
import { runProgram } from "./run-git.ts";
import type { Terminal } from "./terminal.ts";

/** The key that a new repository's first signer has. */
export type SigningKey =
  | { readonly type: "ssh"; readonly publicKey: string; /** What git is to be told: a file, or `key::…` for a key that only the agent has. */ readonly gitSetting: string; readonly from: string }
  | { readonly type: "gpg"; readonly publicKey: string; readonly gitSetting: string; readonly from: string };

export type FoundKey = { readonly ok: true; readonly key: SigningKey } | { readonly ok: false; readonly message: string };

/** In the order in which ssh-keygen and people prefer them. */
const defaultKeys = ["id_ed25519.pub", "id_ed25519_sk.pub", "id_ecdsa.pub", "id_rsa.pub"];

/** The key that was given, else the one that git signs with already, else the usual one in ~/.ssh. */
export async function findSigningKey(given: string | undefined, terminal: Terminal): Promise<FoundKey> {
  if (given !== undefined) return fromFile(resolve(terminal.cwd, given), given);
  const configured = await fromGit(terminal);
  if (configured !== undefined) return configured;
  const home = terminal.env["HOME"] ?? "";
  for (const name of defaultKeys) {
    const path = join(home, ".ssh", name);
    if (home !== "" && (await exists(path))) return fromFile(path, `~/.ssh/${name}`);
  }
  return {
    ok: false,
    message: "there is no key to sign with: nodes follow only signed commits. Make one with `ssh-keygen -t ed25519`, or name one with --ssh-key FILE.pub.",
  };
}

async function fromFile(path: string, shown: string): Promise<FoundKey> {
  const publicPath = path.endsWith(".pub") || !(await exists(`${path}.pub`)) ? path : `${path}.pub`;
  const text = await readFile(publicPath, "utf8").catch((error: NodeJS.ErrnoException) => error);
  if (text instanceof Error) return { ok: false, message: `the key ${shown} cannot be read: ${text.message}` };
  const publicKey = text.trim();
  const problem = sshKeyProblem(publicKey);
  if (problem !== undefined) return { ok: false, message: `${shown} is not a public SSH key: ${problem}.` };
  return { ok: true, key: { type: "ssh", publicKey, gitSetting: publicPath, from: shown } };
}

/** `user.signingKey` with `gpg.format`: git-config(1). */
async function fromGit(terminal: Terminal): Promise<FoundKey | undefined> {
  const setting = async (name: string, type: readonly string[] = []) => {
    const ran = await runProgram(["git", "config", "--get", ...type, name], terminal);
    return ran.code === 0 && ran.stdout.trim() !== "" ? ran.stdout.trim() : undefined;
  };
  const key = await setting("user.signingkey");
  if (key === undefined) return undefined;
  const from = "git's user.signingkey";
  if ((await setting("gpg.format")) !== "ssh") {
    const exported = await runProgram(["gpg", "--batch", "--armor", "--export", key], terminal);
    if (exported.code !== 0 || exported.stdout.trim() === "") return { ok: false, message: `the key ${key} of ${from} cannot be exported: ${exported.stderr.trim() || "gpg knows no such key"}` };
    return { ok: true, key: { type: "gpg", publicKey: exported.stdout.trim(), gitSetting: key, from } };
  }
  const literal = key.replace(/^key::/, "");
  if (sshKeyProblem(literal) === undefined) return { ok: true, key: { type: "ssh", publicKey: literal, gitSetting: key, from } };
  const path = (await setting("user.signingkey", ["--type=path"])) ?? key;
  return fromFile(isAbsolute(path) ? path : resolve(terminal.cwd, path), `${path} (${from})`);
}

async function exists(path: string): Promise<boolean> {
  return readFile(path).then(() => true, () => false);
}
