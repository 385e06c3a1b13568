import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeDetail } from "../../shared/protocol/api.ts";
import { openCupboard, until } from "./real-cupboard.ts";
import type { RealCupboard } from "./real-cupboard.ts";

/**
 * Machines in trouble: each time a clear word where the owner sees it, the last good state kept, nothing lost, and
 * recovery without a hand when the cause goes.
 */

let real: RealCupboard;
let section = "";

beforeAll(async () => {
  real = await openCupboard("trouble", ["n1"], join(import.meta.dirname, "cluster"));
});
afterAll(() => real?.close());

const sh = async (script: string) => {
  const outcome = await real.lab.shell("n1", script, { timeoutMs: 60_000 });
  expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout;
};
const node = () => real.cupboard.node("n1");
const seen = (what: string, right: (one: NodeDetail) => boolean) => until(what, node, right, 120_000);
const converged = () => seen("n1 converges", (one) => one.condition === "converged");
const failing = (one: NodeDetail) => JSON.stringify([one.converge?.failing, one.converge?.problems]);

/** Adds sections to the node's file, keeping the earlier ones of this test file. */
async function push(yaml: string): Promise<string> {
  section += yaml;
  return real.cupboard.push({ "nodes/n1.yaml": `address: 10.77.1.11\nroles: [plain]\n${section}` });
}

describe("the node's disk and files", () => {
  test("a disk that is full, and is not any more", async () => {
    await sh("mkdir -p /srv/small && mount -t tmpfs -o size=64k tmpfs /srv/small && head -c 60000 /dev/zero > /srv/small/filler");
    await push(`files:\n  /srv/small/big: { content: "${"x".repeat(20_000)}" }\n  /etc/beside: beside\n`);
    const one = await seen("it says that the disk is full", (now) => /no space left on the device that holds \/srv\/small\/big/.test(failing(now)));
    expect(one.condition).toBe("failing");
    expect(await sh("cat /etc/beside")).toBe("beside");
    await sh("rm /srv/small/filler");
    await converged();
    expect(await sh("wc -c < /srv/small/big")).toBe("20000\n");
  });

  test("the agent's own disk is full: it changes nothing that it could not remember, and goes on when there is room", async () => {
    await sh("systemctl stop evenkeel-agent; cp -a /var/lib/evenkeel /var/lib/kept; mount -t tmpfs -o size=3m tmpfs /var/lib/evenkeel; cp -a /var/lib/kept/. /var/lib/evenkeel/; systemctl start evenkeel-agent");
    await converged();
    await sh("head -c 100m /dev/zero > /var/lib/evenkeel/filler || true");
    await real.cupboard.push({ "files/plain": "while it is full\n" });
    await seen("it says that there is no space", (now) => /no space left|out of diskspace/i.test(failing(now)));
    expect(await sh("cat /etc/plain")).toBe("plain\n");
    await sh("rm /var/lib/evenkeel/filler");
    await converged();
    expect(await sh("cat /etc/plain")).toBe("while it is full\n");
    await sh("systemctl stop evenkeel-agent; cp -a /var/lib/evenkeel/. /var/lib/kept/; umount /var/lib/evenkeel; rm -rf /var/lib/evenkeel; mv /var/lib/kept /var/lib/evenkeel; systemctl start evenkeel-agent");
    await converged();
  });

  test("/etc is mounted read-only", async () => {
    await sh("mount --bind /etc /etc && mount -o remount,bind,ro /etc");
    await real.cupboard.push({ "files/plain": "read-only\n" });
    await seen("it says so", (now) => /mounted read-only/.test(failing(now)));
    await sh("umount /etc");
    await converged();
    expect(await sh("cat /etc/plain")).toBe("read-only\n");
  });

  test("the removal guard stops a commit, and an allowance in the next one's message lets it through", async () => {
    const many = Array.from({ length: 12 }, (_, at) => `  /etc/many/${at}: "${at}"\n`).join("");
    const before = section;
    section = `files:\n  /etc/beside: beside\n${many}`;
    await push("");
    await converged();
    section = before;
    await push("");
    const stopped = await seen("it stops and asks", (now) => now.converge?.outcome === "stopped");
    expect(failing(stopped)).toMatch(/Evenkeel-Allow-Removals: 12/);
    expect(await sh("ls /etc/many | wc -l")).toBe("12\n");
    await real.cupboard.push({}, "Yes, all of them\n\nEvenkeel-Allow-Removals: 12");
    await converged();
    expect(await sh("ls /etc/many 2>/dev/null | wc -l")).toBe("0\n");
  });
});

