import * as z from "zod";
import { content } from "../config/content.ts";
import { holds, ipAddress, network, parseIp, parsePrefix } from "./keepalived-address.ts";
import type { Around, Misfit, Resolved } from "./kind.ts";
import { SERVICE_NAMES } from "./firewall-services.ts";
import type { ServiceName } from "./firewall-services.ts";

const LIST_MAX = 1_024;
const RULES_MAX = 512;
const RESERVED = ["any", "nodes", "none"];

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,29}$/;
const name = z.string().regex(NAME, "a name begins with a letter, and has at most 30 letters, digits, hyphens and underscores");
/** An address, or a network; both are written as they are in nftables. */
const place = network;
const port = z.union([z.int().min(1).max(65_535).transform(String), z.string().regex(/^\d{1,5}(-\d{1,5})?$/, "a port or a range, such as 443 or 8000-8100")], "a port or a range, such as 443 or 8000-8100").refine((text) => {
  const [from = 0, to = from] = text.split("-").map(Number);
  return from >= 1 && to <= 65_535 && from <= to;
}, "ports go from 1 to 65535, the lower one first");
const interfacePattern = z.string().regex(/^[A-Za-z0-9_.@-]{1,15}\*?$/, "an interface's name, or the beginning of names with * after it, such as eth0 or lxdbr*");
const source = z
  .string()
  .max(64)
  .transform((text, check) => {
    if (NAME.test(text)) return text;
    const read = place.safeParse(text);
    if (read.success) return read.data;
    check.addIssue({ code: "custom", message: read.error.issues[0]?.message ?? `${text} is neither the name of a set, nor an address or a network` });
    return text;
  });
const sources = z.union([z.enum(["any", "nodes", "none"]).transform((word): string[] => [word]), z.array(source).min(1).max(LIST_MAX)], "any, nodes, none, or a list of sets and addresses");

