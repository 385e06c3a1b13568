import type { Blackout, Window } from "./config/policy.ts";
import { matchesDay, parseCron } from "./cron.ts";
import type { Cron } from "./cron.ts";

/**
 * When maintenance windows are open, and on which days nothing begins. Pure: the caller says what time it is. Expects
 * what the loader has checked; an expression, zone or day that does not exist throws.
 *
 * A window opens at each minute of its zone's calendar that its cron expression matches, and stays open for its length
 * of real time. A minute that a change of the clocks skips opens at the first moment after the gap; one that comes twice
 * opens at the first. Openings that overlap or touch, of one window or of several, are one stretch: it opens when the
 * first of them does and closes with the last.
 */
export interface OpenWindow {
  /** At the moment asked about (or at the opening), the window of the stretch that closes last. */
  readonly name: string;
  /** The stretch holds all t with opensAtMs <= t < closesAtMs. */
  readonly opensAtMs: number;
  readonly closesAtMs: number;
}

/** How far is looked ahead for an opening, and about how far in both directions for the ends of a stretch that never closes. */
export const LOOK_DAYS_MAX = 400;

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const LOOK_MS_MAX = LOOK_DAYS_MAX * DAY_MS;
/** Beyond this (some 250,000 years), a clock has gone mad and calendars end: no window is open then. */
const CLOCK_MS_MAX = 8e15;

/**
 * The stretch that holds `nowMs`. For windows that never close, `opensAtMs` is an opening 400 to 800 days ago, the same
 * for 400 days, and `closesAtMs` lies about 400 days ahead.
 * @param names the windows that count; a name that `windows` lacks is no window.
 */
export function windowAt(windows: Readonly<Record<string, Window>>, names: readonly string[], nowMs: number): OpenWindow | null {
  const chosen = choose(windows, names);
  if (chosen.length === 0 || !isTime(nowMs)) return null;
  const lengthMsMax = Math.max(...chosen.map((each) => each.lengthMs));
  const near = nowMs - 3 * lengthMsMax;
  const stretch = stretchAt(chosen, near, nowMs);
  // What opened before `near` reaches no further than this, so a stretch that begins later has its true beginning.
  if (stretch === null || stretch.opensAtMs > near + lengthMsMax) return stretch;
  return stretchAt(chosen, Math.floor(nowMs / LOOK_MS_MAX - 1) * LOOK_MS_MAX, nowMs);
}

/** The next stretch that opens after `nowMs`, at most {@link LOOK_DAYS_MAX} days ahead. What is open now is not it, and neither is what only extends that. */
export function nextWindow(windows: Readonly<Record<string, Window>>, names: readonly string[], nowMs: number): OpenWindow | null {
  const chosen = choose(windows, names);
  if (chosen.length === 0 || !isTime(nowMs)) return null;
  const lengthMsMax = Math.max(...chosen.map((each) => each.lengthMs));
  for (const stretch of stretches(chosen, nowMs - lengthMsMax - MINUTE_MS, nowMs + 2 * LOOK_MS_MAX, null)) {
    if (stretch.opensAtMs > nowMs + LOOK_MS_MAX) return null;
    if (stretch.opensAtMs > nowMs) return stretch;
  }
  return null;
}

/** Whether what takes so long, begun now, is over before the window closes. */
export function fits(nowMs: number, durationMs: number, window: OpenWindow): boolean {
  return nowMs >= window.opensAtMs && nowMs < window.closesAtMs && nowMs + durationMs <= window.closesAtMs;
}

/** The blackout that holds `nowMs`; of several, the one that ends last. */
export function blackoutAt(blackouts: readonly Blackout[], nowMs: number): Blackout | null {
  let found: { readonly blackout: Blackout; readonly endMs: number } | null = null;
  for (const blackout of blackouts) {
    const endMs = blackoutEndMs(blackout);
    if (nowMs >= startOfDayMs(blackout.from, blackout.zone, 0) && nowMs < endMs && (found === null || endMs > found.endMs)) found = { blackout, endMs };
  }
  return found?.blackout ?? null;
}

/** The first moment after it: its last day is part of it. Another blackout may hold that moment. */
export function blackoutEndMs(blackout: Blackout): number {
  return startOfDayMs(blackout.to, blackout.zone, 1);
}

