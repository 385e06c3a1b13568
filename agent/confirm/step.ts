/**
 * Whether a change of the network may stay: what was within reach before must be so now, for a while, and in time. Pure.
 */

/** A default route's next hop. */
export interface Gateway {
  readonly family: "inet" | "inet6";
  readonly address: string;
  readonly device: string;
  readonly answers: boolean;
}

/** What the node reaches. Null: there is no such thing to be reached. */
export interface Seen {
  readonly gateways: readonly Gateway[];
  /** The hub's API and its broker, each by a new connection with a certificate that holds. */
  readonly hub: boolean | null;
  /** The Git remote, where that is not the hub. */
  readonly git: boolean | null;
  /** What the subsystems have to say against: a BGP session that is down, a VRRP peer that is not heard. */
  readonly reasons: readonly string[];
}

/** What was within reach before and is not now, a sentence each; what was out of reach before is not asked for. */
export function missing(before: Seen, now: Seen): readonly string[] {
  return [...missingGateways(before, now), ...missingHome(before, now), ...now.reasons.filter((reason) => !before.reasons.includes(reason))];
}

/** A gateway that is still one must answer; where it was replaced, a new one of its family must. */
function missingGateways(before: Seen, now: Seen): readonly string[] {
  const lost = before.gateways.filter((gateway) => gateway.answers).flatMap((gateway): string[] => {
    const family = now.gateways.filter((other) => other.family === gateway.family);
    const same = family.find((other) => other.address === gateway.address && other.device === gateway.device);
    if (same !== undefined) return same.answers ? [] : [`the gateway ${same.address} on ${same.device} does not answer any more`];
    if (family.some((other) => other.answers)) return [];
    const instead = family.map((other) => `${other.address} on ${other.device}`).join(", ");
    return [instead === "" ? `there is no default route any more; it led to ${gateway.address} on ${gateway.device}` : `the new gateway ${instead} does not answer`];
  });
  return [...new Set(lost)];
}

/** The hub or the Git remote: by either of them, what is wrong can be put right by a push. */
function missingHome(before: Seen, now: Seen): readonly string[] {
  if (before.hub !== true && before.git !== true) return [];
  if ((before.hub === true && now.hub === true) || (before.git === true && now.git === true)) return [];
  if (before.hub === true && before.git === true) return ["neither the hub nor the Git remote can be reached any more"];
  return [before.hub === true ? "the hub cannot be reached any more" : "the Git remote cannot be reached any more"];
}

/** A daemon answers its restart before it has taken the old address away: what is good at once is no proof. */
export const SETTLE_MS = 5_000;
export const GOOD_LOOKS_MIN = 3;

/** How the watch over a change stands. Times are of a monotonic clock. */
export interface Watch {
  readonly deadlineMs: number;
  /** When the last step ended. */
  readonly appliedMs: number;
  /** How many looks in a row, up to now, found nothing missing. */
  readonly goodLooks: number;
  readonly missing: readonly string[];
}

export type Verdict = "wait" | "keep" | "put-back";

export function looked(watch: Watch, missingNow: readonly string[]): Watch {
  return { ...watch, missing: missingNow, goodLooks: missingNow.length === 0 ? watch.goodLooks + 1 : 0 };
}

/** After the deadline nothing is kept: somebody else may be putting it back already. */
export function judge(watch: Watch, nowMs: number): Verdict {
  if (nowMs >= watch.deadlineMs) return "put-back";
  return watch.goodLooks >= GOOD_LOOKS_MIN && nowMs - watch.appliedMs >= SETTLE_MS ? "keep" : "wait";
}
