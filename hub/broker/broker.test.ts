import { randomBytes } from "node:crypto";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { BODY_SIZE_MAX_BYTES } from "../../shared/protocol/messages.ts";
import { Trial, connectOnce, report, until, type Identity, type Untyped } from "../trial.ts";

/** A real MQTT client with real certificates; everything that a node may not do, it tries. */

const trial = new Trial();
let n1: Identity;
let n2: Identity;
let head: string;

beforeAll(async () => {
  await trial.start();
  await trial.makeRepository();
  head = await trial.commit("Begin");
  await trial.push();
});
beforeEach(async () => {
  n1 = await trial.enrol("n1");
  n2 = await trial.enrol("n2");
});
afterAll(() => trial.end());

const shown = async (name: string): Promise<Untyped> => (await trial.request("GET", `/api/v1/nodes/${name}`)).json();
const converge = (more: object = {}): object => ({ v: 1, commit: head, outcome: "converged", at: new Date().toISOString(), failing: [], refused: null, problems: [], ...more });

test("what a node says is stored before it is acknowledged, and shown", async () => {
  const node = await trial.connect(n1);
  expect(await node.hello()).toMatchObject({ kind: "mark", commit: null });
  await node.publish("converge", converge());
  await node.publish("facts", { v: 1, facts: { kernel: "6.1" } });
  expect(await shown("n1")).toMatchObject({ condition: "converged", why: "", online: true, commit: head, agentVersion: "0.1.0", facts: { kernel: "6.1" } });
  expect((await trial.request("GET", "/api/v1/cluster")).json().counts).toMatchObject({ online: 1, converged: 1 });
});

test("an event is stored once and acknowledged; the arrival shows with the commit; the mark outlives the node's state", async () => {
  const node = await trial.connect(n1);
  await node.hello();
  await node.event(1, { kind: "converged", report: report(head, { outcome: "failed" }) });
  await node.event(2, { kind: "converged", report: report(head) });
  await node.event(2, { kind: "converged", report: report(head) });
  expect(await node.ack(2)).toMatchObject({ stream: node.stream, seq: 2 });
  const [commit] = (await trial.request("GET", "/api/v1/commits")).json();
  expect(commit.arrivals).toMatchObject([{ node: "n1", outcome: "converged", afterMs: expect.any(Number) }]);
  const reports = (await shown("n1")).converges;
  expect(reports.filter((one: Untyped) => one.report.outcome === "converged")).toHaveLength(1);
  const wiped = await trial.connect(await trial.enrol("n1"));
  expect(await wiped.hello()).toMatchObject({ kind: "mark", commit: head });
});

test("events beyond a gap wait for the ones before; one that comes again, or says that some were dropped, closes it", async () => {
  const node = await trial.connect(n1);
  await node.hello();
  const dull = { kind: "refused", commit: "x", message: "m", at: new Date().toISOString() };
  await node.event(1, dull);
  await node.event(4, dull);
  await node.event(3, dull);
  await node.event(2, dull);
  expect((await node.ack(4)).seq).toBe(4);
  expect(node.orders.filter(({ kind }) => kind === "ack").map(({ seq }) => seq)).toEqual([0, 1, 1, 1, 4]);
  await node.event(7, dull);
  await node.event(7, dull);
  expect((await node.ack(7)).seq).toBe(7);
  await node.event(20, { kind: "dropped", count: 12 });
  expect((await node.ack(20)).seq).toBe(20);
  // After a reconnect the node is told where it stands.
  const again = await trial.connect(n1);
  await again.hello({ stream: node.stream });
  expect((await again.ack(20)).seq).toBe(20);
});

test("poison is dropped, acknowledged and counted by its reason; the connection stays, and nothing comes again", async () => {
  const node = await trial.connect(n1);
  await node.hello();
  await node.publish("converge", converge({ outcome: "failed" }));
  const before = { ...trial.hub.poison.of(n1.node) };
  const publish = (topic: string, body: string | Buffer, retain = true) => node.client.publishAsync(topic, body, { qos: 1, retain });
  await publish(node.topic("converge", n2.node), JSON.stringify(converge()));
  await publish(node.topic("orders"), JSON.stringify({ v: 1, kind: "look" }), false);
  await publish(node.topic("orders", n2.node), JSON.stringify({ v: 1, kind: "look" }), false);
  await publish(node.topic("converge").replace("trial", "other"), JSON.stringify(converge()));
  await publish("evenkeel/trial/nodes/n1/secrets", "{}");
  await publish("$SYS/broker/uptime", "{}");
  await publish(node.topic("converge"), "{", true);
  await publish(node.topic("converge"), JSON.stringify({ v: 2 }));
  await publish(node.topic("converge"), JSON.stringify(converge()), false);
  await publish(node.topic("converge"), Buffer.alloc(BODY_SIZE_MAX_BYTES + 1, "x"));
  await publish(node.topic("converge"), randomBytes(100));
  expect(node.closed).toBe(false);
  const counts = trial.hub.poison.of(n1.node);
  const added = Object.fromEntries(Object.entries(counts).map(([reason, count]) => [reason, count - (before[reason as keyof typeof before] ?? 0)]));
  expect(added).toEqual({ "foreign-node": 1, "not-writer": 2, "foreign-cluster": 1, "unknown-topic": 2, "not-json": 2, "wrong-shape": 1, "retain-flag": 1, "too-large": 1 });
  // Neither of the two is what the poison said.
  expect(await shown("n1")).toMatchObject({ condition: "failing" });
  expect((await shown("n2")).converge?.outcome).not.toBe("converged");
  await node.publish("converge", converge());
  expect(await shown("n1")).toMatchObject({ condition: "converged" });
});

