import * as z from "zod";
import { beforeAll, describe, expect, test } from "vitest";
import type { Content } from "../config/content.ts";
import { formatDiagnostics } from "../config/diagnostic.ts";
import { memoryTree } from "../config/memory-tree.ts";
import { loadNode, loadRepository } from "../config/repository.ts";
import type { SectionKind } from "../config/settings-file.ts";
import { files } from "../kinds/files.ts";
import { services } from "../kinds/services.ts";
import { newIdentity, open, seal } from "./age.ts";
import type { KeyPair } from "./age.ts";
import { readHeader } from "./sealed-file.ts";
import type { SecretKey } from "./vault.ts";

/** A kind whose fields are choosy about their text, as keepalived's and WireGuard's are. */
const wires: SectionKind = {
  name: "wires",
  schema: z.record(
    z.string(),
    z.strictObject({
      pass: z.string().regex(/^[A-Za-z0-9]{1,8}$/, "1 to 8 letters").optional(),
      key: z.string().regex(/^[A-Za-z0-9+/]{43}=$/, "a key in base64").optional(),
      odd: z.string().regex(/^odd!$/, "only this").optional(),
      anything: z.json().optional(),
      list: z.array(z.union([z.int(), z.string()])).optional(),
    }),
  ),
  resolve(want, around) {
    const passes = new Set(around.nodes.flatMap((node) => Object.values((node.section ?? {}) as Record<string, { pass?: string }>).map(({ pass }) => pass)));
    return { want, misfits: passes.size > 1 ? [{ path: ["a"], message: `all must say the same, and not ${[...passes].join(", ")}` }] : [] };
  },
};
const kinds = [files as unknown as SectionKind, services as unknown as SectionKind, wires];

let owner: KeyPair, n1: KeyPair, n2: KeyPair;
const secrets: Record<string, string> = { db: "hunter22\n", vrrp: "Keep8", binary: "\u00ff" };
const sealed: Record<string, Uint8Array> = {};
beforeAll(async () => {
  [owner, n1, n2] = await Promise.all([newIdentity(), newIdentity(), newIdentity()]);
  for (const [name, text] of Object.entries(secrets)) {
    sealed[name] = await seal([owner.recipient, n1.recipient], name === "binary" ? Uint8Array.of(255, 0) : new TextEncoder().encode(text));
  }
});

type Files = Parameters<typeof memoryTree>[0];
const clusterYaml = (secrets: string) => `name: c\nsigners:\n  - {name: ada, ssh: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0kAnSx4mR3qW2bJx1zv0mYl2r8hZQq0b7Vw4kM3C9d a"}\n${secrets}`;
function repository(node: string, more: Files = {}, names: readonly string[] = ["db"]): Files {
  const entry = (name: string) => {
    const read = readHeader(sealed[name]!);
    return `${name}:\n  nodes: [n1]\n  sealed: {header: ${read.ok ? read.header.mac : ""}, to: [${owner.recipient}, ${n1.recipient}]}\n`;
  };
  return {
    "cluster.yaml": clusterYaml(`secrets: {owners: {ada: ${owner.recipient}}}\n`),
    "nodes/n1.yaml": `recipient: ${n1.recipient}\n${node}`,
    ...Object.fromEntries(names.map((name) => [`secrets/${name}.age`, sealed[name]!])),
    "secrets/recipients.yaml": names.map(entry).join(""),
    ...more,
  };
}
async function diagnose(tree: Files): Promise<string> {
  const loaded = await loadRepository(memoryTree(tree), kinds);
  return formatDiagnostics(loaded.ok ? loaded.warnings : loaded.diagnostics);
}
const keyOf = (pair: KeyPair): SecretKey => ({ recipient: pair.recipient, open: (file) => open([pair.identity], file) });
async function onNode(tree: Files, key: SecretKey = keyOf(n1)) {
  const loaded = await loadNode(memoryTree(tree), kinds, "n1", { key: async () => key });
  if (!loaded.ok) throw new Error(formatDiagnostics(loaded.diagnostics));
  return loaded;
}
const fileIn = (sections: ReadonlyMap<string, unknown>, path: string) => new TextDecoder().decode((sections.get("files") as Record<string, { content: Content }>)[path]?.content.bytes);

