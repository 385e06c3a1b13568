import { createClient, type Client } from "@libsql/client";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { drizzle, type LibSQLDatabase } from "drizzle-orm/libsql";
import * as schema from "./schema.ts";

/**
 * The hub's database: one libSQL file, one connection. Queries run on the event loop (the file client is synchronous
 * underneath), so they are kept small and indexed, and several writes that belong together go into one `batch`.
 */
export interface Database {
  readonly tables: LibSQLDatabase<typeof schema>;
  readonly client: Client;
  /** Runs writes whose loss in a power cut would be a hole, such as a revocation, with an fsync of the log. */
  durably<T>(write: () => Promise<T>): Promise<T>;
  close(): void;
}

const busyTimeoutMs = 5_000;

/** Opens (and at need makes) the database, and brings it up to the newest migration. @throws when it is damaged or newer than this hub. */
export async function openDatabase(path: string, migrationsDirectory: string): Promise<Database> {
  // A single connection, so that the pragmas hold for every statement and statements never wait for each other's locks.
  const client = createClient({ url: `file:${path}`, concurrency: 1, timeout: busyTimeoutMs });
  try {
    await client.execute("PRAGMA journal_mode = WAL");
    await client.execute("PRAGMA synchronous = NORMAL");
    await client.execute("PRAGMA foreign_keys = ON");
    await client.execute("PRAGMA journal_size_limit = 67108864");
    await migrate(client, migrationsDirectory);
  } catch (error) {
    client.close();
    throw new Error(`opening the database ${path}: ${(error as Error).message}`, { cause: error });
  }
  // Several may be writing at a time: the last one that ends lets go of it.
  let durableWriters = 0;
  return {
    tables: drizzle(client, { schema }),
    client,
    async durably(write) {
      // With NORMAL, a commit survives a crash of the hub but not always one of the machine (sqlite.org/pragma.html#pragma_synchronous).
      durableWriters++;
      try {
        await client.execute("PRAGMA synchronous = FULL");
        return await write();
      } finally {
        durableWriters--;
        if (durableWriters === 0) await client.execute("PRAGMA synchronous = NORMAL");
      }
    },
    close: () => client.close(),
  };
}

/** Applies the files of the directory in the order of their names, each in one transaction, each once. */
async function migrate(client: Client, directory: string): Promise<void> {
  await client.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT");
  const done = new Set((await client.execute("SELECT name FROM migrations")).rows.map((row) => row["name"] as string));
  const files = readdirSync(directory).filter((name) => /^\d{4}-[a-z0-9-]+\.sql$/.test(name)).sort();
  const unknown = [...done].filter((name) => !files.includes(name));
  if (unknown.length > 0) {
    throw new Error(`it was written by a newer version (it has ${unknown.join(", ")}): install that version again, or restore an older copy of the data directory`);
  }
  for (const name of files.filter((file) => !done.has(file))) {
    const statements = splitStatements(readFileSync(join(directory, name), "utf8"));
    await client.batch([...statements, { sql: "INSERT INTO migrations (name) VALUES (?)", args: [name] }], "write");
  }
}

/** Statements end with a semicolon at the end of a line; our migrations have no triggers. */
function splitStatements(sql: string): string[] {
  const bare = sql.replace(/^\s*--.*$/gm, "");
  return bare
    .split(/;\s*$/m)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}
