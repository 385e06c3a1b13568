import { spawn, type ChildProcessByStdio } from "node:child_process";
import type { IncomingMessage, ServerResponse } from "node:http";
import { dirname } from "node:path";
import type { Readable, Writable } from "node:stream";
import type { Logger } from "pino";
import type { Clock } from "../../shared/clock.ts";
import { gitEnvironment } from "./process.ts";
import type { ClusterRepository, Push } from "./repository.ts";

/**
 * Git over HTTP: the smart protocol by `git http-backend`, run as CGI (git-http-backend(1), RFC 3875) and streamed in both
 * directions. Who may fetch and push has been decided before; what may come in, the pre-receive hook decides.
 */

/** The repository's path on the hub. */
export const gitPath = "/cluster.git";

const backendsMax = 8;
const waitingMax = 200;
const backendTimeoutMs = 10 * 60_000;
const headerMaxBytes = 16 * 1024;
/** The pack's limit (receive.maxInputSize) and some room for the commands before it. */
const bodyMaxBytes = 65 * 1024 * 1024;

export type GitService = "git-upload-pack" | "git-receive-pack";

export interface GitRequest {
  readonly service: GitService;
  readonly pathInfo: string;
  readonly query: string;
}

/** What a request asks of the repository; null for everything that is not the smart protocol. */
export function parseGitRequest(method: string | undefined, url: string | undefined): GitRequest | null {
  const [path = "", query = ""] = (url ?? "").split("?", 2);
  if (!path.startsWith(`${gitPath}/`)) return null;
  const rest = path.slice(gitPath.length);
  if (rest === "/info/refs" && method === "GET") {
    const service = /^service=(git-upload-pack|git-receive-pack)$/.exec(query)?.[1] as GitService | undefined;
    return service === undefined ? null : { service, pathInfo: path, query };
  }
  if (method === "POST" && query === "" && (rest === "/git-upload-pack" || rest === "/git-receive-pack")) {
    return { service: rest.slice(1) as GitService, pathInfo: path, query: "" };
  }
  return null;
}

type Backend = ChildProcessByStdio<Writable, Readable, Readable>;

