import { describe, expect, test } from "vitest";
import { CommitRollout } from "../../shared/config/policy.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { CommitOrder } from "../../shared/protocol/commit.ts";
import { RolloutTwin } from "./twin.ts";

const three = ["n1", "n2", "n3"];
const canary = { rollout: CommitRollout.parse({ commits: "canary", canary: ["n1"], soakMinutes: 2 }) };

/** What the others were told, in order. */
class Told extends RolloutTwin {
  readonly told: CommitOrder[] = [];
  get course() {
    return this.conductor?.course ?? null;
  }

  override advance(): void {
    super.advance();
    const order = this.conductor?.hello("n2" as NodeName) ?? null;
    if (order !== null && JSON.stringify(order) !== JSON.stringify(this.told.at(-1))) this.told.push(order);
  }
}

test("commits that go everywhere at once are nobody's turn", () => {
  const twin = new Told(three);
  twin.waits(5_000);
  expect(twin.course).toBeNull();
  expect(twin.told).toEqual([]);
});

describe("the canary takes a commit first", () => {
  test("the others follow when it holds the commit and has been well with it for long enough", () => {
    const twin = new Told(three, {}, canary);
    twin.waits(5_000);
    expect(twin.course).toMatchObject({ state: "waiting", canaries: ["n1"] });
    twin.stands("n1");
    expect(twin.course).toMatchObject({ state: "watched" });
    expect(twin.told.at(-1)).toMatchObject({ take: false, commit: twin.state.durable.commit });
    twin.waits(110_000);
    expect(twin.course?.state).toBe("watched");
    twin.waits(20_000);
    expect(twin.course?.state).toBe("released");
    expect(twin.told.at(-1)).toMatchObject({ take: true, commit: twin.state.durable.commit });
    // The canary itself need not be told, and what is released stays so, whatever becomes of the canary.
    expect(twin.conductor?.hello("n1" as NodeName)).toBeNull();
    twin.vanishes("n1");
    twin.wakes();
    twin.restart();
    twin.waits(5_000);
    expect(twin.course?.state).toBe("released");
  });

  test("watching begins anew when it falls ill, and with each commit", () => {
    const twin = new Told(three, {}, canary);
    twin.stands("n1");
    twin.waits(100_000);
    twin.says("n1", { healthy: false, trouble: ["nginx.service has failed"] });
    expect(twin.course).toMatchObject({ state: "bad", text: expect.stringContaining("nginx.service has failed") });
    twin.says("n1", { healthy: true, trouble: [] });
    twin.waits(100_000);
    expect(twin.course?.state).toBe("watched");
    twin.push(three);
    expect(twin.course?.state).toBe("waiting");
    twin.stands("n1");
    twin.waits(100_000);
    expect(twin.course?.state).toBe("watched");
    twin.waits(30_000);
    expect(twin.course?.state).toBe("released");
  });

  test("a canary that cannot have it: the others stay, and everybody can see why", () => {
    const twin = new Told(three, {}, canary);
    twin.stands("n1", [], { outcome: "failed", failure: "packages/nosuch: install failed: there is no such package" });
    twin.waits(3_600_000);
    expect(twin.course).toMatchObject({ state: "bad", text: expect.stringContaining("there is no such package"), cure: expect.stringContaining("evenkeel rollout release 00000000") });
    expect(twin.told.at(-1)?.take).toBe(false);
    expect(twin.conductor?.behind("n3" as NodeName)).toMatchObject({ code: "canary" });
    expect(twin.conductor?.behind("n1" as NodeName)).toBeNull();
  });

  test("one that is away is waited for, and says how to go on without it", () => {
    const twin = new Told(three, {}, canary);
    twin.vanishes("n1");
    twin.waits(3_600_000);
    expect(twin.course).toMatchObject({ state: "waiting", text: "the canary n1 is not connected", cure: expect.stringContaining("release") });
  });

  test("what it holds back has its turn first; the others are not asked for it, since they do not have the commit", () => {
    const twin = new Told(three, {}, canary);
    twin.stands("n1", ["services/store.service"]);
    twin.waits(5_000);
    expect(twin.rollout).toMatchObject({ kind: "change" });
    expect(twin.states).toBe("n1 leased, n2 waiting, n3 waiting");
    expect(twin.course?.text).toContain("holds back services/store.service");
    twin.applies("n1");
    twin.waits(130_000);
    expect(twin.states).toBe("n1 done, n2 skipped, n3 skipped");
    expect(twin.course?.state).toBe("released");
    twin.stands("n2", ["services/store.service"]);
    twin.stands("n3", ["services/store.service"]);
    expect(twin.states).toBe("n1 skipped, n2 leased, n3 waiting");
  });

  test("a change that fails on it goes no further", () => {
    const twin = new Told(three, {}, canary);
    twin.stands("n1", ["services/store.service"]);
    twin.applies("n1", "store.service does not start");
    twin.waits(3_600_000);
    expect(twin.course).toMatchObject({ state: "bad", text: expect.stringContaining("store.service does not start") });
  });
});
