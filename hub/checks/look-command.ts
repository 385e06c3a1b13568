import type { Check } from "../../shared/config/policy.ts";
import { runProgram } from "./program.ts";
import { plainLine } from "./target.ts";
import { cannotLook, failed, secondsText, well, type Asking, type Verdict } from "./verdict.ts";

/** Runs the owner's program; exit code 0 is well. The last line that it printed goes into the message. */
export async function askCommand(check: Extract<Check, { command: string[] }>, { target, timeoutMs, ...parts }: Asking): Promise<Verdict> {
  const ending = await runProgram(check.command, parts);
  switch (ending.kind) {
    case "unstartable":
      return cannotLook(`cannot run ${target} on the hub's machine: ${startWords(ending.code, check.command[0] ?? "")}`);
    case "stopped":
      return failed(`${target} did not end within ${secondsText(timeoutMs)}${said(ending)}`);
    case "killed":
      return failed(`${target} was ended by ${ending.signal}${said(ending)}`);
    case "ended":
      return ending.code === 0 ? well : failed(`${target} ended with exit code ${ending.code}${said(ending)}`);
  }
}

/**
 * One ICMP echo request by ping(8) of iputils, which has the right to send it (raw sockets are not for the hub). It exits
 * with 1 if no answer came and with 2 for every other trouble, its own or the name's.
 */
export async function askPing(check: Extract<Check, { ping: string }>, { target, timeoutMs, ...parts }: Asking): Promise<Verdict> {
  // Its own patience is rounded up to whole seconds, which every version takes; ours ends it in time.
  const ending = await runProgram(["ping", "-n", "-c", "1", "-W", String(Math.ceil(timeoutMs / 1_000)), check.ping], parts);
  const noAnswer = failed(`${target}: no answer to ping within ${secondsText(timeoutMs)}`);
  switch (ending.kind) {
    case "unstartable":
      return cannotLook(ending.code === "ENOENT" ? `cannot ping ${target}: the program ping is missing on the hub's machine; install iputils-ping there` : `cannot ping ${target}: ${startWords(ending.code, "ping")}`);
    case "stopped":
      return noAnswer;
    case "killed":
      return cannotLook(`cannot ping ${target}: ping was ended by ${ending.signal}${said(ending)}`);
    case "ended":
      if (ending.code === 0) return well;
      // socket(2) and capabilities(7): the kernel's word for a caller that may not send ICMP.
      if (/Operation not permitted|Permission denied|cap_net_raw/i.test(ending.stderr)) return cannotLook(`cannot ping ${target}: the hub may not send ICMP; allow it with sysctl net.ipv4.ping_group_range="0 2147483647"${said(ending)}`);
      if (ending.code === 1) return pingedBack(target, ending.stdout) ?? noAnswer;
      return failed(`${target}: ping failed${said(ending)}`);
  }
}

/** A router or the own kernel may say at once that the host cannot be reached: "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable". */
function pingedBack(target: string, stdout: string): Verdict | null {
  const line = stdout.split("\n").find((line) => /^From .*(Unreachable|exceeded|prohibited)/i.test(line));
  return line === undefined ? null : failed(`${target}: no answer to ping: ${plainLine(line)}`);
}

function startWords(code: string, program: string): string {
  if (code === "ENOENT") return `${program} is not there; install it, or correct the check in cluster.yaml`;
  if (code === "EACCES") return `${program} may not be executed by the hub`;
  return `it could not be started (${code})`;
}

/** ": its last line", on standard error if there is any. */
function said({ stdout, stderr }: { readonly stdout: string; readonly stderr: string }): string {
  const last = [stderr, stdout].map((text) => text.split("\n").map(plainLine).findLast((line) => line !== "")).find((line) => line !== undefined);
  return last === undefined ? "" : `: ${last}`;
}
