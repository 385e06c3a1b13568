import { mkdir, readdir, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { Command } from "commander";
import type { DocumentedKind } from "../../shared/config/json-schema.ts";
import { kinds as allKinds } from "../../shared/kinds/index.ts";
import { newRepository } from "./new-repository.ts";
import { runProgram } from "./run-git.ts";
import { findSigningKey } from "./signing-key.ts";
import type { SigningKey } from "./signing-key.ts";
import { processTerminal } from "./terminal.ts";
import type { Terminal } from "./terminal.ts";

export interface InitOptions {
  readonly directory: string;
  /** The cluster's name; without it, the directory's. */
  readonly name?: string | undefined;
  /** A public key file; without it, git's signing key or the one in ~/.ssh. */
  readonly sshKey?: string | undefined;
}

const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Makes a cluster repository with its first commit. Never overwrites anything. Answers the exit code. */
export async function init(options: InitOptions, terminal: Terminal, kinds: readonly DocumentedKind[] = allKinds): Promise<number> {
  const root = resolve(terminal.cwd, options.directory);
  const name = options.name ?? toLabel(basename(root));
  if (!NAME.test(name)) return fail(terminal, `${JSON.stringify(name)} cannot be a cluster's name: use lower-case letters, digits and hyphens, as in --name cupboard.`);
  const obstacle = await findObstacle(root);
  if (obstacle !== undefined) return fail(terminal, obstacle);
  const found = await findSigningKey(options.sshKey, terminal);
  if (!found.ok) return fail(terminal, found.message);

  await mkdir(root, { recursive: true });
  const started = await runProgram(["git", "init", "-q", "-b", "main"], { cwd: root, env: terminal.env });
  if (started.code !== 0) return fail(terminal, `git init failed: ${started.stderr.trim()}. Install git 2.34 or newer, and run this again.`);
  const signer = await signerName(root, terminal);
  const files = newRepository(name, signer, found.key, kinds);
  for (const [path, text] of files) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    // wx: whatever has appeared there since we looked is kept.
    await writeFile(join(root, path), text, { flag: "wx" });
  }
  const problem = await firstCommit(root, found.key, files, terminal);
  tell(terminal, { root, name, signer, key: found.key, problem });
  return 0;
}

function fail(terminal: Terminal, message: string): number {
  terminal.err(`evenkeel: ${message}\n`);
  return 1;
}

function toLabel(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63);
}

/** A new or empty directory will do, and so will a clone of an empty repository. */
async function findObstacle(root: string): Promise<string | undefined> {
  const names = await readdir(root).catch((error: NodeJS.ErrnoException) => error);
  if (!(names instanceof Error)) {
    const there = names.filter((each) => each !== ".git");
    return there.length === 0 ? undefined : `${root} is not empty (it has ${there.slice(0, 3).join(", ")}${there.length > 3 ? " …" : ""}), and nothing is ever overwritten. Give a new directory.`;
  }
  if (names.code === "ENOENT") return undefined;
  return names.code === "ENOTDIR" ? `${root} is a file. Give a new directory.` : `${root} cannot be read: ${names.message}`;
}

/** Whom git takes the committer for; else the login name. */
async function signerName(root: string, terminal: Terminal): Promise<string> {
  const email = await runProgram(["git", "config", "--get", "user.email"], { cwd: root, env: terminal.env });
  const candidate = email.stdout.trim();
  if (/^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$/.test(candidate)) return candidate;
  return toLabel(userInfo().username) || "owner";
}

/** Commits what was written, signed. Answers why not, when it could not; the files are there all the same. */
async function firstCommit(root: string, key: SigningKey, files: ReadonlyMap<string, string>, terminal: Terminal): Promise<string | undefined> {
  const git = (...args: string[]) => runProgram(["git", ...args], { cwd: root, env: terminal.env });
  const settings: readonly (readonly [string, string])[] = [
    ["gpg.format", key.type === "ssh" ? "ssh" : "openpgp"],
    ["user.signingkey", key.gitSetting],
    ["commit.gpgsign", "true"],
  ];
  for (const [name, value] of settings) await git("config", name, value);
  const added = await git("add", "--", ...files.keys());
  if (added.code !== 0) return added.stderr.trim();
  const committed = await git("commit", "-q", "-S", "-m", "The cluster begins");
  return committed.code === 0 ? undefined : committed.stderr.trim() || `git commit ended with ${committed.code}`;
}

function tell(terminal: Terminal, made: { readonly root: string; readonly name: string; readonly signer: string; readonly key: SigningKey; readonly problem: string | undefined }): void {
  const where = relative(terminal.cwd, made.root) || ".";
  const lines = [
    `made the cluster repository ${made.name} in ${where}`,
    `signer: ${made.signer}, with the ${made.key.type.toUpperCase()} key from ${made.key.from}`,
  ];
  if (made.problem === undefined) lines.push("first commit: signed, on branch main");
  else lines.push("", "The first commit could not be made; the files are written and staged. Git said:", ...made.problem.split("\n").slice(0, 10).map((line) => `  ${line}`), "Once that is mended: git commit -S -m 'The cluster begins'");
  lines.push(
    "",
    "Next:",
    ...(where === "." ? [] : [`  cd ${where}`]),
    "  edit nodes/n1.yaml             one file for each machine",
    "  evenkeel validate              see that it is right",
    "  evenkeel render n1             see what n1 will be",
    "  git commit -a && git push      once a remote is set: your Git host, or the hub",
    "",
  );
  terminal.out(lines.join("\n"));
}

export function initCommand(terminal: Terminal = processTerminal()): Command {
  return new Command("init")
    .description("make a new cluster repository, with its first signed commit")
    .argument("<dir>", "a directory that does not exist yet, or is empty")
    .option("--name <name>", "the cluster's name (default: the directory's)")
    .option("--ssh-key <file>", "the public key whose commits the nodes follow (default: git's user.signingkey, else ~/.ssh/id_ed25519.pub)")
    .action(async (directory: string, options: { name?: string; sshKey?: string }) => {
      terminal.exit(await init({ directory, ...options }, terminal));
    });
}
