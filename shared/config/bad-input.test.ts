import { describe, expect, test } from "vitest";
import { kinds } from "../kinds/index.ts";
import { formatDiagnostics } from "./diagnostic.ts";
import { memoryTree } from "./memory-tree.ts";
import { loadNode, loadRepository } from "./repository.ts";

/** What a push of a cluster with a mistake between its nodes is answered with, by all kinds as they are: nothing is begun anywhere. */

const cluster = 'name: c\nsigners:\n  - {name: ada, ssh: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0kAnSx4mR3qW2bJx1zv0mYl2r8hZQq0b7Vw4kM3C9d a"}\n';
type Sections = Readonly<Record<string, unknown>>;

/** Three nodes; what is said of the first two stands from the second line on, a section a line. */
function files(n1: Sections, n2: Sections, addresses: readonly [string, string, string] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]): Record<string, string> {
  const node = (address: string, sections: Sections): string => `address: ${address}\n${Object.entries(sections).map(([name, section]) => `${name}: ${JSON.stringify(section)}\n`).join("")}`;
  return { "cluster.yaml": cluster, "nodes/n1.yaml": node(addresses[0], n1), "nodes/n2.yaml": node(addresses[1], n2), "nodes/n3.yaml": node(addresses[2], {}) };
}
async function told(tree: Record<string, string>): Promise<string> {
  const loaded = await loadRepository(memoryTree(tree), kinds);
  return loaded.ok ? "accepted" : formatDiagnostics(loaded.diagnostics);
}
const followed = async (tree: Record<string, string>, node: string): Promise<boolean> => (await loadNode(memoryTree(tree), kinds, node)).ok;

const disk = (name: string, more: object = {}): Sections => ({ disks: { devices: { [name]: { filesystem: "ext4", ...more } } } });
const eth0 = (address: string): Sections => ({ network: { interfaces: { eth0: { addresses: [address] } } } });
const vip = (name: string, routerId: number, address: string): Sections => ({ keepalived: { instances: { [name]: { routerId, interface: "eth0", addresses: [address] } } } });
const bgp = (asn: number, neighbors: object, more: object = {}): Sections => ({ frr: { bgp: { asn, neighbors, ...more } } });
const k3s = (role: string, version: string): Sections => ({ kubernetes: { distribution: "k3s", role, version, bootstrap: { node: "n1", id: "first" }, endpoint: "10.0.0.100", binary: { url: "https://files.example.org/k3s", sha256: "a".repeat(64) } } });
const lxd = (id: string): Sections => ({ lxd: { cluster: { bootstrap: { node: "n1", id } } } });

