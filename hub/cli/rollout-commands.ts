import { Command, Option } from "commander";
import { ROLLOUT_KINDS } from "../../shared/protocol/rollout.ts";
import type { CoordinationSummary, Done, RolloutView } from "../../shared/protocol/rollout.ts";
import { asking, clientFor, complain, exitCodes } from "./asking.ts";
import type { HubClient, Reply } from "./client.ts";
import { connecting, type ConnectionFlags } from "./connection.ts";
import type { CommandParts } from "./coordination-commands.ts";
import { follow, lineFollower } from "./follow.ts";
import { paintFor } from "./show.ts";
import { shortRollout, showRollout, showRollouts } from "./show-coordination.ts";

/** `evenkeel rollout`: start, steer and watch. Followed, it ends with 0 done, 1 cancelled or failed, 3 halted. */

type StartFlags = ConnectionFlags & { readonly kind: RolloutView["kind"]; readonly scope?: "security" | "all"; readonly nodes?: string; readonly window?: string; readonly follow?: boolean };
type SteerFlags = ConnectionFlags & { readonly why: string; readonly failed?: "retry" | "skip" };

export function rolloutCommand(parts: CommandParts): Command {
  const { terminal, clock } = parts;
  const paint = paintFor(terminal.color);
  const show = (rollout: RolloutView): string => showRollout(rollout, paint, clock.nowMs());
  const rollout = new Command("rollout").description("updates, reboots and changes that roll through the cluster, one node after the other");
  rollout.addCommand(startCommand(parts));
  rollout.addCommand(
    connecting(new Command("status"))
      .description("the rollout that runs or is halted, else the last one (what `evenkeel rollout` alone does)")
      .action((flags: ConnectionFlags) => asking<RolloutView | null>(terminal, flags, currentOrNone, (value) => (value === null ? showRollouts([], paint, clock.nowMs()) : show(value)))),
    { isDefault: true },
  );
  rollout.addCommand(
    connecting(new Command("follow"))
      .description("watch a rollout until it is done (0), cancelled (1) or halted (3)")
      .argument("[id]", "the rollout (default: the one that runs or was last)")
      .action(async (id: string | undefined, flags: ConnectionFlags) => {
        const client = clientFor(terminal, flags);
        if (client === null) return;
        const found = await findRollout(client, id);
        return found.ok ? followTo(client, found.value, flags, parts) : complain(terminal, flags, found);
      }),
  );
  rollout.addCommand(steerCommand(parts, "halt", "start no further node; the one that is at it comes back first", "is halted"));
  rollout.addCommand(steerCommand(parts, "resume", "go on with a halted rollout", "goes on").addOption(new Option("--failed <what>", "what to do about a node that failed: go at it again, or go on without it").choices(["retry", "skip"])));
  rollout.addCommand(steerCommand(parts, "cancel", "end a rollout; the node that is at it comes back first", "is cancelled"));
  rollout.addCommand(
    connecting(new Command("list"))
      .description("rollouts, newest first")
      .action((flags: ConnectionFlags) => asking<RolloutView[]>(terminal, flags, (client) => client.call("GET", "/rollouts"), (rollouts) => showRollouts(rollouts, paint, clock.nowMs()))),
  );
  rollout.addCommand(
    connecting(new Command("show"))
      .description("one rollout, node by node")
      .argument("[id]", "the rollout (default: the one that runs or was last)")
      .action((id: string | undefined, flags: ConnectionFlags) => asking<RolloutView>(terminal, flags, (client) => withRollout(client, id, (found) => client.call("GET", `/rollouts/${encodeURIComponent(found)}`)), show)),
  );
  rollout.addCommand(
    connecting(new Command("release"))
      .description("let all nodes take the newest commit, whatever the canary does with it")
      .argument("<commit>", "the commit, or its first characters")
      .requiredOption("--why <text>", "kept, and shown to whoever wonders")
      .action((commit: string, flags: SteerFlags) => asking<Done>(terminal, flags, (client) => client.call("POST", `/commits/${encodeURIComponent(commit)}/release`, { why: flags.why }), () => `${commit} goes to all nodes\n`)),
  );
  return rollout;
}

