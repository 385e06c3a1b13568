import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "pino";
import { loadRepository } from "../../shared/config/repository.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { signersIn } from "../../shared/config/signers.ts";
import { verifyHistory } from "../../shared/git/history.ts";
import type { Signer } from "../../shared/git/signers.ts";
import { gitTree } from "../../shared/git/tree.ts";
import type { Clock } from "../../shared/clock.ts";
import type { CommitId } from "../../shared/ids.ts";
import { writeDurably } from "../durable-file.ts";
import type { RepositoryPins } from "../fleet/enrolment.ts";
import type { DesiredNode, DesiredNodes } from "../fleet/view.ts";
import type { DesiredPolicy } from "../rollout/policy.ts";
import type { CommitStore, NewCommit } from "../store/commits.ts";
import { checkPush, revParse, type AcceptedMain } from "./check-push.ts";
import { listenForHooks, socketPathMaxBytes, type HookAnswer, type HookQuestion, type HookSocket } from "./hook-socket.ts";
import { deleteBranch, mergeBase, readPreview, throwawayBranches, tipOf, type PreviewBranch, type ReadPreview } from "./preview-branches.ts";
import { gitIn, withScratch } from "./process.ts";

/** The hub's own bare repository: what comes in is checked, recorded, and told to the nodes. */

/** Git refuses a push whose pack is larger: git-config(1), receive.maxInputSize. */
const packMaxBytes = 64 * 1024 * 1024;
/** Every so many pushes, git is asked whether there is something to pack; it decides by gc.auto. */
const gcEveryPushes = 50;
const gcTimeoutMs = 10 * 60_000;

export interface RepositoryParts {
  readonly dataDir: string;
  readonly cluster: string;
  readonly branch: string;
  readonly kinds: readonly SectionKind[];
  readonly clock: Clock;
  readonly commits: CommitStore;
  readonly log: Logger;
  /** The main branch has moved, and its commits are recorded. */
  readonly onMain: (tip: string) => void;
  /** Other branches were brought, moved or deleted. The push is not answered before this is done. */
  readonly onBranches: (pushed: readonly PreviewBranch[], deleted: readonly string[], by: string) => Promise<void>;
}

/** One push under way, from the first byte to the moved branch. */
export interface Push {
  readonly id: string;
  readonly by: string;
  accepted: AcceptedMain | null;
  previews: readonly PreviewBranch[];
  deleted: readonly string[];
}

interface Known {
  readonly tip: string;
  readonly signers: readonly Signer[];
  readonly nodes: readonly DesiredNode[];
  /** Null when the tip is not valid for this version of the hub. */
  readonly policy: DesiredPolicy | null;
}

export class ClusterRepository implements DesiredNodes, RepositoryPins {
  readonly directory: string;
  readonly socketPath: string;
  readonly #parts: RepositoryParts;
  readonly #pushes = new Map<string, Push>();
  #known: Known | null = null;
  #hooks: HookSocket | null = null;
  /** Pushes are recorded one after the other. */
  #recording: Promise<void> = Promise.resolve();
  #pushesUntilGc = gcEveryPushes;

  private constructor(parts: RepositoryParts) {
    this.#parts = parts;
    this.directory = join(parts.dataDir, "cluster.git");
    this.socketPath = join(parts.dataDir, "hook.sock");
  }

  static async open(parts: RepositoryParts): Promise<ClusterRepository> {
    const repository = new ClusterRepository(parts);
    if (Buffer.byteLength(repository.socketPath) > socketPathMaxBytes) {
      throw new Error(`the data directory's path is too long for a socket in it: ${repository.socketPath} has more than ${socketPathMaxBytes} bytes. Choose a shorter dataDir.`);
    }
    await repository.#prepare();
    await repository.#catchUp();
    repository.#hooks = await listenForHooks({ path: repository.socketPath, repository: repository.directory, answer: (question) => repository.#check(question) });
    return repository;
  }

  nodes(): readonly DesiredNode[] {
    return this.#known?.nodes ?? [];
  }

  /** Membership and policy at the tip of the main branch. */
  policy(): DesiredPolicy | null {
    return this.#known?.policy ?? null;
  }

  pins(): { readonly commit: string; readonly signersJson: string } | null {
    return this.#known === null ? null : { commit: this.#known.tip, signersJson: JSON.stringify(this.#known.signers) };
  }

  /** Announces a push, so that the hook's question can be matched with who pushes. */
  begin(by: string): Push {
    const push: Push = { id: randomUUID(), by, accepted: null, previews: [], deleted: [] };
    this.#pushes.set(push.id, push);
    return push;
  }

