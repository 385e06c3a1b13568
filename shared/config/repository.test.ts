import * as z from "zod";
import { describe, expect, test } from "vitest";
import { Content, content } from "./content.ts";
import { formatDiagnostics } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { CONTENT_SIZE_BYTES_MAX, NODES_MAX, REPOSITORY_FILES_MAX } from "./layout.ts";
import { memoryTree } from "./memory-tree.ts";
import { loadNode, loadRepository } from "./repository.ts";
import type { RenderedNode } from "./render.ts";
import type { SectionKind } from "./settings-file.ts";

const state = z.enum(["present", "absent"]);
const things: SectionKind = {
  name: "things",
  schema: z.record(
    z.string().regex(/^[a-z]+$/, "a thing's name is lower-case letters"),
    z.union([state, z.strictObject({ state: state.default("present"), version: z.string().optional(), hold: z.boolean().default(false), count: z.int().min(1).max(9).optional() })]).transform((value) => (typeof value === "string" ? { state: value } : value)),
  ),
};
/** Reshapes its input, as kinds may. */
const texts: SectionKind = {
  name: "texts",
  schema: z.record(z.string(), z.strictObject({ content, mode: z.string().regex(/^0[0-7]{3}$/).default("0644") })).transform((value) => new Map(Object.entries(value))),
};
const kinds = [things, texts];

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0kAnSx4mR3qW2bJx1zv0mYl2r8hZQq0b7Vw4kM3C9d ada@example";
const cluster = `name: cupboard\nsigners:\n  - {name: ada, ssh: "${key}"}\n`;
type Files = Parameters<typeof memoryTree>[0];
const good: Files = {
  "cluster.yaml": `${cluster}vars:\n  title: T\n  note: from cluster\n`,
  "roles/base.yaml": "things:\n  jq: present\n  tree: present\ntexts:\n  motd:\n    content: {template: motd.eta}\n  plain:\n    content: {file: a/plain}\nvars:\n  note: from base\n",
  "roles/web.yaml": 'roles: [base]\nthings:\n  tree: absent\n  nginx: {version: "1.2"}\n',
  "nodes/n1.yaml": "address: 10.0.0.1\nroles: [web]\nthings:\n  jq: null\nvars: {title: N1}\ntexts:\n  here:\n    content: as written\n",
  "nodes/n2.yaml": "roles: [base]\n",
  "files/motd.eta": "<%= it.node.name %> <%= it.vars.title %> <%= it.vars.note %> <%= it.cluster.nodes.length %>\n",
  "files/a/plain": Uint8Array.of(0, 255, 10),
  "README.md": "not looked at",
  "other/link": { type: "link" },
  "vendor": { type: "submodule" },
};

async function diagnose(files: Files): Promise<string> {
  const loaded = await loadRepository(memoryTree(files), kinds);
  return formatDiagnostics(loaded.ok ? loaded.warnings : loaded.diagnostics);
}
async function nodesOf(files: Files): Promise<ReadonlyMap<string, RenderedNode>> {
  const loaded = await loadRepository(memoryTree(files), kinds);
  if (!loaded.ok) throw new Error(formatDiagnostics(loaded.diagnostics));
  expect(loaded.warnings).toEqual([]);
  return loaded.repository.nodes;
}
const textsOf = (node: RenderedNode | undefined) => (node?.sections.get("texts") ?? new Map()) as Map<string, { content: Content }>;
const textOf = (node: RenderedNode | undefined, name: string) => new TextDecoder().decode(textsOf(node).get(name)?.content.bytes);

