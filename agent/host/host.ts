import type { Output, Probe, ResourceId, Step, Trigger } from "../../shared/kinds/kind.ts";
import type { Earlier } from "../engine/inventory.ts";

/**
 * The machine, as the engine changes it. Real in `agent/host/real.ts`; in tests a machine in memory. A failure is an
 * answer, with a message that says what was being done, what is wrong, and what to do.
 */
export interface Host {
  readonly probe: Probe;
  /** How many processes were started so far, by probing and by applying. */
  readonly processesStarted: number;
  /** Carries one step out; `package` and `unit` steps go through the two methods below. */
  apply(step: Step, earlier: Earlier | undefined): Promise<StepResult>;
  /** All packages' steps of a run as one apt transaction. A resource that is missing in the answer was not reached. */
  packages(steps: readonly PackageStep[], declared: ReadonlySet<string>): Promise<ReadonlyMap<ResourceId, StepResult>>;
  /** The same action on several units, in one call. */
  units(action: UnitStep["action"], units: readonly string[], timeoutMs?: number): Promise<StepResult>;
  /** Restarts or reloads a unit that is running; leaves one alone that is not. */
  trigger(trigger: Trigger, timeoutMs?: number): Promise<StepResult>;
  /** Looks at what stands at a path now and keeps its content, so that `restore` can put it back. @throws CannotKeep */
  keep(path: string): Promise<Earlier>;
  /** Deletes kept contents that nothing refers to any more. */
  forget(wanted: ReadonlySet<string>): Promise<void>;
}

export type PackageStep = Extract<Step, { do: "package" }>;
export type UnitStep = Extract<Step, { do: "unit" }>;

export type StepResult = { readonly ok: true } | { readonly ok: false; readonly message: string };

/** What stands at a path cannot be put back later (too large to keep): the step must not happen. */
export class CannotKeep extends Error {}

export const done: StepResult = { ok: true };

export function failed(message: string): StepResult {
  return { ok: false, message };
}

/** The end of what a failed program said, for people. */
export function failedRun(argv: readonly string[], output: Output): StepResult {
  const said = `${output.stdout}\n${output.stderr}`.trim();
  const tail = said.length > 3_000 ? `…${said.slice(-3_000)}` : said;
  return failed(`${argv.slice(0, 4).join(" ")} ended with code ${output.code}${tail === "" ? "" : `: ${tail}`}`);
}
