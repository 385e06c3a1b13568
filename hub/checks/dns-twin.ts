import { createSocket } from "node:dgram";

/** A name server for tests, on UDP of the loopback: real packets (RFC 1035), answers by heart. */

const types: Readonly<Record<string, number>> = { A: 1, CNAME: 5, MX: 15, TXT: 16, AAAA: 28, SRV: 33 };
const rcodes = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;

/** Record data by type. An empty list: the name is there, the record is not. */
export type Zone = Readonly<Record<string, Readonly<Record<string, readonly Buffer[]>> | "SERVFAIL" | "REFUSED" | "silence">>;

export interface DnsTwin {
  readonly address: string;
  /** Resolves when the next question has come. */
  readonly asked: () => Promise<void>;
  readonly close: () => Promise<void>;
}

export const data = {
  a: (address: string): Buffer => Buffer.from(address.split(".").map(Number)),
  /** All eight groups written out. */
  aaaa: (address: string): Buffer => Buffer.from(address.split(":").map((group) => group.padStart(4, "0")).join(""), "hex"),
  txt: (...strings: string[]): Buffer => Buffer.concat(strings.map((text) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]))),
  name: (name: string): Buffer => Buffer.concat([...name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])), Buffer.from([0])]),
  mx: (preference: number, exchange: string): Buffer => Buffer.concat([words(preference), data.name(exchange)]),
  srv: (priority: number, weight: number, port: number, name: string): Buffer => Buffer.concat([words(priority, weight, port), data.name(name)]),
};

export async function startDnsTwin(zone: Zone): Promise<DnsTwin> {
  const socket = createSocket("udp4");
  let waiting: (() => void)[] = [];
  socket.on("message", (query, from) => {
    const answer = answerTo(query, zone);
    if (answer !== null) socket.send(answer, from.port, from.address);
    for (const resolve of waiting) resolve();
    waiting = [];
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked: () => new Promise((resolve) => waiting.push(resolve)),
    close: () => new Promise((resolve) => socket.close(resolve)),
  };
}

function answerTo(query: Buffer, zone: Zone): Buffer | null {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  const type = query.readUInt16BE(at + 1);
  const question = query.subarray(12, at + 5);
  const known = zone[labels.join(".").toLowerCase()];
  if (known === "silence") return null;
  const rcode = known === undefined ? rcodes.NXDOMAIN : typeof known === "string" ? rcodes[known] : rcodes.NOERROR;
  const typeName = Object.keys(types).find((name) => types[name] === type) ?? "";
  const records = typeof known === "object" ? (known[typeName] ?? []) : [];
  // 0x8180: an answer, recursion asked for and available. 0xc00c points back to the name in the question.
  const header = Buffer.concat([query.subarray(0, 2), words(0x8180 | rcode, 1, records.length, 0, 0)]);
  return Buffer.concat([header, question, ...records.map((rdata) => Buffer.concat([words(0xc00c, type, 1, 0, 60, rdata.length), rdata]))]);
}

function words(...values: number[]): Buffer {
  return Buffer.concat(values.map((value) => Buffer.from([value >> 8, value & 0xff])));
}
