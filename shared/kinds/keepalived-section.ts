import * as z from "zod";
import { interfaceAddress, interfaceName, ipAddress, parseIp, parsePrefix } from "./keepalived-address.ts";

const INSTANCES_MAX = 64;
const SCRIPTS_MAX = 32;
const ADDRESSES_MAX = 64;
/** Places 10 apart, from 200 down, stay above 0: 254 is VRRP's highest, and 255 means "owns the address" (RFC 9568, 5.2.4). */
export const PLACES_MAX = 20;

const name = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9_-]{0,30}[A-Za-z0-9])?$/, "a name has at most 32 letters, digits, hyphens and underscores, like web");

/** keepalived.conf(5) gives quotes, comment signs, `$`, `~` and backslashes a meaning of their own, also within words. */
const word = z.string().regex(/^[A-Za-z0-9_./:=@%+, -]{1,1024}$/, "a word of a command has letters, digits, spaces and . / : = @ % + , _ - here: put anything else into a script under files:, and name that");
const command = z
  .array(word)
  .min(1)
  .max(32)
  .refine((words) => words[0]?.startsWith("/") === true && !words[0].includes(" "), "the first word is the program, by its full path, such as /usr/bin/curl");

const script = z.strictObject({
  command: command.describe("A program and its arguments, run without a shell; exit code 0 is well"),
  everySeconds: z.int().min(1).max(3_600).default(2).describe("How often it is asked"),
  timeoutSeconds: z.int().min(1).max(3_600).default(2).describe("After so long it counts as failed"),
  fall: z.int().min(1).max(100).default(2).describe("So many failures in a row until it counts"),
  rise: z.int().min(1).max(100).default(2).describe("So many successes in a row until it is well again"),
  weight: z.int().min(-253).max(253).default(0).describe("0: while it fails, the node gives the addresses up. Below 0: so much is taken from the priority while it fails; above 0: so much is added while it is well. Places in the list of nodes are 10 apart"),
  user: z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/, "a user's name").default("root").describe("As whom it runs"),
});

const notify = z
  .strictObject({
    master: command.optional().describe("Run when this node has taken the addresses"),
    backup: command.optional().describe("Run when it has become a backup"),
    fault: command.optional().describe("Run when it cannot hold them: interface down, a script failing, drained"),
    stop: command.optional().describe("Run when keepalived stops"),
    any: command.optional().describe("Run at each of these; it is given INSTANCE or GROUP, the name, the state and the priority after its own arguments"),
  })
  .describe("Programs to run when the state changes");

/** What follows from the other nodes; filled in by `resolve`. */
export interface Place {
  readonly node: string;
  readonly priority: number;
  /** This node's own address that VRRP is spoken from, and those of the others; empty with multicast. */
  readonly source: string | null;
  readonly peers: readonly string[];
}

const instance = z
  .strictObject({
    routerId: z.int().min(1).max(255).describe("virtual_router_id: the number of these addresses in the network, used for nothing else"),
    interface: interfaceName.describe("The interface that VRRP is spoken on, and that gets the addresses"),
    nodes: z
      .array(z.string().min(1).max(63))
      .min(1)
      .max(PLACES_MAX)
      .refine((nodes) => new Set(nodes).size === nodes.length, "a node stands in the list once")
      .optional()
      .describe("The nodes in the order in which they are to hold the addresses; without it, all that have the instance, in the order of their names"),
    addresses: z
      .array(interfaceAddress)
      .min(1)
      .max(ADDRESSES_MAX)
      .refine((addresses) => new Set(addresses.map((each) => parsePrefix(each)?.address)).size === addresses.length, "an address stands in the list once")
      .describe("The addresses that move, each with the length of its network: 10.0.0.100/24"),
    version: z.union([z.literal(2), z.literal(3)]).default(3).describe("VRRP's version; IPv6 and advertisements within a second need 3, a password needs 2"),
    advertSeconds: z.number().min(0.01).max(255).default(1).describe("How often the holder says that it is there; after three of these it counts as gone"),
    unicast: z.boolean().default(true).describe("Speak to the other nodes' addresses, which are taken from the repository; false: multicast, for networks that carry it"),
    source: ipAddress.optional().describe("This node's address in the network of the interface, in the node's own file; without it, the node's `address`"),
    preempt: z.boolean().default(false).describe("A node further up in the list takes the addresses back when it returns: one move more, and what is under way is lost"),
    preemptDelaySeconds: z.int().min(0).max(1_000).default(0).describe("With preempt: how long a node waits with that after it has started"),
    password: z
      .string()
      .regex(/^[A-Za-z0-9_.+=@%-]{1,8}$/, "VRRP's password has at most 8 letters, digits and _ . + = @ % -; it goes over the network as it is, and keeps out mistakes, not attackers")
      .optional()
      .describe("A password for version 2, at most 8 characters, the same on all nodes"),
    trackScripts: z.array(name).max(SCRIPTS_MAX).default([]).describe("Names of `scripts` that decide on whether this node may hold the addresses"),
    trackInterfaces: z
      .record(interfaceName, z.int().min(-253).max(253).describe("0: while it is down, the node gives the addresses up; else what is added to the priority"))
      .default({})
      .describe("Interfaces that must be up besides, with what their state means for the priority"),
    notify: notify.optional(),
  })
  .superRefine((written, check) => {
    const refuse = (path: string, message: string) => check.addIssue({ code: "custom", path: [path], message });
    if (written.version === 2 && !Number.isInteger(written.advertSeconds)) refuse("advertSeconds", "version 2 counts whole seconds: write a whole number, or take version 3");
    if (written.version === 3 && written.advertSeconds > 40.95) refuse("advertSeconds", "version 3 counts up to 40.95 seconds");
    if (written.version === 2 && written.addresses.some((each) => parsePrefix(each)?.family === 6)) refuse("version", "IPv6 needs version 3");
    if (written.version === 3 && written.password !== undefined) refuse("password", "version 3 knows no password (RFC 5798, 9): leave it out, or take version 2");
    if (!written.preempt && written.preemptDelaySeconds > 0) refuse("preemptDelaySeconds", "it needs `preempt: true`");
    if (written.trackInterfaces[written.interface] !== undefined) check.addIssue({ code: "custom", path: ["trackInterfaces", written.interface], message: "the instance's own interface is watched anyhow: leave it out" });
    if (!written.unicast && written.source !== undefined && parseIp(written.source)?.family === 6) refuse("source", "with multicast, the kernel chooses the link-local address itself: leave it out");
  })
  .transform((written) => ({ ...written, place: null as Place | null }));

