import { realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Lab } from "../lab/lab.ts";
import type { Outcome } from "../lab/lab.ts";
import { until } from "./real-cupboard.ts";

/** Drain, resume and health on a real node, by the agent's own code in a process that can be killed at any of its lines. */

const root = join(import.meta.dirname, "..", "..");
const nodeDir = dirname(realpathSync(join(root, "node_modules", ".bin", "node")));
const lab = new Lab({ name: "drn", nodes: ["n1"], binds: [{ from: nodeDir, to: "/opt/node" }], downOnExit: true });

/** Every unit writes into a trace when it starts and when it has stopped. */
const unit = (name: string, more = "", service = "ExecStart=/bin/sleep infinity") =>
  `[Unit]\nDescription=${name}\n${more}\n[Service]\n${service}\nExecStartPost=/bin/sh -c 'echo start ${name} >> /run/trace'\nExecStopPost=/bin/sh -c 'echo stop ${name} >> /run/trace'\n[Install]\nWantedBy=multi-user.target\n`;
const files: Readonly<Record<string, string>> = {
  "web.service": unit("web"),
  "db.service": unit("db"),
  "app.service": unit("app", "Requires=db.service\nAfter=db.service"),
  "byhand.service": unit("byhand"),
  "idle.service": unit("idle"),
  "stuck.service": unit("stuck", "", "ExecStart=/bin/sh -c 'trap true TERM; while :; do sleep 0.2; done'\nTimeoutStopSec=infinity"),
  "echo.service": unit("echo"),
  "echo.socket": "[Socket]\nListenStream=/run/echo.sock\n[Install]\nWantedBy=sockets.target\n",
};
const UNITS = Object.keys(files);

const hook = (name: string, verb: string) => ["/usr/local/bin/hook", name, verb];
const pool = { drain: hook("pool", "drain"), resume: hook("pool", "resume"), check: ["test", "-e", "/run/hook-pool"], order: 10, timeoutSeconds: 60 };
const section = {
  commands: { pool, tell: { drain: hook("tell", "drain"), resume: hook("tell", "resume"), order: 90 } },
  units: { web: { order: 30 }, db: { order: 40 }, byhand: { order: 45 }, echo: { order: 50 }, idle: { order: 50 } },
};

