import type { Json, Owned, ResourceId, Step } from "./kind.ts";
import { restoreStep } from "./managed-file.ts";
import { CONF, deviceOfPath } from "./network-files.ts";
import { earlierOf, leftovers, loadStep } from "./network-load.ts";
import type { NetworkFacts } from "./network-load.ts";
import { SCRIPT } from "./network-script.ts";
import { devicesOf } from "./network-section.ts";
import type { NetworkWant } from "./network-section.ts";

const UNIT = "systemd-networkd.service";

/**
 * What has left the section: its files go (what stood there before comes back), with the addresses and routes that they had
 * made, and a virtual device goes with them if the agent made it and nobody else has put anything into it. Hardware keeps
 * running as it is; networkd itself is left running, because whoever dropped the last line said nothing about wanting that.
 *
 * @param wanted paths that the section still wants.
 * @param disruptive a bond changes its members: the files of those that leave it stay until it does, as the next boot reads them.
 */
export function prune(want: NetworkWant, facts: NetworkFacts, owned: Owned, wanted: ReadonlySet<string>, disruptive = false): readonly Step[] {
  const gone = [...owned.keys()].filter((key) => key.startsWith("/") && !wanted.has(key)).toSorted();
  const script = gone.filter((path) => path === SCRIPT);
  const files = gone.filter((path) => path !== SCRIPT);
  if (gone.length === 0) return [...forgetUnit(want, owned)];
  const restored = files.map((path): Step => ({ ...restoreStep(`network/${path}`, path, owned.get(path)), impact: disruptive ? "disruptive" : "network", ...(path === CONF && facts.networkd.running ? { then: [{ unit: UNIT, action: "restart" as const }] } : {}) }));
  const scriptThere = facts.at.get(SCRIPT)?.stat != null;
  const last = restored.at(-1);
  if (last === undefined || !scriptThere) return [...restored, ...forgetUnit(want, owned), ...script.map((path) => restoreStep(`network/${path}`, path, owned.get(path)))];
  const devices = files.flatMap((path) => vanishing(path, want, facts, owned));
  const left = leftovers(earlierOf(files, facts), want, facts, new Set(devices));
  // Released by the load: a run that ends between the two comes back to both.
  const { release: _, ...unreleased } = last;
  const names = new Set(files.flatMap((path) => deviceOfPath(path)?.name ?? []).filter((name) => facts.links.has(name) && !devices.includes(name)));
  const netplan = want.backend === "netplan" || files.some((path) => path.startsWith("/etc/netplan/")) ? ["netplan"] : [];
  // What only says that it is disruptive goes under the confirmed commit because this needs it.
  const needs = disruptive ? { needs: restored.slice(0, -1).map(({ resource }) => resource) } : {};
  const load = loadStep({ resource: last.resource, ...needs }, "what it had made goes with it", [...netplan, ...left.words, ...devices.map((name) => `delete=${name}`)], [...netplan, ...left.undo, ...[...names].map((name) => `again=${name}`)], disruptive);
  return [...restored.slice(0, -1), unreleased, { ...load, removes: true, release: true }, ...forgetUnit(want, owned), ...script.map((path) => restoreStep(`network/${path}`, path, owned.get(path)))];
}

/** A virtual device whose .netdev file goes, that the agent made, and that holds nothing of others. */
function vanishing(path: string, want: NetworkWant, facts: NetworkFacts, owned: Owned): readonly string[] {
  const found = deviceOfPath(path);
  if (found?.suffix !== "netdev" || !facts.links.has(found.name) || devicesOf(want).some(({ name }) => name === found.name)) return [];
  const claim = owned.get(path);
  if (field(claim, "device") === "found" || field(claim, "type") !== "absent") return [];
  const ports = [...facts.links.values()].filter((link) => link.master === found.name).map((link) => link.name);
  const ours = (name: string): boolean => [...owned.keys()].some((key) => deviceOfPath(key)?.name === name);
  return ports.every(ours) ? [found.name] : [];
}

function field(claim: Json | undefined, name: string): Json | undefined {
  return typeof claim === "object" && claim !== null && name in claim ? (claim as { readonly [key: string]: Json })[name] : undefined;
}

function forgetUnit(want: NetworkWant, owned: Owned): readonly Step[] {
  if (!owned.has(UNIT) || devicesOf(want).length > 0) return [];
  const resource: ResourceId = `network/${UNIT}`;
  return [{ resource, why: "no longer declared; it goes on running", impact: "none", removes: true, release: true, do: "run", argv: ["true"], timeoutMs: 10_000 }];
}
