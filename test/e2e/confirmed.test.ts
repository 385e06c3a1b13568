import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import type { Plugin } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleAgent, root } from "../../image/bundle.ts";
import type { NodeDetail } from "../../shared/protocol/api.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";
import { until } from "./real-cupboard.ts";

/**
 * Changes of the network that cut a real node off, pushed to a real hub: each comes back by itself, whatever becomes of the
 * agent and of the node meanwhile, and the rest of the commit stays. The agent is the real one, but for confirmed-files.ts.
 */

const NETWORK = "/etc/systemd/network/05-host0.network";
const LIMIT_SECONDS = 10;
const DROP_IN = "/run/systemd/system/evenkeel-agent.service.d";
const name = "confirm";
const directory = join(root, ".lab", `${name}-cupboard`);
const bundle = join(root, ".lab", `${name}-bundle`);
const lab = new Lab({ name, nodes: ["n1", "n2", "n3"], flavour: "cluster", binds: [{ from: bundle, to: "/usr/lib/evenkeel" }], downOnExit: true });
const cupboard = new Cupboard({ directory, lab, example: join(import.meta.dirname, "cluster") });
type Files = Readonly<Record<string, string>>;

beforeAll(async () => {
  await mkdir(bundle, { recursive: true });
  await bundleAgent(bundle);
  await buildAgent();
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  for (const node of lab.nodes) await sh(node, "printf 'flush ruleset\\n' > /etc/nftables.conf; systemctl enable -q --now nftables");
  await cupboard.start();
  await cupboard.pushExample();
  for (const node of lab.nodes) await cupboard.enrol(node);
  await push("first", {});
  for (const node of lab.nodes) await converged(node, "first");
}, 300_000);

afterAll(async () => {
  await lab.wipe();
  await cupboard.stop();
  for (const path of [directory, bundle]) await rm(path, { recursive: true, force: true });
});

/** What ships, with one module exchanged. */
async function buildAgent(): Promise<void> {
  const exchange: Plugin = { name: "exchange", setup: (made) => made.onResolve({ filter: /^\.\/files\.ts$/ }, ({ importer }) => (importer.endsWith("/shared/kinds/index.ts") ? { path: join(import.meta.dirname, "confirmed-files.ts") } : undefined)) };
  await build({ entryPoints: [join(root, "agent", "main.ts")], outfile: join(bundle, "agent.cjs"), bundle: true, platform: "node", target: "node26", format: "cjs", define: { "import.meta.dirname": "__dirname" }, plugins: [exchange], logLevel: "warning" });
}

const sh = async (node: string, script: string): Promise<string> => {
  const outcome = await lab.shell(node, script, { timeoutMs: 60_000 });
  expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout;
};
const is = (node: string, path: string) => lab.exec(node, ["test", "-e", path]).then(({ code }) => code === 0);
const addresses = (node: string) => sh(node, "ip -4 -br address show host0");
const seen = (node: string, what: string, right: (one: NodeDetail) => boolean) => until(`${node}: ${what}`, () => cupboard.node(node), right, 120_000);
/** The network's file is written, and nobody knows yet what comes of it. */
const inTheMiddle = (node: string, commit: string, path = NETWORK) =>
  until(`${node}: the change is under way`, async () => `${await sh(node, "cat /var/lib/evenkeel/confirm.json || true")} ${await is(node, path)}`, (text) => text.includes('"state":"armed"') && text.includes(commit) && text.endsWith(" true"));

/** Every node gets what is for it, and something harmless beside it, whose text tells which commit it is. */
async function push(text: string, network: Readonly<Record<string, Files>>): Promise<string> {
  const cluster = await readFile(join(cupboard.clone, "cluster.yaml"), "utf8");
  const files = lab.nodes.map((node) => {
    const content = Object.entries({ "/etc/beside": text, ...network[node] }).map(([path, each]) => [path, { content: each }]);
    return [`nodes/${node}.yaml`, JSON.stringify({ address: lab.address(node), files: Object.fromEntries(content) })] as const;
  });
  return cupboard.push({ "cluster.yaml": cluster.includes("guard:") ? cluster : `${cluster}guard: {confirmSeconds: ${LIMIT_SECONDS}}\n`, ...Object.fromEntries(files) }, text);
}

async function converged(node: string, text: string): Promise<void> {
  await until(`${node} has "${text}"`, () => sh(node, "cat /etc/beside || true"), (found) => found === text, 120_000);
  const head = (await cupboard.git("rev-parse", "HEAD")).trim();
  await seen(node, `holds "${text}"`, ({ condition, converge }) => condition === "converged" && converge?.commit === head);
}

/** It is back, it says why, and nothing else of the commit was held up. */
async function cameBack(node: string, commit: string, text: string, why: RegExp, before: Files = {}): Promise<void> {
  const { condition, converge } = await seen(node, "the hub hears that it was put back", (one) => one.converge?.commit === commit && JSON.stringify(one.converge.problems).includes("unconfirmed"));
  expect(converge?.problems.find(({ code }) => code === "unconfirmed")?.message).toMatch(why);
  expect(condition).toBe("failing");
  expect(await sh(node, "cat /etc/beside")).toBe(text);
  expect(await sh(node, `cat ${NETWORK} 2>/dev/null || true`)).toBe(before[NETWORK] ?? "");
  expect(await addresses(node)).toContain(`${lab.address(node)}/24`);
  expect(await sh(node, "ip -4 route show default")).toContain(lab.hostAddress);
  expect(await is(node, "/etc/systemd/system/evenkeel-putback.service")).toBe(false);
}

