/** Whose commits are believed: a name for people, and a public key. As `cluster.yaml` writes it, and as a node pins it. */
export type Signer = { readonly name: string } & ({ readonly ssh: string } | { readonly gpg: string });

/** Key type and base64 blob of a public key as in authorized_keys(5), without options and comment; null for anything else. */
export function sshKey(text: string): string | null {
  const match = /^((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+) +([A-Za-z0-9+/]+={0,2})(?: .*)?$/.exec(text.trim());
  return match === null ? null : `${match[1]} ${match[2]}`;
}

/** What identifies a signer's key, for comparing sets of signers. */
export function keyOf(signer: Signer): string {
  return "ssh" in signer ? (sshKey(signer.ssh) ?? signer.ssh) : signer.gpg.trim();
}
