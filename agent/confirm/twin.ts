import * as z from "zod";
import type { Clock, Timer } from "../../shared/clock.ts";
import { defineKind } from "../../shared/kinds/kind.ts";
import type { Act, Kind, Step } from "../../shared/kinds/kind.ts";
import { Engine } from "../engine/engine.ts";
import type { ConvergeOptions } from "../engine/engine.ts";
import { Inventory } from "../engine/inventory.ts";
import type { Desired } from "../engine/plan.ts";
import { done, failed } from "../host/host.ts";
import { MemoryHost } from "../host/memory.ts";
import { backAtBoot, backInTime } from "./back.ts";
import type { BackParts } from "./back.ts";
import { Confirmation } from "./confirmation.ts";
import type { ConfirmRecord, ConfirmStore } from "./record.ts";

/** A machine in memory with a network: what its files say counts once the daemon has been restarted, and may cut it off. */

/** Moves by itself when there is nothing else to do. */
export class TwinClock implements Clock {
  elapsedMs = 0;
  readonly #timers = new Set<{ readonly dueMs: number; readonly ring: () => void }>();

  nowMs(): number {
    return 1_700_000_000_000 + this.elapsedMs;
  }

  monotonicMs(): number {
    return this.elapsedMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { dueMs: this.elapsedMs + delayMs, ring: callback };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Lets time pass until it is over. */
  async until<T>(work: Promise<T>): Promise<T> {
    const state = { over: false };
    const ended = work.finally(() => (state.over = true));
    ended.catch(() => {});
    for (let idle = 0; !state.over; idle += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = [...this.#timers].toSorted((one, other) => one.dueMs - other.dueMs)[0];
      if (state.over || next === undefined) continue;
      // Memory answers within a turn of the loop; what is still pending after several waits for time.
      if (idle % 3 !== 2) continue;
      this.#timers.delete(next);
      this.elapsedMs = Math.max(this.elapsedMs, next.dueMs);
      next.ring();
    }
    return ended;
  }
}

const NetworkThing = z.object({ text: z.string(), needs: z.string().optional() });

/** `nets`: files that a daemon reads when it is restarted; `links`: what programs tell the kernel; `pages`: harmless, and may need the others. */
export const nets = defineKind({
  name: "nets",
  summary: "the network's files",
  schema: z.record(z.string(), NetworkThing),
  observe: async (want, probe, owned) => new Map(await Promise.all([...Object.keys(want), ...owned.keys()].map(async (path) => [path, await probe.readText(path)] as const))),
  plan: (want, facts, owned): readonly Step[] => {
    const then = [{ unit: "netd", action: "restart" as const }];
    return [
      ...Object.entries(want).filter(([path, { text }]) => facts.get(path) !== text).map(([path, { text }]): Step => ({ resource: `nets/${path}`, why: "differs", impact: "network", do: "write", path, content: new TextEncoder().encode(text), mode: 0o644, owner: "root", group: "root", claim: {}, then })),
      ...[...owned.keys()].filter((path) => want[path] === undefined).map((path): Step => ({ resource: `nets/${path}`, why: "is no longer declared", impact: "network", do: "restore", path, removes: true, release: true, then })),
    ];
  },
  gate: {
    observe: async (_want, probe) => await probe.readText("/run/peers"),
    reasons: (_want, peers) => (peers === "down" ? ["the session with the router is down"] : []),
  },
});

const ip = (...words: string[]): Act => ({ doing: `ip ${words.join(" ")}`, argv: ["ip", ...words], timeoutMs: 1_000 });
export const links = defineKind({
  name: "links",
  summary: "links",
  schema: z.record(z.string(), z.literal("up")),
  observe: async (_want, probe) => ((await probe.readText("/run/links")) ?? "").split(" "),
  plan: (want, facts): readonly Step[] => Object.keys(want).filter((name) => !facts.includes(name)).map((name): Step => ({ resource: `links/${name}`, why: "is down", impact: "network", do: "run", argv: ["ip", "up", name], timeoutMs: 300_000, undo: ip("down", name) })),
});

export const pages = defineKind({
  name: "pages",
  summary: "files of no importance",
  schema: z.record(z.string(), NetworkThing),
  observe: async (want, probe) => new Map(await Promise.all(Object.keys(want).map(async (path) => [path, await probe.readText(path)] as const))),
  plan: (want, facts): readonly Step[] =>
    Object.entries(want).filter(([path, { text }]) => facts.get(path) !== text).map(([path, { text, needs }]): Step => ({
      resource: `pages/${path}`, why: "differs", impact: "none", do: "write", path, content: new TextEncoder().encode(text), mode: 0o644, owner: "root", group: "root", claim: {}, then: [{ unit: "web", action: "reload" }],
      ...(needs === undefined ? {} : { needs: [needs as `${string}/${string}`] }),
    })),
});

/** Programs that the network needs: a unit's file, and the unit. */
export const daemons = defineKind({
  name: "daemons",
  summary: "programs of the network",
  schema: z.record(z.string(), z.literal("running")),
  observe: async (want, probe) => new Set((await Promise.all(Object.keys(want).map(async (unit) => ((await probe.stat(`/units/${unit}`)) === null ? [] : [unit])))).flat()),
  plan: (want, facts): readonly Step[] =>
    Object.keys(want).filter((unit) => !facts.has(unit)).flatMap((unit): Step[] => [
      { resource: `daemons/${unit}`, why: "is missing", impact: "none", do: "write", path: `/units/${unit}`, content: new Uint8Array(), mode: 0o644, owner: "root", group: "root", claim: {} },
      { resource: `daemons/${unit}`, why: "does not run", impact: "network", do: "unit", action: "start", unit },
    ]),
});

export const NET_FILE = "/etc/net";
export const LIMIT_MS = 60_000;

export class TwinNode {
  readonly host = new MemoryHost();
  readonly kept = new MemoryHost(this.host);
  readonly clock = new TwinClock();
  readonly kinds: readonly Kind[];
  bootId = "boot-1";
  /** What the daemon has read. */
  loaded = "";
  #inventory: string | null = null;
  #record: string | null = null;
  #ids = 0;
  armed: string | null = null;
  armFails = false;
  /** How long the network stays as it was after a restart: daemons answer before they are done. */
  lagMs = 0;
  #restartedMs = -Infinity;
  #before = "";
  readonly said: string[] = [];

  constructor(network = "good", kinds: readonly Kind[] = [nets, links, pages]) {
    this.kinds = kinds;
    this.host.files.set(NET_FILE, { content: network, mode: 0o644 });
    this.loaded = network;
    this.#before = network;
    this.host.restarted = (unit) => {
      if (unit !== "netd") return;
      this.#before = this.effective;
      this.#restartedMs = this.clock.elapsedMs;
      this.#load();
    };
    this.host.program = ([program, verb, name, ...rest]) => {
      if (program === "systemctl") {
        // As systemctl(1): "--no-ask-password stop -- NAME"; what is not known cannot be stopped.
        const unit = rest.at(-1) ?? "";
        if (name === "stop" && !this.host.files.has(`/units/${unit}`)) return failed(`Unit ${unit} not loaded.`);
        if (name === "stop") this.host.running.delete(unit);
        return done;
      }
      if (program !== "ip" || verb === undefined || name === undefined) return failed("no such program");
      if (name === "broken" && verb === "up") return failed("broken does not come up");
      const now = this.links.filter((other) => other !== name);
      this.host.files.set("/run/links", { content: (verb === "up" ? [...now, name] : now).join(" "), mode: 0o644 });
      return done;
    };
  }

  get links(): readonly string[] {
    return (this.host.files.get("/run/links")?.content ?? "").split(" ").filter((name) => name !== "");
  }

  get file(): string | undefined {
    return this.host.files.get(NET_FILE)?.content;
  }

  get record(): ConfirmRecord | null {
    return this.#record === null ? null : (JSON.parse(this.#record) as ConfirmRecord);
  }

  /** What the network does now. */
  get effective(): string {
    return this.clock.elapsedMs - this.#restartedMs < this.lagMs ? this.#before : this.loaded;
  }

  #load(): void {
    this.loaded = this.file ?? "nothing";
    if (this.loaded.includes("wrong-as")) this.host.files.set("/run/peers", { content: "down", mode: 0o644 });
    else this.host.files.delete("/run/peers");
  }

  readonly store: ConfirmStore = {
    load: async () => this.record,
    save: async (record) => {
      this.host.step(`save record ${record.state}`);
      this.#record = JSON.stringify(record);
    },
    remove: async () => {
      this.host.step("remove record");
      this.#record = null;
    },
  };

  get #back(): BackParts {
    return { store: this.store, host: this.kept, bootId: this.bootId, nowMs: () => this.clock.nowMs(), log: (message) => this.said.push(message) };
  }

