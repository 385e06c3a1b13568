import { execFileSync } from "node:child_process";
import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { NodeName } from "../../shared/ids.ts";
import { denialOf } from "./coordination-twin.ts";
import { TwinHub } from "./twin-hub.ts";
import { zincatiId } from "./zincati.ts";

/** FleetLock over real sockets, with the bytes that Zincati sends. */

const machineId = "dcb0bd4a3d4f4c1f9a8e6b8d1c2e3f40";
const id = zincatiId(machineId) ?? "";
const hub = new TwinHub();
beforeAll(() => hub.start());
afterAll(() => hub.end());
beforeEach(() => {
  const { coordination } = hub;
  coordination.asked.length = 0;
  coordination.machines.clear();
  coordination.machines.set(`default/${id}`, NodeName.parse("n1"));
  coordination.machines.set("edge/00000000000000000000000000000002", NodeName.parse("n2"));
  Object.assign(coordination, { denials: [], leases: [] });
});

interface Raw {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Sends bytes as they are, and reads until the hub closes. */
function raw(bytes: string): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const socket = connect(hub.port, "127.0.0.1", () => socket.write(bytes));
    let text = "";
    socket.on("data", (chunk) => (text += String(chunk)));
    socket.on("error", reject);
    socket.on("end", () => {
      const end = text.indexOf("\r\n\r\n");
      const head = text.slice(0, end);
      resolve({ status: Number(head.split(" ")[1]), head, body: text.slice(end + 4) });
    });
  });
}

/** As Zincati's HTTP client (reqwest) writes it: lower-case headers, a length, and no Content-Type. */
function zincati(path: string, body: string = JSON.stringify({ client_params: { id, group: "default" } }), headers = "fleet-lock-protocol: true\r\n", method = "POST"): Promise<Raw> {
  return raw(`${method} ${path} HTTP/1.1\r\n${headers}accept: */*\r\nhost: 127.0.0.1:${hub.port}\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

const base = "/fleetlock/coreos-token";

test("Zincati's round: steady-state at each start, pre-reboot until it is let go, and again, steady-state when it is back", async () => {
  expect((await zincati(`${base}/v1/steady-state`)).status).toBe(200);
  expect((await zincati(`${base}/v1/pre-reboot`)).status).toBe(200);
  expect((await zincati(`${base}/v1/pre-reboot`)).status).toBe(200);
  expect(hub.coordination.leases).toMatchObject([{ node: "n1", holder: "fleetlock" }]);
  const answer = await zincati(`${base}/v1/steady-state`);
  expect([answer.status, answer.body]).toEqual([200, ""]);
  expect((await zincati(`${base}/v1/steady-state`)).status).toBe(200);
  expect(hub.coordination.leases).toEqual([]);
  expect(hub.coordination.asked.map(([what]) => what)).toEqual(["giveBackFleetLock", "takeFleetLock", "takeFleetLock", "giveBackFleetLock", "giveBackFleetLock"]);
});

test("a base address that ends in a slash, and a body of whatever type", async () => {
  for (const path of [`${base}//v1/pre-reboot`, `${base}/v1/pre-reboot/`, `/fleetlock/admin-token//v1/pre-reboot`]) expect((await zincati(path)).status, path).toBe(200);
  for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"]) expect((await zincati(`${base}/v1/pre-reboot`, undefined, `Fleet-Lock-Protocol: true\r\ncontent-type: ${type}\r\n`)).status, type).toBe(200);
});

test("a token may come as a header too, as from https://any:TOKEN@hub/fleetlock", async () => {
  const basic = Buffer.from("any:coreos-token").toString("base64");
  expect((await zincati("/fleetlock/v1/pre-reboot", undefined, `fleet-lock-protocol: true\r\nauthorization: Basic ${basic}\r\n`)).status).toBe(200);
});

test("no slot: 409, a fixed word, and the reasons as a sentence", async () => {
  await hub.coordination.takeFleetLock("00000000000000000000000000000002", "edge");
  const denied = await zincati(`${base}/v1/pre-reboot`);
  expect([denied.status, JSON.parse(denied.body)]).toEqual([409, { kind: "slot_denied", value: "all: 1 of 3 may be down, and n2 is" }]);
  expect(denied.head).toContain("application/json");
  hub.coordination.leases = [];
  hub.coordination.denials = [denialOf("hold", "held by ada: holidays"), denialOf("checks", "website is failing")];
  expect(JSON.parse((await zincati(`${base}/v1/pre-reboot`)).body).value).toBe("held by ada: holidays; website is failing");
  hub.coordination.denials = [];
  expect((await zincati(`${base}/v1/pre-reboot`)).status).toBe(200);
});

