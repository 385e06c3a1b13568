import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatDiagnostics } from "./diagnostic.ts";
import { toPlain } from "./located.ts";
import type { LocatedMap, Plain } from "./located.ts";
import { mergeSettings } from "./merge.ts";
import type { Layer, Setting } from "./merge.ts";
import { parseYaml } from "./yaml.ts";

function located(file: string, text: string): LocatedMap {
  const parsed = parseYaml(file, new TextEncoder().encode(text));
  if (!parsed.ok) throw new Error(formatDiagnostics(parsed.diagnostics));
  return parsed.root;
}

/** Layers by name; each is written as what it overrides and its YAML. */
function merge(layers: Readonly<Record<string, { over?: readonly string[]; yaml: string }>>): { value: Plain | undefined; problems: readonly string[] } {
  const made = new Map<string, Layer>();
  const settings: Setting[] = [];
  for (const [name, { over = [], yaml }] of Object.entries(layers)) {
    const layer: Layer = { title: name, overrides: new Set(over.map((each) => made.get(each) as Layer)) };
    made.set(name, layer);
    settings.push({ layer, value: located(`${name}.yaml`, yaml) });
  }
  const { value, diagnostics } = mergeSettings(settings);
  return { value: value && toPlain(value), problems: diagnostics.map((each) => `${each.file}:${each.line}:${each.column}: ${each.severity}: ${each.message}`) };
}

describe("what overrides what", () => {
  test("maps are joined by key, scalars and lists replaced", () => {
    const { value, problems } = merge({
      base: { yaml: "p: {a: 1, b: {x: 1, y: [1, 2]}}\n" },
      node: { over: ["base"], yaml: "p: {b: {y: [3]}, c: 4}\n" },
    });
    expect(value).toEqual({ p: { a: 1, b: { x: 1, y: [3] }, c: 4 } });
    expect(problems).toEqual([]);
  });

  test("null takes an inherited entry away, also a whole map", () => {
    expect(merge({ base: { yaml: "p: {a: 1, b: {x: 1}}\nq: {a: 1}\n" }, node: { over: ["base"], yaml: "p: {a: null, b: ~}\nq: null\n" } })).toEqual({ value: { p: {} }, problems: [] });
  });

  test("what was taken away can come back further up, without what was in it", () => {
    const layers = { a: { yaml: "p: {k: {old: 1}}\n" }, b: { over: ["a"], yaml: "p: {k: null}\n" }, c: { over: ["a", "b"], yaml: "p: {k: {new: 1}}\n" } };
    expect(merge(layers)).toEqual({ value: { p: { k: { new: 1 } } }, problems: [] });
  });

  test("a map replaces a scalar, and a scalar a map", () => {
    expect(merge({ a: { yaml: "p: {k: x, l: {m: 1}}\n" }, b: { over: ["a"], yaml: "p: {k: {v: 1}, l: y}\n" } })).toEqual({ value: { p: { k: { v: 1 }, l: "y" } }, problems: [] });
  });

  test("null with nothing to take away is told; a key without a value is an error", () => {
    const { value, problems } = merge({ base: { yaml: "p: {a: 1}\n" }, node: { over: ["base"], yaml: "p:\n  z: null\n  jq:\n  a: ~\n" } });
    expect(value).toEqual({ p: {} });
    expect(problems).toEqual([
      "node.yaml:2:6: warning: null takes away what a role sets, but no role sets p.z here",
      "node.yaml:3:3: error: p.jq has no value",
    ]);
  });
});

describe("equals", () => {
  const base = { yaml: "p: {k: 1}\n" };
  test("may say the same, and may add", () => {
    expect(merge({ a: { yaml: "p: {k: [1, {x: 2}], a: 1}\n" }, b: { yaml: "p: {k: [1, {x: 2}], b: 1}\n" } })).toEqual({ value: { p: { k: [1, { x: 2 }], a: 1, b: 1 } }, problems: [] });
  });

  test("may not contradict each other; both places are told", () => {
    const settings = [
      { layer: { title: 'role "web"', overrides: new Set<Layer>() }, value: located("roles/web.yaml", "p:\n  k: 1\n") },
      { layer: { title: 'role "db"', overrides: new Set<Layer>() }, value: located("roles/db.yaml", "p:\n  k: 2\n") },
    ];
    const text = formatDiagnostics(mergeSettings(settings).diagnostics);
    expect(text).toContain('roles/web.yaml:2:6: error: role "web" and role "db" contradict each other: p.k is the number 1 here');
    expect(text).toContain("roles/db.yaml:2:6: note: and the number 2 here");
  });

  test.each([
    ["value and null", "p: {k: null}\n"],
    ["value and map", "p: {k: {}}\n"],
    ["value and list", "p: {k: [1]}\n"],
  ])("%s is a contradiction as well", (_name, other) => {
    expect(merge({ base, a: { over: ["base"], yaml: "p: {k: 2}\n" }, b: { over: ["base"], yaml: other } }).problems.join()).toContain("a and b contradict each other: p.k");
  });

  test("the node's word ends it, and so does a role that includes both", () => {
    const equals = { a: { yaml: "p: {k: 1}\n" }, b: { yaml: "p: {k: 2}\n" } };
    expect(merge({ ...equals, node: { over: ["a", "b"], yaml: "p: {k: 3}\n" } })).toEqual({ value: { p: { k: 3 } }, problems: [] });
    expect(merge({ ...equals, node: { over: ["a", "b"], yaml: "p: {k: null}\n" } })).toEqual({ value: { p: {} }, problems: [] });
    expect(merge({ ...equals, both: { over: ["a", "b"], yaml: "p: {k: 4}\n" }, node: { over: ["a", "b", "both"], yaml: "{}\n" } })).toEqual({ value: { p: { k: 4 } }, problems: [] });
  });

  test("a role beats what it includes also where a sibling includes the same", () => {
    const { value, problems } = merge({ base, a: { over: ["base"], yaml: "p: {k: 2}\n" }, b: { over: ["base"], yaml: "p: {other: 1}\n" } });
    expect(value).toEqual({ p: { k: 2, other: 1 } });
    expect(problems).toEqual([]);
  });
});

