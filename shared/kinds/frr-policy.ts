import * as z from "zod";
import { ipAddress, isNetwork, networkOf, parsePrefix, writePrefix } from "./keepalived-address.ts";
import type { Family } from "./keepalived-address.ts";

/** What routing policy is made of: lists that match, and route-maps that decide. Each is one line in the section and one in FRR. */

const LISTS_MAX = 100;
const ENTRIES_MAX = 1_000;

export const listName = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, "a name has letters, digits, hyphens and underscores, and begins with a letter, like OUT");
const lists = <T extends z.ZodType>(of: T) => z.record(listName, of).refine((entries) => Object.keys(entries).length <= LISTS_MAX, `at most ${LISTS_MAX}`).default({});

export interface PrefixRule {
  readonly family: Family;
  /** As FRR prints it after the number: `permit 10.0.0.0/8 le 24`. */
  readonly text: string;
}

/** `permit 10.1.0.0/16 ge 20 le 24`, in the one way in which FRR prints it. */
const prefixRule = z
  .string()
  .max(120)
  .transform((text, check): PrefixRule => {
    const refuse = (message: string): PrefixRule => {
      check.addIssue({ code: "custom", message });
      return { family: 4, text };
    };
    const found = /^(permit|deny)\s+(\S+)(?:\s+ge\s+(\d{1,3}))?(?:\s+le\s+(\d{1,3}))?$/.exec(text.trim());
    if (found === null) return refuse(`write it like "permit 10.1.0.0/16 le 24", or "deny 0.0.0.0/0 le 32"`);
    const [, action, network, ge, le] = found;
    const prefix = parsePrefix(network ?? "");
    if (prefix === null || !(network ?? "").includes("/")) return refuse(`${network} is no network, such as 10.1.0.0/16 or fd00::/48`);
    if (!isNetwork(prefix)) return refuse(`${network} is an address within a network: the network is ${writePrefix(networkOf(prefix))}`);
    const bits = prefix.family === 4 ? 32 : 128;
    const [from, to] = [ge === undefined ? null : Number(ge), le === undefined ? null : Number(le)];
    if ((from ?? bits) > bits || (to ?? bits) > bits || (from !== null && from < prefix.length) || (to !== null && to < (from ?? prefix.length))) return refuse(`the lengths have to grow: ${prefix.length} <= ge <= le <= ${bits}`);
    // lib/plist.c: every prefix of a family is "any"; ge that is the prefix's own length, or le that says nothing new, is left out.
    if (prefix.length === 0 && (from ?? 0) === 0 && to === bits) return { family: prefix.family, text: `${action} any` };
    return { family: prefix.family, text: `${action} ${writePrefix(prefix)}${from === null ? "" : ` ge ${from}`}${to === null ? "" : ` le ${to}`}` };
  });

const prefixList = z
  .array(prefixRule)
  .min(1)
  .max(ENTRIES_MAX)
  .refine((rules) => new Set(rules.map(({ family }) => family)).size === 1, "a list is for IPv4 or for IPv6: make two");

const COMMUNITY = String.raw`(?:\d{1,5}:\d{1,5}|internet|local-AS|no-advertise|no-export|no-peer|blackhole|graceful-shutdown|accept-own|llgr-stale|no-llgr)`;
const community = z.string().regex(new RegExp(`^${COMMUNITY}$`), "a community is two numbers like 65001:100, or a name like no-export");
const largeCommunity = z.string().regex(/^\d{1,10}:\d{1,10}:\d{1,10}$/, "a large community is three numbers, like 65001:1:2");
const communityRule = z.string().regex(new RegExp(`^(permit|deny) ${COMMUNITY}( ${COMMUNITY})*$`), 'write it like "permit 65001:100", with one space between');
const largeRule = z.string().regex(/^(permit|deny) \d{1,10}:\d{1,10}:\d{1,10}( \d{1,10}:\d{1,10}:\d{1,10})*$/, 'write it like "permit 65001:1:2"');
const asPathRule = z.string().regex(/^(permit|deny) [0-9A-Za-z_^$.*+?()[\]|\\-]{1,100}$/, 'write it like "permit ^65001_"');

const asn = z.int().min(1).max(4_294_967_294);
const u32 = z.int().min(0).max(4_294_967_295);

