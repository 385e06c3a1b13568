import * as fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { newIdentity, open, seal } from "../../shared/secrets/age.ts";
import type { KeyPair } from "../../shared/secrets/age.ts";
import { openContent, sealContent } from "./envelope.ts";
import type { Question } from "./envelope.ts";
import { sharedSecret } from "./x25519.ts";

let maker: KeyPair;
let asker: KeyPair;
let hub: KeyPair;
const question: Question = { ask: "7d0f8a52-5d0c-4e6c-9a52-0f6b6a1f0001", section: "lxd", key: "join/n2", node: "n2", maker: "n1" };
const token = { ok: true, value: "eyJzZXJ2ZXJfbmFtZSI6Im4yIn0=" } as const;

beforeAll(async () => {
  [maker, asker, hub] = await Promise.all([newIdentity(), newIdentity(), newIdentity()]);
});

const sealedByMaker = async (about: Question = question): Promise<string> => (await sealContent(about, token, { identity: maker.identity, recipient: asker.recipient })) ?? "";

describe("the secret of two nodes", () => {
  test("is the same from both ends, and another with anybody else", () => {
    const one = sharedSecret(maker.identity, asker.recipient);
    expect(one).toHaveLength(32);
    expect(sharedSecret(asker.identity, maker.recipient)).toEqual(one);
    expect(sharedSecret(hub.identity, asker.recipient)).not.toEqual(one);
  });

  test("is none with a damaged key, a cut one, a mixed one, and what is no key", () => {
    const { recipient } = asker;
    const flipped = `${recipient.slice(0, -1)}${recipient.endsWith("q") ? "p" : "q"}`;
    for (const each of [flipped, recipient.slice(0, -1), `${recipient.slice(0, 20)}${recipient.slice(20).toUpperCase()}`, "", "age1", asker.identity]) expect(sharedSecret(maker.identity, each), each).toBeNull();
    expect(sharedSecret(recipient, recipient)).toBeNull();
  });
});

test("a value comes out as it went in, and so does the word that there is none", async () => {
  const keys = { identity: asker.identity, recipient: maker.recipient };
  expect(await openContent(question, await sealedByMaker(), keys)).toEqual({ ok: true, content: token });
  const failed = await sealContent(question, { ok: false, message: "Error: ünwell" }, { identity: maker.identity, recipient: asker.recipient });
  expect(await openContent(question, failed ?? "", keys)).toEqual({ ok: true, content: { ok: false, message: "Error: ünwell" } });
});

test("nobody but the asking node can read it", async () => {
  const sealed = await sealedByMaker();
  expect(sealed).not.toContain("eyJzZXJ2");
  for (const { identity } of [hub, maker]) expect(await openContent(question, sealed, { identity, recipient: maker.recipient })).toMatchObject({ ok: false });
});

test("whoever knows the recipient can seal, and is not believed", async () => {
  const forged = await sealContent(question, { ok: true, value: "evil" }, { identity: hub.identity, recipient: asker.recipient });
  expect(await openContent(question, forged ?? "", { identity: asker.identity, recipient: maker.recipient })).toEqual({ ok: false, why: "it was not made by n1 for this question" });
  for (const inside of ["evil", "{}", JSON.stringify({ v: 1, ok: true, text: "evil", mark: "" })]) {
    const bare = new TextDecoder().decode(await seal([asker.recipient], new TextEncoder().encode(inside)));
    expect(await openContent(question, bare, { identity: asker.identity, recipient: maker.recipient })).toMatchObject({ ok: false });
  }
  expect(await openContent(question, "no age file", { identity: asker.identity, recipient: maker.recipient })).toMatchObject({ ok: false });
});

test("it answers one question, and no other that differs in anything", async () => {
  const sealed = await sealedByMaker();
  const text = fc.string({ maxLength: 12 });
  const other = fc.record({ ask: text, section: text, key: text, node: text, maker: text }, { requiredKeys: [] });
  await fc.assert(
    fc.asyncProperty(other, async (changed) => {
      const about = { ...question, ...changed };
      fc.pre(JSON.stringify(about) !== JSON.stringify(question));
      expect((await openContent(about, sealed, { identity: asker.identity, recipient: maker.recipient })).ok).toBe(false);
    }),
    { numRuns: 40 },
  );
});

test("what was changed inside by somebody who could open it is not believed", async () => {
  const sealed = await sealedByMaker();
  const opened = await open([asker.identity], new TextEncoder().encode(sealed));
  if (!opened.ok) throw new Error("cannot be opened");
  const plain = JSON.parse(new TextDecoder().decode(opened.plaintext)) as Record<string, unknown>;
  for (const change of [{ text: "evil" }, { ok: false }, { mark: "AAAA" }]) {
    const again = new TextDecoder().decode(await seal([asker.recipient], new TextEncoder().encode(JSON.stringify({ ...plain, ...change }))));
    expect(await openContent(question, again, { identity: asker.identity, recipient: maker.recipient })).toMatchObject({ ok: false });
  }
});
