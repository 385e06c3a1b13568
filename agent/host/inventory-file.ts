import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { InventoryStore } from "../engine/inventory.ts";
import { writeDurably } from "./durable.ts";

/** The inventory as one JSON file. `load` answers null where there is none. */
export function inventoryFile(stateDir: string): InventoryStore {
  const path = join(stateDir, "inventory.json");
  return {
    async load() {
      try {
        return JSON.parse(await readFile(path, "utf8"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
        throw new Error(`${path} cannot be read (${String(error)}). It says what the agent made and what was there before; without it, nothing is pruned. Move it away to go on without.`, { cause: error });
      }
    },
    async save(data) {
      await mkdir(stateDir, { recursive: true, mode: 0o700 });
      await writeDurably(path, JSON.stringify(data), { mode: 0o600 });
    },
  };
}
