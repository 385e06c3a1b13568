import { errorAt, errorInFile, warningAt } from "../config/diagnostic.ts";
import type { Diagnostic, Span } from "../config/diagnostic.ts";
import { parseLocated } from "../config/explain.ts";
import type { LocatedMap } from "../config/located.ts";
import { didYouMean } from "../config/suggest.ts";
import type { FileTree, TreeEntry } from "../config/tree.ts";
import { checkSize, parseYaml } from "../config/yaml.ts";
import { RECIPIENTS_PATH, RecipientsFile, SECRETS_FOLDER, audienceOf, mayRead } from "./recipients-file.ts";
import type { Reader, Readers } from "./recipients-file.ts";
import { SEALED_SIZE_BYTES_MAX, readHeader } from "./sealed-file.ts";
import type { SealedHeader } from "./sealed-file.ts";

/**
 * What can be said about a repository's secrets without a key: whether each file is one, whether whoever uses a secret may
 * read it, and whether the files are encrypted to those to whom they should be.
 */
export class SecretsReview {
  readonly #files: ReadonlyMap<string, TreeEntry>;
  readonly #headers: ReadonlyMap<string, SealedHeader>;
  readonly #readers: RecipientsFile;
  readonly #root: LocatedMap | undefined;
  readonly #used = new Set<string>();
  /** Of files and of secrets/recipients.yaml alone. */
  readonly diagnostics: readonly Diagnostic[];

  constructor(parts: { files: ReadonlyMap<string, TreeEntry>; headers: ReadonlyMap<string, SealedHeader>; readers: RecipientsFile; root: LocatedMap | undefined; diagnostics: readonly Diagnostic[] }) {
    this.#files = parts.files;
    this.#headers = parts.headers;
    this.#readers = parts.readers;
    this.#root = parts.root;
    this.diagnostics = parts.diagnostics;
  }

