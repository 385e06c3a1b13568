import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DownloadCache } from "./cache.ts";

/** A real origin and a real cache, each on a socket of its own. */

const body = Buffer.alloc(200_000, "keel");
const sum = createHash("sha256").update(body).digest("hex");
const other = createHash("sha256").update("other").digest("hex");
let directory: string;
let origin: Server;
let front: Server;
let cache: DownloadCache;
let urls: Map<string, readonly string[]>;
let originAsked = 0;
let respond: (response: ServerResponse) => void;
let sizeMaxBytes = 1_000_000;

const listen = async (server: Server): Promise<string> => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cache-"));
  originAsked = 0;
  respond = (response) => response.end(body);
  origin = createServer((_, response) => {
    originAsked += 1;
    respond(response);
  });
  const at = await listen(origin);
  urls = new Map([[sum, [`${at}/tool`]], [other, [`${at}/other`]]]);
  cache = new DownloadCache({ directory, wanted: async () => urls, nowMs: () => Date.now(), log: pino({ level: "silent" }), sizeMaxBytes, freeMinBytes: 0 });
  front = createServer((incoming, outgoing) => void cache.serve((incoming.url ?? "").slice(1), incoming, outgoing));
});
afterEach(async () => {
  await cache.stop();
  origin.closeAllConnections();
  origin.close();
  front.close();
  await rm(directory, { recursive: true, force: true });
});

async function until(ask: () => Promise<Response>, wanted: (status: number) => boolean): Promise<Response> {
  for (let tries = 0; tries < 500; tries += 1) {
    const response = await ask();
    if (wanted(response.status)) return response;
    await response.arrayBuffer();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("it never came");
}

test("fetches once for all who ask while the repository is still being read", async () => {
  let read = (_urls: Map<string, readonly string[]>): void => {};
  const reading = new Promise<Map<string, readonly string[]>>((resolve) => (read = resolve));
  await cache.stop();
  cache = new DownloadCache({ directory, wanted: () => reading, nowMs: () => Date.now(), log: pino({ level: "silent" }), freeMinBytes: 0 });
  const at = await listen(front);
  const asked = [1, 2, 3].map(() => fetch(`${at}/${sum}`));
  await new Promise<void>((resolve) => front.getConnections((_error, count) => (count === 3 ? resolve() : setTimeout(resolve, 50))));
  read(urls);
  expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([202, 202, 202]);
  await until(() => fetch(`${at}/${sum}`), (status) => status === 200);
  expect(originAsked).toBe(1);
});

test("fetches once for all who ask, and answers with all of it or the rest", async () => {
  const at = await listen(front);
  const first = await Promise.all([1, 2, 3].map(() => fetch(`${at}/${sum}`)));
  expect(first.map(({ status }) => status)).toEqual([202, 202, 202]);
  const whole = await until(() => fetch(`${at}/${sum}`), (status) => status === 200);
  expect(Buffer.from(await whole.arrayBuffer()).equals(body)).toBe(true);
  expect(originAsked).toBe(1);
  const rest = await fetch(`${at}/${sum}`, { headers: { range: "bytes=150000-" } });
  expect([rest.status, rest.headers.get("content-range"), (await rest.arrayBuffer()).byteLength]).toEqual([206, "bytes 150000-199999/200000", 50_000]);
  expect((await fetch(`${at}/${sum}`, { headers: { range: "bytes=200000-" } })).status).toBe(416);
});

test("what no commit names is not fetched, and what is no sum is nothing", async () => {
  const at = await listen(front);
  const unknown = createHash("sha256").update("x").digest("hex");
  expect((await fetch(`${at}/${unknown}`)).status).toBe(404);
  expect((await fetch(`${at}/..%2f..%2fhub.db`)).status).toBe(404);
  expect(originAsked).toBe(0);
});

test("what has another sum is not kept; the nodes are sent to the address, and the hub does not ask again at once", async () => {
  const at = await listen(front);
  respond = (response) => response.end("another");
  await fetch(`${at}/${sum}`);
  expect((await until(() => fetch(`${at}/${sum}`), (status) => status === 503)).status).toBe(503);
  expect(originAsked).toBe(1);
  expect(await readdir(directory)).toEqual([]);
});

test("what was not asked for longest makes room, and what is too large does not come in", async () => {
  const at = await listen(front);
  await until(() => fetch(`${at}/${sum}`), (status) => status === 200);
  sizeMaxBytes = 200_000;
  cache = new DownloadCache({ directory, wanted: async () => urls, nowMs: () => Date.now(), log: pino({ level: "silent" }), sizeMaxBytes, freeMinBytes: 0 });
  respond = (response) => response.end("other");
  await until(() => fetch(`${at}/${other}`), (status) => status === 200);
  expect(await readdir(directory)).toEqual([other]);
  const tooLarge = createHash("sha256").update("large").digest("hex");
  urls.set(tooLarge, urls.get(sum)!);
  respond = (response) => response.writeHead(200, { "content-length": 900_000 }).end();
  await until(() => fetch(`${at}/${tooLarge}`), (status) => status === 503);
});
