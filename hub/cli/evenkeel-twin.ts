import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import type { TwinHub } from "../http/twin-hub.ts";

/** The `evenkeel` command as a person starts it, before a hub of the test: for tests. */

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ran>;
  /** Resolves when standard output and standard error together match. */
  said(pattern: RegExp): Promise<void>;
}

const main = join(import.meta.dirname, "main.ts");

export function start(hub: TwinHub, args: readonly string[], more: { readonly token?: string; readonly screen?: boolean } = {}): Running {
  const env = { PATH: process.env["PATH"], HOME: hub.directory, TZ: "UTC", TERM: "xterm", COLUMNS: "100", EVENKEEL_HUB: hub.url, EVENKEEL_TOKEN: more.token ?? "admin-token" };
  const command = [process.execPath, "--disable-warning=ExperimentalWarning", main, ...args];
  // script(1) gives it a terminal of its own, without a size, and answers with the command's exit code.
  const [program = "", ...rest] = more.screen === true ? ["script", "-qefc", `stty cols 100 rows 40; exec ${command.map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(" ")}`, "/dev/null"] : command;
  const child = spawn(program, rest, { env, cwd: hub.directory, stdio: ["pipe", "pipe", "pipe"] });
  let [stdout, stderr, all] = ["", "", ""];
  let look: (() => void)[] = [];
  const heard = (chunk: Buffer, to: (text: string) => void): void => {
    to(String(chunk));
    all += String(chunk);
    for (const each of look) each();
  };
  child.stdout.on("data", (chunk: Buffer) => heard(chunk, (text) => (stdout += text)));
  child.stderr.on("data", (chunk: Buffer) => heard(chunk, (text) => (stderr += text)));
  if (more.screen !== true) child.stdin.end();
  const ended = new Promise<Ran>((resolve) => child.once("close", (code) => resolve({ code: code ?? -1, stdout, stderr })));
  return {
    child,
    ended,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          if (!pattern.test(all)) return;
          look = look.filter((each) => each !== check);
          resolve();
        };
        look.push(check);
        void ended.then(() => reject(new Error(`it ended without saying ${pattern}: ${all}`)));
        check();
      }),
  };
}

export function evenkeel(hub: TwinHub, ...args: readonly string[]): Promise<Ran> {
  return start(hub, args).ended;
}
