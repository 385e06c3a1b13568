import { asc } from "drizzle-orm";
import type { NodeName } from "../../shared/ids.ts";
import type { CoordinatorStore, Outgoing } from "../coordinator/run.ts";
import type { Durable, Effect } from "../coordinator/state.ts";
import { emptyState } from "../coordinator/state.ts";
import type { Campaigns } from "../rollout/campaigns.ts";
import { noCampaigns } from "../rollout/campaigns.ts";
import type { Database } from "./database.ts";
import { coordination, coordinationOutbox } from "./schema.ts";

/**
 * The coordinator's state in the hub's database. What changed is found by identity: a step copies only the maps that it
 * writes to, and keeps every value that it does not change.
 */
export class CoordinationStore implements CoordinatorStore<Campaigns> {
  readonly #database: Database;
  #position = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  async load(): Promise<{ durable: Durable; extra: Campaigns; outbox: readonly Outgoing[] }> {
    const { tables } = this.#database;
    const rows = await tables.select().from(coordination).orderBy(asc(coordination.position));
    const outbox = await tables.select().from(coordinationOutbox).orderBy(asc(coordinationOutbox.position));
    this.#position = rows.reduce((most, { position }) => Math.max(most, position), 0);
    const mapOf = <K, V>(kind: string): ReadonlyMap<K, V> => new Map(rows.filter((row) => row.kind === kind).map((row) => [row.id as K, JSON.parse(row.body) as V]));
    const meta = mapOf<string, Pick<Durable, "epoch" | "commit"> & Pick<Campaigns, "lastOpeningMs"> & Partial<Pick<Campaigns, "released">>>("meta").get("meta");
    const empty = emptyState().durable;
    return {
      durable: {
        epoch: meta?.epoch ?? empty.epoch,
        commit: meta?.commit ?? empty.commit,
        members: mapOf("member"),
        groups: mapOf("group"),
        requests: mapOf("request"),
        leases: mapOf("lease"),
        ended: mapOf("ended"),
        holds: mapOf("hold"),
      },
      extra: { ...noCampaigns, lastOpeningMs: meta?.lastOpeningMs ?? null, released: meta?.released ?? null, rollouts: mapOf("rollout"), durations: mapOf<NodeName, number>("duration") },
      outbox: outbox.map(({ id, body }) => ({ id, effect: JSON.parse(body) as Effect })),
    };
  }

  async commit({ before, after, extraBefore, extraAfter, outgoing, sent }: Parameters<CoordinatorStore<Campaigns>["commit"]>[0]): Promise<void> {
    const statements: { sql: string; args: (string | number)[] }[] = [];
    const put = (kind: string, id: string, body: unknown): void => {
      // A thing keeps its place when it changes.
      statements.push({
        sql: "INSERT INTO coordination (kind, id, position, body) VALUES (?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
        args: [kind, id, ++this.#position, JSON.stringify(body)],
      });
    };
    const compare = <K extends string, V>(kind: string, old: ReadonlyMap<K, V>, now: ReadonlyMap<K, V>): void => {
      if (old === now) return;
      for (const [id, value] of now) if (old.get(id) !== value) put(kind, id, value);
      for (const id of old.keys()) if (!now.has(id)) statements.push({ sql: "DELETE FROM coordination WHERE kind = ? AND id = ?", args: [kind, id] });
    };
    if (before.epoch !== after.epoch || before.commit !== after.commit || extraBefore.lastOpeningMs !== extraAfter.lastOpeningMs || extraBefore.released !== extraAfter.released) {
      put("meta", "meta", { epoch: after.epoch, commit: after.commit, lastOpeningMs: extraAfter.lastOpeningMs, released: extraAfter.released });
    }
    compare("member", before.members, after.members);
    compare("group", before.groups, after.groups);
    compare("request", before.requests, after.requests);
    compare("lease", before.leases, after.leases);
    compare("ended", before.ended, after.ended);
    compare("hold", before.holds, after.holds);
    compare("rollout", extraBefore.rollouts, extraAfter.rollouts);
    compare("duration", extraBefore.durations, extraAfter.durations);
    for (const id of sent) statements.push({ sql: "DELETE FROM coordination_outbox WHERE id = ?", args: [id] });
    for (const { id, effect } of outgoing) statements.push({ sql: "INSERT INTO coordination_outbox (id, body) VALUES (?, ?)", args: [id, JSON.stringify(effect)] });
    if (statements.length > 0) await this.#database.durably(() => this.#database.client.batch(statements, "write"));
  }
}
