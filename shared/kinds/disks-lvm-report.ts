import * as z from "zod";
import type { Probe } from "./kind.ts";

/** LVM as it reports itself; neither /sys nor udev's database tells which group a physical volume belongs to, or what is free. */
export interface LvmReport {
  /** Why LVM did not answer, for people, or null. */
  readonly error: string | null;
  /** Device → its group; an empty name means none. */
  readonly physical: ReadonlyMap<string, { readonly group: string; readonly sizeBytes: number; readonly deviceBytes: number }>;
  readonly groups: ReadonlyMap<string, { readonly freeBytes: number; readonly extentBytes: number; readonly missing: number }>;
  /** `GROUP/VOLUME` */
  readonly volumes: ReadonlyMap<string, { readonly sizeBytes: number; readonly active: boolean }>;
}

const bytes = z.string().transform(Number);
const Report = z.object({
  report: z.array(
    z.object({
      vg: z.array(z.object({ vg_name: z.string(), vg_free: bytes, vg_extent_size: bytes, vg_missing_pv_count: bytes })).default([]),
      pv: z.array(z.object({ pv_name: z.string(), vg_name: z.string().optional(), pv_size: bytes, dev_size: bytes })).default([]),
      lv: z.array(z.object({ lv_name: z.string(), lv_size: bytes, lv_active: z.string() })).default([]),
    }),
  ),
});

const ARGV = [
  "lvm",
  "fullreport",
  "--reportformat=json",
  "--units=b",
  "--nosuffix",
  "--configreport=vg",
  "--options=vg_name,vg_free,vg_extent_size,vg_missing_pv_count",
  "--configreport=pv",
  "--options=pv_name,vg_name,pv_size,dev_size",
  "--configreport=lv",
  "--options=lv_name,lv_size,lv_active",
  // Of no use here, and a report cannot be left out; these are the shortest.
  "--configreport=pvseg",
  "--options=pvseg_start",
  "--configreport=seg",
  "--options=segtype",
] as const;

export async function readLvm(probe: Probe): Promise<LvmReport> {
  const output = await probe.run(ARGV);
  const nothing = { physical: new Map(), groups: new Map(), volumes: new Map() };
  if (output.code === 127) return { ...nothing, error: "LVM is not installed: declare lvm2 under packages" };
  if (output.code !== 0) return { ...nothing, error: `lvm fullreport ended with code ${output.code}: ${output.stderr.trim().split("\n").slice(0, 3).join(" ")}` };
  return parseLvm(output.stdout);
}

/** Each group has a part of the report to itself; physical volumes of no group share the last one. */
export function parseLvm(stdout: string): LvmReport {
  const parsed = Report.safeParse(jsonOf(stdout));
  if (!parsed.success) return { error: `lvm fullreport gave something else than expected: ${z.prettifyError(parsed.error).split("\n")[0]}`, physical: new Map(), groups: new Map(), volumes: new Map() };
  const parts = parsed.data.report;
  return {
    error: null,
    physical: new Map(parts.flatMap(({ vg, pv }) => pv.map((one) => [one.pv_name, { group: one.vg_name ?? vg[0]?.vg_name ?? "", sizeBytes: one.pv_size, deviceBytes: one.dev_size }]))),
    groups: new Map(parts.flatMap(({ vg }) => vg.map((one) => [one.vg_name, { freeBytes: one.vg_free, extentBytes: one.vg_extent_size, missing: one.vg_missing_pv_count }]))),
    volumes: new Map(parts.flatMap(({ vg, lv }) => lv.map((one) => [`${vg[0]?.vg_name}/${one.lv_name}`, { sizeBytes: one.lv_size, active: one.lv_active === "active" }]))),
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
