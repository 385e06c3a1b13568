import type { ClusterSummary, CommitSummary, NodeDetail, StoredConverge } from "../shared/protocol/api.ts";

/**
 * What the status page may know: the same shapes as the API, read from the hub's own database and never from a node.
 * It only reads; what an admin does from the page goes to the `Coordination`, as from `/api/v1`.
 */
export interface PageData {
  cluster(): Promise<ClusterSummary>;
  /** Null when no node of that name is known, neither enrolled nor in the repository. */
  node(name: string): Promise<NodeDetail | null>;
  /** Newest first, at most 100. */
  commits(): Promise<CommitSummary[]>;
  /** One report out of a node's history; null when there is none, or when retention has removed it. */
  converge(id: number): Promise<StoredConverge | null>;
  /** Calls back after something that the page shows has changed. The answer ends the subscription. */
  subscribe(listener: (change: PageChange) => void): () => void;
}

/**
 * `node`: that node's state, report or plan is new. `commits`: a push arrived, or a commit reached a node. `coordination`:
 * slots, rollouts, holds or service checks; its name is empty. `preview`: a preview came, went, or was planned by a node.
 */
export type PageChange = { readonly topic: "node"; readonly name: string } | { readonly topic: "commits"; readonly name: string } | { readonly topic: "coordination"; readonly name: string } | { readonly topic: "preview"; readonly name: string };
