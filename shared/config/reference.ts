import { Cluster, nodeFields } from "./cluster.ts";
import { inputSchema } from "./json-schema.ts";
import type { DocumentedKind, JsonSchema } from "./json-schema.ts";
import { RecipientsFile } from "../secrets/recipients-file.ts";

/** A YAML file to take examples from. */
export interface ExampleFile {
  /** As it is named in the page: `git-config/roles/web.yaml`. */
  readonly path: string;
  readonly text: string;
}

/** The reference: page → Markdown. One page a kind, one for cluster.yaml, one for what all nodes' files have, and an index. */
export function referencePages(kinds: readonly DocumentedKind[], examples: readonly ExampleFile[]): ReadonlyMap<string, string> {
  const pages = new Map<string, string>();
  pages.set("README.md", index(kinds));
  pages.set("cluster.md", clusterPage(examples));
  pages.set("node.md", nodePage(kinds));
  pages.set("secrets.md", secretsPage());
  for (const kind of kinds) pages.set(`${kind.name}.md`, kindPage(kind, examples));
  return pages;
}

const generated = "<!-- Made from the schemas by `npm run schema`; changes here are overwritten. -->";

function page(...parts: readonly string[]): string {
  return `${[generated, ...parts.filter((part) => part !== "")].join("\n\n")}\n`;
}

function index(kinds: readonly DocumentedKind[]): string {
  return page(
    "# Reference",
    "What can be written in a cluster repository. The schemas that this is made from are the ones that check it.",
    table(["file", "holds"], [
      ["[`cluster.yaml`](cluster.md)", "the cluster as a whole: its name, who may change it, how careful the agents are"],
      ["[`nodes/NAME.yaml`](node.md)", "one node: its address, its roles, its own settings"],
      ["[`roles/NAME.yaml`](node.md)", "settings that nodes share"],
      ["`files/`", "what settings refer to; `*.eta` are templates"],
      ["[`secrets/`](secrets.md)", "what only some nodes may read, encrypted, and who may"],
    ]),
    "## Sections of a node's or role's file",
    table(["section", "for"], kinds.map((kind) => [`[\`${kind.name}\`](${kind.name}.md)`, kind.summary])),
  );
}

function clusterPage(examples: readonly ExampleFile[]): string {
  const example = examples.find((each) => each.path.endsWith("cluster.yaml"));
  return page("# cluster.yaml", "The cluster as a whole.", fieldTable(inputSchema(Cluster)), example === undefined ? "" : `## Example\n\nFrom \`${example.path}\`:\n\n${fence(example.text)}`);
}

