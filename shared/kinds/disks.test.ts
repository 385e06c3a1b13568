import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readAccounts } from "./accounts.ts";
import { parseMounts, parseSwaps } from "./disks-blocks.ts";
import type { Block } from "./disks-blocks.ts";
import { escapePath, uuidOf } from "./disks-names.ts";
import { bytesOf, sizeText } from "./disks-size.ts";
import { GUARD_PATH } from "./disks-tools.ts";
import { partitionNumbers } from "./disks-units.ts";
import { disks } from "./disks.ts";
import type { DisksFacts } from "./disks-facts.ts";
import type { DisksWant } from "./disks-section.ts";
import type { Json, Probe, Step } from "./kind.ts";

const refusal = (section: unknown): string => {
  const result = disks.schema.safeParse(section);
  return result.success ? "accepted" : JSON.stringify(result.error.issues);
};
const device = (disk: object, name = "ata-X_S1") => ({ devices: { [name]: disk } });

describe("the section", () => {
  test("is short for what is usual", () => {
    expect(disks.schema.parse(device({ filesystem: "ext4", mount: "/srv/data" })).devices["ata-X_S1"]).toEqual({ filesystem: "ext4", mount: { at: "/srv/data", options: [], waitSeconds: 30 } });
  });

  test.each([
    [{ devices: { sda: {} } }, "another disk after the next boot"],
    [{ devices: { "/dev/nvme0n1": {} } }, "another disk after the next boot"],
    [{ devices: { "/dev/disk/by-id/ata-X": {} } }, "without /dev/disk/by-id/: ata-X"],
    [{ devices: { "/dev/disk/by-path/pci-0": {} } }, "not which disk it is"],
    [{ devices: { "pci-0000:00:1f.2-ata-1": {} } }, "not which disk it is"],
    [{ devices: { "ata-X-part1": {} } }, "name the disk (ata-X)"],
    [{ devices: { "dm-name-vg-lv": {} } }, "see volumeGroups"],
    [device({ filesystem: "ext3" }), "ext4"],
    [device({ filesystem: "ext4", swap: true }), "there can be one thing on it"],
    [device({ mount: "/srv" }), "say which one"],
    [device({ filesystem: "ext4", mount: "/usr/lib" }), "belongs to the system"],
    [device({ filesystem: "ext4", mount: "srv" }), "begins with /"],
    [device({ filesystem: "ext4", mount: `/srv/${"ä".repeat(70)}` }), "choose a shorter path"],
    [device({ filesystem: "xfs", label: "longer-than-twelve" }), "at most 12"],
    [device({ lvm: "vg", label: "x" }), "belongs to a file system"],
    [device({ size: 500 }), "with its unit"],
    [device({ size: "500G" }), "500GB"],
    [device({ partitions: { a: { size: "rest" }, b: { size: "1GiB" } } }), "only the last partition"],
    [device({ wipe: { serial: "S1", id: "Upper" } }), "lower-case"],
    [device({ luks: { name: "x" } }), "either key or keyFile"],
    [device({ filesystem: "ext4", mount: { at: "/srv/x", options: ["a,b"] } }), "one word"],
    [{ volumeGroups: { vg: { volumes: { a: { size: "rest" }, b: { size: "rest" } } } } }, "only one volume"],
    [{ volumeGroups: { vg: { volumes: { a: { size: "1GiB", filesystem: "xfs", thin: {} } } } } }, "holds volumes, and nothing else"],
  ])("refuses %j", (section, part) => {
    expect(refusal(section)).toContain(part);
  });

  const misfits = (mine: object, theirs?: object): string[] => {
    const want = disks.schema.parse(mine);
    const nodes = [{ name: "n1", section: want }, ...(theirs === undefined ? [] : [{ name: "n2", section: disks.schema.parse(theirs) }])];
    return disks.resolve!(want, { cluster: "c", self: "n1", nodes }).misfits.map(({ path, message }) => `${path.join(".")}: ${message}`);
  };

  test("does not fit the other nodes, or itself", () => {
    expect(misfits(device({}), device({}, "ata-X_S2"))).toEqual([]);
    expect(misfits(device({}), device({}))).toEqual(["devices.ata-X_S1: the disk ata-X_S1 is a disk of n2 as well, and can be in one machine only"]);
    const twice = { filesystem: "ext4", label: "data", mount: "/srv/data" };
    expect(misfits({ devices: { "ata-X_S1": twice, "ata-X_S2": twice } })).toEqual([
      "devices.ata-X_S2.mount: the mount point /srv/data is used twice on this node",
      "devices.ata-X_S2.label: the label data is used twice on this node",
    ]);
    expect(misfits({ devices: { "ata-X_S1": { wipe: { serial: "S1", id: "a" } }, "ata-X_S2": { wipe: { serial: "S2", id: "a" } } } })).toEqual(["devices.ata-X_S2.wipe.id: the wipe id a is used twice on this node"]);
    expect(misfits(device({ wipe: { serial: "S9", id: "a" } }))).toEqual(["devices.ata-X_S1.wipe.serial: the serial S9 is not that of the disk ata-X_S1"]);
    expect(misfits(device({ wipe: { serial: "S9", id: "a" } }, "wwn-0x5000c500"))).toEqual([]);
    expect(misfits(device({ wipe: { serial: "S9", id: "a" } }, "wwn-0x5000c500"), device({}, "ata-X_S9"))).toEqual(["devices.wwn-0x5000c500.wipe.serial: the serial S9 is that of ata-X_S9, a disk of n2"]);
    expect(misfits(device({ wipe: { serial: "S9", id: "a" } }, "wwn-0x5000c500"), device({ wipe: { serial: "S9", id: "b" } }, "wwn-0x5000c501"))).toEqual(["devices.wwn-0x5000c500.wipe.serial: the serial S9 is that of wwn-0x5000c501, a disk of n2"]);
    expect(misfits(device({ wipe: { serial: "9", id: "a" } }, "wwn-0x5000c500"), device({}, "ata-X_S9"))).toEqual([]);
    // Virtual machines: the host names them, and all the same.
    const drive = "scsi-0QEMU_QEMU_HARDDISK_drive-scsi1";
    expect([misfits(device({}, drive), device({}, drive)), misfits(device({ wipe: { serial: "data", id: "a" } }, "virtio-data"), device({ wipe: { serial: "data", id: "a" } }, "virtio-data"))]).toEqual([[], []]);
    expect(misfits({ devices: { "ata-X_S1": { lvm: "vg" }, "ata-X_S2": { md: "r" }, "ata-X_S3": { zfs: "t" } } })).toHaveLength(3);
    expect(misfits({ devices: { "ata-X_S1": { luks: { name: "c", keyFile: "/k" } }, "ata-X_S2": { luks: { name: "c", keyFile: "/k" } } } })).toEqual(["devices.ata-X_S2.luks.name: the LUKS name c is used twice on this node"]);
  });
});

