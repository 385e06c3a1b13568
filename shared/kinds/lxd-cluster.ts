import type { Act, Asked, Around, Given, Misfit, Owned, Resolved, Step, StepCommon } from "./kind.ts";
import { apiPath, change, differing, namesOf, titleOf } from "./lxd-api.ts";
import type { LxdFacts, Member } from "./lxd-facts.ts";
import type { Fellow, LxdWant } from "./lxd-section.ts";

/** Being born, joining, and what the member is within the cluster. */

const DEFAULT_PORT = 8443;
const INIT_TIMEOUT_MS = 180_000;
/** LXD's own limit is three hours (cluster.join_token_expiry); what is not used soon is asked for anew. */
const TOKEN_LASTS_MS = 30 * 60_000;
/** A member says that it has no cluster: founding on an older word would be founding on none. */
const WORD_LASTS_MS = 3 * 60_000;
const TOKEN_TIMEOUT_MS = 60_000;
/** A made value that begins with it is no token, but the sentence why there is none. */
const REFUSAL = "!";

/** Settings that hold for one member, and are given when a pool or network is made (LXD: "member-specific configuration"). */
export const POOL_KEYS_OF_MEMBER: ReadonlySet<string> = new Set(["source", "source.wipe", "size", "volatile.initial_source", "zfs.pool_name", "lvm.vg_name", "lvm.thinpool_name"]);
export const NETWORK_KEYS_OF_MEMBER: ReadonlySet<string> = new Set(["parent", "bridge.external_interfaces", "bgp.ipv4.nexthop", "bgp.ipv6.nexthop"]);

export function resolveLxd(want: LxdWant, around: Around<LxdWant>): Resolved<LxdWant> {
  const misfits: Misfit[] = [];
  const tell = (path: readonly string[], message: string, help?: string): void => void misfits.push({ path, message, ...(help === undefined ? {} : { help }) });
  const { cluster } = want;
  const having = around.nodes.filter(({ section }) => section?.cluster !== undefined && section.cluster.name === cluster?.name);
  const fellows = having.map(({ name, address, section }): Fellow => ({
    name,
    address: addressOf(section?.address ?? address),
    pools: ofMember(section?.pools ?? {}, POOL_KEYS_OF_MEMBER),
    networks: ofMember(section?.networks ?? {}, NETWORK_KEYS_OF_MEMBER),
  }));
  if (cluster !== undefined) {
    const { bootstrap } = cluster;
    if (!fellows.some(({ name }) => name === bootstrap.node)) tell(["cluster", "bootstrap", "node"], `${bootstrap.node} is to found the cluster ${cluster.name}, and is no member of it`, `members are ${fellows.map(({ name }) => name).join(", ")}`);
    const other = having.find(({ section }) => section?.cluster?.bootstrap.node !== bootstrap.node || section.cluster.bootstrap.id !== bootstrap.id);
    if (other !== undefined) tell(["cluster", "bootstrap"], `${around.self} and ${other.name} differ in who founds the cluster ${cluster.name}: two would be born`, "write bootstrap once, in a role that all members have");
    const self = fellows.find(({ name }) => name === around.self);
    if (self?.address === null) tell(["cluster"], `it is not known at which address ${around.self} is reached by the other members`, `write \`address:\` in nodes/${around.self}.yaml, or address: in its section lxd`);
    const twin = fellows.find(({ name, address }) => name !== around.self && address !== null && address === self?.address);
    if (twin !== undefined) tell(["address"], `${around.self} and ${twin.name} both listen at ${twin.address}`, "give each an address of its own");
  }
  return { want: { ...want, among: { self: around.self, fellows } }, misfits };
}

function ofMember(things: Readonly<Record<string, { readonly config: Readonly<Record<string, string>> }>>, keys: ReadonlySet<string>): Record<string, Record<string, string>> {
  return Object.fromEntries(Object.entries(things).map(([name, { config }]) => [name, Object.fromEntries(Object.entries(config).filter(([key]) => keys.has(key)))]));
}

/** HOST:PORT as LXD writes it, with an IPv6 address in brackets. */
export function addressOf(written: string | undefined): string | null {
  if (written === undefined) return null;
  if (/:\d{1,5}$/.test(written) && (written.startsWith("[") || written.split(":").length === 2)) return written;
  return written.includes(":") && !written.startsWith("[") ? `[${written}]:${DEFAULT_PORT}` : `${written}:${DEFAULT_PORT}`;
}