function nodePage(kinds: readonly DocumentedKind[]): string {
  const fields = Object.entries(nodeFields).map(([name, schema]) => row(`\`${name}\``, inputSchema(schema), false));
  return page(
    "# nodes/NAME.yaml and roles/NAME.yaml",
    "A node's file has these fields, and the sections below. A role's file has the same but for `address`.",
    table(columns, fields),
    `Sections: ${kinds.map((kind) => `[\`${kind.name}\`](${kind.name}.md)`).join(", ")}.`,
    "## How files are merged",
    "Maps are merged key by key. What stands in a node's own file wins over its roles; a role wins over the roles that it includes under `roles:`; scalars and lists are replaced as a whole. `null` takes away what a role sets. Two roles of which neither includes the other must not set the same thing differently, unless the node's own file settles it. `vars` of `cluster.yaml` come first, and roles and nodes may change them. `evenkeel render NODE` shows the result, and which line each value came from.",
    "## Content",
    contentText,
    templateText,
  );
}

const contentText = `Wherever the reference says *content*, there are four ways to write it:

\`\`\`yaml
content: "the text itself\\n"
content: {file: motd}            # files/motd, byte for byte
content: {template: motd.eta}    # files/motd.eta, filled in for the node
content: {secret: app-key}       # secrets/app-key.age, decrypted on the node
\`\`\``;

const templateText = `A template is text with JavaScript in it: \`<%= it.vars.port %>\` prints a value, \`<% for (const node of it.cluster.nodes) { %> … <% } %>\` runs code; a line that holds only code leaves no line behind. \`include("other.eta")\` takes in another template below \`files/\`. A template sees:

| name | is |
| --- | --- |
| \`it.node.name\`, \`it.node.address\` | the node it is filled in for |
| \`it.vars.NAME\` | the node's vars |
| \`it.secret("NAME")\` | a [secret](secrets.md) that the node may read |
| \`it.cluster.name\` | the cluster's name |
| \`it.cluster.nodes\` | all nodes, each with \`name\` and \`address\` |

Asking for what is not set is an error, and so is printing nothing. There is no clock, no chance, no file and no network in a template: it gives the same text each time.`;

const secretsText = `A secret is a file below \`secrets/\`, encrypted by age to the nodes that may read it and to the cluster's owners; the \`age\` command reads it as well. The hub holds no key, and sees no secret. A plan says that one has changed, not to what.

\`\`\`sh
evenkeel secret key                        # your own key, once; it prints what to write into cluster.yaml
evenkeel secret trust n1                   # writes n1's recipient into nodes/n1.yaml; compare it with the node's
evenkeel secret set bgp --roles routes     # for all nodes with that role; the value is typed unseen, or read from a pipe
evenkeel secret who                        # who may read each, who can, and who lacks what
evenkeel secret rotate --all               # encrypts anew, for those who shall read them now
\`\`\`

Any text of a section can be one, and so can a file's content; a template asks for one by \`it.secret("NAME")\`:

\`\`\`yaml
frr:
  bgp:
    neighbors:
      n2: {password: {secret: bgp}}
files:
  /etc/app/key:
    content: {secret: app-key}
    mode: "0600"
\`\`\`

A node's key is made at its enrolment and never leaves it (\`/etc/evenkeel/age.txt\`). When it is lost, the node makes another: \`evenkeel secret trust\` and \`rotate\` give it its secrets back. Who once could read a secret may have kept it: change what it protects when a node or an owner leaves.`;

function secretsPage(): string {
  const schema = inputSchema(RecipientsFile);
  const entry = entryOf(schema);
  return page("# secrets/", secretsText, "## secrets/recipients.yaml", schema.description === undefined ? "" : `${schema.description}.`, ...(entry === undefined ? [] : entryParts(entry)));
}

function kindPage(kind: DocumentedKind, examples: readonly ExampleFile[]): string {
  const schema = inputSchema(kind.schema);
  const parts = [`# ${kind.name}`, `${kind.summary}.`.replace(/\.\.$/, ".")];
  const entry = entryOf(schema);
  if (entry === undefined) parts.push(fieldTable(schema));
  else parts.push(schema.description === undefined ? "" : `\`${kind.name}:\` is a map. ${schema.description}.`.replace(/\.\.$/, "."), ...entryParts(entry));
  if (JSON.stringify(schema).includes('"template"')) parts.push("*content* is text, `{file: NAME}` or `{template: NAME.eta}`: see [content](node.md#content).");
  const example = settings(examples).map((each) => ({ path: each.path, text: sectionText(each.text, kind.name) })).find((each) => each.text !== undefined);
  if (example?.text !== undefined) parts.push("## Example", example.path.startsWith("git-config/") ? `From \`${example.path}\`:` : "", fence(example.text));
  return page(...parts);
}

/** Files with sections in them: cluster.yaml has groups of its own. */
function settings(examples: readonly ExampleFile[]): readonly ExampleFile[] {
  return examples.filter((each) => !each.path.endsWith("cluster.yaml"));
}

/** What each entry of a map looks like, or undefined when the keys are fixed. */
function entryOf(schema: JsonSchema): JsonSchema | undefined {
  return typeof schema.additionalProperties === "object" && schema.properties === undefined ? schema.additionalProperties : undefined;
}

/** An entry may have several forms: short ones as a list, and a table of fields for each that is a map. */
function entryParts(entry: JsonSchema): readonly string[] {
  const forms = branchesOf(entry);
  const short = forms.filter((form) => form.properties === undefined);
  const full = forms.filter((form) => form.properties !== undefined);
  const parts: string[] = [];
  if (short.length > 0) {
    parts.push(full.length > 0 ? "In short, an entry is:" : "An entry is:");
    parts.push(short.map((form) => `- ${typeText(form)}${form.description === undefined ? "" : `: ${lowerFirst(form.description)}`}`).join("\n"));
  }
  for (const form of full) {
    if (full.length > 1) parts.push(`### ${form.description ?? "In full"}`);
    else if (short.length > 0) parts.push("In full, it has these fields:");
    else parts.push("Each entry has these fields:");
    parts.push(fieldTable(form));
  }
  return parts;
}

function branchesOf(schema: JsonSchema): readonly JsonSchema[] {
  const branches = schema.anyOf ?? schema.oneOf;
  return branches === undefined ? [schema] : branches.flatMap((branch) => branchesOf({ ...(schema.description !== undefined && branches.length === 1 && { description: schema.description }), ...branch }));
}

const columns = ["field", "type", "default", "meaning"];

function fieldTable(schema: JsonSchema): string {
  return table(columns, fieldRows(schema, ""));
}

function fieldRows(schema: JsonSchema, prefix: string): readonly (readonly string[])[] {
  const rows: (readonly string[])[] = [];
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const path = `${prefix}${name}`;
    rows.push(row(`\`${path}\``, field, schema.required?.includes(name) === true && field.default === undefined));
    rows.push(...nestedForms(branchesOf(field), path));
  }
  return rows;
}

