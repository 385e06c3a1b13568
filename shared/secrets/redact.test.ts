import { expect, test } from "vitest";
import { Redactor } from "./redact.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test("a secret is found as it is, and as others write it", () => {
  const redactor = new Redactor([bytes('pass"word&1\n')]);
  expect(redactor.text('password: pass"word&1.')).toBe("password: •••.");
  expect(redactor.text(JSON.stringify({ why: 'is pass"word&1' }))).toBe('{"why":"is •••"}');
  expect(redactor.text("https://user:pass%22word%261@host/")).toBe("https://user:•••@host/");
  expect(redactor.text(`Basic ${btoa('pass"word&1')}`)).toBe("Basic •••=");
  expect(redactor.isIn("pass word")).toBe(false);
  expect(redactor.isInBytes(bytes('x = pass"word&1'))).toBe(true);
});

test("of a longer one each line; what frames a key is no secret", () => {
  const redactor = new Redactor([bytes("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nabc=\n-----END PRIVATE KEY-----\n")]);
  expect(redactor.text("MIIEvQIBADANBgkq, abc=, -----BEGIN PRIVATE KEY-----")).toBe("•••, abc=, -----BEGIN PRIVATE KEY-----");
});

test("one within another, nothing at all, and what is too short", () => {
  expect(new Redactor([bytes("hunter"), bytes("hunter22")]).text("hunter22 hunter2 hunter")).toBe("••• •••2 •••");
  expect(new Redactor([]).deep({ a: ["x"] })).toEqual({ a: ["x"] });
  expect(new Redactor([bytes("abc"), bytes("\n")]).text("abc")).toBe("abc");
});

test("texts at any depth", () => {
  const redactor = new Redactor([bytes("hunter22")]);
  expect(redactor.deep({ changes: [{ error: "no hunter22", hunter22: 1 }], tookMs: 5, diff: null })).toEqual({ changes: [{ error: "no •••", "•••": 1 }], tookMs: 5, diff: null });
});
