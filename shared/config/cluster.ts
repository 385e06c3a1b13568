import * as z from "zod";
import { Statuses } from "./statuses.ts";
import { Checks, CommitRollout, FleetLockMember, Groups, Updates, Windows } from "./policy.ts";
import { Secrets, recipient } from "../secrets/schema.ts";

/** Removals in one commit on one node above which the agent stops and asks (DESIGN rule 9). */
export const REMOVALS_MAX_DEFAULT = 10;
/** Repairs of one resource in a row after which it is reported instead of repaired (DESIGN rule 9). */
export const REPAIRS_MAX_DEFAULT = 5;
/** How long a change of the network may take to be confirmed (DESIGN rule 7). */
export const CONFIRM_SECONDS_DEFAULT = 60;
export const SIGNERS_MAX = 100;
export const VARS_MAX = 1_000;

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** A role's name, which is its file's name as well. */
export const RoleName = z.string().regex(label, "a role's name is lower-case letters, digits and hyphens, like web");

const scalar = z.union([z.string().max(64 * 1024), z.number(), z.boolean()]);

/** Values for templates. */
export const Vars = z
  .record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "a var's name is letters, digits and underscores, like page_title, so that templates can write it.vars.page_title"),
    z.union([scalar, z.array(scalar).max(1_000)]),
  )
  .refine((vars) => Object.keys(vars).length <= VARS_MAX, `at most ${VARS_MAX} vars`);
export type Vars = z.output<typeof Vars>;

const keyTypes = new Set([
  "ssh-ed25519",
  "sk-ssh-ed25519@openssh.com",
  "ecdsa-sha2-nistp256",
  "ecdsa-sha2-nistp384",
  "ecdsa-sha2-nistp521",
  "sk-ecdsa-sha2-nistp256@openssh.com",
  "ssh-rsa",
]);

/** What is wrong with one line of an OpenSSH public key file, or undefined. The blob repeats the type (RFC 4253, section 6.6). */
export function sshKeyProblem(line: string): string | undefined {
  if (/PRIVATE KEY/.test(line)) return "this is a private key: it must never be in a repository. Replace the key, and write its public half (the .pub file) here";
  if (/[\r\n\0]/.test(line.trim())) return "a public key is one line, as in the .pub file";
  const [type = "", blob = ""] = line.trim().split(/\s+/);
  if (!keyTypes.has(type)) return `a public key begins with its type, such as ssh-ed25519, and not with ${JSON.stringify(type.slice(0, 40))}`;
  let decoded: string;
  try {
    decoded = atob(blob);
  } catch {
    return "the key's second word is not base64: copy the whole line of the .pub file";
  }
  const fields = lengthPrefixed(decoded);
  if (fields === undefined || fields.length < 2 || fields[0] !== type || (type === "ssh-ed25519" && fields[1]?.length !== 32)) return "the key is cut short or damaged: copy the whole line of the .pub file";
  return undefined;
}

/** The fields of an SSH blob, each with its length before it (RFC 4251, section 5: string); undefined when they do not fill it. */
function lengthPrefixed(blob: string): readonly string[] | undefined {
  const fields: string[] = [];
  let at = 0;
  while (at < blob.length) {
    const length = ((blob.charCodeAt(at) << 24) | (blob.charCodeAt(at + 1) << 16) | (blob.charCodeAt(at + 2) << 8) | blob.charCodeAt(at + 3)) >>> 0;
    const end = at + 4 + length;
    if (Number.isNaN(end) || end > blob.length) return undefined;
    fields.push(blob.slice(at + 4, end));
    at = end;
  }
  return fields;
}

const sshKey = z.string().max(8_192).superRefine((value, context) => {
  const message = sshKeyProblem(value);
  if (message !== undefined) context.addIssue({ code: "custom", message });
});

const gpgKey = z.string().max(256 * 1024).superRefine((value, context) => {
  const text = value.trim();
  if (/-----BEGIN PGP PRIVATE KEY BLOCK-----/.test(text)) context.addIssue({ code: "custom", message: "this is a private key: it must never be in a repository. Replace the key, and write its public half (gpg --export --armor) here" });
  else if (!/^-----BEGIN PGP PUBLIC KEY BLOCK-----[^]+-----END PGP PUBLIC KEY BLOCK-----$/.test(text)) context.addIssue({ code: "custom", message: "an armored public key is expected, as printed by gpg --export --armor" });
});

