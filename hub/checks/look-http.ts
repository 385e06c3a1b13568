import { request as requestHttp, type ClientRequest, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import type { Check } from "../../shared/config/policy.ts";
import { cannotLook, failed, secondsText, socketVerdict, well, type Asking, type Verdict } from "./verdict.ts";

type HttpCheck = Extract<Check, { http: string }>;

/** The schema promises this to the owner. */
const bodyMaxBytes = 64 * 1024;

/**
 * Gets the address once and judges the status and, if asked, the text. A connection of its own each time: a kept one would
 * stay with a node that has lost the address, and a resumed TLS session would hide a certificate that has run out.
 * Redirects are not followed; a 3xx counts as it is.
 */
export function askHttp(check: HttpCheck, asking: Asking): Promise<Verdict> {
  const { target, timeoutMs, signal } = asking;
  return new Promise((resolve) => {
    const request = open(check, asking);
    let answered = false;
    const end = (verdict: Verdict): void => {
      request.destroy();
      resolve(verdict);
    };
    request.once("response", (response) => {
      answered = true;
      judge(check, target, response, end);
    });
    // "101 Switching Protocols" comes this way, and the connection is no longer HTTP.
    request.once("upgrade", (response, socket) => {
      socket.destroy();
      end(judgeStatus(check, target, response.statusCode ?? 0) ?? well);
    });
    // Stays on: destroying a request that has no answer yet gives an error of its own, after the verdict.
    request.on("error", (error) => end(requestVerdict(target, error)));
    // When an answer breaks off, this comes before the response's own error, which knows more.
    request.once("close", () => {
      if (!answered) end(failed(`${target}: the connection was closed without an answer`));
    });
    signal.addEventListener("abort", () => end(failed(answered ? `${target} began to answer, but did not finish within ${secondsText(timeoutMs)}` : `${target}: no answer within ${secondsText(timeoutMs)}`)), { once: true });
    request.end();
  });
}

function open(check: HttpCheck, { names, trust }: Asking): ClientRequest {
  const options = {
    // An agent for this request only, which keeps neither connections nor TLS sessions.
    agent: false,
    lookup: names.lookup,
    headers: { connection: "close", accept: "*/*", "accept-encoding": "identity", "user-agent": "evenkeel-check", "cache-control": "no-cache" },
  };
  const url = new URL(check.http);
  if (url.protocol === "http:") return requestHttp(url, options);
  const secureContext = trust();
  return requestHttps(url, { ...options, rejectUnauthorized: !check.insecure, ...(secureContext !== undefined && { secureContext }) });
}

function judge(check: HttpCheck, target: string, response: IncomingMessage, end: (verdict: Verdict) => void): void {
  const bad = judgeStatus(check, target, response.statusCode ?? 0);
  if (bad !== null) return end(bad);
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  const finish = (): void => end(judgeBody(check, target, response, Buffer.concat(chunks).subarray(0, bodyMaxBytes)));
  response.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes >= bodyMaxBytes) finish();
  });
  response.once("end", finish);
  response.once("error", () => end(failed(`${target} answered ${response.statusCode}, but the connection broke before the answer was complete`)));
}

/** Null when the status is as expected. */
function judgeStatus(check: HttpCheck, target: string, status: number): Verdict | null {
  const asExpected = check.status === undefined ? status >= 200 && status <= 399 : status === check.status;
  return asExpected ? null : failed(`${target} answered ${status}, expected ${check.status ?? "200 to 399"}`);
}

function judgeBody(check: HttpCheck, target: string, response: IncomingMessage, body: Buffer): Verdict {
  if (check.contains === undefined || body.includes(check.contains)) return well;
  const encoding = response.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") return failed(`${target} answered ${response.statusCode}, compressed (${encoding}) although it was asked not to: its text cannot be searched`);
  const searched = body.length >= bodyMaxBytes ? "the first 64 KiB do" : `its ${body.length} bytes do`;
  return failed(`${target} answered ${response.statusCode}, but ${searched} not contain ${JSON.stringify(check.contains)}`);
}

/** Codes of OpenSSL's X509_V_ERR_*, as Node names them, and its own for a name that does not fit. */
const certificateCode = /CERT|ISSUER|SIGNATURE|^CRL_|CHAIN|SUBJECT|PATH_LENGTH|PURPOSE|ALTNAME|HOSTNAME_MISMATCH|INVALID_CA/;

function requestVerdict(target: string, error: NodeJS.ErrnoException & { readonly reason?: string }): Verdict {
  const code = error.code ?? "";
  if (code === "ERR_SSL_CERTIFICATE_REQUIRED" || code === "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED") return failed(`${target}: the server asks for a client's certificate, which a check cannot give`);
  if (certificateCode.test(code)) return failed(`${target}: its certificate is not accepted: ${(error.reason ?? error.message).split(";")[0]} (${code}); renew it, install its authority on the hub's machine, or set insecure: true`);
  if (code === "EPROTO" || code.startsWith("ERR_SSL_")) return failed(`${target}: TLS did not come about: ${error.reason ?? code}`);
  if (code.startsWith("HPE_")) return failed(`${target}: what came back is not HTTP as it should be (${code})`);
  if (code === "ECONNRESET" && error.message === "socket hang up") return failed(`${target}: the connection was closed without an answer`);
  if (code.startsWith("ERR_")) return cannotLook(`cannot look at ${target}: ${error.message}`);
  return socketVerdict(target, error);
}
