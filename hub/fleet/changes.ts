import type { PageChange } from "../page-data.ts";

/** Whoever watches the hub live: pages, `GET /events`. More than this many at once are turned away. */
export const watchersMax = 500;

/** Tells watchers inside the hub's process that something they show has changed. Nothing is kept for later. */
export class Changes {
  readonly #listeners = new Set<(change: PageChange) => void>();

  get full(): boolean {
    return this.#listeners.size >= watchersMax;
  }

  /** @throws when there are too many; ask {@link Changes.full} first. */
  subscribe(listener: (change: PageChange) => void): () => void {
    if (this.full) throw new Error(`more than ${watchersMax} watchers of changes`);
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  node(name: string): void {
    this.#tell({ topic: "node", name });
  }

  commits(id: string): void {
    this.#tell({ topic: "commits", name: id });
  }

  /** Slots, rollouts, holds or service checks. */
  coordination(): void {
    this.#tell({ topic: "coordination", name: "" });
  }

  preview(name: string): void {
    this.#tell({ topic: "preview", name });
  }

  #tell(change: PageChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}
