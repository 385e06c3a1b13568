import type { PendingUpdate, UpdateOrder } from "../../shared/protocol/updates.ts";

/** Which of the pending updates an order takes. Pure. */

const DAY_MS = 24 * 60 * 60_000;

export interface Choice {
  readonly chosen: readonly PendingUpdate[];
  /** Not old enough yet; they may still come along where a chosen one cannot be without them. */
  readonly deferred: readonly PendingUpdate[];
}

export function chooseUpdates(pending: readonly PendingUpdate[], order: Pick<UpdateOrder, "scope" | "exclude" | "deferDays">, nowMs: number): Choice {
  const isExcluded = excluder(order.exclude);
  const wanted = pending.filter(({ name, security }) => !isExcluded(name) && (order.scope === "all" || security));
  const isOld = ({ security, firstSeenAt }: PendingUpdate): boolean => security || nowMs - Date.parse(firstSeenAt) >= order.deferDays * DAY_MS;
  return { chosen: wanted.filter(isOld), deferred: wanted.filter((one) => !isOld(one)) };
}

/** Patterns of whole names with * and ?; a foreign architecture (`libc6:i386`) is not part of the name. */
export function excluder(patterns: readonly string[]): (name: string) => boolean {
  const expressions = patterns.map((pattern) => new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`));
  return (name) => {
    const bare = name.split(":")[0]!;
    return expressions.some((expression) => expression.test(bare));
  };
}
