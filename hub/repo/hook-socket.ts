import { once } from "node:events";
import { chmodSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { resolve, sep } from "node:path";
import * as z from "zod";
import type { RefUpdate } from "./check-push.ts";

/** Where the pre-receive hook meets the hub: a unix socket that only the hub's user can open. */

const requestMaxBytes = 256 * 1024;
/** sun_path has 108 bytes, the last one zero: unix(7). */
export const socketPathMaxBytes = 107;

const Request = z.object({
  pushId: z.string().max(64),
  updates: z.string().max(64 * 1024),
  quarantine: z.object({
    GIT_OBJECT_DIRECTORY: z.string().max(4_096).optional(),
    GIT_ALTERNATE_OBJECT_DIRECTORIES: z.string().max(4_096).optional(),
    GIT_QUARANTINE_PATH: z.string().max(4_096).optional(),
  }),
});

export interface HookQuestion {
  readonly pushId: string;
  readonly updates: readonly RefUpdate[];
  /** Environment in which git sees the objects that are not let in yet. */
  readonly env: Readonly<Record<string, string>>;
}
export interface HookAnswer {
  readonly ok: boolean;
  readonly text: string;
}

export interface HookSocket {
  stop(): Promise<void>;
}

export async function listenForHooks(options: {
  readonly path: string;
  readonly repository: string;
  readonly answer: (question: HookQuestion) => Promise<HookAnswer>;
}): Promise<HookSocket> {
  // A hub that was killed leaves its socket behind; that it is dead, the lock has told.
  rmSync(options.path, { force: true });
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => socket.destroy());
    void serve(socket, options.repository, options.answer);
  });
  server.listen(options.path);
  await once(server, "listening");
  chmodSync(options.path, 0o600);
  return {
    async stop() {
      const closed = once(server, "close");
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

async function serve(socket: Socket, repository: string, answer: (question: HookQuestion) => Promise<HookAnswer>): Promise<void> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > requestMaxBytes) throw new Error("the hook's request is too large");
      chunks.push(chunk);
    }
    const request = Request.parse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    const { quarantine } = request;
    const objects = quarantine.GIT_OBJECT_DIRECTORY;
    if (objects !== undefined && !isInside(repository, objects)) throw new Error("the quarantine is not in the repository");
    const env: Record<string, string> = {};
    for (const [name, value] of Object.entries(quarantine)) if (value !== undefined) env[name] = value;
    socket.end(JSON.stringify(await answer({ pushId: request.pushId, updates: parseUpdates(request.updates), env })));
  } catch (error) {
    socket.end(JSON.stringify({ ok: false, text: `evenkeel: refused: the hub could not check this push: ${(error as Error).message}\n` } satisfies HookAnswer));
  }
}

/** `<old> SP <new> SP <ref> LF`: githooks(5), pre-receive. */
export function parseUpdates(text: string): RefUpdate[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const match = /^([0-9a-f]{40,64}) ([0-9a-f]{40,64}) (.+)$/.exec(line);
      if (match === null) throw new Error("git's description of the push cannot be read");
      return { before: match[1] ?? "", after: match[2] ?? "", ref: match[3] ?? "" };
    });
}

function isInside(directory: string, path: string): boolean {
  return resolve(directory, path).startsWith(resolve(directory) + sep);
}
