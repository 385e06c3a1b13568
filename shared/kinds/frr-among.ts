import type { Bgp, FrrWant, Neighbor, NeighborPeer } from "./frr-section.ts";
import { parseIp } from "./keepalived-address.ts";
import type { Around, Misfit, Peer, Resolved } from "./kind.ts";

/** What follows from the other nodes: a neighbour's address and AS by its name; and what does not fit between the two sides. */

type AroundUs = Around<FrrWant>;

export function resolveAmong(want: FrrWant, around: AroundUs): Resolved<FrrWant> {
  const self = around.nodes.find(({ name }) => name === around.self);
  const own = parseIp(self?.address ?? "");
  const misfits: Misfit[] = [];
  const routerId = own?.family === 4 ? own.address : undefined;
  const ospf = want.ospf === undefined ? undefined : { ...want.ospf, ...(want.ospf.routerId === undefined && routerId !== undefined && { routerId }) };
  const resolved: FrrWant = { ...want, node: around.self, ...(ospf && { ospf }) };
  if (want.bgp === undefined) return { want: resolved, misfits };
  const neighbors: Record<string, Neighbor> = {};
  for (const [name, neighbor] of Object.entries(want.bgp.neighbors)) {
    // A role names all routers of the mesh; each leaves itself out.
    if ((neighbor.node ?? name) === around.self) continue;
    const found = neighborOf(name, neighbor, want.bgp, around);
    misfits.push(...found.misfits);
    neighbors[name] = { ...neighbor, peer: found.peer };
  }
  if (want.bgp.routerId === undefined && routerId === undefined) misfits.push({ path: ["bgp"], message: `${around.self} has no IPv4 address to be known by`, help: "write routerId: in the form of an IPv4 address, different on each router" });
  const known = want.bgp.routerId ?? routerId;
  const twin = around.nodes.find((peer) => peer.name !== around.self && known !== undefined && routerIdOf(peer) === known);
  if (twin !== undefined) misfits.push({ path: want.bgp.routerId === undefined ? ["bgp"] : ["bgp", "routerId"], message: `${known} is the router id of ${twin.name} as well`, help: "each router has its own" });
  const addresses = Object.entries(neighbors).map(([name, { peer }]) => [name, peer?.address] as const);
  for (const [at, [name, address]] of addresses.entries()) {
    const first = addresses.slice(0, at).find(([, other]) => address !== undefined && other === address);
    if (first !== undefined) misfits.push({ path: ["bgp", "neighbors", name], message: `${name} is ${address}, as ${first[0]} is`, help: "write one of the two" });
  }
  return { want: { ...resolved, bgp: { ...want.bgp, ...(want.bgp.routerId === undefined && routerId !== undefined && { routerId }), neighbors } }, misfits };
}

function routerIdOf(peer: Peer<FrrWant>): string | undefined {
  const bgp = peer.section?.bgp;
  const ip = parseIp(peer.address ?? "");
  return bgp === undefined ? undefined : (bgp.routerId ?? (ip?.family === 4 ? ip.address : undefined));
}

function neighborOf(name: string, neighbor: Neighbor, bgp: Bgp, around: AroundUs): { readonly peer: NeighborPeer | null; readonly misfits: readonly Misfit[] } {
  const misfits: Misfit[] = [];
  const tell = (field: readonly string[], message: string, help?: string): void => {
    misfits.push({ path: ["bgp", "neighbors", name, ...field], message, ...(help !== undefined && { help }) });
  };
  const node = around.nodes.find((peer) => peer.name === (neighbor.node ?? name));
  if (neighbor.node !== undefined && node === undefined) tell(["node"], `there is no node ${neighbor.node}`, `the nodes are ${around.nodes.map((peer) => peer.name).join(", ")}`);
  const theirs = node?.section?.bgp;
  const address = neighbor.address ?? neighbor.interface ?? parseIp(node?.address ?? "")?.address;
  const asn = neighbor.asn ?? (theirs === undefined ? undefined : theirs.asn);
  if (address === undefined) {
    if (node === undefined) tell([], `${name} is no node, and has no address`, `write \`address: IP\` or \`interface: NAME\`, or the name of a node (${around.nodes.map((peer) => peer.name).join(", ")})`);
    else tell([], `${node.name} has no address that a session could be made to: its address is ${node.address === undefined ? "not given" : "a name"}`, `write \`address: IP\` in nodes/${node.name}.yaml, or here`);
  }
  if (asn === undefined) {
    if (node === undefined) tell([], `the AS of ${name} is not known`, "write `asn: NUMBER`, or `asn: external`");
    else tell([], `the AS of ${node.name} is not known: it has no section frr with bgp`, `give it one, or write \`asn: NUMBER\` here`);
  }
  if (theirs !== undefined && node !== undefined) otherSide(neighbor, bgp, node.name, theirs, around, tell);
  return { peer: address === undefined || asn === undefined ? null : { address, asn, node: node?.name ?? null }, misfits };
}

/** Both sides stand in the repository: that they do not fit is seen before it is tried. */
function otherSide(neighbor: Neighbor, bgp: Bgp, name: string, theirs: Bgp, around: AroundUs, tell: (field: readonly string[], message: string, help?: string) => void): void {
  const own = neighbor.asn;
  if (typeof own === "number" && own !== theirs.asn) tell(["asn"], `${name} is AS ${theirs.asn}, not ${own}`, "leave asn out: it is taken from the repository");
  if (own === "internal" && theirs.asn !== bgp.asn) tell(["asn"], `${name} is AS ${theirs.asn}, so it is external to AS ${bgp.asn}`, "leave asn out: it is taken from the repository");
  if (own === "external" && theirs.asn === bgp.asn) tell(["asn"], `${name} is AS ${theirs.asn}, so it is internal`, "leave asn out: it is taken from the repository");
  const back = Object.entries(theirs.neighbors).find(([as, each]) => (each.node ?? as) === around.self);
  if (back === undefined) return tell([], `${name} does not have ${around.self} as a neighbour, so no session comes up`, `add ${around.self} to bgp.neighbors of ${name}`);
  if ((back[1].password === undefined) !== (neighbor.password === undefined)) {
    const [with_, without] = neighbor.password === undefined ? [name, around.self] : [around.self, name];
    tell(neighbor.password === undefined ? [] : ["password"], `${with_} has a password for this session, and ${without} has none: no session comes up`, "write the same password on both sides");
  }
}
