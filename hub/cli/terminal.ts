import { createInterface } from "node:readline/promises";

/** Where a command of the CLI talks to whoever started it. `main.ts` gives the process's own; tests give one that remembers. */
export interface Terminal {
  /** Answers, for people or for the next program: standard output. */
  out(text: string): void;
  /** Problems and progress: standard error. */
  err(text: string): void;
  readonly color: boolean;
  /** Whether standard output is a screen that can be drawn on again. */
  readonly live: boolean;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Asks the person a question; null when there is nobody to ask. */
  confirm(question: string): Promise<boolean | null>;
  /** Sets the exit code; the command still ends by itself. */
  exit(code: number): void;
}

/** The process's own terminal. Colours as NO_COLOR (no-color.org) and FORCE_COLOR want them, else if a person looks. */
export function processTerminal(): Terminal {
  const { env } = process;
  const forced = env["FORCE_COLOR"] !== undefined && env["FORCE_COLOR"] !== "0";
  const refused = env["NO_COLOR"] !== undefined && env["NO_COLOR"] !== "";
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    color: !refused && (forced || process.stderr.isTTY),
    // A serial console has no size, and nothing can be laid out on it.
    live: process.stdout.isTTY && process.stdout.columns > 0 && env["TERM"] !== "dumb",
    cwd: process.cwd(),
    env,
    async confirm(question) {
      if (!process.stdin.isTTY) return null;
      const asked = createInterface({ input: process.stdin, output: process.stderr });
      try {
        return /^y(es)?$/i.test((await asked.question(`${question} (yes/no) `)).trim());
      } finally {
        asked.close();
      }
    },
    exit: (code) => {
      process.exitCode = code;
    },
  };
}