const rule = z
  .strictObject({
    action: z.enum(["accept", "drop", "reject"]).default("accept").describe("What is done: let it in, drop it without a word, or say no"),
    chain: z.enum(["input", "forward"]).default("input").describe("What arrives at this node itself, or what only passes through it"),
    protocol: z.enum(["any", "tcp", "udp", "tcp+udp", "sctp", "icmp", "esp", "ah", "gre"]).default("any").describe("The protocol"),
    ports: z.array(port).min(1).max(LIST_MAX).optional().describe("Destination ports and ranges, such as [443, 8000-8100]; needs protocol tcp, udp, tcp+udp or sctp"),
    from: z.array(source).min(1).max(LIST_MAX).optional().describe("Where it comes from: names of sets, addresses, networks, or `nodes`; without it, anywhere"),
    to: z.array(source).min(1).max(LIST_MAX).optional().describe("Where it goes to, in the same way"),
    interface: interfacePattern.optional().describe("The interface that it comes in by"),
    order: z.int().min(0).max(999).default(500).describe("Lower goes first; the first rule that matches decides"),
    log: z.boolean().default(false).describe("Write it to the kernel's log, no more often than `log.perMinute`"),
    comment: z.string().max(100).regex(/^[^"\\\p{Cc}]*$/u, "a comment has no quotes, backslashes or line breaks").optional().describe("For people, shown by `nft list`"),
  })
  .superRefine((written, check) => {
    if (written.ports !== undefined && !["tcp", "udp", "tcp+udp", "sctp"].includes(written.protocol)) check.addIssue({ code: "custom", path: ["ports"], message: "ports need `protocol: tcp`, udp, tcp+udp or sctp" });
  });

const set = z.union([
  z.array(place).max(LIST_MAX).transform((addresses) => ({ addresses, nodes: [] as true | string[] })),
  z.strictObject({
    addresses: z.array(place).max(LIST_MAX).default([]).describe("Addresses and networks"),
    nodes: z.union([z.literal(true), z.array(z.string().min(1).max(63)).max(64)]).default([]).describe("Nodes of the repository: `true` for all, or their names"),
  }),
]);

const masquerade = z.strictObject({
  from: network.describe("The network whose addresses others do not know"),
  interface: interfacePattern.describe("The interface that it goes out by, with this node's address there"),
});

/** What follows from the other nodes; filled in by `resolve`. */
export interface KnownAddresses {
  readonly nodes: readonly string[];
  /** Of each set with `nodes`, the addresses of those. */
  readonly sets: Readonly<Record<string, readonly string[]>>;
}

export const firewallSchema = z
  .strictObject({
    policy: z.enum(["drop", "accept"]).optional().describe("What becomes of packets to this node that nothing lets in: `drop` for a firewall that only lets in what is named. Without it there is no firewall"),
    forward: z.enum(["accept", "drop"]).default("accept").describe("What becomes of packets that only pass through; containers and pods are routed through their node"),
    addresses: z.array(ipAddress).max(32).default([]).describe("Further addresses that the other nodes see this one come from, beside its `address`"),
    allow: z
      .partialRecord(z.enum(SERVICE_NAMES as [ServiceName, ...ServiceName[]]), sources)
      .default({})
      .describe("Who may use what runs on this node: any, nodes, none, or a list of sets and addresses. Without a word here, ssh, ping, hub and wireguard are open to any, what the cluster itself speaks (vrrp, bgp, bfd, ospf, vxlan, lxd, ovn, kubernetes, etcd, ceph, glusterfs, corosync) to nodes, and the rest to none"),
    sshPorts: z.array(port).min(1).max(16).default(["22"]).describe("The ports that sshd listens on"),
    hubPorts: z.array(port).min(1).max(16).default(["7443", "8883"]).describe("The ports that the hub listens on, and a load balancer before it"),
    trust: z.array(interfacePattern).max(64).default([]).describe("Interfaces from which everything is let in, such as a cable between nodes; * stands for any ending"),
    sets: z.record(name, set).default({}).describe("Addresses by a name of yours, for `allow` and `rules`"),
    rules: z
      .record(name, rule)
      .refine((rules) => Object.keys(rules).length <= RULES_MAX, `at most ${RULES_MAX}`)
      .default({})
      .describe("Rules by a name of yours; they come before `allow`, and after what keeps the node reachable for the hub"),
    masquerade: z.record(name, masquerade).default({}).describe("Networks that go out with this node's address (source NAT)"),
    log: z
      .strictObject({
        dropped: z.boolean().default(true).describe("Write what is dropped to the kernel's log"),
        perMinute: z.int().min(1).max(10_000).default(10).describe("At most so many lines a minute, for each rule that logs"),
      })
      .prefault({})
      .describe("What the kernel's log hears of it"),
    raw: content.optional().describe("For experts: further sets and chains, as they stand within `table inet evenkeel { … }`; checked before it goes live"),
  })
  .superRefine((written, check) => {
    const refuse = (path: readonly (string | number)[], message: string) => check.addIssue({ code: "custom", path: [...path], message });
    const knows = (path: readonly (string | number)[], list: readonly string[], only = false): void => {
      for (const [at, each] of list.entries()) {
        if (parsePrefix(each) !== null) continue;
        if (RESERVED.includes(each) && (each === "nodes" || only || list.length === 1) && (each !== "none" || only)) continue;
        if (RESERVED.includes(each)) refuse([...path, at], `${each} stands alone, not in a list`);
        else if (written.sets[each] === undefined) refuse([...path, at], `there is no set ${each}: the sets are ${Object.keys(written.sets).join(", ") || "none"}`);
      }
    };
    for (const [word, list] of Object.entries(written.allow)) if (list !== undefined) knows(["allow", word], list, list.length === 1);
    if (written.allow.hub?.[0] === "none") refuse(["allow", "hub"], "the hub is never shut out: name who may reach it, such as `nodes`");
    for (const [as, { from, to }] of Object.entries(written.rules)) {
      knows(["rules", as, "from"], from ?? []);
      knows(["rules", as, "to"], to ?? []);
    }
    for (const as of Object.keys(written.sets)) if (RESERVED.includes(as)) refuse(["sets", as], `${as} has a meaning of its own: take another name`);
    const used = [...Object.keys(written.rules), ...Object.keys(written.sets), ...Object.keys(written.allow), ...Object.keys(written.masquerade), ...written.trust];
    if (written.policy === undefined && (used.length > 0 || written.raw !== undefined)) refuse([], "there are rules, but no `policy`: write `policy: drop` to let in only what is named, or `policy: accept`");
  })
  .transform((written) => ({ ...written, known: null as KnownAddresses | null }))
  .describe("The node's firewall: what is let in, from where");

export type FirewallWant = z.output<typeof firewallSchema>;
export type Rule = FirewallWant["rules"][string];

/** Fills in the addresses of the nodes, so that nobody has to type them, and says which are not known. */
export function resolveFirewall(want: FirewallWant, around: Around<FirewallWant>): Resolved<FirewallWant> {
  const misfits: Misfit[] = [];
  if (want.policy === undefined) return { want, misfits };
  const addressesOf = (peer: Around<FirewallWant>["nodes"][number]): readonly string[] => {
    const own = parseIp(peer.address ?? "")?.address;
    return [...(own === undefined ? [] : [own]), ...((peer.name === around.self ? want : peer.section)?.addresses ?? [])];
  };
  for (const peer of around.nodes) {
    if (addressesOf(peer).length > 0) continue;
    misfits.push({
      path: ["policy"],
      message: `${peer.address === undefined ? `${peer.name} has no address` : `the address of ${peer.name}, ${peer.address}, is a name`}, so the firewall would not let it in as a node`,
      help: `write \`address: IP\` in nodes/${peer.name}.yaml, or \`firewall: {addresses: [IP]}\` there`,
    });
  }
  const sets: Record<string, readonly string[]> = {};
  for (const [as, { nodes }] of Object.entries(want.sets)) {
    const chosen = nodes === true ? around.nodes : around.nodes.filter((peer) => nodes.includes(peer.name));
    sets[as] = chosen.flatMap(addressesOf);
    if (nodes === true) continue;
    for (const [at, each] of nodes.entries()) if (around.nodes.every((peer) => peer.name !== each)) misfits.push({ path: ["sets", as, "nodes", at], message: `there is no node ${each}`, help: `the nodes are ${around.nodes.map((peer) => peer.name).join(", ")}` });
  }
  return { want: { ...want, known: { nodes: [...new Set(around.nodes.flatMap(addressesOf))], sets } }, misfits };
}

/** Without what another one of the list holds already: a set of intervals takes no overlaps, also where nft could merge them. */
export function withoutOverlaps(places: readonly string[]): readonly string[] {
  const parsed = [...new Set(places)].flatMap((text) => {
    const prefix = parsePrefix(text);
    return prefix === null ? [] : [{ text, prefix }];
  });
  return parsed
    .filter(({ text, prefix }) => !parsed.some((other) => other.text !== text && (other.prefix.length < prefix.length || (other.prefix.length === prefix.length && other.text < text)) && holds(other.prefix, prefix)))
    .map(({ text }) => text);
}
