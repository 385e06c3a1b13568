import type { Content } from "../config/content.ts";
import { holds, parseIp, parsePrefix } from "./keepalived-address.ts";
import { devicesOf, mastersOf } from "./network-section.ts";
import type { Device, NetworkWant, Route } from "./network-section.ts";
import type { WantedFile } from "./managed-file.ts";

/** The section as files of systemd-networkd (systemd.netdev(5), systemd.network(5), systemd.link(5)), always in the same order. */

const DIRECTORY = "/etc/systemd/network";
/** 60: before the distribution's own (70 to 99), after what somebody puts in front of it on purpose. */
const PREFIX = "60-evenkeel-";
export const CONF = "/etc/systemd/networkd.conf.d/60-evenkeel.conf";
/**
 * Without this, networkd takes away routes that FRR has made, whenever it looks at an interface anew (networkd.conf(5);
 * seen with 252).
 */
export const CONF_TEXT = `# Kept by evenkeel (section network).
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
`;

export type Suffix = "netdev" | "network" | "link" | "key" | `${string}.psk`;

export interface NetworkFile extends WantedFile {
  /** The device that it is about. */
  readonly device: string;
  /** Holds a secret. */
  readonly sensitive: boolean;
}

export function pathOf(name: string, suffix: Suffix): string {
  return `${DIRECTORY}/${PREFIX}${name}.${suffix}`;
}

/** `/etc/systemd/network/60-evenkeel-br0.netdev` → `br0`, `netdev`; null for what is none of ours. */
export function deviceOfPath(path: string): { readonly name: string; readonly suffix: string } | null {
  const found = new RegExp(`^${DIRECTORY}/${PREFIX}(.+)\\.(netdev|network|link|key|psk)$`).exec(path);
  return found === null ? null : { name: found[1]!, suffix: found[2]! };
}

/** What the name of each sort is in a .netdev file and in the kernel. */
export const NETDEV_KINDS = { bonds: "bond", vlans: "vlan", bridges: "bridge", vxlans: "vxlan", wireguards: "wireguard" } as const;

export function bondMode(mode: NetworkWant["bonds"][string]["mode"]): string {
  return mode === "lacp" ? "802.3ad" : mode;
}

/** All files of the section, in the order of their paths; of devices in `without`, none. */
export function filesOf(want: NetworkWant, without: ReadonlySet<string> = new Set()): readonly NetworkFile[] {
  const masters = mastersOf(want);
  const devices = devicesOf(want).filter(({ name }) => !without.has(name));
  const bare = [...masters.keys()].filter((name) => !without.has(name) && !devices.some((device) => device.name === name));
  const files = [
    ...devices.flatMap((device) => filesOfDevice(device, want)),
    ...bare.map((name) => file(name, "network", networkOfMember(name, want))),
  ];
  return files.toSorted((one, other) => (one.path < other.path ? -1 : 1));
}

function filesOfDevice(device: Device, want: NetworkWant): readonly NetworkFile[] {
  const { name } = device;
  const link = device.sort === "interfaces" && device.it.mac !== undefined ? [file(name, "link", linkText(name, device.it.mac))] : [];
  const netdev = device.sort === "interfaces" ? [] : [file(name, "netdev", netdevText(device))];
  const secrets = device.sort === "wireguards" ? keysOf(name, device.it) : [];
  return [...link, ...netdev, ...secrets, file(name, "network", networkText(device, want))];
}

function file(device: string, suffix: Suffix, text: string): NetworkFile {
  return { device, path: pathOf(device, suffix), content: new TextEncoder().encode(`# Kept by evenkeel (section network). What is written here by hand is overwritten.\n${text}`), mode: 0o644, owner: "root", group: "root", sensitive: false };
}

/** networkd reads keys as the user systemd-network, and warns of files that others may read. */
function keyFile(device: string, suffix: Suffix, { bytes }: Content): NetworkFile {
  return { device, path: pathOf(device, suffix), content: new TextEncoder().encode(`${new TextDecoder().decode(bytes).trim()}\n`), mode: 0o640, owner: "root", group: "systemd-network", sensitive: true };
}

function keysOf(name: string, it: NetworkWant["wireguards"][string]): readonly NetworkFile[] {
  const shared = Object.entries(it.peers).flatMap(([peer, { presharedKey }]) => (presharedKey === undefined ? [] : [keyFile(name, `${peer}.psk`, presharedKey)]));
  return [keyFile(name, "key", it.privateKey), ...shared];
}

