import type { Clock, Timer } from "../../shared/clock.ts";
import type { Settings } from "../settings.ts";
import type { AccessStore } from "./access.ts";
import type { CommitStore } from "./commits.ts";
import type { NodeStore } from "./nodes.ts";
import type { ReportStore } from "./reports.ts";

/** Rows a single delete may take, so that no request waits for a clean-up: some milliseconds each. */
const batchRows = 200;
const intervalMs = 5 * 60_000;
const streamsPerNode = 10;

export interface Stores {
  readonly nodes: NodeStore;
  readonly reports: ReportStore;
  readonly commits: CommitStore;
  readonly access: AccessStore;
}

/** Removes what is beyond the limits, in small batches with a turn of the event loop in between. */
export async function prune(stores: Stores, limits: Settings["retention"], pause: () => Promise<void>): Promise<void> {
  const repeat = async (remove: () => Promise<number>): Promise<void> => {
    while ((await remove()) === batchRows) await pause();
  };
  for (const node of await stores.nodes.list()) {
    await repeat(() => stores.reports.pruneConverges(node.name, { rows: limits.convergesPerNode, bytes: limits.convergesPerNodeBytes }, batchRows));
    await pause();
  }
  await stores.reports.pruneStreams(streamsPerNode);
  await repeat(() => stores.commits.prune(limits.commits, batchRows));
  await repeat(() => stores.access.pruneAudit(limits.audit, batchRows));
}

/** Prunes at every interval until stopped. */
export function keepWithinLimits(stores: Stores, limits: Settings["retention"], clock: Clock, onError: (error: unknown) => void): { stop(): void } {
  let timer: Timer;
  let stopped = false;
  const pause = (): Promise<void> => new Promise((resolve) => clock.after(0, resolve));
  const schedule = (): void => {
    if (!stopped) timer = clock.after(intervalMs, () => void prune(stores, limits, pause).catch(onError).finally(schedule));
  };
  schedule();
  return {
    stop() {
      stopped = true;
      timer.cancel();
    },
  };
}
