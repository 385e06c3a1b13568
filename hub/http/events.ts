import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import type { Clock } from "../../shared/clock.ts";
import type { Changes } from "../fleet/changes.ts";
import type { PageChange } from "../page-data.ts";
import type { HubEnv } from "./environment.ts";

/** A comment as often keeps proxies from closing a quiet stream, and finds readers that are gone. */
const heartbeatMs = 25_000;
/** What a reader who does not keep up may have waiting: one entry a node, so this is reached only with very many nodes. */
const waitingMax = 1_000;

/** `GET /events`: server-sent events named `change`, whose data says which node, or that commits have news. */
export function streamChanges(c: Context<HubEnv>, changes: Changes, clock: Clock, stopped: AbortSignal): Response {
  c.header("cache-control", "no-store");
  c.header("x-accel-buffering", "no");
  return streamSSE(c, async (stream) => {
    // Keyed, because ten changes of one node are one piece of news.
    const waiting = new Map<string, PageChange>();
    let wake: (() => void) | null = null;
    const unsubscribe = changes.subscribe((change) => {
      if (waiting.size < waitingMax) waiting.set(`${change.topic}/${change.name}`, change);
      wake?.();
    });
    const onStop = (): void => wake?.();
    stream.onAbort(() => wake?.());
    stopped.addEventListener("abort", onStop);
    try {
      await stream.write(": welcome\n\n");
      while (!stream.aborted && !stream.closed && !stopped.aborted) {
        const batch = [...waiting.values()];
        waiting.clear();
        for (const change of batch) await stream.writeSSE({ event: "change", data: JSON.stringify(change) });
        if (waiting.size > 0) continue;
        const timedOut = await new Promise<boolean>((resolve) => {
          const timer = clock.after(heartbeatMs, () => resolve(true));
          wake = () => {
            timer.cancel();
            resolve(false);
          };
        });
        wake = null;
        if (timedOut) await stream.write(": still here\n\n");
      }
    } finally {
      unsubscribe();
      stopped.removeEventListener("abort", onStop);
    }
  });
}
