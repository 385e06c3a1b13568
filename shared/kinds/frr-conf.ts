import { ofFamily, policyLines, sorted } from "./frr-policy.ts";
import type { Bgp, EvpnFamily, FrrWant, Neighbor, NeighborFamily, Ospf } from "./frr-section.ts";
import { parseIp, parsePrefix } from "./keepalived-address.ts";

/**
 * frr.conf in the form in which `show running-config` prints it: what is a default is left out, so that the file and what runs
 * can be compared line by line, and frr-reload finds nothing to do. As printed by FRR 8.4; the order within a block does not matter.
 */
export function renderConf(want: FrrWant): string {
  if (want.node === null) throw new Error("the section frr was not resolved");
  const lines = [
    "frr defaults traditional",
    `hostname ${want.node}`,
    "log syslog informational",
    ...(want.forwarding.ipv4 ? [] : ["no ip forwarding"]),
    ...(want.forwarding.ipv6 ? [] : ["no ipv6 forwarding"]),
    "service integrated-vtysh-config",
    ...staticLines(want),
    ...(want.ospf === undefined ? [] : sorted(want.ospf.interfaces).flatMap(([name, each]) => [`interface ${name}`, ...ospfInterfaceLines(each), "exit"])),
    ...(want.bgp === undefined ? [] : bgpLines(want.bgp)),
    ...(want.ospf === undefined ? [] : ospfLines(want.ospf)),
    ...policyLines(want),
    ...bfdLines(want.bfd),
    ...(want.raw?.lines ?? []),
  ];
  return `! Kept by evenkeel (section frr). What is written here by hand is overwritten.\n${lines.join("\n")}\n`;
}

export function holdsPassword(want: FrrWant): boolean {
  return Object.values(want.bgp?.neighbors ?? {}).some(({ password }) => password !== undefined) || Object.values(want.ospf?.interfaces ?? {}).some(({ key }) => key !== undefined);
}

function staticLines(want: FrrWant): string[] {
  return sorted(want.static).flatMap(([to, { via, interface: at, blackhole, distance, tag }]) => {
    const word = parsePrefix(to)?.family === 6 ? "ipv6" : "ip";
    const hops = blackhole ? ["blackhole"] : via === undefined ? [at ?? ""] : via.map((each) => (at === undefined ? each : `${each} ${at}`));
    return hops.map((hop) => `${word} route ${to} ${hop}${tag === undefined ? "" : ` tag ${tag}`}${distance === 1 ? "" : ` ${distance}`}`);
  });
}

function bgpLines(bgp: Bgp): string[] {
  const neighbors = sorted(bgp.neighbors);
  const restart = bgp.gracefulRestart;
  return [
    `router bgp ${bgp.asn}`,
    ...(bgp.routerId === undefined ? [] : [` bgp router-id ${bgp.routerId}`]),
    ...(bgp.requirePolicy ? [] : [" no bgp ebgp-requires-policy"]),
    " no bgp default ipv4-unicast",
    ...(bgp.importCheck ? [] : [" no bgp network import-check"]),
    ...(restart === undefined || restart.staleSeconds === 360 ? [] : [` bgp graceful-restart stalepath-time ${restart.staleSeconds}`]),
    ...(restart === undefined || restart.restartSeconds === 120 ? [] : [` bgp graceful-restart restart-time ${restart.restartSeconds}`]),
    ...(restart?.preserveForwarding === true ? [" bgp graceful-restart preserve-fw-state"] : []),
    ...(restart === undefined ? [] : [" bgp graceful-restart"]),
    ...neighbors.flatMap(([name, neighbor]) => neighborLines(name, neighbor).map((line) => ` ${line}`)),
    ...(["ipv4", "ipv6"] as const).flatMap((name) => familyLines(name, bgp)),
    ...evpnLines(bgp),
    "exit",
  ];
}

function peerOf(name: string, neighbor: Neighbor): { readonly address: string; readonly asn: number | string } {
  if (neighbor.peer === null) throw new Error(`the neighbour ${name} was not resolved`);
  return neighbor.peer;
}

