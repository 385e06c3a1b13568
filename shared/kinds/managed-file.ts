import type { Accounts } from "./accounts.ts";
import { groupName, ownerName } from "./accounts.ts";
import type { Json, Owned, Probe, ResourceId, Stat, Step, StepCommon } from "./kind.ts";
import { octal } from "./paths.ts";

/**
 * One path on the machine, looked at and brought into shape: what `files` is made of, and what the other kinds use for
 * the files that they keep.
 */

/** What stands at a path. */
export interface At {
  readonly stat: Stat | null;
  /** A regular file holds exactly the wanted bytes. */
  readonly same: boolean;
  /** Where a link points to. */
  readonly target: string | null;
  /** What a directory holds; only looked up where a directory stands in the way. */
  readonly entries: readonly string[] | null;
}

export const nothingAt: At = { stat: null, same: false, target: null, entries: null };

/** Reads a file's bytes only if its size fits, so that most differences cost one `lstat`. */
export async function lookAt(probe: Probe, path: string, wanted: { readonly content?: Uint8Array | undefined; readonly directory?: boolean }): Promise<At> {
  const stat = await probe.stat(path);
  if (stat === null) return nothingAt;
  if (stat.type === "link") return { stat, same: false, target: await probe.readLink(path), entries: null };
  if (stat.type === "directory") return { stat, same: false, target: null, entries: wanted.directory === true ? null : ((await probe.list(path)) ?? []) };
  if (stat.type !== "file" || wanted.content === undefined || stat.sizeBytes !== wanted.content.length) return { stat, same: false, target: null, entries: null };
  const bytes = await probe.read(path, wanted.content.length);
  return { stat, same: bytes !== null && sameBytes(bytes, wanted.content), target: null, entries: null };
}

/**
 * Four bytes at a time where both begin at a multiple of four. Measured without V8's compilers, as the agent runs: 1 MB takes
 * a third of the time that a call for each byte takes.
 */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  const aligned = one.byteOffset % 4 === 0 && other.byteOffset % 4 === 0;
  const words = aligned ? Math.floor(one.length / 4) : 0;
  const [ours, theirs] = [one, other].map((bytes) => (aligned ? new Int32Array(bytes.buffer, bytes.byteOffset, words) : new Int32Array(0))) as [Int32Array, Int32Array];
  for (let at = 0; at < words; at += 1) if (ours[at] !== theirs[at]) return false;
  const [rest, theirRest] = [one.subarray(words * 4), other.subarray(words * 4)];
  return rest.every((byte, at) => byte === theirRest[at]);
}

export interface Attributes {
  readonly mode: number;
  readonly owner: string;
  readonly group: string;
}

export interface WantedFile extends Attributes {
  readonly path: string;
  readonly content: Uint8Array;
  /** Where the content comes from, for people. */
  readonly source?: string;
}

/** What every step for a path shares. `claim` is added here, when `owned` does not have the key yet. */
export interface FileContext {
  readonly resource: ResourceId;
  readonly accounts: Accounts;
  readonly owned: Owned;
  readonly common?: Pick<StepCommon, "needs" | "then" | "sensitive"> & { readonly impact?: StepCommon["impact"] };
}

/** Steps that make `at` the wanted file; `[]` when it is. */
export function planFile(file: WantedFile, at: At, context: FileContext): Step[] {
  const common = commonOf(context);
  const to = { path: file.path, mode: file.mode, owner: file.owner, group: file.group };
  const write = { do: "write", content: file.content, ...to, ...(file.source === undefined ? {} : { source: file.source }) } as const;
  const claim = claimOf(at, context);
  if (at.stat === null) return [{ ...common, ...claim, why: "does not exist", ...write }];
  if (at.stat.type === "link") return [{ ...common, ...claim, why: `is a link to ${at.target}, should be a file`, ...write }];
  if (at.stat.type !== "file") return clearDirectory("a file", file.path, at, context, (extra) => ({ ...common, ...extra, why: "is a directory, should be a file", ...write }));
  const differs = attributeFaults(at.stat, file, context.accounts);
  if (!at.same) return [{ ...common, ...claim, why: [sizeFault(at.stat, file), ...differs].join("; "), ...write }];
  return differs.length === 0 ? [] : [{ ...common, ...claim, why: differs.join("; "), do: "attributes", ...to }];
}

