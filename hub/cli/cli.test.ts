import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Trial, report, type Shell } from "../trial.ts";

/** The `evenkeel` command as a person starts it, against a real hub. */

const trial = new Trial();
const main = join(import.meta.dirname, "main.ts");
beforeAll(async () => {
  await trial.start();
  await trial.makeRepository();
  await trial.commit("Begin");
  await trial.push();
});
afterAll(() => trial.end());

function evenkeel(args: readonly string[], more: { readonly env?: Record<string, string>; readonly cwd?: string; readonly input?: string } = {}): Promise<Shell & { readonly stdout: string }> {
  const connection = { EVENKEEL_HUB: trial.hub.urls.https, EVENKEEL_TOKEN: trial.hub.adminToken ?? "", EVENKEEL_CA: join(trial.directory, "ca.pem") };
  const env = { PATH: process.env["PATH"], HOME: trial.directory, ...(more.env ?? connection) };
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], { env, cwd: more.cwd ?? trial.directory });
    let [stdout, output] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => ((stdout += String(chunk)), (output += String(chunk))));
    child.stderr.on("data", (chunk: Buffer) => (output += String(chunk)));
    child.on("close", (code) => resolve({ code: code ?? 1, stdout, output }));
    child.stdin.end(more.input ?? "");
  });
}

