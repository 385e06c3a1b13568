import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PreviewSummary, PreviewView } from "../../shared/protocol/preview.ts";
import { openCupboard, until, type RealCupboard } from "./real-cupboard.ts";

/** Previews on three real nodes: what they say they would do, on the API, the page and the command line, and that they do nothing. */

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const NODES = ["n1", "n2", "n3"] as const;
const SECRET = "correct-horse-battery-staple";

let real: RealCupboard;
let example = "";
beforeAll(async () => {
  example = mkdtempSync(join(tmpdir(), "preview-cluster-"));
  cpSync(join(import.meta.dirname, "cluster"), example, { recursive: true });
  writeFileSync(join(example, "nodes", "n3.yaml"), "address: 10.77.1.13\nroles: [plain]\n");
  real = await openCupboard("preview", NODES, example);
});
afterAll(async () => {
  rmSync(example, { recursive: true, force: true });
  await real?.close();
});

const git = (...args: string[]) => real.cupboard.git(...args);
const view = async (name: string) => PreviewView.parse(await real.cupboard.api(`/previews/${encodeURIComponent(name)}`));
const list = async () => PreviewSummary.array().parse(await real.cupboard.api("/previews"));
const settled = (name: string) => until(`${name} is planned`, () => view(name), ({ counts }) => counts.missing === 0);
const inClone = (path: string) => join(real.cupboard.clone, path);

/** A signed commit on top of main with these files, pushed to a branch; the clone is back on main afterwards. */
async function pushPreview(branch: string, files: Readonly<Record<string, string>>, ...commit: string[]): Promise<{ code: number; output: string; commit: string }> {
  await git("switch", "-q", "-C", "work", "main");
  for (const [path, content] of Object.entries(files)) await writeFile(inClone(path), content);
  await git("add", "-A");
  await git("commit", "-q", "--allow-empty", "-m", `For ${branch}`, ...commit);
  const tip = (await git("rev-parse", "HEAD")).trim();
  const pushed = await real.cupboard.tryGit("push", "--force", "origin", `HEAD:refs/heads/${branch}`);
  await git("switch", "-q", "main");
  return { ...pushed, commit: tip };
}

/** All that an agent remembers, and what it is there for. */
async function stateOf(node: string): Promise<string> {
  const { stdout } = await real.lab.shell(node, "cd /var/lib/evenkeel && sha256sum mark.json inventory.json log.jsonl; sha256sum /etc/plain; ls -la /etc/secretive 2>&1");
  return stdout;
}

const web = (role: string, own: string) => `files:\n  /etc/plain: { content: { file: plain } }\n  /etc/secretive: { content: "${role}\\n", mode: "0600" }\n${own}`;

test("a push to preview/NAME: every node says what it would do, and does nothing; what only root may read is not told", async () => {
  const before = await Promise.all(NODES.map(stateOf));
  const head = (await real.cupboard.cluster()).head?.id;
  const pushed = await pushPreview("preview/web", { "roles/plain.yaml": web(SECRET, ""), "nodes/n3.yaml": "address: 10.77.1.13\nroles: [plain]\nfiles:\n  /etc/only-here: { content: \"n3\\n\" }\n" });
  expect(pushed.output).toMatch(/preview\/web is a preview, nothing is applied: 3 node\(s\) are asked what it would do/);
  const planned = await settled("web");
  expect(planned).toMatchObject({ outcome: "changes", commit: pushed.commit, counts: { nodes: 3, planned: 3, changing: 3, failed: 0, offline: 0 }, outdated: false });
  expect(planned.groups.map(({ nodes, changes }) => [nodes, changes.map(({ resource }) => resource)])).toEqual([
    [["n1", "n2"], ["files//etc/secretive"]],
    [["n3"], expect.arrayContaining(["files//etc/secretive", "files//etc/only-here"])],
  ]);
  const onlyHere = planned.groups[1]?.changes.find(({ resource }) => resource === "files//etc/only-here");
  expect(onlyHere?.diff).toContain("+n3");
  expect(JSON.stringify(planned)).not.toContain(SECRET);
  expect(await Promise.all(NODES.map(stateOf))).toEqual(before);
  expect((await real.cupboard.cluster()).head?.id).toBe(head);
  expect((await real.cupboard.cluster()).nodes.map(({ condition }) => condition)).toEqual(["converged", "converged", "converged"]);
});

