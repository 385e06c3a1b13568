import { describe, expect, test } from "vitest";
import { forecast } from "./forecast.ts";
import { matches, resumed } from "./step.ts";
import { cancelled } from "./step.ts";
import { RolloutTwin } from "./twin.ts";

const three = ["n1", "n2", "n3"];

describe("an update", () => {
  test("goes to the canary, which is watched; the others get exactly what it got, one after the other, the hub's machine last", () => {
    const twin = new RolloutTwin(three, { canary: ["n2"] as never }, { hubNode: "n1" as never });
    twin.start();
    expect(twin.asked).toEqual(["n2", "n3", "n1"]);
    expect(twin.rollout.nodes.map(({ node, role }) => `${node} ${role}`)).toEqual(["n2 canary", "n3 node", "n1 hub"]);
    expect(twin.states).toBe("n2 leased, n3 waiting, n1 waiting");
    expect(twin.goes("n2", [{ name: "tool", from: "1.0", to: "2.0" }, { name: "lib", from: "1", to: "2" }])).toBeNull();
    expect(twin.rollout.target).toEqual([{ name: "tool", version: "2.0" }, { name: "lib", version: "2" }]);
    twin.waits(9 * 60_000 - 10_000);
    expect(twin.states).toBe("n2 done, n3 waiting, n1 waiting");
    twin.waits(120_000);
    expect(twin.states).toBe("n2 done, n3 leased, n1 waiting");
    // The archive has moved on meanwhile; that is nobody's business now.
    twin.offers("n3", "tool", "3.0");
    expect(twin.goes("n3")).toEqual(twin.rollout.target);
    expect(twin.states).toBe("n2 done, n3 done, n1 leased");
    twin.goes("n1");
    expect(twin.rollout).toMatchObject({ phase: "done", halt: null });
    expect(twin.going("n3").timeline.map(({ phase }) => phase)).toEqual(["draining", "drained", "working", "checking", "soaking", "done"].filter((phase) => twin.going("n3").timeline.some((each) => each.phase === phase)));
  });

  test("leaves alone who has nothing to do, and then the first that has is the canary", () => {
    const twin = new RolloutTwin(three, { canary: ["n1"] as never });
    twin.offers("n1", "", "");
    twin.start();
    expect(twin.rollout.nodes.map(({ node, role, state }) => `${node} ${role} ${state}`)).toEqual(["n1 canary skipped", "n2 canary leased", "n3 node waiting"]);
  });

  test("never takes an unknown for nothing to do, nor for a reason to reboot", () => {
    const twin = new RolloutTwin(three);
    twin.offers("n1", "", "", { error: "the package lists could not be fetched" });
    twin.start();
    expect(twin.going("n1").state).toBe("leased");
  });

  test("does not wait for a node that has left the repository meanwhile", () => {
    const twin = new RolloutTwin([...three, "n4"], { canarySoakMinutes: 0 });
    twin.start();
    twin.push(["n1", "n3", "n4"]);
    twin.goes("n1");
    twin.waits(5_000);
    expect(twin.states).toBe("n1 done, n2 skipped, n3 leased, n4 waiting");
    expect(twin.going("n2").why).toContain("no longer in the repository");
  });

  test("waits for a node that somebody has drained by hand", () => {
    const twin = new RolloutTwin(three);
    twin.ask("n1", { work: { do: "hold" } });
    twin.start();
    expect(twin.states).toBe("n1 waiting, n2 waiting, n3 waiting");
    twin.reaches("n1", "back", { result: { ok: true, rebooted: false, failure: null, update: null } });
    twin.waits(70_000);
    twin.says("n1", { lease: null });
    twin.waits(5_000);
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
  });
});

