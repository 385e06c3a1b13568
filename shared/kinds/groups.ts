import * as z from "zod";
import { accountId, groupNameSchema, isSystemId, readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { defineKind } from "./kind.ts";
import type { Json, Owned, ResourceId, Step } from "./kind.ts";
import { forgetStep } from "./managed-file.ts";

/** The shadow tools wait for each other's lock for 15 s at most (lckpwdf(3)). */
const ACCOUNT_TIMEOUT_MS = 30_000;

const full = z
  .strictObject({
    gid: accountId.optional().describe("The group's number; chosen by the system when not said"),
    system: z.boolean().default(false).describe("A group of the system's, with a number below 1000, if it has to be made"),
    state: z.enum(["present", "absent"]).default("present").describe("`absent`: the group is deleted"),
  })
  .describe("A group in full; {} is enough");

const short = z
  .enum(["present", "absent"])
  .transform((state) => full.parse({ state }))
  .describe("Whether the group exists");

const schema = z
  .record(groupNameSchema, z.union([short, full]))
  .superRefine((groups, check) => {
    if (groups["root"] !== undefined) check.addIssue({ code: "custom", path: ["root"], message: "the group root is not managed" });
    refuseSameId(groups, "gid", check);
  })
  .describe("Groups by name; who is in one is said under users");

type Want = z.output<typeof schema>;

/** Two accounts with one number would be the same to the kernel. */
export function refuseSameId<Field extends string>(accounts: Readonly<Record<string, { readonly [F in Field]?: number | undefined }>>, field: Field, check: z.core.$RefinementCtx): void {
  const seen = new Map<number, string>();
  for (const [name, account] of Object.entries(accounts)) {
    const id = account[field];
    if (id === undefined) continue;
    const other = seen.get(id);
    if (other !== undefined) check.addIssue({ code: "custom", path: [name, field], message: `${other} has the ${field} ${id} already`, input: id });
    seen.set(id, name);
  }
}

interface Facts {
  readonly accounts: Accounts;
}

export const groups = defineKind({
  name: "groups",
  summary: "Groups of users",
  schema,

  async observe(_want, probe): Promise<Facts> {
    return { accounts: await readAccounts(probe) };
  },

  plan(want, facts, owned) {
    const names = Object.keys(want).toSorted();
    return [...prune(want, facts, owned), ...names.flatMap((name) => planGroup(name, want[name]!, facts, owned))];
  },

  watch: () => ({ paths: ["/etc/group"] }),
});

function planGroup(name: string, want: Want[string], facts: Facts, owned: Owned): Step[] {
  const resource: ResourceId = `groups/${name}`;
  const now = facts.accounts.groups.get(name);
  const claim = owned.has(name) ? {} : { claim: now === undefined ? { type: "absent" } : { type: "group", gid: now.gid } };
  const run = (argv: [string, ...string[]], why: string): Step => ({ resource, why, impact: "none", ...claim, do: "run", argv, timeoutMs: ACCOUNT_TIMEOUT_MS });
  const refuse = (why: string): Step[] => [{ resource, why, impact: "none", do: "fail", message: `${name} (gid ${now?.gid}) is a group of the system's that evenkeel did not make, so it is left alone. Choose another name, or leave the group as it is.` }];

  if (want.state === "absent") {
    if (now === undefined) return [];
    if (isSystemId(now.gid) && !madeHere(owned.get(name))) return refuse("exists, should not");
    return [{ ...run(["groupdel", "--", name], "exists, should not"), removes: true }];
  }
  if (now === undefined) {
    const options = [...(want.system ? ["--system"] : []), ...(want.gid === undefined ? [] : ["--gid", String(want.gid)])];
    return [run(["groupadd", ...options, "--", name], "does not exist")];
  }
  if (want.gid === undefined || want.gid === now.gid) return [];
  const why = `gid is ${now.gid}, should be ${want.gid}`;
  // Files of the group keep the old number: that is the owner's to mend, and said here because groupmod does not.
  return isSystemId(now.gid) && !madeHere(owned.get(name)) ? refuse(why) : [run(["groupmod", "--gid", String(want.gid), "--", name], `${why} (files keep the old number)`)];
}

function prune(want: Want, facts: Facts, owned: Owned): Step[] {
  return [...owned.keys()]
    .filter((name) => want[name] === undefined)
    .toSorted()
    .map((name): Step => {
      const resource: ResourceId = `groups/${name}`;
      if (!madeHere(owned.get(name))) return forgetStep(resource, "no longer declared; it was there before, and stays");
      if (!facts.accounts.groups.has(name)) return forgetStep(resource, "no longer declared, and gone");
      return { resource, why: "no longer declared; evenkeel made it", impact: "none", removes: true, release: true, do: "run", argv: ["groupdel", "--", name], timeoutMs: ACCOUNT_TIMEOUT_MS };
    });
}

/** An account that was not there before the agent made it. */
export function madeHere(claim: Json | undefined): boolean {
  return typeof claim === "object" && claim !== null && "type" in claim && claim["type"] === "absent";
}
