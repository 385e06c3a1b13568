import { accountNeeds, isSystemId, parseShadow, readAccounts } from "./accounts.ts";
import type { Accounts, PasswdEntry } from "./accounts.ts";
import { madeHere } from "./groups.ts";
import { defineKind } from "./kind.ts";
import type { Owned, ResourceId, Step } from "./kind.ts";
import { failStep, forgetStep, lookAt, lookAtAll, nothingAt, planDirectory, planFile, restoreStep } from "./managed-file.ts";
import type { At, FileContext } from "./managed-file.ts";
import { keysContent, sudoersContent, sudoersPath, usersSchema } from "./users-section.ts";
import type { User, UsersWant } from "./users-section.ts";

/** The shadow tools wait for each other's lock for 15 s at most (lckpwdf(3)); usermod --uid walks the home directory. */
const ACCOUNT_TIMEOUT_MS = 30_000;

interface Facts {
  readonly accounts: Accounts;
  /** Password fields of shadow(5); empty unless a password is declared. */
  readonly passwords: ReadonlyMap<string, string>;
  readonly at: ReadonlyMap<string, At>;
}

/** Keys of the inventory are the users, and the paths of the files that are kept for them. */
export const users = defineKind({
  name: "users",
  summary: "Users with their groups, SSH keys, sudo rights and passwords",
  schema: usersSchema,

  async observe(want, probe): Promise<Facts> {
    const accounts = await readAccounts(probe);
    const secret = Object.values(want).some((user) => user.password !== undefined);
    const wanted = filesOf(want, accounts);
    const directories = [...wanted.keys()].filter((path) => path.endsWith("/.ssh/authorized_keys")).map((path) => sshDirectory(path));
    const [passwords, files, dirs] = await Promise.all([
      secret ? probe.parsed("/etc/shadow", parseShadow) : null,
      lookAtAll([...wanted.keys()], (path) => lookAt(probe, path, { content: wanted.get(path)! })),
      lookAtAll(directories, (path) => lookAt(probe, path, { directory: true })),
    ]);
    return { accounts, passwords: passwords ?? new Map(), at: new Map([...files, ...dirs]) };
  },

  plan(want, facts, owned) {
    const names = Object.keys(want).toSorted();
    return [
      ...prune(want, facts, owned),
      ...names.flatMap((name) => [...planAccount(name, want[name]!, facts, owned), ...planKeys(name, want[name]!, facts, owned), ...planSudo(name, want[name]!, facts, owned)]),
    ];
  },

  watch: (want) => ({ paths: ["/etc/passwd", "/etc/group", "/etc/shadow", ...Object.keys(want).filter((name) => sudoersContent(name, want[name]!)).map(sudoersPath)] }),
});

/** Path → content of what is kept for the users besides their accounts. */
function filesOf(want: UsersWant, accounts: Accounts): ReadonlyMap<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [name, user] of Object.entries(want)) {
    const [keys, rights] = [keysContent(user), sudoersContent(name, user)];
    if (keys !== undefined) files.set(keysPath(name, user, accounts), keys);
    if (rights !== undefined) files.set(sudoersPath(name), rights);
  }
  return files;
}

function keysPath(name: string, user: User, accounts: Accounts): string {
  const home = user.home ?? accounts.users.get(name)?.home ?? `/home/${name}`;
  return `${home.replace(/\/+$/, "")}/.ssh/authorized_keys`;
}

function sshDirectory(keys: string): string {
  return keys.slice(0, keys.lastIndexOf("/"));
}