type Line = readonly [key: string, value: string | number | boolean | undefined];

/** One section of an ini file; lines without a value are left out, and so is a section without lines. */
function ini(name: string, lines: readonly Line[]): string {
  const told = lines.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value === true ? "yes" : value === false ? "no" : value}\n`]));
  return told.length === 0 ? "" : `\n[${name}]\n${told.join("")}`;
}

function linkText(name: string, mac: string): string {
  return ini("Match", [["PermanentMACAddress", mac]]) + ini("Link", [["Name", name]]);
}

function netdevText(device: Exclude<Device, { sort: "interfaces" }>): string {
  return ini("NetDev", [["Name", device.name], ["Kind", NETDEV_KINDS[device.sort]], ["MTUBytes", device.it.mtu]]) + ownText(device);
}

function ownText(device: Exclude<Device, { sort: "interfaces" }>): string {
  switch (device.sort) {
    case "bonds": {
      const { mode, monitorMs, lacpRate, hashPolicy, minLinks } = device.it;
      return ini("Bond", [["Mode", bondMode(mode)], ["MIIMonitorSec", `${monitorMs}ms`], ["LACPTransmitRate", lacpRate], ["TransmitHashPolicy", hashPolicy], ["MinLinks", minLinks]]);
    }
    case "vlans":
      return ini("VLAN", [["Id", device.it.id]]);
    case "bridges":
      return ini("Bridge", [["STP", device.it.stp], ["ForwardDelaySec", device.it.forwardDelaySeconds]]);
    case "vxlans": {
      const { id, ends, local, remote, port, learning, parent } = device.it;
      const from = ends?.local ?? local;
      const group = remote !== undefined && isMulticast(remote);
      return ini("VXLAN", [["VNI", id], ["Local", from], [group ? "Group" : "Remote", remote], ["DestinationPort", port], ["MacLearning", learning], ["Independent", parent === undefined ? true : undefined]]);
    }
    case "wireguards":
      return wireguardText(device.name, device.it);
  }
}

/** RFC 5771 and RFC 4291, 2.7. */
function isMulticast(address: string): boolean {
  return /^(22[4-9]|23\d)\./.test(address) || /^ff/i.test(address);
}

function wireguardText(name: string, it: NetworkWant["wireguards"][string]): string {
  const nodes = (it.mesh ?? []).toSorted((one, other) => (one.node < other.node ? -1 : 1));
  return [
    ini("WireGuard", [["PrivateKeyFile", pathOf(name, "key")], ["ListenPort", it.port]]),
    ...nodes.map((peer) => ini("WireGuardPeer", [["PublicKey", peer.publicKey], ["AllowedIPs", peer.allowedIps.join(",")], ["Endpoint", peer.endpoint ?? undefined], ["PersistentKeepalive", it.keepaliveSeconds]])),
    ...Object.entries(it.peers)
      .toSorted(([one], [other]) => (one < other ? -1 : 1))
      .map(([peer, { publicKey, presharedKey, allowedIps, endpoint, keepaliveSeconds }]) =>
        ini("WireGuardPeer", [["PublicKey", publicKey], ["PresharedKeyFile", presharedKey === undefined ? undefined : pathOf(name, `${peer}.psk`)], ["AllowedIPs", allowedIps.join(",")], ["Endpoint", endpoint], ["PersistentKeepalive", keepaliveSeconds]]),
      ),
  ].join("");
}

/** Whether the device gets its addresses although nothing is plugged in: a bridge that only waits for guests does. */
export function worksWithoutCarrier(device: Device): boolean {
  return device.sort === "bridges";
}

function networkText(device: Device, want: NetworkWant): string {
  const { name, it } = device;
  const master = mastersOf(want).get(name);
  if (master !== undefined) return networkOfMember(name, want, device);
  const match: Line = device.sort === "interfaces" && device.it.mac !== undefined ? ["PermanentMACAddress", device.it.mac] : ["Name", name];
  return [
    ini("Match", [match, ...(match[0] === "Name" ? [] : [["Type", "ether"] as const])]),
    ini("Link", [["MTUBytes", it.mtu], ["RequiredForOnline", it.required]]),
    ini("Network", [
      ["KeepConfiguration", "static"],
      ["LinkLocalAddressing", it.linkLocal ? "ipv6" : "no"],
      ["IPv6AcceptRA", it.acceptRa],
      ["DHCP", it.dhcp],
      ["ConfigureWithoutCarrier", worksWithoutCarrier(device) ? true : undefined],
      ...it.addresses.map((address): Line => ["Address", address]),
      ...it.dns.map((server): Line => ["DNS", server]),
      ["Domains", it.domains.length === 0 ? undefined : it.domains.join(" ")],
      ...upperLines(name, want),
    ]),
    ...routesOf(device).map(routeText),
    ...(device.sort === "vxlans" ? (device.it.ends?.remotes ?? []).map((remote) => ini("BridgeFDB", [["MACAddress", "00:00:00:00:00:00"], ["Destination", remote]])) : []),
  ].join("");
}

function networkOfMember(name: string, want: NetworkWant, device?: Device): string {
  const { master, sort } = mastersOf(want).get(name)!;
  const it = device?.it;
  const match: Line = device?.sort === "interfaces" && device.it.mac !== undefined ? ["PermanentMACAddress", device.it.mac] : ["Name", name];
  const primary = sort === "bonds" && want.bonds[master]?.primary === name ? true : undefined;
  return [
    ini("Match", [match, ...(match[0] === "Name" ? [] : [["Type", "ether"] as const])]),
    ini("Link", [["MTUBytes", it?.mtu ?? (sort === "bonds" ? want.bonds[master]?.mtu : undefined)], ["RequiredForOnline", false]]),
    ini("Network", [["LinkLocalAddressing", "no"], ["IPv6AcceptRA", false], [sort === "bonds" ? "Bond" : "Bridge", master], ["PrimarySlave", primary], ...upperLines(name, want)]),
    ...(device?.sort === "vxlans" ? (device.it.ends?.remotes ?? []).map((remote) => ini("BridgeFDB", [["MACAddress", "00:00:00:00:00:00"], ["Destination", remote]])) : []),
  ].join("");
}

/** networkd makes VLANs and VXLANs where the device that carries them names them. */
function upperLines(name: string, want: NetworkWant): readonly Line[] {
  const upper = (of: Readonly<Record<string, { readonly parent?: string | undefined }>>): readonly string[] => Object.keys(of).filter((each) => of[each]?.parent === name).toSorted();
  return [...upper(want.vlans).map((each): Line => ["VLAN", each]), ...upper(want.vxlans).map((each): Line => ["VXLAN", each])];
}

/** The device's routes, with its gateways as what they are, and with what is behind WireGuard's peers. */
export function routesOf(device: Device): readonly Route[] {
  const { it } = device;
  const gateways = [it.gateway4, it.gateway6].flatMap((via) => (via === undefined ? [] : [{ to: "default" as const, via, onLink: false }]));
  return [...gateways, ...it.routes, ...(device.sort === "wireguards" ? routesBehind(device.it) : [])];
}

/** All networks of the peers but those that the tunnel's own addresses are in; a default route is only taken where it is written. */
function routesBehind(it: NetworkWant["wireguards"][string]): readonly Route[] {
  const own = it.addresses.flatMap((each) => parsePrefix(each) ?? []);
  const written = new Set(it.routes.map(({ to }) => to));
  const behind = [...(it.mesh ?? []), ...Object.values(it.peers)].flatMap(({ allowedIps }) => allowedIps);
  return [...new Set(behind)]
    .toSorted()
    .filter((to) => {
      const prefix = parsePrefix(to);
      return prefix !== null && prefix.length > 0 && !written.has(to) && !own.some((each) => each.length <= prefix.length && holds(each, prefix));
    })
    .map((to) => ({ to, onLink: false }));
}

/** `default` as the network that it is. */
export function destinationOf({ to, via }: Pick<Route, "to" | "via">): string {
  return to === "default" ? (parseIp(via ?? "")?.family === 6 ? "::/0" : "0.0.0.0/0") : to;
}

function routeText(route: Route): string {
  const { via, metric, source, onLink } = route;
  const destination = destinationOf(route);
  return ini("Route", [["Destination", destination], ["Gateway", via], ["GatewayOnLink", onLink ? true : undefined], ["Metric", metric], ["PreferredSource", source], ["Scope", via === undefined && !destination.includes(":") ? "link" : undefined]]);
}
