import type { FileTree, TreeEntry } from "./tree.ts";

/** A repository in memory: path → text or bytes, or what stands there instead of a file. For tests, and for what is not written yet. */
export function memoryTree(files: Readonly<Record<string, string | Uint8Array | { readonly type: "link" | "submodule" }>>): FileTree {
  const bytes = new Map<string, Uint8Array>();
  const entries: TreeEntry[] = [];
  for (const [path, content] of Object.entries(files)) {
    if (typeof content === "string" || content instanceof Uint8Array) {
      const encoded = typeof content === "string" ? new TextEncoder().encode(content) : content;
      bytes.set(path, encoded);
      entries.push({ path, type: "file", sizeBytes: encoded.length });
    } else entries.push({ path, type: content.type, sizeBytes: 0 });
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  return {
    list: () => Promise.resolve(entries),
    read: (path) => {
      const content = bytes.get(path);
      return content === undefined ? Promise.reject(new Error(`${path} is not a regular file of this tree`)) : Promise.resolve(content);
    },
  };
}
