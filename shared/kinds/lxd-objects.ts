import { forgetStep } from "./managed-file.ts";
import type { Json, Owned, ResourceId, Step, StepCommon } from "./kind.ts";
import { apiPath, change, differing, namesOf, titleOf } from "./lxd-api.ts";
import type { Product } from "./lxd-api.ts";
import { NETWORK_KEYS_OF_MEMBER, POOL_KEYS_OF_MEMBER, writesForAll } from "./lxd-cluster.ts";
import type { LxdFacts } from "./lxd-facts.ts";
import { splitName } from "./lxd-section.ts";
import type { LxdWant } from "./lxd-section.ts";

/**
 * Settings, pools, networks, projects and profiles. What holds for the whole cluster is written by one member. Only what the
 * section names is compared and changed: what people add by hand stays.
 */

/** Settings of the server that are each member's own (LXD: scope "local"); all others are the cluster's. */
const OWN_SETTINGS = /^(core\.(https_address|bgp_address|bgp_routerid|debug_address|dns_address|metrics_address|storage_buckets_address|syslog_socket)|cluster\.https_address|maas\.machine|storage\.(backups|images|logs)_volume|network\.ovn\.northbound_connection_local)$/;

type Config = Readonly<Record<string, string>>;
type Devices = Readonly<Record<string, Config>>;

export function planSettings(want: LxdWant, facts: LxdFacts, owned: Owned): readonly Step[] {
  const { product, server } = facts;
  if (product === null || server === null) return [];
  const forAll = writesForAll(want, facts);
  const mine = (key: string): boolean => forAll || OWN_SETTINGS.test(key);
  const wanted: Config = { ...(want.cluster === undefined && want.address !== undefined ? { "core.https_address": want.address } : {}), ...want.config };
  const set = (key: string, value: string, common: Omit<StepCommon, "resource" | "impact">): Step => change(product, "PATCH", "/1.0", { config: { [key]: value } }, { resource: `lxd/config/${key}`, impact: "service", ...common });
  // A member that has just joined does not know what was set before, until it is set again (LXD 5.0.2) or restarts.
  const changes = Object.entries(differing(wanted, server.config))
    .filter(([key]) => mine(key) || server.config[key] === undefined)
    .toSorted(byName)
    .map(([key, value]) => set(key, value, { why: server.config[key] === undefined ? "is not set" : value === "" ? "is set, and is not to be" : "has another value", claim: { before: server.config[key] ?? "" } }));
  const gone = ownedKeys(owned, "config").filter(([key]) => wanted[key] === undefined && mine(key));
  return [...gone.map(([key, claim]): Step => {
    const before = isRecord(claim) && typeof claim["before"] === "string" ? claim["before"] : "";
    if ((server.config[key] ?? "") === before) return forgetStep(`lxd/config/${key}`, "is as it was before already");
    return set(key, before, { why: "is not in the repository any more: it gets its earlier value back", removes: true, release: true });
  }), ...changes];
}

export function planPools(want: LxdWant, facts: LxdFacts): readonly Step[] {
  const { product, pools } = facts;
  if (product === null || !writesForAll(want, facts)) return [];
  return Object.entries(want.pools).toSorted(byName).flatMap(([name, wanted]): readonly Step[] => {
    const resource: ResourceId = `lxd/pools/${name}`;
    const have = pools.get(name);
    if (have !== undefined && have.driver !== wanted.driver) return [{ resource, why: `its driver is ${have.driver}, should be ${wanted.driver}`, impact: "none", do: "fail", message: `the driver of the pool ${name} is ${have.driver}, and a pool's driver cannot be changed: write driver: ${have.driver}, or give the new pool another name and move the instances` }];
    return planShared({ product, facts, want, resource, path: ["storage-pools"], name, what: { driver: wanted.driver }, wanted, have, ownKeys: POOL_KEYS_OF_MEMBER, ownOf: (fellow) => fellow.pools[name] ?? {}, impact: "none" });
  });
}

