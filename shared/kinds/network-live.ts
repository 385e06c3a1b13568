import * as z from "zod";
import { parseIp, parsePrefix } from "./keepalived-address.ts";
import type { Probe } from "./kind.ts";
import { bondMode, destinationOf, NETDEV_KINDS, routesOf, worksWithoutCarrier } from "./network-files.ts";
import type { Device, NetworkWant } from "./network-section.ts";

/** What the kernel and networkd say about the interfaces now, and where that is not what the section says. */

export interface LiveLink {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Something is plugged in at the other end, and it runs. */
  readonly carrier: boolean;
  readonly master: string | null;
  /** The built-in link address; a member of a bond shows another one. */
  readonly mac: string;
  /** What the kernel calls its sort: `bridge`, `bond`, `veth`; null for hardware. */
  readonly kind: string | null;
  /** What it lies on: the parent of a VLAN. */
  readonly parent: string | null;
  /** Settings of its sort by the names of `ip -d`: `id`, `mode`, `stp_state` … */
  readonly settings: Readonly<Record<string, unknown>>;
  /** With the length of the network, canonical. */
  readonly addresses: readonly string[];
}

export interface LiveRoute {
  readonly to: string;
  readonly via: string | null;
  readonly device: string;
  readonly metric: number;
}

const Answer = z.array(
  z.looseObject({
    ifindex: z.int().optional(),
    ifname: z.string().optional(),
    link: z.string().optional(),
    mtu: z.int().optional(),
    flags: z.array(z.string()).optional(),
    master: z.string().optional(),
    address: z.string().optional(),
    permaddr: z.string().optional(),
    linkinfo: z.looseObject({ info_kind: z.string().optional(), info_data: z.record(z.string(), z.unknown()).optional() }).optional(),
    addr_info: z.array(z.looseObject({ local: z.string().optional(), prefixlen: z.int().optional() })).optional(),
  }),
);

/** All interfaces in one process; `ip` fills objects that it left out of its choice with nothing. */
export const IP_ARGV = ["ip", "-j", "-d", "address", "show"] as const;

export function parseLinks(stdout: string): ReadonlyMap<string, LiveLink> | null {
  let json: unknown;
  try {
    json = JSON.parse(stdout);
  } catch {
    return null;
  }
  const answer = Answer.safeParse(json);
  if (!answer.success) return null;
  return new Map(
    answer.data.flatMap((link) => {
      if (link.ifname === undefined || link.ifindex === undefined) return [];
      const addresses = (link.addr_info ?? []).flatMap(({ local, prefixlen }) => {
        const ip = local === undefined ? null : parseIp(local);
        return ip === null ? [] : [`${ip.address}/${prefixlen}`];
      });
      const flags = new Set(link.flags);
      const found: LiveLink = {
        index: link.ifindex,
        name: link.ifname,
        mtu: link.mtu ?? 0,
        up: flags.has("UP"),
        carrier: flags.has("LOWER_UP"),
        master: link.master ?? null,
        mac: (link.permaddr ?? link.address ?? "").toLowerCase(),
        kind: link.linkinfo?.info_kind ?? null,
        parent: link.link ?? null,
        settings: link.linkinfo?.info_data ?? {},
        addresses,
      };
      return [[found.name, found] as const];
    }),
  );
}

/** The main table of both families (proc_net(5) and net/ipv6/route.c); IPv4 stands there in the byte order of the machine, which is little-endian. */
export async function readRoutes(probe: Probe): Promise<readonly LiveRoute[]> {
  const [four, six] = await Promise.all([probe.readText("/proc/net/route"), probe.readText("/proc/net/ipv6_route")]);
  return [...(four ?? "").split("\n").slice(1).flatMap((line) => route4(line) ?? []), ...(six ?? "").split("\n").flatMap((line) => route6(line) ?? [])];
}

