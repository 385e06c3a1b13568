import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Processes } from "../host/process.ts";
import type { Places, Settings } from "../settings.ts";
import { Repository } from "./repository.ts";

/** Fetching, with real Git, from a repository in the next directory. */

const MAX_BYTES = 1024 * 1024;
let directory = "";
let repository: Repository;
const at = (name: string) => join(directory, name);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-fetch-"));
  mkdirSync(at("up"));
  git("init", "-q", "-b", "main");
  const places: Places = { stateDir: at("state"), settingsDir: at("etc"), runDir: at("run") };
  const settings = { hub: null, git: { url: `file://${at("up")}`, branch: "main" } } as Settings;
  repository = new Repository(new Processes().runBytes, places, settings, { fetchSizeMaxBytes: MAX_BYTES });
  await repository.prepare();
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function git(...args: string[]): string {
  return execFileSync("git", ["-C", at("up"), "-c", "user.name=T", "-c", "user.email=t@example", ...args], { encoding: "utf8" }).trim();
}

function commit(files: Readonly<Record<string, Uint8Array | string>>): string {
  for (const [name, content] of Object.entries(files)) writeFileSync(at(`up/${name}`), content);
  git("add", "-A");
  git("commit", "-q", "--no-gpg-sign", "-m", "change");
  return git("rev-parse", "HEAD");
}

const packs = () => readdirSync(at("state/repo.git/objects/pack")).filter((name) => !/^pack-[0-9a-f]+\.(pack|idx|rev)$/.test(name));

test("a branch's tip, and null for one that does not exist", async () => {
  const tip = commit({ a: "1" });
  expect(await repository.fetch()).toEqual({ ok: true, commit: tip });
  expect(await repository.fetch("nowhere")).toEqual({ ok: true, commit: null });
});

test("more than is fetched at once is refused, leaves nothing behind, and smaller things come later", async () => {
  const before = commit({ a: "1" });
  await repository.fetch();
  commit({ large: randomBytes(3 * MAX_BYTES) });
  expect(await repository.fetch()).toMatchObject({ ok: false, message: expect.stringContaining(`more than ${MAX_BYTES} bytes for the branch main`) });
  expect(packs()).toEqual([]);
  git("reset", "-q", "--hard", before);
  const after = commit({ b: "2" });
  expect(await repository.fetch()).toEqual({ ok: true, commit: after });
});

test("many small files count together", async () => {
  commit(Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${index}`, randomBytes(MAX_BYTES / 20)])));
  expect(await repository.fetch()).toMatchObject({ ok: false, message: expect.stringContaining("more than is fetched at once") });
});

test("what an earlier agent that was cut off has left goes at the next start", async () => {
  writeFileSync(at("state/repo.git/objects/pack/tmp_pack_x7Q1aa"), "");
  await repository.prepare();
  expect(packs()).toEqual([]);
});
