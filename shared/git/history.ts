import type { CommitId } from "../ids.ts";
import type { Git } from "./git.ts";
import { makeKeyring } from "./keyring.ts";
import type { Scratch } from "./keyring.ts";
import { PREVIEW_TRAILER } from "../protocol/preview.ts";
import { keyOf } from "./signers.ts";
import type { Signer } from "./signers.ts";

/**
 * The signed history: may a repository's tip be believed, given what was believed last?
 *
 * - It must descend from the last commit believed: never back, never sideways.
 * - Every commit in between must be signed, each by a signer in force at *all* of its parents. So a key that was taken out
 *   cannot come back by a side branch, and a new key is let in by a commit that an old one signs (rotation).
 * - None of them may be a throw-away preview (`Evenkeel-Preview:` in its message), which its signer made to be looked at and
 *   not to be applied: whoever holds the repository could else pass it off as the main branch.
 * - Nothing moves before all of it has been checked.
 *
 * The node and the hub's pre-receive run the same code; the node's answer is the one that counts.
 */

export interface HistoryQuestion {
  readonly git: Git;
  /** The last commit believed; null only for a repository that is met for the first time, when the tip alone is checked. */
  readonly from: string | null;
  readonly to: string;
  /** Who may sign on top of `from`. */
  readonly signers: readonly Signer[];
  /** Reads the signers out of a commit's cluster.yaml; null when it names none that can be read. */
  readonly signersIn: (clusterYaml: Uint8Array) => readonly Signer[] | null;
  readonly scratch: Scratch;
  /** Throw-away previews may be among the commits: only for who plans them, and applies nothing. */
  readonly previews?: true;
}

export interface VerifiedCommit {
  readonly id: CommitId;
  readonly subject: string;
  readonly author: string;
  readonly signer: string;
  /** `Evenkeel-Allow-Removals: N` in the commit's message. */
  readonly removalsAllowed: number;
  /** `Evenkeel-Preview: NAME` in the commit's message; null for a commit that may be applied. */
  readonly preview: string | null;
}

export type Verdict =
  /** `commits` are the new ones, oldest first; `signers` are those in force from now on. */
  | { readonly ok: true; readonly commits: readonly VerifiedCommit[]; readonly signers: readonly Signer[] }
  | { readonly ok: false; readonly code: VerdictCode; readonly commit: string; readonly message: string };

export type VerdictCode = "unsigned" | "stranger" | "older" | "rewritten" | "unknown" | "too-many" | "no-signers" | "preview";

/** A check of 10,000 signatures takes a minute; a repository that is further ahead than that is not an update. */
const COMMITS_MAX = 10_000;
const CLUSTER_FILE = "cluster.yaml";
const LOG_TIMEOUT_MS = 5 * 60_000;

export async function verifyHistory(question: HistoryQuestion): Promise<Verdict> {
  const { git, from, to } = question;
  const descent = await checkDescent(git, from, to);
  if (descent !== null) return descent;
  if (from === to) return { ok: true, commits: [], signers: question.signers };

  const range = from === null ? ["--max-count=1", to] : [`${from}..${to}`];
  const signersAt = await signersByCommit(question, range);
  const keyring = await makeKeyring([...question.signers, ...[...signersAt.values()].flat()], question.scratch);
  const log = await readLog(git, range, keyring.config, keyring.env);
  if (!log.ok) return { ok: false, code: log.code, commit: to, message: log.message };

  /** In force after each commit of the range; commits before it stand for what was believed. */
  const inForce = new Map<string, readonly Signer[]>();
  const verified: VerifiedCommit[] = [];
  for (const entry of log.entries) {
    const atParents = entry.parents.map((parent) => inForce.get(parent) ?? question.signers);
    const signer = keyring.signerOf(entry);
    const refusal = judge(entry, signer, atParents.length === 0 ? [question.signers] : atParents);
    if (refusal !== null) return refusal;
    if (entry.preview !== "" && question.previews !== true) {
      const message = `commit ${short(entry.id)} ("${entry.subject}") is a throw-away preview (${PREVIEW_TRAILER}: ${entry.preview.slice(0, 80)}): it is there to be planned, and no node applies it or what builds on it. Commit the change itself: git reset --soft ${short(entry.id)}~1; git commit -S`;
      return { ok: false, code: "preview", commit: entry.id, message };
    }
    const inherited = atParents[0] ?? question.signers;
    inForce.set(entry.id, signersAt.get(entry.id) ?? inherited);
    verified.push({ id: entry.id as CommitId, subject: entry.subject, author: entry.author, signer: signer?.name ?? "", removalsAllowed: entry.removalsAllowed, preview: entry.preview === "" ? null : entry.preview });
  }
  const signers = inForce.get(to) ?? question.signers;
  if (signers.length === 0) return { ok: false, code: "no-signers", commit: to, message: `commit ${short(to)} leaves no signer in ${CLUSTER_FILE}; nobody could ever change this cluster again.` };
  return { ok: true, commits: verified, signers };
}

