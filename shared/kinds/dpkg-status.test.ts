import { describe, expect, test } from "vitest";
import { findPackage, mergeJournal, parseDpkgStatus } from "./dpkg-status.ts";

const text = `Package: dpkg
Essential: yes
Status: install ok installed
Architecture: amd64
Version: 1.21.22
Description: Debian package management system
 Version: a line of a description is no field

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u10
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab

Package: libc6
Status: hold ok installed
Architecture: i386
Multi-Arch: same
Version: 2.36-9+deb12u9

Package: mawk
Protected: yes
Status: install reinstreq half-installed
Architecture: amd64
Version: 1.3.4
Provides: awk, other (= 1.0), third:any

Package: ek-wanted
Status: hold ok not-installed
`;

describe("parseDpkgStatus", () => {
  const status = parseDpkgStatus(text);

  test("reads what is needed of every package", () => {
    expect(status.architecture).toBe("amd64");
    expect(status.packages.get("mawk")).toEqual([
      { name: "mawk", architecture: "amd64", version: "1.3.4", selection: "install", flag: "reinstreq", state: "half-installed", configured: false, essential: true, provides: ["awk", "other", "third"] },
    ]);
    expect(status.packages.get("dpkg")?.[0]).toMatchObject({ essential: true, version: "1.21.22" });
    expect(status.unfinished.map(({ name }) => name)).toEqual(["mawk"]);
  });

  test("tells architectures apart", () => {
    expect(findPackage(status, "libc6")?.version).toBe("2.36-9+deb12u10");
    expect(findPackage(status, "libc6:amd64")?.version).toBe("2.36-9+deb12u10");
    expect(findPackage(status, "libc6:i386")).toMatchObject({ version: "2.36-9+deb12u9", selection: "hold" });
    expect(findPackage(status, "libc6:arm64")).toBeUndefined();
    expect(findPackage(status, "ek-wanted")).toMatchObject({ selection: "hold", state: "not-installed" });
    expect(findPackage(status, "constructor")).toBeUndefined();
  });

  test("an empty or cut file is no error", () => {
    expect(parseDpkgStatus("").packages.size).toBe(0);
    expect(parseDpkgStatus("Package: half").packages.size).toBe(0);
  });
});

test("dpkg's journal is newer than its status file", () => {
  const merged = mergeJournal(parseDpkgStatus(text), [
    "Package: mawk\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 1.3.5\n",
    "Package: mawk\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 1.3.5\n",
    "Package: libc6\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 2.36-9+deb12u10\n",
    "Package: ek-wanted\nStatus: hold ok unpacked\nArchitecture: all\nVersion: 1.0\n",
    "#padding\n",
  ]);
  expect(findPackage(merged, "mawk")).toMatchObject({ version: "1.3.5", state: "half-configured" });
  expect(merged.packages.get("libc6")?.map(({ architecture, state }) => `${architecture} ${state}`)).toEqual(["amd64 installed", "i386 unpacked"]);
  expect(merged.packages.get("ek-wanted")).toHaveLength(1);
  expect(merged.unfinished.map(({ name }) => name)).toEqual(["libc6", "mawk", "ek-wanted"]);
});
