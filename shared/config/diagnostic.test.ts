import { describe, expect, test } from "vitest";
import { DIAGNOSTICS_SHOWN_MAX, errorAt, errorInFile, formatDiagnostics, makeSource, noteAt, placeOf, sortDiagnostics, summarize, warningAt } from "./diagnostic.ts";

const source = makeSource("nodes/n1.yaml", "address: 10.0.0.1\npakages:\n  jq: present\n");
const at = (text: string) => ({ source, start: source.text.indexOf(text), end: source.text.indexOf(text) + text.length });

describe("formatDiagnostics", () => {
  test("looks like a compiler's", () => {
    expect(formatDiagnostics([errorAt(at("pakages"), 'unknown section "pakages"', 'did you mean "packages"?')])).toBe(
      `nodes/n1.yaml:2:1: error: unknown section "pakages"
 2 | pakages:
   | ^^^^^^^
help: did you mean "packages"?

1 error in 1 file
`,
    );
  });

  test("shows the other place that takes part", () => {
    const text = formatDiagnostics([errorAt(at("jq"), "twice", undefined, [noteAt(at("address"), "the first one is here")])]);
    expect(text).toContain("nodes/n1.yaml:3:3: error: twice\n");
    expect(text).toContain("nodes/n1.yaml:1:1: note: the first one is here\n 1 | address: 10.0.0.1\n   | ^^^^^^^\n");
  });

  test("counts errors and warnings, and files once", () => {
    const all = [errorAt(at("jq"), "a"), errorInFile("cluster.yaml", "b"), errorAt(at("jq"), "c"), warningAt(at("jq"), "d")];
    expect(summarize(all)).toBe("3 errors and 1 warning in 2 files");
    expect(formatDiagnostics([])).toBe("");
  });

  test("hides what is too much, and says so", () => {
    const many = Array.from({ length: DIAGNOSTICS_SHOWN_MAX + 7 }, (_, index) => errorInFile("a.yaml", `problem ${index}`));
    expect(formatDiagnostics(many)).toContain("… and 7 more");
  });

  test("cuts a long line around the mark", () => {
    const long = makeSource("a.yaml", `${"x".repeat(300)}HERE${"y".repeat(300)}`);
    const text = formatDiagnostics([errorAt({ source: long, start: 300, end: 304 }, "m")]);
    const [, line = "", mark = ""] = text.split("\n");
    expect(line).toMatch(/… ?x+HEREy+…$/u);
    expect(line.indexOf("HERE")).toBe(mark.indexOf("^^^^"));
    expect(line.length).toBeLessThan(200);
  });

  test("never lets a file's text command the terminal", () => {
    const evil = makeSource("a.yaml", "a: \u001b[2J\u202eevil\tx\n");
    const text = formatDiagnostics([errorAt({ source: evil, start: 3, end: 4 }, "bad \u001b]0;title\u0007")], { color: false });
    for (const character of ["\u001b", "\u0007", "\u202e", "\t"]) expect(text).not.toContain(character);
    expect(text).toContain("␛[2J\\u202eevil");
  });

  test("colours only when asked", () => {
    const one = [errorInFile("a.yaml", "m")];
    expect(formatDiagnostics(one)).not.toContain("\u001b");
    expect(formatDiagnostics(one, { color: true })).toContain("\u001b[1;31merror:");
  });
});

test("placeOf finds first, last and CRLF lines", () => {
  const text = makeSource("a", "one\r\ntwo\r\nthree");
  expect(placeOf({ source: text, start: 0, end: 3 })).toMatchObject({ line: 1, column: 1, length: 3, source: "one" });
  expect(placeOf({ source: text, start: 5, end: 20 })).toMatchObject({ line: 2, column: 1, length: 3, source: "two" });
  expect(placeOf({ source: text, start: 12, end: 15 })).toMatchObject({ line: 3, column: 3, length: 3, source: "three" });
});

test("sortDiagnostics puts them in reading order and drops repetitions", () => {
  const a = errorInFile("b.yaml", "one");
  const b = errorInFile("a.yaml", "two");
  expect(sortDiagnostics([a, b, { ...a }])).toEqual([b, a]);
});
