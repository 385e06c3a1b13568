import type { WantedFile } from "./managed-file.ts";
import { devicesOf } from "./network-section.ts";
import type { NetworkWant } from "./network-section.ts";

export const RESOLV_CONF = "/etc/resolv.conf";
/** MAXNS and MAXDNSRCH of resolv.conf(5): what comes after is not read. */
const SERVERS_MAX = 3;
const SEARCH_MAX = 6;

/** Where systemd-resolved does not do it: the name servers of all devices, in the order of their names. Null where none is given. */
export function resolvConf(want: NetworkWant): WantedFile | null {
  const servers = [...new Set(devicesOf(want).flatMap(({ it }) => it.dns))].slice(0, SERVERS_MAX);
  const search = [...new Set(devicesOf(want).flatMap(({ it }) => it.domains))].filter((domain) => !domain.startsWith("~")).slice(0, SEARCH_MAX);
  if (servers.length === 0) return null;
  const text = ["# Kept by evenkeel (section network). What is written here by hand is overwritten.", ...servers.map((server) => `nameserver ${server}`), ...(search.length === 0 ? [] : [`search ${search.join(" ")}`]), ""].join("\n");
  return { path: RESOLV_CONF, content: new TextEncoder().encode(text), mode: 0o644, owner: "root", group: "root" };
}
