import * as z from "zod";
import { NodeName } from "../ids.ts";

/** Things of one sort in one section: what people keep by hand in a repository is tens. */
const ENTRIES_MAX = 500;
/** A cloud-init user-data may be as long; LXD itself sets no bound. */
const VALUE_CHARS_MAX = 65_536;

const few = <T extends z.ZodType>(of: z.ZodRecord<z.ZodType<string, string>, T>) => of.refine((entries) => Object.keys(entries).length <= ENTRIES_MAX, `at most ${ENTRIES_MAX}`).default({});

/** LXD keeps every value as a text; YAML has numbers and booleans as well. */
const value = z.union([z.string().max(VALUE_CHARS_MAX), z.number(), z.boolean()]).transform(String);
const key = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,254}$/, "a key of LXD's, like limits.memory");
const configMap = z.record(key, value).refine((entries) => Object.keys(entries).length <= ENTRIES_MAX, `at most ${ENTRIES_MAX}`).default({});
const devices = few(z.record(z.string().regex(/^[A-Za-z0-9_.:/-]{1,64}$/, "a device's name, like root or eth0"), z.record(key, value)));
const description = z.string().max(1_000).regex(/^[^\n\0]*$/, "one line").optional();

const PLAIN = "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}";
const plainName = z.string().regex(new RegExp(`^${PLAIN}$`), "a name is letters, digits, dots, hyphens and underscores");
const inProject = z.string().regex(new RegExp(`^(${PLAIN}/)?${PLAIN}$`), "a name, or PROJECT/NAME for what is not in the project default");
const instanceName = z.string().regex(new RegExp(`^(${PLAIN}/)?[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`), "an instance's name is letters, digits and hyphens, and begins with a letter; PROJECT/NAME for another project");
const networkName = z.string().regex(new RegExp(`^(${PLAIN}/)?[A-Za-z0-9][A-Za-z0-9_.-]{1,14}$`), "a network's name has 2 to 15 characters, as an interface's; PROJECT/NAME for another project");
const fingerprint = z.string().regex(/^[0-9a-f]{64}$/, "a fingerprint is 64 lower-case hexadecimal digits: sha256sum of a unified image's file, or what `lxc image info` prints");
const listen = z.string().max(255).regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?$/, "an address, or ADDRESS:PORT with an IPv6 address in brackets");

const cluster = z.strictObject({
  name: z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "lower-case letters, digits and hyphens").default("lxd").describe("Tells several LXD clusters of one repository apart: the nodes with the same name here are its members"),
  bootstrap: z
    .strictObject({
      node: NodeName.describe("The node that founds the cluster, if none of the other members has one; all others join"),
      id: z.string().min(1).max(63).describe("Any word. A node founds once with one id: only a new one lets it do so again, after all members were lost"),
    })
    .describe("Who is allowed to found the cluster, once"),
  failureDomain: plainName.optional().describe("Where the member stands: LXD spreads the database's voters over the domains"),
  roles: z.array(z.string().regex(/^[a-z][a-z0-9-]{0,62}$/).refine((role) => !role.startsWith("database"), "the database's roles are given by LXD itself")).max(20).optional().describe("Roles besides those of the database, which LXD gives by itself: event-hub, ovn-chassis"),
  groups: z.array(plainName).min(1).max(50).optional().describe("Cluster groups that the member is in; they have to exist"),
  config: configMap.describe("Settings of the member, like scheduler.instance"),
  description: description.describe("What the member list says about it"),
});

const pool = z.strictObject({
  driver: z.enum(["dir", "btrfs", "zfs", "lvm", "lvmcluster", "ceph", "cephfs", "cephobject"]).describe("What holds the data; it cannot be changed later"),
  config: configMap.describe("Its settings. In a cluster, source, size, zfs.pool_name, lvm.vg_name and lvm.thinpool_name are each node's own and used when the pool is made; the others hold for the cluster"),
  description: description.describe("What the list of pools says about it"),
});

const network = z.strictObject({
  type: z.enum(["bridge", "macvlan", "sriov", "physical", "ovn"]).default("bridge").describe("What sort of network; it cannot be changed later"),
  config: configMap.describe("Its settings. In a cluster, parent and bridge.external_interfaces are each node's own and used when the network is made; the others hold for the cluster"),
  description: description.describe("What the list of networks says about it"),
});

const project = z.strictObject({
  config: configMap.describe("Its features and limits, like features.images"),
  description: description.describe("What the list of projects says about it"),
});

const profile = z.strictObject({
  config: configMap.describe("Settings that instances with this profile get"),
  devices: devices.describe("Devices that they get, by name"),
  description: description.describe("What the list of profiles says about it"),
});

