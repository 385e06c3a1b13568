import { pino, type Logger } from "pino";
import type { Settings } from "./settings.ts";

/** JSON lines for machines; one readable line each on a terminal. */
export function makeLog(level: Settings["logLevel"], out: NodeJS.WriteStream): Logger {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, serializers: { err: describeError } };
  if (!out.isTTY) return pino(options, out);
  return pino(options, { write: (line: string) => void out.write(readable(line)) });
}

const errorMaxChars = 1_000;

/** A failed query names its parameters, and those may be a whole report: the cause says enough. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { cause } = error;
  return {
    type: error.name,
    message: error.message.slice(0, errorMaxChars),
    ...(cause instanceof Error && { cause: cause.message.slice(0, errorMaxChars) }),
    // Without its head, which repeats the message.
    stack: (error.stack ?? "").split("\n").filter((line) => line.startsWith("    at ")).slice(0, 12).join("\n"),
  };
}

const names: Readonly<Record<number, string>> = { 10: "trace", 20: "debug", 30: "info ", 40: "warn ", 50: "error", 60: "fatal" };
const colors: Readonly<Record<number, string>> = { 40: "33", 50: "31", 60: "31" };

function readable(line: string): string {
  const { level, time, msg, err, ...rest } = JSON.parse(line) as { level: number; time: string; msg?: string; err?: { message?: string; cause?: string } } & Record<string, unknown>;
  const details = Object.entries({ ...rest, ...(err?.message !== undefined && { error: err.cause ?? err.message }) }).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  const color = colors[level] ?? "2";
  return `\u001b[2m${time.slice(11, 19)}\u001b[0m \u001b[${color}m${names[level] ?? level}\u001b[0m ${msg ?? ""}${details.length === 0 ? "" : ` \u001b[2m${details.join(" ")}\u001b[0m`}\n`;
}
