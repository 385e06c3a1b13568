import type { Clock } from "../../shared/clock.ts";
import type { Kind, Output, Owned, Probe } from "../../shared/kinds/kind.ts";
import type { AskEvent, MadeEvent, MakeOrder, NoValueOrder, NotMadeEvent, ValueOrder } from "../../shared/protocol/values.ts";
import { Asker } from "./asker.ts";
import type { Handed } from "./asker.ts";
import { Maker } from "./maker.ts";

export interface ExchangeParts {
  readonly self: string;
  readonly kinds: readonly Kind[];
  readonly probe: Probe;
  readonly run: (argv: readonly [string, ...string[]], options: { readonly timeoutMs: number }) => Promise<Output>;
  /** What is chosen now; null before the first commit. */
  readonly desired: () => { readonly sections: ReadonlyMap<string, unknown>; readonly recipients?: ReadonlyMap<string, string> } | null;
  readonly ownedOf: (kind: string) => Owned;
  readonly identity: () => Promise<string | null>;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly tell: (event: AskEvent | MadeEvent | NotMadeEvent) => Promise<void>;
  readonly arrived: () => void;
  readonly log: (message: string) => void;
}

const NO_RECIPIENTS: ReadonlyMap<string, string> = new Map();

/** Both halves of what this node has to do with values between nodes. */
export class Exchange {
  readonly #asker: Asker;
  readonly #maker: Maker;

  constructor(parts: ExchangeParts) {
    const recipients = (): ReadonlyMap<string, string> => parts.desired()?.recipients ?? NO_RECIPIENTS;
    this.#asker = new Asker({ ...parts, recipients });
    this.#maker = new Maker({ ...parts, recipients, sections: () => parts.desired()?.sections ?? null });
  }

  hand(): Handed {
    return this.#asker.hand();
  }

  order(order: MakeOrder | ValueOrder | NoValueOrder): Promise<void> {
    if (order.kind === "make") return this.#maker.make(order);
    if (order.kind === "value") return this.#asker.take(order);
    this.#asker.refused(order);
    return Promise.resolve();
  }

  stop(): void {
    this.#asker.stop();
  }
}
