import { parseCron } from "../cron.ts";
import { allowedDown } from "../quorum.ts";
import type { Cluster } from "./cluster.ts";
import { count, errorAt, warningAt } from "./diagnostic.ts";
import type { Diagnostic, Span } from "./diagnostic.ts";
import { locate } from "./located.ts";
import type { Located, LocatedMap, Path } from "./located.ts";
import { commitCanaries, WHOLE_CLUSTER } from "./policy.ts";
import type { Group } from "./policy.ts";
import { didYouMean } from "./suggest.ts";

/**
 * What the schemas of policy.ts cannot see: whether names refer to something, whether days and zones exist, and what is
 * well written but will not do what its author hopes.
 * @param nodes names of all nodes.
 */
export function checkPolicy(root: LocatedMap, cluster: Cluster, nodes: ReadonlySet<string>): readonly Diagnostic[] {
  const place: Place = (path) => {
    const { value, keySpan } = locate(root, path);
    return value.kind === "map" ? (keySpan ?? root.span) : value.span;
  };
  return [...checkGroups(root, cluster, nodes, place), ...checkWindows(cluster, place), ...checkUpdates(cluster, nodes, place), ...checkRollout(cluster, nodes, place), ...checkZones(cluster, place)];
}

/** Where the value at this path stands: a map by its key. */
type Place = (path: Path) => Span;

function checkGroups(root: LocatedMap, cluster: Cluster, nodes: ReadonlySet<string>, place: Place): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  for (const [name, group] of Object.entries(cluster.groups)) {
    for (const [index, member] of (group.members ?? []).entries()) {
      const span = place(["groups", name, "members", index]);
      if (!nodes.has(member)) diagnostics.push(errorAt(span, `group ${JSON.stringify(name)} has a member ${JSON.stringify(member)}, but there is no nodes/${member}.yaml`, didYouMean(member, nodes) ?? "add the node's file, or remove the member"));
      else if (group.members?.indexOf(member) !== index) diagnostics.push(errorAt(span, `${JSON.stringify(member)} is listed twice: it would count as two members`, "remove one of them"));
    }
    const size = group.members === undefined ? nodes.size : new Set(group.members).size;
    diagnostics.push(...checkLimits(name, group, size, place));
  }
  // Who says nothing of updates and groups has not asked for reboots, and is not told why there will be none.
  const asked = root.entries.get("updates");
  if (asked !== undefined && !Object.hasOwn(cluster.groups, WHOLE_CLUSTER) && isStuck(nodes.size, false)) {
    diagnostics.push(warningAt(asked.keySpan, `no node will ever be rebooted: the cluster has only ${count(nodes.size, "node")}, and fewer than half of them may be down`, `write groups: {${WHOLE_CLUSTER}: {acceptOutage: true}} if an outage is fine`));
  }
  return diagnostics;
}

function checkLimits(name: string, group: Group, size: number, place: Place): readonly Diagnostic[] {
  const at = place(["groups", name]);
  const { maxUnavailable, acceptOutage } = group;
  // maxUnavailable: 0 says that nobody is to be rebooted, so there is nothing to warn of.
  if (isStuck(size, acceptOutage) && maxUnavailable !== 0) {
    return [warningAt(at, `no member of group ${JSON.stringify(name)} will ever be rebooted: it has only ${count(size, "member")}, and fewer than half of them may be down`, "write acceptOutage: true if that is fine")];
  }
  const allowed = allowedDown({ size, acceptOutage });
  const diagnostics: Diagnostic[] = [];
  if (maxUnavailable !== undefined && maxUnavailable > allowed) {
    diagnostics.push(warningAt(place(["groups", name, "maxUnavailable"]), `maxUnavailable: ${maxUnavailable} has no effect: of ${count(size, "member")}, at most ${allowed} may be down at once`, `it can only tighten that; remove it, or write less than ${allowed}`));
  }
  if (acceptOutage && size > 2) diagnostics.push(warningAt(place(["groups", name, "acceptOutage"]), `acceptOutage has no effect on a group of ${size}: it is for one or two members`, "remove it"));
  return diagnostics;
}

/** The quorum lets nobody go, and there is an owner's word that could change that. */
function isStuck(size: number, acceptOutage: boolean): boolean {
  return size > 0 && size <= 2 && !acceptOutage;
}

function checkWindows(cluster: Cluster, place: Place): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  const { windows: used, nodeMinutes } = cluster.updates;
  for (const [name, window] of Object.entries(cluster.windows)) {
    const parsed = parseCron(window.opens);
    if (!parsed.ok) diagnostics.push(errorAt(place(["windows", name, "opens"]), `windows.${name}.opens: ${parsed.reason}`, parsed.help));
    if (!used.includes(name)) {
      diagnostics.push(warningAt(place(["windows", name]), `nothing uses the window ${JSON.stringify(name)}`, `name it in updates: {windows: [${[...used, name].join(", ")}]}, or remove it`));
    } else if (window.lengthMinutes < nodeMinutes) {
      diagnostics.push(warningAt(place(["windows", name, "lengthMinutes"]), `nothing will ever start in the window ${JSON.stringify(name)}, unless it overlaps another: it is open for ${window.lengthMinutes} minutes, and a node is given ${nodeMinutes} (updates.nodeMinutes)`, `make it at least ${Math.ceil(nodeMinutes)} minutes long, or lower updates.nodeMinutes`));
    }
  }
  return diagnostics;
}