describe("names and numbers", () => {
  test("sizes have units", () => {
    expect([bytesOf("500GB"), bytesOf("1.5TiB"), bytesOf("512 MiB"), bytesOf("4T"), bytesOf("0GB"), bytesOf("-1GB")]).toEqual([5e11, 1.5 * 2 ** 40, 2 ** 29, null, null, null]);
    expect([sizeText(4_000_787_030_016), sizeText(536_870_912), sizeText(12)]).toEqual(["4.0 TB", "536.9 MB", "12 bytes"]);
  });

  test("a UUID follows from its words, and from nothing else", () => {
    expect(uuidOf("S1", "first")).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(new Set([uuidOf("S1", "first"), uuidOf("S1", "first"), uuidOf("S1", "second"), uuidOf("S1f", "irst")]).size).toBe(3);
  });

  test("units are named as systemd names them", () => {
    expect([escapePath("/"), escapePath("/srv/a-b/ä.x"), escapePath("//.hidden/")]).toEqual(["-", String.raw`srv-a\x2db-\xc3\xa4.x`, String.raw`\x2ehidden`]);
  });

  test("mounts and swaps are read with their escapes", () => {
    const mounts = parseMounts("36 35 98:0 /r /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw\n37 35 0:52 / /a rw - btrfs /dev/sdb rw\n38 35 8:1 / /a rw - xfs /dev/sda1 rw\nrubbish\n");
    expect([...mounts.keys()]).toEqual(["/mnt 2", "/a"]);
    expect(mounts.get("/a")).toMatchObject({ dev: "8:1", type: "xfs" });
    expect(parseSwaps("Filename Type Size\n/dev/sda2   partition 1 0 -2\n/swap\\040file file 1 0 -3\n")).toEqual(new Set(["/dev/sda2", "/swap file"]));
  });

  test("new partitions get the lowest numbers that are free", () => {
    const disk = { ...blank("sda"), partitions: [part(2, "b"), part(3, "c")] };
    expect([...partitionNumbers(disk, ["a", "b", "d"])]).toEqual([["a", 1], ["b", 2], ["d", 4]]);
    expect([...partitionNumbers(null, ["x", "y"])]).toEqual([["x", 1], ["y", 2]]);
  });
});

