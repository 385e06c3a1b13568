import * as z from "zod";
import { beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import { defineKind } from "../../shared/kinds/kind.ts";
import type { Kind, Step } from "../../shared/kinds/kind.ts";
import { CannotKeep } from "../host/host.ts";
import { MemoryHost, PowerCut } from "../host/memory.ts";
import { Engine } from "./engine.ts";
import { Inventory } from "./inventory.ts";
import type { InventoryData, InventoryStore } from "./inventory.ts";
import type { Desired } from "./plan.ts";

/** Kinds of three lines each, in the shape of the real ones, so that what is tested is the engine. */

const wares = defineKind({
  name: "wares",
  summary: "packages",
  schema: z.record(z.string(), z.literal("present")),
  observe: async (_want, probe) => new Set(((await probe.readText("/installed")) ?? "").split(" ")),
  plan: (want, facts, owned): readonly Step[] => [
    ...Object.keys(want).filter((name) => !facts.has(name)).map((name): Step => ({ resource: `wares/${name}`, why: "is not installed", impact: "none", do: "package", action: "install", name, claim: {} })),
    ...[...owned.keys()].filter((name) => want[name] === undefined).map((name): Step => ({ resource: `wares/${name}`, why: "is no longer declared", impact: "service", do: "package", action: "remove", name, removes: true, release: true })),
  ],
});

const texts = defineKind({
  name: "texts",
  summary: "files",
  schema: z.record(z.string(), z.object({ text: z.string(), restart: z.string().optional(), needs: z.string().optional(), secret: z.boolean().optional() })),
  observe: async (want, probe) => new Map(await Promise.all(Object.keys(want).map(async (path) => [path, await probe.readText(path)] as const))),
  plan: (want, facts, owned): readonly Step[] => [
    ...Object.entries(want).filter(([path, { text }]) => facts.get(path) !== text).map(
      ([path, { text, restart, needs, secret }]): Step => ({
        resource: `texts/${path}`,
        why: "differs",
        impact: "none",
        do: "write",
        path,
        content: new TextEncoder().encode(text),
        mode: 0o644,
        owner: "root",
        group: "root",
        claim: {},
        ...(restart === undefined ? {} : { then: [{ unit: restart, action: "restart" as const }] }),
        ...(needs === undefined ? {} : { needs: [needs as `${string}/${string}`] }),
        ...(secret ? { sensitive: true as const } : {}),
      }),
    ),
    ...[...owned.keys()].filter((path) => want[path] === undefined).map((path): Step => ({ resource: `texts/${path}`, why: "is no longer declared", impact: "none", do: "restore", path, removes: true, release: true })),
  ],
});

const units = defineKind({
  name: "units",
  summary: "services",
  schema: z.record(z.string(), z.literal("running")),
  observe: async (_want, probe) => new Set(((await probe.readText("/running")) ?? "").split(" ")),
  plan: (want, facts): readonly Step[] => Object.keys(want).filter((unit) => !facts.has(unit)).map((unit): Step => ({ resource: `units/${unit}`, why: "is not running", impact: "service", do: "unit", action: "start", unit })),
});

const blind: Kind = { name: "blind", summary: "cannot look", schema: z.record(z.string(), z.json()), observe: () => Promise.reject(new Error("the tool is missing")), plan: () => [] };

class Node {
  readonly host = new MemoryHost();
  stored: string | null = null;
  nowMs = 1_000_000_000_000;
  readonly clock: Clock = { nowMs: () => this.nowMs, monotonicMs: () => this.nowMs, after: () => ({ cancel() {} }) };
  readonly store: InventoryStore = {
    load: async () => (this.stored === null ? null : JSON.parse(this.stored)),
    save: async (data: InventoryData) => {
      this.host.step("save inventory");
      this.stored = JSON.stringify(data);
    },
  };

  constructor() {
    // The state of packages and units is read as files, as the real kinds do.
    const files = this.host.files;
    const read = (path: string) => this.host.files.get(path)?.content ?? null;
    this.host.probe.readText = async (path) => {
      if (path === "/installed") return [...this.host.installed].join(" ");
      if (path === "/running") return [...this.host.running].join(" ");
      return files.has(path) ? read(path) : null;
    };
  }

  /** A fresh process on the same disk. */
  async engine(): Promise<Engine> {
    return new Engine({ kinds: [wares, texts, units, blind], host: this.host, inventory: await Inventory.open(this.store), clock: this.clock });
  }

  async converge(wanted: Desired, options: Partial<Parameters<Engine["converge"]>[1]> = {}) {
    return (await this.engine()).converge(wanted, { cause: "push", ...options });
  }
}

let commits = 0;
function desired(sections: Record<string, unknown>, limits: { removalsMax?: number; repairsMax?: number; commit?: string } = {}): Desired {
  commits += 1;
  return {
    commit: limits.commit ?? commits.toString(16).padStart(40, "0"),
    sections: new Map(Object.entries(sections)),
    digestOf: (resource) => JSON.stringify(sections[resource.split("/")[0] ?? ""] ?? null),
    resources: 1,
    removalsMax: limits.removalsMax ?? 10,
    repairsMax: limits.repairsMax ?? 5,
  };
}

describe("the engine", () => {
  let node: Node;
  beforeEach(() => {
    node = new Node();
  });

  test("converges, and says converged only when a second look finds nothing", async () => {
    const report = await node.converge(desired({ wares: { web: "present" }, texts: { "/etc/web": { text: "a" } }, units: { web: "running" } }));
    expect(report.outcome).toBe("converged");
    expect(report.changes.map((change) => [change.resource, change.result])).toEqual([["wares/web", "done"], ["texts//etc/web", "done"], ["units/web", "done"]]);
    expect(report.changes[1]?.diff).toContain("+a");
  });

  test("does nothing where there is nothing to do, and starts no process for it", async () => {
    const wanted = desired({ texts: { "/etc/web": { text: "a" } } });
    await node.converge(wanted);
    const before = node.host.done.length;
    const report = await node.converge(wanted, { cause: "sweep" });
    expect(report).toMatchObject({ outcome: "converged", changes: [], processes: 0 });
    expect(node.host.done).toHaveLength(before);
  });

  test("a change that does not stay is reported, not believed", async () => {
    const apply = node.host.apply.bind(node.host);
    node.host.apply = async (step, earlier) => {
      const result = await apply(step, earlier);
      node.host.files.set("/etc/web", { content: "somebody else", mode: 0o644 });
      return result;
    };
    const report = await node.converge(desired({ texts: { "/etc/web": { text: "a" } } }));
    expect(report.outcome).toBe("failed");
    expect(report.changes.at(-1)?.error).toContain("a second look finds it different again");
  });

  test("what somebody else changes during a run is repaired by the same run, and is no failure of it", async () => {
    const wanted = desired({ texts: { "/etc/a": { text: "a" }, "/etc/b": { text: "b" } } });
    await node.converge(wanted);
    node.host.files.set("/etc/a", { content: "drift", mode: 0o644 });
    const apply = node.host.apply.bind(node.host);
    node.host.apply = async (step, earlier) => {
      node.host.apply = apply;
      const result = await apply(step, earlier);
      node.host.files.set("/etc/b", { content: "drift", mode: 0o644 });
      return result;
    };
    const report = await node.converge(wanted, { cause: "drift" });
    expect(report.outcome).toBe("converged");
    expect(node.host.files.get("/etc/b")?.content).toBe("b");
  });

  test("a failure blocks what depends on it, and nothing else", async () => {
    node.host.broken.add("missing");
    const report = await node.converge(
      desired({ wares: { missing: "present", web: "present" }, texts: { "/a": { text: "a", needs: "wares/missing" }, "/b": { text: "b", needs: "wares/web" } }, units: { web: "running" } }),
    );
    expect(report.outcome).toBe("failed");
    const results = Object.fromEntries(report.changes.map((change) => [change.resource, change.result]));
    expect(results).toEqual({ "wares/missing": "failed", "wares/web": "done", "texts//a": "blocked", "texts//b": "done", "units/web": "done" });
    expect(report.changes.find((change) => change.result === "blocked")?.error).toContain("wares/missing");
  });

  test("one bad unit does not keep the others from starting", async () => {
    node.host.broken.add("bad");
    const report = await node.converge(desired({ units: { bad: "running", good: "running" } }));
    expect(report.changes.map((change) => [change.resource, change.result])).toEqual([["units/bad", "failed"], ["units/good", "done"]]);
  });

  test("a kind that cannot look is said to, and keeps nobody else from converging", async () => {
    const report = await node.converge(desired({ blind: { x: 1 }, texts: { "/a": { text: "a" } } }));
    expect(report.outcome).toBe("failed");
    expect(node.host.files.get("/a")?.content).toBe("a");
    expect(report.problems[0]).toMatchObject({ code: "observe", message: expect.stringContaining("the tool is missing") });
  });

  describe("prune", () => {
    test("takes away what the agent made, and puts back what was there before", async () => {
      node.host.files.set("/etc/old", { content: "by hand", mode: 0o600 });
      await node.converge(desired({ texts: { "/etc/old": { text: "ours" }, "/etc/new": { text: "ours" } } }));
      const report = await node.converge(desired({}));
      expect(report.outcome).toBe("converged");
      expect(node.host.files.get("/etc/old")).toEqual({ content: "by hand", mode: 0o600 });
      expect(node.host.files.has("/etc/new")).toBe(false);
    });

    test("leaves what the agent found already there", async () => {
      node.host.installed.add("vim");
      await node.converge(desired({ wares: { vim: "present", web: "present" } }));
      await node.converge(desired({}));
      expect([...node.host.installed]).toEqual(["vim"]);
    });

    test("what failed to be made is not ours, and is never taken away", async () => {
      node.host.broken.add("web");
      await node.converge(desired({ wares: { web: "present" } }));
      node.host.broken.clear();
      node.host.installed.add("web");
      const report = await node.converge(desired({}));
      expect(report.changes).toEqual([]);
      expect(node.host.installed.has("web")).toBe(true);
    });

    test("what was right before and then broken by hand is repaired, and stays not ours", async () => {
      node.host.files.set("/a", { content: "a", mode: 0o644 });
      const wanted = desired({ texts: { "/a": { text: "a" } } });
      await node.converge(wanted);
      node.host.files.set("/a", { content: "drift", mode: 0o644 });
      await node.converge(wanted, { cause: "drift" });
      await node.converge(desired({}));
      expect(node.host.files.get("/a")?.content).toBe("a");
    });

    test("goes in reverse order of kinds, before anything is made", async () => {
      await node.converge(desired({ wares: { web: "present" }, texts: { "/a": { text: "a" } } }));
      const report = await node.converge(desired({ texts: { "/b": { text: "b" } } }));
      expect(report.changes.map((change) => change.resource)).toEqual(["texts//a", "wares/web", "texts//b"]);
    });
  });

  test("what is to be absent is removed also when a package brings it along in the same run", async () => {
    const absent: Kind = {
      name: "absent",
      summary: "files that must not be",
      schema: z.record(z.string(), z.literal(true)),
      observe: async (_want, probe) => probe.stat("/etc/web/default"),
      plan: (_want, facts) => (facts === null ? [] : [{ resource: "absent//etc/web/default", why: "should not exist", impact: "none", removes: true, do: "remove", path: "/etc/web/default" }]),
    };
    const install = node.host.packages.bind(node.host);
    node.host.packages = async (steps) => {
      node.host.files.set("/etc/web/default", { content: "it works", mode: 0o644 });
      return install(steps);
    };
    const engine = new Engine({ kinds: [wares, absent], host: node.host, inventory: await Inventory.open(node.store), clock: node.clock });
    const report = await engine.converge(desired({ wares: { web: "present" }, absent: { "/etc/web/default": true } }), { cause: "push" });
    expect(report.outcome).toBe("converged");
    expect(node.host.files.has("/etc/web/default")).toBe(false);
  });

  describe("the removal guard", () => {
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`/f${at}`, { text: "x" }]));

    test("stops a commit that would take away too much, and changes nothing", async () => {
      await node.converge(desired({ texts: many(12) }));
      const before = node.host.done.length;
      const report = await node.converge(desired({ texts: { "/other": { text: "y" } } }));
      expect(report).toMatchObject({ outcome: "stopped", changes: [], problems: [{ code: "removal-guard" }] });
      expect(report.problems[0]?.message).toContain("Evenkeel-Allow-Removals: 12");
      expect(node.host.done).toHaveLength(before);
    });

    test("lets it through when the owner has said so", async () => {
      await node.converge(desired({ texts: many(12) }));
      expect((await node.converge(desired({}), { removalsAllowed: 12 })).outcome).toBe("converged");
      expect(node.host.files.size).toBe(0);
    });

    test("is seen in the plan", async () => {
      await node.converge(desired({ texts: many(12) }));
      const plan = await (await node.engine()).plan(desired({}));
      expect(plan.problems[0]?.code).toBe("removal-guard");
    });
  });

  describe("restarts", () => {
    const wanted = desired({ texts: { "/etc/a": { text: "a", restart: "web" }, "/etc/b": { text: "b", restart: "web" } } });

    test("come once, after everything", async () => {
      await node.converge(wanted);
      expect(node.host.done.filter((what) => what === "restart web")).toHaveLength(1);
      expect(node.host.done.indexOf("restart web")).toBeGreaterThan(node.host.done.indexOf("write /etc/b"));
    });

    test("are held back while not everything could be written, and made up for later", async () => {
      node.host.broken.add("/etc/b");
      expect((await node.converge(wanted)).outcome).toBe("failed");
      expect(node.host.done).not.toContain("restart web");
      node.host.broken.clear();
      expect((await node.converge(wanted)).outcome).toBe("converged");
      expect(node.host.done).toContain("restart web");
    });

    test("that fail are tried again by the next run, although the files are right by then", async () => {
      node.host.broken.add("web");
      expect((await node.converge(wanted)).outcome).toBe("failed");
      node.host.broken.clear();
      expect((await node.converge(wanted, { cause: "retry" })).changes).toMatchObject([{ action: "restart web", result: "done" }]);
    });

    test("are left out for a unit that was started afterwards anyway", async () => {
      await node.converge(desired({ texts: { "/etc/a": { text: "a", restart: "web" } }, units: { web: "running" } }));
      expect(node.host.done).toContain("start web");
      expect(node.host.done).not.toContain("restart web");
    });
  });

  test("what cannot be kept is not touched, and fails alone", async () => {
    node.host.files.set("/big", { content: "theirs", mode: 0o644 });
    const keep = node.host.keep.bind(node.host);
    node.host.keep = (path) => (path === "/big" ? Promise.reject(new CannotKeep("too large")) : keep(path));
    const report = await node.converge(desired({ texts: { "/big": { text: "ours" }, "/b": { text: "b" } } }));
    expect(report.outcome).toBe("failed");
    expect(node.host.files.get("/big")?.content).toBe("theirs");
    expect(node.host.files.get("/b")?.content).toBe("b");
  });

  test("a write that failed leaves no memory of what stood there: a later owner's edit is what comes back", async () => {
    node.host.files.set("/a", { content: "january", mode: 0o644 });
    node.host.broken.add("/a");
    await node.converge(desired({ texts: { "/a": { text: "ours" } } }));
    await node.converge(desired({}));
    node.host.broken.clear();
    node.host.files.set("/a", { content: "december", mode: 0o644 });
    await node.converge(desired({ texts: { "/a": { text: "ours" } } }));
    await node.converge(desired({}));
    expect(node.host.files.get("/a")?.content).toBe("december");
  });

  describe("the breaker", () => {
    test("trips also on a commit that was never held as a whole", async () => {
      node.host.broken.add("missing");
      const wanted = desired({ wares: { missing: "present" }, texts: { "/a": { text: "a" } } }, { repairsMax: 3 });
      for (let look = 0; look < 6; look += 1) {
        node.host.files.set("/a", { content: "drift", mode: 0o644 });
        await node.converge(wanted, { cause: "retry" });
      }
      expect(node.host.files.get("/a")?.content).toBe("drift");
    });

    test("leaves alone and reports what comes back again and again, until the repository changes it or somebody says retry", async () => {
      const wanted = desired({ texts: { "/a": { text: "a" } } }, { repairsMax: 3 });
      await node.converge(wanted);
      for (let repair = 1; repair <= 3; repair += 1) {
        node.host.files.set("/a", { content: "drift", mode: 0o644 });
        expect((await node.converge(wanted, { cause: "drift" })).outcome).toBe("converged");
      }
      node.host.files.set("/a", { content: "drift", mode: 0o644 });
      const tripped = await node.converge(wanted, { cause: "drift" });
      expect(tripped).toMatchObject({ outcome: "failed", problems: [{ code: "breaker", resource: "texts//a" }], changes: [{ result: "blocked" }] });
      expect(node.host.files.get("/a")?.content).toBe("drift");
      expect((await node.converge(wanted, { cause: "asked", retry: true })).outcome).toBe("converged");
    });

    test("lets one attempt through after some hours", async () => {
      const wanted = desired({ texts: { "/a": { text: "a" } } }, { repairsMax: 1 });
      await node.converge(wanted);
      const drift = () => node.host.files.set("/a", { content: "drift", mode: 0o644 });
      drift();
      await node.converge(wanted, { cause: "drift" });
      drift();
      expect((await node.converge(wanted, { cause: "drift" })).outcome).toBe("failed");
      node.nowMs += 7 * 3_600_000;
      expect((await node.converge(wanted, { cause: "sweep" })).outcome).toBe("converged");
    });
  });

  test("a secret shows in no diff and no error", async () => {
    const report = await node.converge(desired({ texts: { "/s": { text: "hunter2", secret: true } } }));
    expect(JSON.stringify(report)).not.toContain("hunter2");
    node.host.broken.add("/t");
    const failing = await node.converge(desired({ texts: { "/t": { text: "hunter3", secret: true } } }));
    expect(failing.outcome).toBe("failed");
    expect(JSON.stringify(failing)).not.toContain("hunter3");
  });

  test("stops between two steps when asked, and the next run does the rest", async () => {
    const interrupt = new AbortController();
    const wanted = desired({ texts: { "/a": { text: "a", restart: "web" }, "/b": { text: "b" } } });
    const report = await node.converge(wanted, { signal: interrupt.signal, onProgress: () => interrupt.abort() });
    expect(report.outcome).toBe("interrupted");
    expect(node.host.files.has("/b")).toBe(false);
    expect((await node.converge(wanted, { cause: "start" })).outcome).toBe("converged");
    expect(node.host.done).toContain("restart web");
  });

  test("a plan changes nothing at all", async () => {
    const plan = await (await node.engine()).plan(desired({ wares: { web: "present" }, texts: { "/a": { text: "a" } } }));
    expect(plan.changes.map((change) => change.result)).toEqual(["planned", "planned"]);
    expect(node.host.done).toEqual([]);
    expect(node.stored).toBe(null);
  });

  test("the power may go before any operation: the next start ends in the same state, restarts included, and prune still puts everything back", async () => {
    const wanted = desired({ wares: { web: "present" }, texts: { "/etc/old": { text: "ours", restart: "web" }, "/etc/new": { text: "ours", restart: "web" } }, units: { db: "running" } });
    const nothing = desired({});
    for (let cut = 0; ; cut += 1) {
      const fresh = new Node();
      fresh.host.files.set("/etc/old", { content: "by hand", mode: 0o640 });
      fresh.host.powerCutAfter = cut;
      const survived = await fresh.converge(wanted).then(
        () => true,
        (error: unknown) => {
          if (!(error instanceof PowerCut)) throw error;
          return false;
        },
      );
      const restartedBefore = fresh.host.done.includes("restart web");
      fresh.host.powerCutAfter = undefined;
      expect(await fresh.converge(wanted, { cause: "start" }), `after a power cut before operation ${cut}`).toMatchObject({ outcome: "converged" });
      expect(fresh.host.files.get("/etc/old")?.content).toBe("ours");
      expect(restartedBefore || fresh.host.done.includes("restart web"), `the restart was lost at operation ${cut}`).toBe(true);
      // And back again, with another power cut at the same place on the way.
      fresh.host.powerCutAfter = cut;
      await fresh.converge(nothing).catch(() => undefined);
      fresh.host.powerCutAfter = undefined;
      expect(await fresh.converge(nothing, { cause: "start" })).toMatchObject({ outcome: "converged" });
      expect(fresh.host.files.get("/etc/old"), `what was there before is lost at operation ${cut}`).toEqual({ content: "by hand", mode: 0o640 });
      expect(fresh.host.files.has("/etc/new")).toBe(false);
      expect(fresh.host.installed.size).toBe(0);
      if (survived) break;
    }
  });
});