/** Whether this node writes what holds for the whole cluster: the first member that is online, so that no two work at it. */
export function writesForAll(want: LxdWant, { members }: LxdFacts): boolean {
  if (members.length === 0 || want.among === null) return true;
  const online = want.among.fellows.find(({ name }) => members.some(({ server_name, status }) => server_name === name && isOnline(status)));
  return online?.name === want.among.self;
}

export function isOnline(status: string): boolean {
  return status.toLowerCase() === "online";
}

export function isEvacuated(status: string): boolean {
  return status.toLowerCase() === "evacuated";
}

/** What keeps everything else from being looked at: no LXD, no cluster yet, or another one. Empty when the node is where it belongs. */
export function planCluster(want: LxdWant, facts: LxdFacts, owned: Owned, given: Given): readonly Step[] {
  const { product, server, members } = facts;
  const common = (why: string): StepCommon => ({ resource: "lxd/cluster", why, impact: "service" });
  const fail = (message: string): readonly Step[] => [{ ...common("it cannot be had as it is"), do: "fail", message }];
  if (product === null || server === null) return fail(`there is neither LXD nor Incus on this node (no ${want.product === "incus" ? "/var/lib/incus" : "/var/lib/lxd"}/unix.socket): declare the package lxd or incus under packages, or the snap`);
  const title = titleOf(product);
  const { server_clustered: clustered, server_name: name } = server.environment;
  if (want.cluster === undefined) return clustered ? fail(`${title} here is the member ${name} of a cluster, and the section says nothing of one: write cluster: with its bootstrap, so that nothing is changed for all members from here`) : [];
  const { among } = want;
  if (among === null) return fail("the other nodes of the repository are not known here: this is a fault of the agent's; report it");
  if (!clustered) return planBirth(want, facts, owned, given);
  if (name !== among.self) return fail(`${title} here is a cluster member called ${name}, and the node is ${among.self}: a member cannot be renamed while it holds instances. Evacuate it, remove it from its cluster, and let it join anew`);
  const others = members.filter(({ server_name }) => server_name !== among.self).map(({ server_name }) => server_name);
  if (others.length > 0 && !others.some((other) => among.fellows.some((fellow) => fellow.name === other))) {
    return fail(`${title} here is a member of another cluster, with ${others.join(", ")}, none of which is a member of ${want.cluster.name} in the repository. Nothing is changed in it: take ${among.self} out of that cluster (\`${product.client} cluster remove ${among.self}\` there, after its instances have moved), or name its members here`);
  }
  const { node } = want.cluster.bootstrap;
  // Who founded or joined by this section has a record of it, and may be the one that is left; so may the founder.
  if (members.length === 1 && among.fellows.length > 1 && node !== among.self && !owned.has("cluster")) {
    return fail(`${title} here is the only member of a cluster of its own, and ${want.cluster.name} is founded by ${node}. Nothing is changed in it: if it is the one that the others are to join, write \`bootstrap: {node: ${among.self}, id: another-word}\`; if not, move its instances away and install ${title} anew here, without its old data, and the node joins by itself`);
  }
  return [];
}

/** Founds the cluster, joins it, or asks for what either needs. */
function planBirth(want: LxdWant, facts: LxdFacts, owned: Owned, given: Given): readonly Step[] {
  const { product, holdings } = facts;
  const { cluster, among } = want;
  if (product === null || cluster === undefined || among === null) return [];
  const resource = "lxd/cluster" as const;
  const others = among.fellows.filter(({ name }) => name !== among.self).map(({ name }) => name);
  const address = among.fellows.find(({ name }) => name === among.self)?.address ?? "";
  const claimed = owned.get("cluster");
  const hasFounded = typeof claimed === "object" && claimed !== null && "bootstrap" in claimed && claimed["bootstrap"] === cluster.bootstrap.id;
  if (cluster.bootstrap.node === among.self && !hasFounded) {
    const words = others.map((name) => ({ name, word: given.get(`state/${name}`) }));
    if (words.every(({ word }) => word === "none")) {
      const preseed = { config: { "core.https_address": address }, cluster: { server_name: among.self, enabled: true } };
      return [{ resource, why: `${among.self} founds the cluster ${cluster.name}: no other member knows of one`, impact: "service", claim: { bootstrap: cluster.bootstrap.id }, do: "run", argv: product.init, input: `${JSON.stringify(preseed)}\n`, timeoutMs: INIT_TIMEOUT_MS }];
    }
    if (words.every(({ word }) => word !== "member")) {
      const why = `${among.self} founds the cluster ${cluster.name} only if no other member knows of one, and not all have answered yet`;
      return words.flatMap(({ name, word }): Step[] => (word === "none" ? [] : [{ resource, why, impact: "none", do: "ask", key: `state/${name}`, from: [name], what: `the word of ${name} on whether it is in an LXD cluster already`, lastsMs: WORD_LASTS_MS }]));
    }
  }
  return planJoin({ want, facts, others, address, holdings: holdings ?? [], token: given.get(`join/${among.self}`), hasFounded });
}

