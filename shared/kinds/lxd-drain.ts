import type { DrainStep, Probe, Reason } from "./kind.ts";
import { titleOf } from "./lxd-api.ts";
import { isEvacuated, isOnline } from "./lxd-cluster.ts";
import { observeMembers } from "./lxd-facts.ts";
import type { Going } from "./lxd-facts.ts";
import { SCRIPT } from "./lxd-script.ts";
import type { LxdWant } from "./lxd-section.ts";

/** A member that goes is evacuated, and restored when it is back; and what tells that the cluster could not stand it. */

export interface LxdGoing extends Going {
  /** Why nothing could be seen; null when it could. */
  readonly error: string | null;
}

export async function observeGoing(want: LxdWant, probe: Probe): Promise<LxdGoing> {
  if (want.cluster === undefined) return { product: null, server: null, members: [], instances: [], hasScript: false, error: null };
  try {
    return { ...(await observeMembers(want, probe)), error: null };
  } catch (error) {
    return { product: null, server: null, members: [], instances: [], hasScript: false, error: error instanceof Error ? error.message : String(error) };
  }
}

/** A single server stops and starts its instances by itself, as they say (boot.autostart, boot.host_shutdown_timeout). */
export function drainSteps(want: LxdWant, { product, server, members, hasScript, error }: LxdGoing): readonly DrainStep[] {
  const self = want.among?.self;
  if (want.cluster === undefined || self === undefined) return [];
  const { order, timeoutMinutes } = want.drain;
  const timeoutMs = timeoutMinutes * 60_000;
  const client = product?.client ?? "lxc";
  const evacuate = { doing: "moving its instances to other members", argv: [SCRIPT, "evacuate", client, self] as [string, ...string[]], timeoutMs };
  const restore = { doing: "taking its instances back", argv: [SCRIPT, "restore", client, self] as [string, ...string[]], timeoutMs };
  const step = { name: "member", order, drain: evacuate, undo: restore };
  if (error !== null) return [{ ...step, already: false, cannot: error }];
  // It is in no cluster, or alone: nothing runs here that could go elsewhere.
  if (product === null || server?.environment.server_clustered !== true || members.length === 1) return [];
  const own = members.find(({ server_name }) => server_name === self);
  if (own === undefined) return [{ ...step, already: false, cannot: `the cluster has no member called ${self}` }];
  const others = members.filter(({ server_name, status }) => server_name !== self && isOnline(status));
  if (!isEvacuated(own.status) && others.length === 0) return [{ ...step, already: false, cannot: `no other member is online that could take the instances of ${self}: bring one back first` }];
  if (!hasScript) return [{ ...step, already: false, cannot: `there is no ${SCRIPT} on ${self}, which the next converge writes: see what keeps it from that` }];
  return [{ ...step, already: isEvacuated(own.status) }];
}

export function gateReasons(want: LxdWant, { product, server, members, instances, error }: LxdGoing): readonly Reason[] {
  const self = want.among?.self;
  if (want.cluster === undefined || self === undefined) return [];
  if (error !== null) return [error];
  const title = product === null ? "LXD" : titleOf(product);
  if (product === null || server?.environment.server_clustered !== true) return [`${self} is not in the ${title} cluster ${want.cluster.name} yet`];
  const reasons: Reason[] = [];
  const others = members.filter(({ server_name }) => server_name !== self);
  // One that is evacuated counts as away by itself; whoever is on the way back is drained under its lease, and not asked.
  if (isEvacuated(members.find(({ server_name }) => server_name === self)?.status ?? "")) reasons.push(`${self} was evacuated by somebody: \`${product.client} cluster restore ${self}\` takes its instances back`);
  for (const { server_name, status, message } of others) if (!isOnline(status) && !isEvacuated(status)) reasons.push({ text: `the ${title} member ${server_name} is ${status.toLowerCase()}${message === "" ? "" : `: ${message}`}`, missing: [server_name] });
  const missing = (want.among?.fellows ?? []).filter(({ name }) => !members.some(({ server_name }) => server_name === name));
  for (const { name } of missing) reasons.push({ text: `${name} is not in the ${title} cluster ${want.cluster.name} yet`, missing: [name] });
  const voters = members.filter(({ roles }) => roles.includes("database"));
  const staying = voters.filter(({ server_name, status }) => server_name !== self && (isOnline(status) || isEvacuated(status)));
  // With two members there is one voter at most that may stay alone, and the owner has accepted that.
  if (members.length > 2 && staying.length * 2 <= voters.length) reasons.push({ text: `without ${self}, ${staying.length} of the ${voters.length} voters of ${title}'s database would be there, and it needs more than half`, holds: "itself" });
  for (const { name, project, status } of instances) if (/^error$/i.test(status)) reasons.push(`the instance ${project === "default" ? name : `${project}/${name}`} is in the state ${status}: see \`${product.client} info ${name} --show-log\``);
  return reasons;
}
