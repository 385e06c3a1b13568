import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { formatDiagnostics } from "../../shared/config/diagnostic.ts";
import { loadRepository } from "../../shared/config/repository.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { kinds as allKinds } from "../../shared/kinds/index.ts";
import type { PreviewAsk } from "../../shared/protocol/preview.ts";
import { clientFor, complain, exitCodes } from "./asking.ts";
import type { HubClient } from "./client.ts";
import { findConnection, type ConnectionFlags } from "./connection.ts";
import type { CommandParts } from "./coordination-commands.ts";
import { finish, followPreview } from "./follow-preview.ts";
import { Interruption } from "./interruption.ts";
import { repositoryRoot, seenFrom } from "./validate.ts";
import { findRepository, workTree } from "./work-tree.ts";
import { sendWorkingCopy, type SentCopy } from "./working-copy.ts";

/** `evenkeel plan .`: the working copy as a throw-away preview, which is gone when the command ends. */

export async function planWorkingCopy(parts: CommandParts, directory: string, flags: ConnectionFlags & { readonly remote?: string }, waitMs: number, kinds: readonly SectionKind[] = allKinds): Promise<void> {
  const { terminal } = parts;
  const found = findConnection(flags, terminal);
  const client = clientFor(terminal, flags);
  const given = await repositoryRoot(directory, terminal);
  if (given === undefined) return terminal.exit(exitCodes.failed);
  if (client === null || !found.ok) return;
  const root = await findRepository(resolve(given));
  const loaded = await loadRepository(workTree(root), kinds);
  terminal.err(formatDiagnostics(seenFrom(terminal.cwd, root, loaded.ok ? loaded.warnings : loaded.diagnostics), { color: terminal.color }));
  if (!loaded.ok) return complain(terminal, flags, { ok: false, message: "the working copy is not valid, so it was not sent" });
  const interruption = new Interruption();
  const id = randomBytes(4).toString("hex");
  let copy: SentCopy | null = null;
  try {
    const sent = await sendWorkingCopy({ root, connection: found.connection, remote: flags.remote, terminal, id });
    if (sent.ok) ({ copy } = sent);
    if (interruption.seen) return terminal.exit(exitCodes.interrupted);
    if (!sent.ok) return complain(terminal, flags, sent);
    const ask: PreviewAsk = { branch: sent.copy.branch, ...(flags.remote !== undefined && { commit: sent.copy.commit as NonNullable<PreviewAsk["commit"]> }) };
    finish(parts, flags, await followPreview(parts, client, ask, waitMs, interruption));
  } finally {
    // Cut off in the middle of the push, the branch may be there all the same.
    if (copy !== null || interruption.seen) await takeAway(parts, client, copy, id);
    interruption.end();
  }
}

async function takeAway({ terminal }: CommandParts, client: HubClient, copy: SentCopy | null, id: string): Promise<void> {
  const name = copy?.name ?? (await throwawayOf(client, id));
  if (name === null) return;
  const gone = await client.call("DELETE", `/previews/${encodeURIComponent(name)}`);
  if (!gone.ok && gone.status !== 404) terminal.err(`evenkeel: the throw-away preview ${name} could not be deleted (${gone.message}): the hub drops it within the hour\n`);
  if (copy !== null && !(await copy.forget())) terminal.err(`evenkeel: the branch ${copy.branch} could not be deleted: git push REMOTE --delete ${copy.branch}\n`);
}

async function throwawayOf(client: HubClient, id: string): Promise<string | null> {
  const list = await client.call<{ name: string }[]>("GET", "/previews");
  return list.ok ? (list.value.find(({ name }) => name.endsWith(`-${id}`))?.name ?? null) : null;
}