const signerName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$/, "a signer's name is letters, digits and . _ @ + -, such as ada or ada@example.org")
  .describe("Who this is; shown beside the commits signed with the key");

const Signer = z.union([
  z.strictObject({ name: signerName, ssh: sshKey.describe("The public half of an SSH key: the one line of the .pub file") }),
  z.strictObject({ name: signerName, gpg: gpgKey.describe("An armored OpenPGP public key, from `gpg --export --armor`") }),
]);

const Guard = z.strictObject({
  removalsMax: z.int().min(0).max(10_000).default(REMOVALS_MAX_DEFAULT).describe("How many managed things one commit may take away on one node before the agent stops and asks"),
  confirmSeconds: z.int().min(10).max(600).default(CONFIRM_SECONDS_DEFAULT).describe("How long a node may take to show that a change of its network has not cut it off; after that it puts the change back"),
  repairsMax: z.int().min(1).max(1_000).default(REPAIRS_MAX_DEFAULT).describe("How many times in a row one thing is repaired before that is reported instead"),
});

/** The schema of cluster.yaml. That names refer to something, and much else, is checked by the loader, which knows the positions. */
export const Cluster = z.strictObject({
  name: z.string().regex(label, "a cluster's name is lower-case letters, digits and hyphens, at most 63, like cupboard").describe("The cluster's name: one DNS label"),
  branch: z.string().regex(/^(?!-)(?!.*\.\.)(?!.*\/\/)[A-Za-z0-9._/-]{1,200}(?<![./])$/, "a branch's name, such as main").default("main").describe("The branch that the nodes follow; every other branch is a preview"),
  signers: z.array(Signer).min(1, "at least one signer: without one, no commit could ever be applied").max(SIGNERS_MAX).describe("Whose commits the nodes apply, each with an `ssh` or a `gpg` key. A change of this list must be signed by a key that was on it before"),
  guard: Guard.prefault({}).describe("What the agent does not do without asking"),
  vars: Vars.default({}).describe("Values for templates, the same on every node unless a role or the node sets them"),
  groups: Groups.default({}).describe("Quorum groups: sets of nodes of which fewer than half may be down at once. The group `cluster`, of all nodes, is always there"),
  windows: Windows.default({}).describe("Maintenance windows: when things may begin by themselves"),
  updates: Updates.prefault({}).describe("How updates of the operating system roll through the cluster"),
  rollout: CommitRollout.prefault({}).describe("How commits reach the nodes: everywhere at once, or the canary first; and when what takes down a part of the cluster rolls from node to node"),
  secrets: Secrets.prefault({}).describe("Who owns the secrets below secrets/; which node may read which stands in secrets/recipients.yaml"),
  statuses: Statuses.optional().describe("Where the hub says how a commit stands, as a commit status: what previews would change, and which nodes hold the main branch's tip"),
  checks: Checks.default({}).describe("What users use, looked at by the hub and the nodes: a rollout waits while one of these fails"),
});
export type Cluster = z.output<typeof Cluster>;
export type Signer = Cluster["signers"][number];

/** What a node's file has besides its sections. */
export const nodeFields = {
  address: z
    .string()
    .min(1)
    .max(253)
    .regex(/^[A-Za-z0-9.:-]+$/, "an address is an IP address or a host name, such as 10.77.1.11")
    .optional()
    .describe("Where the other nodes and the hub reach this one: an IP address or a host name"),
  recipient: recipient.optional().describe("The node's age recipient (age1…), to which its secrets are encrypted; `evenkeel secret trust NODE` writes it here"),
  fleetlock: FleetLockMember.optional().describe("For a machine without our agent, which asks for its slot by FleetLock (Fedora CoreOS, Flatcar): it counts in its groups, and has no roles, vars or sections"),
  roles: z.array(RoleName).max(100).default([]).describe("Roles whose settings this one takes over; what stands in this file wins"),
  vars: Vars.default({}).describe("Values for templates"),
};
