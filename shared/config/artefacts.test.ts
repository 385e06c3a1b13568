import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { describe, expect, test } from "vitest";
import { kinds } from "../kinds/index.ts";
import { EXAMPLE_FILES, artefacts } from "./artefacts.ts";
import { Cluster } from "./cluster.ts";
import { editorSchemas, inputSchema } from "./json-schema.ts";
import type { JsonSchema } from "./json-schema.ts";
import { referencePages, sectionText } from "./reference.ts";

const root = join(import.meta.dirname, "..", "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const examples = EXAMPLE_FILES.map((path) => ({ path, text: read(path) }));

describe("what is made from the schemas is up to date (else: npm run schema)", () => {
  test.each([...artefacts(kinds, examples)])("%s", (path, text) => {
    expect(read(path)).toBe(text);
  });
});

describe("examples", () => {
  test.each(kinds.map((kind) => [kind.name, kind] as const))("%s has one that its schema takes", (name, kind) => {
    const text = examples.filter((each) => !each.path.endsWith("cluster.yaml")).map((each) => sectionText(each.text, name)).find((each) => each !== undefined);
    expect(text, `add a section ${name} to docs/reference/examples.yaml`).toBeDefined();
    const section = (parse(text ?? "") as Record<string, unknown>)[name];
    expect(kind.schema.safeParse(section).error?.issues ?? []).toEqual([]);
  });
});

describe("every field is explained", () => {
  const unexplained = (schema: JsonSchema, path: string): string[] => {
    const found: string[] = [];
    for (const [name, field] of Object.entries(schema.properties ?? {})) {
      if (field.description === undefined) found.push(`${path}.${name}`);
      found.push(...unexplained(field, `${path}.${name}`));
    }
    for (const branch of [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]) found.push(...unexplained(branch, path));
    if (typeof schema.additionalProperties === "object") found.push(...unexplained(schema.additionalProperties, `${path}.NAME`));
    if (schema.items !== undefined) found.push(...unexplained(schema.items, `${path}[]`));
    return found;
  };
  test.each([["cluster.yaml", Cluster] as const, ...kinds.map((kind) => [kind.name, kind.schema] as const)])("%s", (name, schema) => {
    expect(unexplained(inputSchema(schema), name)).toEqual([]);
  });
});

describe("editors' schemas", () => {
  const schemas = editorSchemas(kinds);
  test("a node's file has its fields and every kind; a role's has no address", () => {
    const names = (file: string) => Object.keys(schemas.get(file)?.properties ?? {}).sort();
    expect(names("node.json")).toEqual(["address", "fleetlock", "recipient", "roles", "vars", ...kinds.map((kind) => kind.name)].sort());
    expect(names("role.json")).not.toContain("address");
    expect(names("role.json")).not.toContain("fleetlock");
    expect(schemas.get("node.json")?.additionalProperties).toBe(false);
  });

  test("in a part of a node nothing is required, and null takes away", () => {
    // A list is replaced as a whole: what is one of its items is not a part.
    const section = JSON.stringify(schemas.get("role.json"), (key, value: unknown) => (key === "items" ? undefined : value));
    expect(section).not.toContain('"required":[');
    expect(section).not.toContain('"oneOf"');
    expect(schemas.get("cluster.json")?.required).toContain("signers");
  });
});

test("referencePages makes a page for each kind, and links it", () => {
  const pages = referencePages(kinds, examples);
  for (const kind of kinds) expect(pages.get("README.md")).toContain(`(${kind.name}.md)`);
  expect(pages.size).toBe(kinds.length + 4);
});

test("sectionText takes one section with its comments, and nothing of the next", () => {
  const text = "a:\n  x: 1\n\n  # inner\n  y: 2\n\n# about b\nb: {}\n";
  expect(sectionText(text, "a")).toBe("a:\n  x: 1\n\n  # inner\n  y: 2\n");
  expect(sectionText(text, "b")).toBe("b: {}\n");
  expect(sectionText(text, "c")).toBeUndefined();
});
