import { describe, expect, test } from "vitest";
import type * as z from "zod";
import { files } from "./files.ts";
import { groups } from "./groups.ts";
import { host } from "./host.ts";
import { modules } from "./modules.ts";
import { services } from "./services.ts";
import { sudoersContent, usersSchema } from "./users-section.ts";
import { sameValue, sysctl, sysctlPath } from "./sysctl.ts";

/** All messages of a refusal, those of keys and alternatives too, as one text. */
function refusal(schema: z.ZodType, section: unknown): string {
  const result = schema.safeParse(section);
  return result.success ? "accepted" : JSON.stringify(result.error.issues);
}

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl anna@laptop";

describe("files", () => {
  test("knows a file by its content, and fills in what is usual", () => {
    expect(files.schema.parse({ "/etc/motd": "hello" })["/etc/motd"]).toMatchObject({ type: "file", mode: 0o644, owner: "root", group: "root", sensitive: false });
    expect(files.schema.parse({ "/srv": { type: "directory" } })["/srv"]).toMatchObject({ mode: 0o755 });
  });

  test.each([
    [{ "etc/motd": "x" }, "absolute"],
    [{ "/etc/shadow": "x" }, "users"],
    [{ "/etc/motd": { content: "x", mode: 644 } }, "in quotes"],
    [{ "/etc/motd": { content: "x", moed: "0644" } }, "moed"],
    [{ "/etc/motd": { type: "dir" } }, "directory"],
    [{ "/etc/motd": {} }, "content"],
    [{ "/etc/motd": { type: "directory", content: "x" } }, "content"],
    [{ "/etc/motd": { content: "x", owner: "a:b" } }, "user or group"],
    [{ "/etc/motd": { content: { file: "../secret" } } }, "without . or .."],
    [{ "/etc/motd": { content: "x", restart: "a b" } }, "unit"],
  ])("refuses %j", (section, part) => {
    expect(refusal(files.schema, section)).toContain(part);
  });
});

describe("services", () => {
  test("adds .service, and knows its short forms", () => {
    expect(services.schema.parse({ nginx: "running", "a.timer": "stopped", b: "masked" })).toEqual({
      "nginx.service": { enabled: true, running: true },
      "a.timer": { enabled: false, running: false },
      "b.service": { masked: true },
    });
  });

  test.each([
    [{ nginx: "running", "nginx.service": "stopped" }, "here already"],
    [{ nginx: { masked: true, running: true } }, "cannot be running"],
    [{ nginx: { masked: true, unit: "x" } }, "no unit file"],
    [{ "w@": { running: true } }, "template"],
    [{ nginx: { dropIns: { "../x": "" } } }, "drop-in"],
    [{ nginx: { dropIns: { "x.conf": "" } } }, "leave .conf out"],
    [{ "../nginx": "running" }, "unit's name"],
  ])("refuses %j", (section, part) => {
    expect(refusal(services.schema, section)).toContain(part);
  });
});