function planAccount(name: string, user: User, facts: Facts, owned: Owned): Step[] {
  if (name === "root") return [];
  const resource: ResourceId = `users/${name}`;
  const now = facts.accounts.users.get(name);
  const steps = user.state === "absent" ? planDeletion(name, now, owned, `exists, should not; ${now?.home} stays`) : now === undefined ? planCreation(name, user, facts) : planChanges(name, user, now, facts);
  if (steps.length === 0) return [];
  if (now !== undefined && (now.uid === 0 || (isSystemId(now.uid) && !madeHere(owned.get(name))))) {
    const message = `${name} (uid ${now.uid}) is a user of the system's that evenkeel did not make, so the account is left alone. Keys and sudo can be declared for it, its other fields not.`;
    return [failStep({ resource }, steps.map((step) => step.why).join("; "), message)];
  }
  const claim = now === undefined ? { type: "absent", ...(primaryGroup(name, user, facts) === name ? { keepGroup: true } : {}) } : { type: "user", uid: now.uid };
  return steps.map((step, index) => (index === 0 && !owned.has(name) ? { ...step, claim } : step));
}

/**
 * userdel(8) deletes a group of the user's own name as well (USERGROUPS_ENAB). One that was not made along with the user
 * is kept from that: it is no longer the user's primary group then.
 */
function planDeletion(name: string, now: PasswdEntry | undefined, owned: Owned, why: string): Step[] {
  if (now === undefined) return [];
  const claim = owned.get(name);
  const keep = typeof claim === "object" && claim !== null && "keepGroup" in claim;
  const steps = [...(keep ? [run(name, ["usermod", "--gid", "nogroup", "--", name], `${why}; the group ${name} stays`)] : []), run(name, ["userdel", "--", name], why)];
  return steps.map((step) => ({ ...step, removes: true }));
}

/** The primary group that a new user is put into; undefined where one is made along with the user. */
function primaryGroup(name: string, user: User, facts: Facts): string | undefined {
  return user.group ?? (facts.accounts.groups.has(name) ? name : undefined);
}

function planCreation(name: string, user: User, facts: Facts): Step[] {
  const group = primaryGroup(name, user, facts);
  const home = user.home ?? (user.system ? "/nonexistent" : `/home/${name}`);
  const options = [
    ...(user.system ? ["--system"] : []),
    ...(user.system && user.home === undefined ? ["--no-create-home"] : ["--create-home"]),
    ...(user.uid === undefined ? [] : ["--uid", String(user.uid)]),
    ...(group === undefined ? ["--user-group"] : ["--gid", group]),
    ...(user.groups === undefined || user.groups.length === 0 ? [] : ["--groups", user.groups.join(",")]),
    "--home-dir",
    home,
    "--shell",
    user.shell ?? (user.system ? "/usr/sbin/nologin" : "/bin/bash"),
    ...(user.comment === undefined ? [] : ["--comment", user.comment]),
  ];
  const create = { ...run(name, ["useradd", ...options, "--", name], "does not exist"), ...groupNeeds(user) };
  return [create, ...(user.password === undefined || user.password === "!" ? [] : [setPassword(name, user.password, "has no password yet")])];
}

function planChanges(name: string, user: User, now: PasswdEntry, facts: Facts): Step[] {
  const { groups } = facts.accounts;
  const options: string[] = [];
  const faults: string[] = [];
  const compare = (what: string, is: string, wanted: string | undefined, option: string): void => {
    if (wanted === undefined || wanted === is) return;
    options.push(option, wanted);
    faults.push(`${what} is ${is || "empty"}, should be ${wanted || "empty"}`);
  };
  const primary = [...groups.values()].find((group) => group.gid === now.gid)?.name ?? String(now.gid);
  const others = [...groups.values()].filter((group) => group.members.includes(name) && group.name !== (user.group ?? primary)).map((group) => group.name);
  compare("uid", String(now.uid), user.uid === undefined ? undefined : String(user.uid), "--uid");
  compare("group", primary, user.group, "--gid");
  compare("groups", list(others), user.groups === undefined ? undefined : list(user.groups), "--groups");
  compare("home", now.home, user.home, "--home");
  compare("shell", now.shell, user.shell, "--shell");
  // GECOS: name, room, phones, separated by commas (passwd(5), chfn(1)).
  compare("comment", now.comment.split(",")[0]!, user.comment, "--comment");
  const changes = options.length === 0 ? [] : [{ ...run(name, ["usermod", ...options, "--", name], faults.join("; ")), ...groupNeeds(user) }];
  return [...changes, ...planPassword(name, user, facts)];
}

