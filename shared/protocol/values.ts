import * as z from "zod";
import { NodeName } from "../ids.ts";

/**
 * Values between nodes: one node asks for something that only another can make (a token to join by), the hub passes the
 * question on to one who can, and the answer back. The answer is sealed to the asking node, and says inside what it answers:
 * the hub can neither read nor exchange it. A lost message loses nothing, because the question is repeated.
 */
export const valueLimits = {
  /** A sealed value: the largest there is (a keyring, a kubeconfig) with age's armor around it. */
  sealedCharsMax: 48 * 1024,
  /** The same before it is sealed. */
  valueBytesMax: 32 * 1024,
  fromMax: 100,
  whyCharsMax: 1_000,
  lastsMsMax: 24 * 3_600_000,
} as const;

/** The name of a kind. */
export const ValueSection = z.string().regex(/^[a-z][a-z0-9-]{0,63}$/);
/** As in an `ask` step: unique within the kind. */
export const ValueKey = z.string().regex(/^[a-z0-9][a-z0-9./-]{0,127}$/);
/** Made up by the asking node for one question: an answer without it is to another. */
const ask = z.uuid();
/** Made up by the hub for one attempt with one maker. */
const id = z.uuid();
const sealed = z.string().min(1).max(valueLimits.sealedCharsMax);

const AskEvent = z.object({
  kind: z.literal("ask"),
  ask,
  section: ValueSection,
  key: ValueKey,
  /** Who could make it, in the order in which they are to be asked. */
  from: z.array(NodeName).min(1).max(valueLimits.fromMax),
  /** For people. */
  what: z.string().max(200),
});
export type AskEvent = z.output<typeof AskEvent>;

const MadeEvent = z.object({
  kind: z.literal("made"),
  id,
  /** False: `sealed` says why it could not be made, and somebody else may be asked. */
  ok: z.boolean(),
  sealed,
});
export type MadeEvent = z.output<typeof MadeEvent>;

/** Not at all, and to nobody: the node that asks has no recipient, or this one is no member. No word of a tool is in it. */
const NotMadeEvent = z.object({ kind: z.literal("not-made"), id, why: z.string().max(valueLimits.whyCharsMax) });
export type NotMadeEvent = z.output<typeof NotMadeEvent>;

/** Node to hub, by the spool. */
export const valueEvents = [AskEvent, MadeEvent, NotMadeEvent] as const;

const MakeOrder = z.object({ v: z.literal(1), kind: z.literal("make"), id, ask, section: ValueSection, key: ValueKey, node: NodeName });
export type MakeOrder = z.output<typeof MakeOrder>;

const ValueOrder = z.object({ v: z.literal(1), kind: z.literal("value"), ask, maker: NodeName, sealed });
export type ValueOrder = z.output<typeof ValueOrder>;

/** Nobody could so far, and it is tried again: what each said. For the log and the report, and no reason to do anything. */
const NoValueOrder = z.object({ v: z.literal(1), kind: z.literal("no-value"), ask, why: z.string().max(valueLimits.whyCharsMax) });
export type NoValueOrder = z.output<typeof NoValueOrder>;

/** Hub to node. None is authority: a maker believes its repository about who may have what, an asker only what is sealed to it by a maker. */
export const valueOrders = [MakeOrder, ValueOrder, NoValueOrder] as const;
