import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Output } from "../../shared/kinds/kind.ts";
import { Apt } from "./apt.ts";
import type { AptRun, PackageResult } from "./apt.ts";
import type { PackageStep } from "./host.ts";

// The flow around apt; test/e2e/apt.test.ts does the same with a real one.

interface World {
  /** Lines of `dpkg-query`, shortened: name, version, selection, state. */
  packages: Map<string, { version: string; selection: string; state: string; essential?: boolean }>;
  readonly commands: string[];
}

/** Answers `dpkg-query` from the world, and everything else from the test. */
function world(installed: Record<string, string>, answer: (command: string, world: World) => Partial<Output> | undefined): { apt: Apt; world: World } {
  const packages = new Map(Object.entries({ dpkg: "1.21", ...installed }).map(([name, version]) => [name, { version, selection: "install", state: "installed" }]));
  const state: World = { packages, commands: [] };
  const run: AptRun = async (argv) => {
    const command = argv.filter((word, index) => word !== "-o" && argv[index - 1] !== "-o").join(" ");
    if (argv[0] === "dpkg-query") {
      const lines = [...state.packages].map(([name, one]) => [name, "amd64", one.version, one.selection, "ok", one.state, one.essential === true ? "yes" : "no", "no"].join("\t"));
      return { code: 0, stdout: `${lines.join("\n")}\n`, stderr: "" };
    }
    state.commands.push(command);
    return { code: 0, stdout: "", stderr: "", ...answer(command, state) };
  };
  return { apt: new Apt(run, { lockTimeoutSeconds: 7 }), world: state };
}

function recorded(name: string): Output {
  return JSON.parse(readFileSync(new URL(`../../test/fixtures/packages/apt-get/${name}.json`, import.meta.url), "utf8")) as Output;
}

function step(action: PackageStep["action"], name: string, version?: string): PackageStep {
  const resource = action === "hold" || action === "unhold" ? (`packages/${name}/hold` as const) : (`packages/${name}` as const);
  return { resource, why: "because", impact: "none", do: "package", action, name, ...(version === undefined ? {} : { version }) };
}

function plain(results: ReadonlyMap<string, PackageResult>): Record<string, string> {
  return Object.fromEntries([...results].map(([resource, result]) => [resource.replace("packages/", ""), result.ok ? "ok" : `${result.code}: ${result.message}`]));
}

/** The names behind `install`, as `apt-get -s` would list them if all were new. */
function names(command: string): string[] {
  return command.slice(command.indexOf(" install ") + " install ".length).split(" ");
}

function simulation(command: string): Partial<Output> {
  const lines = names(command).map((name) => (name.endsWith("-") ? `Remv ${name.slice(0, -1)} [1]` : `Inst ${name.split("=")[0]} (${name.split("=")[1] ?? "1"} Debian:12 [amd64])`));
  return { stdout: `${lines.join("\n")}\n` };
}

/** Carries out what a command asks for. */
function obey(command: string, { packages }: World): Partial<Output> {
  for (const name of names(command)) {
    if (name.endsWith("-")) packages.delete(name.slice(0, -1));
    else packages.set(name.split("=")[0]!, { version: name.split("=")[1] ?? "1", selection: "install", state: "installed" });
  }
  return {};
}

const isSimulation = (command: string) => command.startsWith("apt-get") && command.includes(" -s ");
const isRun = (command: string) => command.startsWith("apt-get") && command.includes(" -y ");
const nobody = { declared: new Set<string>() };

