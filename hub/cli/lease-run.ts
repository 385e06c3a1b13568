import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import { Command } from "commander";
import { printable } from "../../shared/config/diagnostic.ts";
import type { Done } from "../../shared/protocol/rollout.ts";
import { asking, clientFor, complain, exitCodes } from "./asking.ts";
import { isAway, type Failed, type HubClient } from "./client.ts";
import { connecting, type ConnectionFlags } from "./connection.ts";
import type { CommandParts } from "./coordination-commands.ts";
import { parseSpan } from "./moment.ts";

/** `evenkeel lease`: a slot in the same budget for a script of the owner's. */

const retryMs = 5_000;
const giveBackFirstMs = 500;
const giveBackEveryMaxMs = 15_000;
const giveBackForMs = 10 * 60_000;
const timeoutDefault = "1h";

type RunFlags = ConnectionFlags & { readonly node: string; readonly why?: string; readonly timeout: string };

export function leaseCommand(parts: CommandParts): Command {
  const { terminal } = parts;
  const lease = new Command("lease").description("a slot for a command of yours, in the same budget as everything else that takes a node down");
  lease.addCommand(
    connecting(new Command("run"))
      .description("take a node's slot, run a command, give the slot back; ends with the command's exit code")
      .requiredOption("--node <name>", "the node that the command takes down")
      .option("--why <text>", "kept, and shown to whoever wonders (default: the command)")
      .option("--timeout <time>", "how long to wait for the slot, such as 30m", timeoutDefault)
      .argument("<command...>", "the command and its arguments, after --")
      .addHelpText("after", "\nExit code: the command's; 3 when there was no slot in time, and the command was not run.\nThe slot is given back when the command ends, however it ends. If this program itself is killed, or the hub stays away,\nthe slot stays taken, and nothing else in its groups goes down: `evenkeel lease give-back ID` frees it then.")
      .action(async (command: string[], flags: RunFlags) => {
        const timeoutMs = parseSpan(flags.timeout);
        if (timeoutMs === null) {
          terminal.err(`evenkeel: --timeout: "${flags.timeout}" is no time: write 30m, 2h or 1d\n`);
          return terminal.exit(exitCodes.usage);
        }
        await runLeased(parts, command, flags, timeoutMs);
      }),
  );
  lease.addCommand(
    connecting(new Command("give-back"))
      .description("give back the slot of a command that has ended, when that could not be done at its end")
      .argument("<id>", "the lease's id, as `evenkeel leases` shows it")
      .action((id: string, flags: ConnectionFlags) => asking<Done>(terminal, flags, (client) => client.call("DELETE", `/leases/${encodeURIComponent(id)}`), () => `the slot is given back\n`)),
  );
  return lease;
}

async function runLeased(parts: CommandParts, command: readonly string[], flags: RunFlags, timeoutMs: number): Promise<void> {
  const { terminal } = parts;
  const client = clientFor(terminal, flags);
  if (client === null) return;
  const signals = new Signals();
  // Made here, so that asking again after a lost answer takes no second slot.
  const slot = { id: randomUUID() as string, node: flags.node };
  try {
    const taken = await takeSlot(parts, client, { ...slot, why: flags.why ?? command[0] ?? "" }, { timeoutMs, signals });
    if (taken.how !== "held") {
      // The answer that granted it may have been lost, and then nobody else would give it back.
      signals.seen = false;
      if (taken.mayHold) await giveBack(parts, client, slot, signals);
      return taken.how === "refused" ? complain(terminal, flags, taken.failed) : terminal.exit(exitCodes.interrupted);
    }
    terminal.err(`evenkeel: ${slot.node} may go down; the slot is ${slot.id}\n`);
    const code = await run(command, signals, (message) => terminal.err(`evenkeel: ${message}\n`));
    signals.seen = false;
    const given = await giveBack(parts, client, slot, signals);
    terminal.exit(given || code !== 0 ? code : exitCodes.failed);
  } finally {
    signals.end();
  }
}

interface Waiting {
  readonly timeoutMs: number;
  readonly signals: Signals;
}

