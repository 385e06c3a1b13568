import type { Outcome } from "./run.ts";
import { simulate } from "./run.ts";
import type { Fault, GroupSpec, Scenario } from "./scenario.ts";

/**
 * Makes a failing scenario small enough to be read: as few faults as still fail (delta debugging, Zeller and Hildebrandt,
 * "Simplifying and Isolating Failure-Inducing Input", 2002), then a perfect network, no crashes, true clocks, fewer nodes.
 * Leaving one fault out changes all chance after it, so each candidate is tried under a few seeds.
 */

export interface Shrunk {
  readonly scenario: Scenario;
  readonly outcome: Outcome;
  readonly runs: number;
}

const RUNS_MAX = 3_000;
const SEEDS_EACH = 4;

export function shrink(scenario: Scenario, runsMax = RUNS_MAX): Shrunk {
  return new Shrinking(scenario, runsMax).run();
}

class Shrinking {
  readonly #runsMax: number;
  readonly #same: string | null;
  #best: Scenario;
  #runs = 0;

  constructor(scenario: Scenario, runsMax: number) {
    this.#best = scenario;
    this.#runsMax = runsMax;
    this.#same = sortOf(simulate(scenario));
  }

  run(): Shrunk {
    for (;;) {
      const before = this.#best;
      this.#faults();
      this.#surroundings();
      this.#nodes();
      if (this.#best === before || this.#runs >= this.#runsMax) break;
    }
    return { scenario: this.#best, outcome: simulate(this.#best, true), runs: this.#runs };
  }

  /** True, and the candidate is the best so far, if it fails in the same way. */
  #try(change: Partial<Scenario>): boolean {
    for (let each = 0; each < SEEDS_EACH && this.#runs < this.#runsMax; each++) {
      const candidate: Scenario = { ...this.#best, ...change, seed: each === 0 ? this.#best.seed : this.#best.seed + each * 1_000_003 };
      this.#runs++;
      const sort = sortOf(simulate(candidate));
      if (sort === null || sort !== this.#same) continue;
      this.#best = candidate;
      return true;
    }
    return false;
  }

  #faults(): void {
    let parts = 2;
    while (this.#best.faults.length > 0 && this.#runs < this.#runsMax) {
      const { faults } = this.#best;
      const size = Math.ceil(faults.length / parts);
      let smaller = false;
      for (let from = 0; from < faults.length && !smaller; from += size) smaller = this.#try({ faults: faults.filter((_, at) => at < from || at >= from + size) });
      if (smaller) parts = Math.max(2, parts - 1);
      else if (size === 1) return;
      else parts = Math.min(faults.length, parts * 2);
    }
  }

  #surroundings(): void {
    const { network, crashes, drift, locks, groups } = this.#best;
    if (locks.length > 0) this.#try({ locks: [] });
    if (drift.some((each) => each !== 1)) this.#try({ drift: drift.map(() => 1) });
    for (const each of ["loses", "doubles", "delays"] as const) if (network[each] > 0) this.#try({ network: { ...this.#best.network, [each]: 0 } });
    for (const each of ["hub", "agent"] as const) if (crashes[each] > 0) this.#try({ crashes: { ...this.#best.crashes, [each]: 0 } });
    for (const name of Object.keys(groups)) {
      const { [name]: _, ...fewer } = this.#best.groups;
      if (Object.keys(fewer).length < Object.keys(this.#best.groups).length) this.#try({ groups: fewer, faults: this.#best.faults.map((fault) => (fault.do === "membership" ? { ...fault, groups: without(fault.groups, name) } : fault)) });
    }
  }

  #nodes(): void {
    for (const node of this.#best.nodes) {
      if (this.#best.nodes.length <= 1) return;
      const kept = (each: string): boolean => each !== node;
      const at = this.#best.nodes.indexOf(node);
      this.#try({
        nodes: this.#best.nodes.filter(kept),
        drift: this.#best.drift.filter((_, index) => index !== at),
        groups: leaving(this.#best.groups, kept),
        faults: this.#best.faults.flatMap((fault) => withoutNode(fault, node, kept)),
      });
    }
  }
}

/** What kind of failure it is: its sentence without names, numbers and lists. Another failure is another story. */
function sortOf({ failure }: Outcome): string | null {
  return failure?.replace(/\([^)]*\)|:.*$/g, "").replace(/\b[a-z]+\d+\b|\bcluster\b|\d+/g, "…") ?? null;
}

function without(groups: Readonly<Record<string, GroupSpec>>, name: string): Record<string, GroupSpec> {
  return Object.fromEntries(Object.entries(groups).filter(([each]) => each !== name));
}

function leaving(groups: Readonly<Record<string, GroupSpec>>, kept: (node: string) => boolean): Record<string, GroupSpec> {
  const left = Object.entries(groups).map(([name, group]) => [name, { ...group, members: group.members.filter(kept) }] as const);
  return Object.fromEntries(left.filter(([, { members }]) => members.length > 0));
}

function withoutNode(fault: Fault, node: string, kept: (each: string) => boolean): readonly Fault[] {
  if (fault.do === "membership") return [{ ...fault, nodes: fault.nodes.filter(kept), groups: leaving(fault.groups, kept) }];
  if (fault.do === "change") return fault.nodes.some(kept) ? [{ ...fault, nodes: fault.nodes.filter(kept) }] : [];
  if (fault.do === "cut") return fault.nodes.some(kept) ? [{ ...fault, nodes: fault.nodes.filter(kept) }] : [];
  if ("node" in fault && fault.node === node) return [];
  if (fault.do === "clock" && fault.who === node) return [];
  return [fault];
}

/** The scenario in a few lines, before the timeline of what became of it. */
export function describeScenario({ seed, nodes, locks, groups, network, crashes, faults, drift }: Scenario): readonly string[] {
  const groupTexts = Object.entries(groups).map(([name, { members, maxUnavailable, acceptOutage }]) => `${name}: ${members.join(" ")}${maxUnavailable === undefined ? "" : `, maxUnavailable ${maxUnavailable}`}${acceptOutage ? ", acceptOutage" : ""}`);
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  return [
    `seed ${seed}; nodes ${nodes.join(" ")}${locks.length === 0 ? "" : `; without an agent ${locks.join(" ")}`}`,
    ...(groupTexts.length === 0 ? [] : [`groups ${groupTexts.join("; ")}`]),
    `messages lost ${percent(network.loses)}, doubled ${percent(network.doubles)}, late ${percent(network.delays)}; crashes at a write: hub ${percent(crashes.hub)}, agents ${percent(crashes.agent)}`,
    ...(drift.every((each) => each === 1) ? [] : [`clocks run at ${drift.join(" ")}`]),
    `${faults.length} faults`,
  ];
}