describe("use", () => {
  test("in content, in a template, in any text; the node gets it, and the hub a stand-in", async () => {
    const tree = repository(
      'files:\n  /etc/a: {content: {secret: db}, mode: "0600"}\n  /etc/b: {content: {template: b.eta}, mode: "0640"}\nwires:\n  a: {pass: {secret: vrrp}, list: [1, {secret: db}], anything: {secret: db}}\n',
      { "files/b.eta": "pw=<%= it.secret(\"db\") %>;<%~ include('c.eta') %>", "files/c.eta": "<%= it.secret('vrrp') %>\n" },
      ["db", "vrrp"],
    );
    expect(await diagnose(tree)).toBe("");
    const { node, recipients } = await onNode(tree);
    expect(fileIn(node.sections, "/etc/a")).toBe("hunter22\n");
    expect(fileIn(node.sections, "/etc/b")).toBe("pw=hunter22;Keep8\n");
    expect(node.sections.get("wires")).toEqual({ a: { pass: "Keep8", list: [1, "hunter22"], anything: "hunter22" } });
    expect(node.secrets?.unopened.size).toBe(0);
    expect(JSON.stringify(node.merged)).not.toMatch(/hunter|Keep8/);
    expect(recipients).toEqual(new Map([["n1", n1.recipient]]));
    const hub = await loadRepository(memoryTree(tree), kinds);
    const seen = hub.ok ? [...hub.repository.nodes.values()][0]! : undefined;
    expect(fileIn(seen!.sections, "/etc/b")).toBe("pw=SECRET-db;SECRET-vrrp\n");
    expect(seen?.sections.get("wires")).toMatchObject({ a: { pass: "hidden00", list: [1, "SECRET-db"] } });
    expect(seen?.secrets).toBeUndefined();
  });

  test("bytes that are no text only as content; nothing else is a text", async () => {
    const tree = repository('files:\n  /etc/a: {content: {secret: binary}, mode: "0600"}\nwires:\n  a: {list: [{secret: binary}]}\n', {}, ["binary"]);
    const { node } = await onNode(tree);
    expect((node.sections.get("files") as Record<string, { content: Content }>)["/etc/a"]?.content.bytes).toEqual(Uint8Array.of(255, 0));
    expect(node.secrets?.unopened.get("wires")?.message).toContain('the secret "binary" does not fit wires.a.list[0]: it is not text');
  });

  test("a stand-in that no schema lets through is no mistake, and other mistakes are still told", async () => {
    expect(await diagnose(repository("wires:\n  a: {odd: {secret: db}}\n"))).toBe("");
    expect(await diagnose(repository("wires:\n  a: {key: {secret: db}, odd: even}\n"))).toMatch(/nodes\/n1.yaml:3:31: error: wires.a.odd: only this[^]*1 error/);
    expect(await diagnose(repository("wires:\n  a: {odd: {secret: db}, pas: x}\n"))).toContain('unknown field "pas" in wires.a');
  });

  test("what another node may read, and this one not, is a stand-in among the peers", async () => {
    const tree = repository("wires:\n  a: {pass: {secret: vrrp}}\n", { "nodes/n2.yaml": "wires:\n  a: {pass: {secret: vrrp}}\n" }, ["vrrp"]);
    expect((await onNode(tree)).node.sections.get("wires")).toEqual({ a: { pass: "Keep8" } });
    const other = { ...tree, "nodes/n2.yaml": "wires:\n  a: {pass: other}\n" };
    await expect(onNode(other)).rejects.toThrow("all must say the same, and not •••, other");
  });
});

