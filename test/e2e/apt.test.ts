import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Apt } from "../../agent/host/apt.ts";
import type { AptRun, PackageResult } from "../../agent/host/apt.ts";
import type { PackageStep } from "../../agent/host/host.ts";
import { HostProbe } from "../../agent/host/probe.ts";
import { Processes } from "../../agent/host/process.ts";
import { Content } from "../../shared/config/content.ts";
import { apt as aptKind } from "../../shared/kinds/apt.ts";
import type { Json, Step } from "../../shared/kinds/kind.ts";
import { declaredPresent, packages } from "../../shared/kinds/packages.ts";
import { until } from "../lab/command.ts";
import { Lab } from "../lab/lab.ts";

// The kinds `apt` and `packages` and the transaction behind them, against the apt and dpkg of a real Debian node.

const execute = promisify(execFile);
const NODE = "n1";
const LOCK_TIMEOUT_SECONDS = 3;
/** Each takes 1 to 4 s; the machines are shared. */
const timeout = 120_000;

let lab: Lab;
let work: string;

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "evenkeel-apt-"));
  lab = new Lab({ name: "apt", nodes: [NODE], stateDirectory: join(work, "lab"), downOnExit: true });
  await lab.up();
  await publish([
    ...["1.0", "1.1", "2.0"].map((version) => ({ name: "ek-one", version, conffile: true })),
    ...["ek-two", "ek-four", "ek-five"].map((name) => ({ name })),
    { name: "ek-three", fields: "Depends: ek-one" },
    { name: "ek-rival", fields: "Conflicts: ek-one" },
    { name: "ek-provider", fields: "Provides: ek-virtual" },
    { name: "ek-slow", postinst: "[ -e /run/ek-fast ] || sleep 300" },
    { name: "ek-slow-start", preinst: "[ -e /run/ek-fast ] || sleep 300" },
    { name: "ek-broken", postinst: "echo cannot reach the moon >&2; exit 1" },
    { name: "ek-needs-broken", fields: "Depends: ek-broken" },
    { name: "ek-unmet", fields: "Depends: ek-nowhere (>= 3)" },
    { name: "ek-big", payloadBytes: 3_000_000 },
  ]);
}, 20 * 60_000);

afterAll(async () => {
  await lab.wipe();
  await rm(work, { recursive: true, force: true });
}, 120_000);

interface Toy {
  readonly name: string;
  readonly version?: string;
  readonly fields?: string;
  readonly preinst?: string;
  readonly postinst?: string;
  readonly conffile?: boolean;
  readonly payloadBytes?: number;
}

/** A signed repository with a pool, made on this machine and copied into the node as /srv/toys. */
async function publish(toys: readonly Toy[]): Promise<void> {
  const stanzas: string[] = [];
  for (const toy of toys) {
    const { file, bytes, control } = await buildToy(toy);
    await lab.writeFile(NODE, `/srv/toys/pool/${file}`, bytes);
    stanzas.push(`${control}Filename: pool/${file}\nSize: ${bytes.length}\nSHA256: ${sha256(bytes)}\n`);
  }
  const index = Buffer.from(stanzas.join("\n"));
  const lines = [
    "Origin: Toys",
    "Suite: stable",
    "Codename: stable",
    `Date: ${new Date().toUTCString().replace("GMT", "+0000")}`,
    "Architectures: amd64 arm64",
    "Components: main empty",
    "SHA256:",
    ...["amd64", "arm64"].flatMap((arch) => [` ${sha256(index)} ${index.length} main/binary-${arch}/Packages`, ` ${sha256(Buffer.alloc(0))} 0 empty/binary-${arch}/Packages`]),
  ];
  const home = join(work, "gnupg");
  await mkdir(home, { mode: 0o700 });
  const gpg = (...args: string[]) => execute("gpg", ["--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", ...args]);
  await gpg("--quick-gen-key", "toys@invalid", "ed25519", "sign", "never");
  await writeFile(join(work, "Release"), `${lines.join("\n")}\n`);
  await gpg("--clearsign", "--output", join(work, "InRelease"), join(work, "Release"));
  await gpg("--armor", "--export", "--output", join(work, "toys.asc"), "toys@invalid");
  await execute("gpgconf", ["--homedir", home, "--kill", "all"]);
  for (const arch of ["amd64", "arm64"]) await lab.writeFile(NODE, `/srv/toys/dists/stable/main/binary-${arch}/Packages`, index);
  await lab.writeFile(NODE, "/srv/toys/dists/stable/InRelease", await readFile(join(work, "InRelease")));
}

