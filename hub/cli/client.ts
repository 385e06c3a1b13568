import { X509Certificate, createHash } from "node:crypto";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { DenialView } from "../../shared/protocol/rollout.ts";
import type { Connection } from "./connection.ts";

/** The hub's API as the command line uses it. Every way in which it can fail is a message for people. */

export type Reply<T> = { readonly ok: true; readonly value: T } | Failed;
export interface Failed {
  readonly ok: false;
  readonly message: string;
  /** What the hub answered with; none when it did not answer. */
  readonly status?: number;
  /** The coordinator will not, for these reasons. */
  readonly denials?: readonly DenialView[];
}

/** Whether asking again later may help: the hub is away, starting, or in trouble of its own. */
export function isAway(failed: Failed): boolean {
  return failed.status === undefined || failed.status >= 500;
}

const answerMaxBytes = 64 * 1024 * 1024;
const timeoutMs = 20_000;
/** Longer than the hub waits for a node. */
export const planTimeoutMs = 90_000;

export class HubClient {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get hub(): string {
    return this.#connection.hub;
  }

  /** The answer is taken as the hub's API gives it; both are of the same release. */
  async call<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown, waitMs = timeoutMs): Promise<Reply<T>> {
    const { hub, token, ca } = this.#connection;
    const sent = await send(method, `${hub}/api/v1${path}`, { authorization: `Bearer ${token}` }, body, ca === undefined ? {} : { ca }, waitMs);
    if (!sent.ok) return sent;
    let json: unknown;
    try {
      json = JSON.parse(sent.body);
    } catch {
      return { ok: false, message: `${hub} answered with status ${sent.status} and not in JSON: is it an Evenkeel hub?`, status: sent.status };
    }
    if (sent.status >= 200 && sent.status < 300) return { ok: true, value: json as T };
    const { error, denials } = json as { error?: { message?: string }; denials?: DenialView[] };
    return { ok: false, message: error?.message ?? `${hub} answered with status ${sent.status}`, status: sent.status, ...(denials !== undefined && { denials }) };
  }
}

/** The hub's CA as it shows it, to be believed only if its pin is the one that one knows already. */
export async function fetchAuthority(hub: string): Promise<Reply<{ readonly pem: string; readonly pin: string }>> {
  const sent = await send("GET", `${hub}/ca.pem`, {}, undefined, { rejectUnauthorized: false }, timeoutMs);
  if (!sent.ok) return sent;
  try {
    const certificate = new X509Certificate(sent.body);
    const spki = certificate.publicKey.export({ type: "spki", format: "der" });
    return { ok: true, value: { pem: certificate.toString(), pin: `sha256:${createHash("sha256").update(spki).digest("hex")}` } };
  } catch {
    return { ok: false, message: `${hub}/ca.pem is not a certificate: is this an Evenkeel hub?` };
  }
}

type Sent = { readonly ok: true; readonly status: number; readonly body: string } | { readonly ok: false; readonly message: string };

function send(method: string, url: string, headers: Record<string, string>, body: unknown, tls: object, waitMs: number): Promise<Sent> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const request = url.startsWith("https:") ? httpsRequest : httpRequest;
  const { origin } = new URL(url);
  return new Promise((resolve) => {
    const length = text === undefined ? { "content-length": 0 } : { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
    const outgoing = request(url, { method, headers: { ...headers, ...length }, agent: false, timeout: waitMs, ...tls }, (incoming) => {
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      incoming.on("data", (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > answerMaxBytes) outgoing.destroy(new Error(`the answer has more than ${answerMaxBytes} bytes`));
        else chunks.push(chunk);
      });
      incoming.on("error", (error) => resolve({ ok: false, message: explain(origin, error, waitMs) }));
      incoming.on("end", () => resolve({ ok: true, status: incoming.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }));
    });
    outgoing.on("timeout", () => outgoing.destroy(Object.assign(new Error("no answer"), { code: "ETIMEDOUT" })));
    outgoing.on("error", (error) => resolve({ ok: false, message: explain(origin, error, waitMs) }));
    outgoing.end(text);
  });
}

function explain(hub: string, error: NodeJS.ErrnoException, waitMs: number): string {
  switch (error.code) {
    case "ECONNREFUSED":
      return `nothing listens at ${hub}: is the hub running? (systemctl status evenkeel-hub on its machine)`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name in ${hub} cannot be resolved: is it spelled right?`;
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `${hub} does not answer (waited up to ${waitMs / 1_000} s): is its machine up, and reachable from here?`;
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "CERT_SIGNATURE_FAILURE":
      return `${hub} shows a certificate of another CA than the one known here: give the hub's own with --ca, or run \`evenkeel login ${hub} --ca-pin sha256:…\`. If it was right until now, somebody may stand in between.`;
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return `${hub} has a certificate for other names: add this one to publicHosts in the hub's settings, or use a name that is there (${error.message})`;
    default:
      return `cannot talk to ${hub}: ${error.message || error.code || "the connection was closed"}`;
  }
}