test("evenkeel plan --branch shows one diff for nodes that would do the same, ends with 2, and never with the secret", async () => {
  const { code, output } = await real.cupboard.tryEvenkeel("plan", "--branch", "web");
  expect(code).toBe(2);
  expect(output).toMatch(/n1, n2 {2}1 change\n~ files\/\/etc\/secretive[^]*n3 {2}2 changes[^]*\+n3[^]*3 of 3 nodes planned it: 3 nodes would change/);
  expect(output).not.toContain(SECRET);
});

test("the page shows it, follows it, and fits a phone, in light and dark", async () => {
  const browser: Browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGS });
  try {
    for (const colorScheme of ["light", "dark"] as const) {
      const context = await browser.newContext({ viewport: { width: 360, height: 800 }, colorScheme });
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
      await page.goto(real.cupboard.hub.loginLink());
      await page.getByRole("link", { name: "web", exact: true }).click();
      await page.getByRole("heading", { name: "web would change 3\u00a0nodes" }).waitFor();
      expect(await page.locator("#plan-n1-names").innerText()).toBe("n1, n2");
      expect(await page.locator("#plan-n3").innerText()).toContain("+n3");
      expect(await page.content()).not.toContain(SECRET);
      const widest = await page.evaluate('Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll("main *")].filter((each) => !each.closest("pre, svg")).map((each) => Math.ceil(each.getBoundingClientRect().right)))');
      expect(widest).toBeLessThanOrEqual(360);
      await page.goto(real.cupboard.hub.urls.page);
      await page.locator('#live[data-state="live"]').waitFor();
      await pushPreview(`preview/seen-${colorScheme}`, {});
      await page.getByRole("link", { name: `seen-${colorScheme}` }).waitFor();
      await page.locator(`#preview-seen-${colorScheme}`).getByText("changes nothing").waitFor();
      expect(complaints).toEqual([]);
      await context.close();
    }
  } finally {
    await browser.close();
  }
});

test("evenkeel plan . plans the working copy as it is, and leaves nothing behind, here or there", async () => {
  await writeFile(inClone("files/plain"), "as it is on the laptop\n");
  await writeFile(inClone("files/new"), "not tracked\n");
  await writeFile(inClone("roles/plain.yaml"), "files:\n  /etc/plain: { content: { file: plain } }\n  /etc/new: { content: { file: new } }\n");
  const before = [await git("status", "--porcelain"), await git("for-each-ref"), await git("count-objects", "-v")];
  const { code, output } = await real.cupboard.tryEvenkeel("plan", real.cupboard.clone);
  expect(output).toMatch(/preview wc-owner-[0-9a-f]{8}[^]*n1, n2, n3 {2}2 changes[^]*\+not tracked[^]*\+as it is on the laptop/);
  expect(code).toBe(2);
  expect([await git("status", "--porcelain"), await git("for-each-ref"), await git("count-objects", "-v")]).toEqual(before);
  expect(await git("ls-remote", "--heads", "origin")).not.toContain("wc-");
  expect((await list()).filter(({ throwaway }) => throwaway)).toEqual([]);
  expect(await real.lab.readFile("n1", "/etc/plain")).toBe("plain\n");
  await git("checkout", "-q", ".");
  await git("clean", "-qfd");
});

