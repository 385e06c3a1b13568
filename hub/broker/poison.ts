import type { NodeName } from "../../shared/ids.ts";
import type { PoisonReason } from "./access.ts";

/** Messages that were dropped, by node and reason. In memory; the names come from certificates, so the table is bounded by the nodes. */
export class PoisonCounts {
  readonly #counts = new Map<NodeName, Map<PoisonReason, number>>();

  /** Answers how often that has happened now. */
  add(node: NodeName, reason: PoisonReason): number {
    const reasons = this.#counts.get(node) ?? new Map<PoisonReason, number>();
    this.#counts.set(node, reasons);
    const count = (reasons.get(reason) ?? 0) + 1;
    reasons.set(reason, count);
    return count;
  }

  of(node: NodeName): Readonly<Partial<Record<PoisonReason, number>>> {
    return Object.fromEntries(this.#counts.get(node) ?? []);
  }

  total(): number {
    let total = 0;
    for (const reasons of this.#counts.values()) for (const count of reasons.values()) total += count;
    return total;
  }
}
