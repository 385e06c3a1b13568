import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import type * as z from "zod";
import { bundleAgent, root } from "../../image/bundle.ts";
import { CoordinationSummary } from "../../shared/protocol/rollout.ts";
import { reasonText } from "../../shared/kinds/kind.ts";
import { lxd } from "../../shared/kinds/lxd.ts";
import { LabProbe } from "../fixtures/lab-probe.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";
import { makeTinyImage } from "../lab/tiny-image.ts";
import { until } from "./real-cupboard.ts";

/** Three real nodes become an LXD cluster by one push, with tokens that go through a real hub; a container moves when its node goes. */

const nodes = ["n1", "n2", "n3"] as const;
const lab = new Lab({ name: "lxd", nodes, flavour: "cluster", binds: [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }], downOnExit: true });
const directory = join(root, ".lab", "lxd-cupboard");
let example: string;
let cupboard: Cupboard;
let fingerprint = "";

const clusterYaml = `name: cupboard
signers:
  - name: owner
    ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1WPc3tOOKpuC3O4P+1e1wAHiQHtjmtytM49HtWwHbx replace-me@example
updates: {canarySoakMinutes: 0.05, soakMinutes: 0.05}
`;

const role = (): string => `lxd:
  cluster:
    bootstrap: {node: n1, id: first}
  config:
    cluster.offline_threshold: 11
    images.auto_update_interval: 0
  pools:
    local: {driver: dir}
  networks:
    lxbr0: {config: {ipv4.address: none, ipv6.address: none}}
  projects:
    web: {config: {features.images: false, features.profiles: false}}
  profiles:
    default:
      devices:
        root: {type: disk, path: /, pool: local}
        eth0: {type: nic, network: lxbr0}
  images:
    tiny: {file: /srv/tiny.tar.gz, fingerprint: ${fingerprint}}
  instances:
    c1: {image: tiny, config: {boot.autostart: true, limits.memory: 64MiB}}
    web/c2: {image: tiny}
`;

const shell = async (node: string, script: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.shell(node, script, { timeoutMs: 120_000 });
  if (code !== 0) throw new Error(`on ${node}: ${script}\n${stdout}${stderr}`);
  return stdout.trim();
};

const WRONG = "ab".repeat(32);
const recipients = new Map<string, string>();
const nodeFile = (node: string): string => `address: ${lab.address(node)}\nrecipient: ${recipients.get(node) ?? ""}\nroles: [lxd]\n`;
const members = async (node: string): Promise<Record<string, string>> =>
  Object.fromEntries((JSON.parse(await shell(node, "lxc cluster list --format json")) as { server_name: string; status: string }[]).map(({ server_name, status }) => [server_name, status]));
const instance = async (node: string): Promise<{ location: string; status: string }> => JSON.parse(await shell(node, "lxc query /1.0/instances/c1")) as { location: string; status: string };

/** Files below a directory that hold this text. */
const filesWith = (text: string, place: string): Promise<string> => new Promise((resolve) => execFile("grep", ["-rlaF", text, place], (_error, stdout) => resolve(stdout)));
const summary = async (): Promise<CoordinationSummary> => CoordinationSummary.parse(await cupboard.api("/coordination"));
const isQuiet = (): Promise<unknown> => until("everything to be well and no slot taken", summary, ({ leases, groups }) => leases.length === 0 && groups.length > 0 && groups.every(({ down }) => down.length === 0), 120_000);
const areOnline = (from: string): Promise<unknown> => until("all members to be online", () => members(from).catch(() => ({})), (all) => isDeepStrictEqual(all, { n1: "Online", n2: "Online", n3: "Online" }));
/** What a node says of a resource that could not be had. */
const failing = (node: string, text: string): Promise<unknown> => until(`${node} to say: ${text}`, async () => (await cupboard.node(node)).converge?.failing ?? [], (all) => all.some(({ error }) => error.includes(text)));

