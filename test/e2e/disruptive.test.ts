import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RolloutView } from "../../shared/protocol/rollout.ts";
import { until } from "./real-cupboard.ts";
import { openRolling, type RollingCluster } from "./rolling-cluster.ts";

/** Commits that take down what the cluster leans on go node by node, drained, and what is harmless in them goes everywhere at once. */

let cluster: RollingCluster;

interface Wanted {
  readonly edition: string;
  /** What the unit says, if not the edition: a change of it rewrites the unit, which restarts it. */
  readonly store?: string;
  readonly start?: string;
  readonly stop?: string;
  readonly more?: string;
}

/** A store that the cluster leans on, which nothing drains, beside the service that is drained. */
const role = ({ edition, store = edition, start = "/bin/sleep infinity", stop = "/bin/true", more = "" }: Wanted): string => `packages:
  even-tool: present
services:
  even-web.service:
    unit: {file: even-web.service}
    enabled: true
    running: true
  even-store.service:
    disruptive: true
    enabled: true
    running: true
    unit: |
      [Unit]
      Description=What the cluster leans on, ${store}
      [Service]
      Type=exec
      ExecStart=${start}
      ExecStop=${stop}
      [Install]
      WantedBy=multi-user.target
files:
  /etc/even-edition:
    content: "${edition}\\n"
${more}drain:
  units:
    even-web.service: {order: 20}
`;

const onAll = <T>(ask: (node: string) => Promise<T>): Promise<T[]> => Promise.all(cluster.nodes.map(ask));
const show = async (node: string, property: string): Promise<string> => (await cluster.lab.exec(node, ["systemctl", "show", "-P", property, "even-store.service"])).stdout.trim();
const startOf = (node: string): Promise<string> => show(node, "InvocationID");
const unitOf = (node: string): Promise<string> => show(node, "Description");
const editionOn = async (node: string): Promise<string> => (await cluster.lab.shell(node, "cat /etc/even-edition")).stdout.trim();
const push = (wanted: Wanted): Promise<string> => cluster.cupboard.push({ "roles/all.yaml": role(wanted) }, `The ${wanted.edition} edition`);
const changeOf = async (commit: string, phase: RolloutView["phase"], timeoutMs = 120_000): Promise<RolloutView> => {
  const seen = await until(`the change ${commit.slice(0, 8)} to be ${phase}`, () => cluster.rollout().catch(() => null), (rollout) => rollout?.commit === commit && rollout.phase === phase, timeoutMs);
  return seen as RolloutView;
};

beforeAll(async () => {
  cluster = await openRolling("disrupt", { clusterYaml: "rollout: {soakMinutes: 0.03, changeSoakMinutes: 0.03}\n" });
  await push({ edition: "first" });
  await cluster.cupboard.waitConverged();
  await cluster.isQuiet();
  cluster.watcher.start();
});

afterAll(async () => cluster?.close());

test("a restart of what the cluster leans on goes node by node, drained; what is harmless in the commit is everywhere at once", async () => {
  const { lab, nodes, watcher } = cluster;
  const [before, boots] = [await onAll(startOf), await onAll((node) => lab.bootId(node))];
  const commit = await push({ edition: "second" });
  const early = await until("the harmless part to be everywhere", async () => ({ editions: await onAll(editionOn), units: await onAll(unitOf) }), ({ editions }) => editions.every((edition) => edition === "second"));
  expect(early.units[2]).toContain("first");
  const rollout = await changeOf(commit, "done");

  expect(rollout).toMatchObject({ kind: "change", startedBy: `commit ${commit.slice(0, 8)}`, halt: null });
  expect(rollout.nodes.map(({ node, role, state }) => `${node} ${role} ${state}`)).toEqual(["n1 canary done", "n2 node done", "n3 node done"]);
  for (const { timeline, result } of rollout.nodes) {
    expect(timeline.map(({ phase }) => phase)).toEqual(["draining", "drained", "working", "checking", "soaking", "done"]);
    expect(result).toMatchObject({ ok: true, rebooted: false, commit });
  }
  expect((await onAll(unitOf)).every((description) => description.endsWith("second"))).toBe(true);
  const after = await onAll(startOf);
  expect(after.filter((start, index) => start === before[index])).toEqual([]);
  expect(await onAll((node) => lab.bootId(node))).toEqual(boots);
  // Each node was out of service for it, and never two at once.
  expect(watcher.worst.length, `away at once: ${watcher.worst.join(", ")}`).toBeLessThanOrEqual(1);
  expect(nodes.map((node) => (watcher.outages.get(node) ?? 0) > 0)).toEqual([true, true, true]);
  await cluster.cupboard.waitConverged();
  await cluster.isQuiet();
  expect(await onAll(startOf), "once is enough").toEqual(after);
});

