import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, X509Certificate } from "node:crypto";
import { readFile, mkdir } from "node:fs/promises";
import { request } from "node:https";
import * as z from "zod";
import { ApiError, EnrolAnswer, RenewAnswer } from "../../shared/protocol/api.ts";
import { NodeName } from "../../shared/ids.ts";
import { writeDurably } from "../host/durable.ts";
import { ensureRecipient } from "../identity.ts";
import { Settings, authorityPath, certificatePath, keyPath, settingsPath } from "../settings.ts";
import type { Places } from "../settings.ts";

/**
 * How a machine becomes a node: it makes a key, shows the one-time token, and gets a certificate for its name. What it
 * will believe for good (the hub's CA, the signers, the first commit) comes in the command line, by the owner's hand, and
 * not from the hub.
 */

export interface EnrolOptions {
  readonly hub: string;
  readonly node: string;
  readonly token: string;
  /** `sha256:<hex>` of the CA's SubjectPublicKeyInfo. */
  readonly caPin: string;
  /** JSON list of signers, base64url. */
  readonly signers: string;
  readonly commit?: string;
  /** For a repository that is not the hub's own. */
  readonly gitUrl?: string;
}

export type Enrolled = { readonly ok: true; readonly settings: Settings; /** The node's age recipient; null when its key cannot be read. */ readonly recipient: string | null } | { readonly ok: false; readonly message: string };

const REQUEST_TIMEOUT_MS = 20_000;
const ANSWER_MAX_BYTES = 1024 * 1024;

