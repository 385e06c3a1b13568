import * as z from "zod";
import { NodeName } from "../ids.ts";
import { RoleName } from "../config/cluster.ts";
import { recipient } from "./schema.ts";

/**
 * `secrets/recipients.yaml`: who shall read each secret, and to whom its file was encrypted last. The first is the owners'
 * wish; the second is written by `evenkeel secret`, because an age file does not tell its recipients. The two are compared at
 * each push, so that they cannot drift apart unseen: a node that came in new, an owner who left.
 */

export const SECRETS_FOLDER = "secrets";
export const RECIPIENTS_PATH = `${SECRETS_FOLDER}/recipients.yaml`;
/** Secrets of one cluster. Each is opened with a curve operation for each of its recipients, on each node that uses it. */
export const SECRETS_MAX = 500;

/** A secret's name, which is its file's as well: `secrets/NAME.age`. */
export const SecretName = z.string().regex(/^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/, "a secret's name is lower-case letters, digits and . _ -, at most 64, such as db-password");

const Sealed = z.strictObject({
  header: z.string().regex(/^[A-Za-z0-9+/]{43}$/, "the code at the end of the age file's header").describe("Which file is meant: the code at the end of its header"),
  to: z.array(recipient).min(1).max(1_100).describe("Everybody who can open that file: owners and nodes"),
});

export const Readers = z.strictObject({
  nodes: z.union([z.literal("all"), z.array(NodeName).max(1_000)]).default([]).describe("The nodes that may read it, or `all`"),
  roles: z.array(RoleName).max(100).default([]).describe("Every node that has one of these roles may read it, too"),
  sealed: Sealed.optional().describe("To whom the file is encrypted now; written by `evenkeel secret`"),
});
export type Readers = z.output<typeof Readers>;

export const RecipientsFile = z
  .record(SecretName, Readers)
  .refine((secrets) => Object.keys(secrets).length <= SECRETS_MAX, `at most ${SECRETS_MAX} secrets`)
  .describe("Who may read which secret. Owners, who are in cluster.yaml, may read all. A change takes effect with `evenkeel secret rotate`");
export type RecipientsFile = z.output<typeof RecipientsFile>;

/** A node as far as secrets are concerned. */
export interface Reader {
  readonly name: string;
  /** All of them, those that others include as well. */
  readonly roles: readonly string[];
  readonly recipient?: string;
}

export function mayRead({ nodes, roles }: Readers, node: Pick<Reader, "name" | "roles">): boolean {
  return nodes === "all" || nodes.includes(node.name as NodeName) || roles.some((role) => node.roles.includes(role));
}

export interface Audience {
  /** To whom the file must be encrypted: the owners, and the nodes that may read it and have a recipient. */
  readonly recipients: readonly string[];
  readonly nodes: readonly Reader[];
  /** Nodes that may read it, but of which the repository knows no recipient yet. */
  readonly lacking: readonly string[];
}

export function audienceOf(readers: Readers, owners: Readonly<Record<string, string>>, nodes: readonly Reader[]): Audience {
  const chosen = nodes.filter((node) => mayRead(readers, node));
  return {
    recipients: [...new Set([...Object.values(owners), ...chosen.flatMap((node) => node.recipient ?? [])])],
    nodes: chosen,
    lacking: chosen.filter((node) => node.recipient === undefined).map((node) => node.name),
  };
}