type Taken = { readonly how: "held" } | { readonly how: "interrupted"; readonly mayHold: boolean } | { readonly how: "refused"; readonly mayHold: boolean; readonly failed: Failed };

/** Asks until there is a slot, the time is over, or waiting will not help. */
async function takeSlot({ terminal, pause }: CommandParts, client: HubClient, take: { readonly id: string; readonly node: string; readonly why: string }, { timeoutMs, signals }: Waiting): Promise<Taken> {
  const untilMs = performance.now() + timeoutMs;
  let said = "";
  for (;;) {
    const reply = await client.call<Done>("POST", "/leases", take);
    const mayHold = reply.ok || isAway(reply);
    if (signals.seen) return { how: "interrupted", mayHold };
    if (reply.ok) return { how: "held" };
    const { denials } = reply;
    const waitingHelps = denials === undefined ? isAway(reply) : !denials.some(({ code }) => hopeless.includes(code));
    if (!waitingHelps || performance.now() + retryMs > untilMs) return { how: "refused", mayHold, failed: reply };
    const text = denials === undefined ? `${reply.message}; trying again` : `waiting for a slot: ${denials.map((denial) => denial.text).join("; ")}`;
    if (text !== said) terminal.err(`evenkeel: ${printable(text)}\n`);
    said = text;
    await pause(retryMs, signals.next());
    if (signals.seen) return { how: "interrupted", mayHold };
  }
}

/** Denials that no waiting changes. */
const hopeless: readonly string[] = ["unknown-node", "ended"];

/** Runs the command with our own input and output. Answers with its exit code as a shell does. */
function run(command: readonly string[], signals: Signals, complaint: (message: string) => void): Promise<number> {
  const [program = "", ...args] = command;
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: "inherit" });
    signals.child = child;
    child.once("error", (error: NodeJS.ErrnoException) => {
      complaint(error.code === "ENOENT" ? `there is no command ${program}` : `${program} cannot be run: ${error.message}`);
      resolve(error.code === "ENOENT" ? 127 : 126);
    });
    child.once("close", (code, signal) => resolve(signal === null ? (code ?? 1) : 128 + constants.signals[signal]));
  }).then((code) => {
    signals.child = null;
    return code as number;
  });
}

/** Gives the slot back, again and again while the hub is away. False when it could not be: then it says what to do. */
async function giveBack({ terminal, pause }: CommandParts, client: HubClient, slot: { readonly id: string; readonly node: string }, signals: Signals): Promise<boolean> {
  const untilMs = performance.now() + giveBackForMs;
  for (let waitMs = giveBackFirstMs; ; waitMs = Math.min(waitMs * 2, giveBackEveryMaxMs)) {
    const reply = await client.call<Done>("DELETE", `/leases/${slot.id}`);
    if (reply.ok) return true;
    if (waitMs === giveBackFirstMs) terminal.err(`evenkeel: the slot of ${slot.node} could not be given back (${printable(reply.message)})${isAway(reply) ? "; trying again, Ctrl-C gives up" : ""}\n`);
    if (!isAway(reply) || signals.seen || performance.now() > untilMs) {
      terminal.err(`evenkeel: ${slot.node} keeps its slot, and nothing else in its groups goes down until it is free. When the hub is back: evenkeel lease give-back ${slot.id}\n`);
      return false;
    }
    await pause(waitMs, signals.next());
  }
}

const caught = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Signals do not end us while we hold a slot: they end the command, and the slot is given back. */
class Signals {
  child: ChildProcess | null = null;
  seen = false;
  #wake: (() => void) | null = null;
  readonly #handlers = new Map<NodeJS.Signals, () => void>();

  constructor() {
    for (const signal of caught) {
      const handler = (): void => {
        this.seen = true;
        this.#wake?.();
        // Ctrl-C reaches the whole foreground process group, the command too; passed on, it would have it twice.
        if (signal !== "SIGINT" || !process.stdin.isTTY) this.child?.kill(signal);
      };
      process.on(signal, handler);
      this.#handlers.set(signal, handler);
    }
  }

  /** Resolves with the next one. */
  next(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  end(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }
}
