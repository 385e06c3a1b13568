import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { UpdateResult, UpdatesMessage } from "../../shared/protocol/updates.ts";
import type { UpdateOrder } from "../../shared/protocol/updates.ts";
import type { Refreshed } from "../../agent/updates/updates.ts";
import { until } from "../lab/command.ts";
import { Lab } from "../lab/lab.ts";
import type { PublishOptions } from "../lab/lab.ts";
import { LabRepository, securityRelease } from "../lab/repository.ts";

// The node's OS updates against the apt and dpkg of real Debian nodes, by a process of their own in the node.

/** Each takes 2 to 10 s; the machines are shared. */
const timeout = 180_000;
const STATE = "/var/lib/evenkeel-test";
const LOCK_TIMEOUT_SECONDS = 3;
const order: UpdateOrder = { scope: "all", exclude: [], deferDays: 0, pinned: null, reboot: "required" };

let lab: Lab;
let work: string;
let security: LabRepository;
let main: LabRepository;

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "evenkeel-upd-"));
  const node = await realpath(join(import.meta.dirname, "../../node_modules/.bin/node"));
  lab = new Lab({ name: "upd", nodes: ["n1", "n2"], stateDirectory: join(work, "lab"), binds: [{ from: dirname(node), to: "/opt/node" }], downOnExit: true });
  await lab.up();
  main = new LabRepository(join(work, "lab", "repo"));
  security = new LabRepository(join(work, "lab", "repo", "security"), securityRelease);
  await security.create();
  const { outputFiles } = await build({ entryPoints: [join(import.meta.dirname, "updates-in-node.ts")], bundle: true, write: false, platform: "node", target: "node26", format: "esm", logLevel: "warning" });
  for (const name of lab.nodes) {
    await lab.writeFile(name, "/opt/updates.mjs", outputFiles[0]!.contents);
    await lab.writeFile(name, "/etc/apt/sources.list.d/security.list", "deb [trusted=yes] file:/srv/repo/security ./\n");
  }
}, 20 * 60_000);

afterAll(async () => {
  await lab.wipe();
  await rm(work, { recursive: true, force: true });
}, 120_000);

interface Options {
  readonly aheadMs?: number;
  readonly order?: Partial<UpdateOrder>;
}

function argv(call: string, { aheadMs = 0, order: more = {} }: Options = {}): string[] {
  return ["/opt/node/node", "/opt/updates.mjs", JSON.stringify({ call, stateDir: STATE, lockTimeoutSeconds: LOCK_TIMEOUT_SECONDS, aheadMs, order: { ...order, ...more } })];
}

