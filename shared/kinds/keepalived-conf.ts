import { parseIp, parsePrefix } from "./keepalived-address.ts";
import type { Instance, KeepalivedWant, Script } from "./keepalived-section.ts";

/** While this file is there, the node takes no address: set by a drain, so that it holds across a reboot and an upgrade. */
export const MARKER = "/var/lib/misc/evenkeel-keepalived-drained";

/** keepalived.conf(5), the same text for the same section. */
export function renderConf(want: KeepalivedWant): string {
  const node = Object.values(want.instances).find(({ place }) => place !== null)?.place?.node;
  return [
    "# Kept by evenkeel (section keepalived). What is written here by hand is overwritten.",
    ...block("global_defs", [...(node === undefined ? [] : [`router_id ${node}`]), "enable_script_security", "script_user root"]),
    ...block("track_file evenkeel_drained", [`file "${MARKER}"`]),
    ...sorted(want.scripts).flatMap(([name, script]) => block(`vrrp_script ${name}`, scriptLines(script))),
    ...sorted(want.syncGroups).flatMap(([name, members]) => block(`vrrp_sync_group ${name}`, block("group", members))),
    ...sorted(want.instances).flatMap(([name, instance]) => block(`vrrp_instance ${name}`, instanceLines(name, instance))),
    "",
  ].join("\n");
}

export function holdsPassword(want: KeepalivedWant): boolean {
  return Object.values(want.instances).some(({ password }) => password !== undefined);
}

function scriptLines(script: Script): string[] {
  const { command, everySeconds, timeoutSeconds, fall, rise, weight, user } = script;
  return [`script ${quoted(command)}`, `interval ${everySeconds}`, `timeout ${timeoutSeconds}`, `fall ${fall}`, `rise ${rise}`, `weight ${weight}`, `user ${user}`];
}

function instanceLines(name: string, instance: Instance): string[] {
  const { place } = instance;
  if (place === null) throw new Error(`the instance ${name} was not resolved`);
  const [own, excluded] = byFamily(instance);
  const interfaces = sorted(instance.trackInterfaces).map(([each, weight]) => (weight === 0 ? each : `${each} weight ${weight}`));
  return [
    // Nobody begins as the holder: two that boot together would both be.
    "state BACKUP",
    ...(instance.preempt ? (instance.preemptDelaySeconds > 0 ? [`preempt_delay ${instance.preemptDelaySeconds}`] : []) : ["nopreempt"]),
    `version ${instance.version}`,
    `interface ${instance.interface}`,
    `virtual_router_id ${instance.routerId}`,
    `priority ${place.priority}`,
    `advert_int ${instance.advertSeconds}`,
    ...(instance.password === undefined ? [] : block("authentication", ["auth_type PASS", `auth_pass ${instance.password}`])),
    ...(place.source === null ? [] : [instance.unicast && place.peers.length > 0 ? `unicast_src_ip ${place.source}` : `mcast_src_ip ${place.source}`]),
    ...(place.peers.length === 0 ? [] : block("unicast_peer", place.peers)),
    ...block("virtual_ipaddress", own),
    ...(excluded.length === 0 ? [] : block("virtual_ipaddress_excluded", excluded)),
    ...(interfaces.length === 0 ? [] : block("track_interface", interfaces)),
    ...(instance.trackScripts.length === 0 ? [] : block("track_script", instance.trackScripts)),
    // Weight 0: while the file says 1, the instance is in FAULT (keepalived.conf(5)): its addresses go at once, and it takes none.
    ...block("track_file", ["evenkeel_drained weight 0"]),
    ...notifyLines(instance.notify ?? {}),
  ];
}

/** An advertisement carries addresses of the family that it is sent by; those of the other one move along. */
function byFamily(instance: Instance): readonly [own: readonly string[], excluded: readonly string[]] {
  const family = parseIp(instance.place?.source ?? "")?.family ?? parsePrefix(instance.addresses[0] ?? "")?.family;
  const isOwn = (address: string): boolean => parsePrefix(address)?.family === family;
  return [instance.addresses.filter(isOwn), instance.addresses.filter((address) => !isOwn(address))];
}

function notifyLines({ master, backup, fault, stop, any }: NonNullable<Instance["notify"]>): string[] {
  const named = { notify_master: master, notify_backup: backup, notify_fault: fault, notify_stop: stop, notify: any };
  return Object.entries(named).flatMap(([keyword, words]) => (words === undefined ? [] : [`${keyword} ${quoted(words)}`]));
}

/** Words of the section hold no quotes: those with spaces get single ones, and all of it double ones. */
function quoted(words: readonly string[]): string {
  return `"${words.map((word) => (word.includes(" ") ? `'${word}'` : word)).join(" ")}"`;
}

function block(head: string, lines: readonly string[]): string[] {
  return [`${head} {`, ...lines.map((line) => `  ${line}`), "}"];
}

function sorted<T>(entries: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(entries).toSorted(([one], [other]) => (one < other ? -1 : 1));
}
