import { asc, eq, gt, lte, and } from "drizzle-orm";
import type { Database } from "./database.ts";
import { apiTokens, audit, sessions } from "./schema.ts";

export type Role = "admin" | "read";
/** `fleetlock` is for machines, and opens FleetLock's two addresses and nothing else. */
export type TokenRole = Role | "fleetlock";
export interface Person {
  readonly name: string;
  readonly role: Role;
}

const sessionsMax = 1_000;

/** Who may use the API, and what was done with it. */
export class AccessStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  tokens(): Promise<(typeof apiTokens.$inferSelect)[]> {
    return this.#database.tables.select().from(apiTokens).orderBy(asc(apiTokens.name));
  }

  /** Sets the token of that name. */
  async putToken(name: string, hash: string, role: TokenRole, nowMs: number): Promise<void> {
    const set = { hash, role, createdAtMs: nowMs };
    await this.#database.durably(() =>
      this.#database.tables.insert(apiTokens).values({ name, ...set }).onConflictDoUpdate({ target: apiTokens.name, set }),
    );
  }

  /** Ends a token and the sessions that were opened with it. Never the last one of an admin: nobody could get in any more. */
  async removeToken(name: string): Promise<"removed" | "unknown" | "last-admin"> {
    const tokens = await this.tokens();
    const token = tokens.find((each) => each.name === name);
    if (token === undefined) return "unknown";
    if (token.role === "admin" && tokens.filter(({ role }) => role === "admin").length === 1) return "last-admin";
    const { tables } = this.#database;
    await this.#database.durably(() => tables.batch([tables.delete(apiTokens).where(eq(apiTokens.name, name)), tables.delete(sessions).where(eq(sessions.name, name))]));
    return "removed";
  }

  /** The person with this token; a token for FleetLock is nobody's, wherever a person is asked for. */
  async tokenOwner(hash: string): Promise<Person | null> {
    const token = await this.#token(hash);
    return token === null || token.role === "fleetlock" ? null : { name: token.name, role: token.role };
  }

  /** The name of the token, if it may ask for slots by FleetLock; null when there is no such token, or it may not. */
  async fleetLockOwner(hash: string): Promise<string | null> {
    const token = await this.#token(hash);
    return token === null || token.role === "read" ? null : token.name;
  }

  async #token(hash: string): Promise<{ readonly name: string; readonly role: TokenRole } | null> {
    const rows = await this.#database.tables.select({ name: apiTokens.name, role: apiTokens.role }).from(apiTokens).where(eq(apiTokens.hash, hash));
    return rows[0] ?? null;
  }

  async addSession(hash: string, person: Person, nowMs: number, expiresAtMs: number): Promise<void> {
    const { tables } = this.#database;
    await tables.batch([
      tables.delete(sessions).where(lte(sessions.expiresAtMs, nowMs)),
      tables.insert(sessions).values({ hash, name: person.name, role: person.role, createdAtMs: nowMs, expiresAtMs }),
    ]);
    await this.#database.client.execute({
      sql: "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
      args: [sessionsMax],
    });
  }

  async sessionOwner(hash: string, nowMs: number): Promise<Person | null> {
    const rows = await this.#database.tables
      .select({ name: sessions.name, role: sessions.role })
      .from(sessions)
      .where(and(eq(sessions.hash, hash), gt(sessions.expiresAtMs, nowMs)));
    return rows[0] ?? null;
  }

  async endSession(hash: string): Promise<void> {
    await this.#database.tables.delete(sessions).where(eq(sessions.hash, hash));
  }

  async note(entry: { readonly atMs: number; readonly actor: string; readonly action: string; readonly subject: string; readonly detail?: string }): Promise<void> {
    await this.#database.tables.insert(audit).values({ detail: "", ...entry });
  }

  async pruneAudit(keep: number, batch: number): Promise<number> {
    const result = await this.#database.client.execute({
      sql: "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id DESC LIMIT ? OFFSET ?)",
      args: [batch, keep],
    });
    return result.rowsAffected;
  }
}