/** Whether `to` is `from` or builds on it: null when it does, else the refusal. */
export async function checkDescent(git: Git, from: string | null, to: string): Promise<Exclude<Verdict, { ok: true }> | null> {
  if (from === null || from === to) return null;
  const known = await git(["cat-file", "-e", `${from}^{commit}`]);
  if (known.code !== 0) {
    return { ok: false, code: "unknown", commit: to, message: `the repository does not hold ${short(from)}, the last commit that was applied here: its history was rewritten, or it is another repository. Push a history that contains ${short(from)}.` };
  }
  const forward = await git(["merge-base", "--is-ancestor", from, to]);
  if (forward.code === 0) return null;
  const backward = await git(["merge-base", "--is-ancestor", to, from]);
  if (backward.code === 0) {
    return { ok: false, code: "older", commit: to, message: `commit ${short(to)} is older than ${short(from)}, which was applied already. Nodes only go forward: to undo a change, "git revert" it and push that.` };
  }
  return { ok: false, code: "rewritten", commit: to, message: `commit ${short(to)} does not build on ${short(from)}, the last one applied: the branch was force-pushed or its history rewritten. Rebase the change onto ${short(from)} and push again.` };
}

function judge(entry: LogEntry, signer: Signer | null, atParents: readonly (readonly Signer[])[]): Verdict | null {
  const commit = entry.id;
  const what = `commit ${short(commit)} ("${entry.subject}")`;
  if (entry.status === "N") {
    return { ok: false, code: "unsigned", commit, message: `${what} is not signed. Sign it: git config gpg.format ssh; git config user.signingKey ~/.ssh/id_ed25519.pub; git rebase --exec 'git commit --amend --no-edit -S' ${short(commit)}~1` };
  }
  const allowed = signer !== null && atParents.every((signers) => signers.some((candidate) => keyOf(candidate) === keyOf(signer)));
  if (allowed) return null;
  const who = signer === null ? (entry.key === "" ? "a signature that cannot be checked" : `the key ${entry.key}`) : `the key of ${signer.name}, which is not in force there`;
  const names = [...new Set(atParents.flat().map((candidate) => candidate.name))].join(", ");
  return { ok: false, code: "stranger", commit, message: `${what} is signed with ${who}. Signers in force: ${names === "" ? "none" : names}. One of them has to sign it, or sign a commit that adds the new key to signers in ${CLUSTER_FILE} first.` };
}

/** The signers that each commit of the range that touches cluster.yaml puts in force. */
async function signersByCommit(question: HistoryQuestion, range: readonly string[]): Promise<ReadonlyMap<string, readonly Signer[]>> {
  const { git } = question;
  // -m: a merge is compared with each parent, so that one which brings new signers is seen as well.
  const changed = await git(["log", "-m", "--format=%H", ...range, "--", CLUSTER_FILE], { timeoutMs: LOG_TIMEOUT_MS });
  const commits = new Set(text(changed.stdout).split("\n").filter((line) => line !== ""));
  const merges = await git(["rev-list", "--min-parents=2", ...range], { timeoutMs: LOG_TIMEOUT_MS });
  for (const merge of text(merges.stdout).split("\n")) if (merge !== "") commits.add(merge);
  // Met for the first time, the tip alone is looked at, whichever commit its cluster.yaml came with.
  if (question.from === null) commits.add(question.to);
  const signers = new Map<string, readonly Signer[]>();
  for (const commit of commits) {
    const file = await git(["cat-file", "blob", `${commit}:${CLUSTER_FILE}`]);
    const found = file.code === 0 ? question.signersIn(file.stdout) : null;
    if (found !== null) signers.set(commit, found);
  }
  return signers;
}

interface LogEntry {
  readonly id: string;
  readonly parents: readonly string[];
  readonly status: string;
  readonly principal: string;
  readonly key: string;
  readonly primaryKey: string;
  readonly author: string;
  readonly subject: string;
  readonly removalsAllowed: number;
  readonly preview: string;
}

type Log = { readonly ok: true; readonly entries: readonly LogEntry[] } | { readonly ok: false; readonly code: VerdictCode; readonly message: string };

const LOG_FORMAT = ["%H", "%P", "%G?", "%GS", "%GK", "%GP", "%an <%ae>", "%s", "%(trailers:key=Evenkeel-Allow-Removals,valueonly,unfold,separator=%x2C)", `%(trailers:key=${PREVIEW_TRAILER},valueonly,unfold,separator=%x2C)`].join("%x00");

async function readLog(git: Git, range: readonly string[], config: readonly string[], env: Readonly<Record<string, string>>): Promise<Log> {
  const output = await git([...config, "log", "--reverse", "--topo-order", `--max-count=${range.length === 1 ? COMMITS_MAX + 1 : 1}`, `--format=${LOG_FORMAT}`, range.at(-1) ?? ""], { env, timeoutMs: LOG_TIMEOUT_MS });
  if (output.code !== 0) return { ok: false, code: "unknown", message: `git log failed: ${output.stderr.trim().slice(0, 500)}` };
  const lines = text(output.stdout).split("\n").filter((line) => line !== "");
  if (lines.length > COMMITS_MAX) return { ok: false, code: "too-many", message: `more than ${COMMITS_MAX} new commits at once are not checked. Enrol the node again, from a newer commit.` };
  return {
    ok: true,
    entries: lines.map((line) => {
      const [id = "", parents = "", status = "", principal = "", key = "", primaryKey = "", author = "", subject = "", removals = "", preview = ""] = line.split("\0");
      return { id, parents: parents.split(" ").filter((parent) => parent !== ""), status, principal, key, primaryKey, author, subject, removalsAllowed: Number(/^\d{1,6}/.exec(removals)?.[0] ?? 0), preview: preview.trim() };
    }),
  };
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function short(commit: string): string {
  return commit.slice(0, 8);
}
