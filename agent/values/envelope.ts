import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import * as z from "zod";
import { sharedSecret } from "./x25519.ts";

/**
 * A value on its way from the node that made it to the node that asked. age keeps it secret, but does not say who sealed it:
 * anybody who knows the recipient could. So what is inside carries a mark made with the secret that only these two
 * nodes share by their keys, over everything that the value is an answer to. Both keys stand in signed history: the hub can
 * neither read a value, nor make one up, nor hand over another's, an older one, or one for another key.
 */

/** What a value answers. */
export interface Question {
  /** Made up by the asking node for this question. */
  readonly ask: string;
  readonly section: string;
  readonly key: string;
  readonly node: string;
  readonly maker: string;
}

/** `ok: false`: why it could not be made, in the words of the program that was to make it. */
export type Content = { readonly ok: true; readonly value: string } | { readonly ok: false; readonly message: string };

const Plain = z.object({ v: z.literal(1), ok: z.boolean(), text: z.string(), mark: z.string() });

/** Null when one of the keys is none. */
export async function sealContent(question: Question, content: Content, keys: { readonly identity: string; readonly recipient: string }): Promise<string | null> {
  const secret = sharedSecret(keys.identity, keys.recipient);
  if (secret === null) return null;
  // Loaded by whom it is needed: most agents never ask and are never asked.
  const { seal } = await import("../../shared/secrets/age.ts");
  const text = content.ok ? content.value : content.message;
  const plain = { v: 1, ok: content.ok, text, mark: markOf(secret, question, content.ok, text).toString("base64") };
  return new TextDecoder().decode(await seal([keys.recipient], new TextEncoder().encode(JSON.stringify(plain))));
}

export type OpenedContent = { readonly ok: true; readonly content: Content } | { readonly ok: false; readonly why: string };

/** @param keys this node's identity, and the maker's recipient as the repository has it */
export async function openContent(question: Question, sealed: string, keys: { readonly identity: string; readonly recipient: string }): Promise<OpenedContent> {
  const secret = sharedSecret(keys.identity, keys.recipient);
  if (secret === null) return { ok: false, why: `the recipient of ${question.maker} is no key` };
  const { open } = await import("../../shared/secrets/age.ts");
  const opened = await open([keys.identity], new TextEncoder().encode(sealed));
  if (!opened.ok) return { ok: false, why: opened.message };
  let plain: z.output<typeof Plain>;
  try {
    plain = Plain.parse(JSON.parse(new TextDecoder().decode(opened.plaintext)));
  } catch {
    return { ok: false, why: "what is inside is no value" };
  }
  const [mark, right] = [Buffer.from(plain.mark, "base64"), markOf(secret, question, plain.ok, plain.text)];
  if (mark.length !== right.length || !timingSafeEqual(mark, right)) return { ok: false, why: `it was not made by ${question.maker} for this question` };
  return { ok: true, content: plain.ok ? { ok: true, value: plain.text } : { ok: false, message: plain.text } };
}

function markOf(secret: Buffer, { ask, section, key, node, maker }: Question, ok: boolean, text: string): Buffer {
  // JSON keeps the parts apart: no two questions give the same text.
  const about = JSON.stringify([1, ask, section, key, node, maker, ok, text]);
  return createHmac("sha256", Buffer.from(hkdfSync("sha256", secret, "", "evenkeel value between nodes 1", 32))).update(about).digest();
}
