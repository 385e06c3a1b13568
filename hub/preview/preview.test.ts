import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PREVIEWS_MAX, THROWAWAY_MAX_MS } from "./service.ts";
import type { PreviewView } from "../../shared/protocol/preview.ts";
import { systemClock } from "../system-clock.ts";
import { Trial, until, type TrialNode, type Untyped } from "../trial.ts";

/** A real hub, real pushes over TLS, and machines that answer as agents do. */

const trial = new Trial();
/** The hub's clock can be put forward. */
let aheadMs = 0;
const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + aheadMs };
let [n1, n2]: TrialNode[] = [];
const seqs = new Map<TrialNode, number>();

beforeAll(async () => {
  await trial.start({ planTimeoutMs: 60_000 }, { clock });
  await trial.makeRepository();
  await trial.commit("Begin");
  await trial.push();
  n1 = await trial.connect(await trial.enrol("n1"));
  n2 = await trial.connect(await trial.enrol("n2"));
  await n1.hello();
  await n2.hello();
});
afterAll(() => trial.end());

const view = async (name: string): Promise<PreviewView> => (await trial.request("GET", `/api/v1/previews/${encodeURIComponent(name)}`)).json();
const list = async (): Promise<Untyped[]> => (await trial.request("GET", "/api/v1/previews")).json();
const change = (text: string, more: object = {}) => ({ resource: "files//etc/motd", action: "write /etc/motd", why: "differs", impact: "none", result: "planned", diff: `-old\n+${text}\n`, ...more });
const plan = (commit: string, changes: readonly object[], more: object = {}) => ({ commit, plannedAt: new Date().toISOString(), tookMs: 12, changes, problems: [], resources: 1, ...more });

async function event(node: TrialNode, body: object): Promise<void> {
  const seq = (seqs.get(node) ?? 0) + 1;
  seqs.set(node, seq);
  await node.event(seq, body);
}

/** The order about this commit, among those that came and those to come. */
function asked(node: TrialNode, commit: string): Promise<Untyped> {
  return node.order((order) => order.kind === "plan" && order.commit === commit, false);
}

/** A signed commit with a new content on a branch of its own, pushed; the work tree is back on main afterwards. */
async function pushPreview(branch: string, more: { readonly message?: string; readonly options?: readonly string[] } = {}): Promise<{ commit: string; code: number; output: string }> {
  await trial.git("switch", "--quiet", "-C", "work", "main");
  const commit = await trial.commit(more.message ?? `For ${branch}`, ...(more.options ?? []));
  const pushed = await trial.push(`work:refs/heads/${branch}`, { force: true });
  await trial.git("switch", "--quiet", "main");
  return { commit, ...pushed };
}

