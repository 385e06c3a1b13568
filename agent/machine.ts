import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Kind } from "../shared/kinds/kind.ts";
import { Chooser, MarkFile } from "./desired/choose.ts";
import { Repository } from "./desired/repository.ts";
import { Engine } from "./engine/engine.ts";
import { Inventory } from "./engine/inventory.ts";
import { hubCache } from "./download/downloader.ts";
import { inventoryFile } from "./host/inventory-file.ts";
import { lockFile } from "./host/lock-file.ts";
import { Processes } from "./host/process.ts";
import { RealHost } from "./host/real.ts";
import { authorityPath, certificatePath, keyPath } from "./settings.ts";
import type { Places, Settings } from "./settings.ts";
import { systemClock } from "./system-clock.ts";

export const AGENT_VERSION = "0.1.0";

/** Everything that plans and converges on this machine, without anything that talks to others. */
export interface Machine {
  readonly processes: Processes;
  readonly host: RealHost;
  readonly inventory: Inventory;
  readonly repository: Repository;
  readonly chooser: Chooser;
  readonly engine: Engine;
}

export async function openMachine(settings: Settings, places: Places, kinds: readonly Kind[]): Promise<Machine> {
  const processes = new Processes();
  const host = new RealHost(processes, join(places.stateDir, "backup"), hubCache(settings.hub, { ca: authorityPath(places), cert: certificatePath(places), key: keyPath(places) }));
  const inventory = await Inventory.open(inventoryFile(places.stateDir));
  const repository = new Repository(processes.runBytes, places, settings);
  const chooser = new Chooser({ repository, settings, marks: new MarkFile(places.stateDir), kinds });
  const engine = new Engine({ kinds, host, inventory, clock: systemClock });
  return { processes, host, inventory, repository, chooser, engine };
}

/**
 * Only one process may change this machine, and answers false when another does. The lock is in the state directory, where
 * nobody but root can get at it: one that any user could take would let any user keep the agent from starting.
 */
export async function takeLock(places: Places): Promise<boolean> {
  await mkdir(places.stateDir, { recursive: true, mode: 0o700 });
  return lockFile(join(places.stateDir, "lock"), new Processes().run);
}
