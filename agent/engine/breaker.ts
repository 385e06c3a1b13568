import type { Inventory } from "./inventory.ts";

/**
 * Two that fight over one file would go on for ever, at full speed, unseen. A resource that the agent repaired
 * `repairsMax` times in a row trips a breaker: it is left as it is, and reported. (DESIGN, rule 9; mgmt#988, komodo#648.)
 */

/** Repairs further apart than this are not "in a row". */
export const REPAIR_QUIET_MS = 3_600_000;
/** A tripped breaker lets one attempt through after this long, so that it heals without a hand when the cause goes. */
export const BREAKER_HOLD_MS = 6 * 3_600_000;

export interface BreakerSettings {
  readonly repairsMax: number;
}

/** @param digest of what is wanted of the resource: a commit that changes it starts anew. */
export function isTripped(inventory: Inventory, resource: string, digest: string, settings: BreakerSettings, nowMs: number): boolean {
  const repairs = inventory.repairs[resource];
  if (repairs === undefined || repairs.digest !== digest || repairs.count < settings.repairsMax) return false;
  const sinceMs = nowMs - repairs.lastAtMs;
  // A clock that went back makes the time negative: then it stays tripped, which is the safe side.
  return sinceMs < BREAKER_HOLD_MS;
}

/** @param first what the first one counts: 0 where something is made for the first time, 1 where it has drifted. */
export function countRepair(inventory: Inventory, resource: string, digest: string, nowMs: number, first: 0 | 1): void {
  const repairs = inventory.repairs[resource];
  const inARow = repairs !== undefined && repairs.digest === digest && Math.abs(nowMs - repairs.lastAtMs) < REPAIR_QUIET_MS;
  inventory.repairs[resource] = { count: inARow ? repairs.count + 1 : first, lastAtMs: nowMs, digest };
}

/** Forgets counts that no longer matter, so that the list stays as short as what flaps. */
export function forgetOldRepairs(inventory: Inventory, nowMs: number): void {
  for (const [resource, repairs] of Object.entries(inventory.repairs)) {
    if (nowMs - repairs.lastAtMs > BREAKER_HOLD_MS) delete inventory.repairs[resource];
  }
}

export function resetBreakers(inventory: Inventory): void {
  for (const resource of Object.keys(inventory.repairs)) delete inventory.repairs[resource];
}
