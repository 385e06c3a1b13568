import { execFileSync, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, afterAll, describe, expect, test } from "vitest";
import { secretCommand } from "./secret-commands.ts";
import type { SecretInput } from "./secret-input.ts";
import type { Terminal } from "./terminal.ts";
import { newIdentity } from "../../shared/secrets/age.ts";

/** `evenkeel secret` as a person starts it, in a working copy, with the real age command as the judge. */

const scratch = mkdtempSync(join(tmpdir(), "evenkeel-secret-test-"));
const memory = join(scratch, "run");
const root = join(scratch, "cluster");
const at = (path: string) => join(root, path);
const read = (path: string) => readFileSync(at(path), "utf8");
const keyFile = join(scratch, ".config/evenkeel/age.txt");
const keys = new Map<string, { readonly recipient: string; readonly identity: string }>();

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command in this process. */
async function secret(args: readonly string[], input = ""): Promise<Ran> {
  const ran = { code: 0, stdout: "", stderr: "" };
  const terminal: Terminal = {
    out: (text) => void (ran.stdout += text),
    err: (text) => void (ran.stderr += text),
    color: false,
    live: false,
    cwd: root,
    env: { HOME: scratch, USER: "ada" },
    confirm: async () => null,
    exit: (code) => void (ran.code = code),
  };
  const typed: SecretInput = { value: async () => ({ ok: true, bytes: Buffer.from(input) }), edit: async () => ({ ok: false, message: "no editor" }) };
  const command = secretCommand(terminal, { terminal, input: typed, kinds: [] });
  for (const each of command.commands) each.exitOverride().configureOutput({ writeErr: (text) => terminal.err(text) });
  await command.parseAsync([...args], { from: "user" }).catch((error: { exitCode?: number; message: string }) => {
    if (error.exitCode === undefined) throw error;
    ran.code = 2;
  });
  return ran;
}

interface How {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** On a terminal of its own: what to type when this has been said. */
  readonly screen?: (all: string) => string | undefined;
  readonly killWhen?: () => boolean;
}

/** The command as a person starts it. */
function started(args: readonly string[], how: How = {}): Promise<Ran> {
  const env = { PATH: process.env["PATH"], HOME: scratch, USER: "ada", XDG_RUNTIME_DIR: memory, TERM: "xterm", ...how.env };
  const command = [process.execPath, "--disable-warning=ExperimentalWarning", join(import.meta.dirname, "main.ts"), "secret", ...args];
  const [program = "", ...rest] = how.screen === undefined ? command : ["script", "-qefc", command.join(" "), "/dev/null"];
  const child = spawn(program, rest, { env, cwd: root });
  const output = { stdout: "", stderr: "" };
  let answered = 0;
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].on("data", (chunk: Buffer) => {
      output[stream] += String(chunk);
      const answer = how.screen?.(output.stdout.slice(answered));
      if (answer === undefined) return;
      answered = output.stdout.length;
      child.stdin.write(answer);
    });
  }
  if (how.screen === undefined) child.stdin.end(how.input ?? "");
  const watch = setInterval(() => {
    if (how.killWhen?.() !== true) return;
    child.kill("SIGINT");
    clearInterval(watch);
  }, 50);
  return new Promise((resolve) => {
    child.once("close", (code) => {
      clearInterval(watch);
      resolve({ code: code ?? -1, ...output });
    });
  });
}

