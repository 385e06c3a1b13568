import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@libsql/client";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Trial, report, until, type Untyped } from "./trial.ts";

/** What survives when the hub's process is killed, at whatever point. */

let trial: Trial;
beforeEach(() => void (trial = new Trial()));
afterEach(() => trial.end());

async function query(sql: string): Promise<Record<string, unknown>[]> {
  const database = createClient({ url: `file:${join(trial.dataDir, "hub.db")}` });
  const { rows } = await database.execute(sql);
  database.close();
  return rows.map((row) => ({ ...row }));
}

test("killed between the receipt of events and their acknowledgement: each is stored once, none that was acknowledged is missing", async () => {
  let process = await trial.startProcess();
  await trial.makeRepository();
  const head = await trial.commit("Begin");
  await trial.push();
  const n1 = await trial.enrol("n1");
  const stream = "7f7a8b66-1d9c-4a4e-9f9f-6d8f5f0f1a01";
  const total = 60;
  let acknowledged = 0;
  for (let round = 0; acknowledged < total; round += 1) {
    const node = await trial.connect(n1);
    await node.hello({ stream });
    acknowledged = Math.max(acknowledged, (await node.ack(0)).seq);
    const sent: Promise<unknown>[] = [];
    for (let seq = acknowledged + 1; seq <= total; seq += 1) sent.push(node.event(seq, { kind: "converged", report: report(head, { resources: seq }) }, stream).catch(() => {}));
    // Killed somewhere in the middle of it, three times; then it may finish.
    if (round < 3) {
      await node.ack(Math.min(total, acknowledged + 5 * (round + 1)));
      process.kill("SIGKILL");
      await once(process, "exit");
      acknowledged = Math.max(acknowledged, ...node.orders.filter(({ kind }) => kind === "ack").map(({ seq }) => seq));
      const stored = (await query("SELECT seq FROM converges ORDER BY seq")).map(({ seq }) => Number(seq));
      expect(stored.slice(0, acknowledged)).toEqual(Array.from({ length: acknowledged }, (_, at) => at + 1));
      process = await trial.startProcess();
    } else {
      acknowledged = (await node.ack(total)).seq;
    }
    node.client.end(true);
    void Promise.all(sent);
  }
  const stored = (await query("SELECT seq FROM converges ORDER BY seq")).map(({ seq }) => Number(seq));
  expect(stored).toEqual(Array.from({ length: total }, (_, at) => at + 1));
});

test("killed after a push was taken and before it was recorded: the next start records it", async () => {
  await trial.startProcess();
  await trial.makeRepository();
  await trial.commit("Begin");
  await trial.push();
  await trial.commit("Second");
  const third = await trial.commit("Third");
  await trial.stop();
  // What git has done by then, without the hub's part.
  rmSync(join(trial.dataDir, "cluster.git", "hooks", "pre-receive"));
  await trial.must("git", "-C", trial.work, "push", "--quiet", join(trial.dataDir, "cluster.git"), "main");
  await trial.start();
  const commits = (await trial.request("GET", "/api/v1/commits")).json();
  expect(commits.map(({ subject, signer, pushedBy }: Untyped) => [subject, signer, pushedBy])).toEqual([
    ["Third", "ada", "(unknown: the hub was stopped)"],
    ["Second", "ada", "(unknown: the hub was stopped)"],
    ["Begin", "ada", "admin"],
  ]);
  expect((await trial.request("GET", "/api/v1/cluster")).json().head.id).toBe(third);
});

test("killed in the middle of a start, a push or anything: it comes up again with the same CA, token and nodes", async () => {
  await trial.start();
  const { caPin, adminToken } = trial.hub;
  await trial.stop();
  let process = await trial.startProcess();
  await trial.makeRepository();
  await trial.commit("Begin");
  await trial.push();
  const n1 = await trial.enrol("n1");
  for (let round = 0; round < 3; round += 1) {
    await trial.commit(`Round ${round}`);
    const pushing = trial.push();
    if (round > 0) await Promise.race([pushing, until(async () => (await query("SELECT count(*) AS n FROM commits"))[0]?.["n"] === round + 1)]);
    process.kill("SIGKILL");
    await once(process, "exit");
    await pushing;
    process = await trial.startProcess();
    expect([trial.hub.caPin, trial.hub.adminToken]).toEqual([caPin, adminToken]);
    const { output, code } = await trial.push();
    expect(code, output).toBe(0);
  }
  const node = await trial.connect(n1);
  await node.hello();
  expect((await trial.request("GET", "/api/v1/nodes/n1")).json()).toMatchObject({ online: true });
  expect((await trial.request("GET", "/api/v1/commits")).json().map(({ subject }: Untyped) => subject)).toEqual(["Round 2", "Round 1", "Round 0", "Begin"]);
});

test("a second hub on the same data directory is kept out, and the first goes on", async () => {
  await trial.start();
  const first = trial.hub;
  await expect(trial.start()).rejects.toThrow("another hub is running on");
  expect(trial.hub).toBe(first);
  expect((await trial.request("GET", "/healthz", { token: null })).status).toBe(200);
});

test("the server's certificate is renewed while it runs, and the servers show the new one", async () => {
  // Two seconds, so that a third of its life is soon all that is left.
  await trial.start({ certificates: { nodeDays: 1, serverDays: 3 / 86_400 } });
  const before = await shownSerial();
  await until(async () => (await shownSerial()) !== before);
});

async function shownSerial(): Promise<string> {
  const { connect } = await import("node:tls");
  const { hostname, port } = new URL(trial.hub.urls.https);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

test("a reset ends the old admin token and writes a new one", async () => {
  await trial.start();
  const before = trial.hub.adminToken;
  await trial.stop();
  await trial.start({}, { resetAdminToken: true });
  expect(trial.hub.adminToken).not.toBe(before);
  expect((await trial.request("GET", "/api/v1/cluster")).status).toBe(200);
  expect((await trial.request("GET", "/api/v1/cluster", { token: before })).status).toBe(401);
});
