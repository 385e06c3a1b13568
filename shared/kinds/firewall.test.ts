import { describe, expect, test } from "vitest";
import type { Around } from "./kind.ts";
import { rawFault, rulesText } from "./firewall-rules.ts";
import { firewallSchema, resolveFirewall, withoutOverlaps } from "./firewall-section.ts";
import type { FirewallWant } from "./firewall-section.ts";

function refusal(section: unknown): string {
  const result = firewallSchema.safeParse(section);
  return result.success ? "accepted" : JSON.stringify(result.error.issues);
}

/** The rules of n1 in a cluster of two. */
function rules(section: unknown): string {
  const want = firewallSchema.parse(section);
  const around: Around<FirewallWant> = { cluster: "c", self: "n1", nodes: [{ name: "n1", address: "10.0.0.11", section: want }, { name: "n2", address: "fd00::12", section: null }] };
  return rulesText(resolveFirewall(want, around).want);
}

test.each([
  [{}, "accepted"],
  [{ rules: { a: {} } }, "no `policy`"],
  [{ policy: "drop", allow: { hub: "none" } }, "never shut out"],
  [{ policy: "drop", allow: { hub: "nodes" } }, "accepted"],
  [{ policy: "drop", allow: { ssh: ["admin"] } }, "there is no set admin"],
  [{ policy: "drop", allow: { ssh: ["nodes", "10.0.0.0/8"] } }, "accepted"],
  [{ policy: "drop", allow: { ssh: ["any", "10.0.0.0/8"] } }, "stands alone"],
  [{ policy: "drop", allow: { gopher: "any" } }, "gopher"],
  [{ policy: "drop", allow: { ssh: ["10.0.0.1/8"] } }, "the network is 10.0.0.0/8"],
  [{ policy: "drop", rules: { a: { ports: [80] } } }, "ports need"],
  [{ policy: "drop", rules: { a: { protocol: "tcp", ports: ["90-80"] } } }, "the lower one first"],
  [{ policy: "drop", rules: { a: { protocol: "tcp", ports: [70_000] } } }, "65535"],
  [{ policy: "drop", rules: { a: { comment: 'x" accept' } } }, "no quotes"],
  [{ policy: "drop", rules: { a: { interface: 'eth0" accept' } } }, "interface"],
  [{ policy: "drop", sets: { nodes: [] } }, "a meaning of its own"],
  [{ policy: "drop", sets: { "a b": [] } }, "begins with a letter"],
])("%j: %s", (section, part) => {
  expect(refusal(section)).toContain(part);
});

describe("nobody locks himself out", () => {
  test("what keeps the node reachable comes before the owner's rules", () => {
    const text = rules({ policy: "drop", rules: { nobody: { action: "drop", order: 0 } } });
    const at = (part: string) => text.indexOf(part);
    for (const part of ['iifname "lo" accept', "ct state established,related accept", "nd-neighbor-solicit", 'tcp dport { 7443, 8883 } accept comment "hub"']) {
      expect(at(part), part).toBeGreaterThan(0);
      expect(at(part), part).toBeLessThan(at('drop comment "nobody"'));
    }
    expect(at('comment "ssh"')).toBeGreaterThan(at('drop comment "nobody"'));
  });

  test("the cluster's own protocols are open to its nodes without a word, and shut by one", () => {
    const text = rules({ policy: "drop" });
    expect(text).toContain('ip saddr @nodes_4 meta l4proto vrrp accept comment "vrrp"');
    expect(text).toContain('ip6 saddr @nodes_6 tcp dport { 2379-2380, 12379 } accept comment "etcd"');
    expect(text).toContain("elements = { 10.0.0.11 }");
    expect(text).toContain("elements = { fd00::12 }");
    expect(rules({ policy: "drop", allow: { vrrp: "none" } })).not.toContain("vrrp");
  });

  test("a node whose address is not known would be shut out: that is said", () => {
    const want = firewallSchema.parse({ policy: "drop", sets: { some: { nodes: ["n9"] } } });
    const { misfits } = resolveFirewall(want, { cluster: "c", self: "n1", nodes: [{ name: "n1", address: "10.0.0.11", section: want }, { name: "n2", address: "n2.example.org", section: null }] });
    expect(misfits.map(({ message }) => message)).toEqual(["the address of n2, n2.example.org, is a name, so the firewall would not let it in as a node", "there is no node n9"]);
    const other = firewallSchema.parse({ addresses: ["10.0.0.12"] });
    expect(resolveFirewall(firewallSchema.parse({ policy: "drop" }), { cluster: "c", self: "n1", nodes: [{ name: "n1", address: "10.0.0.11", section: want }, { name: "n2", section: other }] })).toMatchObject({ misfits: [], want: { known: { nodes: ["10.0.0.11", "10.0.0.12"] } } });
  });
});

test("a rule is written for each family that its addresses are of, and never for both at once", () => {
  const text = rules({ policy: "drop", sets: { a: ["10.1.0.0/16", "fd01::/64"], b: ["10.2.0.0/16"] }, rules: { r: { from: ["a"], to: ["b", "fd02::/64"], protocol: "icmp" } } });
  expect(text.match(/.*comment "r"/g)?.map((line) => line.trim())).toEqual([
    'ip saddr @a_4 ip daddr @b_4 meta l4proto { icmp, ipv6-icmp } accept comment "r"',
    'ip6 saddr @a_6 ip6 daddr { fd02::/64 } meta l4proto { icmp, ipv6-icmp } accept comment "r"',
  ]);
});

test("what a network of the same set holds already is left out", () => {
  expect(withoutOverlaps(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "192.168.0.1", "192.168.0.1/32", "fd00::/8", "fd00::1"])).toEqual(["10.0.0.0/8", "192.168.0.1", "fd00::/8"]);
});

test.each([
  ["chain a { }", null],
  ['chain a { } # }\nset b { comment "}" }', null],
  ["chain a { } }", "a } too many"],
  ["chain a {", "is not closed"],
  ['} flush ruleset; table inet x {', "a } too many"],
  ['include "/etc/shadow"', "a command"],
  ["chain a { type filter hook input priority 0; flush ruleset }", "a command"],
])("raw %j: %s", (text, fault) => {
  if (fault === null) expect(rawFault(text)).toBeNull();
  else expect(rawFault(text)).toContain(fault);
});