function neighborLines(name: string, neighbor: Neighbor): string[] {
  const { address, asn } = peerOf(name, neighbor);
  const { keepaliveSeconds, holdSeconds, connectSeconds, multihop, updateSource, bfd } = neighbor;
  const of = (text: string): string => `neighbor ${address} ${text}`;
  return [
    of(`${neighbor.interface === undefined ? "" : "interface "}remote-as ${asn}`),
    of(`description ${neighbor.description ?? name}`),
    ...(bfd === false ? [] : [of("bfd")]),
    ...(typeof bfd === "string" ? [of(`bfd profile ${bfd}`)] : []),
    ...(neighbor.password === undefined ? [] : [of(`password ${neighbor.password}`)]),
    ...(neighbor.passive ? [of("passive")] : []),
    ...(multihop === undefined ? [] : [of(`ebgp-multihop ${multihop}`)]),
    ...(updateSource === undefined ? [] : [of(`update-source ${updateSource}`)]),
    ...(keepaliveSeconds === 60 && holdSeconds === 180 ? [] : [of(`timers ${keepaliveSeconds} ${holdSeconds}`)]),
    ...(connectSeconds === 120 ? [] : [of(`timers connect ${connectSeconds}`)]),
    ...(neighbor.shutdown ? [of("shutdown")] : []),
  ];
}

/** The families that a session carries: those that are named, else that of its address. */
function familiesOf(neighbor: Neighbor, address: string): { readonly ipv4?: NeighborFamily | undefined; readonly ipv6?: NeighborFamily | undefined; readonly evpn?: EvpnFamily | undefined } {
  const { ipv4, ipv6, evpn } = neighbor;
  if (ipv4 !== undefined || ipv6 !== undefined || evpn !== undefined) return { ipv4, ipv6, evpn };
  const plain: NeighborFamily = { nextHopSelf: false, routeReflectorClient: false, softReconfiguration: false, defaultOriginate: false };
  return parseIp(address)?.family === 4 ? { ipv4: plain } : { ipv6: plain };
}

function sessionLines(bgp: Bgp, family: "ipv4" | "ipv6" | "evpn"): string[] {
  return sorted(bgp.neighbors).flatMap(([name, neighbor]) => {
    const { address } = peerOf(name, neighbor);
    const found: NeighborFamily | EvpnFamily | undefined = familiesOf(neighbor, address)[family];
    if (found === undefined) return [];
    const of: NeighborFamily = { defaultOriginate: false, ...found };
    const flags = { "route-reflector-client": of.routeReflectorClient, "next-hop-self": of.nextHopSelf, "default-originate": of.defaultOriginate, "soft-reconfiguration inbound": of.softReconfiguration };
    return [
      "activate",
      ...Object.entries(flags).flatMap(([word, on]) => (on ? [word] : [])),
      // bgp_vty.c: 3 is what it means without a number.
      ...(of.allowAsIn === undefined ? [] : [of.allowAsIn === 3 ? "allowas-in" : `allowas-in ${of.allowAsIn}`]),
      ...(of.maximumPrefix === undefined ? [] : [`maximum-prefix ${of.maximumPrefix}`]),
      ...(of.prefixListIn === undefined ? [] : [`prefix-list ${of.prefixListIn} in`]),
      ...(of.prefixListOut === undefined ? [] : [`prefix-list ${of.prefixListOut} out`]),
      ...(of.in === undefined ? [] : [`route-map ${of.in} in`]),
      ...(of.out === undefined ? [] : [`route-map ${of.out} out`]),
    ].map((text) => `neighbor ${address} ${text}`);
  });
}

function familyLines(name: "ipv4" | "ipv6", bgp: Bgp): string[] {
  const { networks, redistribute, maximumPaths } = bgp[name];
  return inFamily(`${name} unicast`, [
    ...ofFamily(networks, name === "ipv4" ? 4 : 6).toSorted().map((each) => `network ${each}`),
    ...redistributeLines(redistribute, name === "ipv6"),
    ...sessionLines(bgp, name),
    ...(maximumPaths === undefined ? [] : [`maximum-paths ${maximumPaths}`]),
  ]);
}

function evpnLines(bgp: Bgp): string[] {
  const { evpn } = bgp;
  return inFamily("l2vpn evpn", [
    ...sessionLines(bgp, "evpn"),
    ...(evpn?.advertiseAllVni === true ? ["advertise-all-vni"] : []),
    ...(evpn?.advertiseDefaultGateway === true ? ["advertise-default-gw"] : []),
    ...(evpn?.advertiseSviIp === true ? ["advertise-svi-ip"] : []),
  ]);
}

function inFamily(name: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [` address-family ${name}`, ...lines.map((line) => `  ${line}`), " exit-address-family"];
}

