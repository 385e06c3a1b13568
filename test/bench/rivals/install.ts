import type { Solo } from "../solo.ts";
import type { State } from "../state.ts";
import { ansible } from "./ansible.ts";
import { cfengine } from "./cfengine.ts";
import { puppet } from "./puppet.ts";
import type { Rival } from "./rival.ts";

const rivals: readonly Rival[] = [puppet, cfengine, ansible];

const RUN_TIMEOUT_MS = 5 * 60_000;

export interface Installed {
  /** In the order in which they are measured. */
  readonly ready: readonly Rival[];
  /** Why others are missing. */
  readonly missing: readonly string[];
}

/**
 * Installs the rivals on the node, each by itself: one that cannot be had does not keep the others away. All that are
 * ready have found nothing to do on the node as it is.
 */
export async function installRivals(solo: Solo, node: string, state: State, progress: (message: string) => void): Promise<Installed> {
  const ready: Rival[] = [];
  const missing: string[] = [];
  for (const rival of rivals) {
    try {
      progress(`installing ${rival.name}`);
      await solo.lab.mirror(rival.packages);
      await solo.must(node, `apt-get -qq update && apt-get -qq -y --no-install-recommends install ${rival.packages.join(" ")} && { ${rival.setUp}; }`, RUN_TIMEOUT_MS);
      progress(`${rival.name} looks whether it agrees`);
      await settle(solo, node, rival, state);
      ready.push(rival);
    } catch (error) {
      const reason = `${rival.name} could not be compared: ${error instanceof Error ? error.message : String(error)}`;
      progress(reason);
      missing.push(reason.slice(0, 500));
    }
  }
  return { ready, missing };
}

/** Writes the rival's configuration and has it run until it agrees that there is nothing to do. */
async function settle(solo: Solo, node: string, rival: Rival, state: State): Promise<void> {
  for (const [path, content] of rival.configuration(state)) await solo.lab.writeFile(node, path, content, 0o600);
  let said = "";
  // The first run may do what only this product cares about, such as a cache of its own.
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const outcome = await solo.lab.exec(node, rival.check ?? rival.apply, optionsOf(rival));
    if (rival.foundNothingToDo(outcome)) return;
    said = `code ${outcome.code}\n${outcome.stdout}\n${outcome.stderr}`;
  }
  throw new Error(`${rival.name} finds something to do where the others find nothing:\n${said.slice(-3_000)}`);
}

export function optionsOf(rival: Rival): { readonly timeoutMs: number; readonly env: Readonly<Record<string, string>> } {
  return { timeoutMs: RUN_TIMEOUT_MS, env: rival.env ?? {} };
}
