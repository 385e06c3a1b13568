import { describe, expect, test } from "vitest";
import { drain as drainKind } from "../../shared/kinds/drain.ts";
import type { Output, Probe } from "../../shared/kinds/kind.ts";
import type { DrainPolicy } from "../../shared/protocol/lease.ts";
import { CODE_TIMEOUT } from "../host/process.ts";
import { Drain } from "./drain.ts";
import type { DrainOutcome, DrainRecord, DrainRun } from "./drain.ts";

class PowerCut extends Error {}

/** A machine in memory, whose agent can be killed before any one of its effects. What it has survives. */
class Node {
  readonly running = new Set(["web.service", "db.service"]);
  readonly exists = new Set(["web.service", "db.service", "idle.service"]);
  readonly enabled = new Set(["web.service"]);
  /** On their way down when they are looked at. */
  readonly stopping = new Set<string>();
  readonly failing = new Map<string, Output>();
  /** Programs that do not end, by the last word of their arguments. */
  readonly hanging = new Set<string>();
  outOfPool = false;
  record: DrainRecord | null = null;
  bootId = "boot-1";
  nowMs = 0;
  /** What was changed, in order. */
  done: string[] = [];
  killAfter: number | undefined;
  effects = 0;
  onRun: (line: string) => Promise<void> | void = () => {};

  effect(): void {
    if (this.killAfter !== undefined && this.effects >= this.killAfter) throw new PowerCut();
    this.effects += 1;
  }

