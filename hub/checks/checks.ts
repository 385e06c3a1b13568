import type { SecureContext } from "node:tls";
import type { Logger } from "pino";
import type { Clock, Timer } from "../../shared/clock.ts";
import type { Check } from "../../shared/config/policy.ts";
import type { CheckCounts, CheckState } from "../../shared/protocol/checks.ts";
import { look, type LookResult } from "./look.ts";
import { SharedNames } from "./names.ts";
import { afterExtraLook, afterLook, unknownProgress, unwatched, watched, type CheckProgress } from "./state.ts";
import { sameQuestion, targetOf } from "./target.ts";
import { systemAuthoritiesPath, systemTrust } from "./trust.ts";

/** Looks at once: enough for 200 checks that answer, few enough that a dead network does not fill the hub with sockets. */
export const LOOKS_AT_ONCE = 16;
/** Those who count at once: rollouts, of which few run and each must remember to stop. */
export const COUNTERS_MAX = 20;
/** The first look comes within this time: nothing may start while a check is unknown. */
const firstLookWithinMs = 1_000;
/** Each interval is stretched or shortened by up to so much, so that checks do not stay in step. */
const jitterShare = 0.1;
const defaultCountEveryMs = 1_000;
const defaultSearchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface ChecksParts {
  readonly clock: Clock;
  readonly log: Pick<Logger, "info" | "warn">;
  /** From 0 up to, but without, 1. */
  readonly random: () => number;
  /** The state or message of this check is another one now, or the check has come or gone. */
  readonly onChange: (name: string) => void;
  /** How often HTTP checks are looked at while somebody counts, if that is more often than they ask for. */
  readonly countEveryMs?: number;
  /** Where `ping` and the owner's commands are found, as in PATH. */
  readonly searchPath?: string;
  /** The PEM file of the authorities that checks believe. */
  readonly authoritiesPath?: string;
}

interface Entry {
  readonly name: string;
  /** Null once the repository has it no more, while its last look is still ending. */
  check: Check | null;
  progress: CheckProgress;
  timer: Timer | null;
  /** While a look is under way. */
  looking: AbortController | null;
  queued: boolean;
  /** By the monotonic clock. Null before the first look. */
  startedMs: number | null;
  /** When the next look is due that decides on the state; what comes before is extra. */
  turnDueMs: number;
  nextIsExtra: boolean;
}

export type Counting = { readonly ok: true } | { readonly ok: false; readonly message: string };

/**
 * Looks at the services that cluster.yaml names, each in its own rhythm, and knows how they are. All of it is in memory:
 * after a start of the hub every check is `unknown` until its first look, about a second later.
 */
export class Checks {
  readonly #parts: ChecksParts;
  readonly #entries = new Map<string, Entry>();
  readonly #counters = new Set<string>();
  readonly #names = new SharedNames();
  readonly #waiting: Entry[] = [];
  #running = 0;
  #stopped = false;
  #settling: (() => void)[] = [];
  #trust: { readonly context: SecureContext | undefined } | null = null;

  constructor(parts: ChecksParts) {
    this.#parts = parts;
  }

