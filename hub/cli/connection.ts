import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import * as z from "zod";
import type { Terminal } from "./terminal.ts";

/** Where the hub is, and how to be let in: flags, then the environment, then the nearest `.evenkeel/hub.json`, then the user's. */

export interface Connection {
  /** `https://HOST:7443`, or `http://127.0.0.1:7480` on the hub's machine. */
  readonly hub: string;
  readonly token: string;
  /** The hub's CA in PEM; undefined: what the system trusts (a hub behind a proxy with a public certificate). */
  readonly ca: string | undefined;
}

export interface ConnectionFlags {
  readonly hub?: string;
  readonly token?: string;
  readonly ca?: string;
  readonly json?: boolean;
}

const ConnectionFile = z.object({ hub: z.string(), token: z.string(), ca: z.string().optional() });

/** Adds the flags that every command has which talks to a hub. */
export function connecting(command: Command): Command {
  return command
    .option("--hub <url>", "the hub, such as https://hub:7443 (EVENKEEL_HUB)")
    .option("--token <token>", "an API token (EVENKEEL_TOKEN; better than here, where `ps` shows it)")
    .option("--ca <file>", "the hub's CA certificate (EVENKEEL_CA)")
    .option("--json", "print JSON");
}

/** Finds the connection, or says what is missing. */
export function findConnection(flags: ConnectionFlags, { env, cwd }: Pick<Terminal, "env" | "cwd">): { readonly ok: true; readonly connection: Connection } | { readonly ok: false; readonly message: string } {
  const found = readConnectionFile(cwd, env);
  if (found !== null && !found.ok) return found;
  const file = found?.file;
  const hub = flags.hub ?? set(env["EVENKEEL_HUB"]) ?? file?.hub;
  if (hub === undefined) {
    return { ok: false, message: "which hub? Run `evenkeel login https://HUB:7443 --ca-pin sha256:…` once, or set EVENKEEL_HUB and EVENKEEL_TOKEN" };
  }
  const url = parseHub(hub);
  if (url === null) return { ok: false, message: `"${hub}" is not a hub's address: write it like https://hub.example:7443` };
  // A remembered token and CA belong to the remembered hub, and are not shown to another one.
  const remembered = file !== undefined && parseHub(file.hub) === url ? file : undefined;
  const token = flags.token ?? set(env["EVENKEEL_TOKEN"]) ?? remembered?.token;
  if (token === undefined) return { ok: false, message: `no token for ${url}: set EVENKEEL_TOKEN, or run \`evenkeel login ${url} …\` (the first token is in admin.token in the hub's data directory)` };
  const ca = flags.ca ?? set(env["EVENKEEL_CA"]);
  if (ca === undefined) return { ok: true, connection: { hub: url, token, ca: remembered?.ca } };
  if (ca.includes("-----BEGIN CERTIFICATE-----")) return { ok: true, connection: { hub: url, token, ca } };
  try {
    return { ok: true, connection: { hub: url, token, ca: readFileSync(resolve(cwd, ca), "utf8") } };
  } catch (error) {
    return { ok: false, message: `the CA certificate ${ca} cannot be read: ${(error as Error).message}` };
  }
}

/** Where `evenkeel login` keeps what it was told. */
export function connectionPath(where: "user" | "here", { env, cwd }: Pick<Terminal, "env" | "cwd">): string {
  if (where === "here") return join(cwd, ".evenkeel", "hub.json");
  return join(set(env["XDG_CONFIG_HOME"]) ?? join(set(env["HOME"]) ?? homedir(), ".config"), "evenkeel", "hub.json");
}

/** The origin of a hub's address; null when it is none. Plain HTTP carries tokens, so it is for this machine only. */
export function parseHub(text: string): string | null {
  let url: URL;
  try {
    url = new URL(text.includes("://") ? text : `https://${text}`);
  } catch {
    return null;
  }
  const loopback = url.hostname === "localhost" || url.hostname === "[::1]" || url.hostname.startsWith("127.");
  return url.protocol === "https:" || (url.protocol === "http:" && loopback) ? url.origin : null;
}

type Found = { readonly ok: true; readonly file: z.output<typeof ConnectionFile> } | { readonly ok: false; readonly message: string };

function readConnectionFile(cwd: string, env: Terminal["env"]): Found | null {
  for (let directory = cwd; ; directory = dirname(directory)) {
    const path = connectionPath("here", { cwd: directory, env });
    // A file that somebody else put above one's directory must not say where tokens go.
    if (existsSync(path) && isTrusted(path)) return parseConnectionFile(path);
    if (dirname(directory) === directory) break;
  }
  const path = connectionPath("user", { cwd, env });
  return existsSync(path) ? parseConnectionFile(path) : null;
}

function isTrusted(path: string): boolean {
  const { uid } = statSync(path);
  return uid === process.getuid?.() || uid === 0;
}

function parseConnectionFile(path: string): Found {
  try {
    return { ok: true, file: ConnectionFile.parse(JSON.parse(readFileSync(path, "utf8"))) };
  } catch (error) {
    return { ok: false, message: `${path} cannot be read (${(error as Error).message.split("\n", 1)[0]}): run \`evenkeel login …\` again` };
  }
}

function set(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value;
}
