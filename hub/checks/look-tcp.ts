import { connect } from "node:net";
import type { Check } from "../../shared/config/policy.ts";
import { failed, secondsText, socketVerdict, well, type Asking, type Verdict } from "./verdict.ts";

/** Well as soon as the connection stands; nothing is sent. */
export function askTcp(check: Extract<Check, { tcp: string }>, { target, timeoutMs, signal, names }: Asking): Promise<Verdict> {
  const { host, port } = splitHostPort(check.tcp);
  return new Promise((resolve) => {
    const socket = connect({ host, port, lookup: names.lookup });
    const end = (verdict: Verdict): void => {
      socket.destroy();
      resolve(verdict);
    };
    socket.once("connect", () => end(well));
    // Stays on: an error after the verdict is of no interest, but must not end the process.
    socket.on("error", (error) => end(socketVerdict(target, error)));
    signal.addEventListener("abort", () => end(failed(`${target}: no answer within ${secondsText(timeoutMs)}`)), { once: true });
  });
}

/** `text` as the schema lets it through: ADDRESS:PORT, with an IPv6 address in brackets. */
function splitHostPort(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(":");
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
}
