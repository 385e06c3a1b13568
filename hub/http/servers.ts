import { once } from "node:events";
import { constants } from "node:crypto";
import { createServer as createPlainServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import type { Logger } from "pino";
import type { Pki } from "../pki/authority.ts";
import { downloadsPath, type DownloadCache } from "../downloads/cache.ts";
import { gitPath, parseGitRequest, type GitHttp } from "../repo/git-http.ts";
import type { Listen } from "../settings.ts";
import type { Gate } from "./caller.ts";
import type { HubEnv } from "./environment.ts";

/** The hub's two listeners: TLS for nodes, Git and people; plain HTTP on the loopback for the page. */

export interface WebServer {
  readonly address: AddressInfo;
  stop(): Promise<void>;
}

export type Listener = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

const connectionsMax = 2_000;
const limits = { headersTimeout: 20_000, requestTimeout: 10 * 60_000, keepAliveTimeout: 30_000, maxHeaderSize: 16 * 1024 };

/** What streams files goes straight to its own streams, all others to the application. */
export function listenerFor(parts: { readonly app: Hono<HubEnv>; readonly git: GitHttp; readonly downloads: DownloadCache; readonly gate: Gate; readonly log: Logger }): Listener {
  const web = getRequestListener(parts.app.fetch);
  return (incoming, outgoing) => {
    const url = incoming.url ?? "";
    const serve = url.startsWith(gitPath) ? serveGit(parts.git, parts.gate, incoming, outgoing) : url.startsWith(downloadsPath) ? serveDownload(parts.downloads, parts.gate, incoming, outgoing) : null;
    if (serve === null) return void web(incoming, outgoing);
    serve.catch((error: unknown) => {
      parts.log.error({ err: error, path: incoming.url }, "a request for files failed");
      answer(incoming, outgoing, 500, "the hub failed to answer; its log says why");
    });
  };
}

async function serveGit(git: GitHttp, gate: Gate, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const request = parseGitRequest(incoming.method, incoming.url);
  if (request === null) return answer(incoming, outgoing, 404, `the repository is at ${gitPath}, for git only: git clone https://HUB:7443${gitPath}`);
  const caller = await gate.callerOf(incoming);
  const pushing = request.service === "git-receive-pack";
  switch (caller.kind) {
    case "refused":
      if (caller.status === 401) outgoing.setHeader("www-authenticate", 'Basic realm="evenkeel"');
      else outgoing.setHeader("retry-after", String(caller.retryAfterS));
      return answer(incoming, outgoing, caller.status, caller.message);
    case "nobody":
      outgoing.setHeader("www-authenticate", 'Basic realm="evenkeel"');
      return answer(incoming, outgoing, 401, "log in with any name, and a token of the hub as the password");
    case "node":
      if (pushing) return answer(incoming, outgoing, 403, "a node may fetch, and not push");
      return git.serve(request, incoming, outgoing, `node:${caller.node}`);
    case "person":
      // A browser's session must not be enough: any page could send it along.
      if (caller.via === "session") return answer(incoming, outgoing, 403, "git needs a token, not a session");
      if (pushing && caller.role !== "admin") return answer(incoming, outgoing, 403, `the token ${caller.name} may only read: push with one that has the role admin`);
      return git.serve(request, incoming, outgoing, caller.name);
  }
}

async function serveDownload(downloads: DownloadCache, gate: Gate, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const caller = await gate.callerOf(incoming);
  if (caller.kind !== "node" || incoming.method !== "GET") return answer(incoming, outgoing, 403, "what nodes download is for the cluster's nodes");
  return downloads.serve((incoming.url ?? "").slice(downloadsPath.length), incoming, outgoing);
}

export async function serveTls(listen: Listen, pki: Pki, listener: Listener): Promise<WebServer> {
  const context = () => ({ ...pki.server(), ca: pki.caPem });
  const server = createTlsServer(
    {
      ...context(),
      ...limits,
      // People come without a certificate; what a node may do is decided request by request.
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: "TLSv1.2",
      handshakeTimeout: 10_000,
      // A resumed session would skip showing the certificate that every request is judged by.
      secureOptions: constants.SSL_OP_NO_TICKET,
    },
    listener,
  );
  pki.onServerRenewed(() => server.setSecureContext(context()));
  return start(server, listen);
}

export async function servePlain(listen: Listen, listener: Listener): Promise<WebServer> {
  return start(createPlainServer(limits, listener), listen);
}

async function start(server: Server, listen: Listen): Promise<WebServer> {
  server.maxConnections = connectionsMax;
  server.listen(listen.port, listen.host);
  await once(server, "listening");
  return {
    address: server.address() as AddressInfo,
    async stop() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function answer(incoming: IncomingMessage, outgoing: ServerResponse, status: number, message: string): void {
  if (outgoing.headersSent) return void outgoing.destroy();
  // What the client still sends is read and dropped, up to what the server's limits allow.
  incoming.resume();
  outgoing.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  outgoing.end(`${message}\n`);
}
