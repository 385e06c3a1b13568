import * as z from "zod";
import { missingNames, listName, policyFields } from "./frr-policy.ts";
import { interfaceName, ipAddress, network, parseIp, parsePrefix } from "./keepalived-address.ts";

const NEIGHBORS_MAX = 200;
const ROUTES_MAX = 1_000;

const asn = z.int().min(1).max(4_294_967_294);
const neighborName = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/, "a name has letters, digits, dots and hyphens: a node's name, or one of yours");
/** FRR reads lines: a space ends a password, and a description is the rest of its line. */
const password = z.string().regex(/^[\x21-\x7e]{1,80}$/, "a password has at most 80 printable characters without spaces");
const areaId = z.union([z.int().min(0).max(4_294_967_295).transform(String), z.ipv4()]).describe("The area: a number or the form 0.0.0.1");

const neighborFamily = z.strictObject({
  in: listName.optional().describe("The route-map that decides what is taken from it"),
  out: listName.optional().describe("The route-map that decides what it is told"),
  prefixListIn: listName.optional().describe("A prefix-list for what is taken from it"),
  prefixListOut: listName.optional().describe("A prefix-list for what it is told"),
  nextHopSelf: z.boolean().default(false).describe("Tell it this router as the next hop"),
  routeReflectorClient: z.boolean().default(false).describe("It is told what other routers of the AS told"),
  softReconfiguration: z.boolean().default(false).describe("Keep what it told as it was told, to look at and to filter anew"),
  defaultOriginate: z.boolean().default(false).describe("Tell it a default route"),
  allowAsIn: z.int().min(1).max(10).optional().describe("Take routes in which the own AS stands up to so many times"),
  maximumPrefix: z.int().min(1).max(4_294_967_295).optional().describe("The session is ended when it tells more than so many prefixes"),
});

const evpnFamily = neighborFamily.pick({ in: true, out: true, routeReflectorClient: true, nextHopSelf: true, softReconfiguration: true, allowAsIn: true });

const neighbor = z
  .strictObject({
    node: neighborName.optional().describe("The node that it is, if its name here is another; its address and AS come from the repository"),
    address: ipAddress.optional().describe("Its address, where it is no node or is reached by another address than the node's own"),
    interface: interfaceName.optional().describe("In place of an address: the one router at the other end of this interface (IPv6 link-local)"),
    asn: z.union([asn, z.enum(["internal", "external"])]).optional().describe("Its AS: a number, internal or external; of a node, what its section says"),
    description: z.string().regex(/^[\x21-\x7e][\x20-\x7e]{0,78}$/, "at most 79 printable characters").optional().describe("A note that show commands print; without it, the name"),
    password: password.optional().describe("The session's password (TCP MD5), the same on both sides"),
    bfd: z.union([z.boolean(), listName]).default(false).describe("Watch it by BFD: true, or the name of a profile under bfd"),
    keepaliveSeconds: z.int().min(1).max(65_535).default(60).describe("How often it is told that this router is there"),
    holdSeconds: z.int().min(3).max(65_535).default(180).describe("After so long without a word the session has ended"),
    connectSeconds: z.int().min(1).max(65_535).default(120).describe("How often a session that is down is tried"),
    multihop: z.int().min(2).max(255).optional().describe("It is up to so many hops away (external sessions)"),
    updateSource: z.union([ipAddress, interfaceName]).optional().describe("The own address, or the interface, that the session is made from"),
    passive: z.boolean().default(false).describe("Wait for it to begin"),
    shutdown: z.boolean().default(false).describe("Keep the session down"),
    routesMin: z.int().min(0).max(1_000_000).default(0).describe("With fewer routes from it than this, the session counts as not well: 1 for one that a default route comes from"),
    ipv4: neighborFamily.optional().describe("IPv4 routes over this session; without any family, that of its address"),
    ipv6: neighborFamily.optional().describe("IPv6 routes over this session"),
    evpn: evpnFamily.optional().describe("EVPN routes over this session"),
  })
  .refine((written) => written.address === undefined || written.interface === undefined, { path: ["interface"], message: "an address or an interface, not both" })
  .refine((written) => written.holdSeconds >= written.keepaliveSeconds * 2 || written.holdSeconds === 180, { path: ["holdSeconds"], message: "holdSeconds is at least twice keepaliveSeconds" })
  .transform((written) => ({ ...written, peer: null as NeighborPeer | null }));

