import { describe, expect, test } from "vitest";
import { parseDpkgStatus } from "./dpkg-status.ts";
import type { Json } from "./kind.ts";
import { declaredPresent, packages } from "./packages.ts";

// What a plan answers on recorded machines is in test/fixtures/packages; here is what the recordings do not reach.

function plan(section: object, database: string, owned: Record<string, Json> = {}, interrupted = { journal: false, busy: null as string | null }) {
  const status = parseDpkgStatus(`Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n${database}`);
  return packages.plan(packages.schema.parse(section), { status, interrupted }, new Map(Object.entries(owned)));
}

function entry(name: string, status: string, version = "1.0"): string {
  return `Package: ${name}\nStatus: ${status}\nArchitecture: all\nVersion: ${version}\n\n`;
}

function problem(section: object): string {
  const result = packages.schema.safeParse(section);
  return result.success ? "valid" : JSON.stringify(result.error.issues);
}

describe("the schema", () => {
  test("takes the short and the long form", () => {
    expect(packages.schema.parse({ nginx: "present", "libc6:i386": { version: "2.36-9" }, vim: {} })).toEqual({
      nginx: { state: "present" },
      "libc6:i386": { state: "present", version: "2.36-9" },
      vim: { state: "present" },
    });
  });

  test.each([
    [{ Nginx: "present" }, "lower-case letters"],
    [{ "nginx;reboot": "present" }, "lower-case letters"],
    [{ "-o": "present" }, "lower-case letters"],
    [{ nginx: { version: 1.2 } }, "in quotes"],
    [{ nginx: { version: "1.2 -o x" } }, "exact version"],
    [{ nginx: { state: "absent", version: "1.2" } }, "leave it out"],
    [{ nginx: { state: "purged", hold: true } }, "leave it out"],
    [{ nginx: { state: "present", held: true } }, "held"],
  ])("refuses %j", (section, said) => {
    expect(problem(section)).toContain(said);
  });

  test("declared are the packages that are to be there", () => {
    expect([...declaredPresent(packages.schema.parse({ a1: "present", b1: "absent", c1: { hold: true } }))]).toEqual(["a1", "c1"]);
  });
});

describe("the plan", () => {
  test("claims only what it installs itself", () => {
    expect(plan({ vim: "present" }, "")).toMatchObject([{ action: "install", claim: {} }]);
    expect(plan({ vim: { version: "2.0" } }, entry("vim", "install ok installed"))[0]).not.toHaveProperty("claim");
  });

  test("claims a first installation that was not finished, and no upgrade", () => {
    expect(plan({ vim: "present" }, entry("vim", "install ok half-configured"))).toMatchObject([{ action: "install", claim: {} }]);
    expect(plan({ vim: "present" }, `Config-Version: 0.9\n${entry("vim", "install ok half-configured")}`)[0]).not.toHaveProperty("claim");
  });

  test("a version that only looks different is the same", () => {
    expect(plan({ vim: { version: "0:1.0" } }, entry("vim", "install ok installed"))).toEqual([]);
  });

  test("a name that is a property of all objects is a package like any other", () => {
    expect(plan({}, entry("constructor", "install ok installed"), { constructor: {} })).toMatchObject([{ action: "remove", name: "constructor", release: true }]);
  });

  test("an absent package takes the agent's hold along", () => {
    const steps = plan({ vim: "absent" }, entry("vim", "hold ok installed"), { vim: {}, "vim/hold": {} });
    expect(steps.map((step) => [step.resource, step.do === "package" ? step.action : step.do, step.release])).toEqual([
      ["packages/vim/hold", "unhold", true],
      ["packages/vim", "remove", true],
    ]);
  });

  test("a hold that somebody else set is left alone", () => {
    expect(plan({ vim: "present" }, entry("vim", "hold ok installed"))).toEqual([]);
  });

  test("an owned package that is gone is forgotten, once", () => {
    expect(plan({}, entry("vim", "deinstall ok config-files"), { vim: {} })).toMatchObject([{ resource: "packages/vim", release: true, do: "run" }]);
    expect(plan({ vim: "absent" }, "", { vim: {} })).toMatchObject([{ resource: "packages/vim", release: true, do: "run" }]);
  });

  test("waiting for triggers is as good as installed, and dpkg is asked to run them", () => {
    expect(plan({ vim: "present" }, entry("vim", "install ok triggers-pending")).map(({ resource }) => resource)).toEqual(["packages/(dpkg)"]);
  });

  test("what another apt has in its hands is left to it; the rest is planned", () => {
    const busy = { journal: true, busy: "apt-get upgrade" };
    const steps = plan({ vim: "present", nano: "present" }, entry("vim", "install ok half-configured"), {}, busy);
    expect(steps.map(({ resource }) => resource)).toEqual(["packages/nano"]);
  });
});
