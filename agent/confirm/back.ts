import type { Host } from "../host/host.ts";
import { putBack, putBackFiles } from "./put-back.ts";
import type { ConfirmRecord, ConfirmStore } from "./record.ts";

/** The ways in which a record comes to be put back. Whoever calls these holds the lock. */

export interface BackParts {
  readonly store: ConfirmStore;
  readonly host: Host;
  /** Of the boot that runs now. */
  readonly bootId: string;
  readonly nowMs: () => number;
  readonly log: (message: string) => void;
}

const REASON_MAX_CHARS = 2_000;

/** Puts back what is armed, and remembers that the commit failed on this node. Null where there is nothing: it was confirmed. */
export async function backNow({ store, host, bootId, nowMs, log }: BackParts, why: string): Promise<ConfirmRecord | null> {
  const record = await store.load();
  if (record === null || record.state === "back") return record;
  log(`putting back the network as it was before ${record.commit.slice(0, 8)}: ${why}`);
  const left = await putBack(record, host, bootId);
  const back: ConfirmRecord = { ...record, state: "back", back: { at: new Date(nowMs()).toISOString(), reason: why.slice(0, REASON_MAX_CHARS), left: [...left] } };
  await store.save(back);
  log(left.length === 0 ? "the network is as it was" : `not everything could be put back: ${left.join("; ")}`);
  return back;
}

/** The time of the change with this id is up, and whoever made it has neither confirmed it nor put it back. */
export async function backInTime(parts: BackParts, id: string): Promise<void> {
  const record = await parts.store.load();
  if (record === null || record.id !== id || record.state === "back") return parts.log("the change is confirmed or put back already");
  await backNow(parts, notInTime(record));
}

export function notInTime({ limitMs, missing }: { readonly limitMs: number; readonly missing: readonly string[] }): string {
  return `it was not confirmed within ${limitMs / 1_000} s: ${missing.join("; ") || "nothing was missing when the agent looked last, and it did not stay so, or it was not looked again"}`;
}

/** Before anything reads the files at boot. The rest is done by the agent, when the programs are there that it needs. */
export async function backAtBoot({ store, host, bootId, log }: BackParts): Promise<void> {
  const record = await store.load();
  if (record === null || record.state === "back" || record.bootId === bootId) return log("nothing is to be put back");
  log(`putting back the files of a change of the network by ${record.commit.slice(0, 8)}, which was not confirmed when the node went down`);
  const left = await putBackFiles(record, host);
  await store.save({ ...record, filesBackIn: bootId });
  if (left.length > 0) log(`not everything could be put back: ${left.join("; ")}`);
}

/** For people: why it was put back, and what could not be. */
export function whyBack({ back }: ConfirmRecord): string {
  if (back === null) return "it was put back";
  return `${back.reason}${back.left.length === 0 ? "" : `. This could not be put back: ${back.left.join("; ")}`}`;
}