const image = z
  .strictObject({
    fingerprint: fingerprint.describe("The image's fingerprint; one with another is never used"),
    url: z.url({ protocol: /^https?$/ }).max(2_048).optional().describe("Where its file is fetched from, by the node that imports it"),
    file: z.string().max(4_096).regex(/^\/(?!(.*\/)?\.\.(\/|$))[^\0]*$/, "an absolute path").optional().describe("Its file on the node that imports it: the first member that is online, in the order of names"),
    sizeMaxBytes: z.int().min(1).max(100_000_000_000).default(10_000_000_000).describe("What is larger is a mistake, and not fetched"),
  })
  .refine(({ url, file }) => (url === undefined) !== (file === undefined), { path: ["fingerprint"], message: "say where it comes from: either url or file" });

const instance = z.strictObject({
  image: z.string().max(64).describe("What it is made from: a name under images, or a fingerprint. Later changes of it are not carried over"),
  type: z.enum(["container", "virtual-machine"]).default("container").describe("It cannot be changed later"),
  profiles: z.array(plainName).max(50).default(["default"]).describe("Its profiles; the last one weighs most"),
  config: configMap.describe("Its own settings, like limits.memory; an empty text takes one away, and others are left as they are"),
  devices: devices.describe("Its own devices, by name; others are left as they are"),
  description: description.describe("What the list of instances says about it"),
  target: z.string().max(63).optional().describe("The member or, with @ before it, the cluster group that it is made on; it may move later"),
  running: z.boolean().default(true).describe("Whether it is started when it is found stopped; false leaves it as it is"),
});

const drain = z.strictObject({
  order: z.int().min(0).max(1_000).default(40).describe("Lower goes first, and comes back last; units have 50, commands 20"),
  timeoutMinutes: z.number().min(0.1).max(24 * 60).default(10).describe("How long the evacuation may take, and the way back; what becomes of an instance says its setting cluster.evacuate"),
});

const written = z.strictObject({
  product: z.enum(["auto", "lxd", "incus"]).default("auto").describe("Which of the two it is, for a machine that has both; usually found by itself"),
  address: listen.optional().describe("Where it listens; in a cluster usually the node's own address, with port 8443"),
  cluster: cluster.optional().describe("The node is a member of a cluster; without it, LXD here is a single server"),
  config: configMap.describe("Settings of the server, and of the cluster: cluster.offline_threshold, images.auto_update_interval …; an empty text takes one away"),
  pools: few(z.record(plainName, pool)).describe("Storage pools, by name. A pool that leaves the repository stays"),
  networks: few(z.record(networkName, network)).describe("Networks, by name. A network that leaves the repository stays"),
  projects: few(z.record(plainName, project)).describe("Projects, by name. A project that leaves the repository stays"),
  profiles: few(z.record(inProject, profile)).describe("Profiles, by name. What a profile has besides is left as it is; one that leaves the repository goes, if it was made here and nothing uses it"),
  images: few(z.record(inProject, image)).describe("Images, by the alias that they get"),
  instances: few(z.record(instanceName, instance)).describe("Instances, by name. One that leaves the repository stays, running"),
  drain: drain.prefault({}).describe("How the member is evacuated before the node goes down"),
});

/** A node of the same cluster, as far as this node has to know it. */
export interface Fellow {
  readonly name: string;
  /** HOST:PORT; null when neither the node nor the section says it. */
  readonly address: string | null;
  /** Pools and networks with the settings that are its own. */
  readonly pools: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly networks: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** What follows from the other nodes. */
export interface Among {
  readonly self: string;
  /** All members by the repository, this node among them, in the order of their names. */
  readonly fellows: readonly Fellow[];
}

export const lxdSchema = written
  .superRefine((section, check) => {
    for (const [name, { image: from }] of Object.entries(section.instances)) {
      const [project] = splitName(name);
      if (/^[0-9a-f]{12,64}$/.test(from) || section.images[joinName(project, from)] !== undefined || section.images[from] !== undefined) continue;
      check.addIssue({ code: "custom", path: ["instances", name, "image"], message: `there is no image ${from} under images, and it is no fingerprint: declare it there, with its fingerprint` });
    }
  })
  .transform((section) => ({ ...section, among: null as Among | null }));

export type LxdWant = z.output<typeof lxdSchema>;
export type PoolWant = LxdWant["pools"][string];
export type NetworkWant = LxdWant["networks"][string];
export type ClusterWant = NonNullable<LxdWant["cluster"]>;

/** `web/c1` is c1 in the project web; `c1` is in the project default. */
export function splitName(name: string): readonly [project: string, name: string] {
  const slash = name.indexOf("/");
  return slash === -1 ? ["default", name] : [name.slice(0, slash), name.slice(slash + 1)];
}

export function joinName(project: string, name: string): string {
  return project === "default" ? name : `${project}/${name}`;
}
