import { describe, expect, test } from "vitest";
import * as fc from "fast-check";
import { hostsBlock, withHosts, withLang, withLocaleGen, withoutHosts } from "./host-files.ts";

describe("/etc/hosts", () => {
  const block = ["10.0.0.1\tstorage"];

  test("keeps what others wrote, and has our part once", () => {
    const once = withHosts("127.0.0.1 localhost\n", block);
    expect(once).toContain("127.0.0.1 localhost\n");
    expect(withHosts(once, block)).toBe(once);
    expect(withoutHosts(once)).toBe("127.0.0.1 localhost\n");
  });

  test("is made where there is none, and mended where the last line has no end", () => {
    expect(withHosts(null, block)).toContain("localhost");
    expect(withHosts("10.1.1.1 a", block)).toMatch(/^10\.1\.1\.1 a\n# begin/);
  });

  test("any text comes back unchanged, but for a missing end of its last line", () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.stringMatching(/^[a-z0-9.]{1,20}$/), { minLength: 1 }), (text, lines) => {
        const mended = text === "" || text.endsWith("\n") ? text : `${text}\n`;
        expect(withoutHosts(withHosts(text, lines))).toBe(mended);
        expect(withHosts(withHosts(text, lines), lines)).toBe(withHosts(text, lines));
      }),
    );
  });

  test("makes the host's own name known, unless somebody does already", () => {
    expect(hostsBlock({ name: "n1.lan" }, "127.0.0.1 localhost\n")).toEqual(["127.0.1.1\tn1.lan n1"]);
    expect(hostsBlock({ name: "n1" }, "10.0.0.1 n1 # me\n")).toBeNull();
    expect(hostsBlock({ name: "n1" }, "# 10.0.0.1 n1\n")).toEqual(["127.0.1.1\tn1"]);
    expect(hostsBlock({ name: "n1", hosts: { "10.0.0.1": ["n1"] } }, "")).toEqual(["10.0.0.1\tn1"]);
    expect(hostsBlock({}, "")).toBeNull();
  });
});

test("LANG is set where it stands, and other lines stay", () => {
  expect(withLang("# x\nLANG=C\nLC_TIME=C\n", "de_DE.UTF-8")).toBe("# x\nLANG=de_DE.UTF-8\nLC_TIME=C\n");
  expect(withLang('LANG="de_DE.UTF-8"\n', "de_DE.UTF-8")).toBe('LANG="de_DE.UTF-8"\n');
  expect(withLang(null, "C.UTF-8")).toBe("LANG=C.UTF-8\n");
  expect(withLang("LC_TIME=C", "C.UTF-8")).toBe("LC_TIME=C\nLANG=C.UTF-8\n");
});

test("a locale's line is uncommented where it stands, or added", () => {
  expect(withLocaleGen("# de_DE.UTF-8 UTF-8\n# en_US.UTF-8 UTF-8\n", "en_US.UTF-8")).toBe("# de_DE.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n");
  expect(withLocaleGen(null, "en_US.UTF-8")).toBe("en_US.UTF-8 UTF-8\n");
  expect(withLocaleGen("en_US.UTF-8 UTF-8\n", "en_US.UTF-8")).toBe("en_US.UTF-8 UTF-8\n");
});
