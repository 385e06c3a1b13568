import * as z from "zod";
import { observeUnits, stopStep, unitGate } from "./drain-units.ts";
import type { UnitsFacts } from "./drain-units.ts";
import { defineKind } from "./kind.ts";
import type { Act, DrainStep, Output, Probe } from "./kind.ts";
import { fullUnitName, isTemplateUnit, writtenName } from "./unit-name.ts";

/** Things of one sort in a section: what one node really has is a handful. */
const ENTRIES_MAX = 100;
const SAID_MAX_CHARS = 1_000;
/** The agent is what drains. */
const AGENT_UNIT = "evenkeel-agent.service";

const argument = z.string().max(4_096).regex(/^[^\0]*$/, "an argument of a program has no NUL");
const argv = z
  .array(argument)
  .min(1)
  .max(64)
  .refine((words) => words[0] !== "", "the first word is the program")
  .transform((words) => words as [string, ...string[]]);
const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "a name is lower-case letters, digits and hyphens, like leave-pool");
const order = (usual: number) => z.int().min(0).max(1_000).default(usual).describe(`Lower goes first, and comes back last; what has the same order does not depend on each other. Usual: commands 20, units 50`);
const timeout = (usual: number) => z.number().min(0.1).max(3_600).default(usual);
const few = <T extends z.ZodType>(of: z.ZodRecord<z.ZodType<string, string>, T>) => of.refine((entries) => Object.keys(entries).length <= ENTRIES_MAX, `at most ${ENTRIES_MAX}`).default({});

const unit = z.strictObject({
  order: order(50),
  timeoutSeconds: timeout(120).describe("How long it may take to stop, and to start again"),
});

const hook = z.strictObject({
  drain: argv.describe("A program and its arguments, run without a shell as root; exit code 0 is success. After a crash it may run a second time"),
  resume: argv.describe("What puts it back, in the same way. It also runs when `drain` failed or was interrupted, and may run a second time; [\"true\"] if nothing has to be put back"),
  check: argv.optional().describe("Exit code 0 says that this is drained already. When it says so before we came, somebody else did it, and it is neither done nor put back; any other exit code says no"),
  order: order(20),
  timeoutSeconds: timeout(60).describe("How long `drain` may take, and `resume`; `check` has 10 s"),
});

const look = (usual: number) =>
  z.strictObject({
    command: argv.describe("A program and its arguments, run without a shell as root; exit code 0 is well, and else the end of its output says why not"),
    timeoutSeconds: timeout(usual).describe("Seconds until it counts as failed"),
  });

const ignored = z.string().regex(/^[A-Za-z0-9:_.\\@*?-]{1,255}$/, "a unit's name, or a pattern with * and ?, like run-*.mount");

const schema = z
  .strictObject({
    units: few(z.record(writtenName, unit)).describe("systemd units to stop, by name; `nginx` means nginx.service. Only those that run are stopped, together with the sockets, timers and paths that would start them, and only they are started again"),
    commands: few(z.record(label, hook)).describe("Commands of your own, by name: leaving a pool, failing over a database"),
    gates: few(z.record(label, look(10))).describe("Questions, by name, that must all be answered with exit code 0 before this node may go"),
    health: z
      .strictObject({
        ignoreUnits: z.array(ignored).max(ENTRIES_MAX).default([]).describe("Failed units that do not matter; * and ? are wildcards"),
        commands: few(z.record(label, look(10))).describe("Questions, by name, that must all be answered with exit code 0 for the node to be well"),
      })
      .prefault({})
      .describe("What it means that this node is well, besides: units that should run do, none has failed, and the last converge has succeeded"),
  })
  .transform((written, check) => {
    const units: Record<string, z.output<typeof unit>> = {};
    for (const [as, entry] of Object.entries(written.units)) {
      const name = fullUnitName(as);
      const refuse = (message: string) => check.addIssue({ code: "custom", path: ["units", as], message });
      if (units[name] !== undefined) refuse(`${as} is ${name}, which is here already: write one of the two`);
      if (isTemplateUnit(name)) refuse(`${name} is a template, which cannot run: name an instance of it, such as ${name.replace("@.", "@one.")}`);
      if (name === AGENT_UNIT) refuse("the agent is what drains the node, and does not stop itself: leave it out");
      units[name] = entry;
    }
    return { ...written, units };
  });

