import { execFileSync } from "node:child_process";
import { readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openCupboard, until } from "./real-cupboard.ts";
import type { RealCupboard } from "./real-cupboard.ts";

/**
 * What gets believed, on real parts: git, signatures, the hub's pre-receive, a node. Each bad push is tried twice: at the
 * hub, which tells the pusher; and behind the hub's back, as a stolen hub would, where only the node is left to refuse it.
 */

let real: RealCupboard;
let good = "";

beforeAll(async () => {
  real = await openCupboard("believe", ["n1", "n2"], join(import.meta.dirname, "cluster"));
  good = (await real.cupboard.git("rev-parse", "HEAD")).trim();
});
afterAll(() => real?.close());

const git = (...args: string[]) => real.cupboard.git(...args);
const plain = () => real.lab.readFile("n1", "/etc/plain");

async function change(path: string, content: string | Uint8Array): Promise<void> {
  await writeFile(join(real.cupboard.clone, path), content);
}

/** Back to the last good commit, whatever a test has tried. */
async function startOver(): Promise<void> {
  await git("reset", "-q", "--hard", good);
  await git("clean", "-qfd");
}

async function commit(message: string, ...options: string[]): Promise<string> {
  await git("add", "-A");
  await git("commit", "-q", "--allow-empty", "-m", message, ...options);
  return (await git("rev-parse", "HEAD")).trim();
}

/** Pushes and expects a refusal that says why, with the hub's branch where it was. */
async function refusedByHub(says: RegExp, ...force: string[]): Promise<void> {
  const { code, output } = await real.cupboard.tryGit("push", ...force, "origin", "HEAD:main");
  expect(output).toMatch(says);
  expect(code).not.toBe(0);
  expect((await real.cupboard.cluster()).head?.id).toBe(good);
}

/** Puts the clone's HEAD into the hub's repository as somebody with its disk could, and expects every node to refuse it. */
async function refusedByNodes(says: RegExp): Promise<void> {
  const stolen = join(real.cupboard.directory, "hub", "cluster.git");
  const tip = (await git("rev-parse", "HEAD")).trim();
  execFileSync("git", ["-C", stolen, "fetch", "-q", real.cupboard.clone, "HEAD"], { stdio: "ignore" });
  execFileSync("git", ["-C", stolen, "update-ref", "refs/heads/main", tip]);
  try {
    await real.lab.exec("n1", ["evenkeel-agent", "apply"]);
    const node = await until("n1 refuses", () => real.cupboard.node("n1"), (one) => one.converge?.refused?.commit === tip);
    expect(node.converge?.refused?.message).toMatch(says);
    expect(node.converge?.commit).toBe(good);
    expect(node.condition).toBe("refused");
    expect(await plain()).toBe("plain\n");
  } finally {
    execFileSync("git", ["-C", stolen, "update-ref", "refs/heads/main", good]);
  }
  // The cause is gone: no hand is needed.
  await real.lab.exec("n1", ["evenkeel-agent", "apply"]);
  await until("n1 is well again", () => real.cupboard.node("n1"), (one) => one.condition === "converged");
}

