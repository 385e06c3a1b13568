import type { IncomingMessage } from "node:http";
import { TLSSocket } from "node:tls";
import type { Logger } from "pino";
import type { Clock } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import { serialOf } from "../pki/authority.ts";
import { hashOf, newToken } from "../secret.ts";
import type { AccessStore, Person, Role } from "../store/access.ts";
import { isoTime } from "../system-clock.ts";
import type { LoginLimiter } from "./limiter.ts";

/** Who is asking: a person with a token or a session, a node with its certificate, or nobody. */
export type Caller =
  | { readonly kind: "person"; readonly name: string; readonly role: Role; readonly via: "token" | "session" }
  | { readonly kind: "node"; readonly node: NodeName; readonly publicKeyPem: string }
  | { readonly kind: "nobody" }
  | { readonly kind: "refused"; readonly status: 401 | 429; readonly code: string; readonly message: string; readonly retryAfterS: number };

export type LoginAnswer = { readonly ok: true; readonly cookie: string } | { readonly ok: false; readonly status: 401 | 429; readonly message: string; readonly retryAfterS: number };

const sessionLifetimeMs = 30 * 24 * 3_600_000;
const linkLifetimeMs = 24 * 3_600_000;
const linksMax = 100;
const tokenMaxChars = 256;

export interface GateParts {
  readonly clock: Clock;
  readonly access: AccessStore;
  readonly limiter: LoginLimiter;
  readonly cookieName: string;
  readonly behindProxy: boolean;
  readonly certificateIsGood: (node: NodeName, serial: string) => Promise<boolean>;
  readonly log: Logger;
}

/** Knows tokens, sessions, login links and certificates. */
export class Gate {
  readonly #parts: GateParts;
  /** One-time keys of login links, by hash, with their end and whom they let in. */
  readonly #links = new Map<string, { readonly expiresAtMs: number; readonly person: Person }>();
  /** Open connections that showed a node's certificate, to be closed with the node. */
  readonly #sockets = new Map<NodeName, Set<TLSSocket>>();

  constructor(parts: GateParts) {
    this.#parts = parts;
  }

  async callerOf(incoming: IncomingMessage): Promise<Caller> {
    const token = tokenOf(incoming.headers.authorization);
    if (token !== null) {
      const person = token.length > tokenMaxChars ? null : await this.#parts.access.tokenOwner(hashOf(token));
      return person === null ? this.failure(incoming) : { kind: "person", ...person, via: "token" };
    }
    const node = await this.#nodeOf(incoming);
    if (node !== null) return node;
    const session = this.sessionOf(incoming);
    if (session !== null) {
      const person = await this.#parts.access.sessionOwner(hashOf(session), this.#parts.clock.nowMs());
      if (person !== null) return { kind: "person", ...person, via: "session" };
    }
    return { kind: "nobody" };
  }

