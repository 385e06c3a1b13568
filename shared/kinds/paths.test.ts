import { describe, expect, test } from "vitest";
import { ancestors, fileMode, octal, pathFault, refusedPath } from "./paths.ts";

describe("a path", () => {
  test.each(["/etc/motd", "/a", "/srv/with space/ünïcode", "/etc/..hidden", "/etc/a..b"])("%s is fine", (path) => {
    expect(pathFault(path)).toBeNull();
  });

  test.each([
    ["etc/motd", "absolute"],
    ["", "absolute"],
    ["/etc/../shadow", "/shadow"],
    ["/etc//motd", "/etc/motd"],
    ["/etc/motd/", "/etc/motd"],
    ["/./etc", "/etc"],
    ["/etc/a\0b", "NUL"],
    ["/etc/a\nb", "control"],
    [`/${"x".repeat(256)}`, "255"],
    [`/${"ü".repeat(128)}`, "255"],
    ["/x".repeat(2048), "4095"],
  ])("%j is refused, and the message says %s", (path, part) => {
    expect(pathFault(path)).toContain(part);
  });
});

describe("files manages", () => {
  test.each(["/", "/proc/sys/net", "/sys", "/dev/sda", "/run/evenkeel/x", "/var/lib/evenkeel", "/usr/lib/evenkeel/agent.js", "/etc/evenkeel/signers"])("nothing at %s", (path) => {
    expect(refusedPath(path)).not.toBeNull();
  });

  test.each([
    ["/etc/passwd", "users"],
    ["/etc/shadow", "users"],
    ["/etc/group", "groups"],
    ["/etc/hosts", "host: hosts"],
    ["/etc/sudoers.d/evenkeel-anna", "users"],
  ])("not %s, which belongs to %s", (path, section) => {
    expect(refusedPath(path)).toContain(section);
  });

  test.each(["/process", "/etc/passwd.d/x", "/devices", "/run/evenkeeler", "/etc/sudoers.d/mine"])("%s, whose name only begins alike", (path) => {
    expect(refusedPath(path)).toBeNull();
  });
});

test("a mode is octal digits in quotes, never a number", () => {
  expect(fileMode.parse("0644")).toBe(0o644);
  expect(fileMode.parse("4755")).toBe(0o4755);
  expect(fileMode.safeParse(644).error?.issues[0]?.message).toContain("in quotes");
  expect(fileMode.safeParse("0999").success).toBe(false);
  expect(octal(0o7)).toBe("0007");
});

test("ancestors come nearest first, without the root", () => {
  expect(ancestors("/a/b/c")).toEqual(["/a/b", "/a"]);
  expect(ancestors("/a")).toEqual([]);
});
