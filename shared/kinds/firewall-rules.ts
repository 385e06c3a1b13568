import { parsePrefix } from "./keepalived-address.ts";
import { withoutOverlaps } from "./firewall-section.ts";
import type { FirewallWant, Rule } from "./firewall-section.ts";
import { SERVICE_NAMES, SERVICES } from "./firewall-services.ts";
import type { Service, ServiceName } from "./firewall-services.ts";

/** The section as one file for nft(8), which puts the table in place as a whole, or not at all. Tables of others are not touched. */

export const TABLE = "inet evenkeel";

/** RFC 4890, 4.4.1: without these, IPv6 does not work; and what tells of packets that are too large. */
const ICMP_NEEDED = [
  "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
  "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect, mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept",
  // Answers of a DHCPv6 server come from its link-local address to a question that went to everybody.
  "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
  // A switch that minds groups asks who wants them; without an answer, VRRP and OSPF stop arriving.
  "meta l4proto igmp accept",
];

export function rulesText(want: FirewallWant): string {
  const sets = setsOf(want);
  const chains = [inputChain(want, sets), forwardChain(want, sets), ...natChain(want)];
  const raw = want.raw === undefined ? "" : `\n\t# raw\n${new TextDecoder().decode(want.raw.bytes).trimEnd()}\n`;
  return [
    "# Kept by evenkeel (section firewall). What is written here by hand is overwritten.",
    "# Made first, so that there is something to delete: all of this file happens at once, or not at all.",
    `table ${TABLE}`,
    `delete table ${TABLE}`,
    "",
    `table ${TABLE} {`,
    ...[...sets].flatMap(([name, places]) => setText(name, places)),
    chains.join("\n\n"),
    `${raw}}`,
    "",
  ].join("\n");
}

type Sets = ReadonlyMap<string, readonly string[]>;

/** `nodes` and those of the section, all places of both families. */
function setsOf(want: FirewallWant): Sets {
  const own = Object.entries(want.sets)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, { addresses }]) => [name, withoutOverlaps([...addresses, ...(want.known?.sets[name] ?? [])])] as const);
  return new Map([["nodes", withoutOverlaps(want.known?.nodes ?? [])], ...own]);
}

function familyOf(place: string): 4 | 6 | null {
  return parsePrefix(place)?.family ?? null;
}

function setText(name: string, places: readonly string[]): string[] {
  return ([4, 6] as const).map((family) => {
    const elements = places.filter((place) => familyOf(place) === family).toSorted();
    const held = elements.length === 0 ? "" : `\n\t\telements = { ${elements.join(", ")} }`;
    return `\tset ${name}_${family} {\n\t\ttype ipv${family}_addr\n\t\tflags interval\n\t\tauto-merge${held}\n\t}\n`;
  });
}

/** What matches any of the sources, one match for each statement that is needed; `[""]` is everybody. */
function addressMatches(list: readonly string[] | undefined, field: "saddr" | "daddr", sets: Sets): readonly { readonly family: 4 | 6 | null; readonly text: string }[] {
  if (list === undefined || list.includes("any")) return [{ family: null, text: "" }];
  return ([4, 6] as const).flatMap((family) => {
    const key = family === 4 ? "ip" : "ip6";
    const named = list.filter((each) => sets.get(each)?.some((place) => familyOf(place) === family) === true);
    const literal = withoutOverlaps(list.filter((each) => familyOf(each) === family)).toSorted();
    return [...named.map((each) => `${key} ${field} @${each}_${family} `), ...(literal.length === 0 ? [] : [`${key} ${field} { ${literal.join(", ")} } `])].map((text) => ({ family, text }));
  });
}

function inputChain(want: FirewallWant, sets: Sets): string {
  const named = SERVICE_NAMES.filter((name) => name !== "hub");
  return chain("input", `type filter hook input priority filter; policy ${want.policy};`, [
    'iifname "lo" accept',
    "ct state established,related accept",
    ...ICMP_NEEDED,
    ...serviceRules("hub", want, sets),
    ...[...want.trust].toSorted().map((pattern) => `iifname "${pattern}" accept`),
    ...userRules("input", want, sets),
    ...named.flatMap((name) => serviceRules(name, want, sets)),
    ...(want.policy === "drop" ? ["ct state invalid drop", ...logDropped(want)] : []),
  ]);
}

/** Broadcasts of the neighbourhood would fill the log with what nobody wants to know. */
function logDropped({ log }: FirewallWant): readonly string[] {
  return log.dropped ? ["meta pkttype { broadcast, multicast } drop", `limit rate ${log.perMinute}/minute burst ${log.perMinute} packets log prefix "evenkeel drop: "`] : [];
}

