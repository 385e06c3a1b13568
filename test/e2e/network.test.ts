import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleAgent, root } from "../../image/bundle.ts";
import type { NodeDetail } from "../../shared/protocol/api.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";
import { until } from "./real-cupboard.ts";

/**
 * The network and the firewall of real nodes, by pushes to a real hub: systemd-networkd and nftables take what the
 * sections say, drift is repaired, a reboot keeps it, what would cut a node off comes back by itself, and all of it goes again.
 */

const name = "net";
/** What is to be confirmed gets what a busy machine may need; what is to come back does not have to wait for that. */
const PATIENT_SECONDS = 60;
const HASTY_SECONDS = 10;
const directory = join(root, ".lab", `${name}-cupboard`);
const bundle = join(root, ".lab", `${name}-bundle`);
const lab = new Lab({ name, nodes: ["n1", "n2", "n3"], flavour: "cluster", binds: [{ from: bundle, to: "/usr/lib/evenkeel" }], downOnExit: true });
const cupboard = new Cupboard({ directory, lab, example: join(import.meta.dirname, "cluster") });
type Sections = Readonly<Record<string, unknown>>;
const HOST0 = "/etc/systemd/network/10-host0.network";

beforeAll(async () => {
  await mkdir(bundle, { recursive: true });
  await bundleAgent(bundle);
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  // Something to talk to, on three ports; and a table of somebody else's.
  for (const node of lab.nodes) {
    await lab.writeFile(node, "/etc/systemd/system/talk.service", `[Service]\nExecStart=/usr/lib/evenkeel/node -e "for (const port of [8080, 9090, 9999]) require('node:net').createServer((socket) => socket.end('here')).listen(port, '0.0.0.0')"\n[Install]\nWantedBy=multi-user.target\n`);
    await sh(node, "systemctl enable -q --now talk; nft add table inet foreign");
  }
  await cupboard.start();
  await cupboard.pushExample();
  for (const node of lab.nodes) await cupboard.enrol(node);
}, 300_000);

afterAll(async () => {
  await lab.wipe();
  await cupboard.stop();
  for (const path of [directory, bundle]) await rm(path, { recursive: true, force: true });
});

const sh = async (node: string, script: string): Promise<string> => {
  const outcome = await lab.shell(node, script, { timeoutMs: 60_000 });
  expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};
const seen = (node: string, what: string, right: (one: NodeDetail) => boolean) => until(`${node}: ${what}`, () => cupboard.node(node), right, 120_000);

/** @param confirmSeconds how long a change of the network may take to be confirmed. */
async function push(sections: Readonly<Record<string, Sections>>, text: string, confirmSeconds = PATIENT_SECONDS): Promise<string> {
  const cluster = await readFile(join(cupboard.clone, "cluster.yaml"), "utf8");
  const files = lab.nodes.map((node) => [`nodes/${node}.yaml`, JSON.stringify({ address: lab.address(node), files: { "/etc/beside": text }, ...sections[node] })] as const);
  return cupboard.push({ "cluster.yaml": `${cluster.replace(/^guard: .*\n/m, "")}guard: {confirmSeconds: ${confirmSeconds}}\n`, ...Object.fromEntries(files) }, `${text}\n\nEvenkeel-Allow-Removals: 40`);
}

async function converged(node: string, commit: string): Promise<void> {
  await seen(node, `becomes ${commit.slice(0, 8)}`, ({ condition, converge }) => condition === "converged" && converge?.commit === commit);
  expect(JSON.parse(await sh(node, "evenkeel-agent plan --json")).changes, `${node}: a plan right after is empty`).toEqual([]);
}

async function failing(node: string, commit: string): Promise<string> {
  const { converge } = await seen(node, `fails at ${commit.slice(0, 8)}`, ({ condition, converge: report }) => condition === "failing" && report?.commit === commit);
  return (converge?.failing ?? []).map(({ resource, error }) => `${resource}: ${error}`).join("\n");
}

/** Whether a new connection from one node to a port of the other is answered. */
const answers = (from: string, to: string, port: number) => lab.exec(from, ["timeout", "1", "bash", "-c", `read -r line < /dev/tcp/${lab.address(to)}/${port} || [ -n "$line" ]`]).then(({ code }) => code === 0);

