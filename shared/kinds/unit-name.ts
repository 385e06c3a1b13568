import * as z from "zod";

/** The kinds of units that are managed; slices, scopes, devices and the rest follow from others. */
export const UNIT_TYPES = ["service", "timer", "socket", "mount", "automount", "path", "target", "swap", "slice"] as const;

/** systemd.unit(5): at most 255 characters, with these characters. */
const UNIT_NAME = new RegExp(`^[A-Za-z0-9:_.\\\\-]+(@[A-Za-z0-9:_.\\\\-]*)?\\.(${UNIT_TYPES.join("|")})$`);

/** `nginx` → `nginx.service`; a name that carries a type of unit stays as it is. */
export function fullUnitName(name: string): string {
  return UNIT_TYPES.some((type) => name.endsWith(`.${type}`)) ? name : `${name}.service`;
}

/** `getty@.service`: nothing that could run; only its instances, such as `getty@tty1.service`, can. */
export function isTemplateUnit(unit: string): boolean {
  return unit.includes("@.");
}

/** `worker@one.service` → `worker@.service`; any other name stays as it is. */
export function templateOf(unit: string): string {
  return unit.replace(/@.*(\.[a-z]+)$/, "@$1");
}

/** A unit as people name it, with or without `.service`. */
export const writtenName = z
  .string()
  .refine((name) => name.length <= 247 && !name.startsWith("-") && !name.startsWith(".") && UNIT_NAME.test(fullUnitName(name)), {
    message: `a unit's name, like nginx, backup.timer or getty@tty1.service (types: ${UNIT_TYPES.join(", ")})`,
  });

/** The same; the output is the full name. */
export const unitName = writtenName.transform(fullUnitName);

/** One unit or several of them; the output is always a list without doubles. */
export const unitNames = z
  .union([unitName.describe("One unit"), z.array(unitName.describe("One unit")).max(20).describe("Several units")])
  .transform((names) => [...new Set(typeof names === "string" ? [names] : names)]);
