import { createHash } from "node:crypto";
import type { Act, Probe, ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Earlier } from "../engine/inventory.ts";
import { failed } from "../host/host.ts";
import type { Host, StepResult } from "../host/host.ts";
import type { ConfirmRecord } from "./record.ts";

/**
 * Puts back what a record holds. Doing it twice, or again after it was cut off anywhere, ends the same: first what came up
 * goes down, then the files, the last one first, then what the kernel was told, then the programs that take something back, then the
 * restarts. One thing
 * that fails keeps none of the others from being put back.
 */

/** Where systemd and its generators (netplan's is one) read from: what changes there counts after a reload. */
const READ_BY_SYSTEMD = /^\/(etc|run|usr\/lib|lib)\/(systemd\/system|netplan)\//;
const ACT_TIMEOUT_MAX_MS = 60_000;
const TRIGGER_TIMEOUT_MS = 60_000;
const LEFT_MAX = 20;
const LEFT_MAX_CHARS = 500;

/** Only the files, before anything reads them: at boot. Answers what could not be put back, a sentence each. */
export async function putBackFiles(record: ConfirmRecord, host: Host): Promise<readonly string[]> {
  const left: string[] = [];
  for (const { path, was } of record.paths.toReversed()) {
    const result = await restore(path, was, host);
    if (!result.ok) left.push(`${path}: ${result.message}`);
  }
  if (record.paths.some(({ path }) => READ_BY_SYSTEMD.test(path))) {
    const result = await host.units("daemon-reload", [], TRIGGER_TIMEOUT_MS);
    if (!result.ok) left.push(result.message);
  }
  return bounded(left);
}

/** All of it. @param bootId of the boot that runs now. */
export async function putBack(record: ConfirmRecord, host: Host, bootId: string): Promise<readonly string[]> {
  const sameBoot = record.bootId === bootId;
  const left = await takeBack(record.actsFirst, host, sameBoot);
  left.push(...(await putBackFiles(record, host)));
  if (sameBoot) {
    for (const { path, value } of record.values.toReversed()) {
      const result = await host.apply({ ...about(`values/${path}`), do: "set", path, value }, undefined);
      if (!result.ok) left.push(`${path}: ${result.message}`);
    }
  }
  left.push(...(await takeBack(record.acts, host, sameBoot)));
  // What has started from the files as they are now needs no restart.
  if (sameBoot || record.filesBackIn !== bootId) {
    for (const trigger of record.triggers) {
      const result = await host.trigger(trigger, TRIGGER_TIMEOUT_MS);
      if (!result.ok) left.push(`${trigger.action} ${trigger.unit}: ${result.message}`);
    }
  }
  return bounded(left);
}

/** The last one first. What only the kernel or a daemon knew is gone with its boot: then there may be nothing to take back. */
async function takeBack(acts: readonly Act[], host: Host, sameBoot: boolean): Promise<string[]> {
  const left: string[] = [];
  for (const act of acts.toReversed()) {
    const result = await host.apply(asStep(act), undefined);
    if (!result.ok && sameBoot) left.push(`${act.doing}: ${result.message}`);
  }
  return left;
}

/** What is already as it was is not written again; what was written is looked at. */
async function restore(path: string, was: Earlier, host: Host): Promise<StepResult> {
  if (await isAs(path, was, host.probe)) return { ok: true };
  const result = await host.apply({ ...about(`paths/${path}`), do: "restore", path }, was);
  if (!result.ok) return result;
  return (await isAs(path, was, host.probe)) ? result : failed("it was put back, and a second look finds it different again");
}

/** Whether what stands at a path is what stood there. What cannot be read is not. */
async function isAs(path: string, was: Earlier, probe: Probe): Promise<boolean> {
  const stat = await probe.stat(path).catch(() => null);
  if (was.type === "absent" || stat === null) return was.type === "absent" && stat === null;
  if (was.type !== stat.type) return false;
  if (was.type === "link") return (await probe.readLink(path).catch(() => null)) === was.target;
  if (stat.mode !== was.mode || stat.uid !== was.uid || stat.gid !== was.gid) return false;
  if (was.type === "directory") return true;
  const content = await probe.read(path).catch(() => null);
  return content !== null && createHash("sha256").update(content).digest("hex") === was.sha256;
}

function asStep({ doing, argv, timeoutMs }: Act): Step {
  return { ...about(`acts/${doing}`), do: "run", argv, timeoutMs: Math.min(timeoutMs, ACT_TIMEOUT_MAX_MS) };
}

function about(resource: ResourceId): Pick<Step, "resource" | "why" | "impact"> {
  return { resource, why: "was not confirmed", impact: "network" };
}

function bounded(left: readonly string[]): readonly string[] {
  return left.slice(0, LEFT_MAX).map((text) => text.slice(0, LEFT_MAX_CHARS));
}
