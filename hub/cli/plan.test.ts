import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { PreviewView } from "../../shared/protocol/preview.ts";
import { Trial, until, type Shell, type TrialNode, type Untyped } from "../trial.ts";

/** `evenkeel plan` as a person types it: a real hub, a real clone, and machines that answer as agents do. */

const trial = new Trial();
const main = join(import.meta.dirname, "main.ts");
const temporary = join(trial.directory, "tmp");
/** What each node answers; null: nothing. */
type Answer = (commit: string) => object | null;
const nothing: Answer = (commit) => ({ commit, plannedAt: new Date().toISOString(), tookMs: 5, changes: [], problems: [], resources: 1 });
const motd = (more: object = {}): Answer => (commit) => ({ ...(nothing(commit) as object), changes: [{ resource: "files//etc/motd", action: "write /etc/motd", why: "differs", impact: "none", result: "planned", diff: "--- /etc/motd\n+++ /etc/motd\n@@ -1 +1 @@\n-old\n+new\n", ...more }] });

const answers = new Map<string, Answer>([["n1", motd()], ["n2", motd()]]);

beforeAll(async () => {
  mkdirSync(temporary);
  await trial.start();
  await trial.makeRepository();
  trial.write(".gitignore", "ignored\n");
  await trial.commit("Begin");
  await trial.push();
  for (const name of ["n1", "n2"]) answering(name, await trial.connect(await trial.enrol(name)));
  await until(async () => (await trial.request("GET", "/api/v1/cluster")).json().counts.online === 2);
});
afterAll(() => trial.end());
beforeEach(() => {
  answers.set("n1", motd());
  answers.set("n2", motd());
});

function answering(name: string, node: TrialNode): void {
  let seq = 0;
  node.client.on("message", (_topic, payload) => {
    const order: Untyped = JSON.parse(payload.toString("utf8"));
    const report = order.kind === "plan" ? answers.get(name)?.(order.commit) : null;
    if (report == null) return;
    seq += 1;
    void node.event(seq, "failure" in report ? { kind: "plan-failed", id: order.id, message: report.failure } : { kind: "planned", id: order.id, report });
  });
  void node.hello();
}

interface Typed {
  readonly child: ChildProcess;
  readonly ended: Promise<Shell & { readonly stdout: string }>;
}

function typed(args: readonly string[], more: Record<string, string> = {}): Typed {
  const env = { PATH: process.env["PATH"], HOME: trial.directory, TMPDIR: temporary, GIT_CONFIG_NOSYSTEM: "1", EVENKEEL_HUB: trial.hub.urls.https, EVENKEEL_TOKEN: trial.hub.adminToken ?? "", EVENKEEL_CA: join(trial.directory, "ca.pem"), ...more };
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", main, "plan", ...args], { env, cwd: trial.work });
  let [stdout, output] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => ((stdout += String(chunk)), (output += String(chunk))));
  child.stderr.on("data", (chunk: Buffer) => (output += String(chunk)));
  child.stdin.end();
  return { child, ended: new Promise((resolve) => child.once("close", (code) => resolve({ code: code ?? 130, stdout, output }))) };
}
const plan = (...args: string[]) => typed(args).ended;

const branches = async () => (await trial.git(...trial.httpOptions(), "ls-remote", "--heads", trial.remote())).output;
const previews = async (): Promise<Untyped[]> => (await trial.request("GET", "/api/v1/previews")).json();

/** Everything that a person could see of their clone: index, branch, files, objects. */
async function snapshot(): Promise<object> {
  const objects = readdirSync(join(trial.work, ".git", "objects"), { recursive: true }).map(String).toSorted((a, b) => a.localeCompare(b));
  return { status: await trial.git("status", "--porcelain", "--ignored"), staged: await trial.git("diff", "--cached"), refs: await trial.git("for-each-ref"), head: await trial.git("rev-parse", "HEAD"), stash: await trial.git("stash", "list"), objects };
}