export async function enrol(options: EnrolOptions, places: Places): Promise<Enrolled> {
  const node = NodeName.safeParse(options.node);
  if (!node.success) return { ok: false, message: `"${options.node}" is not a name for a node: ${node.error.issues[0]?.message ?? ""}` };
  const signers = readSigners(options.signers);
  if (signers === null) return { ok: false, message: "--signers cannot be read: copy the whole command that the hub printed" };
  const ca = await fetchAuthority(options.hub, options.caPin);
  if (!ca.ok) return ca;

  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const machineId = (await readFile("/etc/machine-id", "utf8")).trim();
  // Kept when it is there: what is encrypted to this machine stays readable when it is enrolled again.
  const recipient = await ensureRecipient(places);
  const answer = await call(EnrolAnswer, options.hub, "/api/v1/enrol", { ca: ca.pem }, {
    node: node.data,
    token: options.token,
    publicKey: publicKey.export({ type: "spki", format: "pem" }),
    proof: sign("sha256", Buffer.from(`evenkeel-enrol:${node.data}:${options.token}`), privateKey).toString("base64"),
    machineId,
    ...(recipient !== null && { recipient }),
  });
  if (!answer.ok) return answer;
  const settings = Settings.parse({
    v: 1,
    node: node.data,
    cluster: answer.value.cluster,
    hub: options.hub,
    broker: answer.value.broker,
    git: { url: options.gitUrl ?? answer.value.git, branch: answer.value.branch },
    signers,
    // Only what the owner brought along: a pin that came from the hub would be believed without a look at its signature.
    commit: options.commit ?? null,
  });
  await mkdir(places.settingsDir, { recursive: true, mode: 0o700 });
  await writeDurably(keyPath(places), privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  await writeDurably(certificatePath(places), answer.value.certificate, { mode: 0o644 });
  await writeDurably(authorityPath(places), ca.pem, { mode: 0o644 });
  // Last: its presence means that the enrolment is complete.
  await writeDurably(settingsPath(places), `${JSON.stringify(settings, null, 2)}\n`, { mode: 0o600 });
  return { ok: true, settings, recipient };
}

/** Due when a third of the certificate's life is left. */
export async function renewalDue(places: Places, nowMs: number): Promise<boolean> {
  const certificate = new X509Certificate(await readFile(certificatePath(places)));
  const [fromMs, toMs] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return nowMs > toMs - (toMs - fromMs) / 3;
}

export async function renew(settings: Settings, places: Places): Promise<{ ok: true } | { ok: false; message: string }> {
  if (settings.hub === null) return { ok: true };
  const [key, cert, ca] = await Promise.all([keyPath, certificatePath, authorityPath].map((path) => readFile(path(places), "utf8")));
  const publicKey = createPublicKey(createPrivateKey(key ?? "")).export({ type: "spki", format: "pem" });
  const answer = await call(RenewAnswer, settings.hub, "/api/v1/renew", { key: key ?? "", cert: cert ?? "", ca: ca ?? "" }, { publicKey });
  if (!answer.ok) return answer;
  await writeDurably(certificatePath(places), answer.value.certificate, { mode: 0o644 });
  return { ok: true };
}

function readSigners(encoded: string): unknown[] | null {
  try {
    const signers: unknown = JSON.parse(Buffer.from(encoded, "base64url").toString("utf8"));
    return Array.isArray(signers) && signers.length > 0 ? signers : null;
  } catch {
    return null;
  }
}

/** The hub's CA certificate, believed because its key has the fingerprint that the owner brought along. */
async function fetchAuthority(hub: string, pin: string): Promise<{ ok: true; pem: string } | { ok: false; message: string }> {
  // Whoever answers here may be anybody: the pin decides, and nothing secret is sent before it has.
  const answer = await send(hub, "/ca.pem", { rejectUnauthorized: false }, null);
  if (!answer.ok) return answer;
  try {
    const certificate = new X509Certificate(answer.body);
    const fingerprint = createHash("sha256").update(certificate.publicKey.export({ type: "spki", format: "der" })).digest("hex");
    if (`sha256:${fingerprint}` === pin.toLowerCase()) return { ok: true, pem: certificate.toString() };
    return { ok: false, message: `${hub} shows another CA (sha256:${fingerprint}) than the command pins. Either the hub was set up anew (run "evenkeel node add" again), or this is not your hub. Nothing was sent to it.` };
  } catch {
    return { ok: false, message: `${hub}/ca.pem is not a certificate. Is this the hub's address?` };
  }
}

async function call<Schema extends z.ZodType>(schema: Schema, hub: string, path: string, tls: object, body: object): Promise<{ ok: true; value: z.output<Schema> } | { ok: false; message: string }> {
  const answer = await send(hub, path, tls, JSON.stringify(body));
  if (!answer.ok) return answer;
  let json: unknown;
  try {
    json = JSON.parse(answer.body);
  } catch {
    return { ok: false, message: `${hub}${path} did not answer in JSON (status ${answer.status})` };
  }
  if (answer.status >= 300) {
    const error = ApiError.safeParse(json);
    return { ok: false, message: error.success ? error.data.error.message : `${hub}${path} answered with status ${answer.status}` };
  }
  const value = schema.safeParse(json);
  return value.success ? { ok: true, value: value.data } : { ok: false, message: `${hub}${path} answered something else than expected: is it of the same version? ${z.prettifyError(value.error)}` };
}

type Sent = { readonly ok: true; readonly status: number; readonly body: string } | { readonly ok: false; readonly message: string };

function send(hub: string, path: string, tls: object, body: string | null): Promise<Sent> {
  return new Promise((resolve) => {
    const headers = body === null ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const outgoing = request(new URL(path, hub), { method: body === null ? "GET" : "POST", headers, timeout: REQUEST_TIMEOUT_MS, agent: false, ...tls }, (answer) => {
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      answer.on("data", (chunk: Buffer) => {
        sizeBytes += chunk.length;
        if (sizeBytes > ANSWER_MAX_BYTES) outgoing.destroy(new Error("the answer is too large"));
        else chunks.push(chunk);
      });
      answer.on("end", () => resolve({ ok: true, status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }));
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer within ${REQUEST_TIMEOUT_MS / 1000} s`)));
    outgoing.on("error", (error) => resolve({ ok: false, message: `cannot reach the hub at ${hub}: ${error.message}. Is it running, and reachable from here?` }));
    outgoing.end(body ?? undefined);
  });
}

