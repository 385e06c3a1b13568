import { describe, expect, test } from "vitest";
import { renderConf } from "./frr-conf.ts";
import { drainSteps } from "./frr-drain.ts";
import { compare, sayDifference } from "./frr-running.ts";
import { frrSchema } from "./frr-section.ts";
import { frr } from "./frr.ts";

const addresses: Readonly<Record<string, string>> = { n1: "10.0.0.1", n2: "10.0.0.2", n3: "10.0.0.3" };

/** What n1 makes of the sections of all, and what does not fit. */
function resolve(sections: Readonly<Record<string, object | null>>, self = "n1") {
  const nodes = Object.entries(sections).map(([name, section]) => ({ name, ...(addresses[name] !== undefined && { address: addresses[name] }), section: section === null ? null : frrSchema.parse(section) }));
  const { want, misfits } = frr.resolve!(nodes.find(({ name }) => name === self)!.section!, { cluster: "c", self, nodes });
  return { want, told: misfits.map(({ path, message }) => `${path.join(".")}: ${message}`) };
}
const bgp = (asn: number, neighbors: object, more: object = {}): object => ({ bgp: { asn, neighbors, ...more } });
const mesh = bgp(65001, { n1: {}, n2: {}, n3: {} });

describe("among the nodes", () => {
  test("a role that names all of them is a mesh: each leaves itself out, and takes the others from the repository", () => {
    const { want, told } = resolve({ n1: mesh, n2: mesh, n3: mesh }, "n2");
    expect(told).toEqual([]);
    expect(want.bgp?.routerId).toBe("10.0.0.2");
    expect(Object.entries(want.bgp?.neighbors ?? {}).map(([name, { peer }]) => [name, peer])).toEqual([["n1", { address: "10.0.0.1", asn: 65001, node: "n1" }], ["n3", { address: "10.0.0.3", asn: 65001, node: "n3" }]]);
    expect(renderConf(want)).not.toContain("neighbor 10.0.0.2");
  });

  const back = bgp(65002, { n1: {} });
  test.each([
    ["a wrong AS", bgp(65001, { n2: { asn: 65009 } }), back, "n2.asn: n2 is AS 65002, not 65009"],
    ["internal to another AS", bgp(65001, { n2: { asn: "internal" } }), back, "n2.asn: n2 is AS 65002, so it is external to AS 65001"],
    ["external within an AS", bgp(65002, { n2: { asn: "external" } }), back, "n2.asn: n2 is AS 65002, so it is internal"],
    ["one side only", bgp(65001, { n2: {} }), bgp(65002, {}), "n2: n2 does not have n1 as a neighbour, so no session comes up"],
    ["a key on one side", bgp(65001, { n2: { password: "k" } }), back, "n2.password: n1 has a password for this session, and n2 has none: no session comes up"],
    ["the key on the other", bgp(65001, { n2: {} }), bgp(65002, { n1: { password: "k" } }), "n2: n2 has a password for this session, and n1 has none: no session comes up"],
    ["a name that is nobody's", bgp(65001, { uplink: { asn: 65100 } }), back, "uplink: uplink is no node, and has no address"],
    ["a node without FRR", bgp(65001, { n2: {} }), null, "n2: the AS of n2 is not known: it has no section frr with bgp"],
    ["a node that is none", bgp(65001, { up: { node: "n9", address: "10.0.0.9", asn: 1 } }), back, "up.node: there is no node n9"],
    ["one address twice", bgp(65001, { n2: {}, two: { address: "10.0.0.2", asn: 65002 } }), back, "two: two is 10.0.0.2, as n2 is"],
    ["the router id of another", bgp(65001, { n2: {} }, { routerId: "10.0.0.2" }), back, "routerId: 10.0.0.2 is the router id of n2 as well"],
  ])("%s is told at validation", (_what, n1, n2, told) => {
    expect(resolve({ n1, n2 }).told.map((line) => line.replace(/^bgp\.(neighbors\.)?/, ""))).toContain(told);
  });

  test("a neighbour without a key is refused where all must have one", () => {
    expect(frrSchema.safeParse(bgp(65001, { up: { address: "10.0.0.9", asn: 65100 } }, { requirePasswords: true })).success).toBe(false);
    expect(frrSchema.safeParse(bgp(65001, { up: { address: "10.0.0.9", asn: 65100, password: "k" } }, { requirePasswords: true })).success).toBe(true);
  });
});

describe("the running configuration against the file", () => {
  const file = "router bgp 65001\n neighbor 10.0.0.2 remote-as 65002\n address-family ipv4 unicast\n  network 10.1.0.0/24\n exit-address-family\nexit\n";
  test("order, silence and what a drain says are no difference", () => {
    const running = "Building configuration...\n\nCurrent configuration:\n!\nfrr version 10.0\n!\nrouter bgp 65001\n bgp graceful-shutdown\n address-family ipv4 unicast\n  network 10.1.0.0/24\n exit-address-family\n neighbor 10.0.0.2 remote-as 65002\nexit\n!\ninterface eth0\nexit\nend\n";
    expect(compare(file, running)).toEqual({ missing: [], extra: [] });
  });
  test("what it says of a difference holds no secret", () => {
    const difference = compare(file, `${file} neighbor 10.0.0.9 password hunter2\n`);
    expect(sayDifference(difference)).toContain("password (secret)");
    expect(sayDifference(difference)).not.toContain("hunter2");
  });
});

test("a drain hands over what runs, and not what comes with the change for whose sake the node is drained", () => {
  const want = frrSchema.parse({ bgp: { asn: 65001, neighbors: { up: { address: "10.0.0.9", asn: 65100 } } }, ospf: { interfaces: { eth0: { area: "0.0.0.0" } } } });
  const done = (...daemons: string[]) => drainSteps(want, { daemons: new Set(daemons) }).flatMap(({ name, already }) => (already === true ? [name] : []));
  expect(done("zebra", "bgpd", "ospfd")).toEqual([]);
  expect(done("zebra", "bgpd")).toEqual(["ospf/last-choice"]);
  expect(done()).toEqual(["bgp/last-choice", "bgp/sessions", "ospf/last-choice", "wait"]);
});
