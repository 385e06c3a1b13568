import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Spool, SPOOL_EVENTS_MAX } from "./spool.ts";
import type { AgentEvent } from "./spool.ts";

let directory = "";
const said: string[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-spool-"));
  said.length = 0;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const at = () => join(directory, "spool");
const open = () => Spool.open(at(), (message) => said.push(message));
const event = (id: string): AgentEvent => ({ kind: "plan-failed", id, message: "" });

test("events survive, in order and in one stream, until they are acknowledged", async () => {
  const first = await open();
  await first.add(event("a"));
  await first.add(event("b"));
  const second = await open();
  expect(second.stream).toBe(first.stream);
  expect((await second.after(0, 10)).map((message) => message.seq)).toEqual([1, 2]);
  await second.acknowledge(second.stream, 2);
  const third = await open();
  await third.add(event("c"));
  expect(await third.after(0, 10)).toMatchObject([{ stream: first.stream, seq: 3, event: { id: "c" } }]);
  expect(said).toEqual([]);
});

test("events that come at once are kept each, in the order in which they came", async () => {
  const spool = await open();
  await Promise.all(["a", "b", "c"].map((id) => spool.add(event(id))));
  expect((await spool.after(0, 10)).map((message) => [message.seq, message.event])).toEqual([[1, event("a")], [2, event("b")], [3, event("c")]]);
  expect((await (await open()).after(0, 10)).length).toBe(3);
});

test("full, it drops the oldest and says how many", async () => {
  mkdirSync(at());
  for (let seq = 1; seq <= SPOOL_EVENTS_MAX; seq += 1) writeFileSync(join(at(), `${String(seq).padStart(12, "0")}.json`), JSON.stringify(event("old")));
  const spool = await open();
  for (const id of ["a", "b"]) await spool.add(event(id));
  expect(spool.size).toBe(SPOOL_EVENTS_MAX);
  expect((await spool.after(0, 1))[0]?.event).toEqual({ kind: "dropped", count: 3 });
});

describe("a disk that takes nothing at the start", () => {
  test("is said, and the stream waits in memory for the next event", async () => {
    // As a full disk would, a file in its place lets nothing be written there.
    writeFileSync(at(), "");
    const spool = await open().catch((error: NodeJS.ErrnoException) => error.code);
    if (!(spool instanceof Spool)) throw new Error(`the spool did not open: ${spool}`);
    expect(said).toEqual([expect.stringContaining("reports to the hub wait")]);
    await expect(spool.add(event("lost"))).rejects.toThrow();
    rmSync(at());
    await spool.add(event("kept"));
    expect(said).toHaveLength(2);
    expect(await spool.after(0, 10)).toMatchObject([{ seq: 1, event: { id: "kept" } }]);
    expect(JSON.parse(readFileSync(join(at(), "stream.json"), "utf8"))).toEqual({ stream: spool.stream, next: 2 });
    expect((await open()).stream).toBe(spool.stream);
  });

  test("with only the header in the way, too", async () => {
    // Nothing can be renamed over a directory that is not empty.
    mkdirSync(join(at(), "stream.json", "x"), { recursive: true });
    const spool = await open();
    expect(said).toHaveLength(1);
    await expect(spool.add(event("lost"))).rejects.toThrow();
    expect(spool.size).toBe(0);
    rmSync(join(at(), "stream.json"), { recursive: true });
    await spool.add(event("kept"));
    expect(spool.size).toBe(1);
  });
});
