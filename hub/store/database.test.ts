import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { is } from "drizzle-orm";
import { SQLiteTable, getTableConfig } from "drizzle-orm/sqlite-core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDatabase } from "./database.ts";
import * as schema from "./schema.ts";

const migrations = join(import.meta.dirname, "migrations");
let directory: string;
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), "hub-store-"))));
afterEach(() => rmSync(directory, { recursive: true }));

test("the Drizzle schema and the migrations describe the same tables", async () => {
  const database = await openDatabase(join(directory, "hub.db"), migrations);
  const tables = Object.values(schema).filter((value) => is(value, SQLiteTable)).map((table) => getTableConfig(table as SQLiteTable));
  const found = await database.client.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'migrations'");
  expect(tables.map((table) => table.name).sort()).toEqual(found.rows.map((row) => row["name"] as string).sort());
  for (const table of tables) {
    const { rows } = await database.client.execute(`SELECT name, type, "notnull", pk FROM pragma_table_info('${table.name}')`);
    const key = table.primaryKeys.flatMap((primary) => primary.columns.map((column) => column.name));
    const expected = table.columns.map((column) => ({
      name: column.name,
      type: column.getSQLType().toUpperCase(),
      required: column.notNull || column.primary,
      key: column.primary || key.includes(column.name),
    }));
    const actual = rows.map((row) => ({ name: row["name"], type: row["type"], required: row["notnull"] === 1 || row["pk"] !== 0, key: row["pk"] !== 0 }));
    expect(actual, table.name).toEqual(expected);
  }
  database.close();
});

test("opening again applies nothing twice and keeps what is there", async () => {
  const first = await openDatabase(join(directory, "hub.db"), migrations);
  await first.durably(() => first.tables.insert(schema.nodes).values({ name: "n1", addedAtMs: 1 }));
  first.close();
  const second = await openDatabase(join(directory, "hub.db"), migrations);
  expect(await second.tables.select().from(schema.nodes)).toMatchObject([{ name: "n1", addedAtMs: 1 }]);
  second.close();
});

test("a database of a newer version is refused with a way out", async () => {
  const database = await openDatabase(join(directory, "hub.db"), migrations);
  await database.client.execute("INSERT INTO migrations (name) VALUES ('9999-later.sql')");
  database.close();
  await expect(openDatabase(join(directory, "hub.db"), migrations)).rejects.toThrow(/newer version.*9999-later/);
});

test("a file that is no database is refused by name", async () => {
  writeFileSync(join(directory, "hub.db"), "not a database, but long enough to be looked at ".repeat(100));
  await expect(openDatabase(join(directory, "hub.db"), migrations)).rejects.toThrow(/opening the database .*hub\.db/);
});
