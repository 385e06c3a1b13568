import * as z from "zod";
import { recipientProblem } from "./recipient.ts";

/** The public half of an age key, in settings. */
export const recipient = z
  .string()
  .max(2_048)
  .superRefine((value, context) => {
    const message = recipientProblem(value);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  });

/** Owners of one cluster: people, and the paper key in the safe. */
export const OWNERS_MAX = 50;

/** `secrets:` of cluster.yaml. */
export const Secrets = z.strictObject({
  owners: z
    .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$/, "an owner's name is letters, digits and . _ @ + -, such as ada"), recipient)
    .refine((owners) => Object.keys(owners).length <= OWNERS_MAX, `at most ${OWNERS_MAX} owners`)
    .default({})
    .describe("Who can read and change all secrets: a name, and the public half (age1…) of an age key as `evenkeel secret key` makes it"),
});