function blank(name: string, properties: Readonly<Record<string, string>> = {}): Block {
  return { name, dev: "8:0", sizeBytes: 1e9, startBytes: 0, number: null, readOnly: false, holders: [], partitions: [], properties: new Map(Object.entries({ ID_SERIAL_SHORT: "S1", ...properties })) };
}
function part(number: number, name: string, properties: Readonly<Record<string, string>> = {}): Block {
  return { ...blank(`sda${number}`, { ID_PART_ENTRY_NAME: name, ...properties }), number, sizeBytes: 1e8, startBytes: number * 1e8, dev: `8:${number}` };
}

const noProbe = { parsed: async () => null } as unknown as Probe;
const accounts = await readAccounts(noProbe);
function factsOf(block: Block | null, more: Partial<DisksFacts> = {}): DisksFacts {
  return { disks: new Map([["ata-X_S1", block]]), made: new Map(), signatures: new Map([["sda", []]]), tables: new Map(), others: [], slots: new Map(), mounts: new Map(), swaps: new Set(), files: new Map(), links: new Map(), entries: new Map(), filled: new Map(), lvm: { error: null, physical: new Map(), groups: new Map(), volumes: new Map() }, zfs: { error: null, pools: new Map(), datasets: new Map() }, accounts, ...more };
}
const WRITES = /^(mkfs\.|mkswap|pvcreate|cryptsetup|mdadm|zpool|wipefs|flock|sfdisk)/;
const guarded = (step: Step): boolean => step.do === "run" && step.argv[1] === GUARD_PATH;

/** What may stand on the disk, whatever of it is seen, and whatever is wanted. */
const contents = fc.record({
  type: fc.option(fc.constantFrom("ext4", "xfs", "btrfs", "swap", "crypto_LUKS", "LVM2_member", "linux_raid_member", "zfs_member", "ntfs", "ceph_bluestore"), { nil: null }),
  table: fc.option(fc.constantFrom("gpt", "dos"), { nil: null }),
  partitions: fc.array(fc.constantFrom("theirs", "other"), { maxLength: 2 }),
  label: fc.constantFrom(null, "any:r", "t", "old"),
  holders: fc.array(fc.constantFrom("dm-0", "md127"), { maxLength: 1 }),
  mounted: fc.boolean(),
  readOnly: fc.boolean(),
  signatures: fc.constantFrom<readonly string[] | null>([], ["bcache"], null),
});
const wishes = fc.constantFrom<object>({ filesystem: "ext4" }, { filesystem: "btrfs", mount: "/srv/x" }, { swap: true }, { lvm: "vg" }, { md: "r" }, { zfs: "t" }, { luks: { name: "c", keyFile: "/k", filesystem: "xfs" } }, { partitions: { mine: { size: "rest", filesystem: "xfs" } } });
const groupsOf = { volumeGroups: { vg: {} }, arrays: { r: { level: 0 } }, zpools: { t: { layout: "stripe" } } };

describe("nothing is destroyed by accident", () => {
  const blockOf = (it: (typeof contents) extends fc.Arbitrary<infer T> ? T : never): Block => ({
    ...blank("sda", { ...(it.type === null ? {} : { ID_FS_TYPE: it.type }), ...(it.label === null ? {} : { ID_FS_LABEL: it.label }), ...(it.table === null ? {} : { ID_PART_TABLE_TYPE: it.table }) }),
    partitions: it.partitions.map((name, at) => part(at + 1, name, { ID_FS_TYPE: "ext4" })),
    holders: it.holders,
    readOnly: it.readOnly,
  });

  test("what is not blank is written on only by a wipe of its serial, whose id goes into the inventory first", () => {
    fc.assert(
      fc.property(contents, wishes, fc.constantFrom("none", "new", "used", "other serial"), (it, wish, wipe) => {
        const block = blockOf(it);
        const isBlank = it.type === null && it.table === null && it.partitions.length === 0 && it.holders.length === 0 && !it.mounted && !it.readOnly && it.signatures?.length === 0;
        const inUse = it.mounted || it.holders.length > 0;
        const section = { ...groupsOf, ...device({ ...wish, ...(wipe === "none" ? {} : { wipe: { serial: wipe === "other serial" ? "S2" : "S1", id: "one" } }) }, "wwn-0x1") };
        const want: DisksWant = disks.schema.parse(section);
        const facts = factsOf(null, { disks: new Map([["wwn-0x1", block]]), signatures: new Map([["sda", it.signatures]]), mounts: parseMounts(it.mounted ? "36 35 8:0 / /mnt rw - ext4 /dev/sda rw" : "") });
        const owned = new Map<string, Json>(wipe === "used" ? [["wipe/one", { serial: "S1" }]] : []);
        const steps = disks.plan(want, facts, owned);
        const wipes = steps.findIndex((step) => step.do === "run" && step.argv.includes("wipefs"));
        if (wipes >= 0) {
          expect([wipe, inUse, isBlank]).toEqual(["new", false, false]);
          expect(steps[wipes]).toMatchObject({ resource: "disks/wipe/one", claim: { serial: "S1" } });
        }
        for (const [at, step] of steps.entries()) {
          if (step.do !== "run" || at === wipes) continue;
          if (!guarded(step)) expect(WRITES.test(step.argv[0]) && !["--assemble", "--manage", "import"].includes(step.argv[1] ?? "") && step.argv.join(" "), "only behind the guard").toBe(false);
          else if (step.argv.includes("/dev/disk/by-id/wwn-0x1")) expect(isBlank || (wipes >= 0 && at > wipes), `${JSON.stringify(it)} ${step.argv.join(" ")}`).toBe(true);
        }
        const joined = steps.find((step) => step.do === "run" && ["--assemble", "--manage", "import"].includes(step.argv[1] ?? ""));
        if (joined !== undefined) expect([["any:r", "--assemble"], ["t", "import"]], "only into the array or pool that it says it is of").toContainEqual([it.label, joined.do === "run" ? joined.argv[1] : ""]);
        expect(steps.some((step) => step.release === true && step.resource.startsWith("disks/wipe/"))).toBe(false);
      }),
      { numRuns: 2000 },
    );
  });

  test("what leaves the section is unmounted, and nothing is written on any disk", () => {
    const owned = new Map<string, Json>([["ata-X_S1", {}], ["/srv/x", { type: "absent", unit: "srv-x.mount", files: ["/etc/systemd/system/srv-x.mount"] }], ["wipe/one", {}], ["luks/c", { type: "absent" }], ["md/r", {}]]);
    const steps = disks.plan(disks.schema.parse({}), factsOf(blank("sda")), owned);
    expect(steps.filter((step) => step.do === "run").map((step) => step.argv)).toEqual([["true"], ["true"], ["true"]]);
    expect(steps.filter(({ release }) => release).map(({ resource }) => resource)).toEqual(["disks//srv/x", "disks/ata-X_S1", "disks/luks/c", "disks/md/r"]);
  });
});