test("a throw-away preview that a stolen hub passes off as main is applied by no node", async () => {
  const good = (await git("rev-parse", "HEAD")).trim();
  const { commit } = await pushPreview("preview/wc-owner-1", { "files/plain": "only to be looked at\n" }, "-m", "Evenkeel-Preview: wc-owner-1");
  expect((await settled("wc-owner-1")).counts.planned).toBe(3);
  const bare = join(real.cupboard.directory, "hub", "cluster.git");
  execFileSync("git", ["-C", bare, "update-ref", "refs/heads/main", commit]);
  try {
    await Promise.all(NODES.map((node) => real.lab.exec(node, ["evenkeel-agent", "apply"])));
    for (const name of NODES) {
      const node = await until(`${name} refuses`, () => real.cupboard.node(name), (one) => one.converge?.refused?.commit === commit);
      expect(node.converge?.refused?.message).toMatch(/is a throw-away preview \(Evenkeel-Preview: wc-owner-1\).*no node applies it/);
      expect(node.converge?.commit).toBe(good);
      expect(await real.lab.readFile(name, "/etc/plain")).toBe("plain\n");
    }
  } finally {
    execFileSync("git", ["-C", bare, "update-ref", "refs/heads/main", good]);
  }
  await real.cupboard.tryGit("push", "-q", "origin", ":refs/heads/preview/wc-owner-1");
  await Promise.all(NODES.map((node) => real.lab.exec(node, ["evenkeel-agent", "apply"])));
  await real.cupboard.waitConverged();
});

test("a node that is away answers when it is back; what is unsigned or not valid is refused at the push", async () => {
  await real.lab.shell("n3", "systemctl stop evenkeel-agent");
  await until("n3 is missed", () => real.cupboard.node("n3"), ({ online }) => !online);
  await pushPreview("preview/later", { "files/plain": "later\n" });
  const without = await settled("later");
  expect(without).toMatchObject({ outcome: "changes", counts: { planned: 2, offline: 1 } });
  expect(without.nodes.find(({ name }) => name === "n3")).toMatchObject({ state: "offline", message: expect.stringContaining("is asked when it comes back") });
  expect(await real.cupboard.tryEvenkeel("plan", "--branch", "later")).toMatchObject({ code: 2, output: expect.stringContaining("! n3: n3 is not connected") });
  await real.lab.shell("n3", "systemctl start evenkeel-agent");
  const whole = await until("n3 has planned it", () => view("later"), ({ counts }) => counts.planned === 3);
  expect(whole.groups.map(({ nodes }) => nodes)).toEqual([["n1", "n2", "n3"]]);
  expect((await pushPreview("preview/bad", { "nodes/n1.yaml": "adress: 10.77.1.11\n" })).output).toMatch(/nodes\/n1\.yaml:1:1: error/);
  expect((await pushPreview("preview/bad", {}, "--no-gpg-sign")).output).toMatch(/is not signed\. Sign it/);
  expect((await list()).map(({ name }) => name)).not.toContain("bad");
});

test("a branch that main has left behind says so; what is merged or deleted is gone", async () => {
  await git("fetch", "-q", "origin");
  await git("merge", "-q", "--ff-only", "origin/preview/later");
  await git("push", "-q", "origin", "main");
  await real.cupboard.waitConverged();
  await until("the merged one is gone", list, (all) => !all.some(({ name }) => name === "later"));
  expect(await real.lab.readFile("n2", "/etc/plain")).toBe("later\n");
  const behind = await real.cupboard.tryEvenkeel("plan", "--branch", "web", "--again");
  expect(behind).toMatchObject({ code: 1, output: expect.stringMatching(/the main branch has moved[^]*✗ n1, n2, n3 {2}commit [0-9a-f]{8} does not build on [0-9a-f]{8}/) });
  await git("push", "-q", "origin", ":refs/heads/preview/web");
  expect((await list()).map(({ name }) => name)).not.toContain("web");
  expect((await real.cupboard.tryApi("/previews/web")).status).toBe(404);
  expect(existsSync(inClone(".git/index.lock"))).toBe(false);
});
