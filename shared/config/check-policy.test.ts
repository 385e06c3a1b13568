import * as z from "zod";
import { describe, expect, test } from "vitest";
import { formatDiagnostics } from "./diagnostic.ts";
import { commitCanaries } from "./policy.ts";
import { memoryTree } from "./memory-tree.ts";
import { loadNode, loadRepository } from "./repository.ts";
import type { LoadedRepository } from "./repository.ts";
import type { SectionKind } from "./settings-file.ts";

const kinds: readonly SectionKind[] = [{ name: "things", schema: z.record(z.string(), z.string()) }];
const head = 'name: cupboard\nsigners:\n  - {name: ada, ssh: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0kAnSx4mR3qW2bJx1zv0mYl2r8hZQq0b7Vw4kM3C9d ada@example"}\n';
const HEAD_LINES = 3;
const three = { "nodes/n1.yaml": "", "nodes/n2.yaml": "", "nodes/n3.yaml": "" };

function load(text: string, files: Parameters<typeof memoryTree>[0] = three): Promise<LoadedRepository> {
  return loadRepository(memoryTree({ "cluster.yaml": head + text, ...files }), kinds);
}
const told = (loaded: LoadedRepository) => formatDiagnostics(loaded.ok ? loaded.warnings : loaded.diagnostics);
async function cluster(text: string) {
  const loaded = await load(text);
  if (!loaded.ok) throw new Error(told(loaded));
  expect(told(loaded)).toBe("");
  return loaded.repository.cluster;
}

describe("what is good", () => {
  test("nothing said: the defaults", async () => {
    expect(await cluster("")).toMatchObject({ groups: {}, windows: {}, checks: {}, updates: { scope: "all", windows: [], canary: [], soakMinutes: 5, rebootWhen: "required", nodeMinutes: 30, onDrainTimeout: "undo" } });
    expect((await cluster("updates:\nwindows:\ngroups:\nchecks:\n")).updates.canarySoakMinutes).toBe(30);
  });

  test("how commits go, in a word or in full", async () => {
    expect((await cluster("")).rollout).toEqual({ commits: "everywhere", canary: [], soakMinutes: 2, changes: "at-once", changeSoakMinutes: 1, nodeMinutes: 10 });
    expect((await cluster("updates: {canary: [n2]}\nrollout: canary\n")).rollout).toMatchObject({ commits: "canary", canary: [], soakMinutes: 2 });
    const full = await cluster("rollout: {commits: canary, canary: [n1], soakMinutes: 5, changeSoakMinutes: 0.5, nodeMinutes: 3}\n");
    expect(commitCanaries(full)).toEqual(["n1"]);
    expect(commitCanaries(await cluster("updates: {canary: [n2]}\nrollout: canary\n"))).toEqual(["n2"]);
    expect(commitCanaries(await cluster("updates: {canary: [n2]}\n"))).toEqual([]);
  });

  test("all of it", async () => {
    const text = `groups:
  cluster: {maxUnavailable: 1}
  etcd: {members: [n1, n2, n3], maxUnavailable: 0}
  pair: {members: [n1, n2], acceptOutage: true}
windows:
  night: {opens: "0 23 * * fri", zone: europe/berlin, lengthMinutes: 180}
updates:
  windows: [night]
  canary: [n2]
  order: [n3, n1]
  exclude: [linux-image-*]
  blackouts: [{from: 2026-12-24, to: 2026-12-26, zone: Europe/Berlin}]
checks:
  web: {http: "http://10.0.0.1/", status: 200}
  db: {tcp: "[::1]:5432"}
  name: {dns: example.org, server: 10.0.0.1}
  vip: {ping: 10.0.0.10, gates: false}
  own: {command: [/usr/local/bin/look, -q]}
`;
    const { groups, windows, checks } = await cluster(text);
    expect(groups["etcd"]).toEqual({ members: ["n1", "n2", "n3"], maxUnavailable: 0, acceptOutage: false });
    expect(windows["night"]).toEqual({ opens: "0 23 * * fri", zone: "europe/berlin", lengthMinutes: 180 });
    expect(checks["db"]).toEqual({ tcp: "[::1]:5432", everySeconds: 10, timeoutSeconds: 5, failuresMax: 3, gates: true });
  });
});