describe("a good repository", () => {
  test("renders every node", async () => {
    const nodes = await nodesOf(good);
    expect([...nodes.keys()]).toEqual(["n1", "n2"]);
    const n1 = nodes.get("n1");
    expect(n1).toMatchObject({ name: "n1", address: "10.0.0.1", roles: ["base", "web"], vars: { title: "N1", note: "from base" } });
    expect(n1?.sections.get("things")).toEqual({ tree: { state: "absent" }, nginx: { state: "present", version: "1.2", hold: false } });
    expect(n1?.merged).toMatchObject({ things: { tree: "absent", nginx: { version: "1.2" } } });
    expect(nodes.get("n2")?.address).toBeUndefined();
  });

  test("fills contents: text, bytes, templates", async () => {
    const nodes = await nodesOf(good);
    expect(textOf(nodes.get("n1"), "motd")).toBe("n1 N1 from base 2\n");
    expect(textOf(nodes.get("n2"), "motd")).toBe("n2 T from base 2\n");
    expect(textOf(nodes.get("n1"), "here")).toBe("as written");
    const section = textsOf(nodes.get("n1"));
    expect(section.get("plain")?.content.bytes).toEqual(Uint8Array.of(0, 255, 10));
    expect(section.get("plain")?.content.from).toEqual({ file: "a/plain" });
  });

  test("knows where each value came from", async () => {
    const n1 = (await nodesOf(good)).get("n1");
    const at = (pointer: string) => {
      const position = n1?.provenance.get(pointer);
      return position && `${position.file}:${position.line}:${position.column}`;
    };
    expect(at("/address")).toBe("nodes/n1.yaml:1:10");
    expect(at("/things/tree")).toBe("roles/web.yaml:3:9");
    expect(at("/vars/note")).toBe("roles/base.yaml:10:9");
    expect(at("/texts/motd/content/template")).toBe("roles/base.yaml:6:25");
    expect(at("/things/jq")).toBeUndefined();
  });

  test("a section that nobody wrote is not there; an empty one is as good as that", async () => {
    const nodes = await nodesOf({ "cluster.yaml": cluster, "nodes/n1.yaml": "things:\n  # nothing yet\nvars:\nroles:\n" });
    expect(nodes.get("n1")?.sections.size).toBe(0);
    expect((await nodesOf({ "cluster.yaml": `${cluster}vars:\ngroups:\n`, "nodes/n1.yaml": "" })).get("n1")?.merged).toEqual({});
  });

  test("loadNode gives the same node", async () => {
    const loaded = await loadNode(memoryTree(good), kinds, "n1");
    if (!loaded.ok) throw new Error(formatDiagnostics(loaded.diagnostics));
    expect(loaded.node).toEqual((await nodesOf(good)).get("n1"));
    expect(loaded.cluster.guard).toEqual({ removalsMax: 10, repairsMax: 5, confirmSeconds: 60 });
  });
});

