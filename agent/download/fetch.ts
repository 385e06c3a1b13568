import { get as getPlain, type IncomingMessage, type RequestOptions } from "node:http";
import { get as getTls } from "node:https";

/** One request for a file, with redirects followed. What comes is not believed: whoever asks checks the sum. */

const REDIRECTS_MAX = 5;
const CONNECT_TIMEOUT_MS = 20_000;

export interface Source {
  readonly url: string;
  /** Certificates, where the hub is asked. */
  readonly tls?: { readonly ca: Uint8Array | string; readonly cert: Uint8Array | string; readonly key: Uint8Array | string };
}

export type Answer =
  | {
      readonly ok: true;
      readonly body: IncomingMessage;
      /** Whether it goes on where was asked (206), or begins anew. */
      readonly fromByte: number;
      /** All of the file, as far as the server tells. */
      readonly sizeBytes: number | null;
    }
  | { readonly ok: false; readonly message: string; readonly status?: number; /** With 202: how far whoever was asked has come himself. */ readonly receivedBytes?: number };

/** Asks for a file from a byte on. Never throws for what a network can be. */
export async function request(source: Source, fromByte: number, signal: AbortSignal): Promise<Answer> {
  let url = source.url;
  for (let hop = 0; hop <= REDIRECTS_MAX; hop += 1) {
    const response = await once(url, { ...source.tls, ...(fromByte === 0 ? {} : { headers: { range: `bytes=${fromByte}-` } }) }, signal);
    if (typeof response === "string") return { ok: false, message: `${url}: ${response}` };
    const status = response.statusCode ?? 0;
    const location = response.headers.location;
    if (status >= 300 && status < 400 && location !== undefined) {
      response.resume();
      const next = new URL(location, url);
      if (next.protocol !== "https:" && next.protocol !== "http:") return { ok: false, message: `${url} leads to ${next.protocol}, which is not followed` };
      // Certificates are for the one who was asked, not for where he points.
      if (source.tls !== undefined) return { ok: false, message: `${url} leads elsewhere, which is not followed` };
      url = next.href;
      continue;
    }
    if (status === 200) return { ok: true, body: response, fromByte: 0, sizeBytes: numberOrNull(response.headers["content-length"]) };
    if (status === 206) {
      const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers["content-range"] ?? "");
      if (range?.[1] !== undefined && Number(range[1]) === fromByte) return { ok: true, body: response, fromByte, sizeBytes: Number(range[2]) };
    }
    const receivedBytes = status === 202 ? await progressIn(response) : undefined;
    response.resume();
    return { ok: false, ...(receivedBytes !== undefined && { receivedBytes }), message: `${url} answers ${status} ${response.statusMessage ?? ""}`.trim(), status };
  }
  return { ok: false, message: `${source.url} leads from one address to the next, more than ${REDIRECTS_MAX} times` };
}

function once(url: string, options: RequestOptions & { ca?: unknown }, signal: AbortSignal): Promise<IncomingMessage | string> {
  return new Promise((resolve) => {
    const get = url.startsWith("https:") ? getTls : getPlain;
    const sent = get(url, { ...options, agent: false, signal, timeout: CONNECT_TIMEOUT_MS } as RequestOptions, resolve);
    sent.once("timeout", () => sent.destroy(new Error(`no answer within ${CONNECT_TIMEOUT_MS / 1_000} s`)));
    sent.once("error", (error: NodeJS.ErrnoException) => resolve(signal.aborted ? "it took too long" : explain(error)));
  });
}

function explain(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "its name cannot be resolved: is it written rightly, and does DNS work on this node?";
    case "ECONNREFUSED":
      return "nobody listens there";
    case "ENETUNREACH":
    case "EHOSTUNREACH":
      return "there is no way to it from this node";
    default:
      return error.message;
  }
}

async function progressIn(response: IncomingMessage): Promise<number> {
  let text = "";
  for await (const chunk of response) if (text.length < 1_000) text += String(chunk);
  const found = /"receivedBytes":(\d{1,15})/.exec(text);
  return Number(found?.[1] ?? 0);
}

function numberOrNull(text: string | undefined): number | null {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : null;
}