function forwardChain(want: FirewallWant, sets: Sets): string {
  const guests = SERVICE_NAMES.flatMap((name) => (whoMay(name, want).includes("none") ? [] : ((SERVICES[name] as Service).guests ?? [])));
  return chain("forward", `type filter hook forward priority filter; policy ${want.forward};`, [
    "ct state established,related accept",
    ...userRules("forward", want, sets),
    ...(want.forward === "drop" ? [...guests, ...want.trust].flatMap((pattern) => [`iifname "${pattern}" accept`]) : []),
  ]);
}

function natChain(want: FirewallWant): readonly string[] {
  const entries = Object.entries(want.masquerade).toSorted(([one], [other]) => (one < other ? -1 : 1));
  if (entries.length === 0) return [];
  const rules = entries.map(([name, { from, interface: out }]) => `${familyOf(from) === 6 ? "ip6" : "ip"} saddr ${from} oifname "${out}" masquerade comment "${name}"`);
  return [chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", rules)];
}

function chain(name: string, head: string, rules: readonly string[]): string {
  return `\tchain ${name} {\n${[head, ...rules].map((rule) => `\t\t${rule}\n`).join("")}\t}`;
}

function whoMay(name: ServiceName, want: FirewallWant): readonly string[] {
  return want.allow[name] ?? [SERVICES[name].from];
}

function serviceRules(name: ServiceName, want: FirewallWant, sets: Sets): readonly string[] {
  const who = whoMay(name, want);
  if (who.includes("none")) return [];
  const service: Service = SERVICES[name];
  const ports = name === "ssh" ? want.sshPorts : name === "hub" ? want.hubPorts : null;
  const matches = ports === null ? service.matches : [`tcp dport { ${ports.join(", ")} }`];
  return [
    ...matches.flatMap((match) => addressMatches(who, "saddr", sets).filter(({ family }) => fits(match, family)).map(({ text }) => `${text}${match} accept comment "${name}"`)),
    ...(service.linkLocal ?? []).map((match) => `ip6 saddr fe80::/10 ${match} accept comment "${name}"`),
    ...(service.guests ?? []).map((pattern) => `iifname "${pattern}" accept comment "${name}"`),
  ];
}

/** ICMP is of one family by itself. */
function fits(match: string, family: 4 | 6 | null): boolean {
  return family === null || !(match.startsWith("icmpv6 ") && family === 4) && !(match.startsWith("icmp ") && family === 6);
}

function userRules(of: Rule["chain"], want: FirewallWant, sets: Sets): readonly string[] {
  const entries = Object.entries(want.rules).filter(([, rule]) => rule.chain === of);
  return entries.toSorted(([one, { order: first }], [other, { order: second }]) => first - second || (one < other ? -1 : 1)).flatMap(([name, rule]) => userRule(name, rule, want, sets));
}

function userRule(name: string, rule: Rule, { log }: FirewallWant, sets: Sets): readonly string[] {
  const by = rule.interface === undefined ? "" : `iifname "${rule.interface}" `;
  const what = protocolMatch(rule);
  const comment = ` comment "${rule.comment === undefined ? name : `${name}: ${rule.comment}`}"`;
  const froms = addressMatches(rule.from, "saddr", sets);
  const tos = addressMatches(rule.to, "daddr", sets);
  const matches = froms.flatMap((from) => tos.flatMap((to) => (from.family !== null && to.family !== null && from.family !== to.family ? [] : [`${by}${from.text}${to.text}${what}`])));
  return matches.flatMap((match) => [...(rule.log ? [`${match}limit rate ${log.perMinute}/minute log prefix "evenkeel ${name}: "`] : []), `${match}${rule.action}${comment}`]);
}

/** With a space after it, where there is anything. */
function protocolMatch({ protocol, ports }: Rule): string {
  const held = ports === undefined ? null : `{ ${ports.join(", ")} }`;
  switch (protocol) {
    case "any":
      return "";
    case "tcp+udp":
      return `meta l4proto { tcp, udp } ${held === null ? "" : `th dport ${held} `}`;
    case "icmp":
      return "meta l4proto { icmp, ipv6-icmp } ";
    case "tcp":
    case "udp":
    case "sctp":
      return held === null ? `meta l4proto ${protocol} ` : `${protocol} dport ${held} `;
    case "esp":
    case "ah":
    case "gre":
      return `meta l4proto ${protocol} `;
  }
}

/** Why a raw part is not taken before nft has even seen it, or null: it stays within our table, and reads no other files. */
export function rawFault(text: string): string | null {
  // Quoted texts and comments may hold anything.
  const bare = text.replace(/"[^"\n]*"/g, '""').replace(/#.*$/gm, "");
  let depth = 0;
  for (const sign of bare) {
    depth += sign === "{" ? 1 : sign === "}" ? -1 : 0;
    if (depth < 0) return "it closes the table that it stands in: there is a } too many";
  }
  if (depth > 0) return "a { is not closed";
  return /(^|[\n;])\s*(include|flush|delete|destroy)\b/.test(bare) ? "it holds a command (include, flush, delete): write sets, chains and rules only" : null;
}
