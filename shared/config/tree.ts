/**
 * A repository's files at one commit, or in a work tree, as the loader sees them. The loader never follows a link and
 * never leaves the tree: whoever implements this lists what is there, and the loader decides by the listing.
 */
export interface FileTree {
  /** Every file, recursively, with paths relative to the root, `/` between names; sorted. */
  list(): Promise<readonly TreeEntry[]>;
  /** The bytes of one regular file out of {@link FileTree.list}. */
  read(path: string): Promise<Uint8Array>;
}

export interface TreeEntry {
  readonly path: string;
  readonly type: "file" | "link" | "submodule";
  readonly sizeBytes: number;
}
