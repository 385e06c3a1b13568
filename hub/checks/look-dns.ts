import { promises } from "node:dns";
import type { Check } from "../../shared/config/policy.ts";
import { plainLine } from "./target.ts";
import { cannotLook, failed, secondsText, well, type Asking, type Verdict } from "./verdict.ts";

type DnsCheck = Extract<Check, { dns: string }>;

/** Asks once, past the machine's hosts file and caches. Well if there is an answer, and the expected one is among them. */
export async function askDns(check: DnsCheck, { target, timeoutMs, signal }: Asking): Promise<Verdict> {
  const own = new promises.Resolver().getServers();
  const servers = check.server === undefined ? own : [check.server];
  if (servers.length === 0) return cannotLook(`cannot look up ${target}: the hub's machine has no name server in /etc/resolv.conf; name one with \`server:\``);
  // c-ares asks one server after the other: each gets its share, or the second would never be asked.
  const resolver = new promises.Resolver({ timeout: Math.max(1, Math.floor(timeoutMs / servers.length)), tries: 1 });
  if (check.server !== undefined) {
    try {
      resolver.setServers([check.server]);
    } catch {
      return cannotLook(`cannot look up ${target}: ${check.server} is not an IP address, with or without a port; write server: 10.77.1.53 or 10.77.1.53:5353`);
    }
  }
  const cancel = (): void => resolver.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  try {
    return judge(check, target, await answers(resolver, check));
  } catch (error) {
    return dnsVerdict(check, target, timeoutMs, error as NodeJS.ErrnoException);
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

/** One answer, and how else people may write it. */
interface Answer {
  readonly text: string;
  readonly names: readonly string[];
}

async function answers(resolver: promises.Resolver, { dns, type }: DnsCheck): Promise<Answer[]> {
  switch (type) {
    case "A":
      return (await resolver.resolve4(dns)).map((text) => ({ text, names: [text] }));
    case "AAAA":
      return (await resolver.resolve6(dns)).map((text) => ({ text, names: [canonicalIpv6(text)] }));
    case "CNAME":
      return (await resolver.resolveCname(dns)).map((text) => ({ text, names: [canonicalName(text)] }));
    case "MX":
      return (await resolver.resolveMx(dns)).map(({ priority, exchange }) => ({ text: `${priority} ${exchange}`, names: [canonicalName(exchange), `${priority} ${canonicalName(exchange)}`] }));
    case "TXT":
      // A record's strings are one text in parts of 255 bytes (RFC 7208, section 3.3).
      return (await resolver.resolveTxt(dns)).map((strings) => ({ text: strings.join(""), names: [strings.join("")] }));
    case "SRV":
      return (await resolver.resolveSrv(dns)).map(({ priority, weight, port, name }) => ({ text: `${priority} ${weight} ${port} ${name}`, names: [canonicalName(name), `${priority} ${weight} ${port} ${canonicalName(name)}`] }));
  }
}

function judge(check: DnsCheck, target: string, given: readonly Answer[]): Verdict {
  if (given.length === 0) return failed(`${target}: the answer is empty`);
  const { answer } = check;
  if (answer === undefined) return well;
  const wanted = check.type === "TXT" || check.type === "A" ? answer : check.type === "AAAA" ? canonicalIpv6(answer) : canonicalName(answer);
  if (given.some(({ names }) => names.includes(wanted))) return well;
  const shown = given.slice(0, 5).map(({ text }) => plainLine(text).slice(0, 80)).join(", ");
  return failed(`${target}: the answer is ${shown}${given.length > 5 ? ` and ${given.length - 5} more` : ""}, expected ${answer}`);
}

/** Names are the same whatever their case and with or without the root's dot (RFC 1035, section 2.3.3). */
function canonicalName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

function canonicalIpv6(address: string): string {
  return URL.parse(`http://[${address}]`)?.hostname.slice(1, -1) ?? address;
}

function dnsVerdict({ dns, type }: DnsCheck, target: string, timeoutMs: number, error: NodeJS.ErrnoException): Verdict {
  switch (error.code) {
    case "ECANCELLED":
    case "ETIMEOUT":
      return failed(`${target}: no answer within ${secondsText(timeoutMs)}`);
    case "ENOTFOUND":
      return failed(`${target}: the name ${dns} does not exist`);
    case "ENODATA":
      return failed(`${target}: the name ${dns} has no ${type} record`);
    case "ESERVFAIL":
      return failed(`${target}: the server has failed (SERVFAIL)`);
    case "EREFUSED":
      return failed(`${target}: the server refuses to answer (REFUSED)`);
    case "ECONNREFUSED":
      return failed(`${target}: connection refused`);
    case "EBADRESP":
    case "EFORMERR":
      return failed(`${target}: what came back is no proper answer (${error.code})`);
    case "EBADNAME":
      return cannotLook(`cannot look up ${target}: ${dns} is not a name; correct the check in cluster.yaml`);
    default:
      if (error.code === undefined) throw error;
      return failed(`${target}: the look-up failed (${error.code})`);
  }
}
