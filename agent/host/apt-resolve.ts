import { compareVersions } from "../../shared/kinds/deb-version.ts";
import { findPackage } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output } from "../../shared/kinds/kind.ts";
import { diagnose, parseSimulation, parseUnknown, shortName } from "./apt-output.ts";
import type { FailureCode, Simulation } from "./apt-output.ts";
import type { PackageStep } from "./host.ts";

/**
 * Which part of a transaction may be carried out. Everything is simulated before anything is done; what cannot be had,
 * or would take away what must stay, is left out, and the rest goes on without it.
 */

export interface AptContext {
  /** Packages that the repository wants present: no transaction removes one of these. */
  readonly declared: ReadonlySet<string>;
}

export interface Failure {
  readonly ok: false;
  readonly code: FailureCode;
  /** What is wrong and what to do next, for the owner. */
  readonly message: string;
  /** The end of what apt and dpkg said, at most 4,000 characters. */
  readonly tail: string;
}

export interface Resolution {
  readonly accepted: readonly PackageStep[];
  /** What carrying out `accepted` would do. */
  readonly simulation: Simulation;
  readonly failures: ReadonlyMap<PackageStep, Failure>;
}

export interface ResolverParts {
  /** `apt-get -s` over all items at once. */
  simulate(items: readonly PackageStep[]): Promise<Output>;
  /** `apt-get update`; does it once per transaction, and answers whether it did. */
  refresh(): Promise<boolean>;
  readonly status: DpkgStatus;
  readonly context: AptContext;
  readonly lockTimeoutSeconds: number;
}

type Verdict =
  | { readonly ok: true; readonly simulation: Simulation }
  /** These items are wrong by themselves, whatever else is in the transaction. */
  | { readonly ok: false; readonly culprits: ReadonlyMap<PackageStep, Failure> }
  /** The items are wrong together, and it does not show which of them is the cause. */
  | { readonly ok: false; readonly together: Failure };

/** Simulations per transaction. One takes 0.3 to 1 s on a full Debian; bisecting 50 packages for one culprit takes 12. */
const SIMULATIONS_MAX = 40;
const TAIL_MAX_CHARS = 4_000;

const nothing: Simulation = { installs: new Map(), removes: new Map(), configures: new Set() };

export function tailOf({ stdout, stderr }: Output): string {
  return `${stdout.trim()}\n${stderr.trim()}`.trim().slice(-TAIL_MAX_CHARS);
}

export class Resolver {
  readonly #parts: ResolverParts;
  readonly #failures = new Map<PackageStep, Failure>();
  readonly #verdicts = new Map<string, Verdict>();
  #simulations = 0;

  constructor(parts: ResolverParts) {
    this.#parts = parts;
  }

