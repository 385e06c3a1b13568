import type { GateReason } from "../../shared/protocol/lease.ts";
import { Chance } from "./random.ts";

/** What a seed stands for: a cluster, the hour in which things go wrong, and what goes wrong when. */

export interface Scenario {
  readonly seed: number;
  readonly nodes: readonly string[];
  /** Machines without an agent, which ask for their slots by themselves. */
  readonly locks: readonly string[];
  readonly groups: Readonly<Record<string, GroupSpec>>;
  readonly network: { readonly loses: number; readonly doubles: number; readonly delays: number };
  /** The probability of a crash at each write, of hub and of agents. */
  readonly crashes: { readonly hub: number; readonly agent: number };
  readonly faults: readonly Fault[];
  /** Each looks for the others, as with routers and their sessions, and says whom it misses. */
  readonly mesh: boolean;
  /** How fast the monotonic clocks of the nodes run, in the order of nodes. */
  readonly drift: readonly number[];
}

export interface GroupSpec {
  readonly members: readonly string[];
  readonly maxUnavailable?: number | undefined;
  readonly acceptOutage?: boolean;
}

export type Fault = { readonly atMs: number } & (
  | { readonly do: "cut"; readonly nodes: readonly string[]; readonly forMs: number; /** Messages wait instead of being lost. */ readonly keeps: boolean }
  | { readonly do: "power"; readonly node: string; readonly awayMs: number }
  | { readonly do: "agent-crash"; readonly node: string; readonly awayMs: number }
  | { readonly do: "sick"; readonly node: string; readonly forMs: number }
  | { readonly do: "gate"; readonly node: string; readonly holds: GateReason["holds"]; readonly forMs: number }
  | { readonly do: "cordon"; readonly node: string; readonly forMs: number }
  | { readonly do: "hub-crash"; readonly awayMs: number }
  | { readonly do: "hub-restore"; readonly awayMs: number; readonly ageMs: number }
  | { readonly do: "clock"; readonly who: string; readonly byMs: number }
  | { readonly do: "checks"; readonly forMs: number }
  | { readonly do: "membership"; readonly nodes: readonly string[]; readonly groups: Readonly<Record<string, GroupSpec>>; readonly slowMs: number }
  /** A commit that takes something down on these nodes: they hold it back, and the hub lets it roll. */
  | { readonly do: "change"; readonly nodes: readonly string[]; readonly slowMs: number }
  | { readonly do: "reboot"; readonly node: string }
  | { readonly do: "hold-node"; readonly node: string; readonly forMs: number }
  | { readonly do: "hold"; readonly what: string; readonly forMs: number }
  | { readonly do: "clear"; readonly node: string }
  | { readonly do: "abort"; readonly node: string }
  /** The window closes: what has not been confirmed yet is withdrawn. */
  | { readonly do: "window" }
  /** A rollout through all nodes, and what a person says to it meanwhile. */
  | { readonly do: "rollout"; readonly kind: "update" | "reboot" | "change" }
  | { readonly do: "steer"; readonly what: "halt" | "resume" | "cancel" }
  /** The worst moment: as the next order leaves that could hurt, its node is cut off (and gets the order late), the hub dies, people act. */
  | { readonly do: "moment"; readonly forMs: number; readonly kills: "before" | "after" | null; readonly then: readonly Deed[]; readonly everyMs: number }
  | { readonly do: "settle"; readonly group: string }
  | { readonly do: "script"; readonly node: string; readonly forMs: number }
);

/** What somebody does until it is done, or no longer makes sense. */
export type Deed = "clear" | "abort" | "instead" | "hub-restore";

/** Nothing goes wrong by itself, so that people and orders meet at their worst moments again and again. */
const duel = { network: false, crashes: false, machines: false, people: false, members: false, clocks: false, cuts: false, hub: false, moments: true };

/** How long things go wrong; then everything is mended, and must come right again. */
export const TROUBLE_MS = 12 * 60_000;
export const CALM_MS = 16 * 60_000;

const YEAR_MS = 365 * 86_400_000;

