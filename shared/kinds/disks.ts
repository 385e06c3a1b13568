import type { Planning } from "./disks-content.ts";
import { planDevice } from "./disks-devices.ts";
import { GUARD_BYTES, observeDisks } from "./disks-facts.ts";
import type { DisksFacts } from "./disks-facts.ts";
import { planArray, planPool } from "./disks-groups.ts";
import { planMounts, pruneUnits } from "./disks-mounts.ts";
import { misfitsOf, mountsOf } from "./disks-places.ts";
import { disksSchema } from "./disks-section.ts";
import { GUARD_PATH } from "./disks-tools.ts";
import { planGroup } from "./disks-volumes.ts";
import { defineKind } from "./kind.ts";
import type { ResourceId, Step } from "./kind.ts";
import { nothingAt, planFile } from "./managed-file.ts";

/**
 * Disks, what stands on them, and where it is mounted. Nothing is destroyed by accident:
 *
 * - a disk is known by its name in /dev/disk/by-id, and by nothing else;
 * - something is made only on what is blank, and the program that makes it is started only if it is blank at that moment;
 * - a `wipe` is good for one disk, by its serial number, and one time, by its id, which is remembered for ever;
 * - what leaves the section is unmounted, and stays on the disk.
 *
 * Keys of the inventory: a disk (what it was, to be said when it is missing), a mount point (its unit), `swap/PLACE`,
 * `luks/NAME`, `size/MOUNT POINT`, and `wipe/ID`, which never goes. What a step creates is seen by a second look in the same
 * run: a file system is made to fill a device that has just grown, and what was behind a locked LUKS header is looked at.
 */
export const disks = defineKind({
  name: "disks",
  summary: "Disks by their lasting names: partitions, file systems, swap, LUKS, LVM, software RAID, ZFS, and mounts",
  schema: disksSchema,

  resolve: (want, around) => ({ want, misfits: misfitsOf(want, around) }),

  observe: observeDisks,

  plan(want, facts, owned): readonly Step[] {
    const plan: Planning = { want, facts, owned, states: new Map() };
    const steps = [
      ...pruneUnits(plan),
      ...Object.keys(want.devices).flatMap((name) => planDevice(plan, name)),
      ...Object.keys(want.arrays).flatMap((name) => planArray(plan, name)),
      ...Object.keys(want.volumeGroups).flatMap((name) => planGroup(plan, name)),
      ...Object.keys(want.zpools).flatMap((name) => planPool(plan, name)),
      ...planMounts(plan),
    ];
    return withGuard(steps, facts);
  },

  watch: (want) => ({ paths: ["/dev/disk/by-id", ...mountsOf(want).map(({ mount }) => mount.at)] }),
});

/** The guard is in its place before the first step that runs behind it. */
function withGuard(steps: readonly Step[], facts: DisksFacts): readonly Step[] {
  const resource: ResourceId = "disks/on-blank";
  const isGuarded = (step: Step): boolean => step.do === "run" && step.argv[1] === GUARD_PATH;
  if (!steps.some(isGuarded)) return steps;
  const { accounts } = facts;
  const guard = planFile({ path: GUARD_PATH, content: GUARD_BYTES, mode: 0o755, owner: "root", group: "root" }, facts.files.get(GUARD_PATH) ?? nothingAt, { resource, accounts, owned: new Map([["on-blank", {}]]) });
  return [...guard, ...steps.map((step) => (isGuarded(step) ? { ...step, needs: [resource, ...(step.needs ?? [])] } : step))];
}
