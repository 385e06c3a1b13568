import * as fc from "fast-check";
import { expect, test } from "vitest";
import { sameBytes } from "./managed-file.ts";

test("bytes are the same only when all of them are, wherever in their memory they begin", () => {
  const placed = (bytes: Uint8Array, offset: number) => {
    const memory = new Uint8Array(bytes.length + 16);
    memory.set(bytes, offset);
    return memory.subarray(offset, offset + bytes.length);
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 8 }), fc.nat({ max: 8 }), fc.nat(), (bytes, one, other, at) => {
    expect(sameBytes(placed(bytes, one), placed(bytes, other))).toBe(true);
    expect(sameBytes(bytes, Uint8Array.of(...bytes, 0))).toBe(false);
    if (bytes.length === 0) return;
    const changed = bytes.slice();
    changed[at % bytes.length] = (changed[at % bytes.length] ?? 0) ^ 0x80;
    expect(sameBytes(placed(bytes, one), placed(changed, other))).toBe(false);
  }));
});
