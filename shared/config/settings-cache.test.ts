import { expect, test } from "vitest";
import { SettingsCache } from "./settings-cache.ts";
import type { Read, SettingsFile } from "./settings-file.ts";

const text = (content: string): Uint8Array => new TextEncoder().encode(content);
let parsed: string[] = [];
const parse = (bytes: Uint8Array): Read<SettingsFile> => {
  parsed.push(new TextDecoder().decode(bytes).slice(0, 1));
  return { value: undefined, diagnostics: [] };
};

test("a file is read again when it has changed, and one of another name never stands for it", () => {
  parsed = [];
  const cache = new SettingsCache();
  const first = cache.read("nodes/n1.yaml", text("a"), parse);
  expect(cache.read("nodes/n1.yaml", text("a"), parse)).toBe(first);
  cache.read("nodes/n2.yaml", text("a"), parse);
  cache.read("nodes/n1.yaml", text("b"), parse);
  cache.read("nodes/n1.yaml", text("a"), parse);
  expect(parsed).toEqual(["a", "a", "b", "a"]);
});

test("what was not used for longest goes when it gets too much, and a file that is larger than all is not kept", () => {
  parsed = [];
  const cache = new SettingsCache();
  const large = (letter: string): Uint8Array => text(letter.repeat(100 * 1024));
  for (const letter of ["a", "b"]) cache.read(letter, large(letter), parse);
  cache.read("a", large("a"), parse);
  cache.read("c", large("c"), parse);
  expect(parsed).toEqual(["a", "b", "c"]);
  cache.read("a", large("a"), parse);
  cache.read("b", large("b"), parse);
  expect(parsed).toEqual(["a", "b", "c", "b"]);
  const huge = text("h".repeat(300 * 1024));
  cache.read("h", huge, parse);
  cache.read("h", huge, parse);
  expect(parsed.slice(4)).toEqual(["h", "h"]);
});
