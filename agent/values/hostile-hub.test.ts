import * as fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import { NodeName } from "../../shared/ids.ts";
import { newIdentity } from "../../shared/secrets/age.ts";
import type { KeyPair } from "../../shared/secrets/age.ts";
import type { AskEvent } from "../../shared/protocol/values.ts";
import { Asker } from "./asker.ts";
import type { Need } from "./asker.ts";
import { sealContent } from "./envelope.ts";

/**
 * A hub that does what it wants: it hands over what it has seen, when, to whom and under whichever name it likes, and makes
 * up values of its own, since it knows all recipients. Whatever it does, a node only ever goes by what one of those that it
 * asked has made, for this node, this key and this question.
 */

const makers = ["n1", "n3"] as const;
const needs: readonly Need[] = ["join/n2", "state/n3"].map((key) => ({ kind: "club", key, from: [...makers], what: key, lastsMs: 3_600_000 }));
let keys: Record<string, KeyPair>;

beforeAll(async () => {
  keys = Object.fromEntries(await Promise.all(["n1", "n2", "n3", "n4", "hub"].map(async (name) => [name, await newIdentity()] as const)));
});

const action = fc.record({
  do: fc.constantFrom("run" as const, "make" as const, "make" as const, "hand" as const, "hand" as const, "hand" as const, "forge" as const),
  /** Which question, of those ever put; which sealed text, of those ever made. */
  ask: fc.nat(30),
  sealed: fc.nat(30),
  maker: fc.constantFrom("n1", "n3", "n4"),
  node: fc.constantFrom("n2", "n2", "n4"),
  key: fc.constantFrom("join/n2", "state/n3", "join/n4"),
});

test("no order, doubling, exchange or invention of the hub's gives a node a value that was not made for its question", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 25 }), async (actions) => {
      const asks: AskEvent[] = [];
      const sealed: string[] = [];
      let [count, nowMs] = [0, 0];
      const clock: Clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel() {} }) };
      const recipients = new Map(Object.entries(keys).filter(([name]) => name !== "hub").map(([name, { recipient }]) => [name, recipient]));
      const asker = new Asker({ self: "n2", clock, newId: () => `7d0f8a52-5d0c-4e6c-9a52-${String((count += 1)).padStart(12, "0")}`, identity: async () => keys["n2"]!.identity, recipients: () => recipients, tell: async (event) => void asks.push(event), arrived: () => {}, log: () => {} });
      const handed = new Map<string, number>();
      const run = (wanted: readonly Need[]): void => {
        const hand = asker.hand();
        for (const [key, value] of hand.to("club")) {
          const made = JSON.parse(value) as { by: string; node: string; key: string; ask: string };
          expect(makers).toContain(made.by);
          expect([made.node, made.key]).toEqual(["n2", key]);
          // One question is answered once, by one value.
          const before = handed.get(made.ask);
          expect(before === undefined || before === nowMs - 10_000, `the question ${made.ask} was answered before`).toBe(true);
          handed.set(made.ask, nowMs);
        }
        hand.over(wanted);
      };
      run(needs);
      await new Promise<void>((resolve) => setImmediate(resolve));
      for (const { do: what, ask, sealed: which, maker, node, key } of actions) {
        const asked = asks[ask % asks.length];
        if (asked === undefined) continue;
        if (what === "run") {
          nowMs += 10_000;
          run([]);
          run(needs);
        } else if (what === "make") {
          // An honest maker that the hub has told what it wants.
          const question = { ask: asked.ask, section: "club", key, node, maker };
          sealed.push((await sealContent(question, { ok: true, value: JSON.stringify({ by: maker, node, key, ask: asked.ask }) }, { identity: keys[maker]!.identity, recipient: keys[node]!.recipient })) ?? "");
        } else if (what === "forge") {
          sealed.push((await sealContent({ ask: asked.ask, section: "club", key: asked.key, node: "n2", maker }, { ok: true, value: JSON.stringify({ by: "hub", node: "n2", key: asked.key, ask: asked.ask }) }, { identity: keys["hub"]!.identity, recipient: keys["n2"]!.recipient })) ?? "");
        } else if (sealed.length > 0) {
          await asker.take({ v: 1, kind: "value", ask: asked.ask, maker: NodeName.parse(maker), sealed: sealed[which % sealed.length] ?? "" });
        }
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      nowMs += 10_000;
      run([]);
    }),
    { numRuns: 60 },
  );
}, 120_000);
