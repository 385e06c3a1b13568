import * as z from "zod";
import type { Probe, ResourceId } from "./kind.ts";

/**
 * Users and groups as passwd(5), group(5) and shadow(5) hold them. Only these files are asked: what a directory
 * service adds by NSS is not managed here.
 */

export interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly comment: string;
  readonly home: string;
  readonly shell: string;
}

export interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

export interface Accounts {
  readonly users: ReadonlyMap<string, PasswdEntry>;
  readonly groups: ReadonlyMap<string, GroupEntry>;
}

export function parsePasswd(text: string): ReadonlyMap<string, PasswdEntry> {
  const users = new Map<string, PasswdEntry>();
  for (const [name, , uid, gid, comment, home, shell] of records(text)) {
    if (!name || users.has(name) || !isId(uid) || !isId(gid)) continue;
    users.set(name, { name, uid: Number(uid), gid: Number(gid), comment: comment ?? "", home: home ?? "", shell: shell ?? "" });
  }
  return users;
}

export function parseGroup(text: string): ReadonlyMap<string, GroupEntry> {
  const groups = new Map<string, GroupEntry>();
  for (const [name, , gid, members] of records(text)) {
    if (!name || groups.has(name) || !isId(gid)) continue;
    groups.set(name, { name, gid: Number(gid), members: (members ?? "").split(",").filter((member) => member !== "") });
  }
  return groups;
}

/** The password field by user: a crypt(5) hash, or something that begins with `!` or `*` and fits no password. */
export function parseShadow(text: string): ReadonlyMap<string, string> {
  const passwords = new Map<string, string>();
  for (const [name, password] of records(text)) {
    if (name && password !== undefined && !passwords.has(name)) passwords.set(name, password);
  }
  return passwords;
}

function records(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

function isId(field: string | undefined): field is string {
  return field !== undefined && /^\d{1,10}$/.test(field);
}

/** Both databases, read again only when they have changed. A missing file counts as an empty one. */
export async function readAccounts(probe: Probe): Promise<Accounts> {
  const [users, groups] = await Promise.all([probe.parsed("/etc/passwd", parsePasswd), probe.parsed("/etc/group", parseGroup)]);
  return { users: users ?? new Map(), groups: groups ?? new Map() };
}

/** The name of a uid, or the number itself where no user has it. */
export function ownerName(accounts: Accounts, uid: number): string {
  for (const user of accounts.users.values()) if (user.uid === uid) return user.name;
  return String(uid);
}

/** The name of a gid, or the number itself where no group has it. */
export function groupName(accounts: Accounts, gid: number): string {
  for (const group of accounts.groups.values()) if (group.gid === gid) return group.name;
  return String(gid);
}

/** What a thing that belongs to somebody has to wait for, should user and group be declared as well. */
export function accountNeeds(owner: string, group: string): ResourceId[] {
  return [...(owner === "root" ? [] : [`users/${owner}` as const]), ...(group === "root" ? [] : [`groups/${group}` as const])];
}

/** useradd(8): what Debian accepts without `--badname`, without dots, since sudo skips files with a dot in their name. */
const ACCOUNT_NAME = /^[a-z_][a-z0-9_-]{0,31}$/;

export const userName = z
  .string()
  .regex(ACCOUNT_NAME, "a user's name begins with a lower-case letter and has lower-case letters, digits, _ and -, at most 32, like anna");

export const groupNameSchema = z
  .string()
  .regex(ACCOUNT_NAME, "a group's name begins with a lower-case letter and has lower-case letters, digits, _ and -, at most 32, like docker");

/** Who owns a file: also names that packages bring, such as `Debian-exim` or `systemd-network`. */
export const fileOwner = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/, "the name of a user or group, like www-data; numbers are not taken");

/** 0 is root, and 2^32 - 1 means "no change" to chown(2). 65535 was the same once and is kept free (Debian policy 9.2.2). */
export const accountId = z
  .int()
  .min(1, "0 is root's: choose another number")
  .max(4_294_967_294)
  .refine((id) => id !== 65_535, "65535 is reserved (Debian policy 9.2.2)");

/** The first number that Debian gives to people; below are the system's own (Debian policy 9.2.2). */
export const PEOPLE_FROM_ID = 1000;
/** `nobody` and `nogroup`: also the system's. */
export const NOBODY_ID = 65_534;

export function isSystemId(id: number): boolean {
  return id < PEOPLE_FROM_ID || id === NOBODY_ID;
}
