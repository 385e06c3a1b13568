import * as z from "zod";
import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import type { Owned, Probe } from "./kind.ts";
import { apiPath, ask, findProduct, titleOf } from "./lxd-api.ts";
import type { Answer, Product } from "./lxd-api.ts";
import { SCRIPT, scriptText } from "./lxd-script.ts";
import { joinName, splitName } from "./lxd-section.ts";
import type { LxdWant } from "./lxd-section.ts";
import { lookAt } from "./managed-file.ts";
import type { At } from "./managed-file.ts";

/** What LXD says about itself, as far as the section is about it. */
export interface LxdFacts {
  readonly script: At;
  readonly accounts: Accounts;
  /** Null when neither LXD nor Incus is installed. */
  readonly product: Product | null;
  readonly server: Server | null;
  /** Empty for a single server. */
  readonly members: readonly Member[];
  readonly pools: ReadonlyMap<string, Pool>;
  readonly networks: ReadonlyMap<string, Network>;
  readonly projects: ReadonlyMap<string, Project>;
  readonly profiles: ReadonlyMap<string, Profile>;
  readonly images: ReadonlyMap<string, readonly Image[]>;
  readonly instances: ReadonlyMap<string, Instance>;
  /** What a server that is to join holds of its own: "the pool local". Null when it was not looked at. */
  readonly holdings: readonly string[] | null;
  /** SHA-256 of files that images are to be made from; null for one that is not there. Only of images that are missing. */
  readonly sums: ReadonlyMap<string, string | null>;
}

const config = z.record(z.string(), z.string()).nullish().transform((values) => values ?? {});
const devices = z.record(z.string(), z.record(z.string(), z.string())).nullish().transform((values) => values ?? {});
const names = z.array(z.string()).nullish().transform((values) => values ?? []);

const Server = z.object({
  config: z.record(z.string(), z.union([z.string(), z.boolean(), z.number()]).transform(String)).nullish().transform((values) => values ?? {}),
  environment: z.object({ server_clustered: z.boolean().default(false), server_name: z.string().default(""), server_version: z.string().default(""), server: z.string().default("lxd") }),
});
export type Server = z.output<typeof Server>;

const Member = z.object({ server_name: z.string(), url: z.string(), database: z.boolean().default(false), status: z.string(), message: z.string().default(""), roles: names, failure_domain: z.string().default("default"), description: z.string().default(""), config, groups: names });
export type Member = z.output<typeof Member>;

const Pool = z.object({ name: z.string(), driver: z.string(), config, description: z.string().default(""), status: z.string().default("Created"), locations: names });
export type Pool = z.output<typeof Pool>;

const Network = z.object({ name: z.string(), type: z.string(), config, description: z.string().default(""), managed: z.boolean(), status: z.string().default(""), locations: names });
export type Network = z.output<typeof Network>;

const Project = z.object({ name: z.string(), config, description: z.string().default("") });
export type Project = z.output<typeof Project>;

const Profile = z.object({ name: z.string(), config, devices, description: z.string().default(""), used_by: names });
export type Profile = z.output<typeof Profile>;

const Image = z.object({ fingerprint: z.string(), aliases: z.array(z.object({ name: z.string() })).nullish().transform((values) => (values ?? []).map(({ name }) => name)) });
export type Image = z.output<typeof Image>;

const Instance = z.object({
  name: z.string(),
  type: z.string(),
  status: z.string(),
  location: z.string().default("none"),
  architecture: z.string().default(""),
  ephemeral: z.boolean().default(false),
  stateful: z.boolean().default(false),
  profiles: names,
  config,
  devices,
  description: z.string().default(""),
  project: z.string().default("default"),
});
export type Instance = z.output<typeof Instance>;

const NOTHING: Omit<LxdFacts, "script" | "accounts"> = { product: null, server: null, members: [], pools: new Map(), networks: new Map(), projects: new Map(), profiles: new Map(), images: new Map(), instances: new Map(), holdings: null, sums: new Map() };
const NOT_FOUND = 404;
const MEMBER_TIMEOUT_SECONDS = 3;
const SUM_TIMEOUT_MS = 10 * 60_000;

