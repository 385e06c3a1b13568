import { describe, expect, test } from "vitest";
import type { Json } from "./kind.ts";
import { planCluster } from "./lxd-cluster.ts";
import type { LxdFacts, Member } from "./lxd-facts.ts";
import { lxd } from "./lxd.ts";

/** What n2 makes of a cluster that it is in already, in a repository by which n1 founds one of three. */

const section = lxd.schema.parse({ cluster: { bootstrap: { node: "n1", id: "first" } } });
const nodes = ["n1", "n2", "n3"].map((name, at) => ({ name, address: `10.0.0.${at + 1}`, section }));
const wantOf = (self: string) => lxd.resolve!(section, { cluster: "c", self, nodes }).want;
const member = (name: string): Member => ({ server_name: name, url: `https://10.0.0.${name.slice(1)}:8443`, database: true, status: "Online", message: "", roles: [], failure_domain: "default", description: "", config: {}, groups: [] });

function plan(self: string, members: readonly string[], owned: Readonly<Record<string, Json>> = {}): readonly string[] {
  const facts = {
    product: { name: "lxd", client: "lxc", socket: "/var/lib/lxd/unix.socket", init: ["lxd", "init", "--preseed"] },
    server: { config: {}, environment: { server_clustered: members.length > 0, server_name: self, server_version: "5.0.2", server: "lxd" } },
    members: members.map(member),
  } as unknown as LxdFacts;
  return planCluster(wantOf(self), facts, new Map(Object.entries(owned)), new Map()).map((step) => (step.do === "fail" ? step.message : step.do));
}

describe("a member of another cluster", () => {
  test("is left alone, with what to do", () => {
    expect(plan("n2", ["n2", "x8", "x9"])).toEqual([expect.stringMatching(/^LXD here is a member of another cluster, with x8, x9, none of which is a member of lxd in the repository\. Nothing is changed in it: take n2 out/)]);
  });

  test("that has no other member is told as well: each node with a cluster of its own is a common mistake", () => {
    expect(plan("n2", ["n2"])).toEqual([expect.stringMatching(/^LXD here is the only member of a cluster of its own, and lxd is founded by n1\. Nothing is changed in it: .*bootstrap: \{node: n2, id: another-word\}.*install LXD anew/)]);
  });

  test("is not who founded or joined this one, and is the last that is left", () => {
    expect(plan("n1", ["n1"])).toEqual([]);
    expect(plan("n2", ["n2"], { cluster: { joined: "lxd" } })).toEqual([]);
    expect(plan("n2", ["n1", "n2"])).toEqual([]);
  });
});
