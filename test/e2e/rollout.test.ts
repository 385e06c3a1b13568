import { afterAll, beforeAll, expect, test } from "vitest";
import { openRolling, type RollingCluster } from "./rolling-cluster.ts";

/** Updates and reboots roll through real nodes, with real apt, and an observer outside counts who is away. */

let cluster: RollingCluster;

beforeAll(async () => {
  cluster = await openRolling("rollout");
  await cluster.isQuiet();
  cluster.watcher.start();
});

afterAll(async () => cluster?.close());

const versionOn = async (node: string): Promise<string> => (await cluster.lab.exec(node, ["dpkg-query", "-W", "-f", "${Version}", "even-tool"])).stdout;

test("an update that asks for a reboot rolls through all nodes, the canary first, never two at once", async () => {
  const { lab, cupboard, nodes, watcher } = cluster;
  const boots = await Promise.all(nodes.map((node) => lab.bootId(node)));
  await lab.publish("even-tool", "2.0", { reboot: true });
  await cupboard.api("/rollouts", { kind: "update" });
  const rollout = await cluster.reaches("done");

  expect(rollout.nodes.map(({ node, role, state }) => `${node} ${role} ${state}`)).toEqual(["n1 canary done", "n2 node done", "n3 node done"]);
  expect(rollout.changed).toEqual([{ name: "even-tool", from: "1.0", to: "2.0", nodes: ["n1", "n2", "n3"] }]);
  expect(await Promise.all(nodes.map(versionOn))).toEqual(["2.0", "2.0", "2.0"]);
  const after = await Promise.all(nodes.map((node) => lab.bootId(node)));
  expect(after.filter((boot, index) => boot === boots[index])).toEqual([]);
  for (const { timeline } of rollout.nodes) expect(timeline.map(({ phase }) => phase)).toEqual(["draining", "drained", "working", "rebooting", "checking", "soaking", "done"]);
  expect(watcher.worst.length, `away at once: ${watcher.worst.join(", ")}`).toBeLessThanOrEqual(1);
  expect(nodes.map((node) => (watcher.outages.get(node) ?? 0) > 0)).toEqual([true, true, true]);
  await cluster.isQuiet();
});
