import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleAgent, root } from "../../image/bundle.ts";
import { CoordinationSummary } from "../../shared/protocol/rollout.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";
import { enrolAll, pushWholeExample, stockExample } from "../lab/whole-example.ts";
import { Caller } from "./caller.ts";
import { until } from "./real-cupboard.ts";

/** What `npm start` shows: git-config/ as it is, on three real nodes, and an update through it that nobody notices. */

const directory = join(root, ".lab", "show-cupboard");
const lab = new Lab({ name: "show", flavour: "cluster", binds: [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }], downOnExit: true });
const cupboard = new Cupboard({ directory, lab, demo: true });
const nodes = lab.nodes;
let shop = "";

beforeAll(async () => {
  await bundleAgent();
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  await stockExample(lab);
  await cupboard.start();
  await pushWholeExample(lab, cupboard);
  await enrolAll(lab, cupboard);
  shop = `http://${lab.hostAddress.replace(/\d+$/, "100")}/`;
});

afterAll(async () => {
  await lab.wipe();
  await cupboard.stop();
  await rm(directory, { recursive: true, force: true });
});

const sh = async (node: string, script: string): Promise<string> => {
  const outcome = await lab.shell(node, script, { timeoutMs: 60_000 });
  expect(outcome.code, `${node}: ${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};
const summary = async (): Promise<CoordinationSummary> => CoordinationSummary.parse(await cupboard.api("/coordination"));
const c1 = async (from: string): Promise<{ location: string; status: string }> => JSON.parse(await sh(from, "lxc query /1.0/instances/c1")) as { location: string; status: string };

test("three nodes become the example: an address that moves, a balancer, routes, and a container", async () => {
  await cupboard.waitConverged(() => {}, 180_000);
  const served = new Set<string>();
  for (let count = 0; count < 9; count++) served.add(/This is <strong>(\w+)</.exec(await (await fetch(shop)).text())?.[1] ?? "nobody");
  expect([...served].toSorted()).toEqual([...nodes]);
  await until("n1 to know the others' networks", () => sh("n1", "ip route show proto bgp"), (routes) => routes.includes(`10.78.2.0/24 nhid`) && routes.includes("10.78.3.0/24 nhid"));
  expect(await c1("n3")).toMatchObject({ location: "n1", status: "Running" });
});

test("a second look finds nothing to do, with one process for all units and one each for what only its own tool can tell", async () => {
  for (const node of nodes) {
    const report = JSON.parse(await sh(node, "evenkeel-agent apply --json")) as { outcome: string; changes: unknown[]; processes: number };
    expect(report).toMatchObject({ outcome: "converged", changes: [] });
    expect(report.processes).toBeLessThanOrEqual(4);
  }
});

test("an update with reboots rolls through it, the container moves out of its way, and of 100 requests a second not one is lost", { timeout: 900_000 }, async () => {
  await until("everything to be well", summary, ({ leases, groups, gates }) => leases.length === 0 && gates.length === 0 && groups.length > 0 && groups.every(({ down }) => down.length === 0), 120_000);
  // LXD may have taken the container back, and not started it yet, as its node looks.
  const beingMoved = ["lxd/instances/c1"];
  const repairs = async () => (await Promise.all(nodes.map(async (node) => (await cupboard.node(node)).converges.flatMap(({ report: { cause, startedAt, changes } }) => (cause === "drift" ? changes.filter(({ resource }) => !beingMoved.includes(resource)).map(({ resource, action, why }) => `${node} ${startedAt} ${resource}: ${action}, ${why}`) : []))))).flat();
  const before = await repairs();
  const boots = await Promise.all(nodes.map((node) => lab.bootId(node)));
  await lab.publish("even-tool", "2.0", { reboot: true });
  const caller = new Caller(shop, 100);
  await cupboard.api("/rollouts", { kind: "update" });
  const seen = new Set<string>();
  const ended = await until(
    "the rollout to be over",
    async () => {
      const { rollout } = await summary();
      if (rollout?.nodes.some(({ node, state }) => node === "n1" && state === "working") === true) seen.add((await c1("n2")).location);
      return rollout;
    },
    (rollout) => rollout?.phase === "done" || rollout?.phase === "halted",
    600_000,
  );
  await caller.stop();
  for (const each of ended?.nodes ?? []) console.log(each.node, each.state, each.timeline.map(({ phase, at }) => `${phase} ${at.slice(14, 19)}`).join(" "));
  expect(ended).toMatchObject({ phase: "done", halt: null, nodes: [{ state: "done" }, { state: "done" }, { state: "done" }] });
  expect((await Promise.all(nodes.map((node) => lab.bootId(node)))).filter((boot) => boots.includes(boot))).toEqual([]);
  expect(await Promise.all(nodes.map((node) => sh(node, "dpkg-query -W -f '${Version}' even-tool")))).toEqual(["2.0", "2.0", "2.0"]);
  expect(await repairs(), "what a reboot leaves behind is no drift").toEqual(before);
  expect(seen.has("n1")).toBe(false);
  expect(await c1("n2")).toMatchObject({ location: "n1", status: "Running" });
  console.log(`${caller.answered} requests while three nodes rebooted, ${caller.missed.length} lost`);
  expect(caller.missed).toEqual([]);
});