test("two names of one disk: the second is refused, and the first is what it should be", () => {
  const want = disks.schema.parse({ devices: { "ata-X_S1": { filesystem: "ext4" }, "wwn-0x1": { filesystem: "xfs" } } });
  const block = blank("sda");
  const steps = disks.plan(want, factsOf(null, { disks: new Map([["ata-X_S1", block], ["wwn-0x1", block]]) }), new Map());
  expect(steps.filter((step) => step.do === "fail")).toMatchObject([{ resource: "disks/wwn-0x1", message: expect.stringContaining("wwn-0x1 and ata-X_S1 are two names of the same disk (1.0 GB, serial S1): write it once") }]);
  expect(steps.some((step) => step.do === "run" && step.argv.includes("mkfs.xfs"))).toBe(false);
  expect(steps.some((step) => step.do === "run" && step.argv.includes("mkfs.ext4"))).toBe(true);
});

describe("a missing disk", () => {
  const want = disks.schema.parse(device({ filesystem: "ext4", mount: "/srv/x" }));
  const claim = { disk: "4.0 TB, serial S1", path: "pci-0:1-ata-3", slot: "Slot 07 of enclosure 6:0:0:0" };

  test("is told with its slot, and with what is in its place now", () => {
    const other = { name: "ata-Y_S2", block: blank("sdb", { ID_SERIAL: "Y_S2", ID_SERIAL_SHORT: "S2", ID_PATH: "pci-0:1-ata-3" }) };
    const steps = disks.plan(want, factsOf(null, { others: [other] }), new Map([["ata-X_S1", claim]]));
    expect(steps[0]).toMatchObject({ do: "fail", message: expect.stringMatching(/in Slot 07 of enclosure 6:0:0:0; at pci-0:1-ata-3; 4\.0 TB, serial S1.*In its place there is now ata-Y_S2 \(1\.0 GB, serial S2\)/) });
    expect(steps.slice(1)).toMatchObject([{ resource: "disks//srv/x", needs: ["disks/ata-X_S1"] }]);
  });

  test("is told by what is known of its mount, and with the blank disks that could take its place", () => {
    const others = [{ name: "ata-Y_S2", block: blank("sdb", { ID_SERIAL: "Y_S2", ID_SERIAL_SHORT: "S2" }) }, { name: "ata-Z_S3", block: blank("sdc", { ID_SERIAL: "Z", ID_FS_TYPE: "ext4" }) }];
    const [step] = disks.plan(want, factsOf(null, { others }), new Map<string, Json>([["/srv/x", { type: "absent", on: "ata-X_S1", ...claim }]]));
    expect(step).toMatchObject({ message: expect.stringMatching(/serial S1\)\..*blank and not declared: ata-Y_S2 \(1\.0 GB, serial S2\)\.$/) });
  });
});
