import type { Scenario } from "./scenario.ts";
import type { World } from "./world.ts";

/** Between hub and nodes. Messages get lost, doubled, delayed and so overtake each other; nodes are cut off. */
export class Network {
  readonly #world: World;
  #faults: Scenario["network"];
  readonly #cuts = new Map<string, { waiting: (() => void)[]; keeps: boolean; sinceMs: number }>();
  readonly #onHeal: (node: string) => void;

  constructor(world: World, faults: Scenario["network"], onHeal: (node: string) => void) {
    this.#world = world;
    this.#faults = faults;
    this.#onHeal = onHeal;
  }

  isCut(node: string): boolean {
    return this.#cuts.has(node);
  }

  cut(node: string, keeps: boolean): boolean {
    if (this.#cuts.has(node)) return false;
    this.#cuts.set(node, { waiting: [], keeps, sinceMs: this.#world.nowMs });
    return true;
  }

  heal(node: string): void {
    const cut = this.#cuts.get(node);
    if (cut === undefined) return;
    this.#cuts.delete(node);
    const { chance } = this.#world;
    for (const deliver of cut.waiting) this.#world.after(chance.happens(0.3) ? chance.between(500, chance.happens(0.3) ? 60_000 : 15_000) : chance.between(1, 500), deliver);
    this.#onHeal(node);
  }

  calm(): void {
    this.#faults = { loses: 0, doubles: 0, delays: 0 };
    for (const node of [...this.#cuts.keys()]) this.heal(node);
  }

  /** Carries one message between the hub and this node, in either direction. */
  carry(node: string, deliver: () => void): void {
    const cut = this.#cuts.get(node);
    if (cut !== undefined) {
      this.#world.count(cut.keeps ? "message held up" : "message cut off");
      if (cut.keeps && cut.waiting.length < 100) cut.waiting.push(deliver);
      return;
    }
    const { chance } = this.#world;
    if (chance.happens(this.#faults.loses)) return this.#world.count("message lost");
    const copies = chance.happens(this.#faults.doubles) ? 2 : 1;
    if (copies > 1) this.#world.count("message doubled");
    for (let copy = 0; copy < copies; copy++) {
      const late = chance.happens(this.#faults.delays);
      if (late) this.#world.count("message late");
      const lateMs = late ? chance.between(200, chance.happens(0.2) ? 200_000 : 5_000) : chance.between(1, 30);
      this.#world.after(lateMs, () => {
        // A cut that came meanwhile takes what was under way.
        if (!this.#cuts.has(node)) deliver();
      });
    }
  }
}
