import * as z from "zod";
import type { Clock } from "../../shared/clock.ts";
import { NodeName, type CommitId } from "../../shared/ids.ts";
import type { ClusterSummary, CommitSummary, NodeDetail, NodeSummary, StoredConverge } from "../../shared/protocol/api.ts";
import { ConvergeMessage, FactsMessage, StateMessage } from "../../shared/protocol/messages.ts";
import { ConvergeReport, PlanReport } from "../../shared/protocol/report.ts";
import type { PageChange, PageData } from "../page-data.ts";
import type { CommitRow, ArrivalRow } from "../store/commits.ts";
import type { NodeRow } from "../store/nodes.ts";
import type { ConvergeRow, NodeStateSummary } from "../store/reports.ts";
import type { Stores } from "../store/retention.ts";
import { isoTime } from "../system-clock.ts";
import type { Changes } from "./changes.ts";
import { conditionOf } from "./condition.ts";
import type { Presence } from "./presence.ts";

/** What the hub needs to know of the repository for people: its nodes at the main branch's tip. */
export interface DesiredNodes {
  nodes(): readonly DesiredNode[];
}
export interface DesiredNode {
  readonly name: string;
  readonly address: string | null;
  readonly roles: readonly string[];
  readonly fleetlock?: boolean;
}

const dayMs = 24 * 3_600_000;
const commitsShown = 100;
export const convergesShown = 50;

interface Known {
  readonly row: NodeRow | null;
  readonly desired: DesiredNode | null;
  readonly state: NodeStateSummary | null;
}

/** Puts together what pages and the API show, out of the database, the repository and who is connected. */
export class FleetView implements PageData {
  readonly #cluster: string;
  readonly #version: string;
  readonly #clock: Clock;
  readonly #stores: Stores;
  readonly #presence: Presence;
  readonly #desired: DesiredNodes;
  readonly #changes: Changes;

  constructor(parts: { cluster: string; version: string; clock: Clock; stores: Stores; presence: Presence; desired: DesiredNodes; changes: Changes }) {
    this.#cluster = parts.cluster;
    this.#version = parts.version;
    this.#clock = parts.clock;
    this.#stores = parts.stores;
    this.#presence = parts.presence;
    this.#desired = parts.desired;
    this.#changes = parts.changes;
  }

