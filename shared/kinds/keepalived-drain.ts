import * as z from "zod";
import { parsePrefix } from "./keepalived-address.ts";
import { MARKER } from "./keepalived-conf.ts";
import { SCRIPT, TABLE } from "./keepalived-script.ts";
import type { Instance, KeepalivedWant } from "./keepalived-section.ts";
import type { Act, DrainStep, Output, Probe, Reason } from "./kind.ts";

/** How a node hands its addresses over, and whether it may: read from keepalived and the network, not concluded from priorities. */

const NFT = "/usr/sbin/nft";
/** iputils' arping; Debian's package `arping` has another in /usr/sbin, with other options. */
const ARPING = "/usr/bin/arping";
const STATE_TIMEOUT_MS = 15_000;
const LOOK_TIMEOUT_MS = 10_000;
/** Each address takes up to 2 s, all at the same time. */
const ASK_TIMEOUT_MS = 30_000;
/** For the script's own ends beyond the seconds that it is given. */
const SCRIPT_MORE_MS = 15_000;

/** Instances that somebody else can take over. */
function shared(want: KeepalivedWant): readonly (readonly [name: string, instance: Instance])[] {
  return Object.entries(want.instances)
    .filter(([, { place, unicast }]) => place !== null && (!unicast || place.peers.length > 0))
    .toSorted(([one], [other]) => (one < other ? -1 : 1));
}

/** Addresses that move, as the script takes them. */
function asked(instances: ReturnType<typeof shared>): readonly string[] {
  return [...new Set(instances.flatMap(([, { addresses, interface: at }]) => addresses.map((each) => `${bare(each)}@${at}`)))];
}

const bare = (address: string): string => parsePrefix(address)?.address ?? address;

export interface DrainFacts {
  readonly hasScript: boolean;
  readonly hasNft: boolean;
}

export async function observeDrain(_want: KeepalivedWant, probe: Probe): Promise<DrainFacts> {
  const [script, nft] = await Promise.all([probe.stat(SCRIPT), probe.stat(NFT)]);
  return { hasScript: script !== null, hasNft: nft !== null };
}

export function drainSteps(want: KeepalivedWant, facts: DrainFacts): readonly DrainStep[] {
  const addresses = asked(shared(want));
  if (addresses.length === 0) return [];
  const { order, quietSeconds, handOverSeconds } = want.drain;
  const act = (doing: string, argv: [string, ...string[]], seconds: number): Act => ({ doing, argv, timeoutMs: seconds * 1_000 + SCRIPT_MORE_MS });
  const count = addresses.length === 1 ? addresses[0]!.split("@")[0]! : `${addresses.length} addresses`;
  const wholeSeconds = Math.ceil(quietSeconds);
  const quiet: DrainStep = {
    name: "quiet",
    order,
    drain: act(`letting requests at ${count} end`, [SCRIPT, "quiet", String(wholeSeconds), ...addresses], wholeSeconds),
    // Without the script: it may be gone by then. Adding first makes it do no harm when there is none.
    undo: act(`answering at ${count}`, ["nft", `add table ${TABLE}; delete table ${TABLE}`], 0),
    already: null,
  };
  const stepDown: DrainStep = {
    name: "step-down",
    order: order + 1,
    drain: act(`handing over ${count}`, [SCRIPT, "step-down", String(handOverSeconds), ...addresses], handOverSeconds),
    undo: act(`standing for ${count} again`, ["rm", "-f", MARKER], 0),
    already: null,
    ...(facts.hasScript ? {} : { cannot: `${SCRIPT} is not there yet: the section keepalived has to converge on this node first` }),
  };
  return quietSeconds > 0 && facts.hasNft && facts.hasScript ? [quiet, stepDown] : [stepDown];
}

export interface GateFacts {
  /** By name; null when keepalived does not run, or does not say. */
  readonly states: ReadonlyMap<string, State> | null;
  /** Why its state is not known, or null. */
  readonly error: string | null;
  /** The node has been told to hold nothing. */
  readonly isDrained: boolean;
  /** Of the instances' addresses: on this node now. */
  readonly here: ReadonlySet<string>;
  /** Of the others' own addresses and those that move and are not here: those that somebody answers at. */
  readonly answers: ReadonlySet<string>;
  /** Addresses on this node that another one answers at as well. */
  readonly twice: ReadonlySet<string>;
}

type State = "INIT" | "BACKUP" | "MASTER" | "FAULT" | "unknown";
/** vrrp.h: VRRP_STATE_INIT … */
const STATES: readonly State[] = ["INIT", "BACKUP", "MASTER", "FAULT"];

const Dump = z.array(z.object({ data: z.object({ iname: z.string(), state: z.int() }) }));
const IpAddresses = z.array(z.object({ ifname: z.string().optional(), addr_info: z.array(z.object({ local: z.string().optional() })).default([]) }));

