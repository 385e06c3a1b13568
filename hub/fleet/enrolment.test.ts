import { afterAll, beforeAll, expect, test } from "vitest";
import type { Clock } from "../../shared/clock.ts";
import { systemClock } from "../system-clock.ts";
import { Trial, until } from "../trial.ts";

/** Machines come in by a token, and are put out by a revocation. */

let aheadMs = 0;
const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + aheadMs };
const trial = new Trial();
beforeAll(async () => {
  await trial.start({ enrolmentTokenHours: 1 }, { clock });
  await trial.makeRepository();
});
afterAll(() => trial.end());

const enrol = (body: object) => trial.request("POST", "/api/v1/enrol", { body, token: null });

test("before the first push there is nothing to pin, so no node is added", async () => {
  const answer = await trial.request("POST", "/api/v1/nodes", { body: { name: "n1" } });
  expect([answer.status, answer.json().error.code]).toEqual([409, "repository-empty"]);
  await trial.commit("Begin");
  await trial.push();
});

test("the command carries the token, the CA's pin, the signers and the commit", async () => {
  const { command, token } = await trial.addNode("n1");
  const head = (await trial.git("rev-parse", "HEAD")).output.trim();
  const match = /^evenkeel-agent enrol --hub (\S+) --node n1 --token (\S+) --ca-pin (sha256:[0-9a-f]{64}) --signers (\S+) --commit (\S+)$/.exec(command);
  expect(match?.slice(1, 4)).toEqual([trial.hub.urls.https, token, trial.hub.caPin]);
  expect(JSON.parse(Buffer.from(match?.[4] ?? "", "base64url").toString())).toMatchObject([{ name: "ada", ssh: expect.stringMatching(/^ssh-ed25519 /) }]);
  expect(match?.[5]).toBe(head);
});

test("a machine enrols, connects, and may fetch the repository with its certificate, but not push", async () => {
  const n1 = await trial.enrol("n1");
  expect(n1.answer).toMatchObject({ cluster: "trial", branch: "main", mark: null, git: trial.hub.urls.git });
  const node = await trial.connect(n1);
  await node.hello();
  expect((await trial.request("GET", "/api/v1/nodes/n1")).json()).toMatchObject({ online: true, certificate: { serial: expect.any(String) } });
  expect((await trial.request("GET", "/cluster.git/info/refs?service=git-upload-pack", { as: n1 })).status).toBe(200);
  expect((await trial.request("GET", "/cluster.git/info/refs?service=git-receive-pack", { as: n1 })).status).toBe(403);
  expect((await trial.request("GET", "/api/v1/nodes", { as: n1 })).status).toBe(401);
});

test("a token that is used, foreign, replaced, expired or made up is refused, each with its own word", async () => {
  const used = await trial.addNode("n2");
  expect((await enrol(trial.enrolRequest("n3", used.token).body)).json().error.code).toBe("token-foreign");
  expect((await enrol(trial.enrolRequest("n2", used.token).body)).status).toBe(200);
  expect((await enrol(trial.enrolRequest("n2", used.token).body)).json().error.code).toBe("token-used");
  const replaced = await trial.addNode("n3");
  const expired = await trial.addNode("n3");
  expect((await enrol(trial.enrolRequest("n3", replaced.token).body)).json().error.code).toBe("token-unknown");
  aheadMs += 2 * 3_600_000;
  const answer = (await enrol(trial.enrolRequest("n3", expired.token).body)).json().error;
  expect(answer).toMatchObject({ code: "token-expired", message: expect.stringContaining("evenkeel node add n3") });
  expect((await enrol(trial.enrolRequest("n3", "made-up").body)).json().error.code).toBe("token-unknown");
});

test("two requests with one token at the same time: one wins", async () => {
  const { token } = await trial.addNode("n3");
  const answers = await Promise.all([enrol(trial.enrolRequest("n3", token).body), enrol(trial.enrolRequest("n3", token).body)]);
  expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 403]);
});

test("a key that the machine does not hold, or of another kind, is refused, and the token stays good", async () => {
  const { token } = await trial.addNode("n4");
  const [one, other] = [trial.enrolRequest("n4", token).body, trial.enrolRequest("n4", token).body];
  expect((await enrol({ ...one, proof: other.proof })).json().error.code).toBe("proof-invalid");
  expect((await enrol({ ...one, publicKey: "no key" })).json().error.code).toBe("key-unfit");
  expect((await enrol(one)).status).toBe(200);
});