  /** The push is over, well or not: what git has made of it is recorded, once. */
  async end(push: Push): Promise<void> {
    this.#pushes.delete(push.id);
    this.#pushesUntilGc -= 1;
    if (this.#pushesUntilGc === 0) void this.#collectGarbage();
    const { accepted } = push;
    if (accepted !== null) await this.#endMain(push, accepted);
    if (push.previews.length + push.deleted.length > 0) await this.#endPreviews(push).catch((error: unknown) => this.#parts.log.error({ err: error }, "could not have a preview planned"));
  }

  /** Git may have refused in the end, or somebody else was faster. */
  async #endPreviews(push: Push): Promise<void> {
    const git = gitIn(this.directory);
    const [pushed, deleted]: [PreviewBranch[], string[]] = [[], []];
    for (const preview of push.previews) if ((await tipOf(git, preview.branch)) === preview.commit) pushed.push(preview);
    for (const branch of push.deleted) if ((await tipOf(git, branch)) === null) deleted.push(branch);
    if (pushed.length + deleted.length > 0) await this.#parts.onBranches(pushed, deleted, push.by);
  }

  async #endMain(push: Push, accepted: AcceptedMain): Promise<void> {
    const record = this.#recording.then(async () => {
      const tip = await revParse(gitIn(this.directory), `refs/heads/${this.#parts.branch}`);
      // Somebody else was faster, or git refused in the end.
      if (tip !== accepted.tip) return;
      await this.#record(accepted.tip, accepted.commits, push.by);
      this.#known = knownFrom(accepted);
      this.#parts.log.info({ commit: accepted.tip, by: push.by, commits: accepted.commits.length }, "the main branch moved");
      this.#parts.onMain(accepted.tip);
    });
    this.#recording = record.catch((error: unknown) => this.#parts.log.error({ err: error, commit: accepted.tip }, "could not record a push; the next start of the hub will"));
    await this.#recording;
  }

  /** The tip of the main branch; null before the first push. */
  mainTip(): string | null {
    return this.#known?.tip ?? null;
  }

  /** A branch as it stands here, with what nodes stand in it; null when there is none. */
  preview(branch: string): Promise<ReadPreview | null> {
    return readPreview(gitIn(this.directory), branch, this.#parts.branch, this.#parts.kinds);
  }

  branchTip(branch: string): Promise<string | null> {
    return tipOf(gitIn(this.directory), branch);
  }

  /** Whether the main branch holds the commit. */
  async holds(commit: string): Promise<boolean> {
    return (await mergeBase(gitIn(this.directory), `refs/heads/${this.#parts.branch}`, commit)) === commit;
  }

  /** Deletes a branch other than the main one, if it still stands at that commit. */
  async deleteBranch(branch: string, commit: string): Promise<boolean> {
    return branch !== this.#parts.branch && deleteBranch(gitIn(this.directory), branch, commit);
  }

  throwaways(): ReturnType<typeof throwawayBranches> {
    return throwawayBranches(gitIn(this.directory));
  }

  async stop(): Promise<void> {
    await this.#hooks?.stop();
    await this.#recording;
  }

  async #check({ pushId, updates, env }: HookQuestion): Promise<HookAnswer> {
    const push = this.#pushes.get(pushId);
    if (push === undefined) return { ok: false, text: "evenkeel: refused: this push is not one that the hub knows of: push through the hub's HTTPS address\n" };
    const { branch, cluster, kinds, log } = this.#parts;
    try {
      const verdict = await checkPush({ git: gitIn(this.directory, env), updates, branch, cluster, kinds, withScratch });
      push.accepted = verdict.main;
      push.previews = verdict.previews;
      push.deleted = verdict.deleted;
      if (!verdict.ok) log.info({ by: push.by, reason: verdict.text.slice(0, 500) }, "a push was refused");
      return { ok: verdict.ok, text: verdict.text };
    } catch (error) {
      log.error({ err: error, by: push.by }, "could not check a push");
      return { ok: false, text: `evenkeel: refused: the hub could not check this push: ${(error as Error).message}\n` };
    }
  }

  /** Beside everything else, and harmless to it: git keeps what is younger than two weeks (git-gc(1)). */
  async #collectGarbage(): Promise<void> {
    const { code, stderr } = await gitIn(this.directory)(["gc", "--auto", "--quiet"], { timeoutMs: gcTimeoutMs });
    if (code !== 0) this.#parts.log.warn({ code, stderr: stderr.slice(0, 500) }, "could not pack the cluster repository");
    this.#pushesUntilGc = gcEveryPushes;
  }

  /** Makes the repository at the first start; sets at each start what the hub relies on. */
  async #prepare(): Promise<void> {
    const { branch } = this.#parts;
    const git = gitIn(this.directory);
    if (!existsSync(join(this.directory, "HEAD"))) {
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      await must(git(["init", "--quiet", "--bare", `--initial-branch=${branch}`, this.directory]), "making the cluster repository");
    }
    const settings: Readonly<Record<string, string>> = {
      "core.logAllRefUpdates": "true",
      "core.fsync": "committed,loose-object,reference",
      "transfer.fsckObjects": "true",
      "receive.maxInputSize": String(packMaxBytes),
      "receive.autogc": "false",
      "receive.denyDeleteCurrent": "refuse",
      "receive.denyNonFastForwards": "false",
      "http.receivepack": "true",
      "http.getanyfile": "false",
      "gc.auto": "2000",
      "gc.autoDetach": "false",
    };
    const current = await must(git(["config", "--local", "--list", "-z"]), "reading the cluster repository's settings");
    // With -z, each entry is `name LF value NUL`: git-config(1).
    const set = new Set(current.split("\0"));
    for (const [name, value] of Object.entries(settings)) {
      if (!set.has(`${name.toLowerCase()}\n${value}`)) await must(git(["config", "--local", name, value]), `setting ${name} in the cluster repository`);
    }
    await must(git(["symbolic-ref", "HEAD", `refs/heads/${branch}`]), "setting the cluster repository's branch");
    mkdirSync(join(this.directory, "hooks"), { recursive: true });
    const script = [join(import.meta.dirname, "hook-main.ts"), join(import.meta.dirname, "hook-main.js")].find((path) => existsSync(path));
    if (script === undefined) throw new Error(`the hub is not complete: there is no hook-main beside ${import.meta.filename}`);
    writeDurably(join(this.directory, "hooks", "pre-receive"), `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(script)}\n`, 0o755);
  }

  /** At start: reads the tip, and records a push whose branch had moved when the hub was killed. */
  async #catchUp(): Promise<void> {
    const git = gitIn(this.directory);
    const { branch, commits, kinds, log } = this.#parts;
    const tip = await revParse(git, `refs/heads/${branch}`);
    if (tip === null) return;
    const file = await git(["cat-file", "blob", `${tip}:cluster.yaml`]);
    const signers = (file.code === 0 ? signersIn(file.stdout) : null) ?? [];
    if ((await commits.get(tip)) === null) {
      const missing = await this.#unrecorded(tip, signers);
      await this.#record(tip, missing, "(unknown: the hub was stopped)");
      log.warn({ commit: tip, commits: missing.length }, "recorded a push that the last run of the hub did not get to");
    }
    const loaded = await loadRepository(gitTree(git, tip), kinds);
    if (loaded.ok) {
      this.#known = knownFrom({ tip, commits: [], signers, repository: loaded.repository });
      return;
    }
    log.error({ commit: tip, diagnostics: loaded.diagnostics.slice(0, 3) }, "the repository's tip is not valid for this version of the hub; nodes are shown without addresses and roles");
    const names = (await gitTree(git, tip).list()).flatMap(({ path }) => /^nodes\/([^/]+)\.yaml$/.exec(path)?.[1] ?? []);
    this.#known = { tip, signers, nodes: names.map((name) => ({ name, address: null, roles: [] })), policy: null };
  }

  async #unrecorded(tip: string, signers: readonly Signer[]): Promise<readonly NewCommit[]> {
    const git = gitIn(this.directory);
    const head = await this.#parts.commits.head();
    const from = head === null ? null : head.id;
    const fallback: NewCommit = { id: tip, subject: "", author: "", signer: "" };
    const before = from === null ? null : await git(["cat-file", "blob", `${from}:cluster.yaml`]);
    const inForce = before === null ? signers : before.code === 0 ? (signersIn(before.stdout) ?? []) : [];
    const verdict = await withScratch((scratch) => verifyHistory({ git, from, to: tip, signers: inForce, signersIn, scratch }));
    return verdict.ok && verdict.commits.length > 0 ? verdict.commits : [fallback];
  }

  async #record(tip: string, commits: readonly NewCommit[], by: string): Promise<void> {
    const rows = commits.map(({ id, subject, author, signer }) => ({ id, subject, author, signer }));
    await this.#parts.commits.addPush({ tip, commits: rows, pushedBy: by, pushedAtMs: this.#parts.clock.nowMs() });
  }
}

function knownFrom({ tip, signers, repository }: AcceptedMain): Known {
  const nodes = [...repository.nodes.values()].map(({ name, address, roles, fleetlock }) => ({ name, address: address ?? null, roles, fleetlock: fleetlock !== undefined }));
  const members = [...repository.nodes.values()].map(({ name, fleetlock }) => ({ name, fleetlock: fleetlock ?? null }));
  return { tip, signers, nodes, policy: { commit: tip as CommitId, cluster: repository.cluster, nodes: members } };
}

async function must(output: ReturnType<ReturnType<typeof gitIn>>, doing: string): Promise<string> {
  const { code, stdout, stderr } = await output;
  if (code !== 0) throw new Error(`${doing}: ${stderr.trim() || `git ended with ${code}`}`);
  return Buffer.from(stdout).toString("utf8");
}

/** For /bin/sh. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

