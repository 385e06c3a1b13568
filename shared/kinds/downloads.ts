import * as z from "zod";
import { accountNeeds, fileOwner, groupName, ownerName, readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { defineKind } from "./kind.ts";
import type { Owned, ResourceId, Stat, Step, StepCommon, Trigger } from "./kind.ts";
import { forgetStep, lookAtAll } from "./managed-file.ts";
import { fileMode, managedPath, octal } from "./paths.ts";
import { unitNames } from "./unit-name.ts";

const address = z
  .url({ protocol: /^https?$/, error: "an address begins with https:// or http://" })
  .max(2_048)
  .refine((url) => !/^[^/]*\/\/[^/]*@/.test(url), "an address is in Git for all to read: no user and no password in it");

/** 100 GB: what nobody puts on a node by this. */
const SIZE_BYTES_MAX = 100_000_000_000;

const entry = z.strictObject({
  url: address.describe("Where it is fetched from; plain http is fine too, because the sum is checked"),
  mirrors: z.array(address).max(10).default([]).describe("Other places that have the same file, tried in turn"),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, "the SHA-256 of what is fetched, as 64 lower-case hexadecimal digits: sha256sum prints it").describe("The SHA-256 of what is fetched; nothing else is ever put in place"),
  member: z
    .string()
    .max(4_095)
    .regex(/^(?![-/])(?!(.*\/)?\.\.(\/|$))[^\0]+$/, "a path within the archive, as tar lists it")
    .optional()
    .describe("What is fetched is a tar archive, compressed or not, and the file is this member of it: cockroach-v25.2.0.linux-amd64/cockroach"),
  mode: fileMode.default(0o755).describe('Permission bits, in quotes: "0755"'),
  owner: fileOwner.default("root").describe("The user it belongs to"),
  group: fileOwner.default("root").describe("The group it belongs to"),
  restart: unitNames.optional().describe("Units to restart after it has changed, if they are running"),
  reload: unitNames.optional().describe("Units to reload after it has changed, if they are running"),
  timeoutMinutes: z.number().min(1).max(24 * 60).default(60).describe("How long it may take. It is given up earlier when nothing has come for 30 s, and the next try goes on where it stopped"),
  sizeMaxBytes: z.int().min(1).max(SIZE_BYTES_MAX).default(10_000_000_000).describe("What is larger is a mistake, and not fetched"),
});

const schema = z.record(managedPath, entry).describe("Files fetched by address and sum, by the absolute path that they get");
type Want = z.output<typeof schema>;

/**
 * What the agent writes down once a file is in place: to compute the sum of a large file at each look would take seconds. As
 * long as the file's stamp is the recorded one, it is what it was.
 */
export interface DownloadRecord {
  readonly sha256: string;
  readonly member: string | null;
  readonly stamp: string | null;
}

/** Where the record of the file at `path` is, on the node. */
export function downloadRecordPath(path: string): string {
  return `/var/lib/evenkeel/downloads/${encodeURIComponent(path)}.json`;
}

interface Facts {
  readonly at: ReadonlyMap<string, { readonly stat: Stat | null; readonly record: DownloadRecord | null }>;
  readonly accounts: Accounts;
}

export const downloads = defineKind({
  name: "downloads",
  summary: "Files fetched by their address and checked by their sum: programs that come in no package, such as k3s",
  schema,

  async observe(want, probe, owned): Promise<Facts> {
    const paths = [...new Set([...Object.keys(want), ...owned.keys()])];
    const [accounts, at] = await Promise.all([
      readAccounts(probe),
      lookAtAll(paths, async (path) => ({ stat: await probe.stat(path), record: parseRecord(await probe.readText(downloadRecordPath(path))) })),
    ]);
    return { accounts, at };
  },

  plan: (want, facts, owned) => [...prune(want, facts, owned), ...Object.keys(want).toSorted().flatMap((path) => planOne(path, want[path]!, facts, owned))],

  watch: (want) => ({ paths: Object.keys(want) }),
});

function parseRecord(text: string | null): DownloadRecord | null {
  try {
    return text === null ? null : (JSON.parse(text) as DownloadRecord);
  } catch {
    // Cut off by a power cut: the file is looked at anew.
    return null;
  }
}