export async function observeGate(want: KeepalivedWant, probe: Probe): Promise<GateFacts> {
  const instances = shared(want);
  if (instances.length === 0) return { states: new Map(), error: null, isDrained: false, here: new Set(), answers: new Set(), twice: new Set() };
  const [dump, marker, shown] = await Promise.all([
    probe.run([SCRIPT, "state"], { timeoutMs: STATE_TIMEOUT_MS }),
    probe.stat(MARKER),
    probe.run(["ip", "-j", "address", "show"], { timeoutMs: LOOK_TIMEOUT_MS }),
  ]);
  const ours = new Set((parseJson(shown, IpAddresses) ?? []).flatMap((link) => link.addr_info.flatMap(({ local }) => (local === undefined ? [] : [bare(local)]))));
  const moving = instances.flatMap(([, instance]) => instance.addresses.map((each) => ({ address: bare(each), at: instance.interface })));
  const here = new Set(moving.flatMap(({ address }) => (ours.has(address) ? [address] : [])));
  const peers = instances.flatMap(([, { place, interface: at }]) => (place?.peers ?? []).map((peer) => `${peer}@${at}`));
  const questions = [...new Set([...asked(instances).filter((each) => !here.has(each.split("@")[0]!)), ...peers])].toSorted();
  const answered = questions.length === 0 ? null : await probe.run([SCRIPT, "ask", ...questions], { timeoutMs: ASK_TIMEOUT_MS });
  const answers = new Set(answered?.code === 0 ? answered.stdout.split("\n") : []);
  const twice = new Set<string>();
  if (here.size > 0 && (await probe.stat(ARPING)) !== null) {
    for (const { address, at } of moving) if (here.has(address) && !address.includes(":") && (await isTwice(probe, address, at))) twice.add(address);
  }
  const { states, error } = readStates(dump);
  return { states, error, isDrained: marker !== null, here, answers, twice };
}

/** arping(8), -D: 1 when another host has it too. Our own answers to nobody who asks from here. */
async function isTwice(probe: Probe, address: string, at: string): Promise<boolean> {
  return (await probe.run([ARPING, "-D", "-q", "-c", "2", "-w", "2", "-I", at, address], { timeoutMs: LOOK_TIMEOUT_MS })).code === 1;
}

function readStates(dump: Output): Pick<GateFacts, "states" | "error"> {
  if (dump.code === 3) return { states: null, error: null };
  const parsed = parseJson(dump, Dump);
  if (parsed === null) return { states: null, error: dump.code === 127 ? "the agent has not converged the section yet" : `${dump.stdout.slice(0, 200)}${dump.stderr.slice(0, 300)}`.trim() || `it ended with code ${dump.code}` };
  return { states: new Map(parsed.map(({ data }) => [data.iname, STATES[data.state] ?? "unknown"])), error: null };
}

function parseJson<T>(output: Output, as: z.ZodType<T>): T | null {
  if (output.code !== 0) return null;
  try {
    return as.safeParse(JSON.parse(output.stdout)).data ?? null;
  } catch {
    return null;
  }
}

/**
 * Each sentence is the same as long as what it says is so, whatever the cause: a change of the network is kept if it brings no new one. So an
 * instance that did not exist before may be in trouble after, and one that was well must be well again.
 */
export function gateReasons(want: KeepalivedWant, facts: GateFacts): readonly Reason[] {
  const unknown = facts.error === null ? [] : [`it is not known what keepalived does on this node: ${facts.error}`];
  const instances = shared(want);
  return instances.length === 0 ? [] : [...unknown, ...instances.flatMap(([name, instance]) => reasonsOf(name, instance, facts))];
}

function reasonsOf(name: string, instance: Instance, facts: GateFacts): Reason[] {
  const state = facts.states?.get(name);
  const reasons: Reason[] = [];
  const stands = state === "MASTER" || state === "BACKUP" || (state === "FAULT" && facts.isDrained);
  if (!stands) reasons.push(`this node cannot hold ${name}: keepalived does not run, has not read it, or is in FAULT since ${[instance.interface, ...Object.keys(instance.trackInterfaces)].join(" or ")} is down or a tracked script fails (${SCRIPT} state; journalctl -u keepalived)`);
  const addresses = instance.addresses.map(bare);
  for (const address of addresses) {
    const isHere = facts.here.has(address);
    if (isHere && state !== "MASTER") reasons.push(`${address} is on this node, although keepalived does not hold it here: there may be two holders`);
    if (!isHere && state === "MASTER") reasons.push(`${address} is not on this node, although keepalived holds it here`);
    if (facts.twice.has(address)) reasons.push(`${address} is on this node, and another node answers at it as well: there are two holders`);
    if (!isHere && !facts.answers.has(address)) reasons.push(`nobody holds ${address}: it is not on this node, and no other one answers at it`);
  }
  const peers = instance.place?.peers ?? [];
  const isElsewhere = addresses.some((address) => facts.answers.has(address));
  if (!isElsewhere && peers.length > 0 && !peers.some((peer) => facts.answers.has(peer))) reasons.push({ text: `nobody could take over ${name}: none of its other nodes (${peers.join(", ")}) answers`, holds: "itself" });
  return reasons;
}
