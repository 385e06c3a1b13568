import * as z from "zod";
import { Earlier, Excerpt } from "../engine/inventory.ts";

/**
 * What is on disk from before the first network step until the change is confirmed: everything that is needed to put it
 * back, by whoever is left to do it.
 *
 * ```text
 *   (none) ──open──▶ armed ──confirmed──▶ (none)
 *                      └──not in time, a failure, a crash, a boot──▶ back ──another commit, "apply --retry"──▶ (none)
 * ```
 */

const RecordedAct = z.object({ doing: z.string(), argv: z.tuple([z.string()], z.string()), timeoutMs: z.number() });

export const ConfirmRecord = z.object({
  v: z.literal(1),
  id: z.string(),
  commit: z.string(),
  /** The boot in which it was armed: what runs in another one has started from the files as they were found. */
  bootId: z.string(),
  /** ISO 8601, UTC, for people. */
  armedAt: z.string(),
  limitMs: z.number(),
  state: z.enum(["armed", "back"]),
  resources: z.array(z.string()),
  /** In the order in which they are touched; what stood there right before this run. */
  paths: z.array(z.object({ path: z.string(), was: Earlier })),
  /** Files of the kernel's, and what they said. */
  values: z.array(z.object({ path: z.string(), value: z.string() })),
  /** What takes down what came up: before the files are put back that it came from. */
  actsFirst: z.array(RecordedAct),
  /** What is taken back after the files: by the kind's own word, and what brings up again what went down. */
  acts: z.array(RecordedAct),
  triggers: z.array(z.object({ unit: z.string(), action: z.enum(["restart", "reload"]) })),
  /** What the inventory said of all that before. */
  inventory: Excerpt,
  /** What keeps it from being confirmed, as the agent saw it last: for whoever puts it back in the agent's place. */
  missing: z.array(z.string()).default([]),
  /** The boot in which the files were put back before the network came up; the rest is the agent's to do. */
  filesBackIn: z.string().nullable(),
  back: z.object({ at: z.string(), reason: z.string(), left: z.array(z.string()) }).nullable(),
  /** The inventory says again what it said before. */
  settled: z.boolean(),
});
export type ConfirmRecord = z.output<typeof ConfirmRecord>;

/** Where the record lies: a file in practice, memory in tests. `save` and `remove` return only when they would survive a power cut. */
export interface ConfirmStore {
  /** @throws when it is there and cannot be read: whoever forgot what is to be put back must not go on by himself. */
  load(): Promise<ConfirmRecord | null>;
  save(record: ConfirmRecord): Promise<void>;
  remove(): Promise<void>;
}