describe("a push to preview/NAME", () => {
  test("is planned by every node that is there, and kept as one diff for those that would do the same", async () => {
    const { commit, output } = await pushPreview("preview/motd");
    expect(output).toMatch(/preview\/motd is a preview, nothing is applied: 3 node\(s\) are asked/);
    const [first, second] = [await asked(n1!, commit), await asked(n2!, commit)];
    expect(first).toMatchObject({ branch: "preview/motd", commit });
    expect(await view("motd")).toMatchObject({ outcome: "pending", counts: { nodes: 3, missing: 2, planned: 0 }, outdated: false, throwaway: false, pushedBy: "admin", subject: "For preview/motd" });
    await event(n1!, { kind: "planned", id: first.id, report: plan(commit, [change("new")]) });
    await event(n2!, { kind: "planned", id: second.id, report: plan(commit, [change("new")], { tookMs: 99, resources: 7 }) });
    const done = await until(async () => ((await view("motd")).outcome === "pending" ? null : await view("motd")));
    expect(done).toMatchObject({ outcome: "changes", impact: "none", counts: { nodes: 3, missing: 0, planned: 2, changing: 2, failed: 0 } });
    expect(done.groups).toMatchObject([{ nodes: ["n1", "n2"], changes: [{ diff: "-old\n+new\n" }] }]);
    expect(done.nodes.map(({ name, state }) => [name, state])).toEqual([["n1", "planned"], ["n2", "planned"], ["n3", "waiting"]]);
    expect((await trial.request("GET", "/api/v1/commits")).json()).toHaveLength(1);
    // What a node planned for a preview is not its last plan of what it shall be.
    expect((await trial.request("GET", "/api/v1/nodes/n1")).json().lastPlan).toBeNull();
  });

  test("an answer about another commit, by another node, or under an old id counts for nothing", async () => {
    const { commit } = await pushPreview("preview/replay");
    const before = await asked(n1!, commit);
    await event(n2!, { kind: "planned", id: before.id, report: plan(commit, [change("by a stranger")]) });
    const again = await pushPreview("preview/replay", { message: "Once more" });
    const order = await asked(n1!, again.commit);
    await event(n1!, { kind: "planned", id: before.id, report: plan(commit, [change("late")]) });
    await event(n1!, { kind: "planned", id: order.id, report: plan(commit, [change("other")]) });
    const failed = await until(async () => (await view("replay")).nodes.find(({ name, state }) => name === "n1" && state === "failed"));
    expect(failed.message).toMatch(/it planned [0-9a-f]{8} instead of/);
    expect((await view("replay")).groups).toEqual([]);
  });

  test("a node that cannot, a node that is away, and one that comes back", async () => {
    const own = await trial.connect(await trial.enrol("n3"));
    await own.hello();
    own.client.end(true);
    await until(async () => (await trial.request("GET", "/api/v1/nodes/n3")).json().online === false);
    const { commit } = await pushPreview("preview/away");
    await event(n1!, { kind: "plan-failed", id: (await asked(n1!, commit)).id, message: "could not fetch" });
    await event(n2!, { kind: "planned", id: (await asked(n2!, commit)).id, report: plan(commit, [change("x", { impact: "disruptive", oneWay: "the old pool is gone" })]) });
    const standing = await until(async () => ((await view("away")).counts.missing === 0 ? view("away") : null));
    expect(standing).toMatchObject({ outcome: "failed", impact: "disruptive", counts: { failed: 1, planned: 1, offline: 1 } });
    expect(standing.nodes).toMatchObject([{ state: "failed", message: "could not fetch" }, { state: "planned" }, { state: "offline" }]);
    const back = await trial.connect(own.identity);
    const order = asked(back, commit);
    await back.hello();
    await back.event(1, { kind: "planned", id: (await order).id, report: plan(commit, []) });
    expect((await until(async () => ((await view("away")).counts.offline === 0 && (await view("away")).counts.missing === 0 ? view("away") : null))).groups).toMatchObject([{ nodes: ["n2"], impact: "disruptive" }, { nodes: ["n3"], changes: [] }]);
    back.client.end(true);
  });

  test("unsigned, invalid, or with a name that no order could carry: refused, with what to do", async () => {
    expect((await pushPreview("preview/unsigned", { options: ["--no-gpg-sign"] })).output).toMatch(/is not signed\. Sign it: git config/);
    await trial.git("switch", "--quiet", "-C", "work", "main");
    trial.write("nodes/n2.yaml", "address: 10.0.0.2\nadress: typo\n");
    await trial.commit("Typo");
    expect((await trial.push("work:refs/heads/preview/typo")).output).toMatch(/nodes\/n2\.yaml:2:1: error: .*adress/);
    await trial.git("switch", "--quiet", "main");
    expect((await pushPreview("preview/ü")).output).toMatch(/letters, digits/);
    expect((await list()).map(({ name }) => name)).toEqual(["away", "replay", "motd"]);
  });

  test("goes with its branch, and when it is merged", async () => {
    await trial.push(":refs/heads/preview/replay");
    expect((await list()).map(({ name }) => name)).toEqual(["away", "motd"]);
    const gone = await trial.request("GET", "/api/v1/previews/replay");
    expect([gone.status, gone.json().error.message]).toEqual([404, expect.stringContaining("its branch was deleted")]);
    const { commit } = await pushPreview("preview/merge");
    await trial.git("merge", "--quiet", "--ff-only", commit);
    await trial.push();
    await until(async () => !(await list()).some(({ name }) => name === "merge"));
    // What was left behind by it says so.
    expect(await view("motd")).toMatchObject({ outdated: true });
    await trial.git("switch", "--quiet", "-C", "old", "HEAD~1");
    await trial.commit("On what was");
    expect((await trial.push("old:refs/heads/preview/old")).output).toMatch(/main has moved on since [0-9a-f]{8}.*git rebase/);
    await trial.git("switch", "--quiet", "main");
  });

  test("one more, for those that ask", async () => {
    const { commit } = await pushPreview("preview/large");
    expect(await asked(n1!, commit)).toMatchObject({ branch: "preview/large" });
  });
});