  async cluster(): Promise<ClusterSummary> {
    const [rows, states, repairs, head] = [
      await this.#stores.nodes.list(),
      await this.#stores.reports.states(),
      await this.#stores.reports.driftRepairs(this.#clock.nowMs() - dayMs),
      await this.#stores.commits.head(),
    ];
    const desired = new Map(this.#desired.nodes().map((node) => [node.name, node]));
    const byName = new Map(rows.map((row) => [row.name, row]));
    const names = [...new Set([...byName.keys(), ...desired.keys()])].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const nodes = names.map((name) =>
      this.#summary(name, { row: byName.get(name) ?? null, desired: desired.get(name) ?? null, state: states.get(name) ?? null }, repairs.get(name) ?? 0, head),
    );
    return {
      cluster: this.#cluster,
      head: head === null ? null : ((await this.#commitSummaries([head]))[0] ?? null),
      nodes,
      counts: {
        total: nodes.filter((node) => node.condition !== "guest").length,
        online: nodes.filter((node) => node.online).length,
        converged: nodes.filter((node) => node.condition === "converged").length,
      },
      hubVersion: this.#version,
    };
  }

  async node(name: string): Promise<NodeDetail | null> {
    const row = await this.#stores.nodes.get(name);
    const desired = this.#desired.nodes().find((node) => node.name === name) ?? null;
    if (row === null && desired === null) return null;
    const state = await this.#stores.reports.state(name);
    const repairs = await this.#stores.reports.driftRepairs(this.#clock.nowMs() - dayMs);
    const certificate = await this.#stores.nodes.newestCertificate(name);
    const facts = parseStored(FactsMessage, state?.facts);
    const plan = parseStored(PlanReport, state?.plan);
    return {
      ...this.#summary(name, { row, desired, state }, repairs.get(name) ?? 0, await this.#stores.commits.head()),
      facts: facts?.facts ?? {},
      certificate: certificate === null ? null : { serial: certificate.serial, notAfter: isoTime(certificate.notAfterMs) },
      enrolledAt: isoOrNull(row?.enrolledAtMs),
      lastPlan: plan === null || state?.planAtMs == null ? null : { receivedAt: isoTime(state.planAtMs), report: plan },
      converges: await this.converges(name, convergesShown),
    };
  }

  /** Fails when the database cannot be read. */
  async probe(): Promise<void> {
    await this.#stores.commits.head();
  }

  async commits(): Promise<CommitSummary[]> {
    return this.#commitSummaries(await this.#stores.commits.list(commitsShown));
  }

  async converge(id: number): Promise<StoredConverge | null> {
    const row = await this.#stores.reports.converge(id);
    return row === null ? null : storedConverge(row);
  }

  /** A node's history, newest first. */
  async converges(name: string, limit: number, beforeId?: number): Promise<StoredConverge[]> {
    const rows = await this.#stores.reports.converges(name, limit, beforeId);
    return rows.map(storedConverge).filter((report) => report !== null);
  }

  subscribe(listener: (change: PageChange) => void): () => void {
    return this.#changes.subscribe(listener);
  }

  #summary(name: string, { row, desired, state }: Known, driftRepairs24h: number, head: CommitRow | null): NodeSummary {
    const session = this.#presence.get(name as NodeName);
    const online = session?.online ?? false;
    const converge = parseStored(ConvergeMessage, state?.converge);
    const said = parseStored(StateMessage, state?.state);
    const lastSeenAt = isoOrNull(session?.lastSeenMs ?? row?.lastSeenAtMs);
    return {
      name: name as NodeName,
      address: desired?.address ?? null,
      roles: [...(desired?.roles ?? [])],
      ...conditionOf({
        name,
        inRepository: desired !== null,
        fleetlock: desired?.fleetlock ?? false,
        enrolledAt: isoOrNull(row?.enrolledAtMs),
        revokedAt: isoOrNull(row?.revokedAtMs),
        lastSeenAt,
        online,
        refusal: session?.refusal ?? state?.refusal ?? null,
        converge,
        head: head?.id ?? null,
      }),
      online,
      lastSeenAt,
      commit: converge?.commit ?? null,
      converge,
      agentVersion: said?.online === true ? said.agentVersion : null,
      recipient: said?.online === true ? (said.recipient ?? null) : null,
      driftRepairs24h,
    };
  }

  async #commitSummaries(rows: readonly CommitRow[]): Promise<CommitSummary[]> {
    const arrivals = await this.#stores.commits.arrivals(rows.map((row) => row.tip));
    return rows.map((row) => ({
      id: row.id as CommitId,
      subject: row.subject,
      author: row.author,
      signer: row.signer,
      pushedBy: row.pushedBy,
      pushedAt: isoTime(row.pushedAtMs),
      arrivals: (arrivals.get(row.tip) ?? []).map((arrival: ArrivalRow) => ({ node: arrival.node as NodeName, afterMs: arrival.afterMs, outcome: arrival.outcome })),
    }));
  }
}

function storedConverge(row: ConvergeRow): StoredConverge | null {
  const report = parseStored(ConvergeReport, row.report);
  return report === null ? null : { id: row.id, node: row.node as NodeName, receivedAt: isoTime(row.receivedAtMs), report };
}

/** What an older hub stored may no longer fit the schema: then it is left out rather than shown wrongly. */
function parseStored<Schema extends z.ZodType>(schema: Schema, body: string | null | undefined): z.output<Schema> | null {
  if (body === null || body === undefined) return null;
  const result = schema.safeParse(JSON.parse(body));
  return result.success ? result.data : null;
}

function isoOrNull(timeMs: number | null | undefined): string | null {
  return timeMs === null || timeMs === undefined ? null : isoTime(timeMs);
}
