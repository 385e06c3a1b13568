import { describe, expect, test } from "vitest";
import { holds, isNetwork, networkOf, parseIp, parsePrefix, writePrefix } from "./keepalived-address.ts";
import { renderConf } from "./keepalived-conf.ts";
import { drainSteps, gateReasons } from "./keepalived-drain.ts";
import type { GateFacts } from "./keepalived-drain.ts";
import { keepalivedSchema } from "./keepalived-section.ts";
import type { KeepalivedWant } from "./keepalived-section.ts";
import { keepalived } from "./keepalived.ts";
import { reasonText } from "./kind.ts";
import type { Peer, Reason } from "./kind.ts";

const web = { routerId: 51, interface: "eth0", addresses: ["10.0.0.100/24"] };

function refusal(section: unknown): string {
  const result = keepalivedSchema.safeParse(section);
  return result.success ? "accepted" : JSON.stringify(result.error.issues);
}
const peer = (name: string, instances: object, address = `10.0.0.${name.slice(1)}`): Peer<KeepalivedWant> => ({ name, address, section: keepalivedSchema.parse({ instances }) });
function resolve(nodes: readonly Peer<KeepalivedWant>[], self = "n1") {
  const want = nodes.find(({ name }) => name === self)!.section!;
  const { want: resolved, misfits } = keepalived.resolve!(want, { cluster: "c", self, nodes });
  return { want: resolved, place: resolved.instances["web"]?.place, told: misfits.map(({ path, message }) => `${path.join(".")}: ${message}`), misfits };
}

describe("addresses", () => {
  test("have one form", () => {
    expect(parseIp("FD00:0:0::0001")).toEqual({ address: "fd00::1", family: 6 });
    expect([parseIp("10.0.0.256"), parseIp("fd00::1::"), parseIp("web.example"), parsePrefix("10.0.0.1/33"), parsePrefix("10.0.0.1/024")]).toEqual([null, null, null, null, null]);
    expect(writePrefix(networkOf(parsePrefix("fd12:3456::ffff/36")!))).toBe("fd12:3456::/36");
    expect(writePrefix(networkOf(parsePrefix("10.77.9.255/21")!))).toBe("10.77.8.0/21");
    expect([isNetwork(parsePrefix("0.0.0.0/0")!), isNetwork(parsePrefix("10.0.0.1/24")!)]).toEqual([true, false]);
    expect([holds(parsePrefix("10.0.0.0/24")!, parseIp("10.0.0.9")!), holds(parsePrefix("10.0.0.0/24")!, parseIp("fd00::9")!)]).toEqual([true, false]);
  });
});

describe("the section", () => {
  test.each([
    [{ instances: { web: { ...web, routerId: 256 } } }, "routerId"],
    [{ instances: { web: { ...web, interface: "a-name-that-is-too-long" } } }, "15 letters"],
    [{ instances: { web: { ...web, addresses: ["10.0.0.100/24", "10.0.0.100"] } } }, "stands in the list once"],
    [{ instances: { web: { ...web, addresses: ["web.example"] } } }, "no address with the length"],
    [{ instances: { web: { ...web, version: 2, advertSeconds: 0.5 } } }, "whole seconds"],
    [{ instances: { web: { ...web, version: 2, addresses: ["fd00::1/64"] } } }, "IPv6 needs version 3"],
    [{ instances: { web: { ...web, password: "secret" } } }, "version 3 knows no password"],
    [{ instances: { web: { ...web, version: 2, password: "123456789" } } }, "at most 8"],
    [{ instances: { web: { ...web, preemptDelaySeconds: 5 } } }, "preempt: true"],
    [{ instances: { web: { ...web, trackInterfaces: { eth0: -10 } } } }, "watched anyhow"],
    [{ instances: { web: { ...web, trackScripts: ["nosuch"] } } }, "there is no script nosuch"],
    [{ instances: { web: { ...web, notify: { master: ["logger"] } } } }, "full path"],
    [{ instances: { web: { ...web, notify: { master: ["/bin/sh", "-c", "echo \"x\""] } } } }, "script under files:"],
    [{ instances: { web }, syncGroups: { all: ["web", "db"] } }, "there is no instance db"],
    [{ instances: { web: { ...web, trackScripts: ["a"] }, db: { ...web, routerId: 52 } }, scripts: { a: { command: ["/bin/true"], weight: -5 } }, syncGroups: { all: ["web", "db"] } }, "wants weight 0"],
  ])("refuses %j", (section, part) => {
    expect(refusal(section)).toContain(part);
  });
});

