import { describe, expect, test } from "vitest";
import { PowerCut } from "../host/memory.ts";
import { SETTLE_MS } from "./step.ts";
import { daemons, LIMIT_MS, NET_FILE, nets, pages, TwinNode, wanted } from "./twin.ts";

const net = (text: string, more: object = {}) => ({ nets: { [NET_FILE]: { text } }, pages: { "/page": { text: "page" } }, ...more });
const results = (report: { changes: readonly { resource: string; action: string; result: string }[] }) => report.changes.map(({ resource, action, result }) => `${result} ${resource.startsWith("services") ? action : resource}`);

describe("a change of the network", () => {
  test("that is good stays, goes after what is harmless, and is confirmed with its restart done", async () => {
    const node = new TwinNode("good", [pages, nets]);
    const report = await node.converge(wanted("a", net("better")));
    expect(report.outcome).toBe("converged");
    expect(node).toMatchObject({ file: "better", loaded: "better", record: null, armed: null });
    expect(node.host.done.filter((what) => !what.startsWith("save") && !what.startsWith("keep"))).toEqual(["write /page", "arm", `write ${NET_FILE}`, "restart netd", "remove record", "disarm", "reload web"]);
    expect(node.clock.elapsedMs).toBeGreaterThanOrEqual(SETTLE_MS);
    expect(node.clock.elapsedMs).toBeLessThan(SETTLE_MS + 2_000);
  });

  test.each([
    ["a wrong gateway", "no-gateway", /the gateway 10.0.0.1 on eth0 does not answer any more/],
    ["a firewall that shuts out the hub", "no-hub", /the hub cannot be reached any more/],
    ["a wrong address", "dead", /the gateway .*; the hub cannot be reached/],
    ["a peer that does not accept us", "wrong-as", /the session with the router is down/],
  ])("with %s comes back at the limit, and the rest of the commit stays", async (_what, text, why) => {
    const node = new TwinNode("good", [pages, nets]);
    const report = await node.converge(wanted("a", net(text)));
    expect(report.outcome).toBe("failed");
    expect(node).toMatchObject({ file: "good", loaded: "good", armed: null });
    expect(node.clock.elapsedMs).toBe(LIMIT_MS);
    expect(node.host.files.get("/page")?.content).toBe("page");
    expect(results(report)).toEqual(["done pages//page", `failed nets/${NET_FILE}`, "done restart netd", "done reload web"]);
    expect(report.changes[1]?.error).toMatch(why);
    expect(report.problems).toMatchObject([{ code: "unconfirmed", message: expect.stringMatching(why) }]);
  });

  test("that is good only until the daemon gets to it is not believed", async () => {
    const node = new TwinNode();
    node.lagMs = SETTLE_MS - 1_000;
    expect((await node.converge(wanted("a", net("dead")))).outcome).toBe("failed");
    expect(node.loaded).toBe("good");
  });

  test("that takes a while to come up is waited for", async () => {
    const node = new TwinNode("dead");
    node.lagMs = 20_000;
    node.loaded = "good";
    await node.converge(wanted("a", { pages: {} }));
    node.host.restarted("netd");
    node.lagMs = 20_000;
    expect((await node.converge(wanted("b", net("better")))).outcome).toBe("converged");
  });

  test("is not asked to reach what was out of reach before", async () => {
    const node = new TwinNode("no-hub");
    expect((await node.converge(wanted("a", net("no-hub, another way")))).outcome).toBe("converged");
  });

  test("is not begun without something that could put it back", async () => {
    const node = new TwinNode();
    node.armFails = true;
    const report = await node.converge(wanted("a", net("better")));
    expect(node.file).toBe("good");
    expect(report.changes.find((change) => change.result === "blocked")?.error).toContain("without something that could put it back: systemd-run");
  });
});

