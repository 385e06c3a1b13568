import { readFileSync } from "node:fs";
import { Command } from "commander";
import { NodeName } from "../../shared/ids.ts";
import type { NodeSummary } from "../../shared/protocol/api.ts";
import { didYouMean } from "../../shared/config/suggest.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { kinds as allKinds } from "../../shared/kinds/index.ts";
import { PLAINTEXT_SIZE_BYTES_MAX, open } from "../../shared/secrets/age.ts";
import { recipientProblem } from "../../shared/secrets/recipient.ts";
import { SecretName } from "../../shared/secrets/recipients-file.ts";
import type { Audience, Readers } from "../../shared/secrets/recipients-file.ts";
import { SECRET_CHARS_MIN } from "../../shared/secrets/redact.ts";
import { clientFor, complain } from "./asking.ts";
import { connecting, type ConnectionFlags } from "./connection.ts";
import { makeIdentity, readIdentities } from "./secret-identity.ts";
import { processInput, type Input, type SecretInput } from "./secret-input.ts";
import { openStore, removeSecret, sealSecret, sealedFile, trustRecipient, type SecretStore } from "./secret-store.ts";
import { showWho, whoReads } from "./secret-who.ts";
import { processTerminal, type Terminal } from "./terminal.ts";
import { paintFor } from "./show.ts";
import { repositoryRoot } from "./validate.ts";

/**
 * `evenkeel secret`: the secrets of the working copy that one stands in. It writes files; to look at them, commit and sign is the
 * owner's, as with any other change. Exit code 0: done; 1: it could not be.
 */

interface Place {
  readonly dir?: string;
}
interface Whom {
  readonly for?: string;
  readonly roles?: string;
}
interface Key {
  readonly identity?: string;
}

type Done = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly message: string };
const no = (message: string): Done => ({ ok: false, message });

export interface SecretParts {
  readonly terminal: Terminal;
  readonly input: SecretInput;
  readonly kinds: readonly SectionKind[];
}

export function secretCommand(terminal: Terminal = processTerminal(), parts: SecretParts = { terminal, input: processInput(terminal), kinds: allKinds }): Command {
  const command = new Command("secret").description("secrets of the cluster: encrypted in the repository, decrypted on the nodes that may read them");
  for (const each of [keyCommand, setCommand, editCommand, showCommand, rotateCommand, whoCommand, trustCommand, removeCommand]) command.addCommand(each(parts));
  return command;
}

const inPlace = (command: Command): Command => command.option("--dir <dir>", "where the repository is (default: the one that the current directory is in)");
const withKey = (command: Command): Command => inPlace(command).option("--identity <file>", "your age key (EVENKEEL_AGE_IDENTITY; default: ~/.config/evenkeel/age.txt)");

/** Runs what a command does in the working copy, and says how it went. */
async function run({ terminal, kinds }: SecretParts, place: Place, work: (store: SecretStore) => Promise<Done>): Promise<void> {
  const root = await repositoryRoot(place.dir, terminal);
  if (root === undefined) return terminal.exit(2);
  const opened = await openStore(root, kinds);
  const done = opened.ok ? await work(opened.store) : opened;
  if (done.ok) return terminal.out(done.text);
  terminal.err(`evenkeel: ${done.message.trimEnd()}\n`);
  terminal.exit(1);
}

function keyCommand({ terminal }: SecretParts): Command {
  return new Command("key")
    .description("make your own age key, once, and print what to write into cluster.yaml")
    .option("--identity <file>", "where it goes (EVENKEEL_AGE_IDENTITY; default: ~/.config/evenkeel/age.txt)")
    .action(async (flags: Key) => {
      const made = await makeIdentity(flags.identity, terminal);
      if (!made.ok) {
        terminal.err(`evenkeel: ${made.message}\n`);
        return terminal.exit(1);
      }
      terminal.err(made.isNew ? `made your age key: ${made.path}. Keep a copy where the fire does not reach it: without any owner's key, no secret can be given to a new node.\n` : `your age key is ${made.path}\n`);
      terminal.err("Write its public half into cluster.yaml, and run `evenkeel secret rotate --all` where another owner's key is:\n\n");
      terminal.out(`secrets:\n  owners:\n    ${terminal.env["USER"] ?? "ada"}: ${made.recipient}\n`);
    });
}