describe("users and groups", () => {
  test.each([
    [{ "Anna B": {} }, "lower-case"],
    [{ "anna.b": {} }, "lower-case"],
    [{ anna: { uid: 0 } }, "root's"],
    [{ anna: { uid: 65_535 } }, "reserved"],
    [{ anna: { uid: 1001 }, berta: { uid: 1001 } }, "anna has the uid 1001"],
    [{ root: { shell: "/bin/sh" } }, "only authorizedKeys"],
    [{ root: "absent" }, "only authorizedKeys"],
    [{ anna: { home: "home/anna" } }, "absolute"],
    [{ anna: { home: "/home/a:b" } }, "no colon"],
    [{ anna: { comment: "a\nb" } }, "no line break"],
    [{ anna: { password: "hunter2" } }, "never the password itself"],
    [{ anna: { password: "$6$a:b$cccccccc" } }, "hash"],
    [{ anna: { sudo: ["rm -rf /"] } }, "absolute path"],
    [{ anna: { sudo: ["/bin/ls a, ALL"] } }, "accepted"],
    [{ anna: { sudo: ["/bin/ls\nanna ALL=(ALL) ALL"] } }, "absolute path"],
    [{ anna: { sudo: ["/bin/"] } }, "absolute path"],
    [{ anna: { sudo: ["/bin/*"] } }, "absolute path"],
    [{ anna: { authorizedKeys: ["not a key"] } }, "authorized_keys"],
    [{ anna: { authorizedKeys: [`${KEY}\n${KEY}`] } }, "authorized_keys"],
    [{ anna: { authorizedKeys: [`from="10.0.0.0/8",command="/bin/x y" ${KEY}`] } }, "accepted"],
    [{ anna: { state: "absent", sudo: "all" } }, "neither keys nor sudo"],
    [{ anna: { group: "devs", groups: ["devs"] } }, "primary group"],
  ])("%j: %s", (section, part) => {
    expect(refusal(usersSchema, section)).toContain(part);
  });

  test("what sudo would read as grammar is escaped", () => {
    const anna = usersSchema.parse({ anna: { sudo: ["/bin/ls a, ALL", "/bin/a x=y:z"] } })["anna"]!;
    expect(new TextDecoder().decode(sudoersContent("anna", anna))).toContain("NOPASSWD: /bin/ls a\\, ALL, /bin/a x\\=y\\:z\n");
  });

  test("the group root is nobody's to change", () => {
    expect(refusal(groups.schema, { root: {} })).toContain("not managed");
    expect(refusal(groups.schema, { a: { gid: 2000 }, b: { gid: 2000 } })).toContain("a has the gid 2000");
  });
});

describe("sysctl", () => {
  test("dots and slashes mean what they mean to sysctl.d", () => {
    expect(sysctlPath("net.ipv4.ip_forward")).toBe("net/ipv4/ip_forward");
    expect(sysctlPath("net/ipv4/conf/eth0.100/forwarding")).toBe("net/ipv4/conf/eth0.100/forwarding");
    expect(sysctlPath("net.ipv4.conf.eth0/100.forwarding")).toBe("net/ipv4/conf/eth0.100/forwarding");
  });

  test("tabs and spaces are the same", () => {
    expect(sameValue("4096\t131072\t6291456", "4096 131072  6291456")).toBe(true);
    expect(sameValue("1", "11")).toBe(false);
  });

  test.each([
    [{ "net.ipv4.ip_forward": true }, "expected"],
    [{ "net..ipv4": 1 }, "a key is"],
    [{ "net/../kernel/x": 1 }, "a key is"],
    [{ "kernel.hostname": "x" }, "host: name"],
    [{ "vm.drop_caches": 3 }, "no setting"],
    [{ "net.ipv4.ip_forward": 1, "net/ipv4/ip_forward": 0 }, "the same key"],
    [{ "kernel.x": "1\n2" }, "one line"],
  ])("refuses %j", (section, part) => {
    expect(refusal(sysctl.schema, section)).toContain(part);
  });
});

describe("modules and host", () => {
  test.each([
    [{ "br-netfilter": "loaded", br_netfilter: "blocked" }, "the same module"],
    [{ x: { parameters: { a: "b c" } } }, "no spaces"],
    [{ "x\ninstall y /bin/z": "loaded" }, "module's name"],
  ])("modules refuses %j", (section, part) => {
    expect(refusal(modules.schema, section)).toContain(part);
  });

  test.each([
    [{ name: "a_b" }, "host's name"],
    [{ name: `${"a".repeat(60)}.example` }, "64"],
    [{ hosts: { "10.0.0": ["a"] } }, "IPv4"],
    [{ hosts: { "10.0.0.1": [] } }, "too_small"],
    [{ timeZone: "../../etc/passwd" }, "tz database"],
    [{ locale: "english" }, "UTF-8 locale"],
  ])("host refuses %j", (section, part) => {
    expect(refusal(host.schema, section)).toContain(part);
  });
});