describe("what is refused, with the place and what to write", () => {
  const used = 'windows:\n  night: {opens: "0 2 * * *", lengthMinutes: 60}\n';
  test.each([
    ["a member that is no node", "groups:\n  etcd: {members: [n1, n22]}\n", "2:24", 'group "etcd" has a member "n22", but there is no nodes/n22.yaml', 'did you mean "n2"?'],
    ["a member twice", "groups:\n  etcd: {members: [n1, n2, n1]}\n", "2:28", '"n1" is listed twice', "remove one"],
    ["members of the whole cluster", "groups:\n  cluster: {members: [n1]}\n", "2:22", "the group cluster holds every node: leave members out", ""],
    ["a group without members", "groups:\n  etcd: {maxUnavailable: 1}\n", "2:3", "groups.etcd: members is missing", ""],
    ["a group's name", "groups:\n  Etcd: {members: [n1]}\n", "2:3", '"Etcd" cannot be a key of groups: a group\'s name is', ""],
    ["a mistyped field", "groups:\n  etcd: {members: [n1, n2, n3], acceptoutage: true}\n", "2:33", 'unknown field "acceptoutage" in groups.etcd', 'did you mean "acceptOutage"?'],
    ["a window that is none", `${used}updates:\n  windows: [nihgt]\n`, "4:13", 'there is no window "nihgt"', 'did you mean "night"?'],
    ["a window, where there are none", "updates:\n  windows: [night]\n", "2:13", 'there is no window "night"', 'write windows: {night: {opens: "0 2 * * *"'],
    ["a window twice", `${used}updates:\n  windows: [night, night]\n`, "4:20", '"night" is listed twice in updates.windows', "remove one"],
    ["a canary that is no node", "updates:\n  canary: [n4]\n", "2:12", 'updates.canary names "n4", but there is no nodes/n4.yaml', 'did you mean "n1"?'],
    ["a canary twice", "updates:\n  canary: [n1, n1]\n", "2:16", '"n1" is listed twice in updates.canary', ""],
    ["a commit's canary that is nobody", "rollout: canary\n", "1:10", "commits go to the canary first, and no node is the canary", "name one: updates: {canary: [n1]}"],
    ["a commit's canary that is no node", "rollout:\n  canary: [n4]\n", "2:12", 'rollout.canary names "n4", but there is no nodes/n4.yaml', 'did you mean "n1"?'],
    ["a commit's canary twice", "rollout:\n  canary: [n1, n1]\n", "2:16", '"n1" is listed twice in rollout.canary', ""],
    ["an order with a stranger", "updates:\n  order:\n    - n1\n    - zebra\n", "4:7", 'updates.order names "zebra"', "add the node's file"],
    ["a cron expression", 'windows:\n  night: {opens: "0 25 * * *", lengthMinutes: 60}\n', "2:18", "windows.night.opens: the hour is \"25\": \"25\" is not 0 to 23", ""],
    ["a day that no year has", 'windows:\n  night: {opens: "0 2 30 2 *", lengthMinutes: 60}\n', "2:18", "no such day exists in any year", ""],
    ["a zone that does not exist", 'windows:\n  night: {opens: "0 2 * * *", zone: Europe/Belin, lengthMinutes: 60}\n', "2:37", 'there is no time zone "Europe/Belin"', 'did you mean "Europe/Berlin"?'],
    ["a zone without its continent", 'windows:\n  night: {opens: "0 2 * * *", zone: Lord_Howe, lengthMinutes: 60}\n', "2:37", 'there is no time zone "Lord_Howe"', 'did you mean "Australia/Lord_Howe"?'],
    ["a blackout's zone", "updates:\n  blackouts:\n    - {from: 2026-12-24, to: 2026-12-24, zone: Mars/Olympus}\n", "3:48", 'there is no time zone "Mars/Olympus"', "timedatectl list-timezones"],
    ["a length that is missing", 'windows:\n  night: {opens: "0 2 * * *"}\n', "2:3", 'windows.night lacks "lengthMinutes"', ""],
    ["a day that does not exist", "updates:\n  blackouts:\n    - {from: 2026-02-29, to: 2026-03-01}\n", "3:14", "updates.blackouts[0].from: no calendar has the day 2026-02-29", ""],
    ["a blackout that ends before it begins", "updates:\n  blackouts:\n    - {from: 2026-12-26, to: 2026-12-24}\n", "3:30", "the last day 2026-12-24 is before the first day 2026-12-26", "swap them"],
    ["a choice", "updates:\n  onDrainTimeout: goon\n", "2:19", 'expected "undo" or "go-on", found "goon"', 'did you mean "go-on"?'],
    ["a package's pattern", "updates:\n  exclude: ['Linux image']\n", "2:13", "a package's name, or a pattern with * and ?", ""],
  ])("%s", async (_what, text, place, message, help) => {
    const [line = "", column = ""] = place.split(":");
    const output = told(await load(text));
    expect(output).toContain(`cluster.yaml:${HEAD_LINES + Number(line)}:${column}: error: `);
    expect(output).toContain(message);
    expect(output).toContain(help);
    expect(output).toMatch(/\n1 error( and 1 warning)? in 1 file\n$/);
  });
});