function setCommand(parts: SecretParts): Command {
  return inPlace(new Command("set"))
    .description("set a secret, new or not; its value is read from standard input, or typed unseen")
    .argument("<name>", "the secret's name, such as db-password")
    .option("--for <nodes>", "who may read it: n1,n2, or all, or none (owners always may)")
    .option("--roles <roles>", "every node with one of these roles may read it, too: web,db")
    .action((name: string, flags: Place & Whom) =>
      run(parts, flags, async (store) => {
        const misnamed = checkName(name);
        if (misnamed !== undefined) return no(misnamed);
        const readers = chosenReaders(store, name, flags);
        if (!readers.ok) return readers;
        const value = checkValue(await parts.input.value(`value of ${name}`));
        if (!value.ok) return value;
        return { ok: true, text: told(store, name, await sealSecret(store, name, readers.readers, value.bytes), "encrypted") };
      }),
    );
}

function editCommand(parts: SecretParts): Command {
  return withKey(new Command("edit"))
    .description("change a secret in your editor ($VISUAL, $EDITOR)")
    .argument("<name>", "the secret's name")
    .action((name: string, flags: Place & Key) =>
      run(parts, flags, async (store) => {
        const before = await decrypted(parts, store, name, flags);
        if (!before.ok) return before;
        const after = checkValue(await parts.input.edit(name, before.bytes));
        if (!after.ok) return after;
        const bytes = likeBefore(before.bytes, after.bytes);
        if (Buffer.compare(bytes, before.bytes) === 0) return { ok: true, text: "nothing was changed\n" };
        return { ok: true, text: told(store, name, await sealSecret(store, name, store.entries[name] ?? { nodes: [], roles: [] }, bytes), "encrypted") };
      }),
    );
}

/** Editors end a file with a line feed; a secret that had none keeps having none. */
function likeBefore(before: Uint8Array, after: Uint8Array): Uint8Array {
  const feed = 10;
  return before.at(-1) !== feed && after.at(-1) === feed && before.length > 0 ? after.subarray(0, -1) : after;
}

function showCommand(parts: SecretParts): Command {
  return withKey(new Command("show"))
    .description("print a secret to standard output")
    .argument("<name>", "the secret's name")
    .action((name: string, flags: Place & Key) =>
      run(parts, flags, async (store) => {
        const read = await decrypted(parts, store, name, flags);
        return read.ok ? { ok: true, text: new TextDecoder().decode(read.bytes) } : read;
      }),
    );
}

function rotateCommand(parts: SecretParts): Command {
  return withKey(new Command("rotate"))
    .description("encrypt secrets anew, to those who shall read them now; their values stay")
    .argument("[names...]", "the secrets' names")
    .option("--all", "all secrets")
    .option("--for <nodes>", "from now on, these may read it: n1,n2, or all, or none")
    .option("--roles <roles>", "and every node with one of these roles")
    .option("--add <nodes>", "these may read it as well")
    .option("--remove <nodes>", "these may no longer read it; since they could, change its value, too")
    .action((names: string[], flags: Place & Key & Whom & { all?: boolean; add?: string; remove?: string }) =>
      run(parts, flags, async (store) => {
        const wanted = flags.all === true ? [...store.files].toSorted() : names;
        if (wanted.length === 0) return no(flags.all === true ? "there are no secrets in this repository" : "which secrets? Give their names, or --all");
        // All are opened before the first is written: either every file is encrypted anew, or none is.
        const opened: { name: string; bytes: Uint8Array; readers: Pick<Readers, "nodes" | "roles"> }[] = [];
        for (const name of wanted) {
          const read = await decrypted(parts, store, name, flags);
          if (!read.ok) return read;
          const chosen = changedReaders(store, name, flags);
          if (!chosen.ok) return chosen;
          opened.push({ name, bytes: read.bytes, readers: chosen.readers });
        }
        const texts: string[] = [];
        for (const { name, bytes, readers } of opened) texts.push(told(store, name, await sealSecret(store, name, readers, bytes), "encrypted anew"));
        return { ok: true, text: texts.join("") };
      }),
    );
}

function whoCommand(parts: SecretParts): Command {
  return inPlace(new Command("who"))
    .description("who may read each secret, who can, and who lacks what")
    .argument("[name]", "only this secret")
    .option("--json", "print JSON")
    .action((name: string | undefined, flags: Place & { json?: boolean }) =>
      run(parts, flags, async (store) => {
        if (name !== undefined && !store.files.has(name)) return no(unknown(store, name));
        const rows = whoReads(store, name);
        if (flags.json === true) return { ok: true, text: `${JSON.stringify(rows, null, 2)}\n` };
        return { ok: true, text: showWho(rows, store, paintFor(parts.terminal.color)) };
      }),
    );
}

