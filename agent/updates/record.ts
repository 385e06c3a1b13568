import { readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { PinnedVersion } from "../../shared/protocol/updates.ts";
import { makeDirectory, syncDirectory, writeDurably } from "../host/durable.ts";

/** A transaction that has begun: what was installed before, and what was to be. There while it lasts, and after a crash. */

/** A large system has 5,000 packages; the bound keeps a spoilt file from filling the memory. */
const PACKAGES_MAX = 50_000;

export const TransactionRecord = z.object({
  v: z.literal(1),
  startedAt: z.string().max(64),
  /** Every installed package with its version. */
  before: z.array(PinnedVersion).max(PACKAGES_MAX),
  targets: z.array(PinnedVersion).max(PACKAGES_MAX),
  /** `back` once it has failed, and the earlier versions are being put back. */
  phase: z.enum(["forward", "back"]),
});
export type TransactionRecord = z.output<typeof TransactionRecord>;

export class TransactionRecords {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, "updates-transaction.json");
  }

  /** On the disk, with fsync, before it returns. */
  async begin(record: TransactionRecord): Promise<void> {
    await makeDirectory(dirname(this.#path), 0o700);
    await writeDurably(this.#path, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  }

  async end(): Promise<void> {
    await rm(this.#path, { force: true });
    await syncDirectory(dirname(this.#path)).catch(() => {});
  }

  /** Null when there is none. A spoilt one still says that something had begun, and no more. */
  async open(): Promise<TransactionRecord | null> {
    const text = await readFile(this.#path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null;
      throw error;
    });
    if (text === null) return null;
    try {
      return TransactionRecord.parse(JSON.parse(text));
    } catch {
      return { v: 1, startedAt: "an unknown time", before: [], targets: [], phase: "forward" };
    }
  }
}
