import { formatDiagnostics } from "../../shared/config/diagnostic.ts";
import { CLUSTER_FILE } from "../../shared/config/layout.ts";
import { loadRepository, type Repository } from "../../shared/config/repository.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { signersIn } from "../../shared/config/signers.ts";
import type { Git } from "../../shared/git/git.ts";
import { verifyHistory, type VerifiedCommit } from "../../shared/git/history.ts";
import type { Scratch } from "../../shared/git/keyring.ts";
import type { Signer } from "../../shared/git/signers.ts";
import { gitTree } from "../../shared/git/tree.ts";
import { shortCommit } from "../../shared/ids.ts";
import { PREVIEW_BRANCH, PREVIEW_PREFIX, previewName } from "../../shared/protocol/preview.ts";
import { describeTip, plannable, type PreviewBranch } from "./preview-branches.ts";

/**
 * Decides whether a push may come in, and says why in the pusher's terminal. All of its refs come in, or none.
 * `git` sees the new objects, which are still in quarantine (git-receive-pack(1)).
 */

export interface RefUpdate {
  /** A commit id, or all zeros for "none". */
  readonly before: string;
  readonly after: string;
  readonly ref: string;
}

export interface PushQuestion {
  readonly git: Git;
  readonly updates: readonly RefUpdate[];
  readonly branch: string;
  /** The name that the hub's settings give the cluster. */
  readonly cluster: string;
  readonly kinds: readonly SectionKind[];
  readonly withScratch: <T>(work: (scratch: Scratch) => Promise<T>) => Promise<T>;
}

/** What a push makes of the main branch. */
export interface AcceptedMain {
  readonly tip: string;
  readonly commits: readonly VerifiedCommit[];
  readonly signers: readonly Signer[];
  readonly repository: Repository;
}

export interface PushVerdict {
  readonly ok: boolean;
  /** For people, some lines, ending with a line feed unless empty. */
  readonly text: string;
  /** Null when the push does not touch the main branch, or is refused. */
  readonly main: AcceptedMain | null;
  /** The other branches that the push brings or moves. */
  readonly previews: readonly PreviewBranch[];
  /** Branches that the push deletes. */
  readonly deleted: readonly string[];
}

export const refsPerPushMax = 20;
/** Branches in the repository: previews are for a while, and each is listed to every node that fetches. */
export const branchesMax = 200;

export async function checkPush(question: PushQuestion): Promise<PushVerdict> {
  const { updates, branch } = question;
  if (updates.length > refsPerPushMax) return refuse(`this push changes ${updates.length} branches; at most ${refsPerPushMax} are taken at once. Push them in parts.`);
  const mainRef = `refs/heads/${branch}`;
  for (const { ref } of updates) {
    if (ref.startsWith("refs/tags/")) return refuse(`${ref}: tags are not kept here, nodes follow branches only. Push without --tags (git config push.followTags false).`);
    if (!ref.startsWith("refs/heads/")) return refuse(`${ref}: only branches are kept here. Push to refs/heads/NAME.`);
  }
  if (updates.some(({ before }) => isNone(before)) && (await countBranches(question.git)) >= branchesMax) {
    return refuse(`there are ${branchesMax} branches already: delete previews that are over (git push REMOTE --delete NAME) and push again.`);
  }
  const texts: string[] = [];
  let main: AcceptedMain | null = null;
  const mainUpdate = updates.find(({ ref }) => ref === mainRef);
  if (mainUpdate !== undefined) {
    const verdict = await checkMain(question, mainUpdate);
    if (!verdict.ok) return verdict;
    texts.push(verdict.text);
    main = verdict.main;
  }
  const mainTip = main?.tip ?? (await revParse(question.git, mainRef));
  const previews: PreviewBranch[] = [];
  for (const update of updates) {
    if (update.ref === mainRef || isNone(update.after)) continue;
    const verdict = await checkPreview(question, update, mainTip);
    if (!verdict.ok) return verdict;
    texts.push(verdict.text);
    previews.push(...verdict.previews);
  }
  const deleted = updates.filter(({ after }) => isNone(after)).map(({ ref }) => ref.slice("refs/heads/".length));
  return { ok: true, text: texts.join(""), main, previews, deleted };
}

async function checkMain(question: PushQuestion, { before, after }: RefUpdate): Promise<PushVerdict> {
  const { git, branch } = question;
  if (isNone(after)) return refuse(`${branch} cannot be deleted: it is what the nodes are. To undo a change, \`git revert\` it and push that.`);
  const first = isNone(before);
  const signers = await signersAt(git, first ? after : before);
  if (signers === null) {
    return refuse(
      first
        ? `${CLUSTER_FILE} at ${shortCommit(after)} names no signers that can be read, so nobody could check this history. Write:\n    signers:\n      - name: ada\n        ssh: "ssh-ed25519 AAAA… (the line of your .pub file)"\n  \`evenkeel init DIR\` makes a repository that has it.`
        : `${CLUSTER_FILE} at ${shortCommit(before)}, the tip of ${branch} here, cannot be read any more: the hub's repository is damaged. Restore it from a backup.`,
    );
  }
  const verdict = await verify(question, first ? null : before, after, signers);
  if (!verdict.ok) {
    if (verdict.code === "rewritten" || verdict.code === "older") {
      return refuse(`this would rewrite history that nodes have applied: ${verdict.message}\n  ${branch} here is at ${shortCommit(before)}: \`git pull --rebase\`, then push without --force.`);
    }
    return refuse(verdict.message);
  }
  const loaded = await load(question, after);
  if (!loaded.ok) return loaded;
  const names = verdict.signers.map((signer) => signer.name).join(", ");
  const greeting = first ? `evenkeel: first push: from now on, ${branch} takes commits signed by: ${names} (from ${CLUSTER_FILE}).\n` : "";
  const done = `evenkeel: ${shortCommit(after)} is signed and valid; ${loaded.repository.nodes.size} node(s) are told to look.\n`;
  return { ok: true, text: `${loaded.text}${greeting}${done}`, main: { tip: after, commits: verdict.commits, signers: verdict.signers, repository: loaded.repository }, previews: [], deleted: [] };
}

