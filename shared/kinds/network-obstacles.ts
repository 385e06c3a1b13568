import { posix } from "node:path";
import type { Probe } from "./kind.ts";
import { pathOf } from "./network-files.ts";
import { isOther, linkOf } from "./network-live.ts";
import type { LiveLink, NetifState } from "./network-live.ts";
import { devicesOf, mastersOf } from "./network-section.ts";
import type { NetworkWant } from "./network-section.ts";

/** Why a device of the section cannot be had on this machine. The others are not held up by it. */

export interface Around {
  readonly links: ReadonlyMap<string, LiveLink>;
  /** What networkd says about the section's devices, by name. */
  readonly netif: ReadonlyMap<string, NetifState>;
  /** Interfaces that ifupdown sets up, and the file that says so. */
  readonly ifupdown: ReadonlyMap<string, string>;
}

/** Device → why, for people. */
export function obstaclesOf(want: NetworkWant, around: Around): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const devices = devicesOf(want);
  const has = [...around.links.values()].filter((link) => link.kind === null || link.kind === "veth").map((link) => link.name).filter((name) => name !== "lo");
  const none = (name: string, by = ""): string => `there is no interface ${name}${by} on this node: it has ${has.join(", ") || "none"}. Is the name right (\`ip link\` on the node), and the driver's module there?`;
  const masters = mastersOf(want);
  for (const name of masters.keys()) if (!devices.some((device) => device.name === name) && !around.links.has(name)) found.set(name, none(name));
  for (const device of devices) {
    const { name } = device;
    const link = linkOf(device, around.links);
    const other = link === undefined ? null : isOther(device, link);
    if (device.sort === "interfaces" && link === undefined) found.set(name, device.it.mac === undefined ? none(name) : none(name, ` with the link address ${device.it.mac}`));
    else if (other !== null) found.set(name, `${name} is there already, and is ${other === "veth" ? "one end of a veth pair" : other}: take another name, or remove it by hand`);
  }
  for (const name of [...devices.map((device) => device.name), ...masters.keys()]) {
    const why = found.has(name) ? null : overruled(name, want, around);
    if (why !== null) found.set(name, why);
  }
  spread(want, found);
  return found;
}

/** What is made of nothing that is there cannot be had either: an address that moves to an empty bridge would cut the node off. */
function spread(want: NetworkWant, found: Map<string, string>): void {
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const sort of ["bonds", "bridges"] as const) {
      for (const [name, { members }] of Object.entries(want[sort])) {
        if (!found.has(name) && members.length > 0 && members.every((member: string) => found.has(member))) found.set(name, `none of the members of ${name} can be had: ${members.join(", ")}. It is not made without any.`);
      }
    }
    for (const sort of ["vlans", "vxlans"] as const) {
      for (const [name, { parent }] of Object.entries(want[sort])) if (!found.has(name) && parent !== undefined && found.has(parent)) found.set(name, `${name} lies on ${parent}, which cannot be had`);
    }
  }
}

/** networkd takes the first file that matches, by the order of names (systemd.network(5)); ifupdown does not ask anybody. */
function overruled(name: string, want: NetworkWant, { netif, ifupdown }: Around): string | null {
  const by = ifupdown.get(name);
  if (by !== undefined && !want.replaces.includes(by)) return `${name} is set up by ifupdown (${by}), and both would work on it: write \`replaces: ["${by}"]\` to take its place, after looking what else is in there`;
  if (want.backend === "netplan") return null;
  const file = netif.get(name)?.networkFile;
  const own = pathOf(name, "network");
  if (file === null || file === undefined || file === own || want.replaces.includes(file) || want.replaces.includes(file.replace(/^\/usr\/lib\//, "/lib/"))) return null;
  if (posix.basename(file) >= posix.basename(own)) return null;
  const cure = /netplan/.test(file) ? "take `backend: netplan`, or " : "";
  return `networkd sets ${name} up by ${file}, which comes before ${posix.basename(own)}: ${cure}write \`replaces: ["${file}"]\` to take its place`;
}

const IFUPDOWN = "/etc/network/interfaces";

/** ifupdown's own interfaces, where ifupdown is installed at all (interfaces(5)). */
export async function readIfupdown(probe: Probe): Promise<ReadonlyMap<string, string>> {
  const main = await probe.readText(IFUPDOWN);
  if (main === null) return new Map();
  const more = ((await probe.list(`${IFUPDOWN}.d`)) ?? []).filter((name) => /^[A-Za-z0-9_-]+$/.test(name)).map((name) => `${IFUPDOWN}.d/${name}`);
  const texts = [[IFUPDOWN, main] as const, ...(await Promise.all(more.map(async (path) => [path, (await probe.readText(path)) ?? ""] as const)))];
  const names = texts.flatMap(([path, text]) => [...text.matchAll(/^\s*iface\s+(\S+)\s+(inet6?)\s+(\S+)/gm)].flatMap(([, name, , method]) => (name === undefined || name === "lo" || method === "manual" ? [] : [[name, path] as const])));
  if (names.length === 0) return new Map();
  const installed = (await probe.stat("/usr/sbin/ifup")) ?? (await probe.stat("/sbin/ifup"));
  return installed === null ? new Map() : new Map(names);
}
