import { readFile } from "node:fs/promises";
import { connect } from "node:tls";
import * as z from "zod";
import type { Run } from "../host/process.ts";
import { authorityPath, certificatePath, keyPath } from "../settings.ts";
import type { Places, Settings } from "../settings.ts";
import type { Reach } from "./reach.ts";
import type { Gateway } from "./step.ts";

/** ip-route(8) with -j: routes by several next hops carry them in `nexthops`; an IPv4 route by an IPv6 neighbour has `via`. */
const Hop = z.object({ gateway: z.string().optional(), via: z.object({ host: z.string() }).optional(), dev: z.string().optional() });
const Routes = z.array(Hop.extend({ nexthops: z.array(Hop).optional() }));
const Neighbours = z.array(z.object({ state: z.array(z.string()).optional() }));

export interface RealReachParts {
  readonly run: Run;
  readonly settings: Settings;
  readonly places: Places;
}

/** Looks by new connections and new questions: what was established before says nothing about now. */
export function realReach({ run, settings, places }: RealReachParts): Reach {
  return {
    async look(timeoutMs) {
      const [gateways, hub, git] = await Promise.all([lookAtGateways(run, timeoutMs), lookAtHub(run, settings, places, timeoutMs), lookAtGit(run, settings, timeoutMs)]);
      return { gateways, hub, git };
    },
  };
}

async function lookAtGateways(run: Run, timeoutMs: number): Promise<readonly Gateway[]> {
  const found = await Promise.all((["inet", "inet6"] as const).map(async (family) => (await defaultRoutes(run, family, timeoutMs)).map((hop) => ({ family, ...hop }))));
  const unique = [...new Map(found.flat().map((hop) => [`${hop.address} ${hop.device}`, hop])).values()];
  return Promise.all(unique.map(async (hop) => ({ ...hop, answers: await answers(run, hop.address, hop.device, timeoutMs) })));
}

async function defaultRoutes(run: Run, family: Gateway["family"], timeoutMs: number): Promise<readonly { address: string; device: string }[]> {
  const output = await run(["ip", "-j", family === "inet" ? "-4" : "-6", "route", "show", "default"], { timeoutMs });
  return parseDefaultRoutes(output.code === 0 ? output.stdout : "");
}

/** A route without a next hop (a tunnel) has nobody who could answer. */
export function parseDefaultRoutes(stdout: string): readonly { address: string; device: string }[] {
  const routes = Routes.safeParse(parsedJson(stdout));
  if (!routes.success) return [];
  return routes.data.flatMap((route) => [route, ...(route.nexthops ?? [])]).flatMap(({ gateway, via, dev }) => {
    const address = gateway ?? via?.host;
    return address === undefined || dev === undefined ? [] : [{ address, device: dev }];
  });
}

/** A router that drops pings still has to answer for its address on the link: the kernel has asked for it just now. */
async function answers(run: Run, address: string, device: string, timeoutMs: number): Promise<boolean> {
  const waitSeconds = Math.max(1, Math.floor(timeoutMs / 1_000) - 1);
  const ping = await run(["ping", "-n", "-q", "-c", "1", "-W", String(waitSeconds), "-I", device, address], { timeoutMs });
  if (ping.code === 0) return true;
  const seen = await run(["ip", "-j", "neigh", "show", "to", address, "dev", device], { timeoutMs });
  const neighbours = Neighbours.safeParse(parsedJson(seen.code === 0 ? seen.stdout : ""));
  return neighbours.success && neighbours.data.some(({ state }) => state?.some((word) => word === "REACHABLE" || word === "PERMANENT") === true);
}

/** Both doors of the hub that the agent uses: the API with Git, and the broker. */
async function lookAtHub(run: Run, settings: Settings, places: Places, timeoutMs: number): Promise<boolean | null> {
  if (settings.hub === null) return null;
  const { hostname, port } = new URL(settings.hub);
  const doors = [{ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port === "" ? 443 : port) }, ...(settings.broker === null ? [] : [settings.broker])];
  try {
    const [ca, cert, key] = await Promise.all([authorityPath, certificatePath, keyPath].map((path) => readFile(path(places))));
    const open = await Promise.all(doors.map(async ({ host, port: at }) => canConnect(await addressOf(run, host, timeoutMs), { servername: host, port: at, ca: ca!, cert: cert!, key: key! }, timeoutMs)));
    return open.every((each) => each);
  } catch {
    return false;
  }
}

/**
 * The name is looked up by a program that can be ended: a resolver that waits for a name server out of reach would keep one of
 * the few threads that also write files.
 */
async function addressOf(run: Run, host: string, timeoutMs: number): Promise<string | null> {
  if (/^[\d.]+$|:/.test(host)) return host;
  const output = await run(["getent", "ahosts", host], { timeoutMs });
  return output.code === 0 ? (output.stdout.split(/\s/, 1)[0] ?? null) : null;
}

interface Door {
  readonly servername: string;
  readonly port: number;
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

function canConnect(address: string | null, { servername, ...door }: Door, timeoutMs: number): Promise<boolean> {
  if (address === null) return Promise.resolve(false);
  return new Promise((resolve) => {
    const isAddress = address === servername;
    // The server's name goes into the handshake only where it is a name (RFC 6066, section 3).
    const socket = connect({ ...door, host: isAddress ? servername : address, ...(isAddress ? {} : { servername }), timeout: timeoutMs });
    const end = (is: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(is);
    };
    const timer = setTimeout(() => end(false), timeoutMs);
    socket.once("secureConnect", () => end(true));
    socket.on("error", () => end(false));
  });
}

/** Where Git is on the hub, it says nothing more; a repository on this machine's disk is no remote. */
async function lookAtGit(run: Run, settings: Settings, timeoutMs: number): Promise<boolean | null> {
  const { url, branch } = settings.git;
  if (/^(\/|\.|file:)/.test(url) || (settings.hub !== null && url.startsWith(new URL(settings.hub).origin))) return null;
  const output = await run(["git", "ls-remote", "--quiet", "--", url, `refs/heads/${branch}`], { timeoutMs, env: { GIT_TERMINAL_PROMPT: "0", GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" } });
  return output.code === 0;
}

function parsedJson(text: string): unknown {
  try {
    return text.trim() === "" ? [] : JSON.parse(text);
  } catch {
    return null;
  }
}