function planOne(path: string, wanted: Want[string], facts: Facts, owned: Owned): Step[] {
  const { stat, record } = facts.at.get(path) ?? { stat: null, record: null };
  const resource: ResourceId = `downloads/${path}`;
  const then: Trigger[] = [...(wanted.restart ?? []).map((unit) => ({ unit, action: "restart" as const })), ...(wanted.reload ?? []).map((unit) => ({ unit, action: "reload" as const }))];
  const common: Omit<StepCommon, "why"> = {
    resource,
    impact: then.length === 0 ? "none" : "service",
    ...(then.length === 0 ? {} : { then }),
    ...(accountNeeds(wanted.owner, wanted.group).length === 0 ? {} : { needs: accountNeeds(wanted.owner, wanted.group) }),
  };
  const to = { path, mode: wanted.mode, owner: wanted.owner, group: wanted.group };
  if (stat !== null && stat.type !== "file") {
    return [{ resource, impact: "none", why: `is a ${stat.type}, should be a file`, do: "fail", message: `${path} is a ${stat.type}, and a file is to be put there. Move it away by hand; it is not deleted for that.` }];
  }
  const why = stat === null ? "does not exist" : reasonToFetch(stat, record, wanted);
  if (why !== null) {
    const claim = owned.has(path) ? {} : { claim: { type: stat === null ? "absent" : "file" } };
    const fetch = { do: "download", urls: [wanted.url, ...wanted.mirrors], sha256: wanted.sha256, ...(wanted.member === undefined ? {} : { member: wanted.member }), timeoutMs: wanted.timeoutMinutes * 60_000, sizeMaxBytes: wanted.sizeMaxBytes, replace: owned.has(path) } as const;
    return [{ ...common, ...claim, why, ...fetch, ...to }];
  }
  const faults = stat === null ? [] : attributeFaults(stat, wanted, facts.accounts);
  return faults.length === 0 ? [] : [{ ...common, why: faults.join("; "), do: "attributes", ...to }];
}

function reasonToFetch(stat: Stat, record: DownloadRecord | null, wanted: Want[string]): string | null {
  if (record === null) return "its sum has not been looked at yet";
  if (record.sha256 !== wanted.sha256) return `is of ${record.sha256.slice(0, 12)}, should be of ${wanted.sha256.slice(0, 12)}`;
  if (record.member !== (wanted.member ?? null)) return `is ${record.member ?? "the archive itself"}, should be ${wanted.member ?? "the archive itself"}`;
  return record.stamp === (stat.stamp ?? null) ? null : "was changed since it was put in place";
}

function attributeFaults(stat: Stat, want: Want[string], accounts: Accounts): string[] {
  return [
    ...(stat.mode === want.mode ? [] : [`mode is ${octal(stat.mode)}, should be ${octal(want.mode)}`]),
    ...(accounts.users.get(want.owner)?.uid === stat.uid ? [] : [`owner is ${ownerName(accounts, stat.uid)}, should be ${want.owner}`]),
    ...(accounts.groups.get(want.group)?.gid === stat.gid ? [] : [`group is ${groupName(accounts, stat.gid)}, should be ${want.group}`]),
  ];
}

/** What the agent put where nothing was goes again. What was there before it came is somebody else's, and stays. */
function prune(want: Want, facts: Facts, owned: Owned): Step[] {
  const gone = [...owned.keys()].filter((path) => want[path] === undefined).toSorted().toReversed();
  return gone.map((path): Step => {
    const claim = owned.get(path) ?? null;
    const resource: ResourceId = `downloads/${path}`;
    const wasAbsent = typeof claim === "object" && claim !== null && "type" in claim && claim["type"] === "absent";
    const { stat } = facts.at.get(path) ?? { stat: null };
    if (!wasAbsent || stat === null) return forgetStep(resource, wasAbsent ? "no longer declared, and gone" : "no longer declared; it was there before the agent, so it stays");
    return { resource, why: "no longer declared", impact: "none", removes: true, release: true, do: "remove", path };
  });
}
