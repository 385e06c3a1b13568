import { afterAll, beforeAll, expect, test } from "vitest";
import { openRolling, type RollingCluster } from "./rolling-cluster.ts";

/** Five nodes, and the hub lives on one of them: it reboots its own machine, as the last, and goes on afterwards. */

let cluster: RollingCluster;

beforeAll(async () => {
  cluster = await openRolling("five", { nodes: 5, hubOnNode: true, clusterYaml: "groups:\n  voters:\n    members: [n1, n3, n5]\n" });
  await cluster.isQuiet();
  cluster.watcher.start();
});

afterAll(async () => cluster?.close());

test("an update rolls through five nodes, and the machine of the hub is the last to reboot", async () => {
  const { lab, cupboard, nodes, watcher } = cluster;
  const boots = await Promise.all(nodes.map((node) => lab.bootId(node)));
  await lab.publish("even-tool", "2.0", { reboot: true });
  await cupboard.api("/rollouts", { kind: "update" });
  const rollout = await cluster.reaches("done", 400_000);

  expect(rollout.nodes.map(({ node, role, state }) => `${node} ${role} ${state}`)).toEqual(["n1 canary done", "n2 node done", "n3 node done", "n4 node done", "n5 hub done"]);
  const after = await Promise.all(nodes.map((node) => lab.bootId(node)));
  expect(after.filter((boot, index) => boot === boots[index])).toEqual([]);
  const starts = rollout.nodes.map(({ startedAt }) => Date.parse(startedAt ?? ""));
  expect(starts).toEqual(starts.toSorted((a, b) => a - b));
  expect(watcher.worst.length, `away at once: ${watcher.worst.join(", ")}`).toBeLessThanOrEqual(2);
  await cluster.isQuiet();
  const { groups } = await cluster.summary();
  expect(groups.map(({ name, size, allowed }) => `${name} ${allowed} of ${size}`).toSorted()).toEqual(["cluster 2 of 5", "voters 1 of 3"]);
});
