import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Document, isMap, parseDocument } from "yaml";
import { formatDiagnostics } from "../../shared/config/diagnostic.ts";
import { loadReaders } from "../../shared/config/repository.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { seal } from "../../shared/secrets/age.ts";
import { RECIPIENTS_PATH, SECRETS_FOLDER, audienceOf } from "../../shared/secrets/recipients-file.ts";
import type { Audience, Reader, Readers, RecipientsFile } from "../../shared/secrets/recipients-file.ts";
import { readRecipients } from "../../shared/secrets/review.ts";
import { readHeader } from "../../shared/secrets/sealed-file.ts";
import { writeDurably } from "../durable-file.ts";
import { workTree } from "./work-tree.ts";

/** The secrets of a working copy, as `evenkeel secret` reads and writes them. The owner looks at the difference, commits and signs. */

export type Opened<T> = ({ readonly ok: true } & T) | { readonly ok: false; readonly message: string };

export interface SecretStore {
  readonly root: string;
  readonly owners: Readonly<Record<string, string>>;
  readonly nodes: readonly Reader[];
  /** Name → who may read it, as secrets/recipients.yaml says. */
  readonly entries: RecipientsFile;
  /** Names of secrets/NAME.age. */
  readonly files: ReadonlySet<string>;
}

export async function openStore(root: string, kinds: readonly SectionKind[]): Promise<Opened<{ readonly store: SecretStore }>> {
  const tree = workTree(root);
  const known = await loadReaders(tree, kinds);
  if (known.incomplete) return { ok: false, message: `who may read secrets cannot be told before these are put right:\n\n${formatDiagnostics(known.diagnostics)}` };
  const listed = await tree.list();
  const recipients = await readRecipients(tree, listed.find(({ path }) => path === RECIPIENTS_PATH)?.sizeBytes);
  if (recipients.problems.length > 0) return { ok: false, message: `${RECIPIENTS_PATH} cannot be read:\n\n${formatDiagnostics(recipients.problems)}` };
  const files = listed.flatMap(({ path, type }) => (type === "file" ? (/^secrets\/([^/]+)\.age$/.exec(path)?.slice(1) ?? []) : []));
  return { ok: true, store: { root, owners: known.owners, nodes: known.nodes, entries: recipients.readers, files: new Set(files) } };
}

export function sealedFile({ root }: SecretStore, name: string): string {
  return join(root, SECRETS_FOLDER, `${name}.age`);
}

/** To whom the secret is encrypted now; null when that is not known, because something else than `evenkeel secret` wrote the file. */
export function sealedTo(store: SecretStore, name: string): readonly string[] | null {
  const sealed = store.entries[name]?.sealed;
  if (sealed === undefined || !store.files.has(name)) return null;
  const read = readHeader(readFileSync(sealedFile(store, name)));
  return read.ok && read.header.mac === sealed.header ? sealed.to : null;
}

/** Encrypts the value to all who shall read it, and writes that down. The caller has seen that there is an owner. */
export async function sealSecret(store: SecretStore, name: string, readers: Pick<Readers, "nodes" | "roles">, plaintext: Uint8Array): Promise<Audience> {
  const audience = audienceOf(readers, store.owners, store.nodes);
  const sealed = await seal(audience.recipients, plaintext);
  const read = readHeader(sealed);
  if (!read.ok) throw new Error(`what was just encrypted cannot be read: ${read.message}`);
  mkdirSync(join(store.root, SECRETS_FOLDER), { recursive: true });
  // The file first: a crash between the two leaves an entry that the next look finds to be of another file.
  writeDurably(sealedFile(store, name), new TextDecoder().decode(sealed), 0o644);
  const document = recipientsDocument(store.root);
  const entry: Record<string, unknown> = {
    ...(readers.nodes === "all" || readers.nodes.length > 0 ? { nodes: readers.nodes === "all" ? "all" : [...readers.nodes] } : {}),
    ...(readers.roles.length > 0 ? { roles: [...readers.roles] } : {}),
    sealed: { header: read.header.mac, to: [...audience.recipients] },
  };
  setEntry(document, name, entry);
  writeRecipients(store.root, document);
  return audience;
}

export function removeSecret(store: SecretStore, name: string): void {
  const document = recipientsDocument(store.root);
  document.delete(name);
  writeRecipients(store.root, document);
  rmSync(sealedFile(store, name), { force: true });
}

/** Comments beside an entry that stays are kept. */
function setEntry(document: Document, name: string, entry: Record<string, unknown>): void {
  const before = document.get(name);
  if (!isMap(before)) {
    document.set(name, document.createNode(entry));
    return;
  }
  for (const key of ["nodes", "roles", "sealed"]) {
    if (entry[key] === undefined) before.delete(key);
    else if (JSON.stringify(document.getIn([name, key])) !== JSON.stringify(entry[key])) before.set(key, document.createNode(entry[key]));
  }
}

const HEAD = ` yaml-language-server: $schema=../.evenkeel/schema/recipients.json

 Who may read which secret, beside the owners in cluster.yaml, who may read all: nodes by name, or all, or those with a role.
 Each node's recipient stands in its own file. A change here takes effect with: evenkeel secret rotate NAME
 What stands under sealed: is written by \`evenkeel secret\`: to whom the file is encrypted now.`;

function recipientsDocument(root: string): Document {
  let text = "";
  try {
    text = readFileSync(join(root, RECIPIENTS_PATH), "utf8");
  } catch {
    // The first secret of the repository.
  }
  const document: Document = parseDocument(text);
  if (isMap(document.contents)) return document;
  const made = new Document({});
  made.commentBefore = HEAD;
  return made;
}

function writeRecipients(root: string, document: Document): void {
  writeDurably(join(root, RECIPIENTS_PATH), document.toString({ lineWidth: 0 }), 0o644);
}

/** Writes `recipient:` into a node's file, with all else in it left as it is. Answers the recipient that stood there. */
export function trustRecipient({ root }: SecretStore, node: string, recipient: string): string | null {
  const path = join(root, "nodes", `${node}.yaml`);
  const text = readFileSync(path, "utf8");
  const before = /^recipient:[ \t]*(\S*).*$/m.exec(text);
  // By text and not by a parser: a person's own layout stays what it is.
  const after = before === null ? insertAfterHead(text, `recipient: ${recipient}\n`) : text.replace(before[0], () => `recipient: ${recipient}`);
  writeDurably(path, after, 0o644);
  return before?.[1] ?? null;
}

/** After the address, or else after the comment that begins the file. */
function insertAfterHead(text: string, line: string): string {
  const address = /^address:.*(\n|$)/m.exec(text);
  const head = address === null ? (/^(?:#.*\n)+\n?/.exec(text)?.[0].length ?? 0) : address.index + address[0].length;
  const before = text.slice(0, head);
  return `${before}${before === "" || before.endsWith("\n") ? "" : "\n"}${line}${text.slice(head)}`;
}
