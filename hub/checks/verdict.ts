import type { SecureContext } from "node:tls";
import type { Clock } from "../../shared/clock.ts";
import type { SharedNames } from "./names.ts";

/** What one look needs of the outside. */
export interface LookParts {
  readonly clock: Clock;
  readonly names: SharedNames;
  /** Whose certificates are believed; undefined for those that Node brings along. */
  readonly trust: () => SecureContext | undefined;
  /** Where programs are found, as in PATH. */
  readonly searchPath: string;
}

/**
 * What a look came to. `looked: false` means that the hub itself could not look (a program is missing, no file
 * descriptors are left): it says nothing about the service, and must not be told as its failure.
 */
export type Verdict = { readonly ok: true } | { readonly ok: false; readonly looked: boolean; readonly message: string };

/** What each kind of look is given: it ends soon after `signal` is aborted, at the latest when `timeoutMs` have passed. */
export interface Asking extends LookParts {
  readonly target: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export const well: Verdict = { ok: true };

export function failed(message: string): Verdict {
  return { ok: false, looked: true, message };
}

export function cannotLook(message: string): Verdict {
  return { ok: false, looked: false, message };
}

export function secondsText(ms: number): string {
  return `${ms / 1_000} s`;
}

/** The hub's own machine is short of something (errno(3), ip(7)); the service has no part in it. */
const ownTrouble: Readonly<Record<string, string>> = {
  EMFILE: "the hub has too many open files; raise LimitNOFILE= of its unit",
  ENFILE: "the hub's machine has too many open files; see sysctl fs.file-max",
  ENOBUFS: "the hub's machine has no buffer space left",
  ENOMEM: "the hub's machine has no memory left",
  EADDRNOTAVAIL: "the hub's machine has no address or no free port to ask from",
};

const socketWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "the connection was reset",
  EPIPE: "the connection was closed",
  EHOSTUNREACH: "no route to the host, or it does not answer on its network",
  ENETUNREACH: "the hub's machine has no route to it",
  EHOSTDOWN: "the host is down",
  ETIMEDOUT: "no answer; the kernel gave up",
  EPERM: "not permitted; a firewall on the hub's machine may block it",
  EACCES: "not permitted; a firewall on the hub's machine may block it",
  ENOTFOUND: "the name does not exist",
  EAI_AGAIN: "the name could not be looked up, since no name server answered",
};

/** What to say about a connection that did not come about, or broke. */
export function socketVerdict(target: string, error: NodeJS.ErrnoException): Verdict {
  const code = error.code ?? "";
  const own = ownTrouble[code];
  if (own !== undefined) return cannotLook(`cannot look at ${target}: ${own}`);
  return failed(`${target}: ${socketWords[code] ?? (error.message || code || "the connection failed")}`);
}