describe("a transaction", () => {
  test("is one simulation and one run, which removes nothing that was not judged", async () => {
    const { apt, world: seen } = world({ old: "1" }, (command, now) => (isSimulation(command) ? simulation(command) : obey(command, now)));
    expect(plain(await apt.transaction([step("install", "nginx"), step("install", "vim", "2:9")], nobody))).toEqual({ nginx: "ok", vim: "ok" });
    expect(seen.commands).toHaveLength(2);
    expect(seen.commands[1]).toBe("apt-get -q --no-install-recommends -y --no-remove install nginx vim=2:9");
  });

  test("that has nothing to do starts no apt", async () => {
    const { apt, world: seen } = world({ vim: "1" }, () => ({ code: 1 }));
    expect(plain(await apt.transaction([step("install", "vim"), step("remove", "gone"), step("unhold", "gone"), step("purge", "other")], nobody))).toEqual({ vim: "ok", gone: "ok", "gone/hold": "ok", other: "ok" });
    expect(seen.commands).toEqual([]);
  });

  test("fetches the lists once when a name is not known, and tries again", async () => {
    let fetched = false;
    const { apt, world: seen } = world({}, (command, now) => {
      if (command.startsWith("apt-get update")) fetched = true;
      if (isSimulation(command)) return fetched || !command.includes("fresh") ? simulation(command) : { code: 100, stderr: "E: Unable to locate package fresh\n" };
      return isRun(command) ? obey(command, now) : {};
    });
    expect(plain(await apt.transaction([step("install", "fresh"), step("install", "vim")], nobody))).toEqual({ fresh: "ok", vim: "ok" });
    expect(seen.commands.filter((command) => command.startsWith("apt-get update"))).toHaveLength(1);
  });

  test("fetches the lists again when a package is not on the server any more", async () => {
    let runs = 0;
    const { apt, world: seen } = world({}, (command, now) => {
      if (isSimulation(command)) return simulation(command);
      if (!isRun(command)) return {};
      runs += 1;
      return runs === 1 ? recorded("run-not-downloaded") : obey(command, now);
    });
    expect(plain(await apt.transaction([step("install", "ek-solo"), step("install", "ek-five")], nobody))).toEqual({ "ek-solo": "ok", "ek-five": "ok" });
    expect(seen.commands.map((command) => command.split(" ")[1])).toContain("update");
  });

  test("goes on without a package that still cannot be fetched", async () => {
    const { apt } = world({}, (command, now) => {
      if (isSimulation(command)) return simulation(command);
      return isRun(command) ? (command.includes("ek-solo") ? recorded("run-not-downloaded") : obey(command, now)) : {};
    });
    const results = plain(await apt.transaction([step("install", "ek-solo"), step("install", "ek-five")], nobody));
    expect(results["ek-five"]).toBe("ok");
    expect(results["ek-solo"]).toMatch(/^download-failed: .*ek-solo_1\.0_all\.deb/);
  });

  test("repairs an interrupted dpkg once, and goes on", async () => {
    let repaired = false;
    const { apt, world: seen } = world({}, (command, now) => {
      if (command.startsWith("dpkg ")) repaired = true;
      if (isSimulation(command)) return simulation(command);
      return isRun(command) ? (repaired ? obey(command, now) : recorded("run-interrupted")) : {};
    });
    expect(plain(await apt.transaction([step("install", "ek-five")], nobody))).toEqual({ "ek-five": "ok" });
    expect(seen.commands).toContain("dpkg --force-confdef --force-confold --configure -a");
  });

  test("does not insist when another apt holds the lock", async () => {
    const { apt, world: seen } = world({}, (command) => (isSimulation(command) ? simulation(command) : recorded("run-locked")));
    const results = await apt.transaction([step("install", "ek-five"), step("install", "vim")], nobody);
    expect(plain(results)["vim"]).toBe("locked: process 6 (apt-get) is at work on packages, and was waited for (up to 7 s); it is tried again at the next run");
    expect(seen.commands.filter(isRun)).toHaveLength(1);
    expect([...results.values()].every((result) => !result.ok && result.tail.length <= 4000)).toBe(true);
  });

  test("believes dpkg's database, not an exit code", async () => {
    const { apt } = world({}, (command, now) => (isSimulation(command) ? simulation(command) : command.includes("liar") ? {} : { ...obey(command, now), code: 100 }));
    expect(plain(await apt.transaction([step("install", "vim")], nobody))).toEqual({ vim: "ok" });
    expect(plain(await apt.transaction([step("install", "liar")], nobody))["liar"]).toMatch(/^failed: /);
  });

  test("cannot read dpkg's database: every step says so", async () => {
    const apt = new Apt(async () => ({ code: 127, stdout: "", stderr: "dpkg-query: no such program" }));
    expect(plain(await apt.transaction([step("install", "vim"), step("hold", "vim")], nobody))).toEqual({
      vim: "failed: cannot read dpkg's database: dpkg-query: no such program",
      "vim/hold": "failed: cannot read dpkg's database: dpkg-query: no such program",
    });
  });
});

