import { Command, Option } from "commander";
import { kinds } from "../shared/kinds/index.ts";
import { askControl } from "./control.ts";
import type { Reply, Request } from "./control.ts";
import { Journal } from "./journal.ts";
import { AGENT_VERSION, openMachine, takeLock } from "./machine.ts";
import { controlPath, readSettings, standardPlaces } from "./settings.ts";
import type { Places, Settings } from "./settings.ts";
import { paintFor, showConverge, showPlan } from "./show.ts";

/** The command on a node. Exit codes: 0 done, 1 failed or refused, 2 with `plan --check`: there is something to do. */

const paint = paintFor(process.stdout, process.env);
const places: Places = {
  settingsDir: process.env["EVENKEEL_SETTINGS_DIR"] ?? standardPlaces.settingsDir,
  stateDir: process.env["EVENKEEL_STATE_DIR"] ?? standardPlaces.stateDir,
  runDir: process.env["EVENKEEL_RUN_DIR"] ?? standardPlaces.runDir,
};

function fail(message: string, json = false): never {
  if (json) console.log(JSON.stringify({ error: message }));
  else console.error(`${paint.red("evenkeel-agent:")} ${message}`);
  process.exit(1);
}

/** Ends the process once everything has been read: process.exit() alone would cut off what a pipe has not taken yet. */
function finish(text: string, code: number): void {
  process.stdout.write(`${text}\n`, () => process.exit(code));
}

async function settingsOrFail(json = false): Promise<Settings> {
  const read = await readSettings(places);
  return read.ok ? read.settings : fail(read.message, json);
}

