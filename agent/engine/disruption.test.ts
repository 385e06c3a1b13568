import * as z from "zod";
import { describe, expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import type { Kind, Step } from "../../shared/kinds/kind.ts";
import { defineKind } from "../../shared/kinds/kind.ts";
import { MemoryHost, PowerCut } from "../host/memory.ts";
import { Engine } from "./engine.ts";
import { Inventory } from "./inventory.ts";
import type { InventoryStore } from "./inventory.ts";
import type { Desired } from "./plan.ts";

/** What takes down what the cluster leans on is done under a lease, and at no other time, whatever crashes when. */

const texts: Kind = defineKind({
  name: "texts",
  summary: "files that restart something",
  schema: z.record(z.string(), z.object({ text: z.string(), restart: z.string().optional() })),
  observe: async (want, probe) => new Map(await Promise.all(Object.keys(want).map(async (path) => [path, await probe.readText(path)] as const))),
  plan: (want, facts): readonly Step[] =>
    Object.entries(want).filter(([path, { text }]) => facts.get(path) !== text).map(([path, { text, restart }]): Step => ({ resource: `texts/${path}`, why: "differs", impact: "service", do: "write", path, content: new TextEncoder().encode(text), mode: 0o644, owner: "root", group: "root", ...(restart !== undefined && { then: [{ unit: restart, action: "restart" as const }] }) })),
}) as Kind;
const starts: Kind = defineKind({
  name: "starts",
  summary: "units that run",
  schema: z.record(z.string(), z.literal("running")),
  observe: async (_want, probe) => new Set(((await probe.readText("/running")) ?? "").split(" ")),
  plan: (want, facts): readonly Step[] => Object.keys(want).filter((unit) => !facts.has(unit)).map((unit): Step => ({ resource: `starts/${unit}`, why: "is not running", impact: "service", do: "unit", action: "start", unit })),
}) as Kind;

class Node {
  readonly host = new MemoryHost();
  #stored: string | null = null;
  readonly #store: InventoryStore = {
    load: async () => (this.#stored === null ? null : JSON.parse(this.#stored)),
    save: async (data) => {
      this.host.step("save");
      this.#stored = JSON.stringify(data);
    },
  };
  readonly #clock: Clock = { nowMs: () => 1_000_000_000_000, monotonicMs: () => 0, after: () => ({ cancel() {} }) };

  constructor() {
    const { files, running } = this.host;
    this.host.probe.readText = async (path) => (path === "/running" ? [...running].join(" ") : (files.get(path)?.content ?? null));
  }

  async converge(desired: Desired, disruption: "hold" | "allowed") {
    const engine = new Engine({ kinds: [texts, starts], host: this.host, inventory: await Inventory.open(this.#store), clock: this.#clock });
    return engine.converge(desired, { cause: "push", disruption });
  }

  get restarts(): readonly string[] {
    return this.host.done.filter((each) => each.startsWith("restart "));
  }
}

function desired(sections: Record<string, unknown>, more: Partial<Desired> = {}): Desired {
  return { commit: "1".padStart(40, "0"), sections: new Map(Object.entries(sections)), digestOf: () => "", resources: 1, removalsMax: 10, repairsMax: 5, ...more };
}

const wanted = desired({
  services: { "store.service": { disruptive: true }, "web.service": {} },
  texts: { "/etc/store": { text: "new", restart: "store.service" }, "/etc/web": { text: "new", restart: "web.service" } },
});

describe("a unit that is called disruptive", () => {
  test("is not restarted by any kind, and what would ask for it is not done either, until there is a lease", async () => {
    const node = new Node();
    const held = await node.converge(wanted, "hold");
    expect(held).toMatchObject({ outcome: "held", held: ["texts//etc/store"] });
    expect(held.changes.filter(({ result }) => result === "held")).toMatchObject([{ resource: "texts//etc/store", impact: "disruptive" }]);
    expect(node.restarts).toEqual(["restart web.service"]);
    expect(node.host.files.has("/etc/store")).toBe(false);

    const report = await node.converge(wanted, "allowed");
    expect(report).toMatchObject({ outcome: "converged" });
    expect(report.held).toBeUndefined();
    expect(node.restarts).toEqual(["restart web.service", "restart store.service"]);
    expect(await node.converge(wanted, "hold")).toMatchObject({ outcome: "converged", changes: [] });
  });

  test("the power goes between any two lines of the run under the lease: what is left waits for the next one", async () => {
    let cuts = 0;
    for (let after = 0; after < 100; after++) {
      const node = new Node();
      node.host.powerCutAfter = after;
      const cut = await node.converge(wanted, "allowed").then(() => false, (error: unknown) => {
        if (!(error instanceof PowerCut)) throw error;
        return true;
      });
      node.host.powerCutAfter = undefined;
      if (!cut) break;
      cuts++;
      const before = node.restarts.filter((each) => each.includes("store")).length;
      const between = await node.converge(wanted, "hold");
      expect(node.restarts.filter((each) => each.includes("store")), `after ${after}`).toHaveLength(before);
      expect(["held", "converged"]).toContain(between.outcome);
      await node.converge(wanted, "allowed");
      expect(node.host.files.get("/etc/store")?.content).toBe("new");
      expect(node.restarts.filter((each) => each.includes("store")).length, `after ${after}`).toBeGreaterThanOrEqual(1);
      expect(await node.converge(wanted, "hold")).toMatchObject({ outcome: "converged" });
    }
    expect(cuts).toBeGreaterThan(5);
  });
});

test("what was stopped for the lease is not started by the run under it, and is no failure", async () => {
  const node = new Node();
  const sections = { starts: { "web.service": "running", "other.service": "running" } };
  expect(await node.converge(desired(sections, { drained: new Set(["web.service"]) }), "allowed")).toMatchObject({ outcome: "converged" });
  expect([...node.host.running]).toEqual(["other.service"]);
  await node.converge(desired(sections), "hold");
  expect([...node.host.running]).toEqual(["other.service", "web.service"]);
});
