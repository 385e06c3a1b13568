import { createPublicKey, createVerify } from "node:crypto";
import type { Clock } from "../../shared/clock.ts";
import type { CommitId, NodeName } from "../../shared/ids.ts";
import type { EnrolAnswer, EnrolRequest, NodeAddAnswer, RenewAnswer } from "../../shared/protocol/api.ts";
import { isP256PublicKey, type Pki } from "../pki/authority.ts";
import { hashOf, newToken } from "../secret.ts";
import type { Stores } from "../store/retention.ts";
import { isoTime } from "../system-clock.ts";
import { cloneMessage } from "./inbox.ts";

/** How nodes come in, stay in and are put out. */

export interface Refusal {
  readonly ok: false;
  readonly status: 400 | 403 | 404 | 409;
  readonly code: string;
  readonly message: string;
}

/** Where nodes find the hub, known once its servers listen. */
export interface Addresses {
  readonly https: string;
  readonly git: string;
  readonly broker: { readonly host: string; readonly port: number };
}

/** What a new node is told to trust: by the owner's hand, in the command, so that the hub cannot give it other signers later. */
export interface RepositoryPins {
  /** The commit and its cluster.yaml's `signers`, as JSON; null when the repository is empty. */
  pins(): { readonly commit: string; readonly signersJson: string } | null;
}

export class Enrolment {
  readonly #clock: Clock;
  readonly #stores: Stores;
  readonly #pki: Pki;
  readonly #options: { readonly cluster: string; readonly branch: string; readonly tokenLifetimeMs: number };
  readonly #addresses: () => Addresses;
  readonly #pins: RepositoryPins;
  readonly #endSessions: (node: NodeName) => void;
  /** Tokens in the middle of being spent: a second request with the same one has to lose. */
  readonly #spending = new Set<string>();

  constructor(parts: {
    clock: Clock;
    stores: Stores;
    pki: Pki;
    cluster: string;
    branch: string;
    tokenLifetimeMs: number;
    addresses: () => Addresses;
    pins: RepositoryPins;
    endSessions: (node: NodeName) => void;
  }) {
    this.#clock = parts.clock;
    this.#stores = parts.stores;
    this.#pki = parts.pki;
    this.#options = parts;
    this.#addresses = parts.addresses;
    this.#pins = parts.pins;
    this.#endSessions = parts.endSessions;
  }

  /** Makes a one-time token for that name. A node that is enrolled keeps working until the new machine has come in. */
  async add(node: NodeName, actor: string): Promise<{ readonly ok: true; readonly answer: NodeAddAnswer } | Refusal> {
    const pins = this.#pins.pins();
    if (pins === null) {
      return refusal(409, "repository-empty", "the cluster repository is empty, and the command for a new machine has to carry its signers: make one (`evenkeel init DIR`), push it, and add the node then");
    }
    const token = newToken();
    const nowMs = this.#clock.nowMs();
    const expiresAtMs = nowMs + this.#options.tokenLifetimeMs;
    await this.#stores.nodes.addToken(node, hashOf(token), nowMs, expiresAtMs);
    await this.#stores.access.note({ atMs: nowMs, actor, action: "node-add", subject: node });
    const signers = Buffer.from(pins.signersJson).toString("base64url");
    const command = `evenkeel-agent enrol --hub ${this.#addresses().https} --node ${node} --token ${token} --ca-pin ${this.#pki.pin} --signers ${signers} --commit ${pins.commit}`;
    return { ok: true, answer: { node, token, expiresAt: isoTime(expiresAtMs), command } };
  }

