import { keyOf, sshKey } from "./signers.ts";
import type { Signer } from "./signers.ts";

/**
 * What `git` needs to check signatures against a given set of keys and nothing else on the machine: an allowed-signers
 * file for SSH (ssh-keygen(1), ALLOWED SIGNERS) and a GnuPG home of its own.
 */
export interface Keyring {
  /** Put before git's subcommand. */
  readonly config: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Who made a good signature, from what `git log` prints as %G?, %GS, %GK and %GP; null for every other signature. */
  signerOf(signature: Signature): Signer | null;
}

export interface Signature {
  /** %G?: G good, U good with unknown trust, B bad, E cannot be checked, N none, X Y R expired or revoked. */
  readonly status: string;
  readonly principal: string;
  readonly key: string;
  readonly primaryKey: string;
}

/** A private directory, new for each keyring, that only we can write. */
export interface Scratch {
  readonly directory: string;
  /** Writes a file of mode 0600 into the directory and answers its path. */
  write(name: string, content: string): Promise<string>;
  /** Runs `gpg`, with the same meaning as a `Git`. */
  gpg(args: readonly string[], input: string): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;
}

export async function makeKeyring(signers: readonly Signer[], scratch: Scratch): Promise<Keyring> {
  const distinct = [...new Map(signers.map((signer) => [keyOf(signer), signer])).values()];
  const byPrincipal = new Map<string, Signer>();
  const lines: string[] = [];
  const byFingerprint = new Map<string, Signer>();
  for (const signer of distinct) {
    if ("ssh" in signer) {
      const key = sshKey(signer.ssh);
      if (key === null) continue;
      // A principal of our own per key: %GS then names the key, whatever people call themselves.
      const principal = `key-${lines.length}`;
      lines.push(`${principal} namespaces="git" ${key}`);
      byPrincipal.set(principal, signer);
    } else {
      for (const fingerprint of await importGpg(signer.gpg, scratch)) byFingerprint.set(fingerprint, signer);
    }
  }
  const allowed = await scratch.write("allowed_signers", `${lines.join("\n")}\n`);
  return {
    config: ["-c", `gpg.ssh.allowedSignersFile=${allowed}`, "-c", "gpg.program=gpg", "-c", "gpg.ssh.program=ssh-keygen", "-c", "gpg.minTrustLevel=undefined", "-c", "log.showSignature=false"],
    env: { GNUPGHOME: scratch.directory },
    signerOf(signature) {
      // For SSH, `U` means a good signature of a key that nobody listed; for GnuPG it means a listed key without a trust level.
      if (signature.key.startsWith("SHA256:")) return signature.status === "G" ? (byPrincipal.get(signature.principal) ?? null) : null;
      if (signature.status !== "G" && signature.status !== "U") return null;
      return byFingerprint.get(signature.primaryKey) ?? null;
    },
  };
}

/** Imports one armored public key; answers the fingerprints of its primary keys (GnuPG, doc/DETAILS: `pub` then `fpr`). */
async function importGpg(armored: string, scratch: Scratch): Promise<readonly string[]> {
  const base = ["--homedir", scratch.directory, "--batch", "--no-autostart", "--quiet"];
  const shown = await scratch.gpg([...base, "--with-colons", "--show-keys"], armored);
  const imported = await scratch.gpg([...base, "--import"], armored);
  if (shown.code !== 0 || imported.code !== 0) return [];
  const lines = shown.stdout.split("\n");
  return lines.flatMap((line, at) => (line.startsWith("pub:") ? [lines.slice(at).find((next) => next.startsWith("fpr:"))?.split(":")[9] ?? ""] : [])).filter((fingerprint) => fingerprint !== "");
}
