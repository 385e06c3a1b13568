import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleAgent, root } from "../../image/bundle.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { HubProcess } from "../lab/hub-process.ts";
import { Lab } from "../lab/lab.ts";
import { Caller } from "./caller.ts";
import { until } from "./real-cupboard.ts";

/** Real keepalived on three nodes, driven by pushes, and handed over by real leases while somebody calls the address. */

const NAME = "route-vip";
const NODES = ["n1", "n2", "n3"];
const PORT = 8080;
const CONF = "/etc/keepalived/keepalived.conf";

const directory = join(root, ".lab", `${NAME}-cupboard`);
const lab = new Lab({ name: NAME, nodes: NODES, flavour: "cluster", binds: [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }], downOnExit: true });
let cupboard: Cupboard;
let example = "";
let vip = "";

const web = `[Unit]
Description=What users call
[Service]
ExecStart=/usr/lib/evenkeel/node -e "require('node:http').createServer((_, answer) => answer.end(require('node:os').hostname())).listen(${PORT})"
[Install]
WantedBy=multi-user.target
`;

/** @param more lines of the instance; of the section, if they are not indented */
const role = (more = ""): string => `services:
  even-web.service: {unit: {file: even-web.service}, enabled: true, running: true}
drain:
  units:
    even-web.service: {order: 20}
keepalived:
  drain: {handOverSeconds: 4}
  scripts:
    web: {command: [/usr/bin/systemctl, is-active, -q, even-web.service], everySeconds: 1}
  instances:
    web:
      routerId: 51
      interface: host0
      addresses: [${vip}/24]
      trackScripts: [web]
${more}`;

beforeAll(async () => {
  await bundleAgent();
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  vip = lab.hostAddress.replace(/\.\d+$/, ".100");
  example = await mkdtemp(join(tmpdir(), "vip-"));
  for (const folder of ["nodes", "roles", "files"]) await mkdir(join(example, folder));
  await writeFile(join(example, "roles", "all.yaml"), role());
  await writeFile(join(example, "files", "even-web.service"), web);
  for (const node of NODES) await writeFile(join(example, "nodes", `${node}.yaml`), `address: ${lab.address(node)}\nroles: [all]\n`);
  const policy = "updates:\n  canarySoakMinutes: 0.05\n  soakMinutes: 0.05\n  nodeMinutes: 3\n  drainTimeoutMinutes: 1\n";
  await writeFile(join(example, "cluster.yaml"), `name: cupboard\nsigners:\n  - name: owner\n    ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJhZGJhZGJhZGJhZGJhZGJhZGJhZGJhZGJhZGJhZGJh replace-me@example\n${policy}`);
  const settings = {
    cluster: "cupboard",
    publicHosts: ["hub", lab.hostAddress],
    httpsListen: `${lab.hostAddress}:7443`,
    mqttListen: `${lab.hostAddress}:8883`,
    pageListen: "127.0.0.1:0",
    patience: { staleMs: 12_000, pingEveryMs: 3_000, confirmMs: 20_000, checkMs: 60_000 },
  };
  cupboard = new Cupboard({ directory, lab, example, home: new HubProcess(directory, lab.hostAddress, settings) });
  await cupboard.start();
  await cupboard.pushExample();
  for (const node of NODES) await cupboard.enrol(node);
  await cupboard.waitConverged();
});

afterAll(async () => {
  await lab.wipe();
  await cupboard?.stop();
  await rm(directory, { recursive: true, force: true });
  await rm(example, { recursive: true, force: true });
});

const sh = async (node: string, script: string): Promise<string> => {
  const outcome = await lab.shell(node, script, { timeoutMs: 60_000 });
  expect(outcome.code, `${node}: ${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};
/** Who has the address on an interface: more than one is a split. */
const holders = async (address = vip): Promise<string[]> => {
  const shown = await Promise.all(NODES.map(async (node) => [node, (await lab.shell(node, `ip -o address show to ${address}`)).stdout] as const));
  return shown.flatMap(([node, stdout]) => (stdout === "" ? [] : [node]));
};
const heldBy = (node: string): Promise<unknown> => until(`${node} to hold the address, and nobody else`, holders, (all) => all.join() === node, 30_000);
const heldByOne = async (): Promise<string> => (await until("one node to hold the address", holders, (all) => all.length === 1, 30_000))[0]!;
const become = async (files: Readonly<Record<string, string | null>>): Promise<void> => {
  await cupboard.push(files);
  await cupboard.waitConverged();
};

test("the first in the list holds the address, and a second look finds nothing to do", async () => {
  await heldBy("n1");
  expect(await (await fetch(`http://${vip}:${PORT}/`)).text()).toBe("n1");
  for (const node of NODES) expect(JSON.parse(await sh(node, "evenkeel-agent plan --json")).changes).toEqual([]);
  const priorities = await Promise.all(NODES.map((node) => sh(node, `awk '/priority/ {print $2} /^    10/ {print $1}' ${CONF}`)));
  expect(priorities).toEqual(["200", "190", "180"].map((priority, at) => [priority, ...NODES.filter((_, other) => other !== at).map((node) => lab.address(node)), `${vip}/24`].join("\n")));
});

