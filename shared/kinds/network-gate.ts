import type { Probe } from "./kind.ts";
import { differencesOf, IP_ARGV, linkOf, parseLinks, readRoutes } from "./network-live.ts";
import type { LiveLink, LiveRoute } from "./network-live.ts";
import { devicesOf, mastersOf } from "./network-section.ts";
import type { NetworkWant } from "./network-section.ts";

/** Whether this node's network stands as it should: asked before it goes, and after it has come back. */

interface GateFacts {
  readonly links: ReadonlyMap<string, LiveLink> | null;
  readonly routes: readonly LiveRoute[];
}

export async function observeGate(want: NetworkWant, probe: Probe): Promise<GateFacts> {
  if (devicesOf(want).length === 0) return { links: new Map(), routes: [] };
  const [answer, routes] = await Promise.all([probe.run(IP_ARGV, { timeoutMs: 20_000 }), readRoutes(probe)]);
  return { links: answer.code === 0 ? parseLinks(answer.stdout) : null, routes };
}

export function gateReasons(want: NetworkWant, { links, routes }: GateFacts): readonly string[] {
  if (links === null) return [`the interfaces could not be looked at: \`${IP_ARGV.join(" ")}\` failed`];
  return devicesOf(want).flatMap((device) => {
    const { name, it } = device;
    if (!it.required || mastersOf(want).has(name)) return [];
    const link = linkOf(device, links);
    if (link === undefined) return [`${name} is required, and does not exist`];
    if (device.sort === "interfaces" && it.addresses.length > 0 && !link.carrier) return [`${name} has no carrier: cable or switch`];
    const bad = device.sort === "bonds" ? device.it.members.filter((member) => links.get(member)?.carrier !== true) : [];
    return [
      // Apart from the next: a member without a cable is one before the change as well, and this is not.
      ...(device.sort === "bonds" && !link.carrier ? [`${name} has no member that works`] : []),
      ...(bad.length > 0 ? [`${name} runs without ${bad.join(", ")}: no carrier`] : []),
      ...(link.carrier ? differencesOf(device, link, routes, undefined).map(({ why }) => `${name}: ${why}`) : []),
    ];
  });
}
