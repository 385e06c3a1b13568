import * as z from "zod";
import { content } from "../config/content.ts";
import { holds, interfaceAddress, interfaceName, ipAddress, network as networkPrefix, parseIp, parsePrefix } from "./keepalived-address.ts";

const DEVICES_MAX = 256;
const LIST_MAX = 64;
const NODES_MAX = 64;

const ipv4 = z.ipv4("an IPv4 address, such as 10.0.0.1");
const ipv6 = ipAddress.refine((text) => parseIp(text)?.family === 6, "an IPv6 address, such as fd00::1");
const mac = z
  .string()
  .regex(/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/, "a link address, such as 52:54:00:12:34:56")
  .transform((text) => text.toLowerCase());
const domain = z.string().regex(/^~?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$|^~\.$/, "a domain, such as example.org; with ~ before it, one that is only asked here");
const members = z.array(interfaceName).max(LIST_MAX).refine(isSet, "a member stands in the list once");
const nodeNames = z
  .union([z.literal(true), z.array(z.string().min(1).max(63)).max(NODES_MAX).refine(isSet, "a node stands in the list once")])
  .describe("Which other nodes are at the other end: `true` for all that have this device in their section, or their names");

function isSet(list: readonly string[]): boolean {
  return new Set(list).size === list.length;
}

const route = z
  .strictObject({
    to: z.union([z.literal("default"), networkPrefix], "a network such as 10.1.0.0/16, or default").describe("The network that it leads to, or `default` for all that no other route leads to"),
    via: ipAddress.optional().describe("The router; without it, the network is on the link itself"),
    metric: z.int().min(0).max(4_294_967_295).optional().describe("Of several routes to the same network the one with the lowest counts"),
    source: ipAddress.optional().describe("The address that the node speaks from when it uses this route"),
    onLink: z.boolean().default(false).describe("The router is on this link although no address of this node is in its network"),
  })
  .superRefine(({ to, via, source, onLink }, check) => {
    const refuse = (path: string, message: string) => check.addIssue({ code: "custom", path: [path], message });
    const family = to === "default" ? parseIp(via ?? source ?? "")?.family : parsePrefix(to)?.family;
    if (to === "default" && via === undefined) refuse("via", "a default route needs a router: write `via: IP`");
    for (const [field, address] of [["via", via], ["source", source]] as const) if (address !== undefined && parseIp(address)?.family !== family) refuse(field, `${address} is not of the family of ${to}`);
    if (onLink && via === undefined) refuse("onLink", "it says something about the router: write `via` too");
  });

