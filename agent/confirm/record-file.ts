import { mkdir, readFile, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncDirectory, writeDurably } from "../host/durable.ts";
import { ConfirmRecord } from "./record.ts";
import type { ConfirmStore } from "./record.ts";

export const recordPath = (stateDir: string) => join(stateDir, "confirm.json");
/** Contents of files as they were, by their SHA-256; the record refers to them. */
export const keptPath = (stateDir: string) => join(stateDir, "confirm-kept");

export function confirmFile(stateDir: string): ConfirmStore {
  const path = recordPath(stateDir);
  return {
    async load() {
      try {
        return ConfirmRecord.parse(JSON.parse(await readFile(path, "utf8")));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
        throw new Error(`${path} cannot be read (${String(error)}). It says how a change of the network is put back. Look whether the network is as it should be, and move the file away to go on without.`, { cause: error });
      }
    },
    async save(record) {
      await mkdir(stateDir, { recursive: true, mode: 0o700 });
      await writeDurably(path, JSON.stringify(record), { mode: 0o600 });
    },
    async remove() {
      await unlink(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "ENOENT") throw error;
      });
      await syncDirectory(dirname(path));
    },
  };
}