/** Steps that make `at` a directory with these attributes; what it holds is nobody's business here. */
export function planDirectory(path: string, want: Attributes, at: At, context: FileContext): Step[] {
  const common = commonOf(context);
  const to = { path, mode: want.mode, owner: want.owner, group: want.group };
  if (at.stat === null) return [{ ...common, ...claimOf(at, context), why: "does not exist", do: "directory", ...to }];
  if (at.stat.type === "directory") {
    const differs = attributeFaults(at.stat, want, context.accounts);
    return differs.length === 0 ? [] : [{ ...common, ...claimOf(at, context), why: differs.join("; "), do: "attributes", ...to }];
  }
  const is = describeAt(at);
  // A file of somebody else's is not thrown away for a directory; what the agent made itself it may also replace.
  if (!ownedAsMade(context)) return [failStep(context, `is ${is}, should be a directory`, `${path} is ${is}, and a directory is wanted. Move it away, or declare it \`type: absent\` first.`)];
  return [
    { ...common, why: `is ${is}, should be a directory`, do: "remove", path },
    { ...common, why: `is ${is}, should be a directory`, do: "directory", ...to },
  ];
}

/** Steps that make `at` a link to exactly `target`. */
export function planLink(path: string, target: string, at: At, context: FileContext): Step[] {
  const common = commonOf(context);
  const link = { do: "link", path, target } as const;
  if (at.stat === null) return [{ ...common, ...claimOf(at, context), why: "does not exist", ...link }];
  if (at.stat.type === "link") return at.target === target ? [] : [{ ...common, ...claimOf(at, context), why: `points to ${at.target}, should point to ${target}`, ...link }];
  if (at.stat.type === "file") return [{ ...common, ...claimOf(at, context), why: `is a file, should be a link to ${target}`, ...link }];
  return clearDirectory("a link", path, at, context, (extra) => ({ ...common, ...extra, why: `is a directory, should be a link to ${target}`, ...link }));
}

/** Steps that leave nothing at the path. A directory goes only when it is empty. */
export function planAbsent(path: string, at: At, context: FileContext): Step[] {
  if (at.stat === null) return [];
  if (at.stat.type === "other" || (at.entries ?? []).length > 0) {
    const is = describeAt(at);
    return [failStep(context, `is ${is}, should not exist`, `${path} is ${is}, and is not deleted: only files, links and empty directories are. Remove it by hand if it may go.`)];
  }
  return [{ ...commonOf(context), ...claimOf(at, context), why: `is ${describeAt(at)}, should not exist`, removes: true, do: "remove", path }];
}

/** The resource cannot be had: `message` says what is wrong and what to do. */
export function failStep(context: Pick<FileContext, "resource">, why: string, message: string): Step {
  return { resource: context.resource, why, impact: "none", do: "fail", message };
}

/**
 * Strikes a resource off the inventory where nothing on the machine is left to be undone. The interface has no step
 * that does nothing, so the smallest program stands in for it.
 */
export function forgetStep(resource: ResourceId, why: string): Step {
  return { resource, why, impact: "none", removes: true, release: true, do: "run", argv: ["true"], timeoutMs: 10_000 };
}

/** Puts back what stood at a path before the agent came, or takes away what it made. */
export function restoreStep(resource: ResourceId, path: string, claim: Json | undefined): Step {
  const before = claimedType(claim);
  const back = before === "absent" ? "there was nothing before" : `the ${before} that was there before comes back`;
  return { resource, why: `no longer declared; ${back}`, impact: "none", removes: true, release: true, do: "restore", path };
}