  async enrol(request: EnrolRequest): Promise<{ readonly ok: true; readonly answer: EnrolAnswer } | Refusal> {
    const hash = hashOf(request.token);
    if (this.#spending.has(hash)) return refusal(403, "token-used", usedMessage(request.node));
    this.#spending.add(hash);
    try {
      return await this.#enrol(request, hash);
    } finally {
      this.#spending.delete(hash);
    }
  }

  async #enrol(request: EnrolRequest, hash: string): Promise<{ readonly ok: true; readonly answer: EnrolAnswer } | Refusal> {
    const nowMs = this.#clock.nowMs();
    const token = await this.#stores.nodes.token(hash);
    if (token === null) {
      return refusal(403, "token-unknown", `the hub does not know this enrolment token: run \`evenkeel node add ${request.node}\` and use the command that it prints (a newer token ends the older one)`);
    }
    if (token.node !== request.node) return refusal(403, "token-foreign", `this enrolment token is for another node, not for ${request.node}: run \`evenkeel node add ${request.node}\``);
    if (token.usedAtMs !== null) return refusal(403, "token-used", usedMessage(request.node));
    if (token.expiresAtMs <= nowMs) {
      return refusal(403, "token-expired", `this enrolment token expired at ${isoTime(token.expiresAtMs)}: run \`evenkeel node add ${request.node}\` again`);
    }
    if (!isP256PublicKey(request.publicKey)) return refusal(400, "key-unfit", "publicKey must be the SubjectPublicKeyInfo of a P-256 key in PEM");
    if (!proofHolds(request)) return refusal(400, "proof-invalid", "the proof does not fit publicKey: the node must sign `evenkeel-enrol:<node>:<token>` with the key that it sends");
    const twin = await this.#stores.nodes.twinOf(request.node, request.machineId);
    if (twin !== null) return refusal(409, "machine-id-taken", cloneMessage(request.node, twin));

    const certificate = await this.#pki.issueNodeCertificate(request.node, request.publicKey);
    await this.#stores.nodes.enrolled(request.node, hash, request.machineId, { serial: certificate.serial, notAfterMs: certificate.notAfterMs }, nowMs);
    await this.#stores.access.note({ atMs: nowMs, actor: request.node, action: "enrol", subject: request.node, detail: `serial ${certificate.serial}, machine-id ${request.machineId}${request.recipient === undefined ? "" : `, recipient ${request.recipient}`}` });
    // Whoever still speaks under this name does so with a certificate that has just ended.
    this.#endSessions(request.node);
    const addresses = this.#addresses();
    return {
      ok: true,
      answer: {
        cluster: this.#options.cluster,
        certificate: certificate.pem,
        ca: this.#pki.caPem,
        broker: addresses.broker,
        git: addresses.git,
        branch: this.#options.branch,
        mark: ((await this.#stores.nodes.get(request.node))?.mark ?? null) as CommitId | null,
      },
    };
  }

  /** Another period for the key that the node has just proved to hold by its connection. */
  async renew(node: NodeName, publicKeyPem: string): Promise<RenewAnswer> {
    const nowMs = this.#clock.nowMs();
    const certificate = await this.#pki.issueNodeCertificate(node, publicKeyPem);
    await this.#stores.nodes.addCertificate(node, { serial: certificate.serial, notAfterMs: certificate.notAfterMs }, nowMs);
    await this.#stores.access.note({ atMs: nowMs, actor: node, action: "renew", subject: node, detail: `serial ${certificate.serial}` });
    return { certificate: certificate.pem, ca: this.#pki.caPem };
  }

  /** Ends a node at once: nothing that it holds is accepted any more, and its connections are closed. */
  async revoke(node: NodeName, actor: string): Promise<{ readonly ok: true } | Refusal> {
    const nowMs = this.#clock.nowMs();
    if (!(await this.#stores.nodes.revoke(node, nowMs))) return refusal(404, "node-unknown", `there is no node ${node}: \`evenkeel node list\` shows them`);
    this.#endSessions(node);
    await this.#stores.access.note({ atMs: nowMs, actor, action: "node-revoke", subject: node });
    return { ok: true };
  }
}

function proofHolds({ node, token, publicKey, proof }: EnrolRequest): boolean {
  const verify = createVerify("sha256").update(`evenkeel-enrol:${node}:${token}`);
  return verify.verify(createPublicKey(publicKey), Buffer.from(proof, "base64"));
}

function usedMessage(node: string): string {
  return `this enrolment token has been used already; each is good for one machine: run \`evenkeel node add ${node}\` again`;
}

function refusal(status: Refusal["status"], code: string, message: string): Refusal {
  return { ok: false, status, code, message };
}
