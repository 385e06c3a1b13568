import * as z from "zod";
import { NodeName } from "../ids.ts";

/**
 * What cluster.yaml says about disruption: quorum groups, maintenance windows, OS updates, and the checks on what users
 * use. Names that refer to something else in the file are held together by the loader, which knows the positions.
 */

export const GROUPS_MAX = 100;
export const WINDOWS_MAX = 50;
export const CHECKS_MAX = 200;
export const BLACKOUTS_MAX = 200;

/** The quorum group that is always there and holds every node of the repository. */
export const WHOLE_CLUSTER = "cluster";

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const argv = z.array(z.string().min(1).max(4_096)).min(1).max(64);
const minutes = (max: number) => z.number().min(0).max(max);

export const Group = z.strictObject({
  members: z.array(NodeName).min(1).max(1_000).optional().describe("Names of the nodes that count; fewer than half of them are ever down. The group `cluster` is always there, holds every node, and takes no members"),
  maxUnavailable: z.int().min(0).max(1_000).optional().describe("At most so many may be down at once; it can only tighten what the quorum allows. 0 keeps every member up"),
  acceptOutage: z.boolean().default(false).describe("For a group of one or two: yes, take a member down although nobody is left to stand in for it"),
});
export type Group = z.output<typeof Group>;

export const Groups = z
  .record(z.string().regex(label, "a group's name is lower-case letters, digits and hyphens, like etcd"), Group)
  .refine((groups) => Object.keys(groups).length <= GROUPS_MAX, `at most ${GROUPS_MAX} groups`)
  .superRefine((groups, context) => {
    for (const [name, group] of Object.entries(groups)) {
      if (name === WHOLE_CLUSTER && group.members !== undefined) context.addIssue({ code: "custom", path: [name, "members"], message: "the group cluster holds every node: leave members out, or give the group another name" });
      if (name !== WHOLE_CLUSTER && group.members === undefined) context.addIssue({ code: "custom", path: [name], message: "members is missing: write the names of the nodes that count, such as [n1, n2, n3]" });
    }
  });

const zone = z
  .string()
  .max(64)
  .regex(/^[A-Za-z0-9+_-]+(\/[A-Za-z0-9+_-]+)*$/, "a time zone's name, such as Europe/Berlin")
  .default("Etc/UTC");

export const Window = z.strictObject({
  opens: z.string().min(9).max(128).describe("When it opens, as a cron expression of five fields (minute, hour, day of the month, month, day of the week): \"0 2 * * sun\""),
  zone: zone.describe("The time zone in which `opens` is read, such as Europe/Berlin"),
  lengthMinutes: z.int().min(5).max(7 * 24 * 60).describe("How long it stays open, in minutes of real time, also across midnight and a change of the clocks"),
});
export type Window = z.output<typeof Window>;

const day = z.string().regex(/^\d{4}-\d{2}-\d{2}$/, "a day, such as 2026-12-24");

const Blackout = z.strictObject({
  from: day.describe("The first day"),
  to: day.describe("The last day; it is part of the blackout"),
  zone: zone.describe("The time zone in which these days begin and end, such as Europe/Berlin"),
  why: z.string().max(200).default("").describe("Shown to whoever wonders why nothing happens"),
});
export type Blackout = z.output<typeof Blackout>;

/** Which pending updates a rollout takes. */
export const UPDATE_SCOPES = ["security", "all"] as const;
export type UpdateScope = (typeof UPDATE_SCOPES)[number];

export const REBOOT_RULES = ["required", "always", "never"] as const;
export type RebootRule = (typeof REBOOT_RULES)[number];

export const Updates = z.strictObject({
  scope: z.enum(UPDATE_SCOPES).default("all").describe("`security`: only what comes from a security archive; `all`: everything that apt would upgrade"),
  windows: z.array(z.string().regex(label)).max(WINDOWS_MAX).default([]).describe("Windows in which updates roll by themselves; with none they start only by hand"),
  canary: z.array(NodeName).max(100).default([]).describe("The nodes that go first; without any, the first in the order is the canary"),
  canarySoakMinutes: minutes(7 * 24 * 60).default(30).describe("How long the canary is watched before the others follow"),
  soakMinutes: minutes(24 * 60).default(5).describe("How long each node is watched before the next one goes"),
  order: z.array(NodeName).max(1_000).default([]).describe("The order of the nodes; those not named follow by name, and the hub's own machine is always the last"),
  rebootWhen: z.enum(REBOOT_RULES).default("required").describe("When a node reboots after its update: `required` (something that runs is older than what is installed), `always`, `never`"),
  deferDays: z.number().min(0).max(90).default(0).describe("Leave an update alone for so many days after it was first seen; security updates are never deferred"),
  exclude: z.array(z.string().min(1).max(128).regex(/^[a-z0-9][a-z0-9+.*?-]*$/, "a package's name, or a pattern with * and ?")).max(500).default([]).describe("Packages that a rollout never touches; * and ? are wildcards"),
  blackouts: z.array(Blackout).max(BLACKOUTS_MAX).default([]).describe("Days on which nothing starts by itself"),
  nodeMinutes: z.number().min(1).max(24 * 60).default(30).describe("How long one node takes at most, until measured; a node starts only if that still fits into the window, and one that takes longer is told to the owner"),
  drainTimeoutMinutes: z.number().min(0.1).max(24 * 60).default(10).describe("How long a node may take to make itself safe to lose"),
  onDrainTimeout: z.enum(["undo", "go-on"]).default("undo").describe("What happens then: `undo` puts back what was drained and halts the rollout; `go-on` goes on without"),
});
export type Updates = z.output<typeof Updates>;