/** One process when there is nothing to do; a second one on a server that is to join, and one for the files of missing images. */
export async function observeLxd(want: LxdWant, probe: Probe, owned: Owned): Promise<LxdFacts> {
  const [script, accounts, product] = await Promise.all([lookAt(probe, SCRIPT, { content: new TextEncoder().encode(scriptText) }), readAccounts(probe), findProduct(want, probe)]);
  if (product === null) return { ...NOTHING, script, accounts };
  const ownedOf = (what: string): string[] => [...owned.keys()].filter((key) => key.startsWith(`${what}/`)).map((key) => key.slice(what.length + 1));
  const profiles = projectsOf([...Object.keys(want.profiles), ...ownedOf("profiles")]);
  const images = projectsOf([...Object.keys(want.images), ...ownedOf("images")]);
  const instances = projectsOf(Object.keys(want.instances));
  const networks = projectsOf(Object.keys(want.networks));
  const listed = (what: string, project: string): string => apiPath([what], { recursion: "1", ...(project === "default" ? {} : { project }) });
  const questions: [what: string, project: string, path: string][] = [
    ["server", "", "/1.0"],
    ["members", "", apiPath(["cluster", "members"], { recursion: "1" })],
    ...(Object.keys(want.pools).length > 0 ? [["pools", "", apiPath(["storage-pools"], { recursion: "1" })] as [string, string, string]] : []),
    ...(Object.keys(want.projects).length > 0 ? [["projects", "", apiPath(["projects"], { recursion: "1" })] as [string, string, string]] : []),
    ...networks.map((project): [string, string, string] => ["networks", project, listed("networks", project)]),
    ...profiles.map((project): [string, string, string] => ["profiles", project, listed("profiles", project)]),
    ...images.map((project): [string, string, string] => ["images", project, listed("images", project)]),
    ...instances.map((project): [string, string, string] => ["instances", project, listed("instances", project)]),
  ];
  const answers = await ask(product, questions.map(([, , path]) => path), probe);
  /** Everything of one sort, by its name with its project. A project that is not there yet has nothing. */
  const all = <T>(what: string, schema: z.ZodType<T>, nameOf: (one: T) => string): Map<string, T> =>
    new Map(questions.flatMap(([asked, project], index) => (asked === what ? listOf(answers[index], schema).map((one) => [project === "" ? nameOf(one) : joinName(project, nameOf(one)), one] as const) : [])));
  const first = answers[0];
  const server = serverIn(product, first);
  const facts: LxdFacts = {
    ...NOTHING,
    script,
    accounts,
    product,
    server,
    members: server.environment.server_clustered ? membersIn(answers[1]) : [],
    pools: all("pools", Pool, ({ name }) => name),
    networks: all("networks", Network, ({ name }) => name),
    projects: all("projects", Project, ({ name }) => name),
    profiles: all("profiles", Profile, ({ name }) => name),
    instances: all("instances", Instance, ({ name }) => name),
    images: new Map(questions.flatMap(([asked, project], index) => (asked === "images" ? [[project, listOf(answers[index], Image)] as const] : []))),
  };
  if (want.cluster !== undefined && !server.environment.server_clustered) return { ...facts, holdings: await holdingsOf(product, probe) };
  return { ...facts, sums: await sumsOf(want, facts, probe) };
}

/** What a drain and a gate go by. */
export interface Going {
  readonly product: Product | null;
  readonly server: Server | null;
  readonly members: readonly Member[];
  /** Instances of all members, in all projects. */
  readonly instances: readonly Instance[];
  /** What evacuates stands on the node. */
  readonly hasScript: boolean;
}

export async function observeMembers(want: LxdWant, probe: Probe): Promise<Going> {
  const [product, script] = await Promise.all([findProduct(want, probe), probe.stat(SCRIPT)]);
  const hasScript = script?.type === "file";
  if (product === null) return { product, server: null, members: [], instances: [], hasScript };
  const [server, members, instances] = await ask(product, ["/1.0", apiPath(["cluster", "members"], { recursion: "1" }), `${apiPath(["instances"])}?recursion=1&all-projects=true`], probe);
  const parsed = serverIn(product, server);
  const listed = parsed.environment.server_clustered ? await Promise.all(membersIn(members).map((member) => asItIs(member, probe))) : [];
  return { product, server: parsed, members: listed, instances: listOf(instances, Instance), hasScript };
}