export function scenarioOf(seed: number): Scenario {
  const chance = new Chance(seed ^ 0x5eed);
  const count = chance.between(3, 9);
  const nodes = Array.from({ length: count }, (_, index) => `n${index + 1}`);
  const locks = chance.happens(0.2) ? ["f1"] : [];
  const groups = groupsOf(chance, nodes);
  // Some seeds have a bad network, some bad machines, some bad people: with all at once nothing ever gets far enough to go wrong.
  const bad = chance.happens(0.25) ? duel : { network: chance.happens(0.6), crashes: chance.happens(0.5), machines: chance.happens(0.6), people: chance.happens(0.5), members: chance.happens(0.4), clocks: chance.happens(0.3), cuts: chance.happens(0.5), hub: chance.happens(0.5), moments: chance.happens(0.5) };
  const faults: Fault[] = [];
  const add = (fault: Fault): void => void faults.push(fault);
  const at = (): number => chance.between(5_000, TROUBLE_MS);
  const some = (active: boolean, most: number): number => (active ? chance.between(1, most) : 0);
  for (let index = 0; index < count * 2; index++) add({ atMs: at(), do: "reboot", node: chance.pick(nodes) });
  for (let index = some(bad.cuts, 5); index > 0; index--) add({ atMs: at(), do: "cut", nodes: subset(chance, nodes), forMs: chance.between(5_000, 240_000), keeps: chance.happens(0.5) });
  for (let index = some(bad.machines, 4); index > 0; index--) add({ atMs: at(), do: "power", node: chance.pick(nodes), awayMs: chance.between(10_000, 300_000) });
  for (let index = some(bad.machines, 4); index > 0; index--) add({ atMs: at(), do: "agent-crash", node: chance.pick(nodes), awayMs: chance.between(500, 60_000) });
  for (let index = some(bad.machines, 3); index > 0; index--) add({ atMs: at(), do: "sick", node: chance.pick(nodes), forMs: chance.between(10_000, 200_000) });
  for (let index = some(bad.people, 2); index > 0; index--) add({ atMs: at(), do: "cordon", node: chance.pick(nodes), forMs: chance.between(10_000, 200_000) });
  for (let index = some(bad.hub, 5); index > 0; index--) add({ atMs: at(), do: "hub-crash", awayMs: chance.between(500, 90_000) });
  for (let index = some(bad.hub && chance.happens(0.4), 2); index > 0; index--) add({ atMs: at(), do: "hub-restore", awayMs: chance.between(500, 30_000), ageMs: chance.between(5_000, 400_000) });
  for (let index = some(bad.clocks, 6); index > 0; index--) add({ atMs: at(), do: "clock", who: chance.pick(["hub", ...nodes]), byMs: chance.between(-3 * YEAR_MS, 3 * YEAR_MS) });
  for (let index = some(bad.machines, 2); index > 0; index--) add({ atMs: at(), do: "checks", forMs: chance.between(2_000, 90_000) });
  for (let index = some(bad.people, 4); index > 0; index--) add({ atMs: at(), do: "hold-node", node: chance.pick(nodes), forMs: chance.between(10_000, 200_000) });
  for (let index = some(bad.people, 2); index > 0; index--) add({ atMs: at(), do: "hold", what: chance.pick(["*", ...nodes]), forMs: chance.between(5_000, 120_000) });
  for (let index = some(bad.people, 12); index > 0; index--) add({ atMs: at(), do: "clear", node: chance.pick(nodes) });
  for (let index = some(bad.people, 4); index > 0; index--) add({ atMs: at(), do: "abort", node: chance.pick(nodes) });
  for (let index = some(bad.people, 2); index > 0; index--) add({ atMs: at(), do: "window" });
  for (let index = some(bad.people, 2); index > 0; index--) add({ atMs: at(), do: "script", node: chance.pick(nodes), forMs: chance.between(2_000, 100_000) });
  for (let index = bad === duel ? chance.between(4, 10) : some(bad.moments, 4); index > 0; index--) {
    const then = chance.pick<readonly Deed[]>([["instead"], ["clear", "instead"], ["clear", "instead"], ["abort", "instead"], ["abort", "instead"], ["hub-restore", "instead"], ["hub-restore", "abort"], ...(bad === duel ? [["hub-restore", "instead"] as const, ["hub-restore", "instead"] as const, ["abort", "hub-restore"] as const] : [])]);
    add({ atMs: at(), do: "moment", ...worst(chance, then), then, everyMs: chance.between(500, 8_000) });
  }
  memberships(chance, nodes, groups, some(bad.members, 5), add);
  if (bad.members && bad.people && chance.happens(0.5)) add({ atMs: at(), do: "settle", group: chance.pick(["cluster", ...Object.keys(groups)]) });
  const network = bad.network ? { loses: chance.below(30) / 100, doubles: chance.below(20) / 100, delays: chance.below(30) / 100 } : { loses: 0, doubles: 0, delays: 0 };
  const crashes = bad.crashes ? { hub: chance.below(4) / 100, agent: chance.below(20) / 100 } : { hub: 0, agent: 0 };
  const drift = nodes.map(() => (bad.clocks ? chance.between(80, 125) / 100 : 1));
  if (chance.happens(0.4)) for (let index = chance.between(1, 3); index > 0; index--) add({ atMs: at(), do: "change", nodes: subset(chance, nodes), slowMs: chance.between(1_000, 60_000) });
  if (chance.happens(0.4)) {
    for (let index = chance.between(1, 3); index > 0; index--) add({ atMs: at(), do: "rollout", kind: chance.pick(["update", "reboot", "change"]) });
    for (let index = some(bad.people, 4); index > 0; index--) add({ atMs: at(), do: "steer", what: chance.pick(["halt", "resume", "resume", "cancel"]) });
  }
  const mesh = chance.happens(0.3);
  for (let index = some(chance.happens(0.3), 3); index > 0; index--) add({ atMs: at(), do: "gate", node: chance.pick(nodes), holds: chance.pick(["others", "itself", "all"]), forMs: chance.between(10_000, 200_000) });
  return { seed, nodes, mesh, locks, groups, network, crashes, faults: faults.toSorted((a, b) => a.atMs - b.atMs), drift };
}