function trustCommand(parts: SecretParts): Command {
  return connecting(inPlace(new Command("trust")))
    .description("write a node's recipient into its file, so that secrets are encrypted to it")
    .argument("<node>", "the node's name")
    .option("--recipient <age1…>", "as `evenkeel-agent recipient` prints it on the node; without it, as the hub has heard it")
    .action((node: string, flags: Place & ConnectionFlags & { recipient?: string }) =>
      run(parts, flags, async (store) => {
        const known = store.nodes.find((each) => each.name === node);
        if (known === undefined) return no(`there is no nodes/${node}.yaml. ${didYouMean(node, store.nodes.map((each) => each.name)) ?? "Make the file first"}`);
        const recipient = flags.recipient ?? (await heardFromHub(parts.terminal, flags, node));
        if (recipient === null) return no(`the hub has not heard ${node}'s recipient. Is it enrolled and online? Else run \`evenkeel-agent recipient\` on it, and give what that prints with --recipient`);
        if (recipient === undefined) return no("give the recipient with --recipient, as `evenkeel-agent recipient` prints it on the node");
        const problem = recipientProblem(recipient);
        if (problem !== undefined) return no(problem);
        const twin = store.nodes.find((each) => each.name !== node && each.recipient === recipient);
        if (twin !== undefined) return no(`this is the recipient of ${twin.name} already: each node has a key of its own. Was ${node} cloned from it? Then remove /etc/evenkeel/age.txt on ${node} and restart its agent`);
        const before = trustRecipient(store, node, recipient);
        if (before === recipient) return { ok: true, text: `nodes/${node}.yaml names it already: ${recipient}\n` };
        const compare = flags.recipient === undefined ? `It is what the hub has heard. Compare it with what \`evenkeel-agent recipient\` prints on ${node}: whoever holds its key can read what you encrypt to it.\n` : "";
        return { ok: true, text: `nodes/${node}.yaml: recipient: ${recipient}${before === null ? "" : ` (before: ${before})`}\n${compare}Next: evenkeel secret rotate --all; then commit (signed) and push.\n` };
      }),
    );
}

/** Undefined when the hub could not be asked, which has been told then. */
async function heardFromHub(terminal: Terminal, flags: ConnectionFlags, node: string): Promise<string | null | undefined> {
  const client = clientFor(terminal, flags);
  if (client === null) return undefined;
  const reply = await client.call<NodeSummary>("GET", `/nodes/${encodeURIComponent(node)}`);
  if (reply.ok) return reply.value.recipient ?? null;
  complain(terminal, flags, reply);
  return undefined;
}

function removeCommand(parts: SecretParts): Command {
  return inPlace(new Command("remove"))
    .description("remove a secret's file and its entry; what it held stays in Git's history, encrypted")
    .argument("<name>", "the secret's name")
    .action((name: string, flags: Place) =>
      run(parts, flags, async (store) => {
        if (!store.files.has(name) && store.entries[name] === undefined) return no(unknown(store, name));
        removeSecret(store, name);
        return { ok: true, text: `removed secrets/${name}.age. Next: evenkeel validate, which finds what still refers to it; then commit (signed) and push.\n` };
      }),
    );
}

async function decrypted({ terminal }: SecretParts, store: SecretStore, name: string, flags: Key): Promise<Input> {
  if (!store.files.has(name)) return { ok: false, message: unknown(store, name) };
  const identities = await readIdentities(flags.identity, terminal);
  if (!identities.ok) return identities;
  const opened = await open(identities.pairs.map(({ identity }) => identity), readFileSync(sealedFile(store, name)));
  if (opened.ok) return { ok: true, bytes: opened.plaintext };
  const path = `secrets/${name}.age`;
  if (opened.reason !== "not-for-this-key") return { ok: false, message: `${path}: ${opened.message}. Put an earlier version of it back: git restore --source=HEAD~1 ${path}; or set it again: evenkeel secret set ${name}` };
  const own = identities.pairs.map(({ recipient }) => recipient);
  const owner = Object.entries(store.owners).find(([, recipient]) => own.includes(recipient))?.[0];
  const others = Object.keys(store.owners).filter((each) => each !== owner).join(", ");
  const cure = owner === undefined ? `it is no owner's in cluster.yaml. ${others === "" ? "Nobody is" : `Owners are ${others}`}` : `it became an owner's after the file was encrypted. ${others === "" ? "Set the secret again" : `Have ${others} run \`evenkeel secret rotate --all\``}`;
  return { ok: false, message: `${path} is not encrypted to your key (${own.join(", ")}): ${cure}` };
}

function checkName(name: string): string | undefined {
  const parsed = SecretName.safeParse(name);
  return parsed.success ? undefined : `${JSON.stringify(name)} cannot be a secret's name: ${parsed.error.issues[0]?.message ?? ""}`;
}