/** What every device can have, whatever it is made of. */
const common = {
  addresses: z
    .array(z.string().max(64).regex(/\//, "an address needs the length of its network: 10.0.0.11/24 or fd00::11/64").pipe(interfaceAddress))
    .max(LIST_MAX)
    .refine((list) => isSet(list.map((each) => parsePrefix(each)?.address ?? each)), "an address stands in the list once")
    .default([])
    .describe("Its addresses, each with the length of its network: 10.0.0.11/24. What others add (keepalived, LXD) is left alone"),
  gateway4: ipv4.optional().describe("The router for everything else, IPv4"),
  gateway6: ipv6.optional().describe("The router for everything else, IPv6"),
  routes: z.array(route).max(LIST_MAX).default([]).describe("Further routes that go out here"),
  dns: z.array(ipAddress).max(8).refine(isSet, "a server stands in the list once").default([]).describe("Name servers: told to systemd-resolved, or written into /etc/resolv.conf where that is not installed"),
  domains: z.array(domain).max(32).refine(isSet, "a domain stands in the list once").default([]).describe("Domains in which short names are looked up"),
  dhcp: z.enum(["no", "ipv4", "ipv6", "yes"]).default("no").describe("Ask a DHCP server for addresses"),
  mtu: z.int().min(68).max(65_535).optional().describe("The largest packet in bytes, such as 9000; IPv6 needs 1280 at least"),
  acceptRa: z.boolean().optional().describe("Take IPv6 routers' advertisements (addresses and the default route); without it, the kernel's usual"),
  linkLocal: z.boolean().default(true).describe("Have an IPv6 link-local address; members of bonds and bridges never have one"),
  required: z.boolean().default(true).describe("The boot waits for it, and the node only counts as healthy when it works"),
};

const ethernet = z.strictObject({
  mac: mac.optional().describe("Finds the interface by its built-in link address, and gives it this name from the next boot on; without it, it is found by its name"),
  ...common,
});

const bond = z
  .strictObject({
    members: members.min(1, "a bond needs members: the interfaces that carry it").describe("The interfaces that it is made of; they need no entry of their own"),
    mode: z.enum(["active-backup", "lacp", "balance-rr", "balance-xor", "balance-tlb", "balance-alb", "broadcast"]).default("active-backup").describe("active-backup needs nothing of the switch; lacp (802.3ad) needs the switch's ports in one group"),
    lacpRate: z.enum(["slow", "fast"]).optional().describe("With lacp: ask for a sign of life every 30 seconds, or every second"),
    hashPolicy: z.enum(["layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4"]).optional().describe("With lacp and balance-xor: what decides which member a packet takes"),
    primary: interfaceName.optional().describe("With active-backup: the member that is used whenever it works"),
    minLinks: z.int().min(1).max(LIST_MAX).optional().describe("With lacp: with fewer members the bond counts as down"),
    monitorMs: z.int().min(10).max(10_000).default(100).describe("How often the members' links are looked at, in milliseconds"),
    ...common,
  })
  .superRefine((written, check) => {
    const refuse = (path: string, message: string) => check.addIssue({ code: "custom", path: [path], message });
    if (written.lacpRate !== undefined && written.mode !== "lacp") refuse("lacpRate", "it needs `mode: lacp`");
    if (written.minLinks !== undefined && written.mode !== "lacp") refuse("minLinks", "it needs `mode: lacp`");
    if (written.minLinks !== undefined && written.minLinks > written.members.length) refuse("minLinks", `the bond has ${written.members.length} members, and would always be down`);
    if (written.hashPolicy !== undefined && !["lacp", "balance-xor", "balance-tlb"].includes(written.mode)) refuse("hashPolicy", "it needs `mode: lacp`, balance-xor or balance-tlb");
    if (written.primary !== undefined && !["active-backup", "balance-tlb", "balance-alb"].includes(written.mode)) refuse("primary", "it needs `mode: active-backup`, balance-tlb or balance-alb");
    if (written.primary !== undefined && !written.members.includes(written.primary)) refuse("primary", `${written.primary} is not among the members`);
  });

const vlan = z.strictObject({
  parent: interfaceName.describe("The interface, bond or bridge that carries it, which has an entry of its own here"),
  id: z.int().min(1).max(4094).describe("The VLAN's number"),
  ...common,
});

const bridge = z.strictObject({
  members: members.default([]).describe("Its ports; they need no entry of their own. What others add (LXD, virtual machines) is left alone"),
  stp: z.boolean().default(false).describe("Spanning tree, against loops"),
  forwardDelaySeconds: z.int().min(0).max(30).optional().describe("With spanning tree: how long a new port waits before it forwards"),
  ...common,
});

const vxlan = z
  .strictObject({
    id: z.int().min(1).max(16_777_215).describe("The VXLAN's number (VNI), the same at both ends"),
    local: ipAddress.optional().describe("This node's address that its packets come from; without it, the node's `address`"),
    nodes: nodeNames.optional(),
    remote: ipAddress.optional().describe("The other end, or a multicast group of all ends, where these are no nodes of this repository"),
    parent: interfaceName.optional().describe("The interface that its packets go out by, needed with a multicast group"),
    port: z.int().min(1).max(65_535).default(4789).describe("The UDP port"),
    learning: z.boolean().default(true).describe("Learn which link address is at which end; false with EVPN, where BGP knows"),
    ...common,
  })
  .superRefine((written, check) => {
    if (written.nodes !== undefined && written.remote !== undefined) check.addIssue({ code: "custom", path: ["remote"], message: "either `nodes` or `remote`" });
  })
  .transform((written) => ({ ...written, ends: null as VxlanEnds | null }));

/** A key of Curve25519 (RFC 7748), 32 bytes in base64. */
const publicKey = z.string().regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw480]=$/, "a WireGuard key is 44 characters of base64, as `wg pubkey` prints it");
const endpoint = z.string().regex(/^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, "an endpoint is HOST:PORT, such as vpn.example.org:51820 or [fd00::1]:51820");