function planPassword(name: string, user: User, facts: Facts): Step[] {
  if (user.password === undefined) return [];
  const now = facts.passwords.get(name) ?? "";
  if (user.password === "!") return /^[!*]/.test(now) ? [] : [run(name, ["usermod", "--lock", "--", name], "a password is set, should be none")];
  return user.password === now ? [] : [setPassword(name, user.password, "password differs")];
}

/** The hash goes in on standard input: arguments can be read by every user of the machine. */
function setPassword(name: string, hash: string, why: string): Step {
  return { ...run(name, ["chpasswd", "--encrypted"], why), sensitive: true, input: `${name}:${hash}\n` };
}

function planKeys(name: string, user: User, facts: Facts, owned: Owned): Step[] {
  const content = keysContent(user);
  if (content === undefined) return [];
  const path = keysPath(name, user, facts.accounts);
  const directory = sshDirectory(path);
  const resource: ResourceId = `users/${path}`;
  const now = facts.accounts.users.get(name);
  const group = user.group ?? [...facts.accounts.groups.values()].find((entry) => entry.gid === now?.gid)?.name ?? (now === undefined ? name : String(now.gid));
  const at = facts.at.get(directory) ?? nothingAt;
  // The user could point the link anywhere, and root would write there.
  if (at.stat?.type === "link") return [failStep({ resource }, `${directory} is a link`, `${directory} is a link to ${at.target}; keys are not written through it. Make it a directory of ${name}'s.`)];
  const context: FileContext = { resource, accounts: facts.accounts, owned, common: name === "root" ? {} : { needs: [`users/${name}`] } };
  return [
    // The inventory has one key for both, and what it says is about the file.
    ...planDirectory(directory, { mode: 0o700, owner: name, group }, at, { ...context, owned: new Map([[path, null]]) }),
    ...planFile({ path, content, mode: 0o600, owner: name, group }, facts.at.get(path) ?? nothingAt, context),
  ];
}

function planSudo(name: string, user: User, facts: Facts, owned: Owned): Step[] {
  const path = sudoersPath(name);
  const content = sudoersContent(name, user);
  if (content === undefined) return [];
  const needs: ResourceId[] = [`users/${name}`, "packages/sudo"];
  return planFile({ path, content, mode: 0o440, owner: "root", group: "root" }, facts.at.get(path) ?? nothingAt, { resource: `users/${path}`, accounts: facts.accounts, owned, common: { needs } });
}

/** Rights and keys go first, then the account that the agent made. Home directories stay, always. */
function prune(want: UsersWant, facts: Facts, owned: Owned): Step[] {
  const wanted = filesOf(want, facts.accounts);
  const gone = [...owned.keys()].filter((key) => (key.startsWith("/") ? !wanted.has(key) : want[key] === undefined)).toSorted();
  return gone.flatMap((key): Step[] => {
    const resource: ResourceId = `users/${key}`;
    if (key.startsWith("/")) return [restoreStep(resource, key, owned.get(key))];
    if (!madeHere(owned.get(key))) return [forgetStep(resource, "no longer declared; the user was there before, and stays")];
    const now = facts.accounts.users.get(key);
    if (now === undefined) return [forgetStep(resource, "no longer declared, and gone")];
    const steps = planDeletion(key, now, owned, `no longer declared; evenkeel made it; ${now.home} stays`);
    return [...steps.slice(0, -1), { ...steps.at(-1)!, release: true }];
  });
}

function run(name: string, argv: readonly [string, ...string[]], why: string): Step & { readonly do: "run" } {
  return { resource: `users/${name}`, why, impact: "none", do: "run", argv, timeoutMs: ACCOUNT_TIMEOUT_MS };
}

function groupNeeds(user: User): { readonly needs?: readonly ResourceId[] } {
  const needs = [...(user.group === undefined ? [] : accountNeeds("root", user.group)), ...(user.groups ?? []).flatMap((group) => accountNeeds("root", group))];
  return needs.length === 0 ? {} : { needs };
}

function list(names: readonly string[]): string {
  return names.toSorted().join(",");
}