const ageReads = (name: string, key: string): string => execFileSync("age", ["--decrypt", "--identity", key, at(`secrets/${name}.age`)], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
const keyOf = (node: string): string => join(scratch, `${node}.txt`);

beforeAll(async () => {
  for (const directory of [memory, at("nodes"), at("roles")]) mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const node of ["n1", "n2", "n3"]) {
    const pair = await newIdentity();
    keys.set(node, pair);
    writeFileSync(keyOf(node), `${pair.identity}\n`, { mode: 0o600 });
    writeFileSync(at(`nodes/${node}.yaml`), node === "n3" ? "# The third.\naddress: 10.0.0.3\nroles: [web]\n" : `recipient: ${pair.recipient}\n${node === "n2" ? "roles: [web]\n" : ""}`);
  }
  writeFileSync(at("roles/web.yaml"), "vars: {a: 1}\n");
  writeFileSync(at("cluster.yaml"), 'name: c\nsigners:\n  - {name: ada, ssh: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0kAnSx4mR3qW2bJx1zv0mYl2r8hZQq0b7Vw4kM3C9d a"}\n');
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("evenkeel secret", () => {
  test("without an owner it says how to become one; key makes a key once", async () => {
    expect(await secret(["set", "db", "--for", "n1"], "hunter22")).toMatchObject({ code: 1, stderr: expect.stringContaining("run `evenkeel secret key`") });
    const made = await secret(["key"]);
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^secrets:\n {2}owners:\n {4}ada: age1\w{58}\n$/) });
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(execFileSync("age-keygen", ["-y", keyFile], { encoding: "utf8" }).trim()).toBe(/age1\w+/.exec(made.stdout)?.[0]);
    expect((await secret(["key"])).stdout).toBe(made.stdout);
    writeFileSync(at("cluster.yaml"), `${read("cluster.yaml")}${made.stdout}`);
  });

  test("set: encrypted to owners and nodes, who can read it with age", async () => {
    const done = await started(["set", "db", "--for", "n1"], { input: "hunter22\n" });
    expect(done).toEqual({ code: 0, stdout: "secrets/db.age is encrypted to ada, n1\n", stderr: "" });
    expect(ageReads("db", keyFile)).toBe("hunter22\n");
    expect(ageReads("db", keyOf("n1"))).toBe("hunter22\n");
    expect(() => ageReads("db", keyOf("n2"))).toThrow("no identity matched");
    expect(read("secrets/recipients.yaml")).toMatch(/^# yaml-language-server[^]*\ndb:\n {2}nodes:\n {4}- n1\n {2}sealed:\n/);
    const again = await secret(["set", "db"], "hunter23");
    expect(again.stdout).toBe("secrets/db.age is encrypted to ada, n1\n");
    expect(ageReads("db", keyOf("n1"))).toBe("hunter23");
  });

  test("set: what cannot be is refused, and nothing is changed", async () => {
    const before = read("secrets/db.age");
    const refused: readonly [readonly string[], string, string][] = [
      [["set", "new"], "hunter22", "who may read new? Give --for n1,n2"],
      [["set", "db", "--for", "n4"], "hunter22", 'there is no node "n4"'],
      [["set", "DB"], "hunter22", "cannot be a secret's name"],
      [["set", "db"], "abc\n", "at least 4 characters"],
      [["set", "db"], "", "at least 4 characters"],
      [["set", "db"], "x".repeat(300_000), "at most 262144 may be a secret"],
      [["rotate", "bd"], "", 'did you mean "db"?'],
      [["rotate"], "", "which secrets?"],
      [["show", "db", "--identity", "nowhere"], "", "your age key is not at"],
      [["show", "db", "--identity", keyOf("n2")], "", "is not encrypted to your key"],
      [["trust", "n3", "--recipient", "age1xyz"], "", "cut short or mistyped"],
      [["trust", "n3", "--recipient", keys.get("n1")!.recipient], "", "the recipient of n1 already"],
      [["trust", "n9", "--recipient", keys.get("n1")!.recipient], "", "there is no nodes/n9.yaml"],
    ];
    for (const [args, input, message] of refused) expect(await secret(args, input), args.join(" ")).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining(message) });
    expect(await secret(["set", "db", "hunter22"])).toMatchObject({ code: 2, stderr: expect.stringContaining("too many arguments") });
    expect(read("secrets/db.age")).toBe(before);
  });

  test("typed unseen, twice", async () => {
    const seen: string[] = [];
    const done = await started(["set", "typed", "--for", "none"], {
      screen: (all) => {
        seen.push(all);
        return all.includes("value of typed: ") || all.includes("once more: ") ? "hunter2X\u007f2\r" : undefined;
      },
    });
    expect(done.code, done.stdout).toBe(0);
    expect(ageReads("typed", keyFile)).toBe("hunter22");
    expect(seen.join("")).not.toContain("hunter");
  });

  test("who, trust and rotate: a node without a recipient gets one", async () => {
    expect((await secret(["rotate", "db", "--for", "n1", "--roles", "web"])).stdout).toBe("secrets/db.age is encrypted anew to ada, n1, n2\n  not yet to n3: the repository knows no recipient. Run `evenkeel secret trust NODE` for each, and `evenkeel secret rotate db`\n");
    expect((await secret(["who", "db"])).stdout).toMatch(/db +ada +all +no recipient of n3: evenkeel secret trust NODE/);
    const trusted = await secret(["trust", "n3", "--recipient", keys.get("n3")!.recipient]);
    expect(trusted).toMatchObject({ code: 0, stdout: expect.stringContaining("Next: evenkeel secret rotate --all") });
    expect(read("nodes/n3.yaml")).toBe(`# The third.\naddress: 10.0.0.3\nrecipient: ${keys.get("n3")!.recipient}\nroles: [web]\n`);
    expect((await secret(["who", "db"])).stdout).toContain("not yet to n3: evenkeel secret rotate db");
    expect((await secret(["rotate", "--all"])).code).toBe(0);
    for (const node of ["n1", "n2", "n3"]) expect(ageReads("db", keyOf(node))).toBe("hunter23");
    expect((await secret(["rotate", "db", "--remove", "n1"])).stdout).toContain("to ada, n2, n3");
    expect(() => ageReads("db", keyOf("n1"))).toThrow("no identity matched");
    const who = JSON.parse((await secret(["who", "--json"])).stdout) as unknown[];
    expect(who).toEqual([{ name: "db", owners: ["ada"], nodes: ["n2", "n3"], lacking: [], notYet: [], tooMany: [], known: true }, expect.objectContaining({ name: "typed", nodes: [] })]);
  });

  test("a file that age wrote is known to be nobody's, and can be rotated", async () => {
    execFileSync("age", ["--armor", "--recipients-file", "-", "--output", at("secrets/db.age"), keyOf("n1")], { input: `${/age1\w+/.exec(read("cluster.yaml"))?.[0]}\n` });
    expect((await secret(["who", "db"])).stdout).toContain("not known to whom it is encrypted: evenkeel secret rotate db");
    expect((await secret(["rotate", "db"])).code).toBe(0);
    expect((await secret(["who", "db"])).stdout).toContain("good");
    await secret(["set", "db"], "hunter23");
  });

  test("edit: in an editor, in memory, and gone afterwards", async () => {
    const editor = join(scratch, "editor");
    writeFileSync(editor, `#!/bin/sh\nstat -c '%a %n' "$2" >${scratch}/seen\ncat "$2" >>${scratch}/seen\necho hunter24 >"$2"; cp "$2" "$2~"\n`);
    chmodSync(editor, 0o755);
    const done = await started(["edit", "db"], { env: { EDITOR: `${editor} --wait` } });
    expect(done).toEqual({ code: 0, stdout: "secrets/db.age is encrypted to ada, n2, n3\n", stderr: "" });
    expect(readFileSync(join(scratch, "seen"), "utf8")).toMatch(new RegExp(`^600 ${memory}/evenkeel-secret-\\w+/db.txt\nhunter23$`));
    expect(ageReads("db", keyOf("n2"))).toBe("hunter24");
    expect(await started(["edit", "db"], { env: { EDITOR: "true" } })).toMatchObject({ code: 0, stdout: "nothing was changed\n" });
    expect(await started(["edit", "db"], { env: { EDITOR: "false" } })).toMatchObject({ code: 1, stderr: expect.stringContaining("the editor ended with 1") });
    expect(await started(["edit", "db"], { env: { EDITOR: "no-such-editor" } })).toMatchObject({ code: 1, stderr: expect.stringContaining("set EDITOR") });
    expect(readdirSync(memory)).toEqual([]);
  });

  test("edit: interrupted, it leaves nothing and changes nothing", async () => {
    const editor = join(scratch, "slow-editor");
    writeFileSync(editor, `#!/bin/sh\necho spoiled >"$1"\ntouch ${scratch}/editing\nexec sleep 30\n`);
    chmodSync(editor, 0o755);
    const done = await started(["edit", "db"], { env: { EDITOR: editor }, killWhen: () => existsSync(join(scratch, "editing")) });
    expect(done).toMatchObject({ code: 1, stderr: "evenkeel: interrupted; nothing was changed\n" });
    expect(readdirSync(memory)).toEqual([]);
    expect(ageReads("db", keyOf("n2"))).toBe("hunter24");
  });

  test("show and remove", async () => {
    expect((await secret(["show", "db"])).stdout).toBe("hunter24");
    expect((await secret(["remove", "db"])).stdout).toContain("evenkeel validate");
    expect(existsSync(at("secrets/db.age"))).toBe(false);
    expect(read("secrets/recipients.yaml")).not.toContain("\ndb:");
    expect((await secret(["who"])).stdout).not.toContain("db ");
  });
});
