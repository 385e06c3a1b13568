import { describe, expect, test } from "vitest";
import { kernelNeed, releaseOfPackage, runningBuild, splitRelease } from "./kernel.ts";
import type { KernelView } from "./kernel.ts";

const view = (running: string | null, installed: Readonly<Record<string, string | null>>, more: Partial<KernelView> = {}): KernelView => ({
  container: false,
  running,
  build: null,
  installed: Object.entries(installed).map(([release, version]) => ({ release, version })),
  ...more,
});

test.each([
  ["6.1.0-18-amd64", "6.1.0-18", "amd64"],
  ["6.1.0-56-cloud-amd64", "6.1.0-56", "cloud-amd64"],
  ["6.1.0-0.deb11.17-amd64", "6.1.0-0.deb11.17", "amd64"],
  ["6.12.9+bpo-amd64", "6.12.9+bpo", "amd64"],
  ["5.15.0-91-generic", "5.15.0-91", "generic"],
  ["6.8.4-2-pve", "6.8.4-2", "pve"],
  ["6.6.31+rpt-rpi-v8", "6.6.31+rpt", "rpi-v8"],
  ["6.18.44-fc-v595", "6.18.44", "fc-v595"],
  ["6.9.1", "6.9.1", ""],
])("%s is %s of the flavour %s", (release, version, flavour) => {
  expect(splitRelease(release)).toEqual({ version, flavour });
});

test("packages that hold a kernel, and those that do not", () => {
  expect(["linux-image-6.1.0-18-amd64", "linux-image-unsigned-5.15.0-91-generic", "proxmox-kernel-6.8.4-2-pve-signed", "pve-kernel-5.15.131-1-pve"].map(releaseOfPackage)).toEqual([
    "6.1.0-18-amd64",
    "5.15.0-91-generic",
    "6.8.4-2-pve",
    "5.15.131-1-pve",
  ]);
  expect(["linux-image-amd64", "linux-image-6.1.0-18-amd64-dbg", "proxmox-kernel-6.8", "linux-headers-6.1.0-18-amd64", "linux-image-generic"].map(releaseOfPackage)).toEqual([null, null, null, null, null]);
});

test("what the running kernel says about its own package", () => {
  expect(runningBuild("Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld) #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)\n", null)).toBe("6.1.76-1");
  expect(runningBuild("Linux version 5.15.0-91-generic (buildd@lcy02) …", "Ubuntu 5.15.0-91.101-generic 5.15.131\n")).toBe("5.15.0-91.101");
  expect(runningBuild("Linux version 6.18.44-fc-v595 (builder@host) (gcc (GCC) 15.3.0) #1 SMP PREEMPT_DYNAMIC @0\n", null)).toBeNull();
});

describe("kernelNeed", () => {
  test("a newer kernel of the same flavour is a reason, an older or another is none", () => {
    expect(kernelNeed(view("6.1.0-9-amd64", { "6.1.0-9-amd64": "6.1.27-1", "6.1.0-18-amd64": "6.1.76-1" }))).toEqual({ needed: "yes", why: ["the running kernel 6.1.0-9-amd64 is older than the installed 6.1.0-18-amd64"] });
    expect(kernelNeed(view("6.1.0-18-amd64", { "6.1.0-9-amd64": null, "6.1.0-18-amd64": null, "6.12.9+bpo-rt-amd64": null })).needed).toBe("no");
    expect(kernelNeed(view("6.1.0-21-amd64", { "6.1.0-18-amd64": null })).needed).toBe("no");
  });

  test("a newer build of the same release is a reason", () => {
    const installed = { "6.1.0-18-amd64": "6.1.76-2" };
    expect(kernelNeed(view("6.1.0-18-amd64", installed, { build: "6.1.76-1" })).needed).toBe("yes");
    expect(kernelNeed(view("6.1.0-18-amd64", installed, { build: "6.1.76-2" })).needed).toBe("no");
    expect(kernelNeed(view("6.1.0-18-amd64", installed, { build: null })).needed).toBe("no");
  });

  test("without kernels of its own a machine needs none; what cannot be compared is unknown", () => {
    expect(kernelNeed(view("6.18.44-fc-v595", {}))).toEqual({ needed: "no", why: [] });
    expect(kernelNeed(view("5.10.0-8-amd64", { "6.1.0-18-amd64": null }, { container: true })).needed).toBe("no");
    expect(kernelNeed(view("5.10.44-fc-v595", { "6.1.0-18-amd64": null })).needed).toBe("unknown");
    expect(kernelNeed(view(null, { "6.1.0-18-amd64": null })).needed).toBe("unknown");
  });
});