/** What follows from the other nodes; filled in by `resolve`. */
export interface NeighborPeer {
  readonly address: string;
  readonly asn: number | "internal" | "external";
  /** The node of the repository that it is; null for a router of somebody else's. */
  readonly node: string | null;
}

const redistribute = z
  .partialRecord(z.enum(["connected", "static", "kernel", "ospf", "bgp"]), z.strictObject({
    routeMap: listName.optional().describe("What of it, and with which attributes"),
    metric: z.int().min(0).max(16_777_214).optional().describe("The metric that it gets"),
  }))
  .default({});

const family = (what: string) =>
  z
    .strictObject({
      networks: z.array(network).max(ROUTES_MAX).default([]).describe("Networks that are announced when this machine has a route to them"),
      redistribute: redistribute.describe("Other routes that are announced, by where they come from"),
      maximumPaths: z.int().min(1).max(128).optional().describe("Over at most so many equal ways of external sessions at the same time; without it, as many as FRR was built for"),
    })
    .prefault({})
    .describe(what);

const bgp = z
  .strictObject({
    asn: asn.describe("This router's AS"),
    routerId: z.ipv4().optional().describe("Without it, the node's address if that is IPv4"),
    neighbors: z
      .record(neighborName, neighbor)
      .refine((entries) => Object.keys(entries).length <= NEIGHBORS_MAX, `at most ${NEIGHBORS_MAX}`)
      .default({})
      .describe("By name: a node's name takes address and AS from the repository, and the node itself is left out, so that a role can name all of them; anything else needs both"),
    requirePasswords: z.boolean().default(false).describe("Every neighbour must have a password; a push without is refused"),
    requirePolicy: z.boolean().default(true).describe("External neighbours without a route-map are told nothing and nothing is taken from them (RFC 8212)"),
    importCheck: z.boolean().default(true).describe("Announce `networks` only while this machine has a route to them"),
    gracefulRestart: z
      .strictObject({
        restartSeconds: z.int().min(1).max(4_095).default(120).describe("So long neighbours keep this router's routes while its bgpd restarts"),
        staleSeconds: z.int().min(1).max(4_095).default(360).describe("So long this router keeps a neighbour's routes"),
        preserveForwarding: z.boolean().default(false).describe("Tell neighbours that packets are still forwarded meanwhile"),
      })
      .optional()
      .describe("Restart bgpd without neighbours taking its routes away"),
    ipv4: family("IPv4 routes"),
    ipv6: family("IPv6 routes"),
    evpn: z
      .strictObject({
        advertiseAllVni: z.boolean().default(true).describe("Announce all VXLANs of this machine"),
        advertiseDefaultGateway: z.boolean().default(false).describe("Announce its addresses in them as gateways"),
        advertiseSviIp: z.boolean().default(false).describe("Announce its own addresses in them"),
      })
      .optional()
      .describe("EVPN: addresses behind VXLANs"),
  })
  .describe("BGP");

const ospfInterface = z
  .strictObject({
    area: areaId,
    cost: z.int().min(1).max(65_535).optional().describe("What going out by it costs; without it, by its speed"),
    network: z.enum(["broadcast", "point-to-point", "non-broadcast", "point-to-multipoint"]).optional().describe("What kind of network it is; without it, what the interface says"),
    passive: z.boolean().default(false).describe("Announce its network, and speak to nobody there"),
    helloSeconds: z.int().min(1).max(65_535).default(10).describe("How often it says that it is there"),
    deadSeconds: z.int().min(1).max(65_535).default(40).describe("After so long without a word a neighbour is gone"),
    priority: z.int().min(0).max(255).default(1).describe("For becoming the designated router; 0 never"),
    bfd: z.boolean().default(false).describe("Watch neighbours by BFD"),
    key: z.string().regex(/^[\x21-\x7e]{1,16}$/, "at most 16 printable characters without spaces").optional().describe("MD5 key, number 1, the same on all routers there"),
  });

