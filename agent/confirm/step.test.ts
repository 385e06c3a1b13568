import { describe, expect, test } from "vitest";
import { judge, looked, missing, SETTLE_MS } from "./step.ts";
import type { Gateway, Seen, Watch } from "./step.ts";

const v4 = (address: string, answers = true): Gateway => ({ family: "inet", address, device: "eth0", answers });
const v6 = (answers = true): Gateway => ({ family: "inet6", address: "fe80::1", device: "eth0", answers });
const seen = (more: Partial<Seen> = {}): Seen => ({ gateways: [v4("10.0.0.1")], hub: true, git: null, reasons: [], ...more });

describe("what is missing", () => {
  test.each<[string, Seen, Seen, readonly string[]]>([
    ["nothing", seen(), seen(), []],
    ["the gateway", seen(), seen({ gateways: [v4("10.0.0.1", false)] }), ["the gateway 10.0.0.1 on eth0 does not answer any more"]],
    ["nothing: another gateway was wanted, and answers", seen(), seen({ gateways: [v4("10.0.0.2")] }), []],
    ["the gateway that was wanted instead", seen(), seen({ gateways: [v4("10.0.0.2", false)] }), ["the new gateway 10.0.0.2 on eth0 does not answer"]],
    ["nothing: one of two went, and the other answers", seen({ gateways: [v4("10.0.0.1"), v4("10.0.0.2")] }), seen({ gateways: [v4("10.0.0.2")] }), []],
    ["one of two, although the other answers: it is still a gateway", seen({ gateways: [v4("10.0.0.1"), v4("10.0.0.2")] }), seen({ gateways: [v4("10.0.0.1", false), v4("10.0.0.2")] }), ["the gateway 10.0.0.1 on eth0 does not answer any more"]],
    ["every default route", seen(), seen({ gateways: [] }), ["there is no default route any more; it led to 10.0.0.1 on eth0"]],
    ["IPv6 alone", seen({ gateways: [v4("10.0.0.1"), v6()] }), seen({ gateways: [v4("10.0.0.1"), v6(false)] }), ["the gateway fe80::1 on eth0 does not answer any more"]],
    ["nothing: the gateway did not answer before", seen({ gateways: [v4("10.0.0.1", false)] }), seen({ gateways: [] }), []],
    ["the same gateway by another device", seen(), seen({ gateways: [{ ...v4("10.0.0.1", false), device: "eth1" }] }), ["the new gateway 10.0.0.1 on eth1 does not answer"]],
    ["the hub", seen(), seen({ hub: false }), ["the hub cannot be reached any more"]],
    ["nothing: the hub was away before", seen({ hub: false }), seen({ hub: false }), []],
    ["nothing: no hub, as the Git remote can be reached", seen({ git: true }), seen({ hub: false, git: true }), []],
    ["both ways home", seen({ git: true }), seen({ hub: false, git: false }), ["neither the hub nor the Git remote can be reached any more"]],
    ["the hub: the Git remote was away before, and is no replacement", seen({ git: false }), seen({ hub: false, git: true }), ["the hub cannot be reached any more"]],
    ["the Git remote, where there is no hub", seen({ hub: null, git: true }), seen({ hub: null, git: false }), ["the Git remote cannot be reached any more"]],
    ["a peer", seen({ reasons: ["a is down"] }), seen({ reasons: ["a is down", "b is down"] }), ["b is down"]],
    ["nothing: a peer came up", seen({ reasons: ["a is down"] }), seen(), []],
  ])("%s", (_what, before, now, expected) => {
    expect(missing(before, now)).toEqual(expected);
  });
});

describe("the verdict", () => {
  const watch: Watch = { deadlineMs: 60_000, appliedMs: 2_000, goodLooks: 0, missing: [] };
  test.each<[string, Partial<Watch>, number, string]>([
    ["good for long enough, often enough", { goodLooks: 3 }, 2_000 + SETTLE_MS, "keep"],
    ["good, and too soon", { goodLooks: 30 }, 1_999 + SETTLE_MS, "wait"],
    ["good once", { goodLooks: 1 }, 50_000, "wait"],
    ["not good", {}, 59_999, "wait"],
    ["not good at the end", {}, 60_000, "put-back"],
    ["good, and too late: somebody else may be putting it back", { goodLooks: 30 }, 60_000, "put-back"],
  ])("%s", (_what, more, nowMs, expected) => {
    expect(judge({ ...watch, ...more }, nowMs)).toBe(expected);
  });

  test("one bad look begins anew", () => {
    const looks = [[], [], ["the hub"], []].reduce<Watch>((at, found) => looked(at, found), watch);
    expect(looks).toMatchObject({ goodLooks: 1, missing: [] });
  });
});
