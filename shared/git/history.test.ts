import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Git } from "./git.ts";
import { verifyHistory } from "./history.ts";
import type { Verdict } from "./history.ts";
import type { Signer } from "./signers.ts";
import { gitTree } from "./tree.ts";

/** Real git, real ssh-keygen, real gpg: what is tested is that our reading of what they print is right. */

const root = mkdtempSync(join(tmpdir(), "evenkeel-history-"));
const repo = join(root, "repo");
const home = join(root, "gnupg");

const run: Git = async (args, options) => {
  try {
    const stdout = execFileSync("git", ["-C", repo, ...args], {
      input: options?.input ?? "",
      env: { ...process.env, ...options?.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    return { code: 0, stdout, stderr: "" };
  } catch (error) {
    const failure = error as { status: number; stdout: Buffer; stderr: Buffer };
    return { code: failure.status, stdout: failure.stdout, stderr: failure.stderr.toString() };
  }
};

function git(...args: string[]): string {
  return execFileSync("git", ["-C", repo, ...args], { encoding: "utf8", env: { ...process.env, GNUPGHOME: home }, stdio: ["ignore", "pipe", "pipe"] }).trim();
}

const keys = new Map<string, string>();
function sshSigner(name: string): Signer {
  if (!keys.has(name)) {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", join(root, name)]);
    keys.set(name, execFileSync("cat", [join(root, `${name}.pub`)], { encoding: "utf8" }).trim());
  }
  return { name, ssh: keys.get(name) ?? "" };
}

function commit(signer: string | null, subject: string, signers?: readonly Signer[], ...more: string[]): string {
  if (signers !== undefined) writeFileSync(join(repo, "cluster.yaml"), JSON.stringify({ signers }));
  writeFileSync(join(repo, "counter"), `${Math.random()}`);
  git("add", "-A");
  const sign = signer === null ? ["--no-gpg-sign"] : [`-S${signer.startsWith("gpg:") ? signer.slice(4) : join(root, signer)}`];
  const format = signer?.startsWith("gpg:") ? "openpgp" : "ssh";
  git("-c", `gpg.format=${format}`, "-c", "user.name=T", "-c", "user.email=t@example", "commit", "-q", "--allow-empty", ...sign, "-m", subject, ...more);
  return git("rev-parse", "HEAD");
}

let scratches = 0;
function verify(from: string | null, to: string, signers: readonly Signer[], previews = false): Promise<Verdict> {
  const directory = join(root, `scratch-${(scratches += 1)}`);
  execFileSync("mkdir", ["-m", "700", directory]);
  return verifyHistory({
    git: run,
    from,
    to,
    signers,
    ...(previews && { previews }),
    signersIn: (bytes) => (JSON.parse(new TextDecoder().decode(bytes)) as { signers?: Signer[] }).signers ?? null,
    scratch: {
      directory,
      write: async (name, content) => {
        writeFileSync(join(directory, name), content, { mode: 0o600 });
        return join(directory, name);
      },
      gpg: async (args, input) => {
        try {
          return { code: 0, stdout: execFileSync("gpg", [...args], { input, encoding: "utf8", stdio: ["pipe", "pipe", "pipe"] }), stderr: "" };
        } catch (error) {
          return { code: (error as { status: number }).status, stdout: "", stderr: String(error) };
        }
      },
    },
  });
}

const code = (verdict: Verdict) => (verdict.ok ? "ok" : verdict.code);

describe("the signed history", () => {
  const anna = sshSigner("anna");
  const ben = sshSigner("ben");
  const eve = sshSigner("eve");
  let base = "";

  beforeAll(() => {
    execFileSync("git", ["init", "-q", "-b", "main", repo]);
    base = commit("anna", "first", [anna]);
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  function fresh(): void {
    git("checkout", "-q", "--detach", base);
  }

  test("a signed commit on top is believed, and says who signed it", async () => {
    fresh();
    const tip = commit("anna", "second", undefined, "-m", "Evenkeel-Allow-Removals: 12");
    const verdict = await verify(base, tip, [anna]);
    expect(verdict).toMatchObject({ ok: true, commits: [{ id: tip, signer: "anna", subject: "second", removalsAllowed: 12 }] });
  });

  test("a throw-away preview is never believed, nor what builds on it; only who plans may look at it", async () => {
    fresh();
    const preview = commit("anna", "look at this", undefined, "-m", "Evenkeel-Preview: wc-anna-1");
    const verdict = await verify(base, preview, [anna]);
    expect(verdict).toMatchObject({ ok: false, code: "preview", commit: preview, message: expect.stringMatching(/throw-away preview \(Evenkeel-Preview: wc-anna-1\).*git reset --soft/) });
    expect(await verify(null, preview, [anna])).toMatchObject({ ok: false, code: "preview" });
    const above = commit("anna", "on top of it");
    expect(await verify(base, above, [anna])).toMatchObject({ ok: false, code: "preview", commit: preview });
    git("checkout", "-q", "--detach", base);
    git("-c", "gpg.format=ssh", "-c", "user.name=T", "-c", "user.email=t@example", "merge", "-q", "--no-ff", `-S${join(root, "anna")}`, "-m", "bring it in", preview);
    expect(await verify(base, git("rev-parse", "HEAD"), [anna])).toMatchObject({ ok: false, code: "preview", commit: preview });
    expect(await verify(base, preview, [anna], true)).toMatchObject({ ok: true, commits: [{ id: preview, preview: "wc-anna-1" }] });
    fresh();
    expect(await verify(base, commit("anna", "only mentions Evenkeel-Preview: x"), [anna])).toMatchObject({ ok: true, commits: [{ preview: null }] });
  });

  test("a trailer may go over several lines, as git allows", async () => {
    fresh();
    const tip = commit("anna", "tidy up", undefined, "-m", "Evenkeel-Allow-Removals:\n 12\n\tof the old files\nReviewed-by: ben");
    expect(await verify(base, tip, [anna])).toMatchObject({ ok: true, commits: [{ id: tip, subject: "tidy up", removalsAllowed: 12 }] });
    const second = commit("anna", "more", undefined, "-m", "Evenkeel-Allow-Removals: 7\n because of the move");
    expect(await verify(base, second, [anna])).toMatchObject({ ok: true, commits: [{ removalsAllowed: 12 }, { id: second, removalsAllowed: 7 }] });
  });

  test("nothing new is believed without a look at signatures", async () => {
    expect(await verify(base, base, [anna])).toMatchObject({ ok: true, commits: [] });
  });

  test("an unsigned commit is refused, also below a signed one", async () => {
    fresh();
    const unsigned = commit(null, "sneaky");
    expect(await verify(base, unsigned, [anna])).toMatchObject({ ok: false, code: "unsigned", commit: unsigned });
    const covered = commit("anna", "on top");
    expect(await verify(base, covered, [anna])).toMatchObject({ ok: false, code: "unsigned", commit: unsigned });
  });

  test("a stranger's signature is refused, and the message names the key and who may sign", async () => {
    fresh();
    const verdict = await verify(base, commit("eve", "mine now"), [anna]);
    expect(verdict).toMatchObject({ ok: false, code: "stranger" });
    expect(verdict.ok ? "" : verdict.message).toMatch(/SHA256:.*Signers in force: anna/s);
  });

  test("a stranger cannot let himself in by the same commit", async () => {
    fresh();
    expect(code(await verify(base, commit("eve", "hello", [anna, eve]), [anna]))).toBe("stranger");
  });

  test("a key is rotated by a commit that the old key signs; the old one is out afterwards", async () => {
    fresh();
    const rotation = commit("anna", "ben takes over", [ben]);
    const next = commit("ben", "his first");
    expect(await verify(base, next, [anna])).toMatchObject({ ok: true, signers: [{ name: "ben" }] });
    expect(code(await verify(base, commit("anna", "too late"), [anna]))).toBe("stranger");
    git("checkout", "-q", "--detach", next);
    expect(await verify(rotation, next, [ben])).toMatchObject({ ok: true });
  });

  test("a removed key cannot come back by a side branch that is merged", async () => {
    fresh();
    const side = commit("anna", "side, signed by anna");
    fresh();
    const rotation = commit("anna", "ben takes over", [ben]);
    git("-c", "gpg.format=ssh", "-c", "user.name=T", "-c", "user.email=t@example", "merge", "-q", "-s", "ours", `-S${join(root, "ben")}`, "-m", "merge", side);
    const merge = git("rev-parse", "HEAD");
    expect(code(await verify(rotation, merge, [ben]))).toBe("stranger");
  });

  test("an older commit, a rewritten branch and an unknown base are told apart", async () => {
    fresh();
    const one = commit("anna", "one");
    const two = commit("anna", "two");
    expect(code(await verify(two, one, [anna]))).toBe("older");
    git("checkout", "-q", "--detach", one);
    const other = commit("anna", "other two");
    expect(code(await verify(two, other, [anna]))).toBe("rewritten");
    expect(code(await verify("0123456789012345678901234567890123456789", two, [anna]))).toBe("unknown");
  });

  test("nobody can lock everybody out", async () => {
    fresh();
    expect(code(await verify(base, commit("anna", "empty", []), [anna]))).toBe("no-signers");
  });

  test("a repository that is met for the first time is judged by its tip, and its own signers are taken over", async () => {
    fresh();
    const tip = commit("anna", "tip", [anna, ben]);
    expect(await verify(null, tip, [anna])).toMatchObject({ ok: true, signers: [{ name: "anna" }, { name: "ben" }] });
    expect(code(await verify(null, commit("eve", "no"), [anna]))).toBe("stranger");
  });

  test("GnuPG signatures count when the key is pinned, and not otherwise", async () => {
    execFileSync("mkdir", ["-m", "700", home]);
    const gpg = (...args: string[]) => execFileSync("gpg", ["--homedir", home, "--batch", "--quiet", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    gpg("--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "Gina <gina@example>", "ed25519", "sign", "never");
    const gina: Signer = { name: "gina", gpg: gpg("--armor", "--export", "gina@example") };
    fresh();
    const tip = commit("gpg:gina@example", "by gpg");
    expect(await verify(base, tip, [anna, gina])).toMatchObject({ ok: true, commits: [{ signer: "gina" }] });
    expect(code(await verify(base, tip, [anna]))).toBe("stranger");
    execFileSync("gpgconf", ["--homedir", home, "--kill", "all"]);
  });

  test("the tree is read from the object database, links as links", async () => {
    fresh();
    execFileSync("ln", ["-s", "/etc/shadow", join(repo, "link")]);
    writeFileSync(join(repo, "a file"), "text\n\0");
    const tree = gitTree(run, commit("anna", "files"));
    const entries = await tree.list();
    expect(entries.map((entry) => [entry.path, entry.type])).toEqual([["a file", "file"], ["cluster.yaml", "file"], ["counter", "file"], ["link", "link"]]);
    expect(Buffer.from(await tree.read("a file")).toString()).toBe("text\n\0");
    await expect(tree.read("link")).rejects.toThrow("not a file");
  });
});
