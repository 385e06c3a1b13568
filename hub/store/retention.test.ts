import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ConvergeReport } from "../../shared/protocol/report.ts";
import { AccessStore } from "./access.ts";
import { CommitStore } from "./commits.ts";
import { openDatabase, type Database } from "./database.ts";
import { NodeStore } from "./nodes.ts";
import { ReportStore } from "./reports.ts";
import { prune, type Stores } from "./retention.ts";

let directory: string;
let database: Database;
let stores: Stores;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "ek-retention-"));
  database = await openDatabase(join(directory, "hub.db"), join(import.meta.dirname, "migrations"));
  stores = { nodes: new NodeStore(database), reports: new ReportStore(database), commits: new CommitStore(database), access: new AccessStore(database) };
  await stores.nodes.addToken("n1", "hash-1", 1, 2);
  await stores.nodes.addToken("n2", "hash-2", 1, 2);
});
afterEach(() => {
  database.close();
  rmSync(directory, { recursive: true });
});

const report = { commit: "c", cause: "push", outcome: "converged", changes: [] } as unknown as ConvergeReport;
const limits = { convergesPerNode: 300, convergesPerNodeBytes: 1_000_000, commits: 10, audit: 50 };
const count = async (table: string): Promise<number> => Number((await database.client.execute(`SELECT count(*) AS n FROM ${table}`)).rows[0]?.["n"]);

test("each node keeps its newest reports, by number and by size; the rest goes in batches", async () => {
  for (let seq = 1; seq <= 900; seq += 1) await stores.reports.addConverge("n1", "s", seq, report, "x", seq);
  for (let seq = 1; seq <= 20; seq += 1) await stores.reports.addConverge("n2", "s", seq, report, "y".repeat(100_000), seq);
  let pauses = 0;
  await prune(stores, limits, async () => void (pauses += 1));
  const kept = await stores.reports.converges("n1", 1_000);
  expect([kept.length, kept[0]?.seq, kept.at(-1)?.seq]).toEqual([300, 900, 601]);
  expect((await stores.reports.converges("n2", 100)).map(({ seq }) => seq)).toEqual([20, 19, 18, 17, 16, 15, 14, 13, 12, 11]);
  expect(pauses).toBeGreaterThan(2);
});

test("commits, their arrivals, the audit and forgotten streams are bounded", async () => {
  for (let at = 0; at < 30; at += 1) {
    await stores.commits.addPush({ tip: `c${at}`, commits: [{ id: `c${at}`, subject: "", author: "", signer: "" }], pushedBy: "", pushedAtMs: at });
    await stores.commits.arrived(`c${at}`, "n1", 5, "converged");
    await stores.reports.received("n1", `stream-${at}`, 1, false, at);
  }
  for (let at = 0; at < 500; at += 1) await stores.access.note({ atMs: at, actor: "a", action: "b", subject: "c" });
  await prune(stores, limits, async () => {});
  expect([await count("commits"), await count("arrivals"), await count("audit"), await count("streams")]).toEqual([10, 10, 50, 10]);
  expect((await stores.commits.head())?.id).toBe("c29");
});

test("an arrival counts from the first report, or from the first that converged", async () => {
  expect(await stores.commits.arrived("c", "n1", 100, "failed")).toBe(true);
  expect(await stores.commits.arrived("c", "n1", 200, "failed")).toBe(false);
  expect(await stores.commits.arrived("c", "n1", 300, "converged")).toBe(true);
  expect(await stores.commits.arrived("c", "n1", 400, "converged")).toBe(false);
  expect((await stores.commits.arrivals(["c"])).get("c")).toMatchObject([{ afterMs: 300, outcome: "converged" }]);
});

test("sessions end by themselves, and there are never more than a thousand", async () => {
  for (let at = 0; at < 1_010; at += 1) await stores.access.addSession(`s${at}`, { name: "admin", role: "admin" }, at, 100_000);
  expect(await count("sessions")).toBe(1_000);
  expect([await stores.access.sessionOwner("s0", 1), await stores.access.sessionOwner("s1009", 1)]).toMatchObject([null, { name: "admin" }]);
  expect(await stores.access.sessionOwner("s1009", 100_000)).toBeNull();
});