test("a drain hands the address over, a reboot does not take it back, and not one of 100 requests a second is lost", async () => {
  const caller = new Caller(`http://${vip}:${PORT}/`, 100);
  await cupboard.evenkeel("drain", "n1", "--why", "more memory", "--wait");
  await heldBy("n2");
  await lab.reboot("n1");
  await until("keepalived to be up again on n1", () => lab.shell("n1", "/usr/local/lib/evenkeel/keepalived state | jq -r '.[].data.state'"), ({ stdout }) => stdout.trim() === "3");
  expect(await holders()).toEqual(["n2"]);
  // It is told while nobody listens there, and has it all the same.
  await sh("n1", "systemctl stop evenkeel-agent");
  await cupboard.evenkeel("resume", "n1");
  await sh("n1", "systemctl start evenkeel-agent");
  await until("n1 to stand for it again", () => lab.shell("n1", "/usr/local/lib/evenkeel/keepalived state | jq -r '.[].data.state'"), ({ stdout }) => stdout.trim() === "1");
  expect(await holders(), "nobody takes it back from one who serves").toEqual(["n2"]);
  await caller.stop();
  expect(caller.missed).toEqual([]);
  expect(caller.answered).toBeGreaterThan(500);
});

test("nobody takes it: the node takes it back, is not drained, and says so", async () => {
  const slots = async (): Promise<number> => ((await cupboard.api("/coordination")) as { leases: unknown[]; requests: unknown[] }).leases.length;
  const others = (signal: string) => Promise.all(["n1", "n3"].map((node) => sh(node, `systemctl kill -s ${signal} keepalived`)));
  // Whoever is looked at while it is stopped says that no other may go: it is tried again.
  for (let granted = false; !granted; ) {
    await until("nobody to be away", slots, (count) => count === 0, 120_000);
    await others("STOP");
    await cupboard.api("/nodes/n2/drain", { why: "nobody there" });
    granted = await until("n2 to have its turn", slots, (count) => count > 0, 5_000).then(() => true, () => false);
    if (granted) continue;
    await others("CONT");
    await cupboard.tryEvenkeel("resume", "n2");
    await until("all to be well", async () => (await cupboard.api("/coordination")) as { gates: unknown[] }, ({ gates }) => gates.length === 0, 120_000);
  }
  const said = /within 4 s no other node has taken: 10\.77\.\d+\.100 \(nobody answers\)/;
  await until("n2 to say that nobody took it", async () => JSON.stringify([await cupboard.api("/nodes/n2/why"), await cupboard.node("n2")]), (text) => said.test(text));
  for (const node of ["n1", "n3"]) await sh(node, "systemctl kill -s CONT keepalived");
  await heldByOne();
  await cupboard.tryEvenkeel("resume", "n2");
  await until("no slot to be taken", slots, (count) => count === 0);
});

test("keepalived that is killed comes back by itself, and leaves one holder", async () => {
  const holder = await heldByOne();
  const before = await sh(holder, "systemctl show -p MainPID --value keepalived");
  await sh(holder, "kill -9 $(systemctl show -p MainPID --value keepalived)");
  await until("another process", () => sh(holder, "systemctl show -p MainPID --value keepalived"), (pid) => pid !== "0" && pid !== before);
  await heldByOne();
});

test("what keepalived does not take is refused before it goes live, and the sentence is its own", async () => {
  const before = await sh("n1", `cat ${CONF}; systemctl show -p MainPID --value keepalived`);
  await cupboard.push({ "roles/all.yaml": role().replace("interface: host0", "interface: host7") });
  const failed = await until("n1 to refuse it", () => cupboard.node("n1"), ({ condition }) => condition === "failing");
  expect(JSON.stringify(failed)).toContain("interface host7 for vrrp_instance web doesn't exist");
  expect(await sh("n1", `cat ${CONF}; systemctl show -p MainPID --value keepalived`)).toBe(before);
  await become({ "roles/all.yaml": role() });
  await heldByOne();
});

test("a number that another instance has is refused at the push, at its line, on whatever node it stands", async () => {
  const more = `address: ${lab.address("n3")}\nroles: [all]\nkeepalived:\n  instances:\n    db:\n      routerId: 51\n      interface: host0\n      addresses: [${vip.replace(/100$/, "101")}/24]\n`;
  const refused = await cupboard.push({ "nodes/n3.yaml": more }).then(() => "accepted", String);
  expect(refused).toMatch(/nodes\/n3\.yaml:6:17: error: keepalived\.instances\.db\.routerId: 51 is the number of web on n1 as well: the two would take each other for one/);
  expect(refused).toMatch(/roles\/all\.yaml:\d+:17: error: keepalived\.instances\.web\.routerId: 51 is the number of db on n3 as well/);
  expect(refused).toContain("each instance has a number of its own; 52 is free");
  await cupboard.git("reset", "-q", "--hard", "origin/main");
});

test("drift is repaired without anybody losing the address", async () => {
  const holder = await heldByOne();
  const conf = await sh(holder, `cat ${CONF}`);
  await sh(holder, `sed -i 's/virtual_router_id 51/virtual_router_id 99/' ${CONF}; rm /etc/systemd/system/keepalived.service.d/evenkeel.conf`);
  await until("the files to be as they were", () => sh(holder, `cat ${CONF}; ls /etc/systemd/system/keepalived.service.d/`), (text) => text === `${conf}\nevenkeel.conf`);
  expect(await heldByOne()).toBe(holder);
});

test("when the section goes, so does the address, and what was made for it", async () => {
  const role = "services:\n  even-web.service: {unit: {file: even-web.service}, enabled: true, running: true}\n";
  await become({ "roles/all.yaml": role });
  expect(await holders()).toEqual([]);
  expect(await sh("n1", `ls ${CONF} /etc/systemd/system/keepalived.service.d/* /usr/local/lib/evenkeel/keepalived 2>/dev/null; systemctl is-active keepalived || true`)).toBe("inactive");
});