async function buildToy({ name, version = "1.0", fields, preinst, postinst, conffile, payloadBytes }: Toy): Promise<{ file: string; bytes: Buffer; control: string }> {
  const tree = join(work, "build", `${name}-${version}`);
  const control = `Package: ${name}\nVersion: ${version}\nArchitecture: all\nMaintainer: lab <lab@invalid>\n${fields === undefined ? "" : `${fields}\n`}Description: toy\n`;
  await mkdir(join(tree, "DEBIAN"), { recursive: true, mode: 0o755 });
  await mkdir(join(tree, `usr/share/${name}`), { recursive: true });
  await writeFile(join(tree, "DEBIAN/control"), control);
  await writeFile(join(tree, `usr/share/${name}/version`), version);
  if (payloadBytes !== undefined) await writeFile(join(tree, `usr/share/${name}/payload`), Buffer.alloc(payloadBytes, 7));
  if (preinst !== undefined) await writeFile(join(tree, "DEBIAN/preinst"), `#!/bin/sh\n${preinst}\n`, { mode: 0o755 });
  if (postinst !== undefined) await writeFile(join(tree, "DEBIAN/postinst"), `#!/bin/sh\n${postinst}\n`, { mode: 0o755 });
  if (conffile === true) {
    await mkdir(join(tree, "etc"));
    await writeFile(join(tree, `etc/${name}.conf`), version);
    await writeFile(join(tree, "DEBIAN/conffiles"), `/etc/${name}.conf\n`);
  }
  const file = `${name}_${version}_all.deb`;
  await execute("dpkg-deb", ["--root-owner-group", "-Zgzip", "-z1", "--build", tree, join(work, file)]);
  return { file, bytes: await readFile(join(work, file)), control };
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Programs run in the node; the commands that were run are kept for a look. */
function inNode(commands: string[] = []): AptRun {
  return async (argv, { timeoutMs = 60_000, env = {} } = {}) => {
    commands.push(argv.join(" "));
    return lab.exec(NODE, argv, { timeoutMs, env });
  };
}

/** The node's files, its own /proc among them, through the root of its PID 1. */
function probeOfNode(): HostProbe {
  return new HostProbe(new Processes().run, `/proc/${lab.pid1(NODE)}/root`);
}

async function planPackages(section: object, owned: ReadonlyMap<string, Json> = new Map()): Promise<readonly Step[]> {
  const want = packages.schema.parse(section);
  return packages.plan(want, await packages.observe(want, probeOfNode(), owned), owned);
}

/** What the engine does with a plan of packages: repairs one by one, then everything else in one transaction. */
async function converge(section: object, owned: ReadonlyMap<string, Json> = new Map(), run: AptRun = inNode()): Promise<ReadonlyMap<string, PackageResult>> {
  const steps = await planPackages(section, owned);
  for (const step of steps) if (step.do === "run") await run(step.argv, { timeoutMs: step.timeoutMs });
  const changes = steps.filter((step): step is PackageStep => step.do === "package");
  const declared = declaredPresent(packages.schema.parse(section));
  return new Apt(run, { lockTimeoutSeconds: LOCK_TIMEOUT_SECONDS }).transaction(changes, { declared });
}

function outcome(results: ReadonlyMap<string, PackageResult>, resource: string): string {
  const result = results.get(resource);
  return result === undefined ? "not there" : result.ok ? "ok" : `${result.code}: ${result.message}`;
}

async function stateOf(name: string): Promise<string> {
  const { stdout } = await lab.exec(NODE, ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", name]);
  return stdout.trim();
}

describe("the section apt", { timeout }, () => {
  const section = () => aptKind.schema.parse({ sources: { toys: { uris: ["file:/srv/toys"], suites: ["stable"], components: ["main", "empty"], key: "filled below" } }, pins: { two: { package: "ek-two", pin: "version 1.*", priority: 700 } }, options: { "Acquire::Languages": ["none"] } });
  let owned: Map<string, Json>;

  async function plan(want: ReturnType<typeof section>): Promise<readonly Step[]> {
    return aptKind.plan(want, await aptKind.observe(want, probeOfNode(), owned), owned);
  }

  async function apply(steps: readonly Step[]): Promise<string> {
    let said = "";
    for (const step of steps) {
      const key = step.resource.slice("apt/".length);
      if (step.claim !== undefined && !owned.has(key)) owned.set(key, step.claim);
      if (step.do === "write") await lab.writeFile(NODE, step.path, step.content, step.mode);
      if (step.do === "restore" || step.do === "remove") await lab.exec(NODE, ["rm", "-f", step.path]);
      if (step.do === "run") {
        const output = await lab.exec(NODE, step.argv, { timeoutMs: step.timeoutMs });
        if (output.code !== 0) said += output.stderr;
      }
      if (step.release === true) owned.delete(key);
    }
    return said;
  }

  async function withKey(want: ReturnType<typeof section>): Promise<ReturnType<typeof section>> {
    const key = new Content({ file: "toys.asc" }, await readFile(join(work, "toys.asc")));
    return { ...want, sources: { toys: { ...want.sources["toys"]!, key } } };
  }

  beforeAll(() => {
    owned = new Map();
  });

  test("a source with its key, a pin and an option converge at once, an empty component included", async () => {
    const want = await withKey(section());
    expect((await plan(want)).map(({ resource, do: action }) => `${resource} ${action}`)).toEqual([
      "apt/options write",
      "apt/pins/two write",
      "apt/sources/toys write",
      "apt/sources/toys write",
      "apt/sources/toys run",
    ]);
    expect(await apply(await plan(want))).toBe("");
    expect(await plan(want)).toEqual([]);
    const { stdout } = await lab.exec(NODE, ["apt-cache", "policy", "ek-two"]);
    expect(stdout).toContain("1.0 700");
    expect((await lab.exec(NODE, ["apt-config", "dump", "Acquire::Languages"])).stdout).toContain('Acquire::Languages:: "none"');
  });

  test("lists that were lost, or never fetched after a crash, are fetched", async () => {
    const want = await withKey(section());
    await lab.shell(NODE, "rm /var/lib/apt/lists/_srv_toys_*");
    const steps = await plan(want);
    expect(steps.map(({ why }) => why)).toEqual(["the package lists of stable at file:/srv/toys/ have not been fetched"]);
    await apply(steps);
    expect(await plan(want)).toEqual([]);
  });

  test("a source that cannot be fetched fails by itself, with its reason", async () => {
    const before = await withKey(section());
    const broken = aptKind.schema.parse({ sources: { broken: { uris: ["http://127.0.0.1:9/debian"], suites: ["stable"], components: ["main"], signedBy: "/etc/apt/keyrings/evenkeel-toys.asc" } } });
    const want = { ...before, sources: { ...before.sources, ...broken.sources } };
    const steps = await plan(want);
    expect(steps.map(({ resource }) => resource)).toEqual(["apt/sources/broken", "apt/sources/broken"]);
    expect(await apply(steps)).toMatch(/127\.0\.0\.1:9.*Connection refused/);
    expect((await plan(want)).map(({ resource }) => resource)).toEqual(["apt/sources/broken"]);
    expect(outcome(await converge({ "ek-five": "present" }), "packages/ek-five")).toBe("ok");
    await apply(await plan(before));
    expect(await plan(before)).toEqual([]);
    expect((await lab.exec(NODE, ["test", "-e", "/etc/apt/sources.list.d/evenkeel-broken.sources"])).code).toBe(1);
  });

  test("a signature by another key is refused by apt, and said of that source", async () => {
    const before = await withKey(section());
    const want = { ...before, sources: { stranger: { ...before.sources["toys"]!, uris: ["file:///srv/toys/"], key: undefined, signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg" } } };
    const steps = (await plan(want)).filter(({ resource }) => resource === "apt/sources/stranger");
    // The same repository under two keys would be a conflict of the two sources: the first one is out of the way.
    await lab.exec(NODE, ["mv", "/etc/apt/sources.list.d/evenkeel-toys.sources", "/srv/kept"]);
    expect(await apply(steps)).toContain("NO_PUBKEY");
    await lab.exec(NODE, ["mv", "/srv/kept", "/etc/apt/sources.list.d/evenkeel-toys.sources"]);
    await lab.exec(NODE, ["rm", "/etc/apt/sources.list.d/evenkeel-stranger.sources"]);
    owned.delete("sources/stranger");
    await lab.shell(NODE, "rm -f /var/lib/apt/lists/_srv_toys_*");
    await apply(await plan(before));
  });
});

describe("the section packages", { timeout }, () => {
  test("five packages go in one transaction, and nothing is left to do", async () => {
    const section = { "ek-one": { version: "1.1" }, "ek-two": "present", "ek-three": "present", "ek-four": "present", "ek-provider": "present" };
    const commands: string[] = [];
    const results = await converge(section, new Map(), inNode(commands));
    expect([...results.values()].every(({ ok }) => ok)).toBe(true);
    expect(commands.filter((command) => command.startsWith("apt-get") && command.includes(" -y "))).toHaveLength(1);
    expect(commands).toHaveLength(4);
    expect(await planPackages(section)).toEqual([]);
  });

  test("what does not exist, or cannot be satisfied, does not keep the rest back", async () => {
    const results = await converge({ "ek-nope": "present", "ek-virtual": "present", "ek-provider": { version: "9" }, "ek-unmet": "present", "ek-slower": "absent", "ek-five": "purged", "ek-big": "present" });
    expect(outcome(results, "packages/ek-nope")).toMatch(/^unknown-package: .*ek-nope/);
    expect(outcome(results, "packages/ek-virtual")).toMatch(/^unknown-package: ek-virtual is a virtual package: write the one that provides it/);
    expect(outcome(results, "packages/ek-provider")).toMatch(/^unknown-version: .*9 of ek-provider/);
    expect(outcome(results, "packages/ek-unmet")).toMatch(/^unsatisfiable: .*ek-nowhere/);
    expect(outcome(results, "packages/ek-five")).toBe("ok");
    expect(outcome(results, "packages/ek-big")).toBe("ok");
  });

  test("nothing declared, essential or unnamed is removed on the way", async () => {
    const refused = await converge({ "ek-one": "present", "ek-rival": "present", hostname: "absent" });
    expect(outcome(refused, "packages/ek-rival")).toBe("refused: apt would have to remove ek-one, which the repository wants present: declare one of the two absent");
    expect(outcome(refused, "packages/hostname")).toMatch(/^refused: hostname is essential/);
    expect(outcome(await converge({ "ek-rival": "present" }), "packages/ek-rival")).toMatch(/^refused: .*ek-three: absent/);
    expect(outcome(await converge({ "ek-one": "absent", "ek-three": "present" }), "packages/ek-one")).toMatch(/^refused: .*ek-three, which the repository wants present/);
    expect(await stateOf("ek-one")).toBe("ii 1.1");
    expect(await stateOf("hostname")).toMatch(/^ii /);
  });

  test("an exact version goes down when named, and a hold stays through a change of version", async () => {
    expect(outcome(await converge({ "ek-one": { version: "1.0", hold: true } }), "packages/ek-one")).toBe("ok");
    expect(await stateOf("ek-one")).toBe("hi 1.0");
    expect(outcome(await converge({ "ek-one": { version: "2.0", hold: true } }), "packages/ek-one")).toBe("ok");
    expect(await stateOf("ek-one")).toBe("hi 2.0");
    await converge({}, new Map<string, Json>([["ek-one/hold", {}]]));
    expect(await stateOf("ek-one")).toBe("ii 2.0");
  });

  test("what the agent installed goes when it is no longer declared, its configuration stays, and a purge takes that too", async () => {
    await converge({}, new Map<string, Json>([["ek-one", {}]]));
    expect(await stateOf("ek-one")).toBe("rc 2.0");
    await converge({ "ek-one": "purged" });
    expect((await lab.exec(NODE, ["dpkg", "-s", "ek-one"])).code).toBe(1);
  });

  test("a package whose script fails says so itself, and the others are installed", async () => {
    const section = { "ek-broken": "present", "ek-needs-broken": "present", "ek-five": "present" };
    const results = await converge(section);
    expect(outcome(results, "packages/ek-broken")).toMatch(/^dpkg-failed: .*cannot reach the moon/);
    expect(outcome(results, "packages/ek-needs-broken")).toMatch(/ek-broken is not configured yet/i);
    expect(outcome(results, "packages/ek-five")).toBe("ok");
    expect((await planPackages(section)).map(({ resource }) => resource)).toEqual(["packages/ek-broken", "packages/ek-needs-broken"]);
    // Nobody's packages are for dpkg itself to finish, which fails again, and does not keep the rest from being done.
    expect((await planPackages({ "ek-four": "present" })).map(({ resource }) => resource)).toEqual(["packages/(dpkg)", "packages/(apt)"]);
    expect(outcome(await converge({ "ek-four": "purged" }), "packages/ek-four")).toBe("ok");
    await converge({ "ek-broken": "purged", "ek-needs-broken": "purged" });
    expect(await planPackages({})).toEqual([]);
  });

  test("a full file system is named", async () => {
    await lab.shell(NODE, "apt-get -y -qq purge ek-big; mkdir -p /usr/share/ek-big && mount -t tmpfs -o size=1m full /usr/share/ek-big");
    const results = await converge({ "ek-big": "present", "ek-two": "purged" });
    expect(outcome(results, "packages/ek-big")).toMatch(/^disk-full: .*No space left on device/);
    expect(outcome(results, "packages/ek-two")).toBe("ok");
    await lab.shell(NODE, "umount /usr/share/ek-big");
    await converge({ "ek-big": "present" });
    expect(await planPackages({ "ek-big": "present" })).toEqual([]);
  });

  test("another apt at work is waited for, named, and not taken for an interruption; killed, it is repaired", async () => {
    await lab.shell(NODE, "setsid -f apt-get -y -q install ek-slow >/dev/null 2>&1 </dev/null");
    await until("the slow script to run", 30_000, async () => ((await lab.exec(NODE, ["pgrep", "-f", "ek-slow.postinst"])).code === 0 ? true : undefined));
    expect(await planPackages({})).toEqual([]);
    const results = await converge({ "ek-two": "present" });
    expect(outcome(results, "packages/ek-two")).toMatch(/^locked: process \d+ \(apt-get\)/);
    await lab.shell(NODE, "touch /run/ek-fast; pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -f ek-slow.postinst");
    const repair = await planPackages({ "ek-two": "present" });
    expect(repair[0]).toMatchObject({ resource: "packages/(dpkg)", do: "run" });
    expect(repair[0]?.why).toMatch(/^dpkg was interrupted/);
    expect(outcome(await converge({ "ek-two": "present" }), "packages/ek-two")).toBe("ok");
    expect(await stateOf("ek-slow")).toBe("ii 1.0");
    expect(await planPackages({ "ek-two": "present" })).toEqual([]);
  });

  test("a package whose unpacking was cut off is installed again, and its name says why", async () => {
    await lab.shell(NODE, "rm -f /run/ek-fast; setsid -f apt-get -y -q install ek-slow-start >/dev/null 2>&1 </dev/null");
    await until("the slow script to run", 30_000, async () => ((await lab.exec(NODE, ["pgrep", "-f", "preinst install"])).code === 0 ? true : undefined));
    await lab.shell(NODE, "touch /run/ek-fast; pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -f 'preinst install'");
    expect((await planPackages({})).map(({ resource, why }) => `${resource} ${why}`)).toContain("packages/ek-slow-start is half-installed: its unpacking was interrupted");
    await converge({});
    expect(await stateOf("ek-slow-start")).toBe("ii 1.0");
    expect(await planPackages({})).toEqual([]);
  });
});
