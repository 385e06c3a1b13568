import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NodeAddAnswer } from "../../shared/protocol/api.ts";
import { PlanReport } from "../../shared/protocol/report.ts";
import { openCupboard, until } from "./real-cupboard.ts";
import type { RealCupboard } from "./real-cupboard.ts";

/** Nodes that come and go, asked and told by the commands that a person types. */

let real: RealCupboard;

beforeAll(async () => {
  real = await openCupboard("nodes", ["n1", "n2"], join(import.meta.dirname, "cluster"));
});
afterAll(() => real?.close());

const condition = async (name: string) => (await real.cupboard.node(name)).condition;

describe("asking", () => {
  test("evenkeel status, node list and log, for people and as JSON", async () => {
    expect(await real.cupboard.evenkeel("status")).toMatch(/2 of 2 converged/);
    expect(JSON.parse(await real.cupboard.evenkeel("status", "--json")).counts).toEqual({ total: 2, online: 2, converged: 2 });
    expect(await real.cupboard.evenkeel("node", "list")).toMatch(/n1[^]*n2/);
    expect(await real.cupboard.evenkeel("log", "n1")).toMatch(/converged/);
  });

  test("evenkeel plan asks the node: nothing to do now, and what a branch would change, without changing it", async () => {
    expect(await real.cupboard.evenkeel("plan", "n1")).toMatch(/nothing to do/i);
    await real.cupboard.git("checkout", "-q", "-b", "preview");
    await real.cupboard.git("config", "push.default", "current");
    const path = join(real.cupboard.clone, "files/plain");
    const { writeFile } = await import("node:fs/promises");
    await writeFile(path, "previewed\n");
    await real.cupboard.git("commit", "-qam", "A preview");
    await real.cupboard.git("push", "-q", "origin", "preview");
    const report = PlanReport.parse(JSON.parse(await real.cupboard.evenkeel("plan", "n1", "--branch", "preview", "--json")));
    expect(report.changes).toMatchObject([{ resource: "files//etc/plain", result: "planned", diff: expect.stringContaining("+previewed") }]);
    expect(await real.lab.readFile("n1", "/etc/plain")).toBe("plain\n");
    await real.cupboard.git("checkout", "-q", "main");
    const nobody = await real.cupboard.tryEvenkeel("plan", "n1", "--branch", "no-such");
    expect(nobody.code).not.toBe(0);
    expect(nobody.output).toMatch(/no-such/);
  });
});

describe("coming", () => {
  test("a token works once, for one name, and a wrong one says so; a pin that does not fit sends nothing", async () => {
    const answer = NodeAddAnswer.parse(JSON.parse(await real.cupboard.evenkeel("node", "add", "n2", "--json")));
    const foreign = await real.lab.shell("n2", `${answer.command.replace("--node n2", "--node n1")} --force`);
    expect(foreign.code).not.toBe(0);
    expect(foreign.stderr).toMatch(/token/i);
    const wrongPin = await real.lab.shell("n2", `${answer.command.replace(/--ca-pin sha256:\w{8}/, "--ca-pin sha256:00000000")} --force`);
    expect(wrongPin.stderr).toMatch(/another CA.*Nothing was sent/s);
    const again = await real.lab.shell("n2", answer.command);
    expect(again.stderr).toMatch(/already the node n2.*--force/s);
    const first = await real.lab.shell("n2", `${answer.command} --force && systemctl restart evenkeel-agent`);
    expect(first.code, first.stderr).toBe(0);
    const reused = await real.lab.shell("n2", `${answer.command} --force`);
    expect(reused.code).not.toBe(0);
    expect(reused.stderr).toMatch(/used|token/i);
    await until("n2 is back", () => condition("n2"), (now) => now === "converged");
  });

  test("a copied disk: two machines with one machine-id, and the second is refused with a clear word", async () => {
    const id = (await real.lab.readFile("n1", "/etc/machine-id")).trim();
    const own = (await real.lab.readFile("n2", "/etc/machine-id")).trim();
    await real.lab.shell("n2", `echo ${id} > /etc/machine-id; systemctl restart evenkeel-agent`);
    const node = await until("n2 is refused", () => real.cupboard.node("n2"), (one) => one.condition === "refused");
    expect(node.why).toMatch(/same machine-id as n1/);
    expect(await condition("n1")).toBe("converged");
    await real.lab.shell("n2", `echo ${own} > /etc/machine-id; systemctl restart evenkeel-agent`);
    await until("n2 is back", () => condition("n2"), (now) => now === "converged");
  });
});

describe("staying", () => {
  test("a reboot and an unplugged cable are seen, and pass", async () => {
    await real.lab.reboot("n1");
    await until("n1 is back after its reboot", () => condition("n1"), (now) => now === "converged");
    await real.lab.unplug("n2");
    await until("n2 is missed", () => condition("n2"), (now) => now === "offline", 90_000);
    await real.cupboard.push({ "files/plain": "meanwhile\n" });
    await real.lab.plug("n2");
    await until("n2 has caught up", () => real.lab.readFile("n2", "/etc/plain"), (text) => text === "meanwhile\n", 90_000);
  });

  test("certificates renew by themselves", async () => {
    const before = (await real.cupboard.node("n1")).certificate?.serial;
    // A machine whose clock says that two thirds of the certificate's life are over, for the agent's own process.
    await real.lab.mirror(["libfaketime"]);
    const library = (await real.lab.shell("n1", "apt-get -q update >/dev/null; apt-get -y -q install libfaketime >/dev/null; ls /usr/lib/*/faketime/libfaketime.so.1")).stdout.trim();
    await real.lab.shell("n1", `mkdir -p /run/systemd/system/evenkeel-agent.service.d; printf '[Service]\\nEnvironment=LD_PRELOAD=${library} FAKETIME=+70d\\n' > /run/systemd/system/evenkeel-agent.service.d/time.conf; systemctl daemon-reload; systemctl restart evenkeel-agent`);
    const after = await until("n1 has a new certificate", async () => (await real.cupboard.node("n1")).certificate?.serial, (serial) => serial !== before);
    expect(after).not.toBe(before);
    await real.lab.shell("n1", "rm -r /run/systemd/system/evenkeel-agent.service.d; systemctl daemon-reload; systemctl restart evenkeel-agent");
    await until("n1 is well with it", () => condition("n1"), (now) => now === "converged");
  });
});

describe("going", () => {
  test("a revoked node is out at once, keeps itself in shape, and may come back by a new token", async () => {
    await real.cupboard.evenkeel("node", "revoke", "n2", "--yes").catch(() => real.cupboard.evenkeel("node", "revoke", "n2"));
    await until("n2 is revoked", () => condition("n2"), (now) => now === "revoked");
    await real.lab.shell("n2", "echo drift > /etc/plain");
    await until("it still repairs itself", () => real.lab.readFile("n2", "/etc/plain"), (text) => text === "meanwhile\n");
    const apply = await real.lab.exec("n2", ["evenkeel-agent", "apply"]);
    expect(apply.stderr).toMatch(/refuses this node|revoked|certificate/i);
    expect((await real.cupboard.node("n2")).online).toBe(false);
    const answer = NodeAddAnswer.parse(JSON.parse(await real.cupboard.evenkeel("node", "add", "n2", "--json")));
    await real.lab.shell("n2", `${answer.command} --force && systemctl restart evenkeel-agent`);
    await until("n2 is back", () => condition("n2"), (now) => now === "converged");
  });
});
