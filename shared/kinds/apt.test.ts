import { describe, expect, test } from "vitest";
import { apt } from "./apt.ts";
import type { Json } from "./kind.ts";

// What a plan answers on recorded machines is in test/fixtures/apt; here is what the recordings do not reach.

const debian = { uris: ["http://deb.debian.org/debian"], suites: ["bookworm"], components: ["main"] };
const signedBy = "/usr/share/keyrings/debian-archive-keyring.gpg";
const accounts = {
  users: new Map([["root", { name: "root", uid: 0, gid: 0, comment: "", home: "/root", shell: "/bin/sh" }]]),
  groups: new Map([["root", { name: "root", gid: 0, members: [] }]]),
};

function plan(section: object, found: readonly string[] = [], owned: Record<string, Json> = {}) {
  const stat = { type: "file", mode: 0o644, uid: 0, gid: 0, sizeBytes: 1 } as const;
  const at = new Map(found.map((path) => [path, { stat, same: true, target: null, entries: null }]));
  return apt.plan(apt.schema.parse(section), { accounts, at, lists: [], releases: new Map() }, new Map(Object.entries(owned)));
}

function written(section: object): string[] {
  return plan(section).flatMap((step) => (step.do === "write" ? [`${step.path}\n${new TextDecoder().decode(step.content).replace(/^(#|\/\/).*\n/, "")}`] : []));
}

describe("the schema", () => {
  test.each([
    [{ sources: { debian } }, "needs the key"],
    [{ sources: { debian: { ...debian, key: "k", signedBy } } }, "not both"],
    [{ sources: { debian: { ...debian, trusted: true } } }, "only file: and copy:"],
    [{ sources: { debian: { ...debian, signedBy, components: [] } } }, "write the components"],
    [{ sources: { debian: { ...debian, signedBy, suites: ["./"] } } }, "has no components"],
    [{ sources: { debian: { ...debian, signedBy, suites: ["bookworm\nTrusted: yes"] } } }, "one word"],
    [{ sources: { debian: { ...debian, signedBy, uris: ["deb.debian.org"] } } }, "a URI that apt knows"],
    [{ sources: { debian: { ...debian, signedBy: "keys.gpg" } } }, "absolute"],
    [{ sources: { "../x": { ...debian, signedBy } } }, "lower-case letters"],
    [{ pins: { backports: { package: "*", pin: "bookworm-backports", priority: 100 } } }, "what is preferred"],
    [{ pins: { backports: { package: "*\nPin: x", pin: "release a=x", priority: 100 } } }, "one line of"],
    [{ pins: { backports: { package: "*", pin: "release a=x", priority: 0 } } }, "undefined"],
    [{ options: { "APT::X": 'a"; DPkg::Pre-Invoke "reboot' } }, "without quotation marks"],
  ])("refuses %j", (section, said) => {
    const result = apt.schema.safeParse(section);
    expect(result.success ? "valid" : JSON.stringify(result.error.issues)).toContain(said);
  });
});

describe("what is written", () => {
  test("a source with everything", () => {
    const source = { ...debian, signedBy, types: ["deb", "deb-src"], suites: ["bookworm", "bookworm-updates"], architectures: ["amd64"], enabled: false };
    expect(written({ sources: { debian: source } })).toEqual([
      `/etc/apt/sources.list.d/evenkeel-debian.sources\nEnabled: no\nTypes: deb deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\nArchitectures: amd64\nSigned-By: ${signedBy}\n`,
    ]);
  });

  test("a flat repository of one's own, without signatures", () => {
    expect(written({ sources: { own: { uris: ["file:/srv/repo"], suites: ["./"], trusted: true } } })).toEqual([
      "/etc/apt/sources.list.d/evenkeel-own.sources\nEnabled: yes\nTypes: deb\nURIs: file:/srv/repo\nSuites: ./\nTrusted: yes\n",
    ]);
  });

  test("a key is named by its form, before the source that needs it", () => {
    const paths = (key: string) => written({ sources: { own: { ...debian, key } } }).map((text) => text.split("\n")[0]);
    expect(paths("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")).toEqual(["/etc/apt/keyrings/evenkeel-own.asc", "/etc/apt/sources.list.d/evenkeel-own.sources"]);
    expect(paths("\u0099\u0001")[0]).toBe("/etc/apt/keyrings/evenkeel-own.gpg");
  });

  test("preferences and settings", () => {
    const pins = { own: { package: ["a1", "b*"], pin: "origin packages.example.org", priority: -1 } };
    expect(written({ pins, options: { "APT::Install-Suggests": false, "Acquire::Retries": 3, "DPkg::Post": ["a", "b"] } })).toEqual([
      '/etc/apt/apt.conf.d/90evenkeel\nAPT::Install-Suggests "false";\nAcquire::Retries "3";\nDPkg::Post { "a"; "b"; };\n',
      "/etc/apt/preferences.d/evenkeel-own\nPackage: a1 b*\nPin: origin packages.example.org\nPin-Priority: -1\n",
    ]);
  });
});

describe("fetching", () => {
  test("each source is fetched by itself, and only if it is enabled", () => {
    const section = { sources: { one: { ...debian, signedBy }, off: { ...debian, signedBy, enabled: false }, two: { ...debian, signedBy } } };
    const steps = plan(section).filter((step) => step.do === "run");
    expect(steps.map(({ resource }) => resource)).toEqual(["apt/sources/one", "apt/sources/two"]);
  });

  test("a mirror list leaves no files of its own name, so that nothing is concluded from their absence", () => {
    const source = "/etc/apt/sources.list.d/evenkeel-one.sources";
    expect(plan({ sources: { one: { ...debian, signedBy, uris: ["mirror+https://example.org/list"] } } }, [source])).toEqual([]);
    expect(plan({ sources: { one: { ...debian, signedBy } } }, [source])).toMatchObject([{ do: "run", why: expect.stringContaining("have not been fetched") as string }]);
  });
});

describe("what is left over", () => {
  test("the other form of a key that changed goes, but only where the agent made it", () => {
    const section = { sources: { own: { ...debian, key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", enabled: false } } };
    const found = ["/etc/apt/keyrings/evenkeel-own.asc", "/etc/apt/keyrings/evenkeel-own.gpg", "/etc/apt/sources.list.d/evenkeel-own.sources"];
    expect(plan(section, found, { "sources/own": {} })).toMatchObject([{ do: "remove", path: "/etc/apt/keyrings/evenkeel-own.gpg" }]);
    expect(plan(section, found)).toEqual([]);
  });
});
