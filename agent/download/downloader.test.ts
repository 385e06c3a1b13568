import { createHash } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Processes } from "../host/process.ts";
import { stampOf } from "../host/probe.ts";
import { Downloader, type DownloadStep } from "./downloader.ts";

/** Real sockets on the loopback, real files; only the disk's room is pretended. */

const body = Buffer.alloc(300_000, "even keel ");
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
let answers: Readonly<Record<string, Answer>> = {};
const asked: string[] = [];
const server = createServer((request, response) => {
  asked.push(`${request.url} ${request.headers.range ?? ""}`.trim());
  (answers[request.url ?? ""] ?? ((_, none) => none.writeHead(404).end()))(request, response);
});
let base: string;
let directory: string;
const ids = { uid: process.getuid!(), gid: process.getgid!() };

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "download-"));
  asked.length = 0;
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const whole: Answer = (request, response) => {
  const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
  if (from === 0) response.writeHead(200, { "content-length": body.length }).end(body);
  else if (from >= body.length) response.writeHead(416).end();
  else response.writeHead(206, { "content-range": `bytes ${from}-${body.length - 1}/${body.length}` }).end(body.subarray(from));
};
const cut: Answer = (_, response) => {
  response.writeHead(200, { "content-length": body.length });
  response.write(body.subarray(0, 100_000));
  // What the reader has not taken yet when the line breaks is lost; half of a long file is taken long before.
  setTimeout(() => response.destroy(), 100);
};

function downloader(options: Partial<ConstructorParameters<typeof Downloader>[0]> = {}): Downloader {
  return new Downloader({ run: new Processes().run, near: async () => null, recordPath: (path) => join(directory, "records", `${encodeURIComponent(path)}.json`), freeMinBytes: 0, ...options });
}
function step(change: Partial<DownloadStep> = {}): DownloadStep {
  return { do: "download", resource: "downloads//x", why: "", impact: "none", path: join(directory, "tool"), urls: [`${base}/tool`], sha256: sha256(body), mode: 0o755, owner: "root", group: "root", timeoutMs: 20_000, sizeMaxBytes: 1_000_000, replace: false, ...change };
}
const names = async (): Promise<readonly string[]> => (await readdir(directory)).toSorted();

