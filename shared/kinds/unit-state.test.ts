import { describe, expect, test } from "vitest";
import { isTemplateUnit, templateOf, unitName, unitNames } from "./unit-name.ts";
import { isUp, parseShow, showUnits, unknownUnit } from "./unit-state.ts";
import type { Probe } from "./kind.ts";

/** As systemd 252 prints it: properties in an order of its own, an empty line between units. */
const TWO = `Type=notify
RemainAfterExit=no
Id=ssh.service
Names=ssh.service sshd.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no
ConditionResult=yes
ConditionTimestampMonotonic=8513870

Id=nope.service
Names=nope.service
LoadState=not-found
LoadError=org.freedesktop.systemd1.NoSuchUnit "Unit nope.service not found."
ActiveState=inactive
SubState=dead
UnitFileState=
NeedDaemonReload=no
`;

describe("systemctl show", () => {
  test("is told apart by names, aliases included, in whatever order", () => {
    const states = parseShow(TWO, ["nope.service", "sshd.service"]);
    expect(states.get("sshd.service")).toMatchObject({ activeState: "active", fileState: "enabled", loadState: "loaded" });
    expect(states.get("nope.service")).toMatchObject({ loadState: "not-found", loadError: "Unit nope.service not found." });
  });

  test("answers nothing for what it did not show, and takes any rubbish", () => {
    expect(parseShow("", ["a.service"]).size).toBe(0);
    expect(parseShow("\n\n\nFailed to do it\n=x\n", ["a.service"]).size).toBe(0);
    expect(parseShow(`${TWO}\n\n${TWO}`, ["ssh.service"]).size).toBe(1);
  });

  test("asks nobody about nothing", async () => {
    expect(await showUnits({} as Probe, [])).toEqual({ units: new Map(), error: null });
  });

  test("says what systemctl said when it failed", async () => {
    const probe = { run: async () => ({ code: 1, stdout: "", stderr: "Failed to connect to bus: Host is down\n" }) } as unknown as Probe;
    expect((await showUnits(probe, ["a.service"])).error).toBe("systemctl show ended with code 1 and said nothing about a.service: Failed to connect to bus: Host is down");
  });
});

test("a unit between two of its crashes is not up", () => {
  expect(isUp({ ...unknownUnit, activeState: "activating", subState: "start" })).toBe(true);
  expect(isUp({ ...unknownUnit, activeState: "activating", subState: "auto-restart" })).toBe(false);
});

describe("a unit's name", () => {
  test.each([
    ["nginx", "nginx.service"],
    ["backup.timer", "backup.timer"],
    ["getty@tty1", "getty@tty1.service"],
    ["srv-data.mount", "srv-data.mount"],
    ["php8.2-fpm", "php8.2-fpm.service"],
    ["dev-disk-by\\x2dlabel-x.swap", "dev-disk-by\\x2dlabel-x.swap"],
  ])("%s is %s", (name, full) => {
    expect(unitName.parse(name)).toBe(full);
  });

  test.each(["", "-x", "../x", "a/b", "a b", "a;b", ".service", "x".repeat(248)])("%j is refused", (name) => {
    expect(unitName.safeParse(name).success).toBe(false);
  });

  test("of several, doubles are dropped", () => {
    expect(unitNames.parse(["nginx", "nginx.service"])).toEqual(["nginx.service"]);
    expect(unitNames.parse("nginx")).toEqual(["nginx.service"]);
  });

  test("of an instance leads to its template", () => {
    expect(templateOf("worker@one.two.service")).toBe("worker@.service");
    expect(templateOf("worker.service")).toBe("worker.service");
    expect([isTemplateUnit("worker@.service"), isTemplateUnit("worker@1.service")]).toEqual([true, false]);
  });
});
