import * as z from "zod";
import { content } from "../config/content.ts";
import type { Content } from "../config/content.ts";
import type { Accounts } from "./accounts.ts";
import type { At } from "./managed-file.ts";
import { fullUnitName, isTemplateUnit, writtenName } from "./unit-name.ts";
import type { UnitState } from "./unit-state.ts";

const dropInName = z
  .string()
  .regex(/^[A-Za-z0-9_@][A-Za-z0-9_.@-]{0,199}$/, "a drop-in's name has letters, digits, _, @, . and -, like limits")
  .refine((name) => !name.endsWith(".conf"), "leave .conf out: it is added");

const full = z
  .strictObject({
    enabled: z.boolean().optional().describe("Started at boot or not; left as it is when not said"),
    running: z.boolean().optional().describe("Running now or not; left as it is when not said"),
    masked: z.boolean().optional().describe("Masked: stopped, and nothing can start it; excludes the other fields but dropIns"),
    disruptive: z.boolean().optional().describe("The cluster leans on this unit: whatever stops, restarts or reloads it goes node by node, drained, under a lease, and not everywhere at once"),
    unit: content.optional().describe("The whole unit file, kept in /etc/systemd/system"),
    dropIns: z
      .record(dropInName, content)
      .optional()
      .describe("Drop-ins by name: NAME becomes /etc/systemd/system/UNIT.d/NAME.conf"),
  })
  .superRefine((unit, check) => {
    for (const other of ["enabled", "running"] as const) {
      if (unit.masked === true && unit[other] === true) check.addIssue({ code: "custom", path: [other], message: `a masked unit cannot be ${other}: leave one of the two out` });
    }
    if (unit.masked === true && unit.unit !== undefined) check.addIssue({ code: "custom", path: ["unit"], message: "a masked unit has no unit file: leave one of the two out" });
  })
  .describe("A unit in full");

const short = z
  .enum(["running", "stopped", "masked"])
  .transform((word) => full.parse(word === "masked" ? { masked: true } : { enabled: word === "running", running: word === "running" }))
  .describe("`running`: enabled and running; `stopped`: disabled and stopped; `masked`: nothing can start it");

export const servicesSchema = z
  .record(writtenName, z.union([short, full]))
  .transform((written, check) => {
    const units: Record<string, z.output<typeof full>> = {};
    for (const [as, unit] of Object.entries(written)) {
      const name = fullUnitName(as);
      if (units[name] !== undefined) check.addIssue({ code: "custom", path: [as], message: `${as} is ${name}, which is here already: write one of the two` });
      units[name] = unit;
      const state = (["enabled", "running", "masked"] as const).find((field) => unit[field] !== undefined);
      if (isTemplateUnit(name) && state !== undefined) {
        check.addIssue({ code: "custom", path: [as, state], message: `${name} is a template: name an instance of it, such as ${name.replace("@.", "@one.")}; only unit and dropIns belong here` });
      }
    }
    return units;
  })
  .describe("systemd units by name; `nginx` means nginx.service");

export type ServicesWant = z.output<typeof servicesSchema>;
export type ServiceEntry = ServicesWant[string];

export interface ServicesFacts {
  readonly units: ReadonlyMap<string, UnitState>;
  /** Why systemd did not answer, or null. */
  readonly error: string | null;
  /** What stands at the unit files that are wanted or owned. */
  readonly at: ReadonlyMap<string, At>;
  readonly accounts: Accounts;
}

/** Path → its unit and content, of all unit files and drop-ins in the section. */
export function wantedFiles(want: ServicesWant): ReadonlyMap<string, { readonly unit: string; readonly content: Content }> {
  const files = new Map<string, { unit: string; content: Content }>();
  for (const [unit, entry] of Object.entries(want)) {
    if (entry.unit !== undefined) files.set(unitPath(unit), { unit, content: entry.unit });
    for (const [name, dropIn] of Object.entries(entry.dropIns ?? {})) files.set(`${unitPath(unit)}.d/${name}.conf`, { unit, content: dropIn });
  }
  return files;
}

export function unitPath(unit: string): string {
  return `/etc/systemd/system/${unit}`;
}

/** The unit that a unit file or a drop-in belongs to. */
export function unitOfPath(path: string): string {
  const name = path.slice("/etc/systemd/system/".length).split("/")[0]!;
  return fullUnitName(path.endsWith(".conf") ? name.replace(/\.d$/, "") : name);
}