/**
 * For a while after the database's leader was lost, healthy members are listed as offline, because nobody has asked them yet
 * (seen with LXD 5.0.2, up to 15 s): whoever answers is not.
 */
async function asItIs(member: Member, probe: Probe): Promise<Member> {
  if (!/^offline$/i.test(member.status)) return member;
  const { code } = await probe.run(["curl", "-gskS", "--max-time", String(MEMBER_TIMEOUT_SECONDS), "-o", "/dev/null", `${member.url}/1.0`], { timeoutMs: (MEMBER_TIMEOUT_SECONDS + 2) * 1_000 });
  return code === 0 ? { ...member, status: "Online", message: "" } : member;
}

function serverIn(product: Product, answer: Answer | undefined): Server {
  if (answer?.ok !== true) throw new Error(`${titleOf(product)} does not say what it is: ${saidBy(answer)}`);
  return Server.parse(answer.metadata);
}

function membersIn(answer: Answer | undefined): readonly Member[] {
  if (answer?.ok !== true) throw new Error(`the list of cluster members cannot be read: ${saidBy(answer)}`);
  return z.array(Member).parse(answer.metadata);
}

/** What is asked of a project that is not there yet is nothing; any other error is no answer, and not a sign that nothing is there. */
function listOf<T>(answer: Answer | undefined, schema: z.ZodType<T>): T[] {
  if (answer?.ok === true) return z.array(schema).parse(answer.metadata ?? []);
  if (answer?.code === NOT_FOUND) return [];
  throw new Error(saidBy(answer));
}

/** Seen with LXD 5.0 after two of three members were gone: 500 and 503, from the second question on. */
function saidBy(answer: Answer | undefined): string {
  const said = answer?.ok === false ? `${answer.error} (${answer.code})` : "no answer";
  return /dqlite|deadline exceeded|database is locked|no leader/i.test(said) ? `${said}: the database has lost the majority of its voters. Start the other members; nothing is changed here before it is back` : said;
}

function projectsOf(keys: readonly string[]): readonly string[] {
  return [...new Set(keys.map((key) => splitName(key)[0]))].toSorted();
}

/** What would be lost by joining a cluster: a joining server's database is replaced by the cluster's. */
async function holdingsOf(product: Product, probe: Probe): Promise<readonly string[]> {
  const [pools, instances, networks] = await ask(product, [apiPath(["storage-pools"], { recursion: "1" }), `${apiPath(["instances"])}?recursion=1&all-projects=true`, apiPath(["networks"], { recursion: "1" })], probe);
  return [
    ...listOf(pools, Pool).map(({ name }) => `the pool ${name}`),
    ...listOf(networks, Network).filter(({ managed }) => managed).map(({ name }) => `the network ${name}`),
    ...listOf(instances, Instance).map(({ name }) => `the instance ${name}`),
  ];
}

async function sumsOf(want: LxdWant, facts: LxdFacts, probe: Probe): Promise<ReadonlyMap<string, string | null>> {
  const files = Object.entries(want.images).flatMap(([key, { file, fingerprint }]) => (file !== undefined && facts.images.get(splitName(key)[0])?.some((each) => each.fingerprint === fingerprint) !== true ? [file] : []));
  const sums = new Map<string, string | null>();
  for (const file of [...new Set(files)].toSorted()) {
    if ((await probe.stat(file)) === null) {
      sums.set(file, null);
      continue;
    }
    const output = await probe.run(["sha256sum", "-b", "--", file], { timeoutMs: SUM_TIMEOUT_MS });
    // A backslash before the sum tells of one in the name (coreutils).
    const sum = /^\\?([0-9a-f]{64}) /.exec(output.stdout)?.[1];
    if (output.code !== 0 || sum === undefined) throw new Error(`the sum of ${file} could not be taken: ${output.stderr.trim().slice(0, 300)}`);
    sums.set(file, sum);
  }
  return sums;
}
