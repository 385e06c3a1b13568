import * as z from "zod";

/** What the hub knows about the service checks: the top of the page, and what a rollout is measured by. */

export const checkLimits = { messageCharsMax: 500, targetCharsMax: 300 } as const;

export const CHECK_KINDS = ["http", "tcp", "dns", "ping", "command"] as const;
export type CheckKind = (typeof CHECK_KINDS)[number];

/**
 * - `unknown`: there is no evidence, because nobody has looked yet (`lookedCount` is 0 and `lastMessage` null), too few
 *   looks have come in, or the hub cannot look (`lastMessage` says why). It holds up a rollout like `failing`, but is no
 *   reason to say that a service is down;
 * - `ok`: users are served;
 * - `failing`: so many looks in a row failed as the check allows.
 */
export const CHECK_WORDS = ["unknown", "ok", "failing"] as const;
export type CheckWord = (typeof CHECK_WORDS)[number];

const count = z.int().nonnegative();

export const CheckState = z.object({
  /** As cluster.yaml calls it. */
  name: z.string().max(63),
  kind: z.enum(CHECK_KINDS),
  /** For people: "http://10.77.1.10/", "10.77.1.10:5432", "A of www.example.org at 10.77.1.53". Without credentials. */
  target: z.string().max(checkLimits.targetCharsMax),
  /** Whether no node goes down while this is not `ok`. */
  gates: z.boolean(),
  state: z.enum(CHECK_WORDS),
  /** Since when `state` is what it is, by the hub's clock; the hub's start at the earliest. */
  since: z.iso.datetime(),
  /** What the last look that was not well came upon, or why the hub cannot look; null once all is well again. */
  lastMessage: z.string().max(checkLimits.messageCharsMax).nullable(),
  /** When the last look ended, attempts that could not look left out; null before the first. */
  lastLookAt: z.iso.datetime().nullable(),
  lookedCount: count,
  failedCount: count,
  /** How long the last look took, whether it was well or not; null before the first. */
  latencyMs: z.number().nonnegative().nullable(),
});
export type CheckState = z.output<typeof CheckState>;

/** Looks since somebody began to count; `failed` is part of `looked`. */
export const CheckCounts = z.object({ looked: count, failed: count });
export type CheckCounts = z.output<typeof CheckCounts>;
