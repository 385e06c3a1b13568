import { and, asc, desc, eq, isNull, ne, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { certificates, enrolmentTokens, nodeState, nodes } from "./schema.ts";

export type NodeRow = typeof nodes.$inferSelect;
export type CertificateRow = typeof certificates.$inferSelect;
export type EnrolmentTokenRow = typeof enrolmentTokens.$inferSelect;

/** Which nodes there are, what certificates they hold, and who may still enrol. */
export class NodeStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  list(): Promise<NodeRow[]> {
    return this.#database.tables.select().from(nodes).orderBy(asc(nodes.name));
  }

  async get(name: string): Promise<NodeRow | null> {
    return (await this.#database.tables.select().from(nodes).where(eq(nodes.name, name)))[0] ?? null;
  }

  /** Adds the node if it is new, and a token that ends any earlier one that was not used. */
  async addToken(node: string, hash: string, createdAtMs: number, expiresAtMs: number): Promise<void> {
    const { tables } = this.#database;
    await this.#database.durably(() =>
      tables.batch([
        tables.insert(nodes).values({ name: node, addedAtMs: createdAtMs }).onConflictDoNothing(),
        tables.delete(enrolmentTokens).where(eq(enrolmentTokens.node, node)),
        tables.insert(enrolmentTokens).values({ hash, node, createdAtMs, expiresAtMs }),
      ]),
    );
  }

  async token(hash: string): Promise<EnrolmentTokenRow | null> {
    return (await this.#database.tables.select().from(enrolmentTokens).where(eq(enrolmentTokens.hash, hash)))[0] ?? null;
  }

  /** Another living node with the same machine-id, if there is one. */
  async twinOf(name: string, machineId: string): Promise<string | null> {
    const rows = await this.#database.tables
      .select({ name: nodes.name })
      .from(nodes)
      .where(and(eq(nodes.machineId, machineId), ne(nodes.name, name), isNull(nodes.revokedAtMs)));
    return rows[0]?.name ?? null;
  }

  async setMachineId(name: string, machineId: string): Promise<void> {
    await this.#database.tables.update(nodes).set({ machineId }).where(eq(nodes.name, name));
  }

  /** A (new) enrolment spends the token; earlier certificates of that name end, and so does a revocation. */
  async enrolled(name: string, tokenHash: string, machineId: string, certificate: { serial: string; notAfterMs: number }, nowMs: number): Promise<void> {
    const { tables } = this.#database;
    await this.#database.durably(() =>
      tables.batch([
        tables.update(enrolmentTokens).set({ usedAtMs: nowMs }).where(eq(enrolmentTokens.hash, tokenHash)),
        tables.update(certificates).set({ revokedAtMs: nowMs }).where(and(eq(certificates.node, name), isNull(certificates.revokedAtMs))),
        tables.insert(certificates).values({ node: name, issuedAtMs: nowMs, ...certificate }),
        tables.update(nodes).set({ enrolledAtMs: nowMs, revokedAtMs: null, machineId }).where(eq(nodes.name, name)),
        tables.insert(nodeState).values({ node: name }).onConflictDoUpdate({ target: nodeState.node, set: { refusal: null } }),
      ]),
    );
  }

  async addCertificate(node: string, certificate: { serial: string; notAfterMs: number }, nowMs: number): Promise<void> {
    await this.#database.durably(() =>
      this.#database.tables.insert(certificates).values({ node, issuedAtMs: nowMs, ...certificate }),
    );
  }

  /** The node's newest certificate that is not revoked. */
  async newestCertificate(node: string): Promise<CertificateRow | null> {
    const rows = await this.#database.tables
      .select()
      .from(certificates)
      .where(and(eq(certificates.node, node), isNull(certificates.revokedAtMs)))
      .orderBy(desc(certificates.issuedAtMs))
      .limit(1);
    return rows[0] ?? null;
  }

  /** Whether the hub issued this serial to this node and neither has been revoked. */
  async certificateIsGood(node: string, serial: string): Promise<boolean> {
    const rows = await this.#database.tables
      .select({ serial: certificates.serial })
      .from(certificates)
      .innerJoin(nodes, eq(nodes.name, certificates.node))
      .where(and(eq(certificates.serial, serial), eq(certificates.node, node), isNull(certificates.revokedAtMs), isNull(nodes.revokedAtMs)));
    return rows.length === 1;
  }

  /** Ends a node: its certificates, its unused tokens, its claim on a machine-id. False when it is not known. */
  async revoke(name: string, nowMs: number): Promise<boolean> {
    const { tables } = this.#database;
    const [updated] = await this.#database.durably(() =>
      tables.batch([
        tables.update(nodes).set({ revokedAtMs: sql`coalesce(${nodes.revokedAtMs}, ${nowMs})`, machineId: null }).where(eq(nodes.name, name)),
        tables.update(certificates).set({ revokedAtMs: nowMs }).where(and(eq(certificates.node, name), isNull(certificates.revokedAtMs))),
        tables.delete(enrolmentTokens).where(eq(enrolmentTokens.node, name)),
      ]),
    );
    return updated.rowsAffected === 1;
  }

  async seen(name: string, nowMs: number): Promise<void> {
    await this.#database.tables.update(nodes).set({ lastSeenAtMs: nowMs }).where(eq(nodes.name, name));
  }

  async setMark(name: string, mark: string): Promise<void> {
    await this.#database.tables.update(nodes).set({ mark }).where(eq(nodes.name, name));
  }
}
