import { describe, expect, test } from "vitest";
import { gateReasons } from "./network-gate.ts";
import { parseLinks } from "./network-live.ts";
import { leftovers, todoOf } from "./network-load.ts";
import type { NetworkFacts } from "./network-load.ts";
import { SCRIPT } from "./network-script.ts";
import type { At } from "./managed-file.ts";
import { networkSchema } from "./network-section.ts";
import { network } from "./network.ts";

interface Port {
  readonly name: string;
  readonly master?: string;
  readonly carrier?: boolean;
}

/** As `ip -j -d address show` tells it: a bond, a bridge, and what is part of them. */
function facts(ports: readonly Port[], { bondCarrier = true } = {}): NetworkFacts {
  const flags = (carrier: boolean) => ["UP", ...(carrier ? ["LOWER_UP"] : [])];
  const own = [
    { ifname: "bond0", flags: flags(bondCarrier), linkinfo: { info_kind: "bond", info_data: { mode: "active-backup" } } },
    { ifname: "br0", flags: flags(true), linkinfo: { info_kind: "bridge", info_data: { stp_state: 0 } } },
    ...ports.map(({ name, master, carrier = true }) => ({ ifname: name, flags: flags(carrier), ...(master !== undefined && { master }) })),
  ];
  const links = parseLinks(JSON.stringify(own.map((link, at) => ({ ifindex: at + 1, ...link }))))!;
  return { accounts: { users: new Map(), groups: new Map() }, at: new Map(), texts: new Map(), links, routes: [], netif: new Map(), ifupdown: new Map(), obstacles: new Map(), error: null, networkd: { enabled: true, running: true }, resolved: false, netplan: false };
}

const nothing = { devices: new Set<string>(), netdevs: new Set<string>() };
const bond = (...members: string[]) => networkSchema.parse({ bonds: { bond0: { members } } });

describe("a member that leaves", () => {
  test("a bond, does so when the node has its turn, and comes back on the way back", () => {
    const found = facts([{ name: "eth0", master: "bond0" }, { name: "eth1", master: "bond0" }, { name: "eth2" }]);
    const todo = todoOf(bond("eth0", "eth2"), found, nothing, new Map());
    expect(todo).toMatchObject({ disruptive: true, why: ["eth2: is not part of bond0", "eth1: is part of bond0, and should not be"] });
    expect(todo.words).toEqual(["again=eth2", "master=eth2=bond0", "release=eth1=bond0"]);
    expect(todo.undo).toEqual(["release=eth2=bond0", "again=eth2", "again=eth1", "master=eth1=bond0"]);
    expect(todoOf(bond("eth0", "eth1"), facts([{ name: "eth0", master: "bond0" }, { name: "eth1", master: "bond0" }]), nothing, new Map())).toMatchObject({ disruptive: false, words: [] });
  });

  test("a bond, keeps its file until then: the next boot reads it; all of them go with the one that has the network read them", () => {
    const paths = ["eth1", "eth2"].map((name) => `/etc/systemd/network/60-evenkeel-${name}.network`);
    const script = { stat: { type: "file", mode: 0o755, uid: 0, gid: 0, size: 1, mtimeMs: 0 }, same: true } as unknown as At;
    const found = { ...facts(["eth0", "eth1", "eth2"].map((name) => ({ name, master: "bond0" }))), at: new Map([[SCRIPT, script]]), texts: new Map(paths.map((path) => [path, "[Network]\nBond=bond0\n"])) };
    const steps = network.plan(bond("eth0"), found, new Map(paths.map((path) => [path, { type: "absent" }])), new Map()).filter(({ resource }) => paths.some((path) => resource === `network/${path}`));
    expect(steps.map(({ do: does, impact, needs }) => [does, impact, needs])).toEqual([["restore", "disruptive", undefined], ["restore", "disruptive", undefined], ["run", "disruptive", [`network/${paths[0]}`]]]);
  });

  test("a bridge, is let go; what others have put there stays", () => {
    const found = facts([{ name: "eth0", master: "br0" }, { name: "veth9", master: "br0" }]);
    const want = networkSchema.parse({ bridges: { br0: {} } });
    const earlier = { device: "eth0", addresses: [], routes: [], master: "br0" };
    expect(leftovers([earlier], want, found)).toEqual({ words: ["release=eth0=br0"], undo: ["again=eth0"] });
    expect(leftovers([earlier], want, found, new Set(["br0"])).words).toEqual([]);
    expect(todoOf(want, found, nothing, new Map()).words).toEqual([]);
  });
});

test("a bond of another mode is made anew, and its members and what lies on it are put back into it", () => {
  const want = networkSchema.parse({ bonds: { bond0: { members: ["eth0", "eth1"], mode: "lacp" } }, vlans: { v7: { parent: "bond0", id: 7, addresses: ["10.7.0.1/24"] } } });
  const todo = todoOf(want, facts([{ name: "eth0", master: "bond0" }, { name: "eth1", master: "bond0" }]), { devices: new Set(["bond0"]), netdevs: new Set(["bond0"]) }, new Map());
  expect(todo.disruptive).toBe(true);
  expect(todo.words).toEqual(expect.arrayContaining(["delete=bond0", "again=eth0", "master=eth0=bond0", "again=eth1", "master=eth1=bond0", "device=v7", "address=v7=10.7.0.1/24"]));
  expect(todo.undo).toEqual(expect.arrayContaining(["delete=bond0", "again=eth0", "master=eth0=bond0", "again=eth1", "device=v7"]));
});

test("a bond that no member carries any more is a reason of its own, beside a cable that was out before", () => {
  const reasons = (bondCarrier: boolean) => {
    const { links, routes } = facts([{ name: "eth2", carrier: false }], { bondCarrier });
    return gateReasons(bond("eth2"), { links, routes });
  };
  expect(reasons(true)).toEqual(["bond0 runs without eth2: no carrier"]);
  expect(reasons(false)).toEqual(["bond0 has no member that works", "bond0 runs without eth2: no carrier"]);
});
