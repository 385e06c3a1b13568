import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { Changes } from "../fleet/changes.ts";
import { Enrolment } from "../fleet/enrolment.ts";
import { Orders } from "../fleet/orders.ts";
import { Presence } from "../fleet/presence.ts";
import { FleetView } from "../fleet/view.ts";
import { openPki, type Pki } from "../pki/authority.ts";
import { getRequestListener } from "@hono/node-server";
import { hashOf } from "../secret.ts";
import { AccessStore } from "../store/access.ts";
import { CommitStore } from "../store/commits.ts";
import { openDatabase, type Database } from "../store/database.ts";
import { NodeStore } from "../store/nodes.ts";
import { ReportStore } from "../store/reports.ts";
import { systemClock } from "../system-clock.ts";
import { hubApp } from "./app.ts";
import { Gate } from "./caller.ts";
import { CoordinationTwin } from "./coordination-twin.ts";
import { LoginLimiter } from "./limiter.ts";
import type { PreviewDesk } from "./preview-routes.ts";
import { servePlain, type WebServer } from "./servers.ts";

/** The hub's web application on a real socket of the loopback with a real database, before a coordinator in memory: for tests. */

const yearMs = 365 * 24 * 3_600_000;
const tokens = [["admin", "admin"], ["reader", "read"], ["coreos", "fleetlock"]] as const;

export interface TwinAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- looked into by the expectations of a test and by nothing else
  json(): any;
}

export class TwinHub {
  readonly coordination: CoordinationTwin;
  readonly directory = mkdtempSync(join(tmpdir(), "ek-twin-"));
  #database: Database | null = null;
  #pki: Pki | null = null;
  #server: WebServer | null = null;
  #port = 0;

  constructor(coordination = new CoordinationTwin()) {
    this.coordination = coordination;
  }

  /** The token of each role is its name and `-token`. */
  async start(): Promise<void> {
    const clock = systemClock;
    const log = pino({ level: "silent" });
    const database = (this.#database ??= await openDatabase(join(this.directory, "hub.db"), join(import.meta.dirname, "..", "store", "migrations")));
    const pki = (this.#pki ??= await openPki({ directory: this.directory, hosts: ["127.0.0.1"], serverLifetimeMs: yearMs, nodeLifetimeMs: yearMs, clock }));
    const stores = { nodes: new NodeStore(database), reports: new ReportStore(database), commits: new CommitStore(database), access: new AccessStore(database) };
    for (const [name, role] of tokens) await stores.access.putToken(name, hashOf(`${name}-token`), role, clock.nowMs());
    const changes = new Changes();
    const presence = new Presence();
    const desired = { nodes: () => this.coordination.nodes.map((name) => ({ name, address: null, roles: [] })) };
    const view = new FleetView({ cluster: "twin", version: "0.0.0", clock, stores, presence, desired, changes });
    const orders = new Orders({ clock, presence, send: () => {}, planTimeoutMs: 1_000 });
    const addresses = { https: this.url, git: `${this.url}/cluster.git`, broker: { host: "127.0.0.1", port: 1 } };
    const enrolment = new Enrolment({ clock, stores, pki, cluster: "twin", branch: "main", tokenLifetimeMs: yearMs, addresses: () => addresses, pins: { pins: () => null }, endSessions: () => {} });
    const gate = new Gate({ clock, access: stores.access, limiter: new LoginLimiter(clock), cookieName: "twin", behindProxy: false, certificateIsGood: async () => false, log });
    const app = hubApp({ view, orders, enrolment, gate, access: stores.access, coordination: this.coordination, previews: noPreviews, version: "0.0.0", changes, clock, caPem: pki.caPem, stopped: new AbortController().signal, log });
    const web = getRequestListener(app.fetch);
    this.#server = await servePlain({ host: "127.0.0.1", port: this.#port }, (incoming, outgoing) => void web(incoming, outgoing));
    this.#port = this.#server.address.port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** Away, until it is started again at the same address. */
  async stop(): Promise<void> {
    await this.#server?.stop();
    this.#server = null;
  }

  async end(): Promise<void> {
    await this.stop();
    this.#pki?.stop();
    this.#database?.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  api(method: string, path: string, options: { readonly body?: unknown; readonly token?: string | null } = {}): Promise<TwinAnswer> {
    const token = options.token === undefined ? "admin-token" : options.token;
    const headers: Record<string, string> = { ...(options.body !== undefined && { "content-type": "application/json" }), ...(token !== null && { authorization: `Bearer ${token}` }) };
    return new Promise((resolve, reject) => {
      const outgoing = request(`${this.url}/api/v1${path}`, { method, headers, agent: false }, (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.on("end", () => {
          const body = Buffer.concat(chunks).toString("utf8");
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body, json: () => JSON.parse(body) });
        });
      });
      outgoing.on("error", reject);
      outgoing.end(options.body === undefined ? undefined : JSON.stringify(options.body));
    });
  }
}

/** Who wants previews takes a real hub: `hub/trial.ts`. */
const noPreviews: PreviewDesk = {
  list: async () => [],
  view: async () => null,
  request: async ({ branch }) => ({ ok: false, status: 404, code: "branch-unknown", message: `there is no branch ${branch}` }),
  remove: async () => false,
};