function checkUpdates(cluster: Cluster, nodes: ReadonlySet<string>, place: Place): readonly Diagnostic[] {
  const diagnostics: Diagnostic[] = [];
  const { updates } = cluster;
  const known = Object.keys(cluster.windows);
  const check = (field: "windows" | "canary" | "order", names: ReadonlySet<string>, unknown: (name: string) => { message: string; help: string }) => {
    for (const [index, name] of updates[field].entries()) {
      const span = place(["updates", field, index]);
      const { message, help } = unknown(name);
      if (!names.has(name)) diagnostics.push(errorAt(span, message, didYouMean(name, names) ?? help));
      else if ((updates[field] as readonly string[]).indexOf(name) !== index) diagnostics.push(errorAt(span, `${JSON.stringify(name)} is listed twice in updates.${field}`, "remove one of them"));
    }
  };
  check("windows", new Set(known), (name) => ({ message: `there is no window ${JSON.stringify(name)}`, help: known.length > 0 ? `there are: ${known.join(", ")}` : `write windows: {${name}: {opens: "0 2 * * *", lengthMinutes: 180}}` }));
  const node = (field: string) => (name: string) => ({ message: `updates.${field} names ${JSON.stringify(name)}, but there is no nodes/${name}.yaml`, help: "add the node's file, or remove the name" });
  check("canary", nodes, node("canary"));
  check("order", nodes, node("order"));
  for (const [index, { from, to }] of updates.blackouts.entries()) {
    const path = ["updates", "blackouts", index];
    const unreal = (["from", "to"] as const).filter((field) => !isDay(field === "from" ? from : to));
    for (const field of unreal) diagnostics.push(errorAt(place([...path, field]), `updates.blackouts[${index}].${field}: no calendar has the day ${field === "from" ? from : to}`, "write year, month and day, such as 2026-12-24"));
    if (unreal.length === 0 && from > to) diagnostics.push(errorAt(place([...path, "to"]), `updates.blackouts[${index}]: the last day ${to} is before the first day ${from}`, "swap them: from is the first day, to the last"));
  }
  return diagnostics;
}

function checkRollout(cluster: Cluster, nodes: ReadonlySet<string>, place: Place): readonly Diagnostic[] {
  const { rollout, updates } = cluster;
  const diagnostics: Diagnostic[] = [];
  for (const [index, name] of rollout.canary.entries()) {
    const span = place(["rollout", "canary", index]);
    if (!nodes.has(name)) diagnostics.push(errorAt(span, `rollout.canary names ${JSON.stringify(name)}, but there is no nodes/${name}.yaml`, didYouMean(name, nodes) ?? "add the node's file, or remove the name"));
    else if (rollout.canary.indexOf(name) !== index) diagnostics.push(errorAt(span, `${JSON.stringify(name)} is listed twice in rollout.canary`, "remove one of them"));
  }
  if (rollout.commits === "canary" && commitCanaries(cluster).length === 0) diagnostics.push(errorAt(place(["rollout"]), "commits go to the canary first, and no node is the canary", "name one: updates: {canary: [n1]}"));
  if (rollout.changes === "in-window" && updates.windows.length === 0) diagnostics.push(warningAt(place(["rollout", "changes"]), "disruptive changes wait for a window, and updates uses none: they start only by hand", "name a window under updates.windows, or write changes: at-once"));
  return diagnostics;
}

function isDay(text: string): boolean {
  try {
    Temporal.PlainDate.from(text, { overflow: "reject" });
    return true;
  } catch {
    return false;
  }
}

function checkZones(cluster: Cluster, place: Place): readonly Diagnostic[] {
  const zones: (readonly [Path, string])[] = Object.entries(cluster.windows).map(([name, window]) => [["windows", name, "zone"], window.zone]);
  for (const [index, { zone }] of cluster.updates.blackouts.entries()) zones.push([["updates", "blackouts", index, "zone"], zone]);
  return zones.filter(([, zone]) => !isZone(zone)).map(([path, zone]) => errorAt(place(path), `there is no time zone ${JSON.stringify(zone)}`, zoneMeant(zone)));
}

function isZone(zone: string): boolean {
  try {
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(zone);
    return true;
  } catch {
    return false;
  }
}

/** `Berlin` is as common a slip as `Europe/Belin`. */
function zoneMeant(zone: string): string {
  const known = [...Intl.supportedValuesOf("timeZone"), "Etc/UTC"];
  const city = known.find((each) => each.toLowerCase().endsWith(`/${zone.toLowerCase().replaceAll(" ", "_")}`));
  return city === undefined ? (didYouMean(zone, known) ?? "write a name of the time zone database, such as Europe/Berlin; `timedatectl list-timezones` lists them") : `did you mean ${JSON.stringify(city)}?`;
}

/** FleetLock machines that could not be told apart, each at its id. */
export function checkFleetLock(members: readonly { readonly node: string; readonly id: string; readonly group: string; readonly located: Located }[]): readonly Diagnostic[] {
  const seen = new Map<string, string>();
  const diagnostics: Diagnostic[] = [];
  for (const { node, id, group, located } of members) {
    const key = `${group}\n${id}`;
    const other = seen.get(key);
    if (other !== undefined) diagnostics.push(errorAt(locate(located, ["id"]).value.span, `nodes/${other}.yaml has the same fleetlock id in the same group: the hub could not tell the two machines apart`, "write each machine's own id, as it sends it"));
    else seen.set(key, node);
  }
  return diagnostics;
}
