import { readFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { join } from "node:path";
import * as z from "zod";
import type { Kind, ResourceId } from "../../shared/kinds/kind.ts";
import type { NodeName } from "../../shared/ids.ts";
import { commitCanaries } from "../../shared/config/policy.ts";
import { Content } from "../../shared/config/content.ts";
import { loadNode } from "../../shared/config/repository.ts";
import { formatDiagnostics } from "../../shared/config/diagnostic.ts";
import { Redactor } from "../../shared/secrets/redact.ts";
import type { KeySource, NodeSecrets } from "../../shared/secrets/vault.ts";
import { SettingsCache } from "../../shared/config/settings-cache.ts";
import { signersIn } from "../../shared/config/signers.ts";
import { checkDescent, verifyHistory } from "../../shared/git/history.ts";
import type { Signer } from "../../shared/git/signers.ts";
import { gitTree } from "../../shared/git/tree.ts";
import { splitResource } from "../engine/inventory.ts";
import type { Desired } from "../engine/plan.ts";
import { writeDurably } from "../host/durable.ts";
import type { Settings } from "../settings.ts";
import type { Repository } from "./repository.ts";

/**
 * Which commit this node follows. A candidate is chosen only when all of it holds: it descends from what was chosen last
 * and from what the hub remembers, every commit on the way is signed by a signer in force, and it renders for this node.
 * Until then nothing moves, and the last good commit stays.
 */

/** The high-water mark: on disk before anything of the commit is applied. */
const Mark = z.object({
  v: z.literal(1),
  commit: z.string(),
  signers: z.array(z.union([z.object({ name: z.string(), ssh: z.string() }), z.object({ name: z.string(), gpg: z.string() })])),
  /** The largest allowance for removals that commits since the last one held have asked for. */
  removalsAllowed: z.number().int(),
});
export type Mark = z.output<typeof Mark>;

export class MarkFile {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, "mark.json");
  }

  /** null when there is none, or when it cannot be read: then the pins of the enrolment count, and the hub's memory. */
  async read(): Promise<Mark | null> {
    const text = await readFile(this.#path, "utf8").catch(() => null);
    if (text === null) return null;
    try {
      return Mark.parse(JSON.parse(text));
    } catch {
      return null;
    }
  }

  write(mark: Mark): Promise<void> {
    return writeDurably(this.#path, JSON.stringify(mark), { mode: 0o600 });
  }
}

export type Choice =
  | { readonly ok: true; readonly mark: Mark; readonly desired: Desired; readonly isNew: boolean; /** Who takes the commit before all others, by what it says itself; empty when nobody does. */ readonly canaries: readonly NodeName[] }
  | { readonly ok: false; readonly commit: string; readonly message: string; /** Nothing is wrong with it: it is not this node's turn yet. */ readonly waits?: true };

/** Why a commit that could be taken is left alone for now; null when it is this node's turn. */
export type WhyWait = (commit: string, canaries: readonly NodeName[]) => string | null;

export class Chooser {
  readonly #repository: Repository;
  readonly #settings: Settings;
  readonly #marks: MarkFile;
  readonly #kinds: readonly Kind[];
  readonly #key: KeySource | undefined;
  readonly #cache = new SettingsCache();

  /** `key`: the node's age key, for the secrets that its sections hold. */
  constructor(parts: { readonly repository: Repository; readonly settings: Settings; readonly marks: MarkFile; readonly kinds: readonly Kind[]; readonly key?: KeySource }) {
    this.#repository = parts.repository;
    this.#settings = parts.settings;
    this.#marks = parts.marks;
    this.#kinds = parts.kinds;
    this.#key = parts.key;
  }

  /**
   * @param hubMark the highest commit that the hub saw this node apply: wiping the node's disk does not make an older one acceptable.
   * @param held the commit that the node holds completely.
   * @param whyWait asked last; a node that never took any commit serves nobody yet, and waits for nobody.
   */
  async choose(candidate: string, hubMark: string | null, held: string | null, whyWait: WhyWait = () => null): Promise<Choice> {
    const mark = await this.#marks.read();
    if (mark?.commit === candidate) return this.#chosen(mark, false);
    const git = this.#repository.git;
    const againstHub = await checkDescent(git, hubMark, candidate);
    if (againstHub !== null) return againstHub;
    const verdict = await this.verify(candidate, mark);
    if (!verdict.ok) return verdict;
    const asked = Math.max(0, ...verdict.commits.map((commit) => commit.removalsAllowed));
    const stillAsked = mark === null || mark.commit === held ? 0 : mark.removalsAllowed;
    const next: Mark = { v: 1, commit: candidate, signers: [...verdict.signers], removalsAllowed: Math.max(asked, stillAsked) };
    const choice = await this.#chosen(next, true);
    const wait = choice.ok && mark !== null ? whyWait(candidate, choice.canaries) : null;
    if (wait !== null) return { ok: false, commit: candidate, message: wait, waits: true };
    if (choice.ok) await this.#marks.write(next);
    return choice;
  }

  /** As {@link choose}, for a commit that somebody has named: it must be a part of the branch that ends in `tip`. */
  async chooseBefore(tip: string, candidate: string, hubMark: string | null, held: string | null): Promise<Choice> {
    return (await checkDescent(this.#repository.git, candidate, tip)) ?? this.choose(candidate, hubMark, held);
  }

  /** The commit chosen last, again: after a start, or when the repository cannot be reached. */
  async last(): Promise<Choice | null> {
    const mark = await this.#marks.read();
    return mark === null ? null : this.#chosen(mark, false);
  }

  /**
   * Renders a branch's tip for this node without choosing it. It must build on what was chosen last and be signed, as any
   * candidate, since planning reads this machine by what it says; nothing is written down.
   */
  async preview(tip: string): Promise<Choice> {
    const mark = await this.#marks.read();
    const verdict = await this.verify(tip, mark, { previews: true });
    if (!verdict.ok) return verdict;
    return this.#chosen({ v: 1, commit: tip, signers: [...verdict.signers], removalsAllowed: 0 }, true);
  }

  async verify(candidate: string, mark: Mark | null, allow: { readonly previews?: true } = {}) {
    const from = mark?.commit ?? this.#settings.commit;
    const signers: readonly Signer[] = mark?.signers ?? this.#settings.signers;
    return this.#repository.withScratch((scratch) => verifyHistory({ git: this.#repository.git, from, to: candidate, signers, signersIn, scratch, ...allow }));
  }

  async #chosen(mark: Mark, isNew: boolean): Promise<Choice> {
    const loaded = await loadNode(gitTree(this.#repository.git, mark.commit), this.#kinds, this.#settings.node, { key: this.#key, cache: this.#cache }).catch((error: Error) => error);
    if (loaded instanceof Error) return { ok: false, commit: mark.commit, message: `commit ${mark.commit.slice(0, 8)} cannot be read: ${loaded.message}` };
    if (!loaded.ok) return { ok: false, commit: mark.commit, message: formatDiagnostics(loaded.diagnostics, { color: false }).slice(0, 3_500) };
    const { node, cluster, recipients } = loaded;
    const desired: Desired = {
      commit: mark.commit,
      sections: node.sections,
      digestOf: (resource) => digest(node.sections, resource),
      resources: [...node.sections.values()].reduce<number>((sum, section) => sum + Object.keys(section as object).length, 0),
      removalsMax: cluster.guard.removalsMax,
      repairsMax: cluster.guard.repairsMax,
      confirmMs: cluster.guard.confirmSeconds * 1_000,
      recipients,
      ...secretsOf(node.secrets),
    };
    return { ok: true, mark, desired, isNew, canaries: commitCanaries(cluster) };
  }
}

function secretsOf(secrets: NodeSecrets | undefined): Pick<Desired, "redactor" | "unopened"> {
  if (secrets === undefined) return {};
  const redactor = new Redactor(secrets.opened.values());
  const unopened = new Map([...secrets.unopened].map(([kind, each]) => [kind, { ...each, message: redactor.text(each.message) }]));
  return { redactor, unopened };
}

/** Of what is wanted of one resource, contents included; of its whole section where a kind's keys are not the section's. */
function digest(sections: ReadonlyMap<string, unknown>, resource: ResourceId): string {
  const [kind, key] = splitResource(resource);
  const section = sections.get(kind) as Record<string, unknown> | undefined;
  const contentAsHash = (_name: string, value: unknown) => (value instanceof Content ? createHash("sha256").update(value.bytes).digest("hex") : value);
  return createHash("sha256").update(JSON.stringify(section?.[key] ?? section ?? null, contentAsHash)).digest("hex").slice(0, 16);
}
