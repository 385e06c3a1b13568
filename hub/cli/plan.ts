import { Command } from "commander";
import type { PreviewAsk } from "../../shared/protocol/preview.ts";
import type { PlanReport } from "../../shared/protocol/report.ts";
import { asking, clientFor, complain } from "./asking.ts";
import { planTimeoutMs, type HubClient, type Reply } from "./client.ts";
import { connecting, type ConnectionFlags } from "./connection.ts";
import type { CommandParts } from "./coordination-commands.ts";
import { finish, followPreview } from "./follow-preview.ts";
import { Interruption } from "./interruption.ts";
import { paintFor, showPlan } from "./show.ts";

/** `evenkeel plan`: what a node, a branch or a working copy would change, without changing it. */

const WAIT_SECONDS_DEFAULT = 60;

type PlanFlags = ConnectionFlags & { readonly branch?: string; readonly wait: string; readonly again?: boolean; readonly commit?: string; readonly remote?: string };

const help = `
  evenkeel plan n1                   what is left to do on n1 (exit code 0, or 1 when it cannot say)
  evenkeel plan n1 --branch NAME     what a branch would do there
  evenkeel plan --branch NAME        what preview/NAME, or the branch NAME, would do on every node
  evenkeel plan .                    what the working copy would do on every node, committed or not: it is sent
                                     as a signed throw-away preview, which no node ever applies

Exit code of the last two: 0 nothing would change, 2 something would, 1 a node cannot plan it or did not answer in time.
Nodes that are not connected are listed, and do not decide.

What is pushed to preview/NAME is signed like everything else, so whoever broke into the hub could pass it off as the main
branch. Where that matters, commit with --trailer "Evenkeel-Preview: NAME": such a commit is planned, and never applied;
git merge --squash brings its content into the main branch.`;

export function planCommand(parts: CommandParts): Command {
  const { terminal } = parts;
  return connecting(new Command("plan"))
    .description("what a node, a preview or the working copy would change, without changing it")
    .argument("[what]", "a node's name, or a directory such as .")
    .option("-b, --branch <name>", "a preview branch instead of the main one")
    .option("--wait <seconds>", "how long to wait for the nodes", String(WAIT_SECONDS_DEFAULT))
    .option("--again", "ask nodes anew that have answered already")
    .option("--commit <id>", "where the branch stands, for a branch that is on another Git host than the hub")
    .option("--remote <name>", "push the working copy to this Git remote instead of to the hub, for nodes that follow it")
    .addHelpText("after", help)
    .action(async (what: string | undefined, flags: PlanFlags) => {
      const waitMs = Number(flags.wait) * 1_000;
      if (!(waitMs > 0)) return complain(terminal, flags, { ok: false, message: `--wait: "${flags.wait}" is no number of seconds` });
      if (what !== undefined && isDirectory(what)) {
        if (flags.branch !== undefined) return complain(terminal, flags, { ok: false, message: "either a working copy or a branch is planned: leave out one of them" });
        // Loaded here only: asking a node needs no schemas.
        return (await import("./plan-working-copy.ts")).planWorkingCopy(parts, what, flags, waitMs);
      }
      if (what !== undefined) return planNode(parts, what, flags);
      if (flags.branch === undefined) return complain(terminal, flags, { ok: false, message: "plan what? `evenkeel plan NODE`, `evenkeel plan --branch NAME`, or `evenkeel plan .` for the working copy" });
      return planBranch(parts, flags.branch, flags, waitMs);
    });
}

/** A node's name has neither dots nor slashes. */
function isDirectory(what: string): boolean {
  return what.includes("/") || what === "." || what === "..";
}

function planNode({ terminal }: CommandParts, name: string, flags: PlanFlags): Promise<void> {
  const ask = (client: HubClient): Promise<Reply<PlanReport>> => client.call("POST", `/nodes/${encodeURIComponent(name)}/plan`, { branch: flags.branch ?? null }, planTimeoutMs);
  return asking(terminal, flags, ask, (report) => showPlan(name, report, paintFor(terminal.color)));
}

async function planBranch(parts: CommandParts, branch: string, flags: PlanFlags, waitMs: number): Promise<void> {
  const client = clientFor(parts.terminal, flags);
  if (client === null) return;
  const interruption = new Interruption();
  try {
    const ask: PreviewAsk = { branch, ...(flags.again === true && { again: true }), ...(flags.commit !== undefined && { commit: flags.commit as NonNullable<PreviewAsk["commit"]> }) };
    finish(parts, flags, await followPreview(parts, client, ask, waitMs, interruption));
  } finally {
    interruption.end();
  }
}
