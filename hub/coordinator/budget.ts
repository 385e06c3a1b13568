import { isoTime } from "../../shared/clock.ts";
import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { Work } from "../../shared/protocol/lease.ts";
import type { Down } from "./down.ts";
import { downOf, leasesByNode } from "./down.ts";
import { gatedOf, gatesAgainst } from "./gates.ts";
import type { Gated } from "./gates.ts";
import { countingOf, unsettledWhy } from "./groups.ts";
import type { Denial, Hold, Now, Patience, State } from "./state.ts";
import { EVERYWHERE } from "./state.ts";

/**
 * The one place that decides whether a node may go down. It is asked twice for each lease: before the drain, and again
 * right before the point of no return.
 */

interface Group {
  readonly name: string;
  readonly members: ReadonlySet<NodeName>;
  readonly allowed: number;
  readonly size: number;
  /** Why earlier terms hold as well; null when they do not. */
  readonly settling: () => string | null;
  readonly down: Map<NodeName, Down>;
}

export interface Asked {
  readonly node: NodeName;
  readonly despiteChecks: boolean;
  /** What it goes for, when that is known. */
  readonly work?: Work;
  /** For the second question: the node has its slot already, and everybody else must have answered this ping. */
  readonly confirms?: { readonly lease: LeaseId; readonly ping: number };
}

/** A budget for one state; granting out of it is told by {@link Budget.take}, so that many can be decided on in one step. */
export class Budget {
  readonly #state: State;
  readonly #now: Now;
  readonly #patience: Patience;
  #counted: readonly Group[] | null = null;
  #saysNo: readonly Gated[] | null = null;
  readonly #groupsOf = new Map<NodeName, Group[]>();

  constructor(state: State, now: Now, patience: Patience) {
    this.#state = state;
    this.#now = now;
    this.#patience = patience;
  }

  /** Counted when first asked for: most requests that wait need no counting to be told why. */
  get #groups(): readonly Group[] {
    return (this.#counted ??= this.#count());
  }

  get #gated(): readonly Gated[] {
    return (this.#saysNo ??= gatedOf(this.#state));
  }

  #count(): readonly Group[] {
    const [state, now, patience] = [this.#state, this.#now, this.#patience];
    const leases = leasesByNode(state);
    const downs = new Map<NodeName, Down | null>();
    const down = (node: NodeName): Down | null => {
      let known = downs.get(node);
      if (known === undefined) downs.set(node, (known = downOf(state, node, now, patience, leases)));
      return known;
    };
    const at = { durable: state.durable, volatile: state.volatile, now, patience };
    return [...state.durable.groups].map(([name, group]) => {
      const { members, allowed, size, settled } = countingOf(name, group);
      const counted = new Map<NodeName, Down>();
      for (const member of members) {
        const why = down(member);
        if (why !== null) counted.set(member, why);
      }
      // Whoever took a slot as a member counts until it is given back, member or not.
      for (const lease of leases.values()) {
        const why = lease.groups.includes(name) ? down(lease.node) : null;
        if (why !== null) counted.set(lease.node, why);
      }
      const made: Group = {
        name,
        members,
        allowed,
        size,
        settling: settled ? nothing : () => unsettledWhy(at, name, group) ?? "it is about to",
        down: counted,
      };
      for (const member of members) {
        const groups = this.#groupsOf.get(member);
        if (groups === undefined) this.#groupsOf.set(member, [made]);
        else groups.push(made);
      }
      return made;
    });
  }

  get groups(): readonly { readonly name: string; readonly size: number; readonly members: ReadonlySet<NodeName>; readonly allowed: number; readonly settling: string | null; readonly down: ReadonlyMap<NodeName, Down> }[] {
    return this.#groups.map((group) => ({ ...group, settling: group.settling() }));
  }

  groupsOf(node: NodeName): readonly string[] {
    return this.#groupsWith(node).map(({ name }) => name);
  }

  /** The node goes down: it counts for whoever asks next. */
  take(node: NodeName, by: string): void {
    for (const group of this.#groupsWith(node)) group.down.set(node, { code: "leased", text: `${node} is being drained (${by})`, sinceMs: this.#now.wallMs });
  }

  #groupsWith(node: NodeName): readonly Group[] {
    return this.#groups.length === 0 ? [] : (this.#groupsOf.get(node) ?? []);
  }

