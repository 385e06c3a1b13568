import { Command } from "commander";
import { printable } from "../../shared/config/diagnostic.ts";
import type { Clock } from "../../shared/clock.ts";
import type { CoordinationSummary, Done, LeaseView, RequestView, WhyAnswer } from "../../shared/protocol/rollout.ts";
import { zincatiId } from "../http/zincati.ts";
import { isoTime, systemClock } from "../system-clock.ts";
import { asking, clientFor, complain, exitCodes, type Ask } from "./asking.ts";
import type { HubClient, Reply } from "./client.ts";
import { connecting, type ConnectionFlags } from "./connection.ts";
import { parseUntil } from "./moment.ts";
import { processPause, type Pause } from "./patience.ts";
import { paintFor } from "./show.ts";
import { holdLine, showChecks, showLeases, showUpdates, showWhy } from "./show-coordination.ts";
import { processTerminal, type Terminal } from "./terminal.ts";
import { waitForNode, type Goal } from "./wait-for-node.ts";

/** Drains, reboots, holds and slots. Exit code 0: done; 1: failed; 3: the coordinator will not now, and says why. */

export interface CommandParts {
  readonly terminal: Terminal;
  readonly clock: Pick<Clock, "nowMs">;
  readonly pause: Pause;
}

type WhyFlags = ConnectionFlags & { readonly why: string };
type WaitFlags = ConnectionFlags & { readonly wait?: boolean };

export function processParts(terminal: Terminal = processTerminal()): CommandParts {
  return { terminal, clock: systemClock, pause: processPause };
}

export function coordinationCommands(parts: CommandParts): Command[] {
  return [...lookingCommands(parts), ...nodeCommands(parts), ...holdCommands(parts), ...leaseCommands(parts), fleetLockIdCommand(parts.terminal)];
}

function lookingCommands({ terminal, clock }: CommandParts): Command[] {
  const paint = paintFor(terminal.color);
  const ask: Ask = (flags, question, show) => asking(terminal, flags, question, show);
  /** A part of what the coordinator says. */
  const look = <T>(name: string, description: string, part: (summary: CoordinationSummary) => T, show: (value: T) => string): Command =>
    connecting(new Command(name))
      .description(description)
      .action((flags: ConnectionFlags) => ask<T>(flags, async (client) => mapped(await client.call<CoordinationSummary>("GET", "/coordination"), part), show));
  return [
    connecting(new Command("why"))
      .description("why a node is not being rebooted now: what stands in the way, since when, and what would change it")
      .argument("<node>", "the node's name")
      .action((node: string, flags: ConnectionFlags) => ask<WhyAnswer>(flags, (client) => client.call("GET", `/nodes/${encodeURIComponent(node)}/why`), (why) => showWhy(why, paint, clock.nowMs()))),
    look("leases", "who holds a slot, and who asks for one", ({ leases, requests }) => ({ leases, requests }), ({ leases, requests }) => showLeases(leases, requests, paint, clock.nowMs())),
    look("checks", "the service checks: what users have", ({ checks }) => checks, (checks) => showChecks(checks, paint, clock.nowMs())),
    look("updates", "what each node has to update, and whether it wants a reboot", ({ updates }) => updates, (updates) => showUpdates(updates, paint, clock.nowMs())),
  ];
}

function nodeCommands(parts: CommandParts): Command[] {
  const asked = (what: "drain" | "reboot", description: string, goal: Goal, said: (node: string) => string): Command =>
    connecting(new Command(what))
      .description(description)
      .argument("<node>", "the node's name")
      .requiredOption("--why <text>", "kept, and shown to whoever wonders")
      .option("--despite-checks", "even while a service check is not well, or a gate says no, as when this node is the reason")
      .option("--wait", `stay until it is ${goal}, and say what happens meanwhile`)
      .action((node: string, flags: WhyFlags & WaitFlags & { despiteChecks?: boolean }) =>
        askAndWait(parts, node, flags, goal, (client) => client.call("POST", `/nodes/${encodeURIComponent(node)}/${what}`, { why: flags.why, despiteChecks: flags.despiteChecks === true }), said(node)),
      );
  return [
    asked("drain", "make a node safe to lose, as soon as its groups can spare it, and keep it so until `evenkeel resume`", "drained", (node) => `${node} will be drained as soon as it may be; \`evenkeel why ${node}\` says how it stands`),
    asked("reboot", "drain and reboot one node, as soon as its groups can spare it", "rebooted", (node) => `${node} will be rebooted as soon as it may be; \`evenkeel why ${node}\` says how it stands`),
    connecting(new Command("resume"))
      .description("bring a drained node back, or call its drain off")
      .argument("<node>", "the node's name")
      .option("--wait", "stay until it is back, and say what happens meanwhile")
      .action((node: string, flags: WaitFlags) => askAndWait(parts, node, flags, "back", (client) => client.call("POST", `/nodes/${encodeURIComponent(node)}/resume`), `${node} is told to come back`)),
  ];
}

