import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { init } from "./init.ts";
import { render } from "./render.ts";
import type { Terminal } from "./terminal.ts";
import { validate, validateCommand } from "./validate.ts";
import { workTree } from "./work-tree.ts";

const example = join(import.meta.dirname, "..", "..", "git-config");
const scratch = mkdtempSync(join(tmpdir(), "evenkeel-cli-"));
const home = join(scratch, "home");
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A terminal that remembers. */
class Remembered implements Terminal {
  readonly color = false;
  readonly cwd: string;
  readonly env: Terminal["env"];
  stdout = "";
  stderr = "";
  readonly live = false;
  code: number | undefined;
  constructor(cwd: string = scratch, homeDirectory: string = home) {
    this.cwd = cwd;
    this.env = { PATH: process.env["PATH"], HOME: homeDirectory, GIT_CONFIG_NOSYSTEM: "1", LC_ALL: "C.UTF-8" };
  }
  out(text: string): void {
    this.stdout += text;
  }
  err(text: string): void {
    this.stderr += text;
  }
  async confirm(): Promise<null> {
    return null;
  }
  exit(code: number): void {
    this.code = code;
  }
}

function write(directory: string, files: Readonly<Record<string, string>>): string {
  const root = join(scratch, directory);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

describe("validate", () => {
  test("the example cluster is good", async () => {
    const terminal = new Remembered();
    expect(await validate({ directory: example }, terminal)).toBe(0);
    expect(terminal.stderr).toBe("");
    expect(terminal.stdout).toMatch(/^ok: 3 nodes, \d+ resources\n$/);
  });

  test("tells every mistake, at paths as seen from here, and fails", async () => {
    const bad = { "cluster.yaml": readFileSync(join(example, "cluster.yaml"), "utf8"), "nodes/n1.yaml": "pakages: {}\nfiles:\n  /etc/motd: {content: {template: nope.eta}}\n" };
    write("bad", bad);
    const terminal = new Remembered();
    expect(await validate({ directory: "bad" }, terminal)).toBe(1);
    expect(terminal.stderr).toContain('bad/nodes/n1.yaml:1:1: error: unknown section "pakages"\n');
    expect(terminal.stderr).toContain("bad/nodes/n1.yaml:3:35: error: there is no files/nope.eta");
    expect(terminal.stderr).toContain("bad/cluster.yaml:");
    expect(terminal.stderr).toMatch(/6 errors and 1 warning in 2 files\n$/);
    expect(terminal.stdout).toBe("");
  });

  test("--json gives the same to programs", async () => {
    const terminal = new Remembered();
    expect(await validate({ directory: "bad", json: true }, terminal)).toBe(1);
    const answer = JSON.parse(terminal.stdout) as { ok: boolean; diagnostics: { file: string; line: number }[] };
    expect(answer.ok).toBe(false);
    expect(answer.diagnostics).toContainEqual(expect.objectContaining({ severity: "error", file: "nodes/n1.yaml", line: 1, column: 1, help: 'did you mean "packages"?' }));
    const good = new Remembered();
    expect(await validate({ directory: example, json: true }, good)).toBe(0);
    expect(JSON.parse(good.stdout)).toMatchObject({ ok: true, nodes: 3, diagnostics: [] });
  });

  test("finds the repository that the current directory is in", async () => {
    const terminal = new Remembered(join(example, "files", "nginx"));
    expect(await validate({}, terminal)).toBe(0);
  });

  test("says so when there is nothing to check", async () => {
    const terminal = new Remembered();
    expect(await validate({ directory: "nowhere" }, terminal)).toBe(2);
    expect(terminal.stderr).toContain("nowhere is not a directory");
    mkdirSync(join(scratch, "empty"));
    expect(await validate({ directory: "empty" }, terminal)).toBe(1);
    expect(terminal.stderr).toContain("there is no cluster.yaml");
  });

  test("can be mounted", async () => {
    const terminal = new Remembered();
    await validateCommand(terminal).parseAsync([example], { from: "user" });
    expect(terminal.code).toBe(0);
  });

  test("never follows a link out of the directory", async () => {
    const root = write("linked", { "cluster.yaml": "name: x\n", "files/plain": "x" });
    symlinkSync("/etc/hostname", join(root, "files", "hostname"));
    symlinkSync("/etc", join(root, "files", "etc"));
    symlinkSync(example, join(root, "nodes"));
    expect(await workTree(root).list()).toEqual([
      { path: "cluster.yaml", type: "file", sizeBytes: 8 },
      { path: "files/etc", type: "link", sizeBytes: 0 },
      { path: "files/hostname", type: "link", sizeBytes: 0 },
      { path: "files/plain", type: "file", sizeBytes: 1 },
      { path: "nodes", type: "link", sizeBytes: 0 },
    ]);
    await expect(workTree(root).read("files/hostname")).rejects.toThrow("not a regular file");
  });
});

describe("render", () => {
  test("prints what the node will be, each value with its file and line", async () => {
    const terminal = new Remembered();
    expect(await render({ node: "n2", directory: example }, terminal)).toBe(0);
    expect(terminal.stdout).toMatch(/^ {2}page_color: "#8a5a2b" +# nodes\/n2\.yaml:9$/m);
    expect(terminal.stdout).toMatch(/^ {2}nginx-light: present +# roles\/web\.yaml:6$/m);
    expect(terminal.stdout).toMatch(/^ {2}page_title: The cupboard +# cluster\.yaml:\d+$/m);
    for (const line of terminal.stdout.split("\n")) expect(line).not.toContain("\u0001");
    expect(parse(terminal.stdout)).toMatchObject({ address: "10.77.1.12", roles: expect.arrayContaining(["base", "web"]) as string[], packages: { "nginx-light": "present" } });
  });

  test("without provenance it is plain YAML; null has taken away what it should", async () => {
    const terminal = new Remembered();
    expect(await render({ node: "n3", directory: example, provenance: false }, terminal)).toBe(0);
    expect(terminal.stdout.split("\n").slice(1).join("\n")).not.toMatch(/# (roles|nodes|cluster)/);
    expect(terminal.stdout).not.toContain("htop");
  });

  test("--json", async () => {
    const terminal = new Remembered();
    expect(await render({ node: "n1", directory: example, json: true }, terminal)).toBe(0);
    expect(JSON.parse(terminal.stdout)).toMatchObject({ name: "n1", packages: { jq: "present" }, provenance: { "/packages/jq": "roles/base.yaml:8:7", "/files/~1etc~1motd/content/template": expect.stringMatching(/^roles\/base\.yaml:/) } });
  });

  test("--file prints a template as the node gets it", async () => {
    const terminal = new Remembered();
    expect(await render({ node: "n1", directory: example, file: "motd.eta" }, terminal)).toBe(0);
    expect(terminal.stdout).toContain("  n1, of the cluster cupboard.\n");
    expect(await render({ node: "n1", directory: example, file: "files/nope" }, terminal)).toBe(1);
    expect(terminal.stderr).toContain("n1 does not use files/nope. It uses: disk-usage, haproxy.cfg.eta, index.html.eta");
  });

  test("a node that is not there", async () => {
    const terminal = new Remembered();
    expect(await render({ node: "n9", directory: example }, terminal)).toBe(1);
    expect(terminal.stderr).toContain("there is no nodes/n9.yaml");
  });
});

describe("init", () => {
  const git = (cwd: string, ...args: string[]) => execFileSync("git", args, { cwd, encoding: "utf8", env: new Remembered().env });
  const key = join(home, ".ssh", "id_ed25519");
  beforeAll(() => {
    mkdirSync(join(home, ".ssh"), { recursive: true, mode: 0o700 });
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "ada@laptop", "-f", key]);
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "other", "-f", join(scratch, "other")]);
  });
  beforeEach(() => writeFileSync(join(home, ".gitconfig"), "[user]\n\tname = Ada\n\temail = ada@example.org\n"));

  test("makes a repository that is valid, with a first commit signed by its signer", async () => {
    const terminal = new Remembered();
    expect(await init({ directory: "deep/My_Cluster" }, terminal)).toBe(0);
    expect(terminal.stderr).toBe("");
    expect(terminal.stdout).toContain("made the cluster repository my-cluster in deep/My_Cluster\nsigner: ada@example.org, with the SSH key from ~/.ssh/id_ed25519.pub\n");
    const root = join(scratch, "deep/My_Cluster");
    const check = new Remembered(root);
    expect(await validate({}, check)).toBe(0);
    expect(check.stderr).toBe("");
    const cluster = parse(readFileSync(join(root, "cluster.yaml"), "utf8")) as { signers: { ssh: string }[] };
    expect(cluster.signers[0]?.ssh).toBe(readFileSync(`${key}.pub`, "utf8").trim());
    expect(git(root, "status", "--porcelain")).toBe("");
    expect(git(root, "branch", "--show-current")).toBe("main\n");
    writeFileSync(join(scratch, "allowed"), `ada@example.org ${readFileSync(`${key}.pub`, "utf8")}`);
    expect(git(root, "-c", `gpg.ssh.allowedSignersFile=${join(scratch, "allowed")}`, "log", "-1", "--format=%G?")).toBe("G\n");
    expect(existsSync(join(root, ".evenkeel/schema/node.json"))).toBe(true);
  });

  test("never overwrites, and leaves nothing behind when it refuses", async () => {
    const terminal = new Remembered();
    write("taken", { "cluster.yaml": "mine\n" });
    expect(await init({ directory: "taken" }, terminal)).toBe(1);
    expect(terminal.stderr).toContain("is not empty (it has cluster.yaml), and nothing is ever overwritten");
    expect(readFileSync(join(scratch, "taken/cluster.yaml"), "utf8")).toBe("mine\n");
    expect(await init({ directory: "fresh", name: "Not A Label" }, terminal)).toBe(1);
    expect(await init({ directory: "fresh", sshKey: "nope.pub" }, terminal)).toBe(1);
    expect(await init({ directory: "fresh", sshKey: "taken/cluster.yaml" }, terminal)).toBe(1);
    expect(terminal.stderr).toContain("taken/cluster.yaml is not a public SSH key");
    expect(existsSync(join(scratch, "fresh"))).toBe(false);
  });

  test("takes the key that is given, and a clone of an empty repository", async () => {
    git(scratch, "init", "-q", "-b", "main", join(scratch, "cloned"));
    expect(await init({ directory: "cloned", name: "c", sshKey: "other" }, new Remembered())).toBe(0);
    expect(readFileSync(join(scratch, "cloned/cluster.yaml"), "utf8")).toContain(readFileSync(join(scratch, "other.pub"), "utf8").trim());
  });

  test("takes git's signing key, by file or by value", async () => {
    const other = readFileSync(join(scratch, "other.pub"), "utf8").trim();
    for (const [directory, setting] of [["by-file", join(scratch, "other.pub")], ["by-value", `key::${other}`]] as const) {
      writeFileSync(join(home, ".gitconfig"), `[user]\n\tname = Ada\n\temail = ada@example.org\n\tsigningkey = ${setting}\n[gpg]\n\tformat = ssh\n`);
      await init({ directory }, new Remembered());
      expect(readFileSync(join(scratch, directory, "cluster.yaml"), "utf8")).toContain(other);
    }
  });

  test("without a key it says how to get one", async () => {
    const terminal = new Remembered(scratch, join(scratch, "nobody"));
    expect(await init({ directory: "keyless" }, terminal)).toBe(1);
    expect(terminal.stderr).toContain("ssh-keygen -t ed25519");
  });

  test("when git will not commit, the files are there and it says what to do", async () => {
    writeFileSync(join(home, ".gitconfig"), "[user]\n\tuseConfigOnly = true\n");
    const terminal = new Remembered();
    expect(await init({ directory: "nameless" }, terminal)).toBe(0);
    expect(terminal.stdout).toContain("The first commit could not be made; the files are written and staged. Git said:");
    expect(terminal.stdout).toContain("git commit -S");
    expect(git(join(scratch, "nameless"), "status", "--porcelain")).toContain("A  cluster.yaml");
  });
});
