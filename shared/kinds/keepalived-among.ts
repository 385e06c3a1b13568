import { parseIp, parsePrefix } from "./keepalived-address.ts";
import { PLACES_MAX } from "./keepalived-section.ts";
import type { Instance, KeepalivedWant, Place } from "./keepalived-section.ts";
import type { Around, Misfit, Peer, Resolved } from "./kind.ts";

/** What follows from the other nodes for each instance: this node's priority and its peers; and what clashes between them. */

/** The first in the list gets the most; 10 apart, so that a script's weight can take a node one or more places down. */
const PRIORITY_FIRST = 200;
const PRIORITY_STEP = 10;

type AroundUs = Around<KeepalivedWant>;
type Member = { readonly peer: Peer<KeepalivedWant>; readonly instance: Instance };

export function resolveAmong(want: KeepalivedWant, around: AroundUs): Resolved<KeepalivedWant> {
  const misfits: Misfit[] = clashes(want, around);
  const instances: Record<string, Instance> = {};
  for (const [name, instance] of Object.entries(want.instances)) {
    const found = placeOf(name, instance, around);
    misfits.push(...found.misfits);
    instances[name] = { ...instance, place: found.place };
  }
  return { want: { ...want, instances }, misfits };
}

function placeOf(name: string, instance: Instance, around: AroundUs): { readonly place: Place; readonly misfits: readonly Misfit[] } {
  const misfits: Misfit[] = [];
  const tell = (field: readonly (string | number)[], message: string, help?: string): void => {
    misfits.push({ path: ["instances", name, ...field], message, ...(help !== undefined && { help }) });
  };
  const having = membersOf(name, around);
  const order = instance.nodes ?? having.map(({ peer }) => peer.name);
  const members = order.flatMap((node, at): Member[] => {
    const member = having.find(({ peer }) => peer.name === node);
    if (member !== undefined) return [member];
    if (around.nodes.every((peer) => peer.name !== node)) tell(["nodes", at], `there is no node ${node}`, `the nodes are ${around.nodes.map((peer) => peer.name).join(", ")}`);
    else tell(["nodes", at], `${node} does not have the instance ${name}`, `give it a role that has it, or take ${node} off the list`);
    return [];
  });
  if (order.length > PLACES_MAX) tell([], `${order.length} nodes have it, and at most ${PLACES_MAX} can`, "name those that shall hold the addresses under nodes:, and take it away from the others by writing null");
  if (!order.includes(around.self)) tell(["nodes"], `${around.self} has the instance ${name}, and is not in its list of nodes`, `add ${around.self}, or take the instance away from it by writing ${name}: null in nodes/${around.self}.yaml`);
  for (const other of members) if (other.peer.name !== around.self) misfits.push(...differences(name, instance, other));
  const self = around.nodes.find((peer) => peer.name === around.self);
  const sourceOf = (from: Instance, address: string | undefined): string | null => from.source ?? parseIp(address ?? "")?.address ?? null;
  const source = sourceOf(instance, self?.address);
  const families = new Set(instance.addresses.map((each) => parsePrefix(each)?.family));
  if (instance.unicast) {
    if (source === null) tell([], `it is not known from which address ${around.self} speaks VRRP: its address is ${self?.address === undefined ? "not given" : "a name"}`, `write \`address: IP\` in nodes/${around.self}.yaml, or \`source: IP\` in the instance there, or unicast: false`);
    else if (!families.has(parseIp(source)?.family)) tell(["addresses"], `none of the addresses is of the family of ${source}, from which ${around.self} speaks VRRP`, "keepalived wants one of the same family: write it first, give the instance a source of the other family, or unicast: false");
  }
  const peers = members.flatMap((member) => {
    const theirs = sourceOf(member.instance, member.peer.address);
    return member.peer.name === around.self || theirs === null || parseIp(theirs)?.family !== parseIp(source ?? "")?.family ? [] : [theirs];
  });
  const at = Math.max(0, order.indexOf(around.self));
  return { place: { node: around.self, priority: Math.max(1, PRIORITY_FIRST - PRIORITY_STEP * at), source: instance.unicast ? source : (instance.source ?? null), peers: instance.unicast ? peers : [] }, misfits };
}

function membersOf(name: string, around: AroundUs): readonly Member[] {
  return around.nodes.flatMap((peer) => {
    const instance = peer.section?.instances[name];
    return instance === undefined ? [] : [{ peer, instance }];
  });
}

/** What must be the same on all nodes of an instance, or they do not understand each other, or hold different addresses. */
const SHARED = ["routerId", "addresses", "version", "advertSeconds", "unicast", "nodes"] as const;

function differences(name: string, instance: Instance, other: Member): readonly Misfit[] {
  const text = (from: Instance, field: (typeof SHARED)[number]): string => {
    const value = from[field];
    return value === undefined ? "nothing" : Array.isArray(value) ? value.join(", ") : String(value);
  };
  // The order of nodes decides on priorities; that of addresses on nothing.
  const isSame = (field: (typeof SHARED)[number]): boolean =>
    field === "addresses" ? new Set([...instance.addresses, ...other.instance.addresses]).size === instance.addresses.length && instance.addresses.length === other.instance.addresses.length : text(instance, field) === text(other.instance, field);
  return SHARED.filter((field) => !isSame(field)).map((field) => ({
    path: ["instances", name, ...(instance[field] === undefined ? [] : [field])],
    message: `${field} is ${text(instance, field)} here, and ${text(other.instance, field)} on ${other.peer.name}`,
    help: "write it once, in the role that both have",
  }));
}

/** Numbers and addresses that something else in the cluster has already. */
function clashes(want: KeepalivedWant, around: AroundUs): Misfit[] {
  const misfits: Misfit[] = [];
  const all = around.nodes.flatMap((peer) => Object.entries((peer.name === around.self ? want : peer.section)?.instances ?? {}).map(([name, instance]) => ({ node: peer.name, name, instance })));
  const used = new Set(all.map(({ instance }) => instance.routerId));
  const free = Array.from({ length: 255 }, (_, at) => at + 1).find((id) => id > 50 && !used.has(id));
  const where = (other: { readonly node: string }): string => (other.node === around.self ? "" : ` on ${other.node}`);
  for (const [name, instance] of Object.entries(want.instances)) {
    const others = all.filter((other) => other.name !== name);
    const same = others.find((other) => other.instance.routerId === instance.routerId);
    if (same !== undefined) misfits.push({ path: ["instances", name, "routerId"], message: `${instance.routerId} is the number of ${same.name}${where(same)} as well: the two would take each other for one`, ...(free !== undefined && { help: `each instance has a number of its own; ${free} is free` }) });
    for (const [at, each] of instance.addresses.entries()) {
      const address = parsePrefix(each)?.address;
      const path = ["instances", name, "addresses", at];
      const taken = others.find((other) => other.instance.addresses.some((theirs) => parsePrefix(theirs)?.address === address));
      if (taken !== undefined) misfits.push({ path, message: `${address} is an address of ${taken.name}${where(taken)} as well`, help: "an address moves with one instance" });
      const owner = around.nodes.find((peer) => parseIp(peer.address ?? "")?.address === address);
      if (owner !== undefined) misfits.push({ path, message: `${address} is ${owner.name}'s own address`, help: "an address that moves belongs to no node: take another" });
    }
  }
  return misfits;
}
