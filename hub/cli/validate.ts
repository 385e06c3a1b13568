import { stat } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { Command } from "commander";
import { count, formatDiagnostics, summarize } from "../../shared/config/diagnostic.ts";
import type { Diagnostic } from "../../shared/config/diagnostic.ts";
import { loadRepository } from "../../shared/config/repository.ts";
import type { Repository } from "../../shared/config/repository.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { kinds as allKinds } from "../../shared/kinds/index.ts";
import { processTerminal } from "./terminal.ts";
import type { Terminal } from "./terminal.ts";
import { findRepository, workTree } from "./work-tree.ts";

export interface ValidateOptions {
  /** Undefined: the repository that the current directory is in. */
  readonly directory?: string | undefined;
  readonly json?: boolean;
}

/** Checks a cluster repository as it lies in a directory. Answers the exit code: 0 good, 1 with errors, 2 when there is nothing to check. */
export async function validate(options: ValidateOptions, terminal: Terminal, kinds: readonly SectionKind[] = allKinds): Promise<number> {
  const root = await repositoryRoot(options.directory, terminal);
  if (root === undefined) return 2;
  const loaded = await loadRepository(workTree(root), kinds);
  const diagnostics = loaded.ok ? loaded.warnings : loaded.diagnostics;
  if (options.json === true) {
    const counts = loaded.ok ? countRepository(loaded.repository) : undefined;
    terminal.out(`${JSON.stringify({ ok: loaded.ok, ...counts, diagnostics }, null, 2)}\n`);
    return loaded.ok ? 0 : 1;
  }
  terminal.err(formatDiagnostics(seenFrom(terminal.cwd, root, diagnostics), { color: terminal.color }));
  if (!loaded.ok) return 1;
  const { nodes, resources } = countRepository(loaded.repository);
  terminal.out(`ok: ${count(nodes, "node")}, ${count(resources, "resource")}${diagnostics.length > 0 ? `; ${summarize(diagnostics)}` : ""}\n`);
  return 0;
}

/** The directory to look at, or undefined after having said what is wrong with it. */
export async function repositoryRoot(directory: string | undefined, terminal: Terminal): Promise<string | undefined> {
  if (directory === undefined) return findRepository(terminal.cwd);
  const root = resolve(terminal.cwd, directory);
  const found = await stat(root).catch(() => undefined);
  if (found?.isDirectory() === true) return root;
  terminal.err(`evenkeel: ${directory} is not a directory. Give the directory that holds cluster.yaml.\n`);
  return undefined;
}

/** Paths as the person sees them from where they are, so that a terminal can open them. */
export function seenFrom(cwd: string, root: string, diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  const prefix = relative(cwd, root);
  if (prefix === "") return diagnostics;
  const move = <P extends { readonly file: string }>(place: P): P => ({ ...place, file: join(prefix, place.file) });
  return diagnostics.map((each) => ({ ...move(each), ...(each.notes && { notes: each.notes.map(move) }) }));
}

function countRepository(repository: Repository): { nodes: number; resources: number } {
  let resources = 0;
  for (const node of repository.nodes.values()) {
    for (const section of node.sections.keys()) {
      const merged = node.merged[section];
      if (typeof merged === "object" && merged !== null) resources += Object.keys(merged).length;
    }
  }
  return { nodes: repository.nodes.size, resources };
}

export function validateCommand(terminal: Terminal = processTerminal()): Command {
  return new Command("validate")
    .description("check a cluster repository: all mistakes, with file, line, column and what to write instead")
    .argument("[dir]", "where the repository is (default: the one that the current directory is in)")
    .option("--json", "print the result as JSON")
    .action(async (directory: string | undefined, options: { json?: boolean }) => {
      terminal.exit(await validate({ directory, ...options }, terminal));
    });
}
