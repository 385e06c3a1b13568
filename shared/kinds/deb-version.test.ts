import { expect, test } from "vitest";
import { compareVersions } from "./deb-version.ts";

// Every pair was put to `dpkg --compare-versions` (1.21.22).
const ascending: readonly (readonly [string, string])[] = [
  ["1.0~~", "1.0~"],
  ["1.0~", "1.0~rc1"],
  ["1.0~rc1", "1.0"],
  ["1.0", "1.0-1"],
  ["1.0", "1.0a"],
  ["1.0a", "1.0+b1"],
  ["1.9", "1.10"],
  ["1.22.1-9", "1.22.1-9+deb12u10"],
  ["1.22.1-9", "1.22.1-10"],
  ["20250520123456789012", "20250520123456789013"],
  ["1-2-3", "1-2-4"],
  ["2.0", "1:0.9"],
];

test.each(ascending)("%s is older than %s", (older, newer) => {
  expect(compareVersions(older, newer)).toBeLessThan(0);
  expect(compareVersions(newer, older)).toBeGreaterThan(0);
});

test.each([
  ["1.0", "1.0"],
  ["1.0", "0:1.0"],
  ["1.0", "1.0-0"],
  ["1.9", "1.09"],
])("%s is the same as %s", (one, other) => {
  expect(compareVersions(one, other)).toBe(0);
});