  /** Whether nothing stands in the way: {@link denials} without its sentences, since most that wait are asked about at each step. */
  allows(asked: Asked): boolean {
    if (this.#aboutItself(asked).length > 0 || this.#holds(asked.node).length > 0 || this.#checks(asked).length > 0 || this.#gates(asked).length > 0) return false;
    const groups = this.#groupsWith(asked.node);
    return groups.length > 0 && groups.every((group) => this.#fits(group, asked.node, asked.confirms));
  }

  #fits(group: Group, node: NodeName, confirms: Asked["confirms"]): boolean {
    const others = group.down.size - (group.down.has(node) ? 1 : 0);
    if (others + 1 > group.allowed) return false;
    return confirms === undefined || others + this.#unheard(group, node, confirms.ping).length + 1 <= group.allowed;
  }

  /** What stands in the way; empty when nothing does. */
  denials(asked: Asked): readonly Denial[] {
    return [...this.#aboutItself(asked), ...this.#holds(asked.node), ...this.#checks(asked), ...this.#gates(asked), ...this.#quorum(asked)];
  }

  #aboutItself({ node, confirms }: Asked): readonly Denial[] {
    const { durable, volatile } = this.#state;
    const member = durable.members.get(node);
    if (member === undefined) return [denial("unknown-node", `${node} is not a node of the repository`, `add nodes/${node}.yaml, or look for a spelling mistake`)];
    if (confirms !== undefined) return [];
    for (const lease of durable.leases.values()) if (lease.node === node) return [denial("leased", `${node} holds a slot already, for ${lease.by}`, "it is given back when the node is back and well; `evenkeel why` says what it waits for", lease.grantedAtMs)];
    if (!member.agent) return [];
    const view = volatile.views.get(node);
    if (view === undefined || !view.online) return [denial("unreachable", `${node} is not connected, so that it cannot be told to drain`, `see to the machine; \`evenkeel status\` shows when it was last seen`)];
    if (view.word.lease !== null) return [denial("leased", `${node} has not closed its last lease yet`, "this takes a moment")];
    return [];
  }

  #holds(node: NodeName): readonly Denial[] {
    const denials: Denial[] = [];
    for (const [what, hold] of [[EVERYWHERE, "the cluster"], [node, node]] as const) {
      const held = this.#state.durable.holds.get(what);
      if (held === undefined || !isHeld(held, this.#now)) continue;
      denials.push(denial("hold", `${hold} is on hold: ${held.why}${held.untilMs === null ? "" : `, until ${isoTime(held.untilMs)}`}`, `${held.by} can lift it: \`evenkeel unhold${what === EVERYWHERE ? "" : ` ${node}`}\``, held.sinceMs));
    }
    return denials;
  }

  #checks({ despiteChecks }: Asked): readonly Denial[] {
    if (despiteChecks) return [];
    const { failingChecks } = this.#state.volatile;
    if (failingChecks === null) return [denial("checks", "the service checks have not been looked at yet since the hub started", "this takes a few seconds")];
    return failingChecks.map((name) => denial("checks", `the service check ${name} is not well`, `mend what it looks at; \`evenkeel checks\` says what it sees`));
  }

  /** Its own are asked before it drains; with what it served gone, they would be about something else. */
  #gates({ node, despiteChecks, work, confirms }: Asked): readonly Denial[] {
    if (despiteChecks) return [];
    const against = gatesAgainst(this.#state, this.#gated, node, work?.do ?? null).filter((each) => confirms === undefined || each.node !== node);
    return against.map(({ text }) => denial("gate", text, "it goes on by itself when that is over; --despite-checks goes in spite of it"));
  }

  #quorum({ node, confirms }: Asked): readonly Denial[] {
    const groups = this.#groupsWith(node);
    if (groups.length === 0) return [denial("no-group", `${node} is in no quorum group yet`, "this takes a moment after a push")];
    const denials: Denial[] = [];
    for (const group of groups) {
      if (this.#fits(group, node, confirms)) continue;
      const unheard = confirms === undefined ? [] : this.#unheard(group, node, confirms.ping);
      const others = [...group.down].filter(([member]) => member !== node);
      denials.push({
        code: "quorum",
        text: quorumText(group, node, others.map(([, down]) => down.text), unheard),
        sinceMs: others.reduce<number | null>((oldest, [, { sinceMs }]) => (sinceMs === null ? oldest : Math.min(oldest ?? sinceMs, sinceMs)), null),
        cure: group.allowed === 0 ? zeroCure(group) : "it goes on by itself when one of them is back and well",
      });
    }
    return denials;
  }

  /** Members that are up as far as we know, but have not said so since the question was put. */
  #unheard(group: Group, node: NodeName, ping: number): readonly NodeName[] {
    const { durable, volatile } = this.#state;
    return [...group.members].filter((member) => {
      if (member === node || group.down.has(member) || durable.members.get(member)?.agent === false) return false;
      return (volatile.views.get(member)?.word.answers?.ping ?? -1) < ping;
    });
  }
}

const nothing = (): null => null;

export function isHeld(hold: Hold, now: Now): boolean {
  return hold.untilMs === null || now.wallMs < hold.untilMs;
}

/** Everything that stands in the way of one request, right now. */
export function denialsFor(state: State, request: Pick<Asked, "node" | "despiteChecks" | "work">, now: Now, patience: Patience): readonly Denial[] {
  return new Budget(state, now, patience).denials(request);
}

function quorumText(group: Group, node: NodeName, others: readonly string[], unheard: readonly NodeName[]): string {
  const reasons = [...others, ...unheard.map((member) => `${member} has not answered yet`)];
  const why = group.settling();
  const settling = why === null ? "" : `; its members are changing, and the earlier ones count as well until that is done: ${why}`;
  const may = group.allowed === 0 ? "none may be down" : `${group.allowed} may be down`;
  if (reasons.length === 0) return `in the group ${group.name} of ${group.size}, ${may}${settling}`;
  return `in the group ${group.name} of ${group.size}, ${may}, and with ${node} it would be ${reasons.length + 1}: ${reasons.slice(0, 5).join("; ")}${settling}`;
}

function zeroCure(group: Group): string {
  if (group.settling() !== null) return "it goes on by itself when the members have settled; `evenkeel settle GROUP` says that they have";
  return group.size <= 2 ? `write acceptOutage: true for the group ${group.name} in cluster.yaml if its outage is fine` : `maxUnavailable of the group ${group.name} in cluster.yaml forbids it`;
}

export function denial(code: string, text: string, cure: string, sinceMs: number | null = null): Denial {
  return { code, text, cure, sinceMs };
}
