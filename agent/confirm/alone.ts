import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import type { Run } from "../host/process.ts";

/** Who hangs while it holds the lock does not keep the node cut off: putting back twice at once ends the same. */
const WAIT_SECONDS = 20;

/**
 * Runs one after the other what several processes may want to do to the record. flock(1) takes the lock on a descriptor that
 * it is lent; it is held until that is closed, or this process ends.
 */
export function aloneBy(path: string, run: Run): <T>(work: () => Promise<T>) => Promise<T> {
  return async (work) => {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    try {
      await run(["flock", "--exclusive", "--timeout", String(WAIT_SECONDS), "3"], { descriptors: [file.fd], timeoutMs: (WAIT_SECONDS + 5) * 1_000 });
      return await work();
    } finally {
      await file.close();
    }
  };
}