/** The fields of all forms together; only what every form with fields demands is required. */
function nestedForms(forms: readonly JsonSchema[], path: string): readonly (readonly string[])[] {
  const lists = forms.map((form) => nestedRows(form, path)).filter((rows) => rows.length > 0);
  return distinct(lists.flat()).map((each) => {
    const everywhere = lists.every((rows) => rows.some((other) => other[0] === each[0]));
    return everywhere ? each : each.map((cell) => (cell === "*required*" ? "" : cell));
  });
}

/** Fields of a map within a field, of a map's entries, and of a list's items. */
function nestedRows(form: JsonSchema, path: string): readonly (readonly string[])[] {
  if (isContent(form)) return [];
  if (form.properties !== undefined) return fieldRows(form, `${path}.`);
  const entry = entryOf(form);
  if (entry !== undefined) return nestedForms(branchesOf(entry), `${path}.NAME`);
  return form.items === undefined ? [] : nestedForms(branchesOf(form.items), `${path}[]`);
}

/** Forms that share fields would list them twice. */
function distinct(rows: readonly (readonly string[])[]): readonly (readonly string[])[] {
  return rows.filter((each, at) => rows.findIndex((other) => other[0] === each[0]) === at);
}

function row(name: string, schema: JsonSchema, required: boolean): readonly string[] {
  const fallback = schema.default === undefined || isEmptyDefault(schema.default) ? "" : `\`${JSON.stringify(schema.default)}\``;
  return [name, typeText(schema), required ? "*required*" : fallback, schema.description ?? ""];
}

function isEmptyDefault(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

/** `{file: …}` or `{template: …}`, which are two of the three forms of content. */
function isContent(schema: JsonSchema): boolean {
  const names = Object.keys(schema.properties ?? {});
  return names.length === 1 && (names[0] === "file" || names[0] === "template");
}

function typeText(schema: JsonSchema): string {
  const forms = branchesOf(schema);
  if (forms.length > 1) {
    const withContent = forms.some(isContent);
    const texts = forms.filter((form) => !(withContent && (isContent(form) || form.type === "string"))).map(typeText);
    return [...new Set([...texts, ...(withContent ? ["*content*"] : [])])].join(" or ");
  }
  const [form = schema] = forms;
  if (form.const !== undefined) return `\`${JSON.stringify(form.const).replace(/^"|"$/g, "")}\``;
  if (form.enum !== undefined) return form.enum.map((each) => `\`${String(each)}\``).join(", ");
  switch (form.type) {
    case "string":
      return "text";
    case "integer":
    case "number":
      return `${form.type === "integer" ? "whole number" : "number"}${rangeText(form)}`;
    case "boolean":
      return "`true`, `false`";
    case "array":
      return `list of ${form.items === undefined ? "values" : typeText(form.items)}`;
    case "object":
      return entryOf(form) === undefined ? "map" : `map of ${typeText(entryOf(form) ?? {})}`;
    default:
      return "value";
  }
}

function rangeText({ minimum, maximum }: JsonSchema): string {
  const low = minimum !== undefined && minimum > Number.MIN_SAFE_INTEGER ? minimum : undefined;
  const high = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER ? maximum : undefined;
  if (low !== undefined && high !== undefined) return `, ${low} to ${high}`;
  if (low !== undefined) return `, at least ${low}`;
  return high === undefined ? "" : `, at most ${high}`;
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replace(/\|/g, "\\|").replace(/\s*\n\s*/g, " ")).join(" | ")} |`;
  return [line(heads), line(heads.map(() => "---")), ...rows.map(line)].join("\n");
}

function fence(yaml: string): string {
  return `\`\`\`yaml\n${yaml.trimEnd()}\n\`\`\``;
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}

/** The lines of one top-level section of a YAML file, with the comment above it. */
export function sectionText(yaml: string, name: string): string | undefined {
  const lines = yaml.split("\n");
  const start = lines.findIndex((line) => line === `${name}:` || line.startsWith(`${name}: `));
  if (start === -1) return undefined;
  let end = start + 1;
  while (end < lines.length && !/^[^\s#]/.test(lines[end] ?? "")) end++;
  // Comments before the next section belong to that one.
  while (end > start + 1 && /^(#.*|\s*)$/.test(lines[end - 1] ?? "")) end--;
  return `${lines.slice(start, end).join("\n")}\n`;
}
