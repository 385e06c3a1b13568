import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensureBase } from "./base.ts";
import { cgroupMounts } from "./cgroup.ts";
import { until } from "./command.ts";
import { Lab, type LabOptions } from "./lab.ts";

// What is waited for takes a second or two; the machines are shared.
const testTimeoutMs = 60_000;
const main = join(import.meta.dirname, "main.ts");
const directories: string[] = [];

async function newLab(name: string, options: LabOptions = {}): Promise<Lab> {
  const stateDirectory = await mkdtemp(join(tmpdir(), "evenkeel-lab-"));
  directories.push(stateDirectory);
  return new Lab({ name, stateDirectory, downOnExit: true, ...options });
}

beforeAll(async () => {
  await ensureBase("plain", console.log);
}, 20 * 60_000);

afterAll(async () => {
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
});

/** All that a lab has in the kernel: mounts, loop devices, links, control groups, processes. */
function traces(lab: Lab): string[] {
  const lines = (path: string): string[] => readFileSync(path, "utf8").split("\n");
  const { unified, systemd } = cgroupMounts();
  const groups = [unified, ...(systemd === undefined ? [] : [systemd])].flatMap((top) => readdirSync(top));
  const loops = readdirSync("/sys/block").map((name) => readIfThere(`/sys/block/${name}/loop/backing_file`).trim());
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return [
    ...lines("/proc/self/mounts").filter((line) => line.includes(lab.stateDirectory)),
    ...loops.filter((file) => file.startsWith(lab.stateDirectory)),
    ...readdirSync("/sys/class/net").filter((name) => name.includes(lab.prefix)),
    ...groups.filter((name) => name === `evenkeel-${lab.prefix}`),
    ...processes.map((pid) => readIfThere(`/proc/${pid}/cmdline`)).filter((line) => line.includes(lab.stateDirectory)),
  ];
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

describe("a lab of three nodes", { timeout: testTimeoutMs }, () => {
  let lab: Lab;

  const pings = async (from: string, to: string): Promise<boolean> =>
    (await lab.exec(from, ["ping", "-c1", "-W1", to])).code === 0;

  beforeAll(async () => {
    lab = await newLab("test");
    await lab.up();
  }, testTimeoutMs);

  afterAll(async () => {
    await lab.wipe();
    expect(traces(lab)).toEqual([]);
  }, testTimeoutMs);

  test("has nodes with names, addresses and identities of their own", async () => {
    const names = await Promise.all(lab.nodes.map(async (node) => (await lab.exec(node, ["hostname"])).stdout.trim()));
    expect(names).toEqual(["n1", "n2", "n3"]);
    const ids = await Promise.all(lab.nodes.map((node) => lab.readFile(node, "/etc/machine-id")));
    expect(new Set(ids).size).toBe(3);
    expect((await lab.exec("n1", ["ip", "-o", "-4", "address", "show", "host0"])).stdout).toContain(lab.address("n1"));
    expect(await pings("n1", "n3")).toBe(true);
    expect((await lab.exec("n2", ["systemctl", "--failed", "--no-legend"])).stdout).toBe("");
  });

  test("runs commands with input, environment and exit code", async () => {
    expect(await lab.exec("n1", ["cat"], { input: "höher\n" })).toEqual({ code: 0, stdout: "höher\n", stderr: "" });
    const { code, stdout, stderr } = await lab.shell("n1", 'echo "$LETTER"; echo no >&2; exit 7', { env: { LETTER: "ä" } });
    expect({ code, stdout, stderr }).toEqual({ code: 7, stdout: "ä\n", stderr: "no\n" });
  });

  test("ends a command that takes too long, and its children", async () => {
    const tooLong = lab.shell("n1", "sleep 4711; true", { timeoutMs: 300 });
    await expect(tooLong).rejects.toMatchObject({ reason: "timeout" });
    expect((await lab.exec("n1", ["pgrep", "-f", "sleep 4711"])).code).toBe(1);
  });

  test("writes and reads files with their mode", async () => {
    await lab.writeFile("n1", "/etc/made/by/lab", "content\n", 0o600);
    expect(await lab.readFile("n1", "/etc/made/by/lab")).toBe("content\n");
    expect((await lab.exec("n1", ["stat", "-c", "%a", "/etc/made/by/lab"])).stdout).toBe("600\n");
    await expect(lab.readFile("n1", "/nowhere")).rejects.toMatchObject({ reason: "command-failed" });
  });

  test("lets nodes reach the host by TCP under the name of hub, and the host the nodes", async () => {
    const server = createServer((_request, response) => response.end("ahoy"));
    await new Promise<void>((listening) => server.listen(0, lab.hostAddress, listening));
    const { port } = server.address() as { port: number };
    expect((await lab.exec("n2", ["curl", "-sm5", `http://hub:${port}/`])).stdout).toBe("ahoy");
    server.close();
    // Nothing listens there: refused by the node's kernel, not lost on the way.
    await expect(fetch(`http://${lab.address("n2")}:8009/`)).rejects.toMatchObject({ cause: { code: "ECONNREFUSED" } });
  });

  test("keeps a node's sysctls away from the host's kernel", async () => {
    const host = readFileSync("/proc/sys/vm/swappiness", "utf8");
    expect((await lab.exec("n1", ["sysctl", "-w", "vm.swappiness=7", "net.ipv4.ip_forward=1"])).code).toBe(0);
    expect(await lab.readFile("n1", "/proc/sys/vm/swappiness")).toBe("7\n");
    expect(readFileSync("/proc/sys/vm/swappiness", "utf8")).toBe(host);
    // Not every kernel has it; where it is, it has to be /dev/null.
    const sysrq = "[ ! -e /proc/sysrq-trigger ] || [ $(stat -c %t:%T /proc/sysrq-trigger) = 1:3 ]";
    expect((await lab.shell("n1", sysrq)).code).toBe(0);
  });

  test("reboots: a new boot id, an empty /run, the same machine-id and files", async () => {
    const [bootId, machineId] = [await lab.bootId("n1"), await lab.readFile("n1", "/etc/machine-id")];
    await lab.shell("n1", "touch /run/gone /root/stays");
    await lab.reboot("n1");
    expect(await lab.bootId("n1")).not.toBe(bootId);
    expect(await lab.readFile("n1", "/etc/machine-id")).toBe(machineId);
    expect((await lab.shell("n1", "ls /run/gone")).code).not.toBe(0);
    expect((await lab.shell("n1", "ls /root/stays")).code).toBe(0);
  });

  test("crashes, stays down, and starts again", async () => {
    const bootId = await lab.bootId("n2");
    await lab.crash("n2");
    expect(lab.state("n2")).toBe("stopped");
    await expect(lab.exec("n2", ["true"])).rejects.toMatchObject({ reason: "not-running" });
    await lab.start("n2");
    expect(await lab.bootId("n2")).not.toBe(bootId);
    expect(await pings("n1", "n2")).toBe(true);
  });

  test("powers off in order", async () => {
    await lab.stop("n3");
    expect(lab.state("n3")).toBe("stopped");
    await lab.start("n3");
    expect(lab.state("n3")).toBe("up");
  });

  test("freezes: no command runs, the kernel answers ping, a crash still works", async () => {
    await lab.freeze("n2");
    expect(lab.state("n2")).toBe("frozen");
    await expect(lab.exec("n2", ["true"], { timeoutMs: 300 })).rejects.toMatchObject({ reason: "timeout" });
    expect(await pings("n1", "n2")).toBe(true);
    await lab.thaw("n2");
    expect((await lab.exec("n2", ["true"])).code).toBe(0);
    await lab.freeze("n2");
    await lab.crash("n2");
    await lab.start("n2");
    expect((await lab.exec("n2", ["true"])).code).toBe(0);
  });

  test("is unplugged: the carrier is lost, also over a reboot", async () => {
    const carrier = async (): Promise<string> => lab.readFile("n1", "/sys/class/net/host0/operstate");
    await lab.unplug("n1");
    await until("the carrier to be lost", 10_000, async () => (await carrier()) !== "up\n" || undefined);
    expect(await pings("n2", "n1")).toBe(false);
    await lab.reboot("n1");
    expect(await pings("n2", "n1")).toBe(false);
    await lab.plug("n1");
    await until("n1 to answer", 10_000, async () => (await pings("n2", "n1")) || undefined);
  });

  test("is isolated: the carrier stays, also over a reboot", async () => {
    await lab.isolate("n1");
    expect(await pings("n2", "n1")).toBe(false);
    await lab.reboot("n1");
    expect(await pings("n2", "n1")).toBe(false);
    await until("the carrier", 10_000, async () => {
      return (await lab.exec("n1", ["cat", "/sys/class/net/host0/carrier"])).stdout === "1\n" || undefined;
    });
    await lab.rejoin("n1");
    await until("n1 to answer", 10_000, async () => (await pings("n2", "n1")) || undefined);
  });

  test("has disks with a serial, seen by one node, with partitions and lasting content", async () => {
    const { byId } = await lab.attachDisk("n1", "LAB-0001", 64 * 1024 * 1024);
    expect((await lab.exec("n2", ["test", "-e", byId])).code).not.toBe(0);
    // The host's kernel may know no partition tables: partx tells it.
    const tellKernel = `udevadm settle; partx -u ${byId} || partx -a ${byId}; udevadm settle`;
    const partition = `set -e; echo 'size=16M' | sfdisk -q --no-reread --no-tell-kernel ${byId}`;
    expect((await lab.shell("n1", `${partition}; ${tellKernel}; mkfs.ext4 -qL lab ${byId}-part1; udevadm settle`)).stderr).toBe("");
    await lab.shell("n1", "mount /dev/disk/by-label/lab /mnt && echo kept >/mnt/file && umount /mnt");
    await lab.detachDisk("n1", "LAB-0001");
    await lab.attachDisk("n1", "LAB-0001", 64 * 1024 * 1024);
    await lab.shell("n1", tellKernel);
    const mounted = await lab.shell("n1", `mount ${byId}-part1 /mnt && cat /mnt/file; umount /mnt`);
    expect(mounted).toEqual({ code: 0, stdout: "kept\n", stderr: "" });
    expect((await lab.status())[0]?.disks).toEqual(["LAB-0001"]);
  });

  test("installs and upgrades published packages, real ones too", async () => {
    const version = async (): Promise<string> => lab.readFile("n1", "/usr/share/toy/version");
    await lab.publish("toy", "1.0", { conffiles: { "/etc/toy.conf": "a = 1\n" } });
    await lab.mirror(["tree"]);
    const installed = await lab.shell("n1", "apt-get -q update && apt-get -qy install toy tree");
    expect(installed).toMatchObject({ code: 0 });
    expect([await version(), await lab.readFile("n1", "/etc/toy.conf")]).toEqual(["1.0\n", "a = 1\n"]);
    expect((await lab.exec("n1", ["systemctl", "is-active", "toy"])).stdout).toBe("active\n");
    await lab.publish("toy", "2.0", { reboot: true, depends: ["tree"] });
    expect(await lab.shell("n1", "apt-get -q update && apt-get -qy upgrade")).toMatchObject({ code: 0 });
    expect([await version(), await lab.readFile("n1", "/run/reboot-required.pkgs")]).toEqual(["2.0\n", "toy\n"]);
    await lab.publish("toy", "3.0", { postinst: "exit 1" });
    expect((await lab.shell("n1", "apt-get -q update && apt-get -qy upgrade")).code).toBe(100);
  });

  test("refuses what makes no sense, by name", async () => {
    await expect(lab.exec("n9", ["true"])).rejects.toThrow('no node "n9" in this lab: it has n1, n2, n3');
    await expect(lab.publish("Toy", "1")).rejects.toThrow('not a package name: "Toy"');
    await expect(lab.attachDisk("n1", "../x", 1 << 20)).rejects.toThrow('not a disk serial: "../x"');
  });
});

describe("several labs", { timeout: testTimeoutMs }, () => {
  test("stand side by side, with binds of their own", async () => {
    const labs = await Promise.all([
      newLab("twin", { nodes: ["n1"], binds: [{ from: import.meta.dirname, to: "/usr/lib/evenkeel" }] }),
      newLab("twin", { nodes: ["n1"] }),
    ]);
    await Promise.all(labs.map((lab) => lab.up()));
    const [one, other] = labs;
    expect(one.hostAddress).not.toBe(other.hostAddress);
    expect((await one.exec("n1", ["test", "-e", "/usr/lib/evenkeel/lab.ts"])).code).toBe(0);
    expect((await one.exec("n1", ["touch", "/usr/lib/evenkeel/x"])).stderr).toContain("Read-only file system");
    await one.down();
    expect(traces(one)).toEqual([]);
    expect((await other.exec("n1", ["true"])).code).toBe(0);
    await other.down();
    expect(traces(other)).toEqual([]);
  });
});

describe("down", { timeout: testTimeoutMs }, () => {
  test("leaves nothing after the supervisors were killed, works twice, and the files stay", async () => {
    const lab = await newLab("gone", { nodes: ["n1", "n2"] });
    expect(traces(lab)).toEqual([]);
    await lab.up();
    await lab.writeFile("n1", "/root/kept", "kept");
    const machineId = await lab.readFile("n1", "/etc/machine-id");
    const { device } = await lab.attachDisk("n1", "D1", 1 << 24);
    await lab.shell("n2", "truncate -s 1M /root/own.img; losetup -f /root/own.img"); // a loop device that we did not make
    const loops = (): string => readdirSync("/sys/block").map((name) => readIfThere(`/sys/block/${name}/loop/backing_file`)).join();
    expect(loops()).toContain("own.img");
    const top = join(cgroupMounts().unified, `evenkeel-${lab.prefix}`);
    for (const node of lab.nodes) {
      const keeper = Number(readFileSync(join(top, `${node}-keeper`, "cgroup.procs"), "utf8"));
      process.kill(keeper, "SIGKILL");
    }
    await lab.freeze("n2");
    expect(traces(lab)).not.toEqual([]);
    await lab.down();
    expect(traces(lab)).toEqual([]);
    expect(loops()).not.toContain("own.img");
    await lab.down();
    await lab.up();
    expect(await lab.readFile("n1", "/root/kept")).toBe("kept");
    expect(await lab.readFile("n1", "/etc/machine-id")).toBe(machineId);
    expect((await lab.exec("n1", ["test", "-e", "/dev/disk/by-id/scsi-D1"])).code, device).toBe(0);
    await lab.wipe();
    expect(traces(lab)).toEqual([]);
  });

  test.each([0, 150, 400, 900])("leaves nothing when `up` was killed %i ms after its first trace", async (delayMs) => {
    const lab = await newLab("cut", { nodes: ["n1", "n2"], downOnExit: false });
    const up = spawn(process.execPath, [main, "up", "--name", "cut", "--state", lab.stateDirectory, "--nodes", "n1,n2"]);
    const ended = new Promise((resolve) => up.once("close", resolve));
    // The process itself has the directory in its command line; anything more is the lab.
    await until("the lab to begin", 20_000, () => traces(lab).length > 1 || undefined, 5);
    await new Promise((wake) => setTimeout(wake, delayMs));
    up.kill("SIGKILL");
    await ended;
    await lab.down();
    expect(traces(lab)).toEqual([]);
  });

  test("happens by itself when the process that asked for it is killed", async () => {
    const lab = await newLab("left", { nodes: ["n1"], downOnExit: false });
    const script = join(lab.stateDirectory, "leave.ts");
    const options = JSON.stringify({ name: "left", nodes: ["n1"], stateDirectory: lab.stateDirectory, downOnExit: true });
    const source = `import { Lab } from ${JSON.stringify(join(import.meta.dirname, "lab.ts"))};
await new Lab(${options}).up();
console.log("up");
setInterval(() => {}, 1000);`;
    await writeFile(script, source);
    const owner = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((up) => owner.stdout.once("data", up));
    expect(traces(lab)).not.toEqual([]);
    owner.kill("SIGKILL");
    await until("the lab to be taken down", 30_000, () => traces(lab).length === 0 || undefined);
  });
});
