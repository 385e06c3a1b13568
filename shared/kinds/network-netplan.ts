import { parseIp } from "./keepalived-address.ts";
import type { WantedFile } from "./managed-file.ts";
import { bondMode, destinationOf, routesOf } from "./network-files.ts";
import { devicesOf, mastersOf } from "./network-section.ts";
import type { Device, NetworkWant } from "./network-section.ts";

/** The section as one file of netplan's (netplan(5)), which makes networkd's files out of it. */

export const NETPLAN = "/etc/netplan/60-evenkeel.yaml";

/** 0600: it holds keys, and netplan itself warns of anything else. */
export function netplanFile(want: NetworkWant, without: ReadonlySet<string>): WantedFile {
  return { path: NETPLAN, content: new TextEncoder().encode(netplanText(want, without)), mode: 0o600, owner: "root", group: "root" };
}

type Yaml = string | number | boolean | null | readonly Yaml[] | { readonly [key: string]: Yaml | undefined };

function netplanText(want: NetworkWant, without: ReadonlySet<string>): string {
  const devices = devicesOf(want).filter(({ name }) => !without.has(name));
  const bare = [...mastersOf(want).keys()].filter((name) => !without.has(name) && !devicesOf(want).some((device) => device.name === name));
  const ethernets: readonly (readonly [string, Yaml])[] = [
    ...devices.flatMap((device) => (device.sort === "interfaces" ? [[device.name, ethernetOf(device, want)] as const] : [])),
    ...bare.map((name) => [name, memberOnly()] as const),
  ];
  const of = (sort: Device["sort"], render: (device: Device) => Yaml): Yaml => sorted(devices.flatMap((device) => (device.sort === sort ? [[device.name, render(device)] as const] : [])));
  const tunnels = sorted(devices.flatMap((device) => (device.sort === "vxlans" || device.sort === "wireguards" ? [[device.name, tunnelOf(device)] as const] : [])));
  const network: Yaml = {
    version: 2,
    renderer: "networkd",
    ethernets: sorted(ethernets),
    bonds: of("bonds", (device) => (device.sort === "bonds" ? bondOf(device, without) : null)),
    bridges: of("bridges", (device) => (device.sort === "bridges" ? bridgeOf(device, without) : null)),
    vlans: of("vlans", (device) => (device.sort === "vlans" ? { id: device.it.id, link: device.it.parent, ...commonOf(device, want) } : null)),
    tunnels,
  };
  return `# Kept by evenkeel (section network). What is written here by hand is overwritten.\n${write({ network }, "")}`;
}

