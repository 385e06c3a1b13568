import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PLAINTEXT_SIZE_BYTES_MAX, identityFile, newIdentity, open, parseIdentities, recipientOf, seal } from "./age.ts";
import { recipientProblem } from "./recipient.ts";
import { SEALED_SIZE_BYTES_MAX, readHeader } from "./sealed-file.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (sealed: Uint8Array) => new TextDecoder().decode(sealed);

describe("seal and open", () => {
  test("each recipient opens it alone, and nobody else", async () => {
    const [one, two, other] = await Promise.all([newIdentity(), newIdentity(), newIdentity()]);
    const sealed = await seal([one.recipient, two.recipient, one.recipient], bytes("hunter2"));
    expect(text(sealed)).toMatch(/^-----BEGIN AGE ENCRYPTED FILE-----\n[^]*-----END AGE ENCRYPTED FILE-----\n$/);
    for (const pair of [one, two]) expect(await open([other.identity, pair.identity], sealed)).toEqual({ ok: true, plaintext: bytes("hunter2") });
    expect(await open([other.identity], sealed)).toMatchObject({ ok: false, reason: "not-for-this-key" });
    expect(await open([], sealed)).toMatchObject({ ok: false, reason: "not-for-this-key" });
  });

  test("a damaged file is told from one for another key", async () => {
    const pair = await newIdentity();
    const sealed = text(await seal([pair.recipient], bytes("hunter2")));
    const lines = sealed.trimEnd().split("\n");
    // The last line of the armor is the end of the encrypted content.
    const spoiled = lines.map((line, index) => (index === lines.length - 2 ? line.replace(/^./, (first) => (first === "A" ? "B" : "A")) : line)).join("\n");
    const damaged = [spoiled, sealed.slice(0, sealed.length / 2), lines.filter((_, index) => index !== 2).join("\n"), "", "password", sealed.replace("END", "EMD")];
    for (const each of damaged) expect(await open([pair.identity], bytes(each))).toMatchObject({ ok: false, reason: "damaged" });
  });

  test("what is too large is neither sealed nor opened", async () => {
    const pair = await newIdentity();
    await expect(seal([pair.recipient], new Uint8Array(PLAINTEXT_SIZE_BYTES_MAX + 1))).rejects.toThrow("at most 262144 bytes");
    expect(await open([pair.identity], new Uint8Array(SEALED_SIZE_BYTES_MAX + 1))).toMatchObject({ ok: false, reason: "too-large" });
    expect(await open([pair.identity], await seal([pair.recipient], new Uint8Array(PLAINTEXT_SIZE_BYTES_MAX)))).toMatchObject({ ok: true });
  });

  test("what can be seen without a key", async () => {
    const { recipient } = await newIdentity();
    const [one, two] = [await seal([recipient], bytes("x")), await seal([recipient, (await newIdentity()).recipient], bytes("x"))].map(readHeader);
    expect(one).toMatchObject({ ok: true, header: { recipients: 1, mac: expect.stringMatching(/^.{43}$/) } });
    expect(two).toMatchObject({ ok: true, header: { recipients: 2 } });
    expect(one).not.toEqual(readHeader(await seal([recipient], bytes("x"))));
    expect(readHeader(bytes("password"))).toEqual({ ok: false, message: "it is no age file" });
    expect(readHeader(bytes("-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n"))).toEqual({ ok: false, message: "its armor is damaged" });
    expect(readHeader(new Uint8Array(SEALED_SIZE_BYTES_MAX + 1))).toMatchObject({ ok: false, message: expect.stringContaining("at most") });
  });
});

describe("keys", () => {
  test("a recipient that is none is refused with what to write", async () => {
    const { identity, recipient } = await newIdentity();
    expect(recipientProblem(recipient)).toBeUndefined();
    expect(recipientProblem(identity)).toContain("secret key");
    expect(recipientProblem("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO ada")).toContain("only the age command");
    expect(recipientProblem("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t")).toContain("plugins");
    expect(recipientProblem(recipient.slice(0, -1))).toContain("cut short");
    expect(recipientProblem(recipient.replace(/.$/, (last) => (last === "q" ? "p" : "q")))).toContain("mistyped");
    await expect(seal(["age1"], bytes("x"))).rejects.toThrow("a recipient is age1");
    await expect(seal([], bytes("x"))).rejects.toThrow("recipients");
  });

  test("a file of identities", async () => {
    const [one, two] = await Promise.all([newIdentity(), newIdentity()]);
    expect(await parseIdentities(`${identityFile(one)}\n\n${identityFile(two)}`)).toEqual([one, two]);
    expect(await parseIdentities("# nothing\n")).toBeNull();
    expect(await parseIdentities(`${one.identity}\nhunter2\n`)).toBeNull();
    expect(await recipientOf(one.identity)).toBe(one.recipient);
    expect(await recipientOf(one.recipient)).toBeNull();
    expect(await recipientOf(one.identity.slice(0, -1))).toBeNull();
  });
});

describe("the age command", () => {
  let directory = "";
  const at = (name: string) => join(directory, name);
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "evenkeel-age-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test("reads what we seal, with an identity of ours", async () => {
    const pair = await newIdentity();
    writeFileSync(at("ours.txt"), identityFile(pair), { mode: 0o600 });
    writeFileSync(at("ours.age"), await seal([pair.recipient], bytes("Grüße\0\n")));
    expect(execFileSync("age", ["--decrypt", "--identity", at("ours.txt"), at("ours.age")])).toEqual(Buffer.from("Grüße\0\n"));
    expect(execFileSync("age-keygen", ["-y", at("ours.txt")], { encoding: "utf8" }).trim()).toBe(pair.recipient);
  });

  test("encrypts to an SSH key as well, which no node could read", () => {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", at("ssh")]);
    const sealed = execFileSync("age", ["--recipients-file", at("ssh.pub")], { input: "hunter2" });
    expect(readHeader(sealed)).toMatchObject({ ok: false, message: expect.stringContaining("(ssh-ed25519)") });
  });

  test("makes keys and files that we read, armored or not", async () => {
    const key = execFileSync("age-keygen", { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const [pair] = (await parseIdentities(key)) ?? [];
    expect(key).toContain(`# public key: ${pair?.recipient}`);
    for (const more of [[], ["--armor"]]) {
      const sealed = execFileSync("age", ["--recipient", pair!.recipient, ...more], { input: "hunter2" });
      expect(readHeader(sealed)).toMatchObject({ ok: true, header: { recipients: 1 } });
      expect(await open([pair!.identity], sealed)).toMatchObject({ ok: true, plaintext: bytes("hunter2") });
    }
  });
});
