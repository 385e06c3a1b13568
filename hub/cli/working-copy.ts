import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join, relative, resolve } from "node:path";
import { PREVIEW_TRAILER, previewName, THROWAWAY_PREFIX } from "../../shared/protocol/preview.ts";
import type { Connection } from "./connection.ts";
import { runProgram, type Ran } from "./run-git.ts";
import type { Terminal } from "./terminal.ts";

/**
 * A working copy as a signed throw-away commit on top of HEAD, pushed to a branch of its own. The index, the branch, the
 * files and the objects of the repository stay as they are: the commit is made in a directory beside it, and pushed from there.
 */

export interface SentCopy {
  readonly branch: string;
  readonly name: string;
  readonly commit: string;
  /** Deletes the branch where it was pushed to; false when that did not work. Not needed for the hub's own repository. */
  forget(): Promise<boolean>;
}

export type Sent = { readonly ok: true; readonly copy: SentCopy } | { readonly ok: false; readonly message: string };

type GitRun = (...args: string[]) => Promise<Ran>;

/** What must never leave the machine with the working copy: `evenkeel login --here` keeps a token there. */
const PRIVATE = ".evenkeel/hub.json";

/** @param remote a remote of the repository, for nodes that follow another Git host; undefined for the hub's own. */
export async function sendWorkingCopy(parts: { readonly root: string; readonly connection: Connection; readonly remote: string | undefined; readonly terminal: Terminal; readonly id: string }): Promise<Sent> {
  const { root, terminal, id } = parts;
  const scratch = await mkdtemp(join(tmpdir(), "evenkeel-plan-"));
  try {
    const name = `${previewName(THROWAWAY_PREFIX)}${await userName(root, terminal)}-${id}`;
    const made = await makeCommit(root, scratch, name, terminal);
    if (!made.ok) return made;
    const branch = `preview/${name}`;
    const target = await pushTarget(parts.connection, parts.remote, scratch);
    const push = ["push", "--quiet", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"];
    const pushed = await runProgram(["git", "-C", root, ...push, target.to, `${made.commit}:refs/heads/${branch}`], { cwd: root, env: { ...terminal.env, ...made.env, ...target.env } });
    if (pushed.code !== 0) return { ok: false, message: explainPush(pushed.stderr, parts.remote ?? parts.connection.hub) };
    const forget = async (): Promise<boolean> => {
      if (parts.remote === undefined) return true;
      return (await runProgram(["git", "-C", root, ...push, "--delete", target.to, `refs/heads/${branch}`], { cwd: root, env: { ...terminal.env, GIT_TERMINAL_PROMPT: "0" } })).code === 0;
    };
    return { ok: true, copy: { branch, name, commit: made.commit, forget } };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

type Made = { readonly ok: true; readonly commit: string; readonly env: Readonly<Record<string, string>> } | { readonly ok: false; readonly message: string };

async function makeCommit(root: string, scratch: string, name: string, terminal: Terminal): Promise<Made> {
  const look: GitRun = (...args) => runProgram(["git", "-C", root, ...args], { cwd: root, env: terminal.env });
  const [top, head] = [await look("rev-parse", "--show-toplevel"), await look("rev-parse", "--verify", "--quiet", "HEAD")];
  if (top.code === 127) return refused("git is not installed here: install it, since a preview is a commit");
  if (top.code !== 0) return refused(`${root} is no Git repository, and a preview is a commit on top of what was pushed: clone the cluster's repository, and run this in the clone`);
  if (relative(resolve(top.stdout.trim()), resolve(root)) !== "") return refused(`${root} holds cluster.yaml, but the Git repository begins at ${top.stdout.trim()}: nodes look for cluster.yaml at its top`);
  if (head.code !== 0) return refused("there is no commit yet to put a preview on: commit and push the main branch first");
  const keyless = await signingProblem(look);
  if (keyless !== null) return refused(keyless);

  const objects = join(scratch, "objects");
  await mkdir(objects);
  const paths = await look("rev-parse", "--path-format=absolute", "--git-path", "objects", "--git-path", "index");
  const [ownObjects = "", ownIndex = ""] = paths.stdout.split("\n");
  const env = { GIT_INDEX_FILE: join(scratch, "index"), GIT_OBJECT_DIRECTORY: objects, GIT_ALTERNATE_OBJECT_DIRECTORIES: [ownObjects, terminal.env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] ?? ""].filter((path) => path !== "").join(":") };
  const git: GitRun = (...args) => runProgram(["git", "-C", root, ...args], { cwd: root, env: { ...terminal.env, ...env } });
  // The copy of the index knows what is tracked and what has not changed; without one, all is read.
  const copied = await copyFile(ownIndex, env.GIT_INDEX_FILE).then(() => true, () => false);
  if (!copied) await git("read-tree", "HEAD");
  const added = await git("add", "--all", "--", ":/", `:(top,exclude)${PRIVATE}`);
  if (added.code !== 0) return refused(`git could not take in the working copy: ${lastWords(added)}`);
  const tree = await git("write-tree");
  if (tree.code !== 0) return refused(`git could not take in the working copy: ${lastWords(tree)}`);
  const message = ["-m", "A working copy, to be looked at", "-m", `${PREVIEW_TRAILER}: ${name}`];
  const commit = await git("commit-tree", "-S", "-p", "HEAD", ...message, tree.stdout.trim());
  if (commit.code !== 0) return refused(`the preview could not be signed, and nodes plan only what is signed: ${lastWords(commit)}\n${howToSign}`);
  return { ok: true, commit: commit.stdout.trim(), env };
}

const howToSign = "Say with which key: git config gpg.format ssh; git config user.signingKey ~/.ssh/id_ed25519.pub (its public half stands under signers in cluster.yaml). With OpenPGP: git config user.signingKey KEYID";

/** For SSH, git has no key to fall back on; for OpenPGP, gpg takes the one with the committer's address. */
async function signingProblem(look: GitRun): Promise<string | null> {
  const setting = async (name: string): Promise<string> => (await look("config", "--get", name)).stdout.trim();
  if ((await setting("gpg.format")) !== "ssh") return null;
  if ((await setting("user.signingkey")) !== "" || (await setting("gpg.ssh.defaultkeycommand")) !== "") return null;
  return `there is no key to sign the preview with, and nodes plan only what is signed. ${howToSign}`;
}

/** Where to push, and with what: the token goes by the environment, where nobody else on the machine reads it. */
async function pushTarget({ hub, token, ca }: Connection, remote: string | undefined, scratch: string): Promise<{ readonly to: string; readonly env: Readonly<Record<string, string>> }> {
  if (remote !== undefined) return { to: remote, env: { GIT_TERMINAL_PROMPT: "0" } };
  const before = Number(process.env["GIT_CONFIG_COUNT"] ?? 0) || 0;
  const header = `Authorization: Basic ${Buffer.from(`evenkeel:${token}`).toString("base64")}`;
  const env: Record<string, string> = { GIT_TERMINAL_PROMPT: "0", GIT_CONFIG_COUNT: String(before + 1), [`GIT_CONFIG_KEY_${before}`]: `http.${hub}/.extraHeader`, [`GIT_CONFIG_VALUE_${before}`]: header };
  if (ca !== undefined) {
    const path = join(scratch, "ca.pem");
    await writeFile(path, ca, { mode: 0o600 });
    env["GIT_SSL_CAINFO"] = path;
  }
  return { to: `${hub}/cluster.git`, env };
}

/** What the hub said, as it stands in its own words; else what git said. */
function explainPush(stderr: string, to: string): string {
  const lines = stderr.split("\n").map((line) => line.trimEnd());
  const said = lines.filter((line) => line.startsWith("remote: ")).map((line) => line.slice("remote: ".length));
  if (said.length > 0) return said.join("\n").replace(/^evenkeel: (refused: )?/, "");
  return `the preview could not be pushed to ${to}: ${lines.filter((line) => line !== "").slice(-3).join(" ").slice(0, 600)}`;
}

async function userName(root: string, terminal: Terminal): Promise<string> {
  const configured = await runProgram(["git", "-C", root, "config", "--get", "user.name"], { cwd: root, env: terminal.env });
  const name = configured.stdout.trim() || userInfo().username;
  return name.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 30) || "somebody";
}

function lastWords({ stderr }: Ran): string {
  return stderr.trim().split("\n").slice(-4).join(" ").slice(0, 600);
}

function refused(message: string): { readonly ok: false; readonly message: string } {
  return { ok: false, message };
}
