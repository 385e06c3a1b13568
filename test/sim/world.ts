import { Chance } from "./random.ts";

/** Virtual time: what is to happen, in the order of its time, and nothing else ever happens. */
export class World {
  readonly chance: Chance;
  nowMs = 0;
  /** Notes for people; null when nobody will read them. */
  readonly trace: string[] | null;
  /** How often each sort of fault has struck: one that never does proves nothing. */
  readonly struck = new Map<string, number>();
  #queue: Item[] = [];
  #made = 0;

  constructor(seed: number, traced: boolean) {
    this.chance = new Chance(seed);
    this.trace = traced ? [] : null;
  }

  after(delayMs: number, work: () => void): void {
    push(this.#queue, { atMs: this.nowMs + Math.max(0, delayMs), order: this.#made++, work });
  }

  /** Runs until a time, or until nothing is left to do. */
  run(untilMs: number): void {
    for (;;) {
      const first = this.#queue[0];
      if (first === undefined || first.atMs > untilMs) break;
      pop(this.#queue);
      this.nowMs = first.atMs;
      first.work();
    }
    this.nowMs = untilMs;
  }

  /** Notes that a fault has struck. */
  count(fault: string): void {
    this.struck.set(fault, (this.struck.get(fault) ?? 0) + 1);
  }

  say(who: string, text: () => string): void {
    this.trace?.push(`${clock(this.nowMs)}  ${who.padEnd(6)} ${text()}`);
  }
}

function clock(ms: number): string {
  const seconds = ms / 1_000;
  return `${String(Math.floor(seconds / 60)).padStart(3)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
}

interface Item {
  readonly atMs: number;
  readonly order: number;
  readonly work: () => void;
}

function before(a: Item, b: Item): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** A binary heap: a sorted list would be most of a simulation's time. */
function push(heap: Item[], item: Item): void {
  let at = heap.length;
  heap.push(item);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || before(above, item)) break;
    heap[at] = above;
    at = parent;
  }
  heap[at] = item;
}

function pop(heap: Item[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    const left = 2 * at + 1;
    const right = left + 1;
    let child = heap[left];
    let next = left;
    const other = heap[right];
    if (child === undefined) break;
    if (other !== undefined && before(other, child)) {
      child = other;
      next = right;
    }
    if (!before(child, last)) break;
    heap[at] = child;
    at = next;
  }
  heap[at] = last;
}
