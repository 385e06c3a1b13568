import * as z from "zod";

/**
 * Names that would be easy to swap are branded: a function that wants a {@link NodeName} does not take any string.
 * The brand costs nothing at run time.
 */

/** A node's name: one DNS label (RFC 1123), because it becomes a host name, an MQTT topic level and a certificate's name. */
export const NodeName = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "a node's name is lower-case letters, digits and hyphens, at most 63, like n1")
  .brand<"NodeName">();
export type NodeName = z.output<typeof NodeName>;

/** A Git commit id, SHA-1 or SHA-256, in full, in lower-case hex. */
export const CommitId = z
  .string()
  .regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/, "a commit id is 40 or 64 lower-case hex digits")
  .brand<"CommitId">();
export type CommitId = z.output<typeof CommitId>;

/** The kernel's id of one boot, from /proc/sys/kernel/random/boot_id: new at each boot. */
export const BootId = z.uuid("a boot id is a UUID").brand<"BootId">();
export type BootId = z.output<typeof BootId>;

/** A lease's id, and that of the request that it came from. */
export const LeaseId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/, "a lease's id is letters, digits and hyphens").brand<"LeaseId">();
export type LeaseId = z.output<typeof LeaseId>;

/** How people read a commit: its first eight digits. */
export function shortCommit(id: string): string {
  return id.slice(0, 8);
}