describe("what goes together", () => {
  test("one package that cannot be had is found among many, and the rest is installed", async () => {
    const many = Array.from({ length: 50 }, (_, index) => `p${index}`);
    const { apt, world: seen } = world({}, (command, now) => {
      if (isSimulation(command)) return names(command).includes("p33") ? recorded("simulate-unmet") : simulation(command);
      return obey(command, now);
    });
    const results = plain(await apt.transaction(many.map((name) => step("install", name)), nobody));
    expect(Object.entries(results).filter(([, result]) => result !== "ok").map(([name]) => name)).toEqual(["p33"]);
    expect(results["p33"]).toMatch(/^unsatisfiable: /);
    expect(seen.commands.filter(isSimulation).length).toBeLessThanOrEqual(14);
  });

  test("asking apt what goes together has an end", async () => {
    const { apt, world: seen } = world({}, () => recorded("simulate-unmet"));
    await apt.transaction(Array.from({ length: 100 }, (_, index) => step("install", `p${index}`)), nobody);
    expect(seen.commands).toHaveLength(40);
  });

  test("an install may take nothing along; a removal takes what depends on it, unless that is declared", async () => {
    const { apt, world: seen } = world({ lib: "1", tool: "1" }, (command, now) => {
      if (!isSimulation(command)) return obey(command, now);
      const { stdout = "" } = simulation(command);
      return { stdout: names(command).some((name) => name === "lib-" || name === "rival") ? `${stdout}Remv tool [1]\n` : stdout };
    });
    expect(plain(await apt.transaction([step("install", "rival")], nobody))).toEqual({ rival: "refused: apt would have to remove tool: if that is meant, add to packages: tool: absent" });
    expect(plain(await apt.transaction([step("remove", "lib")], { declared: new Set(["tool"]) }))["lib"]).toMatch(/^refused: .*tool, which the repository wants present/);
    expect(plain(await apt.transaction([step("remove", "lib")], { declared: new Set(["tool:amd64"]) }))["lib"]).toMatch(/^refused/);
    expect(seen.commands.filter(isRun)).toEqual([]);
    // With an install in the same transaction, the removal is looked at by itself.
    expect(plain(await apt.transaction([step("remove", "lib"), step("install", "vim")], nobody))).toEqual({ lib: "ok", vim: "ok" });
  });

  test("a held or a newer package is not changed on the way", async () => {
    const { apt, world: seen } = world({ held: "1", newer: "3" }, (command) => {
      const { stdout = "" } = simulation(command);
      return { stdout: command.includes("wants-held") ? `${stdout}Inst held [1] (2 Debian [amd64])\n` : `${stdout}Inst newer [3] (2 Debian [amd64])\n` };
    });
    seen.packages.set("held", { version: "1", selection: "hold", state: "installed" });
    const results = plain(await apt.transaction([step("install", "wants-held"), step("install", "wants-older")], nobody));
    expect(results["wants-held"]).toMatch(/^refused: .*held, which is held/);
    expect(results["wants-older"]).toMatch(/^refused: .*downgrade newer from 3 to 2/);
  });

  test("a hold comes after the install, and not without it", async () => {
    const { apt, world: seen } = world({}, (command, now) => {
      if (command === "apt-mark hold vim") now.packages.get("vim")!.selection = "hold";
      if (isSimulation(command)) return command.includes("nope") ? { code: 100, stderr: "E: Unable to locate package nope\n" } : simulation(command);
      return isRun(command) ? obey(command, now) : {};
    });
    const results = plain(await apt.transaction([step("install", "vim"), step("hold", "vim"), step("install", "nope"), step("hold", "nope")], nobody));
    expect(results).toMatchObject({ vim: "ok", "vim/hold": "ok", "nope/hold": "failed: nope is not installed, so it cannot be held" });
    expect(seen.commands.at(-1)).toBe("apt-mark hold vim");
  });
});