describe("checks have exactly one way to look", () => {
  const choice = "a check has exactly one of http, tcp, dns, ping, command";
  test.each([
    ["none", "{everySeconds: 5}", `2:3: error: checks.web: ${choice}; here is none of them`, ""],
    ["none of several mistakes", "{status: 999, gates: maybe}", `2:3: error: checks.web: ${choice}; here is none of them`, ""],
    ["a mistyped one", '{htpp: "http://10.0.0.1/"}', `2:3: error: checks.web: ${choice}; here is none of them`, 'is "htpp" meant to be "http"?'],
    ["two", '{http: "http://10.0.0.1/", ping: 10.0.0.1}', `2:3: error: checks.web: ${choice}; here are http and ping`, ""],
    ["not a map", "http://10.0.0.1/", '2:8: error: checks.web: expected a map, found "http://10.0.0.1/"', ""],
    ["another's field", "{tcp: '10.0.0.1:80', status: 200, contains: x}", '2:29: error: unknown field "status" in checks.web', "known here: tcp, everySeconds"],
    ["a mistyped field", "{ping: 10.0.0.1, evrySeconds: 5}", '2:25: error: unknown field "evrySeconds" in checks.web', 'did you mean "everySeconds"?'],
    ["a bad value", "{http: 'ftp://10.0.0.1/'}", '2:15: error: checks.web.http: "ftp://10.0.0.1/" is not a valid url', ""],
    ["many bad values", "{http: x, status: 1, contains: '', insecure: 1}", "2:15: error: checks.web.http", "checks.web.status: must be at least 100"],
    ["an address without a port", "{tcp: 10.0.0.1}", "2:14: error: checks.web.tcp: an address and a port, such as 10.77.1.10:5432", 'found "10.0.0.1"'],
    ["an empty command", "{command: []}", "2:18: error: checks.web.command: must have at least 1 items", ""],
  ])("%s", async (_what, entry, message, more) => {
    const output = told(await load(`checks:\n  web: ${entry}\n`));
    expect(output).toContain(`cluster.yaml:${message.replace(/^\d+/, (line) => String(HEAD_LINES + Number(line)))}`);
    expect(output).toContain(more);
    expect(output).not.toContain("lacks");
  });
});

describe("what will not do what its author hopes is a warning", () => {
  const night = (lengthMinutes: number) => `windows:\n  night: {opens: "0 2 * * *", lengthMinutes: ${lengthMinutes}}\nupdates:\n  windows: [night]\n`;
  test.each([
    ["a group of two", "groups:\n  pair: {members: [n1, n2]}\n", "2:3", 'no member of group "pair" will ever be rebooted: it has only 2 members', "write acceptOutage: true if that is fine"],
    ["a group of one", "groups:\n  one: {members: [n1]}\n", "2:3", 'no member of group "one" will ever be rebooted: it has only 1 member,', "acceptOutage"],
    ["maxUnavailable above the quorum", "groups:\n  etcd: {members: [n1, n2, n3], maxUnavailable: 2}\n", "2:49", "maxUnavailable: 2 has no effect: of 3 members, at most 1 may be down at once", ""],
    ["maxUnavailable of the whole cluster", "groups:\n  cluster: {maxUnavailable: 2}\n", "2:29", "maxUnavailable: 2 has no effect: of 3 members", ""],
    ["acceptOutage for three", "groups:\n  etcd: {members: [n1, n2, n3], acceptOutage: true}\n", "2:47", "acceptOutage has no effect on a group of 3", ""],
    ["a window that is too short", night(20), "2:46", 'nothing will ever start in the window "night"', "make it at least 30 minutes long"],
    ["a window that nothing uses", 'windows:\n  night: {opens: "0 2 * * *", lengthMinutes: 60}\n', "2:3", 'nothing uses the window "night"', "name it in updates: {windows: [night]}"],
  ])("%s", async (_what, text, place, message, help) => {
    const [line = "", column = ""] = place.split(":");
    const loaded = await load(text);
    expect(loaded.ok).toBe(true);
    expect(told(loaded)).toContain(`cluster.yaml:${HEAD_LINES + Number(line)}:${column}: warning: ${message}`);
    expect(told(loaded)).toContain(help);
    expect(told(loaded)).toMatch(/\n1 warning in 1 file\n$/);
  });

  test("a cluster of two, when updates are asked for", async () => {
    const two = { "nodes/n1.yaml": "", "nodes/n2.yaml": "" };
    const updates = "updates: {soakMinutes: 1}\n";
    expect(told(await load(updates, two))).toContain("cluster.yaml:4:1: warning: no node will ever be rebooted: the cluster has only 2 nodes");
    expect(told(await load(`${updates}groups: {cluster: {acceptOutage: true}}\n`, two))).toBe("");
    expect(told(await load("", two))).toBe("");
  });

  test("a group that is to stay up as a whole is left at that; a window of just the right length is fine", async () => {
    expect(told(await load("groups:\n  pair: {members: [n1, n2], maxUnavailable: 0}\n"))).toBe("");
    expect(told(await load(night(30)))).toBe("");
  });
});