describe("among the nodes", () => {
  test("the place in the list gives the priority, and the repository the peers", () => {
    const nodes = ["n1", "n2", "n3"].map((name) => peer(name, { web: { ...web, nodes: ["n3", "n1", "n2"] } }));
    expect(resolve(nodes)).toMatchObject({ place: { node: "n1", priority: 190, source: "10.0.0.1", peers: ["10.0.0.3", "10.0.0.2"] }, told: [] });
    expect(resolve(nodes, "n3").place).toMatchObject({ priority: 200 });
    expect(resolve([peer("n1", { web }), peer("n2", {}), peer("n3", { web })]).place).toMatchObject({ priority: 200, peers: ["10.0.0.3"] });
  });

  test("what was resolved is resolved again to the same", () => {
    const nodes = ["n1", "n2"].map((name) => peer(name, { web }));
    const { want } = resolve(nodes);
    expect(keepalived.resolve!(want, { cluster: "c", self: "n1", nodes })).toEqual({ want, misfits: [] });
  });

  test("a node's own source address is what its peers speak to", () => {
    const nodes = [peer("n1", { web }), peer("n2", { web: { ...web, source: "10.0.0.222" } }), peer("n3", { web }, "n3.example")];
    expect(resolve(nodes).place?.peers).toEqual(["10.0.0.222"]);
    expect(resolve(nodes, "n3").told).toEqual(["instances.web: it is not known from which address n3 speaks VRRP: its address is a name"]);
  });

  test.each<[string, readonly Peer<KeepalivedWant>[], string]>([
    ["another instance with the number", [peer("n1", { web }), peer("n2", { db: { ...web, addresses: ["10.0.0.101"] } })], "instances.web.routerId: 51 is the number of db on n2 as well: the two would take each other for one"],
    ["another number for the instance", [peer("n1", { web }), peer("n2", { web: { ...web, routerId: 52 } })], "instances.web.routerId: routerId is 51 here, and 52 on n2"],
    ["another address for the instance", [peer("n1", { web }), peer("n2", { web: { ...web, addresses: ["10.0.0.101/24"] } })], "instances.web.addresses: addresses is 10.0.0.100/24 here, and 10.0.0.101/24 on n2"],
    ["an address of two instances", [peer("n1", { web }), peer("n2", { db: { ...web, routerId: 52 } })], "instances.web.addresses.0: 10.0.0.100 is an address of db on n2 as well"],
    ["an address of a node", [peer("n1", { web: { ...web, addresses: ["10.0.0.2/24"] } }), peer("n2", {})], "instances.web.addresses.0: 10.0.0.2 is n2's own address"],
    ["a node that is not in the list", [peer("n1", { web: { ...web, nodes: ["n2"] } }), peer("n2", { web: { ...web, nodes: ["n2"] } })], "instances.web.nodes: n1 has the instance web, and is not in its list of nodes"],
    ["a node that does not have it", [peer("n1", { web: { ...web, nodes: ["n1", "n2"] } }), peer("n2", {})], "instances.web.nodes.1: n2 does not have the instance web"],
    ["a node that does not exist", [peer("n1", { web: { ...web, nodes: ["n1", "n9"] } })], "instances.web.nodes.1: there is no node n9"],
    ["no address of its family", [peer("n1", { web: { ...web, addresses: ["fd00::1/64"] } })], "instances.web.addresses: none of the addresses is of the family of 10.0.0.1, from which n1 speaks VRRP"],
  ])("%s does not fit", (_, nodes, message) => {
    expect(resolve(nodes).told).toContain(message);
  });

  test("a clash names a number that is free", () => {
    expect(resolve([peer("n1", { web }), peer("n2", { db: { ...web, addresses: ["10.0.0.101"] } })]).misfits[0]?.help).toBe("each instance has a number of its own; 52 is free");
  });
});

describe("the configuration", () => {
  test("does not change with the order in which things were written", () => {
    const instances = { web, db: { ...web, routerId: 52, addresses: ["10.0.0.101/24"] } };
    const [one, other] = [resolve([peer("n1", instances)]), resolve([peer("n1", Object.fromEntries(Object.entries(instances).toReversed()))])];
    expect(renderConf(one.want)).toBe(renderConf(other.want));
  });

  test("carries addresses of the other family along", () => {
    const text = renderConf(resolve([peer("n1", { web: { ...web, addresses: ["fd00::1/64", "10.0.0.100/24"] } }), peer("n2", { web: { ...web, addresses: ["fd00::1/64", "10.0.0.100/24"] } })]).want);
    expect(text).toContain("virtual_ipaddress {\n    10.0.0.100/24\n  }\n  virtual_ipaddress_excluded {\n    fd00::1/64\n  }");
  });
});