function progress(action: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${paint.dim(`… ${action.slice(0, (process.stderr.columns ?? 80) - 4)}`)}`);
}

function endProgress(): void {
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
}

async function ask(request: Request): Promise<Reply | null> {
  const reply = await askControl(controlPath(places), request, progress);
  endProgress();
  return reply;
}

const program = new Command("evenkeel-agent")
  .description("Makes this machine what the cluster's repository says.")
  .version(AGENT_VERSION)
  .showHelpAfterError("(evenkeel-agent --help lists the commands)");

program
  .command("run")
  .description("the resident agent, as systemd starts it")
  .action(async () => {
    const settings = await settingsOrFail();
    // Loaded here only: the other commands talk to no broker and no bus, and start the faster for it.
    const { runAgent } = await import("./run.ts");
    await runAgent(settings, places, kinds);
    process.exit(0);
  });

program
  .command("plan")
  .description("what would be done to make this machine what the repository says; changes nothing")
  .option("--branch <name>", "plan another branch's tip (asks the resident agent)")
  .option("--check", "exit with code 2 when there is something to do")
  .option("--json", "the report as JSON")
  .action(async (options: { branch?: string; check?: boolean; json?: boolean }) => {
    const settings = await settingsOrFail(options.json);
    const report = options.branch === undefined ? await planHere(settings, options.json) : await planBranch(options.branch, options.json);
    finish(options.json ? JSON.stringify(report, null, 2) : showPlan(report, paint), options.check && report.changes.length > 0 ? 2 : 0);
  });

/** Reading needs nobody's permission: the plan is made in this process, whether or not the agent runs. */
async function planHere(settings: Settings, json?: boolean) {
  const machine = await openMachine(settings, places, kinds);
  const choice = await machine.chooser.last();
  if (choice === null) return fail("no commit has been chosen yet: nothing was pushed, or the repository was never reached. See: journalctl -u evenkeel-agent", json);
  return choice.ok ? machine.engine.plan(choice.desired) : fail(choice.message, json);
}

async function planBranch(branch: string, json?: boolean) {
  const reply = await ask({ do: "plan", branch });
  if (reply === null) return fail("the agent is not running (systemctl start evenkeel-agent)", json);
  return reply.is === "plan" ? reply.report : fail(reply.is === "error" ? reply.message : "unexpected answer", json);
}

program
  .command("apply")
  .description("look at the repository now, and make this machine what it says")
  .option("--retry", "also try again what was left alone because it came back too often, or put back because it cut the node off")
  .addOption(new Option("--allow-removals <count>", "take away up to this many things in this run").argParser(Number))
  .option("--disruptive", "also do what takes down what others lean on; only where no hub gives this node its turn")
  .option("--json", "the report as JSON")
  .action(async (options: { retry?: boolean; allowRemovals?: number; disruptive?: boolean; json?: boolean }) => {
    const settings = await settingsOrFail(options.json);
    if (options.disruptive === true && settings.hub !== null) fail(`the hub gives this node its turn, drained and one after the other: "evenkeel why ${settings.node}" says what it waits for`, options.json);
    const removals = options.allowRemovals;
    if (removals !== undefined && !(Number.isInteger(removals) && removals >= 0)) fail("--allow-removals takes a whole number", options.json);
    const wishes = { ...(options.retry === undefined ? {} : { retry: options.retry }), ...(removals === undefined ? {} : { removalsAllowed: removals }), ...(options.disruptive === true && { disruptive: true }) };
    const reply = await ask({ do: "apply", ...wishes });
    if (reply?.is === "error") fail(reply.message, options.json);
    const report = reply?.is === "apply" ? reply.report : await applyHere(settings, wishes, options.json);
    const notes = reply?.is === "apply" ? reply.notes : [];
    for (const note of notes) console.error(`${paint.yellow("!")} ${note}`);
    finish(options.json ? JSON.stringify(report, null, 2) : showConverge(report, paint), (report.outcome === "converged" || report.outcome === "held") && notes.length === 0 ? 0 : 1);
  });

/** Without a resident agent, this process is the one that may change the machine. */
async function applyHere(settings: Settings, wishes: { retry?: boolean; removalsAllowed?: number; disruptive?: boolean }, json?: boolean) {
  if (!(await takeLock(places))) return fail("another evenkeel-agent is changing this machine", json);
  const machine = await openMachine(settings, places, kinds);
  await machine.engine.settle();
  await machine.repository.prepare();
  const fetched = await machine.repository.fetch();
  if (!fetched.ok) console.error(paint.yellow(fetched.message));
  const choice = fetched.ok && fetched.commit !== null ? await machine.chooser.choose(fetched.commit, null, machine.inventory.held) : await machine.chooser.last();
  if (choice === null) return fail("no commit has been chosen yet: nothing was pushed, or the repository cannot be reached", json);
  if (!choice.ok) return fail(choice.message, json);
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interrupt.abort());
  // Timers do not keep the process alive, and a change of the network is watched by them.
  setInterval(() => {}, 60_000);
  const removalsAllowed = Math.max(choice.mark.removalsAllowed, wishes.removalsAllowed ?? 0);
  const report = await machine.engine.converge(choice.desired, { cause: "asked", onProgress: progress, signal: interrupt.signal, removalsAllowed, retry: wishes.retry ?? false, disruption: wishes.disruptive === true ? "allowed" : "hold" });
  endProgress();
  await new Journal(`${places.stateDir}/log.jsonl`).add(report);
  return report;
}

program
  .command("status")
  .description("where this node stands")
  .option("--json", "as JSON")
  .action(async (options: { json?: boolean }) => {
    await settingsOrFail(options.json);
    const reply = await ask({ do: "status" });
    if (reply === null) fail("the agent is not running (systemctl start evenkeel-agent)", options.json);
    if (reply.is !== "status") fail(reply.is === "error" ? reply.message : "unexpected answer", options.json);
    if (options.json) console.log(JSON.stringify(reply.status, null, 2));
    else showStatus(reply.status as never);
  });

function showStatus(status: { node: string; cluster: string; commit: string | null; outcome: string; linked: boolean; failing: { resource: string; error: string }[]; refused: { commit: string; message: string } | null; problems: { message: string }[] }): void {
  const good = (status.outcome === "converged" || status.outcome === "held") && status.problems.length === 0;
  console.log(`${paint.bold(status.node)} of ${status.cluster}: ${good ? paint.green(status.outcome) : paint.red(status.outcome)} at ${status.commit?.slice(0, 8) ?? "no commit yet"}, ${status.linked ? "connected to the hub" : paint.yellow("no connection to the hub")}`);
  if (status.refused !== null) console.log(`${paint.yellow("!")} refused ${status.refused.commit.slice(0, 8)}: ${status.refused.message}`);
  for (const one of status.failing) console.log(`${paint.red("✗")} ${one.resource}: ${one.error}`);
  for (const problem of status.problems) console.log(`${paint.yellow("!")} ${problem.message}`);
}

program
  .command("log")
  .description("what was done on this node, newest last")
  .option("-n, --count <count>", "how many runs", "10")
  .option("--json", "a JSON report a line")
  .action(async (options: { count: string; json?: boolean }) => {
    const reports = await new Journal(`${places.stateDir}/log.jsonl`).last(Math.max(1, Number(options.count) || 10));
    for (const report of reports) console.log(options.json ? JSON.stringify(report) : showConverge(report, paint));
    if (reports.length === 0 && !options.json) console.log("nothing yet");
  });

program
  .command("enrol")
  .description('make this machine a node; "evenkeel node add NAME" on the hub prints the whole command')
  .requiredOption("--hub <url>", "the hub's address")
  .requiredOption("--node <name>", "this node's name")
  .requiredOption("--token <token>", "the one-time token")
  .requiredOption("--ca-pin <pin>", "fingerprint of the hub's CA")
  .requiredOption("--signers <list>", "whose commits this node will believe")
  .option("--commit <id>", "the commit to start from")
  .option("--git-url <url>", "follow a repository elsewhere than on the hub")
  .option("--force", "enrol again a machine that is a node already")
  .action(async (options: { hub: string; node: string; token: string; caPin: string; signers: string; commit?: string; gitUrl?: string; force?: boolean }) => {
    const before = await readSettings(places);
    if (before.ok && !options.force) fail(`this machine is already the node ${before.settings.node} of ${before.settings.cluster}. To enrol it anew, add --force.`);
    // Loaded here only: the resident agent does not need it.
    const { enrol } = await import("./link/enrol.ts");
    const enrolled = await enrol(options, places);
    if (!enrolled.ok) fail(enrolled.message);
    console.log(`${paint.green("✓")} this machine is now the node ${paint.bold(enrolled.settings.node)} of ${enrolled.settings.cluster}.`);
    if (enrolled.recipient !== null) console.log(`  Its recipient for secrets, to compare with what "evenkeel secret trust ${enrolled.settings.node}" shows:\n  ${enrolled.recipient}`);
    console.log("  Start the agent: systemctl enable --now evenkeel-agent");
  });

program
  .command("recipient")
  .description("the public half of this node's age key, to which its secrets are encrypted")
  .action(async () => {
    await settingsOrFail();
    const { nodeKey } = await import("./identity.ts");
    const key = await nodeKey(places);
    if (key.recipient === null) fail(key.problem ?? "this node has no age key");
    console.log(key.recipient);
  });

program
  .command("putback", { hidden: true })
  .description("puts back a change of the network that was not confirmed, as systemd starts it")
  .option("--id <id>", "of that change, whose time is up")
  .option("--early <milliseconds>", "how long before its time this is started", "0")
  .option("--boot", "before the network comes up")
  .action(async (options: { id?: string; early: string; boot?: boolean }) => {
    // Needs no settings: it works on what was written down.
    const { putBackCommand } = await import("./confirm/putback-command.ts");
    if (options.boot === true) await putBackCommand(places, { boot: true });
    else if (options.id !== undefined) await putBackCommand(places, { id: options.id, earlyMs: Number(options.early) });
    else fail("putback takes --id or --boot");
    process.exit(0);
  });

program
  .command("facts", { hidden: true })
  .description("slow facts about this machine, as JSON")
  .action(async () => {
    const { gatherFacts } = await import("./facts.ts");
    console.log(JSON.stringify(await gatherFacts()));
  });

// Not awaited at the top level: what ships is one CommonJS file, which starts faster and smaller than modules.
void program.parseAsync();