  /** A token from the login form becomes a session. */
  async login(token: string, incoming: IncomingMessage): Promise<LoginAnswer> {
    const person = token === "" || token.length > tokenMaxChars ? null : await this.#parts.access.tokenOwner(hashOf(token));
    if (person === null) {
      const { status, message, retryAfterS } = await this.failure(incoming);
      return { ok: false, status, message, retryAfterS };
    }
    return { ok: true, cookie: await this.#startSession(person, incoming) };
  }

  /** A one-time key from a login link becomes a session. */
  async loginByLink(key: string, incoming: IncomingMessage): Promise<LoginAnswer> {
    const hash = hashOf(key.slice(0, tokenMaxChars));
    const link = this.#links.get(hash);
    this.#links.delete(hash);
    if (link === undefined || link.expiresAtMs <= this.#parts.clock.nowMs()) {
      const { status, retryAfterS } = await this.failure(incoming);
      return { ok: false, status, message: "This login link has been used already, or is too old. Log in with a token, or make a new link with: evenkeel login-link", retryAfterS };
    }
    return { ok: true, cookie: await this.#startSession(link.person, incoming) };
  }

  /** A key that opens one session, once, within a day. */
  makeLink(person: Person): string {
    if (this.#links.size >= linksMax) this.#links.delete(this.#links.keys().next().value ?? "");
    const key = newToken();
    this.#links.set(hashOf(key), { expiresAtMs: this.#parts.clock.nowMs() + linkLifetimeMs, person });
    return key;
  }

  async logout(incoming: IncomingMessage): Promise<string> {
    const session = this.sessionOf(incoming);
    if (session !== null) await this.#parts.access.endSession(hashOf(session));
    return `${this.#parts.cookieName}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`;
  }

  sessionOf(incoming: IncomingMessage): string | null {
    for (const part of (incoming.headers.cookie ?? "").split(";")) {
      const [name, value] = part.trim().split("=", 2);
      if (name === this.#parts.cookieName && value !== undefined && value.length <= tokenMaxChars) return value;
    }
    return null;
  }

  /** Closes the connections of a node that may not go on. */
  endNode(node: NodeName): void {
    for (const socket of this.#sockets.get(node) ?? []) socket.destroy();
  }

  /** The address to count failures by. Behind a proxy it is the one that the proxy itself has seen: the last of the list. */
  addressOf(incoming: IncomingMessage): string {
    const direct = incoming.socket.remoteAddress ?? "";
    if (!this.#parts.behindProxy || incoming.socket instanceof TLSSocket) return direct;
    const forwarded = String(incoming.headers["x-forwarded-for"] ?? "").split(",").at(-1)?.trim() ?? "";
    return forwarded === "" ? direct : forwarded.slice(0, 64);
  }

  async #nodeOf(incoming: IncomingMessage): Promise<Caller | null> {
    const socket = incoming.socket;
    if (!(socket instanceof TLSSocket)) return null;
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return null;
    if (!socket.authorized) {
      const why = String(socket.authorizationError);
      const message = why.includes("EXPIRED") ? `this node's certificate ran out at ${isoTime(certificate.validToDate.getTime())}` : `this hub does not accept the certificate (${why})`;
      return { kind: "refused", status: 401, code: "certificate-invalid", message: `${message}: run \`evenkeel node add NAME\`, and enrol the machine again`, retryAfterS: 0 };
    }
    const name = NodeName.safeParse(socket.getPeerCertificate().subject?.CN);
    if (!name.success || !(await this.#parts.certificateIsGood(name.data, serialOf(certificate.serialNumber)))) {
      return { kind: "refused", status: 401, code: "certificate-revoked", message: "this certificate has been revoked or replaced: run `evenkeel node add NAME`, and enrol the machine again", retryAfterS: 0 };
    }
    this.#remember(name.data, socket);
    return { kind: "node", node: name.data, publicKeyPem: certificate.publicKey.export({ type: "spki", format: "pem" }) };
  }

  #remember(node: NodeName, socket: TLSSocket): void {
    const sockets = this.#sockets.get(node) ?? new Set();
    this.#sockets.set(node, sockets);
    if (sockets.has(socket)) return;
    sockets.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      if (sockets.size === 0 && this.#sockets.get(node) === sockets) this.#sockets.delete(node);
    });
  }

  /** Counts a wrong token, of whatever sort, and says how to answer it. */
  async failure(incoming: IncomingMessage): Promise<Extract<Caller, { kind: "refused" }>> {
    const address = this.addressOf(incoming);
    const { retryAfterS, note } = this.#parts.limiter.failed(address);
    if (note) {
      this.#parts.log.warn({ address, failures: this.#parts.limiter.failures }, "a login failed");
      await this.#parts.access.note({ atMs: this.#parts.clock.nowMs(), actor: address, action: "login-failed", subject: "", detail: `${this.#parts.limiter.failures} since the start of the hub` });
    }
    const wrong = "the hub does not know this token";
    return retryAfterS === 0
      ? { kind: "refused", status: 401, code: "token-wrong", message: `${wrong}: the first one is in admin.token in the hub's data directory`, retryAfterS }
      : { kind: "refused", status: 429, code: "too-many-failures", message: `${wrong}, and too many were tried from this address: wait ${retryAfterS} s`, retryAfterS };
  }

  async #startSession(person: Person, incoming: IncomingMessage): Promise<string> {
    const { clock, access, cookieName, behindProxy } = this.#parts;
    const session = newToken();
    const nowMs = clock.nowMs();
    await access.addSession(hashOf(session), person, nowMs, nowMs + sessionLifetimeMs);
    await access.note({ atMs: nowMs, actor: person.name, action: "login", subject: person.name, detail: this.addressOf(incoming) });
    const secure = behindProxy || incoming.socket instanceof TLSSocket ? "; Secure" : "";
    return `${cookieName}=${session}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${sessionLifetimeMs / 1_000}${secure}`;
  }
}

/** `Bearer TOKEN`, or the password of `Basic`, as git sends it (RFC 6750, RFC 7617). */
export function tokenOf(authorization: string | undefined): string | null {
  const [scheme = "", value = ""] = (authorization ?? "").split(" ", 2);
  if (/^bearer$/i.test(scheme)) return value === "" ? null : value;
  if (!/^basic$/i.test(scheme)) return null;
  const decoded = Buffer.from(value, "base64").toString("utf8");
  const colon = decoded.indexOf(":");
  const password = colon === -1 ? "" : decoded.slice(colon + 1);
  // People who paste a URL like https://TOKEN@hub/cluster.git send it as the user's name.
  return password !== "" ? password : colon > 0 ? decoded.slice(0, colon) : null;
}
