import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseDebName, parseUris } from "./cached-debs.ts";
import { isOn, needrestartMode, parseAptConfig } from "./conflicts.ts";
import { needrestartNeed, parseNeedrestart } from "./needrestart.ts";
import { isSecurityOrigin, parseMadison, parseUpgrade } from "./offers.ts";
import { mapsReplaced, serviceOf } from "./replaced-libraries.ts";

/** What the programs of Debian 12 said in a node: apt 2.6, needrestart 3.6. */
const recorded = (name: string): string => readFileSync(new URL(`recorded/${name}.txt`, import.meta.url), "utf8");

describe("apt-get -s upgrade", () => {
  test("offers, new packages, security by its origin, and what is kept back", () => {
    expect(parseUpgrade(recorded("upgrade"))).toEqual({
      offers: [
        { name: "ek-new", from: null, to: "1.0", security: false },
        { name: "ek-a", from: "1.0", to: "1.2", security: false },
        { name: "ek-b", from: "1.0", to: "1.1+sec1", security: true },
        { name: "ek-c", from: "1.0", to: "1.1", security: false },
      ],
      keptBack: ["ek-d", "ek-e"],
    });
  });

  test("Debian's own lines, with several origins", () => {
    const { stdout } = JSON.parse(readFileSync(new URL("../../test/fixtures/packages/apt-get/simulate-debian.json", import.meta.url), "utf8")) as { stdout: string };
    expect(parseUpgrade(stdout).offers.map(({ name, security }) => `${name} ${security}`)).toEqual(["base-files false", "original-awk false", "nginx-common true", "nginx true"]);
    expect(parseUpgrade("")).toEqual({ offers: [], keptBack: [] });
  });

  test.each([
    ["Debian-Security:12/oldstable-security", true],
    ["Debian-Security:oldstable-security", true],
    ["Ubuntu:22.04/jammy-security", true],
    ["UbuntuESMApps:22.04/jammy-apps-security", true],
    ["Ubuntu:22.04/jammy-updates", false],
    ["Debian:12.15/oldstable", false],
    ["my-security-tools:stable", false],
    ["", false],
  ])("%s", (origin, isSecurity) => {
    expect(isSecurityOrigin(origin)).toBe(isSecurity);
  });
});

test("apt-cache madison", () => {
  const versions = parseMadison(`${recorded("madison")}      bash | 5.2.15-2 | http://deb.debian.org/debian bookworm/main Sources\n       ssl | 3.0.1 | http://security.debian.org/debian-security bookworm-security/main amd64 Packages\n`);
  expect(versions.filter(({ name }) => name === "ek-a")).toEqual([
    { name: "ek-a", version: "1.2", security: false },
    { name: "ek-a", version: "1.1+sec1", security: true },
    { name: "ek-a", version: "1.0", security: false },
  ]);
  expect(versions.at(-1)).toEqual({ name: "ssl", version: "3.0.1", security: true });
  expect(versions.some(({ name }) => name === "bash")).toBe(false);
});

test("apt-get download --print-uris, and the names of cached files", () => {
  expect(parseUris(recorded("print-uris"))).toEqual([
    { name: "ek-a", version: "1.0", sizeBytes: 1088 },
    { name: "ek-b", version: "1.1+sec1", sizeBytes: 1096 },
  ]);
  expect(parseDebName("openssh-server_1%3a9.2p1-2+deb12u3_amd64.deb")).toEqual({ name: "openssh-server", version: "1:9.2p1-2+deb12u3", architecture: "amd64" });
  expect(["lock", "partial", "x_1_amd64.deb.new"].map(parseDebName)).toEqual([null, null, null]);
});

describe("apt-config dump", () => {
  test("is read without regard to case; lists are not values", () => {
    const settings = parseAptConfig(recorded("apt-config"));
    expect(settings.get("apt::periodic::unattended-upgrade")).toBe("1");
    expect(settings.get("unattended-upgrade::automatic-reboot")).toBeUndefined();
    expect([...settings.keys()].some((key) => key.endsWith("::"))).toBe(false);
  });

  test.each([["1", true], ["true", true], ["Yes", true], ["0", false], ["false", false], ["", false], [undefined, false]])("%s is %s", (value, on) => {
    expect(isOn(value)).toBe(on);
  });
});

