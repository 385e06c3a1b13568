import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Guest } from "../qemu/guest.ts";

/**
 * What no container can have, on a Debian with a kernel of its own: LVM with a thin pool, software RAID, LUKS, swap, and a true
 * reboot. The machine is emulated, so that this takes minutes: it runs when EVENKEEL_QEMU is set.
 */

const timeout = 15 * 60_000;
const asked = process.env["EVENKEEL_QEMU"] !== undefined;

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
  let guest: Guest;
  const sh = (script: string) => guest.sh(script);
  const become = (wanted: object) => guest.become(wanted);

  beforeAll(async () => {
    const sizes = { D1: 1.5e9, D2: 1.5e9, D3: 1e9, D4: 1e9, D5: 6e8, D6: 6e8 };
    guest = await Guest.start("disks", { disks: Object.entries(sizes).map(([serial, sizeBytes]) => ({ serial, sizeBytes })) });
  }, timeout);
  afterAll(() => guest?.machine.remove(), timeout);

  test(
    "LVM with a thin pool, RAID, LUKS on a disk and on a volume, and swap, out of blank disks; all of it is there after a reboot",
    async () => {
      await become(section());
      await sh("for d in data last r1 vault vm1; do echo $d > /srv/$d/file; done; sync");
      // The second physical volume gets larger, while the machine is off.
      await guest.machine.enlarge("D2", 2.2e9);
      await guest.machine.reboot();
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
      const { converged } = await guest.converge(section({ thin: "12GiB", data: "500MiB", key: "another", devices: { "virtio-D6": { lvm: "vg0" } } }));
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
        const { converged } = await guest.converge(wish, { before: "mkfs.ext4 -q -L theirs /dev/disk/by-id/virtio-D5; udevadm settle" });
        expect(converged.changes.find(({ result }) => result === "failed")?.error).toMatch(/is not blank any more, so it was left alone\. It holds: ext4/);
        expect(await sh("blkid -p -o value -s LABEL /dev/disk/by-id/virtio-D5; wipefs -aq /dev/disk/by-id/virtio-D5; udevadm settle")).toBe("theirs");
      }
    },
    timeout,
  );
});