  /** Takes the checks of a newly accepted commit. A check that asks the same as before keeps its state and counts. */
  use(checks: Readonly<Record<string, Check>>): void {
    if (this.#stopped) return;
    // The owner may have installed an authority since.
    this.#trust = null;
    for (const entry of this.#entries.values()) if (entry.check !== null && !Object.hasOwn(checks, entry.name)) this.#drop(entry);
    for (const [name, check] of Object.entries(checks)) {
      const entry = this.#entries.get(name);
      if (entry === undefined) this.#add(name, check);
      else if (entry.check !== null && sameQuestion(entry.check, check)) this.#adjust(entry, check);
      else this.#replace(entry, check);
    }
  }

  /** In the order of their names. */
  states(): CheckState[] {
    return this.#present()
      .map(({ name, check, progress }) => ({
        name,
        ...targetOf(check),
        gates: check.gates,
        state: progress.state,
        since: iso(progress.sinceMs),
        lastMessage: progress.lastMessage,
        lastLookAt: progress.lastLookAtMs === null ? null : iso(progress.lastLookAtMs),
        lookedCount: progress.total.looked,
        failedCount: progress.total.failed,
        latencyMs: progress.latencyMs === null ? null : Math.round(progress.latencyMs * 10) / 10,
      }))
      .sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** Names of those that gate and are not `ok`: failing, or unknown. Sorted. */
  standingInTheWay(): string[] {
    return this.#present()
      .filter(({ check, progress }) => check.gates && progress.state !== "ok")
      .map(({ name }) => name)
      .sort();
  }

  /**
   * Counts looks and failures of every check for `id` from now on, on top of `already` (what was stored before the hub
   * restarted). HTTP checks are looked at more often meanwhile. Again for the same id: nothing changes.
   */
  startCounting(id: string, already: Readonly<Record<string, CheckCounts>> = {}): Counting {
    if (this.#counters.has(id)) return { ok: true };
    if (this.#counters.size >= COUNTERS_MAX) return { ok: false, message: `requests are not counted for ${id}: ${COUNTERS_MAX} others are being counted for already (${[...this.#counters].slice(0, 3).join(", ")} …); end one of them` };
    this.#counters.add(id);
    for (const entry of this.#entries.values()) entry.progress = watched(entry.progress, id, Object.hasOwn(already, entry.name) ? already[entry.name] : undefined);
    if (this.#counters.size === 1) this.#rescheduleAll();
    return { ok: true };
  }

  /** By the check's name; null when nobody counts under this id. A look that hangs until its timeout is one failure. */
  countsOf(id: string): Record<string, CheckCounts> | null {
    if (!this.#counters.has(id)) return null;
    return Object.fromEntries(this.#present().map(({ name, progress }) => [name, progress.watches[id] ?? { looked: 0, failed: 0 }]));
  }

  stopCounting(id: string): void {
    if (!this.#counters.delete(id)) return;
    for (const entry of this.#entries.values()) entry.progress = unwatched(entry.progress, id);
    if (this.#counters.size === 0) this.#rescheduleAll();
  }

  /** Resolves when no look is under way and none waits for its place. */
  async settled(): Promise<void> {
    if (this.#running > 0) await new Promise<void>((resolve) => this.#settling.push(resolve));
  }

  /** No look begins any more; resolves when those under way have ended, with all programs that they started. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const entry of this.#entries.values()) {
      entry.timer?.cancel();
      entry.looking?.abort();
    }
    this.#waiting.length = 0;
    await this.settled();
  }

  #present(): (Entry & { check: Check })[] {
    return [...this.#entries.values()].filter((entry): entry is Entry & { check: Check } => entry.check !== null);
  }

  #fresh(): CheckProgress {
    const zero = { looked: 0, failed: 0 };
    return unknownProgress(this.#parts.clock.nowMs(), Object.fromEntries([...this.#counters].map((id) => [id, zero])));
  }

  #add(name: string, check: Check): void {
    const entry: Entry = { name, check, progress: this.#fresh(), timer: null, looking: null, queued: false, startedMs: null, turnDueMs: 0, nextIsExtra: false };
    this.#entries.set(name, entry);
    this.#schedule(entry);
    this.#parts.onChange(name);
  }

  #drop(entry: Entry): void {
    entry.check = null;
    entry.timer?.cancel();
    if (entry.looking === null) this.#entries.delete(entry.name);
    else entry.looking.abort();
    this.#parts.onChange(entry.name);
  }

  /** Another question: what was known does not hold any more. What was counted did happen. */
  #replace(entry: Entry, check: Check): void {
    const counted = entry.check === null ? this.#fresh().watches : entry.progress.watches;
    entry.check = check;
    entry.progress = unknownProgress(this.#parts.clock.nowMs(), counted);
    entry.startedMs = null;
    entry.looking?.abort();
    this.#schedule(entry);
    this.#parts.onChange(entry.name);
  }

  /** The same question, perhaps in another rhythm. */
  #adjust(entry: Entry, check: Check): void {
    const before = entry.check;
    entry.check = check;
    if (before?.everySeconds !== check.everySeconds && entry.startedMs !== null) {
      entry.turnDueMs = entry.startedMs + this.#intervalMs(check);
      this.#schedule(entry);
    }
    if (before?.gates !== check.gates) this.#parts.onChange(entry.name);
  }

  #rescheduleAll(): void {
    for (const entry of this.#present()) if (entry.startedMs !== null && "http" in entry.check) this.#schedule(entry);
  }

  /** Sets the time of the next look anew. While one is under way or waits for its place, nothing is to be set. */
  #schedule(entry: Entry): void {
    const { clock, random, countEveryMs = defaultCountEveryMs } = this.#parts;
    if (this.#stopped || entry.check === null || entry.looking !== null || entry.queued) return;
    entry.timer?.cancel();
    let delayMs: number;
    entry.nextIsExtra = false;
    if (entry.startedMs === null) {
      delayMs = random() * Math.min(firstLookWithinMs, entry.check.everySeconds * 1_000);
    } else {
      const extraDueMs = this.#counters.size > 0 && "http" in entry.check ? entry.startedMs + countEveryMs : Infinity;
      entry.nextIsExtra = extraDueMs < entry.turnDueMs;
      delayMs = Math.max(0, Math.min(extraDueMs, entry.turnDueMs) - clock.monotonicMs());
    }
    entry.timer = clock.after(delayMs, () => {
      entry.timer = null;
      entry.queued = true;
      this.#waiting.push(entry);
      this.#pump();
    });
  }

  #intervalMs(check: Check): number {
    return check.everySeconds * 1_000 * (1 - jitterShare + 2 * jitterShare * this.#parts.random());
  }

  #pump(): void {
    while (this.#running < LOOKS_AT_ONCE) {
      const entry = this.#waiting.shift();
      if (entry === undefined) break;
      entry.queued = false;
      if (entry.check !== null) void this.#look(entry, entry.check);
    }
    if (this.#running > 0) return;
    const settling = this.#settling;
    this.#settling = [];
    for (const resolve of settling) resolve();
  }

  async #look(entry: Entry, check: Check): Promise<void> {
    const { clock, searchPath = defaultSearchPath } = this.#parts;
    const looking = new AbortController();
    const extra = entry.nextIsExtra;
    entry.looking = looking;
    entry.startedMs = clock.monotonicMs();
    if (!extra) entry.turnDueMs = entry.startedMs + this.#intervalMs(check);
    this.#running++;
    const result = await look(check, { clock, searchPath, names: this.#names, trust: () => this.#trusted() }, looking.signal);
    this.#running--;
    entry.looking = null;
    if (looking.signal.aborted) {
      entry.startedMs = null;
      if (entry.check === null) this.#entries.delete(entry.name);
    } else {
      this.#learn(entry, check, result, extra);
    }
    this.#schedule(entry);
    this.#pump();
  }

  #learn(entry: Entry, check: Check, result: LookResult, extra: boolean): void {
    const { log, clock, onChange } = this.#parts;
    const before = entry.progress;
    const nowMs = clock.nowMs();
    // A push may have set another failuresMax meanwhile.
    const after = extra ? afterExtraLook(before, result, nowMs) : afterLook(before, result, entry.check ?? check, nowMs);
    entry.progress = after;
    if (after.state !== before.state) {
      const { name } = entry;
      const facts = { check: name, target: targetOf(check).target, ...(after.lastMessage !== null && { why: after.lastMessage }) };
      if (after.state === "failing") log.warn(facts, "a service check fails");
      else if (after.state === "unknown") log.warn(facts, "a service check cannot look any more");
      else log.info(facts, before.state === "failing" ? "a service check is well again" : "a service check is well");
    }
    if (after.state !== before.state || after.lastMessage !== before.lastMessage) onChange(entry.name);
  }

  #trusted(): SecureContext | undefined {
    this.#trust ??= { context: systemTrust(this.#parts.authoritiesPath ?? systemAuthoritiesPath) };
    return this.#trust.context;
  }
}

function iso(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