async function askAndWait(parts: CommandParts, node: string, flags: WaitFlags, goal: Goal, question: (client: HubClient) => Promise<Reply<Done>>, said: string): Promise<void> {
  const { terminal, pause } = parts;
  if (flags.wait !== true) return asking<Done>(terminal, flags, question, () => `${said}\n`);
  const client = clientFor(terminal, flags);
  if (client === null) return;
  const reply = await question(client);
  if (!reply.ok) return complain(terminal, flags, reply);
  const progress = (text: string, why: WhyAnswer | null): void => {
    if (flags.json === true) terminal.out(`${JSON.stringify({ change: why === null ? "hub" : "node", node, text, lease: why?.lease ?? null, denials: why?.request?.denials ?? [] })}\n`);
    else terminal.err(`${node}  ${text}\n`);
  };
  const waited = await waitForNode(client, node, goal, goal === "back" ? null : reply.value.lease, { progress }, pause);
  if ("ok" in waited) return complain(terminal, flags, waited);
  if (flags.json === true) terminal.out(`${JSON.stringify({ change: "end", node, ok: waited.code === 0, text: waited.message })}\n`);
  else if (waited.code === 0) terminal.out(`${waited.message}\n`);
  else terminal.err(`evenkeel: ${waited.message}\n`);
  terminal.exit(waited.code);
}

function holdCommands({ terminal, clock }: CommandParts): Command[] {
  return [
    connecting(new Command("hold"))
      .description("let nothing go down by order: a node, or the whole cluster")
      .argument("[node]", "the node's name (default: the whole cluster)")
      .requiredOption("--why <text>", "kept, and shown to whoever wonders")
      .option("--until <time>", "2h, 3d, 06:00, 2026-05-04 or 2026-05-04T06:00 (default: until it is lifted)")
      .action(async (node: string | undefined, flags: WhyFlags & { until?: string }) => {
        const nowMs = clock.nowMs();
        const until = flags.until === undefined ? null : parseUntil(flags.until, nowMs, Temporal.Now.timeZoneId());
        if (until !== null && !until.ok) {
          terminal.err(`evenkeel: --until: ${until.message}\n`);
          return terminal.exit(exitCodes.usage);
        }
        const word = { what: node ?? "*", why: flags.why, until: until === null ? null : isoTime(until.atMs) };
        await asking<Done>(terminal, flags, (client) => client.call("POST", "/holds", word), () => `held: ${holdLine({ ...word, by: "you", since: isoTime(nowMs) }, nowMs)}; \`evenkeel unhold${node === undefined ? "" : ` ${node}`}\` lifts it\n`);
      }),
    connecting(new Command("unhold"))
      .description("lift a hold")
      .argument("[node]", "the node's name (default: the whole cluster)")
      .action((node: string | undefined, flags: ConnectionFlags) => asking<Done>(terminal, flags, (client) => client.call("DELETE", `/holds/${encodeURIComponent(node ?? "*")}`), () => `${node ?? "the cluster"} is not held any more\n`)),
  ];
}

