import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { LeaseView } from "../../shared/protocol/rollout.ts";
import { until } from "./real-cupboard.ts";
import { openRolling, type RollingCluster } from "./rolling-cluster.ts";

/** What can go wrong while a node is on its way, each on real machines: and never are two of three down by order. */

let cluster: RollingCluster;

beforeAll(async () => {
  cluster = await openRolling("faults");
  cluster.watcher.start();
});

afterAll(async () => cluster?.close());

beforeEach(async () => cluster.isQuiet());

afterEach(() => {
  const { watcher } = cluster;
  expect(watcher.worst.length, `away at once: ${watcher.worst.join(", ")}`).toBeLessThanOrEqual(1);
  watcher.excused.clear();
});

const leaseOf = async (node: string): Promise<LeaseView | undefined> => (await cluster.summary()).leases.find((lease) => lease.node === node);
const inPhase = (node: string, ...phases: LeaseView["phase"][]): Promise<unknown> => until(`${node} to be ${phases.join(" or ")}`, () => leaseOf(node).catch(() => undefined), (lease) => lease !== undefined && phases.includes(lease.phase));
const askReboot = async (node: string): Promise<string> => {
  const boot = await cluster.lab.bootId(node);
  await cluster.cupboard.api(`/nodes/${node}/reboot`, { why: "a test" });
  return boot;
};

describe("the hub is killed and comes back", () => {
  test.each(["draining", "drained", "confirmed", "checking", "soaking"] as const)("while a node is %s", async (phase) => {
    const { home, lab } = cluster;
    const boot = await askReboot("n2");
    // Phases pass quickly: this one or a later one.
    const order = ["draining", "drained", "confirmed", "checking", "soaking"] as const;
    await inPhase("n2", ...order.slice(order.indexOf(phase)));
    await home.kill();
    await home.start();
    await cluster.isQuiet();
    expect(await lab.bootId("n2"), "it has rebooted, or was put back and is well").toBeTypeOf("string");
    const { requests } = await cluster.summary();
    expect(requests).toEqual([]);
    if (phase !== "draining" && phase !== "drained") expect(await lab.bootId("n2")).not.toBe(boot);
  });
});

describe("the agent is killed", () => {
  test.each(["draining", "confirmed", "checking"] as const)("while its node is %s", async (phase) => {
    const { lab } = cluster;
    const boot = await askReboot("n3");
    await inPhase("n3", phase, "soaking");
    await lab.shell("n3", "systemctl kill --signal=SIGKILL evenkeel-agent").catch(() => {});
    await until("n3 to have rebooted", async () => lab.bootId("n3").catch(() => boot), (now) => now !== boot);
    await cluster.isQuiet();
    expect((await lab.shell("n3", "systemctl is-active even-web.service")).stdout.trim()).toBe("active");
  });
});

test("another node dies while one drains: the drain is undone, and nobody goes until it is back", async () => {
  const { lab, watcher } = cluster;
  await lab.writeFile("n1", "/etc/systemd/system/even-web.service.d/slow.conf", "[Service]\nExecStop=/bin/sleep 4\n");
  await lab.shell("n1", "systemctl daemon-reload");
  const boot = await askReboot("n1");
  await inPhase("n1", "draining");
  watcher.excused.add("n2");
  await lab.crash("n2");
  await until("n1 to be put back", () => leaseOf("n1"), (lease) => lease === undefined, 90_000);
  expect(await lab.bootId("n1")).toBe(boot);
  expect((await lab.shell("n1", "systemctl is-active even-web.service")).stdout.trim()).toBe("active");
  await lab.start("n2");
  await lab.waitUp("n2");
  await lab.shell("n1", "rm -r /etc/systemd/system/even-web.service.d && systemctl daemon-reload");
});

test("a node that does not return keeps its slot, the rollout halts, and its return sets it free", async () => {
  const { lab, cupboard, watcher } = cluster;
  // It goes down, and stays there.
  await lab.writeFile("n1", "/etc/systemd/system/stay-down.service", "[Unit]\nDefaultDependencies=no\nBefore=reboot.target\n[Service]\nType=oneshot\nExecStart=/bin/systemctl --force --force poweroff\n[Install]\nWantedBy=reboot.target\n");
  await lab.shell("n1", "systemctl daemon-reload && systemctl enable -q stay-down.service");
  await cupboard.api("/rollouts", { kind: "reboot" });
  await inPhase("n1", "confirmed");
  watcher.excused.add("n1");
  await until("n1 to be gone", async () => (await lab.status()).find(({ name }) => name === "n1")?.state, (state) => state === "stopped", 60_000);
  const why = (await cupboard.api("/nodes/n2/why")) as { denials: { code: string; text: string }[] };
  expect(why.denials.map(({ text }) => text).join("\n")).toContain("n1");
  // Its slot cannot be had by anybody, and a person who clears it takes nothing away: the node is still away.
  const asked = await cupboard.tryApi("/leases", { id: "script-1", node: "n3", why: "a backup" });
  expect(asked.status).toBe(409);
  await lab.start("n1");
  await lab.waitUp("n1");
  await lab.shell("n1", "systemctl disable -q stay-down.service && rm /etc/systemd/system/stay-down.service");
  watcher.excused.clear();
  await cluster.reaches("done");
});

test("the network between hub and node is torn right after the grant, and healed: nothing is forgotten, nothing goes twice", async () => {
  const { lab, watcher } = cluster;
  const boot = await askReboot("n2");
  await inPhase("n2", "draining", "drained", "confirmed");
  watcher.excused.add("n2");
  await lab.isolate("n2");
  await until("the hub to have noticed", cluster.summary, ({ groups }) => groups.some(({ down }) => down.some(({ node }) => node === "n2")));
  const asked = await cluster.cupboard.tryApi("/leases", { id: "script-2", node: "n3", why: "a backup" });
  expect(asked.status).toBe(409);
  await lab.rejoin("n2");
  await cluster.isQuiet();
  watcher.excused.clear();
  const { requests } = await cluster.summary();
  expect(requests).toEqual([]);
  expect(boot).toBeTypeOf("string");
});

test.each(["freeze", "unplug"] as const)("the node is hit by %s while it is on its way", async (fault) => {
  const { lab, watcher } = cluster;
  await askReboot("n3");
  await inPhase("n3", "draining", "drained", "confirmed");
  watcher.excused.add("n3");
  if (fault === "freeze") await lab.freeze("n3");
  else await lab.unplug("n3");
  await until("the hub to have noticed", cluster.summary, ({ leases }) => leases.some(({ node }) => node === "n3"));
  if (fault === "freeze") await lab.thaw("n3");
  else await lab.plug("n3");
  await cluster.isQuiet();
});