export function planNetworks(want: LxdWant, facts: LxdFacts): readonly Step[] {
  const { product, networks } = facts;
  if (product === null || !writesForAll(want, facts)) return [];
  return Object.entries(want.networks).toSorted(byName).flatMap(([key, wanted]): readonly Step[] => {
    const [project, name] = splitName(key);
    const resource: ResourceId = `lxd/networks/${key}`;
    const have = networks.get(key);
    const fail = (why: string, message: string): readonly Step[] => [{ resource, why, impact: "none", do: "fail", message }];
    if (have !== undefined && !have.managed) return fail("an interface has its name", `${name} is an interface of this machine that ${titleOf(product)} does not manage: give the network another name, or use the interface by \`parent:\` of a network of type macvlan`);
    if (have !== undefined && have.type !== wanted.type) return fail(`its type is ${have.type}, should be ${wanted.type}`, `the network ${name} is of type ${have.type}, which cannot be changed: write type: ${have.type}, or give the new one another name`);
    // Taking an interface of the machine into a network may take the machine off it.
    const takes = wanted.type === "physical" || wanted.config["bridge.external_interfaces"] !== undefined;
    return planShared({ product, facts, want, resource, path: ["networks"], name, project, what: { type: wanted.type }, wanted, have, ownKeys: NETWORK_KEYS_OF_MEMBER, ownOf: (fellow) => fellow.networks[key] ?? {}, impact: takes ? "network" : "none" });
  });
}

interface Shared {
  readonly product: Product;
  readonly want: LxdWant;
  readonly facts: LxdFacts;
  readonly resource: ResourceId;
  readonly path: readonly [string];
  readonly name: string;
  readonly project?: string;
  readonly what: Readonly<Record<string, string>>;
  readonly wanted: { readonly config: Config; readonly description?: string | undefined };
  readonly have: { readonly config: Config; readonly description: string; readonly status: string; readonly locations: readonly string[] } | undefined;
  readonly ownKeys: ReadonlySet<string>;
  readonly ownOf: (fellow: { readonly pools: Readonly<Record<string, Config>>; readonly networks: Readonly<Record<string, Config>> }) => Config;
  readonly impact: "none" | "network";
}

/** Pools and networks are made in two steps in a cluster: announced on every member with what is its own, and then made on all. */
function planShared({ product, want, facts, resource, path, name, project = "default", what, wanted, have, ownKeys, ownOf, impact }: Shared): readonly Step[] {
  const shared = Object.fromEntries(Object.entries(wanted.config).filter(([key]) => !ownKeys.has(key)));
  const query: Record<string, string> = project === "default" ? {} : { project };
  const isAlone = facts.members.length <= 1;
  if (have !== undefined && have.status.toLowerCase() === "errored") return [{ resource, why: "its state is Errored", impact: "none", do: "fail", message: `${name} could not be made on every member, and is left as it is: see \`${product.client} ${path[0] === "networks" ? "network" : "storage"} show ${name} --target NODE\` for each, mend that, or delete it by hand, and it is made anew` }];
  if (have === undefined || have.status.toLowerCase() === "pending") {
    const body = { name, ...what, ...(wanted.description === undefined ? {} : { description: wanted.description }) };
    const why = have === undefined ? "is not there" : "was announced and not made yet";
    const announced = new Set(have?.locations);
    const announce = isAlone ? [] : facts.members.filter(({ server_name }) => !announced.has(server_name)).map(({ server_name }) => {
      const fellow = want.among?.fellows.find((each) => each.name === server_name);
      return change(product, "POST", apiPath(path, { ...query, target: server_name }), { name, ...what, config: fellow === undefined ? {} : ownOf(fellow) }, { resource, why: `${why}: announced on ${server_name}`, impact: "none" });
    });
    const undo = { doing: `taking the network ${name} away again`, argv: [product.client, "network", "delete", name, ...inProject(project)] as const, timeoutMs: 60_000 };
    const config = isAlone ? wanted.config : shared;
    return [...announce, change(product, "POST", apiPath(path, query), { ...body, config }, { resource, why, impact, ...(impact === "network" ? { undo: { ...undo, argv: [...undo.argv] as [string, ...string[]] } } : {}) })];
  }
  // "auto" was replaced by what LXD chose when the network was made.
  const chosen = (config: Config): Config => Object.fromEntries(Object.entries(config).filter(([key, value]) => value !== "auto" || have.config[key] === undefined || have.config[key] === "none"));
  const config = differing(chosen(shared), have.config);
  const description = wanted.description !== undefined && wanted.description !== have.description ? wanted.description : undefined;
  if (Object.keys(config).length === 0 && description === undefined) return [];
  return [change(product, "PATCH", apiPath([...path, name], query), { config, ...(description === undefined ? {} : { description }) }, { resource, why: whyOf(config, {}, description), impact: impact === "network" ? "service" : "none" })];
}

