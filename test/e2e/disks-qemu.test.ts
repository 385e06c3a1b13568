import { readFileSync, realpathSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Machine } from "../qemu/machine.ts";

/**
 * What no container can have, on a Debian with a kernel of its own: LVM with a thin pool, software RAID, LUKS, swap, and a true
 * reboot. The machine is emulated, so that this takes minutes: it runs when EVENKEEL_QEMU is set.
 */

const root = join(import.meta.dirname, "..", "..");
const timeout = 15 * 60_000;
const asked = process.env["EVENKEEL_QEMU"] !== undefined;

interface Report {
  readonly outcome?: string;
  readonly changes: readonly { readonly resource: string; readonly result: string; readonly error?: string }[];
}
interface Answer {
  readonly converged: Report;
  readonly plan: Report;
  readonly started: number;
}

const section = (change: { readonly data?: string; readonly thin?: string; readonly key?: string; readonly devices?: object } = {}) => ({
  devices: {
    "virtio-D1": { lvm: "vg0" },
    "virtio-D2": { partitions: { swap: { size: "128MiB", swap: { priority: 5 } }, pv: { size: "rest", lvm: "vg0" } } },
    "virtio-D3": { md: "r1" },
    "virtio-D4": { md: "r1" },
    "virtio-D5": { luks: { name: "vault", key: change.key ?? "open sesame", filesystem: "ext4", label: "vault", mount: "/srv/vault" } },
    ...change.devices,
  },
  volumeGroups: {
    vg0: {
      volumes: {
        data: { size: change.data ?? "400MiB", filesystem: "ext4", label: "data", mount: "/srv/data" },
        pool: { size: "600MiB", thin: { vm1: { size: change.thin ?? "10GiB", filesystem: "xfs", mount: "/srv/vm1" } } },
        crypt: { size: "100MiB", luks: { name: "inner", key: "open sesame", swap: true } },
        last: { size: "rest", filesystem: "btrfs", mount: "/srv/last" },
      },
    },
  },
  arrays: { r1: { level: 1, filesystem: "xfs", label: "r1", mount: { at: "/srv/r1", options: ["noatime"] } } },
});