describe("signatures and history", () => {
  test("an unsigned commit", async () => {
    await startOver();
    await change("files/plain", "unsigned\n");
    await commit("unsigned", "--no-gpg-sign");
    await refusedByHub(/is not signed.*git config gpg\.format ssh/s);
    await refusedByNodes(/is not signed/);
  });

  test("a commit signed by a stranger", async () => {
    await startOver();
    const key = join(real.cupboard.directory, "stranger");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
    await change("files/plain", "strange\n");
    await commit("strange", `-S${key}.pub`);
    await refusedByHub(/SHA256:.*Signers in force: owner/s);
    await refusedByNodes(/Signers in force: owner/);
  });

  test("a stranger who adds himself to the signers", async () => {
    await startOver();
    const key = join(real.cupboard.directory, "stranger");
    const cluster = await readFile(join(real.cupboard.clone, "cluster.yaml"), "utf8");
    await change("cluster.yaml", `${cluster}  - name: eve\n    ssh: ${(await readFile(`${key}.pub`, "utf8")).trim()}\n`);
    await commit("let me in", `-S${key}.pub`);
    await refusedByHub(/Signers in force: owner/);
    await refusedByNodes(/Signers in force: owner/);
  });

  test("an older commit, as a replayed repository would show", async () => {
    await startOver();
    await real.cupboard.push({ "files/extra": "x" }, "one more");
    good = (await git("rev-parse", "HEAD")).trim();
    await until("both nodes have it", () => real.cupboard.cluster(), (cluster) => cluster.nodes.every((node) => node.commit === good));
    await git("reset", "-q", "--hard", "HEAD~1");
    await refusedByNodes(/is older than/);
  });

  test("a force-push", async () => {
    await startOver();
    await git("reset", "-q", "--hard", "HEAD~1");
    await change("files/plain", "rewritten\n");
    await commit("rewritten");
    await refusedByHub(/rewrite|fast-forward|does not build on/i, "--force");
    await refusedByNodes(/does not build on/);
  });

  test("the main branch cannot be deleted, nor replaced by a tag", async () => {
    await startOver();
    const deleted = await real.cupboard.tryGit("push", "origin", ":main");
    expect(deleted.code).not.toBe(0);
    expect((await real.cupboard.cluster()).head?.id).toBe(good);
  });

  test("wiping the node's own record lets no older commit in: the hub remembers, and so does the enrolment", async () => {
    await startOver();
    const stolen = join(real.cupboard.directory, "hub", "cluster.git");
    const older = (await git("rev-parse", "HEAD~1")).trim();
    execFileSync("git", ["-C", stolen, "update-ref", "refs/heads/main", older]);
    try {
      await real.lab.shell("n1", "systemctl stop evenkeel-agent; rm -rf /var/lib/evenkeel; systemctl start evenkeel-agent");
      const node = await until("n1 refuses the older one", () => real.cupboard.node("n1"), (one) => one.converge?.refused?.commit === older);
      expect(node.converge?.refused?.message).toMatch(/is older than|does not hold/);
    } finally {
      execFileSync("git", ["-C", stolen, "update-ref", "refs/heads/main", good]);
    }
    await until("n1 takes the newer one", async () => {
      await real.lab.exec("n1", ["evenkeel-agent", "apply"]);
      return real.cupboard.node("n1");
    }, (one) => one.commit === good && one.condition === "converged");
  });

  test("a key is rotated by a commit that the old key signs; then the old key is a stranger", async () => {
    await startOver();
    const key = join(real.cupboard.directory, "second");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
    const cluster = await readFile(join(real.cupboard.clone, "cluster.yaml"), "utf8");
    await change("cluster.yaml", cluster.replace(/ssh: .*/, `ssh: ${(await readFile(`${key}.pub`, "utf8")).trim()}`));
    await commit("rotate");
    await git("push", "-q", "origin", "HEAD:main");
    good = (await git("rev-parse", "HEAD")).trim();
    await change("files/plain", "by the old key\n");
    await commit("too late");
    await refusedByHub(/not in force|Signers in force/);
    await startOver();
    await change("files/extra", "by the new key\n");
    await commit("his first", `-S${key}.pub`);
    await git("push", "-q", "origin", "HEAD:main");
    good = (await git("rev-parse", "HEAD")).trim();
    await until("both nodes follow the new key", () => real.cupboard.cluster(), (now) => now.nodes.every((node) => node.commit === good && node.condition === "converged"));
    await git("config", "user.signingKey", `${key}.pub`);
  });
});

