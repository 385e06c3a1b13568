import { beforeEach, expect, test } from "vitest";
import { NodeName } from "../../shared/ids.ts";
import { OrderMessage } from "../../shared/protocol/messages.ts";
import type { AskEvent } from "../../shared/protocol/values.ts";
import { HandClock } from "../checks/hand-clock.ts";
import { Values } from "./values.ts";

const [n1, n2, n3, n4] = ["n1", "n2", "n3", "n4"].map((name) => NodeName.parse(name)) as [NodeName, NodeName, NodeName, NodeName];
const uuid = (count: number): string => `7d0f8a52-5d0c-4e6c-9a52-${String(count).padStart(12, "0")}`;

let clock: HandClock;
let online: Set<NodeName>;
let sent: { to: NodeName; order: OrderMessage }[];
let warned: string[];
let values: Values;

beforeEach(() => {
  clock = new HandClock();
  online = new Set([n1, n2, n3, n4]);
  sent = [];
  warned = [];
  let count = 1_000;
  values = new Values({
    clock,
    newId: () => uuid((count += 1)),
    isOnline: (node) => online.has(node),
    // As it would arrive: an order that does not parse would be dropped by the node.
    send: (to, order) => sent.push({ to, order: OrderMessage.parse(JSON.parse(JSON.stringify(order))) }),
    warn: (_about, message) => warned.push(message),
  });
});

const asked = (from: NodeName[], ask = uuid(1), key = "join/n4"): AskEvent => ({ kind: "ask", ask, section: "lxd", key, from, what: "a token" });
const says = (): string[] => sent.map(({ to, order }) => `${to} ${order.kind}`);
const lastId = (): string => {
  const { order } = sent.at(-1) ?? {};
  return order?.kind === "make" ? order.id : "";
};

test("a question goes to the first who is there, and the answer back, once", () => {
  online.delete(n1);
  values.ask(n4, asked([n1, n2, n3]));
  expect(sent).toEqual([{ to: n2, order: { v: 1, kind: "make", id: lastId(), ask: uuid(1), section: "lxd", key: "join/n4", node: "n4" } }]);
  const id = lastId();
  values.made(n2, { kind: "made", id, ok: true, sealed: "x" });
  expect(sent.at(-1)).toEqual({ to: n4, order: { v: 1, kind: "value", ask: uuid(1), maker: "n2", sealed: "x" } });
  values.made(n2, { kind: "made", id, ok: true, sealed: "again" });
  expect(says()).toEqual(["n2 make", "n4 value"]);
  expect(values.size).toBe(0);
});

test("who cannot, fails, says nothing or goes away is followed by the next", () => {
  values.ask(n4, asked([n4, n1, n2, n3, n1]));
  values.notMade(n1, { kind: "not-made", id: lastId(), why: "n1 is no member" });
  values.made(n2, { kind: "made", id: lastId(), ok: false, sealed: "why" });
  values.gone(n3);
  expect(says()).toEqual(["n1 make", "n2 make", "n4 value", "n3 make", "n1 make"]);
  clock.advance(90_000);
  // The round is over, and begins anew.
  clock.advance(2_000);
  expect(says().at(-1)).toBe("n1 make");
  expect(says()).toHaveLength(6);
});

test("only whom it asked can answer", () => {
  values.ask(n4, asked([n1, n2]));
  const id = lastId();
  values.made(n2, { kind: "made", id, ok: true, sealed: "x" });
  values.made(n1, { kind: "made", id: uuid(77), ok: true, sealed: "x" });
  values.notMade(n3, { kind: "not-made", id, why: "no" });
  expect(says()).toEqual(["n1 make"]);
});

test("rounds come at growing distances, the asking node hears why, and after five minutes it ends unless it is asked again", () => {
  online.clear();
  values.ask(n4, asked([n1]));
  const refusals = (): number => sent.filter(({ order }) => order.kind === "no-value").length;
  clock.advance(9_000);
  expect(refusals()).toBe(0);
  clock.advance(3_000);
  expect(sent.at(-1)).toMatchObject({ to: "n4", order: { kind: "no-value", why: "n1 is not connected to the hub" } });
  clock.advance(60_000);
  expect(refusals()).toBeLessThan(5);
  values.ask(n4, asked([n1]));
  clock.advance(4 * 60_000);
  expect(values.size).toBe(1);
  online.add(n1);
  clock.advance(60_000);
  expect(says().at(-1)).toBe("n1 make");
  values.notMade(n1, { kind: "not-made", id: lastId(), why: "no" });
  clock.advance(10 * 60_000);
  expect(values.size).toBe(0);
});

test("a new question for the same thing takes the place of the old one, whose answer nobody gets", () => {
  values.ask(n4, asked([n1]));
  const old = lastId();
  values.ask(n4, asked([n1], uuid(2)));
  values.made(n1, { kind: "made", id: old, ok: true, sealed: "old" });
  values.made(n1, { kind: "made", id: lastId(), ok: true, sealed: "new" });
  expect(sent.filter(({ order }) => order.kind === "value").map(({ order }) => order)).toEqual([{ v: 1, kind: "value", ask: uuid(2), maker: "n1", sealed: "new" }]);
});

test("one node cannot fill it, and all together cannot either", () => {
  for (let count = 0; count < 60; count += 1) values.ask(n4, asked([n1], uuid(count), `join/k${count}`));
  expect(values.size).toBe(50);
  expect(warned).toHaveLength(10);
  for (let node = 0; node < 30; node += 1) for (let count = 0; count < 50; count += 1) values.ask(NodeName.parse(`m${node}`), asked([n1], uuid(count), `join/k${count}`));
  expect(values.size).toBe(1_000);
  values.stop();
  expect(values.size).toBe(0);
});