describe("bad input is refused, with the place and what to write instead", () => {
  const rows: readonly (readonly [string, Files, readonly string[]])[] = [
    ["no cluster.yaml", { "nodes/n1.yaml": "" }, ["cluster.yaml:1:1: error: there is no cluster.yaml", "evenkeel init"]],
    ["an unknown section", { "nodes/n1.yaml": "thigns: {}\n" }, ['nodes/n1.yaml:1:1: error: unknown section "thigns"', 'help: did you mean "things"?']],
    ["a section that looks like none", { "nodes/n1.yaml": "zebra: {}\n" }, ["a node can have: roles, vars, address, recipient, fleetlock, things, texts"]],
    ["a cluster's field in a node", { "nodes/n1.yaml": "signers: []\n" }, ["signers belongs in cluster.yaml"]],
    ["an address in a role", { "nodes/n1.yaml": "roles: [r]\n", "roles/r.yaml": "address: x\n" }, ["roles/r.yaml:1:1: error: a role has no address"]],
    ["a section that is a list", { "nodes/n1.yaml": "things:\n  - jq\n" }, ["nodes/n1.yaml:2:3: error: things must be a map"]],
    ["an unknown field", { "nodes/n1.yaml": "things:\n  jq: {versoin: '1'}\n" }, ['nodes/n1.yaml:2:8: error: unknown field "versoin" in things.jq', 'did you mean "version"?']],
    ["a wrong choice", { "nodes/n1.yaml": "things:\n  jq: presnt\n" }, ['nodes/n1.yaml:2:7: error: things.jq: expected "present", "absent" or a map, found "presnt"', 'did you mean "present"?']],
    ["a wrong type in a union's branch", { "nodes/n1.yaml": "things:\n  jq: {hold: yes}\n" }, ['nodes/n1.yaml:2:14: error: things.jq.hold: expected true or false, found "yes"', "write true, without quotes"]],
    ["a number for text", { "nodes/n1.yaml": "things:\n  jq: {version: 12}\n" }, ["things.jq.version: expected text, found the number 12", 'put it in quotes: "12"']],
    ["a number out of bounds", { "nodes/n1.yaml": "things:\n  jq: {count: 12}\n" }, ["nodes/n1.yaml:2:15: error: things.jq.count: must be at most 9, found the number 12"]],
    ["a bad key", { "nodes/n1.yaml": "things:\n  J Q: present\n" }, [`nodes/n1.yaml:2:3: error: "J Q" cannot be a key of things: a thing's name is lower-case letters`]],
    ["something missing", { "nodes/n1.yaml": "texts:\n  a: {mode: '0600'}\n" }, ['nodes/n1.yaml:2:3: error: texts.a lacks "content"']],
    ["a wrong value that a role brings", { "nodes/n1.yaml": "roles: [r]\n", "roles/r.yaml": "things:\n  jq: 7\n" }, ["roles/r.yaml:2:7: error: things.jq: expected"]],
    ["neither file nor template", { "nodes/n1.yaml": "texts:\n  a: {content: {fiel: x}}\n" }, ['nodes/n1.yaml:2:17: error: unknown field "fiel" in texts.a.content', 'did you mean "file"?']],
    ["a key without a value", { "nodes/n1.yaml": "things:\n  jq:\n" }, ["nodes/n1.yaml:2:3: error: things.jq has no value"]],
    ["a file that is not there", { "nodes/n1.yaml": "texts:\n  a: {content: {file: motd.txt}}\n", "files/motd.text": "" }, ["nodes/n1.yaml:2:23: error: there is no files/motd.txt", 'did you mean "motd.text"?']],
    ["a file in another folder", { "nodes/n1.yaml": "texts:\n  a: {content: {file: long-name.conf}}\n", "files/deep/down/long-name.conf": "" }, ['did you mean "deep/down/long-name.conf"?']],
    ["files/ in the path", { "nodes/n1.yaml": "texts:\n  a: {content: {file: files/x}}\n", "files/x": "" }, ['write "x"']],
    ["a directory for a file", { "nodes/n1.yaml": "texts:\n  a: {content: {file: d}}\n", "files/d/x": "" }, ["files/d is a directory"]],
    ["a path that leaves by ..", { "nodes/n1.yaml": "texts:\n  a: {content: {file: ../../etc/shadow}}\n" }, ["nodes/n1.yaml:2:23: error: texts.a.content.file: a path below files/, without a leading slash and without . or .. in it"]],
    ["an absolute path", { "nodes/n1.yaml": "texts:\n  a: {content: {template: /etc/shadow}}\n" }, ["nodes/n1.yaml:2:27: error: texts.a.content.template: a path below files/"]],
    ["a link that is referred to", { "nodes/n1.yaml": "texts:\n  a: {content: {file: l}}\n", "files/l": { type: "link" } }, ["nodes/n1.yaml:2:23: error: files/l is a symbolic link; links are never followed"]],
    ["a file behind a link", { "nodes/n1.yaml": "texts:\n  a: {content: {file: l/shadow}}\n", "files/l": { type: "link" } }, ["files/l is a link, and links are never followed"]],
    ["a link for a node's file", { "nodes/n1.yaml": { type: "link" } }, ["nodes/n1.yaml:1:1: error: this is a symbolic link"]],
    ["a link for cluster.yaml", { "cluster.yaml": { type: "link" } }, ["cluster.yaml:1:1: error: this is a symbolic link"]],
    ["a link for roles/", { "roles": { type: "link" } }, ["roles:1:1: error: this is a symbolic link"]],
    ["a submodule for files/", { "files": { type: "submodule" } }, ["files:1:1: error: this is a Git submodule"]],
    ["a path with .. in the tree", { "files/../../etc/passwd": "x" }, ["error: the path leaves the repository: it contains .."]],
    ["an absolute path in the tree", { "/etc/passwd": "x" }, ["error: the path leaves the repository: it begins with /"]],
    ["an unknown role", { "nodes/n1.yaml": "roles: [bsae]\n", "roles/base.yaml": "" }, ['nodes/n1.yaml:1:9: error: there is no role "bsae"', 'did you mean "base"?']],
    ["a role twice", { "nodes/n1.yaml": "roles: [r, r]\n", "roles/r.yaml": "" }, ['nodes/n1.yaml:1:12: error: role "r" is listed twice']],
    ["roles that include each other", { "nodes/n1.yaml": "roles: [a]\n", "roles/a.yaml": "roles: [b]\n", "roles/b.yaml": "roles: [c]\n", "roles/c.yaml": "roles: [a]\n" }, ['roles/c.yaml:1:9: error: role "a" includes itself: a → b → c → a']],
    ["a role that includes itself", { "nodes/n1.yaml": "roles: [a]\n", "roles/a.yaml": "roles: [a]\n" }, ['roles/a.yaml:1:9: error: role "a" includes itself: a → a']],
    ["two roles in contradiction", { "nodes/n1.yaml": "roles: [a, b]\n", "roles/a.yaml": "things: {jq: present}\n", "roles/b.yaml": "things: {jq: absent}\n" }, ['roles/a.yaml:1:14: error: role "a" and role "b" contradict each other: things.jq is "present" here', 'roles/b.yaml:1:14: note: and "absent" here', "set things.jq in the node's own file"]],
    ["two roles whose vars contradict", { "nodes/n1.yaml": "roles: [a, b]\n", "roles/a.yaml": "vars: {x: 1}\n", "roles/b.yaml": "vars: {x: 2}\n" }, ["contradict each other: vars.x"]],
    ["a var that is a map", { "nodes/n1.yaml": "vars: {x: {y: 1}}\n" }, ["nodes/n1.yaml:1:8: error: vars.x: expected text, a number, true or false or a list, found a map"]],
    ["a template that fails, with its user", { "nodes/n1.yaml": "texts:\n  a: {content: {template: t.eta}}\n", "files/t.eta": "\n<%= it.vars.x %>" }, ["files/t.eta:2:13: error: it.vars.x is not set", "nodes/n1.yaml:2:27: note: it is used here, for node n1"]],
    ["a template that includes what is not there", { "nodes/n1.yaml": "texts:\n  a: {content: {template: t.eta}}\n", "files/t.eta": "<%= include('u.eta') %>" }, ["files/t.eta:1:14: error: there is no files/u.eta"]],
    ["a content of 11 MiB", { "files/big": new Uint8Array(CONTENT_SIZE_BYTES_MAX + 1) }, ["files/big:1:1: error: the file is 10485761 bytes long"]],
    ["a YAML file of 20 MB", { "nodes/n1.yaml": new Uint8Array(20_000_000).fill(0x20) }, ["nodes/n1.yaml:1:1: error: the file is 20000000 bytes long"]],
    ["too many files", Object.fromEntries(Array.from({ length: REPOSITORY_FILES_MAX + 1 }, (_, index) => [`files/${index}`, ""])), [`at most ${REPOSITORY_FILES_MAX} are read`]],
    ["too many nodes", Object.fromEntries(Array.from({ length: NODES_MAX + 1 }, (_, index) => [`nodes/n${index}.yaml`, ""])), [`at most ${NODES_MAX} may be in one cluster`]],
    ["a node's name that is none", { "nodes/Node_1.yaml": "" }, [`"Node_1" cannot be a node's name`]],
    ["a tab, a duplicate, a bomb: all told", { "nodes/n1.yaml": "a:\n\tb: 1\n", "nodes/n2.yaml": "vars: {a: 1, a: 2}\n", "roles/r.yaml": `a: &a [1]\nb: [${"*a,".repeat(101)}]\n` }, ["nodes/n1.yaml:2:1: error: a tab", "nodes/n2.yaml:1:14: error: the key", "roles/r.yaml:2:305: error: more than 100 aliases", "3 errors in 3 files"]],
  ];
  test.each(rows)("%s", async (_name, files, expected) => {
    const text = await diagnose("cluster.yaml" in files || _name === "no cluster.yaml" ? files : { "cluster.yaml": cluster, ...files });
    for (const each of expected) expect(text).toContain(each);
    expect(text).toMatch(/\d+ errors? .*in \d+ files?\n$/);
  });

  const clusters: readonly (readonly [string, string, readonly string[]])[] = [
    ["an unknown field", `${cluster}guards: {}\n`, ['cluster.yaml:4:1: error: unknown field "guards"', 'did you mean "guard"?']],
    ["no signers", "name: a\n", ['error: the file lacks "signers"']],
    ["no signer", "name: a\nsigners: []\n", ["cluster.yaml:2:10: error: signers: at least one signer"]],
    ["two signers of one name", `${cluster}  - {name: ada, ssh: "${key}"}\n`, ['cluster.yaml:4:12: error: a signer named "ada" is listed twice']],
    ["a name that is no label", cluster.replace("cupboard", "My_Cluster"), [`cluster.yaml:1:7: error: name: a cluster's name is lower-case letters`, 'found "My_Cluster"']],
    ["a key cut short", cluster.replace("2r8hZQq0b7Vw4kM3C9d", ""), ["signers[0].ssh: the key"]],
    ["a private key", cluster.replace(key, "-----BEGIN OPENSSH PRIVATE KEY-----"), ["this is a private key: it must never be in a repository"]],
    ["a signer with a mistyped field", cluster.replace("ssh:", "shs:"), ['unknown field "shs" in signers[0]', 'did you mean "ssh"?']],
    ["a group with a stranger", `${cluster}groups:\n  quorum: {members: [n1, n9]}\n`, ['cluster.yaml:5:26: error: group "quorum" has a member "n9", but there is no nodes/n9.yaml', 'did you mean "n1"?']],
    ["a member twice", `${cluster}groups:\n  quorum: {members: [n1, n1]}\n`, ['"n1" is listed twice']],
    ["a guard below its bounds", `${cluster}guard: {removalsMax: -1}\n`, ["guard.removalsMax: must be at least 0"]],
  ];
  test.each(clusters)("cluster.yaml: %s", async (_name, text, expected) => {
    const told = await diagnose({ "cluster.yaml": text, "nodes/n1.yaml": "things: {jq: 7}\n" });
    for (const each of expected) expect(told).toContain(each);
    // The rest of the repository is looked at all the same.
    expect(told).toContain("nodes/n1.yaml:1:14: error: things.jq");
  });

  test("the same mistake of a role is told once, whatever number of nodes has it", async () => {
    const nodes = Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`nodes/n${index}.yaml`, "roles: [r]\n"]));
    expect(await diagnose({ "cluster.yaml": cluster, ...nodes, "roles/r.yaml": "things: {jq: 7}\n" })).toContain("1 error in 1 file");
  });

  test("an endless template is waited for once", async () => {
    const nodes = Object.fromEntries(Array.from({ length: 5 }, (_, index) => [`nodes/n${index}.yaml`, "texts:\n  a: {content: {template: t.eta}}\n"]));
    const loaded = await loadRepository(memoryTree({ "cluster.yaml": cluster, ...nodes, "files/t.eta": "<% for (;;) {} %>" }), kinds);
    expect(loaded.ok ? [] : loaded.diagnostics.map((each: Diagnostic) => each.message)).toEqual(["the template did not end within 2000 ms"]);
  });
});

