import { files as plain } from "../../shared/kinds/files.ts";
import { defineKind } from "../../shared/kinds/kind.ts";
import type { Step, Trigger } from "../../shared/kinds/kind.ts";

/**
 * The kind `files` as it is, but for what the network is made of: that has impact `network`, as the kinds of the network say
 * of theirs, and its daemon is told. The whole agent is built with it in place of the plain one: see confirmed.test.ts.
 */
function daemonOf(path: string): Trigger | null {
  if (path.startsWith("/etc/systemd/network/")) return { unit: "systemd-networkd.service", action: "restart" };
  return path === "/etc/nftables.conf" ? { unit: "nftables.service", action: "reload" } : null;
}

function asNetwork(step: Step): Step {
  const daemon = "path" in step ? daemonOf(step.path) : null;
  return daemon === null ? step : { ...step, impact: "network", then: [...(step.then ?? []), daemon] };
}

export const files = defineKind({ ...plain, plan: (want, facts, owned, given) => plain.plan(want, facts, owned, given).map(asNetwork) });
