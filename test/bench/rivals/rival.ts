import type { Outcome } from "../../lab/lab.ts";
import type { State } from "../state.ts";

/** Another product that makes a node what is declared, as Debian ships it. */
export interface Rival {
  readonly name: string;
  /** Debian packages that it takes. */
  readonly packages: readonly string[];
  /** Shell lines to run once after installation: no daemon of it shall run beside the measured ones. */
  readonly setUp: string;
  /** Path to content, in the node: the state in the product's own language, written as its manual does. */
  configuration(state: State): ReadonlyMap<string, string>;
  readonly apply: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The same run, made to tell whether it changed anything; when `apply` does not tell. */
  readonly check?: readonly string[];
  /** True when this run of it succeeded and found nothing to do. */
  foundNothingToDo(outcome: Outcome): boolean;
}