describe("what is only a warning", () => {
  test.each([
    ["a role that no node has", { "roles/spare.yaml": "things: {jq: present}\n" }, 'roles/spare.yaml:1:1: warning: no node has the role "spare"'],
    ["another ending", { "nodes/n3.yml": "" }, "rename it to nodes/n3.yaml"],
    ["a file that is no YAML", { "roles/notes.txt": "" }, "move it out of roles/"],
    ["a folder in nodes/", { "nodes/old/n9.yaml": "" }, "nodes/ has no folders in it"],
    ["null for nothing", { "nodes/n2.yaml": "things: {zz: null}\n" }, "no role sets things.zz here"],
  ] as const)("%s", async (_name, files, expected) => {
    const loaded = await loadRepository(memoryTree({ ...good, ...files }), kinds);
    expect(loaded.ok).toBe(true);
    expect(loaded.ok ? formatDiagnostics(loaded.warnings) : "").toContain(expected);
  });

  test("an unused role is checked all the same, but may be incomplete", async () => {
    expect(await diagnose({ ...good, "roles/spare.yaml": "texts: {a: {mode: '0600'}}\n" })).not.toContain("lacks");
    expect(await diagnose({ ...good, "roles/spare.yaml": "things: {jq: 7}\n" })).toContain("roles/spare.yaml:1:14: error: things.jq");
  });
});