function planJoin({ want, facts, others, address, holdings, token, hasFounded }: { want: LxdWant; facts: LxdFacts; others: readonly string[]; address: string; holdings: readonly string[]; token: string | undefined; hasFounded: boolean }): readonly Step[] {
  const { product } = facts;
  const { cluster, among } = want;
  if (product === null || cluster === undefined || among === null) return [];
  const resource = "lxd/cluster" as const;
  const fail = (message: string): readonly Step[] => [{ resource, why: `${among.self} cannot join the cluster ${cluster.name}`, impact: "none", do: "fail", message }];
  if (holdings.length > 0) {
    return fail(`${titleOf(product)} on ${among.self} holds ${holdings.slice(0, 5).join(", ")}${holdings.length > 5 ? " and more" : ""}, and a server that joins a cluster loses what it knows of its own: move that elsewhere, delete it here, and the node joins by itself`);
  }
  if (others.length === 0) return fail(`${among.self} founded the cluster ${cluster.name} once (bootstrap id ${cluster.bootstrap.id}), is in none now, and the repository names no other member that it could join. If the cluster is lost, write another bootstrap id`);
  if (token === undefined) {
    const why = hasFounded ? `it founded the cluster once with the id ${cluster.bootstrap.id}, and joins it again like any other; if the whole cluster is lost, write another bootstrap id` : `${among.self} is not in the cluster ${cluster.name} yet`;
    return [{ resource, why, impact: "none", do: "ask", key: `join/${among.self}`, from: others, what: `a token to join the ${titleOf(product)} cluster ${cluster.name}`, lastsMs: TOKEN_LASTS_MS }];
  }
  const problem = tokenProblem(token, want);
  if (problem !== null) return fail(problem);
  const member_config = [
    ...Object.entries(among.fellows.find(({ name }) => name === among.self)?.pools ?? {}).flatMap(([name, config]) => Object.entries(config).map(([key, value]) => ({ entity: "storage-pool", name, key, value }))),
    ...Object.entries(among.fellows.find(({ name }) => name === among.self)?.networks ?? {}).flatMap(([name, config]) => Object.entries(config).map(([key, value]) => ({ entity: "network", name, key, value }))),
  ];
  const preseed = { cluster: { enabled: true, server_name: among.self, server_address: address, cluster_token: token, member_config } };
  return [{ resource, why: `${among.self} joins the cluster ${cluster.name}`, impact: "service", claim: { joined: cluster.name }, do: "run", argv: product.init, input: `${JSON.stringify(preseed)}\n`, timeoutMs: INIT_TIMEOUT_MS }];
}

/** A token is JSON in base64: whom it is for, and where. What is not about this cluster is not even tried. */
function tokenProblem(token: string, want: LxdWant): string | null {
  const { among, cluster } = want;
  if (token.startsWith(REFUSAL)) return token.slice(REFUSAL.length).slice(0, 1_000);
  let said: { server_name?: unknown; addresses?: unknown };
  try {
    said = JSON.parse(atob(token)) as typeof said;
  } catch {
    return "what came as a token to join by is none: another one is asked for by itself";
  }
  if (said.server_name !== among?.self) return `the token that came is for ${String(said.server_name).slice(0, 63)}, and not for ${among?.self ?? "this node"}: it is not used, and another one is asked for by itself`;
  const addresses = Array.isArray(said.addresses) ? said.addresses.map(String) : [];
  const known = new Set(among?.fellows.map(({ address }) => address));
  if (!addresses.some((address) => known.has(address))) return `the token that came leads to ${addresses.slice(0, 3).join(", ")}, where no member of ${cluster?.name ?? "the cluster"} is by the repository: it is of another cluster, and not used. See who answers for it: the member that made it is not in this cluster`;
  return null;
}

