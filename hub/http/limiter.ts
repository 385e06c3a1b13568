import type { Clock } from "../../shared/clock.ts";

/**
 * Slows down whoever tries tokens. Tokens have 256 random bits, so guessing is hopeless; what is protected is the hub's
 * time, memory and database. A right token is therefore accepted even from an address that has failed too often: nobody
 * can lock the owner out from a shared address.
 */

export const addressesMax = 10_000;
const failuresMax = 10;
const refillMs = 6_000;
/** Failures that are written into the audit table, over all addresses. */
const notesBurst = 20;
const noteRefillMs = 60_000;

interface Bucket {
  tokens: number;
  refilledMs: number;
}

export class LoginLimiter {
  readonly #clock: Clock;
  /** In the order of their last failure, the oldest first. */
  readonly #addresses = new Map<string, Bucket>();
  readonly #notes: Bucket;
  #failures = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#notes = { tokens: notesBurst, refilledMs: clock.monotonicMs() };
  }

  get size(): number {
    return this.#addresses.size;
  }

  /** How many tries failed since the start. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts a failure. Answers how long the address should wait, in seconds (0: not at all yet), and whether to write it down. */
  failed(address: string): { readonly retryAfterS: number; readonly note: boolean } {
    this.#failures += 1;
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#addresses.get(address) ?? { tokens: failuresMax, refilledMs: nowMs };
    // Put at the end, so that the first is the one to forget.
    this.#addresses.delete(address);
    if (this.#addresses.size >= addressesMax) this.#addresses.delete(this.#addresses.keys().next().value ?? "");
    this.#addresses.set(address, bucket);
    const allowed = take(bucket, failuresMax, refillMs, nowMs);
    return { retryAfterS: allowed ? 0 : Math.ceil(refillMs / 1_000), note: take(this.#notes, notesBurst, noteRefillMs, nowMs) };
  }
}

function take(bucket: Bucket, burst: number, everyMs: number, nowMs: number): boolean {
  bucket.tokens = Math.min(burst, bucket.tokens + (nowMs - bucket.refilledMs) / everyMs);
  bucket.refilledMs = nowMs;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}