export function planProjects(want: LxdWant, facts: LxdFacts): readonly Step[] {
  const { product, projects } = facts;
  if (product === null || !writesForAll(want, facts)) return [];
  return Object.entries(want.projects).toSorted(byName).flatMap(([name, wanted]): readonly Step[] => {
    const common = (why: string): StepCommon => ({ resource: `lxd/projects/${name}`, why, impact: "none" });
    const have = projects.get(name);
    if (have === undefined) return [change(product, "POST", apiPath(["projects"]), { name, config: wanted.config, description: wanted.description ?? "" }, common("is not there"))];
    const config = differing(wanted.config, have.config);
    const description = wanted.description !== undefined && wanted.description !== have.description ? wanted.description : undefined;
    if (Object.keys(config).length === 0 && description === undefined) return [];
    return [change(product, "PATCH", apiPath(["projects", name]), { config, ...(description === undefined ? {} : { description }) }, common(whyOf(config, {}, description)))];
  });
}

export function planProfiles(want: LxdWant, facts: LxdFacts, owned: Owned): readonly Step[] {
  const { product, profiles } = facts;
  if (product === null || !writesForAll(want, facts)) return [];
  const gone = ownedKeys(owned, "profiles").filter(([key]) => want.profiles[key] === undefined);
  return [...gone.flatMap(([key]): readonly Step[] => {
    const [project, name] = splitName(key);
    const have = profiles.get(key);
    if (have === undefined) return [forgetStep(`lxd/profiles/${key}`, "is gone already")];
    // Somebody uses it: it stays until nobody does.
    if (have.used_by.length > 0) return [];
    return [change(product, "DELETE", apiPath(["profiles", name], { project }), {}, { resource: `lxd/profiles/${key}`, why: "is not in the repository any more, and nothing uses it", impact: "none", removes: true, release: true })];
  }), ...Object.entries(want.profiles).toSorted(byName).flatMap(([key, wanted]): readonly Step[] => {
    const [project, name] = splitName(key);
    const common = (why: string): StepCommon => ({ resource: `lxd/profiles/${key}`, why, impact: "service", ...needs(want, project, wanted.devices) });
    const have = profiles.get(key);
    if (have === undefined) return [change(product, "POST", apiPath(["profiles"], { project }), { name, config: wanted.config, devices: wanted.devices, description: wanted.description ?? "" }, { ...common("is not there"), impact: "none", claim: { made: true } })];
    const config = differing(wanted.config, have.config);
    const devices = differingDevices(wanted.devices, have.devices);
    const description = wanted.description !== undefined && wanted.description !== have.description ? wanted.description : undefined;
    if (Object.keys(config).length === 0 && Object.keys(devices).length === 0 && description === undefined) return [];
    return [change(product, "PATCH", apiPath(["profiles", name], { project }), { config, devices, ...(description === undefined ? {} : { description }) }, common(whyOf(config, devices, description)))];
  })];
}

/** Devices that are not as wanted, whole: LXD replaces a device by its name. Others are left alone. */
export function differingDevices(want: Devices, have: Devices): Record<string, Config> {
  return Object.fromEntries(Object.entries(want).filter(([name, device]) => JSON.stringify(sorted(device)) !== JSON.stringify(sorted(have[name] ?? {}))));
}

export function whyOf(config: Config, devices: Readonly<Record<string, unknown>>, description: string | undefined): string {
  const parts = [
    ...(Object.keys(config).length > 0 ? [`its settings differ: ${namesOf(config)}`] : []),
    ...(Object.keys(devices).length > 0 ? [`its devices differ: ${namesOf(devices)}`] : []),
    ...(description !== undefined ? ["its description differs"] : []),
  ];
  return parts.join("; ");
}

/** The pools and networks of the section that devices refer to, and their project: without those, a step would only fail. */
export function needs(want: LxdWant, project: string, devices: Devices, more: readonly ResourceId[] = []): { readonly needs?: readonly ResourceId[] } {
  const found = new Set<ResourceId>(more);
  if (want.projects[project] !== undefined) found.add(`lxd/projects/${project}`);
  for (const { pool, network } of Object.values(devices) as { pool?: string; network?: string }[]) {
    if (pool !== undefined && want.pools[pool] !== undefined) found.add(`lxd/pools/${pool}`);
    if (network !== undefined && want.networks[network] !== undefined) found.add(`lxd/networks/${network}`);
  }
  return found.size === 0 ? {} : { needs: [...found].toSorted() };
}

export function inProject(project: string): readonly string[] {
  return project === "default" ? [] : ["--project", project];
}

export function ownedKeys(owned: Owned, what: string): readonly (readonly [key: string, claim: Json])[] {
  return [...owned].filter(([key]) => key.startsWith(`${what}/`)).map(([key, claim]) => [key.slice(what.length + 1), claim] as const).toSorted(byName);
}

function byName([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function sorted(device: Config): readonly (readonly [string, string])[] {
  return Object.entries(device).toSorted(byName);
}

function isRecord(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
