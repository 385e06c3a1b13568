import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import * as z from "zod";
import type { Clock, Timer } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import { defineKind } from "../../shared/kinds/kind.ts";
import type { Kind, Output, Probe } from "../../shared/kinds/kind.ts";
import { newIdentity } from "../../shared/secrets/age.ts";
import type { KeyPair } from "../../shared/secrets/age.ts";
import type { AskEvent, MadeEvent, MakeOrder, NotMadeEvent } from "../../shared/protocol/values.ts";
import { Exchange } from "./exchange.ts";
import type { Need } from "./asker.ts";

/** Two nodes with a toy kind, and between them the test as the hub. */

class TestClock implements Clock {
  #ms = 0;
  readonly #timers: { dueMs: number; ring: () => void }[] = [];
  nowMs = (): number => this.#ms;
  monotonicMs = (): number => this.#ms;
  after(delayMs: number, ring: () => void): Timer {
    const timer = { dueMs: this.#ms + delayMs, ring };
    this.#timers.push(timer);
    return { cancel: () => void (timer.ring = () => {}) };
  }
  advance(ms: number): void {
    const untilMs = this.#ms + ms;
    for (;;) {
      const due = this.#timers.filter(({ dueMs }) => dueMs <= untilMs).toSorted((one, other) => one.dueMs - other.dueMs)[0];
      if (due === undefined) break;
      this.#timers.splice(this.#timers.indexOf(due), 1);
      this.#ms = due.dueMs;
      due.ring();
    }
    this.#ms = untilMs;
  }
}

const club = defineKind({
  name: "club",
  summary: "joins by a word",
  schema: z.object({ members: z.array(z.string()).default([]) }),
  observe: async () => null,
  plan: () => [],
  make: (want, _facts, { node, key }) => (key === `join/${node}` && want.members.includes(node) ? { doing: "making a word", argv: ["make-word", node], timeoutMs: 1_000 } : null),
}) as Kind;

const need: Need = { kind: "club", key: "join/n2", from: ["n1"], what: "a word", lastsMs: 60_000 };
const uuid = (count: number): string => `7d0f8a52-5d0c-4e6c-9a52-${String(count).padStart(12, "0")}`;
const name = (text: string): NodeName => NodeName.parse(text);

let keys: Record<"n1" | "n2", KeyPair>;
beforeAll(async () => {
  keys = { n1: await newIdentity(), n2: await newIdentity() };
});

let clock: TestClock;
let words: Output;
let told: (AskEvent | MadeEvent | NotMadeEvent)[];
let logged: string[];
let arrived: number;
let recipients: Map<string, string>;
let n1: Exchange;
let n2: Exchange;

beforeEach(() => {
  clock = new TestClock();
  words = { code: 0, stdout: "sesame\n", stderr: "" };
  told = [];
  logged = [];
  arrived = 0;
  recipients = new Map(Object.entries(keys).map(([node, { recipient }]) => [node, recipient]));
  let count = 0;
  const exchange = (self: "n1" | "n2"): Exchange =>
    new Exchange({
      self,
      kinds: [club],
      probe: {} as Probe,
      run: async () => words,
      desired: () => ({ sections: new Map([["club", { members: ["n1", "n2"] }]]), recipients }),
      ownedOf: () => new Map(),
      identity: async () => keys[self].identity,
      clock,
      newId: () => uuid((count += 1)),
      tell: async (event) => void told.push(event),
      arrived: () => (arrived += 1),
      log: (message) => logged.push(message),
    });
  [n1, n2] = [exchange("n1"), exchange("n2")];
});

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};
/** A run of n2 that needs these; answers what it was handed. */
const run = async (...needs: Need[]): Promise<Record<string, string>> => {
  const handed = n2.hand();
  const given = Object.fromEntries(handed.to("club"));
  handed.over(needs);
  await settle();
  return given;
};
const asks = (): AskEvent[] => told.filter((event) => event.kind === "ask");
const order = (asked: AskEvent | undefined, more: Partial<MakeOrder> = {}): MakeOrder => ({ v: 1, kind: "make", id: uuid(500), ask: asked?.ask ?? "", section: "club", key: "join/n2", node: name("n2"), ...more });
const made = async (more: Partial<MakeOrder> = {}): Promise<MadeEvent | NotMadeEvent> => {
  await n1.order(order(asks().at(-1), more));
  const event = told.filter((each) => each.kind !== "ask").at(-1);
  if (event === undefined) throw new Error("nothing was made");
  return event;
};
const deliver = async (event: MadeEvent | NotMadeEvent, ask = asks().at(-1)?.ask ?? "", maker = "n1"): Promise<void> => {
  if (event.kind === "made") await n2.order({ v: 1, kind: "value", ask, maker: name(maker), sealed: event.sealed });
};

test("what a run needs is asked for, made, handed to the next run, used once, and not kept", async () => {
  expect(await run(need)).toEqual({});
  expect(asks()).toEqual([{ kind: "ask", ask: uuid(1), section: "club", key: "join/n2", from: ["n1"], what: "a word" }]);
  const event = await made();
  expect(event).toMatchObject({ kind: "made", ok: true });
  expect(JSON.stringify(event)).not.toContain("sesame");
  await deliver(event);
  expect(arrived).toBe(1);
  // The same again is no answer to anything any more.
  await deliver(event);
  expect(arrived).toBe(1);
  expect(await run()).toEqual({ "join/n2": "sesame" });
  expect(await run()).toEqual({});
  expect(logged.join()).not.toContain("sesame");
});