const host0 = (node: string, more: object = {}): Sections => ({ host0: { addresses: [`${lab.address(node)}/24`], gateway4: lab.hostAddress, linkLocal: false, acceptRa: false, ...more } });
const bridge = { br0: { addresses: ["10.9.0.1/24", "fd09::1/64"], mtu: 1400, members: ["vx0"], routes: [{ to: "10.99.0.0/16", via: "10.9.0.254" }] } };
const networkOf = (node: string, more: Sections = {}, interfaces: Sections = host0(node)): Sections => ({ interfaces, replaces: [HOST0], bridges: bridge, vxlans: { vx0: { id: 7, nodes: true, mtu: 1400 } }, ...more });
const otherNetwork = (node: string, interfaces: Sections = host0(node)): Sections => ({ ...networkOf(node, {}, interfaces), bridges: { br0: { ...bridge.br0, addresses: [`10.9.0.${node.slice(1)}/24`], routes: [] } } });
const wall = (more: object = {}): Sections => ({ policy: "drop", rules: { talk: { protocol: "tcp", ports: [8080] }, inside: { protocol: "tcp", ports: [9090], from: ["nodes"] } }, ...more });
const good = () => ({ n1: { network: networkOf("n1"), firewall: wall() }, n2: { network: otherNetwork("n2"), firewall: wall() }, n3: { network: otherNetwork("n3") } });

test("an interface is taken over without losing it, a bridge and a tunnel come up; an interface that does not exist and rules that nft does not take are named, and nothing else is held up", async () => {
  const n2 = { network: otherNetwork("n2", { ...host0("n2"), eth9: { addresses: ["10.3.3.3/24"] } }), firewall: wall({ raw: "chain bad {\n  type filter hook nowhere priority 0;\n}\n" }) };
  const commit = await push({ ...good(), n2 }, "one");
  await Promise.all(["n1", "n3"].map((node) => converged(node, commit)));
  const failure = await failing("n2", commit);
  expect(failure).toContain("network/eth9: there is no interface eth9 on this node: it has host0");
  expect(failure).toMatch(/^firewall\/check: [^]*unknown chain hook/m);
  expect(failure).not.toMatch(/^(files|network\/(?!eth9))/m);
  expect(await sh("n2", "nft list tables; ls /etc/nftables.d 2>/dev/null || true"), "nothing of them went live").toBe("table inet foreign");
  expect(await sh("n1", "ip -br address show host0; cat /sys/class/net/br0/mtu; ip route show 10.99.0.0/16")).toMatch(new RegExp(`^host0\\S* +UP +${lab.address("n1")}/24 *\n1400\n10.99.0.0/16 via 10.9.0.254 dev br0`));
  expect(await sh("n1", `ls ${HOST0} 2>/dev/null || echo gone`)).toBe("gone");
  for (const other of ["10.9.0.2", "10.9.0.3"]) await until("the tunnel carries packets", () => lab.exec("n1", ["ping", "-c", "1", "-W", "1", other]), ({ code }) => code === 0, 30_000);
});

test("the firewall lets in what is named, and keeps out the rest; tables of others are left alone", async () => {
  expect(await Promise.all([8080, 9090, 9999].map((port) => answers("n2", "n1", port)))).toEqual([true, true, false]);
  expect(await sh("n1", "nft list tables")).toContain("table inet foreign");
});

test("what others add is left alone, and what they take away is put back", async () => {
  await sh("n1", "ip address add 10.77.99.99/32 dev host0; ip address delete 10.9.0.1/24 dev br0; ip link set br0 mtu 1500; rm /etc/systemd/network/60-evenkeel-vx0.network; nft delete chain inet evenkeel forward");
  await sh("n1", "evenkeel-agent apply");
  expect(JSON.parse(await sh("n1", "evenkeel-agent plan --json")).changes).toEqual([]);
  expect(await sh("n1", "ip -br -4 address show br0; cat /sys/class/net/br0/mtu; nft list chain inet evenkeel forward")).toMatch(/10\.9\.0\.1\/24[^]*1400[^]*policy accept/);
  expect(await sh("n1", "ip -br address show host0"), "as keepalived has one").toContain("10.77.99.99/32");
});

