import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import * as z from "zod";

/** A line of QMP that is an answer; greetings and events are other objects. */
const Answer = z.union([z.object({ return: z.unknown() }), z.object({ error: z.object({ desc: z.string() }) })]);

export function connectTo(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
  });
}

/** The emulator's monitor: QMP, and by it the commands that people type, which take options as the command line does. */
export class Monitor {
  readonly #socket: Socket;
  #waiting: { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void } | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on("line", (line) => {
      const answer = Answer.safeParse(JSON.parse(line));
      const waiting = this.#waiting;
      if (!answer.success || waiting === null) return;
      this.#waiting = null;
      if ("error" in answer.data) waiting.reject(new Error(answer.data.error.desc));
      else waiting.resolve(answer.data.return);
    });
    socket.on("close", () => this.#waiting?.reject(new Error("the emulator has ended")));
    socket.on("error", () => {});
  }

  static async connect(path: string): Promise<Monitor> {
    const monitor = new Monitor(await connectTo(path));
    await monitor.#execute("qmp_capabilities");
    return monitor;
  }

  /** One at a time. What a command of the monitor prints is its complaint, but for "OK". */
  async type(command: string): Promise<void> {
    const printed = String(await this.#execute("human-monitor-command", { "command-line": command })).trim();
    if (printed !== "" && printed !== "OK") throw new Error(`the emulator does not take "${command}": ${printed}`);
  }

  #execute(command: string, values?: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(`${JSON.stringify({ execute: command, ...(values === undefined ? {} : { arguments: values }) })}\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}
