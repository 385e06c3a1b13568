import { networkOf, parseIp, parsePrefix, writePrefix } from "./keepalived-address.ts";
import type { Around, Misfit, Peer, Resolved } from "./kind.ts";
import { devicesOf } from "./network-section.ts";
import type { MeshPeer, NetworkWant, VxlanEnds } from "./network-section.ts";

/** What follows from the other nodes: the other ends of tunnels; and what clashes between them: addresses, link addresses, keys. */

type AroundUs = Around<NetworkWant>;
type Tell = (path: readonly (string | number)[], message: string, help?: string) => void;

export function resolveAmong(want: NetworkWant, around: AroundUs): Resolved<NetworkWant> {
  const misfits: Misfit[] = [];
  const tell: Tell = (path, message, help) => void misfits.push({ path, message, ...(help !== undefined && { help }) });
  addressesTwice(want, around, tell);
  macsTwice(want, around, tell);
  const vxlans = Object.fromEntries(Object.entries(want.vxlans).map(([name, vxlan]) => [name, { ...vxlan, ends: vxlanEnds(name, vxlan, around, tell) }]));
  const wireguards = Object.fromEntries(Object.entries(want.wireguards).map(([name, tunnel]) => [name, { ...tunnel, mesh: meshOf(name, tunnel, around, tell) }]));
  if (want.backend === "netplan") {
    for (const [name, { nodes }] of Object.entries(want.vxlans)) if (nodes !== undefined) tell(["vxlans", name, "nodes"], "netplan knows only one other end of a VXLAN", "take `backend: networkd` on this node, or `remote: IP`");
  }
  return { want: { ...want, vxlans, wireguards }, misfits };
}

/** Where an address of the cluster stands; the same node may have its own address in its section, but only once. */
function addressesTwice(want: NetworkWant, around: AroundUs, tell: Tell): void {
  const others = new Map<string, string>();
  for (const peer of around.nodes) {
    if (peer.name === around.self) continue;
    const own = parseIp(peer.address ?? "")?.address;
    if (own !== undefined) others.set(own, `${peer.name}'s own address`);
    for (const { name, it } of peer.section === null ? [] : devicesOf(peer.section)) {
      for (const each of it.addresses) {
        const address = parsePrefix(each)?.address;
        if (address !== undefined && !others.has(address)) others.set(address, `an address of ${name} on ${peer.name}`);
      }
    }
  }
  const here = new Map<string, string>();
  for (const { sort, name, it } of devicesOf(want)) {
    for (const [at, each] of it.addresses.entries()) {
      const address = parsePrefix(each)?.address;
      // Link-local addresses only have to differ on one link (RFC 4291, 2.5.6).
      if (address === undefined || address.startsWith("fe80:") || address.startsWith("169.254.")) continue;
      const taken = others.get(address) ?? (here.has(address) ? `an address of ${here.get(address)} on this node` : undefined);
      if (taken !== undefined) tell([sort, name, "addresses", at], `${address} is ${taken} as well`, "an address belongs to one interface of one node; one that moves belongs under keepalived");
      here.set(address, name);
    }
  }
}

function macsTwice(want: NetworkWant, around: AroundUs, tell: Tell): void {
  for (const [name, { mac }] of Object.entries(want.interfaces)) {
    if (mac === undefined) continue;
    const other = around.nodes.find((peer) => peer.name !== around.self && Object.values(peer.section?.interfaces ?? {}).some((theirs) => theirs.mac === mac));
    if (other !== undefined) tell(["interfaces", name, "mac"], `${mac} is the link address of an interface of ${other.name} as well`, "each interface has one of its own: `ip link` on the node shows it");
  }
}

/** The nodes at the other end: all that have the device, or those that are named. Tells of names that do not fit. */
function othersWith(wanted: true | readonly string[] | undefined, has: (peer: Peer<NetworkWant>) => boolean, path: readonly string[], around: AroundUs, tell: Tell): readonly Peer<NetworkWant>[] {
  if (wanted === undefined) return [];
  const others = around.nodes.filter((peer) => peer.name !== around.self);
  if (wanted === true) return others.filter(has);
  return wanted.flatMap((name, at) => {
    if (name === around.self) return [];
    const peer = others.find((each) => each.name === name);
    if (peer === undefined) tell([...path, at], `there is no node ${name}`, `the nodes are ${around.nodes.map((each) => each.name).join(", ")}`);
    else if (!has(peer)) tell([...path, at], `${name} does not have ${path[1]}`, `give it a role that has it, or take ${name} off the list`);
    return peer !== undefined && has(peer) ? [peer] : [];
  });
}

