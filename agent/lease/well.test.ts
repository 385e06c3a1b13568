import { describe, expect, test } from "vitest";
import { drain } from "../../shared/kinds/drain.ts";
import type { Output, Probe } from "../../shared/kinds/kind.ts";
import { services } from "../../shared/kinds/services.ts";
import { Well } from "./well.ts";
import type { ConvergeSeen, WellParts } from "./well.ts";

const LISTED = `
  -.mount                   loaded    active   mounted Root Mount
  boot.mount                not-found inactive dead    boot.mount
  broken.service            loaded    failed   failed  Broken
  graphical.target          loaded    active   active  Graphical Interface
  run-user-0.mount          loaded    failed   failed  /run/user/0
  ssh.service               loaded    active   running OpenBSD Secure Shell server
  web.service               loaded    inactive dead    start Web
`;
const LIST = "systemctl list-units --all --full --plain --no-legend --no-pager";
const links: Readonly<Record<string, string>> = { "/usr/lib/systemd/system/default.target": "graphical.target", "/etc/systemd/system/sshd.service": "/lib/systemd/system/ssh.service" };

function well(change: Partial<WellParts> & { listed?: string; answers?: Readonly<Record<string, Output>>; sections?: WellParts["sections"] } = {}): { well: Well; ran: string[] } {
  const ran: string[] = [];
  const probe: Probe = {
    stat: async () => null,
    read: async () => null,
    readText: async () => null,
    parsed: async () => null,
    list: async () => null,
    readLink: async (path) => links[path] ?? null,
    run: async (argv) => {
      ran.push(argv.join(" "));
      return change.answers?.[argv.join(" ")] ?? { code: 0, stdout: change.listed ?? LISTED, stderr: "" };
    },
  };
  const converged: ConvergeSeen = { outcome: "converged", changes: [], problems: [] };
  return { well: new Well({ probe, sections: () => new Map(), converge: () => converged, drained: () => new Set(), failedBefore: () => new Set(["broken.service", "run-user-0.mount"]), ...change }), ran };
}
const sectionsOf = (written: { services?: object; drain?: object }) => () => new Map<string, unknown>([["services", services.schema.parse(written.services ?? {})], ["drain", drain.schema.parse(written.drain ?? {})]]);

describe("a node is well", () => {
  test("when it has booted, nothing new has failed and all is converged; one process tells", async () => {
    const { well: one, ran } = well({ sections: sectionsOf({ services: { sshd: "running", ssh: "running", "getty@": { dropIns: { a: "x" } } } }) });
    expect(await one.look()).toEqual({ healthy: true, trouble: [] });
    expect(ran).toEqual([LIST]);
  });

  test("not when a unit that should run does not, unless it is drained", async () => {
    const sections = sectionsOf({ services: { web: "running", gone: "running", broken: "running" } });
    expect((await well({ sections }).well.look()).trouble).toEqual(["web.service should run, and is inactive (dead)", "gone.service should run, and is not loaded", "broken.service should run, and is failed (failed)"]);
    expect((await well({ sections, drained: () => new Set(["web.service", "gone.service", "broken.service"]) }).well.look()).trouble).toEqual([]);
  });

  test("not when a unit has failed that had not before, unless it does not matter", async () => {
    const failedBefore = () => new Set(["broken.service"]);
    expect((await well({ failedBefore }).well.look()).trouble).toEqual(["run-user-0.mount has failed (journalctl -u run-user-0.mount on the node says why)"]);
    expect((await well({ failedBefore, sections: sectionsOf({ drain: { health: { ignoreUnits: ["run-user-?.*"] } } }) }).well.look()).healthy).toBe(true);
    expect((await well({ failedBefore, sections: sectionsOf({ drain: { health: { ignoreUnits: ["run-user"] } } }) }).well.look()).healthy).toBe(false);
  });

  test("not while it is starting", async () => {
    expect((await well({ listed: LISTED.replace("loaded    active   active", "loaded    inactive dead  start") }).well.look()).trouble).toEqual(["the system is still starting: graphical.target has not been reached"]);
  });

  test("not when systemd does not answer: an unknown is never taken for health", async () => {
    const answers = { [LIST]: { code: 1, stdout: "", stderr: "Failed to connect to bus: No such file or directory\n" } };
    expect((await well({ answers }).well.look()).trouble).toEqual(["it is not known which units run: systemctl list-units ended with code 1: Failed to connect to bus: No such file or directory"]);
  });

  test("not before it was compared with its repository, nor when that failed where it matters", async () => {
    expect((await well({ converge: () => null }).well.look()).trouble).toEqual(["the agent has just started, and has not compared this node with its repository yet"]);
    expect((await well({ converge: () => null, sections: () => null }).well.look()).healthy).toBe(true);
    const change = { resource: "files//etc/a", action: "write /etc/a", why: "x", impact: "none", result: "failed", error: "disk\nfull" } as const;
    const failed = (changes: ConvergeSeen["changes"], problems: ConvergeSeen["problems"] = []) => well({ converge: () => ({ outcome: "failed", changes, problems }) }).well.look();
    expect((await failed([change])).healthy).toBe(true);
    expect((await failed([{ ...change, impact: "service" }])).trouble).toEqual(["files//etc/a: write /etc/a failed: disk"]);
    expect((await failed([], [{ code: "observe", message: "could not look at services" }])).trouble).toEqual(["could not look at services"]);
  });

  test("not when one of the owner's questions is answered with no", async () => {
    const sections = sectionsOf({ drain: { health: { commands: { answers: { command: ["ask"] }, missing: { command: ["nope"] } } } } });
    const answers = { ask: { code: 3, stdout: "503", stderr: "" }, nope: { code: 127, stdout: "", stderr: "nope: no such program" } };
    expect((await well({ sections, answers }).well.look()).trouble).toEqual(["the question answers is not answered with yes: 503", "the question missing is not answered with yes: nope: no such program"]);
  });

  test("says so much and no more", async () => {
    const listed = Array.from({ length: 50 }, (_, at) => `u${at}.service loaded failed failed x`).join("\n");
    const { healthy, trouble } = await well({ listed }).well.look();
    expect([healthy, trouble.length, trouble.at(-1)]).toEqual([false, 20, "and 32 more"]);
  });
});
