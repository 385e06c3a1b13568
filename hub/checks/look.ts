import type { Check } from "../../shared/config/policy.ts";
import { askCommand, askPing } from "./look-command.ts";
import { askDns } from "./look-dns.ts";
import { askHttp } from "./look-http.ts";
import { askTcp } from "./look-tcp.ts";
import { cutMessage, targetOf } from "./target.ts";
import { cannotLook, type Asking, type LookParts, type Verdict } from "./verdict.ts";

export type LookResult = { readonly ok: true; readonly tookMs: number } | { readonly ok: false; readonly tookMs: number; readonly looked: boolean; readonly message: string };

/**
 * Looks once at what users use, and says in one sentence what is wrong if something is. Nothing is kept between two
 * looks. `signal` ends it early, with a result of no meaning (`looked: false`). A program that a look has started is gone
 * when the promise resolves.
 */
export async function look(check: Check, parts: LookParts, signal?: AbortSignal): Promise<LookResult> {
  const { clock } = parts;
  const startedMs = clock.monotonicMs();
  const timeoutMs = check.timeoutSeconds * 1_000;
  const ending = new AbortController();
  const timer = clock.after(timeoutMs, () => ending.abort());
  const stop = (): void => ending.abort();
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted === true) stop();
  try {
    const { target } = targetOf(check);
    const verdict = signal?.aborted === true ? stopped : await ask(check, { ...parts, target, timeoutMs, signal: ending.signal });
    const tookMs = Math.max(0, clock.monotonicMs() - startedMs);
    if (signal?.aborted === true) return { ...stopped, tookMs };
    return verdict.ok ? { ok: true, tookMs } : { ok: false, tookMs, looked: verdict.looked, message: cutMessage(verdict.message) };
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", stop);
  }
}

const stopped = { ok: false, looked: false, message: "the look was ended before it had an answer" } as const;

async function ask(check: Check, asking: Asking): Promise<Verdict> {
  try {
    if ("http" in check) return await askHttp(check, asking);
    if ("tcp" in check) return await askTcp(check, asking);
    if ("dns" in check) return await askDns(check, asking);
    if ("ping" in check) return await askPing(check, asking);
    return await askCommand(check, asking);
  } catch (error) {
    // Node refuses some arguments by throwing, such as port 70000 (ERR_SOCKET_BAD_PORT): the owner's slip, not our bug.
    if (error instanceof Error && "code" in error && typeof error.code === "string" && error.code.startsWith("ERR_")) {
      return cannotLook(`cannot look at ${asking.target}: ${error.message}; correct the check in cluster.yaml`);
    }
    throw error;
  }
}