describe("a branch", () => {
  beforeAll(async () => {
    await trial.git("switch", "--quiet", "-c", "work");
    await trial.commit("A new motd");
    await trial.push("work:refs/heads/preview/motd");
    await trial.git("switch", "--quiet", "main");
  });

  test("is shown as one diff for nodes that would do the same; 2 is for changes", async () => {
    const { code, stdout } = await plan("--branch", "motd");
    expect(code).toBe(2);
    expect(stdout).toMatch(/^preview motd [0-9a-f]{8} A new motd\n\nn1, n2 {2}1 change\n~ files\/\/etc\/motd {2}write \/etc\/motd — differs\n {4}--- \/etc\/motd[^]*\+new\n\n! n3: no machine is enrolled as n3 yet: `evenkeel node add n3`\n\n2 of 3 nodes planned it: 2 nodes would change\n$/);
  });

  test("with an impact, a way of no return and a failure: each said; 1 is for a node that cannot", async () => {
    answers.set("n1", motd({ impact: "network", oneWay: "the old address is given up" }));
    answers.set("n2", () => ({ failure: "commit 12345678 does not build on 87654321" }));
    const { code, stdout } = await plan("--branch", "preview/motd", "--again");
    expect(code).toBe(1);
    expect(stdout).toMatch(/n1 {2}1 change, network: under a confirmed commit: it comes back by itself/);
    expect(stdout).toMatch(/\[network\]\n {4}cannot be taken back: the old address is given up/);
    expect(stdout).toMatch(/✗ n2 {2}commit 12345678 does not build on 87654321\n/);
  });

  test("where nothing would change ends with 0, as JSON with all of it; a node that is silent ends the waiting with 1", async () => {
    answers.set("n1", nothing).set("n2", nothing);
    const { code, stdout } = await plan("--branch", "motd", "--again", "--json");
    const view: PreviewView = JSON.parse(stdout);
    expect([code, view.outcome, view.groups.map(({ nodes }) => nodes)]).toEqual([0, "nothing", [["n1", "n2"]]]);
    answers.set("n2", () => null);
    const silent = await plan("--branch", "motd", "--again", "--wait", "0.5");
    expect(silent).toMatchObject({ code: 1, stdout: expect.stringMatching(/! n2: has been asked\n[^]*of 3 nodes planned it, [12] still at it/) });
  });

  test("that is not there, or a question without a subject, says what to do", async () => {
    expect(await plan("--branch", "nowhere")).toMatchObject({ code: 1, output: expect.stringMatching(/there is no branch preview\/nowhere on this hub: push it first/) });
    expect(await plan()).toMatchObject({ code: 1, output: expect.stringContaining("plan what?") });
    expect(await plan(".", "--branch", "motd")).toMatchObject({ code: 1, output: expect.stringContaining("leave out one of them") });
    expect(await plan("--branch", "motd", "--wait", "soon")).toMatchObject({ code: 1, output: expect.stringContaining("no number of seconds") });
  });
});

