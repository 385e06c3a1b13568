import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { kinds } from "../../shared/kinds/index.ts";
import { openCupboard, until } from "./real-cupboard.ts";
import type { RealCupboard } from "./real-cupboard.ts";

/** Every kind on a real node, by a push: it becomes what the section says, is repaired when it drifts, and is put back when the section goes. */

let real: RealCupboard;
let key = "";

beforeAll(async () => {
  real = await openCupboard("kinds-real", ["n1"], join(import.meta.dirname, "cluster"));
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "anna@laptop", "-f", join(real.cupboard.directory, "anna")]);
  key = readFileSync(join(real.cupboard.directory, "anna.pub"), "utf8").trim();
  await real.lab.publish("toy", "1");
  await real.lab.publish("toy", "2");
  await real.lab.publish("other", "1");
});
afterAll(() => real?.close());

const sh = async (script: string) => {
  const outcome = await real.lab.shell("n1", script, { timeoutMs: 60_000 });
  expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};

async function become(yaml: string): Promise<void> {
  const commit = await real.cupboard.push({ "nodes/n1.yaml": `address: 10.77.1.11\nroles: [plain]\n${yaml}`, "files/page.eta": "page of <%= it.node.name %> in <%= it.cluster.name %>\n" });
  await until(`n1 becomes ${commit.slice(0, 8)}`, () => real.cupboard.node("n1"), (node) => node.commit === commit && node.condition === "converged", 90_000);
  expect(JSON.parse(await sh("evenkeel-agent plan --json")).changes, "a plan right after is empty").toEqual([]);
}

const everything = () => `
apt:
  sources:
    more: { uris: ["file:/srv/repo"], suites: ["./"], trusted: true }
  pins:
    toy: { package: toy, pin: "version 1", priority: 1001 }
packages:
  toy: { version: "1", hold: true }
  other: present
modules:
  pcspkr: blocked
sysctl:
  net.ipv4.ip_forward: 1
host:
  hosts: { 10.9.9.9: [printer] }
  timeZone: Europe/Berlin
  locale: C.UTF-8
groups:
  wheel: { gid: 4321 }
users:
  anna: { comment: Anna, groups: [wheel], shell: /bin/bash, authorizedKeys: ["${key}"], sudo: ["/usr/bin/systemctl restart beat"] }
files:
  /etc/page: { content: { template: page.eta }, mode: "0640", owner: anna, group: wheel, restart: [beat.service] }
  /srv/data: { type: directory, mode: "2770", group: wheel }
  /srv/link: { type: link, target: /etc/page }
services:
  beat.service:
    enabled: true
    running: true
    unit: |
      [Service]
      ExecStart=/bin/sleep infinity
      [Install]
      WantedBy=multi-user.target
    dropIns: { nice: "[Service]\\nNice=5\\n" }
  tick.timer:
    enabled: true
    running: true
    unit: |
      [Timer]
      OnCalendar=hourly
      [Install]
      WantedBy=timers.target
  tick.service: { unit: "[Service]\\nExecStart=/bin/true\\n" }
  cron.service: masked
drain:
  units: { beat: { order: 10 } }
`;

/** What a person would look at, and see: command → output. */
const seen: Readonly<Record<string, string | RegExp>> = {
  "dpkg-query -W -f '${Version} ${db:Status-Want}' toy": "1 hold",
  "dpkg-query -W -f '${Status}' other": "install ok installed",
  "apt-cache policy toy | grep -c 1001": /^[1-9]/,
  "cat /etc/apt/sources.list.d/evenkeel-more.sources": /URIs: file:\/srv\/repo/,
  "cat /proc/sys/net/ipv4/ip_forward": "1",
  "cat /etc/sysctl.d/60-evenkeel.conf": /net\.ipv4\.ip_forward/,
  "cat /etc/modprobe.d/evenkeel.conf": /pcspkr/,
  "getent hosts printer": /10\.9\.9\.9/,
  "readlink -f /etc/localtime": /Europe\/Berlin/,
  "getent group wheel": "wheel:x:4321:anna",
  "getent passwd anna": /:Anna:\/home\/anna:\/bin\/bash/,
  "stat -c '%a %U' /home/anna/.ssh/authorized_keys": "600 anna",
  "sudo -l -U anna": /systemctl restart beat/,
  "cat /etc/page": "page of n1 in cupboard",
  "stat -c '%a %U %G' /etc/page": "640 anna wheel",
  "stat -c '%a %G' /srv/data": "2770 wheel",
  "readlink /srv/link": "/etc/page",
  "systemctl show -p Nice,ActiveState,UnitFileState beat.service": /Nice=5[^]*active[^]*enabled|ActiveState=active[^]*/,
  "systemctl is-active tick.timer": "active",
  "systemctl is-enabled cron.service 2>&1 || true": "masked",
};

