import { expect, test } from "vitest";
import { mergeResults } from "./results.ts";
import { atMost, figure } from "./row.ts";
import type { Row } from "./row.ts";

function row(name: string, value: number): Row {
  return { name, title: `about ${name}: much`, figures: [figure("  it", "ms", [value])], requirements: [atMost("it", value, 10, "ms")], notes: ["two\n  lines"] };
}

function broken(name: string): Row {
  return { name, title: name, figures: [], requirements: [{ what: "could be measured", required: "yes", reached: "no", met: false }], notes: ["Error"] };
}

const first = mergeResults("", [row("push", 1), row("cpu", 2)], "Monday.");

test("rows measured again are replaced in their place, the others stay with their date", () => {
  const page = mergeResults(first, [row("push", 30)], "Tuesday.");
  expect(page).toContain("| `push` about push: much | it | at most 10.0 ms | 30.0 ms | **no** |\n| `cpu` about cpu: much | it | at most 10.0 ms | 2.00 ms | yes |\n");
  expect(page).toMatch(/\(`push`\)[^]*30\.0 ms[^]*- two lines\n- Tuesday\.\n\n## [^]*\(`cpu`\)[^]*2\.00 ms[^]*- Monday\.\n$/);
  expect(page).not.toContain("1.00 ms");
});

test("measured twice the same gives the same page", () => {
  expect(mergeResults(first, [row("push", 1), row("cpu", 2)], "Monday.")).toBe(first);
});

test("a row that could not be measured leaves what was found earlier, and stands there when nothing was", () => {
  expect(mergeResults(first, [broken("cpu")], "Tuesday.")).toBe(first);
  const page = mergeResults(first, [broken("drift")], "Tuesday.");
  expect(page).toContain("| `drift` drift | could be measured | yes | no | **no** |");
  expect(mergeResults(page, [row("drift", 3)], "Wednesday.")).not.toContain("could be measured");
});