  async resolve(items: readonly PackageStep[]): Promise<Resolution> {
    let candidates = items;
    for (;;) {
      const verdict = await this.#judge(candidates);
      if (verdict.ok) return { accepted: candidates, simulation: verdict.simulation, failures: this.#failures };
      if ("together" in verdict) break;
      const lookedUp = [...verdict.culprits.values()].some(({ code }) => code === "unknown-package" || code === "unknown-version");
      if (lookedUp && (await this.#parts.refresh())) {
        this.#verdicts.clear();
        continue;
      }
      // Each turn takes at least one item away, so this ends.
      candidates = this.#without(candidates, verdict.culprits);
    }
    return this.#grow(candidates);
  }

  /** Adds item by item, in halves, to what is known to go together. Removals first: they make room for what conflicts. */
  async #grow(items: readonly PackageStep[]): Promise<Resolution> {
    let accepted: readonly PackageStep[] = [];
    let simulation = nothing;
    const failed = new Map<PackageStep, { readonly failure: Failure; readonly besideCount: number }>();
    const add = async (chunk: readonly PackageStep[]): Promise<void> => {
      if (chunk.length === 0) return;
      const verdict = await this.#judge([...accepted, ...chunk]);
      if (verdict.ok) {
        accepted = [...accepted, ...chunk];
        simulation = verdict.simulation;
      } else if ("culprits" in verdict) {
        await add(this.#without(chunk, verdict.culprits));
      } else if (chunk.length === 1) {
        failed.set(chunk[0]!, { failure: verdict.together, besideCount: accepted.length });
      } else {
        const middle = Math.ceil(chunk.length / 2);
        await add(chunk.slice(0, middle));
        await add(chunk.slice(middle));
      }
    };
    await add(items.filter((item) => item.action !== "install"));
    await add(items.filter((item) => item.action === "install"));
    // What failed early may go together with what was accepted later: a removal with the install that replaces it.
    const early = [...failed].filter(([, { besideCount }]) => besideCount < accepted.length);
    for (const [item] of early) {
      failed.delete(item);
      await add([item]);
    }
    for (const [item, { failure }] of failed) this.#failures.set(item, failure);
    return { accepted, simulation, failures: this.#failures };
  }

  #without(items: readonly PackageStep[], culprits: ReadonlyMap<PackageStep, Failure>): readonly PackageStep[] {
    for (const [item, failure] of culprits) this.#failures.set(item, failure);
    return items.filter((item) => !culprits.has(item));
  }

  /** The same question gets the same answer: bisecting comes by some of them twice. */
  async #judge(items: readonly PackageStep[]): Promise<Verdict> {
    if (items.length === 0) return { ok: true, simulation: nothing };
    const key = items.map(({ action, name, version }) => `${action} ${name} ${version ?? ""}`).toSorted().join("\n");
    const verdict = this.#verdicts.get(key) ?? (await this.#ask(items));
    this.#verdicts.set(key, verdict);
    return verdict;
  }

  async #ask(items: readonly PackageStep[]): Promise<Verdict> {
    if (this.#simulations >= SIMULATIONS_MAX) {
      return { ok: false, together: { ok: false, code: "failed", message: `not tried: apt was asked ${SIMULATIONS_MAX} times what goes together, and other packages of this transaction fail`, tail: "" } };
    }
    this.#simulations += 1;
    const output = await this.#parts.simulate(items);
    if (output.code !== 0) return this.#explain(items, output);
    const simulation = parseSimulation(output.stdout);
    const culprits = new Map([...this.#virtual(items, simulation, output), ...this.#refused(items, simulation, output)]);
    if (culprits.size > 0) return { ok: false, culprits };
    const objection = await this.#objection(items, simulation);
    return objection === null ? { ok: true, simulation } : { ok: false, together: { ok: false, code: "refused", message: objection, tail: tailOf(output) } };
  }

  #explain(items: readonly PackageStep[], output: Output): Verdict {
    const tail = tailOf(output);
    const unknown = parseUnknown(output);
    const culprits = new Map<PackageStep, Failure>();
    for (const { name, code, message } of unknown) {
      for (const item of items.filter((one) => this.#sameName(one.name, name))) culprits.set(item, { ok: false, code, message, tail });
    }
    if (culprits.size > 0) return { ok: false, culprits };
    return { ok: false, together: { ok: false, ...diagnose(output, this.#parts.lockTimeoutSeconds), tail } };
  }

  /** apt installs the one provider of a virtual package without a word, and then the package asked for is still not there. */
  #virtual(items: readonly PackageStep[], simulation: Simulation, output: Output): [PackageStep, Failure][] {
    const asked = new Set(items.map(({ name }) => this.#short(name)));
    const instead = [...simulation.installs.keys()].filter((name) => !asked.has(name)).slice(0, 5).join(", ");
    return items
      .filter(({ action, name }) => action === "install" && !simulation.installs.has(this.#short(name)) && !this.#isThere(name))
      .map((item) => {
        const message = `${item.name} is a virtual package: write the one that provides it${instead === "" ? "" : ` (apt would install ${instead})`}`;
        return [item, { ok: false, code: "unknown-package", message, tail: tailOf(output) }];
      });
  }

  /** What no item may ask for, however it is written. */
  #refused(items: readonly PackageStep[], simulation: Simulation, output: Output): [PackageStep, Failure][] {
    const refuse = (item: PackageStep, message: string): [PackageStep, Failure] => [item, { ok: false, code: "refused", message, tail: tailOf(output) }];
    return items.flatMap((item) => {
      const found = findPackage(this.#parts.status, item.name);
      if (item.action !== "install" && found?.essential === true) return [refuse(item, `${item.name} is essential: the system may not work or boot without it, so it is never removed`)];
      const changes = simulation.installs.has(this.#short(item.name));
      if (item.action === "install" && item.version === undefined && changes && found?.selection === "hold" && this.#isThere(item.name)) {
        return [refuse(item, `${item.name} is held (apt-mark hold): write hold: false, or the version that it should have`)];
      }
      return [];
    });
  }

  /** Why the whole may not be done, or null. DESIGN, rule 9: removal is guarded. */
  async #objection(items: readonly PackageStep[], simulation: Simulation): Promise<string | null> {
    const { status, context } = this.#parts;
    const declared = new Set([...context.declared].map((name) => this.#short(name)));
    const asked = new Map(items.map((item) => [this.#short(item.name), item]));
    const undeclared: string[] = [];
    for (const name of simulation.removes.keys()) {
      const item = asked.get(name);
      if (item !== undefined && item.action !== "install") continue;
      if (declared.has(name)) return `apt would have to remove ${name}, which the repository wants present: declare one of the two absent`;
      if (findPackage(status, name)?.essential === true) return `apt would have to remove ${name}, which is essential: the system may not work or boot without it`;
      undeclared.push(name);
    }
    for (const [name, { from, to }] of simulation.installs) {
      const exact = asked.get(name)?.version !== undefined;
      if (findPackage(status, name)?.selection === "hold" && this.#isThere(name) && !exact) return `apt would have to change ${name}, which is held (apt-mark hold)`;
      if (from !== null && compareVersions(from, to) > 0 && !exact) return `apt would have to downgrade ${name} from ${from} to ${to}: name that version if it is meant`;
    }
    const unexplained = await this.#notByRemovals(undeclared, items);
    if (unexplained.length === 0) return null;
    const lines = unexplained.slice(0, 10).map((name) => `${name}: absent`);
    return `apt would have to remove ${unexplained.slice(0, 10).join(", ")}: if that is meant, add to packages: ${lines.join(", ")}`;
  }

  /** What depends on a package goes with it when that is to be removed; an install may take nothing along. */
  async #notByRemovals(names: readonly string[], items: readonly PackageStep[]): Promise<readonly string[]> {
    const removals = items.filter(({ action }) => action !== "install");
    if (names.length === 0 || removals.length === 0) return names;
    if (removals.length === items.length) return [];
    this.#simulations += 1;
    const alone = await this.#parts.simulate(removals);
    if (alone.code !== 0) return names;
    const { removes } = parseSimulation(alone.stdout);
    return names.filter((name) => !removes.has(name));
  }

  #isThere(name: string): boolean {
    const state = findPackage(this.#parts.status, name)?.state;
    return state !== undefined && state !== "not-installed" && state !== "config-files";
  }

  #sameName(one: string, other: string): boolean {
    return this.#short(one) === this.#short(other);
  }

  #short(name: string): string {
    return shortName(name, this.#parts.status);
  }
}
