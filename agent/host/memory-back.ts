import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock, Timer } from "../../shared/clock.ts";

/** A run leaves garbage that V8 keeps for a next one, which comes in a quarter of an hour. */
const IDLE_MS = 5_000;

/**
 * Gives memory back to the machine when the agent has had nothing to do for a while. V8 collects by how much is allocated,
 * and an agent that sleeps allocates nothing: without this, it would sleep with everything that its last run has used.
 */
export class MemoryBack {
  readonly #clock: Clock;
  readonly #collect: (options: object) => void;
  #timer: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
    setFlagsFromString("--expose-gc");
    this.#collect = runInNewContext("gc") as (options: object) => void;
  }

  /** There was something to do just now. */
  touched(): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(IDLE_MS, () => this.#collect({ type: "major", execution: "sync", flavor: "last-resort" }));
  }
}
