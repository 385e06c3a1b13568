import * as z from "zod";
import { beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import { defineKind } from "../../shared/kinds/kind.ts";
import type { ResourceId, Step } from "../../shared/kinds/kind.ts";
import { MemoryHost } from "../host/memory.ts";
import { Engine } from "./engine.ts";
import type { ConvergeOptions } from "./engine.ts";
import { Inventory } from "./inventory.ts";
import type { Desired } from "./plan.ts";
import type { Ask } from "./run.ts";

/** What may not be done yet: what takes down what the cluster leans on, and what waits for another node. */

const Thing = z.object({ impact: z.enum(["none", "service", "disruptive", "reboot"]).default("none"), then: z.literal("disruptive").optional(), needs: z.string().optional(), oneWay: z.string().optional() });
const things = defineKind({
  name: "things",
  summary: "files",
  schema: z.record(z.string(), Thing),
  observe: async (want, probe, owned) => new Set((await Promise.all([...Object.keys(want), ...owned.keys()].map(async (path) => ((await probe.stat(path)) === null ? [] : [path])))).flat()),
  plan(want, facts, owned): readonly Step[] {
    const write = (path: string, resource: ResourceId, impact: Step["impact"], more: object = {}): Step => ({ resource, why: "is missing", impact, do: "write", path, content: new Uint8Array(), mode: 0o644, owner: "root", group: "root", claim: {}, then: [{ unit: "cluster", action: "restart" }], ...more });
    return [
      ...Object.entries(want).filter(([path]) => !facts.has(path)).flatMap(([path, { impact, then, needs, oneWay }]) => {
        const more = { ...(needs === undefined ? {} : { needs: [needs as ResourceId] }), ...(oneWay === undefined ? {} : { oneWay }) };
        return [write(path, `things/${path}`, impact, more), ...(then === undefined ? [] : [write(`${path}.then`, `things/${path}`, then, more)])];
      }),
      ...[...owned.keys()].filter((path) => want[path] === undefined && facts.has(path)).map((path): Step => ({ resource: `things/${path}`, why: "is no longer declared", impact: "disruptive", do: "restore", path, removes: true, release: true })),
    ];
  },
});

/** Joins something: needs a token of another node, and is disruptive itself. */
const clusters = defineKind({
  name: "clusters",
  summary: "clusters",
  schema: z.record(z.string(), z.object({ impact: z.enum(["none", "disruptive"]).default("none") })),
  observe: async (want, probe) => new Set((await Promise.all(Object.keys(want).map(async (name) => ((await probe.stat(`/cluster/${name}`)) === null ? [] : [name])))).flat()),
  plan: (want, facts, _owned, given = new Map()): readonly Step[] =>
    Object.entries(want).filter(([name]) => !facts.has(name)).flatMap(([name, { impact }]): Step[] => {
      const about = { resource: `clusters/${name}`, why: "is no member", impact } as const;
      const join: Step = { ...about, do: "write", path: `/cluster/${name}`, content: new Uint8Array(), mode: 0o600, owner: "root", group: "root" };
      return given.has(`join/${name}`) ? [join] : [{ ...about, do: "ask", key: `join/${name}`, from: ["n1", "n2"], what: "a token to join", lastsMs: 60_000 }, join];
    }),
});

const clock: Clock = { nowMs: () => 1_000_000_000_000, monotonicMs: () => 0, after: () => ({ cancel() {} }) };
let host: MemoryHost;
let engine: Engine;
beforeEach(async () => {
  host = new MemoryHost();
  engine = new Engine({ kinds: [things, clusters], host, inventory: await Inventory.open({ load: async () => null, save: async () => {} }), clock });
});

const desired = (sections: Record<string, object>, given: Record<string, string> = {}): Desired => ({
  commit: "c".repeat(40),
  sections: new Map(Object.entries(sections).map(([name, section]) => [name, name === "things" ? things.schema.parse(section) : clusters.schema.parse(section)])),
  digestOf: String,
  givenTo: () => new Map(Object.entries(given)),
  resources: 1,
  removalsMax: 10,
  repairsMax: 5,
});
const converge = (wanted: Desired, options: Partial<ConvergeOptions> = {}) => engine.converge(wanted, { cause: "push", ...options });
const results = (report: { changes: readonly { resource: string; result: string }[] }) => report.changes.map(({ resource, result }) => `${result} ${resource}`);

describe("without a lease", () => {
  test("what is disruptive is listed, what needs it too, and the rest is done", async () => {
    const wanted = desired({ things: { "/calm": {}, "/wild": { impact: "disruptive" }, "/after": { needs: "things//wild" }, "/later": { needs: "things//after" }, "/boots": { impact: "reboot" } } });
    const report = await converge(wanted);
    expect(report.outcome).toBe("held");
    expect(results(report)).toEqual(["done things//calm", "done services/cluster", "held things//wild", "held things//after", "held things//later", "held things//boots"]);
    expect(report.held).toEqual(["things//wild", "things//after", "things//later", "things//boots"]);
    expect([...host.files.keys()]).toEqual(["/calm"]);
    expect(report.changes.find(({ resource }) => resource === "things//after")?.error).toBe("needs things//wild, which waits for this node's turn");
  });

  test("a resource waits as a whole: not half of it is done, and nothing of it is claimed or pending", async () => {
    const wanted = desired({ things: { "/half": { then: "disruptive" } } });
    const report = await converge(wanted);
    expect(host.files.size).toBe(0);
    expect(host.done).toEqual([]);
    expect(report).toMatchObject({ outcome: "held", held: ["things//half"] });
    const again = await converge(wanted, { cause: "sweep" });
    expect(again).toMatchObject({ outcome: "held", held: ["things//half"] });
  });

  test("what fails is failed, and what waits is still listed", async () => {
    host.broken.add("/calm");
    const report = await converge(desired({ things: { "/calm": {}, "/wild": { impact: "disruptive" } } }));
    expect(report).toMatchObject({ outcome: "failed", held: ["things//wild"] });
  });

  test("a removal waits as well", async () => {
    await converge(desired({ things: { "/calm": {} } }));
    expect(await converge(desired({}))).toMatchObject({ outcome: "held", held: ["things//calm"] });
    expect(host.files.has("/calm")).toBe(true);
    expect((await converge(desired({}), { disruption: "allowed" })).outcome).toBe("converged");
    expect(host.files.size).toBe(0);
  });
});

test("under a lease, all of it is done", async () => {
  const wanted = desired({ things: { "/wild": { impact: "disruptive" }, "/after": { needs: "things//wild" }, "/half": { then: "disruptive" } } });
  await converge(wanted);
  const report = await converge(wanted, { disruption: "allowed" });
  expect(report.outcome).toBe("converged");
  expect(report.held).toBeUndefined();
  expect([...host.files.keys()].toSorted()).toEqual(["/after", "/half", "/half.then", "/wild"]);
});

describe("what another node has to make", () => {
  const asked = async (wanted: Desired, options: Partial<ConvergeOptions> = {}) => {
    const asks: (readonly Ask[])[] = [];
    const report = await converge(wanted, { ...options, onAsks: (all) => asks.push(all) });
    return { report, asks };
  };

  test("is asked for, and the resource waits for it and does not fail", async () => {
    const wanted = { clusters: { big: {} }, things: { "/calm": {} } };
    const { report, asks } = await asked(desired(wanted));
    expect(asks).toEqual([[{ kind: "clusters", key: "join/big", from: ["n1", "n2"], what: "a token to join", lastsMs: 60_000 }]]);
    expect(report.outcome).toBe("held");
    expect(report.held).toBeUndefined();
    expect(results(report)).toEqual(["done things//calm", "done services/cluster", "waiting clusters/big", "waiting clusters/big"]);
    expect(report.changes.at(-1)?.error).toBe("waits for a token to join, which n1 or n2 can make");
    const given = await asked(desired(wanted, { "join/big": "secret" }));
    expect(given.report.outcome).toBe("converged");
    expect(given.asks).toEqual([[]]);
  });

  test("is asked for ahead of the lease that it needs besides", async () => {
    const { report, asks } = await asked(desired({ clusters: { big: { impact: "disruptive" } } }));
    expect(asks[0]).toHaveLength(1);
    expect(report).toMatchObject({ outcome: "held", held: ["clusters/big"] });
  });

  test("shows in a plan", async () => {
    const plan = await engine.plan(desired({ clusters: { big: {} } }));
    expect(results(plan)).toEqual(["waiting clusters/big", "planned clusters/big"]);
  });
});

test("what cannot be taken back is said before it starts, and in the plan", async () => {
  const wanted = desired({ things: { "/key": { oneWay: "the old key is gone then" } } });
  expect((await engine.plan(wanted)).changes[0]).toMatchObject({ oneWay: "the old key is gone then", result: "planned" });
  const said: string[] = [];
  await converge(wanted, { onProgress: (action) => said.push(action) });
  expect(said[0]).toBe("write /key (cannot be taken back: the old key is gone then)");
});