/** The section as a node of this cluster has it. */
function wantOf(self: string): z.output<typeof lxd.schema> {
  const section = lxd.schema.parse({ cluster: { bootstrap: { node: "n1", id: "first" } } });
  const resolved = lxd.resolve?.(section, { cluster: "cupboard", self, nodes: nodes.map((name) => ({ name, address: lab.address(name), section })) });
  return resolved?.want ?? section;
}

const reasonsOf = async (node: string): Promise<readonly string[] | undefined> => lxd.gate?.reasons(wantOf(node), await lxd.gate.observe(wantOf(node), new LabProbe(lab, node))).map(reasonText);

/** Lets n1 join by this token, as its agent would; answers what the daemon said. */
async function joinBy(token: string): Promise<string> {
  const [want, probe] = [wantOf("n1"), new LabProbe(lab, "n1")];
  const [step] = lxd.plan(want, await lxd.observe(want, probe, new Map()), new Map(), new Map([["state/n2", "member"], ["join/n1", token]]));
  if (step?.do !== "run") throw new Error(`no step to join by: ${JSON.stringify(step)}`);
  const { code, stdout, stderr } = await lab.exec("n1", step.argv, { input: step.input ?? "" });
  expect(code).not.toBe(0);
  return stdout + stderr;
}

beforeAll(async () => {
  await bundleAgent();
  example = await mkdtemp(join(tmpdir(), "lxd-"));
  for (const folder of ["nodes", "roles", "files"]) await mkdir(join(example, folder));
  await writeFile(join(example, "cluster.yaml"), clusterYaml);
  for (const node of nodes) await writeFile(join(example, "nodes", `${node}.yaml`), `address: 10.77.1.1\n`);
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  cupboard = new Cupboard({ directory, lab, example });
  await cupboard.start();
  await cupboard.pushExample();
  for (const node of nodes) await cupboard.enrol(node);
  await cupboard.waitConverged();
  for (const node of nodes) recipients.set(node, /age1[a-z0-9]{58}/.exec(await shell(node, "cat /etc/evenkeel/age.txt"))?.[0] ?? "none");
  fingerprint = await makeTinyImage(lab);
});

afterAll(async () => {
  await lab.wipe();
  await cupboard?.stop();
  await rm(directory, { recursive: true, force: true });
  await rm(example, { recursive: true, force: true });
});

test("one push founds the cluster, joins the others by tokens, and makes pool, network, project, profile, image and running instances", async () => {
  await cupboard.push({ "roles/lxd.yaml": role(), ...Object.fromEntries(nodes.map((node) => [`nodes/${node}.yaml`, nodeFile(node)])) }, "LXD on all three");
  await cupboard.waitConverged(() => {}, 90_000);

  expect(await members("n2")).toEqual({ n1: "Online", n2: "Online", n3: "Online" });
  expect(JSON.parse(await shell("n3", "lxc query /1.0/storage-pools/local"))).toMatchObject({ driver: "dir", status: "Created", locations: expect.arrayContaining(["n1", "n2", "n3"]) as string[] });
  expect(JSON.parse(await shell("n3", "lxc query /1.0/networks/lxbr0"))).toMatchObject({ type: "bridge", status: "Created", locations: expect.arrayContaining(["n1", "n2", "n3"]) as string[] });
  expect(await instance("n2")).toMatchObject({ status: "Running" });
  expect(JSON.parse(await shell("n2", "lxc query '/1.0/instances/c2?project=web'"))).toMatchObject({ status: "Running" });
  // Nobody on the way had the token: it is neither with the hub, nor in what the nodes report and keep.
  expect((await cupboard.tryEvenkeel("status", "--json")).output).not.toContain("eyJzZXJ2ZXJfbmFtZSI6");
  for (const place of [directory, ...nodes.map((node) => join(lab.nodeRoot(node), "var/lib/evenkeel"))]) expect(await filesWith("eyJzZXJ2ZXJfbmFtZSI6", place)).toBe("");
});