const match = z
  .strictObject({
    prefixList: listName.optional().describe("The route's prefix is permitted by this prefix-list"),
    nextHopPrefixList: listName.optional().describe("Its next hop is permitted by this prefix-list"),
    community: listName.optional().describe("It has a community that this community-list permits"),
    largeCommunity: listName.optional().describe("It has a large community that this list permits"),
    asPath: listName.optional().describe("Its AS path is permitted by this AS-path list"),
    interface: z.string().regex(/^[A-Za-z0-9_.@-]{1,15}$/).optional().describe("It leaves by this interface"),
    metric: u32.optional().describe("Its metric (MED) is this"),
    tag: z.int().min(1).max(4_294_967_295).optional().describe("Its tag is this"),
    protocol: z.enum(["bgp", "connected", "kernel", "ospf", "ospf6", "rip", "static"]).optional().describe("It comes from this protocol"),
  })
  .default({})
  .describe("All of these must be so; without any, every route matches");

const set = z
  .strictObject({
    localPreference: u32.optional().describe("How much this way is preferred within the AS; higher wins"),
    metric: u32.optional().describe("Its metric (MED); lower wins"),
    weight: u32.optional().describe("Its weight, on this router only; higher wins"),
    tag: z.int().min(1).max(4_294_967_295).optional().describe("Its tag"),
    origin: z.enum(["igp", "egp", "incomplete"]).optional().describe("Its origin"),
    nextHop: ipAddress.optional().describe("Its next hop"),
    source: ipAddress.optional().describe("The source address of what this machine sends by the route"),
    asPathPrepend: z.array(asn).min(1).max(20).optional().describe("Numbers put in front of its AS path, which makes it longer and less preferred"),
    communities: z.array(community).min(1).max(32).optional().describe("Its communities, in place of those that it has"),
    addCommunities: z.array(community).min(1).max(32).optional().describe("Communities that it gets besides those that it has"),
    largeCommunities: z.array(largeCommunity).min(1).max(32).optional().describe("Its large communities, in place of those that it has"),
    addLargeCommunities: z.array(largeCommunity).min(1).max(32).optional().describe("Large communities that it gets besides those that it has"),
  })
  .refine((written) => written.communities === undefined || written.addCommunities === undefined, { path: ["addCommunities"], message: "communities or addCommunities, not both" })
  .refine((written) => written.largeCommunities === undefined || written.addLargeCommunities === undefined, { path: ["addLargeCommunities"], message: "largeCommunities or addLargeCommunities, not both" })
  .default({})
  .describe("What a permitted route gets");

const routeMapEntry = z.strictObject({
  action: z.enum(["permit", "deny"]).default("permit").describe("What becomes of a route that matches; one that matches no entry is denied"),
  match,
  set,
  call: listName.optional().describe("Another route-map that must permit it as well"),
  continue: z.boolean().default(false).describe("Go on to the next entry, instead of ending here"),
});

export const policyFields = {
  prefixLists: lists(prefixList).describe('Lists of networks by name, such as ["permit 10.1.0.0/16 le 24"]; the first that matches decides, and the end denies'),
  communityLists: lists(z.array(communityRule).min(1).max(ENTRIES_MAX)).describe('Lists of communities by name, such as ["permit 65001:100"]'),
  largeCommunityLists: lists(z.array(largeRule).min(1).max(ENTRIES_MAX)).describe('Lists of large communities by name, such as ["permit 65001:1:2"]'),
  asPathLists: lists(z.array(asPathRule).min(1).max(ENTRIES_MAX)).describe('Lists of regular expressions on AS paths by name, such as ["permit ^65001_"]'),
  routeMaps: lists(z.array(routeMapEntry).min(1).max(ENTRIES_MAX)).describe("Route-maps by name: entries in order, the first that matches decides"),
};

const policySchema = z.strictObject(policyFields);
export type Policy = z.output<typeof policySchema>;
type RouteMapEntry = Policy["routeMaps"][string][number];

/** Names that a route-map refers to and that are not there, with their places. */
export function missingNames(policy: Policy): readonly { readonly path: readonly (string | number)[]; readonly message: string }[] {
  return Object.entries(policy.routeMaps).flatMap(([name, entries]) =>
    entries.flatMap(({ match: { prefixList: prefixes, nextHopPrefixList, community: communities, largeCommunity: large, asPath }, call }, at) =>
      [
        [["match", "prefixList"], prefixes, policy.prefixLists, "prefixLists"] as const,
        [["match", "nextHopPrefixList"], nextHopPrefixList, policy.prefixLists, "prefixLists"] as const,
        [["match", "community"], communities, policy.communityLists, "communityLists"] as const,
        [["match", "largeCommunity"], large, policy.largeCommunityLists, "largeCommunityLists"] as const,
        [["match", "asPath"], asPath, policy.asPathLists, "asPathLists"] as const,
        [["call"], call, policy.routeMaps, "routeMaps"] as const,
      ].flatMap(([path, wanted, among, where]) => (wanted === undefined || Object.hasOwn(among, wanted) ? [] : [{ path: ["routeMaps", name, at, ...path], message: `there is no ${wanted} under ${where}` }])),
    ),
  );
}

