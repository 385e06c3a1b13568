import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync, truncateSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { escapePath } from "../../shared/kinds/disks-names.ts";
import { Lab } from "../lab/lab.ts";

/** The disks of a real node (loop devices), by the agent's own engine in a process that can be killed between any two of its steps. */

const root = join(import.meta.dirname, "..", "..");
const nodeDir = dirname(realpathSync(join(root, "node_modules", ".bin", "node")));
const lab = new Lab({ name: "disk", nodes: ["n1"], flavour: "cluster", binds: [{ from: nodeDir, to: "/opt/node" }], downOnExit: true });
const MB = 1_000_000;

beforeAll(async () => {
  await lab.wipe();
  await lab.up();
  const driver = join(lab.stateDirectory, "driver.mjs");
  await build({ entryPoints: [join(root, "test/fixtures/disks/driver.ts")], outfile: driver, bundle: true, platform: "node", target: "node26", format: "esm", banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' }, logLevel: "warning" });
  await lab.writeFile("n1", "/opt/driver.mjs", readFileSync(driver));
});
afterAll(() => lab.wipe());

const sh = async (script: string): Promise<string> => {
  const outcome = await lab.shell("n1", script, { timeoutMs: 60_000 });
  expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
  return outcome.stdout.trim();
};

interface Report {
  readonly outcome?: string;
  readonly changes: readonly { readonly resource: string; readonly action: string; readonly result: string; readonly why: string; readonly error?: string }[];
  readonly problems: readonly { readonly message: string }[];
}
interface Answer extends Report {
  /** A look right after it. */
  readonly plan: Report;
  readonly started: number;
  readonly steps: number;
  readonly owned: readonly string[];
}

let commits = 0;
async function drive(what: "plan" | "converge", section: object | null, more: { readonly killAt?: number; readonly before?: string; readonly commit?: string } = {}) {
  await lab.writeFile("n1", "/run/input.json", JSON.stringify({ section, commit: `commit-${(commits += 1)}`, ...more }));
  return lab.exec("n1", ["/opt/node/node", "/opt/driver.mjs", what, "/run/input.json"], { timeoutMs: 120_000 });
}
async function ask(what: "plan" | "converge", section: object | null, more: { readonly before?: string; readonly commit?: string } = {}): Promise<Answer> {
  const outcome = await drive(what, section, more);
  expect(outcome.code, outcome.stderr).toBe(0);
  const answer = JSON.parse(outcome.stdout) as Answer & { readonly converged: Report | null };
  return { ...answer, ...(answer.converged ?? answer.plan) };
}
/** It becomes so, and a look after it finds nothing to do, without starting a process. */
async function become(section: object | null): Promise<Answer> {
  const answer = await ask("converge", section);
  expect(answer.changes.filter(({ result }) => result !== "done")).toEqual([]);
  expect(answer.outcome).toBe("converged");
  expect(answer).toMatchObject({ plan: { changes: [], problems: [] }, started: 0 });
  return answer;
}
/** It is refused, for one reason, and nothing was done to the disk. */
async function refused(section: object, resource: string, reason: RegExp, disk?: string): Promise<void> {
  const before = disk === undefined ? "" : await digest(disk);
  const answer = await ask("converge", section);
  expect(answer.outcome).toBe("failed");
  expect(answer.changes.filter(({ result }) => result === "failed").map((change) => [change.resource, change.error])).toEqual([[resource, expect.stringMatching(reason)]]);
  if (disk !== undefined) expect(await digest(disk)).toBe(before);
}
const byId = (serial: string) => `/dev/disk/by-id/scsi-${serial}`;
/** Where signatures and tables stand: the first and the last MiB. */
const digest = (serial: string) => sh(`(head -c 1M ${byId(serial)}; tail -c 1M ${byId(serial)}) | sha256sum`);
const attach = (serial: string, size: number) => lab.attachDisk("n1", serial, size * MB);
const devices = (disks: object) => ({ devices: disks });
/** The disk gets another size, as a virtual disk does that its owner has enlarged. */
async function enlarge(serial: string, size: number): Promise<void> {
  const { device } = await attach(serial, size);
  truncateSync(join(lab.stateDirectory, "disks", `${lab.prefix}-1-${serial}.img`), size * MB);
  execFileSync("losetup", ["-c", device]);
}
const sizeOf = async (at: string) => Number(await sh(`stat -f --format='%b %S' ${at} | awk '{print $1 * $2}'`));

describe("a blank disk", () => {
  const section = devices({ "scsi-ONE": { size: "60MB", filesystem: "ext4", label: "one", mount: "/srv/one" } });

  test("gets a file system, a label and a mount, and keeps what is written there over a reboot", async () => {
    await attach("ONE", 60);
    const { owned } = await become(section);
    expect(owned).toEqual(["scsi-ONE", "/srv/one", "size//srv/one"]);
    expect(await sh("findmnt -n -o FSTYPE,LABEL /srv/one | tr -s ' '")).toBe("ext4 one");
    await sh("echo mine > /srv/one/file; sync");
    await lab.reboot("n1");
    expect(await sh("cat /srv/one/file; systemctl is-active srv-one.mount; systemctl --failed --plain --no-legend | grep -v lxd | wc -l")).toBe("mine\nactive\n0");
    expect(await ask("plan", section)).toMatchObject({ changes: [], started: 0 });
  });

  test("a file system that is there already is taken as it is, in a node that remembers nothing", async () => {
    await sh("umount /srv/one; rm -rf /var/lib/disks-test /var/lib/evenkeel/disks /etc/systemd/system/srv-one.mount; systemctl daemon-reload");
    await become(section);
    expect(await sh("cat /srv/one/file")).toBe("mine");
  });

  test("its label and options change while it is mounted, and drift is put right", async () => {
    const changed = devices({ "scsi-ONE": { filesystem: "ext4", label: "uno", mount: { at: "/srv/one", options: ["noatime"] } } });
    await become(changed);
    expect(await sh("findmnt -n -o LABEL,OPTIONS /srv/one; cat /srv/one/file")).toMatch(/^uno +rw,noatime.*\nmine$/);
    await sh("e2label /dev/disk/by-id/scsi-ONE other; udevadm trigger --settle -c change /dev/disk/by-id/scsi-ONE; systemctl disable --now srv-one.mount");
    await become(changed);
    expect(await sh("findmnt -n -o LABEL /srv/one; systemctl is-enabled srv-one.mount; cat /srv/one/file")).toBe("uno\nenabled\nmine");
  });

  test("leaves the section: unmounted, the unit is gone, and everything on it stays", async () => {
    const { changes } = await become(devices({}));
    expect(changes.find(({ resource }) => resource === "disks/scsi-ONE")?.why).toMatch(/orphan/);
    expect(await sh("ls /etc/systemd/system | grep -c srv-one || true; ls -d /srv/one 2>&1 || true; systemctl is-active srv-one.mount || true")).toBe("0\n/srv/one\ninactive");
    await sh("rmdir /srv/one");
    await become(devices({ "scsi-ONE": { filesystem: "ext4", mount: "/srv/one" } }));
    expect(await sh("cat /srv/one/file")).toBe("mine");
    await become(null);
    expect(await sh("ls -d /srv/one 2>&1 || true"), "the agent had made the directory").toMatch(/No such file/);
  });
});

describe("partitions", () => {
  const parts = (rest: object = {}, more: object = {}) => devices({ "scsi-TWO": { partitions: { first: { size: "300MiB", filesystem: "btrfs", label: "b", mount: "/srv/two/in ner" }, last: { size: "rest", type: "home", filesystem: "xfs", mount: { at: "/srv/two", options: ["noatime"], waitSeconds: 5 }, ...rest }, ...more } } });

  test("with a file system each, one mounted in the other", async () => {
    await attach("TWO", 800);
    await become(parts());
    expect(await sh("findmnt -n -o FSTYPE '/srv/two/in ner'; findmnt -n -o FSTYPE,OPTIONS /srv/two; sfdisk --part-type /dev/disk/by-id/scsi-TWO 2")).toMatch(/^btrfs\nxfs +rw,noatime.*\n933AC7E1-/);
    await sh("echo a > '/srv/two/in ner/a'; echo b > /srv/two/b; sync");
  });

  test("the last grows with the disk, with what is on it", async () => {
    await enlarge("TWO", 1100);
    const before = await sizeOf("/srv/two");
    await become(parts({ label: "x" }));
    expect((await sizeOf("/srv/two")) - before).toBeGreaterThan(280 * MB);
    expect(await sh("findmnt -n -o LABEL /srv/two; cat '/srv/two/in ner/a' /srv/two/b; sfdisk --verify /dev/disk/by-id/scsi-TWO | grep -c 'No errors'")).toBe("x\na\nb\n1");
  });

  test("one more is added where there is room", async () => {
    await enlarge("TWO", 1400);
    const section = parts({ size: "800MiB", type: "linux" }, { third: { size: "64MiB", filesystem: "ext4", mount: "/srv/third" } });
    const fixed = { devices: { "scsi-TWO": { partitions: { ...section.devices["scsi-TWO" as never]["partitions"] as object } } } };
    await become(fixed);
    expect(await sh("findmnt -n -o FSTYPE /srv/third; cat '/srv/two/in ner/a' /srv/two/b")).toBe("ext4\na\nb");
    await become(devices({ "scsi-TWO": { partitions: { first: { size: "300MiB", filesystem: "btrfs" } } } }));
    expect(await sh("findmnt /srv/two || echo none; lsblk -rno FSTYPE /dev/disk/by-id/scsi-TWO | xargs")).toBe("none\nbtrfs xfs ext4");
    await become(devices({}));
  });

  test("never made smaller, and never larger than there is room", async () => {
    await refused(devices({ "scsi-TWO": { partitions: { first: { size: "100MiB", filesystem: "btrfs" } } } }), "disks/scsi-TWO/first", /has 314\.6 MB, more than the 104\.9 MB .* nothing is ever made smaller/, "TWO");
    await refused(devices({ "scsi-TWO": { partitions: { first: { size: "400MiB", filesystem: "btrfs" } } } }), "disks/scsi-TWO/first", /can grow to 314\.6 MB at most/, "TWO");
  });
});

describe("bad input", () => {
  beforeAll(async () => {
    for (const serial of ["FOREIGN", "TABLE", "USED", "GOOD"]) await attach(serial, 60);
    await sh(`mkfs.ext4 -q -L old ${byId("FOREIGN")}; printf 'label: gpt\\nsize=20MiB, name=theirs\\n' | sfdisk -q --no-tell-kernel ${byId("TABLE")}; partx -u ${byId("TABLE")}; mkfs.ext4 -q ${byId("TABLE")}-part1; mkfs.ext4 -q ${byId("USED")}; mkdir -p /mnt/used; mount ${byId("USED")} /mnt/used; udevadm settle`);
  });
  const good = { "scsi-GOOD": { filesystem: "ext4", mount: "/srv/good" } };

  test("a disk with something else on it is left alone, with what to write; the others are not held up", async () => {
    await refused(devices({ "scsi-FOREIGN": { filesystem: "xfs", mount: "/srv/foreign" }, ...good }), "disks/scsi-FOREIGN", /holds a file system \(ext4 "old"\)\. Nothing was changed\..*wipe: \{serial: "FOREIGN", id: a-new-word\}/, "FOREIGN");
    expect(await sh("findmnt -n -o FSTYPE /srv/good")).toBe("ext4");
    await refused(devices({ "scsi-TABLE": { filesystem: "ext4" }, ...good }), "disks/scsi-TABLE", /holds a partition table \(gpt: theirs\)/, "TABLE");
    await refused(devices({ "scsi-TABLE": { partitions: { mine: { size: "rest", filesystem: "ext4" } } }, ...good }), "disks/scsi-TABLE", /holds a partition table \(gpt: theirs\)/, "TABLE");
    await refused(devices({ "scsi-FOREIGN": { partitions: { mine: { size: "rest", filesystem: "ext4" } } }, ...good }), "disks/scsi-FOREIGN", /holds a file system \(ext4 "old"\)/, "FOREIGN");
    await refused(devices({ "scsi-FOREIGN": { swap: true }, ...good }), "disks/scsi-FOREIGN", /is to hold swap, and holds a file system/, "FOREIGN");
  });

  test("a disk that is in use", async () => {
    await refused(devices({ "scsi-USED": { filesystem: "xfs" }, ...good }), "disks/scsi-USED", /holds a file system \(ext4\) and is mounted at \/mnt\/used/);
    const answer = await ask("converge", devices({ "scsi-USED": { wipe: { serial: "USED", id: "first" }, filesystem: "xfs" }, ...good }));
    expect(answer.changes.find(({ resource }) => resource === "disks/wipe/first")?.error).toMatch(/it is mounted at \/mnt\/used: nothing was erased/);
    expect(answer.owned).not.toContain("wipe/first");
    expect(await sh("findmnt -n -o FSTYPE /mnt/used")).toBe("ext4");
  });

  test("a disk of another size", () => refused(devices({ "scsi-FOREIGN": { size: "4TB", filesystem: "ext4" }, ...good }), "disks/scsi-FOREIGN", /has 60\.0 MB, and the section expects 4\.0 TB/, "FOREIGN"));

  test("a wipe with the serial of another disk", () => refused(devices({ "scsi-FOREIGN": { wipe: { serial: "OTHER", id: "x" }, filesystem: "xfs" }, ...good }), "disks/scsi-FOREIGN", /for the serial OTHER, and this disk has FOREIGN: nothing was erased/, "FOREIGN"));

  test("a mount point with something in it, or with something else on it", async () => {
    await sh("mkdir -p /srv/full; touch /srv/full/file");
    await refused(devices({ "scsi-FOREIGN": { filesystem: "ext4", mount: "/srv/full" }, ...good }), "disks//srv/full", /holds 1 entry, which a mount would hide/, "FOREIGN");
    await refused(devices({ "scsi-FOREIGN": { filesystem: "ext4", mount: "/mnt/used" }, ...good }), "disks//mnt/used", /\/dev\/loop\d+ \(ext4\) is mounted at \/mnt\/used, where scsi-FOREIGN is to be/, "FOREIGN");
  });

  test("a missing disk is a problem with its slot, a replaced one with what is there now; the others are not held up", async () => {
    const section = devices({ "scsi-GONE": { slot: "bay 3", filesystem: "ext4", mount: { at: "/srv/gone", waitSeconds: 3 } }, ...good });
    await attach("GONE", 61);
    await become(section);
    await sh("systemctl stop srv-gone.mount");
    await lab.detachDisk("n1", "GONE");
    await attach("NEW", 62);
    await refused(section, "disks/scsi-GONE", /no disk scsi-GONE on this node \(it was, or should be: in bay 3; 61\.0 MB, serial GONE, LabDisk\)\. What stands on other disks is not held up\. .* blank and not declared: .*scsi-NEW \(62\.0 MB, serial NEW, LabDisk\)/);
    await lab.reboot("n1");
    expect(await sh("findmnt -n -o FSTYPE /srv/good")).toBe("ext4");
    await attach("GONE", 61);
    await expect.poll(() => lab.exec("n1", ["findmnt", "/srv/gone"]).then(({ code }) => code), { timeout: 30_000, message: "mounted by itself when it is back" }).toBe(0);
    await become(section);
  });
});

describe("what came to the disk between the look and the step", () => {
  test.each([
    ["filesystem: ext4", { filesystem: "ext4" }],
    ["filesystem: xfs", { filesystem: "xfs" }],
    ["filesystem: btrfs", { filesystem: "btrfs" }],
    ["swap", { swap: true }],
    ["partitions", { partitions: { all: { size: "rest", filesystem: "ext4" } } }],
  ])("is not overwritten by %s", async (_, content) => {
    await attach("RACE", 350);
    await sh(`wipefs -aq ${byId("RACE")}; udevadm settle`);
    const answer = await ask("converge", devices({ "scsi-RACE": content }), { before: `mkfs.ext4 -q -L theirs -E lazy_itable_init=1 ${byId("RACE")}; udevadm settle` });
    expect(answer.changes.find(({ result }) => result === "failed")?.error).toMatch(/is not blank any more, so it was left alone\. It holds: ext4/);
    expect(await sh(`blkid -p -o value -s LABEL ${byId("RACE")}`)).toBe("theirs");
  });
});

describe("a wipe", () => {
  const wipe = (id: string, content: object = { filesystem: "xfs", mount: "/srv/wiped" }) => devices({ "scsi-OLD": { wipe: { serial: "OLD", id }, ...content } });

  test("erases a disk with partitions once, and never again by the same id", async () => {
    await attach("OLD", 400);
    await sh(`printf 'label: gpt\\nsize=50MiB, name=a\\nsize=50MiB, name=b\\n' | sfdisk -q --no-tell-kernel ${byId("OLD")}; partx -u ${byId("OLD")}; udevadm settle; mkfs.ext4 -q ${byId("OLD")}-part1; mkfs.ext4 -q ${byId("OLD")}-part2; udevadm settle`);
    const { owned } = await become(wipe("first-time"));
    expect(owned).toContain("wipe/first-time");
    await sh("echo mine > /srv/wiped/file; sync");
    await become(wipe("first-time"));
    expect(await sh("cat /srv/wiped/file")).toBe("mine");
    // Somebody puts something else on it.
    await sh(`umount /srv/wiped; wipefs -aq ${byId("OLD")}; mkfs.ext4 -q -L later ${byId("OLD")}; udevadm settle`);
    await refused(wipe("first-time"), "disks/scsi-OLD", /holds (a file system \(ext4 "later"\)|something that wipefs knows as ext4).*\(the id first-time has been used on this node/, "OLD");
    // Gone from the section and back, also after the whole section was gone: used is used.
    await ask("converge", null);
    await refused(wipe("first-time"), "disks/scsi-OLD", /the id first-time has been used/, "OLD");
    await become(wipe("second-time"));
    expect(await sh("findmnt -n -o FSTYPE /srv/wiped")).toBe("xfs");
  });

  test("an agent that remembers nothing does not repeat it", async () => {
    await sh("echo kept > /srv/wiped/file; sync; rm -r /var/lib/disks-test; umount /srv/wiped");
    const { changes } = await become(wipe("second-time"));
    expect(changes.find(({ resource }) => resource === "disks/wipe/second-time")?.why).toMatch(/made after this very wipe/);
    expect(await sh("cat /srv/wiped/file")).toBe("kept");
  });

  test("with the same partitions again: what was in them is gone as well", async () => {
    await become(devices({}));
    const parts = { partitions: { a: { size: "50MiB", filesystem: "ext4" }, b: { size: "rest", filesystem: "xfs" } } };
    await become(wipe("third", parts));
    await become(wipe("fourth", parts));
    expect(await sh("lsblk -rno FSTYPE /dev/disk/by-id/scsi-OLD | xargs")).toBe("ext4 xfs");
  });

  test("of a blank disk uses the id up", async () => {
    await attach("FRESH", 60);
    const section = devices({ "scsi-FRESH": { wipe: { serial: "FRESH", id: "fresh" }, filesystem: "ext4" } });
    expect((await become(section)).owned).toContain("wipe/fresh");
  });
});

describe("power cut", () => {
  test("before every step in turn: the next run goes on, and ends as one without a cut", async () => {
    const section = (n: number) => devices({ [`scsi-CUT${n}`]: { wipe: { serial: `CUT${n}`, id: `cut${n}` }, partitions: { a: { size: "20MiB", filesystem: "ext4", label: `cut${n}`, mount: "/srv/cut" }, b: { size: "rest", filesystem: "ext4" } } } });
    await ask("converge", null);
    await attach("CUT0", 60);
    const { steps } = await become(section(0));
    expect(steps).toBeGreaterThan(12);
    for (const at of [2, 5, 8, 11]) {
      await ask("converge", null);
      await attach(`CUT${at}`, 60);
      expect((await drive("converge", section(at), { killAt: at })).code, `killed at ${at}`).toBe(137);
      if (at === 5) {
        await lab.crash("n1");
        await lab.start("n1");
      }
      await become(section(at));
      expect(await sh("findmnt -n -o LABEL /srv/cut")).toBe(`cut${at}`);
    }
  });
});

test("names of units are those of systemd-escape", async () => {
  const paths = ["/srv/data", "/srv/a-b/ä.x", "/", "/.hidden/x", "/mnt/with space", "/dev/disk/by-id/scsi-3600:0_A+b@c#d", "/a\\b", "/%h"];
  const { stdout } = await lab.exec("n1", ["systemd-escape", "--path", "--", ...paths]);
  expect(paths.map(escapePath)).toEqual(stdout.trim().split(" "));
});
