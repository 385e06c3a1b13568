import { afterAll, beforeAll, expect, test } from "vitest";
import { Caller } from "./caller.ts";
import { until } from "./real-cupboard.ts";
import { openRolling, type RollingCluster } from "./rolling-cluster.ts";

/** Updates and reboots roll through real nodes, with real apt, and an observer outside counts who is away. */

let cluster: RollingCluster;

beforeAll(async () => {
  cluster = await openRolling("rollout", { vip: true });
  await cluster.isQuiet();
  cluster.watcher.start();
});

afterAll(async () => cluster?.close());

const versionOn = async (node: string): Promise<string> => (await cluster.lab.exec(node, ["dpkg-query", "-W", "-f", "${Version}", "even-tool"])).stdout;

test("an update that asks for a reboot rolls through all nodes, the canary first, never two at once", async () => {
  const { lab, cupboard, nodes, watcher } = cluster;
  const boots = await Promise.all(nodes.map((node) => lab.bootId(node)));
  await lab.publish("even-tool", "2.0", { reboot: true });
  const caller = new Caller(cluster.url, 50);
  await cupboard.api("/rollouts", { kind: "update" });
  const rollout = await cluster.reaches("done");
  await caller.stop();

  expect(rollout.nodes.map(({ node, role, state }) => `${node} ${role} ${state}`)).toEqual(["n1 canary done", "n2 node done", "n3 node done"]);
  expect(rollout.changed).toEqual([{ name: "even-tool", from: "1.0", to: "2.0", nodes: ["n1", "n2", "n3"] }]);
  expect(await Promise.all(nodes.map(versionOn))).toEqual(["2.0", "2.0", "2.0"]);
  const after = await Promise.all(nodes.map((node) => lab.bootId(node)));
  expect(after.filter((boot, index) => boot === boots[index])).toEqual([]);
  // Whoever used the address did not notice.
  expect(caller.missed).toEqual([]);
  expect(caller.answered).toBeGreaterThan(500);
  expect(rollout.requests).toMatchObject([{ check: "web", failed: 0 }]);
  expect(rollout.requests[0]?.looked).toBeGreaterThan(10);
  for (const { timeline } of rollout.nodes) expect(timeline.map(({ phase }) => phase)).toEqual(["draining", "drained", "working", "rebooting", "checking", "soaking", "done"]);
  expect(watcher.worst.length, `away at once: ${watcher.worst.join(", ")}`).toBeLessThanOrEqual(1);
  expect(nodes.map((node) => (watcher.outages.get(node) ?? 0) > 0)).toEqual([true, true, true]);
  await cluster.isQuiet();
});

test("a canary whose update breaks is put back, and the rollout halts: the others are left alone", async () => {
  const { lab, cupboard, nodes } = cluster;
  const boots = await Promise.all(nodes.map((node) => lab.bootId(node)));
  await lab.publish("even-tool", "3.0", { postinst: "exit 1" });
  await cupboard.api("/rollouts", { kind: "update" });
  const halted = await cluster.reaches("halted");

  expect(halted.nodes.map(({ state }) => state)).toEqual(["failed", "waiting", "waiting"]);
  expect(halted.halt).toMatchObject({ node: "n1" });
  expect(await Promise.all(nodes.map(versionOn))).toEqual(["2.0", "2.0", "2.0"]);
  expect((await lab.exec("n1", ["dpkg", "--audit"])).stdout).toBe("");
  expect(await Promise.all(nodes.map((node) => lab.bootId(node)))).toEqual(boots);
  // It is not tried again by itself, and says why.
  const why = (await cupboard.api("/nodes/n2/why")) as { headline: string };
  expect(why.headline).toContain("the rollout is halted: n1 failed");

  // The owner mends the package, and says how to go on.
  await lab.publish("even-tool", "3.1");
  expect((await cupboard.tryApi(`/rollouts/${halted.id}/resume`, { why: "mended" })).status).toBe(409);
  await cupboard.api(`/rollouts/${halted.id}/resume`, { why: "mended", failed: "retry" });
  const done = await cluster.reaches("done");
  expect(done.nodes.map(({ state }) => state)).toEqual(["done", "done", "done"]);
  expect(await Promise.all(nodes.map(versionOn))).toEqual(["3.1", "3.1", "3.1"]);
  // Nothing asked for a reboot; except on the canary, where going back to 2.0 did, as 2.0 does whenever it is installed.
  expect(await Promise.all(["n2", "n3"].map((node) => lab.bootId(node)))).toEqual(boots.slice(1));
  await cluster.isQuiet();
});

test("what the canary got is what the others get, although the archive has moved on since", async () => {
  const { lab, cupboard, nodes } = cluster;
  await lab.publish("even-tool", "4.0");
  await cupboard.api("/rollouts", { kind: "update" });
  await until("the canary to be done", cluster.rollout, ({ nodes: [canary] }) => canary?.state === "soaking" || canary?.state === "done");
  await lab.publish("even-tool", "5.0");
  const done = await cluster.reaches("done");
  expect(done.target).toEqual([{ name: "even-tool", version: "4.0" }]);
  expect(await Promise.all(nodes.map(versionOn))).toEqual(["4.0", "4.0", "4.0"]);
  await cluster.isQuiet();
});

