import { Command } from "commander";
import packageFile from "../../package.json" with { type: "json" };
import { processTerminal, type Terminal } from "./terminal.ts";

/** The `evenkeel` command. */

/**
 * Each group with the words that belong to it, loaded only when one of them is asked for: `status` need not wait for
 * schemas that `validate` has to load.
 */
const groups: readonly { readonly words: readonly string[]; readonly load: (terminal: Terminal) => Promise<readonly Command[]> }[] = [
  { words: ["init"], load: async (terminal) => [(await import("./init.ts")).initCommand(terminal)] },
  { words: ["validate"], load: async (terminal) => [(await import("./validate.ts")).validateCommand(terminal)] },
  { words: ["render"], load: async (terminal) => [(await import("./render.ts")).renderCommand(terminal)] },
  { words: ["status", "node", "log", "token", "login-link"], load: async (terminal) => (await import("./hub-commands.ts")).hubCommands(terminal) },
  { words: ["plan"], load: async (terminal) => [(await import("./plan.ts")).planCommand((await import("./coordination-commands.ts")).processParts(terminal))] },
  { words: ["rollout"], load: async (terminal) => [(await import("./rollout-commands.ts")).rolloutCommand((await import("./coordination-commands.ts")).processParts(terminal))] },
  {
    words: ["why", "leases", "checks", "updates", "drain", "reboot", "resume", "hold", "unhold", "abort", "clear", "settle", "fleetlock-id"],
    load: async (terminal) => {
      const { coordinationCommands, processParts } = await import("./coordination-commands.ts");
      return coordinationCommands(processParts(terminal));
    },
  },
  { words: ["lease"], load: async (terminal) => [(await import("./lease-run.ts")).leaseCommand((await import("./coordination-commands.ts")).processParts(terminal))] },
  { words: ["secret"], load: async (terminal) => [(await import("./secret-commands.ts")).secretCommand(terminal)] },
  { words: ["login"], load: async (terminal) => [(await import("./login.ts")).loginCommand(terminal)] },
  { words: ["hub"], load: async (terminal) => [(await import("./hub.ts")).hubCommand(terminal)] },
];

const program = new Command("evenkeel")
  .description("Push to Git, and every node of a small cluster becomes what the repository says.")
  .version(packageFile.version)
  .showHelpAfterError("(evenkeel --help shows all commands)")
  .showSuggestionAfterError();

const terminal = processTerminal();
const word = process.argv[2] ?? "";
const wanted = groups.filter(({ words }) => words.includes(word));
for (const group of wanted.length > 0 ? wanted : groups) {
  for (const command of await group.load(terminal)) program.addCommand(command);
}
withUsageCode(program);
// `evenkeel status | head` closes the pipe early; that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
await program.parseAsync();

/** What is wrong with the command line ends with 2, to be told apart from what the hub answers. */
function withUsageCode(command: Command): void {
  command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));
  for (const each of command.commands) withUsageCode(each);
}