test("a second look finds nothing to do, with one process", async () => {
  for (const node of nodes) {
    const report = JSON.parse(await shell(node, "evenkeel-agent apply --json")) as { outcome: string; changes: unknown[]; processes: number };
    expect(report).toMatchObject({ outcome: "converged", changes: [] });
    expect(report.processes).toBeLessThanOrEqual(1);
  }
});

test("a node that is drained hands its containers over while they run, and takes them back", async () => {
  await isQuiet();
  expect(await instance("n2")).toEqual(expect.objectContaining({ location: "n1", status: "Running" }));
  await cupboard.api("/nodes/n1/drain", { why: "more memory" });
  await until("n1 to be out of service", summary, ({ leases }) => leases.some(({ node, phase }) => node === "n1" && phase === "confirmed"));
  expect(await members("n2")).toMatchObject({ n1: "Evacuated" });
  const away = await instance("n2");
  expect(away).toMatchObject({ status: "Running" });
  expect(away.location).not.toBe("n1");
  // The next one that is online looks after what is for all meanwhile, and finds it as it should be.
  expect(JSON.parse(await shell("n2", "evenkeel-agent apply --json"))).toMatchObject({ outcome: "converged", changes: [] });
  await cupboard.api("/nodes/n1/resume", {});
  await until("n1 to be back", summary, ({ leases }) => leases.length === 0, 120_000);
  expect(await instance("n2")).toMatchObject({ location: "n1", status: "Running" });
  await areOnline("n2");
});

test("a member that somebody evacuated by hand is not ours to restore, and is counted as away", async () => {
  // By the same words as a person's, again where the daemon trips over itself.
  await shell("n3", "/usr/local/lib/evenkeel/lxd evacuate lxc n3");
  expect(lxd.drain?.steps(wantOf("n3"), await lxd.drain.observe(wantOf("n3"), new LabProbe(lab, "n3")))).toMatchObject([{ already: true }]);
  expect(await reasonsOf("n3")).toEqual(["n3 was evacuated by somebody: `lxc cluster restore n3` takes its instances back"]);
  expect(await reasonsOf("n1")).toEqual([]);
  await shell("n3", "/usr/local/lib/evenkeel/lxd restore lxc n3 && /usr/local/lib/evenkeel/lxd restore lxc n3");
  expect(await reasonsOf("n3")).toEqual([]);
});

test("a reboot rolls through the cluster, and a container is elsewhere while its node is away", async () => {
  await isQuiet();
  const boots = await Promise.all(nodes.map((node) => lab.bootId(node)));
  await cupboard.api("/rollouts", { kind: "reboot" });
  const seen = new Set<string>();
  await until(
    "the rollout to be done",
    async () => {
      const { rollout } = await summary();
      const away = rollout?.nodes.find(({ state }) => state === "working")?.node;
      const found = await lab.shell(away === "n2" ? "n3" : "n2", "lxc query /1.0/instances/c1", { timeoutMs: 30_000 });
      const said = found.code === 0 ? (JSON.parse(found.stdout) as { location: string; status: string }) : null;
      if (away !== undefined && said?.status === "Running") seen.add(`${away} away: on ${said.location === away ? "it" : "another"}`);
      return rollout;
    },
    (rollout) => rollout?.phase === "done" || rollout?.phase === "halted",
    300_000,
  );
  expect((await summary()).rollout).toMatchObject({ phase: "done", halt: null, nodes: [{ state: "done" }, { state: "done" }, { state: "done" }] });
  expect((await Promise.all(nodes.map((node) => lab.bootId(node)))).filter((boot) => boots.includes(boot))).toEqual([]);
  expect(seen).toContain("n1 away: on another");
  expect(seen).not.toContain("n1 away: on it");
  expect(await instance("n2")).toMatchObject({ location: "n1", status: "Running" });
  await areOnline("n1");
});