function sorted(entries: readonly (readonly [string, Yaml])[]): Yaml {
  return Object.fromEntries(entries.toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

function memberOnly(): Yaml {
  return { dhcp4: false, dhcp6: false, "accept-ra": false, "link-local": [] };
}

function commonOf(device: Device, want: NetworkWant): { readonly [key: string]: Yaml | undefined } {
  const { name, it } = device;
  if (mastersOf(want).has(name)) return { ...(memberOnly() as object), mtu: it.mtu };
  const routes = routesOf(device).map(({ to, via, metric, source, onLink }): Yaml => ({
    to: to === "default" ? destinationOf({ to, via }) : to,
    via,
    metric,
    from: source,
    "on-link": onLink ? true : undefined,
    scope: via === undefined && parseIp(to.split("/")[0] ?? "")?.family === 4 ? "link" : undefined,
  }));
  return {
    dhcp4: it.dhcp === "yes" || it.dhcp === "ipv4",
    dhcp6: it.dhcp === "yes" || it.dhcp === "ipv6",
    "accept-ra": it.acceptRa,
    "link-local": it.linkLocal ? ["ipv6"] : [],
    mtu: it.mtu,
    optional: it.required ? undefined : true,
    // The same as networkd's KeepConfiguration: what keepalived adds is not taken away.
    critical: true,
    addresses: it.addresses,
    nameservers: it.dns.length + it.domains.length === 0 ? undefined : { addresses: it.dns, search: it.domains },
    routes,
  };
}

function ethernetOf(device: Extract<Device, { sort: "interfaces" }>, want: NetworkWant): Yaml {
  const { mac } = device.it;
  return { ...(mac === undefined ? {} : { match: { macaddress: mac }, "set-name": device.name }), ...commonOf(device, want) };
}

function bondOf(device: Extract<Device, { sort: "bonds" }>, without: ReadonlySet<string>): Yaml {
  const { members, mode, monitorMs, lacpRate, hashPolicy, minLinks, primary } = device.it;
  const parameters = { mode: bondMode(mode), "mii-monitor-interval": monitorMs, "lacp-rate": lacpRate, "transmit-hash-policy": hashPolicy, "min-links": minLinks, primary };
  return { interfaces: members.filter((name) => !without.has(name)), parameters, ...commonOf(device, emptyMasters) };
}

function bridgeOf(device: Extract<Device, { sort: "bridges" }>, without: ReadonlySet<string>): Yaml {
  const { members, stp, forwardDelaySeconds } = device.it;
  return { interfaces: members.filter((name) => !without.has(name)), parameters: { stp, "forward-delay": forwardDelaySeconds }, ...commonOf(device, emptyMasters) };
}

function tunnelOf(device: Extract<Device, { sort: "vxlans" | "wireguards" }>): Yaml {
  if (device.sort === "vxlans") {
    const { id, ends, local, remote, parent, port, learning } = device.it;
    return { mode: "vxlan", id, local: ends?.local ?? local, remote, link: parent, port, "mac-learning": learning, ...commonOf(device, emptyMasters) };
  }
  const { privateKey, port, mesh, keepaliveSeconds, peers } = device.it;
  const text = ({ bytes }: { readonly bytes: Uint8Array }): string => new TextDecoder().decode(bytes).trim();
  const nodes = (mesh ?? []).map((peer): Yaml => ({ keys: { public: peer.publicKey }, "allowed-ips": peer.allowedIps, endpoint: peer.endpoint ?? undefined, keepalive: keepaliveSeconds }));
  const others = Object.entries(peers)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([, peer]): Yaml => ({ keys: { public: peer.publicKey, shared: peer.presharedKey === undefined ? undefined : text(peer.presharedKey) }, "allowed-ips": peer.allowedIps, endpoint: peer.endpoint, keepalive: peer.keepaliveSeconds }));
  return { mode: "wireguard", port, key: text(privateKey), peers: [...nodes, ...others], ...commonOf(device, emptyMasters) };
}

/** Bonds, bridges and tunnels are nobody's members here, but for a bond in a bridge, which netplan tells from `interfaces`. */
const emptyMasters = { bonds: {}, bridges: {} } as unknown as NetworkWant;

/** YAML in blocks; every text in double quotes, as JSON writes it, which YAML reads the same. Empty lists stay, empty maps go. */
function write(value: Yaml, indent: string): string {
  if (value === null || typeof value !== "object") return `${indent}${JSON.stringify(value)}\n`;
  if (isList(value)) return value.map((item) => (item !== null && typeof item === "object" ? `${indent}- ${write(item, `${indent}  `).trimStart()}` : `${indent}- ${JSON.stringify(item)}\n`)).join("");
  return Object.entries(value)
    .filter(([, item]) => item !== undefined && !(item !== null && typeof item === "object" && !isList(item) && Object.keys(item).length === 0))
    .map(([key, item]) => {
      if (item === null || typeof item !== "object") return `${indent}${keyText(key)}: ${JSON.stringify(item)}\n`;
      return isList(item) && item.length === 0 ? `${indent}${keyText(key)}: []\n` : `${indent}${keyText(key)}:\n${write(item, `${indent}  `)}`;
    })
    .join("");
}

function keyText(key: string): string {
  return /^[a-z][a-z0-9-]*$/.test(key) ? key : JSON.stringify(key);
}

function isList(value: Yaml): value is readonly Yaml[] {
  return Array.isArray(value);
}