/** From the lit fuse to the network as it was, by the node's own monotonic clock. */
async function measure(node: string, what: string): Promise<void> {
  const lines = (await sh(node, "journalctl -b -o json --no-pager -q")).trim().split("\n").map((line) => JSON.parse(line) as { MESSAGE: unknown; __MONOTONIC_TIMESTAMP: string });
  const at = (text: RegExp) => Number(lines.findLast(({ MESSAGE }) => typeof MESSAGE === "string" && text.test(MESSAGE))?.__MONOTONIC_TIMESTAMP ?? Number.NaN) / 1e6;
  console.log(`${what}: back ${(at(/^the network is as it was$/) - at(/^the network is about to be changed/)).toFixed(2)} s after it was armed, with a limit of ${LIMIT_SECONDS} s`);
}

const networkFile = (own: string, gateway: string, more = ""): Files => ({ [NETWORK]: `[Match]\nName=host0\n[Network]\nAddress=${own}/24\nGateway=${gateway}\nLinkLocalAddressing=no\n${more}` });
const wrongAddress = networkFile("198.51.100.7", "198.51.100.1");
const wrongGateway = (node: string) => networkFile(lab.address(node), lab.hostAddress.replace(/\.1$/, ".99"));
const goodChange = (node: string) => networkFile(lab.address(node), lab.hostAddress, "Address=192.0.2.7/32\n");
/** The hub's doors are shut, and everything else is open. */
const firewall: Files = { "/etc/nftables.conf": "flush ruleset\ntable inet filter {\n  chain output {\n    type filter hook output priority 0; policy accept;\n    ct state established,related accept\n    tcp dport { 7443, 8883 } drop\n  }\n}\n" };

test("one commit, three nodes: a wrong address and a wrong gateway come back by themselves, and a good change is confirmed and stays", async () => {
  const commit = await push("one", { n1: wrongAddress, n2: wrongGateway("n2"), n3: goodChange("n3") });
  await Promise.all([
    converged("n3", "one"),
    cameBack("n1", commit, "one", /the new gateway 198.51.100.1 on host0 does not answer; the hub cannot be reached any more/),
    cameBack("n2", commit, "one", /the new gateway .*\.99 on host0 does not answer/),
  ]);
  await measure("n1", "a wrong address");
  await measure("n2", "a wrong gateway");
  expect(await addresses("n3")).toContain("192.0.2.7/32");
  expect(await is("n3", "/var/lib/evenkeel/confirm.json")).toBe(false);
  expect(await sh("n3", "systemctl list-timers --all --no-legend 'evenkeel-putback*'")).toBe("");
});

test("a firewall that shuts out the hub, an agent that is killed and does not come again, a node that loses its power", async () => {
  const commit = await push("two", { n1: firewall, n2: wrongAddress, n3: wrongAddress });
  const killed = async () => {
    await inTheMiddle("n2", commit);
    await sh("n2", `mkdir -p ${DROP_IN}; printf '[Service]\\nRestart=no\\n' > ${DROP_IN}/dead.conf; systemctl daemon-reload; systemctl kill -s KILL evenkeel-agent`);
    await until("the timer has put it back", () => sh("n2", "cat /var/lib/evenkeel/confirm.json"), (text) => text.includes('"state":"back"'));
    await measure("n2", "an agent that was killed");
    await sh("n2", `rm -r ${DROP_IN}; systemctl daemon-reload; systemctl start evenkeel-agent`);
    await cameBack("n2", commit, "two", /it was not confirmed within \d+ s: /);
  };
  const crashed = async () => {
    await inTheMiddle("n3", commit);
    await lab.crash("n3");
    await lab.start("n3");
    await cameBack("n3", commit, "two", /the node went down before it was confirmed/, goodChange("n3"));
    const boot = await sh("n3", "journalctl -b -q --no-pager -o cat");
    expect(boot).toContain("putting back the files of a change of the network");
    expect(boot.indexOf("putting back the files"), "before anything reads them").toBeLessThan(boot.indexOf("host0: Link UP"));
  };
  await Promise.all([cameBack("n1", commit, "two", /the hub cannot be reached any more/), killed(), crashed()]);
  await measure("n1", "a firewall");
  expect(await sh("n1", "nft list ruleset; cat /etc/nftables.conf")).toBe("flush ruleset\n");
});

test("what was put back is not tried again by itself, and another commit goes on from there", async () => {
  const begun = async () => (await sh("n1", "journalctl -q --no-pager -u evenkeel-agent -o cat | grep -c '^the network is about to be changed'")).trim();
  const before = await begun();
  expect((await lab.exec("n1", ["evenkeel-agent", "apply"], { timeoutMs: 60_000 })).stdout).toContain("not tried again on this node");
  expect(await begun()).toBe(before);
  await push("three", { n1: goodChange("n1"), n2: goodChange("n2"), n3: goodChange("n3") });
  await Promise.all(lab.nodes.map((node) => converged(node, "three")));
  for (const node of lab.nodes) expect(await addresses(node)).toContain("192.0.2.7/32");
});

test("an agent that is killed and started again puts it back first of all", async () => {
  const commit = await push("four", { n1: { ...goodChange("n1"), ...firewall }, n2: goodChange("n2"), n3: goodChange("n3") });
  await until("the rules are loaded", () => sh("n1", "nft list ruleset"), (rules) => rules.includes("7443"));
  await sh("n1", "systemctl kill -s KILL evenkeel-agent");
  const { converge } = await seen("n1", "the hub hears of it", (one) => one.converge?.commit === commit && JSON.stringify(one.converge.problems).includes("unconfirmed"));
  expect(JSON.stringify(converge?.problems)).toContain("the agent ended before it was confirmed");
  expect(await sh("n1", "nft list ruleset; cat /etc/nftables.conf")).toBe("flush ruleset\n");
});