export type DrainWant = z.output<typeof schema>;
type Hook = DrainWant["commands"][string];

interface DrainFacts {
  readonly units: UnitsFacts;
  /** What the `check` of a command answered, by the command's name. */
  readonly checks: ReadonlyMap<string, Output>;
}

interface GateFacts {
  readonly units: UnitsFacts;
  readonly gates: ReadonlyMap<string, Output>;
}

const CHECK_TIMEOUT_MS = 10_000;
/** What the shell, timeout(1) and our own runner answer when a program could not be run or did not end. */
const NO_ANSWER = new Set([124, 126, 127]);

/** The owner's own part of a drain: units, hooks, gates, and what "well" means on this node. */
export const drain = defineKind({
  name: "drain",
  summary: "What this node does before it goes down for an update or a reboot, what may keep it from going, and when it is well",
  schema,
  drainsOnly: true,

  observe: async () => null,
  plan: () => [],

  drain: {
    async observe(want: DrainWant, probe): Promise<DrainFacts> {
      const hooks = Object.entries(want.commands).flatMap(([name, { check }]) => (check === undefined ? [] : [[name, check, CHECK_TIMEOUT_MS] as const]));
      const [units, checks] = await Promise.all([observeUnits(Object.keys(want.units), probe), askAll(hooks, probe)]);
      return { units, checks };
    },
    steps: (want: DrainWant, facts: DrainFacts) => [
      ...Object.keys(want.commands).toSorted().map((name) => hookStep(name, want.commands[name]!, facts.checks.get(name))),
      ...Object.keys(want.units).toSorted().map((name) => stopStep(name, want.units[name]!, facts.units, want.units)),
    ],
  },

  gate: {
    async observe(want: DrainWant, probe): Promise<GateFacts> {
      const questions = Object.entries(want.gates).map(([name, { command, timeoutSeconds }]) => [name, command, timeoutSeconds * 1_000] as const);
      const [units, gates] = await Promise.all([observeUnits(Object.keys(want.units), probe), askAll(questions, probe)]);
      return { units, gates };
    },
    reasons: (want: DrainWant, facts: GateFacts) =>
      [
        ...unitGate(Object.keys(want.units).toSorted(), facts.units),
        ...[...facts.gates].flatMap(([name, output]) => (output.code === 0 ? [] : [`the gate ${name} says no: ${saidAtEnd(output)}`])),
      ].map((text) => ({ text, holds: "itself" })),
  },
});

function hookStep(name: string, { drain: argv, resume, order, timeoutSeconds }: Hook, checked: Output | undefined): DrainStep {
  const act = (doing: string, words: [string, ...string[]]): Act => ({ doing, argv: words, timeoutMs: timeoutSeconds * 1_000 });
  return {
    name: `commands/${name}`,
    order,
    drain: act(`running ${name}`, argv),
    undo: act(`taking back ${name}`, resume),
    already: checked === undefined ? null : checked.code === 0,
    ...(checked !== undefined && NO_ANSWER.has(checked.code) ? { cannot: `the check of ${name} gave no answer, so that nothing tells whether somebody else did it before: ${saidAtEnd(checked)}` } : {}),
  };
}

async function askAll(questions: readonly (readonly [name: string, argv: readonly [string, ...string[]], timeoutMs: number])[], probe: Probe): Promise<ReadonlyMap<string, Output>> {
  return new Map(await Promise.all(questions.map(async ([name, argv, timeoutMs]) => [name, await probe.run(argv, { timeoutMs })] as const)));
}

/** The end of what a program said, which is where the reason stands; its exit code if it said nothing. */
export function saidAtEnd(output: Output): string {
  const said = `${output.stdout}\n${output.stderr}`.trim();
  if (said === "") return `it ended with code ${output.code} and said nothing`;
  return said.length > SAID_MAX_CHARS ? `…${said.slice(-SAID_MAX_CHARS)}` : said;
}
