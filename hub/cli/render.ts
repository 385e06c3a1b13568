import { Command } from "commander";
import { Document, isCollection, isScalar, visit } from "yaml";
import type { Node } from "yaml";
import { contentsIn } from "../../shared/config/contents.ts";
import { formatDiagnostics } from "../../shared/config/diagnostic.ts";
import { pointer } from "../../shared/config/located.ts";
import type { Path } from "../../shared/config/located.ts";
import { loadNode } from "../../shared/config/repository.ts";
import type { RenderedNode } from "../../shared/config/render.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { kinds as allKinds } from "../../shared/kinds/index.ts";
import { processTerminal } from "./terminal.ts";
import type { Terminal } from "./terminal.ts";
import { repositoryRoot, seenFrom } from "./validate.ts";
import { workTree } from "./work-tree.ts";

export interface RenderOptions {
  readonly node: string;
  readonly directory?: string | undefined;
  readonly json?: boolean;
  /** false leaves out where each value came from. */
  readonly provenance?: boolean;
  /** Prints this file below files/ as the node gets it, instead of the settings. */
  readonly file?: string | undefined;
}

/** Prints what the repository says about one node. Answers the exit code: 0, 1 with errors, 2 when there is nothing to look at. */
export async function render(options: RenderOptions, terminal: Terminal, kinds: readonly SectionKind[] = allKinds): Promise<number> {
  const root = await repositoryRoot(options.directory, terminal);
  if (root === undefined) return 2;
  const loaded = await loadNode(workTree(root), kinds, options.node);
  const diagnostics = loaded.ok ? loaded.warnings : loaded.diagnostics;
  if (options.json !== true || !loaded.ok) terminal.err(formatDiagnostics(seenFrom(terminal.cwd, root, diagnostics), { color: terminal.color }));
  if (!loaded.ok) return 1;
  const { node } = loaded;
  if (options.file !== undefined) return renderFile(node, options.file, terminal);
  const provenance = options.provenance !== false;
  if (options.json === true) terminal.out(`${JSON.stringify(asJson(node, provenance), null, 2)}\n`);
  else terminal.out(`# ${options.node}, as the repository says\n${asYaml(node, provenance)}`);
  return 0;
}

function renderFile(node: RenderedNode, file: string, terminal: Terminal): number {
  const contents = [...node.sections.values()].flatMap((section) => contentsIn(section));
  const wanted = file.replace(/^files\//, "");
  const content = contents.find(({ from }) => ("file" in from && from.file === wanted) || ("template" in from && from.template === wanted));
  if (content === undefined) {
    const names = [...new Set(contents.flatMap(({ from }) => ("file" in from ? [from.file] : "template" in from ? [from.template] : [])))].sort();
    terminal.err(`evenkeel: ${node.name} does not use files/${wanted}. It uses: ${names.join(", ") || "none"}.\n`);
    return 1;
  }
  terminal.out(new TextDecoder().decode(content.bytes));
  return 0;
}

function asJson(node: RenderedNode, provenance: boolean): object {
  const places = [...node.provenance].map(([path, { file, line, column }]) => [path, `${file}:${line}:${column}`] as const);
  return { name: node.name, ...node.merged, ...(provenance && { provenance: Object.fromEntries(places) }) };
}

/** The merged settings as YAML, each value with its file and line behind it. */
function asYaml(node: RenderedNode, provenance: boolean): string {
  const document = new Document(node.merged, { aliasDuplicateObjects: false });
  if (provenance) visit(document, { Node: (_key, value, parents) => annotate(node, value, parents) });
  const text = document.toString({ lineWidth: 0, flowCollectionPadding: false });
  return text === "{}\n" ? "{}\n" : alignComments(text);
}

type Parents = readonly (Document | Node | { readonly key: unknown })[];

function annotate(node: RenderedNode, value: Node, parents: Parents): void {
  if (isCollection(value) ? value.items.length > 0 : !isScalar(value)) return;
  const parent = parents.at(-1);
  // A pair's key is visited as a node, too.
  if (parent !== undefined && "key" in parent && parent.key === value) return;
  const at = node.provenance.get(pointer(pathOf(value, parents)));
  if (at !== undefined) value.comment = `${MARK}${at.file}:${at.line}`;
}

/** Found again when comments are aligned; not a character that settings hold. */
const MARK = "\u0001";

function pathOf(value: Node, parents: Parents): Path {
  const path: (string | number)[] = [];
  const chain = [...parents, value];
  for (const [index, parent] of chain.entries()) {
    if (typeof parent === "object" && "key" in parent && isScalar(parent.key)) path.push(String(parent.key.value));
    else if (isCollection(parent) && !("key" in parent) && index + 1 < chain.length) {
      const position = (parent.items as readonly unknown[]).indexOf(chain[index + 1]);
      // A map's items are pairs, which give their key above.
      if (position !== -1 && !isPairLike(chain[index + 1])) path.push(position);
    }
  }
  return path;
}

function isPairLike(value: unknown): boolean {
  return typeof value === "object" && value !== null && "key" in value;
}

const COMMENT_COLUMN_MAX = 60;

/** Puts the comments of neighbouring lines in one column, as far as that stays readable. */
function alignComments(text: string): string {
  const mark = ` #${MARK}`;
  const lines = text.split("\n");
  const widths = lines.flatMap((line) => (line.includes(mark) ? [line.indexOf(mark)] : [])).filter((width) => width <= COMMENT_COLUMN_MAX);
  const column = Math.max(0, ...widths);
  return lines.map((line) => {
    const at = line.indexOf(mark);
    return at === -1 ? line : `${line.slice(0, at).padEnd(column)}  # ${line.slice(at + mark.length)}`;
  }).join("\n");
}

export function renderCommand(terminal: Terminal = processTerminal()): Command {
  return new Command("render")
    .description("print what the repository says about one node, with where each value came from")
    .argument("<node>", "the node's name")
    .argument("[dir]", "where the repository is (default: the one that the current directory is in)")
    .option("--json", "print it as JSON")
    .option("--no-provenance", "leave out where each value came from")
    .option("--file <path>", "print this file below files/ as the node gets it, templates filled in")
    .action(async (node: string, directory: string | undefined, options: { json?: boolean; provenance?: boolean; file?: string }) => {
      terminal.exit(await render({ node, directory, ...options }, terminal));
    });
}
