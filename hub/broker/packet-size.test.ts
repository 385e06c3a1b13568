import { describe, expect, test } from "vitest";
import { PacketSizeGuard } from "./packet-size.ts";

function packet(bodyBytes: number): Uint8Array {
  const length: number[] = [];
  for (let rest = bodyBytes; ; rest = Math.floor(rest / 128)) {
    length.push((rest % 128) | (rest >= 128 ? 0x80 : 0));
    if (rest < 128) break;
  }
  return new Uint8Array([0x30, ...length, ...Array.from({ length: bodyBytes }, () => 0xff)]);
}

describe("packet sizes", () => {
  test.each([0, 1, 127, 128, 1_000, 16_383, 16_384, 20_000])("a packet of %i bytes passes, however it is cut, and so does the next", (bodyBytes) => {
    const bytes = new Uint8Array([...packet(bodyBytes), ...packet(5)]);
    for (const step of [1, 7, bytes.length]) {
      const guard = new PacketSizeGuard(20_000);
      for (let at = 0; at < bytes.length; at += step) expect(guard.accepts(bytes.subarray(at, at + step))).toBe(true);
    }
  });

  test("one that says it is larger is caught at its header, before its body", () => {
    expect(new PacketSizeGuard(20_000).accepts(packet(20_001).subarray(0, 4))).toBe(false);
    const second = new PacketSizeGuard(20_000);
    expect(second.accepts(packet(3))).toBe(true);
    expect(second.accepts(new Uint8Array([0x30, 0xff, 0xff, 0xff, 0x7f]))).toBe(false);
  });

  test("a length that does not end is malformed", () => {
    expect(new PacketSizeGuard(2 ** 40).accepts(new Uint8Array([0x30, 0x80, 0x80, 0x80, 0x80, 0x80]))).toBe(false);
  });
});