function startCommand(parts: CommandParts): Command {
  const { terminal } = parts;
  return connecting(new Command("start"))
    .description("begin a rollout now: canary first, then the rest, one after the other")
    .addOption(new Option("--kind <kind>", "update: packages, and reboots where they are needed; reboot: every node once; change: what nodes hold back of their commit").choices([...ROLLOUT_KINDS]).default("update"))
    .addOption(new Option("--scope <scope>", "of updates (default: what updates.scope says)").choices(["security", "all"]))
    .option("--nodes <names>", "only these, with commas between: n1,n2 (default: all)")
    .option("--window <name>", "stop when this window closes (default: go on until it is done)")
    .option("--follow", "watch it until it is done (0), cancelled (1) or halted (3)")
    .action(async (flags: StartFlags) => {
      const nodes = flags.nodes?.split(",").map((name) => name.trim()).filter((name) => name !== "");
      if (nodes?.length === 0) {
        terminal.err("evenkeel: --nodes: name at least one, or leave it out for all\n");
        return terminal.exit(exitCodes.usage);
      }
      const body = { kind: flags.kind, ...(flags.scope !== undefined && { scope: flags.scope }), ...(nodes !== undefined && { nodes }), ...(flags.window !== undefined && { window: flags.window }) };
      const start = (client: HubClient): Promise<Reply<Done>> => client.call("POST", "/rollouts", body);
      if (flags.follow !== true) return asking<Done>(terminal, flags, start, ({ rollout }) => `rollout ${shortRollout(rollout ?? "")} has begun: \`evenkeel rollout follow\` watches it\n`);
      const client = clientFor(terminal, flags);
      if (client === null) return;
      const begun = await start(client);
      return begun.ok ? followTo(client, begun.value.rollout ?? "", flags, parts) : complain(terminal, flags, begun);
    });
}

function steerCommand({ terminal }: CommandParts, what: "halt" | "resume" | "cancel", description: string, done: string): Command {
  return connecting(new Command(what))
    .description(description)
    .argument("[id]", "the rollout (default: the one that runs or is halted)")
    .requiredOption("--why <text>", "kept, and shown to whoever wonders")
    .action((id: string | undefined, flags: SteerFlags) =>
      asking<Done>(
        terminal,
        flags,
        (client) => withRollout(client, id, (found) => client.call("POST", `/rollouts/${encodeURIComponent(found)}/${what}`, { why: flags.why, ...(flags.failed !== undefined && { failed: flags.failed }) })),
        ({ rollout }) => `rollout ${shortRollout(rollout ?? id ?? "")} ${done}\n`,
      ),
    );
}

async function followTo(client: HubClient, id: string, flags: ConnectionFlags, parts: CommandParts): Promise<void> {
  const { terminal } = parts;
  const paint = paintFor(terminal.color);
  // Only for a screen: loading it takes longer than most commands do.
  const follower = flags.json !== true && terminal.live ? (await import("./follow-live.ts")).liveFollower(parts, paint) : lineFollower(parts, flags.json === true, paint);
  const stop = async (): Promise<void> => {
    // listr2 holds back whatever else is written, and hides the cursor, as long as it draws.
    await follower.end();
    terminal.err(`\nThe rollout goes on; \`evenkeel rollout follow\` watches it again, \`evenkeel rollout halt --why …\` halts it.\n`);
    process.exit(exitCodes.interrupted);
  };
  let stopping = false;
  const onSignal = (): void => {
    if (stopping) process.exit(exitCodes.interrupted);
    stopping = true;
    void stop();
  };
  // Not `once`: what hides the cursor ends the process by itself when nobody else listens.
  process.on("SIGINT", onSignal);
  const code = await follow(client, id, follower, parts);
  process.off("SIGINT", onSignal);
  if (typeof code !== "number") return complain(terminal, flags, code);
  terminal.exit(code);
}

async function withRollout<T>(client: HubClient, id: string | undefined, next: (id: string) => Promise<Reply<T>>): Promise<Reply<T>> {
  const found = await findRollout(client, id);
  return found.ok ? next(found.value) : found;
}

/** The id in full, of a rollout that is meant by its beginning, or by nothing. */
async function findRollout(client: HubClient, beginning: string | undefined): Promise<Reply<string>> {
  if (beginning !== undefined) {
    const rollouts = await client.call<RolloutView[]>("GET", "/rollouts");
    if (!rollouts.ok) return rollouts;
    const found = rollouts.value.filter(({ id }) => id === beginning || id.startsWith(beginning)).map(({ id }) => id);
    if (found.length > 1 && !found.includes(beginning)) return { ok: false, message: `there are ${found.length} rollouts that begin with ${beginning}: write more of it` };
    return found.length === 0 || found.includes(beginning) ? { ok: true, value: beginning } : { ok: true, value: found[0] ?? beginning };
  }
  const rollout = await currentOrNone(client);
  if (!rollout.ok) return rollout;
  return rollout.value === null ? { ok: false, message: "there is no rollout yet: `evenkeel rollout start` begins one" } : { ok: true, value: rollout.value.id };
}

async function currentOrNone(client: HubClient): Promise<Reply<RolloutView | null>> {
  const summary = await client.call<CoordinationSummary>("GET", "/coordination");
  return summary.ok ? { ok: true, value: summary.value.rollout } : summary;
}
