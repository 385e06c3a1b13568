import { setTimeout as delay } from "node:timers/promises";
import { isAway, type Failed, type HubClient, type Reply } from "./client.ts";

/** How commands wait for something at the hub, through restarts of the hub. */

/** Keeps the process alive meanwhile, unlike the timers of `shared/clock.ts`. */
export type Pause = (delayMs: number, wake?: Promise<void>) => Promise<void>;

/** Ends early with `wake`, and leaves no timer behind. */
export const processPause: Pause = async (delayMs, wake) => {
  const over = new AbortController();
  const slept = delay(delayMs, undefined, { signal: over.signal }).catch(() => {});
  await (wake === undefined ? slept : Promise.race([slept, wake]));
  over.abort();
};

export const pollMs = 1_000;
/** A hub that does not come back in this time is not waited for any longer. */
const awayMaxMs = 60 * 60_000;

/**
 * Asks again and again, and yields each answer. A hub that has answered once and is away now is waited for; that it is,
 * and that it is back, is told to `trouble`. Ends with the failure that no waiting will change.
 */
export async function* watch<T>(client: HubClient, path: string, pause: Pause, trouble: (message: string | null) => void): AsyncGenerator<T, Failed> {
  let answered = false;
  let awaySinceMs: number | null = null;
  for (;;) {
    const reply: Reply<T> = await client.call<T>("GET", path);
    if (reply.ok) {
      if (awaySinceMs !== null) trouble(null);
      answered = true;
      awaySinceMs = null;
      yield reply.value;
    } else {
      if (!answered || !isAway(reply)) return reply;
      if (awaySinceMs === null) trouble(reply.message);
      awaySinceMs ??= performance.now();
      if (performance.now() - awaySinceMs > awayMaxMs) return reply;
    }
    await pause(pollMs);
  }
}