describe("a machine without our agent", () => {
  const id = "35ba2101ae3f4d45b96e9c51f461bbff";
  const files = { ...three, "nodes/coreos.yaml": `address: 10.0.0.9\nfleetlock: {id: ${id}}\n` };

  test("is a node like the others, with nothing to apply", async () => {
    const loaded = await load("vars: {title: T}\ngroups:\n  etcd: {members: [n1, n2, coreos]}\n", files);
    if (!loaded.ok) throw new Error(told(loaded));
    const node = loaded.repository.nodes.get("coreos" as never);
    expect(node).toMatchObject({ name: "coreos", address: "10.0.0.9", fleetlock: { id, group: "default" }, roles: [] });
    expect(node?.sections.size).toBe(0);
    expect(loaded.repository.nodes.get("n1" as never)).not.toHaveProperty("fleetlock");
    const alone = await loadNode(memoryTree({ "cluster.yaml": `${head}vars: {title: T}\n`, ...files }), kinds, "coreos");
    expect(alone.ok && alone.node).toEqual(node);
    expect(node?.merged).toMatchObject({ address: "10.0.0.9", fleetlock: { id } });
    expect(node?.provenance.get("/fleetlock/id")).toMatchObject({ file: "nodes/coreos.yaml", line: 2 });
  });

  test.each([
    ["a section", `fleetlock: {id: ${id}}\nthings: {jq: present}\n`, "2:1: error: a machine with fleetlock: runs no agent of ours, so nothing there would heed things:", "remove things:"],
    ["roles", `roles: [r]\nfleetlock: {id: ${id}}\n`, "1:1: error: a machine with fleetlock: runs no agent", "remove roles:"],
    ["vars", `fleetlock: {id: ${id}}\nvars: {a: 1}\n`, "2:1: error: a machine with fleetlock: runs no agent", "remove vars:"],
    ["an id that is none", "fleetlock: {id: 35BA}\n", "1:17: error: fleetlock.id: 32 lower-case hex digits, as the machine sends it", 'found "35BA"'],
    ["no id", "fleetlock: {group: default}\n", '1:1: error: fleetlock lacks "id"', ""],
    ["nothing", "fleetlock:\n", "1:1: error: fleetlock: expected a map, found nothing", ""],
    ["another's id", `fleetlock: {group: default, id: ${id}}\n`, "1:33: error: nodes/coreos.yaml has the same fleetlock id in the same group", "each machine's own id"],
  ])("%s", async (_what, text, message, help) => {
    const output = told(await load("", { ...files, "nodes/flat.yaml": text, "roles/r.yaml": "" }));
    expect(output).toContain(`nodes/flat.yaml:${message}`);
    expect(output).toContain(help);
  });

  test("the same id in another group is another machine", async () => {
    expect(told(await load("", { ...files, "nodes/flat.yaml": `fleetlock: {id: ${id}, group: flatcar}\n` }))).toBe("");
  });

  test("a role has none, and sections of it go into the right file", async () => {
    const output = told(await load("", { "nodes/n1.yaml": "roles: [r]\nupdates: {}\n", "roles/r.yaml": `fleetlock: {id: ${id}}\n` }));
    expect(output).toContain("roles/r.yaml:1:1: error: a role has no fleetlock");
    expect(output).toContain("nodes/n1.yaml:2:1: error: updates belongs in cluster.yaml");
  });
});