const wireguardPeer = z.strictObject({
  publicKey: publicKey.describe("Its public key"),
  presharedKey: content.optional().describe("A further secret that both share, as `wg genpsk` prints it; best {secret: NAME}"),
  endpoint: endpoint.optional().describe("Where it can be reached: HOST:PORT; without it, it has to call first"),
  allowedIps: z.array(networkPrefix).min(1).max(LIST_MAX).describe("The networks that are behind it"),
  keepaliveSeconds: z.int().min(1).max(65_535).optional().describe("Send something so often, so that a NAT in between keeps the way open"),
});

const wireguard = z
  .strictObject({
    privateKey: content.describe("This node's private key, as `wg genkey` prints it; best {secret: NAME}"),
    publicKey: publicKey.describe("The public key to it (`wg pubkey`), which the other nodes get from here"),
    port: z.int().min(1).max(65_535).default(51_820).describe("The UDP port that it listens on"),
    endpoint: endpoint.optional().describe("Where the other nodes reach this one: HOST:PORT; without it, the node's `address` and `port`"),
    networks: z.array(networkPrefix).max(LIST_MAX).default([]).describe("Networks behind this node that the others reach through it, beside its own addresses"),
    nodes: nodeNames.optional(),
    keepaliveSeconds: z.int().min(1).max(65_535).optional().describe("To the nodes: send something so often, so that a NAT in between keeps the way open"),
    peers: z.record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "a name of yours, such as laptop"), wireguardPeer).default({}).describe("Others, by a name of yours: what is no node of this repository"),
    ...common,
  })
  .transform((written) => ({ ...written, mesh: null as readonly MeshPeer[] | null }));

/** What follows from the other nodes; filled in by `resolve`. */
export interface VxlanEnds {
  readonly local: string | null;
  readonly remotes: readonly string[];
}

export interface MeshPeer {
  readonly node: string;
  readonly publicKey: string;
  readonly endpoint: string | null;
  readonly allowedIps: readonly string[];
}

/** Where files of others may stand that decide on interfaces. */
const REPLACEABLE = /^\/(etc|run|usr\/lib|lib)\/systemd\/network\/[A-Za-z0-9_.@-]+\.(network|netdev|link)$|^\/etc\/netplan\/[A-Za-z0-9_.-]+\.yaml$|^\/etc\/network\/interfaces(\.d\/[A-Za-z0-9_.-]+)?$/;
const replaced = z
  .string()
  .max(255)
  .regex(REPLACEABLE, "a file in /etc/systemd/network, /run/systemd/network, /usr/lib/systemd/network, /etc/netplan or /etc/network/interfaces")
  .refine((path) => !/\/60-evenkeel[.-]/.test(path), "this file is the section's own");

const devices = <Device extends z.ZodType>(device: Device, what: string) =>
  z
    .record(interfaceName, device)
    .refine((entries) => Object.keys(entries).length <= DEVICES_MAX, `at most ${DEVICES_MAX}`)
    .default({})
    .describe(what);