export class GitHttp {
  readonly #repository: ClusterRepository;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #running = new Set<Backend>();
  #busy = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(parts: { repository: ClusterRepository; clock: Clock; log: Logger }) {
    this.#repository = parts.repository;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  /** Serves one request of somebody who may make it, under the name `by`. */
  async serve(request: GitRequest, incoming: IncomingMessage, outgoing: ServerResponse, by: string): Promise<void> {
    if (this.#busy >= backendsMax) {
      if (this.#waiting.length >= waitingMax) return answer(outgoing, 503, "the hub is busy with other Git requests: try again in a minute");
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#busy += 1;
    const push = request.service === "git-receive-pack" && incoming.method === "POST" ? this.#repository.begin(by) : null;
    let streamed: Promise<boolean> = Promise.resolve(true);
    try {
      if (!outgoing.destroyed) streamed = (await this.#run(request, incoming, outgoing, by, push)).streamed;
    } finally {
      this.#busy -= 1;
      this.#waiting.shift()?.();
      if (push !== null) await this.#repository.end(push);
    }
    // The answer ends only now: when `git push` returns, the hub knows the commit, and `node add` right after it works.
    void streamed.then((started) => (started ? outgoing.end() : answer(outgoing, 500, "git http-backend gave no answer: the hub's log says more")));
  }

  stop(): void {
    for (const backend of this.#running) backend.kill("SIGTERM");
  }

  /** Resolves when the backend has ended, whatever became of the client. */
  async #run(request: GitRequest, incoming: IncomingMessage, outgoing: ServerResponse, by: string, push: Push | null): Promise<{ streamed: Promise<boolean> }> {
    const backend = spawn("git", ["http-backend"], { env: this.#environment(request, incoming, by, push), stdio: ["pipe", "pipe", "pipe"] });
    this.#running.add(backend);
    const timer = this.#clock.after(backendTimeoutMs, () => backend.kill("SIGKILL"));
    // A client that went away needs no answer; git leaves the repository as it is or has finished.
    const gone = (): void => void backend.kill("SIGTERM");
    outgoing.once("close", gone);
    let stderr = "";
    backend.stderr.on("data", (chunk: Buffer) => {
      if (stderr.length < 4_000) stderr += chunk.toString("utf8");
    });
    feed(incoming, outgoing, backend);
    const streamed = relay(backend, outgoing);
    const code = await new Promise<number | null>((resolve) => {
      backend.once("error", (error) => {
        stderr += error.message;
        resolve(-1);
      });
      backend.once("close", (exitCode) => resolve(exitCode));
    });
    timer.cancel();
    this.#running.delete(backend);
    outgoing.off("close", gone);
    if (code !== 0) this.#log.warn({ code, stderr: stderr.trim(), service: request.service, by }, "git http-backend ended with an error");
    // The branch has moved by now: the record and the hint to the nodes need not wait for a slow client to read.
    return { streamed };
  }

  #environment(request: GitRequest, incoming: IncomingMessage, by: string, push: Push | null): Record<string, string> {
    const header = (name: string): string => String(incoming.headers[name] ?? "");
    const env: Record<string, string> = {
      ...gitEnvironment,
      GIT_PROJECT_ROOT: dirname(this.#repository.directory),
      GIT_HTTP_EXPORT_ALL: "1",
      GATEWAY_INTERFACE: "CGI/1.1",
      REQUEST_METHOD: incoming.method ?? "GET",
      PATH_INFO: request.pathInfo,
      QUERY_STRING: request.query,
      CONTENT_TYPE: header("content-type").slice(0, 200),
      REMOTE_USER: by,
      REMOTE_ADDR: incoming.socket.remoteAddress ?? "",
    };
    // Absent for chunked bodies: then the backend reads to the end.
    if (/^\d+$/.test(header("content-length"))) env["CONTENT_LENGTH"] = header("content-length");
    if (header("content-encoding") === "gzip") env["HTTP_CONTENT_ENCODING"] = "gzip";
    if (/^[a-z0-9=:.-]{1,100}$/i.test(header("git-protocol"))) env["GIT_PROTOCOL"] = header("git-protocol");
    if (push !== null) {
      env["EVENKEEL_PUSH_ID"] = push.id;
      env["EVENKEEL_HOOK_SOCKET"] = this.#repository.socketPath;
    }
    return env;
  }
}

/** The request's body into the backend, with the pressure of its pipe passed back to the client. */
function feed(incoming: IncomingMessage, outgoing: ServerResponse, backend: Backend): void {
  let sizeBytes = 0;
  incoming.on("data", (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes <= bodyMaxBytes) return;
    backend.kill("SIGKILL");
    answer(outgoing, 413, `a push may have at most ${bodyMaxBytes} bytes: cluster repositories hold settings, larger things come to the nodes as packages`);
    incoming.destroy();
  });
  // The backend may end before it has read everything; its answer says why.
  backend.stdin.on("error", () => incoming.resume());
  incoming.pipe(backend.stdin);
}

/** The CGI answer to the client. Resolves with whether there was one, once it has been handed on or the client is gone. */
function relay(backend: Backend, outgoing: ServerResponse): Promise<boolean> {
  return new Promise((resolve) => {
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      if (end === -1) {
        if (head.length > headerMaxBytes) backend.kill("SIGKILL");
        return;
      }
      backend.stdout.off("data", onData);
      if (outgoing.headersSent) return resolve(true);
      const { status, headers } = parseCgiHeaders(head.subarray(0, end).toString("latin1"));
      outgoing.writeHead(status, headers);
      outgoing.write(head.subarray(end + 4));
      backend.stdout.pipe(outgoing, { end: false });
      backend.stdout.once("end", () => resolve(true));
      outgoing.once("close", () => resolve(true));
    };
    backend.stdout.on("data", onData);
    backend.stdout.once("end", () => resolve(outgoing.headersSent));
  });
}

/** Header lines of a CGI answer; `Status: 403 Forbidden` becomes the status. */
export function parseCgiHeaders(text: string): { status: number; headers: Record<string, string> } {
  let status = 200;
  const headers: Record<string, string> = {};
  for (const line of text.split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon === -1) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name === "status") status = Number.parseInt(value, 10) || 500;
    else headers[name] = value;
  }
  return { status, headers };
}

function answer(outgoing: ServerResponse, status: number, message: string): void {
  if (outgoing.headersSent || outgoing.destroyed) return;
  outgoing.writeHead(status, { "content-type": "text/plain; charset=utf-8", connection: "close" });
  outgoing.end(`${message}\n`);
}
