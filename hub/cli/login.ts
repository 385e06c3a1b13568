import { chmodSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { Command } from "commander";
import type { ClusterSummary } from "../../shared/protocol/api.ts";
import { writeDurably } from "../durable-file.ts";
import { HubClient, fetchAuthority } from "./client.ts";
import { connectionPath, parseHub } from "./connection.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

/** `evenkeel login`: remembers a hub, after its CA and the token have been checked. */

export interface LoginOptions {
  readonly url: string;
  readonly token?: string;
  readonly caPin?: string;
  readonly here?: boolean;
}

export async function login(options: LoginOptions, terminal: Terminal, readToken: () => Promise<string>): Promise<number> {
  const hub = parseHub(options.url);
  if (hub === null) return complain(terminal, `"${options.url}" is not a hub's address: write it like https://hub.example:7443`);
  let ca: string | undefined;
  if (hub.startsWith("https:")) {
    const authority = await fetchAuthority(hub);
    if (!authority.ok) return complain(terminal, authority.message);
    const { pin, pem } = authority.value;
    if (options.caPin === undefined) {
      return complain(terminal, `${hub} shows a CA with the fingerprint\n\n  ${pin}\n\nNothing was sent to it. Compare that with what the hub prints when it starts; if it is the same, run this again with --ca-pin ${pin}`);
    }
    if (options.caPin.toLowerCase() !== pin) return complain(terminal, `${hub} shows another CA (${pin}) than the one pinned. Nothing was sent to it: either the hub was set up anew, or this is not your hub.`);
    ca = pem;
  }
  const token = (options.token ?? terminal.env["EVENKEEL_TOKEN"] ?? (await readToken())).trim();
  if (token === "") return complain(terminal, "no token was given; the first one is in admin.token in the hub's data directory");
  const reply = await new HubClient({ hub, token, ca }).call<ClusterSummary>("GET", "/cluster");
  if (!reply.ok) return complain(terminal, reply.message);
  const path = connectionPath(options.here === true ? "here" : "user", terminal);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeDurably(path, `${JSON.stringify({ hub, token, ...(ca !== undefined && { ca }) }, null, 2)}\n`, 0o600);
  chmodSync(path, 0o600);
  terminal.out(`Logged in to the cluster ${reply.value.cluster} at ${hub}; kept in ${path}.\n`);
  return 0;
}

export function loginCommand(terminal: Terminal = processTerminal()): Command {
  return new Command("login")
    .description("remember a hub and a token for the other commands")
    .argument("<url>", "the hub, such as https://hub.example:7443")
    .option("--token <token>", "an API token (default: EVENKEEL_TOKEN, else it is asked for)")
    .option("--ca-pin <pin>", "the fingerprint of the hub's CA: sha256:…, as the hub prints it")
    .option("--here", "keep it in .evenkeel/ of this directory instead of your home")
    .action(async (url: string, options: Omit<LoginOptions, "url">) => {
      terminal.exit(await login({ url, ...options }, terminal, () => askToken(terminal)));
    });
}

const tokenMaxChars = 256;

/** One line from standard input; on a terminal it is asked for. */
async function askToken(terminal: Terminal): Promise<string> {
  const { stdin } = process;
  if (stdin.isTTY) terminal.err("token (it is shown as you type): ");
  let text = "";
  for await (const chunk of stdin) {
    text += String(chunk);
    if (text.includes("\n") || text.length > tokenMaxChars) break;
  }
  return text.split("\n", 1)[0] ?? "";
}

function complain(terminal: Terminal, message: string): number {
  terminal.err(`evenkeel: ${message}\n`);
  return 1;
}
