import { connect } from "node:net";
import type { Lab } from "../lab/lab.ts";

/**
 * Looks at the nodes from outside, several times a second, and knows nothing of leases: is its service there, and which
 * boot is it? It shares no code with the coordinator.
 */
export class Watcher {
  readonly #lab: Lab;
  readonly #nodes: readonly string[];
  readonly #port: number;
  #stopped = false;
  #running: Promise<void> = Promise.resolve();
  /** The most nodes that were ever away at one look, and which. */
  worst: readonly string[] = [];
  /** Each node: how many times it went away. */
  readonly outages = new Map<string, number>();
  looks = 0;
  #away = new Set<string>();
  /** Nodes that the test itself has hurt: whatever they do is not by order. */
  readonly excused = new Set<string>();

  constructor(lab: Lab, nodes: readonly string[], port: number) {
    this.#lab = lab;
    this.#nodes = nodes;
    this.#port = port;
  }

  start(): this {
    this.#running = this.#watch();
    return this;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #watch(): Promise<void> {
    while (!this.#stopped) {
      const seen = await Promise.all(this.#nodes.map(async (node) => [node, await this.#serves(node)] as const));
      this.looks++;
      for (const [node, serves] of seen) {
        if (serves) this.#away.delete(node);
        else if (!this.#away.has(node)) {
          this.#away.add(node);
          this.outages.set(node, (this.outages.get(node) ?? 0) + 1);
        }
      }
      const away = [...this.#away].filter((node) => !this.excused.has(node));
      if (away.length > this.worst.length) this.worst = away;
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
  }

  #serves(node: string): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect({ host: this.#lab.address(node), port: this.#port, timeout: 700 });
      const done = (serves: boolean): void => {
        socket.destroy();
        resolve(serves);
      };
      socket.once("connect", () => done(true));
      socket.once("timeout", () => done(false));
      socket.once("error", () => done(false));
    });
  }
}