/** A preview may be rewritten and deleted, but nodes plan it, so it has to be signed and valid as well. */
async function checkPreview(question: PushQuestion, { after, ref }: RefUpdate, mainTip: string | null): Promise<PushVerdict> {
  const { git, branch } = question;
  const name = ref.slice("refs/heads/".length);
  if (!PREVIEW_BRANCH.test(name)) return refuse(`${name.slice(0, 100)}: a branch's name here is made of letters, digits, ".", "_", "/" and "-", as nodes are asked for it by name. Push it under another one: git push REMOTE HEAD:${PREVIEW_PREFIX}NAME`);
  if (mainTip === null) return refuse(`${name}: there is nothing to compare a preview with yet. Push ${branch} first: git push REMOTE HEAD:${branch}`);
  const base = await git(["merge-base", mainTip, after]);
  const from = new TextDecoder().decode(base.stdout).trim();
  if (base.code !== 0 || from === "") return refuse(`${name} shares no history with ${branch}: start it from there (git switch -c ${name} REMOTE/${branch}).`);
  const signers = await signersAt(git, from);
  if (signers === null) return refuse(`${name}: ${CLUSTER_FILE} at ${shortCommit(from)}, where it leaves ${branch}, names no signers.`);
  const verdict = await verify(question, from, after, signers, { previews: true });
  if (!verdict.ok) return refuse(`${name}: ${verdict.message}`);
  const loaded = await load(question, after);
  if (!loaded.ok) return loaded;
  const preview: PreviewBranch = { branch: name, commit: after, base: from, ...(await describeTip(git, name, after)), nodes: plannable(loaded.repository) };
  const moved = from === mainTip ? "" : `evenkeel: warning: ${branch} has moved on since ${shortCommit(from)}, where ${name} leaves it: nodes that have followed cannot plan it. \`git rebase REMOTE/${branch}\`, and push it again.\n`;
  return { ok: true, text: `${loaded.text}${moved}${whatNow(preview)}`, main: null, previews: [preview], deleted: [] };
}

function whatNow({ branch, nodes, throwaway }: PreviewBranch): string {
  if (throwaway) return "";
  const name = previewName(branch);
  if (!branch.startsWith(PREVIEW_PREFIX)) return `evenkeel: ${branch} is a preview, nothing is applied: \`evenkeel plan --branch ${branch}\` asks the nodes what it would do. Pushed to ${PREVIEW_PREFIX}NAME, it is planned at once.\n`;
  return `evenkeel: ${branch} is a preview, nothing is applied: ${nodes?.length ?? 0} node(s) are asked what it would do. \`evenkeel plan --branch ${name}\` shows it, and so does the page, at /previews/${encodeURIComponent(name)}\n`;
}

function verify(question: PushQuestion, from: string | null, to: string, signers: readonly Signer[], allow: { readonly previews?: true } = {}) {
  return question.withScratch((scratch) => verifyHistory({ git: question.git, from, to, signers, signersIn, scratch, ...allow }));
}

async function load(question: PushQuestion, commit: string): Promise<(PushVerdict & { ok: false }) | { ok: true; text: string; repository: Repository }> {
  const loaded = await loadRepository(gitTree(question.git, commit), question.kinds);
  if (!loaded.ok) return { ok: false, text: `evenkeel: ${shortCommit(commit)} is not valid, nothing was changed:\n\n${formatDiagnostics(loaded.diagnostics)}`, main: null, previews: [], deleted: [] };
  const { cluster } = loaded.repository;
  if (cluster.name !== question.cluster) {
    return refuse(`${CLUSTER_FILE} says \`name: ${cluster.name}\`, but this hub is set up for the cluster ${question.cluster}. Write \`name: ${question.cluster}\`, or set \`cluster: ${cluster.name}\` in the hub's settings before the first node enrols.`);
  }
  if (cluster.branch !== question.branch) {
    return refuse(`${CLUSTER_FILE} says \`branch: ${cluster.branch}\`, but this hub is set up for ${question.branch}. Write \`branch: ${question.branch}\`, or set \`branch: ${cluster.branch}\` in the hub's settings.`);
  }
  return { ok: true, text: formatDiagnostics(loaded.warnings), repository: loaded.repository };
}

async function signersAt(git: Git, commit: string): Promise<readonly Signer[] | null> {
  const file = await git(["cat-file", "blob", `${commit}:${CLUSTER_FILE}`]);
  return file.code === 0 ? signersIn(file.stdout) : null;
}

async function countBranches(git: Git): Promise<number> {
  const refs = await git(["for-each-ref", `--count=${branchesMax}`, "--format=x", "refs/heads/"]);
  return new TextDecoder().decode(refs.stdout).split("\n").filter((line) => line !== "").length;
}

/** The commit a ref stands at, or null. */
export async function revParse(git: Git, ref: string): Promise<string | null> {
  const output = await git(["rev-parse", "--verify", "--quiet", `${ref}^{commit}`]);
  return output.code === 0 ? new TextDecoder().decode(output.stdout).trim() : null;
}

function isNone(commit: string): boolean {
  return /^0+$/.test(commit);
}

function refuse(message: string): PushVerdict & { ok: false } {
  return { ok: false, text: `evenkeel: refused: ${message}\n`, main: null, previews: [], deleted: [] };
}