describe("packages", () => {
  test("a package that does not exist fails alone, and says so", async () => {
    await real.lab.publish("toy", "1");
    await push("packages:\n  no-such-thing: present\n  toy: present\n");
    const one = await seen("it names the package", (now) => /no-such-thing/.test(failing(now)));
    expect(failing(one)).not.toMatch(/packages\/toy/);
    expect(await sh("dpkg-query -W -f '${Version}' toy")).toBe("1");
    section = section.replace("  no-such-thing: present\n", "");
    await push("");
    await converged();
  });

  test("apt's lock is held by another: it waits, and gets its turn", async () => {
    await real.lab.publish("slow", "1", { postinst: "touch /run/slow-begun; while [ ! -e /run/slow-go ]; do sleep 0.1; done" });
    await real.lab.publish("quick", "1");
    await sh("apt-get -q update");
    const slow = real.lab.exec("n1", ["apt-get", "-y", "-q", "install", "slow"], { timeoutMs: 120_000 });
    await until("the other apt is in its middle", () => real.lab.exec("n1", ["test", "-e", "/run/slow-begun"]), (outcome) => outcome.code === 0);
    const commit = await push("  quick: present\n");
    await seen("the commit has arrived", (now) => now.commit === commit || now.converge?.outcome === "running" || true);
    await sh("touch /run/slow-go");
    expect((await slow).code).toBe(0);
    await seen("quick is there", (now) => now.condition === "converged" && now.commit === commit);
    expect(await sh("dpkg-query -W -f '${Version}' quick")).toBe("1");
  });

  test("dpkg was killed in its middle: the next run repairs it", async () => {
    await real.lab.publish("half", "1", { postinst: "touch /run/half-begun; [ -e /run/half-go ] || sleep 1000" });
    await sh("apt-get -q update");
    const half = real.lab.exec("n1", ["apt-get", "-y", "-q", "install", "half"], { timeoutMs: 120_000 });
    await until("its postinst runs", () => real.lab.exec("n1", ["test", "-e", "/run/half-begun"]), (outcome) => outcome.code === 0);
    await sh("touch /run/half-go; pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -f '[h]alf.postinst'; true");
    await half;
    expect(await sh("dpkg-query -W -f '${Status}' half")).toMatch(/half-configured|unpacked/);
    await push("  half: present\n");
    await converged();
    expect(await sh("dpkg-query -W -f '${Status}' half")).toBe("install ok installed");
  });
});

describe("drift", () => {
  test("a file, a package and a unit are repaired, and the history says so", async () => {
    await real.lab.publish("drifter", "1");
    await push("  drifter: present\nservices:\n  beat.service:\n    enabled: true\n    running: true\n    unit: |\n      [Service]\n      ExecStart=/bin/sleep infinity\n      [Install]\n      WantedBy=multi-user.target\n");
    await converged();
    await sh("echo drift > /etc/plain");
    await until("the file is repaired", () => sh("cat /etc/plain"), (text) => text === "read-only\n");
    await sh("systemctl stop beat.service");
    await until("the unit is started", () => real.lab.exec("n1", ["systemctl", "is-active", "beat.service"]), (outcome) => outcome.code === 0);
    await sh("apt-get -y -q remove drifter");
    await until("the package is back", () => real.lab.exec("n1", ["dpkg-query", "-W", "drifter"]), (outcome) => outcome.code === 0 && /drifter\t1/.test(outcome.stdout));
    const one = await seen("the history has all three", (now) => now.driftRepairs24h >= 3);
    expect(one.converges.filter((converge) => converge.report.cause === "drift").length).toBeGreaterThanOrEqual(3);
  });
});

describe("the hub and the clock", () => {
  test("the hub is away: the node keeps itself in shape; its reports arrive later, in order, once", async () => {
    await converged();
    const before = (await node()).converges.length;
    await real.cupboard.stop();
    for (const round of [1, 2, 3]) {
      await sh(`echo drift ${round} > /etc/beside`);
      await until("it is repaired", () => sh("cat /etc/beside"), (text) => text === "beside");
    }
    await until("three reports wait on disk", () => sh("ls /var/lib/evenkeel/spool | grep -c '^0'"), (count) => Number(count) >= 3);
    await real.cupboard.start();
    const one = await seen("they are in the history", (now) => now.converges.length >= before + 3);
    const causes = one.converges.slice(0, 3).map((converge) => converge.report.cause);
    expect(causes).toEqual(["drift", "drift", "drift"]);
    const times = one.converges.map((converge) => converge.report.startedAt);
    expect(times).toEqual(times.toSorted().toReversed());
    expect(new Set(times).size).toBe(times.length);
    await until("the spool is empty", () => sh("ls /var/lib/evenkeel/spool | grep -c '^0' || true"), (count) => Number(count) === 0);
  });

  test("the node crashes in the middle of a converge, and ends where it should", async () => {
    await real.cupboard.push({ "files/plain": "after the crash\n" });
    await real.lab.crash("n1");
    await real.lab.start("n1");
    await converged();
    expect(await sh("cat /etc/plain")).toBe("after the crash\n");
  });

  test("the clock is years off: nothing is believed or lost, and all is well when it is right again", async () => {
    await real.lab.mirror(["libfaketime"]);
    await sh("apt-get -q update && apt-get -y -q install libfaketime");
    const library = (await sh("ls /usr/lib/*/faketime/libfaketime.so.1")).trim();
    await sh(`echo '-9y' > /etc/faketimerc; echo ${library} > /etc/ld.so.preload; systemctl restart evenkeel-agent`);
    await real.cupboard.push({ "files/plain": "nine years later\n" });
    const status = await until("it says what may be wrong", () => real.lab.exec("n1", ["evenkeel-agent", "status"]), (outcome) => /clock/.test(outcome.stdout));
    expect(status.stdout).toMatch(/Is the clock right/);
    expect(await sh("cat /etc/plain")).toBe("after the crash\n");
    await sh("rm /etc/ld.so.preload /etc/faketimerc; systemctl restart evenkeel-agent");
    await converged();
    expect(await sh("cat /etc/plain")).toBe("nine years later\n");
  });
});
