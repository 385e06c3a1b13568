import { expect, test } from "vitest";
import type { BootId, CommitId, LeaseId } from "../../shared/ids.ts";
import type { LeaseMessage, LeaseOrder, Work } from "../../shared/protocol/lease.ts";
import { CHALLENGE_VALID_MS } from "../../shared/protocol/lease.ts";
import type { Standing } from "./standing.ts";
import { emptyStanding } from "./standing.ts";
import type { Memory, NodeEffect, NodeEvent } from "./step.ts";
import { nodeStep } from "./step.ts";

type Happening = { [Kind in NodeEvent["kind"]]: Omit<Extract<NodeEvent, { kind: Kind }>, "now" | "fresh"> }[NodeEvent["kind"]];

const boots = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"] as BootId[];

/** An agent on its machine: the standing outlives a restart of the process, the rest does not. */
class Agent {
  standing: Standing = emptyStanding;
  #memory: Memory;
  nowMs = 0;
  #fresh = 0;
  #boot = 0;

  constructor() {
    this.#memory = this.#newMemory();
    this.does({ kind: "started" });
  }

  #newMemory(): Memory {
    return { stream: `start ${++this.#fresh}`, seq: 0, bootId: boots[this.#boot] as BootId, answers: null, challenge: `fresh ${this.#fresh}`, challengeAt: { wallMs: this.nowMs, monoMs: this.nowMs }, health: { healthy: true, trouble: [], cordonedBy: null, commit: null }, progress: "", refuses: null };
  }

  /** What it wants done, as short words; what it says is in {@link word}. */
  does(happening: Happening): readonly string[] {
    const event = { ...happening, now: { wallMs: this.nowMs, monoMs: this.nowMs }, fresh: `fresh ${++this.#fresh}` } as NodeEvent;
    const result = nodeStep(this.standing, this.#memory, event);
    this.standing = result.standing;
    this.#memory = result.memory;
    return result.effects.map((effect: NodeEffect) => effect.do).filter((each) => each !== "say");
  }

  /** The process ends and starts again, in the same boot or another. */
  starts(how: "same boot" | "new boot"): readonly string[] {
    if (how === "new boot") this.#boot += 1;
    this.#memory = this.#newMemory();
    return this.does({ kind: "started" });
  }

  obeys(order: LeaseOrder): readonly string[] {
    return this.does({ kind: "order", order });
  }

  word(): LeaseMessage {
    const said = nodeStep(this.standing, this.#memory, { kind: "connected", now: { wallMs: this.nowMs, monoMs: this.nowMs }, fresh: `fresh ${++this.#fresh}` }).effects.find((effect) => effect.do === "say");
    if (said?.do !== "say") throw new Error("it says nothing");
    return said.word;
  }

  grant(lease: string, work: Work = { do: "reboot" }): LeaseOrder {
    const { bootId, challenge } = this.word();
    return { v: 1, kind: "grant", lease: lease as LeaseId, epoch: 1, bootId, challenge, work, drain: { timeoutMs: 60_000, onTimeout: "undo" } };
  }

  confirm(lease: string): LeaseOrder {
    const { bootId, challenge } = this.word();
    return { v: 1, kind: "confirm", lease: lease as LeaseId, epoch: 1, bootId, challenge };
  }

  get phase(): string | undefined {
    return this.standing.record?.phase;
  }
}

const lease = "l1";

test("one lease, from the grant to the release", () => {
  const agent = new Agent();

  // The grant answers the challenge that the node has said; it is remembered before the drain begins.
  expect(agent.obeys(agent.grant(lease))).toEqual(["drain"]);
  expect(agent.phase).toBe("draining");
  expect(agent.does({ kind: "drained", lease, failed: null })).toEqual([]);
  expect(agent.word().lease).toMatchObject({ lease, phase: "drained" });

  // The second word: from here on the lease is spent, on disk, before the reboot.
  expect(agent.obeys(agent.confirm(lease))).toEqual(["reboot"]);
  expect(agent.standing).toMatchObject({ taken: [lease], record: { phase: "rebooting" } });

  // Another boot: what was drained is put back, and that is all.
  expect(agent.starts("new boot")).toEqual(["restore"]);
  expect(agent.phase).toBe("resuming");
  agent.does({ kind: "restored", lease, failed: null });
  expect(agent.word().lease).toMatchObject({ phase: "back", result: { ok: true, rebooted: true } });

  // It says so until the hub has released it.
  agent.obeys({ v: 1, kind: "release", lease: lease as LeaseId });
  expect(agent.standing.record).toBeNull();
  expect(agent.word().lease).toBeNull();
});

test("killed in any phase, it goes on where it was, and reboots once", () => {
  const agent = new Agent();
  agent.obeys(agent.grant(lease));
  expect(agent.starts("same boot")).toEqual(["drain"]);
  agent.does({ kind: "drained", lease, failed: null });
  expect(agent.starts("same boot")).toEqual([]);
  agent.obeys(agent.confirm(lease));
  // The machine has not gone down yet: this is still the one reboot of the lease.
  expect(agent.starts("same boot")).toEqual(["reboot"]);
  expect(agent.starts("new boot")).toEqual(["restore"]);
  expect(agent.starts("same boot")).toEqual(["restore"]);
  expect(agent.starts("new boot")).toEqual(["restore"]);
  agent.does({ kind: "restored", lease, failed: null });
  expect(agent.starts("same boot")).toEqual([]);
  expect(agent.phase).toBe("back");
});

test("an order counts only for this boot, this challenge, no earlier hub, and for a minute", () => {
  const agent = new Agent();
  const good = agent.grant(lease) as Extract<LeaseOrder, { kind: "grant" }>;
  agent.obeys({ v: 1, kind: "ping", run: "a", ping: 1, epoch: 0 });
  const fresh = { ...good, challenge: agent.word().challenge };
  agent.standing = { ...agent.standing, epochSeen: 2 };
  for (const bad of [{ ...fresh, epoch: 1 }, { ...fresh, epoch: 2, challenge: "another" }, { ...fresh, epoch: 2, bootId: boots[1] as BootId }]) expect(agent.obeys(bad)).toEqual([]);
  agent.nowMs += CHALLENGE_VALID_MS + 1;
  expect(agent.obeys({ ...fresh, epoch: 2 })).toEqual([]);
  agent.nowMs -= CHALLENGE_VALID_MS + 1;
  expect(agent.obeys({ ...fresh, epoch: 2 })).toEqual(["drain"]);
});

test("what an earlier run of the hub ordered is void once the node has spoken to the next one", () => {
  const agent = new Agent();
  agent.obeys({ v: 1, kind: "ping", run: "a", ping: 1, epoch: 1 });
  const late = agent.grant(lease);
  agent.obeys({ v: 1, kind: "ping", run: "b", ping: 1, epoch: 1 });
  expect(agent.obeys(late)).toEqual([]);
  expect(agent.obeys(agent.grant(lease))).toEqual(["drain"]);
});

test("a ping that was overtaken does not make the node's word look old", () => {
  const agent = new Agent();
  for (const ping of [5, 9, 7]) agent.obeys({ v: 1, kind: "ping", run: "a", ping, epoch: 1 });
  expect(agent.word().answers).toEqual({ run: "a", ping: 9 });
});

test("a drain that fails, an abort, and a reboot that nobody ordered are undone, and the node declines", () => {
  for (const why of ["failed", "abort", "reboot"] as const) {
    const agent = new Agent();
    agent.obeys(agent.grant(lease));
    const effects = why === "failed" ? agent.does({ kind: "drained", lease, failed: "nginx would not stop" }) : why === "abort" ? agent.obeys({ v: 1, kind: "abort", lease: lease as LeaseId, why: "not now" }) : agent.starts("new boot");
    expect(effects).toEqual(["restore"]);
    agent.does({ kind: "restored", lease, failed: null });
    expect(agent.phase).toBe("declined");
  }
});

test("an abort that comes after the second word is void", () => {
  const agent = new Agent();
  agent.obeys(agent.grant(lease));
  agent.does({ kind: "drained", lease, failed: null });
  agent.obeys(agent.confirm(lease));
  expect(agent.obeys({ v: 1, kind: "abort", lease: lease as LeaseId, why: "not now" })).toEqual([]);
  expect(agent.phase).toBe("rebooting");
});

test("a lease that was taken once is refused for ever", () => {
  const agent = new Agent();
  agent.obeys(agent.grant(lease));
  agent.obeys({ v: 1, kind: "abort", lease: lease as LeaseId, why: "not now" });
  agent.does({ kind: "restored", lease, failed: null });
  agent.obeys({ v: 1, kind: "release", lease: lease as LeaseId });
  expect(agent.obeys(agent.grant(lease))).toEqual([]);
  expect(agent.word().refuses).toBe(lease);
});

test("what cannot be put back is tried three times; then the node is back, and not well", () => {
  const agent = new Agent();
  agent.obeys(agent.grant(lease));
  agent.obeys({ v: 1, kind: "abort", lease: lease as LeaseId, why: "not now" });
  expect(agent.does({ kind: "restored", lease, failed: "nginx would not start" })).toEqual(["log", "restore"]);
  expect(agent.does({ kind: "restored", lease, failed: "nginx would not start" })).toEqual(["log", "restore"]);
  expect(agent.does({ kind: "restored", lease, failed: "nginx would not start" })).toEqual(["log"]);
  expect(agent.word()).toMatchObject({ healthy: false, trouble: [expect.stringContaining("nginx would not start")], lease: { phase: "back", result: { ok: false } } });
});

test("a change is applied after the second word; killed in its middle it goes on, unless the machine went down with what was drained", () => {
  const agent = new Agent();
  agent.obeys(agent.grant(lease, { do: "converge" }));
  agent.does({ kind: "drained", lease, failed: null });
  expect(agent.obeys(agent.confirm(lease))).toEqual(["work"]);
  expect(agent.starts("same boot")).toEqual(["work"]);
  const commit = "1".repeat(40) as CommitId;
  expect(agent.does({ kind: "worked", lease, update: null, failed: null, reboot: false, commit })).toEqual(["restore"]);
  expect(agent.starts("same boot")).toEqual(["restore"]);
  agent.does({ kind: "restored", lease, failed: null });
  expect(agent.word().lease).toMatchObject({ phase: "back", result: { ok: true, rebooted: false, commit } });

  const other = new Agent();
  other.obeys(other.grant(lease, { do: "converge" }));
  other.does({ kind: "drained", lease, failed: null });
  other.obeys(other.confirm(lease));
  expect(other.starts("new boot")).toEqual(["restore"]);
  other.does({ kind: "restored", lease, failed: null });
  expect(other.word().lease).toMatchObject({ phase: "back", result: { ok: false, rebooted: true, failure: expect.stringContaining("went down in the middle") } });
});

test("a change that asks for a reboot is rebooted for once, drained", () => {
  const agent = new Agent();
  agent.obeys(agent.grant(lease, { do: "converge" }));
  agent.does({ kind: "drained", lease, failed: null });
  agent.obeys(agent.confirm(lease));
  expect(agent.does({ kind: "worked", lease, update: null, failed: null, reboot: true })).toEqual(["reboot"]);
  expect(agent.starts("new boot")).toEqual(["restore"]);
  agent.does({ kind: "restored", lease, failed: null });
  expect(agent.word().lease).toMatchObject({ phase: "back", result: { ok: true, rebooted: true } });
});

test("what it holds back is news, and is said as soon as it changes", () => {
  const agent = new Agent();
  const health = { healthy: true, trouble: [], cordonedBy: null, commit: null };
  const standing = { commit: "1".repeat(40) as CommitId, outcome: "held" as const, heldBack: ["services/store.service"], failure: null };
  const seq = agent.word().seq;
  agent.does({ kind: "health", health: { ...health, standing } });
  expect(agent.word()).toMatchObject({ standing, seq: seq + 1 });
  agent.does({ kind: "health", health: { ...health, standing: { ...standing } } });
  agent.does({ kind: "health", health: { ...health, standing: { ...standing, outcome: "converged", heldBack: [] } } });
  expect(agent.word().standing?.heldBack).toEqual([]);
});
