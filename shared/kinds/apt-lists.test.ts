import { expect, test } from "vitest";
import { expectedFiles, hasComponent, isEmptyComponent, listFileName } from "./apt-lists.ts";

// Names as `apt-get update --print-uris` of apt 2.6 shows them, for deb822 sources.
test.each([
  ["http://deb.debian.org/debian/dists/bookworm/InRelease", "deb.debian.org_debian_dists_bookworm_InRelease"],
  ["file:///srv/a_b~c/dists/stable/InRelease", "_srv_a%5fb%7ec_dists_stable_InRelease"],
  ["file:/srv/repo/./InRelease", "_srv_repo_._InRelease"],
  ["http://user:pw@h.example:8080/x=y+z/./InRelease", "h.example:8080_x%3dy+z_._InRelease"],
  ["https://[fe80::1]/d~e/dists/stable/up/InRelease", "fe80::1_d%7ee_dists_stable_up_InRelease"],
  ["http://h.example/%7Ea/b%5fc/./InRelease", "h.example_%257Ea_b%255fc_._InRelease"],
])("%s is kept as %s", (uri, name) => {
  expect(listFileName(uri)).toBe(name);
});

test("one suite wants its release file and an index for each component and type", () => {
  const [first, ...rest] = expectedFiles({ types: ["deb", "deb-src"], uris: ["http://deb.debian.org/debian"], suites: ["bookworm"], components: ["main"] });
  expect(rest).toEqual([]);
  expect(first?.releases).toEqual(["deb.debian.org_debian_dists_bookworm_InRelease", "deb.debian.org_debian_dists_bookworm_Release"]);
  expect(first?.components).toEqual([
    { name: "main", prefixes: ["deb.debian.org_debian_dists_bookworm_main_binary-", "deb.debian.org_debian_dists_bookworm_main_source_"] },
  ]);
});

test("a flat repository has no components", () => {
  const [first] = expectedFiles({ types: ["deb"], uris: ["file:/srv/repo"], suites: ["./"], components: [] });
  expect(first).toMatchObject({ releases: ["_srv_repo_._InRelease", "_srv_repo_._Release"], components: [] });
});

test("a release file tells an empty component from an unknown one", () => {
  const release = "Components: main extra\nSHA256:\n 0a1b 600 main/binary-amd64/Packages\n e3b0 0 extra/binary-amd64/Packages\n";
  expect(isEmptyComponent(release, "extra")).toBe(true);
  expect(isEmptyComponent(release, "main")).toBe(false);
  expect(hasComponent(release, "extra")).toBe(true);
  expect(hasComponent(release, "mian")).toBe(false);
});
