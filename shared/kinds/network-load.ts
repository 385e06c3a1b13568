import type { Accounts } from "./accounts.ts";
import type { Act, ResourceId, Step } from "./kind.ts";
import type { At } from "./managed-file.ts";
import { destinationOf, deviceOfPath, NETDEV_KINDS, routesOf } from "./network-files.ts";
import { differencesOf, linkOf, parseEarlier } from "./network-live.ts";
import type { Difference, Earlier, LiveLink, LiveRoute, NetifState } from "./network-live.ts";
import { LOAD_SECONDS, SCRIPT } from "./network-script.ts";
import { devicesOf, mastersOf } from "./network-section.ts";
import type { Device, NetworkWant } from "./network-section.ts";

/** The one step that makes networkd take the files: what is taken away before, what is waited for after, and the way back. */

export interface NetworkFacts {
  readonly accounts: Accounts;
  /** By path: what stands there, compared with what is wanted. */
  readonly at: ReadonlyMap<string, At>;
  /** What files of ours, or in our place, say now, where that is not what is wanted. */
  readonly texts: ReadonlyMap<string, string>;
  readonly links: ReadonlyMap<string, LiveLink>;
  readonly routes: readonly LiveRoute[];
  readonly netif: ReadonlyMap<string, NetifState>;
  readonly ifupdown: ReadonlyMap<string, string>;
  /** Devices that cannot be had here, and why. */
  readonly obstacles: ReadonlyMap<string, string>;
  /** Why the interfaces could not be looked at, or null. */
  readonly error: string | null;
  readonly networkd: { readonly enabled: boolean; readonly running: boolean };
  /** systemd-resolved is told by networkd, and keeps /etc/resolv.conf itself. */
  readonly resolved: boolean;
  readonly netplan: boolean;
}

/** What the files that are changed, or taken away, had put on their interfaces. */
export function earlierOf(paths: readonly string[], facts: NetworkFacts): readonly Earlier[] {
  return paths.flatMap((path) => {
    const text = facts.texts.get(path);
    return text === undefined ? [] : (parseEarlier(text, deviceOfPath(path)?.name) ?? []);
  });
}

const UNDO_SECONDS = 5;

/** What one run has to do to the interfaces as such, beside files. */
export interface Todo {
  readonly why: readonly string[];
  /** A device that is in use has to be made anew: it is down for a moment. */
  readonly disruptive: boolean;
  readonly words: readonly string[];
  readonly undo: readonly string[];
}

export interface Changed {
  /** Devices some file of which is written in this run. */
  readonly devices: ReadonlySet<string>;
  /** Of those, the ones whose .netdev file has been there and changes. */
  readonly netdevs: ReadonlySet<string>;
}

export function todoOf(want: NetworkWant, facts: NetworkFacts, changed: Changed, without: ReadonlyMap<string, string>): Todo {
  const why: string[] = [];
  const words: string[] = want.backend === "netplan" ? ["netplan"] : [];
  const undo: string[] = want.backend === "netplan" ? ["netplan"] : [];
  let disruptive = false;
  const masters = mastersOf(want);
  const masterOf = (name: string): string | undefined => (without.has(masters.get(name)?.master ?? "") ? undefined : masters.get(name)?.master);
  for (const device of devicesOf(want).filter(({ name }) => !without.has(name))) {
    const { name } = device;
    const link = linkOf(device, facts.links);
    const master = masterOf(name);
    const faults = link === undefined ? [{ why: "does not exist" }] : differencesOf(device, link, facts.routes, master);
    const anew = link !== undefined && needsAnew(device, faults, changed);
    if (!changed.devices.has(name)) why.push(...faults.map((fault) => `${name}: ${fault.why}`));
    if (anew) {
      // A tunnel or a VLAN is back within a second; a bond has to find its partner anew, and whatever lies on it goes with it.
      if (device.sort === "bonds") disruptive = true;
      words.push(`delete=${name}`);
    }
    if (anew || link === undefined) undo.push(`delete=${name}`);
    for (const { set } of faults) if (set !== undefined) words.push(`set=${name}=${set.join("=")}`);
    if (link !== undefined && !anew && faults.length > 0) words.push(`again=${link.name}`);
    if (faults.length > 0 || changed.devices.has(name)) {
      const known = new Set(link === undefined ? [] : link.addresses);
      words.push(...waitsFor(device, link, master));
      if (link !== undefined) undo.push(...membershipBack(link, master, facts), `again=${link.name}`, ...device.it.addresses.filter((address) => !known.has(address)).map((address) => `drop=${link.name}=${address}`), ...newRoutes(device, link, facts));
    }
  }
  for (const [name, { master }] of masters) {
    if (without.has(name) || devicesOf(want).some((device) => device.name === name) || without.has(master)) continue;
    const link = facts.links.get(name);
    if (link === undefined || (link.master === master && !changed.devices.has(name))) continue;
    if (link.master !== master && !changed.devices.has(name)) why.push(`${name}: is not part of ${master}`);
    words.push(`again=${name}`, `master=${name}=${master}`);
    undo.push(...membershipBack(link, master, facts), `again=${name}`);
  }
  for (const { member, bond } of tooMany(want, facts, without)) {
    why.push(`${member}: is part of ${bond}, and should not be`);
    if (!words.includes(`delete=${bond}`)) words.push(`release=${member}=${bond}`);
    undo.push(`again=${member}`, `master=${member}=${bond}`);
  }
  const anew = new Set(words.flatMap((word) => (word.startsWith("delete=") ? [word.slice("delete=".length)] : [])));
  words.push(...aroundAnew(want, facts, anew, without));
  undo.push(...aroundAnew(want, facts, anew, without));
  // A bond that is in use and made of other members than before waits for the node's turn.
  return { why, disruptive: disruptive || tooMany(want, facts, without).length > 0, words, undo };
}

