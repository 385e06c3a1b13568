import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Output } from "../../shared/kinds/kind.ts";
import { HostProbe } from "../host/probe.ts";
import { lookAtRunning } from "./reboot-need.ts";

/** A machine as a tree of files; needrestart, where it is installed, answers what it once did. */
let root: string;
const recorded = (name: string): string => readFileSync(new URL(`recorded/${name}.txt`, import.meta.url), "utf8");

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "evenkeel-reboot-"));
  await tree({ "/proc/1/maps": "7f67 r-xp 0 00:27 1 /usr/lib/systemd/systemd\n", "/proc/1/cgroup": "0::/init.scope\n", "/proc/sys/kernel/osrelease": "6.1.0-9-amd64\n" });
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function tree(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

function look(answer: Partial<Output> = { code: 127 }, full = false) {
  return lookAtRunning(new HostProbe(async () => ({ code: 0, stdout: "", stderr: "", ...answer }), root), full);
}

const kernel = (release: string, state = "install ok installed"): string => `Package: linux-image-${release}\nStatus: ${state}\nArchitecture: amd64\nVersion: 6.1.27-1\n\n`;

describe("a machine", () => {
  test("with nothing replaced needs no reboot", async () => {
    expect(await look()).toEqual({ reboot: { needed: "no", why: [] }, restarts: { needed: "no", services: [] } });
  });

  test("that a package marked needs one, by whichever name of /run", async () => {
    await tree({ "/var/run/reboot-required": "*** System restart required ***\n" });
    expect((await look()).reboot).toEqual({ needed: "yes", why: ["a package asks for it (/var/run/reboot-required)"] });
    await tree({ "/run/reboot-required": "", "/run/reboot-required.pkgs": "dbus\nlinux-base\ndbus\n" });
    expect((await look()).reboot.why).toEqual(["dbus, linux-base ask for it (/run/reboot-required)"]);
  });

  test("with a newer kernel needs one; a kernel that is not yet configured, or not its own, is none", async () => {
    await tree({ "/var/lib/dpkg/status": kernel("6.1.0-9-amd64") + kernel("6.1.0-18-amd64", "install ok unpacked") });
    expect((await look()).reboot.needed).toBe("no");
    await tree({ "/var/lib/dpkg/status": `${kernel("6.1.0-9-amd64")}${kernel("6.1.0-18-amd64")}Package: x\n` });
    expect((await look()).reboot).toEqual({ needed: "yes", why: ["the running kernel 6.1.0-9-amd64 is older than the installed 6.1.0-18-amd64"] });
    await tree({ "/run/systemd/container": "lxc\n" });
    expect((await look()).reboot.needed).toBe("no");
  });

  test("with a kernel out of no package is seen by /boot", async () => {
    await tree({ "/boot/vmlinuz-6.1.5-amd64": "" });
    expect((await look()).reboot.needed).toBe("yes");
  });

  test("whose kernel cannot be compared does not know, and still says what it does know", async () => {
    await tree({ "/boot/vmlinuz-6.1.0-9-cloud-amd64": "" });
    expect((await look()).reboot.needed).toBe("unknown");
    await tree({ "/proc/7/cgroup": "0::/system.slice/nginx.service\n", "/proc/7/maps": "7f67 r-xp 0 00:27 1 /usr/lib/libssl.so.3 (deleted)\n", "/proc/8/cgroup": "0::/system.slice/evenkeel-agent.service\n", "/proc/8/maps": "7f67 r-xp 0 00:27 1 /usr/lib/evenkeel/node (deleted)\n" });
    expect(await look()).toMatchObject({ reboot: { needed: "yes" }, restarts: { needed: "yes", services: ["nginx.service"] } });
  });

  test("whose processes cannot be seen does not know of restarts, which is no reason to reboot", async () => {
    await rm(join(root, "proc/1"), { recursive: true });
    expect(await look()).toEqual({ reboot: { needed: "no", why: [] }, restarts: { needed: "unknown", services: [] } });
  });
});

describe("needrestart", () => {
  beforeEach(() => tree({ "/usr/sbin/needrestart": "" }));

  test("adds what it sees; its unknown is nobody's yes, and its failure nobody's loss", async () => {
    expect(await look({ stdout: recorded("needrestart-services") }, true)).toMatchObject({ reboot: { needed: "yes" }, restarts: { needed: "yes", services: expect.arrayContaining(["dbus.service", "systemd (PID 1)"]) } });
    expect((await look({ stdout: recorded("needrestart-kernel-unknown") })).reboot.needed).toBe("no");
    expect((await look({ stdout: recorded("needrestart-newer-running") })).reboot.needed).toBe("no");
    expect((await look({ code: 1, stdout: "" }, true)).reboot.needed).toBe("no");
  });

  test("does not say twice what the kernels say", async () => {
    await tree({ "/boot/vmlinuz-6.1.0-18-amd64": "" });
    const stdout = "NEEDRESTART-VER: 3.6\nNEEDRESTART-KCUR: 6.1.0-9-amd64\nNEEDRESTART-KEXP: 6.1.0-18-amd64\nNEEDRESTART-KSTA: 3\n";
    expect((await look({ stdout })).reboot.why).toHaveLength(1);
  });
});
