import { Command, Option } from "commander";
import type { Clock } from "../../shared/clock.ts";
import type { ClusterSummary, NodeAddAnswer, NodeSummary, StoredConverge } from "../../shared/protocol/api.ts";
import type { CoordinationSummary } from "../../shared/protocol/rollout.ts";
import { systemClock } from "../system-clock.ts";
import { asking, type Ask } from "./asking.ts";
import type { HubClient, Reply } from "./client.ts";
import { connecting, type ConnectionFlags } from "./connection.ts";
import { paintFor, showConverge, showNodes, showStatus } from "./show.ts";
import { showStanding } from "./show-coordination.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

/** The commands that ask the hub. Exit code 0: done; 1: the hub refused, or could not be reached. */

const logLinesDefault = 20;
const logLinesMax = 500;

export function hubCommands(terminal: Terminal = processTerminal(), clock: Pick<Clock, "nowMs"> = systemClock): Command[] {
  const paint = paintFor(terminal.color);

  const ask: Ask = (flags, question, show) => asking(terminal, flags, question, show);

  const status = connecting(new Command("status"))
    .description("the cluster at a glance: each node, its condition and why; quorum groups, and the rollout")
    .action((flags: ConnectionFlags) =>
      ask<Status>(flags, readStatus, (status) => {
        const standing = status.coordination === null ? "" : showStanding(status.coordination, paint, clock.nowMs());
        return showStatus(status, paint, clock.nowMs()) + (standing === "" ? "" : `\n${standing}`);
      }),
    );

  const node = new Command("node").description("add, list and revoke nodes");
  node.addCommand(
    connecting(new Command("add"))
      .description("let a machine in: prints the one command to run on it as root")
      .argument("<name>", "the node's name, as in nodes/NAME.yaml")
      .action((name: string, flags: ConnectionFlags) =>
        ask<NodeAddAnswer>(flags, (client) => client.call("POST", "/nodes", { name }), (added) => {
          terminal.err(`Run this on ${added.node}, as root, once, before ${added.expiresAt.replace("T", " ").slice(0, 16)} UTC:\n\n`);
          return `${added.command}\n`;
        }),
      ),
  );
  node.addCommand(
    connecting(new Command("list"))
      .description("all nodes with their condition")
      .action((flags: ConnectionFlags) => ask<NodeSummary[]>(flags, (client) => client.call("GET", "/nodes"), (nodes) => showNodes(nodes, paint, clock.nowMs()))),
  );
  node.addCommand(
    connecting(new Command("revoke"))
      .description("cut a node off at once: its certificate is no longer accepted")
      .argument("<name>", "the node's name")
      .action((name: string, flags: ConnectionFlags) =>
        ask<{ node: string }>(flags, (client) => client.call("DELETE", `/nodes/${encodeURIComponent(name)}`), (revoked) => `${revoked.node} is cut off. What it last applied stays on it; \`evenkeel node add ${revoked.node}\` lets it in again.\n`),
      ),
  );

  const log = connecting(new Command("log"))
    .description("what nodes did: reports of converges, the newest last")
    .argument("[node]", "only this node (default: all)")
    .option("-n, --last <number>", `how many (at most ${logLinesMax})`, String(logLinesDefault))
    .option("-v, --verbose", "with every change and its diff, not only what failed")
    .action((name: string | undefined, flags: ConnectionFlags & { last: string; verbose?: boolean }) => {
      const last = Math.min(logLinesMax, Math.max(1, Number.parseInt(flags.last, 10) || logLinesDefault));
      return ask<StoredConverge[]>(flags, (client) => readLog(client, name, last), (reports) =>
        reports.length === 0 ? paint.dim("no reports yet\n") : reports.map((report) => showConverge(report, paint, flags.verbose === true)).join(""),
      );
    });

  const token = new Command("token").description("add, list and revoke tokens of the API, one for each person or program");
  token.addCommand(
    connecting(new Command("add"))
      .description("make a token; it is shown once")
      .argument("<name>", "whose it is: commits are shown as pushed by this name")
      .addOption(new Option("--role <role>", "read: see everything; admin: push, add and revoke nodes, plan, steer rollouts; fleetlock: only ask for slots, at https://HUB:7443/fleetlock/TOKEN (the base_url of Zincati)").choices(["read", "admin", "fleetlock"]).default("read"))
      .action((name: string, flags: ConnectionFlags & { role: string }) =>
        ask<{ token: string }>(flags, (client) => client.call("POST", "/tokens", { name, role: flags.role }), (added) => `${added.token}\n`),
      ),
  );
  token.addCommand(
    connecting(new Command("list"))
      .description("names and roles of the tokens")
      .action((flags: ConnectionFlags) => ask<{ name: string; role: string; createdAt: string }[]>(flags, (client) => client.call("GET", "/tokens"), (tokens) => tokens.map((each) => `${each.name}  ${each.role}  since ${each.createdAt.slice(0, 10)}\n`).join(""))),
  );
  token.addCommand(
    connecting(new Command("revoke"))
      .description("end a token and the sessions opened with it")
      .argument("<name>", "the token's name")
      .action((name: string, flags: ConnectionFlags) => ask(flags, (client) => client.call("DELETE", `/tokens/${encodeURIComponent(name)}`), () => `the token ${name} has ended\n`)),
  );

  const loginLink = connecting(new Command("login-link"))
    .description("make a link that logs a browser in, once")
    .action((flags: ConnectionFlags) => ask<{ url: string }>(flags, (client) => client.call("POST", "/login-links"), ({ url }) => `${url}\n`));

  return [status, node, log, token, loginLink];
}

type Status = ClusterSummary & { readonly coordination: CoordinationSummary | null };

/** The nodes are worth showing without what the coordinator says, too. */
async function readStatus(client: HubClient): Promise<Reply<Status>> {
  const [cluster, coordination] = await Promise.all([client.call<ClusterSummary>("GET", "/cluster"), client.call<CoordinationSummary>("GET", "/coordination")]);
  return cluster.ok ? { ok: true, value: { ...cluster.value, coordination: coordination.ok ? coordination.value : null } } : cluster;
}

/** The newest reports, oldest first, of one node or of all. */
async function readLog(client: HubClient, name: string | undefined, last: number): Promise<Reply<StoredConverge[]>> {
  let names = name === undefined ? [] : [name];
  if (name === undefined) {
    const nodes = await client.call<NodeSummary[]>("GET", "/nodes");
    if (!nodes.ok) return nodes;
    names = nodes.value.map((node) => node.name);
  } else {
    const node = await client.call("GET", `/nodes/${encodeURIComponent(name)}`);
    if (!node.ok) return node;
  }
  const reports: StoredConverge[] = [];
  for (const each of names) {
    let before: number | null = null;
    for (let got = 0; got < last; ) {
      const query: string = before === null ? "" : `?before=${before}`;
      const page: Reply<StoredConverge[]> = await client.call<StoredConverge[]>("GET", `/nodes/${encodeURIComponent(each)}/converges${query}`);
      if (!page.ok) return page;
      if (page.value.length === 0) break;
      reports.push(...page.value);
      got += page.value.length;
      before = page.value.at(-1)?.id ?? 0;
    }
  }
  return { ok: true, value: reports.sort((a, b) => a.receivedAt.localeCompare(b.receivedAt) || a.id - b.id).slice(-last) };
}

