import { spawn } from "node:child_process";

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Signing may wait for a person who types a passphrase, or touches a key. */
const RUN_TIMEOUT_MS = 120_000;
const OUTPUT_BYTES_MAX = 1024 * 1024;

/**
 * Runs git, or a tool beside it, as the person at the terminal would: with their configuration, in their directory. A program that
 * is missing answers 127, as a shell does.
 */
export function runProgram(argv: readonly [string, ...string[]], options: { readonly cwd: string; readonly env: Readonly<Record<string, string | undefined>> }): Promise<Ran> {
  const [program, ...args] = argv;
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: options.cwd, env: options.env, stdio: ["ignore", "pipe", "pipe"], timeout: RUN_TIMEOUT_MS });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].setEncoding("utf8").on("data", (text: string) => {
        if (output[stream].length < OUTPUT_BYTES_MAX) output[stream] += text;
      });
    }
    child.on("error", (error) => resolve({ code: 127, stdout: "", stderr: error.message }));
    child.on("close", (code) => resolve({ code: code ?? 1, ...output }));
  });
}