describe("a download", () => {
  test("is put in place with its mode and its record, and nothing else stays", async () => {
    answers = { "/tool": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    expect((await readFile(join(directory, "tool"))).equals(body)).toBe(true);
    const found = await stat(join(directory, "tool"));
    expect(found.mode & 0o7777).toBe(0o755);
    expect(await names()).toEqual(["records", "tool"]);
    const record = JSON.parse(await readFile(join(directory, "records", `${encodeURIComponent(join(directory, "tool"))}.json`), "utf8"));
    expect(record).toEqual({ sha256: sha256(body), member: null, stamp: stampOf(found) });
    // A mode set by hand is no other content.
    await chmod(join(directory, "tool"), 0o600);
    expect(stampOf(await stat(join(directory, "tool")))).toBe(record.stamp);
  });

  test("cut in half goes on where it stopped", async () => {
    answers = { "/tool": cut };
    expect(await downloader().put(step(), ids)).toMatchObject({ ok: false, message: expect.stringContaining("which are kept; the next try goes on there") });
    expect((await names()).filter((name) => name === "tool")).toEqual([]);
    answers = { "/tool": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    expect(asked[0]).toBe("/tool");
    expect(asked[1]).toMatch(/^\/tool bytes=[1-9]\d*-$/);
    expect((await readFile(join(directory, "tool"))).equals(body)).toBe(true);
  });

  test("cut in half goes on from another address", async () => {
    answers = { "/tool": cut, "/mirror": whole };
    expect(await downloader().put(step({ urls: [`${base}/tool`, `${base}/mirror`] }), ids)).toEqual({ ok: true });
    expect(asked[1]).toMatch(/^\/mirror bytes=/);
  });

  test("with a wrong sum is thrown away, and says what was found", async () => {
    answers = { "/tool": (_, response) => response.end("something else") };
    expect(await downloader().put(step(), ids)).toMatchObject({ ok: false, message: expect.stringMatching(new RegExp(`has the sum ${sha256(Buffer.from("something else"))}, and ${sha256(body)} is wanted`)) });
    answers = { "/tool": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    expect(asked).toEqual(["/tool", "/tool"]);
  });

  test("with a wrong rest is thrown away as well, and begins anew", async () => {
    answers = { "/tool": cut };
    await downloader().put(step(), ids);
    answers = { "/tool": (_, response) => response.writeHead(206, { "content-range": "bytes 100000-300000/300000" }).end("no such rest") };
    expect(await downloader().put(step(), ids)).toMatchObject({ ok: false });
    answers = { "/tool": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
  });

  test("larger than the room on the disk is not begun", async () => {
    answers = { "/tool": (_, response) => response.writeHead(200, { "content-length": 20_000_000_000 }).write("x") };
    expect(await downloader({ freeMinBytes: 2 ** 60 }).put(step({ sizeMaxBytes: 2 ** 50 }), ids)).toMatchObject({ ok: false, message: expect.stringContaining("20000000000 bytes, and only 0 are free") });
  });

  test("larger than sizeMaxBytes is not begun, or ended", async () => {
    answers = { "/tool": whole };
    expect(await downloader().put(step({ sizeMaxBytes: 1_000 }), ids)).toMatchObject({ ok: false, message: expect.stringContaining("more than the 1000") });
    answers = { "/tool": (_, response) => response.write(body) };
    expect(await downloader().put(step({ sizeMaxBytes: 1_000 }), ids)).toMatchObject({ ok: false, message: expect.stringContaining("more than the 1000 bytes") });
  });

  test("of which nothing comes any more is given up, and what came is kept", async () => {
    answers = { "/tool": (_, response) => response.writeHead(200, { "content-length": body.length }).write(body.subarray(0, 50_000)) };
    expect(await downloader({ idleMs: 300 }).put(step(), ids)).toMatchObject({ ok: false, message: expect.stringContaining("nothing came for 0.3 s; 50000 bytes are kept") });
  });

  test("leads elsewhere, and is followed; not for ever, and not to other protocols", async () => {
    answers = { "/tool": (_, response) => response.writeHead(302, { location: "/there" }).end(), "/there": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    answers = { "/tool": (_, response) => response.writeHead(302, { location: "/tool" }).end() };
    expect(await downloader().put(step({ path: join(directory, "b") }), ids)).toMatchObject({ ok: false, message: expect.stringContaining("from one address to the next") });
    answers = { "/tool": (_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end() };
    expect(await downloader().put(step({ path: join(directory, "c") }), ids)).toMatchObject({ ok: false, message: expect.stringContaining("file:, which is not followed") });
  });

  test("does not replace what the agent did not put there; takes it over when it is the very file", async () => {
    answers = { "/tool": whole };
    await writeFile(join(directory, "tool"), "the owner's own");
    expect(await downloader().put(step(), ids)).toMatchObject({ ok: false, message: expect.stringContaining("does not replace it: move it away") });
    await writeFile(join(directory, "tool"), body);
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    expect(asked).toEqual([]);
    expect((await stat(join(directory, "tool"))).mode & 0o777).toBe(0o755);
  });

  test("comes from near where that has it, and from afar where it has not, or has something else", async () => {
    const near = async () => ({ url: `${base}/near` });
    answers = { "/near": whole, "/tool": whole };
    expect(await downloader({ near }).put(step(), ids)).toEqual({ ok: true });
    expect(asked).toEqual(["/near"]);
    answers = { "/tool": whole };
    expect(await downloader({ near }).put(step({ path: join(directory, "b") }), ids)).toEqual({ ok: true });
    answers = { "/near": (_, response) => response.end("a stolen hub's gift"), "/tool": whole };
    expect(await downloader({ near }).put(step({ path: join(directory, "c") }), ids)).toEqual({ ok: true });
    expect((await readFile(join(directory, "c"))).equals(body)).toBe(true);
  });

  test("nobody there: says where and what to look at", async () => {
    expect(await downloader().put(step({ urls: ["http://127.0.0.1:1/x", "http://no-such-host.invalid/x"] }), ids)).toMatchObject({ ok: false, message: expect.stringMatching(/nobody listens there\n.*(does DNS work|cannot be resolved)/) });
  });
});

// A file system of its own takes the right to mount one.
describe.skipIf(process.getuid!() !== 0)("a disk that is really full", () => {
  beforeEach(() => void execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "evenkeel-test", directory]));
  afterEach(() => void execFileSync("umount", ["--lazy", directory]));

  test("what is known to be too large is not begun", async () => {
    answers = { "/tool": (_, response) => response.writeHead(200, { "content-length": 20_000_000_000 }).write("x") };
    expect(await downloader().put(step({ sizeMaxBytes: 2 ** 50 }), ids)).toMatchObject({ ok: false, message: expect.stringMatching(/20000000000 bytes, and only 2\d{5} are free for it where .*tool is .*Make room, or put it on another disk/) });
    expect(await names()).toEqual([]);
  });

  test("what fills it stops, changes nothing, and goes on where it stopped once there is room", async () => {
    answers = { "/tool": (_, response) => void response.write(body, () => response.end()) };
    expect(await downloader().put(step(), ids)).toMatchObject({ ok: false, message: expect.stringContaining("the disk is full; make room, and it goes on where it stopped") });
    expect((await names()).filter((name) => name === "tool")).toEqual([]);
    execFileSync("mount", ["-o", "remount,size=2m", directory]);
    answers = { "/tool": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    expect(asked[1]).toMatch(/^\/tool bytes=[1-9]\d{4,}-$/);
    expect((await readFile(join(directory, "tool"))).equals(body)).toBe(true);
  });

  test("a piece of which only a part fits is not taken for written, also when there is room for the next one", async () => {
    let rest = (): void => {};
    answers = { "/tool": (_, response) => void response.write(body.subarray(0, 280_000), () => (rest = () => response.end(body.subarray(280_000)))) };
    const outcome = downloader().put(step(), ids);
    const isFull = async () => execFileSync("df", ["--output=avail", directory], { encoding: "utf8" }).trim().split(/\s+/).at(-1) === "0";
    await expect.poll(isFull, { timeout: 10_000, interval: 5 }).toBe(true);
    execFileSync("mount", ["-o", "remount,size=2m", directory]);
    rest();
    const { ok } = await outcome;
    expect(ok ? (await readFile(join(directory, "tool"))).equals(body) : "failed").not.toBe(false);
    if (ok) return;
    answers = { "/tool": whole };
    expect(await downloader().put(step(), ids)).toEqual({ ok: true });
    expect((await readFile(join(directory, "tool"))).equals(body)).toBe(true);
  });
});

describe("a member of an archive", () => {
  const archive = async (): Promise<Buffer> => {
    const inside = await mkdtemp(join(tmpdir(), "archive-"));
    await writeFile(join(inside, "tool"), "the program");
    execFileSync("ln", ["-s", "/etc/passwd", join(inside, "link")]);
    const packed = execFileSync("tar", ["-C", inside, "-czf", "-", "--transform=s,^,v1/,", "tool", "link"]);
    await rm(inside, { recursive: true });
    return packed;
  };

  test("is put in place; one that is missing, or a link, is not", async () => {
    const packed = await archive();
    answers = { "/tool": (_, response) => response.end(packed) };
    const common = { sha256: sha256(packed), replace: true };
    expect(await downloader().put(step({ ...common, member: "v1/tool" }), ids)).toEqual({ ok: true });
    expect(await readFile(join(directory, "tool"), "utf8")).toBe("the program");
    expect(await names()).toEqual(["records", "tool"]);
    expect(await downloader().put(step({ ...common, path: join(directory, "b"), member: "v1/none" }), ids)).toMatchObject({ ok: false, message: expect.stringContaining("v1/none") });
    expect(await downloader().put(step({ ...common, path: join(directory, "c"), member: "v1/link" }), ids)).toMatchObject({ ok: false });
    expect((await names()).filter((name) => name === "b" || name === "c")).toEqual([]);
  });
});
