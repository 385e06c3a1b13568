import * as z from "zod";
import { sorted } from "./frr-policy.ts";
import type { FrrWant } from "./frr-section.ts";
import type { Act, DrainStep, Output, Probe, Reason } from "./kind.ts";

/** How a router leaves so that nobody's packets are lost, and whether its sessions are up. */

const VTYSH_TIMEOUT_MS = 20_000;
/** A session needs a moment to be ended in order. */
const MORE_MS = 10_000;

export interface DrainFacts {
  /** Daemons that answer; empty when FRR does not run. */
  readonly daemons: ReadonlySet<string>;
}

/** What is wanted may not run yet: a daemon that comes with the change for whose sake the router is drained has nothing to hand over. */
export async function observeDrain(_want: FrrWant, probe: Probe): Promise<DrainFacts> {
  const { code, stdout } = await vtysh(probe, "show daemons");
  return { daemons: new Set(code === 0 ? stdout.trim().split(/\s+/) : []) };
}

function vtysh(probe: Probe, command: string): Promise<Output> {
  return probe.run(["vtysh", "-c", command], { timeoutMs: VTYSH_TIMEOUT_MS });
}

/**
 * First its routes become the last choice of everybody who has another (RFC 8326, RFC 3137 for OSPF), then they go. None of it is in
 * the file, so that a router that has been rebooted is what the file says.
 */
export function drainSteps(want: FrrWant, facts: DrainFacts): readonly DrainStep[] {
  const { order, waitSeconds } = want.drain;
  const already = (daemon: string): true | null => (facts.daemons.has(daemon) ? null : true);
  const configure = (doing: string, ...lines: string[]): Act => ({ doing, argv: ["vtysh", "-c", "configure terminal", ...lines.flatMap((line) => ["-c", line])], timeoutMs: VTYSH_TIMEOUT_MS });
  const steps: DrainStep[] = [];
  if (want.bgp !== undefined && Object.keys(want.bgp.neighbors).length > 0) {
    const router = `router bgp ${want.bgp.asn}`;
    steps.push(
      { name: "bgp/last-choice", order, already: already("bgpd"), drain: configure("telling BGP neighbours to prefer others", router, "bgp graceful-shutdown"), undo: configure("telling BGP neighbours to prefer this router as before", router, "no bgp graceful-shutdown") },
      { name: "bgp/sessions", order: order + 2, already: already("bgpd"), drain: configure("ending BGP sessions", router, "bgp shutdown message drained"), undo: configure("beginning BGP sessions", router, "no bgp shutdown") },
    );
  }
  if (want.ospf !== undefined) {
    steps.push({ name: "ospf/last-choice", order, already: already("ospfd"), drain: configure("telling OSPF neighbours to prefer others", "router ospf", "max-metric router-lsa administrative"), undo: configure("telling OSPF neighbours to prefer this router as before", "router ospf", "no max-metric router-lsa administrative") });
  }
  if (steps.length > 0 && waitSeconds > 0) {
    steps.push({ name: "wait", order: order + 1, already: already("zebra"), drain: { doing: `waiting ${waitSeconds} s until neighbours have moved`, argv: ["sleep", String(waitSeconds)], timeoutMs: waitSeconds * 1_000 + MORE_MS }, undo: null });
  }
  return steps;
}

const Session = z.object({ state: z.string(), pfxRcd: z.int().optional() });
const Summary = z.record(z.string(), z.object({ peers: z.record(z.string(), Session).default({}) }));
const BfdPeers = z.array(z.object({ peer: z.string().optional(), interface: z.string().optional(), status: z.string() }));
const OspfNeighbors = z.object({ neighbors: z.record(z.string(), z.array(z.object({ nbrState: z.string().optional(), state: z.string().optional(), ifaceName: z.string().optional() }))).default({}) });

export interface GateFacts {
  /** Why FRR does not answer, or null. */
  readonly error: string | null;
  /** By the neighbour's address or interface: the worst of its families. */
  readonly sessions: ReadonlyMap<string, { readonly state: string; readonly routes: number }>;
  readonly bfd: ReadonlyMap<string, string>;
  /** Interfaces with at least one OSPF neighbour that is Full, or 2-Way with one that is not designated. */
  readonly ospf: ReadonlySet<string>;
}