describe("the first sign of trouble halts it", () => {
  test("a failed update: the others are left alone, until the owner says how to go on", () => {
    const twin = new RolloutTwin(three, { canarySoakMinutes: 0 });
    twin.start();
    twin.goes("n1");
    twin.goes("n2", [], "postinst ended with 1");
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { node: "n2" } });
    expect(twin.rollout.halt?.why).toContain("postinst ended with 1");
    twin.waits(3_600_000);
    expect(twin.states).toBe("n1 done, n2 failed, n3 waiting");

    expect(resumed(twin.rollout, undefined)).toHaveProperty("refused");
    twin.change(resumed(twin.rollout, "skip"));
    twin.goes("n3");
    expect(twin.rollout.phase).toBe("done");
    expect(twin.states).toBe("n1 done, n2 skipped, n3 done");
  });

  test("a failed canary cannot be skipped: nobody would know what the others get", () => {
    const twin = new RolloutTwin(three);
    twin.start();
    twin.goes("n1", [], "postinst ended with 1");
    expect(resumed(twin.rollout, "skip")).toHaveProperty("refused");
    twin.change(resumed(twin.rollout, "retry"));
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
  });

  test("a node that does not come back; when it is back by itself, the owner's word goes on", () => {
    const twin = new RolloutTwin(three, { nodeMinutes: 5 });
    twin.start("reboot");
    twin.drainsAndGoes("n1");
    twin.waits(6 * 60_000);
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { node: "n1" } });
    twin.boots("n1", "back");
    twin.waits(70_000);
    twin.says("n1", { lease: null });
    expect(twin.states).toBe("n1 done, n2 waiting, n3 waiting");
    twin.waits(3_600_000);
    expect(twin.rollout.phase).toBe("halted");
    twin.change(resumed(twin.rollout, undefined));
    twin.waits(11 * 60_000);
    expect(twin.states).toBe("n1 done, n2 leased, n3 waiting");
  });

  test("a node that cannot be drained", () => {
    const twin = new RolloutTwin(three);
    twin.start();
    twin.reaches("n1", "undoing", { why: "nginx would not stop" });
    twin.reaches("n1", "declined", { why: "nginx would not stop" });
    expect(twin.rollout.halt).toMatchObject({ node: "n1" });
    expect(twin.rollout.halt?.why).toContain("nginx would not stop");
  });

  test("a node that is called off again and again: it is asked for anew, but not for ever", () => {
    const twin = new RolloutTwin(three);
    twin.start();
    for (let round = 1; round <= 3; round++) {
      expect(twin.going("n1")).toMatchObject({ state: "leased", attempts: round });
      twin.vanishes("n3");
      twin.reaches("n1", "drained");
      twin.waits(70_000);
      twin.reaches("n1", "declined", { why: "n3 is away" });
      twin.says("n1", { lease: null });
      twin.boots("n3");
      twin.says("n3", { lease: null });
      twin.waits(10_000);
    }
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { node: "n1" } });
  });

  test("a node that falls ill after its turn", () => {
    const twin = new RolloutTwin(three);
    twin.start();
    twin.goes("n1");
    twin.says("n1", { healthy: false, trouble: ["nginx.service has failed"] });
    twin.waits(10_000);
    expect(twin.rollout.phase).toBe("running");
    twin.waits(20_000);
    expect(twin.rollout.halt?.why).toContain("nginx.service has failed");
  });

  test("a node that misses the one that is away by order has not fallen ill, nor while that one comes back", () => {
    const twin = new RolloutTwin(three, { canarySoakMinutes: 0 });
    twin.start();
    twin.goes("n1");
    expect(twin.states).toBe("n1 done, n2 leased, n3 waiting");
    twin.says("n1", { gates: [{ kind: "frr", text: "the BGP session with n2 is not up", holds: "others", missing: ["n2"] }] });
    twin.waits(60_000);
    expect(twin.rollout.phase).toBe("running");
    twin.goes("n2");
    // It looks again every ten seconds; until then nobody else goes.
    expect(twin.states).toBe("n1 done, n2 done, n3 waiting");
    twin.waits(10_000);
    expect(twin.rollout.phase).toBe("running");
    twin.says("n1", { gates: [] });
    expect(twin.states).toBe("n1 done, n2 done, n3 leased");
  });

  test("a node that misses for good the one that was away", () => {
    const twin = new RolloutTwin(three, { canarySoakMinutes: 0 });
    twin.start();
    twin.goes("n1");
    twin.says("n1", { gates: [{ kind: "frr", text: "the BGP session with n2 is not up", holds: "others", missing: ["n2"] }] });
    twin.goes("n2");
    twin.waits(35_000);
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { why: "n1 is not well any more after its turn: the BGP session with n2 is not up" } });
  });

  test("burn 9: a node that has rebooted, and still needs a reboot", () => {
    const twin = new RolloutTwin(three, { canarySoakMinutes: 0 });
    twin.start("reboot");
    const reboots = (node: string): void => {
      twin.drainsAndGoes(node);
      twin.boots(node, "back");
      twin.reaches(node, "back", { result: { ok: true, rebooted: true, failure: null, update: null } });
      twin.waits(70_000);
      twin.says(node, { lease: null });
    };
    twin.offers("n1", "", "", { reboot: { needed: "yes", why: ["libc6 asks for it"] } });
    reboots("n1");
    // What it said before its turn is no answer: it is waited for.
    expect(twin.states).toBe("n1 done, n2 waiting, n3 waiting");
    twin.offers("n1", "", "");
    twin.waits(5_000);
    expect(twin.states).toBe("n1 done, n2 leased, n3 waiting");
    reboots("n2");
    twin.offers("n2", "", "", { reboot: { needed: "yes", why: ["libc6 asks for it"] } });
    twin.waits(5_000);
    expect(twin.rollout).toMatchObject({ phase: "halted", halt: { why: "n2 failed: it has rebooted, and still needs a reboot: libc6 asks for it" } });
    expect(twin.states).toBe("n1 done, n2 failed, n3 waiting");
    // Somebody has seen to it, or will: the third goes, and when it says nothing for two minutes, that is that.
    twin.change(resumed(twin.rollout, "skip"));
    expect(twin.states).toBe("n1 done, n2 skipped, n3 leased");
    reboots("n3");
    expect(twin.rollout.phase).toBe("running");
    twin.waits(121_000);
    expect(twin.rollout.phase).toBe("done");
  });
});