/** What was part of a device that is made anew, and what lies on it, has gone with the old one: networkd does not put it back by itself (252). */
function aroundAnew(want: NetworkWant, facts: NetworkFacts, anew: ReadonlySet<string>, without: ReadonlyMap<string, string>): readonly string[] {
  const members = [...mastersOf(want)].flatMap(([name, { master }]) => (anew.has(master) && facts.links.has(name) && !without.has(name) ? [`again=${name}`, `master=${name}=${master}`] : []));
  const onTop = devicesOf(want).filter((device) => device.sort === "vlans" && anew.has(want.vlans[device.name]?.parent ?? "") && !without.has(device.name));
  return [...members, ...onTop.flatMap((device) => waitsFor(device, linkOf(device, facts.links), mastersOf(want).get(device.name)?.master))];
}

/** What has become part of something leaves it on the way back, if that stays, and is waited for where it was before. */
function membershipBack({ name, master: before }: LiveLink, master: string | undefined, facts: NetworkFacts): readonly string[] {
  if (before === (master ?? null)) return [];
  return [...(master !== undefined && facts.links.has(master) ? [`release=${name}=${master}`] : []), ...(before === null ? [] : [`master=${name}=${before}`])];
}

/** Members that a bond has, and should not have: networkd lets go of the file of one, and leaves the interface where it is (seen with 252). */
function tooMany(want: NetworkWant, facts: NetworkFacts, without: ReadonlyMap<string, string>): readonly { readonly member: string; readonly bond: string }[] {
  return [...facts.links.values()].flatMap(({ name, master }) => {
    const bond = master === null || without.has(master) ? undefined : want.bonds[master];
    return master === null || bond === undefined || bond.members.includes(name) ? [] : [{ member: name, bond: master }];
  });
}

function needsAnew(device: Device, faults: readonly Difference[], changed: Changed): boolean {
  if (device.sort === "interfaces" || device.sort === "bridges") return false;
  return faults.some(({ recreate }) => recreate === true) || changed.netdevs.has(device.name);
}

function waitsFor(device: Device, link: LiveLink | undefined, master: string | undefined): readonly string[] {
  const name = link?.name ?? device.name;
  const { it } = device;
  return [
    ...(device.sort in NETDEV_KINDS ? [`device=${name}`] : []),
    ...(master !== undefined ? [`master=${name}=${master}`] : it.addresses.map((address) => `address=${name}=${address}`)),
    ...(it.mtu === undefined ? [] : [`mtu=${name}=${it.mtu}`]),
    ...(master !== undefined ? [] : routesOf(device).map((route) => `route=${name}=${destinationOf(route)}${route.via === undefined ? "" : `=${route.via}`}`)),
  ];
}

function newRoutes(device: Device, link: LiveLink, facts: NetworkFacts): readonly string[] {
  return routesOf(device).flatMap((route) => {
    const to = destinationOf(route);
    const known = facts.routes.some((each) => each.device === link.name && each.to === to && each.via === (route.via ?? null));
    return known ? [] : [`unroute=${link.name}=${to}${route.via === undefined ? "" : `=${route.via}`}`];
  });
}

/**
 * What an earlier file had made and the section does not want any more, as far as it is there.
 * @param gone devices that are taken away altogether, and let go of their members with it.
 */
export function leftovers(earlier: readonly Earlier[], want: NetworkWant, facts: NetworkFacts, gone: ReadonlySet<string> = new Set()): { readonly words: readonly string[]; readonly undo: readonly string[] } {
  const words: string[] = [];
  for (const { device: name, addresses, routes, master } of earlier) {
    const link = facts.links.get(name);
    const device = devicesOf(want).find((each) => linkOf(each, facts.links)?.name === name);
    const wanted = new Set(device === undefined || mastersOf(want).has(device.name) ? [] : device.it.addresses);
    const kept = new Set((device === undefined ? [] : routesOf(device)).map((route) => `${destinationOf(route)} ${route.via ?? ""}`));
    for (const address of addresses) if (link?.addresses.includes(address) === true && !wanted.has(address)) words.push(`drop=${name}=${address}`);
    // What leaves a bond that stays does so with that bond's own change.
    const left = master !== null && link?.master === master && mastersOf(want).get(name)?.master !== master;
    if (left && want.bonds[master] === undefined && !gone.has(name) && !gone.has(master)) words.push(`release=${name}=${master}`);
    for (const [to, via] of routes) {
      const live = facts.routes.some((each) => each.device === name && each.to === to && each.via === via);
      if (live && !kept.has(`${to} ${via ?? ""}`)) words.push(`unroute=${name}=${to}${via === null ? "" : `=${via}`}`);
    }
  }
  // Of an interface that loses anything, the rest is gone through anew on the way back.
  const names = [...new Set(words.map((word) => word.split("=")[1]!))];
  return { words, undo: names.map((name) => `again=${name}`) };
}

/** Words in the order in which the script wants them: each once. */
export function loadStep(common: { readonly resource: ResourceId; readonly needs?: readonly ResourceId[] }, why: string, words: readonly string[], undo: readonly string[], disruptive: boolean): Step {
  const back: Act = { doing: "having the network read its earlier files", argv: [SCRIPT, "load", String(UNDO_SECONDS), ...new Set(undo)], timeoutMs: 50_000 };
  return {
    ...common,
    why,
    impact: disruptive ? "disruptive" : "network",
    do: "run",
    argv: [SCRIPT, "load", String(LOAD_SECONDS), ...new Set(words)],
    // Half of it is waited for networkd; the rest is for programs on a busy machine.
    timeoutMs: LOAD_SECONDS * 2_000,
    undo: back,
  };
}
