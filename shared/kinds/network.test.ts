import { describe, expect, test } from "vitest";
import type * as z from "zod";
import type { Around } from "./kind.ts";
import { filesOf } from "./network-files.ts";
import { linkOf, parseEarlier, parseLinks, readRoutes } from "./network-live.ts";
import { netplanFile } from "./network-netplan.ts";
import { obstaclesOf } from "./network-obstacles.ts";
import { devicesOf, networkSchema } from "./network-section.ts";
import type { NetworkWant } from "./network-section.ts";
import { network } from "./network.ts";

function refusal(schema: z.ZodType, section: unknown): string {
  const result = schema.safeParse(section);
  return result.success ? "accepted" : JSON.stringify(result.error.issues);
}

const KEY = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
const OTHER_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

describe("a section", () => {
  test.each([
    [{ bonds: { bond0: { members: [] } } }, "a bond needs members"],
    [{ bonds: { bond0: { members: ["eth0"] } }, bridges: { br0: { members: ["eth0"] } } }, "is a member of"],
    [{ interfaces: { eth0: { addresses: ["10.0.0.1/24"] } }, bridges: { br0: { members: ["eth0"] } } }, "eth0 has addresses of its own"],
    [{ vlans: { vlan7: { parent: "eth0", id: 7 } } }, "eth0 has no entry here"],
    [{ interfaces: { eth0: {} }, vlans: { vlan7: { parent: "eth0", id: 4095 } } }, "4094"],
    [{ bonds: { bond0: { members: ["vlan7"] } }, vlans: { vlan7: { parent: "bond0", id: 7 } } }, "would carry itself"],
    [{ bridges: { br0: { members: ["br1"] }, br1: {} } }, "br1 is a bridge"],
    [{ interfaces: { eth0: { addresses: ["10.0.0.1/24"], gateway4: "10.0.1.1" } } }, "is in no network of eth0"],
    [{ interfaces: { eth0: { gateway4: "10.0.1.1" } } }, "it has no addresses"],
    [{ interfaces: { eth0: { addresses: ["10.0.0.1/24"], gateway4: "10.0.0.1" } } }, "own address"],
    [{ interfaces: { eth0: { gateway4: "10.0.0.1", dhcp: "ipv4" } } }, "accepted"],
    [{ interfaces: { eth0: { routes: [{ to: "10.1.0.1/16" }] } } }, "10.1.0.0/16"],
    [{ interfaces: { eth0: { routes: [{ to: "default" }] } } }, "needs a router"],
    [{ interfaces: { eth0: { routes: [{ to: "10.1.0.0/16", via: "fd00::1" }] } } }, "not of the family"],
    [{ interfaces: { eth0: { addresses: ["10.0.0.1"] } } }, "the length of its network"],
    [{ interfaces: { eth0: { addresses: ["10.0.0.1/33"] } } }, "no address"],
    [{ interfaces: { eth0: { addresses: ["fd00::1/64"], mtu: 1200 } } }, "1280"],
    [{ interfaces: { eth0: {} }, bridges: { eth0: {} } }, "a name stands for one device"],
    [{ interfaces: { lo: {} } }, "lo is not managed"],
    [{ interfaces: { "an-interface-too-long": {} } }, "15"],
    [{ interfaces: { eth0: { mac: "52:54:00:12:34" } } }, "link address"],
    [{ interfaces: { a: { mac: "52:54:00:12:34:56" }, b: { mac: "52:54:00:12:34:56" } } }, "a's already"],
    [{ bonds: { bond0: { members: ["eth0"], primary: "eth1" } } }, "eth1 is not among the members"],
    [{ bonds: { bond0: { members: ["eth0"], lacpRate: "fast" } } }, "mode: lacp"],
    [{ bonds: { bond0: { members: ["eth0"], mode: "lacp", minLinks: 2 } } }, "always be down"],
    [{ vxlans: { vx0: { id: 7, nodes: true, remote: "10.0.0.1" } } }, "either `nodes` or `remote`"],
    [{ wireguards: { wg0: { privateKey: "x", publicKey: "short" } } }, "44 characters"],
    [{ replaces: ["/etc/passwd"] }, "a file in /etc/systemd/network"],
    [{ replaces: ["/etc/systemd/network/60-evenkeel-eth0.network"] }, "the section's own"],
  ])("%j: %s", (section, part) => {
    expect(refusal(networkSchema, section)).toContain(part);
  });
});