test("a reboot keeps it, also before the agent runs", async () => {
  await sh("n1", "systemctl disable -q evenkeel-agent");
  await lab.reboot("n1");
  expect(await sh("n1", "systemctl is-active evenkeel-firewall; nft list table inet evenkeel | grep -c talk")).toBe("active\n1");
  await until("its addresses", () => sh("n1", "ip -br -4 address"), (text) => text.includes("10.9.0.1/24") && text.includes(`${lab.address("n1")}/24`), 30_000);
  expect(await answers("n2", "n1", 9999)).toBe(false);
  await sh("n1", "systemctl enable -q --now evenkeel-agent; nft add table inet foreign");
  await until("a plan is empty again", () => sh("n1", "evenkeel-agent plan --json"), (text) => JSON.parse(text).changes.length === 0);
});

/** The node is as it was, and says why. */
async function cameBack(node: string, commit: string, why: RegExp): Promise<void> {
  const { converge } = await seen(node, "the hub hears that it was put back", (one) => one.converge?.commit === commit && JSON.stringify(one.converge.problems).includes("unconfirmed"));
  expect(converge?.problems.find(({ code }) => code === "unconfirmed")?.message).toMatch(why);
  await until(`${node} is as it was`, () => sh(node, "ip -br -4 address show host0; ip route show default; ls /sys/class/net; cat /sys/class/net/host0/master/uevent 2>/dev/null || true"), (text) => text.includes(`${lab.address(node)}/24`) && text.includes(lab.hostAddress) && !/198\.51|br1|bond0|\.99\b/.test(text) && !text.includes("INTERFACE="), 20_000);
}

test("a wrong address, a wrong gateway, and a bond that does not come about come back by themselves", async () => {
  const bond = { bond0: { members: ["host0"], addresses: [`${lab.address("n3")}/24`], gateway4: lab.hostAddress } };
  const commit = await push(
    {
      n1: { network: networkOf("n1", {}, host0("n1", { addresses: ["198.51.100.7/24"], gateway4: "198.51.100.1" })), firewall: wall() },
      n2: { network: otherNetwork("n2", host0("n2", { gateway4: lab.hostAddress.replace(/\.1$/, ".99") })) },
      // The lab's kernel knows no bonds; one that does would have a bond of one member, and a switch to match.
      n3: { network: { ...otherNetwork("n3", {}), bonds: bond } },
    },
    "two",
    HASTY_SECONDS,
  );
  await Promise.all([cameBack("n1", commit, /hub cannot be reached|does not answer|default route|was not confirmed/), cameBack("n2", commit, /does not answer|was not confirmed/), cameBack("n3", commit, /bond0|was not confirmed/)]);
});

test("a bridge without members, and a firewall that shuts out the hub, come back by themselves", async () => {
  const empty = { br1: { addresses: [`${lab.address("n1")}/24`], gateway4: lab.hostAddress } };
  const shut = wall({ raw: "chain out {\n  type filter hook output priority 0; policy drop;\n  ct state established accept\n}\n" });
  const commit = await push({ n1: { network: networkOf("n1", { bridges: { ...bridge, ...empty } }, { host0: { linkLocal: false, acceptRa: false } }), firewall: wall() }, n2: { network: otherNetwork("n2"), firewall: shut }, n3: good().n3 }, "three", HASTY_SECONDS);
  await Promise.all([cameBack("n1", commit, /hub cannot be reached|does not answer|default route|br1|was not confirmed/), cameBack("n2", commit, /hub cannot be reached|does not answer|was not confirmed/), converged("n3", commit)]);
  expect(await sh("n2", "nft list tables")).not.toContain("evenkeel");
});

test("all of it goes again: what stood there before comes back, and tables of others stay", async () => {
  const commit = await push({}, "four");
  await Promise.all(lab.nodes.map((node) => converged(node, commit)));
  expect(await sh("n1", "ip -br address; nft list tables; ls /etc/systemd/network /etc/nftables.d /usr/local/lib/evenkeel /etc/systemd/networkd.conf.d")).not.toMatch(/br0|vx0|evenkeel[.-]|60-/);
  expect(await sh("n1", `cat ${HOST0}; ip route show default; nft list tables`)).toMatch(/Name=host0[^]*default via[^]*inet foreign/);
  expect(await answers("n2", "n1", 9999)).toBe(true);
});
