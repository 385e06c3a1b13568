import { constants, open } from "node:fs";
import { promisify } from "node:util";
import type { Run } from "./process.ts";

/** What flock(1) is told to answer when another process holds the lock. */
const CODE_HELD = 75;

/**
 * Takes flock(2)'s exclusive lock on a file of our own, which is made when it is not there, and answers false when another
 * process holds it. The kernel lets go of it when this process ends, however it ends, so a file that stays behind is no
 * lock. Only who may open the file can lock it: the mode keeps everybody but its owner out, wherever the file is.
 *
 * Node has no flock. The lock belongs to the open file and not to the process that asked for it, so flock(1) takes it on a
 * descriptor that it is lent, and ends. Other programs that are started do not get the descriptor (O_CLOEXEC).
 */
export async function lockFile(path: string, run: Run): Promise<boolean> {
  // A number and no FileHandle: that would be closed, and the lock gone, once nobody refers to it.
  const descriptor = await promisify(open)(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  const output = await run(["flock", "--exclusive", "--nonblock", "--conflict-exit-code", String(CODE_HELD), "3"], { descriptors: [descriptor] });
  if (output.code === 0) return true;
  if (output.code === CODE_HELD) return false;
  throw new Error(`cannot lock ${path}: flock ended with code ${output.code}: ${output.stderr.trim()}. It comes with the package util-linux.`);
}