export const networkSchema = z
  .strictObject({
    backend: z.enum(["networkd", "netplan"]).default("networkd").describe("Who is told: systemd-networkd by its own files, or netplan (Ubuntu) by /etc/netplan/60-evenkeel.yaml"),
    interfaces: devices(ethernet, "Interfaces that the machine has, by name; those without an entry are left alone"),
    bonds: devices(bond, "Several interfaces as one, by the name of that one"),
    vlans: devices(vlan, "VLANs, by the name of their interface"),
    bridges: devices(bridge, "Bridges by name"),
    vxlans: devices(vxlan, "VXLAN tunnels, by the name of their interface"),
    wireguards: devices(wireguard, "WireGuard tunnels, by the name of their interface"),
    replaces: z.array(replaced).max(LIST_MAX).refine(isSet, "a file stands in the list once").default([]).describe("Files of others whose place this section takes: they are taken away (a copy is kept, and put back when they leave this list)"),
  })
  .superRefine((written, check) => {
    for (const { path, message } of faults(written)) check.addIssue({ code: "custom", path: [...path], message });
  })
  .describe("Interfaces, bonds, VLANs, bridges, tunnels, addresses, routes and name servers");

export type NetworkWant = z.output<typeof networkSchema>;
export type Route = z.output<typeof route>;
type Maps = Pick<NetworkWant, "interfaces" | "bonds" | "vlans" | "bridges" | "vxlans" | "wireguards">;
export const SORTS = ["interfaces", "bonds", "vlans", "bridges", "vxlans", "wireguards"] as const;
export type Sort = (typeof SORTS)[number];
export type Device = { readonly [sort in Sort]: { readonly sort: sort; readonly name: string; readonly it: Maps[sort][string] } }[Sort];

/** All devices with an entry, in the order of their names. */
export function devicesOf(want: Pick<NetworkWant, Sort>): readonly Device[] {
  return SORTS.flatMap((sort) => Object.entries(want[sort]).map(([name, it]) => ({ sort, name, it }))).toSorted((one, other) => (one.name < other.name ? -1 : 1));
}

/** Member → the bond or bridge that it belongs to. */
export function mastersOf(want: Pick<NetworkWant, "bonds" | "bridges">): ReadonlyMap<string, { readonly master: string; readonly sort: "bonds" | "bridges" }> {
  const sorts = ["bridges", "bonds"] as const;
  return new Map(sorts.flatMap((sort) => Object.entries(want[sort]).flatMap(([master, { members: names }]) => names.map((name: string) => [name, { master, sort }] as const))));
}