describe.skipIf(!asked)("disks in an emulated machine", () => {
  let machine: Machine;
  let work: string;

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), "evenkeel-qemu-"));
    const sizes = { D1: 1.5e9, D2: 1.5e9, D3: 1e9, D4: 1e9, D5: 6e8, D6: 6e8 };
    machine = await Machine.make(Object.entries(sizes).map(([serial, sizeBytes]) => ({ serial, sizeBytes })), realpathSync(join(root, "node_modules/.bin/node")));
    await machine.start();
    const outfile = join(work, "driver.mjs");
    await build({ entryPoints: [join(root, "test/fixtures/disks/driver.ts")], outfile, bundle: true, minify: true, platform: "node", target: "node26", format: "esm", banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' }, logLevel: "warning" });
    await machine.writeFile("/opt/driver.mjs", readFileSync(outfile));
  }, timeout);
  afterAll(async () => {
    await machine?.remove();
    await rm(work, { recursive: true, force: true });
  }, timeout);

  const sh = async (script: string): Promise<string> => {
    const outcome = await machine.shell(script, timeout);
    expect(outcome.code, `${script}\n${outcome.stdout}${outcome.stderr}`).toBe(0);
    return outcome.stdout.trim();
  };
  let commits = 0;
  const converge = async (wanted: object, before?: string): Promise<Answer> => {
    await machine.writeFile("/run/input.json", JSON.stringify({ section: wanted, commit: `commit-${(commits += 1)}`, ...(before === undefined ? {} : { before }) }));
    return JSON.parse(await sh("node /opt/driver.mjs converge /run/input.json")) as Answer;
  };
  const become = async (wanted: object): Promise<void> => {
    const answer = await converge(wanted);
    expect(answer.converged.changes.filter(({ result }) => result !== "done")).toEqual([]);
    expect(answer, "a look right after it asks LVM, and nobody else").toMatchObject({ converged: { outcome: "converged" }, plan: { changes: [] }, started: 1 });
  };

  test(
    "LVM with a thin pool, RAID, LUKS on a disk and on a volume, and swap, out of blank disks; all of it is there after a reboot",
    async () => {
      await become(section());
      await sh("for d in data last r1 vault vm1; do echo $d > /srv/$d/file; done; sync");
      // The second physical volume gets larger, while the machine is off.
      await machine.enlarge("D2", 2.2e9);
      await machine.reboot();
      expect(await sh("systemctl --failed --no-legend; cat /srv/{data,last,r1,vault,vm1}/file | xargs; tail -n +2 /proc/swaps | wc -l")).toBe("data last r1 vault vm1\n2");
    },
    timeout,
  );

  test(
    "grows: partition, physical volume, the volume that takes the rest, a thin volume, and the file systems on them",
    async () => {
      await become(section({ thin: "12GiB" }));
      expect(await sh("df --output=size -BM /srv/last /srv/vm1 | tail -n +2 | xargs")).toMatch(/^2\d{3}M 122\d{2}M$/);
    },
    timeout,
  );

  test(
    "one more disk for the group, and room for a mounted ext4 out of it",
    async () => {
      await become(section({ thin: "12GiB", data: "500MiB", devices: { "virtio-D6": { lvm: "vg0" } } }));
      expect(Number(await sh("df --output=size -BM /srv/data | tail -1 | tr -dc 0-9"))).toBeGreaterThan(440);
    },
    timeout,
  );

  test(
    "a blank disk takes the place of a RAID member that has died",
    async () => {
      await sh("mdadm --manage /dev/md/r1 --fail /dev/disk/by-id/virtio-D4 --remove /dev/disk/by-id/virtio-D4; wipefs -aq /dev/disk/by-id/virtio-D4; udevadm settle");
      await become(section({ thin: "12GiB", data: "500MiB", devices: { "virtio-D6": { lvm: "vg0" } } }));
      expect(await sh("mdadm --wait /dev/md/r1 >&2; grep -o '\\[UU\\]' /proc/mdstat; cat /srv/r1/file")).toBe("[UU]\nr1");
    },
    timeout,
  );

  test(
    "a key that has changed in the repository does not lock the disk",
    async () => {
      const { converged } = await converge(section({ thin: "12GiB", data: "500MiB", key: "another", devices: { "virtio-D6": { lvm: "vg0" } } }));
      expect(converged.changes.filter(({ result }) => result === "failed")).toMatchObject([{ resource: "disks/luks/vault", error: expect.stringMatching(/never overwritten.*luksChangeKey/) }]);
      expect(await sh("cat /etc/cryptsetup-keys.d/vault.key; stat -c ' %a' /etc/cryptsetup-keys.d/vault.key; cat /srv/vault/file")).toBe("open sesame 400\nvault");
    },
    timeout,
  );

  test(
    "what came to a disk between the look and the step is not overwritten",
    async () => {
      await sh("umount /srv/vault; systemctl disable --now evenkeel-luks-vault; wipefs -aq /dev/disk/by-id/virtio-D5; udevadm settle; rm -rf /var/lib/disks-test");
      const wishes = [{ devices: { "virtio-D5": { luks: { name: "zz", key: "k" } } } }, { devices: { "virtio-D5": { lvm: "vgz" } }, volumeGroups: { vgz: {} } }];
      for (const wish of wishes) {
        const { converged } = await converge(wish, "mkfs.ext4 -q -L theirs /dev/disk/by-id/virtio-D5; udevadm settle");
        expect(converged.changes.find(({ result }) => result === "failed")?.error).toMatch(/is not blank any more, so it was left alone\. It holds: ext4/);
        expect(await sh("blkid -p -o value -s LABEL /dev/disk/by-id/virtio-D5; wipefs -aq /dev/disk/by-id/virtio-D5; udevadm settle")).toBe("theirs");
      }
    },
    timeout,
  );
});
