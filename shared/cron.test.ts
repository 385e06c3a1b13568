import * as fc from "fast-check";
import { createTask } from "node-cron";
import { describe, expect, test } from "vitest";
import { matchesDay, parseCron } from "./cron.ts";
import type { Cron } from "./cron.ts";

function cron(text: string): Cron {
  const parsed = parseCron(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return parsed.cron;
}
const weekdays = (text: string) => [...cron(`0 0 * * ${text}`).weekdays].sort((a, b) => a - b);

test("fields: values, lists, ranges, steps, names", () => {
  expect(cron("*/20 1,3 * * *").minutesOfDay).toEqual([60, 80, 100, 180, 200, 220]);
  expect(cron("10-30/10,5,5 0 * * *").minutesOfDay).toEqual([5, 10, 20, 30]);
  expect([...cron("0 0 31,1-5/2 JAN-mar,12 *").days]).toEqual([1, 3, 5, 31]);
  expect([...cron("0 0 1 JAN-mar,12 *").months]).toEqual([1, 2, 3, 12]);
  expect(cron("  0\t2  * * *  ").minutesOfDay).toEqual([120]);
});

test("Sunday is 0, 7 and sun, also at the end of a range", () => {
  for (const text of ["0", "7", "sun", "Sun", "0,7"]) expect(weekdays(text)).toEqual([0]);
  for (const text of ["5-7", "fri-sun", "5-sun", "5-0"]) expect(weekdays(text)).toEqual([0, 5, 6]);
  expect(weekdays("sun-tue")).toEqual([0, 1, 2]);
  expect(weekdays("sun-sun")).toEqual([0]);
  expect(weekdays("*/7")).toEqual([0]);
  expect(weekdays("*")).toEqual([0, 1, 2, 3, 4, 5, 6]);
});

test("two restricted days mean either; a field that begins with * does not restrict", () => {
  expect(matchesDay(cron("0 0 13 * fri"), 6, 13, 6)).toBe(true);
  expect(matchesDay(cron("0 0 13 * fri"), 6, 12, 5)).toBe(true);
  expect(matchesDay(cron("0 0 13 * fri"), 6, 14, 0)).toBe(false);
  expect(matchesDay(cron("0 0 */2 * fri"), 6, 12, 5)).toBe(false);
  expect(matchesDay(cron("0 0 */2 * fri"), 6, 13, 5)).toBe(true);
  expect(matchesDay(cron("0 0 13 5 fri"), 6, 13, 5)).toBe(false);
});

describe("what is wrong is said, with what to write", () => {
  test.each([
    ["", "five fields, not 0", "0 2 * * sun"],
    ["0 2 * *", "five fields, not 4", "0 2 * * sun"],
    ["0 0 2 * * *", "five fields, not 6", "no field for seconds"],
    ["@daily", "five fields, not 1", "0 2 * * sun"],
    ["60 2 * * *", 'the minute is "60": "60" is not 0 to 59', "0 to 59"],
    ["0 24 * * *", 'the hour is "24"', "0 to 23"],
    ["0 2 0 * *", "the day of the month", "1 to 31"],
    ["0 2 * 13 *", "the month", "or jan to dec"],
    ["0 2 * * 8", "the day of the week", "or sun to sat"],
    ["0 2 * * sunday", '"sunday" is not 0 to 7 or sun to sat', ""],
    ["0 2 L * *", '"L" is not 1 to 31', ""],
    ["0 2 * * 5#2", "is neither *, a value, a range nor a step", "mon-thu"],
    ["0 2,, * * *", '"" is neither', ""],
    ["-1 2 * * *", "is neither", "1-5"],
    ["5/10 2 * * *", "a step needs a range or *", "write 5-59/10"],
    ["*/0 2 * * *", "a step of 0 never ends", "*/2"],
    ["0 22-2 * * *", "a range goes upward", "write 22-23,0-2"],
    ["0 2 * * sat-mon", "a range goes upward", "write sat-6,0-mon"],
    ["0 2 30 2 *", "no such day exists in any year", "no day 30"],
    ["0 2 31 4,6,9,11 *", "no such day exists in any year", ""],
  ])("%s", (text, reason, help) => {
    const parsed = parseCron(text);
    expect(parsed.ok ? "" : parsed.reason).toContain(reason);
    expect(parsed.ok ? "" : parsed.help).toContain(help);
  });
  test.each(["0 2 29 2 *", "0 2 30 2 mon", "0 2 31 1,2 *"])("%s is good", (text) => expect(parseCron(text).ok).toBe(true));
});

test("agrees with node-cron, which demands both days where cron(8) takes either", () => {
  const field = (min: number, max: number) => {
    const value = fc.integer({ min, max });
    const range = fc.tuple(value, value).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`);
    const step = fc.integer({ min: 1, max: max - min });
    const part = fc.oneof(value.map(String), range, fc.tuple(range, step).map(([each, by]) => `${each}/${by}`));
    return fc.oneof(fc.constant("*"), step.map((by) => `*/${by}`), fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(",")));
  };
  const days = fc.oneof(fc.tuple(field(1, 31), fc.constant("*")), fc.tuple(fc.constant("*"), field(0, 6)));
  const expression = fc.tuple(field(0, 59), field(0, 23), field(1, 12), days).map(([minute, hour, month, [day, weekday]]) => `${minute} ${hour} ${day} ${month} ${weekday}`).filter((text) => parseCron(text).ok);
  const moment = fc.integer({ min: Math.floor(Date.UTC(2024, 0) / 60_000), max: Math.floor(Date.UTC(2032, 0) / 60_000) });
  fc.assert(
    fc.property(expression, fc.array(moment, { minLength: 50, maxLength: 50 }), (text, moments) => {
      const task = createTask(text, () => undefined, { timezone: "Etc/UTC" });
      const ours = cron(text);
      for (const minute of moments) {
        const date = new Date(minute * 60_000);
        const matches = matchesDay(ours, date.getUTCMonth() + 1, date.getUTCDate(), date.getUTCDay()) && ours.minutesOfDay.includes(date.getUTCHours() * 60 + date.getUTCMinutes());
        expect(matches, `${text} at ${date.toISOString()}`).toBe(task.match(date));
      }
      void task.destroy();
    }),
    { numRuns: 200 },
  );
});