/** A token for whoever asks, or the word on whether this node is in a cluster. */
export function makeForOther(want: LxdWant, facts: LxdFacts, { node, key }: Asked): Act | null {
  const { product, server, members } = facts;
  const { among } = want;
  if (among === null || want.cluster === undefined || !among.fellows.some(({ name }) => name === node)) return null;
  const say = (text: string): Act => ({ doing: `telling ${node}`, argv: ["echo", text], timeoutMs: TOKEN_TIMEOUT_MS });
  const clustered = server?.environment.server_clustered === true;
  if (key === `state/${among.self}`) return say(clustered ? "member" : "none");
  if (key !== `join/${node}` || product === null || !clustered) return null;
  if (!members.some(({ server_name, status }) => server_name === among.self && isOnline(status))) return null;
  const earlier = members.find(({ server_name }) => server_name === node);
  if (earlier !== undefined && !/^offline$/i.test(earlier.status)) return say(`${REFUSAL}the cluster has a member called ${node} that is ${earlier.status.toLowerCase()}: a second one cannot join. If that is another machine, rename one of them`);
  if (earlier !== undefined) return say(`${REFUSAL}the cluster still has a member called ${node}, offline, with what it held. If this machine replaces it, take the old one out (\`${product.client} cluster remove --force ${node}\` on ${among.self}); then it joins by itself`);
  return { doing: `making a token for ${node}`, argv: [product.client, "cluster", "add", node, "--quiet"], timeoutMs: TOKEN_TIMEOUT_MS };
}

/** What the member is within its cluster; written by itself. */
export function planMember(want: LxdWant, facts: LxdFacts): readonly Step[] {
  const { product, members } = facts;
  const { cluster, among } = want;
  const own = members.find(({ server_name }) => server_name === among?.self);
  if (product === null || cluster === undefined || among === null || own === undefined) return [];
  const next = memberAsWanted(cluster, own);
  const changes = (["failure_domain", "description", "groups", "roles"] as const).filter((field) => JSON.stringify(next[field]) !== JSON.stringify(fieldsOf(own)[field]));
  const config = differing(cluster.config, own.config);
  const steps: Step[] = [];
  if (changes.length > 0 || Object.keys(config).length > 0) {
    const why = [...changes.map((field) => `${field.replace("_", " ")} is ${said(fieldsOf(own)[field])}, should be ${said(next[field])}`), ...(Object.keys(config).length > 0 ? [`its settings differ: ${namesOf(config)}`] : [])].join("; ");
    steps.push(change(product, "PUT", apiPath(["cluster", "members", among.self]), { ...next, config: { ...own.config, ...config } }, { resource: "lxd/member", why, impact: "none" }));
  }
  const address = among.fellows.find(({ name }) => name === among.self)?.address;
  if (address !== undefined && address !== null && own.url !== `https://${address}`) {
    steps.push({ resource: "lxd/address", why: `the member is at ${own.url}, should be at ${address}`, impact: "none", do: "fail", message: `a member's address is in the database of all members, and is changed with all of them stopped (\`lxd cluster edit\`): do that by hand, or write \`address: ${own.url.replace(/^https:\/\//, "")}\` in the section lxd of ${among.self}` });
  }
  return steps;
}

function fieldsOf(member: Member): Pick<Member, "failure_domain" | "description" | "groups" | "roles"> {
  return { failure_domain: member.failure_domain, description: member.description, groups: member.groups.toSorted(), roles: member.roles.toSorted() };
}

function memberAsWanted(want: NonNullable<LxdWant["cluster"]>, own: Member): Pick<Member, "failure_domain" | "description" | "groups" | "roles"> {
  const automatic = own.roles.filter((role) => role.startsWith("database"));
  return {
    failure_domain: want.failureDomain ?? own.failure_domain,
    description: want.description ?? own.description,
    groups: (want.groups ?? own.groups).toSorted(),
    roles: (want.roles === undefined ? own.roles : [...new Set([...automatic, ...want.roles])]).toSorted(),
  };
}

function said(value: string | readonly string[]): string {
  return typeof value === "string" ? (value === "" ? "empty" : value) : value.length === 0 ? "none" : value.join(", ");
}