test("a value is kept while its kind still asks for others, and until it has expired", async () => {
  await run(need);
  await deliver(await made());
  const other = { ...need, key: "state/n3", from: ["n3"] };
  expect(await run(other)).toEqual({ "join/n2": "sesame" });
  expect(await run(other)).toEqual({ "join/n2": "sesame" });
  clock.advance(60_000);
  expect(await run(other)).toEqual({});
});

test("after a value that was of no use, it is asked for anew, under a new question, and not at once", async () => {
  await run(need);
  await deliver(await made());
  await run();
  await run(need);
  expect(asks()).toHaveLength(1);
  clock.advance(5_000);
  await settle();
  expect(asks().map(({ ask }) => ask)).toEqual([uuid(1), uuid(2)]);
});

test("a question is put again every minute, and is another one after ten; nobody needs it, and it ends", async () => {
  await run(need);
  await run(need);
  expect(asks()).toHaveLength(1);
  for (let minute = 0; minute < 12; minute += 1) {
    clock.advance(60_000);
    await settle();
  }
  expect(asks()).toHaveLength(13);
  expect(new Set(asks().map(({ ask }) => ask)).size).toBe(2);
  const last = asks().at(-1)?.ask ?? "";
  await run();
  clock.advance(10 * 60_000);
  expect(asks()).toHaveLength(13);
  // Late, and not wanted any more.
  await deliver(await made(), last);
  expect(arrived).toBe(0);
});

describe("an answer is not believed", () => {
  test("from a node that was not asked, without a recipient, of another key, or as another's", async () => {
    await run(need);
    const event = await made();
    await deliver(event, undefined, "n3");
    recipients.delete("n1");
    await deliver(event);
    recipients.set("n1", keys.n2.recipient);
    await deliver(event);
    recipients.set("n1", keys.n1.recipient);
    await deliver(event, uuid(99));
    expect(arrived).toBe(0);
    expect(logged.filter((line) => line.includes("is not used"))).toHaveLength(3);
    await deliver(event);
    expect(arrived).toBe(1);
  });

  test("when it was made for an earlier question", async () => {
    await run(need);
    const old = await made();
    await deliver(old);
    await run();
    clock.advance(6_000);
    await run(need);
    await deliver(old);
    expect(await run(need)).toEqual({});
  });
});

test("the failure of the program is told to the asking node only, which goes on asking", async () => {
  words = { code: 1, stdout: "", stderr: "Error: secret trouble" };
  await run(need);
  const event = await made();
  expect(event).toMatchObject({ kind: "made", ok: false });
  expect(JSON.stringify(event)).not.toContain("trouble");
  await deliver(event);
  expect(arrived).toBe(0);
  expect(logged.at(-1)).toContain("n1 could not make a word: making a word ended with code 1: Error: secret trouble");
  await n2.order({ v: 1, kind: "no-value", ask: asks()[0]!.ask, why: "n1 tried" });
  expect(logged.at(-1)).toContain("nobody has made a word yet");
});

describe("a maker refuses", () => {
  test.each([
    ["a node without a recipient", { node: name("n9"), key: "join/n9" }, "n9 has no recipient in the repository"],
    ["a key that is another's", { key: "join/n1" }, "cannot make it"],
    ["a kind that makes nothing", { section: "files" }, "cannot make it"],
    ["itself", { node: name("n1"), key: "join/n1" }, "cannot make it"],
  ])("%s", async (_what, more, why) => {
    await run(need);
    expect(await made(more)).toEqual({ kind: "not-made", id: uuid(500), why: expect.stringContaining(why) as string });
  });

  test("an empty and an endless value", async () => {
    await run(need);
    for (const stdout of [" \n", "x".repeat(40_000)]) {
      words = { code: 0, stdout, stderr: "" };
      expect(await made()).toMatchObject({ kind: "made", ok: false });
      clock.advance(5_000);
    }
  });

  test("the same again within 5 s, and more than 120 an hour", async () => {
    await run(need);
    expect(await made()).toMatchObject({ kind: "made" });
    expect(await made()).toMatchObject({ kind: "not-made", why: expect.stringContaining("less than 5 s ago") as string });
    for (let count = 1; count < 120; count += 1) {
      clock.advance(5_000);
      expect(await made()).toMatchObject({ kind: "made" });
    }
    clock.advance(5_000);
    expect(await made()).toMatchObject({ kind: "not-made", why: expect.stringContaining("120 values in an hour") as string });
    clock.advance(3_600_000);
    expect(await made()).toMatchObject({ kind: "made" });
  });
});

test("a node without a recipient in the repository says so, once, and asks nobody", async () => {
  recipients.delete("n2");
  await run(need);
  clock.advance(120_000);
  await settle();
  expect(asks()).toEqual([]);
  expect(logged.filter((line) => line.includes("evenkeel secret trust n2"))).toHaveLength(1);
});

test("once a commit has brought its recipient, the next run asks, and waits for no repetition", async () => {
  recipients.delete("n2");
  await run(need);
  await settle();
  expect(asks()).toEqual([]);
  recipients.set("n2", keys.n2.recipient);
  await run(need);
  await settle();
  expect(asks()).toHaveLength(1);
  await run(need);
  await settle();
  expect(asks(), "and only once").toHaveLength(1);
});
