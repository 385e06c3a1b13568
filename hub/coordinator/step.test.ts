import { expect, test } from "vitest";
import { ClusterTwin } from "./twin.ts";

test("one lease, from the request to the release", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);

  // Asked for and granted in the same moment, since nothing stands in the way. Nothing else may go from now on.
  const id = cluster.ask("n1");
  expect(cluster.lease("n1")).toMatchObject({ id, phase: "draining", groups: ["cluster"] });
  expect(cluster.ordersTo("n1")).toMatchObject([{ kind: "grant", lease: id, challenge: "n1, boot 1" }]);
  cluster.ask("n2");
  expect(cluster.lease("n2")).toBeUndefined();
  expect(cluster.why("n2").map(({ code, text }) => [code, text])).toEqual([["quorum", "in the group cluster of 3 1 may be down, and with n2 it would be 2: n1 is being drained (ada)"]]);

  // Drained: everybody is asked where he stands, and only with all answers in it gets its second word.
  cluster.reaches("n1", "draining", { progress: "stopping nginx" });
  expect(cluster.lease("n1")?.progress).toBe("stopping nginx");
  cluster.reaches("n1", "drained");
  expect(cluster.lease("n1")?.phase).toBe("confirmed");
  expect(cluster.ordersTo("n1").at(-1)).toMatchObject({ kind: "confirm", lease: id });

  // It reboots, comes back with another boot, and puts back what it drained.
  cluster.reaches("n1", "rebooting");
  cluster.vanishes("n1");
  cluster.waits(120_000);
  cluster.boots("n1", "resuming");
  expect(cluster.lease("n1")?.phase).toBe("checking");
  cluster.reaches("n1", "back", { result: { ok: true, rebooted: true, failure: null, update: null } });
  expect(cluster.lease("n1")?.phase).toBe("soaking");

  // It is watched for a minute; then the slot is free, and the next one goes in the same moment.
  cluster.waits(55_000);
  expect(cluster.lease("n1")?.phase).toBe("soaking");
  cluster.waits(5_000);
  expect(cluster.ended(id)).toMatchObject({ how: "released", result: { ok: true, rebooted: true } });
  expect(cluster.ordersTo("n1").at(-1)).toEqual({ v: 1, kind: "release", lease: id });
  expect(cluster.lease("n2")?.phase).toBe("draining");
});

test("a node that cannot drain declines, and its slot is free without a reboot", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.reaches("n1", "undoing", { why: "nginx would not stop" });
  expect(cluster.lease("n1")).toMatchObject({ phase: "aborting", calledOffBy: "node" });
  cluster.reaches("n1", "declined", { why: "nginx would not stop" });
  expect(cluster.ended(id)).toMatchObject({ how: "declined", why: "nginx would not stop" });
});

test("a grant that was lost is sent again, and one that is void is decided upon anew", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.says("n1");
  cluster.says("n1", { challenge: "another" });
  expect(cluster.ordersTo("n1")).toMatchObject([
    { kind: "grant", lease: id, challenge: "n1, boot 1" },
    { kind: "grant", lease: id, challenge: "n1, boot 1" },
    { kind: "grant", lease: id, challenge: "another" },
  ]);
  // Somebody else is not well now: it goes back into the queue.
  cluster.says("n2", { healthy: false, trouble: ["a disk fails"] });
  cluster.says("n1", { challenge: "a third" });
  expect(cluster.lease("n1")).toBeUndefined();
  expect(cluster.state.durable.requests.has(id)).toBe(true);
});

test("an abort does not make a grant harmless that is still under way", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.vanishes("n1");
  cluster.step({ kind: "abort", id, by: "ada", why: "not now" });
  expect(cluster.step({ kind: "clear", id, by: "ada", why: "it is off" })).toMatchObject({ ok: false, denials: [{ code: "order-alive" }] });
  cluster.waits(120_000);
  expect(cluster.step({ kind: "clear", id, by: "ada", why: "it is off" })).toEqual({ ok: true });
});

test("an abort of a grant that never arrived ends the lease as soon as the grant is void", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  const id = cluster.ask("n1");
  cluster.step({ kind: "abort", id, by: "ada", why: "not now" });
  cluster.says("n1");
  expect(cluster.lease("n1")?.phase).toBe("aborting");
  cluster.says("n1", { challenge: "another" });
  expect(cluster.ended(id)).toMatchObject({ how: "void", why: "not now" });
});

test("a word that was held up for long does not make a dead node live", () => {
  const cluster = new ClusterTwin(["n1", "n2", "n3"]);
  cluster.waits(60_000);
  cluster.vanishes("n2");
  cluster.waits(60_000);
  cluster.says("n2");
  cluster.ask("n1");
  expect(cluster.lease("n1")).toBeUndefined();
  expect(cluster.why("n1")[0]?.text).toContain("n2 has not been heard of for");
});
