import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Kind } from "../shared/kinds/kind.ts";
import { Chooser, MarkFile } from "./desired/choose.ts";
import { Repository } from "./desired/repository.ts";
import { aloneBy } from "./confirm/alone.ts";
import { Confirmation } from "./confirm/confirmation.ts";
import { lockPath, readBootId } from "./confirm/putback-command.ts";
import { realReach } from "./confirm/real-reach.ts";
import { confirmFile, keptPath, recordPath } from "./confirm/record-file.ts";
import { systemdFuse } from "./confirm/systemd-fuse.ts";
import { Engine } from "./engine/engine.ts";
import { Inventory } from "./engine/inventory.ts";
import { hubCache } from "./download/downloader.ts";
import { nodeKey } from "./identity.ts";
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
  const chooser = new Chooser({ repository, settings, marks: new MarkFile(places.stateDir), kinds, key: () => nodeKey(places) });
  const { run } = processes;
  const log = (message: string) => console.error(message);
  const confirmation = new Confirmation({
    store: confirmFile(places.stateDir),
    host: new RealHost(processes, keptPath(places.stateDir)),
    fuse: systemdFuse({ run, command: thisProgram(), env: placesEnv(), recordPath: recordPath(places.stateDir) }),
    reach: realReach({ run, settings, places }),
    clock: systemClock,
    bootId: await readBootId(),
    newId: randomUUID,
    alone: aloneBy(lockPath(places), run),
    log,
  });
  const engine = new Engine({ kinds, host, inventory, clock: systemClock, confirmation, log });
  return { processes, host, inventory, repository, chooser, engine };
}

/** How this very program is started again; without the options that make the resident agent small and slow. */
function thisProgram(): readonly string[] {
  return [process.execPath, ...process.argv.slice(1, 2)];
}

/** Where it keeps what, if not in the usual places; and its compiled code, by which it starts in a third of the time. */
function placesEnv(): Readonly<Record<string, string>> {
  const names = ["EVENKEEL_SETTINGS_DIR", "EVENKEEL_STATE_DIR", "EVENKEEL_RUN_DIR", "NODE_COMPILE_CACHE"];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
}

/**
 * Only one process may change this machine, and answers false when another does. The lock is in the state directory, where
 * nobody but root can get at it: one that any user could take would let any user keep the agent from starting.
 */
export async function takeLock(places: Places): Promise<boolean> {
  await mkdir(places.stateDir, { recursive: true, mode: 0o700 });
  return lockFile(join(places.stateDir, "lock"), new Processes().run);
}