test("a change that breaks the first node halts there: the others keep what works, and a commit that mends it rolls on by itself", async () => {
  const { cupboard } = cluster;
  const before = await onAll(startOf);
  const broken = await push({ edition: "broken", start: "/nonexistent/store" });
  const halted = await changeOf(broken, "halted");
  expect(halted.halt).toMatchObject({ node: "n1" });
  expect(halted.nodes.slice(1).map(({ state }) => state)).toEqual(["waiting", "waiting"]);
  expect(halted.halt?.why).toContain("even-store.service");
  expect((await onAll(startOf)).slice(1)).toEqual(before.slice(1));
  expect((await onAll((node) => show(node, "ActiveState"))).slice(1)).toEqual(["active", "active"]);
  // What was drained for it is back, and everybody can see why it stands still.
  expect((await cluster.lab.shell("n1", "systemctl is-active even-web.service")).stdout.trim()).toBe("active");
  const why = (await cupboard.api("/nodes/n2/why")) as { headline: string };
  expect(why.headline).toContain("the rollout is halted: n1 failed");

  const mended = await push({ edition: "mended" });
  const done = await changeOf(mended, "done");
  expect(done.nodes.map(({ state }) => state)).toEqual(["skipped", "done", "done"]);
  expect((await onAll(unitOf)).every((description) => description.endsWith("mended"))).toBe(true);
  await cupboard.waitConverged();
  await cluster.isQuiet();
});

test("an agent that is killed in the middle of its change goes on with it, on the same lease", async () => {
  const { lab, cupboard } = cluster;
  // It takes four seconds to stop: there is time to kill its agent in the middle.
  const commit = await push({ edition: "last", stop: "/bin/sleep 4" });
  await until("n1 to be restarting it", () => show("n1", "ActiveState"), (state) => state === "deactivating");
  await lab.shell("n1", "systemctl kill --signal=SIGKILL evenkeel-agent").catch(() => {});
  const rollout = await changeOf(commit, "done");
  expect(rollout.nodes.map(({ state }) => state)).toEqual(["done", "done", "done"]);
  expect((await onAll(unitOf)).every((description) => description.endsWith("last"))).toBe(true);
  expect(cluster.watcher.worst.length).toBeLessThanOrEqual(1);
  await cupboard.waitConverged();
  await cluster.isQuiet();
});

test("rollout: canary lets one node go first for every commit, and the others when it is well with it", async () => {
  const { cupboard, lab } = cluster;
  const path = join(cupboard.clone, "cluster.yaml");
  const settings = (await readFile(path, "utf8")).replace(/^rollout: .*$/m, "rollout: {commits: canary, soakMinutes: 0.1, changeSoakMinutes: 0.03}");
  const commit = await cupboard.push({ "cluster.yaml": settings, "roles/all.yaml": role({ edition: "canary" }) }, "The canary first");
  await until("n1 to have it", () => editionOn("n1"), (edition) => edition === "canary");
  expect((await onAll(editionOn)).slice(1)).toEqual(["last", "last"]);
  const waiting = await until("n2 to say that it waits", () => cupboard.node("n2"), ({ condition, why }) => condition === "behind" && why.includes("goes to n1 first"));
  expect(waiting.commit).not.toBe(commit);
  // Its own change rolls as well: the canary's turn first, and the others' when they have taken the commit.
  await until("all to have it", () => onAll(editionOn), (editions) => editions.every((edition) => edition === "canary"), 120_000);
  await until("all to have been restarted with it", () => onAll(unitOf), (units) => units.every((description) => description.endsWith("canary")), 120_000);
  await cupboard.waitConverged();
  await cluster.isQuiet();

  // One that the canary cannot have goes no further.
  const bad = await cupboard.push({ "roles/all.yaml": role({ edition: "bad", store: "canary", more: "  /etc/even-edition/below:\n    content: \"nothing\"\n" }) }, "Something that cannot be had");
  const summary = await until("the hub to say that it goes no further", cluster.summary, ({ commit: course }) => course?.commit === bad && course.state === "bad");
  expect(summary.commit?.text).toContain("the canary n1 does not come to it: files//etc/even-edition/below");
  expect((await onAll(editionOn)).slice(1)).toEqual(["canary", "canary"]);
  expect(((await cupboard.api("/nodes/n3/why")) as { headline: string }).headline).toContain("goes no further");
  expect(await cupboard.evenkeel("status")).toContain("goes no further");
  // A person may say otherwise, and a commit that mends it is the better way.
  const { code } = await cupboard.tryEvenkeel("rollout", "release", "0000", "--why", "a slip");
  expect(code).not.toBe(0);
  await cupboard.evenkeel("rollout", "release", bad.slice(0, 8), "--why", "I know");
  await until("the others to take it", () => onAll(editionOn), (editions) => editions.every((edition) => edition === "bad"));
  await push({ edition: "good", store: "canary" });
  await until("all to have the mend", () => onAll(editionOn), (editions) => editions.every((edition) => edition === "good"), 120_000);
  expect((await lab.shell("n1", "systemctl is-active even-store.service")).stdout.trim()).toBe("active");
});