function startOfDayMs(day: string, zone: string, daysLater: number): number {
  return Temporal.PlainDate.from(day, { overflow: "reject" }).add({ days: daysLater }).toZonedDateTime(zone).epochMilliseconds;
}

function isTime(nowMs: number): boolean {
  return Math.abs(nowMs) <= CLOCK_MS_MAX;
}

/** A window made ready to be computed with. */
interface Schedule {
  readonly name: string;
  readonly cron: Cron;
  readonly zone: string;
  readonly lengthMs: number;
  /** Minutes of the day that follow each other so closely that the window does not close between: [first, last]. */
  readonly runs: readonly (readonly [number, number])[];
}

function choose(windows: Readonly<Record<string, Window>>, names: readonly string[]): readonly Schedule[] {
  return [...new Set(names)].flatMap((name) => {
    const window = Object.hasOwn(windows, name) ? windows[name] : undefined;
    if (window === undefined) return [];
    const parsed = parseCron(window.opens);
    if (!parsed.ok) throw new Error(`window ${name}: ${parsed.reason}: ${parsed.help}`);
    const { cron } = parsed;
    return [{ name, cron, zone: window.zone, lengthMs: window.lengthMinutes * MINUTE_MS, runs: runsOf(cron.minutesOfDay, window.lengthMinutes) }];
  });
}

function runsOf(minutesOfDay: readonly number[], lengthMinutes: number): readonly (readonly [number, number])[] {
  const runs: [number, number][] = [];
  for (const minute of minutesOfDay) {
    const last = runs.at(-1);
    if (last !== undefined && minute - last[1] <= lengthMinutes) last[1] = minute;
    else runs.push([minute, minute]);
  }
  return runs;
}

interface Stretch {
  readonly opensAtMs: number;
  readonly closesAtMs: number;
}

function stretchAt(schedules: readonly Schedule[], fromMs: number, nowMs: number): OpenWindow | null {
  for (const stretch of stretches(schedules, fromMs, nowMs + LOOK_MS_MAX, nowMs)) {
    if (stretch.opensAtMs > nowMs) return null;
    if (stretch.closesAtMs > nowMs) return stretch;
  }
  return null;
}

/**
 * What the openings from `fromMs` to `toMs` (and some before) join to, in order.
 * @param nameAtMs the moment whose window names the stretch; null for its opening.
 */
function* stretches(schedules: readonly Schedule[], fromMs: number, toMs: number, nameAtMs: number | null): Generator<OpenWindow> {
  const heads = schedules.map((schedule) => {
    const joined = join(openings(schedule, fromMs, toMs));
    return { name: schedule.name, joined, next: joined.next().value ?? null };
  });
  const takeFirst = (): (Stretch & { readonly name: string }) | null => {
    let first: { readonly head: (typeof heads)[number]; readonly next: Stretch } | null = null;
    for (const head of heads) if (head.next !== null && (first === null || head.next.opensAtMs < first.next.opensAtMs)) first = { head, next: head.next };
    if (first === null) return null;
    first.head.next = first.head.joined.next().value ?? null;
    return { name: first.head.name, ...first.next };
  };
  let current: { name: string; nameCloses: number; opensAtMs: number; closesAtMs: number } | null = null;
  for (let each = takeFirst(); each !== null; each = takeFirst()) {
    if (current !== null && each.opensAtMs <= current.closesAtMs) current.closesAtMs = Math.max(current.closesAtMs, each.closesAtMs);
    else {
      if (current !== null) yield named(current);
      current = { name: each.name, nameCloses: -Infinity, opensAtMs: each.opensAtMs, closesAtMs: each.closesAtMs };
    }
    const at = nameAtMs ?? current.opensAtMs;
    if (each.opensAtMs <= at && at < each.closesAtMs && each.closesAtMs > current.nameCloses) {
      current.name = each.name;
      current.nameCloses = each.closesAtMs;
    }
  }
  if (current !== null) yield named(current);
}

function named({ name, opensAtMs, closesAtMs }: OpenWindow): OpenWindow {
  return { name, opensAtMs, closesAtMs };
}

