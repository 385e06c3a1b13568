import { X509Certificate, createHash, createPublicKey, generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock, Timer } from "../../shared/clock.ts";
import { writeDurably } from "../durable-file.ts";
import type { Authority, Issued } from "./issue.ts";

/**
 * The hub's certificate authority: a P-256 key in the data directory, made at the first start, and the hub's own
 * certificate, which is made anew before it runs out and whenever the names in the settings change.
 */

const dayMs = 24 * 3_600_000;
/** Everything enrolled hangs on this certificate: it outlives the machines. */
const authorityLifetimeMs = 20 * 365 * dayMs;
const renewalCheckMs = 3_600_000;

export interface ServerIdentity {
  readonly key: string;
  readonly cert: string;
}

export interface Pki {
  readonly caPem: string;
  /** `sha256:` and the hex SHA-256 of the authority's SubjectPublicKeyInfo: what a new machine is told to expect. */
  readonly pin: string;
  /** The hub's current certificate and key. */
  server(): ServerIdentity;
  /** Calls back whenever {@link Pki.server} has changed. */
  onServerRenewed(listener: (identity: ServerIdentity) => void): void;
  issueNodeCertificate(node: string, publicKeyPem: string): Promise<Issued>;
  stop(): void;
}

export interface PkiOptions {
  readonly directory: string;
  /** Names and addresses for the hub's certificate; the first is its common name. */
  readonly hosts: readonly string[];
  readonly serverLifetimeMs: number;
  readonly nodeLifetimeMs: number;
  readonly clock: Clock;
}

export async function openPki(options: PkiOptions): Promise<Pki> {
  const { clock } = options;
  const authority = await openAuthority(options);
  const listeners: ((identity: ServerIdentity) => void)[] = [];
  let server = await openServer(options, authority);
  let timer: Timer;

  const check = async (): Promise<void> => {
    if (needsRenewal(server.cert, options)) {
      server = await makeServer(options, authority);
      for (const listener of listeners) listener(server);
    }
  };
  const schedule = (): void => {
    timer = clock.after(Math.min(renewalCheckMs, Math.max(1_000, options.serverLifetimeMs / 10)), () => void check().finally(schedule));
  };
  schedule();

  return {
    caPem: authority.certificatePem,
    pin: pinOf(authority.certificatePem),
    server: () => server,
    onServerRenewed: (listener) => void listeners.push(listener),
    async issueNodeCertificate(node, publicKeyPem) {
      const { issueNode } = await import("./issue.ts");
      return issueNode(authority, publicKeyPem, node, { nowMs: clock.nowMs(), lifetimeMs: options.nodeLifetimeMs });
    },
    stop: () => timer.cancel(),
  };
}

/** The pin of a certificate in PEM: `sha256:` and the hex SHA-256 of its SubjectPublicKeyInfo. */
export function pinOf(certificatePem: string): string {
  const spki = new X509Certificate(certificatePem).publicKey.export({ type: "spki", format: "der" });
  return `sha256:${createHash("sha256").update(spki).digest("hex")}`;
}

/** A serial number as the database has it, from what OpenSSL prints. */
export function serialOf(printed: string): string {
  return printed.toLowerCase().replace(/^0+/, "");
}

/** Whether a PEM is the SubjectPublicKeyInfo of a P-256 key. */
export function isP256PublicKey(pem: string): boolean {
  try {
    const key = createPublicKey(pem);
    return pem.includes("BEGIN PUBLIC KEY") && key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1";
  } catch {
    return false;
  }
}

async function openAuthority({ directory, clock }: PkiOptions): Promise<Authority> {
  const keyPath = join(directory, "ca.key");
  const certificatePath = join(directory, "ca.pem");
  // The key first: a crash in between costs the certificate only, and the new one has the same pin.
  if (!existsSync(keyPath)) writeDurably(keyPath, newKeyPem(), 0o600);
  const keyPem = readFileSync(keyPath, "utf8");
  if (!existsSync(certificatePath)) {
    const { issueAuthority } = await import("./issue.ts");
    const issued = await issueAuthority(keyPem, { nowMs: clock.nowMs(), lifetimeMs: authorityLifetimeMs });
    writeDurably(certificatePath, issued.pem, 0o644);
  }
  return { keyPem, certificatePem: readFileSync(certificatePath, "utf8") };
}

async function openServer(options: PkiOptions, authority: Authority): Promise<ServerIdentity> {
  const keyPath = join(options.directory, "server.key");
  const certificatePath = join(options.directory, "server.pem");
  if (existsSync(keyPath) && existsSync(certificatePath)) {
    const found = { key: readFileSync(keyPath, "utf8"), cert: readFileSync(certificatePath, "utf8") };
    if (fits(found, authority) && !needsRenewal(found.cert, options)) return found;
  }
  return makeServer(options, authority);
}

async function makeServer(options: PkiOptions, authority: Authority): Promise<ServerIdentity> {
  const { issueServer } = await import("./issue.ts");
  const key = newKeyPem();
  const lifetime = { nowMs: options.clock.nowMs(), lifetimeMs: options.serverLifetimeMs };
  const { pem } = await issueServer(authority, key, options.hosts, lifetime);
  writeDurably(join(options.directory, "server.key"), key, 0o600);
  writeDurably(join(options.directory, "server.pem"), pem, 0o644);
  return { key, cert: pem };
}

/** After a crash between the two files, key and certificate do not belong together. */
function fits({ key, cert }: ServerIdentity, authority: Authority): boolean {
  const certificate = new X509Certificate(cert);
  const publicPem = createPublicKey(key).export({ type: "spki", format: "pem" });
  const same = certificate.publicKey.export({ type: "spki", format: "pem" }) === publicPem;
  return same && certificate.verify(new X509Certificate(authority.certificatePem).publicKey);
}

function needsRenewal(certificatePem: string, { hosts, clock, serverLifetimeMs }: PkiOptions): boolean {
  const certificate = new X509Certificate(certificatePem);
  const missing = hosts.some((host) => certificate.checkHost(host) === undefined && certificate.checkIP(host) === undefined);
  return missing || certificate.validToDate.getTime() - clock.nowMs() < serverLifetimeMs / 3;
}

function newKeyPem(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "pkcs8", format: "pem" });
}