/** Most are of the length that hurts: an order that was held up is good for less than a minute. */
function worst(chance: Chance, then: readonly Deed[]): { readonly forMs: number; readonly kills: "before" | "after" | null } {
  const kills = then.includes("clear") ? null : chance.pick(["before", "after", null] as const);
  const long = chance.happens(0.3);
  if (long) return { forMs: chance.happens(0.3) ? 0 : chance.between(5_000, 200_000), kills };
  return { forMs: then.includes("clear") ? chance.between(15_000, 60_000) : chance.between(1_000, 35_000), kills };
}

function memberships(chance: Chance, nodes: readonly string[], groups: Readonly<Record<string, GroupSpec>>, changes: number, add: (fault: Fault) => void): void {
  let now = nodes;
  let named = groups;
  const times = Array.from({ length: changes }, () => chance.between(30_000, TROUBLE_MS)).sort((a, b) => a - b);
  for (const [index, atMs] of times.entries()) {
    const kind = chance.pick(["grow", "shrink", "rename", "groups"]);
    if (kind === "grow") now = [...now, ...Array.from({ length: chance.between(1, 3) }, (_, each) => `x${index}${each}`)].slice(0, 12);
    if (kind === "shrink" && now.length > 3) {
      const leaves = chance.pick(now);
      now = now.filter((node) => node !== leaves);
    }
    if (kind === "rename") now = now.map((node, each) => (each === 0 ? `r${index}` : node));
    named = kind === "groups" || chance.happens(0.5) ? groupsOf(chance, now) : within(named, now);
    add({ atMs, do: "membership", nodes: now, groups: named, slowMs: chance.between(1_000, 60_000) });
  }
}

function within(groups: Readonly<Record<string, GroupSpec>>, nodes: readonly string[]): Record<string, GroupSpec> {
  return Object.fromEntries(
    Object.entries(groups).flatMap(([name, group]) => {
      const members = group.members.filter((member) => nodes.includes(member));
      return members.length === 0 ? [] : [[name, { ...group, members }]];
    }),
  );
}

function groupsOf(chance: Chance, nodes: readonly string[]): Record<string, GroupSpec> {
  const groups: Record<string, GroupSpec> = {};
  for (let index = chance.below(4); index > 0; index--) {
    const members = subset(chance, nodes);
    groups[`g${index}`] = { members, ...(chance.happens(0.2) && { maxUnavailable: chance.below(3) }), ...(members.length <= 2 && chance.happens(0.8) && { acceptOutage: true }) };
  }
  return groups;
}

function subset(chance: Chance, nodes: readonly string[]): string[] {
  const some = nodes.filter(() => chance.happens(0.5));
  return some.length === 0 ? [chance.pick(nodes)] : some;
}