  /** What is wrong when this node uses this secret at this place; undefined when it may, and can. */
  problem(name: string, span: Span, node: Reader): Diagnostic | undefined {
    this.#used.add(name);
    const quoted = JSON.stringify(name);
    const readers = this.#readers[name];
    if (!this.#files.has(name) || readers === undefined) {
      // A file without its entry, and the other way round, is told of at the file.
      if (this.#files.has(name) || readers !== undefined) return undefined;
      return errorAt(span, `there is no secret ${quoted}`, didYouMean(name, this.#files.keys()) ?? `make it: evenkeel secret set ${name} --for ${node.name}`);
    }
    if (!mayRead(readers, node)) return errorAt(span, `${node.name} may not read the secret ${quoted}`, `if it should: evenkeel secret rotate ${name} --add ${node.name}`);
    if (node.recipient === undefined) return errorAt(span, `${node.name} cannot read the secret ${quoted}: nodes/${node.name}.yaml has no recipient yet`, `once it is enrolled: evenkeel secret trust ${node.name}, and then: evenkeel secret rotate --all`);
    const sealed = this.#sealedTo(name);
    if (sealed !== undefined && !sealed.includes(node.recipient)) return errorAt(span, `${node.name} cannot read the secret ${quoted}: ${SECRETS_FOLDER}/${name}.age is not encrypted to it yet`, `run: evenkeel secret rotate ${name}`);
    return undefined;
  }

  /** What is not as it should be in the whole, once all nodes have been looked at. */
  finish(owners: Readonly<Record<string, string>>, nodes: readonly Reader[]): readonly Diagnostic[] {
    const found: Diagnostic[] = [];
    for (const [name, readers] of Object.entries(this.#readers)) {
      const keySpan = this.#root?.entries.get(name)?.keySpan;
      if (keySpan === undefined || !this.#files.has(name)) continue;
      if (!this.#used.has(name)) found.push(warningAt(keySpan, `nothing uses the secret ${JSON.stringify(name)}`, `refer to it with {secret: ${name}}, or remove it: evenkeel secret remove ${name}`));
      found.push(...this.#strangers(name, readers, nodes), ...this.#drift(name, readers, owners, nodes, keySpan));
    }
    const byRecipient = new Map<string, string>();
    for (const { name, recipient } of nodes) {
      const twin = recipient === undefined ? undefined : byRecipient.get(recipient);
      if (recipient !== undefined) byRecipient.set(recipient, name);
      if (twin !== undefined) found.push(errorInFile(`nodes/${name}.yaml`, `${name} names the recipient of ${twin}: each node has a key of its own`, `run \`evenkeel-agent recipient\` on both. Was one cloned from the other? Then remove /etc/evenkeel/age.txt on it, restart its agent, and run: evenkeel secret trust ${name}`));
    }
    if (this.#files.size > 0 && Object.keys(owners).length === 0) {
      found.push(errorInFile("cluster.yaml", "there are secrets, but nobody owns them: when a node is replaced, nobody could encrypt them to the new one", "run `evenkeel secret key` and write what it prints under secrets: owners:"));
    }
    return found;
  }

  /** Undefined when it is not known: the file was encrypted by something else than `evenkeel secret`. */
  #sealedTo(name: string): readonly string[] | undefined {
    const sealed = this.#readers[name]?.sealed;
    return sealed !== undefined && sealed.header === this.#headers.get(name)?.mac ? sealed.to : undefined;
  }

  #strangers(name: string, readers: Readers, nodes: readonly Reader[]): readonly Diagnostic[] {
    const names = nodes.map((node) => node.name);
    if (readers.nodes === "all") return [];
    const strangers = readers.nodes.filter((node) => !names.includes(node));
    const value = this.#root?.entries.get(name)?.value;
    const list = value?.kind === "map" ? value.entries.get("nodes")?.value : undefined;
    return strangers.flatMap((node) => {
      const item = list?.kind === "list" ? list.items.find((each) => each.kind === "scalar" && each.value === node) : undefined;
      return item === undefined ? [] : [errorAt(item.span, `there is no node ${JSON.stringify(node)}`, didYouMean(node, names) ?? `remove it, and run: evenkeel secret rotate ${name}`)];
    });
  }

  #drift(name: string, readers: Readers, owners: Readonly<Record<string, string>>, nodes: readonly Reader[], span: Span): readonly Diagnostic[] {
    const sealed = this.#sealedTo(name);
    const path = `${SECRETS_FOLDER}/${name}.age`;
    if (sealed === undefined) return [warningAt(span, `${path} was not encrypted by evenkeel secret, so that it is not known who can read it`, `run: evenkeel secret rotate ${name}`)];
    const audience = audienceOf(readers, owners, nodes);
    const missing = [
      ...Object.entries(owners).flatMap(([owner, recipient]) => (sealed.includes(recipient) ? [] : [`the owner ${owner}`])),
      ...audience.nodes.flatMap((node) => (node.recipient === undefined || sealed.includes(node.recipient) ? [] : [node.name])),
    ];
    const tooMany = sealed.filter((each) => !audience.recipients.includes(each));
    const found: Diagnostic[] = [];
    if (missing.length > 0) found.push(warningAt(span, `${path} is not encrypted to ${missing.join(", ")}`, `run: evenkeel secret rotate ${name}`));
    if (tooMany.length > 0) {
      const who = tooMany.map((each) => nodes.find((node) => node.recipient === each)?.name ?? `${each.slice(0, 12)}…`).join(", ");
      found.push(warningAt(span, `${path} can still be read by ${who}, who should not`, `run: evenkeel secret rotate ${name}; and since they may have read it, change it: evenkeel secret set ${name}`));
    }
    return found;
  }
}

/** Reads what there is below secrets/. */
export async function openReview(tree: FileTree, files: ReadonlyMap<string, TreeEntry>, recipientsSizeBytes: number | undefined): Promise<SecretsReview> {
  const diagnostics: Diagnostic[] = [];
  const headers = new Map<string, SealedHeader>();
  const readable = [...files].filter(([, entry]) => entry.sizeBytes <= SEALED_SIZE_BYTES_MAX);
  const sealed = await Promise.all(readable.map(async ([name, { path }]) => [name, path, await tree.read(path)] as const));
  for (const [, entry] of files) if (entry.sizeBytes > SEALED_SIZE_BYTES_MAX) diagnostics.push(errorInFile(entry.path, `the file is ${entry.sizeBytes} bytes long; at most ${SEALED_SIZE_BYTES_MAX} are read`, "a secret is a password, a key or a small file"));
  for (const [name, path, bytes] of sealed) {
    const read = readHeader(bytes);
    if (read.ok) headers.set(name, read.header);
    else diagnostics.push(errorInFile(path, `${path} is not a secret: ${read.message}`, `run: evenkeel secret set ${name}. If it was never encrypted, what it holds must be changed: it stays in Git's history`));
  }
  const { readers, root, problems } = await readRecipients(tree, recipientsSizeBytes);
  diagnostics.push(...problems);
  for (const name of problems.length > 0 ? [] : files.keys()) {
    if (readers[name] === undefined) diagnostics.push(errorInFile(`${SECRETS_FOLDER}/${name}.age`, `${RECIPIENTS_PATH} does not say who may read it`, `run: evenkeel secret rotate ${name} --for NODE,NODE`));
  }
  for (const [name, entry] of root?.entries ?? []) {
    if (!files.has(name)) diagnostics.push(errorAt(entry.keySpan, `there is no ${SECRETS_FOLDER}/${name}.age`, didYouMean(name, files.keys()) ?? `run: evenkeel secret set ${name}, or remove it: evenkeel secret remove ${name}`));
  }
  return new SecretsReview({ files, headers, readers, root, diagnostics });
}

/** `sizeBytes`: undefined when there is no such file. */
export async function readRecipients(tree: FileTree, sizeBytes: number | undefined): Promise<{ readonly readers: RecipientsFile; readonly root: LocatedMap | undefined; readonly problems: readonly Diagnostic[] }> {
  const none = { readers: {}, root: undefined };
  if (sizeBytes === undefined) return { ...none, problems: [] };
  const tooLarge = checkSize(RECIPIENTS_PATH, sizeBytes);
  if (tooLarge !== undefined) return { ...none, problems: [tooLarge] };
  const parsed = parseYaml(RECIPIENTS_PATH, await tree.read(RECIPIENTS_PATH));
  if (!parsed.ok) return { ...none, problems: parsed.diagnostics };
  const result = parseLocated(RecipientsFile, parsed.root);
  return result.ok ? { readers: result.value, root: parsed.root, problems: [] } : { ...none, problems: result.diagnostics };
}