function route4(line: string): LiveRoute | null {
  const [device, destination, gateway, , , , metric, mask] = line.trim().split(/\s+/);
  if (device === undefined || destination === undefined || gateway === undefined || mask === undefined) return null;
  const length = Number.parseInt(mask, 16).toString(2).replaceAll("0", "").length;
  return { to: `${hex4(destination)}/${length}`, via: gateway === "00000000" ? null : hex4(gateway), device, metric: Number(metric) };
}

function hex4(hex: string): string {
  return (hex.match(/../g) ?? []).toReversed().map((byte) => Number.parseInt(byte, 16)).join(".");
}

function route6(line: string): LiveRoute | null {
  const [destination, length, , , next, metric, , , , device] = line.trim().split(/\s+/);
  if (destination === undefined || next === undefined || length === undefined || metric === undefined || device === undefined) return null;
  const via = hex6(next);
  return { to: `${hex6(destination)}/${Number.parseInt(length, 16)}`, via: via === "::" ? null : via, device, metric: Number.parseInt(metric, 16) };
}

function hex6(hex: string): string {
  return parseIp((hex.match(/.{4}/g) ?? []).join(":"))?.address ?? hex;
}

/** networkd's own state of a link, as sd-network(3) reads it; null where networkd does not know the link. */
export interface NetifState {
  /** `configured`, `configuring`, `failed`, `unmanaged` … */
  readonly state: string;
  readonly networkFile: string | null;
}

export async function readNetif(probe: Probe, index: number): Promise<NetifState | null> {
  const text = await probe.readText(`/run/systemd/netif/links/${index}`);
  if (text === null) return null;
  const of = (key: string): string | undefined => new RegExp(`^${key}=(.*)$`, "m").exec(text)?.[1];
  return { state: of("ADMIN_STATE") ?? "", networkFile: of("NETWORK_FILE") ?? null };
}

/** The link that a device of the section is now: by its link address where that is given, else by its name. */
export function linkOf(device: Device, links: ReadonlyMap<string, LiveLink>): LiveLink | undefined {
  const mac = device.sort === "interfaces" ? device.it.mac : undefined;
  if (mac === undefined) return links.get(device.name);
  return [...links.values()].find((link) => link.mac === mac && (link.kind === null || link.kind === "veth"));
}

export interface Difference {
  /** For people. */
  readonly why: string;
  /** It cannot be changed while the device is there. */
  readonly recreate?: true;
  /** A setting of a bridge that is told to the kernel: `stp_state`, `1`. */
  readonly set?: readonly [key: string, value: string];
}

/** Where the link is not what the section says. What the section does not speak of is not looked at. */
export function differencesOf(device: Device, link: LiveLink, routes: readonly LiveRoute[], master: string | undefined): readonly Difference[] {
  const { it } = device;
  const faults: Difference[] = [...settingFaults(device, link)];
  if (!link.up) faults.push({ why: "is down" });
  if (master !== undefined) return link.master === master ? faults : [...faults, { why: link.master === null ? `is not part of ${master}` : `is part of ${link.master}, should be of ${master}` }];
  if (link.master !== null) faults.push({ why: `is part of ${link.master}, should be of nothing` });
  if (it.mtu !== undefined && link.mtu !== it.mtu) faults.push({ why: `its MTU is ${link.mtu}, should be ${it.mtu}` });
  // Without a cable networkd gives it no address, and takes away what it has.
  if (!link.carrier && !worksWithoutCarrier(device)) return faults;
  for (const address of it.addresses) if (!link.addresses.includes(address)) faults.push({ why: `${address} is not on it` });
  if (!link.carrier) return faults;
  for (const route of routesOf(device)) {
    const to = destinationOf(route);
    const has = routes.some((each) => each.device === link.name && each.to === to && (route.via === undefined || each.via === route.via) && (route.metric === undefined || each.metric === route.metric));
    if (!has) faults.push({ why: `the route to ${route.to}${route.via === undefined ? "" : ` via ${route.via}`} is missing` });
  }
  return faults;
}

