import { execFileSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../../image/bundle.ts";
import { openCupboard, until } from "./real-cupboard.ts";
import type { RealCupboard } from "./real-cupboard.ts";

/** Secrets on real nodes: they are where they should be, nowhere else, and one that cannot be opened holds up nothing else. */

const FIRST = "correct-horse-1";
const SECOND = "battery-staple-2";
const OTHER = "only-for-the-second-3";
let real: RealCupboard;
let identity = "";

beforeAll(async () => {
  real = await openCupboard("secrets", ["n1", "n2"], join(import.meta.dirname, "cluster"));
  identity = join(real.cupboard.directory, "age.txt");
});
afterAll(() => real?.close());

const at = (path: string) => join(real.cupboard.clone, path);
const secret = (args: readonly string[], input = ""): string =>
  execFileSync(join(root, "bin", "evenkeel"), ["secret", ...args], { input, encoding: "utf8", cwd: real.cupboard.clone, env: { ...process.env, EVENKEEL_AGE_IDENTITY: identity }, stdio: ["pipe", "pipe", "pipe"] });
const trust = (node: string) => real.cupboard.evenkeel("secret", "trust", node, "--dir", real.cupboard.clone);
const sh = async (node: string, script: string): Promise<string> => {
  const { code, stdout, stderr } = await real.lab.shell(node, script, { timeoutMs: 60_000 });
  expect(code, `${script}\n${stderr}`).toBe(0);
  return stdout;
};
const append = async (path: string, text: string) => writeFile(at(path), `${await readFile(at(path), "utf8")}${text}`);
const replace = async (path: string, from: string | RegExp, to: string) => writeFile(at(path), (await readFile(at(path), "utf8")).replace(from, () => to));
const settled = (node: string, commit: string, condition: string) =>
  until(`${node} is ${condition} at ${commit.slice(0, 8)}`, () => real.cupboard.node(node), (one) => one.condition === condition && one.converge?.commit === commit, 120_000);

/** Wherever the agent or the hub keep, say or run anything. What is encrypted or compressed would not be found by looking for text. */
async function foundAnywhere(...words: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  const grep = `grep ${words.map((word) => `-e '${word}'`).join(" ")}`;
  // The agent itself has written nothing before it was enrolled.
  for (const node of real.lab.nodes) {
    const script = `${grep} -rls /var/lib/evenkeel /etc/evenkeel /run/evenkeel /tmp /var/log 2>/dev/null; journalctl --no-pager -q 2>/dev/null | ${grep}; evenkeel-agent log --json -n 100 | ${grep}; evenkeel-agent status --json | ${grep}; find / -xdev -newer /etc/evenkeel/agent.json -type f -perm /004 -size -1M -not -path '/usr/*' -not -path '/proc/*' -not -path '/sys/*' -exec ${grep} -ls {} +; true`;
    found.push(...(await sh(node, script)).split("\n").filter((line) => line !== "").map((line) => `${node}: ${line}`));
    found.push(...[JSON.stringify(await real.cupboard.node(node))].filter((text) => words.some((word) => text.includes(word))));
  }
  const hub = join(real.cupboard.directory, "hub");
  const files = execFileSync("sh", ["-c", `${grep} -rls '${hub}' '${join(real.cupboard.directory, "hub.log")}' || true`], { encoding: "utf8" });
  return [...found, ...files.split("\n").filter((line) => line !== "")];
}

test("a node's key is made at enrolment; the hub shows its recipient, and the owner signs it", async () => {
  const made = execFileSync(join(root, "bin", "evenkeel"), ["secret", "key", "--identity", identity], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  await append("cluster.yaml", `\n${made}`);
  for (const node of real.lab.nodes) {
    expect(await sh(node, "stat -c %a:%U /etc/evenkeel/age.txt")).toBe("600:root\n");
    const recipient = (await sh(node, "evenkeel-agent recipient")).trim();
    expect((await real.cupboard.node(node)).recipient).toBe(recipient);
    expect(await trust(node)).toContain(`nodes/${node}.yaml: recipient: ${recipient}`);
  }
});

test("a secret is in a file of mode 0600 and in a template, on the node that may read it; and nowhere else", async () => {
  secret(["set", "db", "--for", "n1"], `${FIRST}\n`);
  secret(["set", "second", "--for", "n2"], OTHER);
  await append("nodes/n1.yaml", 'files:\n  /etc/secret: {content: {secret: db}, mode: "0600"}\n  /etc/secret.conf: {content: {template: secret.eta}, mode: "0640"}\n');
  await append("nodes/n2.yaml", 'files:\n  /etc/second: {content: {secret: second}, mode: "0600"}\n');
  // Whoever looks at the machine's processes meanwhile does not see it.
  await sh("n1", `systemd-run -q --unit=argv-watch sh -c 'while :; do for f in /proc/[0-9]*/cmdline; do tr "\\\\0" " " <$f 2>/dev/null; echo; done | grep -v watch >>/run/argv; sleep 0.05; done'`);
  const commit = await real.cupboard.push({ "files/secret.eta": 'password=<%= it.secret("db") %>\n' }, "Secrets");
  for (const node of real.lab.nodes) await settled(node, commit, "converged");
  expect(await sh("n1", "cat /etc/secret /etc/secret.conf; stat -c %a /etc/secret /etc/secret.conf")).toBe(`${FIRST}\npassword=${FIRST}\n600\n640\n`);
  expect(await sh("n2", "cat /etc/second; test ! -e /etc/secret")).toBe(OTHER);
  expect(await sh("n1", `systemctl stop argv-watch; wc -l </run/argv; grep -e '${FIRST}' /run/argv || true`)).toMatch(/^\d{2,}\n$/);
  const changes = (await real.cupboard.node("n1")).converges.flatMap(({ report }) => report.changes).filter(({ resource }) => resource === "files//etc/secret");
  expect(changes).toMatchObject([{ result: "done", why: expect.any(String) }]);
  expect(changes[0]?.diff).toBeUndefined();
  expect(await foundAnywhere(FIRST, OTHER)).toEqual([]);
  // The search does find what is there: the file's name is in reports, logs and the hub's database.
  expect((await foundAnywhere("/etc/secret.conf")).join("\n")).toMatch(/n1: \/var\/lib\/evenkeel\/log.jsonl[^]*n1: \{[^]*hub.db/);
});

test("a changed secret: the plan of a preview says that it changes, and not what", async () => {
  await real.cupboard.git("checkout", "-q", "-b", "preview/secret");
  secret(["set", "db"], SECOND);
  await real.cupboard.git("commit", "-qam", "Another password");
  await real.cupboard.git("push", "-q", "origin", "preview/secret");
  const plan = await real.cupboard.evenkeel("plan", "n1", "--branch", "preview/secret");
  expect(plan).toMatch(/files\/\/etc\/secret +write \/etc\/secret — content differs/);
  expect(plan).not.toMatch(new RegExp(`${FIRST}|${SECOND}`));
  await real.cupboard.git("checkout", "-q", "main");
  await real.cupboard.git("merge", "-q", "preview/secret");
  const commit = await real.cupboard.push({}, "Take it over");
  await settled("n1", commit, "converged");
  expect(await sh("n1", "cat /etc/secret")).toBe(SECOND);
  // A file that somebody spoils is put right, and neither the old nor the new content is told.
  await sh("n1", `echo spoiled-${SECOND} >/etc/secret`);
  await until("it is put right", () => sh("n1", "cat /etc/secret"), (text) => text === SECOND);
  await until("that is reported", () => real.cupboard.node("n1"), ({ converges }) => converges[0]?.report.cause === "drift");
});

test("a node that may not read a secret, and plain text, are refused at the push", async () => {
  await replace("nodes/n2.yaml", "{secret: second}", "{secret: db}");
  const refused = await tryPush("Not for n2");
  expect(refused).toMatch(/nodes\/n2.yaml:\d+:\d+: error: n2 may not read the secret "db"[^]*evenkeel secret rotate db --add n2/);
  await real.cupboard.git("reset", "-q", "--hard", "origin/main");
  await writeFile(at("secrets/db.age"), `${SECOND}\n`);
  expect(await tryPush("Plain")).toMatch(/secrets\/db.age is not a secret: it is no age file/);
  await real.cupboard.git("reset", "-q", "--hard", "origin/main");
});

async function tryPush(message: string): Promise<string> {
  await real.cupboard.git("commit", "-qam", message);
  const { code, output } = await real.cupboard.tryGit("push", "-q", "origin", "HEAD:main");
  expect(code, output).not.toBe(0);
  return output;
}

test("a damaged secret, and one for another node: what uses it fails and says what to do, the rest converges", async () => {
  const good = await readFile(at("secrets/db.age"), "utf8");
  const lines = good.trimEnd().split("\n");
  // The end of the content, which nobody can check without a key.
  const spoiled = lines.map((line, index) => (index === lines.length - 2 ? `${line.startsWith("A") ? "B" : "A"}${line.slice(1)}` : line)).join("\n");
  let commit = await real.cupboard.push({ "secrets/db.age": `${spoiled}\n`, "files/secret.eta": "no secret any more\n" }, "Damaged");
  const failing = await settled("n1", commit, "failing");
  expect(failing.converge?.failing).toMatchObject([{ resource: "files//etc/secret", error: expect.stringMatching(/^secrets\/db.age cannot be opened by this node: it is no age file, or it is damaged[^]*evenkeel secret set db/) }]);
  expect(await sh("n1", "cat /etc/secret.conf /etc/secret")).toBe(`no secret any more\n${SECOND}`);
  await settled("n2", commit, "converged");
  // By hand, past `evenkeel secret`: the hub cannot see for whom it is, and warns.
  const owner = /age1\w+/.exec(await readFile(at("cluster.yaml"), "utf8"))?.[0] ?? "";
  const foreign = execFileSync("age", ["--armor", "--recipient", owner], { input: SECOND, encoding: "utf8" });
  commit = await real.cupboard.push({ "secrets/db.age": foreign }, "For the owner only");
  expect((await settled("n1", commit, "failing")).why).toMatch(/files\/\/etc\/secret/);
  expect(JSON.stringify((await real.cupboard.node("n1")).converge)).toContain("evenkeel secret rotate db --add n1");
  secret(["rotate", "db"]);
  commit = await real.cupboard.push({}, "Rotated");
  await settled("n1", commit, "converged");
});

test("a lost key: the node makes another and says so, the rest converges; trust and rotate give the secrets back", async () => {
  await sh("n1", "rm /etc/evenkeel/age.txt; systemctl restart evenkeel-agent");
  let commit = await real.cupboard.push({ "files/secret.eta": "the rest goes on\n" }, "Meanwhile");
  const failing = await settled("n1", commit, "failing");
  expect(failing.converge?.failing).toMatchObject([{ resource: "files//etc/secret", error: expect.stringMatching(/its key is age1\w+, while nodes\/n1.yaml names age1\w+[^]*evenkeel secret trust n1[^]*secret rotate --all/) }]);
  expect(await sh("n1", "cat /etc/secret.conf /etc/secret")).toBe(`the rest goes on\n${SECOND}`);
  expect(await trust("n1")).toContain("before: age1");
  expect(secret(["who"])).toMatch(/db +\S+ +n1 +not yet to n1: evenkeel secret rotate db/);
  secret(["rotate", "--all"]);
  commit = await real.cupboard.push({}, "A new key for n1");
  await settled("n1", commit, "converged");
  expect(secret(["who"])).not.toMatch(/not yet|still/);
  expect(await foundAnywhere(FIRST, SECOND, OTHER)).toEqual([]);
});
