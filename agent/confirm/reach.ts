import type { Seen } from "./step.ts";

/** What the node reaches now. Real in real-reach.ts. */
export interface Reach {
  /** Looks once, at everything, for `timeoutMs` at most; what has not answered by then does not answer. */
  look(timeoutMs: number): Promise<Omit<Seen, "reasons">>;
}