function vxlanEnds(name: string, vxlan: NetworkWant["vxlans"][string], around: AroundUs, tell: Tell): VxlanEnds {
  const path = ["vxlans", name];
  const localOf = (peer: Peer<NetworkWant> | undefined, from: NetworkWant["vxlans"][string] | undefined): string | null => from?.local ?? parseIp(peer?.address ?? "")?.address ?? null;
  const local = localOf(around.nodes.find((peer) => peer.name === around.self), vxlan);
  const peers = othersWith(vxlan.nodes, (peer) => peer.section?.vxlans[name] !== undefined, [...path, "nodes"], around, tell);
  if (vxlan.nodes !== undefined && local === null) tell(path, `it is not known from which address ${around.self} sends: its address is no IP address`, `write \`local: IP\` here, or \`address: IP\` in nodes/${around.self}.yaml`);
  const remotes = peers.flatMap((peer) => {
    const theirs = peer.section?.vxlans[name];
    for (const field of ["id", "port"] as const) if (theirs?.[field] !== vxlan[field]) tell([...path, field], `${field} is ${vxlan[field]} here, and ${theirs?.[field]} on ${peer.name}`, "write it once, in the role that both have");
    const end = localOf(peer, theirs);
    if (end === null) tell([...path, "nodes"], `the address of ${peer.name} is not known`, `write \`address: IP\` in nodes/${peer.name}.yaml, or \`local: IP\` in its ${name}`);
    return end === null ? [] : [end];
  });
  return { local, remotes };
}

function meshOf(name: string, tunnel: NetworkWant["wireguards"][string], around: AroundUs, tell: Tell): readonly MeshPeer[] {
  const path = ["wireguards", name];
  const peers = othersWith(tunnel.nodes, (peer) => peer.section?.wireguards[name] !== undefined, [...path, "nodes"], around, tell);
  const mesh = peers.flatMap((peer): MeshPeer[] => {
    const theirs = peer.section?.wireguards[name];
    if (theirs === undefined) return [];
    const host = parseIp(peer.address ?? "");
    const at = peer.address === undefined ? null : `${host?.family === 6 ? `[${host.address}]` : peer.address}:${theirs.port}`;
    const own = theirs.addresses.flatMap((each) => parsePrefix(each) ?? []).map((prefix) => writePrefix({ ...prefix, length: prefix.family === 4 ? 32 : 128 }));
    const allowedIps = [...new Set([...own, ...theirs.networks])];
    if (allowedIps.length === 0) tell([...path, "nodes"], `${peer.name} has no address on ${name}, and nothing could be sent to it`, `give ${name} \`addresses\` in nodes/${peer.name}.yaml`);
    return allowedIps.length === 0 ? [] : [{ node: peer.name, publicKey: theirs.publicKey, endpoint: theirs.endpoint ?? at, allowedIps }];
  });
  keysAndNetworks(name, tunnel, mesh, tell);
  return mesh;
}

/** WireGuard knows a peer by its key, and gives each network to one peer: the last one that claims it would win, silently. */
function keysAndNetworks(name: string, tunnel: NetworkWant["wireguards"][string], mesh: readonly MeshPeer[], tell: Tell): void {
  const all = [
    ...mesh.map((peer) => ({ ...peer, who: peer.node, path: ["wireguards", name, "publicKey"] })),
    ...Object.entries(tunnel.peers).map(([who, peer]) => ({ ...peer, who, path: ["wireguards", name, "peers", who, "publicKey"] })),
  ];
  const keys = new Map([[tunnel.publicKey, "this node"]]);
  const networks = new Map<string, string>();
  for (const { who, publicKey, allowedIps, path } of all) {
    const same = keys.get(publicKey);
    if (same !== undefined) tell(path, `${who} has the same key as ${same}`, "each has a pair of its own: `wg genkey | tee key | wg pubkey`");
    keys.set(publicKey, who);
    for (const each of allowedIps) {
      const prefix = parsePrefix(each);
      const text = prefix === null ? each : writePrefix(networkOf(prefix));
      const other = networks.get(text);
      if (other !== undefined) tell([...path.slice(0, -1)], `${text} is behind ${other} and behind ${who}: WireGuard would give it to one of them`, "a network is behind one peer");
      networks.set(text, who);
    }
  }
}
