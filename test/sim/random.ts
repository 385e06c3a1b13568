/** Chance out of one seed: the same seed gives the same numbers for ever (sfc32, Chris Doty-Humphrey, PractRand). */
export class Chance {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    this.#a = seed >>> 0;
    this.#b = Math.floor(seed / 2 ** 32) >>> 0;
    this.#c = 0x9e3779b9;
    for (let index = 0; index < 12; index++) this.#next();
  }

  #next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** 0 up to and without `below`. */
  below(below: number): number {
    return this.#next() % below;
  }

  between(low: number, high: number): number {
    return low + this.below(Math.floor(high - low) + 1);
  }

  /** True with this probability. */
  happens(probability: number): boolean {
    return this.#next() / 2 ** 32 < probability;
  }

  pick<T>(list: readonly T[]): T {
    const item = list[this.below(list.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  text(): string {
    return `${this.#next()}-${this.#next()}`;
  }

  uuid(): string {
    const hex = [this.#next(), this.#next(), this.#next(), this.#next()].map((part) => part.toString(16).padStart(8, "0")).join("");
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
  }
}