describe("loadNode", () => {
  const load = (files: Files, name = "n1") => loadNode(memoryTree(files), kinds, name);
  test("is not kept from its own node by what is wrong with another", async () => {
    const broken = { ...good, "nodes/n2.yaml": "a:\n\tb\n", "nodes/n3.yaml": "roles: [nope]\n", "nodes/BAD.yaml": "", "roles/other.yaml": "{{{", "files/big": new Uint8Array(CONTENT_SIZE_BYTES_MAX + 1) };
    expect((await load(broken)).ok).toBe(true);
    expect((await loadRepository(memoryTree(broken), kinds)).ok).toBe(false);
  });

  test.each([
    ["its own file", { "nodes/n1.yaml": "thigns: {}\n" }, "nodes/n1.yaml:1:1"],
    ["a role of a role", { "roles/base.yaml": "things: {zz: 7}\n" }, "roles/base.yaml:1:14"],
    ["a role that is a link", { "roles/base.yaml": { type: "link" } }, "roles/base.yaml:1:1: error: this is a symbolic link"],
    ["cluster.yaml", { "cluster.yaml": "name: x\n" }, "cluster.yaml:1:1"],
    ["a content of its own", { "files/a/plain": { type: "link" } }, "roles/base.yaml:8:21: error: files/a/plain is a symbolic link"],
  ] as const)("is kept by %s", async (_name, files, expected) => {
    const loaded = await load({ ...good, ...files });
    expect(loaded.ok ? "" : formatDiagnostics(loaded.diagnostics)).toContain(expected);
  });

  test("says so when there is no such node", async () => {
    const loaded = await load(good, "n11");
    expect(loaded.ok ? "" : formatDiagnostics(loaded.diagnostics)).toContain('nodes/n11.yaml:1:1: error: there is no nodes/n11.yaml\nhelp: did you mean "n1"?');
  });
});