describe("refused at a push, with the place and what to do", () => {
  const use = 'files:\n  /etc/a: {content: {secret: db}, mode: "0600"}\n';
  test.each<[string, () => Files, readonly string[]]>([
    ["an unknown secret", () => repository(use.replace("secret: db", "secret: dbb")), ['nodes/n1.yaml:3:30: error: there is no secret "dbb"', 'did you mean "db"?']],
    ["one that was never made", () => repository(use, { "secrets/recipients.yaml": "" }, []), ["make it: evenkeel secret set db --for n1"]],
    ["one that this node may not read", () => repository(use, { "nodes/n2.yaml": `recipient: ${n2.recipient}\n${use}` }), ['nodes/n2.yaml:3:30: error: n2 may not read the secret "db"', "evenkeel secret rotate db --add n2"]],
    ["a node without a recipient", () => repository(use, { "nodes/n1.yaml": use }), ["nodes/n1.yaml has no recipient yet", "evenkeel secret trust n1"]],
    ["a node with a new key", () => repository(use, { "nodes/n1.yaml": `recipient: ${n2.recipient}\n${use}` }), ["is not encrypted to it yet", "evenkeel secret rotate db"]],
    ["a secret in a file that others may read", () => repository(use.replace("0600", "0644")), ['nodes/n1.yaml:3:41: error: files."/etc/a".mode: a file with a secret in it must not be readable by others (it is 0644, and holds db)', 'write mode: "0600"']],
    ["a template with a secret, without a mode", () => repository("files:\n  /etc/a: {content: {template: a.eta}}\n", { "files/a.eta": "<%= it.secret('db') %>" }), ["nodes/n1.yaml:3:3: error", "must not be readable by others"]],
    ["a secret in a unit", () => repository("services:\n  a.service: {unit: {secret: db}}\n"), ["a secret (db) cannot stand here", "EnvironmentFile="]],
    ["a secret in vars", () => repository("vars: {x: {secret: db}}\n"), ["vars hold no secrets", 'it.secret("db")']],
    ["a template that asks for an unknown one", () => repository(use, { "nodes/n1.yaml": `recipient: ${n1.recipient}\nfiles:\n  /etc/a: {content: {template: a.eta}, mode: "0600"}\n`, "files/a.eta": "x\n<%= it.secret('no') %>" }), ["files/a.eta:2:16: error: there is no secret \"no\""]],
    ["plain text", () => repository(use, { "secrets/db.age": "hunter22" }), ["secrets/db.age is not a secret: it is no age file", "stays in Git's history"]],
    ["a file that is not encrypted", () => repository(use, { "secrets/db.txt": "hunter22" }), ["secrets/db.txt is not a secret: its name does not end with .age"]],
    ["a file of which nobody said who may read it", () => repository(use, { "secrets/other.age": sealed["db"]! }), ["secrets/other.age:1:1: error: secrets/recipients.yaml does not say who may read it"]],
    ["no owner", () => repository(use, { "cluster.yaml": clusterYaml("") }), ["nobody owns them"]],
    ["an owner's SSH key", () => repository(use, { "cluster.yaml": clusterYaml("secrets: {owners: {ada: ssh-ed25519 AAAA}}\n") }), ["this is an SSH key, to which only the age command can encrypt"]],
    ["a role's recipient", () => repository(use, { "roles/web.yaml": "recipient: x\n" }), ["a role has no recipient"]],
  ])("%s", async (_name, tree, expected) => {
    const text = await diagnose(tree());
    for (const each of expected) expect(text).toContain(each);
    expect(text).toMatch(/\d errors? /);
    expect(text).not.toContain("hunter");
  });

  test("what is only untidy is a warning", async () => {
    expect(await diagnose(repository(""))).toContain('secrets/recipients.yaml:1:1: warning: nothing uses the secret "db"');
    const text = await diagnose(repository(use, { "cluster.yaml": clusterYaml(`secrets: {owners: {ada: ${n2.recipient}}}\n`) }));
    expect(text).toContain("secrets/db.age is not encrypted to the owner ada");
    expect(text).toMatch(/can still be read by age1\w{8}…, who should not[^]*evenkeel secret rotate db/);
    expect(await diagnose(repository(use, { "secrets/db.age": await seal([n1.recipient], new Uint8Array(8)) }))).toContain("was not encrypted by evenkeel secret");
  });
});

describe("on the node, a secret that cannot be opened fails what uses it and nothing else", () => {
  const use = 'files:\n  /etc/a: {content: {secret: db}, mode: "0600"}\n  /etc/b: b\nwires:\n  a: {pass: {secret: vrrp}}\n';
  test("for another node; key lost; no recipient", async () => {
    const tree = repository(use, {}, ["db", "vrrp"]);
    const lost = await onNode(tree, keyOf(n2));
    expect(lost.node.secrets?.unopened.get("files")).toEqual({ keys: new Set(["/etc/a"]), message: expect.stringMatching(/^secrets\/db.age cannot be opened by this node: its key is age1\w+, while nodes\/n1.yaml names age1\w+: the key was lost[^]*secret rotate --all/) });
    expect(lost.node.secrets?.unopened.get("wires")).toMatchObject({ keys: null });
    expect(fileIn(lost.node.sections, "/etc/b")).toBe("b");
    const foreign = await onNode({ ...tree, "secrets/db.age": await seal([owner.recipient], new Uint8Array(8)) });
    expect(foreign.node.secrets?.unopened.get("files")?.message).toContain("evenkeel secret rotate db --add n1");
    expect(foreign.node.secrets?.unopened.has("wires")).toBe(false);
    const gone = await onNode(tree, { ...keyOf(n2), recipient: null, problem: "its key is gone" });
    expect(gone.node.secrets?.unopened.get("files")?.message).toBe("secrets/db.age cannot be opened by this node: its key is gone");
  });

  test("damaged, too large, missing, a link, and one that does not fit its field", async () => {
    const tree = repository(use, {}, ["db", "vrrp"]);
    const message = async (more: Files) => (await onNode({ ...tree, ...more })).node.secrets?.unopened.get("files")?.message;
    expect(await message({ "secrets/db.age": new TextDecoder().decode(sealed["db"]).replace(/\n.{8}/, "\nAAAAAAAA") })).toMatch(/or it is damaged \([^]*back from Git/);
    expect(await message({ "secrets/db.age": new Uint8Array(2_000_000) })).toContain("it is 2000000 bytes long");
    expect(await message({ "secrets/db.age": { type: "link" } })).toContain("evenkeel secret set db --for n1");
    const long = await onNode(repository("wires:\n  a: {pass: {secret: db}, list: [{secret: db}]}\n"));
    expect(long.node.secrets?.unopened.size).toBe(0);
    const misfit = await onNode(repository("wires:\n  a: {key: {secret: db}}\n"));
    expect(misfit.node.secrets?.unopened.get("wires")?.message).toContain('the secret "db" does not fit wires.a.key: a key in base64');
    expect(JSON.stringify([...misfit.node.sections])).not.toContain("hunter");
  });
});