test("needrestart's configuration: the last assignment counts, a comment does not", () => {
  expect(needrestartMode([recorded("needrestart-conf")])).toBeNull();
  expect(needrestartMode([recorded("needrestart-conf"), "$nrconf{restart} = 'a';\n"])).toBe("a");
  expect(needrestartMode(["$nrconf{restart} = 'a';\n", '  $nrconf{restart} = "l";\n'])).toBe("l");
});

describe("needrestart -b", () => {
  const need = (name: string) => needrestartNeed(parseNeedrestart(recorded(name))!, false);

  test("services", () => {
    const { services, kernel } = parseNeedrestart(recorded("needrestart-services"))!;
    expect(services).toContain("dbus.service");
    expect(services).toContain("systemd-manager");
    expect(kernel).toBeNull();
  });

  test("in a container it says nothing about the kernel, which is no reason", () => {
    expect(need("needrestart-container")).toEqual({ needed: "no", why: [] });
  });

  test("a kernel that it cannot find is unknown, and so is one that is expected and older than the running", () => {
    expect(need("needrestart-kernel-unknown").needed).toBe("unknown");
    expect(parseNeedrestart(recorded("needrestart-newer-running"))).toMatchObject({ kernel: 3 });
    expect(need("needrestart-newer-running").needed).toBe("unknown");
  });

  test("another flavour is no reason, a newer one of the same is", () => {
    expect(need("needrestart-kernel-pending").needed).toBe("unknown");
    const same = recorded("needrestart-kernel-pending").replace("2.6.78-fc-v595", "6.1.0-50-cloud-amd64");
    expect(needrestartNeed(parseNeedrestart(same)!, false)).toEqual({ needed: "yes", why: ["the running kernel 6.1.0-50-cloud-amd64 is older than the installed 6.1.0-56-cloud-amd64 (needrestart)"] });
    expect(needrestartNeed(parseNeedrestart(same)!, true)).toEqual({ needed: "no", why: [] });
  });

  test("a compatible build and microcode are reasons; no answer is none", () => {
    const text = recorded("needrestart-newer-running");
    expect(needrestartNeed(parseNeedrestart(text.replace("KSTA: 3", "KSTA: 2"))!, false).needed).toBe("yes");
    expect(needrestartNeed(parseNeedrestart(text.replace("KSTA: 3", "KSTA: 1").replace("UCSTA: 1", "UCSTA: 2"))!, false).needed).toBe("yes");
    expect(needrestartNeed(parseNeedrestart(text.replace("KSTA: 3", "KSTA: 1"))!, false).needed).toBe("no");
    expect(parseNeedrestart("")).toBeNull();
  });
});

describe("processes", () => {
  test("that run on replaced libraries", () => {
    expect(mapsReplaced(recorded("maps"))).toBe(true);
    expect(mapsReplaced(recorded("maps").replaceAll(" (deleted)", ""))).toBe(false);
  });

  test.each([
    ["7f67 r-xp 0 00:27 1 /memfd:jit (deleted)", false],
    ["7f67 r-xp 0 00:27 1 /dev/zero (deleted)", false],
    ["7f67 r-xp 0 00:27 1 /tmp/jna123.tmp (deleted)", false],
    ["7f67 r--p 0 00:27 1 /usr/share/icons/cache (deleted)", false],
    ["7f67 r-xp 0 00:27 1 /usr/local/bin/own (deleted)", false],
    ["7f67 r-xp 0 00:27 1                          /usr/sbin/nginx (deleted)", true],
    ["7f67 r-xp 0 00:27 1                          /lib/x86_64-linux-gnu/libc.so.6 (deleted)", true],
  ])("%s", (line, replaced) => {
    expect(mapsReplaced(line)).toBe(replaced);
  });

  test.each([
    ["0::/system.slice/dbus.service\n", "dbus.service"],
    ["9:name=systemd:/\n0::/system.slice/systemd-udevd.service/udev\n", "systemd-udevd.service"],
    ["1:name=systemd:/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"],
    ["0::/lxc.payload.web/system.slice/nginx.service\n", null],
    ["0::/system.slice/docker-0a1b.scope\n", null],
    ["0::/user.slice/user-0.slice/session-1.scope\n", null],
    ["0::/init.scope\n", null],
  ])("%s belongs to %s", (cgroup, service) => {
    expect(serviceOf(cgroup)).toBe(service);
  });
});
