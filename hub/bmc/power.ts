import type { NodeName } from "../../shared/ids.ts";

/**
 * A machine's power as seen from outside, through its BMC. The hub asks when a node does not come back: it looks, may cycle
 * the power once if the policy allows, and tells the owner. The slot stays taken whatever the answer is.
 */
export interface OutsidePower {
  /** Null for a machine whose BMC nobody has told us of. */
  look(node: NodeName): Promise<PowerSeen | null>;
  /** Switches off and on again. Asked at most once for a lease. */
  cycle(node: NodeName): Promise<{ readonly ok: true } | { readonly ok: false; readonly message: string }>;
}

export interface PowerSeen {
  readonly power: "on" | "off" | "unknown";
  /** The newest entries of its event log, in words; may be empty. */
  readonly events: readonly string[];
}

/** No BMC is configured. */
export const noOutsidePower: OutsidePower = {
  look: () => Promise.resolve(null),
  cycle: () => Promise.resolve({ ok: false, message: "no BMC is configured" }),
};

/** What the owner is told of a node that did not come back. */
export async function lookOutside(power: OutsidePower, node: NodeName): Promise<string> {
  const seen = await power.look(node);
  if (seen === null) return `${node} did not come back, and no BMC is configured for it, so that its power cannot be looked at from here: look at the machine`;
  const events = seen.events.length === 0 ? "" : `; its event log ends with: ${seen.events.slice(0, 3).join("; ")}`;
  return `${node} did not come back; its BMC says that the power is ${seen.power}${events}`;
}
