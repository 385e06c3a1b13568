import { chmodSync, chownSync, existsSync, lchownSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Step } from "../../shared/kinds/kind.ts";
import type { Earlier } from "../engine/inventory.ts";
import { CannotKeep } from "./host.ts";
import { inParent } from "./parents.ts";
import { Processes } from "./process.ts";
import { RealHost } from "./real.ts";

/**
 * A directory that belongs to a user, in which he puts a link in place of a directory: `site/shared` leads to `victim`,
 * where he may not write. The tests run as root, as the agent does.
 */

const USER = 65_534;
let directory = "";
let host: RealHost;
const at = (name: string) => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-parents-"));
  host = new RealHost(new Processes(), at("backup"));
  for (const name of ["victim", "victim/log", "site"]) mkdirSync(at(name));
  writeFileSync(at("victim/file"), "root's own");
  chmodSync(at("victim/file"), 0o600);
  chownSync(at("site"), USER, USER);
  symlinkSync(at("victim"), at("site/shared"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const common = { resource: "files/x", why: "test", impact: "none" } as const;
const owned = { mode: 0o777, owner: String(USER), group: String(USER) };
const there = { mode: 0o644, uid: USER, gid: USER };

function victimIsUntouched(): void {
  expect(readFileSync(at("victim/file"), "utf8")).toBe("root's own");
  expect(statSync(at("victim/file"))).toMatchObject({ uid: 0, mode: 0o100600 });
  expect(statSync(at("victim/log"))).toMatchObject({ uid: 0 });
  expect(statSync(at("victim/log")).mode & 0o777).toBe(0o755);
  expect(readdirSync(at("victim")).toSorted()).toEqual(["file", "log"]);
}

describe("a link in a directory that belongs to a user is not followed", () => {
  const file = (): string => at("site/shared/file");
  const made = (): string => at("site/shared/new/x");
  test.each<[string, () => Step, Earlier?]>([
    ["to write", () => ({ ...common, do: "write", path: file(), content: new TextEncoder().encode("his"), ...owned })],
    ["to make parents", () => ({ ...common, do: "write", path: made(), content: new TextEncoder().encode("his"), ...owned })],
    ["to make a directory", () => ({ ...common, do: "directory", path: at("site/shared/new"), ...owned })],
    ["to give a directory away", () => ({ ...common, do: "directory", path: at("site/shared/log"), ...owned })],
    ["to change attributes", () => ({ ...common, do: "attributes", path: file(), ...owned })],
    ["to link", () => ({ ...common, do: "link", path: file(), target: "/his" })],
    ["to remove a file", () => ({ ...common, do: "remove", path: file() })],
    ["to remove a directory", () => ({ ...common, do: "remove", path: at("site/shared/log") })],
    ["to restore absence", () => ({ ...common, do: "restore", path: file() }), { type: "absent" }],
    ["to restore a link", () => ({ ...common, do: "restore", path: file() }), { type: "link", target: "/his" }],
    ["to restore a directory", () => ({ ...common, do: "restore", path: at("site/shared/log") }), { type: "directory", ...there }],
  ])("%s", async (_what, step, earlier) => {
    expect(await host.apply(step(), earlier)).toMatchObject({ ok: false, message: expect.stringMatching(/"shared" is a link.*not followed\. Declare the path/) });
    victimIsUntouched();
  });

  test("to keep what is there, which would come back to the user", async () => {
    await expect(host.keep(file())).rejects.toThrow(CannotKeep);
    expect(existsSync(at("backup"))).toBe(false);
  });

  test("to restore a file", async () => {
    writeFileSync(at("his"), "his");
    const earlier = await host.keep(at("his"));
    expect(await host.apply({ ...common, do: "restore", path: file() }, earlier)).toMatchObject({ ok: false });
    victimIsUntouched();
  });

  test("not while he changes it to and fro as fast as he can", async () => {
    rmSync(at("site/shared"));
    mkdirSync(at("site/shared"));
    const swapping = spawn(process.execPath, ["-e", `
      const fs = require("node:fs"); process.chdir(process.argv[1]); console.log("on");
      const tried = (deed) => { try { deed(); } catch {} };
      for (let n = 0; ; n += 1) {
        tried(() => fs.renameSync("shared", "aside" + n)); tried(() => fs.symlinkSync("../victim", "shared"));
        tried(() => fs.unlinkSync("shared")); tried(() => fs.mkdirSync("shared"));
      }`, at("site")], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(swapping.stdout, "data");
      for (let round = 0; round < 12; round += 1) {
        await host.apply({ ...common, do: "directory", path: at("site/shared/log"), ...owned }, undefined);
        await host.apply({ ...common, do: "write", path: at("site/shared/file"), content: new TextEncoder().encode("his"), ...owned }, undefined);
      }
    } finally {
      swapping.kill("SIGKILL");
      await once(swapping, "close");
    }
    victimIsUntouched();
  });
});

describe("a link that only root can have made is followed", () => {
  test("absolute, relative and through another, and parents are made behind it", async () => {
    symlinkSync(at("victim"), at("absolute"));
    mkdirSync(at("deep"));
    symlinkSync("../absolute", at("deep/relative"));
    expect(await host.apply({ ...common, do: "write", path: at("deep/relative/new/x"), content: new TextEncoder().encode("ours"), mode: 0o640, owner: "root", group: "root" }, undefined)).toEqual({ ok: true });
    expect(readFileSync(at("victim/new/x"), "utf8")).toBe("ours");
    expect(await host.keep(at("absolute/file"))).toMatchObject({ type: "file", mode: 0o600 });
    expect(await inParent("/var/run/x", async (name) => readlinkSync(join(name, "..")))).toBe("/run");
  });

  test("but not one that belongs to a user, nor one in a directory that others may write to", async () => {
    symlinkSync("victim", at("his"));
    lchownSync(at("his"), USER, USER);
    mkdirSync(at("open"));
    chmodSync(at("open"), 0o777);
    symlinkSync("../victim", at("open/link"));
    for (const path of ["his/file", "open/link/file"]) {
      expect(await host.apply({ ...common, do: "remove", path: at(path) }, undefined)).toMatchObject({ ok: false });
    }
    victimIsUntouched();
  });

  test("but not one in root's directory inside a user's, who could have moved it there", async () => {
    mkdirSync(at("site/roots"));
    symlinkSync("../../victim", at("site/roots/link"));
    renameSync(at("site/roots"), at("site/moved"));
    expect(await host.apply({ ...common, do: "remove", path: at("site/moved/link/file") }, undefined)).toMatchObject({ ok: false });
    victimIsUntouched();
  });

  test("and links in a circle end", async () => {
    symlinkSync("b", at("a"));
    symlinkSync("a", at("b"));
    expect(await host.apply({ ...common, do: "remove", path: at("a/x") }, undefined)).toMatchObject({ ok: false });
  });
});

test("what is not a directory on the way is said, by the name that people know", async () => {
  const result = await host.apply({ ...common, do: "directory", path: at("victim/file/x"), ...owned }, undefined);
  expect(result).toMatchObject({ ok: false, message: expect.stringContaining(at("victim/file/x")) });
  expect(JSON.stringify(result)).not.toContain("/proc/self");
});

test("no open directory stays behind", async () => {
  const before = readdirSync("/proc/self/fd").length;
  for (let round = 0; round < 20; round += 1) {
    await host.apply({ ...common, do: "directory", path: at("site/mine/log"), ...owned }, undefined);
    await host.apply({ ...common, do: "remove", path: at("site/shared/file") }, undefined);
    await host.apply({ ...common, do: "remove", path: at("nowhere/at/all") }, undefined);
  }
  expect(lstatSync(at("site/mine/log")).uid).toBe(USER);
  expect(readdirSync("/proc/self/fd").length).toBeLessThan(before + 10);
});
