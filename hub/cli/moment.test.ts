import { expect, test } from "vitest";
import { parseSpan, parseUntil, span, wallClock } from "./moment.ts";

const zone = "Europe/Berlin";
const at = (iso: string): number => Date.parse(iso);
/** A Monday, 20:00 in Berlin. */
const now = at("2026-05-04T18:00:00Z");
const until = (text: string, from = now): string => {
  const parsed = parseUntil(text, from, zone);
  return parsed.ok ? new Date(parsed.atMs).toISOString() : parsed.message;
};

test("spans count from now", () => {
  expect(until("2h")).toBe("2026-05-04T20:00:00.000Z");
  expect(until("3d")).toBe("2026-05-07T18:00:00.000Z");
  expect(until("1d12h")).toBe("2026-05-06T06:00:00.000Z");
  expect(until("90m")).toBe(until("90min"));
  expect(parseSpan("45s")).toBe(45_000);
  for (const wrong of ["", "h", "2", "2x", "-2h", "2h1d"]) expect(parseSpan(wrong), wrong).toBeNull();
});

test("a time of day is the next one, across midnight and both changes of the clocks", () => {
  expect(until("23:30")).toBe("2026-05-04T21:30:00.000Z");
  expect(until("06:00")).toBe("2026-05-05T04:00:00.000Z");
  expect(until("6:00")).toBe("2026-05-05T04:00:00.000Z");
  expect(until("20:00")).toBe("2026-05-05T18:00:00.000Z");
  expect(until("06:00", at("2026-10-24T18:00:00Z"))).toBe("2026-10-25T05:00:00.000Z");
  expect(until("06:00", at("2026-03-28T18:00:00Z"))).toBe("2026-03-29T04:00:00.000Z");
});

test("dates are in the writer's zone, unless they have one", () => {
  expect(until("2026-05-05")).toBe("2026-05-04T22:00:00.000Z");
  expect(until("2026-05-05T06:00")).toBe("2026-05-05T04:00:00.000Z");
  expect(until("2026-05-05 06:00")).toBe("2026-05-05T04:00:00.000Z");
  expect(until("2026-05-05T06:00Z")).toBe("2026-05-05T06:00:00.000Z");
  expect(until("2026-05-05T06:00+09:00")).toBe("2026-05-04T21:00:00.000Z");
});

test("what is no time, over, or too far is said to be", () => {
  for (const wrong of ["tomorrow", "25:00", "12:60", "2026-02-30", "2026-13-01T00:00", "soon Z"]) expect(until(wrong), wrong).toContain(`"${wrong}" is no time`);
  for (const over of ["0h", "2020-01-01", "2026-05-04T18:00Z"]) expect(until(over), over).toContain("over already");
  expect(until("400d")).toContain("more than a year");
});

test("times are shown by the reader's clock, with the day when it is another", () => {
  expect(wallClock("2026-05-04T20:00:00Z", now, zone)).toBe("22:00");
  expect(wallClock("2026-05-05T04:00:00Z", now, zone)).toBe("Tue 5 May 06:00");
  expect([span("2026-05-04T17:59:15Z", now), span("2026-05-04T17:48:00Z", now), span("2026-05-04T13:00:00Z", now), span("2026-05-01T18:00:00Z", now)]).toEqual(["45 s", "12 min", "5 h", "3 d"]);
});
