import { describe, expect, test } from "vitest";
import { drain } from "./drain.ts";
import { observeUnits, stopStep } from "./drain-units.ts";
import type { Output, Probe } from "./kind.ts";

describe("the section drain", () => {
  test("fills in what is usual, and names units in full", () => {
    expect(drain.schema.parse({ units: { nginx: {} }, commands: { pool: { drain: ["a"], resume: ["b"] } } })).toEqual({
      units: { "nginx.service": { order: 50, timeoutSeconds: 120 } },
      commands: { pool: { drain: ["a"], resume: ["b"], order: 20, timeoutSeconds: 60 } },
      gates: {},
      health: { ignoreUnits: [], commands: {} },
    });
  });

  test.each([
    [{ units: { nginx: {}, "nginx.service": {} } }, "here already"],
    [{ units: { "evenkeel-agent": {} } }, "does not stop itself"],
    [{ units: { "w@": {} } }, "template"],
    [{ units: { nginx: { order: -1 } } }, "order"],
    [{ commands: { pool: { drain: ["a"] } } }, "resume"],
    [{ commands: { pool: { drain: [], resume: ["b"] } } }, "drain"],
    [{ commands: { pool: { drain: [""], resume: ["b"] } } }, "the program"],
    [{ commands: { pool: { drain: ["a\0"], resume: ["b"] } } }, "NUL"],
    [{ commands: { pool: { drain: "leave pool", resume: ["b"] } } }, "array"],
    [{ commands: { Pool: { drain: ["a"], resume: ["b"] } } }, "lower-case"],
    [{ health: { ignoreUnits: ["a b"] } }, "pattern"],
    [{ gates: Object.fromEntries(Array.from({ length: 101 }, (_, at) => [`g${at}`, { command: ["true"] }])) }, "at most 100"],
  ])("refuses %j", (section, part) => {
    const result = drain.schema.safeParse(section);
    expect(result.success ? "accepted" : JSON.stringify(result.error.issues)).toContain(part);
  });
});

/** systemd that answers from a table: unit → its properties, besides the usual ones. */
function systemd(units: Readonly<Record<string, Readonly<Record<string, string>>>>): Probe {
  const none = async () => null;
  const run = async (argv: readonly string[]): Promise<Output> => {
    const blocks = argv.slice(argv.indexOf("--") + 1).map((name) => {
      const unit = units[name] ?? { LoadState: "not-found", ActiveState: "inactive" };
      return Object.entries({ Id: name, Names: name, LoadState: "loaded", ActiveState: "active", SubState: "running", Type: "simple", ...unit }).map(([key, value]) => `${key}=${value}`).join("\n");
    });
    return { code: 0, stdout: `${blocks.join("\n\n")}\n`, stderr: "" };
  };
  return { stat: none, read: none, readText: none, parsed: none, readLink: none, list: none, run };
}

const entry = { order: 50, timeoutSeconds: 10 };

async function stepOf(units: Parameters<typeof systemd>[0], listed: Readonly<Record<string, typeof entry>> = { "a.service": entry }) {
  const { drain: act, undo, already, units: down, cannot } = stopStep("a.service", entry, await observeUnits(Object.keys(listed), systemd(units)), listed);
  const rest = (argv: readonly string[] | undefined) => argv?.slice(argv.indexOf("--no-ask-password") + 1).filter((word) => word !== "--").join(" ") ?? null;
  return { stop: rest(act.argv), undo: rest(undo?.argv), already, down, cannot };
}

describe("stopping a unit", () => {
  test("what goes down with it comes back with it, and what depends on that as well", async () => {
    const units = { "a.service": { RequiredBy: "b.service idle.service", ConsistsOf: "c.service" }, "b.service": { BoundBy: "d.service" }, "c.service": {}, "d.service": {}, "idle.service": { ActiveState: "inactive" } };
    expect(await stepOf(units)).toMatchObject({ stop: "stop a.service", undo: "start a.service b.service c.service d.service", down: ["a.service", "b.service", "c.service", "d.service"] });
    expect(await stepOf(units, { "a.service": entry, "b.service": entry }), "one that has its own step").toMatchObject({ undo: "start a.service c.service d.service" });
  });

  test("what would start it again is stopped first and started again", async () => {
    expect(await stepOf({ "a.service": { TriggeredBy: "a.socket a.path" }, "a.socket": {}, "a.path": { ActiveState: "inactive" } })).toMatchObject({ stop: "stop a.socket a.service", undo: "start a.socket a.service" });
    expect(await stepOf({ "a.service": { ActiveState: "inactive", TriggeredBy: "a.timer" }, "a.timer": {} })).toMatchObject({ undo: "start a.timer", already: false });
  });

  test.each([
    ["one that does not run", { ActiveState: "inactive" }, { undo: null, already: true }],
    ["one that has failed", { ActiveState: "failed" }, { undo: null, already: true }],
    ["one that somebody else is stopping", { ActiveState: "deactivating" }, { undo: null, already: false }],
    ["one that runs once and ends", { ActiveState: "activating", Type: "oneshot" }, { undo: null, already: false }],
    ["one that keeps failing", { ActiveState: "activating", SubState: "auto-restart" }, { undo: "--no-block start a.service", already: false }],
    ["one that is not there", { LoadState: "not-found", ActiveState: "inactive" }, { undo: null, cannot: expect.stringContaining("there is no such unit") as string }],
  ])("%s", async (_what, state, expected) => {
    expect(await stepOf({ "a.service": state })).toMatchObject(expected);
  });
});
