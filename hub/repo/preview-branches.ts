import { loadRepository, type Repository } from "../../shared/config/repository.ts";
import { formatDiagnostics } from "../../shared/config/diagnostic.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import type { Git } from "../../shared/git/git.ts";
import { gitTree } from "../../shared/git/tree.ts";
import { PREVIEW_TRAILER, THROWAWAY_PREFIX } from "../../shared/protocol/preview.ts";

/** Branches of the hub's repository that are there to be planned. */

/** A branch that the nodes may be asked to plan: it has been checked as a push to the main branch is. */
export interface PreviewBranch {
  readonly branch: string;
  readonly commit: string;
  /** Where it leaves the main branch; null where the hub does not hold the branch itself. */
  readonly base: string | null;
  readonly subject: string;
  readonly author: string;
  readonly throwaway: boolean;
  /** The nodes that stand in it, guests left out; null where the hub does not hold the branch itself. */
  readonly nodes: readonly string[] | null;
}

/** What people call a commit, and whether it is a throw-away preview. */
export async function describeTip(git: Git, branch: string, commit: string): Promise<Pick<PreviewBranch, "subject" | "author" | "throwaway">> {
  const log = await git(["log", "-1", `--format=%s%x00%an <%ae>%x00%(trailers:key=${PREVIEW_TRAILER},valueonly,unfold,separator=%x2C)`, commit, "--"]);
  const [subject = "", author = "", trailer = ""] = new TextDecoder().decode(log.stdout).trimEnd().split("\0");
  return { subject: subject.slice(0, 500), author: author.slice(0, 300), throwaway: branch.startsWith(THROWAWAY_PREFIX) && trailer.trim() !== "" };
}

export function plannable(repository: Repository): readonly string[] {
  return [...repository.nodes.values()].filter(({ fleetlock }) => fleetlock === undefined).map(({ name }) => name);
}

export type ReadPreview = { readonly ok: true; readonly preview: PreviewBranch } | { readonly ok: false; readonly message: string };

/** A branch as it stands here, for somebody who asks for a plan of it; null when there is none. Signatures are the nodes' to check. */
export async function readPreview(git: Git, branch: string, mainBranch: string, kinds: readonly SectionKind[]): Promise<ReadPreview | null> {
  const tip = await tipOf(git, branch);
  if (tip === null) return null;
  const base = await mergeBase(git, `refs/heads/${mainBranch}`, tip);
  if (base === null) return { ok: false, message: `${branch} shares no history with ${mainBranch}: start it from there` };
  const loaded = await loadRepository(gitTree(git, tip), kinds);
  if (!loaded.ok) return { ok: false, message: `${branch} is not valid for this version of the hub:\n${formatDiagnostics(loaded.diagnostics).slice(0, 3_500)}` };
  return { ok: true, preview: { branch, commit: tip, base, ...(await describeTip(git, branch, tip)), nodes: plannable(loaded.repository) } };
}

export async function tipOf(git: Git, branch: string): Promise<string | null> {
  const output = await git(["rev-parse", "--verify", "--quiet", `refs/heads/${branch}^{commit}`]);
  return output.code === 0 ? new TextDecoder().decode(output.stdout).trim() : null;
}

export async function mergeBase(git: Git, one: string, other: string): Promise<string | null> {
  const output = await git(["merge-base", one, other]);
  const base = new TextDecoder().decode(output.stdout).trim();
  return output.code === 0 && base !== "" ? base : null;
}

/** Deletes a branch if it still stands at that commit. False when it does not. */
export async function deleteBranch(git: Git, branch: string, commit: string): Promise<boolean> {
  return (await git(["update-ref", "-d", `refs/heads/${branch}`, commit])).code === 0;
}

/** Throw-away branches, with their tip and when that was committed by its author's clock. */
export async function throwawayBranches(git: Git): Promise<readonly { readonly branch: string; readonly commit: string; readonly committedAtMs: number }[]> {
  const refs = await git(["for-each-ref", "--count=1000", `--format=%(refname)%00%(objectname)%00%(committerdate:unix)%00%(contents:trailers:key=${PREVIEW_TRAILER},valueonly)%00`, `refs/heads/${THROWAWAY_PREFIX}*`]);
  return new TextDecoder()
    .decode(refs.stdout)
    .split("\0\n")
    .flatMap((entry) => {
      const [ref = "", commit = "", seconds = "", trailer = ""] = entry.split("\0");
      return commit === "" || trailer.trim() === "" ? [] : [{ branch: ref.slice("refs/heads/".length), commit, committedAtMs: Number(seconds) * 1_000 }];
    });
}
