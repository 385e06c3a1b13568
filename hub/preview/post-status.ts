import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ForgeRequest } from "./forge.ts";

/** The outside of commit statuses: the token's file, and the request. */

const TIMEOUT_MS = 10_000;
const ANSWER_CHARS_MAX = 16_384;

/** @throws when there is no answer in time. */
export async function postStatus({ url, headers, body }: ForgeRequest): Promise<{ readonly status: number; readonly body: string }> {
  const answer = await fetch(url, { method: "POST", headers, ...(body !== "" && { body }), redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
  return { status: answer.status, body: await beginning(answer) };
}

async function beginning(answer: Response): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of answer.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    // Leaving the loop ends the transfer.
    if (text.length > ANSWER_CHARS_MAX) break;
  }
  return text.slice(0, ANSWER_CHARS_MAX);
}

/** Read anew each time, so that a token is changed by writing the file. Its name has no slash (`statuses` in cluster.yaml). */
export async function readToken(dataDir: string, file: string): Promise<string | null> {
  try {
    return (await readFile(join(dataDir, "tokens", file), "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