describe("a working copy", () => {
  const clean = async () => {
    await trial.git("reset", "--quiet", "--hard", "main");
    await trial.git("clean", "--quiet", "-fdx");
  };

  test("is sent as it is, tracked and not, signed and on top of HEAD; afterwards nothing of it is left anywhere", async () => {
    trial.write("nodes/n1.yaml", "address: 10.0.0.1\nvars:\n  changed: yes-it-is\n");
    trial.write("nodes/n2.yaml", "address: 10.0.0.2\nvars:\n  staged: so-it-is\n");
    await trial.git("add", "nodes/n2.yaml");
    mkdirSync(join(trial.work, "files"));
    trial.write("files/new", "not tracked\n");
    trial.write("ignored", "a secret\n");
    mkdirSync(join(trial.work, ".evenkeel"));
    trial.write(".evenkeel/hub.json", JSON.stringify({ hub: trial.hub.urls.https, token: "x" }));
    const before = await snapshot();
    let seen: { message: string; files: string; changed: string; parent: string } | null = null;
    const bare = `--git-dir=${trial.dataDir}/cluster.git`;
    answers.set("n1", () => null);
    const running = typed(["."]);
    const view = await until(async () => (await previews()).find(({ throwaway }) => throwaway));
    const show = (...args: string[]) => trial.must("git", bare, ...args);
    seen = { message: await show("log", "-1", "--format=%B", view.commit), files: await show("ls-tree", "-r", "--name-only", view.commit), changed: await show("diff", "--stat", `${view.commit}~1`, view.commit), parent: (await show("rev-parse", `${view.commit}~1`)).trim() };
    answers.set("n1", motd());
    await trial.request("POST", "/api/v1/previews", { body: { branch: view.branch, again: true } });
    const { code, stdout } = await running.ended;
    expect(code).toBe(2);
    expect(stdout).toMatch(/^preview wc-ada-[0-9a-f]{8} [0-9a-f]{8} A working copy[^]*n1, n2 {2}1 change[^]*\+new/);
    expect(seen.message).toMatch(/Evenkeel-Preview: wc-ada-[0-9a-f]{8}\n/);
    expect(seen.files.split("\n")).toEqual(expect.arrayContaining(["files/new", "nodes/n1.yaml"]));
    expect(seen.files).not.toMatch(/ignored$|hub\.json/m);
    expect(seen.changed).toMatch(/nodes\/n1\.yaml[^]*nodes\/n2\.yaml/);
    expect(seen.parent).toBe((await trial.git("rev-parse", "HEAD")).output.trim());
    expect(await snapshot()).toEqual(before);
    expect(await branches()).not.toContain("wc-");
    expect((await previews()).filter(({ throwaway }) => throwaway)).toEqual([]);
    expect(readdirSync(temporary)).toEqual([]);
    await clean();
  });

  test("is deleted at the hub after Ctrl-C as well", async () => {
    answers.set("n2", () => null);
    const { child, ended } = typed(["nodes/.."]);
    await until(async () => (await previews()).some(({ throwaway }) => throwaway));
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
    expect(await branches()).not.toContain("wc-");
    expect((await previews()).filter(({ throwaway }) => throwaway)).toEqual([]);
  });

  test("that is not valid is told here, with file and line, and is not sent", async () => {
    trial.write("nodes/n1.yaml", "adress: 10.0.0.1\n");
    expect(await plan(".")).toMatchObject({ code: 1, output: expect.stringMatching(/nodes\/n1\.yaml:1:1: error:[^]*did you mean[^]*not valid, so it was not sent/i) });
    await clean();
  });

  test("without a key, with one that nobody knows, on commits that are not signed, or in no repository: says what to do", async () => {
    await trial.git("config", "--unset", "user.signingKey");
    expect(await plan(".")).toMatchObject({ code: 1, output: expect.stringMatching(/there is no key to sign the preview with.*git config user\.signingKey ~\/\.ssh/) });
    await trial.git("config", "user.signingKey", join(trial.directory, "gone.pub"));
    expect(await plan(".")).toMatchObject({ code: 1, output: expect.stringMatching(/could not be signed[^]*Say with which key/) });
    await trial.makeKey("eve");
    await trial.signWith("eve");
    expect(await plan(".")).toMatchObject({ code: 1, output: expect.stringMatching(/is signed with.*Signers in force: ada/) });
    await trial.signWith("ada");
    await trial.commit("Unsigned", "--no-gpg-sign");
    expect(await plan(".")).toMatchObject({ code: 1, output: expect.stringMatching(/\("Unsigned"\) is not signed\. Sign it/) });
    await trial.git("reset", "--quiet", "--hard", "HEAD~1");
    const elsewhere = join(trial.directory, "elsewhere");
    mkdirSync(join(elsewhere, "nodes"), { recursive: true });
    for (const path of ["cluster.yaml", "nodes/n1.yaml"]) writeFileSync(join(elsewhere, path), (await trial.git("show", `main:${path}`)).output);
    expect(await plan(elsewhere)).toMatchObject({ code: 1, output: expect.stringContaining("is no Git repository") });
    rmSync(elsewhere, { recursive: true });
    expect(existsSync(join(trial.work, ".git", "index.lock"))).toBe(false);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("goes to another Git host, when that is the one that the nodes follow", async () => {
    await trial.must("git", "init", "--quiet", "--bare", join(trial.directory, "foreign.git"));
    await trial.git("remote", "add", "foreign", join(trial.directory, "foreign.git"));
    await trial.git("push", "--quiet", "foreign", "main");
    const { code, stdout } = await plan(".", "--remote", "foreign");
    expect([code, stdout]).toEqual([2, expect.stringMatching(/n1, n2 {2}1 change/)]);
    expect((await trial.git("ls-remote", "--heads", "foreign")).output).not.toContain("wc-");
    expect((await previews()).filter(({ branch }) => branch.includes("wc-"))).toEqual([]);
  });
});
