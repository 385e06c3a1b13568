import { posix } from "node:path";
import * as z from "zod";

/** Limits of Linux: PATH_MAX with its final NUL, and NAME_MAX. */
const PATH_MAX_BYTES = 4095;
const NAME_MAX_BYTES = 255;

/** What is wrong with a path, for people, or null: it has to be absolute, normalised, and within the limits of Linux. */
export function pathFault(path: string): string | null {
  if (!path.startsWith("/")) return "a path is absolute: it begins with /";
  if (path.includes("\0")) return "a path cannot hold a NUL character";
  if (/\p{Cc}/u.test(path)) return "a path cannot hold control characters";
  const normal = posix.normalize(path);
  const plain = normal.length > 1 && normal.endsWith("/") ? normal.slice(0, -1) : normal;
  if (plain !== path) return `write the path without ".", "..", doubled or trailing slashes: ${plain}`;
  const encoder = new TextEncoder();
  if (encoder.encode(path).length > PATH_MAX_BYTES) return `a path has at most ${PATH_MAX_BYTES} bytes`;
  if (path.split("/").some((name) => encoder.encode(name).length > NAME_MAX_BYTES)) return `a name in a path has at most ${NAME_MAX_BYTES} bytes`;
  return null;
}

/** Trees that are never managed as files: the kernel's, what is gone after a boot, and the agent's own. */
const REFUSED_TREES: Readonly<Record<string, string>> = {
  "/proc": "it belongs to the kernel (settings go under sysctl)",
  "/sys": "it belongs to the kernel (settings go under sysctl or modules)",
  "/dev": "it belongs to the kernel and udev",
  "/run/evenkeel": "it is the agent's own",
  "/var/lib/evenkeel": "it is the agent's own",
  "/usr/lib/evenkeel": "it is the agent's own",
  "/etc/evenkeel": "it holds the agent's settings and the keys that it trusts, which no commit may change",
  "/var/lib/dpkg": "it is dpkg's database (packages go under packages)",
};

/** Files that another section keeps, and which. */
const KEPT_ELSEWHERE: Readonly<Record<string, string>> = {
  "/etc/passwd": "users",
  "/etc/passwd-": "users",
  "/etc/shadow": "users",
  "/etc/shadow-": "users",
  "/etc/group": "groups",
  "/etc/group-": "groups",
  "/etc/gshadow": "groups",
  "/etc/gshadow-": "groups",
  "/etc/hostname": "host: name",
  "/etc/hosts": "host: hosts",
  "/etc/localtime": "host: timeZone",
  "/etc/timezone": "host: timeZone",
  "/etc/default/locale": "host: locale",
  "/etc/sysctl.d/60-evenkeel.conf": "sysctl",
  "/etc/modules-load.d/evenkeel.conf": "modules",
  "/etc/modprobe.d/evenkeel.conf": "modules",
  "/etc/netplan/60-evenkeel.yaml": "network",
  "/etc/nftables.d/60-evenkeel.nft": "firewall",
};

/** Files that sections make by names of their own. */
const KEPT_BY_PREFIX: readonly (readonly [prefix: string, section: string])[] = [
  ["/etc/sudoers.d/evenkeel-", "users"],
  ["/etc/systemd/network/60-evenkeel-", "network"],
];

/** Why a path is not managed under `files`, for people, or null when it may be. */
export function refusedPath(path: string): string | null {
  if (path === "/") return "the root directory is not managed";
  for (const [tree, why] of Object.entries(REFUSED_TREES)) {
    if (path === tree || path.startsWith(`${tree}/`)) return `${path} is not managed as a file: ${why}`;
  }
  const section = KEPT_ELSEWHERE[path] ?? KEPT_BY_PREFIX.find(([prefix]) => path.startsWith(prefix))?.[1];
  return section === undefined ? null : `${path} is kept by another section: write it under ${section}`;
}

/** A path that `files` may manage. */
export const managedPath = z.string().superRefine((path, check) => {
  const fault = pathFault(path) ?? refusedPath(path);
  if (fault !== null) check.addIssue({ code: "custom", message: fault });
});

/** Permission bits as people write them; a number would be read as decimal by YAML, so it is refused. */
export const fileMode = z
  .string('a mode is written in quotes, like "0644"')
  .regex(/^[0-7]{3,4}$/, 'a mode is three or four octal digits in quotes, like "0644"')
  .transform((digits) => Number.parseInt(digits, 8));

/** `0644`, as in why-texts and claims. */
export function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

/** The nearest first: `/a/b/c` gives `/a/b`, `/a`. The root is left out. */
export function ancestors(path: string): string[] {
  const found: string[] = [];
  for (let up = posix.dirname(path); up !== "/" && up !== "."; up = posix.dirname(up)) found.push(up);
  return found;
}
