import type { DisksFacts } from "./disks-facts.ts";
import type { ManagedUnit } from "./disks-units.ts";
import type { Json, Owned, ResourceId, Step } from "./kind.ts";
import { claimedType, nothingAt, planFile } from "./managed-file.ts";

/** Steps that bring a unit's files in place, enable it and start it; `[]` when all is so. */
export function planUnit({ facts, owned }: { readonly facts: DisksFacts; readonly owned: Owned }, unit: ManagedUnit, active: boolean, needs: readonly string[], last: { readonly [key: string]: Json } = {}): Step[] {
  const resource: ResourceId = `disks/${unit.key}`;
  const common = { resource, impact: "service" as const, ...(needs.length === 0 ? {} : { needs: needs.map((key): ResourceId => `disks/${key}`) }) };
  const written = unit.files.flatMap(({ path, content, mode, secret }) =>
    planFile({ path, content, mode, owner: "root", group: "root" }, facts.files.get(path) ?? nothingAt, {
      resource,
      accounts: facts.accounts,
      owned,
      common: {
        ...(needs.length === 0 ? {} : { needs: common.needs! }),
        ...(secret === true ? { sensitive: true } : {}),
        // A mount takes new options by a remount; a swap and an opened LUKS device stay as they are until the next boot.
        ...(active && unit.sort === "mount" && path.endsWith(".mount") ? { then: [{ unit: unit.unit, action: "reload" }], impact: "service" } : {}),
      },
    }),
  );
  const disabled = unit.links.some((link) => facts.links.get(link) == null);
  const steps: Step[] = [
    ...written,
    ...(written.length > 0 || !active ? [{ ...common, impact: "none" as const, why: written.length > 0 ? "systemd has to read the changed unit file" : "systemd may not have read the unit file yet", do: "unit" as const, action: "daemon-reload" as const, unit: unit.unit }] : []),
    ...(disabled ? [{ ...common, impact: "none" as const, why: "is not enabled, should be at every boot", do: "unit" as const, action: "enable" as const, unit: unit.unit }] : []),
    ...(active ? [] : [{ ...common, why: `is not ${STATES[unit.sort]}, should be`, do: "unit" as const, action: "start" as const, unit: unit.unit }]),
  ];
  if (owned.has(unit.key)) return steps;
  // Keys are not among the files that go when the unit goes: without its key an encrypted disk is lost.
  const files = unit.files.flatMap(({ path, secret }) => (secret === true ? [] : [path]));
  return steps.map((step, at): Step => {
    const { claim, ...rest } = step;
    return at === 0 ? { ...rest, claim: { type: claimedType(claim), unit: unit.unit, files, ...last } } : rest;
  });
}

const STATES = { mount: "mounted", swap: "used", luks: "open" } as const;