/** How a commit goes to the nodes. */
export const COMMIT_WAYS = ["everywhere", "canary"] as const;
export const CHANGE_TIMES = ["at-once", "in-window"] as const;

const RolloutInFull = z.strictObject({
  commits: z.enum(COMMIT_WAYS).default("everywhere").describe("`everywhere`: every node takes a commit as soon as it sees it; `canary`: the canary does, and the others when it holds the commit and has been well with it for `soakMinutes`"),
  canary: z.array(NodeName).max(100).default([]).describe("The nodes that take a commit first; without any, those of updates.canary"),
  soakMinutes: minutes(7 * 24 * 60).default(2).describe("How long the canary is watched with a commit, and the first node with a disruptive change, before the others follow"),
  changes: z.enum(CHANGE_TIMES).default("at-once").describe("When disruptive changes begin to roll: `at-once` after the push, since that is somebody's hand, or `in-window`: in the windows of updates, and not in their blackouts"),
  changeSoakMinutes: minutes(24 * 60).default(1).describe("How long each node is watched after a disruptive change, before the next one goes"),
  nodeMinutes: z.number().min(1).max(24 * 60).default(10).describe("How long one node takes for a disruptive change at most: one that takes longer is told to the owner, and in a window it starts only if that still fits"),
});

/** The owner's word on how commits reach the nodes; one word is short for the field `commits`. */
export const CommitRollout = z.union([z.enum(COMMIT_WAYS).transform((commits) => RolloutInFull.parse({ commits })).describe("`canary` or `everywhere`, and the rest as it is by default"), RolloutInFull]);
export type CommitRollout = z.output<typeof CommitRollout>;

/** Who takes a commit first; empty when everybody does. */
export function commitCanaries({ rollout, updates }: { readonly rollout: CommitRollout; readonly updates: Pick<Updates, "canary"> }): readonly NodeName[] {
  if (rollout.commits === "everywhere") return [];
  return rollout.canary.length > 0 ? rollout.canary : updates.canary;
}

const every = z.number().min(1).max(3_600).default(10).describe("Seconds between two looks");
const timeout = z.number().min(0.1).max(60).default(5).describe("Seconds until a look that gets no answer has failed");
const common = {
  everySeconds: every,
  timeoutSeconds: timeout,
  failuresMax: z.int().min(1).max(100).default(3).describe("So many failures in a row make the check fail; as many successes as half of it make it well again"),
  gates: z.boolean().default(true).describe("Whether no node goes down while this fails"),
};

/** The ways to look; a check has exactly one of them. */
export const CHECK_METHODS = ["http", "tcp", "dns", "ping", "command"] as const;

/** What is wrong with a check's choice of a way to look; undefined when it has one, and something else is wrong. */
function methodProblem(input: unknown): string | undefined {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return undefined;
  const chosen = CHECK_METHODS.filter((method) => Object.hasOwn(input, method));
  if (chosen.length === 1) return undefined;
  return `a check has exactly one of ${CHECK_METHODS.join(", ")}; here ${chosen.length === 0 ? "is none of them" : `are ${chosen.slice(0, -1).join(", ")} and ${chosen.at(-1)}`}`;
}

/** One look at what users use. Exactly one of `http`, `tcp`, `dns`, `ping`, `command` says how. */
export const Check = z.union([
  z.strictObject({
    http: z.url({ protocol: /^https?$/ }).max(2_048).describe("The address to get"),
    status: z.int().min(100).max(599).optional().describe("The status that is expected; without it, 200 to 399"),
    contains: z.string().min(1).max(1_024).optional().describe("A text that the first 64 KiB of the answer must contain"),
    insecure: z.boolean().default(false).describe("Do not check the server's certificate"),
    ...common,
  }),
  z.strictObject({ tcp: z.string().regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, "an address and a port, such as 10.77.1.10:5432").max(300).describe("The address and port to connect to"), ...common }),
  z.strictObject({
    dns: z.string().min(1).max(253).describe("The name to look up"),
    server: z.string().min(1).max(300).optional().describe("The server to ask, as ADDRESS or ADDRESS:PORT; without it, the machine's own resolvers"),
    type: z.enum(["A", "AAAA", "CNAME", "MX", "TXT", "SRV"]).default("A").describe("The record's type"),
    answer: z.string().min(1).max(512).optional().describe("An answer that must be among those given"),
    ...common,
  }),
  z.strictObject({ ping: z.string().regex(/^(?!-)[A-Za-z0-9.:-]+$/).max(253).describe("The address to send an ICMP echo request to"), ...common }),
  z.strictObject({ command: argv.describe("A program and its arguments, run on the hub's machine without a shell; exit code 0 is well"), ...common }),
], { error: (issue) => methodProblem(issue.input) });
export type Check = z.output<typeof Check>;

export const Windows = z.record(z.string().regex(label, "a window's name is lower-case letters, digits and hyphens, like night"), Window).refine((windows) => Object.keys(windows).length <= WINDOWS_MAX, `at most ${WINDOWS_MAX} windows`);
export const Checks = z.record(z.string().regex(label, "a check's name is lower-case letters, digits and hyphens, like website"), Check).refine((checks) => Object.keys(checks).length <= CHECKS_MAX, `at most ${CHECKS_MAX} checks`);

/** A machine without our agent, which asks for its slot by FleetLock (Fedora CoreOS, Flatcar). */
export const FleetLockMember = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{32}$/, "32 lower-case hex digits, as the machine sends it").describe("The id that the machine sends: for Zincati, derived from its machine-id"),
  group: z.string().regex(/^[a-zA-Z0-9.-]+$/).max(128).default("default").describe("The FleetLock group that the machine sends"),
});
export type FleetLockMember = z.output<typeof FleetLockMember>;
