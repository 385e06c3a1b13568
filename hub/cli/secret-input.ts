import { spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PLAINTEXT_SIZE_BYTES_MAX } from "../../shared/secrets/age.ts";
import type { Terminal } from "./terminal.ts";

/** How a secret comes in: through a pipe, typed unseen, or out of an editor. Never as an argument, which `ps` shows to everybody. */

export type Input = { readonly ok: true; readonly bytes: Uint8Array } | { readonly ok: false; readonly message: string };

export interface SecretInput {
  /** All of standard input, or what is typed unseen where that is a terminal. */
  value(prompt: string): Promise<Input>;
  /** What is left of `before` when the person has closed the editor. */
  edit(name: string, before: Uint8Array): Promise<Input>;
}

export function processInput(terminal: Terminal): SecretInput {
  return {
    value: (prompt) => (process.stdin.isTTY ? typedTwice(terminal, prompt) : piped()),
    edit: (name, before) => edited(terminal, name, before),
  };
}

async function piped(): Promise<Input> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > PLAINTEXT_SIZE_BYTES_MAX) return { ok: false, message: `standard input has more than ${PLAINTEXT_SIZE_BYTES_MAX} bytes, which is more than a secret may have` };
    chunks.push(chunk);
  }
  return { ok: true, bytes: Buffer.concat(chunks) };
}

async function typedTwice(terminal: Terminal, prompt: string): Promise<Input> {
  const first = await typed(terminal, `${prompt}: `);
  if (!first.ok) return first;
  const second = await typed(terminal, "once more: ");
  if (!second.ok) return second;
  return Buffer.compare(first.bytes, second.bytes) === 0 ? first : { ok: false, message: "the two are not the same; nothing was changed" };
}

/** One line, without showing it. */
function typed(terminal: Terminal, prompt: string): Promise<Input> {
  const { stdin } = process;
  // First: what is typed before the question must not be shown either.
  stdin.setRawMode(true);
  terminal.err(prompt);
  stdin.resume();
  stdin.setEncoding("utf8");
  return new Promise((resolve) => {
    let line = "";
    const end = (input: Input): void => {
      stdin.setRawMode(false);
      stdin.pause();
      stdin.removeListener("data", hear);
      terminal.err("\n");
      resolve(input);
    };
    const hear = (text: string): void => {
      for (const letter of text) {
        if (letter === "\r" || letter === "\n" || letter === "\u0004") return end({ ok: true, bytes: Buffer.from(line) });
        if (letter === "\u0003") return end({ ok: false, message: "interrupted; nothing was changed" });
        if (letter === "\u007f" || letter === "\b") line = Array.from(line).slice(0, -1).join("");
        else if (letter >= " " && line.length < PLAINTEXT_SIZE_BYTES_MAX) line += letter;
      }
    };
    stdin.on("data", hear);
  });
}

/**
 * The file is in memory where the system has such a place, of mode 0600 in a directory of mode 0700, and is gone afterwards
 * with whatever the editor has put beside it: also when this is interrupted.
 */
async function edited(terminal: Terminal, name: string, before: Uint8Array): Promise<Input> {
  const place = memoryPlace(terminal);
  if (place.onDisk) terminal.err("evenkeel: this system has no /dev/shm or XDG_RUNTIME_DIR: while it is edited, the secret is in a file on disk\n");
  const directory = mkdtempSync(join(place.path, "evenkeel-secret-"));
  const gone = (): void => rmSync(directory, { recursive: true, force: true });
  process.on("exit", gone);
  const path = join(directory, `${name}.txt`);
  try {
    writeFileSync(path, before, { mode: 0o600, flag: "wx" });
    const ended = await runEditor(terminal, path);
    return ended.ok ? { ok: true, bytes: readFileSync(path) } : ended;
  } finally {
    gone();
    process.off("exit", gone);
  }
}

function memoryPlace({ env }: Terminal): { readonly path: string; readonly onDisk: boolean } {
  for (const path of [env["XDG_RUNTIME_DIR"], "/dev/shm"]) {
    try {
      if (path === undefined || path === "") continue;
      accessSync(path, constants.W_OK | constants.X_OK);
      return { path, onDisk: false };
    } catch {
      // The next one.
    }
  }
  return { path: tmpdir(), onDisk: true };
}

/** Resolves when the editor has ended. A signal to us ends it, and nothing that it wrote is taken. */
function runEditor(terminal: Terminal, path: string): Promise<{ readonly ok: true } | { readonly ok: false; readonly message: string }> {
  const words = (terminal.env["VISUAL"] ?? terminal.env["EDITOR"] ?? "vi").split(/\s+/).filter((word) => word !== "");
  const [program = "vi", ...args] = words;
  return new Promise((resolve) => {
    const child = spawn(program, [...args, path], { stdio: "inherit", env: terminal.env, cwd: terminal.cwd });
    let interrupted = false;
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
    const stop = (): void => {
      interrupted = true;
      child.kill("SIGTERM");
    };
    for (const signal of signals) process.on(signal, stop);
    const end = (answer: { readonly ok: true } | { readonly ok: false; readonly message: string }): void => {
      for (const signal of signals) process.off(signal, stop);
      resolve(answer);
    };
    child.once("error", (error) => end({ ok: false, message: `the editor ${program} cannot be started (${error.message}): set EDITOR, as in EDITOR=nano` }));
    child.once("close", (code) => {
      if (interrupted) end({ ok: false, message: "interrupted; nothing was changed" });
      else if (code === 0) end({ ok: true });
      else end({ ok: false, message: `the editor ended with ${code ?? "a signal"}; nothing was changed` });
    });
  });
}