/** The type of what stood at a path, out of a claim of {@link claimFor}. */
export function claimedType(claim: Json | undefined): string {
  const type = typeof claim === "object" && claim !== null && "type" in claim ? claim["type"] : undefined;
  return typeof type === "string" ? type : "file";
}

/** What stood at the path before, for the inventory: never null, so that it can be told from "nothing recorded". */
export function claimFor(at: At, accounts: Accounts): { readonly [key: string]: Json } {
  if (at.stat === null) return { type: "absent" };
  const who = { mode: octal(at.stat.mode), owner: ownerName(accounts, at.stat.uid), group: groupName(accounts, at.stat.gid) };
  return at.stat.type === "link" ? { type: "link", target: at.target } : { type: at.stat.type, ...who };
}

function commonOf(context: FileContext): Omit<StepCommon, "why"> {
  const { impact = "none", ...rest } = context.common ?? {};
  return { resource: context.resource, impact, ...rest };
}

function claimOf(at: At, context: FileContext): { readonly claim?: Json } {
  return context.owned.has(keyOf(context.resource)) ? {} : { claim: claimFor(at, context.accounts) };
}

/** The agent put the thing there itself: there was nothing before. */
function ownedAsMade(context: FileContext): boolean {
  return claimedType(context.owned.get(keyOf(context.resource))) === "absent";
}

/** An empty directory in the way is removed first; anything else in the way is the owner's to decide. */
function clearDirectory(wanted: string, path: string, at: At, context: FileContext, then: (extra: { readonly claim?: Json }) => Step): Step[] {
  const is = describeAt(at);
  if (at.stat?.type === "directory" && at.entries?.length === 0) {
    return [{ ...commonOf(context), ...claimOf(at, context), why: `is ${is}, should be ${wanted}`, do: "remove", path }, then({})];
  }
  return [failStep(context, `is ${is}, should be ${wanted}`, `${path} is ${is}, and ${wanted} is wanted. Move it away by hand; it is not deleted for that.`)];
}

function attributeFaults(stat: Stat, want: Attributes, accounts: Accounts): string[] {
  const faults: string[] = [];
  if (stat.mode !== want.mode) faults.push(`mode is ${octal(stat.mode)}, should be ${octal(want.mode)}`);
  if (accounts.users.get(want.owner)?.uid !== stat.uid) faults.push(`owner is ${ownerName(accounts, stat.uid)}, should be ${want.owner}`);
  if (accounts.groups.get(want.group)?.gid !== stat.gid) faults.push(`group is ${groupName(accounts, stat.gid)}, should be ${want.group}`);
  return faults;
}

function sizeFault(stat: Stat, file: WantedFile): string {
  return stat.sizeBytes === file.content.length ? "content differs" : `content differs (${stat.sizeBytes} bytes, should be ${file.content.length})`;
}

export function describeAt(at: At): string {
  switch (at.stat?.type) {
    case undefined:
      return "absent";
    case "file":
      return "a file";
    case "link":
      return `a link to ${at.target}`;
    case "directory":
      return at.entries === null ? "a directory" : at.entries.length === 0 ? "an empty directory" : `a directory with ${at.entries.length} ${at.entries.length === 1 ? "entry" : "entries"} in it`;
    case "other":
      return "a device, socket or pipe";
  }
}

function keyOf(resource: ResourceId): string {
  return resource.slice(resource.indexOf("/") + 1);
}

/** So many reads at a time: enough to keep a disk busy, few enough for any limit on open files. */
const READS_AT_ONCE = 32;

/** Answers for all keys, in their order, with a bounded number under way. */
export async function lookAtAll<T>(keys: readonly string[], look: (key: string) => Promise<T>): Promise<ReadonlyMap<string, T>> {
  const answers: T[] = [];
  for (let from = 0; from < keys.length; from += READS_AT_ONCE) {
    answers.push(...(await Promise.all(keys.slice(from, from + READS_AT_ONCE).map(look))));
  }
  return new Map(keys.map((key, index) => [key, answers[index]!]));
}