export async function observeGate(want: FrrWant, probe: Probe): Promise<GateFacts> {
  const hasBfd = Object.values(want.bgp?.neighbors ?? {}).some(({ bfd }) => bfd !== false);
  const nothing = { error: null, sessions: new Map<string, { state: string; routes: number }>(), bfd: new Map<string, string>(), ospf: new Set<string>() };
  if (want.bgp === undefined && want.ospf === undefined) return nothing;
  const [summary, bfd, ospf] = await Promise.all([
    want.bgp === undefined ? null : vtysh(probe, "show bgp summary json"),
    hasBfd ? vtysh(probe, "show bfd peers json") : null,
    want.ospf === undefined ? null : vtysh(probe, "show ip ospf neighbor json"),
  ]);
  const failed = [summary, bfd, ospf].find((output) => output !== null && output.code !== 0);
  // One daemon that does not answer keeps nobody from asking the others.
  const error = failed === null || failed === undefined ? null : `${failed.stdout}${failed.stderr}`.trim().slice(0, 300) || `vtysh ended with code ${failed.code}`;
  const families = parseJson(summary, Summary) ?? {};
  const sessions = new Map<string, { state: string; routes: number }>();
  for (const { peers } of Object.values(families)) {
    for (const [address, { state, pfxRcd }] of Object.entries(peers)) {
      const known = sessions.get(address);
      sessions.set(address, { state: known === undefined || known.state === "Established" ? state : known.state, routes: (known?.routes ?? 0) + (pfxRcd ?? 0) });
    }
  }
  const neighbors = Object.values(parseJson(ospf, OspfNeighbors)?.neighbors ?? {}).flat();
  return {
    error,
    sessions,
    bfd: new Map((parseJson(bfd, BfdPeers) ?? []).map(({ peer, interface: at, status }) => [peer ?? at ?? "", status])),
    ospf: new Set(neighbors.flatMap(({ nbrState, state, ifaceName }) => (/^(Full|2-Way\/DROther)/.test(nbrState ?? state ?? "") && ifaceName !== undefined ? [ifaceName.split(":")[0]!] : []))),
  };
}

function parseJson<T>(output: Output | null, as: z.ZodType<T>): T | null {
  if (output === null || output.code !== 0) return null;
  try {
    return as.safeParse(JSON.parse(output.stdout)).data ?? null;
  } catch {
    return null;
  }
}

/**
 * Each sentence is the same as long as what it says is so, whatever the cause: a change of the network is kept if it brings no new one. So a
 * session that did not exist before may be down after, and one that was up must be up again.
 */
export function gateReasons(want: FrrWant, facts: GateFacts): readonly Reason[] {
  const reasons: Reason[] = facts.error === null ? [] : [`it is not known how FRR's sessions are: ${facts.error}`];
  for (const [name, { peer, shutdown, bfd, routesMin }] of sorted(want.bgp?.neighbors ?? {})) {
    if (peer === null || shutdown) continue;
    const session = facts.sessions.get(peer.address);
    const who = `${name} (${peer.address})`;
    const tell = (text: string): void => void reasons.push(peer.node === null ? text : { text, missing: [peer.node] });
    // By us, or by somebody who wants it so.
    if (session?.state === "Idle (Admin)") continue;
    const isUp = session?.state === "Established";
    if (!isUp) tell(`the BGP session with ${who} is not up`);
    if (routesMin > 0 && (!isUp || session.routes < routesMin)) tell(`${who} tells fewer routes over BGP than the ${routesMin} that it should`);
    if (bfd !== false && (!isUp || facts.bfd.get(peer.address) !== "up")) tell(`BFD with ${who} is not up`);
  }
  for (const [name, { passive }] of sorted(want.ospf?.interfaces ?? {})) {
    if (!passive && !facts.ospf.has(name)) reasons.push(`no OSPF neighbour on ${name} is up`);
  }
  return reasons;
}