export function policyLines(policy: Policy): string[] {
  const numbered = (names: Readonly<Record<string, readonly string[]>>, word: string): string[] => sorted(names).flatMap(([name, rules]) => rules.map((rule, at) => `${word} ${name} seq ${(at + 1) * 5} ${rule}`));
  return [
    ...sorted(policy.prefixLists).flatMap(([name, rules]) => rules.map((rule, at) => `${rule.family === 4 ? "ip" : "ipv6"} prefix-list ${name} seq ${(at + 1) * 5} ${rule.text}`)),
    ...numbered(policy.asPathLists, "bgp as-path access-list"),
    ...numbered(policy.communityLists, "bgp community-list standard"),
    ...numbered(policy.largeCommunityLists, "bgp large-community-list standard"),
    ...sorted(policy.routeMaps).flatMap(([name, entries]) => entries.flatMap((entry, at) => [`route-map ${name} ${entry.action} ${(at + 1) * 10}`, ...entryLines(entry, policy).map((line) => ` ${line}`), "exit"])),
  ];
}

function entryLines({ match: matching, set: setting, call, continue: goesOn }: RouteMapEntry, policy: Policy): string[] {
  const word = (list: string): string => ((policy.prefixLists[list]?.[0]?.family ?? 4) === 4 ? "ip" : "ipv6");
  const line = (text: string, value: string | number | undefined): string[] => (value === undefined ? [] : [`${text} ${value}`]);
  const { prefixList: prefixes, nextHopPrefixList: hops, nextHop, source } = { ...matching, ...setting };
  return [
    ...line("match as-path", matching.asPath),
    ...line("match community", matching.community),
    ...line("match interface", matching.interface),
    ...(prefixes === undefined ? [] : [`match ${word(prefixes)} address prefix-list ${prefixes}`]),
    ...(hops === undefined ? [] : [`match ${word(hops)} next-hop prefix-list ${hops}`]),
    ...line("match large-community", matching.largeCommunity),
    ...line("match metric", matching.metric),
    ...line("match source-protocol", matching.protocol),
    ...line("match tag", matching.tag),
    ...line("set as-path prepend", setting.asPathPrepend?.join(" ")),
    ...line("set community", sortedCommunities(setting.communities)?.join(" ")),
    ...(setting.addCommunities === undefined ? [] : [`set community ${sortedCommunities(setting.addCommunities)?.join(" ")} additive`]),
    ...(nextHop === undefined ? [] : [nextHop.includes(":") ? `set ipv6 next-hop global ${nextHop}` : `set ip next-hop ${nextHop}`]),
    ...line("set large-community", setting.largeCommunities?.join(" ")),
    ...(setting.addLargeCommunities === undefined ? [] : [`set large-community ${setting.addLargeCommunities.join(" ")} additive`]),
    ...line("set local-preference", setting.localPreference),
    ...line("set metric", setting.metric),
    ...line("set origin", setting.origin),
    ...line("set src", source),
    ...line("set tag", setting.tag),
    ...line("set weight", setting.weight),
    ...line("call", call),
    ...(goesOn ? ["on-match next"] : []),
  ];
}

/** bgpd keeps communities as sorted numbers (bgp_community.c, community_uniq_sort); names are high numbers. */
const NAMED: Readonly<Record<string, number>> = { internet: 0, "graceful-shutdown": 0xffff0000, "accept-own": 0xffff0001, "llgr-stale": 0xffff0006, "no-llgr": 0xffff0007, blackhole: 0xffff029a, "no-export": 0xffffff01, "no-advertise": 0xffffff02, "local-AS": 0xffffff03, "no-peer": 0xffffff04 };
function sortedCommunities(names: readonly string[] | undefined): readonly string[] | undefined {
  const value = (name: string): number => {
    const [high = "0", low = "0"] = name.split(":");
    return NAMED[name] ?? Number(high) * 65_536 + Number(low);
  };
  return names === undefined ? undefined : [...new Set(names)].toSorted((one, other) => value(one) - value(other));
}

export function sorted<T>(entries: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(entries).toSorted(([one], [other]) => (one < other ? -1 : 1));
}

/** Of the section's prefixes, those of a family. */
export function ofFamily(prefixes: readonly string[], family: Family): readonly string[] {
  return prefixes.filter((each) => parsePrefix(each)?.family === family);
}