  readonly probe: Probe = {
    stat: async () => null,
    read: async () => null,
    readText: async () => null,
    parsed: async () => null,
    readLink: async () => null,
    list: async () => null,
    run: async (argv: readonly string[]): Promise<Output> => {
      if (argv[1] === "show") return answer(0, argv.slice(argv.indexOf("--") + 1).map((unit) => this.#show(unit)).join("\n\n"));
      if (argv[1] === "list-units") return answer(0, ["broken.service loaded failed failed Broken", ...[...this.running].map((unit) => `${unit} loaded active running x`)].join("\n"));
      if (argv[0] === "is-out") return answer(this.outOfPool ? 0 : 1);
      if (argv[0] === "journalctl") return answer(0, "journal's end");
      return this.failing.get(argv.join(" ")) ?? answer(0);
    },
  };

  readonly run: DrainRun = async (all, { timeoutMs = 0, signal }) => {
    const argv = all.slice(all.indexOf("lock") + 1);
    const line = argv.join(" ");
    this.effect();
    await this.onRun(line);
    if (signal.aborted) return answer(128);
    if (this.hanging.has(argv.at(-1)!)) {
      this.nowMs += timeoutMs;
      return answer(CODE_TIMEOUT, `did not end within ${timeoutMs} ms`);
    }
    const broken = this.failing.get(line);
    if (broken !== undefined) return broken;
    if (argv[1] !== "reset-failed") this.done.push(line);
    const units = argv.slice(argv.indexOf("--") + 1);
    if (argv[2] === "stop") for (const unit of units) this.running.delete(unit);
    if (argv[2] === "start") for (const unit of units) this.running.add(unit);
    if (argv[0] === "leave") this.outOfPool = true;
    if (argv[0] === "join") this.outOfPool = false;
    this.effect();
    return answer(0);
  };

  reboot(): void {
    this.bootId = "boot-2";
    this.running.clear();
    for (const unit of this.enabled) this.running.add(unit);
  }

  get state(): string {
    return JSON.stringify([[...this.running].toSorted(), this.outOfPool]);
  }

  #show(unit: string): string {
    return `Id=${unit}\nNames=${unit}\nLoadState=${this.exists.has(unit) ? "loaded" : "not-found"}\nActiveState=${this.stopping.has(unit) ? "deactivating" : this.running.has(unit) ? "active" : "inactive"}\nSubState=x\nType=simple`;
  }

  open(): Promise<Drain> {
    const clock = { nowMs: () => this.nowMs, monotonicMs: () => this.nowMs, after: () => ({ cancel() {} }) };
    const store = {
      load: async () => (this.record === null ? null : JSON.parse(JSON.stringify(this.record))),
      save: async (record: DrainRecord) => {
        this.effect();
        this.record = record;
        this.effect();
      },
    };
    return Drain.open({ kinds: [drainKind], probe: this.probe, run: this.run, clock, store, bootId: this.bootId, lockPath: "lock" });
  }
}

function answer(code: number, stdout = ""): Output {
  return { code, stdout, stderr: "" };
}

const section = {
  commands: { pool: { drain: ["leave", "pool"], resume: ["join", "pool"], check: ["is-out"] }, tell: { drain: ["tell", "going"], resume: ["tell", "back"], order: 90 } },
  units: { web: { order: 30, timeoutSeconds: 30 }, db: { order: 40 }, idle: { order: 35 } },
  gates: { ceph: { command: ["ok-to-stop"] } },
};
const sectionsOf = (written: object): ReadonlyMap<string, unknown> => new Map([["drain", drainKind.schema.parse(written)]]);
const policy = { timeoutMs: 60_000, onTimeout: "undo" } as const;

function drainOf(drain: Drain, change: { lease?: string; policy?: DrainPolicy; section?: object; told?: string[]; signal?: AbortSignal } = {}): Promise<DrainOutcome> {
  const { lease = "a", told = [], signal } = change;
  return drain.drain({ lease, sections: sectionsOf(change.section ?? section), policy: change.policy ?? policy, progress: (text) => told.push(text), ...(signal === undefined ? {} : { signal }) });
}
const restoreOf = (drain: Drain, told: string[] = []) => drain.restore((text) => told.push(text));
const systemctl = (verb: string, unit: string) => `systemctl --no-ask-password ${verb} -- ${unit}`;

describe("a drain and its way back", () => {
  test("goes in order, comes back in the reverse one, and leaves alone what was so before", async () => {
    const node = new Node();
    const drain = await node.open();
    const told: string[] = [];
    expect(await drainOf(drain, { told })).toEqual({ failed: null });
    expect(node.done).toEqual(["leave pool", systemctl("stop", "web.service"), systemctl("stop", "db.service"), "tell going"]);
    expect(told).toEqual(["running pool (1 of 4)", "stopping web.service (2 of 4)", "stopping db.service (3 of 4)", "running tell (4 of 4)"]);
    expect(drain.drainedUnits()).toEqual(new Set(["web.service", "db.service", "idle.service"]));
    expect(drain.failedBefore()).toEqual(new Set(["broken.service"]));
    node.done = [];
    told.length = 0;
    expect(await restoreOf(drain, told)).toEqual({ failed: null });
    expect(told.at(-1)).toBe("taking back pool (4 of 4)");
    expect(node.done).toEqual(["tell back", systemctl("start", "db.service"), systemctl("start", "web.service"), "join pool"]);
    expect(drain.drainedUnits()).toEqual(new Set());
    expect(drain.failedBefore(), "it counts until the lease is over").toEqual(new Set(["broken.service"]));
    expect(await restoreOf(drain)).toEqual({ failed: null });
  });

  test("08: what somebody else has cordoned is not uncordoned", async () => {
    const node = new Node();
    node.outOfPool = true;
    const drain = await node.open();
    await drainOf(drain);
    await restoreOf(drain);
    expect(node.outOfPool).toBe(true);
    expect(node.done.filter((line) => line.includes("pool"))).toEqual([]);
  });

  test("comes back although the repository has lost the section and the agent was started anew", async () => {
    const node = new Node();
    const before = node.state;
    await drainOf(await node.open());
    const again = await node.open();
    expect(await drainOf(again, { section: {} })).toEqual({ failed: null });
    expect(await restoreOf(again)).toEqual({ failed: null });
    expect(node.state).toBe(before);
  });

  test("after a reboot, what systemd started is fine, and what it did not start is started", async () => {
    const node = new Node();
    const before = node.state;
    await drainOf(await node.open());
    node.reboot();
    expect(await restoreOf(await node.open())).toEqual({ failed: null });
    expect(node.state).toBe(before);
  });

  test("held across a reboot, it is drained again, and the first way back still counts", async () => {
    const node = new Node();
    const before = node.state;
    await drainOf(await node.open());
    const drained = node.state;
    node.reboot();
    node.outOfPool = false;
    node.done = [];
    expect(await drainOf(await node.open())).toEqual({ failed: null });
    expect(node.state).toBe(drained);
    expect(node.done, "what cannot be asked is done again in another boot").toContain("tell going");
    await restoreOf(await node.open());
    expect(node.state).toBe(before);
  });

  test("nothing to drain is a drain as well", async () => {
    const node = new Node();
    const drain = await node.open();
    expect(await drain.drain({ lease: "a", sections: new Map(), policy, progress: () => {} })).toEqual({ failed: null });
    expect(await restoreOf(drain)).toEqual({ failed: null });
    expect(node.done).toEqual([]);
  });
});

describe("12: killed between any two lines", () => {
  test("a drain goes on, a way back goes on, and all is as it was", async () => {
    const whole = new Node();
    const before = whole.state;
    await drainOf(await whole.open());
    const [drained, drainEffects] = [whole.state, whole.effects];
    await restoreOf(await whole.open());
    const restoreEffects = whole.effects - drainEffects;
    expect(drainEffects).toBeGreaterThan(20);
    for (let cut = 0; cut < drainEffects; cut += 1) {
      for (let other = 0; other < restoreEffects; other += 3) {
        const node = new Node();
        node.killAfter = cut;
        await expect(node.open().then(drainOf)).rejects.toThrow(PowerCut);
        node.killAfter = undefined;
        expect(await drainOf(await node.open()), `drain killed at ${cut}`).toEqual({ failed: null });
        expect(node.state).toBe(drained);
        node.effects = 0;
        node.killAfter = other + (cut % 3);
        if (node.killAfter < restoreEffects) await expect(node.open().then(restoreOf)).rejects.toThrow(PowerCut);
        node.killAfter = undefined;
        expect(await restoreOf(await node.open()), `drain killed at ${cut}, restore at ${other}`).toEqual({ failed: null });
        expect(node.state).toBe(before);
        expect(node.record?.steps).toEqual([]);
      }
    }
  });

  test("while a unit stops: by the second look it is on its way down, and it is started again all the same", async () => {
    const node = new Node();
    const before = node.state;
    node.onRun = (line) => {
      if (line === systemctl("stop", "web.service")) throw new PowerCut();
    };
    await expect(node.open().then(drainOf)).rejects.toThrow(PowerCut);
    node.onRun = () => {};
    node.stopping.add("web.service");
    expect(await drainOf(await node.open())).toEqual({ failed: null });
    node.stopping.clear();
    expect(node.running.has("web.service")).toBe(false);
    expect(await restoreOf(await node.open())).toEqual({ failed: null });
    expect(node.state).toBe(before);
  });

  test("a drain that was killed anywhere is taken back whole", async () => {
    for (let cut = 0; ; cut += 1) {
      const node = new Node();
      const before = node.state;
      node.killAfter = cut;
      const killed = await node.open().then(drainOf).then(() => false, () => true);
      if (!killed) break;
      node.killAfter = undefined;
      expect(await restoreOf(await node.open())).toEqual({ failed: null });
      expect(node.state, `killed at ${cut}`).toBe(before);
    }
  });
});

describe("what goes wrong", () => {
  test("a command that fails: its end is told, the rest is not done, and all of it is undone", async () => {
    const node = new Node();
    const before = node.state;
    node.failing.set(systemctl("stop", "db.service"), answer(1, "Job for db.service failed."));
    const drain = await node.open();
    const { failed } = await drainOf(drain);
    expect(failed).toMatch(/^stopping db.service \(3 of 4\) failed: Job for db.service failed\.\njournal's end/);
    expect(node.done).not.toContain("tell going");
    expect(await restoreOf(drain)).toEqual({ failed: null });
    expect(node.state).toBe(before);
  });

  test("a unit that is not there: nothing is drained", async () => {
    const node = new Node();
    const { failed } = await drainOf(await node.open(), { section: { units: { web: {}, wbe: {} } } });
    expect(failed).toMatch(/nothing was drained: the section drain stops wbe.service, and there is no such unit/);
    expect(node.done).toEqual([]);
    expect(node.record).toBeNull();
  });

  test("a step that does not end: with undo, the sentence names it and its limit", async () => {
    const node = new Node();
    node.hanging.add("web.service");
    const { failed } = await drainOf(await node.open());
    expect(failed).toMatch(/^stopping web.service \(2 of 4\) did not end within 30 s/);
    expect(node.record?.steps.map((step) => [step.name, step.state])).toEqual([["units/idle.service", "found"], ["commands/pool", "done"], ["units/web.service", "begun"]]);
  });

  test("the whole takes too long: with undo it says where it was, with go-on it goes without", async () => {
    const node = new Node();
    node.hanging.add("web.service");
    const short = { timeoutMs: 10_000, onTimeout: "undo" } as const;
    const { failed } = await drainOf(await node.open(), { policy: short });
    expect(node.nowMs, "the step was ended when the whole was over").toBe(10_000);
    expect(failed).toMatch(/^the drain did not end within 10 s: it was at stopping web.service \(2 of 4\)/);
    node.running.add("web.service");
    const told: string[] = [];
    expect(await drainOf(await node.open(), { policy: { ...short, onTimeout: "go-on" }, told })).toEqual({ failed: null });
    expect(told.at(-1)).toMatch(/stopping web.service \(1 of 3\): not waiting any longer/);
    expect(node.done).not.toContain("tell going");
    expect(await restoreOf(await node.open())).toMatchObject({ failed: expect.stringMatching(/starting web.service did not end within 30 s/) as string });
    node.hanging.clear();
    expect(await restoreOf(await node.open())).toEqual({ failed: null });
    expect(node.running.has("web.service")).toBe(true);
  });

  test("a step's own limit under go-on: the steps after it are done", async () => {
    const node = new Node();
    node.hanging.add("web.service");
    expect(await drainOf(await node.open(), { policy: { ...policy, onTimeout: "go-on" } })).toEqual({ failed: null });
    expect(node.done).toContain("tell going");
  });

  test("what does not come back holds up what relies on it, and nothing is forgotten", async () => {
    const node = new Node();
    const before = node.state;
    const drain = await node.open();
    await drainOf(drain);
    node.failing.set(systemctl("start", "web.service"), answer(1, "no"));
    expect((await restoreOf(drain)).failed).toMatch(/^starting web.service failed: no\njournal's end \(1 more wait for it\)/);
    expect(node.outOfPool, "the pool is not joined without the server").toBe(true);
    expect(drain.drainedUnits()).toEqual(new Set(["web.service"]));
    node.failing.clear();
    expect(await restoreOf(drain)).toEqual({ failed: null });
    expect(node.state).toBe(before);
  });

  test("an order to come back stops a drain that runs, after the step at hand", async () => {
    const node = new Node();
    const before = node.state;
    const drain = await node.open();
    const restored: Promise<DrainOutcome>[] = [];
    node.onRun = (line) => {
      if (line === systemctl("stop", "web.service")) restored.push(restoreOf(drain));
    };
    expect((await drainOf(drain)).failed).toMatch(/stopped before its end/);
    expect(await Promise.all(restored)).toEqual([{ failed: null }]);
    expect(node.state).toBe(before);
    expect(node.done).not.toContain("tell going");
  });

  test("a full disk: nothing is done that could not be remembered", async () => {
    const node = new Node();
    const full = await Drain.open({
      kinds: [drainKind],
      probe: node.probe,
      run: node.run,
      clock: { nowMs: () => 0, monotonicMs: () => 0, after: () => ({ cancel() {} }) },
      store: { load: async () => null, save: () => Promise.reject(Object.assign(new Error("ENOSPC: no space left on device"), { syscall: "write" })) },
      bootId: "boot-1",
      lockPath: "lock",
    });
    expect((await drainOf(full)).failed).toMatch(/cannot be kept on disk how far it came: ENOSPC/);
    expect(node.done).toEqual([]);
  });

  test("what an earlier lease could not put back is put back by the next", async () => {
    const node = new Node();
    const before = node.state;
    await drainOf(await node.open());
    const next = await node.open();
    expect(await drainOf(next, { lease: "b", section: {} })).toEqual({ failed: null });
    expect(node.record?.lease).toBe("b");
    expect(await restoreOf(next)).toEqual({ failed: null });
    expect(node.state).toBe(before);
  });
});

describe("gates", () => {
  test("all that say no, with the end of what they said, and names that are wrong", async () => {
    const node = new Node();
    const drain = await node.open();
    expect(await drain.gates(sectionsOf(section))).toEqual([]);
    node.failing.set("ok-to-stop", answer(16, "Error EBUSY: 3 PGs would become inactive"));
    node.exists.delete("idle.service");
    expect(await drain.gates(sectionsOf(section))).toEqual([
      { kind: "drain", text: expect.stringMatching(/idle.service, and there is no such unit/), holds: "itself", missing: [] },
      { kind: "drain", text: "the gate ceph says no: Error EBUSY: 3 PGs would become inactive", holds: "itself", missing: [] },
    ]);
  });

  test("are asked again when the drain begins, and nothing is drained on a no; a drain that goes on after a crash is past them", async () => {
    const node = new Node();
    const before = node.state;
    node.failing.set("ok-to-stop", answer(16, "Error EBUSY: 3 PGs would become inactive"));
    expect(await drainOf(await node.open())).toEqual({ failed: "nothing was drained: the gate ceph says no: Error EBUSY: 3 PGs would become inactive" });
    expect(node.state).toBe(before);
    expect(await drainOf(await node.open(), { policy: { timeoutMs: 60_000, onTimeout: "undo", despiteGates: true } })).toEqual({ failed: null });
    expect(await drainOf(await node.open())).toEqual({ failed: null });
  });
});
