import * as z from "zod";
import { CommitId } from "../ids.ts";

/**
 * Hub to node, while `rollout: canary` is in force: how the canary does with a commit. A node that is told to wait, waits;
 * one that is told to go takes the commit only as it takes any: signed, from its own repository, forward from what it has.
 */
export const commitOrder = z.object({
  v: z.literal(1),
  kind: z.literal("commit"),
  commit: CommitId,
  take: z.boolean(),
  /** For people: what it waits for. */
  why: z.string().max(1_000),
});
export type CommitOrder = z.output<typeof commitOrder>;
