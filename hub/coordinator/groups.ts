import type { CommitId, NodeName } from "../../shared/ids.ts";
import { allowedDown } from "../../shared/quorum.ts";
import type { Draft } from "./draft.ts";
import type { Event, GroupState, State, Terms } from "./state.ts";
import { OLDER_TERMS_MAX } from "./state.ts";
import { unreachableWhy } from "./down.ts";

/**
 * Quorum groups, and how they change. As in joint consensus, a change of members is two steps: first earlier and new terms
 * hold together (all their members count, and the smallest allowance), and only when every member of the new terms runs
 * the new commit, is well, and no slot is taken, the earlier terms are let go of.
 */

/** A group as it counts now: everybody that any terms in force name, and the smallest allowance of them. */
export interface Counting {
  readonly name: string;
  readonly members: ReadonlySet<NodeName>;
  readonly allowed: number;
  /** Of the newest terms; 0 when the group is gone. */
  readonly size: number;
  readonly settled: boolean;
}

export function countingOf(name: string, group: GroupState): Counting {
  const terms = termsOf(group);
  const tooMany = group.older.length >= OLDER_TERMS_MAX;
  return {
    name,
    members: new Set(terms.length === 1 ? terms[0]?.members : terms.flatMap((each) => each.members)),
    allowed: tooMany ? 0 : Math.min(...terms.map((each) => allowedDown({ size: each.members.length, maxUnavailable: each.maxUnavailable, acceptOutage: each.acceptOutage }))),
    size: group.current?.members.length ?? 0,
    settled: group.older.length === 0,
  };
}

export function termsOf(group: GroupState): readonly Terms[] {
  return group.current === null ? group.older : [group.current, ...group.older];
}

/** Takes over what a commit says. What it changes is in force at once, and what it changed stays in force beside it. */
export function changeMembership(draft: Draft, event: Extract<Event, { kind: "membership" }>): void {
  const { durable } = draft;
  const groups = new Map(durable.groups);
  for (const [name, terms] of event.groups) {
    const before = groups.get(name);
    const next: Terms = { ...terms, commit: event.commit };
    if (before?.current && isSame(before.current, next)) continue;
    groups.set(name, { current: next, older: withOlder(before) });
  }
  for (const [name, before] of groups) {
    if (event.groups.has(name) || before.current === null) continue;
    groups.set(name, { current: null, older: withOlder(before) });
  }
  draft.durable = { ...durable, commit: event.commit, members: new Map(event.members.map((member) => [member.name, member])), groups };
}

function withOlder(before: GroupState | undefined): readonly Terms[] {
  if (before === undefined) return [];
  const older = before.current === null ? before.older : [before.current, ...before.older];
  const different = older.filter((terms, index) => older.findIndex((each) => isSame(each, terms)) === index);
  return different.slice(0, OLDER_TERMS_MAX);
}

function isSame(a: Terms, b: Terms): boolean {
  return a.maxUnavailable === b.maxUnavailable && a.acceptOutage === b.acceptOutage && a.members.length === b.members.length && a.members.every((member) => b.members.includes(member));
}

/** Lets go of earlier terms wherever the group has become what the new ones say. */
export function settleGroups(draft: Draft): void {
  let groups: Map<string, GroupState> | null = null;
  for (const [name, group] of draft.durable.groups) {
    if (group.older.length === 0 || unsettledWhy(draft, name, group) !== null) continue;
    groups ??= new Map(draft.durable.groups);
    if (group.current === null) groups.delete(name);
    else groups.set(name, { current: group.current, older: [] });
  }
  if (groups !== null) draft.setGroups(groups);
}

/** What keeps earlier terms in force; null when nothing does. */
export function unsettledWhy(at: { readonly durable: State["durable"]; readonly volatile: State["volatile"]; readonly now: Event["now"]; readonly patience: Draft["patience"] }, name: string, group: GroupState): string | null {
  const { durable, volatile } = at;
  const { members } = countingOf(name, group);
  for (const lease of durable.leases.values()) {
    if (members.has(lease.node) || lease.groups.includes(name)) return `${lease.node} holds a slot`;
  }
  for (const member of members) {
    // What the database does not know of, an older hub may have granted: nobody is asked before he has spoken.
    if (durable.members.get(member)?.agent === true && !volatile.views.has(member)) return `${member} has not been heard of since the hub started`;
  }
  for (const member of group.current?.members ?? []) {
    if (durable.members.get(member)?.agent === false) continue;
    const away = unreachableWhy(volatile, member, at.now, at.patience);
    if (away !== null) return away;
    const word = volatile.views.get(member)?.word;
    if (word?.healthy !== true) return `${member} is not well`;
    if (!hasCommit(word.commit, durable.commit)) return `${member} does not run the newest commit yet`;
  }
  return null;
}

function hasCommit(has: CommitId | null, wanted: CommitId | null): boolean {
  return wanted === null || has === wanted;
}
