import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Output } from "../../shared/kinds/kind.ts";
import { diagnose, parseDpkgErrors, parseFetchFailures, parseQuery, parseSimulation, parseUnknown, shortName } from "./apt-output.ts";

/** Recorded from apt 2.6 and dpkg 1.21 of Debian 12. */
function recorded(name: string): Output {
  return JSON.parse(readFileSync(new URL(`../../test/fixtures/packages/apt-get/${name}.json`, import.meta.url), "utf8")) as Output;
}

function simulated(name: string): { installs: unknown; removes: unknown } {
  const { installs, removes } = parseSimulation(recorded(name).stdout);
  return { installs: Object.fromEntries(installs), removes: Object.fromEntries(removes) };
}

describe("parseSimulation", () => {
  test("reads what would be installed", () => {
    expect(simulated("simulate-install")).toEqual({
      installs: { "ek-one": { from: null, to: "1.1" }, "ek-two": { from: null, to: "2.0" }, "ek-three": { from: null, to: "1.0" } },
      removes: {},
    });
  });

  test("reads what would go for it, and what would go down", () => {
    expect(simulated("simulate-removes-others")).toEqual({ installs: { "ek-rival": { from: null, to: "1.0" } }, removes: { "ek-three": "1.0", "ek-one": "1.1" } });
    expect(simulated("simulate-downgrade")).toEqual({ installs: { "ek-one": { from: "1.1", to: "1.0" } }, removes: {} });
  });

  test("reads Debian's own packages", () => {
    expect(simulated("simulate-debian")).toEqual({
      installs: {
        "base-files": { from: "12.4+deb12u11", to: "12.4+deb12u15" },
        "original-awk": { from: null, to: "2022-09-12-1" },
        "nginx-common": { from: null, to: "1.22.1-9+deb12u10" },
        nginx: { from: null, to: "1.22.1-9+deb12u10" },
      },
      removes: { mawk: "1.3.4.20200120-3.1" },
    });
  });

  test("what apt says to people is no plan", () => {
    expect(parseSimulation("Installing: Inst me\n Inst indented (1)\nRemv\n").installs.size).toBe(0);
    expect(parseSimulation("").removes.size).toBe(0);
  });
});

describe("parseUnknown", () => {
  test("names every package that cannot be had, and why", () => {
    expect(parseUnknown(recorded("simulate-unknown")).map(({ name, code }) => `${name} ${code}`)).toEqual([
      "ek-nope unknown-package",
      "ek.one unknown-package",
      "ek-provider unknown-version",
      "ek-virtual unknown-package",
    ]);
    expect(parseUnknown(recorded("simulate-unknown")).at(-1)?.message).toBe("ek-virtual is a virtual package: write one of those that provide it (ek-provider-b, ek-provider)");
    expect(parseUnknown(recorded("simulate-mentioned-only"))[0]?.message).toMatch(/^ek-nowhere is mentioned by other packages/);
  });

  test("finds nothing in other failures", () => {
    expect(parseUnknown(recorded("simulate-unmet"))).toEqual([]);
  });
});

describe("diagnose", () => {
  test.each([
    ["run-locked", "locked", "process 6 (apt-get)"],
    ["run-interrupted", "interrupted", "dpkg --configure -a"],
    ["run-disk-full", "disk-full", "No space left on device"],
    ["run-not-downloaded", "download-failed", "ek-solo_1.0_all.deb"],
    ["run-script-fails", "dpkg-failed", "Sub-process /usr/bin/dpkg returned an error code (1)"],
    ["simulate-unmet", "unsatisfiable", "ek-unmet : Depends: ek-nowhere (>= 3) but it is not installable"],
  ])("%s is %s", (name, code, said) => {
    const diagnosis = diagnose(recorded(name), 120);
    expect(diagnosis.code).toBe(code);
    expect(diagnosis.message).toContain(said);
  });

  test("a program that is missing or ran too long has no words of its own", () => {
    expect(diagnose({ code: 124, stdout: "", stderr: "" }, 120).code).toBe("timeout");
    expect(diagnose({ code: 127, stdout: "", stderr: "" }, 120).message).toContain("not on this node");
    expect(diagnose({ code: 1, stdout: "", stderr: "what\nis this" }, 120)).toEqual({ code: "failed", message: "apt-get ended with code 1: what; is this" });
  });

  test("dpkg names who holds its lock by number alone", () => {
    const stderr = "dpkg: error: dpkg frontend lock was locked by another process with pid 5\n";
    expect(diagnose({ code: 2, stdout: "", stderr }, 120).message).toMatch(/^process 5 is at work/);
  });
});

describe("parseDpkgErrors", () => {
  test("gives each failed package the words of its script, or of dpkg", () => {
    expect(Object.fromEntries(parseDpkgErrors(recorded("run-script-fails")))).toEqual({
      "ek-broken": "ek-broken: cannot reach the moon; installed ek-broken package post-installation script subprocess returned error exit status 1",
      "ek-needs-broken": "ek-needs-broken depends on ek-broken; however: Package ek-broken is not configured yet.",
    });
    expect([...parseDpkgErrors(recorded("run-disk-full")).keys()]).toEqual(["ek-big"]);
    expect(parseDpkgErrors(recorded("run-removal-fails")).get("ek-stubborn")).toMatch(/^prerm says no; /);
  });
});

test("parseFetchFailures names the packages by their files", () => {
  expect([...parseFetchFailures(recorded("run-not-downloaded"))]).toEqual(["ek-solo"]);
});

test("parseQuery reads dpkg's database", () => {
  const status = parseQuery(recorded("query").stdout);
  expect(status.architecture).toBe("amd64");
  expect(status.packages.get("hostname")?.[0]?.essential).toBe(true);
  expect(status.packages.get("ek-four")?.[0]).toMatchObject({ selection: "hold", state: "installed", essential: false });
  expect(["bash:amd64", "bash:i386", "ek-one:all", "ek-one:amd64", "ek-one"].map((name) => shortName(name, status))).toEqual(["bash", "bash:i386", "ek-one", "ek-one", "ek-one"]);
});
