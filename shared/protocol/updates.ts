import * as z from "zod";
import { REBOOT_RULES, UPDATE_SCOPES } from "../config/policy.ts";
import { Problem } from "./report.ts";

/** What a node knows about OS updates, what it is told to install, and what came of it. */

/** Bounds of one message: a release upgrade touches some thousand packages, and a body has its own bound. */
export const updateLimits = { packagesMax: 1_000, servicesMax: 200, whyCharsMax: 500, outputCharsMax: 4_000 } as const;

const packageName = z.string().max(128);
const version = z.string().max(256);

export const PendingUpdate = z.object({
  name: packageName,
  from: version,
  to: version,
  /** It comes from a security archive. */
  security: z.boolean(),
  /** When this node first saw this version offered, by its own clock. */
  firstSeenAt: z.iso.datetime(),
});
export type PendingUpdate = z.output<typeof PendingUpdate>;

/** Three answers: a look that failed is neither yes nor no, and never a reason to reboot. */
export const TriState = z.enum(["yes", "no", "unknown"]);
export type TriState = z.output<typeof TriState>;

export const RebootNeed = z.object({
  needed: TriState,
  /** Each a sentence: "the running kernel 6.1.0-18 is older than the installed 6.1.0-21", "dbus asks for it (/run/reboot-required)". */
  why: z.array(z.string().max(updateLimits.whyCharsMax)).max(50),
});
export type RebootNeed = z.output<typeof RebootNeed>;

export const UpdatesMessage = z.object({
  v: z.literal(1),
  lookedAt: z.iso.datetime(),
  /** Null when the last look succeeded; else why not, and `pending` is what the last good look found. */
  error: z.string().max(2_000).nullable(),
  pending: z.array(PendingUpdate).max(updateLimits.packagesMax),
  omitted: z.number().int().nonnegative().default(0),
  /** On hold (apt-mark hold), with an update waiting. */
  held: z.array(packageName).max(updateLimits.packagesMax),
  reboot: RebootNeed,
  /** Services that still run on replaced libraries. */
  restarts: z.object({ needed: TriState, services: z.array(z.string().max(256)).max(updateLimits.servicesMax) }),
  /** Somebody else who would reboot or upgrade this node: unattended-upgrades with Automatic-Reboot, needrestart that restarts by itself … */
  conflicts: z.array(Problem).max(20),
});
export type UpdatesMessage = z.output<typeof UpdatesMessage>;

export const PinnedVersion = z.object({ name: packageName, version });
export type PinnedVersion = z.output<typeof PinnedVersion>;

/** What a node is to install. `pinned` is what the canary got: then nothing else, and in no other version. */
export const UpdateOrder = z.object({
  scope: z.enum(UPDATE_SCOPES),
  exclude: z.array(z.string().max(128)).max(500),
  deferDays: z.number().min(0).max(90),
  pinned: z.array(PinnedVersion).max(updateLimits.packagesMax).nullable(),
  reboot: z.enum(REBOOT_RULES),
});
export type UpdateOrder = z.output<typeof UpdateOrder>;

export const VersionChange = z.object({ name: packageName, from: version.nullable(), to: version.nullable() });
export type VersionChange = z.output<typeof VersionChange>;

export const UpdateResult = z.object({
  ok: z.boolean(),
  /** What is installed now and was not before; after a failure that was undone, nothing. */
  changed: z.array(VersionChange).max(updateLimits.packagesMax),
  /** A sentence with what to do next, and the end of the program's output; null when all went well. */
  failure: z
    .object({
      code: z.enum(["lock", "simulate", "would-remove", "pinned-missing", "install", "dpkg-broken", "lists", "disk-full", "interrupted"]),
      message: z.string().max(2_000),
      output: z.string().max(updateLimits.outputCharsMax),
    })
    .nullable(),
  /** Packages that were put back to their earlier version after a failure, and those that could not be. */
  rolledBack: z.array(packageName).max(updateLimits.packagesMax),
  notRolledBack: z.array(packageName).max(updateLimits.packagesMax),
  /** The archive offers something newer than what was pinned: said, not installed. */
  movedOn: z.array(VersionChange).max(updateLimits.packagesMax),
  reboot: RebootNeed,
});
export type UpdateResult = z.output<typeof UpdateResult>;