/** What the kernel says about a virtual device, where it is not what the section says. */
function settingFaults(device: Device, link: LiveLink): readonly Difference[] {
  const { settings } = link;
  const differ = (what: string, is: unknown, should: string | number): Difference[] => ((typeof is !== "string" && typeof is !== "number") || is === should ? [] : [{ why: `${what} is ${is}, should be ${should}`, recreate: true }]);
  switch (device.sort) {
    case "interfaces":
    case "wireguards":
      return [];
    case "bonds":
      return [...differ("its mode", settings["mode"], bondMode(device.it.mode)), ...(device.it.hashPolicy === undefined ? [] : differ("its hash policy", settings["xmit_hash_policy"], device.it.hashPolicy))];
    case "vlans":
      return [...differ("its VLAN", settings["id"], device.it.id), ...differ("its parent", link.parent ?? undefined, device.it.parent)];
    case "vxlans":
      return [...differ("its VNI", settings["id"], device.it.id), ...differ("its port", settings["port"], device.it.port)];
    case "bridges":
      return bridgeFaults(device.it, settings);
  }
}

function bridgeFaults(it: NetworkWant["bridges"][string], settings: LiveLink["settings"]): readonly Difference[] {
  const stp = it.stp ? 1 : 0;
  const delay = it.forwardDelaySeconds === undefined ? undefined : it.forwardDelaySeconds * 100;
  return [
    ...(settings["stp_state"] === undefined || settings["stp_state"] === stp ? [] : [{ why: `spanning tree is ${stp === 1 ? "off" : "on"}, should be ${stp === 1 ? "on" : "off"}`, set: ["stp_state", String(stp)] as const }]),
    ...(delay === undefined || settings["forward_delay"] === undefined || settings["forward_delay"] === delay ? [] : [{ why: `its forward delay is ${Number(settings["forward_delay"]) / 100} s, should be ${it.forwardDelaySeconds} s`, set: ["forward_delay", String(delay)] as const }]),
  ];
}

/** Something of this name is there, and is not what the section wants to make: what it is. */
export function isOther(device: Device, link: LiveLink): string | null {
  if (device.sort === "interfaces") return null;
  return link.kind === NETDEV_KINDS[device.sort] ? null : (link.kind ?? "a hardware interface");
}

/** What an earlier .network file had put on an interface. */
export interface Earlier {
  readonly device: string;
  readonly addresses: readonly string[];
  /** Network and router, if there is one. */
  readonly routes: readonly (readonly [to: string, via: string | null])[];
  /** The bond or bridge that it made the interface part of. */
  readonly master: string | null;
}

/** As far as it can be told: of a file that matches by anything but one name, `null`. */
export function parseEarlier(text: string, device?: string): Earlier | null {
  const addresses: string[] = [];
  const routes: [string, string | null][] = [];
  let [section, matched, to, via, master] = ["", device, null as string | null, null as string | null, null as string | null];
  const flush = (): void => {
    const first = to ?? (via === null ? null : parseIp(via)?.family === 6 ? "::/0" : "0.0.0.0/0");
    if (section === "Route" && first !== null) routes.push([first, via]);
    [to, via] = [null, null];
  };
  for (const line of text.split("\n")) {
    const header = /^\s*\[(\w+)\]\s*$/.exec(line)?.[1];
    if (header !== undefined) {
      flush();
      section = header;
      continue;
    }
    const [, key, value = ""] = /^\s*(\w+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (section === "Match" && key === "Name" && device === undefined && /^[A-Za-z0-9_.@-]+$/.test(value)) matched = value;
    if ((section === "Network" || section === "Address") && key === "Address") {
      const prefix = parsePrefix(value);
      if (prefix !== null) addresses.push(`${prefix.address}/${prefix.length}`);
    }
    if (section === "Network" && (key === "Bond" || key === "Bridge")) master = value;
    if (section === "Network" && key === "Gateway" && parseIp(value) !== null) routes.push([parseIp(value)!.family === 6 ? "::/0" : "0.0.0.0/0", value]);
    if (section === "Route" && key === "Destination") to = value === "default" ? null : value;
    if (section === "Route" && key === "Gateway") via = value;
  }
  flush();
  return matched === undefined ? null : { device: matched, addresses, routes, master };
}
