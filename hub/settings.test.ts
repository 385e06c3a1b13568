import { expect, test } from "vitest";
import { readSettings } from "./settings.ts";

const read = (text: string, env: Record<string, string> = {}, flags: Record<string, unknown> = {}) => readSettings({ file: { path: "hub.yaml", text }, env, flags, hostname: "cupboard" });

test("defaults are filled in, and the machine's name is what nodes are told", () => {
  const verdict = readSettings({ env: {}, flags: {}, hostname: "cupboard" });
  expect(verdict).toMatchObject({
    ok: true,
    settings: { publicHosts: ["cupboard"], httpsListen: { host: "0.0.0.0", port: 7443 }, pageListen: { host: "127.0.0.1", port: 7480 }, certificates: { nodeDays: 90 }, retention: { convergesPerNode: 500 } },
  });
});

test("flags win over the environment, and that over the file", () => {
  const verdict = read("dataDir: /a\ncluster: from-file\nlogLevel: warn\n", { EVENKEEL_HUB_CLUSTER: "from-env", EVENKEEL_HUB_PUBLIC_HOSTS: "hub.example, 10.0.0.1" }, { dataDir: "/c", cluster: undefined });
  expect(verdict).toMatchObject({ ok: true, settings: { dataDir: "/c", cluster: "from-env", logLevel: "warn", publicHosts: ["hub.example", "10.0.0.1"] } });
});

test("an IPv6 address is written in brackets", () => {
  expect(read("httpsListen: '[::]:7443'\n")).toMatchObject({ ok: true, settings: { httpsListen: { host: "::", port: 7443 } } });
});

test.each([
  ["pageListen: 0.0.0.0:7480\n", /not a loopback address.*behindProxy/s],
  ["dataDri: /a\n", /dataDri/],
  ["httpsListen: nowhere\n", /httpsListen: an address and a port/],
  ["httpsListen: 0.0.0.0:70000\n", /at most 65535/],
  ["- a\n", /must be a map/],
  ["a: [\n", /neither YAML nor JSON/],
  ["cluster: Not A Name\n", /lower-case/],
])("%j is refused with the reason", (text, reason) => {
  const verdict = read(text);
  expect(verdict).toMatchObject({ ok: false, message: expect.stringMatching(reason) });
});

test("behind a proxy, the page may listen anywhere", () => {
  expect(read("pageListen: 0.0.0.0:7480\nbehindProxy: true\n")).toMatchObject({ ok: true });
});
