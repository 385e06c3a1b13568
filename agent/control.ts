import { chmod, mkdir, rm } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import type { Server } from "node:net";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import * as z from "zod";
import { ConvergeReport, PlanReport } from "../shared/protocol/report.ts";

/**
 * How `evenkeel-agent plan|apply|status` talks to the resident agent: a socket that only root can open, one JSON object a
 * line. The agent is the one that changes the machine; the command line asks it, so that two never do at once.
 */

export const Request = z.discriminatedUnion("do", [
  z.object({ do: z.literal("plan"), branch: z.string().nullable() }),
  z.object({ do: z.literal("apply"), removalsAllowed: z.number().int().min(0).optional(), retry: z.boolean().optional(), disruptive: z.boolean().optional() }),
  z.object({ do: z.literal("status") }),
]);
export type Request = z.output<typeof Request>;

export const Reply = z.discriminatedUnion("is", [
  z.object({ is: z.literal("progress"), action: z.string() }),
  z.object({ is: z.literal("plan"), report: PlanReport }),
  z.object({
    is: z.literal("apply"),
    report: ConvergeReport,
    /** Why what was converged to is not the newest that there is: a refused candidate, a repository out of reach. */
    notes: z.array(z.string()),
  }),
  z.object({ is: z.literal("status"), status: z.json() }),
  z.object({ is: z.literal("error"), message: z.string() }),
]);
export type Reply = z.output<typeof Reply>;

const REQUEST_MAX_BYTES = 64 * 1024;
const CONNECTIONS_MAX = 16;

export async function serveControl(path: string, answer: (request: Request, reply: (reply: Reply) => void) => Promise<void>): Promise<Server> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await rm(path, { force: true });
  const server = createServer((socket) => {
    let received = "";
    const reply = (message: Reply) => {
      if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
    };
    socket.on("error", () => {});
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      received += chunk;
      if (received.length > REQUEST_MAX_BYTES) socket.destroy();
      const lineEnd = received.indexOf("\n");
      if (lineEnd === -1) return;
      const request = parseLine(Request, received.slice(0, lineEnd));
      received = "";
      if (request === null) {
        reply({ is: "error", message: "this agent does not understand the request: is the command of the same version?" });
        socket.end();
        return;
      }
      void answer(request, reply)
        .catch((error: unknown) => reply({ is: "error", message: String(error) }))
        .finally(() => socket.end());
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  await chmod(path, 0o600);
  return server;
}

/** Asks the resident agent; null when none is running. */
export function askControl(path: string, request: Request, onProgress: (action: string) => void): Promise<Reply | null> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once("error", () => resolve(null));
    socket.once("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => {
      const reply = parseLine(Reply, line);
      if (reply?.is === "progress") onProgress(reply.action);
      else resolve(reply ?? { is: "error", message: "the agent's answer cannot be read: is the command of the same version?" });
    });
    lines.once("close", () => resolve({ is: "error", message: "the agent ended before it answered. See: journalctl -u evenkeel-agent" }));
    lines.on("error", () => {});
  });
}

function parseLine<Schema extends z.ZodType>(schema: Schema, line: string): z.output<Schema> | null {
  try {
    return schema.parse(JSON.parse(line));
  } catch {
    return null;
  }
}
