import type { FileTree, TreeEntry } from "../config/tree.ts";
import type { Git } from "./git.ts";

/** All files of one commit together; a cluster repository holds settings, not disk images. */
const TREE_FILES_MAX = 5_000;
/** An object's id, type and size in a line take less. */
const HEADER_SIZE_MAX_BYTES = 200;

/**
 * The files of one commit, read from the object database: no work tree, no links that could be followed, no smudge
 * filters, no hooks. Blobs are fetched with one `git cat-file --batch` for all that is asked for at once.
 */
export function gitTree(git: Git, commit: string): FileTree {
  let listing: Promise<readonly (TreeEntry & { readonly object: string })[]> | undefined;
  const list = () => (listing ??= listTree(git, commit));
  const batch = new Batch(git);
  return {
    list,
    async read(path) {
      const entry = (await list()).find((candidate) => candidate.path === path);
      if (entry === undefined || entry.type !== "file") throw new Error(`${path} is not a file in commit ${commit}`);
      return batch.read(entry.object);
    },
  };
}

async function listTree(git: Git, commit: string): Promise<readonly (TreeEntry & { readonly object: string })[]> {
  const output = await git(["ls-tree", "-r", "-l", "-z", "--full-tree", commit]);
  if (output.code !== 0) throw new Error(`git ls-tree of ${commit} failed: ${output.stderr.trim()}`);
  const records = new TextDecoder().decode(output.stdout).split("\0").filter((record) => record !== "");
  if (records.length > TREE_FILES_MAX) throw new Error(`commit ${commit} holds ${records.length} files, more than the ${TREE_FILES_MAX} that are read`);
  return records.map((record) => {
    const tab = record.indexOf("\t");
    // <mode> SP <type> SP <object> SP+ <size or -> TAB <path>: git-ls-tree(1), output format.
    const [mode = "", , object = "", size = ""] = record.slice(0, tab).split(/ +/);
    const type = mode === "120000" ? "link" : mode === "160000" ? "submodule" : "file";
    return { path: record.slice(tab + 1), type, object, sizeBytes: size === "-" ? 0 : Number(size) };
  });
}

/** Reads that are asked for in the same turn of the event loop go to one process. */
class Batch {
  readonly #git: Git;
  #waiting: { object: string; resolve: (bytes: Uint8Array) => void; reject: (error: Error) => void }[] = [];

  constructor(git: Git) {
    this.#git = git;
  }

  read(object: string): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ object, resolve, reject });
      if (this.#waiting.length === 1) queueMicrotask(() => queueMicrotask(() => void this.#flush()));
    });
  }

  async #flush(): Promise<void> {
    const asked = this.#waiting;
    this.#waiting = [];
    try {
      const objects = [...new Set(asked.map((one) => one.object))];
      const output = await this.#git(["cat-file", "--batch"], { input: `${objects.join("\n")}\n` });
      if (output.code !== 0) throw new Error(`git cat-file failed: ${output.stderr.trim()}`);
      const contents = parseBatch(output.stdout);
      for (const one of asked) {
        const bytes = contents.get(one.object);
        if (bytes === undefined) one.reject(new Error(`git has no object ${one.object}`));
        else one.resolve(bytes);
      }
    } catch (error) {
      for (const one of asked) one.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }
}

/**
 * `<object> SP <type> SP <size> LF <contents> LF`, or `<object> SP missing LF`: git-cat-file(1), batch output.
 * @throws where it is not that to the last byte: output that was cut short or has a part left out in its middle must not be
 * taken for what the repository says.
 */
export function parseBatch(bytes: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const contents = new Map<string, Uint8Array>();
  const decoder = new TextDecoder();
  let at = 0;
  while (at < bytes.length) {
    const lineEnd = bytes.indexOf(10, at);
    const [object = "", type = "", size = ""] = decoder.decode(bytes.subarray(at, Math.min(lineEnd === -1 ? bytes.length : lineEnd, at + HEADER_SIZE_MAX_BYTES))).split(" ");
    at = lineEnd + 1;
    if (lineEnd !== -1 && type === "missing") continue;
    const end = at + Number(size);
    if (lineEnd === -1 || !/^[0-9a-f]{40,64}$/.test(object) || !/^\d+$/.test(size) || bytes[end] !== 10) {
      throw new Error(`git cat-file's answer is not whole: ${bytes.length} bytes, and no object of ${size || "any"} bytes at ${at}`);
    }
    contents.set(object, bytes.slice(at, end));
    at = end + 1;
  }
  return contents;
}
