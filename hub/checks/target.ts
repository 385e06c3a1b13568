import type { Check } from "../../shared/config/policy.ts";
import { checkLimits, type CheckKind } from "../../shared/protocol/checks.ts";

/** What a check asks, for people. Credentials in an address are left out: the page and messages show this. */
export function targetOf(check: Check): { readonly kind: CheckKind; readonly target: string } {
  if ("http" in check) return { kind: "http", target: cut(withoutCredentials(check.http)) };
  if ("tcp" in check) return { kind: "tcp", target: check.tcp };
  if ("dns" in check) return { kind: "dns", target: cut(`${check.type} of ${check.dns}${check.server === undefined ? "" : ` at ${check.server}`}`) };
  if ("ping" in check) return { kind: "ping", target: check.ping };
  return { kind: "command", target: cut(plainLine(check.command.join(" "))) };
}

/** Whether both ask the same of the same, so that what is known by one holds for the other. */
export function sameQuestion(one: Check, other: Check): boolean {
  return question(one) === question(other);
}

function question(check: Check): string {
  const { everySeconds: _every, timeoutSeconds: _timeout, failuresMax: _failures, gates: _gates, ...asked } = check;
  return JSON.stringify(Object.entries(asked).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** A message that the page and the database can take. */
export function cutMessage(text: string): string {
  return text.length <= checkLimits.messageCharsMax ? text : `${text.slice(0, checkLimits.messageCharsMax - 1)}…`;
}

/** One line without control characters: what a stranger's server or program said goes to terminals and logs. */
export function plainLine(text: string): string {
  // eslint-disable-next-line no-control-regex -- ANSI sequences (ECMA-48) and control characters are what is taken out.
  return text.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, "").replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
}

function withoutCredentials(address: string): string {
  const url = new URL(address);
  url.username = "";
  url.password = "";
  return url.href;
}

function cut(text: string): string {
  return text.length <= checkLimits.targetCharsMax ? text : `${text.slice(0, checkLimits.targetCharsMax - 1)}…`;
}
