import "./reflect.ts";
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";

/**
 * Makes X.509 certificates (RFC 5280), all with P-256 keys and ECDSA-SHA256. Imported when one has to be issued, because
 * loading the library takes a quarter of a second and 30 MB that a hub at rest does not need (measured on Node 26).
 */

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const serverAuth = "1.3.6.1.5.5.7.3.1";
const clientAuth = "1.3.6.1.5.5.7.3.2";
/** Certificates are valid from a day before they are made, for nodes whose clock is behind. */
const backdatedMs = 24 * 3_600_000;

export interface Issued {
  readonly pem: string;
  /** Lower-case hex without leading zeros, as {@link serialOf} reads it from a connection. */
  readonly serial: string;
  readonly notAfterMs: number;
}

interface Lifetime {
  readonly nowMs: number;
  readonly lifetimeMs: number;
}

/** A self-signed authority's certificate for a private key in PKCS #8 PEM. */
export async function issueAuthority(keyPem: string, lifetime: Lifetime): Promise<Issued> {
  const keys = { privateKey: await privateKeyOf(keyPem), publicKey: await publicKeyOf(publicPemOf(keyPem)) };
  const term = termOf(lifetime);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...term,
    name: "CN=Evenkeel hub CA",
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { pem: withNewline(certificate.toString("pem")), serial: term.serialNumber, notAfterMs: term.notAfter.getTime() };
}

export interface Authority {
  readonly keyPem: string;
  readonly certificatePem: string;
}

/** The hub's own certificate, for the names and addresses that nodes and people use. */
export async function issueServer(authority: Authority, keyPem: string, hosts: readonly string[], lifetime: Lifetime): Promise<Issued> {
  const alternatives = hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host }));
  return issue(authority, publicPemOf(keyPem), hosts[0] ?? "evenkeel", serverAuth, lifetime, [
    new x509.SubjectAlternativeNameExtension(alternatives, false),
  ]);
}

/** A node's certificate: its common name is the node's name, and it is good for nothing but being a client. */
export async function issueNode(authority: Authority, publicKeyPem: string, node: string, lifetime: Lifetime): Promise<Issued> {
  return issue(authority, publicKeyPem, node, clientAuth, lifetime, []);
}

async function issue(
  authority: Authority,
  publicKeyPem: string,
  commonName: string,
  usage: string,
  lifetime: Lifetime,
  more: readonly x509.Extension[],
): Promise<Issued> {
  const issuer = new x509.X509Certificate(authority.certificatePem);
  const publicKey = await publicKeyOf(publicKeyPem);
  const term = termOf(lifetime);
  const certificate = await x509.X509CertificateGenerator.create({
    ...term,
    subject: [{ CN: [commonName] }],
    issuer: issuer.subject,
    publicKey,
    signingKey: await privateKeyOf(authority.keyPem),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage], false),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...more,
    ],
  });
  return { pem: withNewline(certificate.toString("pem")), serial: term.serialNumber, notAfterMs: term.notAfter.getTime() };
}

function termOf({ nowMs, lifetimeMs }: Lifetime): { serialNumber: string; notBefore: Date; notAfter: Date } {
  // RFC 5280, 4.1.2.2: positive, at most 20 octets. The first octet is fixed so that no tool adds or drops a zero.
  const serialNumber = `4e${randomBytes(15).toString("hex")}`;
  const notAfter = new Date(Math.floor((nowMs + lifetimeMs) / 1_000) * 1_000);
  return { serialNumber, notBefore: new Date(nowMs - backdatedMs), notAfter };
}

function publicPemOf(privatePem: string): string {
  return createPublicKey(createPrivateKey(privatePem)).export({ type: "spki", format: "pem" });
}

async function privateKeyOf(pem: string): Promise<CryptoKey> {
  const der = createPrivateKey(pem).export({ type: "pkcs8", format: "der" });
  return crypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
}

async function publicKeyOf(pem: string): Promise<CryptoKey> {
  const der = createPublicKey(pem).export({ type: "spki", format: "der" });
  return crypto.subtle.importKey("spki", der, algorithm, true, ["verify"]);
}

function withNewline(pem: string): string {
  return pem.endsWith("\n") ? pem : `${pem}\n`;
}
