import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Blackout, Window } from "./config/policy.ts";
import { parseCron } from "./cron.ts";
import { LOOK_DAYS_MAX, blackoutAt, blackoutEndMs, fits, nextWindow, windowAt } from "./window.ts";

const ms = (text: string) => Temporal.ZonedDateTime.from(text).epochMilliseconds;
const utc = (text: string) => Temporal.Instant.from(text).epochMilliseconds;
const iso = (at: number | undefined) => (at === undefined ? null : Temporal.Instant.fromEpochMilliseconds(at).toString());
const window = (opens: string, lengthMinutes: number, zone = "Etc/UTC"): Window => ({ opens, lengthMinutes, zone });

describe("fixed vectors", () => {
  const cases: readonly (readonly [what: string, Window, now: string, opens: string | null, closes: string | null])[] = [
    ["plain", window("0 2 * * *", 180), "2026-06-10T02:00Z", "2026-06-10T02:00:00Z", "2026-06-10T05:00:00Z"],
    ["the end is not part of it", window("0 2 * * *", 180), "2026-06-10T05:00Z", null, null],
    ["a moment before the end", window("0 2 * * *", 180), "2026-06-10T04:59:59.999Z", "2026-06-10T02:00:00Z", "2026-06-10T05:00:00Z"],
    ["Friday's window on Saturday (kured misses this)", window("0 23 * * fri", 180, "Europe/Berlin"), "2026-06-12T23:00Z", "2026-06-12T21:00:00Z", "2026-06-13T00:00:00Z"],
    ["and not on Friday morning", window("0 23 * * fri", 180, "Europe/Berlin"), "2026-06-11T23:00Z", null, null],
    ["across the new year", window("30 23 31 12 *", 120, "America/New_York"), "2027-01-01T05:30Z", "2027-01-01T04:30:00Z", "2027-01-01T06:30:00Z"],
    ["29 February", window("0 2 29 2 *", 60), "2028-02-29T02:30Z", "2028-02-29T02:00:00Z", "2028-02-29T03:00:00Z"],
    ["Berlin, spring: 02:30 does not exist, so it opens at 03:00", window("30 2 * * *", 60, "Europe/Berlin"), "2026-03-29T01:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
    ["Berlin, spring: not before the gap", window("30 2 * * *", 60, "Europe/Berlin"), "2026-03-29T00:59:59Z", null, null],
    ["Berlin, spring: three hours are three hours", window("0 1 * * *", 180, "Europe/Berlin"), "2026-03-29T02:59Z", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"],
    ["Berlin, autumn: 02:30 comes twice, and it opens at the first", window("30 2 * * *", 60, "Europe/Berlin"), "2026-10-25T00:30Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"],
    ["Berlin, autumn: not at the second", window("30 2 * * *", 30, "Europe/Berlin"), "2026-10-25T01:30Z", null, null],
    ["Berlin, autumn: three hours are three hours", window("0 1 * * *", 180, "Europe/Berlin"), "2026-10-25T01:59Z", "2026-10-24T23:00:00Z", "2026-10-25T02:00:00Z"],
    ["Berlin, autumn: hourly for an hour, but one hour has two", window("30 * * * *", 60, "Europe/Berlin"), "2026-10-25T01:29Z", null, "2026-10-25T01:30:00Z"],
    ["Berlin, autumn: closed in the hour that comes twice", window("30 * * * *", 60, "Europe/Berlin"), "2026-10-25T01:30Z", null, null],
    ["Berlin, autumn: open again", window("30 * * * *", 60, "Europe/Berlin"), "2026-10-25T02:30Z", "2026-10-25T02:30:00Z", null],
    ["a minute between", window("0,31 2 * * *", 30), "2026-06-10T02:30Z", null, null],
    ["New York, spring", window("15 2 8 3 *", 30, "America/New_York"), "2026-03-08T07:10Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"],
    ["New York, autumn", window("15 1 1 11 *", 30, "America/New_York"), "2026-11-01T05:20Z", "2026-11-01T05:15:00Z", "2026-11-01T05:45:00Z"],
    ["New York, autumn: the second 01:15", window("15 1 1 11 *", 30, "America/New_York"), "2026-11-01T06:20Z", null, null],
    // 02:00 +10:30 becomes 02:30 +11:00.
    ["Lord Howe, spring: a gap of half an hour", window("15 2 4 10 *", 10, "Australia/Lord_Howe"), "2026-10-03T15:35Z", "2026-10-03T15:30:00Z", "2026-10-03T15:40:00Z"],
    // 02:00 +11:00 becomes 01:30 +10:30.
    ["Lord Howe, autumn: 01:45 comes twice", window("45 1 5 4 *", 10, "Australia/Lord_Howe"), "2026-04-04T14:50Z", "2026-04-04T14:45:00Z", "2026-04-04T14:55:00Z"],
    ["Lord Howe, autumn: the second", window("45 1 5 4 *", 10, "Australia/Lord_Howe"), "2026-04-04T15:20Z", null, null],
    ["Apia has no 30 December 2011", window("0 12 30 12 *", 60, "Pacific/Apia"), "2011-12-30T10:30Z", "2011-12-30T10:00:00Z", "2011-12-30T11:00:00Z"],
    ["day of the month or day of the week, as in cron", window("0 2 13 * fri", 60), "2026-06-05T02:30Z", "2026-06-05T02:00:00Z", "2026-06-05T03:00:00Z"],
    ["reopening extends", window("0 2,4 * * *", 180), "2026-06-10T06:30Z", "2026-06-10T02:00:00Z", "2026-06-10T07:00:00Z"],
    ["what touches is one", window("0 2,3 * * *", 60), "2026-06-10T02:30Z", "2026-06-10T02:00:00Z", "2026-06-10T04:00:00Z"],
    ["a week that overlaps itself by an hour", window("0 0 1-3 6 *", 25 * 60), "2026-06-02T00:00Z", "2026-06-01T00:00:00Z", "2026-06-04T01:00:00Z"],
  ];
  test.each(cases)("%s", (_what, each, now, opens, closes) => {
    const found = windowAt({ w: each }, ["w"], utc(now));
    if (opens === null && closes === null) expect(found).toBeNull();
    if (opens !== null) expect(iso(found?.opensAtMs)).toBe(opens);
    if (closes !== null) expect(iso(found?.closesAtMs)).toBe(closes);
  });

  const nexts: readonly (readonly [what: string, Window, now: string, opens: string | null])[] = [
    ["later today", window("0 2 * * *", 180), "2026-06-10T01:00Z", "2026-06-10T02:00:00Z"],
    ["while open: the one after", window("0 2 * * *", 180), "2026-06-10T02:00Z", "2026-06-11T02:00:00Z"],
    ["right at the end", window("0 2 * * *", 180), "2026-06-10T05:00Z", "2026-06-11T02:00:00Z"],
    ["across the change in spring", window("30 2 * * *", 60, "Europe/Berlin"), "2026-03-28T12:00Z", "2026-03-29T01:00:00Z"],
    ["across the change in autumn", window("0 6 * * *", 60, "Europe/Berlin"), "2026-10-24T12:00Z", "2026-10-25T05:00:00Z"],
    ["29 February, within a year", window("0 2 29 2 *", 60), "2027-06-10T00:00Z", "2028-02-29T02:00:00Z"],
    ["29 February, too far away", window("0 2 29 2 *", 60), "2026-06-10T00:00Z", null],
    ["never closes, so never opens", window("0 * * * *", 60), "2026-06-10T00:00Z", null],
  ];
  test.each(nexts)("next: %s", (_what, each, now, opens) => {
    expect(iso(nextWindow({ w: each }, ["w"], utc(now))?.opensAtMs)).toBe(opens);
  });
});

describe("several windows", () => {
  const windows = { night: window("0 22 * * fri", 240), early: window("0 1 * * sat", 240), noon: window("0 12 * * *", 60), late: window("0 22 * * fri", 60) };
  test("join; the name is that of the open one which closes last", () => {
    const at = (now: string) => windowAt(windows, ["night", "early", "late"], utc(now));
    const whole = { opensAtMs: utc("2026-06-12T22:00Z"), closesAtMs: utc("2026-06-13T05:00Z") };
    expect(at("2026-06-12T22:30Z")).toEqual({ name: "night", ...whole });
    expect(at("2026-06-13T01:30Z")).toEqual({ name: "early", ...whole });
    expect(nextWindow(windows, ["late", "early", "night"], utc("2026-06-12T12:00Z"))).toEqual({ name: "night", ...whole });
  });
  test("only those that are named count", () => {
    expect(windowAt(windows, ["night"], utc("2026-06-12T12:30Z"))).toBeNull();
    expect(windowAt(windows, ["noon", "noon", "gone"], utc("2026-06-12T12:30Z"))?.name).toBe("noon");
    expect(windowAt(windows, [], utc("2026-06-12T12:30Z"))).toBeNull();
    expect(windowAt(windows, ["constructor"], utc("2026-06-12T12:30Z"))).toBeNull();
    expect(nextWindow(windows, [], utc("2026-06-12T12:30Z"))).toBeNull();
  });
});

describe("what never closes", () => {
  const always = { a: window("* * * * *", 5), b: window("0 0 * * *", 24 * 60), c: window("0 3 * * mon", 7 * 24 * 60), d: window("*/10 * * * *", 5), e: window("5-55/10 * * * *", 5) };
  test.each([[["a"]], [["b"]], [["c"]], [["d", "e"]]])("%s is open, with ends that are far away and an opening that stays", (names) => {
    const now = utc("2026-06-10T03:03Z");
    const found = windowAt(always, names, now);
    const days = (at: number | undefined) => ((at ?? Number.NaN) - now) / 86_400_000;
    expect(days(found?.opensAtMs)).toBeLessThanOrEqual(-LOOK_DAYS_MAX + 8);
    expect(days(found?.closesAtMs)).toBeGreaterThanOrEqual(LOOK_DAYS_MAX - 8);
    expect(windowAt(always, names, now + 86_400_000)?.opensAtMs).toBe(found?.opensAtMs);
    expect(nextWindow(always, names, now)).toBeNull();
  });
});

test("a clock gone mad opens nothing", () => {
  for (const now of [Number.NaN, Infinity, -Infinity, 8.64e15, -8.64e15, 1e300]) {
    expect(windowAt({ w: window("* * * * *", 60) }, ["w"], now)).toBeNull();
    expect(nextWindow({ w: window("* * * * *", 60) }, ["w"], now)).toBeNull();
    expect(blackoutAt([{ from: "2026-12-24", to: "2026-12-24", zone: "Etc/UTC", why: "" }], now)).toBeNull();
  }
  expect(windowAt({ w: window("* * * * *", 60, "Europe/Berlin") }, ["w"], 8e15)?.name).toBe("w");
  expect(windowAt({ w: window("* * * * *", 60, "Europe/Berlin") }, ["w"], -8e15)?.name).toBe("w");
});

test("what the loader refuses throws here", () => {
  expect(() => windowAt({ w: window("0 2 30 2 *", 60) }, ["w"], 0)).toThrow("no such day");
  expect(() => windowAt({ w: window("0 2 * * *", 60, "Mars/Olympus") }, ["w"], 0)).toThrow(RangeError);
});

test("fits: it begins within, and is over when the window closes", () => {
  const open = { name: "w", opensAtMs: 1_000, closesAtMs: 2_000 };
  expect(fits(1_000, 1_000, open)).toBe(true);
  expect(fits(1_001, 1_000, open)).toBe(false);
  expect(fits(999, 10, open)).toBe(false);
  expect(fits(2_000, 0, open)).toBe(false);
  expect(fits(1_000, Number.NaN, open)).toBe(false);
});

describe("blackouts", () => {
  const blackout = (from: string, to: string, zone = "Europe/Berlin"): Blackout => ({ from, to, zone, why: "" });
  test("hold from the first moment of the first day to the last of the last, in their zone", () => {
    const holidays = blackout("2026-12-24", "2026-12-26");
    expect(blackoutAt([holidays], utc("2026-12-23T22:59:59.999Z"))).toBeNull();
    expect(blackoutAt([holidays], utc("2026-12-23T23:00Z"))).toBe(holidays);
    expect(blackoutAt([holidays], utc("2026-12-26T22:59:59.999Z"))).toBe(holidays);
    expect(blackoutAt([holidays], utc("2026-12-26T23:00Z"))).toBeNull();
    expect(iso(blackoutEndMs(holidays))).toBe("2026-12-26T23:00:00Z");
  });
  test("a day on which the clocks change is as long as it is", () => {
    expect(iso(blackoutEndMs(blackout("2026-03-29", "2026-03-29")))).toBe("2026-03-29T22:00:00Z");
    expect(iso(blackoutEndMs(blackout("2026-10-25", "2026-10-25")))).toBe("2026-10-25T23:00:00Z");
    // Beirut's day begins at 01:00 when the clocks go forward at midnight.
    const beirut = blackout("2026-03-29", "2026-03-29", "Asia/Beirut");
    expect(blackoutAt([beirut], ms("2026-03-29T01:00[Asia/Beirut]"))).toBe(beirut);
    expect(blackoutAt([beirut], ms("2026-03-29T01:00[Asia/Beirut]") - 1)).toBeNull();
  });
  test("of several, the one that ends last", () => {
    const short = blackout("2026-12-24", "2026-12-24");
    const long = blackout("2026-12-20", "2027-01-02");
    expect(blackoutAt([short, long], utc("2026-12-24T12:00Z"))).toBe(long);
    expect(blackoutAt([], 0)).toBeNull();
  });
});

/** A field of a cron expression, sparse enough for windows that close again. */
const field = (min: number, max: number, names: readonly string[] = []) => {
  const value = fc.integer({ min, max });
  const word = value.map((each) => names[each - min] ?? String(each));
  const range = fc.tuple(value, value).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`);
  const step = fc.integer({ min: 1, max: Math.max(2, max - min) });
  const part = fc.oneof(word, word, range, fc.tuple(range, step).map(([each, by]) => `${each}/${by}`));
  return fc.oneof(fc.constant("*"), step.map((by) => `*/${by}`), fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(",")));
};
const monthNames = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const minuteField = fc.oneof(fc.integer({ min: 0, max: 59 }).map(String), field(0, 59));
const hourField = fc.oneof(fc.constantFrom("*", "0-5", "*/2"), fc.integer({ min: 0, max: 4 }).map(String), field(0, 23));
const anyCron = fc.tuple(minuteField, hourField, fc.oneof(fc.constant("*"), field(1, 31)), fc.oneof(fc.constant("*"), field(1, 12, monthNames)), fc.oneof(fc.constant("*"), field(0, 7, weekdayNames))).map((fields) => fields.join(" ")).filter((text) => parseCron(text).ok);

/** A second opinion on one minute of the calendar (a UTC date stands for it), written without parseCron: fields are only compared as text allows. */
function matcher(cron: string): (wall: Date) => boolean {
  const [minute = "", hour = "", day = "", month = "", weekday = ""] = cron.split(" ");
  const values = (word: string, min: number, max: number, names: readonly string[]) => {
    const found = new Set<number>();
    for (const part of word.split(",")) {
      const [body = "", by = "1"] = part.split("/");
      const number = (text: string) => (names.includes(text) ? names.indexOf(text) + min : Number(text));
      const [first = "", last = first] = body === "*" ? [String(min), String(max)] : body.split("-");
      for (let value = min; value <= max; value++) if (value >= number(first) && value <= number(last) && (value - number(first)) % Number(by) === 0) found.add(value);
    }
    return found;
  };
  const minutes = values(minute, 0, 59, []);
  const hours = values(hour, 0, 23, []);
  const days = values(day, 1, 31, []);
  const months = values(month, 1, 12, monthNames);
  // A range may call Sunday 7, but `*` does not have it twice.
  const weekdays = values(weekday, 0, weekday.startsWith("*") ? 6 : 7, weekdayNames);
  const either = !day.startsWith("*") && !weekday.startsWith("*");
  return (wall) => {
    const onDay = days.has(wall.getUTCDate());
    const onWeekday = weekdays.has(wall.getUTCDay()) || (wall.getUTCDay() === 0 && weekdays.has(7));
    return minutes.has(wall.getUTCMinutes()) && hours.has(wall.getUTCHours()) && months.has(wall.getUTCMonth() + 1) && (either ? onDay || onWeekday : onDay && onWeekday);
  };
}

/** What the zone's clocks show at each minute from `fromMs` on, as if that were UTC. */
const clocks = new Map<string, readonly number[]>();
function clockByMinute(zone: string, fromMs: number, minutes: number): readonly number[] {
  const key = `${zone} ${fromMs} ${minutes}`;
  const known = clocks.get(key) ?? Array.from({ length: minutes }, (_, at) => fromMs + at * 60_000 + Temporal.Instant.fromEpochMilliseconds(fromMs + at * 60_000).toZonedDateTimeISO(zone).offsetNanoseconds / 1e6);
  clocks.set(key, known);
  return known;
}

/** The minutes after `fromMs` at which a window opens, one looked at after the other, by the rules as they are told to people. */
function openingsByMinute(each: Window, fromMs: number, minutes: number): readonly number[] {
  const matches = matcher(each.opens);
  const clock = clockByMinute(each.zone, fromMs, minutes);
  const found: number[] = [];
  let latest = (clock[0] ?? 0) - 60_000;
  for (const [at, now] of clock.entries()) {
    // All that the clock has passed since the last new minute; nothing while it shows minutes that have been before.
    let opens = false;
    for (; latest < now; latest += 60_000) opens ||= matches(new Date(latest + 60_000));
    if (opens) found.push(at);
  }
  return found;
}

/** The open minutes around `at`; `first` is -1 when it is closed, and `end` then `at`. */
function stretchAround(open: readonly boolean[], at: number): { first: number; end: number } {
  if (open[at] !== true) return { first: -1, end: at };
  let [first, end] = [at, at];
  while (first > 0 && open[first - 1] === true) first--;
  while (end < open.length && open[end] === true) end++;
  return { first, end };
}

/** `expect` would take longer than all that is compared. */
function same(what: string, nowMs: number, told: unknown, counted: unknown): void {
  if (told !== counted) throw new Error(`${what} at ${iso(nowMs)}: told ${String(told)}, counted ${String(counted)}`);
}

describe("agrees with counting minute by minute", () => {
  // Days around which the clocks change in one zone or another, and an ordinary one.
  const starts = ["2026-03-28T00:00Z", "2026-10-24T00:00Z", "2026-03-07T00:00Z", "2026-10-31T00:00Z", "2026-10-02T12:00Z", "2026-04-04T00:00Z", "2026-07-15T00:00Z", "2027-12-31T00:00Z", "2028-02-28T00:00Z"];
  const zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Etc/UTC", "Asia/Kolkata", "Asia/Beirut", "America/St_Johns", "Africa/Casablanca"];
  const anyWindow = fc.record({ opens: anyCron, zone: fc.constantFrom(...zones), lengthMinutes: fc.oneof(fc.constantFrom(5, 15, 30, 60, 90, 120), fc.integer({ min: 5, max: 180 }), fc.integer({ min: 5, max: 600 })) });

  test("windowAt and nextWindow, for one window and for two", () => {
    fc.assert(
      fc.property(fc.array(anyWindow, { minLength: 1, maxLength: 2 }), fc.constantFrom(...starts), (list, start) => {
        const windows = Object.fromEntries(list.map((each, index) => [`w${index}`, each]));
        const names = Object.keys(windows);
        const beginMs = utc(start);
        const minutes = 36 * 60;
        const lead = 600;
        // open[i]: whether any window is open at the minute i after `begin`.
        const open = Array.from({ length: minutes }, () => false);
        for (const each of list) {
          for (const opening of openingsByMinute(each, beginMs - lead * 60_000, lead + minutes)) {
            const first = opening - lead;
            for (let at = Math.max(0, first); at < Math.min(minutes, first + each.lengthMinutes); at++) open[at] = true;
          }
        }
        for (let at = 0; at < minutes; at += 17) {
          const nowMs = beginMs + at * 60_000 + 30_000;
          const whole = stretchAround(open, at);
          const found = windowAt(windows, names, nowMs);
          same("open", nowMs, found !== null, open[at] === true);
          if (whole.first > 0) same("opens", nowMs, found?.opensAtMs, beginMs + whole.first * 60_000);
          if (found !== null && whole.end < minutes) same("closes", nowMs, found.closesAtMs, beginMs + whole.end * 60_000);
          const next = open.indexOf(true, whole.end);
          const told = nextWindow(windows, names, nowMs)?.opensAtMs;
          if (next !== -1) same("next", nowMs, told, beginMs + next * 60_000);
          else same("no next", nowMs, (told ?? Infinity) >= beginMs + minutes * 60_000, true);
        }
      }),
      { numRuns: 150 },
    );
  });
});