test("node add prints one command on standard output, and nothing else", async () => {
  const { code, stdout, output } = await evenkeel(["node", "add", "n1"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^evenkeel-agent enrol --hub https:\S+ --node n1 --token \S+ --ca-pin sha256:\S+ --signers \S+ --commit \S+\n$/);
  expect(output).toContain("Run this on n1, as root, once");
  expect((await evenkeel(["node", "add", "Not A Name"])).output).toContain("lower-case letters");
});

test("status, node list and log tell of the nodes, for people and as JSON", async () => {
  const node = await trial.connect(await trial.enrol("n1"));
  await node.hello();
  const head = (await trial.git("rev-parse", "HEAD")).output.trim();
  const failing = [{ resource: "packages/nginx", error: "E: Unable to locate package\u001b[2J nginx" }];
  await node.publish("converge", { v: 1, commit: head, outcome: "failed", at: new Date().toISOString(), failing, refused: null, problems: [] });
  const changes = [{ resource: "packages/nginx", action: "install nginx", why: "is missing", impact: "none", result: "failed", error: "E: no\u001b[2J\nsecond" } as const];
  await node.event(1, { kind: "converged", report: report(head, { outcome: "failed", changes }) });
  await node.ack(1);
  const status = await evenkeel(["status"]);
  expect(status.output).toMatch(/trial {2}[0-9a-f]{8} Begin \(admin, /);
  expect(status.output).toMatch(/n1 +failing +[0-9a-f]{8} +online +packages\/nginx: E: Unable to locate package/);
  // What a node says must not steer the terminal.
  expect(status.output).not.toContain("\u001b");
  expect(JSON.parse((await evenkeel(["status", "--json"])).stdout).counts).toEqual({ total: 3, online: 1, converged: 0 });
  expect((await evenkeel(["node", "list"])).output).toMatch(/n2 +waiting .*evenkeel node add n2/);
  const log = await evenkeel(["log", "n1"]);
  expect(log.output).toMatch(/n1 failed .*push, 1 change/);
  expect(log.output).toMatch(/✗ packages\/nginx {2}install nginx — is missing\n {4}E: no.*\n {4}second/);
  expect(log.output).not.toContain("\u001b");
  expect((await evenkeel(["log", "n9"])).output).toContain("there is no node n9");
  expect(JSON.parse((await evenkeel(["log", "--json"])).stdout)).toHaveLength(1);
});

test("plan asks the node and shows the diff; a node that is away is said to be", async () => {
  const node = await trial.connect(await trial.enrol("n2"));
  await node.hello();
  const head = (await trial.git("rev-parse", "HEAD")).output.trim();
  void node.order(({ kind }) => kind === "plan").then(({ id, branch }) => {
    const changes = [{ resource: "files//etc/motd", action: `write for ${branch}`, why: "differs", impact: "none", result: "planned", diff: "--- a\n+++ b\n@@ -1 +1 @@\n-old\n+new\n" }];
    return node.event(1, { kind: "planned", id, report: { commit: head, plannedAt: new Date().toISOString(), tookMs: 5, changes, problems: [], resources: 1 } });
  });
  const plan = await evenkeel(["plan", "n2", "--branch", "try"], { env: { EVENKEEL_HUB: trial.hub.urls.https, EVENKEEL_TOKEN: trial.hub.adminToken ?? "", EVENKEEL_CA: trial.hub.caPem, FORCE_COLOR: "1" } });
  expect(plan.code).toBe(0);
  expect(plan.output).toContain("write for try");
  expect(plan.output).toContain("\u001b[32m+new");
  const away = await evenkeel(["plan", "n3"]);
  expect([away.code, away.output]).toEqual([1, expect.stringContaining("n3 is not connected")]);
});

test("node revoke cuts off", async () => {
  expect((await evenkeel(["node", "revoke", "n2"])).output).toContain("n2 is cut off");
  expect((await evenkeel(["node", "list"])).output).toMatch(/n2 +revoked/);
});

test("login checks the pin and the token before it keeps them; then nothing more is needed", async () => {
  const home = mkdtempSync(join(tmpdir(), "ek-home-"));
  const env = { HOME: home };
  const url = trial.hub.urls.https;
  const unpinned = await evenkeel(["login", url], { env });
  expect([unpinned.code, unpinned.output]).toEqual([1, expect.stringContaining(`--ca-pin ${trial.hub.caPin}`)]);
  expect((await evenkeel(["login", url, "--ca-pin", "sha256:00"], { env })).output).toContain("another CA");
  expect((await evenkeel(["login", url, "--ca-pin", trial.hub.caPin], { env, input: "wrong\n" })).output).toContain("does not know this token");
  const good = await evenkeel(["login", url, "--ca-pin", trial.hub.caPin], { env, input: `${trial.hub.adminToken}\n` });
  expect(good.output).toContain("Logged in to the cluster trial");
  expect((await evenkeel(["status"], { env, cwd: "/" })).output).toContain("Begin");
  // Another hub gets neither the token nor the CA of the remembered one.
  expect((await evenkeel(["status", "--hub", "https://127.0.0.1:1"], { env })).output).toContain("no token for https://127.0.0.1:1");
  rmSync(home, { recursive: true });
});

test("errors say what to do: no hub known, hub away, wrong CA, plain HTTP to elsewhere", async () => {
  const cwd = mkdtempSync(join(tmpdir(), "ek-cwd-"));
  const env = { HOME: cwd, EVENKEEL_TOKEN: "t" };
  expect((await evenkeel(["status"], { env, cwd })).output).toContain("evenkeel login https://HUB:7443");
  expect((await evenkeel(["status", "--hub", "https://127.0.0.1:1"], { env, cwd })).output).toContain("is the hub running?");
  expect((await evenkeel(["status", "--hub", trial.hub.urls.https], { env, cwd })).output).toContain("certificate of another CA");
  expect((await evenkeel(["status", "--hub", "http://hub.example:7480"], { env, cwd })).output).toContain("is not a hub's address");
  mkdirSync(join(cwd, ".evenkeel"));
  writeFileSync(join(cwd, ".evenkeel", "hub.json"), "{");
  expect((await evenkeel(["status"], { env, cwd })).output).toContain("hub.json cannot be read");
  rmSync(cwd, { recursive: true });
});

test("hub runs in the foreground, says what is wrong with its settings, stops on SIGTERM, and keeps a second one out", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ek-hub-"));
  const config = join(directory, "hub.yaml");
  writeFileSync(config, "dataDirectory: /tmp\npageListen: 0.0.0.0:80\n");
  const wrong = await evenkeel(["hub", "--config", config], { env: {} });
  expect(wrong.code).toBe(2);
  expect(wrong.output).toMatch(/dataDirectory[^]*pageListen: 0\.0\.0\.0 is not a loopback address/);

  const args = ["hub", "--data-dir", join(directory, "data"), "--https", "127.0.0.1:0", "--page", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--public-hosts", "127.0.0.1"];
  const hub = await running(args);
  const second = await evenkeel(args, { env: {} });
  expect([second.code, second.output]).toEqual([1, expect.stringContaining("another hub is running")]);
  hub.child.kill("SIGTERM");
  expect(await hub.ended).toBe(0);
  expect(readFileSync(join(directory, "data", "admin.token"), "utf8")).toMatch(/^[\w-]{43}\n$/);
  rmSync(directory, { recursive: true });
});

function running(args: readonly string[]): Promise<{ child: ChildProcess; ended: Promise<number | null> }> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, ...args], { env: { PATH: process.env["PATH"] }, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return new Promise((resolve) => {
    child.stdout.on("data", (chunk: Buffer) => {
      if (String(chunk).includes("the hub is up")) resolve({ child, ended });
    });
  });
}
