import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Aedes } from "aedes";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { OrderMessage } from "../../shared/protocol/messages.ts";
import { topicOf } from "../../shared/protocol/topics.ts";
import type { Places, Settings } from "../settings.ts";
import { Link } from "./link.ts";
import { Spool } from "./spool.ts";

/** A real broker on a real TLS socket; the hub is played by the test. */

const node = "n1" as NodeName;
let directory = "";
let closers: (() => void | Promise<void>)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-link-"));
  closers = [];
  late.clear();
});
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  rmSync(directory, { recursive: true, force: true });
});

/** What is due only after seconds waits until the test has it happen. */
const late = new Set<() => void>();
const clock: Clock = {
  nowMs: () => 0,
  monotonicMs: () => 0,
  after(delayMs, callback) {
    if (delayMs > 5_000) {
      late.add(callback);
      return { cancel: () => void late.delete(callback) };
    }
    const timer = setTimeout(callback, Math.min(delayMs, 10));
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Answers, one after the other, what is put in. */
class Arrivals<T> {
  readonly #waiting: T[] = [];
  #wake = () => {};

  put(value: T): void {
    this.#waiting.push(value);
    this.#wake();
  }

  async next(): Promise<T> {
    while (this.#waiting.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#waiting.shift()!;
  }
}

async function openBroker(): Promise<{ readonly broker: Aedes; readonly port: number }> {
  const key = join(directory, "node.key");
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", join(directory, "ca.crt")], { stdio: "ignore" });
  writeFileSync(join(directory, "node.crt"), readFileSync(join(directory, "ca.crt")));
  const broker = await Aedes.createBroker();
  const server = createServer({ key: readFileSync(key), cert: readFileSync(join(directory, "ca.crt")) }, broker.handle);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => void server.close(), () => new Promise<void>((resolve) => broker.close(resolve)));
  return { broker, port: (server.address() as AddressInfo).port };
}

test("a node that the hub refuses sends no more events until it has connected again", async () => {
  const { broker, port } = await openBroker();
  const spool = await Spool.open(join(directory, "spool"));
  const [connections, events, orders] = [new Arrivals<void>(), new Arrivals<number>(), new Arrivals<OrderMessage>()];
  const order = (message: OrderMessage) => broker.publish({ cmd: "publish", topic: topicOf("home", node, "orders"), payload: Buffer.from(JSON.stringify(message)), qos: 1, retain: false, dup: false }, () => {});
  broker.subscribe(topicOf("home", node, "event"), (packet, done) => {
    events.put((JSON.parse(packet.payload.toString()) as { seq: number }).seq);
    done();
  }, () => {});
  const settings = { cluster: "home", node: "n1", broker: { host: "localhost", port } } as Settings;
  const link = new Link({
    places: { settingsDir: directory } as Places,
    settings,
    spool,
    clock,
    random: () => 0,
    events: { connected: () => connections.put(), disconnected: () => {}, order: (message) => orders.put(message) },
  });
  closers.push(() => link.stop());
  link.start();
  await connections.next();

  await spool.add({ kind: "plan-failed", id: "a", message: "" });
  link.flush();
  expect(await events.next()).toBe(1);
  order({ v: 1, kind: "refused", message: "another machine has your id" });
  expect(await orders.next()).toMatchObject({ kind: "refused" });

  await spool.add({ kind: "plan-failed", id: "b", message: "" });
  link.flush();
  order({ v: 1, kind: "look" });
  expect(await orders.next()).toMatchObject({ kind: "look" });
  // The acknowledgement of the first has not come in time.
  for (const callback of late) callback();
  let sent = 0;
  const counting = events.next().then((seq) => {
    sent = seq;
  });
  // A message that goes the same way and comes after all that was sent before it.
  link.publish("facts", { v: 1, facts: {} });
  await new Promise<void>((resolve) => {
    broker.subscribe(topicOf("home", node, "facts"), (_packet, done) => {
      done();
      resolve();
    }, () => {});
  });
  expect(sent).toBe(0);

  link.reconnect();
  await connections.next();
  await counting;
  expect(sent).toBe(1);
});