describe("is refused at the push, at its line, with what to do", () => {
  test.each<[string, Sections, Sections, string, string]>([
    ["a disk of two nodes", disk("ata-X_S1"), disk("ata-X_S1"), "nodes/n2.yaml:2:20: error: disks.devices.ata-X_S1: the disk ata-X_S1 is a disk of n1 as well, and can be in one machine only", "name the disk in the file of the node that it is in"],
    ["a wipe of another node's disk", disk("ata-X_S1"), disk("wwn-0x5000c5", { wipe: { serial: "S1", id: "anew" } }), "the serial S1 is that of ata-X_S1, a disk of n1", "see lsblk -o NAME,SERIAL"],
    ["a wipe with the serial of another disk", {}, disk("ata-X_S2", { wipe: { serial: "S1", id: "anew" } }), "the serial S1 is not that of the disk ata-X_S2", "a wipe names the serial number of the disk that it stands at"],
    ["a wipe id of two disks", {}, { disks: { devices: { "ata-X_S1": { wipe: { serial: "S1", id: "anew" } }, "ata-X_S2": { wipe: { serial: "S2", id: "anew" } } } } }, "the wipe id anew is used twice on this node", "make up another one"],
    ["an interface that nothing makes", {}, { network: { vlans: { vlan7: { parent: "eth7", id: 7 } } } }, "eth7 has no entry here", "network"],
    ["an address of two interfaces", eth0("10.5.0.1/24"), eth0("10.5.0.1/16"), "nodes/n2.yaml:2:46: error: network.interfaces.eth0.addresses[0]: 10.5.0.1 is an address of eth0 on n1 as well", "belongs to one interface of one node"],
    ["an address that is another node's own", {}, eth0("10.0.0.1/24"), "10.0.0.1 is n1's own address as well", "belongs to one interface of one node"],
    ["an address that moves, and is an interface's", eth0("10.5.0.1/24"), vip("web", 51, "10.5.0.1/24"), "nodes/n2.yaml:2:80: error: keepalived.instances.web.addresses[0]: 10.5.0.1 is an address of eth0 on n1 as well", "stands under keepalived alone"],
    ["an address of an interface that moves", { ...eth0("10.5.0.1/24"), ...vip("web", 51, "10.5.0.1/24") }, {}, "network.interfaces.eth0.addresses[0]: 10.5.0.1 is an address that moves, of web, on this node as well", "stands under keepalived alone"],
    ["an address that moves, and is a node's own", {}, vip("web", 51, "10.0.0.3/24"), "10.0.0.3 is n3's own address", "belongs to no node"],
    ["an address that moves twice", vip("web", 51, "10.0.0.99/24"), vip("db", 52, "10.0.0.99/24"), "10.0.0.99 is an address of web on n1 as well", "moves with one instance"],
    ["a virtual_router_id of two instances", vip("web", 51, "10.0.0.99/24"), vip("db", 51, "10.0.0.98/24"), "keepalived.instances.db.routerId: 51 is the number of web on n1 as well", "52 is free"],
    ["a BGP neighbour with a key on one side", bgp(65001, { n2: { password: "k" } }), bgp(65001, { n1: {} }), "n1 has a password for this session, and n2 has none", "write the same password on both sides"],
    ["a BGP neighbour without a key where all need one", {}, bgp(65001, { up: { address: "10.0.0.9", asn: 65100 } }, { requirePasswords: true }), "up has no password, and requirePasswords asks for one", "the same on both sides"],
    ["a server two minor versions ahead", k3s("server", "v1.33.1+k3s1"), k3s("server", "v1.35.0+k3s1"), "v1.35.0+k3s1 is more than one minor version from n1 (v1.33.1+k3s1)", "one minor version at a time"],
    ["a worker ahead of the server", k3s("server", "v1.33.1+k3s1"), k3s("agent", "v1.34.0+k3s1"), "v1.34.0+k3s1 is newer than the server n1", "servers are upgraded first"],
    ["two that found one LXD cluster", lxd("first"), lxd("second"), "n2 and n1 differ in who founds the cluster", "write bootstrap once"],
    ["a download without its sum", {}, { downloads: { "/usr/local/bin/k3s": { url: "https://files.example.org/k3s" } } }, "sha256", "sha256"],
  ])("%s", async (_what, n1, n2, message, cure) => {
    const tree = files(n1, n2);
    const text = await told(tree);
    expect(text).toContain(message);
    expect(text).toContain(cure);
    // A node that gets it all the same, past the hub, keeps its last good commit; one that is not concerned goes on.
    expect([await followed(tree, "n1"), await followed(tree, "n2")]).toContain(false);
    expect(await followed(tree, "n3")).toBe(true);
  });

  test("two nodes with one address of their own", async () => {
    expect(await told(files({}, {}, ["10.0.0.1", "10.0.0.1", "10.0.0.3"]))).toMatch(/nodes\/n2.yaml:1:10: error: 10\.0\.0\.1 is the address of n1 as well[^]*each node has an address of its own/);
    expect(await told(files({}, {}, ["fd00::1", "FD00:0::1", "10.0.0.3"]))).toContain("is the address of n1 as well");
    expect(await told(files({}, {}, ["n1.example.org", "N1.example.org", "10.0.0.3"]))).toContain("is the address of n1 as well");
  });

  test("all of that is fine where it is right", async () => {
    expect(await told(files({ ...disk("ata-X_S1", { wipe: { serial: "S1", id: "anew" } }), ...eth0("10.0.0.1/24"), ...vip("web", 51, "10.0.0.99/24"), ...bgp(65001, { n2: { password: "k" } }), ...k3s("server", "v1.33.1+k3s1"), ...lxd("first") }, { ...disk("ata-X_S2", { wipe: { serial: "S2", id: "anew" } }), ...eth0("10.0.0.2/24"), ...vip("web", 51, "10.0.0.99/24"), ...bgp(65001, { n1: { password: "k" } }), ...k3s("agent", "v1.32.9+k3s1"), ...lxd("first") }))).toBe("accepted");
  });
});
