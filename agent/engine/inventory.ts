import * as z from "zod";
import type { Json, Owned, ResourceId, Trigger } from "../../shared/kinds/kind.ts";

/**
 * What the agent must not forget, whatever happens to it: what it has made (to prune that and nothing else), what stood
 * there before (to put it back), which units still wait for a restart, and what was repaired how often.
 *
 * It is written *before* the machine is touched: after a crash the inventory may list a thing that was not made yet, which
 * the next converge makes, but the machine never holds a thing of ours that the inventory does not know.
 */

/** What stood at a path before the agent first touched it. Content is kept beside the inventory, by its SHA-256. */
export const Earlier = z.discriminatedUnion("type", [
  z.object({ type: z.literal("absent") }),
  z.object({ type: z.literal("file"), sha256: z.string(), mode: z.number(), uid: z.number(), gid: z.number() }),
  z.object({ type: z.literal("link"), target: z.string() }),
  z.object({ type: z.literal("directory"), mode: z.number(), uid: z.number(), gid: z.number() }),
]);
export type Earlier = z.output<typeof Earlier>;

/** What the inventory says of some things: enough to make it say so again. What is left out was not there. */
export const Excerpt = z.object({
  owned: z.array(z.object({ resource: z.string(), claim: z.json().optional() })),
  earlier: z.array(z.object({ path: z.string(), earlier: Earlier.optional() })),
  pending: z.array(z.object({ unit: z.string(), action: z.enum(["restart", "reload"]).optional() })),
});
export type Excerpt = z.output<typeof Excerpt>;

const Repairs = z.object({ count: z.number().int(), lastAtMs: z.number(), digest: z.string() });

export const InventoryData = z.object({
  v: z.literal(1),
  /** kind → key → claim. */
  owned: z.record(z.string(), z.record(z.string(), z.json())),
  earlier: z.record(z.string(), Earlier),
  pending: z.record(z.string(), z.enum(["restart", "reload"])),
  repairs: z.record(z.string(), Repairs),
  /** The last commit that this node held completely: what differs afterwards, under the same commit, is drift. */
  held: z.string().nullable(),
});
export type InventoryData = z.output<typeof InventoryData>;

/** Where the inventory lies: a file in practice, memory in tests. `save` returns only when it would survive a power cut. */
export interface InventoryStore {
  load(): Promise<unknown>;
  save(data: InventoryData): Promise<void>;
}

export class Inventory {
  readonly #store: InventoryStore;
  readonly #data: InventoryData;
  #saved: string;

  private constructor(store: InventoryStore, data: InventoryData) {
    this.#store = store;
    this.#data = data;
    this.#saved = JSON.stringify(data);
  }

  /** @throws when what is stored cannot be read: an agent that forgot what it owns must not go on by itself. */
  static async open(store: InventoryStore): Promise<Inventory> {
    const stored = await store.load();
    const empty: InventoryData = { v: 1, owned: {}, earlier: {}, pending: {}, repairs: {}, held: null };
    return new Inventory(store, stored === null ? empty : InventoryData.parse(stored));
  }

  ownedOf(kind: string): Owned {
    return new Map(Object.entries(this.#data.owned[kind] ?? {}) as [string, Json][]);
  }

  owns(resource: ResourceId): boolean {
    const [kind, key] = splitResource(resource);
    return this.#data.owned[kind]?.[key] !== undefined;
  }

  /** Kinds that own something: also those whose section is gone from the repository must be planned, to prune. */
  kindsWithOwned(): readonly string[] {
    return Object.keys(this.#data.owned);
  }

  claim(resource: ResourceId, claim: Json): void {
    const [kind, key] = splitResource(resource);
    const keys = (this.#data.owned[kind] ??= {});
    keys[key] ??= claim as z.core.util.JSONType;
  }

  release(resource: ResourceId): void {
    const [kind, key] = splitResource(resource);
    const keys = this.#data.owned[kind];
    if (keys === undefined) return;
    delete keys[key];
    if (Object.keys(keys).length === 0) delete this.#data.owned[kind];
  }

  earlier(path: string): Earlier | undefined {
    return this.#data.earlier[path];
  }

  keepEarlier(path: string, earlier: Earlier): void {
    this.#data.earlier[path] ??= earlier;
  }

  forgetEarlier(path: string): void {
    delete this.#data.earlier[path];
  }

  /** Content files that some earlier state still refers to: all others may be deleted. */
  earlierContents(): ReadonlySet<string> {
    return new Set(Object.values(this.#data.earlier).flatMap((earlier) => (earlier.type === "file" ? [earlier.sha256] : [])));
  }

  get pending(): readonly Trigger[] {
    return Object.entries(this.#data.pending).map(([unit, action]) => ({ unit, action }));
  }

  /** A restart outweighs a reload. */
  addPending(trigger: Trigger): void {
    if (this.#data.pending[trigger.unit] !== "restart") this.#data.pending[trigger.unit] = trigger.action;
  }

  removePending(unit: string): void {
    delete this.#data.pending[unit];
  }

  excerpt(about: { readonly resources: readonly ResourceId[]; readonly paths: readonly string[]; readonly units: readonly string[] }): Excerpt {
    const { owned, earlier, pending } = this.#data;
    return {
      owned: about.resources.map((resource) => {
        const [kind, key] = splitResource(resource);
        const claim = owned[kind]?.[key];
        return { resource, ...(claim === undefined ? {} : { claim }) };
      }),
      earlier: about.paths.map((path) => ({ path, ...(earlier[path] === undefined ? {} : { earlier: earlier[path] }) })),
      pending: about.units.map((unit) => ({ unit, ...(pending[unit] === undefined ? {} : { action: pending[unit] }) })),
    };
  }

  /** Says again what an excerpt says. */
  putBack(excerpt: Excerpt): void {
    for (const { resource, claim } of excerpt.owned) {
      this.release(resource as ResourceId);
      if (claim !== undefined) this.claim(resource as ResourceId, claim);
    }
    for (const { path, earlier } of excerpt.earlier) {
      this.forgetEarlier(path);
      if (earlier !== undefined) this.keepEarlier(path, earlier);
    }
    for (const { unit, action } of excerpt.pending) {
      this.removePending(unit);
      if (action !== undefined) this.addPending({ unit, action });
    }
  }

  get held(): string | null {
    return this.#data.held;
  }

  set held(commit: string | null) {
    this.#data.held = commit;
  }

  get repairs(): Record<string, z.output<typeof Repairs>> {
    return this.#data.repairs;
  }

  /** Writes what has changed, if anything has. */
  async save(): Promise<void> {
    const now = JSON.stringify(this.#data);
    if (now === this.#saved) return;
    await this.#store.save(this.#data);
    this.#saved = now;
  }
}

export function splitResource(resource: ResourceId): [kind: string, key: string] {
  const slash = resource.indexOf("/");
  return [resource.slice(0, slash), resource.slice(slash + 1)];
}
