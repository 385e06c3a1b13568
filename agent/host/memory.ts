import { createHash } from "node:crypto";
import type { Output, Probe, ResourceId, Stat, Step, Trigger } from "../../shared/kinds/kind.ts";
import type { Earlier } from "../engine/inventory.ts";
import { done, failed } from "./host.ts";
import type { Host, PackageStep, StepResult, UnitStep } from "./host.ts";

/** A file of the machine in memory. */
export interface MemoryFile {
  readonly content: string;
  readonly mode: number;
}

/** Thrown in place of a power cut: whatever runs stops here, and what was done before stays. */
export class PowerCut extends Error {}

/**
 * The twin of a machine: files, packages and units in memory. It can be told to fail on a path, and to lose its power
 * before any one of its operations, which is how the engine is shown to survive a crash between any two of its lines.
 */
export class MemoryHost implements Host {
  readonly files: Map<string, MemoryFile>;
  readonly installed: Set<string>;
  readonly running: Set<string>;
  /** Everything that was done, in order. */
  readonly done: string[];
  /** Paths, packages and units that refuse every change. */
  readonly broken: Set<string>;
  /** The power goes before this many more changes; undefined for never. */
  powerCutAfter: number | undefined;
  /** Called for every program that a `run` step starts; what it answers is what the program ended with. */
  program: (argv: readonly string[]) => StepResult = () => done;
  /** Called after a restart or reload. */
  restarted: (unit: string) => void = () => {};
  readonly #kept = new Map<string, string>();
  readonly #machine: MemoryHost | null;
  processesStarted = 0;

  /** With `machine`: the same machine, with a store of its own for what is kept. */
  constructor(machine: MemoryHost | null = null) {
    this.#machine = machine;
    this.files = machine?.files ?? new Map();
    this.installed = machine?.installed ?? new Set();
    this.running = machine?.running ?? new Set();
    this.done = machine?.done ?? [];
    this.broken = machine?.broken ?? new Set();
  }

  readonly probe: Probe = {
    stat: async (path): Promise<Stat | null> => {
      const file = this.files.get(path);
      return file === undefined ? null : { type: "file", mode: file.mode, uid: 0, gid: 0, sizeBytes: Buffer.byteLength(file.content) };
    },
    read: async (path) => {
      const file = this.files.get(path);
      return file === undefined ? null : new TextEncoder().encode(file.content);
    },
    readText: async (path) => this.files.get(path)?.content ?? null,
    parsed: async (path, parse) => {
      const file = this.files.get(path);
      return file === undefined ? null : parse(file.content);
    },
    readLink: async () => null,
    list: async (path) => [...this.files.keys()].filter((name) => name.startsWith(`${path}/`)).map((name) => name.slice(path.length + 1)).toSorted(),
    run: async (): Promise<Output> => ({ code: 127, stdout: "", stderr: "no such program" }),
  };

  /** Before every change of anything that would survive: also the inventory's store calls it. */
  step(what: string): void {
    if (this.#machine !== null) return this.#machine.step(what);
    if (this.powerCutAfter !== undefined) {
      if (this.powerCutAfter === 0) throw new PowerCut(what);
      this.powerCutAfter -= 1;
    }
    this.done.push(what);
  }

  async apply(step: Step, earlier: Earlier | undefined): Promise<StepResult> {
    const path = "path" in step ? step.path : step.resource;
    if (this.broken.has(path)) return failed(`${path} refuses`);
    this.step(step.do === "run" ? `run ${step.argv.join(" ")}` : `${step.do} ${path}`);
    switch (step.do) {
      case "write":
        this.files.set(step.path, { content: new TextDecoder().decode(step.content), mode: step.mode });
        return done;
      case "remove":
        this.files.delete(step.path);
        return done;
      case "restore":
        if (earlier?.type === "file") this.files.set(step.path, { content: this.#kept.get(earlier.sha256) ?? "", mode: earlier.mode });
        else if (earlier !== undefined) this.files.delete(step.path);
        return done;
      case "set":
        this.files.set(step.path, { content: step.value, mode: 0o644 });
        return done;
      case "run":
        return (this.#machine ?? this).program(step.argv);
      case "ask":
        return failed(`waits for ${step.what}, which ${step.from.join(" or ")} can make`);
      case "fail":
        return failed(step.message);
      default:
        return done;
    }
  }

  async packages(steps: readonly PackageStep[]): Promise<ReadonlyMap<ResourceId, StepResult>> {
    this.processesStarted += 1;
    const results = new Map<ResourceId, StepResult>();
    for (const step of steps) {
      if (this.broken.has(step.name)) {
        results.set(step.resource, failed(`unable to locate package ${step.name}`));
        continue;
      }
      this.step(`${step.action} ${step.name}`);
      if (step.action === "install") this.installed.add(step.name);
      if (step.action === "remove" || step.action === "purge") this.installed.delete(step.name);
      results.set(step.resource, done);
    }
    return results;
  }

  async units(action: UnitStep["action"], units: readonly string[]): Promise<StepResult> {
    this.processesStarted += 1;
    const bad = units.find((unit) => this.broken.has(unit));
    if (bad !== undefined) return failed(`${bad} refuses`);
    this.step(`${action} ${units.join(" ")}`);
    for (const unit of units) {
      if (action === "start") this.running.add(unit);
      if (action === "stop") this.running.delete(unit);
    }
    return done;
  }

  async trigger(trigger: Trigger): Promise<StepResult> {
    this.processesStarted += 1;
    if (this.broken.has(trigger.unit)) return failed(`${trigger.unit} refuses`);
    this.step(`${trigger.action} ${trigger.unit}`);
    (this.#machine ?? this).restarted(trigger.unit);
    return done;
  }

  async keep(path: string): Promise<Earlier> {
    const file = this.files.get(path);
    if (file === undefined) return { type: "absent" };
    const sha256 = createHash("sha256").update(file.content).digest("hex");
    this.step(`keep ${path}`);
    this.#kept.set(sha256, file.content);
    return { type: "file", sha256, mode: file.mode, uid: 0, gid: 0 };
  }

  async forget(wanted: ReadonlySet<string>): Promise<void> {
    for (const sha256 of this.#kept.keys()) if (!wanted.has(sha256)) this.#kept.delete(sha256);
  }
}