describe("what was put back", () => {
  test("is not tried again by the same commit, and is by another one, or when the owner says so", async () => {
    const node = new TwinNode();
    const bad = wanted("a", net("dead"));
    await node.converge(bad);
    const writes = () => node.host.done.filter((what) => what === `write ${NET_FILE}`).length;
    const again = await node.converge(bad, { cause: "retry" });
    expect(writes()).toBe(1);
    expect(again.outcome).toBe("failed");
    expect(results(again)).toEqual([`blocked nets/${NET_FILE}`]);
    expect(again.problems).toMatchObject([{ code: "unconfirmed", message: expect.stringMatching(/aaaaaaaa was put back .*the hub cannot be reached.*apply --retry/) }]);
    await node.converge(bad, { cause: "asked", retry: true });
    expect(writes()).toBe(2);
    expect(node.file).toBe("good");
    expect((await node.converge(wanted("b", net("better")))).outcome).toBe("converged");
    expect(node.file).toBe("better");
  });

  test("leaves no trace in the inventory: what stood there first is what comes back in the end", async () => {
    const node = new TwinNode();
    await node.converge(wanted("a", net("dead")));
    node.host.files.set(NET_FILE, { content: "by hand", mode: 0o600 });
    node.host.restarted("netd");
    await node.converge(wanted("b", net("better")));
    expect(node.file).toBe("better");
    expect((await node.converge(wanted("c", { pages: {} }))).outcome).toBe("converged");
    expect(node.host.files.get(NET_FILE)).toEqual({ content: "by hand", mode: 0o600 });
  });

  test("a removal that cuts the node off is put back, and is still ours", async () => {
    const node = new TwinNode("dead");
    node.loaded = "good";
    await node.converge(wanted("a", net("better")));
    expect(node.file).toBe("better");
    const report = await node.converge(wanted("b", { pages: {} }));
    expect(report.outcome).toBe("failed");
    expect(node).toMatchObject({ file: "better", loaded: "better" });
    node.host.files.delete("/page");
    const retried = await node.converge(wanted("c", { pages: {} }));
    expect(results(retried), "it is ours, so it is tried again").toContain(`failed nets/${NET_FILE}`);
  });

  test("programs are taken back by their undo, the last one first", async () => {
    const node = new TwinNode();
    await node.converge(wanted("a", { links: { one: "up", two: "up" }, ...net("dead") }));
    expect(node.links).toEqual([]);
    expect(node.host.done.filter((what) => what.startsWith("run ip"))).toEqual(["run ip up one", "run ip up two", "run ip down two", "run ip down one"]);
  });

  test("a program that was started is stopped before its unit's file goes", async () => {
    const node = new TwinNode("good", [daemons, nets]);
    const report = await node.converge(wanted("a", { daemons: { routed: "running" }, ...net("dead") }));
    expect(node.host.running.size).toBe(0);
    expect(node.host.files.has("/units/routed")).toBe(false);
    expect(report.problems[0]?.message).not.toContain("could not be put back");
  });

  test("all of it goes back when a part of it fails, at once", async () => {
    const node = new TwinNode();
    const report = await node.converge(wanted("a", { links: { broken: "up" }, ...net("better") }));
    expect(node).toMatchObject({ file: "good", loaded: "good" });
    expect(node.clock.elapsedMs).toBeLessThan(LIMIT_MS);
    expect(report.problems).toMatchObject([{ code: "unconfirmed", message: expect.stringContaining("links/broken: run ip up broken failed: broken does not come up") }]);
  });

  test("a file that cannot be written is no change: it is tried again as everything is", async () => {
    const node = new TwinNode();
    node.host.broken.add(NET_FILE);
    expect((await node.converge(wanted("a", net("better")))).problems).toEqual([]);
    expect(node).toMatchObject({ record: null, armed: null });
    node.host.broken.clear();
    expect((await node.converge(wanted("a", net("better")), { cause: "retry" })).outcome).toBe("converged");
  });

  test("what needs the network comes after it is confirmed, and not at all when it was put back", async () => {
    const pages = { pages: { "/page": { text: "page", needs: `nets/${NET_FILE}` } } };
    const good = new TwinNode();
    expect(results(await good.converge(wanted("a", net("better", pages))))).toEqual([`done nets/${NET_FILE}`, "done restart netd", "done pages//page", "done reload web"]);
    const bad = new TwinNode();
    const report = await bad.converge(wanted("a", net("dead", pages)));
    expect(bad.host.files.has("/page")).toBe(false);
    expect(report.changes.find((change) => change.resource === "pages//page")).toMatchObject({ result: "blocked", error: expect.stringContaining(`needs nets/${NET_FILE}`) });
  });

  test("is forgotten once the node is what the commit says", async () => {
    const node = new TwinNode();
    const bad = wanted("a", net("no-hub"));
    await node.converge(bad);
    node.host.files.set(NET_FILE, { content: "no-hub", mode: 0o644 });
    expect((await node.converge(bad, { cause: "drift" })).outcome).toBe("converged");
    expect(node.record).toBeNull();
  });
});

test("the timer that goes off in the agent's place says what the agent saw last", async () => {
  const node = new TwinNode();
  node.host.powerCutAfter = undefined;
  const watching = wanted("b", net("no-hub"));
  const before = node.host.done.length;
  await node.converge(watching);
  const noted = node.host.done.slice(before).lastIndexOf("save record armed") + 1;
  const other = new TwinNode();
  other.host.powerCutAfter = noted;
  await orCut(other.converge(watching));
  other.host.powerCutAfter = undefined;
  expect(other.record).toMatchObject({ state: "armed", missing: ["the hub cannot be reached any more"] });
  await other.timer();
  expect(other.record?.back?.reason).toBe("it was not confirmed within 60 s: the hub cannot be reached any more");
});