describe("going", () => {
  const { want } = resolve(["n1", "n2", "n3"].map((name) => peer(name, { web })));
  const facts: GateFacts = { states: new Map([["web", "MASTER"]]), error: null, isDrained: false, here: new Set(["10.0.0.100"]), answers: new Set(["10.0.0.2"]), twice: new Set() };
  const CANNOT = "this node cannot hold web: keepalived does not run, has not read it, or is in FAULT since eth0 is down or a tracked script fails (/usr/local/lib/evenkeel/keepalived state; journalctl -u keepalived)";
  const reasons = (change: Partial<GateFacts>): readonly Reason[] => gateReasons(want, { ...facts, ...change });

  test("the holder may when another node is there to take over, and a backup when somebody holds", () => {
    expect(reasons({})).toEqual([]);
    expect(reasons({ states: new Map([["web", "BACKUP"]]), here: new Set(), answers: new Set(["10.0.0.100"]) })).toEqual([]);
    expect(reasons({ states: new Map([["web", "FAULT"]]), isDrained: true, here: new Set(), answers: new Set(["10.0.0.100"]) })).toEqual([]);
  });

  test.each<[string, Partial<GateFacts>, Reason]>([
    ["nobody else is there", { answers: new Set() }, { text: "nobody could take over web: none of its other nodes (10.0.0.2, 10.0.0.3) answers", holds: "itself" }],
    ["nobody holds it", { states: new Map([["web", "BACKUP"]]), here: new Set(), answers: new Set(["10.0.0.3"]) }, "nobody holds 10.0.0.100: it is not on this node, and no other one answers at it"],
    ["it was left behind", { states: new Map([["web", "BACKUP"]]) }, "10.0.0.100 is on this node, although keepalived does not hold it here: there may be two holders"],
    ["another answers as well", { twice: new Set(["10.0.0.100"]) }, "10.0.0.100 is on this node, and another node answers at it as well: there are two holders"],
    ["the address went away under it", { here: new Set(), answers: new Set(["10.0.0.100"]) }, "10.0.0.100 is not on this node, although keepalived holds it here"],
    ["it is in fault", { states: new Map([["web", "FAULT"]]), here: new Set(), answers: new Set(["10.0.0.100"]) }, CANNOT],
    ["it does not run", { states: null, here: new Set(), answers: new Set(["10.0.0.100"]) }, CANNOT],
    ["it runs with something else", { states: new Map(), here: new Set(), answers: new Set(["10.0.0.100"]) }, CANNOT],
    ["it does not answer", { error: "timeout" }, "it is not known what keepalived does on this node: timeout"],
  ])("not when %s", (_, change, reason) => {
    expect(reasons(change)).toEqual([reason]);
  });

  test("what was not there before may be in any trouble after: every reason of then was one before", () => {
    const texts = (change: Partial<GateFacts>): readonly string[] => reasons(change).map(reasonText);
    const before = texts({ states: null, error: "the agent has not converged the section yet", here: new Set(), answers: new Set() });
    for (const state of ["FAULT", "BACKUP", "INIT"] as const) {
      const after = texts({ states: new Map([["web", state]]), here: new Set(), answers: new Set() });
      expect(after.filter((reason) => !before.includes(reason))).toEqual([]);
    }
    expect(texts({ answers: new Set() }).filter((reason) => !before.includes(reason))).toEqual([]);
  });

  test("an instance of this node alone has nobody to hand over to, and holds nothing up", () => {
    const alone = resolve([peer("n1", { web })]).want;
    expect(drainSteps(alone, { hasScript: true, hasNft: true })).toEqual([]);
    expect(gateReasons(alone, { ...facts, states: null, answers: new Set() })).toEqual([]);
  });

  test("without nft it steps down all the same; without the script it says why not", () => {
    expect(drainSteps(want, { hasScript: true, hasNft: false }).map(({ name }) => name)).toEqual(["step-down"]);
    expect(drainSteps(want, { hasScript: false, hasNft: true })).toMatchObject([{ name: "step-down", cannot: expect.stringContaining("has to converge on this node first") }]);
  });
});
