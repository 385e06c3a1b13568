import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { formatDiagnostics, positionOf } from "./diagnostic.ts";
import { locate, toPlain } from "./located.ts";
import { YAML_ALIASES_MAX, YAML_DEPTH_MAX, YAML_INDENT_COLUMNS_MAX, YAML_LINES_MAX, YAML_SIZE_BYTES_MAX, parseYaml } from "./yaml.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const problems = (text: string) => {
  const parsed = parseYaml("a.yaml", bytes(text));
  return parsed.ok ? "ok" : formatDiagnostics(parsed.diagnostics);
};
const plain = (text: string) => {
  const parsed = parseYaml("a.yaml", bytes(text));
  if (!parsed.ok) throw new Error(formatDiagnostics(parsed.diagnostics));
  return toPlain(parsed.root);
};

describe("what is read", () => {
  test("plain data with the place of every key and value", () => {
    const parsed = parseYaml("a.yaml", bytes("a:\n  - x\n  - {k: 7}\nb: true\n"));
    if (!parsed.ok) throw new Error("expected to parse");
    expect(toPlain(parsed.root)).toEqual({ a: ["x", { k: 7 }], b: true });
    const k = locate(parsed.root, ["a", 1, "k"]);
    expect(positionOf(k.value.span)).toEqual({ file: "a.yaml", line: 3, column: 9 });
    expect(k.keySpan && positionOf(k.keySpan)).toEqual({ file: "a.yaml", line: 3, column: 6 });
  });

  test.each([
    ["", {}],
    ["# only a comment\n", {}],
    ["---\na: 1\n", { a: 1 }],
    ["80: x\n0644: y\ntrue: z\n", { "80": "x", "0644": "y", true: "z" }],
    ["a: yes\nb: no\nc: on\n", { a: "yes", b: "no", c: "on" }],
    ["a: |\n  two\n  lines\n", { a: "two\nlines\n" }],
    ["a: &x {k: 1}\nb: *x\n", { a: { k: 1 }, b: { k: 1 } }],
    ["a: !!str 12\n", { a: "12" }],
    ["constructor: 1\ntoString: 2\n", { constructor: 1, toString: 2 }],
    ["\ufeffa: 1\r\nb: 2\r\n", { a: 1, b: 2 }],
  ])("%j", (text, data) => {
    expect(plain(text)).toEqual(data);
  });

  test("what the library writes is read back the same", () => {
    const key = fc.string({ minLength: 1, maxLength: 6 }).filter((text) => text !== "__proto__" && text !== "<<");
    const value = fc.letrec((tie) => ({
      any: fc.oneof({ maxDepth: 4 }, fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.array(tie("any"), { maxLength: 4 }), fc.dictionary(key, tie("any"), { maxKeys: 4, noNullPrototype: true })),
    })).any;
    fc.assert(fc.property(fc.dictionary(key, value, { maxKeys: 5, noNullPrototype: true }), (data) => {
      expect(plain(stringify(data, { aliasDuplicateObjects: false }))).toEqual(data);
    }), { numRuns: 200 });
  });
});

describe("block scalars of ordinary size", () => {
  // A configuration file as people paste it: empty lines, deep indentation, lines of spaces, "- " and brackets in a row.
  const odd = ["", `${" ".repeat(300)}deep`, "- ".repeat(60), "[".repeat(60), "*a ".repeat(YAML_ALIASES_MAX + 20), "", "\tafter a tab", "key: {of: [something]}"];
  const lines = [...odd, ...Array.from({ length: 200 }, (_, index) => (index % 7 === 0 ? "" : `${" ".repeat((index * 13) % 120)}line ${index} of a text`)), "end"];
  const content = `first\n${lines.join("\n")}\n`;
  const block = (indicator: string, text: string, columns = 4) => `files:\n  a: ${indicator}\n${text.replaceAll(/^(?=.)/gm, " ".repeat(columns))}  b: 1\n`;

  test("of 10 KB are read as written, literal", () => {
    expect(content.length).toBeGreaterThan(10_000);
    expect(plain(block("|", content))).toEqual({ files: { a: content, b: 1 } });
    expect(plain(block("|-", content))).toEqual({ files: { a: content.trimEnd(), b: 1 } });
    expect(plain(block("|+", `${content}\n\n`))).toEqual({ files: { a: `${content}\n\n`, b: 1 } });
  });

  test("of 10 KB are read, folded: lines are joined, and empty ones and deeper ones are kept", () => {
    const words = Array.from({ length: 1_500 }, (_, index) => `word${index}`);
    const folded = `${words.join("\n")}\n\nafter an empty line\n${" ".repeat(300)}deep\n\nend\n`;
    expect(plain(block(">", folded))).toEqual({ files: { a: `${words.join(" ")}\nafter an empty line\n${" ".repeat(300)}deep\n\nend\n`, b: 1 } });
  });

  test("may begin with empty lines, with lines of spaces, or with more indentation than follows", () => {
    expect(plain(block("|", `\n\n${content}`))).toEqual({ files: { a: `\n\n${content}`, b: 1 } });
    expect(plain(block("|2", `${" ".repeat(290)}x\n${content}`))).toEqual({ files: { a: `${" ".repeat(290)}x\n${content}`, b: 1 } });
    expect(plain(`a: |\n${" ".repeat(2)}x\n${" ".repeat(400)}\n  y\n`)).toEqual({ a: `x\n${" ".repeat(398)}\ny\n` });
  });

  test("do not hide the indentation of what comes after them", () => {
    expect(problems(`a:\n - |\n  text\n${" ".repeat(1)}- x:\n${" ".repeat(YAML_INDENT_COLUMNS_MAX + 1)}y: 1\n`)).toContain("columns");
  });

  test("are read as the library reads them, with anything in them", () => {
    const line = fc.oneof(fc.constant(""), fc.string({ maxLength: 60 }), fc.tuple(fc.nat({ max: 500 }), fc.string({ maxLength: 20 })).map(([columns, text]) => " ".repeat(columns) + text));
    fc.assert(fc.property(fc.array(line, { minLength: 1, maxLength: 60 }), (some) => {
      const text = some.join("\n");
      for (const blockQuote of ["literal", "folded"] as const) {
        // Not as it was before: the library does not write every text of spaces and line ends so that it comes back.
        const written = stringify({ list: [{ key: text }], b: 1 }, { blockQuote });
        expect(plain(written)).toEqual(parse(written));
      }
    }), { numRuns: 200 });
  });
});