beforeAll(async () => {
  await lab.wipe();
  await lab.up();
  const driver = join(lab.stateDirectory, "driver.mjs");
  await build({ entryPoints: [join(root, "test/fixtures/drain/driver.ts")], outfile: driver, bundle: true, platform: "node", target: "node26", format: "esm", banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' }, logLevel: "warning" });
  const { readFile } = await import("node:fs/promises");
  await lab.writeFile("n1", "/opt/driver.mjs", await readFile(driver));
  // drain: marks that it is out, and waits while /run/wait-NAME is there; both ends are in the trace.
  await lab.writeFile("n1", "/usr/local/bin/hook", '#!/bin/sh\necho "$2 $1" >> /run/trace\n[ -e "/run/fail-$1-$2" ] && { echo "the $1 is down"; exit 7; }\nwhile [ -e "/run/wait-$1" ]; do sleep 0.05; done\nif [ "$2" = drain ]; then touch "/run/hook-$1"; else rm -f "/run/hook-$1"; fi\necho "$2 $1 ended" >> /run/trace\n', 0o755);
  for (const [name, content] of Object.entries(files)) await lab.writeFile("n1", `/etc/systemd/system/${name}`, content);
  await sh("systemctl daemon-reload && systemctl enable --now web db app echo.socket && systemctl start byhand");
});
afterAll(() => lab.wipe());

const sh = async (script: string): Promise<string> => {
  const outcome = await lab.shell("n1", script, { timeoutMs: 60_000 });
  expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};

interface Change {
  readonly lease?: string;
  readonly drain?: object;
  readonly services?: object;
  readonly timeoutMs?: number;
  readonly onTimeout?: "undo" | "go-on";
  readonly underLease?: boolean;
}
interface Answer {
  readonly failed: string | null;
  readonly drained: readonly string[];
  readonly effects: number;
}

let inputs = 0;
async function command(what: string, change: Change = {}, killAt?: number): Promise<string[]> {
  const path = `/run/input-${(inputs += 1)}.json`;
  await lab.writeFile("n1", path, JSON.stringify({ lease: "a", drain: section, timeoutMs: 120_000, onTimeout: "undo", ...change }));
  return ["/opt/node/node", "/opt/driver.mjs", what, path, ...(killAt === undefined ? [] : [String(killAt)])];
}
async function drive(what: string, change: Change = {}, killAt?: number): Promise<Outcome> {
  return lab.exec("n1", await command(what, change, killAt), { timeoutMs: 150_000 });
}
async function ask<T = Answer>(what: string, change: Change = {}): Promise<T> {
  const outcome = await drive(what, change);
  expect(outcome.code, outcome.stderr).toBe(0);
  return JSON.parse(outcome.stdout) as T;
}

/** What runs, and whether the node is in its pool: what a drain changes and a restore has to put back. */
const state = async (): Promise<string> => {
  const { stdout } = await lab.exec("n1", ["systemctl", "is-active", ...UNITS]);
  const flags = await sh("ls /run | grep ^hook- || true");
  return [...stdout.trim().split("\n").map((active, at) => `${UNITS[at]} ${active}`), ...(flags === "" ? [] : flags.split("\n"))].join("\n");
};
const traced = async (): Promise<string[]> => (await sh("cat /run/trace; : > /run/trace")).split("\n").filter((line) => line !== "");
const fresh = () => sh("rm -rf /var/lib/drain-test /run/fail-* /run/wait-* /run/hook-*; touch /run/trace; systemctl start web db app byhand echo.socket; systemctl stop echo idle; systemctl reset-failed; systemctl start echo.socket; : > /run/trace");

describe("drain and resume", () => {
  test("stops in order, starts in the reverse one, with what went down along; what stood still stays so", async () => {
    await fresh();
    const before = await state();
    const drained = await ask("drain");
    expect(drained).toMatchObject({ failed: null, drained: ["app.service", "byhand.service", "db.service", "echo.service", "echo.socket", "idle.service", "web.service"] });
    expect((await traced()).filter((line) => !line.endsWith("ended"))).toEqual(["drain pool", "stop web", "stop app", "stop db", "stop byhand", "drain tell"]);
    expect((await lab.exec("n1", ["systemctl", "is-active", "web", "db", "app", "byhand", "echo.socket", "idle"])).stdout.trim().split("\n")).toEqual(Array(6).fill("inactive"));
    expect(await ask("drain"), "again: nothing is done twice").toMatchObject({ failed: null });
    expect(await traced()).toEqual([]);
    expect(await ask("restore", { drain: {} })).toMatchObject({ failed: null, drained: [] });
    expect((await traced()).filter((line) => !line.endsWith("ended"))).toEqual(["resume tell", "start byhand", "start db", "start app", "start web", "resume pool"]);
    expect(await state()).toBe(before);
  });

  test("what somebody else had cordoned stays cordoned", async () => {
    await fresh();
    await sh("touch /run/hook-pool; systemctl stop byhand; : > /run/trace");
    const before = await state();
    expect(await ask("drain")).toMatchObject({ failed: null });
    expect(await ask("restore")).toMatchObject({ failed: null });
    expect(await state()).toBe(before);
    expect((await traced()).filter((line) => line.includes("pool") || line.includes("byhand"))).toEqual([]);
  });

  test("a command that fails says why, and what was done is undone", async () => {
    await fresh();
    const before = await state();
    await sh("touch /run/fail-tell-drain");
    expect((await ask("drain")).failed).toBe("running tell (6 of 6) failed: the tell is down");
    expect(await ask("restore")).toMatchObject({ failed: null, drained: [] });
    expect(await state()).toBe(before);
  });

  test("a unit that does not come back keeps the node out of its pool, and is tried again", async () => {
    await fresh();
    const before = await state();
    await ask("drain");
    await sh("mkdir -p /run/systemd/system/db.service.d; printf '[Service]\\nExecStartPre=/bin/sh -c \"echo no disk; exit 1\"\\n' > /run/systemd/system/db.service.d/bad.conf; systemctl daemon-reload");
    const restored = await ask("restore");
    expect(restored.failed).toMatch(/starting db.service failed: [^]*no disk[^]*\(2 more wait for it\)/);
    expect(await sh("ls /run/hook-pool")).toBe("/run/hook-pool");
    await sh("rm -r /run/systemd/system/db.service.d; systemctl daemon-reload");
    expect(await ask("restore")).toMatchObject({ failed: null, drained: [] });
    expect(await state()).toBe(before);
  });
});

describe("a drain that does not end", () => {
  const slow = { units: { web: { order: 10 }, stuck: { order: 20 }, byhand: { order: 30 } } };
  const endIt = () => sh("systemctl kill -s KILL stuck");
  beforeEach(() => sh("systemctl start stuck"));
  afterEach(() => sh("systemctl kill -s KILL stuck; systemctl stop stuck; systemctl reset-failed stuck || true"));

  test("with undo: it says where it was, and all of it comes back", async () => {
    await fresh();
    const before = await state();
    expect((await ask("drain", { drain: slow, timeoutMs: 2_000 })).failed).toMatch(/^the drain did not end within 2 s: it was at stopping stuck.service \(2 of 3\)/);
    expect(await sh("systemctl is-active byhand")).toBe("active");
    const restoring = ask("restore");
    await until("systemd has the order to stop it", () => sh("systemctl show -p ActiveState,Job stuck"), (text) => /Job=\d/.test(text));
    await endIt();
    expect(await restoring).toMatchObject({ failed: null });
    expect(await state()).toBe(before);
  });

  test("with go-on: it is drained enough; later all of it comes back", async () => {
    await fresh();
    const before = await state();
    expect((await ask("drain", { drain: slow, timeoutMs: 2_000, onTimeout: "go-on" })).failed).toBeNull();
    await endIt();
    expect(await ask("restore")).toMatchObject({ failed: null, drained: [] });
    expect(await state()).toBe(before);
  });
});

describe("kill -9", () => {
  test("before and after every effect of a drain and of a restore: nothing is forgotten, nothing is undone that was not ours", async () => {
    await fresh();
    const before = await state();
    const drain = { commands: { pool }, units: { web: { order: 30 }, byhand: { order: 40 } } };
    const { effects } = await ask("drain", { drain });
    const drained = await state();
    const back = await ask("restore");
    expect(effects).toBeGreaterThan(15);
    for (let at = 0; at < effects; at += 1) {
      expect((await drive("drain", { drain, lease: `lease-${at}` }, at)).code, `killed at ${at}`).toBe(137);
      if (at % 2 === 0) {
        expect(await ask("drain", { drain, lease: `lease-${at}` }), `drained again after ${at}`).toMatchObject({ failed: null });
        expect(await state()).toBe(drained);
      }
      expect((await drive("restore", {}, at % back.effects)).code).toBeOneOf([137, 0]);
      expect(await ask("restore")).toMatchObject({ failed: null, drained: [] });
      expect(await state(), `killed at ${at}`).toBe(before);
    }
  });

  test("while a command runs: what outlives the agent is waited for, and never runs beside the next", async () => {
    await fresh();
    const before = await state();
    await sh("touch /run/wait-pool");
    const argv = await command("drain");
    const first = lab.exec("n1", ["sh", "-c", 'echo $$ > /run/driver.pid; exec "$@"', "sh", ...argv], { timeoutMs: 60_000 });
    await until("the command runs", () => sh("cat /run/trace"), (text) => text.includes("drain pool"));
    await sh("kill -9 $(cat /run/driver.pid)");
    expect((await first).code).toBe(137);
    const restoring = ask("restore");
    await until("the way back waits for it", () => lab.exec("n1", ["pgrep", "-fc", "flock .*hook pool resume"]), ({ stdout }) => Number(stdout) >= 1);
    await sh("rm /run/wait-pool");
    expect(await restoring).toMatchObject({ failed: null, drained: [] });
    expect(await traced()).toEqual(["drain pool", "drain pool ended", "resume pool", "resume pool ended"]);
    expect(await state()).toBe(before);
  });
});

describe("a reboot while drained", () => {
  test("what starts at boot is fine, what does not is started, and the section may be gone", async () => {
    await fresh();
    await ask("drain");
    await lab.reboot("n1");
    await sh(": > /run/trace");
    expect(await ask("restore", { drain: {} })).toMatchObject({ failed: null, drained: [] });
    expect(await sh("systemctl is-active web db app byhand echo.socket")).toBe(Array(5).fill("active").join("\n"));
    expect((await lab.exec("n1", ["systemctl", "is-active", "idle"])).stdout.trim()).toBe("inactive");
    expect(await traced(), "only what systemd had not started").toEqual(["resume tell", "resume tell ended", "start byhand", "resume pool", "resume pool ended"]);
  });

  test("held: drained again after the reboot, and back as it was before the first drain", async () => {
    await fresh();
    const before = await state();
    await ask("drain");
    const drained = await state();
    await lab.reboot("n1");
    await sh("touch /run/trace");
    expect(await ask("drain")).toMatchObject({ failed: null });
    expect(await state()).toBe(drained);
    expect(await ask("restore")).toMatchObject({ failed: null, drained: [] });
    expect(await state()).toBe(before);
  });
});

describe("gates", () => {
  test("say why the node may not go", async () => {
    const gates = { fine: { command: ["true"] }, disks: { command: ["sh", "-c", "echo 3 disks are rebuilding; exit 1"] }, none: { command: ["/no/such"] } };
    const said = await ask<{ text: string; holds: string }[]>("gates", { drain: { gates, units: { nosuch: {}, web: {} } } });
    expect(said.filter(({ holds }) => holds !== "itself")).toEqual([]);
    expect(said.map(({ text }) => text)).toEqual([
      expect.stringMatching(/stops nosuch.service, and there is no such unit/),
      "the gate disks says no: 3 disks are rebuilding",
      expect.stringMatching(/the gate none says no: .*no such program/),
    ]);
  });
});

describe("well", () => {
  const look = (change: Change = {}) => ask<{ healthy: boolean; trouble: string[] }>("well", change);

  test("a node that is well, one whose unit stands still, and one whose unit has failed, before the lease or since", async () => {
    await fresh();
    const services = { web: "running", db: "running", "dbus-org.freedesktop.login1.service": { running: true } };
    expect(await look({ services })).toEqual({ healthy: true, trouble: [] });
    await sh("systemctl stop web");
    expect((await look({ services })).trouble).toEqual(["web.service should run, and is inactive (dead)"]);
    await sh("systemctl start web; systemd-run -q --unit=bad -- /bin/false; systemd-run -q --unit=worse --property=RemainAfterExit=yes -- /bin/true; until systemctl is-failed bad; do sleep 0.05; done");
    expect((await look({ services })).trouble).toEqual(["bad.service has failed (journalctl -u bad.service on the node says why)"]);
    expect((await look({ drain: { health: { ignoreUnits: ["ba*"] } } })).healthy).toBe(true);
    expect(await ask("drain")).toMatchObject({ failed: null });
    expect(await look({ services, underLease: true }), "what is drained does not have to run, and what had failed before is not our doing").toEqual({ healthy: true, trouble: [] });
    await ask("restore");
    await sh("systemd-run -q --unit=new -- /bin/false; until systemctl is-failed new; do sleep 0.05; done");
    expect((await look({ services, underLease: true })).trouble).toEqual(["new.service has failed (journalctl -u new.service on the node says why)"]);
    const commands = { answers: { command: ["sh", "-c", "echo 503; exit 1"] }, slow: { command: ["sleep", "1000"], timeoutSeconds: 0.2 } };
    expect((await look({ underLease: true, drain: { health: { ignoreUnits: ["new.*"], commands } } })).trouble).toEqual(["the question answers is not answered with yes: 503", expect.stringMatching(/slow is not answered with yes: .*did not end within 0.2 s/)]);
  });
});