function checkValue(value: Input): Input {
  if (!value.ok) return value;
  if (value.bytes.length > PLAINTEXT_SIZE_BYTES_MAX) return { ok: false, message: `it has ${value.bytes.length} bytes; at most ${PLAINTEXT_SIZE_BYTES_MAX} may be a secret` };
  if (new TextDecoder().decode(value.bytes).trim().length >= SECRET_CHARS_MIN) return value;
  return { ok: false, message: `a secret has at least ${SECRET_CHARS_MIN} characters, so that it can be kept out of reports and logs; nothing was changed` };
}

type Chosen = { readonly ok: true; readonly readers: Pick<Readers, "nodes" | "roles"> } | { readonly ok: false; readonly message: string };

function chosenReaders(store: SecretStore, name: string, flags: Whom): Chosen {
  if (Object.keys(store.owners).length === 0) return { ok: false, message: "nobody owns this cluster's secrets: run `evenkeel secret key`, and write what it prints into cluster.yaml" };
  const before = store.entries[name];
  if (flags.for === undefined && flags.roles === undefined) {
    return before === undefined ? { ok: false, message: `who may read ${name}? Give --for n1,n2, or --for all, or --roles web, or --for none (only owners). Nodes are: ${store.nodes.map((node) => node.name).join(", ")}` } : { ok: true, readers: before };
  }
  const nodes = flags.for === undefined ? { ok: true as const, nodes: [] } : nodesOf(store, flags.for);
  return nodes.ok ? { ok: true, readers: { nodes: nodes.nodes, roles: words(flags.roles) } } : nodes;
}

function changedReaders(store: SecretStore, name: string, flags: Whom & { readonly add?: string; readonly remove?: string }): Chosen {
  const chosen = chosenReaders(store, name, flags);
  if (!chosen.ok) return chosen;
  const { nodes, roles } = chosen.readers;
  const [add, remove] = [nodesOf(store, flags.add ?? "none"), { ok: true as const, nodes: words(flags.remove) }];
  if (!add.ok) return add;
  if (nodes === "all" && remove.nodes.length > 0) return { ok: false, message: `${name} is for all nodes: say who may read it, with --for` };
  if (nodes === "all" || add.nodes === "all") return { ok: true, readers: { nodes: "all", roles } };
  const kept = nodes.filter((each) => !remove.nodes.includes(each));
  return { ok: true, readers: { nodes: [...new Set([...kept, ...add.nodes])], roles } };
}

function nodesOf(store: SecretStore, list: string): { readonly ok: true; readonly nodes: Readers["nodes"] } | { readonly ok: false; readonly message: string } {
  if (list === "all") return { ok: true, nodes: "all" };
  const names = list === "none" ? [] : words(list);
  const known = store.nodes.map((node) => node.name);
  const stranger = names.find((name) => !known.includes(name));
  if (stranger !== undefined) return { ok: false, message: `there is no node ${JSON.stringify(stranger)}: ${didYouMean(stranger, known) ?? `nodes are ${known.join(", ")}`}` };
  return { ok: true, nodes: names.map((name) => NodeName.parse(name)) };
}

function words(list: string | undefined): string[] {
  return (list ?? "").split(",").map((word) => word.trim()).filter((word) => word !== "");
}

function unknown(store: SecretStore, name: string): string {
  return `there is no secrets/${name}.age. ${didYouMean(name, store.files) ?? (store.files.size === 0 ? "There are no secrets yet" : `There are: ${[...store.files].toSorted().join(", ")}`)}; \`evenkeel secret set ${name} --for NODE\` makes one`;
}

function told(store: SecretStore, name: string, audience: Audience, how: string): string {
  const readers = [...Object.keys(store.owners), ...audience.nodes.filter((node) => node.recipient !== undefined).map((node) => node.name)];
  const lacking = audience.lacking.length === 0 ? "" : `  not yet to ${audience.lacking.join(", ")}: the repository knows no recipient. Run \`evenkeel secret trust NODE\` for each, and \`evenkeel secret rotate ${name}\`\n`;
  return `secrets/${name}.age is ${how} to ${readers.join(", ")}\n${lacking}`;
}