describe("windows", () => {
  const night = { windows: { night: { opens: "0 2 * * *", zone: "Etc/UTC", lengthMinutes: 120 } } };

  test("open one rollout a night, and not in a blackout", () => {
    const twin = new RolloutTwin(three, { windows: ["night"], nodeMinutes: 10, blackouts: [{ from: "2026-01-02", to: "2026-01-02", zone: "Etc/UTC", why: "a holiday" }] }, night);
    twin.waits(60_000);
    expect(twin.campaigns.rollouts.size).toBe(0);
    twin.wallOffsetMs = 2 * 3_600_000;
    twin.waits(10_000);
    expect(twin.rollout).toMatchObject({ startedBy: "window night", phase: "running", window: { name: "night" } });
    twin.change({ ...twin.rollout, phase: "cancelled" });
    twin.waits(60_000);
    expect(twin.campaigns.rollouts.size).toBe(1);
    twin.wallOffsetMs = 26 * 3_600_000;
    twin.waits(10_000);
    expect(twin.campaigns.rollouts.size).toBe(1);
    twin.wallOffsetMs = 50 * 3_600_000;
    twin.waits(10_000);
    expect(twin.campaigns.rollouts.size).toBe(2);
  });

  test("a node starts only if it will be done before the window closes; whoever is at it comes back first", () => {
    const twin = new RolloutTwin(three, { windows: ["night"], nodeMinutes: 10, canarySoakMinutes: 0 }, night);
    twin.wallOffsetMs = 2 * 3_600_000;
    twin.waits(10_000);
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
    // The clock jumps by years: that can only deny.
    twin.wallOffsetMs += 5 * 365 * 86_400_000 + 6 * 3_600_000;
    twin.waits(5_000);
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
    twin.goes("n1");
    expect(twin.rollout.phase).toBe("done");
    expect(twin.states).toBe("n1 done, n2 skipped, n3 skipped");
    expect(twin.going("n3").why).toContain("closes");
    // Nobody takes those years for how long a node needs.
    expect(twin.campaigns.durations.size).toBe(0);
  });

  test("an owner who halted is not overruled by the next night", () => {
    const twin = new RolloutTwin(three, { windows: ["night"], nodeMinutes: 10 }, night);
    twin.start();
    twin.goes("n1", [], "broken");
    twin.wallOffsetMs = 2 * 3_600_000;
    twin.waits(10_000);
    expect(twin.campaigns.rollouts.size).toBe(1);
    expect(twin.rollout.phase).toBe("halted");
  });
});

test("a restart of the hub begins to watch the canary anew, and forgets nothing else", () => {
  const twin = new RolloutTwin(three);
  twin.start();
  twin.goes("n1");
  twin.waits(8 * 60_000);
  twin.wakes();
  twin.restart();
  for (const node of three) twin.says(node);
  twin.waits(8 * 60_000);
  expect(twin.states).toBe("n1 done, n2 waiting, n3 waiting");
  twin.waits(3 * 60_000);
  expect(twin.states).toBe("n1 done, n2 leased, n3 waiting");
  expect(twin.rollout.target).toEqual([{ name: "tool", version: "2.0" }]);
});

test("cancelled: whoever has a slot comes back, and nobody starts", () => {
  const twin = new RolloutTwin(three, { canarySoakMinutes: 0 });
  twin.start();
  const ended = cancelled(twin.rollout, 0);
  if ("refused" in ended) throw new Error(ended.refused);
  twin.change(ended.rollout);
  expect(twin.states).toBe("n1 leased, n2 skipped, n3 skipped");
  twin.goes("n1");
  expect(twin.states).toBe("n1 done, n2 skipped, n3 skipped");
  expect(twin.rollout.phase).toBe("cancelled");
});

test("a forecast is made of what was measured, the soak of the canary, and the window", () => {
  const twin = new RolloutTwin(three, { nodeMinutes: 30 });
  twin.start("update", { window: { name: "night", closesAtMs: 1_767_225_600_000 + 3_600_000 } });
  const now = { wallMs: 1_767_225_600_000 + twin.nowMs, monoMs: twin.nowMs };
  expect(forecast(twin.rollout, null, new Map(), now)).toMatchObject({ fits: "no", text: expect.stringContaining("the window closes before that") });
  const measured = new Map(three.map((node) => [node as never, 120_000]));
  const seen = forecast(twin.rollout, null, measured, now);
  expect(seen.fits).toBe("yes");
  // Three times two minutes, less what n1 has had, and ten minutes of watching.
  expect(seen.doneAtMs).toBeGreaterThan(now.wallMs + 15 * 60_000);
  expect(seen.doneAtMs).toBeLessThanOrEqual(now.wallMs + 16 * 60_000);
});

test("patterns are those of a shell", () => {
  expect(matches("linux-image-*", "linux-image-6.1.0-21-amd64")).toBe(true);
  expect(matches("linux-image-*", "my-linux-image-x")).toBe(false);
  expect(matches("libc?", "libc6")).toBe(true);
  expect(matches("g++", "g++")).toBe(true);
  expect(matches("a.c", "abc")).toBe(false);
});