  /** systemd's timer has run out. */
  async timer(): Promise<void> {
    if (this.armed !== null) await backInTime(this.#back, this.armed);
  }

  /** Another boot: what only the kernel knew is gone, and the daemon reads its files after the early unit has run. */
  async boot(options: { readonly earlyUnit: boolean }): Promise<void> {
    this.bootId = `boot-${Number(this.bootId.slice(5)) + 1}`;
    this.armed = null;
    for (const path of [...this.host.files.keys()]) if (path.startsWith("/run/")) this.host.files.delete(path);
    if (options.earlyUnit) await backAtBoot(this.#back);
    this.#load();
    this.#restartedMs = -Infinity;
  }

  /** A fresh process on the same disk. */
  async engine(): Promise<Engine> {
    const inventory = await Inventory.open({
      load: async () => (this.#inventory === null ? null : JSON.parse(this.#inventory)),
      save: async (data) => {
        this.host.step("save inventory");
        this.#inventory = JSON.stringify(data);
      },
    });
    const confirmation = new Confirmation({
      store: this.store,
      host: this.kept,
      fuse: {
        arm: async (id) => {
          if (this.armFails) return failed("systemd-run ended with code 1");
          this.host.step("arm");
          this.armed = id;
          return done;
        },
        disarm: async () => {
          this.host.step("disarm");
          this.armed = null;
        },
      },
      reach: {
        look: async () => ({
          gateways: [{ family: "inet", address: "10.0.0.1", device: "eth0", answers: !/no-gateway|dead/.test(this.effective) }],
          hub: !/no-hub|dead/.test(this.effective),
          git: null,
        }),
      },
      clock: this.clock,
      bootId: this.bootId,
      newId: () => `id-${(this.#ids += 1)}`,
      alone: (work) => work(),
      log: (message) => this.said.push(message),
    });
    return new Engine({ kinds: this.kinds, host: this.host, inventory, clock: this.clock, confirmation });
  }

  async converge(desired: Desired, options: Partial<ConvergeOptions> = {}) {
    const engine = await this.engine();
    return this.clock.until(engine.converge(desired, { cause: "push", ...options }));
  }
}

/** @param commit one character, for people. */
export function wanted(commit: string, sections: Readonly<Record<string, unknown>>, limitMs = LIMIT_MS): Desired {
  return { commit: commit.repeat(40), sections: new Map(Object.entries(sections)), digestOf: (resource) => JSON.stringify([resource, sections]), resources: 1, removalsMax: 10, repairsMax: 5, confirmMs: limitMs };
}
