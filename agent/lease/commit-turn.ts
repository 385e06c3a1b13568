import { shortCommit } from "../../shared/ids.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { CommitOrder } from "../../shared/protocol/commit.ts";

/**
 * Whether it is this node's turn to take a commit. That others go first is said by the commit itself (`rollout: canary` in its
 * cluster.yaml), which is signed; how they do with it, the hub tells. So a hub can make a node wait, and cannot make it take
 * anything.
 *
 * Without a word from the hub the node keeps waiting, however long that takes: what it runs is in order and stays so, while a commit
 * that nobody has tried may take the last good node down as well. Who wants it otherwise says so in a commit: one with
 * `rollout: everywhere` waits for nobody.
 */
export class CommitTurn {
  readonly #self: string;
  readonly #hasHub: boolean;
  #last: CommitOrder | null = null;
  #released: string | null = null;

  constructor(self: string, hasHub: boolean) {
    this.#self = self;
    this.#hasHub = hasHub;
  }

  heard(order: CommitOrder): void {
    this.#last = order;
    if (order.take) this.#released = order.commit;
  }

  /** The last commit that everybody may take: a newer one may be waited for. */
  get released(): string | null {
    return this.#released;
  }

  /** Why this node leaves the commit alone for now; null when it takes it. */
  whyWait(commit: string, canaries: readonly NodeName[]): string | null {
    // A node that belongs to no hub would never hear.
    if (canaries.length === 0 || !this.#hasHub || canaries.some((canary) => canary === this.#self) || this.#released === commit) return null;
    const said = this.#last?.commit === commit ? this.#last.why : `the hub has not said yet how ${canaries.join(", ")} does with it`;
    return `commit ${shortCommit(commit)} goes to ${canaries.join(", ")} first, and this node waits: ${said}`;
  }
}