test("another node's orders, wildcards and $SYS cannot be listened to", async () => {
  const node = await trial.connect(n1);
  for (const filter of [node.topic("orders", n2.node), "#", "evenkeel/trial/orders/+", "evenkeel/trial/nodes/n2/state", "$SYS/#"]) {
    await expect(node.client.subscribeAsync(filter, { qos: 1 }), filter).rejects.toThrow();
  }
  await node.hello();
  const other = await trial.connect(n2);
  await other.hello();
  const looked = other.order(({ kind }) => kind === "look");
  await trial.commit("Look");
  await trial.push();
  await looked;
  expect(node.orders.every(({ kind }) => ["mark", "ack", "look"].includes(kind))).toBe(true);
});

test("a client id that is not the certificate's name, and a certificate of another authority, do not come in", async () => {
  await expect(trial.connect(n1, { clientId: "n2" })).rejects.toThrow(/authorized/i);
  await expect(trial.connect({ ...n1, certificate: n2.certificate })).rejects.toThrow();
  const other = new Trial();
  await other.start();
  await other.makeRepository();
  await other.commit("Begin");
  await other.push();
  const stranger = await other.enrol("n1");
  await expect(trial.connect({ ...stranger, answer: n1.answer })).rejects.toThrow();
  await other.end();
  const { host, port } = n1.answer.broker;
  await expect(connectOnce({ protocol: "mqtts", host, port, ca: n1.answer.ca, clientId: "n1", reconnectPeriod: 0 })).rejects.toThrow();
});

test("a second connection takes over from the first, and the first's last will does not put the second offline", async () => {
  const first = await trial.connect(n1);
  await first.hello();
  const second = await trial.connect(n1);
  await first.whenClosed();
  await second.hello();
  expect(await shown("n1")).toMatchObject({ online: true });
  second.client.stream.destroy();
  await until(async () => !(await shown("n1")).online);
  expect(await shown("n1")).toMatchObject({ condition: "offline", why: expect.stringContaining("last heard of at") });
});

test("a last will for somebody else is ignored", async () => {
  const other = await trial.connect(n2);
  await other.hello();
  const { host, port } = n1.answer.broker;
  const will = { topic: "evenkeel/trial/nodes/n2/state", payload: Buffer.from('{"v":1,"online":false}'), qos: 1 as const, retain: true };
  const client = await connectOnce({ protocol: "mqtts", host, port, ca: n1.answer.ca, key: n1.key, cert: n1.certificate, clientId: "n1", reconnectPeriod: 0, will });
  client.on("error", () => {});
  client.stream.destroy();
  await until(async () => (await shown("n1")).lastSeenAt !== null);
  expect(await shown("n2")).toMatchObject({ online: true });
});

test("a packet of gigabytes ends the connection before it is collected", async () => {
  const { host, port } = n1.answer.broker;
  const socket = connectTls({ host, port, key: n1.key, cert: n1.certificate, ca: n1.answer.ca });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => {});
  socket.write(Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]));
  await closed;
});

test("plans: asked, answered, failed, and ended when the node goes away", async () => {
  const node = await trial.connect(n1);
  await node.hello();
  const ask = (branch?: string) => trial.request("POST", "/api/v1/nodes/n1/plan", { body: { branch } });
  const planned = { commit: head, plannedAt: new Date().toISOString(), tookMs: 1, changes: [], problems: [], resources: 1 };
  const first = ask("try");
  const order = await node.order(({ kind }) => kind === "plan");
  expect(order).toMatchObject({ branch: "try" });
  const other = await trial.connect(n2);
  await other.hello();
  await other.event(1, { kind: "planned", id: order.id, report: { ...planned, resources: 99 } });
  await other.ack(1);
  await node.event(1, { kind: "planned", id: order.id, report: planned });
  expect((await first).json()).toMatchObject({ resources: 1 });
  expect((await shown("n1")).lastPlan.report).toMatchObject({ resources: 1 });

  const second = ask();
  const { id } = await node.order(({ kind }) => kind === "plan");
  await node.event(2, { kind: "plan-failed", id, message: "no such branch" });
  expect((await second).json().error).toEqual({ code: "failed", message: "no such branch" });

  const third = ask();
  await node.order(({ kind }) => kind === "plan");
  node.client.stream.destroy();
  expect((await third).json().error).toMatchObject({ code: "offline", message: expect.stringContaining("lost its connection") });
  expect((await trial.request("POST", "/api/v1/nodes/nobody/plan", { body: {} })).status).toBe(404);
});