test("a machine-id that another node has: refused at enrolment, and refused at hello", async () => {
  const { token } = await trial.addNode("n5");
  const n1Id = trial.enrolRequest("n1", "").body.machineId;
  const answer = await enrol(trial.enrolRequest("n5", token, n1Id).body);
  expect([answer.status, answer.json().error.code]).toEqual([409, "machine-id-taken"]);
  expect(answer.json().error.message).toContain("same machine-id as n1");

  const n5 = await trial.enrol("n5");
  const node = await trial.connect(n5);
  expect(await node.hello({ machineId: n1Id })).toMatchObject({ kind: "refused", message: expect.stringContaining("systemd-machine-id-setup") });
  const shown = (await trial.request("GET", "/api/v1/nodes/n5")).json();
  expect(shown).toMatchObject({ condition: "refused", online: false, why: expect.stringContaining("n1") });
  await node.event(1, { kind: "refused", commit: "x", message: "not taken", at: new Date().toISOString() });
  // Once its id is its own, it is welcome, and its events are acknowledged.
  const welcome = node.order(({ kind }) => kind === "mark");
  await node.hello();
  await welcome;
  await node.event(1, { kind: "refused", commit: "x", message: "taken", at: new Date().toISOString() });
  await node.ack(1);
  expect((await trial.request("GET", "/api/v1/nodes/n5")).json()).toMatchObject({ online: true });
});

test("a certificate is renewed for the same key, and both are good", async () => {
  const n1 = await trial.enrol("n1");
  const answer = await trial.request("POST", "/api/v1/renew", { as: n1, body: {} });
  expect(answer.status).toBe(200);
  const renewed = { ...n1, certificate: answer.json().certificate as string };
  expect(renewed.certificate).not.toBe(n1.certificate);
  await (await trial.connect(n1)).hello();
  await (await trial.connect(renewed)).hello();
  expect((await trial.request("POST", "/api/v1/renew", { body: {} })).status).toBe(401);
});

test("enrolling again ends the earlier certificate and its connection", async () => {
  const before = await trial.enrol("n2");
  const node = await trial.connect(before);
  await node.hello();
  const after = await trial.enrol("n2");
  await node.whenClosed();
  await expect(trial.connect(before)).rejects.toThrow(/authorized/i);
  await (await trial.connect(after)).hello();
});

test("a revoked node is cut off at once, over MQTT, HTTPS and Git, and may be added again", async () => {
  const n3 = await trial.enrol("n3");
  const node = await trial.connect(n3);
  await node.hello();
  expect((await trial.request("DELETE", "/api/v1/nodes/n3")).status).toBe(200);
  await node.whenClosed();
  await expect(trial.connect(n3)).rejects.toThrow(/authorized/i);
  expect((await trial.request("GET", "/cluster.git/info/refs?service=git-upload-pack", { as: n3 })).status).toBe(401);
  expect((await trial.request("POST", "/api/v1/renew", { as: n3, body: {} })).json().error.code).toBe("certificate-revoked");
  expect((await trial.request("GET", "/api/v1/nodes/n3")).json()).toMatchObject({ condition: "revoked", online: false, certificate: null });
  const again = await trial.connect(await trial.enrol("n3"));
  await again.hello();
  await until(async () => (await trial.request("GET", "/api/v1/nodes/n3")).json().online);
  expect((await trial.request("DELETE", "/api/v1/nodes/nobody")).json().error.code).toBe("node-unknown");
});

test("a certificate that ran out is told so", async () => {
  const short = new Trial();
  await short.start({ certificates: { nodeDays: 1 / 86_400, serverDays: 1 } });
  await short.makeRepository();
  await short.commit("Begin");
  await short.push();
  const n1 = await short.enrol("n1");
  const answer = await until(async () => {
    const response = await short.request("POST", "/api/v1/renew", { as: n1, body: {} });
    return response.status === 401 ? response : null;
  });
  expect(answer.json().error).toMatchObject({ code: "certificate-invalid", message: expect.stringContaining("ran out at") });
  await expect(short.connect(n1)).rejects.toThrow();
  await short.end();
});