test("a node is drained for hardware work, stays so across its reboots, and comes back by the owner's word", async () => {
  const { lab, cupboard, watcher } = cluster;
  const serves = async (): Promise<string> => (await lab.shell("n2", "systemctl is-active even-web.service")).stdout.trim();
  await cupboard.api("/nodes/n2/drain", { why: "more memory" });
  await until("n2 to be out of service", cluster.summary, ({ leases }) => leases.some(({ node, phase }) => node === "n2" && phase === "confirmed"));
  expect(await serves()).toBe("inactive");
  // Nobody else may go meanwhile, and everybody can see why.
  await cupboard.api("/nodes/n3/reboot", { why: "just so" });
  const why = (await cupboard.api("/nodes/n3/why")) as { headline: string; denials: { code: string; text: string }[] };
  expect(why.denials[0]?.code).toBe("quorum");
  expect(why.headline).toContain("n2");

  await lab.reboot("n2");
  await until("n2 to be drained again", serves, (state) => state === "inactive");
  await until("n2 to be heard of", cluster.summary, ({ leases }) => leases.some(({ node, phase, stuck }) => node === "n2" && phase === "confirmed" && stuck === null));
  await cupboard.api("/nodes/n2/resume", {});
  // Then it is the other's turn, by itself.
  await until("n3 to have rebooted", cluster.summary, ({ leases, requests }) => leases.length === 0 && requests.length === 0, 120_000);
  expect(await serves()).toBe("active");
  expect(watcher.worst.length, `away at once: ${watcher.worst.join(", ")}`).toBeLessThanOrEqual(1);
  await cluster.isQuiet();
});

test("a hold keeps everything as it is, until it is lifted", async () => {
  const { lab, cupboard } = cluster;
  const boot = await lab.bootId("n1");
  await cupboard.api("/holds", { why: "visitors" });
  await cupboard.api("/nodes/n1/reboot", { why: "new kernel" });
  const why = (await cupboard.api("/nodes/n1/why")) as { denials: { code: string; text: string }[] };
  expect(why.denials.map(({ code }) => code)).toContain("hold");
  expect(why.denials.find(({ code }) => code === "hold")?.text).toContain("visitors");
  expect(await lab.bootId("n1")).toBe(boot);
  await cupboard.evenkeel("unhold");
  await until("n1 to have rebooted", cluster.summary, ({ leases, requests }) => leases.length === 0 && requests.length === 0, 120_000);
  expect(await lab.bootId("n1")).not.toBe(boot);
  await cluster.isQuiet();
});

test("a node's own gate keeps it from going, however old what the hub knows of it; a person's word goes in spite of it", async () => {
  const { lab, cupboard } = cluster;
  const why = async () => JSON.stringify(await cupboard.api("/nodes/n1/why"));
  const boot = await lab.bootId("n1");
  await lab.shell("n1", "echo 3 disks are rebuilding > /run/even-disks-rebuild");
  // The hub has not heard of it yet, and the node says no by itself.
  await cupboard.api("/nodes/n1/reboot", { why: "new kernel" });
  await until("n1 to say no", why, (text) => text.includes("nothing was drained: the gate disks says no: 3 disks are rebuilding"));
  await until("the hub to know", why, (text) => text.includes("n1 must not go now: the gate disks says no: 3 disks are rebuilding"));
  expect((await cluster.summary()).gates.map(({ node }) => node)).toEqual(["n1"]);
  expect(JSON.stringify(await cupboard.api("/nodes/n2/why"))).toContain("it could go now");
  await cupboard.api("/nodes/n1/reboot", { why: "new kernel", despiteChecks: true });
  await until("n1 to have rebooted", async () => ({ ...(await cluster.summary()), boot: await lab.bootId("n1").catch(() => boot) }), (seen) => seen.leases.length === 0 && seen.requests.length === 0 && seen.boot !== boot, 120_000);
  await cluster.isQuiet();
});

test("a node that has rebooted, and still needs a reboot, halts the rollout", async () => {
  const { lab, cupboard } = cluster;
  await lab.shell("n1", "echo 'f /run/reboot-required' > /etc/tmpfiles.d/even.conf");
  await cupboard.api("/rollouts", { kind: "reboot" });
  const { halt, nodes } = await cluster.reaches("halted");
  expect(halt?.why).toMatch(/^n1 failed: it has rebooted, and still needs a reboot: .*reboot-required/);
  expect(nodes.map(({ state }) => state)).toEqual(["failed", "waiting", "waiting"]);
  await lab.shell("n1", "rm /etc/tmpfiles.d/even.conf /run/reboot-required");
});
