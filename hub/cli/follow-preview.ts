import type { PreviewAsk, PreviewView } from "../../shared/protocol/preview.ts";
import { complain, exitCodes } from "./asking.ts";
import { isAway, type Failed, type HubClient, type Reply } from "./client.ts";
import type { ConnectionFlags } from "./connection.ts";
import type { CommandParts } from "./coordination-commands.ts";
import type { Interruption } from "./interruption.ts";
import { paintFor } from "./show.ts";
import { showPreview } from "./show-preview.ts";

/** Waiting for the nodes' plans of a preview, and showing them. */

/** A person watches: often at first, when most nodes answer. */
const POLL_FIRST_MS = 100;
const POLL_LATER_MS = 500;
const POLL_FIRST_FOR_MS = 3_000;

type Followed = { readonly ok: true; readonly view: PreviewView; readonly interrupted: boolean } | Failed;

/** Asks for the preview, and waits until all nodes that are there have answered, the time is over, or a person has had enough. */
export async function followPreview({ terminal, pause }: CommandParts, client: HubClient, ask: PreviewAsk, waitMs: number, interruption: Interruption): Promise<Followed> {
  const startedMs = performance.now();
  const progress = terminal.color && process.stderr.isTTY;
  let reply: Reply<PreviewView> = await client.call<PreviewView>("POST", "/previews", ask);
  if (!reply.ok) return reply;
  let view = reply.value;
  while (view.counts.missing > 0 && !interruption.seen && performance.now() - startedMs < waitMs) {
    if (progress) terminal.err(`\r\u001b[2K… ${view.counts.planned + view.counts.failed} of ${view.counts.nodes} nodes have answered; waiting for ${waitingFor(view)}`);
    await pause(performance.now() - startedMs < POLL_FIRST_FOR_MS ? POLL_FIRST_MS : POLL_LATER_MS, interruption.first);
    reply = await client.call<PreviewView>("GET", `/previews/${encodeURIComponent(view.name)}`);
    if (reply.ok) view = reply.value;
    else if (!isAway(reply)) return reply;
  }
  if (progress) terminal.err("\r\u001b[2K");
  return reply.ok ? { ok: true, view, interrupted: interruption.seen } : reply;
}

function waitingFor(view: PreviewView): string {
  const names = view.nodes.filter(({ state }) => state === "asked" || state === "late").map(({ name }) => name);
  return names.length <= 5 ? names.join(", ") : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}

/** Prints what came of it, and sets the exit code: 0 nothing would change, 2 something would, 1 a node cannot or did not. */
export function finish({ terminal }: CommandParts, flags: ConnectionFlags, followed: Followed): void {
  if (!followed.ok) return complain(terminal, flags, followed);
  const { view, interrupted } = followed;
  terminal.out(flags.json === true ? `${JSON.stringify(view, null, 2)}\n` : showPreview(view, paintFor(terminal.color)));
  if (interrupted) return terminal.exit(exitCodes.interrupted);
  terminal.exit(view.outcome === "nothing" ? 0 : view.outcome === "changes" ? 2 : exitCodes.failed);
}
