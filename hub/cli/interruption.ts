/** Ctrl-C and its like, for a command that has something to take away before it ends. */
const caught = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export class Interruption {
  seen = false;
  /** Resolves with the first signal. */
  readonly first: Promise<void>;
  readonly #handler: () => void;

  constructor() {
    let tell = (): void => {};
    this.first = new Promise((resolve) => (tell = resolve));
    this.#handler = () => {
      this.seen = true;
      tell();
    };
    for (const signal of caught) process.on(signal, this.#handler);
  }

  /** From now on, signals do what they usually do. */
  end(): void {
    for (const signal of caught) process.off(signal, this.#handler);
  }
}