async function expectAll(): Promise<void> {
  for (const [command, says] of Object.entries(seen)) {
    if (typeof says === "string") expect(await sh(command), command).toBe(says);
    else expect(await sh(command), command).toMatch(says);
  }
}

/** What needs more than a plain node has a test on real nodes of its own, by its name; `firewall` is in that of `network`. */
const hasOwnTest = (name: string): boolean => ["firewall", "kubernetes"].includes(name) || existsSync(join(import.meta.dirname, `${name}.test.ts`));

describe("every kind", () => {
  test("is in this test, or has its own", () => {
    expect(kinds.filter((kind) => !everything().includes(`\n${kind.name}:\n`) && !hasOwnTest(kind.name)).map((kind) => kind.name)).toEqual([]);
  });

  test("becomes what the section says", async () => {
    await become(everything());
    await expectAll();
  });

  test("is repaired when it drifts", async () => {
    await sh(
      [
        "apt-mark unhold toy; apt-get -y -q install --allow-downgrades toy=2 >/dev/null; apt-get -y -q remove other >/dev/null",
        "rm /etc/apt/sources.list.d/evenkeel-more.sources; rm /etc/apt/preferences.d/evenkeel-toy",
        "echo 0 > /proc/sys/net/ipv4/ip_forward; rm /etc/sysctl.d/60-evenkeel.conf",
        "sed -i /printer/d /etc/hosts; ln -sf /usr/share/zoneinfo/UTC /etc/localtime",
        "gpasswd -d anna wheel; usermod -c Someone anna; rm /home/anna/.ssh/authorized_keys; rm /etc/sudoers.d/evenkeel-anna",
        "echo other > /etc/page; chmod 644 /etc/page; chmod 755 /srv/data; rm /srv/link",
        "systemctl stop beat tick.timer; systemctl disable -q beat; rm -r /etc/systemd/system/beat.service.d; systemctl unmask -q cron.service",
      ].join("\n"),
    );
    await until("everything is as it was", async () => JSON.parse((await real.lab.exec("n1", ["evenkeel-agent", "plan", "--json"])).stdout).changes as unknown[], (changes) => changes.length === 0, 60_000);
    // A plan made beside an apt that is at work says nothing of packages: that apt may be the agent's own.
    await vi.waitFor(expectAll, { timeout: 60_000, interval: 500 });
  });

  test("is put back when the section goes: what was made is gone, what was there is as it was, homes and held data stay", async () => {
    await real.cupboard.push({}, "Room\n\nEvenkeel-Allow-Removals: 40");
    const commit = await real.cupboard.push({ "nodes/n1.yaml": "address: 10.77.1.11\nroles: [plain]\n" }, "All of it goes\n\nEvenkeel-Allow-Removals: 40");
    await until("n1 has let go of it", () => real.cupboard.node("n1"), (node) => node.commit === commit && node.condition === "converged", 90_000);
    expect(await sh("dpkg-query -W -f '${db:Status-Status}' toy other 2>/dev/null || true")).not.toMatch(/installed$/);
    expect(await sh("ls /etc/apt/sources.list.d /etc/apt/preferences.d /etc/sysctl.d /etc/sudoers.d | grep -c evenkeel || true")).toBe("0");
    expect(await sh("cat /proc/sys/net/ipv4/ip_forward")).toBe("0");
    expect(await sh("getent hosts printer || echo gone")).toBe("gone");
    expect(await sh("getent passwd anna || echo gone")).toBe("gone");
    expect(await sh("getent group wheel || echo gone")).toBe("gone");
    expect(await sh("test -d /home/anna && echo stays")).toBe("stays");
    expect(await sh("ls /etc/page /srv/link 2>/dev/null || echo gone")).toBe("gone");
    expect(await sh("systemctl is-active beat.service tick.timer || true")).toBe("inactive\ninactive");
    expect(await sh("ls /etc/systemd/system/beat.service 2>/dev/null || echo gone")).toBe("gone");
    expect(JSON.parse(await sh("cat /var/lib/evenkeel/inventory.json")).owned, "only the role's file is ours").toEqual({ files: { "/etc/plain": expect.anything() } });
  });
});
