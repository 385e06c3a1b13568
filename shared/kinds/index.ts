import type { Kind } from "./kind.ts";

/** Every kind, in the order in which a machine is brought up: what comes earlier is there when the later needs it. */
export const kinds: readonly Kind[] = [];
