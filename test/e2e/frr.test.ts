import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bundleAgent, root } from "../../image/bundle.ts";
import { CoordinationSummary } from "../../shared/protocol/rollout.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { Lab } from "../lab/lab.ts";
import { until } from "./real-cupboard.ts";

/** Two real FRR routers by pushes to a real hub, and a BIRD that nobody of ours configures, which says what it is told. */

const NAME = "route-frr";
const LIMIT_SECONDS = 15;
const NODES = ["n1", "n2", "n3"];
const CONF = "/etc/frr/frr.conf";
const directory = join(root, ".lab", `${NAME}-cupboard`);
const bundle = join(root, ".lab", `${NAME}-bundle`);
const lab = new Lab({ name: NAME, nodes: NODES, flavour: "cluster", binds: [{ from: bundle, to: "/usr/lib/evenkeel" }], downOnExit: true });
const cupboard = new Cupboard({ directory, lab, example: join(import.meta.dirname, "cluster") });

/** Sessions that are tried again at once: the test does not wait two minutes. */
const fast = { keepaliveSeconds: 1, holdSeconds: 3, connectSeconds: 1 };

interface Change {
  readonly uplinkAsn?: number;
  readonly community?: string;
  readonly raw?: readonly string[];
  readonly toN2?: object;
  readonly more?: object;
  /** On both: with it comes a daemon that does not run yet. */
  readonly ospf?: object;
}

/** n1 with an uplink to BIRD and a session to n2 by its name; n2 with a session back. */
function sections({ uplinkAsn = 65100, community = "65001:100", raw, toN2 = {}, more = {}, ospf }: Change = {}): Readonly<Record<string, object>> {
  const common = { requirePolicy: false, importCheck: false };
  const n1 = {
    bgp: {
      asn: 65001,
      ...common,
      neighbors: {
        n2: { ...fast, password: "between-us", bfd: true, ...toN2 },
        uplink: { address: lab.address("n3"), asn: uplinkAsn, ...fast, routesMin: 1, ipv4: { out: "OUT" } },
      },
      ipv4: { networks: ["203.0.113.0/24"] },
    },
    static: { "203.0.113.0/24": { blackhole: true } },
    prefixLists: { OURS: ["permit 203.0.113.0/24"] },
    routeMaps: { OUT: [{ match: { prefixList: "OURS" }, set: { addCommunities: [community] } }] },
    drain: { waitSeconds: 3 },
    ...(raw && { raw: { lines: raw } }),
    ...(ospf && { ospf }),
    ...more,
  };
  const n2 = { bgp: { asn: 65002, ...common, neighbors: { n1: { ...fast, password: "between-us", bfd: true } }, ipv4: { networks: ["192.0.2.0/24"] } }, static: { "192.0.2.0/24": { blackhole: true } }, ...(ospf && { ospf }) };
  return { n1, n2 };
}

const bird = (): string => `router id ${lab.address("n3")};
protocol device {}
protocol static { ipv4; route 198.51.100.0/24 blackhole; }
protocol bgp frr1 {
  local ${lab.address("n3")} as 65100;
  neighbor ${lab.address("n1")} as 65001;
  hold time 3; keepalive time 1; connect retry time 1; connect delay time 1; error wait time 1, 2;
  ipv4 { import all; export all; };
}
`;

async function push(change: Change = {}): Promise<string> {
  const frr = sections(change);
  return cupboard.push(Object.fromEntries(NODES.map((node) => [`nodes/${node}.yaml`, JSON.stringify({ address: lab.address(node), ...(frr[node] && { frr: frr[node] }) })])));
}
async function become(change: Change = {}): Promise<void> {
  await push(change);
  await cupboard.waitConverged();
}

beforeAll(async () => {
  await mkdir(bundle, { recursive: true });
  await bundleAgent(bundle);
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  await lab.mirror(["bird2"]);
  await sh("n3", "systemctl disable -q --now frr; apt-get -q update >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get -y -q install bird2 >/dev/null");
  await lab.writeFile("n3", "/etc/bird/bird.conf", bird());
  await sh("n3", "systemctl restart bird");
  await cupboard.start();
  await cupboard.pushExample();
  const cluster = `name: cupboard\nguard: {confirmSeconds: ${LIMIT_SECONDS}}\nupdates: {canarySoakMinutes: 0.05, soakMinutes: 0.05}\nrollout: {soakMinutes: 0.05, changeSoakMinutes: 0.05}\n${(await cupboard.git("show", "HEAD:cluster.yaml")).replace(/^name: .*\n/, "")}`;
  await cupboard.push({ "cluster.yaml": cluster });
  for (const node of NODES) await cupboard.enrol(node);
  await become();
}, 300_000);