describe("a repository that cannot be what it should be", () => {
  const bomb = ["a: &a [x,x,x,x,x,x,x,x,x]", ..."bcdefghi".split("").map((name, at) => `${name}: &${name} [${Array.from({ length: 9 }, () => `*${"abcdefgh"[at]}`).join(",")}]`)].join("\n");
  const cases: readonly [what: string, file: string, content: string, says: RegExp][] = [
    ["a YAML bomb", "roles/plain.yaml", `vars:\n  x: 1\n${bomb}\n`, /roles\/plain\.yaml.*alias/is],
    ["duplicate keys", "roles/plain.yaml", "files: {}\nfiles: {}\n", /roles\/plain\.yaml:2:1.*files/is],
    ["tabs", "roles/plain.yaml", "files:\n\t/etc/x: y\n", /roles\/plain\.yaml:2:1.*tab/is],
    ["an unknown section", "nodes/n1.yaml", "address: 10.77.1.11\nroles: [plain]\npakages:\n  vim: present\n", /nodes\/n1\.yaml:3:1.*pakages.*packages/is],
    ["an unknown field", "roles/plain.yaml", "files:\n  /etc/plain: { content: x, moed: '0644' }\n", /roles\/plain\.yaml:2:\d+.*moed.*mode/is],
    ["a file outside the repository", "roles/plain.yaml", "files:\n  /etc/plain: { content: { file: ../../etc/shadow } }\n", /roles\/plain\.yaml:2:\d+.*\.\./is],
    ["a file that does not exist", "roles/plain.yaml", "files:\n  /etc/plain: { content: { file: plian } }\n", /roles\/plain\.yaml:2:\d+.*plian.*plain/is],
    ["two roles in contradiction", "roles/other.yaml", "files:\n  /etc/plain: { content: other }\n", /roles\/(other|plain)\.yaml:\d+:\d+/is],
    ["a template that never ends", "roles/plain.yaml", "files:\n  /etc/plain: { content: { template: loop.eta } }\n", /loop\.eta/is],
  ];

  test.each(cases)("%s", async (what, file, content, says) => {
    await startOver();
    await change(file, content);
    if (what.startsWith("two roles")) await change("nodes/n1.yaml", "address: 10.77.1.11\nroles: [plain, other]\n");
    await change("files/loop.eta", "<% for (;;) {} %>");
    await commit(what);
    await refusedByHub(says);
    await refusedByNodes(says);
  });

  test("a link that leads out", async () => {
    await startOver();
    await rm(join(real.cupboard.clone, "files/plain"));
    await symlink("/etc/shadow", join(real.cupboard.clone, "files/plain"));
    await commit("a link");
    await refusedByHub(/files\/plain.*link|link.*files\/plain/is);
    await refusedByNodes(/link/i);
  });

  test("a file of 20 MB", async () => {
    await startOver();
    await change("files/plain", new Uint8Array(20 * 1024 * 1024).fill(120));
    await commit("20 MB");
    await refusedByHub(/files\/plain.*(large|MiB|bytes)/is);
    await refusedByNodes(/files\/plain.*(large|MiB|bytes)/is);
  });

  test("all errors are told at once, not the first", async () => {
    await startOver();
    await change("roles/plain.yaml", "files:\n  /etc/plain: { content: x, moed: '0644' }\n");
    await change("nodes/n2.yaml", "adress: 10.77.1.12\nroles: [plain]\n");
    await commit("two at once");
    await refusedByHub(/moed.*adress|adress.*moed/s);
  });

  test("one node's broken file does not stop another node", async () => {
    await startOver();
    await change("nodes/n2.yaml", "adress: 10.77.1.12\nroles: [plain]\n");
    await change("files/plain", "still here\n");
    await commit("n2 is broken");
    await refusedByHub(/nodes\/n2\.yaml/);
    const stolen = join(real.cupboard.directory, "hub", "cluster.git");
    const tip = (await git("rev-parse", "HEAD")).trim();
    execFileSync("git", ["-C", stolen, "fetch", "-q", real.cupboard.clone, "HEAD"], { stdio: "ignore" });
    execFileSync("git", ["-C", stolen, "update-ref", "refs/heads/main", tip]);
    const [one, two] = await Promise.all([real.lab.exec("n1", ["evenkeel-agent", "apply"]), real.lab.exec("n2", ["evenkeel-agent", "apply"])]);
    expect(one.code, one.stdout + one.stderr).toBe(0);
    expect(two.code).not.toBe(0);
    expect(await plain()).toBe("still here\n");
    expect(await real.lab.readFile("n2", "/etc/plain")).toBe("plain\n");
  });
});