test("a machine that is no node's, or in another group, or spelled otherwise, is unknown", async () => {
  for (const client of [{ id: "0".repeat(32), group: "default" }, { id, group: "edge" }, { id: id.toUpperCase(), group: "default" }]) {
    const answer = await zincati(`${base}/v1/pre-reboot`, JSON.stringify({ client_params: client }));
    expect([answer.status, JSON.parse(answer.body).kind]).toEqual([404, "unknown_client"]);
  }
});

test("without the header, with a wrong body or method: 4xx with kind and value, and nothing is asked for", async () => {
  const bodies = ["", "{", "[]", "{}", '{"client_params":{"id":"","group":"default"}}', '{"client_params":{"id":7,"group":"default"}}', '{"client_params":{"id":"a","group":""}}', '{"client_params":{"id":"a","group":"a b"}}', '{"client_params":{"id":"a","group":"a\\n"}}', '{"client_params":{"id":"a"}}', JSON.stringify({ client_params: { id: "a".repeat(300), group: "x" } })];
  const answers = [
    ...(await Promise.all(bodies.map((body) => zincati(`${base}/v1/pre-reboot`, body)))),
    await zincati(`${base}/v1/pre-reboot`, undefined, ""),
    await zincati(`${base}/v1/pre-reboot`, undefined, "fleet-lock-protocol: yes\r\n"),
  ];
  for (const { status, body } of answers) expect([status, JSON.parse(body)]).toEqual([400, { kind: "invalid_request", value: expect.stringMatching(/.{20}/) }]);
  expect((await zincati(`${base}/v1/pre-reboot`, undefined, undefined, "GET")).status).toBe(405);
  expect((await zincati(`${base}/v2/pre-reboot`)).status).toBe(404);
  expect(hub.coordination.asked).toEqual([]);
});

test("a body is bounded, with a length or in chunks", async () => {
  const long = JSON.stringify({ client_params: { id, group: "default" }, more: "x".repeat(5_000) });
  expect((await zincati(`${base}/v1/pre-reboot`, long)).status).toBe(413);
  const chunked = await raw(`POST ${base}/v1/pre-reboot HTTP/1.1\r\nfleet-lock-protocol: true\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n${long.length.toString(16)}\r\n${long}\r\n0\r\n\r\n`);
  expect([chunked.status, JSON.parse(chunked.body).kind]).toEqual([413, "invalid_request"]);
});

test("wrong tokens are counted like other wrong logins; a right one is let in all the same", async () => {
  const statuses = new Set<number>();
  for (let at = 0; at < 15; at++) statuses.add((await zincati(`/fleetlock/wrong-${at}/v1/pre-reboot`)).status);
  expect([...statuses]).toEqual([401, 429]);
  for (const path of ["/fleetlock/v1/pre-reboot", "/fleetlock/reader-token/v1/pre-reboot", `/fleetlock/${"x".repeat(300)}/v1/pre-reboot`]) {
    const answer = await zincati(path);
    expect([answer.status, JSON.parse(answer.body).kind], path).toEqual([429, "unauthorized"]);
  }
  expect((await zincati(`${base}/v1/pre-reboot`)).status).toBe(200);
});

test("a failure in the hub is an answer too, and no go", async () => {
  const { coordination } = hub;
  coordination.machines.get = () => {
    throw new Error("the database is away");
  };
  const answer = await zincati(`${base}/v1/pre-reboot`);
  delete (coordination.machines as { get?: unknown }).get;
  expect([answer.status, JSON.parse(answer.body).kind]).toEqual([500, "internal"]);
});

test("Zincati's id is what openssl and systemd make of a machine's id", () => {
  const mac = execFileSync("openssl", ["dgst", "-sha256", "-mac", "HMAC", "-macopt", `hexkey:${machineId}`, "-binary"], { input: Buffer.from("de35106b6ec24688b63afddaa156679b", "hex") });
  const digits = [...mac.subarray(0, 16)].map((byte, at) => (at === 6 ? (byte & 0x0f) | 0x40 : at === 8 ? (byte & 0x3f) | 0x80 : byte).toString(16).padStart(2, "0")).join("");
  expect(id).toBe(digits);
  expect(zincatiId(`${machineId.slice(0, 8)}-${machineId.slice(8)}\n`)).toBe(id);
  expect(zincatiId(machineId.toUpperCase())).toBe(id);
  for (const wrong of ["", "n1", machineId.slice(1), `${machineId}0`]) expect(zincatiId(wrong), wrong).toBeNull();
});
