import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bundleAgent, putInPlace } from "./bundle.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-bundle-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("a file is the old one until the new one is whole, and failing leaves nothing behind", async () => {
  const path = join(directory, "file");
  writeFileSync(path, "old");
  const reader = openSync(path, "r");
  await putInPlace(path, async (beside) => {
    const file = openSync(beside, "w");
    writeSync(file, "ne");
    expect(readFileSync(path, "utf8")).toBe("old");
    writeSync(file, "w");
    closeSync(file);
  });
  expect(readFileSync(path, "utf8")).toBe("new");
  expect(readFileSync(reader, "utf8")).toBe("old");
  closeSync(reader);
  await expect(putInPlace(path, async (beside) => {
    writeFileSync(beside, "half");
    throw new Error("no space");
  })).rejects.toThrow("no space");
  expect(readFileSync(path, "utf8")).toBe("new");
  expect(readdirSync(directory)).toEqual(["file"]);
});

test("the bundle runs, and what is running keeps its own files when it is made anew", async () => {
  await bundleAgent(directory);
  const running = openSync(join(directory, "agent.cjs"), "r");
  await bundleAgent(directory);
  expect(readdirSync(directory).toSorted()).toEqual(["agent.cjs", "evenkeel-agent", "evenkeel-agent.service", "node"]);
  expect(readFileSync(running, "utf8").length).toBeGreaterThan(100_000);
  closeSync(running);
  expect(execFileSync(join(directory, "node"), [join(directory, "agent.cjs"), "--version"], { encoding: "utf8" })).toMatch(/^\d+\.\d+\.\d+/);
});