interface Fault {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/** What does not fit within one section. */
function faults(want: NetworkWant): readonly Fault[] {
  const found: Fault[] = [];
  const all = devicesOf(want);
  const sortOf = new Map(all.toReversed().map(({ name, sort }) => [name, sort]));
  for (const { sort, name } of all) {
    if (sortOf.get(name) !== sort) found.push({ path: [sort, name], message: `${name} is among the ${sortOf.get(name)} already: a name stands for one device` });
    if (name === "lo" || name === "." || name === "..") found.push({ path: [sort, name], message: `${name} is not managed here` });
  }
  const macs = new Map<string, string>();
  for (const [name, { mac: address }] of Object.entries(want.interfaces)) {
    if (address === undefined) continue;
    if (macs.has(address)) found.push({ path: ["interfaces", name, "mac"], message: `${address} is ${macs.get(address)}'s already` });
    macs.set(address, name);
  }
  return [...found, ...memberFaults(want, all), ...all.flatMap((device) => addressFaults(device)), ...circles(want)];
}

function memberFaults(want: NetworkWant, all: readonly Device[]): readonly Fault[] {
  const found: Fault[] = [];
  const memberOf = new Map<string, string>();
  for (const sort of ["bonds", "bridges"] as const) {
    for (const [master, { members: names }] of Object.entries(want[sort])) {
      for (const [at, name] of names.entries()) {
        const tell = (message: string): unknown => found.push({ path: [sort, master, "members", at], message });
        const before = memberOf.get(name);
        if (before !== undefined) tell(`${name} is a member of ${before} already: an interface is part of one bond or bridge`);
        memberOf.set(name, master);
        const device = all.find((each) => each.name === name);
        if (name === master) tell(`${name} cannot be a member of itself`);
        else if (device?.sort === "bridges") tell(`${name} is a bridge, and cannot be a member`);
        else if (device?.sort === "wireguards") tell(`${name} is a WireGuard tunnel, which carries no link addresses: it cannot be a member`);
        else if (sort === "bonds" && device !== undefined && device.sort !== "interfaces") tell(`${name} is no physical interface`);
        const taken = device === undefined ? [] : (["addresses", "gateway4", "gateway6", "routes", "dns", "dhcp"] as const).filter((field) => hasAny(device.it[field]));
        if (taken.length > 0) tell(`${name} has ${taken.join(" and ")} of its own: a member has none, ${master} has them`);
      }
    }
  }
  for (const sort of ["vlans", "vxlans"] as const) {
    for (const [name, { parent }] of Object.entries(want[sort])) {
      if (parent !== undefined && !all.some((each) => each.name === parent)) found.push({ path: [sort, name, "parent"], message: `${parent} has no entry here: write \`interfaces: {${parent}: {}}\` with its addresses` });
    }
  }
  return found;
}

function hasAny(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== "no";
}

/** Gateways that no address of the device can reach, and what IPv6 needs. */
function addressFaults({ sort, name, it }: Device): readonly Fault[] {
  const found: Fault[] = [];
  const own = it.addresses.flatMap((each) => parsePrefix(each) ?? []);
  const routers = [["gateway4", it.gateway4], ["gateway6", it.gateway6]] as const;
  const vias = it.routes.flatMap(({ via, onLink }, at) => (via === undefined || onLink ? [] : [[["routes", at, "via"], via] as const]));
  for (const [field, via] of [...routers.map(([field, via]) => [[field], via] as const), ...vias]) {
    const router = via === undefined ? null : parseIp(via);
    if (router === null || router.address.startsWith("fe80:")) continue;
    if (own.some((each) => each.address === router.address)) found.push({ path: [sort, name, ...field], message: `${router.address} is ${name}'s own address, and no router` });
    else if (!isWithin(it, router)) found.push({ path: [sort, name, ...field], message: `${router.address} is in no network of ${name} (${it.addresses.join(", ") || "it has no addresses"}): it could not be reached` });
  }
  if (it.mtu !== undefined && it.mtu < 1280 && own.some((each) => each.family === 6)) found.push({ path: [sort, name, "mtu"], message: "IPv6 needs 1280 at least (RFC 8200, 5)" });
  return found;
}

/** What DHCP or a router's advertisement gives is not known here. */
function isWithin(it: Device["it"], router: { readonly address: string; readonly family: 4 | 6 }): boolean {
  if (it.dhcp === "yes" || it.dhcp === `ipv${router.family}` || (router.family === 6 && it.acceptRa === true)) return true;
  return it.addresses.some((each) => {
    const prefix = parsePrefix(each);
    return prefix !== null && holds(prefix, router);
  });
}

/** Devices that would have to be there before themselves. */
function circles(want: NetworkWant): readonly Fault[] {
  const below = (name: string): readonly string[] => [
    ...(want.vlans[name] === undefined ? [] : [want.vlans[name].parent]),
    ...(want.vxlans[name]?.parent === undefined ? [] : [want.vxlans[name].parent]),
    ...(want.bonds[name]?.members ?? []),
    ...(want.bridges[name]?.members ?? []),
  ];
  const leadsTo = (from: string, to: string, seen: ReadonlySet<string>): boolean => below(from).some((next) => next === to || (!seen.has(next) && leadsTo(next, to, new Set([...seen, next]))));
  const sorts = ["bonds", "vlans", "bridges", "vxlans"] as const;
  return sorts.flatMap((sort) => Object.keys(want[sort]).flatMap((name) => (leadsTo(name, name, new Set([name])) ? [{ path: [sort, name], message: `${name} would carry itself: ${below(name).join(", ")} is made of it in turn` }] : [])));
}