function redistributeLines(from: Ospf["redistribute"], isIpv6 = false): string[] {
  return sorted(from).map(([source, of]) => {
    const { metric, routeMap } = of ?? {};
    return `redistribute ${source === "ospf" && isIpv6 ? "ospf6" : source}${metric === undefined ? "" : ` metric ${metric}`}${routeMap === undefined ? "" : ` route-map ${routeMap}`}`;
  });
}

function ospfInterfaceLines(each: Ospf["interfaces"][string]): string[] {
  return [
    `area ${each.area}`,
    ...(each.key === undefined ? [] : ["authentication message-digest", `message-digest-key 1 md5 ${each.key}`]),
    ...(each.bfd ? ["bfd"] : []),
    ...(each.cost === undefined ? [] : [`cost ${each.cost}`]),
    ...(each.deadSeconds === 40 ? [] : [`dead-interval ${each.deadSeconds}`]),
    ...(each.helloSeconds === 10 ? [] : [`hello-interval ${each.helloSeconds}`]),
    ...(each.network === undefined ? [] : [`network ${each.network}`]),
    ...(each.passive ? ["passive"] : []),
    ...(each.priority === 1 ? [] : [`priority ${each.priority}`]),
  ].map((text) => ` ip ospf ${text}`);
}

function ospfLines(ospf: Ospf): string[] {
  return [
    "router ospf",
    ...(ospf.routerId === undefined ? [] : [` ospf router-id ${ospf.routerId}`]),
    ...redistributeLines(ospf.redistribute).map((line) => ` ${line}`),
    ...(ospf.defaultOriginate ? [" default-information originate"] : []),
    "exit",
  ];
}

function bfdLines(profiles: FrrWant["bfd"]): string[] {
  const names = sorted(profiles);
  if (names.length === 0) return [];
  return [
    "bfd",
    ...names.flatMap(([name, { detectMultiplier, receiveMs, transmitMs, passive, minimumTtl }]) => [
      ` profile ${name}`,
      ...(detectMultiplier === 3 ? [] : [`  detect-multiplier ${detectMultiplier}`]),
      ...(transmitMs === 300 ? [] : [`  transmit-interval ${transmitMs}`]),
      ...(receiveMs === 300 ? [] : [`  receive-interval ${receiveMs}`]),
      ...(passive ? ["  passive-mode"] : []),
      ...(minimumTtl === undefined ? [] : [`  minimum-ttl ${minimumTtl}`]),
      " exit",
    ]),
    "exit",
  ];
}

/** The daemons that the section needs, of those that it may need. */
export function daemonsOf(want: FrrWant): ReadonlyMap<string, boolean> {
  const usesBfd = Object.keys(want.bfd).length > 0 || Object.values(want.bgp?.neighbors ?? {}).some(({ bfd }) => bfd !== false) || Object.values(want.ospf?.interfaces ?? {}).some(({ bfd }) => bfd);
  const raw = new Set<string>(want.raw?.daemons);
  const others = ["ospf6d", "ripd", "ripngd", "isisd", "pimd", "pim6d", "ldpd", "nhrpd", "eigrpd", "babeld", "pbrd", "fabricd", "pathd", "vrrpd"];
  return new Map([["bgpd", want.bgp !== undefined], ["ospfd", want.ospf !== undefined], ["bfdd", usesBfd], ...others.map((name) => [name, raw.has(name)] as const)]);
}

/** Daemons that /etc/frr/daemons switches on. */
export function switchedOn(text: string): ReadonlySet<string> {
  return new Set(text.split("\n").flatMap((line) => /^([a-z0-9]+)=\s*"?yes"?\s*$/.exec(line)?.[1] ?? []));
}

/** /etc/frr/daemons with those switched on and off; every other line stays as it is. */
export function withDaemons(text: string, daemons: ReadonlyMap<string, boolean>): string {
  const [seen, now] = [new Set<string>(), switchedOn(text)];
  const lines = text.split("\n").map((line) => {
    const name = /^([a-z0-9]+)=/.exec(line)?.[1] ?? "";
    const on = daemons.get(name);
    if (on === undefined) return line;
    seen.add(name);
    return now.has(name) === on ? line : `${name}=${on ? "yes" : "no"}`;
  });
  const missing = [...daemons].flatMap(([name, on]) => (on && !seen.has(name) ? [`${name}=yes`] : []));
  return missing.length === 0 ? lines.join("\n") : `${lines.join("\n").replace(/\n*$/, "\n")}${missing.join("\n")}\n`;
}