describe("for all settings", () => {
  const key = fc.constantFrom("a", "b", "c");
  const tree = fc.letrec((tie) => ({ any: fc.oneof({ maxDepth: 3 }, fc.integer({ min: 0, max: 3 }), fc.constant([1]), fc.dictionary(key, tie("any"), { maxKeys: 3, noNullPrototype: true })) })).any;
  const map = fc.dictionary(key, tree, { maxKeys: 3, noNullPrototype: true });
  const yaml = (value: unknown) => JSON.stringify(value);
  /** A second, naive definition for layers in one line of descent. */
  const overlay = (below: unknown, above: unknown): unknown => {
    const isMap = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
    if (!isMap(below) || !isMap(above)) return above;
    const result: Record<string, unknown> = { ...below };
    for (const [name, value] of Object.entries(above)) result[name] = name in below ? overlay(below[name], value) : value;
    return result;
  };

  test("one line of descent is a fold", () => {
    fc.assert(fc.property(map, map, map, (a, b, c) => {
      const merged = merge({ a: { yaml: yaml(a) }, b: { over: ["a"], yaml: yaml(b) }, c: { over: ["a", "b"], yaml: yaml(c) } });
      expect(merged.problems).toEqual([]);
      expect(merged.value).toEqual(overlay(overlay(a, b), c));
    }));
  });

  /** A key that is of the same type wherever it stands, as schemas demand. */
  const typed = fc.letrec<{ map: Record<string, unknown> }>((tie) => ({
    map: fc.record({ map: fc.oneof({ maxDepth: 3 }, fc.constant({}), tie("map")), scalar: fc.integer({ min: 0, max: 3 }), list: fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 2 }) }, { requiredKeys: [], noNullPrototype: true }),
  })).map;

  test("nesting is associative: merging two neighbours first changes nothing", () => {
    fc.assert(fc.property(typed, typed, typed, (a, b, c) => {
      const flat = merge({ a: { yaml: yaml(a) }, b: { over: ["a"], yaml: yaml(b) }, c: { over: ["a", "b"], yaml: yaml(c) } }).value;
      const ab = merge({ a: { yaml: yaml(a) }, b: { over: ["a"], yaml: yaml(b) } }).value;
      const bc = merge({ b: { yaml: yaml(b) }, c: { over: ["b"], yaml: yaml(c) } }).value;
      expect(merge({ ab: { yaml: yaml(ab) }, c: { over: ["ab"], yaml: yaml(c) } }).value).toEqual(flat);
      expect(merge({ a: { yaml: yaml(a) }, bc: { over: ["a"], yaml: yaml(bc) } }).value).toEqual(flat);
    }));
  });

  test("the node wins, and then nothing is in contradiction where it spoke", () => {
    fc.assert(fc.property(map, map, map, (a, b, node) => {
      const merged = merge({ a: { yaml: yaml(a) }, b: { yaml: yaml(b) }, node: { over: ["a", "b"], yaml: yaml(node) } }).value as Record<string, unknown>;
      const leavesHold = (wanted: unknown, found: unknown): boolean =>
        typeof wanted === "object" && wanted !== null && !Array.isArray(wanted)
          ? Object.entries(wanted).every(([name, value]) => leavesHold(value, (found as Record<string, unknown>)[name]))
          : JSON.stringify(wanted) === JSON.stringify(found);
      expect(leavesHold(node, merged)).toBe(true);
    }));
  });

  test("the order of equals does not matter: same value, or a contradiction either way", () => {
    fc.assert(fc.property(map, map, (a, b) => {
      const one = merge({ a: { yaml: yaml(a) }, b: { yaml: yaml(b) } });
      const two = merge({ b: { yaml: yaml(b) }, a: { yaml: yaml(a) } });
      expect(one.problems.length > 0).toBe(two.problems.length > 0);
      if (one.problems.length === 0) expect(one.value).toEqual(two.value);
    }));
  });
});