describe("what follows from the other nodes", () => {
  /** Everyone else who is in the same ring, by address; a number may be taken once. */
  const ring: SectionKind = {
    name: "ring",
    schema: z.strictObject({ number: z.int(), neighbours: z.array(z.string()).default([]) }),
    resolve(want, { nodes, self }) {
      const mine = want as { number: number };
      const others = nodes.filter(({ name, section }) => name !== self && section !== null);
      const clash = others.find(({ section }) => (section as { number: number }).number === mine.number);
      return {
        want: { ...mine, neighbours: others.map(({ address }) => address ?? "?") },
        misfits: clash === undefined ? [] : [{ path: ["number"], message: `${mine.number} is the number of ${clash.name}`, help: "take another" }],
      };
    },
  };
  const all = [...kinds, ring];
  const files = (numbers: Readonly<Record<string, number>>): Files => ({
    "cluster.yaml": cluster,
    "roles/ringed.yaml": "ring: {number: 9}\n",
    ...Object.fromEntries(Object.entries(numbers).map(([name, number]) => [`nodes/${name}.yaml`, `address: 10.0.0.${number}\n${number === 9 ? "roles: [ringed]\n" : `ring:\n  number: ${number}\n`}`])),
  });

  test("is filled in alike for all nodes and for one", async () => {
    const tree = memoryTree(files({ n1: 1, n2: 2, n3: 9 }));
    const loaded = await loadRepository(tree, all);
    const alone = await loadNode(tree, all, "n1");
    if (!loaded.ok || !alone.ok) throw new Error("both must load");
    expect(loaded.repository.nodes.get("n1" as never)?.sections.get("ring")).toEqual({ number: 1, neighbours: ["10.0.0.2", "10.0.0.9"] });
    expect(alone.node.sections).toEqual(loaded.repository.nodes.get("n1" as never)?.sections);
  });

  test("what does not fit is told at its line, on both", async () => {
    const loaded = await loadRepository(memoryTree({ ...files({ n1: 1, n2: 2 }), "nodes/n3.yaml": "ring:\n  number: 2\n" }), all);
    expect(loaded.ok ? [] : loaded.diagnostics.filter(({ severity }) => severity === "error").map(({ file, line, column, message }) => `${file}:${line}:${column} ${message}`)).toEqual(["nodes/n2.yaml:3:11 ring.number: 2 is the number of n3", "nodes/n3.yaml:2:11 ring.number: 2 is the number of n2"]);
  });

  test("a node does not guess what one is that cannot be read, if it minds", async () => {
    const broken: Files = { ...files({ n1: 1, n2: 2 }), "nodes/n3.yaml": "ring: {number: many}\n", "nodes/n4.yaml": "address: 10.0.0.4\n" };
    const minds = await loadNode(memoryTree(broken), all, "n1");
    expect(minds.ok ? "" : formatDiagnostics(minds.diagnostics)).toContain("depends on the other nodes, and not all of them can be read");
    expect((await loadNode(memoryTree(broken), all, "n4")).ok).toBe(true);
  });
});