function leaseCommands({ terminal }: CommandParts): Command[] {
  return [
    connecting(new Command("abort"))
      .description("call off a request or a drain, as long as the node has not had its second word")
      .argument("<node|lease>", "the node's name, or the lease's id")
      .requiredOption("--why <text>", "kept, and shown to whoever wonders")
      .action((which: string, flags: WhyFlags) => asking<Done>(terminal, flags, (client) => withLease(client, which, (lease) => client.call("POST", `/leases/${encodeURIComponent(lease.id)}/abort`, { why: flags.why })), () => `${which} is called off; what was drained is put back\n`)),
    connecting(new Command("clear"))
      .description("free a slot by your word: for a node that will not come back by itself")
      .argument("<node|lease>", "the node's name, or the lease's id")
      .requiredOption("--why <text>", "kept, and shown to whoever wonders")
      .option("--yes", "without asking")
      .addHelpText("after", "\nThe slot is what keeps others from going down while this node is down. Clear it only when you know how the node is:\nit is up and well, or it is out of service and its groups can do without it. The hub refuses while the node could still\nact upon an order.")
      .action((which: string, flags: WhyFlags & { yes?: boolean }) => clear(terminal, which, flags)),
    connecting(new Command("settle"))
      .description("let a group's earlier members count no more, after its membership has changed")
      .argument("<group>", "the group's name, as `evenkeel status` shows it")
      .requiredOption("--why <text>", "kept, and shown to whoever wonders")
      .action((group: string, flags: WhyFlags) => asking<Done>(terminal, flags, (client) => client.call("POST", `/groups/${encodeURIComponent(group)}/settle`, { why: flags.why }), () => `${group} is as the repository says; nobody else counts in it\n`)),
  ];
}

async function clear(terminal: Terminal, which: string, flags: WhyFlags & { yes?: boolean }): Promise<void> {
  const client = clientFor(terminal, flags);
  if (client === null) return;
  const found = await withLease(client, which, async (lease) => ({ ok: true as const, value: lease }));
  if (!found.ok) return complain(terminal, flags, found);
  const lease = found.value;
  if (flags.yes !== true) {
    terminal.err(`This frees the slot of ${lease.node} (${lease.work} by ${printable(lease.by)}) by your word: from then on another node of its groups may go down.\nDo it when ${lease.node} is up and well, or out of service for good; not when nobody knows how it is.\n`);
    const sure = await terminal.confirm(`Free the slot of ${lease.node}?`);
    if (sure !== true) {
      terminal.err(sure === null ? "evenkeel: there is nobody to ask: say --yes\n" : "evenkeel: nothing was changed\n");
      return terminal.exit(sure === null ? exitCodes.usage : exitCodes.failed);
    }
  }
  const reply = await client.call<Done>("POST", `/leases/${encodeURIComponent(lease.id)}/clear`, { why: flags.why });
  if (!reply.ok) return complain(terminal, flags, reply);
  terminal.out(flags.json === true ? `${JSON.stringify(reply.value, null, 2)}\n` : `the slot of ${lease.node} is free\n`);
}

/** The lease or request of a node, or with that id. */
async function withLease<T>(client: HubClient, which: string, next: (lease: LeaseView | RequestView) => Promise<Reply<T>>): Promise<Reply<T>> {
  const summary = await client.call<CoordinationSummary>("GET", "/coordination");
  if (!summary.ok) return summary;
  const all = [...summary.value.leases, ...summary.value.requests];
  const found = all.find(({ id }) => id === which) ?? all.find(({ node }) => node === which);
  return found === undefined ? { ok: false, message: `${which} holds no slot and asks for none: \`evenkeel leases\` shows who does` } : next(found);
}

function fleetLockIdCommand(terminal: Terminal): Command {
  return new Command("fleetlock-id")
    .description("the id by which a Fedora CoreOS machine (Zincati) asks for its slot: for fleetlock: {id: …} in nodes/NAME.yaml")
    .argument("<machine-id>", "the content of its /etc/machine-id")
    .option("--json", "print JSON")
    .action((machineId: string, flags: { json?: boolean }) => {
      const id = zincatiId(machineId);
      if (id === null) {
        terminal.err(`evenkeel: "${machineId}" is no machine's id: it is 32 hex digits, in /etc/machine-id\n`);
        return terminal.exit(exitCodes.usage);
      }
      terminal.out(flags.json === true ? `${JSON.stringify({ id })}\n` : `${id}\n`);
    });
}

function mapped<From, To>(reply: Reply<From>, part: (value: From) => To): Reply<To> {
  return reply.ok ? { ok: true, value: part(reply.value) } : reply;
}
