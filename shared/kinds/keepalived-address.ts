import * as z from "zod";

/** IP addresses and networks as sections write them, and in the one form in which two of them can be compared. */

export type Family = 4 | 6;

export interface IpAddress {
  /** Canonical: decimal without leading zeros, or RFC 5952. */
  readonly address: string;
  readonly family: Family;
}

export interface IpPrefix extends IpAddress {
  /** Bits of the network. */
  readonly length: number;
}

/** Null for what is no IP address. */
export function parseIp(text: string): IpAddress | null {
  if (z.ipv4().safeParse(text).success) return { address: text, family: 4 };
  if (!z.ipv6().safeParse(text).success) return null;
  // The URL standard writes IPv6 hosts as RFC 5952 does.
  return { address: new URL(`http://[${text}]`).hostname.slice(1, -1), family: 6 };
}

/** `10.0.0.1/24`; without a length, all bits. Null for what is none. The bits beyond the length are left as they are. */
export function parsePrefix(text: string): IpPrefix | null {
  const slash = text.indexOf("/");
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === null) return null;
  const bits = ip.family === 4 ? 32 : 128;
  const length = slash < 0 ? String(bits) : text.slice(slash + 1);
  return /^(0|[1-9]\d{0,2})$/.test(length) && Number(length) <= bits ? { ...ip, length: Number(length) } : null;
}

/** The same with the bits beyond the length cleared: `10.0.0.9/24` gives `10.0.0.0/24`. */
export function networkOf(prefix: IpPrefix): IpPrefix {
  const bytes = bytesOf(prefix).map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, prefix.length - at * 8))));
  return { ...prefix, address: textOf(bytes, prefix.family) };
}

export function isNetwork(prefix: IpPrefix): boolean {
  return networkOf(prefix).address === prefix.address;
}

/** Whether the network holds the address. */
export function holds(network: IpPrefix, ip: IpAddress): boolean {
  return network.family === ip.family && networkOf({ ...ip, length: network.length }).address === networkOf(network).address;
}

export function writePrefix({ address, length }: IpPrefix): string {
  return `${address}/${length}`;
}

function bytesOf({ address, family }: IpAddress): number[] {
  if (family === 4) return address.split(".").map(Number);
  const [head = "", tail] = address.split("::");
  const words = (part: string): string[] => part.split(":").filter((word) => word !== "");
  const [before, after] = [words(head), words(tail ?? "")];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => "0");
  return [...before, ...zeros, ...after].flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 0xff]);
}

function textOf(bytes: readonly number[], family: Family): string {
  if (family === 4) return bytes.join(".");
  const words = Array.from({ length: 8 }, (_, at) => (((bytes[at * 2] ?? 0) << 8) | (bytes[at * 2 + 1] ?? 0)).toString(16));
  return new URL(`http://[${words.join(":")}]`).hostname.slice(1, -1);
}

/** An address as a section writes it; what comes out is canonical. */
export const ipAddress = z
  .string()
  .max(64)
  .transform((text, check) => {
    const ip = parseIp(text);
    if (ip === null) check.addIssue({ code: "custom", message: `${text} is no IP address, such as 10.0.0.1 or fd00::1` });
    return ip?.address ?? text;
  });

/** An address with the length of its network, as an interface has it. */
export const interfaceAddress = z
  .string()
  .max(64)
  .transform((text, check) => {
    const prefix = parsePrefix(text);
    if (prefix === null) check.addIssue({ code: "custom", message: `${text} is no address with the length of its network, such as 10.0.0.100/24 or fd00::100/64` });
    return prefix === null ? text : writePrefix(prefix);
  });

/** A network: what a route leads to. */
export const network = z
  .string()
  .max(64)
  .transform((text, check) => {
    const prefix = parsePrefix(text);
    if (prefix === null) check.addIssue({ code: "custom", message: `${text} is no network, such as 10.0.0.0/24 or fd00::/64` });
    else if (!isNetwork(prefix)) check.addIssue({ code: "custom", message: `${text} is an address within a network: the network is ${writePrefix(networkOf(prefix))}` });
    return prefix === null ? text : writePrefix(prefix);
  });

/** IFNAMSIZ is 16 with its NUL (netdevice(7)). */
export const interfaceName = z.string().regex(/^[A-Za-z0-9_.@-]{1,15}$/, "an interface's name has at most 15 letters, digits, dots, underscores and hyphens, like eth0");