async function call(node: string, name: string, options: Options = {}): Promise<{ readonly result: unknown; readonly processes: number }> {
  const { code, stdout, stderr } = await lab.exec(node, argv(name, options), { timeoutMs: timeout });
  if (code !== 0) throw new Error(`${name} in ${node} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as { result: unknown; processes: number };
}

async function look(node: string, options?: Options): Promise<UpdatesMessage> {
  return UpdatesMessage.parse((await call(node, "look", options)).result);
}

async function apply(node: string, more: Partial<UpdateOrder> = {}, options: Options = {}): Promise<UpdateResult> {
  return UpdateResult.parse((await call(node, "apply", { ...options, order: more })).result);
}

async function recover(node: string): Promise<UpdateResult | null> {
  return UpdateResult.nullable().parse((await call(node, "recover")).result);
}

async function refresh(node: string): Promise<Refreshed> {
  return (await call(node, "refresh")).result as Refreshed;
}

async function shell(node: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.shell(node, script, { timeoutMs: timeout });
  if (code !== 0) throw new Error(`${script} ended with ${code}: ${stderr}`);
  return stdout.trim();
}

/** Publishes version 1.0 of each and installs it on the nodes. */
async function have(nodes: readonly string[], packages: Readonly<Record<string, PublishOptions>>): Promise<void> {
  for (const [name, options] of Object.entries(packages)) await lab.publish(name, "1.0", options);
  const names = Object.keys(packages).map((name) => `${name}=1.0`).join(" ");
  await Promise.all(nodes.map((node) => shell(node, `apt-get -q update && apt-get -y -q install ${names}`)));
}

async function versionOf(node: string, name: string): Promise<string> {
  return (await lab.exec(node, ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", name])).stdout.trim();
}

async function isClean(node: string): Promise<boolean> {
  return (await shell(node, "dpkg --audit; apt-get check -qq")) === "";
}

function pendingOf({ pending }: UpdatesMessage): Record<string, string> {
  return Object.fromEntries(pending.map(({ name, from, to, security: isSecurity }) => [name, `${from} ${to}${isSecurity ? " security" : ""}`]));
}

const changes = ({ changed }: UpdateResult): string[] => changed.map(({ name, from, to }) => `${name} ${from} ${to}`);

describe("a look", { timeout }, () => {
  test("finds what is pending, what is a security fix, what is held, and needs no reboot", async () => {
    await have(["n1", "n2"], { "up-plain": {}, "up-sec": {}, "up-skipped": {}, "up-held": {}, "up-later": {} });
    await shell("n1", "apt-mark hold up-held");
    expect(await look("n1")).toMatchObject({ error: null, pending: [], held: [], reboot: { needed: "no", why: [] }, restarts: { needed: "no", services: [] }, conflicts: [] });
    await lab.publish("up-new", "1.0");
    await lab.publish("up-plain", "1.1", { depends: ["up-new"] });
    await lab.publish("up-held", "1.1");
    await lab.publish("up-skipped", "1.2");
    await security.publish("up-skipped", "1.1", {});
    await security.publish("up-sec", "1.1", {});
    expect(await refresh("n1")).toEqual({ ok: true });
    const seen = await call("n1", "look");
    const message = UpdatesMessage.parse(seen.result);
    expect(pendingOf(message)).toEqual({ "up-plain": "1.0 1.1", "up-sec": "1.0 1.1 security", "up-skipped": "1.0 1.2 security" });
    expect(message.held).toEqual(["up-held"]);
    expect(seen.processes).toBe(2);
    expect((await look("n1", { aheadMs: 86_400_000 })).pending).toEqual(message.pending);
  });

  test("tells a source that cannot be reached, and keeps what it knew", async () => {
    await lab.writeFile("n1", "/etc/apt/sources.list.d/gone.list", "deb [trusted=yes] http://127.0.0.1:9/debian ./\n");
    expect(await refresh("n1")).toMatchObject({ ok: false, failure: { code: "lists", message: expect.stringContaining("127.0.0.1:9") } });
    const refused = await apply("n1");
    expect(refused).toMatchObject({ ok: false, changed: [], failure: { code: "lists" } });
    await shell("n1", "rm /etc/apt/sources.list.d/gone.list; mv /etc/apt/sources.list.d/lab.list /srv/; echo nonsense >/etc/apt/sources.list.d/bad.list");
    const message = await look("n1");
    expect(message.error).toMatch(/^apt cannot say what is pending: /);
    expect(Object.keys(pendingOf(message))).toEqual(["up-plain", "up-sec", "up-skipped"]);
    await shell("n1", "rm /etc/apt/sources.list.d/bad.list; mv /srv/lab.list /etc/apt/sources.list.d/; apt-get -q update");
  });

  test("is asked by a package for a reboot, and sees a service on replaced libraries", async () => {
    await shell("n2", "echo up-x >/run/reboot-required.pkgs; touch /run/reboot-required");
    expect((await call("n2", "rebootNeed")).result).toEqual({ needed: "yes", why: ["up-x asks for it (/run/reboot-required)"] });
    await shell("n2", "rm /run/reboot-required*; f=$(readlink -f /lib/*/libc.so.6); cp $f $f.new; mv $f.new $f; systemctl restart up-sec; systemctl daemon-reexec");
    const message = await look("n2");
    expect(message.restarts.needed).toBe("yes");
    expect(message.restarts.services).toContain("up-plain.service");
    expect(message.restarts.services).not.toContain("up-sec.service");
    expect(message.reboot).toMatchObject({ needed: "yes", why: [expect.stringMatching(/dbus\.service.* still run on files that an upgrade has replaced/)] });
    await lab.reboot("n2");
    expect(await look("n2")).toMatchObject({ reboot: { needed: "no" }, restarts: { needed: "no", services: [] } });
  });
});

describe("an order", { timeout }, () => {
  test("for security takes that alone, and what it takes is what dpkg shows", async () => {
    const result = await apply("n1", { scope: "security", exclude: ["up-skip*"] });
    expect(result).toMatchObject({ ok: true, failure: null, rolledBack: [], notRolledBack: [], movedOn: [], reboot: { needed: "no" } });
    expect(changes(result)).toEqual(["up-sec 1.0 1.1"]);
    expect(await versionOf("n1", "up-sec")).toBe("ii 1.1");
  });

  test("waits the days of a deferral, but not with a security fix", async () => {
    await security.publish("up-sec", "1.2", {});
    const deferred = await apply("n1", { deferDays: 3 });
    expect(changes(deferred)).toEqual(["up-sec 1.1 1.2", "up-skipped 1.0 1.2"]);
    const later = await apply("n1", { deferDays: 3, exclude: ["up-nothing"] }, { aheadMs: 3 * 86_400_000 + 60_000 });
    expect(changes(later)).toEqual(["up-new null 1.0", "up-plain 1.0 1.1"]);
    expect(await apply("n1")).toMatchObject({ ok: true, changed: [], failure: null });
  });

  test("leaves out what is excluded, and what cannot be without it", async () => {
    await have(["n1"], { "up-base": {}, "up-leaf": {}, "up-free": {} });
    await lab.publish("up-base", "2.0");
    await lab.publish("up-leaf", "2.0", { depends: ["up-base (>= 2.0)"] });
    await lab.publish("up-free", "2.0", { reboot: true });
    const result = await apply("n1", { exclude: ["up-ba?e"] });
    expect(changes(result)).toEqual(["up-free 1.0 2.0"]);
    expect(result).toMatchObject({ ok: true, reboot: { needed: "yes", why: ["up-free asks for it (/run/reboot-required)"] } });
    await shell("n1", "rm /run/reboot-required*");
    expect(changes(await apply("n1"))).toEqual(["up-base 1.0 2.0", "up-leaf 1.0 2.0"]);
  });

  test("keeps configuration files as they are", async () => {
    await have(["n1"], { "up-conf": { conffiles: { "/etc/up-conf": "one\n" } } });
    await lab.writeFile("n1", "/etc/up-conf", "mine\n");
    await lab.publish("up-conf", "1.1", { conffiles: { "/etc/up-conf": "two\n" } });
    expect(changes(await apply("n1"))).toEqual(["up-conf 1.0 1.1"]);
    expect(await lab.readFile("n1", "/etc/up-conf")).toBe("mine\n");
  });

  test("with pins installs those versions although the archive moved on, nothing else, and takes nothing back", async () => {
    await have(["n1", "n2"], { "up-pin": {}, "up-other": {}, "up-ahead": {} });
    await lab.publish("up-dep", "1.1");
    await lab.publish("up-pin", "1.1", { depends: ["up-dep (>= 1.1)"] });
    await lab.publish("up-ahead", "1.1");
    const canary = await apply("n1");
    expect(changes(canary)).toEqual(["up-ahead 1.0 1.1", "up-dep null 1.1", "up-pin 1.0 1.1"]);
    await lab.publish("up-dep", "1.2");
    await lab.publish("up-pin", "1.2", { depends: ["up-dep (>= 1.1)"] });
    await lab.publish("up-other", "1.1");
    await lab.publish("up-ahead", "1.2");
    await shell("n2", "apt-get -q update; apt-get -y -q install up-ahead");
    const pinned = [...canary.changed.map(({ name, to }) => ({ name, version: to! })), { name: "up-absent", version: "1" }];
    const result = await apply("n2", { pinned });
    expect(changes(result)).toEqual(["up-dep null 1.1", "up-pin 1.0 1.1"]);
    expect(result.movedOn).toEqual(["up-dep", "up-pin"].map((name) => ({ name, from: "1.1", to: "1.2" })));
    expect(result).toMatchObject({ ok: true, failure: null });
    expect(await versionOf("n2", "up-ahead")).toBe("ii 1.2");
    expect(await versionOf("n2", "up-other")).toBe("ii 1.0");
    expect(await apply("n2", { pinned })).toMatchObject({ ok: true, changed: [], failure: null });
  });

  test("for a version that no archive and no cache has any more changes nothing", async () => {
    await main.retire("up-other", "1.1");
    await lab.publish("up-other", "1.2");
    const result = await apply("n2", { pinned: [{ name: "up-other", version: "1.1" }, { name: "up-dep", version: "1.2" }] });
    expect(result).toMatchObject({ ok: false, changed: [], failure: { code: "pinned-missing", message: expect.stringContaining("up-other 1.1") } });
    expect(await versionOf("n2", "up-dep")).toBe("ii 1.1");
    expect(result.movedOn).toEqual([{ name: "up-other", from: "1.1", to: "1.2" }]);
  });

  test("that would remove a package is refused", async () => {
    await have(["n2"], { "up-victim": {}, "up-rival": {} });
    await lab.publish("up-rival", "2.0", { breaks: ["up-victim"] });
    expect(changes(await apply("n2", { scope: "all", exclude: ["up-pin", "up-dep", "up-other", "up-plain", "up-s*", "up-held"] }))).toEqual([]);
    const result = await apply("n2", { pinned: [{ name: "up-rival", version: "2.0" }] });
    expect(result).toMatchObject({ ok: false, changed: [], failure: { code: "would-remove", message: expect.stringContaining("up-victim") } });
    expect(await versionOf("n2", "up-victim")).toBe("ii 1.0");
  });
});

describe("an update that fails", { timeout }, () => {
  test("by a script goes back as a whole, and leaves dpkg clean", async () => {
    await have(["n1"], { "up-breaks": {}, "up-beside": {} });
    await lab.publish("up-beside", "2.0");
    await lab.publish("up-extra", "2.0");
    await lab.publish("up-breaks", "2.0", { postinst: "echo cannot reach the moon >&2; exit 1", depends: ["up-extra"] });
    const before = await shell("n1", "dpkg-query -W");
    const result = await apply("n1", { exclude: ["up-pin", "up-dep", "up-other", "up-ahead", "up-rival"] });
    expect(result).toMatchObject({ ok: false, changed: [], failure: { code: "install", message: expect.stringMatching(/up-breaks: cannot reach the moon.*earlier versions again/) }, rolledBack: ["up-beside", "up-breaks", "up-extra"], notRolledBack: [] });
    expect(await shell("n1", "dpkg-query -W")).toBe(before);
    expect(await isClean("n1")).toBe(true);
    expect(await versionOf("n1", "up-breaks")).toBe("ii 1.0");
  });

  test("and whose earlier version the archive has dropped goes back out of apt's cache", async () => {
    await shell("n1", "rm -f /var/cache/apt/archives/up-*.deb");
    await apply("n1", { exclude: ["up-p*", "up-o*", "up-a*", "up-r*", "up-d*"] });
    expect(await shell("n1", "ls /var/cache/apt/archives")).toContain("up-breaks_1.0_all.deb");
    await main.retire("up-breaks", "1.0");
    const result = await apply("n1", { exclude: ["up-p*", "up-o*", "up-a*", "up-r*", "up-d*"] });
    expect(result).toMatchObject({ ok: false, changed: [], failure: { code: "install" }, notRolledBack: [] });
    expect(await versionOf("n1", "up-breaks")).toBe("ii 1.0");
    expect(await isClean("n1")).toBe(true);
  });

  test("and cannot go back is told as broken, and the rest goes back", async () => {
    await shell("n1", "rm -f /var/cache/apt/archives/up-*.deb");
    const result = await apply("n1", { exclude: ["up-p*", "up-o*", "up-a*", "up-r*", "up-d*"] });
    expect(result).toMatchObject({ ok: false, failure: { code: "dpkg-broken", message: expect.stringMatching(/cannot reach the moon.*left broken: up-breaks/) } });
    expect(result.notRolledBack).toContain("up-breaks");
    expect(result.rolledBack).toContain("up-beside");
    expect(changes(result)).toContain("up-breaks 1.0 2.0");
    expect(await apply("n1")).toMatchObject({ ok: false, changed: [], failure: { code: "dpkg-broken", message: expect.stringContaining("left broken before this update") } });
    await main.publish("up-breaks", "2.1", {});
    await shell("n1", "apt-get -q update; apt-get -y -q install up-breaks");
    expect(await isClean("n1")).toBe(true);
  });

  test("for want of space says so, and goes back", async () => {
    await have(["n2"], { "up-big": {}, "up-small": {} });
    await lab.publish("up-big", "2.0", { files: { "/usr/share/up-big/payload": "x".repeat(4_000_000) } });
    await shell("n2", "mount -t tmpfs -o size=1m full /usr/share/up-big");
    const result = await apply("n2", { pinned: [{ name: "up-big", version: "2.0" }] });
    expect(result).toMatchObject({ ok: false, changed: [], failure: { code: "disk-full", message: expect.stringContaining("No space left on device") } });
    await shell("n2", "umount /usr/share/up-big");
    expect(await isClean("n2")).toBe(true);
    expect(await apply("n2", { pinned: [{ name: "up-big", version: "2.0" }] })).toMatchObject({ ok: true, changed: [{ name: "up-big", from: "1.0", to: "2.0" }] });
  });
});

describe("an update that meets another apt, or is cut off", { timeout }, () => {
  const slow = { postinst: "[ -e /run/up-fast ] || sleep 300" };
  const running = (node: string): Promise<true> => until("the slow script to run", 60_000, async () => ((await lab.exec(node, ["pgrep", "-f", "up-slow.*postinst"])).code === 0 ? true : undefined));

  test("waits for the lock no longer than it is told to, and changes nothing", async () => {
    await shell("n2", "touch /run/up-fast");
    await have(["n2"], { "up-slow": slow, "up-quick": {} });
    await lab.publish("up-quick", "1.1");
    await lab.publish("up-slow", "1.1", slow);
    await shell("n2", "rm /run/up-fast; apt-get -q update; setsid -f apt-get -y -q install up-slow >/dev/null 2>&1 </dev/null");
    await running("n2");
    const result = await apply("n2", { pinned: [{ name: "up-quick", version: "1.1" }] });
    expect(result).toMatchObject({ ok: false, changed: [], failure: { code: "lock" } });
    expect(await versionOf("n2", "up-quick")).toBe("ii 1.0");
    await shell("n2", "touch /run/up-fast; pkill -f 'sleep [3]00'; true");
    await until("apt to end", 60_000, async () => ((await lab.exec("n2", ["pgrep", "-x", "apt-get"])).code === 0 ? undefined : true));
    await shell("n2", "dpkg --configure -a");
  });

  test("killed in its middle with everything that it started, it is repaired", async () => {
    await lab.publish("up-slow", "1.2", slow);
    await shell("n2", `rm -f /run/up-fast; setsid -f ${argv("apply", { order: { exclude: ["up-rival"] } }).map((word) => `'${word}'`).join(" ")} >/dev/null 2>&1 </dev/null`);
    await running("n2");
    await shell("n2", "touch /run/up-fast; pkill -9 -f '[u]pdates.mjs'; pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -f '[p]ostinst configure'; true");
    const result = await recover("n2");
    expect(result).toMatchObject({ ok: true, failure: { code: "interrupted" } });
    expect(changes(result!)).toContain("up-slow 1.1 1.2");
    expect(await isClean("n2")).toBe(true);
    expect(await recover("n2")).toBeNull();
  });

  test("cut off while a package is unpacked, it is repaired", async () => {
    await have(["n2"], { "up-cut": {}, "up-next": {} });
    await lab.publish("up-cut", "1.1", { preinst: "[ -e /run/up-fast ] || sleep 300" });
    await shell("n2", `rm -f /run/up-fast; setsid -f ${argv("apply", { order: { exclude: ["up-rival"] } }).map((word) => `'${word}'`).join(" ")} >/dev/null 2>&1 </dev/null`);
    await until("the slow script to run", 60_000, async () => ((await lab.exec("n2", ["pgrep", "-f", "preinst upgrade"])).code === 0 ? true : undefined));
    await shell("n2", "touch /run/up-fast; pkill -9 -f '[u]pdates.mjs'; pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -f '[p]reinst upgrade'; true");
    expect(await recover("n2")).toMatchObject({ ok: true, failure: { code: "interrupted" }, changed: [{ name: "up-cut", from: "1.0", to: "1.1" }] });
    expect(await isClean("n2")).toBe(true);
  });

  test("without power in its middle, it is repaired after the boot", async () => {
    await lab.publish("up-slow", "1.3", { ...slow, postinst: "[ -e /etc/up-fast ] || sleep 300" });
    await shell("n2", `setsid -f ${argv("apply", { order: { exclude: ["up-rival"] } }).map((word) => `'${word}'`).join(" ")} >/dev/null 2>&1 </dev/null`);
    await running("n2");
    await lab.crash("n2");
    await lab.start("n2");
    await shell("n2", "touch /etc/up-fast");
    expect(await recover("n2")).toMatchObject({ ok: true, failure: { code: "interrupted" }, changed: [{ name: "up-slow", from: "1.2", to: "1.3" }] });
    expect(await isClean("n2")).toBe(true);
  });

  test("only the agent killed: its apt goes on, and is waited for", async () => {
    await have(["n2"], { "up-after": {} });
    await lab.publish("up-after", "1.1", { depends: ["up-slow (>= 1.4)"] });
    await lab.publish("up-slow", "1.4", slow);
    await shell("n2", `rm -f /run/up-fast; setsid -f ${argv("apply", { order: { exclude: ["up-rival"] } }).map((word) => `'${word}'`).join(" ")} >/dev/null 2>&1 </dev/null`);
    await running("n2");
    await shell("n2", "pkill -9 -f '[u]pdates.mjs'; true");
    expect(await recover("n2")).toMatchObject({ ok: false, failure: { code: "lock" } });
    await shell("n2", "touch /run/up-fast; pkill -f 'sleep [3]00'; true");
    await until("apt to end", 60_000, async () => ((await lab.exec("n2", ["pgrep", "-x", "apt-get"])).code === 0 ? undefined : true));
    expect(await recover("n2")).toMatchObject({ ok: true, failure: { code: "interrupted" }, changed: [{ name: "up-after", from: "1.0", to: "1.1" }, { name: "up-slow", from: "1.3", to: "1.4" }] });
    expect(await isClean("n2")).toBe(true);
  });
});

describe("others who would act by themselves", { timeout }, () => {
  test("are told: unattended-upgrades with its reboot and its timer, and needrestart", async () => {
    await lab.mirror(["unattended-upgrades", "needrestart"]);
    await shell("n1", "apt-get -q update; apt-get -y -q install unattended-upgrades needrestart; rm -f /etc/systemd/system/apt-daily-upgrade.timer");
    expect((await look("n1")).conflicts.map(({ code }) => code)).toEqual(["unattended-upgrades"]);
    await lab.writeFile("n1", "/etc/apt/apt.conf.d/60reboot", 'Unattended-Upgrade::Automatic-Reboot "true";\n');
    await lab.writeFile("n1", "/etc/needrestart/conf.d/auto.conf", "$nrconf{restart} = 'a';\n");
    const message = await look("n1");
    expect(message.conflicts.map(({ code }) => code)).toEqual(["unattended-reboot", "unattended-upgrades", "needrestart"]);
    expect(message.reboot.needed).toBe("no");
    await shell("n1", "ln -sf /dev/null /etc/systemd/system/apt-daily-upgrade.timer; rm /etc/apt/apt.conf.d/60reboot /etc/needrestart/conf.d/auto.conf");
    expect((await look("n1")).conflicts).toEqual([]);
  });
});
