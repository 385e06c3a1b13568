import { lstat, readFile, readdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { CLUSTER_FILE, REPOSITORY_FILES_MAX } from "../../shared/config/layout.ts";
import type { FileTree, TreeEntry } from "../../shared/config/tree.ts";

/** What of a directory belongs to a cluster repository; the rest (`.git`, `node_modules`, notes) is not even listed. */
const roots = [CLUSTER_FILE, "nodes", "roles", "files", "secrets"];

/** The files of a directory as they are now, committed or not. Links are listed as links, and never followed. */
export function workTree(directory: string): FileTree {
  return {
    async list() {
      const entries: TreeEntry[] = [];
      for (const name of roots) await walk(directory, name, entries);
      return entries.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
    },
    async read(path) {
      const full = join(directory, path);
      // A link may have taken the file's place since it was listed.
      if (!(await lstat(full)).isFile()) throw new Error(`${full} is not a regular file any more; run the command again`);
      return readFile(full);
    },
  };
}

async function walk(directory: string, path: string, entries: TreeEntry[]): Promise<void> {
  // One more than allowed is enough for the loader to refuse, and to say how many are.
  if (entries.length > REPOSITORY_FILES_MAX) return;
  const full = join(directory, path);
  const found = await lstat(full).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (found.isSymbolicLink()) entries.push({ path, type: "link", sizeBytes: 0 });
  else if (found.isFile()) entries.push({ path, type: "file", sizeBytes: found.size });
  else if (found.isDirectory()) {
    const names = await readdir(full);
    if (names.includes(".git")) entries.push({ path, type: "submodule", sizeBytes: 0 });
    else for (const name of names) await walk(directory, `${path}/${name}`, entries);
  } else entries.push({ path, type: "link", sizeBytes: 0 });
}

/** The repository that `from` is in: the nearest directory upwards with a cluster.yaml, else `from` itself. */
export async function findRepository(from: string): Promise<string> {
  for (let directory = resolve(from); ; directory = dirname(directory)) {
    const found = await stat(join(directory, CLUSTER_FILE)).catch(() => undefined);
    if (found !== undefined) return directory;
    if (directory === dirname(directory)) return resolve(from);
  }
}
