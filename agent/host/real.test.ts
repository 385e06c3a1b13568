import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Step } from "../../shared/kinds/kind.ts";
import { CannotKeep } from "./host.ts";
import { Processes } from "./process.ts";
import { RealHost } from "./real.ts";

/** Steps on a real file system, below a temporary directory. */

let directory = "";
let host: RealHost;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-host-"));
  host = new RealHost(new Processes(), join(directory, "backup"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const at = (name: string) => join(directory, name);
const common = { resource: "files/x", why: "test", impact: "none" } as const;
const text = (content: string) => new TextEncoder().encode(content);
const write = (path: string, content: string, mode = 0o644): Step => ({ ...common, do: "write", path, content: text(content), mode, owner: "root", group: "root" });

describe("files", () => {
  test("are written whole, with mode, in directories that are made; nothing temporary stays", async () => {
    expect(await host.apply(write(at("a/b/c"), "text", 0o640), undefined)).toEqual({ ok: true });
    expect(readFileSync(at("a/b/c"), "utf8")).toBe("text");
    expect(statSync(at("a/b/c")).mode & 0o7777).toBe(0o640);
    expect(await host.probe.list(at("a/b"))).toEqual(["c"]);
  });

  test("that are links are replaced, and what they point to is left alone", async () => {
    writeFileSync(at("target"), "theirs");
    symlinkSync(at("target"), at("link"));
    await host.apply(write(at("link"), "ours"), undefined);
    expect(lstatSync(at("link")).isFile()).toBe(true);
    expect(readFileSync(at("target"), "utf8")).toBe("theirs");
  });

  test("get attributes on themselves, never through a link that was put in their place", async () => {
    writeFileSync(at("target"), "theirs");
    chmodSync(at("target"), 0o600);
    symlinkSync(at("target"), at("link"));
    for (const step of [
      { ...common, do: "attributes", path: at("link"), mode: 0o666, owner: "root", group: "root" },
      { ...common, do: "directory", path: at("link"), mode: 0o777, owner: "root", group: "root" },
    ] satisfies Step[]) {
      expect(await host.apply(step, undefined)).toMatchObject({ ok: false });
    }
    expect(statSync(at("target")).mode & 0o7777).toBe(0o600);
  });

  test("come back as they were: content, mode, links and absence", async () => {
    writeFileSync(at("file"), "before");
    chmodSync(at("file"), 0o600);
    symlinkSync("nowhere", at("link"));
    for (const name of ["file", "link", "new"]) {
      const earlier = await host.keep(at(name));
      await host.apply(write(at(name), "ours"), undefined);
      expect(await host.apply({ ...common, do: "restore", path: at(name) }, earlier)).toEqual({ ok: true });
    }
    expect(readFileSync(at("file"), "utf8")).toBe("before");
    expect(statSync(at("file")).mode & 0o7777).toBe(0o600);
    expect(readlinkSync(at("link"))).toBe("nowhere");
    expect(await host.probe.stat(at("new"))).toBe(null);
  });

  test("are not written through what somebody put at the temporary name", async () => {
    execFileSync("mkfifo", [at(".x.evenkeel-new")]);
    expect(await host.apply(write(at("x"), "ours"), undefined)).toEqual({ ok: true });
    expect(readFileSync(at("x"), "utf8")).toBe("ours");
  });

  test("that are too large to keep are not replaced", async () => {
    writeFileSync(at("large"), new Uint8Array(17 * 1024 * 1024));
    await expect(host.keep(at("large"))).rejects.toThrow(CannotKeep);
  });

  test("whose earlier content is gone from the backup are left as they are, and said to be", async () => {
    writeFileSync(at("x"), "ours");
    const result = await host.apply({ ...common, do: "restore", path: at("x") }, { type: "file", sha256: "0".repeat(64), mode: 0o644, uid: 0, gid: 0 });
    expect(result).toMatchObject({ ok: false });
    expect(readFileSync(at("x"), "utf8")).toBe("ours");
  });

  test("a directory with something in it is never removed", async () => {
    mkdirSync(at("full"));
    writeFileSync(at("full/theirs"), "");
    expect(await host.apply({ ...common, do: "remove", path: at("full") }, undefined)).toMatchObject({ ok: false, message: expect.stringContaining("is not empty") });
  });

  test("an owner that does not exist is a message with what to do", async () => {
    const result = await host.apply({ ...common, do: "write", path: at("x"), content: text(""), mode: 0o644, owner: "no-such-user", group: "root" }, undefined);
    expect(result).toMatchObject({ ok: false, message: expect.stringContaining("declare it under users") });
  });
});

describe("processes", () => {
  test("a missing program, a failing one and one that hangs are answers", async () => {
    const processes = new Processes();
    expect(await processes.run(["no-such-program"])).toMatchObject({ code: 127 });
    expect(await processes.run(["sh", "-c", "echo out; echo err >&2; exit 3"])).toMatchObject({ code: 3, stdout: "out\n", stderr: "err\n" });
    expect(await processes.run(["sleep", "1000"], { timeoutMs: 50 })).toMatchObject({ code: 124, stderr: expect.stringContaining("did not end") });
    expect(processes.started).toBe(3);
  });

  test("run in a session of their own, so that Ctrl-C at a terminal does not reach them", async () => {
    const output = await new Processes().run(["sh", "-c", "ps -o sid= -p $$; echo $$"]);
    const [session, pid] = output.stdout.split("\n").map((line) => line.trim());
    expect(session).toBe(pid);
  });

  test("that leave a daemon behind, which holds their output open, are not waited for", async () => {
    expect(await new Processes().run(["sh", "-c", "setsid sleep 30 & echo hi"], { timeoutMs: 20_000 })).toMatchObject({ code: 0, stdout: "hi\n" });
  });

  test("cannot fill the memory: the beginning and the end of their output stay", async () => {
    const output = await new Processes().run(["sh", "-c", "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo last"], { outputMaxBytes: 200_000 });
    expect(output.stdout.length).toBeLessThan(400_000);
    expect(output.stdout.startsWith("first")).toBe(true);
    expect(output.stdout.endsWith("last\n")).toBe(true);
  });
});
