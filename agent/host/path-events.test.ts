import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PathEvents } from "./path-events.ts";

/** Real inotify. */

let directory = "";
let events: PathEvents;
let heard: string[] = [];
let wake = () => {};
const at = (name: string) => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-events-"));
  heard = [];
  events = new PathEvents((path) => {
    heard.push(path);
    wake();
  });
  mkdirSync(at("conf"));
  writeFileSync(at("conf/file"), "1");
});
afterEach(() => {
  events.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** Resolves when the path was told of; all that was heard before it is forgotten. */
async function told(path: string): Promise<void> {
  while (!heard.includes(path)) await new Promise<void>((resolve) => (wake = resolve));
  heard = [];
}

describe("a file is told of", () => {
  test("when it is written, replaced and removed, and its neighbours are not", async () => {
    events.watch([at("conf/file")]);
    writeFileSync(at("conf/other"), "");
    writeFileSync(at("conf/file"), "2");
    await told(at("conf/file"));
    writeFileSync(at("conf/other"), "3");
    renameSync(at("conf/other"), at("conf/file"));
    await told(at("conf/file"));
    expect(heard).toEqual([]);
    rmSync(at("conf/file"));
    await told(at("conf/file"));
  });

  test("after its directory was deleted and made again", async () => {
    events.watch([at("conf/file")]);
    rmSync(at("conf"), { recursive: true });
    mkdirSync(at("conf"));
    await told(at("conf"));
    expect(events.watch([at("conf/file")])).toBe(0);
    heard = [];
    writeFileSync(at("conf/file"), "2");
    await told(at("conf/file"));
  });

  test("after its directory was moved away and another put in its place", async () => {
    events.watch([at("conf/file")]);
    mkdirSync(at("new"));
    renameSync(at("conf"), at("old"));
    renameSync(at("new"), at("conf"));
    await told(at("conf"));
    events.watch([at("conf/file")]);
    writeFileSync(at("conf/file"), "2");
    await told(at("conf/file"));
  });

  test("after a directory further up was moved, at the next call, of which nothing tells", async () => {
    mkdirSync(at("a/b"), { recursive: true });
    events.watch([at("a/b/file")]);
    renameSync(at("a"), at("old"));
    mkdirSync(at("a/b"), { recursive: true });
    events.watch([at("a/b/file")]);
    writeFileSync(at("a/b/file"), "");
    await told(at("a/b/file"));
  });
});

test("the coming of a directory that is missing is told, step by step", async () => {
  const file = at("not/there/file");
  expect(events.watch([file])).toBe(0);
  mkdirSync(at("not"));
  await told(at("not"));
  events.watch([file]);
  mkdirSync(at("not/there"));
  await told(at("not/there"));
  events.watch([file]);
  writeFileSync(file, "");
  await told(file);
});