describe("asking", () => {
  test("has a branch planned, again at need; what is not there, is main, or stands elsewhere is refused with a way out", async () => {
    const ask = (body: object, token?: string) => trial.request("POST", "/api/v1/previews", { body, ...(token !== undefined && { token }) });
    const before = n1!.orders.filter(({ kind }) => kind === "plan").length;
    expect((await ask({ branch: "large" })).json()).toMatchObject({ name: "large", outcome: "pending" });
    expect(n1!.orders.filter(({ kind }) => kind === "plan")).toHaveLength(before);
    expect((await ask({ branch: "preview/large", again: true })).json()).toMatchObject({ name: "large", groups: [] });
    expect((await ask({ branch: "main" })).json().error.message).toMatch(/evenkeel plan NODE/);
    expect((await ask({ branch: "nowhere" })).json().error.message).toMatch(/there is no branch preview\/nowhere on this hub: push it first/);
    expect((await ask({ branch: "large", commit: "0".repeat(40) })).json().error.message).toMatch(/and not at 00000000/);
    expect((await ask({ branch: "-x" })).status).toBe(400);
    expect((await ask({ branch: "large" }, "wrong")).status).toBe(401);
    // A branch that is kept elsewhere: the nodes say what they find.
    const commit = "1".repeat(40);
    expect((await ask({ branch: "elsewhere", commit })).json()).toMatchObject({ name: "elsewhere", outdated: false });
    expect(await asked(n1!, commit)).toMatchObject({ branch: "elsewhere" });
    expect((await trial.request("DELETE", "/api/v1/previews/elsewhere")).status).toBe(200);
    expect((await trial.request("DELETE", "/api/v1/previews/elsewhere")).status).toBe(404);
  });

  test("a branch that is no preview yet may be asked for by its name", async () => {
    const { commit, output } = await pushPreview("topic/one");
    expect(output).toContain("`evenkeel plan --branch topic/one` asks the nodes");
    expect((await list()).some(({ branch }) => branch === "topic/one")).toBe(false);
    expect((await trial.request("POST", "/api/v1/previews", { body: { branch: "topic/one" } })).json()).toMatchObject({ name: "topic/one", commit });
    expect(await view("topic/one")).toMatchObject({ branch: "topic/one" });
  });
});

describe("throw-away previews", () => {
  test("are never let into main, nor what builds on them", async () => {
    const { commit } = await pushPreview("preview/wc-ada-1", { message: "A working copy\n\nEvenkeel-Preview: wc-ada-1" });
    expect(await view("wc-ada-1")).toMatchObject({ throwaway: true, commit });
    const refused = await trial.push(`${commit}:main`);
    expect(refused.code).not.toBe(0);
    expect(refused.output).toMatch(/is a throw-away preview.*no node applies it/);
  });

  test("go within the hour, with their branch; one that only looks like it stays", async () => {
    await pushPreview("preview/wc-hand");
    aheadMs = THROWAWAY_MAX_MS + 1_000;
    await trial.stop();
    await trial.start({}, { clock });
    expect((await list()).map(({ name }) => name)).not.toContain("wc-ada-1");
    expect((await list()).map(({ name }) => name)).toContain("wc-hand");
    expect((await trial.git(...trial.httpOptions(), "ls-remote", trial.remote())).output).not.toContain("wc-ada-1");
  });
});

test("what was deleted or moved while the hub was down is so afterwards; the newest are kept", async () => {
  const { commit } = await pushPreview("preview/moved");
  await trial.stop();
  const bare = `${trial.dataDir}/cluster.git`;
  await trial.must("git", `--git-dir=${bare}`, "update-ref", "-d", "refs/heads/preview/wc-hand");
  const other = (await trial.must("git", `--git-dir=${bare}`, "rev-parse", "refs/heads/preview/large")).trim();
  await trial.must("git", `--git-dir=${bare}`, "update-ref", "refs/heads/preview/moved", other, commit);
  await trial.start({}, { clock });
  expect((await list()).map(({ name }) => name)).not.toContain("wc-hand");
  expect(await view("moved")).toMatchObject({ commit: other });
  const many = Array.from({ length: PREVIEWS_MAX }, (_, index) => `many-${index}`);
  await trial.git(...trial.httpOptions(), "push", "--quiet", trial.remote(), ...many.map((name) => `old:refs/heads/preview/${name}`));
  const { commit: thrown } = await pushPreview("preview/wc-ada-2", { message: "A working copy\n\nEvenkeel-Preview: wc-ada-2" });
  expect((await list())[0]).toMatchObject({ name: "wc-ada-2", commit: thrown });
  await trial.request("DELETE", "/api/v1/previews/wc-ada-2");
  expect((await list()).map(({ name }) => name as string).toSorted((a, b) => a.localeCompare(b))).toEqual(many.toSorted((a, b) => a.localeCompare(b)));
});
