import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { didYouMean, editDistance, suggest } from "./suggest.ts";

describe("suggest", () => {
  const sections = ["address", "roles", "vars", "packages", "files", "services", "sysctl"];
  test.each([
    ["pakages", "packages"],
    ["Packages", "packages"],
    ["fiels", "files"],
    ["service", "services"],
    ["sysclt", "sysctl"],
    ["adress", "address"],
  ])("%s means %s", (word, meant) => {
    expect(suggest(word, sections)).toBe(meant);
  });

  test.each(["zebra", "x", "", "a".repeat(10_000)])("says nothing about %s", (word) => {
    expect(suggest(word, sections)).toBeUndefined();
  });

  test("a name cut short is completed only when one fits", () => {
    expect(suggest("nginx", ["nginx-light", "tree"])).toBe("nginx-light");
    expect(suggest("nginx", ["nginx-light-common", "nginx-full-common"])).toBeUndefined();
  });

  test("didYouMean quotes the name", () => {
    expect(didYouMean("fiels", sections)).toBe('did you mean "files"?');
    expect(didYouMean("zebra", sections)).toBeUndefined();
  });
});

test("editDistance is a distance", () => {
  const word = fc.string({ maxLength: 8 });
  fc.assert(fc.property(word, (a) => editDistance(a, a) === 0));
  fc.assert(fc.property(word, word, (a, b) => editDistance(a, b) === editDistance(b, a)));
  fc.assert(fc.property(word, word, (a, b) => (editDistance(a, b) === 0) === (a === b)));
  expect(editDistance("kitten", "sitting")).toBe(3);
  expect(editDistance("ab", "ba")).toBe(1);
});
