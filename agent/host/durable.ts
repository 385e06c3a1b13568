import { constants } from "node:fs";
import { mkdir, open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/**
 * Writes that survive a power cut: a temporary file beside the target, fsync, rename, fsync of the directory. A reader
 * sees the old content or the new, never a part. (open(2), rename(2), fsync(2): the directory needs its own fsync.)
 */
export async function writeDurably(
  path: string,
  content: string | Uint8Array,
  options: { readonly mode: number; readonly uid?: number; readonly gid?: number },
): Promise<void> {
  const temporary = temporaryBeside(path);
  // The mode is narrow until the owner is right: nobody else may read a secret in between.
  // Exclusive: in a user's own directory, somebody may have put a FIFO or a file that he holds open under this name.
  await unlink(temporary).catch(() => {});
  const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    try {
      await file.writeFile(content);
      if (options.uid !== undefined && options.gid !== undefined) await file.chown(options.uid, options.gid);
      await file.chmod(options.mode);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Leftovers of a crash are overwritten by the next write to the same path, so that they cannot pile up. */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path).slice(0, 200)}.evenkeel-new`);
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

export async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { recursive: true, mode });
}