const ospf = z
  .strictObject({
    routerId: z.ipv4().optional().describe("Without it, the node's address if that is IPv4"),
    interfaces: z.record(interfaceName, ospfInterface).default({}).describe("Interfaces that take part"),
    redistribute: redistribute.describe("Other routes that are announced, by where they come from"),
    defaultOriginate: z.boolean().default(false).describe("Announce a default route while there is one"),
  })
  .describe("OSPF version 2");

const profile = z.strictObject({
  detectMultiplier: z.int().min(2).max(255).default(3).describe("After so many lost packets the neighbour is gone"),
  receiveMs: z.int().min(10).max(60_000).default(300).describe("How often packets may come"),
  transmitMs: z.int().min(10).max(60_000).default(300).describe("How often packets are sent"),
  passive: z.boolean().default(false).describe("Wait for the other side to begin"),
  minimumTtl: z.int().min(1).max(254).optional().describe("For neighbours some hops away: packets with less are dropped"),
});

const route = z
  .strictObject({
    via: z.array(ipAddress).min(1).max(16).optional().describe("Gateways; several share the load"),
    interface: interfaceName.optional().describe("The interface, with or without a gateway"),
    blackhole: z.boolean().default(false).describe("Drop what goes there: to announce a network of which only parts exist"),
    distance: z.int().min(1).max(255).default(1).describe("Against the same route from elsewhere; lower wins"),
    tag: z.int().min(1).max(4_294_967_295).optional().describe("A number to know it by in a route-map"),
  })
  .refine(({ via, interface: at, blackhole }) => (blackhole ? via === undefined && at === undefined : via !== undefined || at !== undefined), "a route goes via a gateway, out of an interface, or into a blackhole");

const schemaFields = {
  bgp: bgp.optional(),
  ospf: ospf.optional(),
  static: z
    .record(network, route)
    .refine((entries) => Object.keys(entries).length <= ROUTES_MAX, `at most ${ROUTES_MAX}`)
    .default({})
    .describe("Routes of one's own, by network"),
  bfd: z.record(listName, profile).default({}).describe("BFD profiles by name: how fast a neighbour that is gone is noticed"),
  ...policyFields,
  forwarding: z
    .strictObject({
      ipv4: z.boolean().default(true).describe("Pass IPv4 packets on between interfaces"),
      ipv6: z.boolean().default(true).describe("Pass IPv6 packets on between interfaces"),
    })
    .prefault({})
    .describe("What zebra makes of net.ipv4.ip_forward and net.ipv6.conf.all.forwarding; do not say otherwise under sysctl"),
  raw: z
    .strictObject({
      daemons: z.array(z.enum(["ospf6d", "ripd", "ripngd", "isisd", "pimd", "pim6d", "ldpd", "nhrpd", "eigrpd", "babeld", "pbrd", "fabricd", "pathd", "vrrpd"])).max(14).default([]).describe("Daemons to run for it"),
      lines: z
        .array(z.string().regex(/^[\x20-\x7e]{1,500}$/, "a line of printable characters"))
        .max(2_000)
        .default([])
        .describe("Lines as `show running-config` prints them, with their leading spaces: others are taken for drift again and again"),
    })
    .optional()
    .describe("What this section has no words for"),
  drain: z
    .strictObject({
      order: z.int().min(0).max(999).default(30).describe("Lower goes first. Traffic moves away before what it is for stops (commands 20, units 50)"),
      waitSeconds: z.number().min(0).max(600).default(10).describe("So long neighbours may take to move over to other ways, before the sessions end"),
    })
    .prefault({})
    .describe("How this router leaves: its ways become the last choice, then its sessions end"),
};