/** Joins what overlaps or touches, of one window, in order. */
function* join(sorted: Iterable<Stretch>): Generator<Stretch, undefined> {
  let current: Stretch | null = null;
  for (const each of sorted) {
    if (current !== null && each.opensAtMs <= current.closesAtMs) current = { opensAtMs: current.opensAtMs, closesAtMs: Math.max(current.closesAtMs, each.closesAtMs) };
    else {
      if (current !== null) yield current;
      current = each;
    }
  }
  if (current !== null) yield current;
}

/** The openings of one window, in order, from about a day before `fromMs`. Whole runs where no change of the clocks is among them. */
function* openings(schedule: Schedule, fromMs: number, toMs: number): Generator<Stretch> {
  const local = new LocalTime(schedule.zone, fromMs - 2 * DAY_MS);
  for (const dayMs of matchingDays(schedule.cron, fromMs - DAY_MS + local.offsetMs, toMs + 2 * DAY_MS)) {
    for (const [first, last] of schedule.runs) {
      const firstMs = dayMs + first * MINUTE_MS;
      const opens = local.toInstant(firstMs);
      if (opens > toMs) return;
      // With one offset from the first to the last minute of the run, real time and the calendar go together.
      const isEven = opens === firstMs - local.offsetMs && local.holds(dayMs + last * MINUTE_MS);
      if (isEven) yield { opensAtMs: opens, closesAtMs: opens + (last - first) * MINUTE_MS + schedule.lengthMs };
      else {
        for (const minute of schedule.cron.minutesOfDay) {
          if (minute < first || minute > last) continue;
          const opensAtMs = local.toInstant(dayMs + minute * MINUTE_MS);
          yield { opensAtMs, closesAtMs: opensAtMs + schedule.lengthMs };
        }
      }
    }
  }
}

/** The days that a cron expression matches, as the milliseconds from 1970-01-01 to the day on the calendar, no zone about it. */
function* matchingDays(cron: Cron, fromMs: number, toMs: number): Generator<number> {
  let epochDay = Math.floor(fromMs / DAY_MS);
  const start = Temporal.Instant.fromEpochMilliseconds(epochDay * DAY_MS).toZonedDateTimeISO("UTC");
  let { year, month, day } = start;
  while (epochDay * DAY_MS <= toMs) {
    const days = daysIn(year, month);
    if (cron.months.has(month)) {
      // 1970-01-01 was a Thursday.
      if (matchesDay(cron, month, day, (((epochDay + 4) % 7) + 7) % 7)) yield epochDay * DAY_MS;
      epochDay += 1;
      day += 1;
    } else {
      epochDay += days - day + 1;
      day = days + 1;
    }
    if (day > days) {
      day = 1;
      month = month === 12 ? 1 : month + 1;
      if (month === 1) year += 1;
    }
  }
}

function daysIn(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/**
 * A zone's calendar turned into real time, for times that only go forward. It asks for the zone's next change only when
 * it comes to it, since that takes longer than all the rest.
 */
class LocalTime {
  offsetMs: number;
  /** Real time at which the present offset began and ends. */
  #sinceMs = -Infinity;
  #untilMs: number;
  readonly #zone: string;

  constructor(zone: string, fromMs: number) {
    this.#zone = zone;
    const from = Temporal.Instant.fromEpochMilliseconds(fromMs).toZonedDateTimeISO(zone);
    this.offsetMs = from.offsetNanoseconds / 1e6;
    this.#untilMs = from.getTimeZoneTransition("next")?.epochMilliseconds ?? Infinity;
  }

  /** The first moment that has this time on the calendar, or the first after the gap that it falls into. */
  toInstant(wallMs: number): number {
    while (!this.holds(wallMs)) this.#goOn();
    return Math.max(wallMs - this.offsetMs, this.#sinceMs);
  }

  /** Whether the present offset is in force when it is this time (or still ends a gap that holds it). */
  holds(wallMs: number): boolean {
    return wallMs - this.offsetMs < this.#untilMs;
  }

  #goOn(): void {
    const change = Temporal.Instant.fromEpochMilliseconds(this.#untilMs).toZonedDateTimeISO(this.#zone);
    this.#sinceMs = this.#untilMs;
    this.offsetMs = change.offsetNanoseconds / 1e6;
    this.#untilMs = change.getTimeZoneTransition("next")?.epochMilliseconds ?? Infinity;
  }
}