afterAll(async () => {
  await lab.wipe();
  await cupboard.stop();
  for (const path of [directory, bundle]) await rm(path, { recursive: true, force: true });
});

const sh = async (node: string, script: string): Promise<string> => {
  const outcome = await lab.shell(node, script, { timeoutMs: 120_000 });
  expect(outcome.code, `${node}: ${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};
interface Session {
  readonly state: string;
  readonly pfxRcd: number;
  readonly connectionsEstablished?: number;
}
const sessions = async (node: string): Promise<Readonly<Record<string, Session>>> => (JSON.parse(await sh(node, "vtysh -c 'show bgp ipv4 unicast summary json'")) as { peers?: Record<string, Session> }).peers ?? {};
const isUp = (session: Session | undefined): boolean => session?.state === "Established" && session.pfxRcd > 0;
const bothUp = () => until("both sessions of n1 are up, with routes", () => sessions("n1"), (peers) => isUp(peers[lab.address("n2")]) && isUp(peers[lab.address("n3")]));
/** What BIRD was told of n1's network; empty when nothing. */
const told = async (): Promise<string> => (await lab.shell("n3", "birdc show route all 203.0.113.0/24 | grep -E 'unicast|community' || true")).stdout.trim();
const runs = () => sh("n1", "vtysh -c 'show running-config'");

test("sessions come up by the node's name and to a foreign router, with password, BFD and policy", async () => {
  await bothUp();
  expect(await until("BIRD is told", told, (text) => text.includes("unicast"))).toMatch(/BGP\.community: \(65001,100\)/);
  await until("BFD is up", () => sh("n1", "vtysh -c 'show bfd peers json'"), (text) => text.includes('"status":"up"'));
  expect(await sh("n2", "vtysh -c 'show ip route 203.0.113.0/24 json'")).toContain('"protocol":"bgp"');
});

test("what has not changed is an empty plan, and an empty diff to FRR itself", async () => {
  for (const node of ["n1", "n2"]) expect(JSON.parse(await sh(node, "evenkeel-agent plan --json")).changes).toEqual([]);
  expect((await lab.shell("n1", `/usr/lib/frr/frr-reload.py --test ${CONF} 2>/dev/null`)).stdout).not.toMatch(/^(Lines To|no |router)/m);
});

test("a policy changes without a session being touched, and the foreign router sees it", async () => {
  const before = await sessions("n1");
  await become({ community: "65001:200" });
  await until("BIRD is told anew", told, (text) => text.includes("(65001,200)"));
  const after = await sessions("n1");
  for (const address of [lab.address("n2"), lab.address("n3")]) expect(after[address]?.connectionsEstablished, address).toBe(before[address]?.connectionsEstablished ?? "told");
});

test("what FRR does not take is refused before it goes live, in its own words", async () => {
  const [file, running] = [await sh("n1", `cat ${CONF}`), await runs()];
  await push({ community: "65001:200", raw: ["route-the-map nonsense"] });
  const failed = await until("n1 refuses it", () => cupboard.node("n1"), ({ condition }) => condition === "failing");
  expect(JSON.stringify(failed)).toMatch(/line \d+: % Unknown command.*: route-the-map nonsense/);
  expect(await sh("n1", `cat ${CONF}`)).toBe(file);
  expect(await runs()).toBe(running);
  await become({ community: "65001:200" });
});

test("what somebody changes in vtysh is drift, and goes back", async () => {
  await sh("n1", "vtysh -c 'configure terminal' -c 'ip route 10.99.0.0/24 blackhole' -c 'router bgp 65001' -c 'no neighbor uplink password' -c 'timers bgp 7 21' || true");
  expect(await runs()).toContain("10.99.0.0/24");
  await sh("n1", "evenkeel-agent apply");
  expect(await runs()).not.toMatch(/10\.99\.0\.0|timers bgp 7/);
  await bothUp();
});

test("a drain makes its routes the last choice before they go, and a resume brings them back", async () => {
  await bothUp();
  const seen = new Set<string>();
  const watching = { on: true };
  const watch = (async () => {
    while (watching.on) seen.add(await told());
  })();
  await cupboard.evenkeel("drain", "n1", "--why", "a new card", "--wait");
  await until("BIRD has lost it", told, (text) => text === "");
  watching.on = false;
  await watch;
  // RFC 8326: 65535:0 asks everybody to prefer another way.
  expect([...seen].filter((text) => text.includes("(65535,0)"))).not.toEqual([]);
  expect((await sessions("n1"))[lab.address("n3")]?.state).toBe("Idle (Admin)");
  await cupboard.evenkeel("resume", "n1");
  expect(await until("BIRD is told again", told, (text) => text.includes("unicast"))).not.toContain("(65535,0)");
  await bothUp();
  await until("n1 to be free", async () => ((await cupboard.api("/coordination")) as { leases: unknown[] }).leases, (leases) => leases.length === 0, 120_000);
});

test("an uplink with the wrong AS comes back by itself", async () => {
  const before = await sh("n1", `cat ${CONF}`);
  const commit = await push({ community: "65001:200", uplinkAsn: 65199 });
  const { converge } = await until("n1 has put it back", () => cupboard.node("n1"), (node) => node.converge?.commit === commit && JSON.stringify(node.converge.problems).includes("unconfirmed"), 120_000);
  expect(converge?.problems.find(({ code }) => code === "unconfirmed")?.message).toMatch(/the BGP session with uplink \([^)]*\) is not up/);
  expect(await sh("n1", `cat ${CONF}`)).toBe(before);
  await bothUp();
  await become({ community: "65001:200" });
});

test("a new daemon restarts FRR on one router after the other; that it is half done keeps nobody from the other half", async () => {
  const pids = () => Promise.all(["n1", "n2"].map((node) => sh(node, "systemctl show -p MainPID --value frr")));
  const before = await pids();
  const ospf = { interfaces: { host0: { area: "0.0.0.0", network: "point-to-point", helloSeconds: 1, deadSeconds: 3 } } };
  await push({ community: "65001:200", ospf });
  await cupboard.waitConverged(undefined, 150_000);
  const { rollout } = await until("the rollout to be over", async () => CoordinationSummary.parse(await cupboard.api("/coordination")), (seen) => seen.rollout?.phase !== "running", 60_000);
  expect(rollout).toMatchObject({ kind: "change", phase: "done", halt: null });
  expect(rollout?.nodes.map(({ node, state }) => `${node} ${state}`)).toEqual(["n1 done", "n2 done", "n3 skipped"]);
  expect((await pids()).filter((pid) => before.includes(pid))).toEqual([]);
  await until("OSPF to be up", () => sh("n1", "vtysh -c 'show ip ospf neighbor json'"), (text) => text.includes("Full"));
  await bothUp();
});

test("what cannot come up is refused at the push: no key, a key on one side, a wrong AS, a name that is nobody", async () => {
  const refused = async (change: Change): Promise<string> => {
    const said = await push(change).then(() => "accepted", String);
    await cupboard.git("reset", "-q", "--hard", "origin/main");
    return said;
  };
  const bgp = sections()["n1"] as { bgp: { neighbors: object } };
  expect(await refused({ more: { bgp: { ...bgp.bgp, requirePasswords: true } } })).toContain("uplink has no password, and requirePasswords asks for one");
  expect(await refused({ toN2: { password: undefined } })).toContain("n2 has a password for this session, and n1 has none: no session comes up");
  expect(await refused({ toN2: { asn: 65009 } })).toContain("n2 is AS 65002, not 65009");
  expect(await refused({ more: { bgp: { ...bgp.bgp, neighbors: { nobody: {} } } } })).toContain("nobody is no node, and has no address");
  expect(await refused({ more: { bgp: { ...bgp.bgp, neighbors: { n3: {} } } } })).toContain("the AS of n3 is not known: it has no section frr with bgp");
});

test("when the section goes, FRR is what its package made it", async () => {
  await cupboard.push(Object.fromEntries(NODES.map((node) => [`nodes/${node}.yaml`, JSON.stringify({ address: lab.address(node) })])));
  await cupboard.waitConverged();
  await until("BIRD has lost n1's network", told, (text) => text === "");
  expect(await runs()).not.toMatch(/router bgp|route-map|prefix-list/);
  expect(await sh("n1", "grep -c =yes /etc/frr/daemons; systemctl is-active frr; ls /usr/local/lib/evenkeel/frr 2>/dev/null || true")).toBe("1\nactive");
});