const written = z.strictObject(schemaFields);

export const frrSchema = written
  .superRefine((section, check) => {
    const refuse = (path: readonly (string | number)[], message: string) => check.addIssue({ code: "custom", path: [...path], message });
    for (const { path, message } of missingNames(section)) refuse(path, message);
    for (const { path, name, among, where } of references(section)) if (!Object.hasOwn(among, name)) refuse(path, `there is no ${name} under ${where}`);
    for (const [to, { via, interface: at }] of Object.entries(section.static)) {
      for (const [index, each] of (via ?? []).entries()) if (parseIp(each)?.family !== parsePrefix(to)?.family) refuse(["static", to, "via", index], `${each} is of another family than ${to}`);
      if ((via ?? []).some((each) => each.startsWith("fe80:")) && at === undefined) refuse(["static", to, "interface"], "a link-local gateway needs the interface");
    }
    for (const name of ["ipv4", "ipv6"] as const) {
      for (const [at, each] of (section.bgp?.[name].networks ?? []).entries()) if (parsePrefix(each)?.family !== (name === "ipv4" ? 4 : 6)) refuse(["bgp", name, "networks", at], `${each} is not ${name === "ipv4" ? "IPv4" : "IPv6"}`);
    }
    for (const [name, each] of Object.entries(section.bgp?.neighbors ?? {})) {
      if (section.bgp?.requirePasswords === true && each.password === undefined) refuse(["bgp", "neighbors", name], `${name} has no password, and requirePasswords asks for one: write \`password:\`, the same on both sides`);
    }
  })
  .transform((section) => ({ ...section, node: null as string | null }))
  .describe("Routing by FRR");

/** Names of route-maps, lists and profiles that BGP and OSPF refer to. */
function references(section: z.output<typeof written>): readonly { path: readonly (string | number)[]; name: string; among: object; where: string }[] {
  const found: { path: readonly (string | number)[]; name: string; among: object; where: string }[] = [];
  const refer = (path: readonly (string | number)[], name: string | undefined, where: "routeMaps" | "prefixLists" | "bfd"): void => {
    if (name !== undefined) found.push({ path, name, among: section[where], where });
  };
  for (const [as, each] of Object.entries(section.bgp?.neighbors ?? {})) {
    const path = ["bgp", "neighbors", as];
    if (typeof each.bfd === "string") refer([...path, "bfd"], each.bfd, "bfd");
    for (const name of ["ipv4", "ipv6", "evpn"] as const) {
      refer([...path, name, "in"], each[name]?.in, "routeMaps");
      refer([...path, name, "out"], each[name]?.out, "routeMaps");
    }
    for (const name of ["ipv4", "ipv6"] as const) {
      refer([...path, name, "prefixListIn"], each[name]?.prefixListIn, "prefixLists");
      refer([...path, name, "prefixListOut"], each[name]?.prefixListOut, "prefixLists");
    }
  }
  for (const name of ["ipv4", "ipv6"] as const) for (const [from, each] of Object.entries(section.bgp?.[name].redistribute ?? {})) refer(["bgp", name, "redistribute", from, "routeMap"], each.routeMap, "routeMaps");
  for (const [from, each] of Object.entries(section.ospf?.redistribute ?? {})) refer(["ospf", "redistribute", from, "routeMap"], each.routeMap, "routeMaps");
  return found;
}

export type FrrWant = z.output<typeof frrSchema>;
export type Bgp = NonNullable<FrrWant["bgp"]>;
export type Neighbor = Bgp["neighbors"][string];
export type NeighborFamily = NonNullable<Neighbor["ipv4"]>;
export type EvpnFamily = NonNullable<Neighbor["evpn"]>;
export type Ospf = NonNullable<FrrWant["ospf"]>;
