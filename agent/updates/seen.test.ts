import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PendingUpdate } from "../../shared/protocol/updates.ts";
import { chooseUpdates } from "./choose.ts";
import { TransactionRecords } from "./record.ts";
import { SeenUpdates } from "./seen.ts";

let directory: string;
const DAY_MS = 86_400_000;
const noon = Date.parse("2026-03-01T12:00:00Z");
const offer = (name: string, to: string, security = false) => ({ name, from: "1", to, security });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "evenkeel-seen-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test("a version is first seen once, also over a restart, and a newer one anew", async () => {
  await new SeenUpdates(directory).remember([offer("a", "2"), offer("b", "2")], ["h"], noon);
  const again = new SeenUpdates(directory);
  expect(await again.last()).toMatchObject({ held: ["h"] });
  expect((await again.remember([offer("a", "2"), offer("b", "3")], [], noon + DAY_MS)).map(({ firstSeenAt }) => firstSeenAt)).toEqual(["2026-03-01T12:00:00.000Z", "2026-03-02T12:00:00.000Z"]);
  expect((await again.remember([offer("b", "3")], [], noon + DAY_MS)).length).toBe(1);
  expect((await again.remember([offer("a", "2"), offer("b", "3")], [], noon + 2 * DAY_MS))[0]?.firstSeenAt).toBe("2026-03-03T12:00:00.000Z");
});

test("a clock that was ahead does not defer for ever, and a spoilt memory is an empty one", async () => {
  const seen = new SeenUpdates(directory);
  await seen.remember([offer("a", "2")], [], noon + 3_000 * DAY_MS);
  expect((await seen.remember([offer("a", "2")], [], noon))[0]?.firstSeenAt).toBe("2026-03-01T12:00:00.000Z");
  await writeFile(join(directory, "updates-seen.json"), "{");
  expect(await new SeenUpdates(directory).last()).toEqual({ v: 1, pending: [], held: [] });
});

test("what would only come along is not pending, and nothing is written when nothing changed", async () => {
  const seen = new SeenUpdates(directory);
  expect(await seen.remember([{ name: "new", from: null, to: "1", security: false }], [], noon)).toEqual([]);
  await expect(readFile(join(directory, "updates-seen.json"))).rejects.toThrow("ENOENT");
});

test("an order takes what is in its scope, old enough, and not excluded", () => {
  const pending: PendingUpdate[] = [
    { ...offer("old", "2"), firstSeenAt: "2026-02-20T12:00:00.000Z" },
    { ...offer("young", "2"), firstSeenAt: "2026-03-01T11:00:00.000Z" },
    { ...offer("fix", "2", true), firstSeenAt: "2026-03-01T11:00:00.000Z" },
    { ...offer("libfoo2:i386", "2"), firstSeenAt: "2026-02-20T12:00:00.000Z" },
    { ...offer("g++", "2"), firstSeenAt: "2026-02-20T12:00:00.000Z" },
  ];
  const names = (more: object) => chooseUpdates(pending, { scope: "all", exclude: [], deferDays: 0, ...more }, noon).chosen.map(({ name }) => name);
  expect(names({})).toEqual(["old", "young", "fix", "libfoo2:i386", "g++"]);
  expect(names({ scope: "security" })).toEqual(["fix"]);
  expect(names({ deferDays: 3 })).toEqual(["old", "fix", "libfoo2:i386", "g++"]);
  expect(names({ exclude: ["lib*", "?ld", "g++"] })).toEqual(["young", "fix"]);
  expect(names({ exclude: ["g+", "fi", "o.d"] })).toHaveLength(5);
});

test("a transaction's record is there until it is ended, and a spoilt one still says that something had begun", async () => {
  const records = new TransactionRecords(join(directory, "deeper"));
  expect(await records.open()).toBeNull();
  const record = { v: 1, startedAt: "2026-03-01T12:00:00Z", before: [{ name: "a", version: "1" }], targets: [{ name: "a", version: "2" }], phase: "forward" } as const;
  await records.begin({ ...record, before: [...record.before], targets: [...record.targets] });
  expect(await new TransactionRecords(join(directory, "deeper")).open()).toEqual(record);
  await writeFile(join(directory, "deeper", "updates-transaction.json"), '{"v":');
  expect(await records.open()).toMatchObject({ startedAt: "an unknown time", targets: [] });
  await records.end();
  expect(await records.open()).toBeNull();
});