describe("what is refused", () => {
  const laughs = `a: &a [x,x,x,x,x,x,x,x,x,x]\n${"bcdefghij".split("").map((name, index) => `${name}: &${name} [${Array(10).fill(`*${"abcdefghij"[index]}`).join(",")}]\n`).join("")}`;
  test.each([
    ["a tab", "a:\n\tb: 1\n", "a.yaml:2:1: error: a tab is used for indentation"],
    ["a duplicate key", "a: 1\nb: 2\na: 3\n", 'a.yaml:3:1: error: the key "a" stands here for the second time'],
    ["a second document", "a: 1\n---\nb: 1\n", "a.yaml:2:1: error: a second document begins here"],
    ["a tag of one's own", "a: !vault x\n", "a.yaml:1:11: error: the tag !vault is not supported"],
    ["a tag that would run something", "a: !!js/function 'x'\n", "the tag !!js/function is not supported"],
    ["a merge key", "a: &a {x: 1}\nb:\n  <<: *a\n", "a.yaml:3:3: error: merge keys (<<) are not supported"],
    ["a key that is a map", "? {a: 1}\n: 1\n", "a key must be plain text"],
    ["an empty key", "'': 1\n", "the key is empty"],
    ["__proto__", "a: {__proto__: {x: 1}}\n", "a.yaml:1:5: error: __proto__ cannot be used as a key"],
    ["a list at the top", "- a\n", "a map is expected here"],
    ["text at the top", "hello\n", "a map is expected here"],
    ["an alias without an anchor", "a: *b\n", "a.yaml:1:4: error:"],
    ["an alias within itself", "a: &a [*a]\n", "the alias *a stands inside of what it repeats"],
    ["a mode without quotes", "m: 0644\n", 'a.yaml:1:4: error: 0644 would be read as the number 644'],
    ["a version without quotes", "v: 1.10\n", 'write "1.10" in quotes if text is meant, or 1.1 if the number is'],
    ["not a number", "v: .nan\n", "would be read as the number NaN"],
    ["an unclosed bracket", "a: [1, 2\n", "a.yaml:"],
    ["an unclosed quote", 'a: "x\n', "a.yaml:"],
    ["a colon in text", "a: b: c\n", "a.yaml:1:4: error:"],
    ["billion laughs", laughs, "more than 100000 values in one file, aliases expanded"],
    ["too many aliases", `a: &a 1\nb: [${"*a,".repeat(YAML_ALIASES_MAX + 1)}]\n`, `more than ${YAML_ALIASES_MAX} aliases`],
    ["deep lists in one line", "[".repeat(100_000), `nested more than ${YAML_DEPTH_MAX} levels deep`],
    ["deep maps in one line", `a: ${"{a: ".repeat(50)}1${"}".repeat(50)}`, `nested more than ${YAML_DEPTH_MAX} levels deep`],
    ["deep dashes", "- ".repeat(20_000), `nested more than ${YAML_DEPTH_MAX} levels deep`],
    ["deep indentation", Array.from({ length: 200 }, (_, depth) => `${" ".repeat(depth)}a:\n`).join(""), `nested more than ${YAML_DEPTH_MAX} levels deep`],
    ["absurd indentation", Array.from({ length: 1_400 }, (_, depth) => `${" ".repeat(depth)}a:\n`).join(""), "columns"],
    ["too many lines", "#\n".repeat(YAML_LINES_MAX + 1), `at most ${YAML_LINES_MAX} are read`],
    ["a file of 20 MB", `a: ${"x".repeat(20 * 1024 * 1024)}`, `at most ${YAML_SIZE_BYTES_MAX} are read`],
  ])("%s", (_name, text, expected) => {
    expect(problems(text)).toContain(expected);
  });

  test("what is not UTF-8", () => {
    const parsed = parseYaml("a.yaml", Uint8Array.of(0x61, 0x3a, 0x20, 0xff, 0xfe));
    expect(parsed.ok ? "" : parsed.diagnostics[0]?.message).toBe("the file is not UTF-8 text");
  });

  test("no key reaches a prototype", () => {
    plain("constructor: {prototype: {polluted: true}}\nprototype: {polluted: true}\n");
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test("any bytes give an answer, never an exception", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (input) => {
      parseYaml("a.yaml", input);
    }));
    fc.assert(fc.property(fc.stringMatching(/^[-?:[\]{}&*! \n\t"'|>#a0,]{0,60}$/), (text) => {
      parseYaml("a.yaml", bytes(text));
    }), { numRuns: 1_000 });
  });

  test("all mistakes are told, not the first", () => {
    const parsed = parseYaml("a.yaml", bytes("a: 0644\nb: !x 1\nb: 2\n<<: {}\n"));
    expect(parsed.ok ? 0 : parsed.diagnostics.length).toBe(4);
  });
});
