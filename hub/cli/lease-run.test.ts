import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { denialOf, leaseOf } from "../http/coordination-twin.ts";
import { TwinHub } from "../http/twin-hub.ts";
import { until } from "../trial.ts";
import { evenkeel, start, type Running } from "./evenkeel-twin.ts";

/** `evenkeel lease run`: real commands, real signals, a hub that comes and goes. */

const hub = new TwinHub();
const { coordination } = hub;
const scratch = mkdtempSync(join(tmpdir(), "ek-lease-"));
beforeAll(() => hub.start());
afterAll(async () => {
  await hub.end();
  rmSync(scratch, { recursive: true });
});
beforeEach(() => {
  coordination.asked.length = 0;
  Object.assign(coordination, { denials: [], leases: [], requests: [], holds: [], all: [], more: {} });
});

const lease = (...args: readonly string[]): Running => start(hub, ["lease", "run", "--node", "n2", ...args]);
/** A command that says that it runs, and ends when the file is there. */
const untilFile = (path: string): string[] => ["sh", "-c", `echo running; while [ ! -e '${path}' ]; do sleep 0.05; done; echo over`];

test("the command runs while the slot is held; its output and its exit code are ours", async () => {
  const path = join(scratch, "go");
  const running = lease("--why", "firmware", "--", ...untilFile(path));
  await running.said(/running/);
  expect(coordination.leases).toMatchObject([{ node: "n2", holder: "script", by: "admin", why: "firmware" }]);
  writeFileSync(path, "");
  expect(await running.ended).toMatchObject({ code: 0, stdout: "running\nover\n" });
  expect(coordination.leases).toEqual([]);
  expect(await lease("--", "sh", "-c", "exit 7").ended).toMatchObject({ code: 7, stdout: "" });
  expect((await lease("--", "sh", "-c", "kill -9 $$").ended).code).toBe(137);
  expect(coordination.leases).toEqual([]);
});

test("a command that is not there gives the slot back, too; its arguments are told to nobody", async () => {
  expect(await lease("--", join(scratch, "nothing"), "--password", "hunter2").ended).toMatchObject({ code: 127, stderr: expect.stringContaining("there is no command") });
  expect(coordination.leases).toEqual([]);
  expect(JSON.stringify(coordination.asked)).not.toContain("hunter2");
});

test("without a slot it waits, says why, and goes when there is one", async () => {
  coordination.leases = [leaseOf("a-1", "n3")];
  const waiting = lease("--", "echo", "my turn");
  await waiting.said(/waiting for a slot: all: 1 of 3 may be down, and n3 is\n/);
  coordination.leases = [];
  expect(await waiting.ended).toMatchObject({ code: 0, stdout: "my turn\n" });
});

test("no slot in time: 3, with the reasons, and the command has not run; so for a node that is not there, at once", async () => {
  coordination.denials = [denialOf("hold", "held by ada: holidays", "evenkeel unhold")];
  const path = join(scratch, "never");
  expect(await lease("--timeout", "1s", "--", "touch", path).ended).toMatchObject({ code: 3, stderr: expect.stringMatching(/held by ada: holidays\n.*→ evenkeel unhold/) });
  coordination.denials = [denialOf("unknown-node", "n2 is not a node of the repository")];
  expect((await lease("--", "touch", path).ended).code).toBe(3);
  expect(existsSync(path)).toBe(false);
  expect((await lease("--timeout", "soon", "--", "true").ended).code).toBe(2);
});

test("SIGTERM ends the command, and the slot is given back", async () => {
  const path = join(scratch, "told");
  const running = lease("--", "sh", "-c", `trap 'touch ${path}; exit 5' TERM; echo running; while :; do sleep 0.05; done`);
  await running.said(/running/);
  running.child.kill("SIGTERM");
  expect((await running.ended).code).toBe(5);
  expect([existsSync(path), coordination.leases]).toEqual([true, []]);
});

test("Ctrl-C on a screen reaches the command once, and the slot is given back", async () => {
  const path = join(scratch, "interrupts");
  const running = start(hub, ["lease", "run", "--node", "n2", "--", "sh", "-c", `trap 'echo x >> ${path}; exit 9' INT; echo running; while :; do sleep 0.05; done`], { screen: true });
  await running.said(/running/);
  running.child.stdin?.write("\u0003");
  expect((await running.ended).code).toBe(9);
  expect([readFileSync(path, "utf8"), coordination.leases]).toEqual(["x\n", []]);
});

test("Ctrl-C while it waits: nothing is held", async () => {
  coordination.leases = [leaseOf("a-1", "n3")];
  const waiting = lease("--", "true");
  await waiting.said(/waiting for a slot/);
  waiting.child.kill("SIGINT");
  expect((await waiting.ended).code).toBe(130);
  expect(coordination.leases).toMatchObject([{ id: "a-1" }]);
});

test("a hub that is away at the end is waited for", async () => {
  const path = join(scratch, "away");
  const running = lease("--", ...untilFile(path));
  await running.said(/running/);
  await hub.stop();
  writeFileSync(path, "");
  await running.said(/could not be given back .*; trying again/);
  await hub.start();
  expect((await running.ended).code).toBe(0);
  expect(coordination.leases).toEqual([]);
});

test("a hub that stays away: Ctrl-C gives up and says what to do then; that works", async () => {
  const path = join(scratch, "gone");
  const running = lease("--", ...untilFile(path));
  await running.said(/running/);
  const id = String(coordination.leases[0]?.id);
  await hub.stop();
  writeFileSync(path, "");
  await running.said(/trying again/);
  running.child.kill("SIGINT");
  expect(await running.ended).toMatchObject({ code: 1, stderr: expect.stringContaining(`n2 keeps its slot, and nothing else in its groups goes down until it is free. When the hub is back: evenkeel lease give-back ${id}\n`) });
  await hub.start();
  expect(coordination.leases).toHaveLength(1);
  expect((await evenkeel(hub, "lease", "give-back", id)).code).toBe(0);
  expect(coordination.leases).toEqual([]);
});

test("a lost answer takes no second slot: it is asked for again by the same id", async () => {
  await hub.stop();
  const waiting = lease("--", "echo", "my turn");
  await waiting.said(/nothing listens at .*; trying again/);
  await hub.start();
  expect((await waiting.ended).code).toBe(0);
  await until(async () => coordination.leases.length === 0);
  expect(coordination.asked.map(([what]) => what)).toEqual(["take", "giveBack"]);
});
