import type { TreeEntry, FileTree } from "../config/tree.ts";
import { SEALED_SIZE_BYTES_MAX } from "./sealed-file.ts";
import { SECRETS_FOLDER } from "./recipients-file.ts";

/** The key of whoever loads a repository: a node has one, the hub and the command line have none. */
export interface SecretKey {
  /** `age1…`, or null when the key cannot be read. */
  readonly recipient: string | null;
  /** Why the key cannot be read, where it cannot. */
  readonly problem?: string;
  open(sealed: Uint8Array): Promise<{ readonly ok: true; readonly plaintext: Uint8Array } | { readonly ok: false; readonly reason: "not-for-this-key" | "damaged" | "too-large"; readonly message: string }>;
}

/** Asked only when there is something to open. */
export type KeySource = () => Promise<SecretKey>;

export type SecretValue =
  | { readonly state: "open"; readonly bytes: Uint8Array }
  /** Whoever asks has no key, and need not. */
  | { readonly state: "closed" }
  /** It should have been read here, and could not: what is wrong, and what to do about it. */
  | { readonly state: "unopened"; readonly message: string };

const CLOSED: SecretValue = { state: "closed" };

/** The secrets of one load for one node: each file is read and opened once, and only if something uses it. */
export class Vault {
  readonly #tree: FileTree;
  readonly #files: ReadonlyMap<string, TreeEntry>;
  readonly #key: KeySource | undefined;
  readonly #values = new Map<string, SecretValue>();

  /** @param files name → entry of `secrets/NAME.age`. */
  constructor(tree: FileTree, files: ReadonlyMap<string, TreeEntry>, key?: KeySource) {
    this.#tree = tree;
    this.#files = files;
    this.#key = key;
  }

  get names(): ReadonlySet<string> {
    return new Set(this.#files.keys());
  }

  get hasKey(): boolean {
    return this.#key !== undefined;
  }

  /** Plaintexts by name, of all that has been opened. */
  get opened(): ReadonlyMap<string, Uint8Array> {
    return new Map([...this.#values].flatMap(([name, value]) => (value.state === "open" ? [[name, value.bytes] as const] : [])));
  }

  /** Reads these, unless that was done. `node` and the `recipient` that its file names are for the message. */
  async open(names: Iterable<string>, node: { readonly name: string; readonly recipient?: string }): Promise<void> {
    const missing = [...new Set(names)].filter((name) => !this.#values.has(name));
    if (this.#key === undefined || missing.length === 0) return;
    const key = await this.#key();
    await Promise.all(missing.map(async (name) => this.#values.set(name, await this.#open(name, key, node))));
  }

  /** As far as {@link Vault.open} was asked for it. */
  value(name: string): SecretValue {
    return this.#values.get(name) ?? CLOSED;
  }

  async #open(name: string, key: SecretKey, node: { readonly name: string; readonly recipient?: string }): Promise<SecretValue> {
    const path = `${SECRETS_FOLDER}/${name}.age`;
    const unopened = (message: string): SecretValue => ({ state: "unopened", message });
    const entry = this.#files.get(name);
    if (entry?.type !== "file") return unopened(`there is no ${path} in this commit: run \`evenkeel secret set ${name} --for ${node.name}\`, commit and push`);
    if (key.recipient === null) return unopened(`${path} cannot be opened by this node: ${key.problem ?? "it has no key"}`);
    const cannot = (what: string) => unopened(`${path} cannot be opened by this node: ${what}`);
    if (entry.sizeBytes > SEALED_SIZE_BYTES_MAX) return cannot(`it is ${entry.sizeBytes} bytes long; at most ${SEALED_SIZE_BYTES_MAX} are read. Run \`evenkeel secret set ${name}\` with something smaller`);
    const opened = await key.open(await this.#tree.read(path));
    if (opened.ok) return { state: "open", bytes: opened.plaintext };
    if (opened.reason !== "not-for-this-key") return cannot(`${opened.message}. Put an earlier version of the file back from Git, or run \`evenkeel secret set ${name}\` again; commit and push`);
    if (node.recipient === undefined) return cannot(`nodes/${node.name}.yaml has no recipient: yet, so nothing can be encrypted to it. Run \`evenkeel secret trust ${node.name}\` and \`evenkeel secret rotate ${name}\`, commit and push`);
    if (node.recipient !== key.recipient) return cannot(`its key is ${key.recipient}, while nodes/${node.name}.yaml names ${node.recipient}: the key was lost, or made anew. Run \`evenkeel secret trust ${node.name}\` and \`evenkeel secret rotate --all\`, commit and push`);
    return cannot(`it is encrypted to others. If ${node.name} may read it, run \`evenkeel secret rotate ${name} --add ${node.name}\`, commit and push`);
  }
}

/** What a load has made of a node's secrets. */
export interface NodeSecrets {
  /** What is now in the sections, by name: none of it may be shown anywhere. */
  readonly opened: ReadonlyMap<string, Uint8Array>;
  /** By kind: sections in which stand-ins are where secrets should be. */
  readonly unopened: ReadonlyMap<string, Unopened>;
}

export interface Unopened {
  readonly message: string;
  /** Keys of the section that are concerned, where the others do not depend on them; null when nothing of the section can be had. */
  readonly keys: ReadonlySet<string> | null;
}