/** What is said about the section of n1 beside those of others. */
function misfits(own: unknown, others: Readonly<Record<string, unknown>>, address = "10.0.0.11"): readonly string[] {
  const section = networkSchema.parse(own);
  const around: Around<NetworkWant> = { cluster: "c", self: "n1", nodes: [{ name: "n1", address, section }, ...Object.entries(others).map(([name, theirs], at) => ({ name, address: `10.0.0.${12 + at}`, section: theirs === null ? null : networkSchema.parse(theirs) }))] };
  return network.resolve!(section, around).misfits.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

describe("next to the other nodes", () => {
  const eth0 = (address: string, more: object = {}) => ({ interfaces: { eth0: { addresses: [`${address}/24`], ...more } } });

  test("an address stands on one node, and a node may have its own", () => {
    expect(misfits(eth0("10.0.0.11"), { n2: eth0("10.0.0.12") })).toEqual([]);
    expect(misfits(eth0("10.0.0.12"), { n2: null })).toEqual(["interfaces.eth0.addresses.0: 10.0.0.12 is n2's own address as well"]);
    expect(misfits(eth0("10.5.0.1"), { n2: { bridges: { br0: { addresses: ["10.5.0.1/16"] } } } })).toEqual(["interfaces.eth0.addresses.0: 10.5.0.1 is an address of br0 on n2 as well"]);
    expect(misfits({ interfaces: { eth0: { addresses: ["10.5.0.1/24"] }, eth1: { addresses: ["10.5.0.1/16"] } } }, {})).toEqual(["interfaces.eth1.addresses.0: 10.5.0.1 is an address of eth0 on this node as well"]);
    expect(misfits(eth0("169.254.1.1"), { n2: eth0("169.254.1.1") })).toEqual([]);
    expect(misfits({ interfaces: { eth0: { addresses: ["FD00:0::1/64"] } } }, { n2: { interfaces: { eth0: { addresses: ["fd00::1/64"] } } } })[0]).toContain("fd00::1 is an address of eth0 on n2");
  });

  test("a link address is one interface's", () => {
    expect(misfits({ interfaces: { eth0: { mac: "52:54:00:12:34:56" } } }, { n2: { interfaces: { eth9: { mac: "52:54:00:12:34:56" } } } })[0]).toContain("an interface of n2");
  });

  test("both ends of a tunnel have to fit", () => {
    const vx = (id: number, more: object = {}) => ({ vxlans: { vx0: { id, nodes: true, ...more } } });
    expect(misfits(vx(7), { n2: vx(7) })).toEqual([]);
    expect(misfits(vx(7), { n2: vx(8) })).toEqual(["vxlans.vx0.id: id is 7 here, and 8 on n2"]);
    expect(misfits(vx(7), { n2: vx(7) }, "n1.example.org")[0]).toContain("not known from which address n1 sends");
    expect(misfits(vx(7, { nodes: ["n9"] }), { n2: vx(7) })[0]).toContain("there is no node n9");
    expect(misfits({ ...vx(7), backend: "netplan" }, { n2: vx(7) })[0]).toContain("netplan knows only one other end");
    const wg = (key: string, networks: readonly string[], more: object = {}) => ({ wireguards: { wg0: { privateKey: "x", publicKey: key, networks, nodes: true, ...more } } });
    expect(misfits(wg(KEY, []), { n2: wg(KEY, ["10.9.0.0/24"]) })[0]).toContain("n2 has the same key as this node");
    expect(misfits(wg(KEY, []), { n2: wg(OTHER_KEY, []) })[0]).toContain("n2 has no address on wg0");
    expect(misfits(wg(KEY, [], { peers: { office: { publicKey: "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=", allowedIps: ["10.9.0.0/24"] } } }), { n2: wg(OTHER_KEY, ["10.9.0.0/24"]) })[0]).toContain("behind n2 and behind office");
  });

  test("resolving twice ends the same", () => {
    const section = networkSchema.parse({ vxlans: { vx0: { id: 7, nodes: true } } });
    const around: Around<NetworkWant> = { cluster: "c", self: "n1", nodes: [{ name: "n1", address: "10.0.0.11", section }, { name: "n2", address: "10.0.0.12", section }] };
    const once = network.resolve!(section, around).want;
    expect(once.vxlans["vx0"]?.ends).toEqual({ local: "10.0.0.11", remotes: ["10.0.0.12"] });
    expect(network.resolve!(once, around).want).toEqual(once);
  });
});

const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

test("a network behind a WireGuard peer gets a route, its own addresses' network does not", () => {
  const want = networkSchema.parse({ wireguards: { wg0: { privateKey: "x", publicKey: KEY, addresses: ["10.50.0.1/24"], peers: { a: { publicKey: OTHER_KEY, allowedIps: ["10.50.0.7/32", "10.60.0.0/16", "0.0.0.0/0"] } } } } });
  const written = text(filesOf(want).find(({ path }) => path.endsWith("wg0.network"))?.content);
  expect([...written.matchAll(/Destination=(.*)/g)].map(([, to]) => to)).toEqual(["10.60.0.0/16"]);
  expect(filesOf(want).filter(({ mode }) => mode === 0o640).map(({ path, group, sensitive }) => [path, group, sensitive])).toEqual([["/etc/systemd/network/60-evenkeel-wg0.key", "systemd-network", true]]);
});

test("netplan's file quotes what YAML would take for something else", () => {
  const want = networkSchema.parse({ backend: "netplan", interfaces: { yes: { addresses: ["10.0.0.1/24"] }, "10": {} } });
  const written = text(netplanFile(want, new Set()).content);
  expect(written).toContain('    "10":\n');
  expect(written).toContain('        - "10.0.0.1/24"\n');
});

describe("what the machine says", () => {
  test("nonsense of ip is no answer", () => {
    expect(parseLinks("")).toBeNull();
    expect(parseLinks("{}")).toBeNull();
    expect(parseLinks("[{}]")?.size).toBe(0);
  });

  test("a bond's member is found by its own link address, not by the one that the bond lends it", () => {
    const links = parseLinks(JSON.stringify([{ ifindex: 2, ifname: "eth0", address: "00:00:00:00:00:01", permaddr: "52:54:00:12:34:56" }, { ifindex: 3, ifname: "bond0", address: "52:54:00:12:34:56", linkinfo: { info_kind: "bond" } }]))!;
    const [device] = devicesOf(networkSchema.parse({ interfaces: { lan: { mac: "52:54:00:12:34:56" } } }));
    expect(linkOf(device!, links)?.name).toBe("eth0");
  });

  test("routes of both families", async () => {
    const files: Readonly<Record<string, string>> = {
      "/proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\neth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\neth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
      "/proc/net/ipv6_route": "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n",
    };
    const probe = { readText: async (path: string) => files[path] ?? null } as unknown as Parameters<typeof readRoutes>[0];
    expect(await readRoutes(probe)).toEqual([
      { to: "0.0.0.0/0", via: "10.0.0.1", device: "eth0", metric: 100 },
      { to: "10.0.0.0/24", via: null, device: "eth0", metric: 0 },
      { to: "fd00::/64", via: "fe80::1", device: "eth0", metric: 1024 },
    ]);
  });

  test("what an earlier file had made", () => {
    const file = "[Match]\nName=eth0\n[Network]\nAddress=10.0.0.1/24\nGateway=10.0.0.254\n[Route]\nGateway=10.0.0.9\nDestination=10.5.0.0/16\n[Address]\nAddress = FD00::1/64\n";
    expect(parseEarlier(file)).toEqual({ device: "eth0", addresses: ["10.0.0.1/24", "fd00::1/64"], routes: [["0.0.0.0/0", "10.0.0.254"], ["10.5.0.0/16", "10.0.0.9"]], master: null });
    expect(parseEarlier("[Match]\nName=eth0\n[Network]\nBond=bond0\n")?.master).toBe("bond0");
    expect(parseEarlier("[Match]\nName=en*\n")).toBeNull();
  });
});

describe("what cannot be had", () => {
  const links = parseLinks(JSON.stringify([{ ifindex: 2, ifname: "eth0" }, { ifindex: 3, ifname: "br0", linkinfo: { info_kind: "dummy" } }]))!;
  const obstacles = (section: unknown, more: object = {}) => Object.fromEntries(obstaclesOf(networkSchema.parse(section), { links, netif: new Map(), ifupdown: new Map(), ...more }));

  test("a bond with one of its members does, one without any does not, nor what lies on it", () => {
    expect(Object.keys(obstacles({ bonds: { bond0: { members: ["eth0", "eth1"] } }, vlans: { v7: { parent: "bond0", id: 7 } } }))).toEqual(["eth1"]);
    expect(Object.keys(obstacles({ bonds: { bond0: { members: ["eth1", "eth2"] } }, vlans: { v7: { parent: "bond0", id: 7 } } }))).toEqual(["eth1", "eth2", "bond0", "v7"]);
  });

  test("a name that something else has", () => {
    expect(obstacles({ bridges: { br0: {} } })["br0"]).toContain("br0 is there already, and is dummy");
  });

  test("an interface that somebody else sets up, until the section takes his place", () => {
    const netif = new Map([["eth0", { state: "configured", networkFile: "/run/systemd/network/10-netplan-eth0.network" }]]);
    expect(obstacles({ interfaces: { eth0: {} } }, { netif })["eth0"]).toMatch(/which comes before 60-evenkeel-eth0.network: take `backend: netplan`, or write `replaces/);
    expect(obstacles({ interfaces: { eth0: {} }, replaces: ["/run/systemd/network/10-netplan-eth0.network"] }, { netif })).toEqual({});
    expect(obstacles({ interfaces: { eth0: {} } }, { netif: new Map([["eth0", { state: "configured", networkFile: "/lib/systemd/network/80-ethernet.network" }]]) })).toEqual({});
    const ifupdown = new Map([["eth0", "/etc/network/interfaces"]]);
    expect(obstacles({ interfaces: { eth0: {} } }, { ifupdown })["eth0"]).toContain("set up by ifupdown");
  });
});
