import { HubClient, type Failed, type Reply } from "./client.ts";
import { findConnection, type ConnectionFlags } from "./connection.ts";
import { paintFor } from "./show.ts";
import { showDenials } from "./show-coordination.ts";
import type { Terminal } from "./terminal.ts";
import { printable } from "../../shared/config/diagnostic.ts";

/** How every command asks the hub, and what it makes of the answer. */

/** What a command ends with, beside 0. */
export const exitCodes = {
  /** The hub refused, or could not be reached; what was followed was cancelled. */
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The coordinator will not now, and says why; what was followed was halted. */
  denied: 3,
  /** As shells do: 128 and the number of SIGINT. */
  interrupted: 130,
} as const;

export type Ask = <T>(flags: ConnectionFlags, question: (client: HubClient) => Promise<Reply<T>>, show: (value: T) => string) => Promise<void>;

/** Runs one question, and prints its answer for people or as JSON. */
export async function asking<T>(terminal: Terminal, flags: ConnectionFlags, question: (client: HubClient) => Promise<Reply<T>>, show: (value: T) => string): Promise<void> {
  const client = clientFor(terminal, flags);
  if (client === null) return;
  const reply = await question(client);
  if (!reply.ok) return complain(terminal, flags, reply);
  terminal.out(flags.json === true ? `${JSON.stringify(reply.value, null, 2)}\n` : show(reply.value));
}

/** The hub that the flags, the environment or the remembered login name; else says what is missing. */
export function clientFor(terminal: Terminal, flags: ConnectionFlags): HubClient | null {
  const found = findConnection(flags, terminal);
  if (found.ok) return new HubClient(found.connection);
  complain(terminal, flags, found);
  return null;
}

/** Says why not, with all reasons and what would change them, and sets the exit code. */
export function complain(terminal: Terminal, flags: ConnectionFlags, { message, denials }: Failed): void {
  if (flags.json === true) terminal.out(`${JSON.stringify({ error: { message }, ...(denials !== undefined && { denials }) })}\n`);
  terminal.err(denials === undefined || denials.length === 0 ? `evenkeel: ${printable(message)}\n` : `evenkeel: not now\n${showDenials(denials, paintFor(terminal.color))}`);
  terminal.exit(denials === undefined ? exitCodes.failed : exitCodes.denied);
}
