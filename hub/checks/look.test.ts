import { execFileSync } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer } from "node:net";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Check } from "../../shared/config/policy.ts";
import { data, startDnsTwin, type DnsTwin } from "./dns-twin.ts";
import { HandClock } from "./hand-clock.ts";
import { look, type LookResult } from "./look.ts";
import { SharedNames } from "./names.ts";
import { systemTrust } from "./trust.ts";

const directory = mkdtempSync(join(tmpdir(), "evenkeel-look-"));
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Options {
  readonly clock?: HandClock;
  readonly authorities?: string;
  readonly signal?: AbortSignal;
}

function lookAt(written: unknown, { clock = new HandClock(), authorities, signal }: Options = {}): Promise<LookResult> {
  const trust = authorities === undefined ? () => undefined : () => systemTrust(authorities);
  return look(Check.parse(written), { clock, names: new SharedNames(), trust, searchPath: process.env["PATH"] ?? "" }, signal);
}

async function messageOf(written: unknown, options: Options = {}): Promise<string> {
  const result = await lookAt(written, options);
  if (result.ok) throw new Error("the look was well");
  return `${result.looked ? "" : "(could not look) "}${result.message}`;
}

async function listening(server: TcpServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    (server as Partial<Server>).closeAllConnections?.();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function web(listener: RequestListener): Promise<string> {
  return `http://127.0.0.1:${await listening(createServer(listener))}/`;
}

/** A port on which nobody listens: one that was just given back. */
async function closedPort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("http", () => {
  test("200 to 399 is well, and a redirect is not followed", async () => {
    const paths: string[] = [];
    const url = await web((request, response) => {
      paths.push(request.url ?? "");
      response.writeHead(Number(request.url?.slice(1)), { location: "/500" }).end();
    });
    for (const status of [200, 204, 302, 399]) expect(await lookAt({ http: `${url}${status}` })).toMatchObject({ ok: true });
    expect(paths).toEqual(["/200", "/204", "/302", "/399"]);
    expect(await messageOf({ http: `${url}502` })).toBe(`${url}502 answered 502, expected 200 to 399`);
    expect(await messageOf({ http: `${url}200`, status: 401 })).toBe(`${url}200 answered 200, expected 401`);
    expect(await lookAt({ http: `${url}401`, status: 401 })).toMatchObject({ ok: true });
  });

  test("each look has a connection of its own", async () => {
    const sockets = new Set<unknown>();
    const url = await web((request, response) => {
      sockets.add(request.socket);
      response.end("served");
    });
    for (let i = 0; i < 3; i++) expect(await lookAt({ http: url })).toMatchObject({ ok: true });
    expect(sockets.size).toBe(3);
  });

  test("the text is looked for in the first 64 KiB, and no more is read", async () => {
    const text = "all systems well";
    const endless = await web((_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write("x".repeat(16 * 1024)));
      };
      response.on("drain", more).on("error", () => {});
      more();
    });
    expect(await lookAt({ http: endless })).toMatchObject({ ok: true });
    expect(await messageOf({ http: endless, contains: text })).toBe(`${endless} answered 200, but the first 64 KiB do not contain "${text}"`);
    const at = async (offset: number): Promise<LookResult> => lookAt({ http: await web((_request, response) => response.end(`${"x".repeat(offset)}${text}`)), contains: text });
    expect(await at(65_536 - text.length)).toMatchObject({ ok: true });
    expect(await at(65_536 - text.length + 1)).toMatchObject({ ok: false });
    const short = await web((_request, response) => response.end("down for repairs"));
    expect(await messageOf({ http: short, contains: text })).toBe(`${short} answered 200, but its 16 bytes do not contain "${text}"`);
  });

  test("no answer, half an answer, a broken answer and no HTTP are told apart", async () => {
    const clock = new HandClock();
    const silent = await web(() => clock.advance(5_000));
    expect(await messageOf({ http: silent }, { clock })).toBe(`${silent}: no answer within 5 s`);

    const halves = await web((_request, response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write("half");
    });
    const halfClock = new HandClock();
    // Node tells here when the client has read the head of an answer; the look hears it right after.
    const heard = (): void => void setImmediate(() => halfClock.advance(2_500));
    subscribe("http.client.response.finish", heard);
    closing.push(() => unsubscribe("http.client.response.finish", heard));
    expect(await messageOf({ http: halves, timeoutSeconds: 2.5 }, { clock: halfClock })).toBe(`${halves} began to answer, but did not finish within 2.5 s`);

    const broken = await web((request, response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write("half", () => request.socket.destroy());
    });
    expect(await messageOf({ http: broken })).toBe(`${broken} answered 200, but the connection broke before the answer was complete`);

    const closed = await web((request) => request.socket.destroy());
    expect(await messageOf({ http: closed })).toBe(`${closed}: the connection was closed without an answer`);

    const ssh = `http://127.0.0.1:${await listening(createTcpServer((socket) => socket.on("error", () => {}).end("SSH-2.0-OpenSSH_9.2\r\n")))}/`;
    expect(await messageOf({ http: ssh })).toMatch(/what came back is not HTTP as it should be \(HPE_/);
  });

  test("refused connections and unknown names say so; credentials are used, but not told", async () => {
    const port = await closedPort();
    expect(await messageOf({ http: `http://127.0.0.1:${port}/` })).toBe(`http://127.0.0.1:${port}/: connection refused`);
    expect(await messageOf({ http: "http://nowhere.invalid/" })).toMatch(/^http:\/\/nowhere\.invalid\/: the name (does not exist|could not be looked up, since no name server answered)$/);
    const url = await web((request, response) => response.writeHead(request.headers.authorization === `Basic ${btoa("u:p")}` ? 503 : 200).end());
    expect(await messageOf({ http: url.replace("//", "//u:p@") })).toBe(`${url} answered 503, expected 200 to 399`);
  });

  describe("with TLS", () => {
    let good = "";
    let other = "";
    const certificates = ["good", "other"].map((name) => ({ name, cert: join(directory, `${name}.pem`), key: join(directory, `${name}.key`), alternative: name === "good" ? "IP:127.0.0.1" : "DNS:somewhere.example" }));
    const authorities = join(directory, "authorities.pem");
    beforeAll(() => {
      for (const { cert, key, alternative } of certificates) {
        execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=check", "-addext", `subjectAltName=${alternative}`, "-keyout", key, "-out", cert], { stdio: "ignore" });
      }
      execFileSync("sh", ["-c", `cat ${certificates.map(({ cert }) => cert).join(" ")} > ${authorities}`]);
    });
    const serve = async (name: string): Promise<string> => {
      const files = certificates.find((certificate) => certificate.name === name);
      const server = createTlsServer({ cert: readFileSync(files?.cert ?? ""), key: readFileSync(files?.key ?? "") }, (_request, response) => response.end("served"));
      return `https://127.0.0.1:${await listening(server)}/`;
    };

    test("a certificate is believed as the machine believes it; `insecure` believes all", async () => {
      good = await serve("good");
      other = await serve("other");
      expect(await lookAt({ http: good }, { authorities })).toMatchObject({ ok: true });
      expect(await messageOf({ http: good })).toMatch(/: its certificate is not accepted: self-signed certificate \(DEPTH_ZERO_SELF_SIGNED_CERT\)/);
      expect(await messageOf({ http: other }, { authorities })).toMatch(/not accepted: .*127\.0\.0\.1 is not in the cert's list.*ERR_TLS_CERT_ALTNAME_INVALID/);
      expect(await lookAt({ http: good, insecure: true })).toMatchObject({ ok: true });
      expect(await lookAt({ http: other, insecure: true })).toMatchObject({ ok: true });
      expect(await lookAt({ http: good }, { authorities: join(directory, "absent.pem") })).toMatchObject({ ok: false, looked: true });
    });

    test("TLS against a server without, and the other way round", async () => {
      const plain = await web((_request, response) => response.end());
      expect(await messageOf({ http: plain.replace("http:", "https:") })).toMatch(/: TLS did not come about: /);
      const tls = await serve("good");
      expect(await messageOf({ http: tls.replace("https:", "http:") })).toMatch(/^http:.*: (the connection was closed without an answer|what came back is not HTTP)/);
    });
  });
});

describe("tcp", () => {
  test("connects, also by name, and says when it cannot", async () => {
    const port = await listening(createTcpServer((socket) => socket.on("error", () => {})));
    expect(await lookAt({ tcp: `127.0.0.1:${port}` })).toMatchObject({ ok: true });
    expect(await lookAt({ tcp: `localhost:${port}` })).toMatchObject({ ok: true });
    const gone = await closedPort();
    expect(await messageOf({ tcp: `127.0.0.1:${gone}` })).toBe(`127.0.0.1:${gone}: connection refused`);
    expect(await messageOf({ tcp: `[::1]:${gone}` })).toMatch(/^(\(could not look\) cannot look at )?\[::1\]:\d+: /);
  });

  test("a port that cannot be is the owner's slip, not a failure of the service", async () => {
    expect(await messageOf({ tcp: "127.0.0.1:70000" })).toMatch(/^\(could not look\) cannot look at 127\.0\.0\.1:70000: .*correct the check in cluster\.yaml$/);
  });

  test("a server that takes no connection in time has failed; a look that is ended early says nothing", async () => {
    // 192.0.2.0/24 is for documentation (RFC 5737); the time passes before the connection could come about anyway.
    const clock = new HandClock();
    const waiting = messageOf({ tcp: "192.0.2.254:9" }, { clock });
    clock.advance(5_000);
    expect(await waiting).toBe("192.0.2.254:9: no answer within 5 s");
    const ending = new AbortController();
    const ended = lookAt({ tcp: "192.0.2.254:9" }, { signal: ending.signal });
    ending.abort();
    expect(await ended).toMatchObject({ ok: false, looked: false });
    expect(await lookAt({ tcp: "192.0.2.254:9" }, { signal: ending.signal })).toMatchObject({ ok: false, looked: false });
  });
});

describe("dns", () => {
  let server: DnsTwin;
  beforeAll(async () => {
    server = await startDnsTwin({
      "www.example.org": { A: [data.a("10.77.1.10"), data.a("10.77.1.11")], AAAA: [data.aaaa("fd00:0:0:0:0:0:0:10")] },
      "example.org": { TXT: [data.txt("v=spf1 ", "-all")], MX: [data.mx(10, "Mail.example.org")] },
      "alias.example.org": { CNAME: [data.name("www.example.org")] },
      "_etcd._tcp.example.org": { SRV: [data.srv(0, 5, 2380, "n1.example.org")] },
      "broken.example.org": "SERVFAIL",
      "secret.example.org": "REFUSED",
      "silent.example.org": "silence",
    });
  });
  afterAll(() => server.close());
  const ask = (written: object): object => ({ server: server.address, ...written });

  test.each([
    { dns: "www.example.org" },
    { dns: "www.example.org", answer: "10.77.1.11" },
    { dns: "www.example.org", type: "AAAA", answer: "FD00:0::10" },
    { dns: "example.org", type: "TXT", answer: "v=spf1 -all" },
    { dns: "example.org", type: "MX", answer: "mail.example.org." },
    { dns: "example.org", type: "MX", answer: "10 mail.example.org" },
    { dns: "alias.example.org", type: "CNAME", answer: "WWW.example.org" },
    { dns: "_etcd._tcp.example.org", type: "SRV", answer: "0 5 2380 n1.example.org" },
  ])("$type $dns $answer is well", async (written) => {
    expect(await lookAt(ask(written))).toMatchObject({ ok: true });
  });

  test.each([
    [{ dns: "www.example.org", answer: "10.77.1.12" }, "the answer is 10.77.1.10, 10.77.1.11, expected 10.77.1.12"],
    [{ dns: "example.org", type: "MX", answer: "other.example.org" }, "the answer is 10 Mail.example.org, expected other.example.org"],
    [{ dns: "nowhere.example.org" }, "the name nowhere.example.org does not exist"],
    [{ dns: "example.org" }, "the name example.org has no A record"],
    [{ dns: "broken.example.org" }, "the server has failed (SERVFAIL)"],
    [{ dns: "secret.example.org" }, "the server refuses to answer (REFUSED)"],
  ])("%o says what came", async (written, says) => {
    expect(await messageOf(ask(written))).toBe(`${"type" in written ? written.type : "A"} of ${written.dns} at ${server.address}: ${says}`);
  });

  test("silence, a closed port, and a server that is no address", async () => {
    const clock = new HandClock();
    const asked = server.asked();
    const waiting = messageOf(ask({ dns: "silent.example.org", timeoutSeconds: 60 }), { clock });
    await asked;
    clock.advance(60_000);
    expect(await waiting).toBe(`A of silent.example.org at ${server.address}: no answer within 60 s`);
    expect(await messageOf({ dns: "www.example.org", server: `127.0.0.1:${await closedPort()}` })).toMatch(/: connection refused$/);
    expect(await messageOf({ dns: "www.example.org", server: "ns.example.org" })).toMatch(/^\(could not look\) .*ns\.example\.org is not an IP address/);
  });
});