export const keepalivedSchema = z
  .strictObject({
    instances: z
      .record(name, instance)
      .refine((entries) => Object.keys(entries).length <= INSTANCES_MAX, `at most ${INSTANCES_MAX}`)
      .default({})
      .describe("Addresses that move together, by a name of yours; best in a role that all their nodes have"),
    scripts: z
      .record(name, script)
      .refine((entries) => Object.keys(entries).length <= SCRIPTS_MAX, `at most ${SCRIPTS_MAX}`)
      .default({})
      .describe("Questions that keepalived asks all the time, by name, for `trackScripts`"),
    syncGroups: z
      .record(name, z.array(name).min(2).max(INSTANCES_MAX))
      .default({})
      .describe("Instances that are always held by the same node, by a name of yours"),
    drain: z
      .strictObject({
        order: z.int().min(0).max(999).default(10).describe("Lower goes first. The addresses move before services stop (commands 20, units 50)"),
        quietSeconds: z
          .number()
          .min(0)
          .max(60)
          .default(2)
          .describe("Before the addresses move, new connections to them are not answered (TCP asks again by itself, the next holder answers), and so long those under way may take to end; 0: none of this. Needs nft"),
        handOverSeconds: z.int().min(1).max(300).default(15).describe("So long another node may take to answer at the addresses; if none does, this one takes them back, and does not go"),
      })
      .prefault({})
      .describe("How this node hands the addresses over before it goes"),
  })
  .superRefine((written, check) => {
    const refuse = (path: readonly (string | number)[], message: string) => check.addIssue({ code: "custom", path: [...path], message });
    for (const [as, { trackScripts }] of Object.entries(written.instances)) {
      for (const [at, each] of trackScripts.entries()) if (written.scripts[each] === undefined) refuse(["instances", as, "trackScripts", at], `there is no script ${each} under scripts`);
    }
    const grouped = new Map<string, string>();
    for (const [group, members] of Object.entries(written.syncGroups)) {
      for (const [at, each] of members.entries()) {
        if (written.instances[each] === undefined) refuse(["syncGroups", group, at], `there is no instance ${each}`);
        else if (grouped.has(each)) refuse(["syncGroups", group, at], `${each} is in ${grouped.get(each)} already: an instance is in one group`);
        grouped.set(each, group);
        const weighing = written.instances[each]?.trackScripts.find((script) => (written.scripts[script]?.weight ?? 0) !== 0);
        if (weighing !== undefined) refuse(["scripts", weighing, "weight"], `${each} is in the group ${group}, whose members have one state: keepalived wants weight 0 for what it tracks`);
        const interfaces = Object.entries(written.instances[each]?.trackInterfaces ?? {}).find(([, weight]) => weight !== 0);
        if (interfaces !== undefined) refuse(["instances", each, "trackInterfaces", interfaces[0]], `${each} is in the group ${group}, whose members have one state: keepalived wants 0 here`);
      }
    }
  })
  .describe("Addresses that move between nodes by VRRP");

export type KeepalivedWant = z.output<typeof keepalivedSchema>;
export type Instance = KeepalivedWant["instances"][string];
export type Script = KeepalivedWant["scripts"][string];