test("an image whose file has another fingerprint is refused, and nothing else is held up by it", async () => {
  await cupboard.push({ "roles/lxd.yaml": role().replace("  instances:", `    other: {file: /srv/tiny.tar.gz, fingerprint: ${WRONG}}\n  instances:`).replace("64MiB", "96MiB") }, "A wrong fingerprint");
  await failing("n1", `/srv/tiny.tar.gz has the fingerprint ${fingerprint}, and ${WRONG} is wanted: it is not imported`);
  expect(JSON.parse(await shell("n1", "lxc query /1.0/images"))).toEqual([`/1.0/images/${fingerprint}`]);
  expect(JSON.parse(await shell("n1", "lxc query /1.0/instances/c1"))).toMatchObject({ status: "Running", config: { "limits.memory": "96MiB" } });
  await cupboard.push({ "roles/lxd.yaml": role() }, "Without it");
  await cupboard.waitConverged();
});

test("a founder that lost all that it knew founds nothing: it joins, once the owner has let its old self go", async () => {
  const certificate = await shell("n2", "sha256sum /var/lib/lxd/cluster.crt");
  await shell("n1", "systemctl stop evenkeel-agent; lxc stop --all --force; lxc stop c2 --project web --force; systemctl stop lxd lxd.socket; umount -l /var/lib/lxd/* 2>/dev/null; ip link delete lxbr0; rm -rf /var/lib/lxd/* /var/lib/evenkeel/inventory*; systemctl start lxd.socket");
  await until("n1 to be missed", () => members("n2"), ({ n1 }) => n1 === "Offline");
  await shell("n1", "systemctl start evenkeel-agent");
  await failing("n1", "the cluster still has a member called n1, offline, with what it held");
  await shell("n1", "systemctl stop evenkeel-agent");
  await shell("n2", "echo yes | lxc cluster remove --force n1");

  // A token that has expired, and one that is not (any more) one of the cluster's: the daemon says so, and the step with it.
  await shell("n2", "lxc config set cluster.join_token_expiry=1S");
  const expired = await shell("n2", "lxc cluster add n1 --quiet");
  await shell("n2", "lxc config unset cluster.join_token_expiry");
  const expiresAt = (JSON.parse(Buffer.from(expired, "base64").toString()) as { expires_at: string }).expires_at;
  await until("the token to expire", async () => Date.now(), (now) => now > Date.parse(expiresAt));
  expect(await joinBy(expired)).toContain("Token has expired");
  const used = await shell("n2", "lxc cluster add n1 --quiet; lxc cluster revoke-token n1 >&2");
  expect(await joinBy(used)).toContain("No matching cluster join operation found");

  await shell("n1", "systemctl start evenkeel-agent");
  await until("n1 to join", () => shell("n1", "evenkeel-agent apply --json || true"), (said) => (JSON.parse(said) as { outcome: string }).outcome === "converged", 120_000);
  await areOnline("n2");
  expect(await shell("n1", "sha256sum /var/lib/lxd/cluster.crt")).toBe(certificate);
});

test("without a majority of the database's voters nothing is changed, and it says why", async () => {
  await Promise.all(["n2", "n3"].map((node) => lab.crash(node)));
  const plan = async (): Promise<{ changes: unknown[]; problems: { message: string }[] }> => JSON.parse(await shell("n1", "evenkeel-agent plan --json")) as { changes: unknown[]; problems: { message: string }[] };
  const seen = await until("n1 to notice", plan, ({ problems }) => problems.length > 0, 90_000);
  expect(seen.problems[0]?.message).toMatch(/without a majority of its voters|has lost the majority of its voters/);
  expect(seen.changes).toEqual([]);
  expect(await reasonsOf("n1")).toEqual([expect.stringMatching(/majority of its voters/)]);
  await Promise.all(["n2", "n3"].map((node) => lab.start(node)));
  await cupboard.waitConverged();
  await areOnline("n1");
});
