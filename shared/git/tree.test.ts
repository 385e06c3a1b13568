import { describe, expect, test } from "vitest";
import { parseBatch } from "./tree.ts";

const id = (digit: string) => digit.repeat(40);
const bytes = (text: string) => new TextEncoder().encode(text);
const parsed = (text: string) => [...parseBatch(bytes(text))].map(([object, content]) => [object[0], new TextDecoder().decode(content)]);

describe("what git cat-file --batch answers", () => {
  test("is read by its sizes, whatever the contents look like", () => {
    expect(parsed(`${id("a")} blob 5\nx\n y\n\n${id("b")} missing\n${id("c")} blob 0\n\n`)).toEqual([["a", "x\n y\n"], ["c", ""]]);
    expect(parsed("")).toEqual([]);
  });

  test.each([
    ["cut off in a content", `${id("a")} blob 5\nxy`],
    ["cut off before the last line end", `${id("a")} blob 5\nx\n y\n`],
    ["cut off in a header", `${id("a")} blob 1\nx\n${id("b")} bl`],
    ["with a part left out of its middle", `${id("a")} blob 9\nxy\n${id("b")} blob 2\nyx\n`],
    ["with a content longer than its header says", `${id("a")} blob 1\nxyz\n`],
    ["with a size that is none", `${id("a")} blob x\nxyz\n`],
  ])("is not believed %s", (_what, text) => {
    expect(() => parseBatch(bytes(text))).toThrow("not whole");
  });
});