describe("the end of the agent, or the power, before any operation", () => {
  const recoveries = {
    "the agent starts again": async () => {},
    "the timer runs out, and the agent starts again": (node: TwinNode) => node.timer(),
    "the node boots": (node: TwinNode) => node.boot({ earlyUnit: true }),
    "the node boots, and the early unit does not run": (node: TwinNode) => node.boot({ earlyUnit: false }),
    "the timer runs out, and the node boots": async (node: TwinNode) => {
      await node.timer();
      await node.boot({ earlyUnit: true });
    },
  };
  for (const [name, recover] of Object.entries(recoveries)) {
    test(`${name}: what is not confirmed is as it was before, and nothing of it is forgotten`, async () => {
      const [before, dead] = [wanted("a", net("better")), wanted("b", net("dead", { links: { one: "up" } }))];
      for (let cut = 0; ; cut += 1) {
        const node = new TwinNode();
        await node.converge(before);
        node.host.powerCutAfter = cut;
        const survived = await orCut(node.converge(dead));
        node.host.powerCutAfter = undefined;
        await recover(node);
        await (await node.engine()).settle();
        expect(node, `after the cut before operation ${cut}`).toMatchObject({ file: "better", loaded: "better" });
        expect(node.links).toEqual([]);
        // Whatever became of it: the node goes on to another commit, and in the end back to where it began.
        expect((await node.converge(wanted("c", net("best")), { cause: "start" })).outcome).toBe("converged");
        expect(node).toMatchObject({ file: "best", loaded: "best", record: null });
        expect((await node.converge(wanted("d", { pages: {} }))).outcome).toBe("converged");
        expect(node.file, `what stood there first is lost at operation ${cut}`).toBe("good");
        if (survived) break;
      }
    });

    test(`${name}, and everything happens again while it is being put back`, async () => {
      const dead = wanted("b", net("dead", { links: { one: "up" } }));
      const armed = async (cut?: number) => {
        const node = new TwinNode();
        await node.converge(wanted("a", net("better")));
        const before = node.host.done.length;
        node.host.powerCutAfter = cut;
        await orCut(node.converge(dead));
        node.host.powerCutAfter = undefined;
        return { node, done: node.host.done.slice(before) };
      };
      // In the middle of the window: the file is written and the daemon restarted, and nobody knows yet what comes of it.
      const inTheMiddle = (await armed()).done.indexOf("restart netd") + 1;
      for (let cut = 0; ; cut += 1) {
        const { node } = await armed(inTheMiddle);
        expect(node.record?.state).toBe("armed");
        node.host.powerCutAfter = cut;
        const survived = (await orCut(recover(node))) && (await orCut((await node.engine()).settle()));
        node.host.powerCutAfter = undefined;
        await recover(node);
        await (await node.engine()).settle();
        expect(node.file).toBe("better");
        expect(node.links).toEqual([]);
        expect(node.record).toMatchObject({ state: "back", settled: true });
        if (survived) break;
      }
    });
  }

  test("a removal is cut off: what it would have taken away is still ours, and nothing waits for a restart", async () => {
    const node = new TwinNode("dead");
    node.loaded = "good";
    await node.converge(wanted("a", { nets: { [NET_FILE]: { text: "better" } } }));
    const begun = node.host.done.length;
    const gone = node.converge(wanted("b", { pages: {} }));
    node.host.restarted = () => {
      node.host.powerCutAfter = 0;
    };
    expect(await orCut(gone)).toBe(false);
    expect(node.host.done.slice(begun)).toContain(`restore ${NET_FILE}`);
    node.host.powerCutAfter = undefined;
    node.host.restarted = () => {};
    await (await node.engine()).settle();
    expect(node.file).toBe("better");
    const other = await node.converge(wanted("c", { nets: { [NET_FILE]: { text: "better" } }, pages: { "/page": { text: "page" } } }));
    expect(results(other)).toEqual(["done pages//page", "done reload web"]);
    expect((await node.converge(wanted("d", {}))).changes.map(({ resource }) => resource)).toContain(`nets/${NET_FILE}`);
  });

  test("a good change may be cut off as well: it is put back or confirmed, and never half of it", async () => {
    for (let cut = 0; ; cut += 1) {
      const node = new TwinNode();
      node.host.powerCutAfter = cut;
      const good = wanted("a", net("better", { links: { one: "up" } }));
      const survived = await orCut(node.converge(good));
      node.host.powerCutAfter = undefined;
      await (await node.engine()).settle();
      const whole = node.file === "better" && node.links.includes("one");
      expect(whole || (node.file === "good" && !node.links.includes("one")), `after the cut before operation ${cut}: ${node.file} ${node.links.join()}`).toBe(true);
      expect(node.loaded).toBe(node.file);
      expect((await node.converge(good, { cause: "asked", retry: true })).outcome).toBe("converged");
      if (survived) break;
    }
  });
});

/** False when the power went meanwhile. */
async function orCut(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (!(error instanceof PowerCut)) throw error;
    return false;
  }
}
